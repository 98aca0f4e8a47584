//! The test program of MariaDB, `mysql-test-run.pl`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use support::system::System;
use support::target_dir;

use crate::Outcome;

/// Where Debian's mariadb-test installs it.
const DIRECTORIES: &[&str] = &["/usr/share/mariadb/mariadb-test", "/usr/share/mysql/mysql-test"];

/// The test program of a system, set up for our plugin.
#[derive(Debug)]
pub(crate) struct Mtr<'a> {
    system: &'a System,
    /// The directory to start it in.
    program_dir: &'static Path,
    /// Files for this system.
    dir: PathBuf,
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Passed,
    Failed,
    Skipped,
}

/// A test that was run or skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Test {
    /// With its suite and its combination: `main.connect 'innodb'`.
    pub(crate) name: String,
    pub(crate) state: State,
    /// Why it was skipped, or its output if it failed: lines, each after a newline.
    pub(crate) reason: String,
}

impl FromIterator<Test> for Outcome {
    fn from_iter<I: IntoIterator<Item = Test>>(tests: I) -> Self {
        let mut outcome = Self::default();
        for test in tests {
            match test.state {
                State::Passed => outcome.passed += 1,
                State::Failed => outcome.failed.push(format!("{}{}", test.name, test.reason)),
                State::Skipped => outcome.skipped += 1,
            }
        }
        outcome
    }
}

impl<'a> Mtr<'a> {
    /// Installs our library where the servers and clients of that system look for plugins.
    pub(crate) fn prepare(system: &'a System, library: &Path) -> Result<Self> {
        Self::prepare_in(target_dir().join("mtr").join(system.server_version()?), system, library)
    }

    /// The same, with all files in this directory.
    pub(crate) fn prepare_in(dir: PathBuf, system: &'a System, library: &Path) -> Result<Self> {
        let program_dir = DIRECTORIES.iter().map(Path::new).find(|directory| system.path(directory).is_dir());
        let program_dir = program_dir.context("mariadb-test is not installed")?;
        let mtr = Self { system, program_dir, dir };
        for old in [mtr.plugins(), mtr.client_plugins()] {
            let _ = fs::remove_dir_all(old);
        }
        system.install_plugins(&mtr.plugins(), library)?;
        system.install_client_plugins(&mtr.client_plugins(), library)?;
        Ok(mtr)
    }

    fn plugins(&self) -> PathBuf {
        self.dir.join("plugin")
    }

    fn client_plugins(&self) -> PathBuf {
        self.dir.join("client")
    }

    /// Its working directory, with its logs.
    fn var(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A command to which test names can be added. `var` is the name of its working directory.
    pub(crate) fn command(&self, var: &str) -> Command {
        let mut command = self.system.command(self.program_dir, "env");
        command
            .arg(format!("INSTANT_FAILOVER_CLIENT_PLUGIN_DIR={}", self.client_plugins().display()))
            .args(["perl", "mysql-test-run.pl"])
            .arg(format!("--vardir={}", self.var(var).display()))
            .arg(format!("--mysqld=--plugin-dir={}", self.plugins().display()))
            .args(["--force", "--max-test-fail=0"])
            // Tests mostly wait.
            .arg(format!("--parallel={}", 2 * thread::available_parallelism().map_or(1, usize::from)));
        command
    }

    /// Runs the command and shows its output.
    pub(crate) fn run(&self, mut command: Command, var: &str) -> Result<Vec<Test>> {
        let mut process =
            command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {command:?}"))?;
        let mut tests = Vec::new();
        for line in BufReader::new(process.stdout.take().context("no output")?).lines() {
            let line = line?;
            println!("{line}");
            if let Some(test) = Test::read(&line) {
                tests.push(test);
            } else if let Some(failed) = tests.last_mut().filter(|test| test.state == State::Failed) {
                failed.reason.push('\n');
                failed.reason.push_str(&line);
            }
        }
        let status = process.wait()?;
        if tests.iter().all(|test| test.state == State::Skipped) {
            bail!("mtr ran no test: {status}");
        }
        // A server that leaves files behind or logs an unexpected warning fails the run, but no test.
        if !status.success() && tests.iter().all(|test| test.state != State::Failed) {
            bail!("mtr failed: {status}; see above and {}", self.var(var).join("log").display());
        }
        Ok(tests)
    }
}

impl Test {
    /// Reads a line such as `main.connect 'innodb'   w1 [ pass ]   331`.
    fn read(line: &str) -> Option<Self> {
        let (before, rest) = line.split_once("[ ")?;
        let (state, reason) = rest.split_once(" ]")?;
        let (state, reason) = match state {
            "pass" | "retry-pass" => (State::Passed, ""),
            "fail" | "retry-fail" => (State::Failed, ""),
            "skipped" | "disabled" => (State::Skipped, reason.trim()),
            _ => return None,
        };
        let words = before.split_whitespace();
        let is_worker = |word: &str| word.strip_prefix('w').is_some_and(|n| n.parse::<u32>().is_ok());
        let name = words.filter(|word| !is_worker(word)).collect::<Vec<_>>().join(" ");
        Some(Self { name, state, reason: reason.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mtr() {
        let test = |name: &str, state, reason: &str| Some(Test { name: name.into(), state, reason: reason.into() });
        assert_eq!(Test::read("main.a 'innodb'    w2 [ pass ]    331"), test("main.a 'innodb'", State::Passed, ""));
        assert_eq!(Test::read("main.b w1 [ fail ]"), test("main.b", State::Failed, ""));
        assert_eq!(Test::read("main.c [ skipped ]  no IPv6"), test("main.c", State::Skipped, "no IPv6"));
        assert_eq!(Test::read("worker[1] Using MTR_BUILD_THREAD 300"), None);
        assert_eq!(Test::read("Completed: All 2 tests were successful."), None);
    }
}
