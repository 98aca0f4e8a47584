//! Every test of the project.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use support::build::{self, Arch, Flavour};
use support::{child, output, packages, project_root, run, system, target_dir};
use tempfile::NamedTempFile;

use crate::common::tools;
use crate::{Outcome, clients, deb, drain, fuzz, galera, monitoring, mtr, recipes, rpm, sanitize, soak, switchover};

/// For each target.
const SECONDS_OF_FUZZING: u64 = 15;
/// With each sanitizer.
const SECONDS_IN_THE_HOST: u64 = 30;
/// Tests to run under valgrind every time; `cargo xtask mtr --valgrind` runs more.
const UNDER_VALGRIND: &[&str] = &["instant_failover", "change_user", "install_order"];
/// Tests to run on 64-bit ARM every time; `cargo xtask versions --arch arm64` runs more.
const ON_ARM64: &[&str] = &["instant_failover", "account", "hold"];
const MINUTES_OF_SOAK: u64 = 2;

/// What takes too long for every run: long forms of some stages. CONTRIBUTING.md says why, and when each was last run.
const LONG: &[(&str, &[&str])] = &[
    ("MTR suite on 64-bit ARM, all of it", &["xtask", "versions", "--arch", "arm64"]),
    ("Packages for 64-bit ARM", &["xtask", "deb", "--arch", "arm64", "--test"]),
    ("RPMs for 64-bit ARM", &["xtask", "rpm", "--arch", "arm64", "--test"]),
    ("MTR suite under valgrind, more of it", &["xtask", "mtr", "--valgrind"]),
    (
        "The command: faults at each step, other releases",
        &[
            "test",
            "--package=instant-failover-switchover",
            "--test=it",
            "--",
            "--ignored",
            "--test-threads=1",
            // It needs a library of an old release.
            "--skip=a_plugin_that_cannot_hold",
        ],
    ),
    ("Soak of 30 minutes", &["xtask", "soak", "--minutes", "30"]),
    ("Drain of 10 minutes", &["xtask", "drain", "--seconds", "600"]),
    ("Switchover, each order and mishap", &["xtask", "switchover"]),
    ("Switchover with every driver of the packages in clients/", &["xtask", "conformance", "--switch"]),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Also run the long forms of some tests, for hours
    #[arg(long)]
    all: bool,
}

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    // What stages in the background need is installed before: two cannot install at once.
    let languages = packages::of_languages();
    packages::install(&[packages::BUILD, packages::SERVER, packages::TEST, packages::FUZZ, tools::ALWAYS, &languages])?;
    let mut stages = Stages { started: Instant::now(), outcome: Outcome::default() };
    stages.run("Formatting, lints and documentation", lint);
    stages.run("Unit and integration tests", cargo_test);
    stages.run("Fuzzing", || fuzz::run(&fuzz::Arguments::all(SECONDS_OF_FUZZING)));
    stages.run("Sanitizers", || sanitize::run(&[], SECONDS_IN_THE_HOST));
    // They mostly wait: for pools that give up, and for what they build.
    let conformance = Beside::start("Conformance of the packages in clients/", &["conformance"]);
    stages.run("MTR suite, with the MariaDB of every release", mtr::run_versions);
    stages.run("MTR suite under valgrind", || mtr::run_valgrind(UNDER_VALGRIND));
    stages.run("MTR suite on 64-bit ARM", || mtr::run_arm64(ON_ARM64));
    stages.run("MariaDB's own tests", mtr::run_server_tests);
    stages.run_beside(conformance);
    // Not beside the soak, which judges how a server ends.
    let own_tests = Beside::start("Tests of the packages in clients/", &["conformance", "--own-tests"]);
    stages.run("Client libraries", || clients::run(&clients::Arguments::default()));
    stages.run("Recipes of the documents", recipes::run);
    stages.run("Monitoring", monitoring::run);
    stages.run_beside(own_tests);
    stages.run("Soak", || soak::run(&soak::Arguments { minutes: MINUTES_OF_SOAK, seed: Some(1), keep: false }));
    stages.run("Drain", || drain::run(&drain::Arguments::short()));
    stages.run("Switchover", || switchover::run(&switchover::Arguments { short: true, keep: false }));
    stages.run("Switchover with the packages in clients/", || {
        run_counted(cargo("xtask").args(["conformance", "--switch", "--short"]))
    });
    stages.run("Galera", || galera::run(&galera::Arguments { short: true, ..Default::default() }));
    stages.run("Packages", || deb::test(Arch::THIS));
    stages.run("RPMs", || rpm::test(Arch::THIS));
    // A separate process: measurements need an optimized build.
    stages.run("Measurements, short", || run_counted(cargo("xtask").args(["bench", "--short"])));
    if arguments.all {
        for (title, arguments) in LONG {
            stages.run(title, || {
                let mut command = cargo(arguments[0]);
                command.args(&arguments[1..]).env("INSTANT_FAILOVER_SO", Flavour::Release.build()?);
                run_counted(command.env("INSTANT_FAILOVER_HARNESS", build::harness()?))
            });
        }
        stages.run("Galera, each check", || galera::run(&galera::Arguments::default()));
        stages.run("Galera, with the MariaDB of Debian 13", || {
            let root = system::installed("trixie", Arch::Amd64)?;
            galera::run(&galera::Arguments { server_root: Some(root), ..Default::default() })
        });
    }

    let Stages { started, outcome } = stages;
    println!("\n=== Total === (after {} s)", started.elapsed().as_secs());
    outcome.conclude("some tests failed; see above")
}

