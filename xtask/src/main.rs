//! The project's commands: `cargo xtask --help`.

mod bench;
mod clients;
mod common;
mod conformance;
mod deb;
mod demo;
mod drain;
mod fuzz;
mod galera;
mod monitoring;
mod mtr;
mod recipes;
mod release;
mod rpm;
mod sanitize;
mod soak;
mod switchover;
mod test;

use std::fmt;
use std::ops::AddAssign;

use clap::{Parser, Subcommand};

/// Tests, measurements and packages of instant failover for MariaDB.
#[derive(Debug, Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Show how one private server redirects new clients to another
    Demo(demo::Arguments),
    /// Install missing packages and run every test of the project
    Test(test::Arguments),
    /// Check formatting, lints and documentation, in a minute
    Lint,
    /// Run the MTR suite: all tests, or those named
    Mtr(mtr::Arguments),
    /// Run the MTR suite with the MariaDB of every Debian release that has one
    Versions(mtr::Versions),
    /// Run MariaDB's own login tests, without the plugin and with it in mode OFF
    ServerTests(mtr::ServerTests),
    /// Test real client libraries: all of them, or those named
    Clients(clients::Arguments),
    /// Check that the packages in clients/ all do the same: all languages, or those named
    Conformance(conformance::Arguments),
    /// Measure what the plugin and the stand-in cost: everything, or one measurement
    Bench(bench::Arguments),
    /// Build the Debian packages and the tarball
    Deb(deb::Arguments),
    /// Build the RPMs
    Rpm(rpm::Arguments),
    /// Check what a release must hold, and build its packages
    Release(release::Arguments),
    /// Run every statement that the README and the runbook tell you to type
    Recipes,
    /// Fuzz the parsers of untrusted input: all of them, or those named
    Fuzz(fuzz::Arguments),
    /// Run a Galera cluster, and check what happens to its clients
    Galera(galera::Arguments),
    /// Test the alerts and the dashboard
    Monitoring,
    /// Run the plugin from many threads with sanitizers: memory errors, leaks, undefined behaviour, data races
    Sanitize(sanitize::Arguments),
    /// Connect clients of every kind while the server's settings change, and check every answer
    Soak(soak::Arguments),
    /// End the sessions of working clients again and again, and check that no transaction was cut and no write lost
    Drain(drain::Arguments),
    /// Move the primary to another server and back while clients write, and check that nothing is lost
    Switchover(switchover::Arguments),
}

fn main() -> anyhow::Result<()> {
    common::results::begin();
    match Arguments::parse().command {
        Task::Demo(arguments) => demo::command(&arguments),
        Task::Test(arguments) => test::command(&arguments),
        Task::Lint => test::lint()?.conclude("see above"),
        Task::Mtr(arguments) => mtr::command(&arguments),
        Task::Versions(arguments) => mtr::versions(&arguments),
        Task::ServerTests(arguments) => mtr::server_tests(&arguments),
        Task::Clients(arguments) => clients::command(&arguments),
        Task::Conformance(arguments) => conformance::command(&arguments),
        Task::Bench(bench) => bench::command(bench),
        Task::Deb(arguments) => deb::command(&arguments),
        Task::Rpm(arguments) => rpm::command(&arguments),
        Task::Release(arguments) => release::command(&arguments),
        Task::Recipes => recipes::command(),
        Task::Fuzz(arguments) => fuzz::command(&arguments),
        Task::Galera(arguments) => galera::command(&arguments),
        Task::Monitoring => monitoring::command(),
        Task::Sanitize(arguments) => sanitize::command(&arguments),
        Task::Soak(arguments) => soak::command(&arguments),
        Task::Drain(arguments) => drain::command(&arguments),
        Task::Switchover(arguments) => switchover::command(&arguments),
    }
}

/// What is said of a failure at the end.
const LINES_OF_A_FAILURE: usize = 12;

/// The results of tests.
#[derive(Clone, Debug, Default)]
struct Outcome {
    passed: usize,
    /// The failed tests, each with the reason.
    failed: Vec<String>,
    skipped: usize,
}

impl Outcome {
    fn of(passed: bool, what: impl Into<String>) -> Self {
        if passed {
            Self { passed: 1, ..Self::default() }
        } else {
            Self { failed: vec![what.into()], ..Self::default() }
        }
    }

    /// The same, with `place` in front of each failure.
    fn at(self, place: &str) -> Self {
        Self { failed: self.failed.into_iter().map(|what| format!("{place}: {what}")).collect(), ..self }
    }

    /// Ends a command: prints the result, and returns an error if anything failed.
    fn conclude(&self, complaint: &'static str) -> anyhow::Result<()> {
        println!("{self}");
        if self.failed.is_empty() {
            return Ok(());
        }
        // Of a long output often only the end is kept.
        println!("\nIn short:");
        for failed in &self.failed {
            println!("{}", failed.lines().take(LINES_OF_A_FAILURE).collect::<Vec<_>>().join("\n"));
        }
        Err(anyhow::anyhow!(complaint))
    }
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed.len(), self.skipped)?;
        self.failed.iter().try_for_each(|failed| write!(f, "\nFAILED   {failed}"))
    }
}
