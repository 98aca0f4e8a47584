//! The standalone server as a process of its own, gone when the value is dropped.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;

use crate::packages::is_root;
use crate::{child, wire};

/// A standalone server that runs as long as this value lives. Its user may log in through the socket without a password.
#[derive(Debug)]
pub struct Harness {
    dir: TempDir,
    process: Option<Child>,
    ready: String,
    address: SocketAddr,
    extra_address: SocketAddr,
}

impl Harness {
    /// Starts `program` on free ports of 127.0.0.1 and a socket of its own. `arguments` come last, so they win.
    ///
    /// # Errors
    /// If it is not ready within half a minute; what it logged is in the error.
    pub fn start(program: &Path, arguments: &[&str]) -> Result<Self> {
        // A short path: that of a Unix socket has at most 107 bytes.
        let dir = tempfile::Builder::new().prefix("instant-failover-").tempdir()?;
        let path = |name| dir.path().join(name);
        let mut command = Command::new(program);
        command
            .args(["--bind-address=127.0.0.1", "--port=0", "--extra-port=0"])
            .arg(format!("--socket={}", path("socket").display()))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(path("stdout"))?)
            .stderr(File::create(path("error.log"))?);
        let unknown = ([0, 0, 0, 0], 0).into();
        let process = Some(child::spawn(&mut command)?);
        let mut harness = Self { dir, process, ready: String::new(), address: unknown, extra_address: unknown };
        harness.ready = harness.wait_until_ready()?;
        let place = |before: &str| -> Result<SocketAddr> {
            let place = harness.ready.split(", ").find_map(|part| part.strip_prefix(before)?.parse().ok());
            place.with_context(|| format!("no '{before}' in '{}'", harness.ready))
        };
        (harness.address, harness.extra_address) = (place("listening on ")?, place("extra port ")?);
        Ok(harness)
    }

    fn wait_until_ready(&mut self) -> Result<String> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let said = fs::read_to_string(self.dir.path().join("stdout"))?;
            if let Some(line) = said.strip_suffix('\n') {
                return Ok(line.to_owned());
            }
            if !self.is_running() {
                bail!("the standalone server ended while starting:\n{}", self.error_log());
            }
            if Instant::now() > deadline {
                bail!("the standalone server is not ready:\n{}", self.error_log());
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// The line with which it said that it is ready, and where it listens.
    #[must_use]
    pub fn ready(&self) -> &str {
        &self.ready
    }

    /// The number of the process.
    ///
    /// # Panics
    /// If it has been stopped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it has not been stopped").id()
    }

    /// Sends it a signal: SIGHUP, say.
    pub fn signal(&self, signal: libc::c_int) {
        if let Some(process) = &self.process {
            child::signal(process, signal);
        }
    }

    /// Ends it in good order.
    ///
    /// # Errors
    /// If it does not end within half a minute, or with another status than 0.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        child::stop(&mut process).map_err(|why| anyhow!("the standalone server: {why}\n{}", self.error_log()))
    }

    /// Whether the process is there; false after a crash.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }

    /// The standard port, on 127.0.0.1.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port for emergencies, on 127.0.0.1.
    #[must_use]
    pub fn extra_address(&self) -> SocketAddr {
        self.extra_address
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

    /// All it has logged.
    #[must_use]
    pub fn error_log(&self) -> String {
        let log = fs::read(self.dir.path().join("error.log"));
        log.map_or_else(|error| error.to_string(), |log| String::from_utf8_lossy(&log).into_owned())
    }

    /// A session of an administrator, through the socket.
    ///
    /// # Errors
    /// If root, or who else runs this, is not let in.
    pub fn root(&self) -> Result<wire::Session> {
        let user = if is_root() { "root".to_owned() } else { std::env::var("USER")? };
        wire::Client::connect_socket(&self.socket())?.log_in(&user, b"")?.session()
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            child::kill(&mut process);
        }
    }
}
