//! The program of the tests, built for this machine and for other releases.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use support::server::Server;
use support::system::System;

use crate::library;

/// How a program contains Connector/C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Linked {
    Shared,
    Static,
    /// The program exports the functions of Connector/C to its libraries, too.
    StaticAndExported,
}

/// The program, built for a system.
pub(super) struct Program {
    system: System,
    pub(super) directory: PathBuf,
}

impl Program {
    /// For this machine.
    pub(super) fn here(linked: Linked) -> Self {
        Self::build(System::this(), "here", Path::new("/"), linked)
    }

    /// For a release of Debian.
    pub(super) fn of(suite: &str, linked: Linked) -> Self {
        let system = System::debian(suite).unwrap();
        let root = system.path(Path::new("/"));
        Self::build(system, suite, &root, linked)
    }

    fn build(system: System, name: &str, root: &Path, linked: Linked) -> Self {
        /// One at a time, because tests share what is built.
        static BUILDING: Mutex<()> = Mutex::new(());
        let _one = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("by_default-{name}-{linked:?}"));
        if !directory.join("done").exists() || is_older(&directory.join("done")) {
            let _ = fs::remove_dir_all(&directory);
            system.install_client_plugins(&directory.join("plugin"), &library()).unwrap();
            let mut cc = compiler(root);
            cc.arg(fixture("client.c")).arg("-o").arg(directory.join("client"));
            match linked {
                Linked::Shared => cc.arg("-lmariadb"),
                Linked::Static => cc.args(STATIC).arg("-Wl,--exclude-libs,ALL"),
                Linked::StaticAndExported => cc.args(STATIC).arg("-rdynamic"),
            };
            support::run(cc.args(LIBC)).unwrap();
            fs::write(directory.join("done"), "").unwrap();
        }
        Self { system, directory }
    }

    /// Runs it with the plugin in its environment; the host has no prefix.
    pub(super) fn run(
        &self,
        through: &[&str],
        scenario: &str,
        server: &Server,
        count: u32,
        environment: &[&str],
    ) -> Command {
        self.run_at(through, scenario, server.address(), count, environment)
    }

    /// The same, where something else listens.
    pub(super) fn run_at(
        &self,
        through: &[&str],
        scenario: &str,
        server: SocketAddr,
        count: u32,
        environment: &[&str],
    ) -> Command {
        let mut words: Vec<_> = vec![format!("MARIADB_PLUGIN_DIR={}", self.directory.join("plugin").display())];
        words.push("LIBMYSQL_PLUGINS=instant_failover".to_owned());
        words.extend(environment.iter().chain(through).map(ToString::to_string));
        words.push(self.directory.join("client").display().to_string());
        words.push(scenario.to_owned());
        words.push(server.ip().to_string());
        words.push(server.port().to_string());
        words.push(count.to_string());
        let mut command = self.system.command(&self.directory, "env");
        command.args(words);
        command
    }

    /// The lines that it prints.
    pub(super) fn lines(
        &self,
        through: &[&str],
        scenario: &str,
        server: &Server,
        count: u32,
        environment: &[&str],
    ) -> Vec<String> {
        lines(self.run(through, scenario, server, count, environment))
    }
}

/// Connector/C, and what it needs.
pub(super) const STATIC: &[&str] = &["-l:libmariadbclient.a", "-lssl", "-lcrypto", "-l:libz.a"];

/// The C library as files: the scripts and links of another root point into this one.
pub(super) const LIBC: &[&str] = &[
    "-nodefaultlibs",
    "-l:libm.so.6",
    "-l:libc.so.6",
    "-l:libpthread.so.0",
    "-l:libdl.so.2",
    "-l:libc_nonshared.a",
    "-lgcc",
];

pub(super) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A compiler for programs on Connector/C, which uses the headers and libraries below `root`.
pub(super) fn compiler(root: &Path) -> Command {
    let mut cc = Command::new("cc");
    cc.args(["-g", "-Wall", "-Wextra", "-Werror", "-pthread"]);
    if root != Path::new("/") {
        let (usr_lib, lib) = (root.join("usr/lib/x86_64-linux-gnu"), root.join("lib/x86_64-linux-gnu"));
        cc.arg(format!("--sysroot={}", root.display())).arg("-B").arg(&usr_lib);
        cc.arg("-L").arg(&lib).arg("-L").arg(&usr_lib).arg(format!("-Wl,-rpath-link,{}", lib.display()));
    }
    cc.arg("-I").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("c-shim/compat"));
    cc.arg("-I").arg(root.join("usr/include/mariadb"));
    cc
}

/// Whether a file is older than what it was made of.
fn is_older(file: &Path) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).unwrap();
    [library(), fixture("client.c")].iter().any(|source| time(source) > time(file))
}

/// The lines that a command prints.
pub(super) fn lines(mut command: Command) -> Vec<String> {
    support::output(&mut command).unwrap().lines().map(str::to_owned).collect()
}