struct Stages {
    started: Instant,
    outcome: Outcome,
}

impl Stages {
    /// Announces and runs a stage. The other stages run even if one fails.
    fn run(&mut self, title: &str, stage: impl FnOnce() -> Result<Outcome>) {
        println!("\n=== {title} === (after {} s)", self.started.elapsed().as_secs());
        let outcome = stage().unwrap_or_else(|error| Outcome::of(false, format!("{title}: {error:#}")));
        println!("{outcome}");
        self.outcome += outcome;
    }

    /// Waits for a stage that was started before.
    fn run_beside(&mut self, beside: Beside) {
        self.run(beside.title, || beside.end());
    }
}

/// A stage in a process of its own, while others run. Its output is shown when it is its turn.
struct Beside {
    title: &'static str,
    running: Result<(Child, NamedTempFile)>,
}

impl Beside {
    /// Starts a command of this program.
    fn start(title: &'static str, arguments: &[&str]) -> Self {
        println!("\n(in the background: {title})");
        Self { title, running: Self::spawn(arguments) }
    }

    fn spawn(arguments: &[&str]) -> Result<(Child, NamedTempFile)> {
        let output = NamedTempFile::new()?;
        let file = output.reopen()?;
        let mut command = cargo("xtask");
        command.args(arguments).stdout(file.try_clone()?).stderr(file);
        Ok((child::spawn(&mut command)?, output))
    }

    /// Waits for it.
    fn end(self) -> Result<Outcome> {
        let (mut child, output) = self.running?;
        let status = child.wait()?;
        let output = String::from_utf8_lossy(&fs::read(output.path())?).into_owned();
        print!("{output}");
        Ok(Outcome::of(status.success(), format!("{}: {status}\n{}", self.title, in_short(&output))))
    }
}

/// Runs a command that counts its tests itself: it is one test here. Its output is shown as it comes.
fn run_counted(command: &mut Command) -> Result<Outcome> {
    let (reader, writer) = io::pipe()?;
    let mut child = child::spawn(command.stdout(writer.try_clone()?).stderr(writer))?;
    // Drops our ends of the pipe.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
        }
    });
    let mut output = String::new();
    loop {
        // A process that it left behind may keep the pipe open.
        match lines.recv_timeout(Duration::from_secs(1)) {
            Ok(line) => {
                println!("{line}");
                output += &line;
                output.push('\n');
            }
            Err(RecvTimeoutError::Timeout) if child.try_wait()?.is_none() => {}
            Err(_) => break,
        }
    }
    let status = child.wait()?;
    Ok(Outcome::of(status.success(), format!("{command:?}: {status}\n{}", in_short(&output))))
}

