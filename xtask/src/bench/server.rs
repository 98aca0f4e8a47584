//! Server processes.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use support::child;
use tempfile::NamedTempFile;

/// Long enough for a machine under load.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A server that runs until this value is dropped.
#[derive(Debug)]
pub(super) struct Server {
    process: Process,
    address: SocketAddr,
}

impl Server {
    /// Starts a server, and waits until `find_address` finds its address in its output. A file in `dir` holds the output.
    pub(super) fn start(
        command: &mut Command,
        dir: &Path,
        find_address: impl Fn(&str) -> Option<SocketAddr>,
    ) -> Result<Self> {
        let mut process = Process::start(command, dir)?;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(address) = find_address(&process.printed()) {
                return Ok(Self { process, address });
            }
            if let Some(status) = process.child.try_wait()? {
                bail!("{command:?} exited while starting: {status}\n{}", process.printed());
            }
            if Instant::now() > deadline {
                bail!("{command:?} is not ready after {TIMEOUT:?}\n{}", process.printed());
            }
            sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its output so far.
    pub(super) fn printed(&self) -> String {
        self.process.printed()
    }
}

/// The address in the line `...: ready, listening on 127.0.0.1:45123, ...`.
pub(super) fn announced(printed: &str) -> Option<SocketAddr> {
    let (_, rest) = printed.split_once("ready, listening on ")?;
    let (line, _) = rest.split_once('\n')?;
    line.split(',').next()?.parse().ok()
}

#[derive(Debug)]
struct Process {
    child: Child,
    log: NamedTempFile,
}

impl Process {
    fn start(command: &mut Command, dir: &Path) -> Result<Self> {
        let log = NamedTempFile::new_in(dir)?;
        let file = log.reopen()?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Ok(Self { child: child::spawn(command)?, log })
    }

    fn printed(&self) -> String {
        let bytes = fs::read(self.log.path());
        bytes.map_or_else(|error| error.to_string(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = child::stop(&mut self.child);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_once_its_line_is_whole() {
        let line = "instant-failover-harness: ready, listening on 127.0.0.1:45123, ON";
        assert_eq!(announced(line), None);
        assert_eq!(announced(&format!("a warning\n{line}\n")), Some(([127, 0, 0, 1], 45123).into()));
        assert_eq!(announced("floor: ready, listening on 127.0.0.1:1\n"), Some(([127, 0, 0, 1], 1).into()));
    }

    #[test]
    fn a_server_that_does_not_start_is_an_error_with_what_it_said() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no; exit 3"]);
        let error = Server::start(&mut command, dir.path(), announced).unwrap_err().to_string();
        assert!(error.ends_with("exit status: 3\nno\n"), "{error}");
    }
}
