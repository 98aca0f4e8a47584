//! The stand-in as a separate process that ends when the value is dropped.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::child::Process;
use crate::packages::is_root;
use crate::wire;

/// A stand-in that runs until this value is dropped. Its user may log in through the socket without a password.
#[derive(Debug)]
pub struct Harness {
    process: Process,
    ready: String,
    address: SocketAddr,
    extra_address: SocketAddr,
}

impl Harness {
    /// Starts `program` on free ports of 127.0.0.1 and its own socket. `arguments` come last, so they win.
    ///
    /// # Errors
    /// If it is not ready within half a minute; the error contains its log.
    pub fn start(program: &Path, arguments: &[&str]) -> Result<Self> {
        let mut process = Process::new("the stand-in")?;
        let mut command = Command::new(program);
        command
            .args(["--bind-address=127.0.0.1", "--port=0", "--extra-port=0"])
            .arg(format!("--socket={}", process.socket().display()))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(process.dir().join("stdout"))?)
            .stderr(File::create(process.error_log_path())?);
        let unknown = ([0, 0, 0, 0], 0).into();
        process.spawn(&mut command)?;
        let mut harness = Self { process, ready: String::new(), address: unknown, extra_address: unknown };
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
            let said = fs::read_to_string(self.dir().join("stdout"))?;
            if let Some(line) = said.strip_suffix('\n') {
                return Ok(line.to_owned());
            }
            if !self.is_running() {
                bail!("the stand-in exited while starting:\n{}", self.error_log());
            }
            if Instant::now() > deadline {
                bail!("the stand-in is not ready:\n{}", self.error_log());
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// The line that says it is ready, and where it listens.
    #[must_use]
    pub fn ready(&self) -> &str {
        &self.ready
    }

    /// The standard port, on 127.0.0.1.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The extra port, on 127.0.0.1.
    #[must_use]
    pub fn extra_address(&self) -> SocketAddr {
        self.extra_address
    }

    /// A session of an administrator, through the socket.
    ///
    /// # Errors
    /// If the user who runs this is not accepted.
    pub fn root(&self) -> Result<wire::Session> {
        let user = if is_root() { "root".to_owned() } else { std::env::var("USER")? };
        wire::Client::connect_socket(&self.socket())?.log_in(&user, b"")?.session()
    }
}

impl Deref for Harness {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Harness {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}