/// What of the output of tests tells which of them failed, and why.
fn in_short(output: &str) -> String {
    if let Some((_, end)) = output.rsplit_once("\nIn short:\n") {
        return end.split("\nError: ").next().unwrap_or(end).to_owned();
    }
    let lines: Vec<&str> = output.lines().collect();
    let panic = |line: &str| line.contains("' panicked at ") || line.contains(") panicked at ");
    let told = |at: usize| panic(lines[at]) || (at > 0 && panic(lines[at - 1]));
    (0..lines.len()).filter(|at| told(*at)).map(|at| lines[at]).collect::<Vec<_>>().join("\n")
}

pub(crate) fn lint() -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for (tool, arguments) in [
        ("fmt", &["--all", "--check"][..]),
        ("clippy", &["--quiet", "--workspace", "--all-targets", "--", "--deny=warnings"]),
    ] {
        output(cargo(tool).arg("--version")).with_context(|| {
            let component = if tool == "fmt" { "rustfmt" } else { tool };
            format!("cargo {tool} is not installed; run `rustup component add {component}`")
        })?;
        for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
            let mut cargo = cargo(tool);
            run(cargo.args(["--manifest-path", manifest]).args(arguments).env("CARGO_TARGET_DIR", target_dir()))?;
        }
        outcome.passed += 1;
    }
    run(cargo("doc")
        .args(["--quiet", "--no-deps", "--document-private-items", "--lib"])
        .args(["--package=instant-failover", "--package=instant-failover-core", "--package=instant-failover-harness"])
        .args(["--package=instant-failover-option-file", "--package=instant-failover-switchover"])
        .env("RUSTDOCFLAGS", "--deny=warnings"))?;
    run(cargo("doc")
        .args(["--quiet", "--no-deps", "--lib", "--package=instant-failover-client", "--all-features"])
        .env("RUSTDOCFLAGS", "--deny=warnings"))?;
    outcome.passed += 1;
    Ok(outcome)
}

/// `cargo test` has its own count; it is one test here.
fn cargo_test() -> Result<Outcome> {
    let (plugin, panicking, harness) = (Flavour::Release.build()?, Flavour::PanicInjection.build()?, build::harness()?);
    run_counted(
        cargo("test")
            .args(["--quiet", "--workspace", "--no-fail-fast"])
            .env("INSTANT_FAILOVER_SO", plugin)
            .env("INSTANT_FAILOVER_PANIC_SO", panicking)
            // The tests of the packages have another name for it.
            .env("INSTANT_FAILOVER_STANDIN", &harness)
            .env("INSTANT_FAILOVER_HARNESS", harness),
    )
}

fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(project_root()).arg(command);
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_lines_the_failures_are_told() {
        let cargo_test =
            "running 2 tests\n\nthread 'a::b' (7) panicked at src/a.rs:1:2:\nleft is not right\nnote: run\n";
        assert_eq!(in_short(cargo_test), "thread 'a::b' (7) panicked at src/a.rs:1:2:\nleft is not right");
        let of_xtask = "1 passed, 1 failed\n\nIn short:\nPHP: 1 lost\nGo: 2 lost\nError: it failed\n\nStack";
        assert_eq!(in_short(of_xtask), "PHP: 1 lost\nGo: 2 lost");
        assert_eq!(in_short("all is well\n"), "");
    }

    #[test]
    fn a_command_fails_with_what_it_said() {
        let script = "echo; echo In short:; echo PHP: 1 lost; sleep 60 & exit 3";
        let outcome = run_counted(Command::new("sh").args(["-c", script])).expect("it starts");
        assert_eq!(outcome.passed, 0);
        assert!(outcome.failed[0].contains("exit status: 3\nPHP: 1 lost"), "{outcome}");
        let outcome = run_counted(Command::new("sh").args(["-c", "exit 0"])).expect("it starts");
        assert_eq!((outcome.passed, outcome.failed.len()), (1, 0));
    }
}
