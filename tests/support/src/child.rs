//! Servers as child processes.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use tempfile::TempDir;

/// Starts a command that ends with this process, however this process ends.
///
/// # Errors
/// If it cannot be started.
pub fn spawn(command: &mut Command) -> Result<Child> {
    // SAFETY: prctl is safe to call between fork and exec. If we are killed, the child gets SIGTERM and can end its own.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        });
    }
    command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))
}

/// Sends a signal to a child that has not been waited for.
pub fn signal(child: &Child, signal: libc::c_int) {
    if let Ok(pid) = libc::pid_t::try_from(child.id()) {
        // SAFETY: our own child, which has not been waited for, so the pid is still its own.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Stops a child with SIGTERM.
///
/// # Errors
/// If it fails, or does not exit within half a minute; then it is killed.
pub fn stop(child: &mut Child) -> Result<()> {
    succeeded(end(child)?)
}

/// Whether a process exited as it should.
pub(crate) fn succeeded(status: ExitStatus) -> Result<()> {
    ensure!(status.success(), "it exited with {status}");
    Ok(())
}

/// Sends a child SIGTERM, and returns how it exited.
pub(crate) fn end(child: &mut Child) -> Result<ExitStatus> {
    if let Ok(None) = child.try_wait() {
        signal(child, libc::SIGTERM);
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match child.try_wait()? {
            Some(status) => return Ok(status),
            None if Instant::now() > deadline => {
                kill(child);
                bail!("it did not exit within 30 seconds and was killed");
            }
            None => sleep(Duration::from_millis(5)),
        }
    }
}

/// Kills a child.
fn kill(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// A server with its own directory: what mariadbd and the stand-in have in common. Both end when the value is dropped.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    dir: TempDir,
    child: Option<Child>,
}

impl Process {
    /// A server that is not yet started, and its directory.
    pub(crate) fn new(name: &'static str) -> Result<Self> {
        // A short path: the path of a Unix socket has at most 107 bytes.
        let dir = tempfile::Builder::new().prefix("instant-failover-").tempdir()?;
        Ok(Self { name, dir, child: None })
    }

    /// Starts it.
    pub(crate) fn spawn(&mut self, command: &mut Command) -> Result<()> {
        self.child = Some(spawn(command)?);
        Ok(())
    }

    /// Stops it normally.
    ///
    /// # Errors
    /// If it does not exit within half a minute, or exits with a status other than 0.
    pub fn stop(&mut self) -> Result<()> {
        self.stop_unless(|_, _| false)
    }

    /// The same, but a status and an error log that are `pardoned` are no error.
    pub(crate) fn stop_unless(&mut self, pardoned: impl FnOnce(ExitStatus, &str) -> bool) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let stopped = match end(&mut child) {
            Ok(status) if !status.success() && pardoned(status, &self.error_log()) => return Ok(()),
            other => other.and_then(succeeded),
        };
        stopped.map_err(|why| anyhow!("{}: {why}\n{}", self.name, self.error_log()))
    }

    /// Kills it, as a power failure would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill(&mut child);
        }
    }

    /// Sends it a signal, for example SIGHUP.
    pub fn signal(&self, signal: libc::c_int) {
        if let Some(child) = &self.child {
            self::signal(child, signal);
        }
    }

    /// Whether the process is running; false after a crash.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The process id; 0, which no process has, after it was stopped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// The Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// A directory that is removed with the server.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn error_log_path(&self) -> PathBuf {
        self.dir.path().join("error.log")
    }

    /// Its error log.
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
