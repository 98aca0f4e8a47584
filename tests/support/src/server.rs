//! Private MariaDB servers with their own data, socket and ports, removed when the value is dropped.
//!
//! The system's service, its data and its configuration are never touched.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::child::Process;
use crate::packages::is_root;
use crate::system::{System, mariadbd};
use crate::{free_port, output, wire};

/// A server that runs until this value is dropped. Its root may log in through the socket without a password.
#[derive(Debug)]
pub struct Server {
    process: Process,
    program: Program,
    port: u16,
    extra_port: u16,
    has_pool: bool,
}

/// What to run.
#[derive(Clone, Debug)]
enum Program {
    /// A program of this machine.
    Here(PathBuf),
    /// The mariadbd of another system.
    Of(System),
}

impl Program {
    fn command(&self, directory: &Path) -> Command {
        match self {
            Self::Here(program) => Command::new(program),
            Self::Of(system) => system.command(directory, system.mariadbd()),
        }
    }
}

impl Server {
    /// Starts a server on free ports of 127.0.0.1, with fresh data and the authentication plugins of this machine.
    /// `library` is added to them as `instant_failover.so`, but not loaded. `arguments` are mariadbd's.
    ///
    /// # Errors
    /// If it does not run within a minute; the error contains its log.
    pub fn start(library: &Path, arguments: &[&str]) -> Result<Self> {
        Self::start_program(&mariadbd(), library, arguments)
    }

    /// The same with another mariadbd.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_program(program: &Path, library: &Path, arguments: &[&str]) -> Result<Self> {
        Self::start_on(&System::this(), Program::Here(program.to_owned()), library, arguments)
    }

    /// The same with the mariadbd of another system, which shares this machine's network and `/tmp`.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_of(system: &System, library: &Path, arguments: &[&str]) -> Result<Self> {
        Self::start_on(system, Program::Of(system.clone()), library, arguments)
    }

    fn start_on(system: &System, program: Program, library: &Path, arguments: &[&str]) -> Result<Self> {
        let process = Process::new("mariadbd")?;
        install_data(system, &process.dir().join("data"))?;
        system.install_plugins(&process.dir().join("plugin"), library)?;
        let (port, extra_port) = (free_port()?, free_port()?);
        let mut server = Self { process, program, port, extra_port, has_pool: false };
        server.run(arguments)?;
        Ok(server)
    }

    fn run(&mut self, arguments: &[&str]) -> Result<()> {
        self.has_pool = arguments.contains(&POOL);
        let path = |name| self.dir().join(name);
        let log = fs::OpenOptions::new().create(true).append(true).open(self.error_log_path())?;
        let mut command = self.program.command(self.dir());
        command
            .arg("--no-defaults")
            .args(user_argument())
            .arg(format!("--datadir={}", path("data").display()))
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!("--pid-file={}", path("pid").display()))
            .arg(format!("--plugin-dir={}", path("plugin").display()))
            // A starting server removes the temporary tables of other servers in the same directory.
            .arg(format!("--tmpdir={}", self.dir().display()))
            .arg("--bind-address=127.0.0.1")
            .arg(format!("--port={}", self.port))
            .arg(format!("--extra-port={}", self.extra_port))
            .args(SMALL)
            .args(arguments)
            .env("INSTANT_FAILOVER_PANIC", PANIC)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.process.spawn(&mut command)?;
        let deadline = Instant::now() + Duration::from_mins(1);
        while wire::Client::connect_socket(&self.socket()).is_err() {
            if !self.is_running() {
                bail!("mariadbd exited while starting:\n{}", self.error_log());
            }
            if Instant::now() > deadline {
                bail!("mariadbd does not answer:\n{}", self.error_log());
            }
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Restarts a stopped server with the same data and ports, and with these arguments.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_again(&mut self, arguments: &[&str]) -> Result<()> {
        self.run(arguments)
    }

    /// Stops it normally. In a pool of threads it may [abort at the end](died_at_exit).
    ///
    /// # Errors
    /// If it does not exit within half a minute, or exits with a status other than 0.
    pub fn stop(&mut self) -> Result<()> {
        let has_pool = self.has_pool;
        self.process.stop_unless(|status, log| {
            let pardoned = has_pool && died_at_exit(status, log);
            if pardoned {
                eprintln!("note: a mariadbd with a pool of threads died after its end ({status}): see docs/limits.md");
            }
            pardoned
        })
    }

    /// Its error log, without what threads of a pool may say [at the end](died_at_exit).
    #[must_use]
    pub fn error_log_to_judge(&self) -> String {
        let mut log = self.error_log();
        if self.has_pool
            && let Some(length) = until_exit(&log).map(str::len)
        {
            log.truncate(length);
        }
        log
    }

    /// The standard port, on 127.0.0.1.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The extra port, on 127.0.0.1.
    #[must_use]
    pub fn extra_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.extra_port).into()
    }

    /// The directory with its plugins.
    #[must_use]
    pub fn plugin_dir(&self) -> PathBuf {
        self.dir().join("plugin")
    }

    /// Has a library that is built with `panic-injection` panic in this callback from now on, and nowhere else; nowhere at all if it
    /// is empty.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn inject_panic(&self, callback: &str) -> Result<()> {
        Ok(fs::write(self.dir().join("data").join(PANIC), callback)?)
    }

    /// A session of root, through the socket.
    ///
    /// # Errors
    /// If root is not accepted.
    pub fn root(&self) -> Result<wire::Session> {
        wire::Client::connect_socket(&self.socket())?.log_in("root", b"")?.session()
    }
}

