//! A mariadbd under callgrind, and what it has counted.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::iter::Sum;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use support::build::Flavour;
use support::{output, system};
use tempfile::TempDir;

use super::super::mariadbd::Mariadbd;

/// `InnoDB` does not start under valgrind everywhere, and neither logins nor `SELECT 1` use it.
const OPTIONS: &[&str] = &["--skip-innodb", "--default-storage-engine=Aria", "--log-warnings=1"];

/// Long enough for the keeper, which works every few milliseconds while sessions are drained.
const IDLE: Duration = Duration::from_millis(500);

/// Starts a mariadbd whose instructions are counted.
pub(super) fn start(options: &[&str]) -> Result<(Mariadbd, Counter)> {
    let dir = tempfile::tempdir()?;
    let options = [OPTIONS, options].concat();
    let server = Mariadbd::start_program(&wrapper(dir.path())?, &Flavour::Release.build()?, &options)?;
    let counter = Counter { pid: server.server.pid(), dir };
    counter.control(&["--instr=on"])?;
    Ok((server, counter))
}

/// A script that runs mariadbd under callgrind.
fn wrapper(dir: &Path) -> Result<PathBuf> {
    let path = dir.join("mariadbd");
    let text = format!(
        "#!/bin/sh\nexec valgrind --tool=callgrind --instr-atstart=no --separate-threads=yes --callgrind-out-file={}/out {} \
         \"$@\"\n",
        dir.display(),
        system::mariadbd().display()
    );
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

pub(super) struct Counter {
    pid: u32,
    dir: TempDir,
}

impl Counter {
    fn control(&self, arguments: &[&str]) -> Result<()> {
        output(Command::new("callgrind_control").args(arguments).arg(self.pid.to_string())).map(drop)
    }

    /// Begins to count anew.
    pub(super) fn reset(&self) -> Result<()> {
        self.threads().map(drop)
    }

    /// What has been counted since the last call.
    pub(super) fn take(&self) -> Result<Counts> {
        self.take_without(&BTreeSet::new())
    }

    /// The same without these threads.
    pub(super) fn take_without(&self, without: &BTreeSet<String>) -> Result<Counts> {
        let threads = self.threads()?;
        Ok(threads.iter().filter(|(thread, _)| !without.contains(thread)).map(|(_, counts)| *counts).sum())
    }

    /// The threads of the plugin: those that run it while no client does anything.
    pub(super) fn threads_of_plugin(&self) -> Result<BTreeSet<String>> {
        self.reset()?;
        sleep(IDLE);
        let threads = self.threads()?;
        Ok(threads.into_iter().filter(|(_, counts)| counts.plugin > 0.0).map(|(thread, _)| thread).collect())
    }

    /// What each thread has counted since the last call.
    fn threads(&self) -> Result<Vec<(String, Counts)>> {
        self.control(&["--dump"])?;
        let mut threads = Vec::new();
        for entry in fs::read_dir(self.dir.path())? {
            let path = entry?.path();
            // out.1-01, out.1-02 and so on, for each thread; those without the first number are written when the server ends.
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if let Some(thread) = name.strip_prefix("out.").and_then(|name| Some(name.split_once('-')?.1)) {
                let counts = Counts::read(&fs::read_to_string(&path)?);
                threads.push((thread.to_owned(), counts.context("callgrind wrote no valid profile")?));
                fs::remove_file(path)?;
            }
        }
        Ok(threads)
    }
}

/// Instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    /// All instructions.
    pub(super) all: f64,
    /// Those in the plugin's library.
    pub(super) plugin: f64,
    /// Those in named functions that it called: functions of the server and of the C library. The functions that it wraps
    /// have no names, and would run without it.
    pub(super) called: f64,
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, one| Self {
            all: sum.all + one.all,
            plugin: sum.plugin + one.plugin,
            called: sum.called + one.called,
        })
    }
}

impl Counts {
    /// Reads a profile: see "Callgrind Format Specification" in valgrind's manual.
    fn read(profile: &str) -> Option<Self> {
        const PLUGIN: &str = "instant_failover.so";
        let (mut counts, mut has_totals) = (Self::default(), false);
        let (mut objects, mut functions) = (HashMap::new(), HashMap::new());
        // The object that the following lines belong to, and what they call.
        let (mut in_plugin, mut callee, mut callee_in_plugin, mut is_call) = (false, String::new(), None, false);
        for line in profile.lines() {
            if let Some(name) = line.strip_prefix("ob=") {
                in_plugin = name_of(name, &mut objects)?.ends_with(PLUGIN);
            } else if let Some(name) = line.strip_prefix("cob=") {
                callee_in_plugin = Some(name_of(name, &mut objects)?.ends_with(PLUGIN));
            } else if let Some(name) = line.strip_prefix("fn=") {
                name_of(name, &mut functions)?;
            } else if let Some(name) = line.strip_prefix("cfn=") {
                callee = name_of(name, &mut functions)?;
            } else if line.starts_with("calls=") {
                is_call = true;
            } else if let Some(all) = line.strip_prefix("totals: ") {
                counts.all = all.parse().ok()?;
                has_totals = true;
            } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
                let cost: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
                // The line after calls= has what the callee cost; its object is the caller's unless named.
                if !is_call && in_plugin {
                    counts.plugin += cost;
                } else if is_call && in_plugin && !callee_in_plugin.unwrap_or(true) && !callee.starts_with("0x") {
                    counts.called += cost;
                }
                if is_call {
                    (is_call, callee_in_plugin) = (false, None);
                }
            }
        }
        has_totals.then_some(counts)
    }

    /// For each of so many.
    pub(super) fn per(self, times: u32) -> Self {
        let times = f64::from(times);
        Self { all: self.all / times, plugin: self.plugin / times, called: self.called / times }
    }
}

/// The name that `(4) name` or `(4)` refers to: a name is written out at its first use only.
fn name_of(text: &str, names: &mut HashMap<String, String>) -> Option<String> {
    let (number, name) = text.split_once(')')?;
    if !name.is_empty() {
        names.insert(number.to_owned(), name.trim_start().to_owned());
    }
    names.get(number).cloned()
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn profiles() {
        let profile = "\
events: Ir
ob=(1) /usr/sbin/mariadbd
fn=(1) handle_one_connection
10 1000
cob=(2) /usr/lib/instant_failover.so
cfn=(2) hook
calls=1 5
+1 700
fn=(3) other
* 5

ob=(2)
fn=(2)
5 30
cob=(1)
cfn=(4) thd_user_name
calls=2 9
6 40
cob=(1)
cfn=(5) 0x0000000000ab1234
calls=1 9
7 600
cfn=(6) decide
calls=1 9
8 20

fn=(6)
9 20

totals: 1700
";
        assert_eq!(Counts::read(profile), Some(Counts { all: 1700.0, plugin: 50.0, called: 40.0 }));
        assert_eq!(Counts::read("events: Ir\n"), None);
    }
}
