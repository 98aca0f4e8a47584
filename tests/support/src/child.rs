//! Servers as children of this process.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;

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
fn kill(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// A server in a directory of its own: what mariadbd and the stand-in have alike. Both end when the value is dropped.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    dir: TempDir,
    child: Option<Child>,
}

impl Process {
    /// A server that has yet to be started, and its directory.
    pub(crate) fn new(name: &'static str) -> Result<Self> {
        // A short path: that of a Unix socket has at most 107 bytes.
        let dir = tempfile::Builder::new().prefix("instant-failover-").tempdir()?;
        Ok(Self { name, dir, child: None })
    }

    /// Starts it.
    pub(crate) fn spawn(&mut self, command: &mut Command) -> Result<()> {
        self.child = Some(spawn(command)?);
        Ok(())
    }

    /// Ends it in good order.
    ///
    /// # Errors
    /// If it does not end within half a minute, or with another status than 0.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        stop(&mut child).map_err(|why| anyhow!("{}: {why}\n{}", self.name, self.error_log()))
    }

    /// Ends it as a power failure would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill(&mut child);
        }
    }

    /// Sends it a signal: SIGHUP, say.
    pub fn signal(&self, signal: libc::c_int) {
        if let Some(child) = &self.child {
            self::signal(child, signal);
        }
    }

    /// Whether the process is there; false after a crash.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The number of the process; 0, which no process has, once it has been stopped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// The Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// A directory that goes with the server.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn error_log_path(&self) -> PathBuf {
        self.dir.path().join("error.log")
    }

    /// All it has logged.
    #[must_use]
    pub fn error_log(&self) -> String {
        let log = fs::read(self.error_log_path());
        log.map_or_else(|error| error.to_string(), |log| String::from_utf8_lossy(&log).into_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