impl Deref for Server {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The file in the data directory, where mariadbd runs, that names the place of a panic. Only a library that is built for this reads
/// it.
const PANIC: &str = "panic";

/// How a server is told to serve its sessions by a pool of threads.
pub const POOL: &str = "--thread-handling=pool-of-threads";

/// The last line of a server that shuts down.
const LAST_LINE: &str = ": Shutdown complete\n";

/// The log up to the end of a server, if it ended in the ordinary way and nothing but a crash follows, without any trace of the plugin.
fn until_exit(log: &str) -> Option<&str> {
    /// How the C library begins to complain of its heap, and the server of a signal.
    const CRASH: [&str; 6] = ["corrupted ", "double free", "malloc", "free(): ", "munmap_chunk(): ", "got signal "];
    let (_, after) = log.rsplit_once(LAST_LINE)?;
    let is_crash = CRASH.iter().any(|text| after.contains(text));
    let is_strange = ["instant_failover", "panicked", "ready for connections"].iter().any(|text| after.contains(text));
    (is_crash && !is_strange).then(|| &log[..log.len() - after.len()])
}

/// Whether a server with a pool of threads died by a fault of its own (docs/limits.md): it cleans up OpenSSL after its last line, while
/// threads of the pool end, and each of these cleans up what OpenSSL keeps for it.
fn died_at_exit(status: ExitStatus, log: &str) -> bool {
    matches!(status.signal(), Some(libc::SIGABRT | libc::SIGSEGV)) && until_exit(log).is_some()
}

/// Options that make a server small and fast to start.
const SMALL: &[&str] = &[
    "--innodb-buffer-pool-size=8M",
    "--innodb-log-file-size=4M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-fast-shutdown=2",
    "--key-buffer-size=1M",
    "--aria-pagecache-buffer-size=1M",
    "--performance-schema=OFF",
    "--skip-name-resolve",
];

/// What replication and a switchover that loses nothing need, but for a server id.
pub const REPLICATION: &[&str] = &[
    "--log-bin=binlog",
    "--log-slave-updates=1",
    "--gtid-strict-mode=1",
    "--binlog-format=ROW",
    "--sync-binlog=1",
    "--innodb-flush-log-at-trx-commit=1",
    "--event-scheduler=ON",
];

/// This machine's `mariadb` program, without its configuration.
#[must_use]
pub fn client() -> Command {
    let mut command = Command::new("mariadb");
    command.arg("--no-defaults");
    command
}

/// mariadbd runs as root only if told so.
fn user_argument() -> Option<&'static str> {
    is_root().then_some("--user=root")
}

/// Fills a new data directory. Creating one takes seconds, so the first one is kept and copied.
fn install_data(system: &System, data: &Path) -> Result<()> {
    let version = system.server_version()?;
    let template = crate::target_dir().join(format!("private-server-data-{version}"));
    if !template.is_dir() {
        fs::create_dir_all(crate::target_dir())?;
        let new = tempfile::Builder::new().prefix("private-server-data-").tempdir_in(crate::target_dir())?;
        output(
            system
                .command(Path::new("/tmp"), "mariadb-install-db")
                .args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"])
                .args(user_argument())
                .args(["--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M"])
                .arg(format!("--tmpdir={}", new.path().display()))
                .arg(format!("--datadir={}", new.path().join("data").display())),
        )?;
        // Another process may have been faster; either directory will do.
        let _ = fs::rename(new.path().join("data"), &template);
    }
    output(Command::new("cp").arg("--recursive").arg(&template).arg(data)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: &str = "x [Note] InnoDB: Shutdown completed; log\nx [Note] mariadbd: Shutdown complete\n";

    #[test]
    fn only_a_crash_after_the_end_is_the_servers() {
        let died = |signal: libc::c_int, log: &str| died_at_exit(ExitStatus::from_raw(signal), log);
        for crash in ["double free or corruption (fasttop)\n", "261126 [ERROR] mariadbd got signal 11 ;\nSorry\n"] {
            let log = format!("{END}{crash}");
            assert!(died(libc::SIGABRT, &log) && died(libc::SIGSEGV, &log));
            assert_eq!(until_exit(&log), Some(END));
            // Another signal, or a status.
            assert!(!died(libc::SIGKILL, &log) && !died(1 << 8, &log));
            // Before the end, or before that of another run.
            assert!(!died(libc::SIGABRT, crash));
            assert!(!died(libc::SIGABRT, &format!("{END}mariadbd: ready for connections.\n{crash}")));
            // Something of ours.
            assert!(!died(libc::SIGABRT, &format!("{log}/usr/lib/mysql/plugin/instant_failover.so(+0x1234)\n")));
        }
        // Nothing is said.
        assert!(!died(libc::SIGABRT, END));
        assert_eq!(until_exit(END), None);
    }
}
