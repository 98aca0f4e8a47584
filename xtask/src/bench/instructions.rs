//! How many instructions a login costs mariadbd, counted by callgrind.
//!
//! One process under valgrind alternates between the states of the plugin, so that all states share what depends on the
//! process: addresses, caches, the allocator. Only user space instructions of the server are counted.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use support::build::Flavour;
use support::{output, system};

use super::client::{Client, Expected};
use super::mariadbd::{Mariadbd, Plugin};
use super::report::{Sample, table};
use super::{Run, TARGET};
use crate::common::plot::{self, Bar};
use crate::common::results::machine;

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) run: Run,
    /// Number of logins to count together [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) logins: Option<u32>,
    /// Number of times to repeat that in each state [default: 9]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rounds: Option<u32>,
}

/// What is counted. The repeated case shows the smallest difference that a run can resolve.
const CONTENDERS: &[(&str, Plugin, Expected)] = &[
    ("login, no plugin", Plugin::None, Expected::Session),
    ("login, no plugin, again", Plugin::None, Expected::Session),
    ("login, OFF", Plugin::Off, Expected::Session),
    ("redirect", Plugin::On, Expected::Redirect),
    ("wrong password, no plugin", Plugin::None, Expected::Refusal),
];

/// `InnoDB` does not start under valgrind everywhere, and logins do not use it.
const OPTIONS: &[&str] = &["--skip-innodb", "--default-storage-engine=Aria", "--log-warnings=1"];

/// Long enough for the thread of a session to return to the thread cache before the next client needs it.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let logins = arguments.run.length(arguments.logins, 100, 10);
    let rounds = arguments.run.length(arguments.rounds, 9, 1);
    let dir = tempfile::tempdir()?;
    let mut server = Mariadbd::start_program(&wrapper(dir.path())?, &Flavour::Release.build()?, OPTIONS)?;
    let counter = Counter { pid: server.server.pid(), dir: dir.path() };
    counter.control(&["--instr=on"])?;
    let mut counts: Vec<Vec<Counts>> = vec![Vec::new(); CONTENDERS.len()];
    // The first round is a warm-up and does not count.
    for round in 0..=rounds {
        eprintln!("Round {round} of {rounds} ...");
        for (&(name, plugin, expected), counts) in CONTENDERS.iter().zip(&mut counts) {
            server.put(plugin)?;
            let log_in = || -> Result<()> {
                Client::MariaDb(expected, None).attempt(server.server.address()).with_context(|| name)?;
                sleep(PAUSE);
                Ok(())
            };
            log_in()?;
            counter.take()?;
            (0..logins).try_for_each(|_| log_in())?;
            let taken = counter.take()?.per(f64::from(logins));
            if round > 0 {
                counts.push(taken);
            }
        }
    }
    let report = report(&counts, logins);
    arguments.run.show("instructions", &report, &[("Instructions per login", plot(&counts))])
}

/// A script that runs mariadbd under callgrind.
fn wrapper(dir: &Path) -> Result<PathBuf> {
    let path = dir.join("mariadbd");
    let text = format!(
        "#!/bin/sh\nexec valgrind --tool=callgrind --instr-atstart=no --callgrind-out-file={}/out {} \"$@\"\n",
        dir.display(),
        system::mariadbd().display()
    );
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

struct Counter<'a> {
    pid: u32,
    dir: &'a Path,
}

impl Counter<'_> {
    fn control(&self, arguments: &[&str]) -> Result<()> {
        output(Command::new("callgrind_control").args(arguments).arg(self.pid.to_string())).map(drop)
    }

    /// What has been counted since the last call.
    fn take(&self) -> Result<Counts> {
        self.control(&["--dump"])?;
        let mut profile = String::new();
        for entry in fs::read_dir(self.dir)? {
            let path = entry?.path();
            // out.1, out.2 and so on; the file without a number is written when the server ends.
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"out.")) {
                profile += &fs::read_to_string(&path)?;
                fs::remove_file(path)?;
            }
        }
        Counts::read(&profile).context("callgrind wrote no valid profile")
    }
}

/// Instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    /// All instructions of the process.
    all: f64,
    /// Those in the plugin's library.
    plugin: f64,
    /// Those in named functions that it called: functions of the server and of the C library. The functions that it wraps
    /// have no names, and would run without it.
    called: f64,
}

impl Counts {
    /// Reads a profile: see "Callgrind Format Specification" in valgrind's manual.
    fn read(profile: &str) -> Option<Self> {
        const PLUGIN: &str = "instant_failover.so";
        let mut counts = Self::default();
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
                counts.all += all.parse::<f64>().ok()?;
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
        (counts.all > 0.0).then_some(counts)
    }

    fn per(self, logins: f64) -> Self {
        Self { all: self.all / logins, plugin: self.plugin / logins, called: self.called / logins }
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

fn sample(counts: &[Counts], of: fn(&Counts) -> f64) -> Sample {
    counts.iter().map(of).collect()
}

fn report(counts: &[Vec<Counts>], logins: u32) -> String {
    let base = sample(&counts[0], |counts| counts.all);
    let rows = CONTENDERS.iter().zip(counts).map(|(&(name, ..), counts)| {
        let all = sample(counts, |counts| counts.all);
        let [median, spread] = all.cells(0);
        let [more, more_spread] = all.minus(&base).cells(0);
        let plugin = sample(counts, |counts| counts.plugin).median();
        let called = sample(counts, |counts| counts.called).median();
        [name.to_owned(), median, spread, more, more_spread, format!("{plugin:.0}"), format!("{called:.0}")]
    });
    let header = ["", "median", "lowest to highest", "more", "lowest to highest", "in the plugin", "in what it calls"];
    let table = table(header, rows);
    let rounds = counts[0].len();
    format!(
        "{table}\nInstructions of mariadbd per login; {rounds} times {logins} logins each. The redirect goes to {TARGET}; the \
         server copies an error message character by character, at some 90 instructions each. A refusal writes no line in \
         the error log here (`log_warnings` is 1). {}",
        machine()
    )
}

fn plot(counts: &[Vec<Counts>]) -> String {
    let bars = CONTENDERS.iter().zip(counts).map(|(&(name, ..), counts)| {
        let all = sample(counts, |counts| counts.all);
        Bar { name: name.to_owned(), value: all.median(), spread: (all.low(), all.high()) }
    });
    plot::bars("Instructions of mariadbd per login", "instructions in user space", &bars.collect::<Vec<_>>())
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
