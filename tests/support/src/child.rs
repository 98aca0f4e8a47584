//! Servers as children of this process.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Starts a command that ends with us, however we end.
///
/// # Errors
/// If it cannot be started.
pub fn spawn(command: &mut Command) -> Result<Child> {
    // SAFETY: prctl is safe to call between fork and exec. It ends the child, and lets it end its own, if we are killed.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        });
    }
    command.spawn().with_context(|| format!("{} cannot be started", command.get_program().display()))
}

/// Sends a signal to a child that has not been waited for.
pub fn signal(child: &Child, signal: libc::c_int) {
    if let Ok(pid) = libc::pid_t::try_from(child.id()) {
        // SAFETY: our own child, which has not been waited for, so the number is still its.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Ends a child with SIGTERM.
///
/// # Errors
/// If it does not end well within half a minute; it is killed then.
pub fn stop(child: &mut Child) -> Result<()> {
    if let Ok(None) = child.try_wait() {
        signal(child, libc::SIGTERM);
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("it ended with {status}"),
            None if Instant::now() > deadline => {
                kill(child);
                bail!("it did not end within 30 seconds and was killed");
            }
            None => sleep(Duration::from_millis(5)),
        }
    }
}

/// Ends a child at once.
pub(crate) fn kill(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
