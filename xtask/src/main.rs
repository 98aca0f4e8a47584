//! The project's commands: `cargo xtask --help`.

mod bench;
mod clients;
mod common;
mod deb;
mod demo;
mod fuzz;
mod mtr;
mod recipes;
mod sanitize;
mod soak;
mod switchover;
mod test;

use std::fmt;
use std::ops::AddAssign;

use clap::{Parser, Subcommand};

/// What can be done with instant failover for MariaDB.
#[derive(Debug, Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Watch new clients being sent away from one private server to another
    Demo(demo::Arguments),
    /// Install what is missing, and run every test of the project
    Test,
    /// Run tests of the MTR suite: all of them, or those named
    Mtr(mtr::Arguments),
    /// Run the MTR suite with the MariaDB of every release of Debian that has one
    Versions(mtr::Versions),
    /// Run MariaDB's own tests of logins, without the plugin and with it in mode OFF
    ServerTests(mtr::ServerTests),
    /// Try real client libraries: all of them, or those named
    Clients(clients::Arguments),
    /// Measure what the plugin and the standalone server cost: everything, or what is named
    Bench(bench::Arguments),
    /// Make the Debian packages and the tarball
    Deb(deb::Arguments),
    /// Run every statement that README and runbook tell a person to type
    Recipes,
    /// Feed random bytes to every parser of what a peer sends: to all of them, or those named
    Fuzz(fuzz::Arguments),
    /// Run the plugin from many threads with sanitizers: for memory, leaks, undefined behaviour and races
    Sanitize(sanitize::Arguments),
    /// Let clients of every kind come to a server while everything about it changes, and check every answer
    Soak(soak::Arguments),
    /// Move the primary from one server to another and back while clients write, and see that nothing is lost
    Switchover(switchover::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Task::Demo(arguments) => demo::command(&arguments),
        Task::Test => test::run_all(),
        Task::Mtr(arguments) => mtr::command(&arguments),
        Task::Versions(arguments) => mtr::versions(&arguments),
        Task::ServerTests(arguments) => mtr::server_tests(&arguments),
        Task::Clients(arguments) => clients::command(&arguments),
        Task::Bench(bench) => bench::command(bench),
        Task::Deb(arguments) => deb::command(&arguments),
        Task::Recipes => recipes::command(),
        Task::Fuzz(arguments) => fuzz::command(&arguments),
        Task::Sanitize(arguments) => sanitize::command(&arguments),
        Task::Soak(arguments) => soak::command(&arguments),
        Task::Switchover(arguments) => switchover::command(&arguments),
    }
}

/// How tests ended.
#[derive(Clone, Debug, Default)]
struct Outcome {
    passed: usize,
    /// Which, and what is known of it.
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

    /// The same, with the place in front of each failure.
    fn at(self, place: &str) -> Self {
        Self { failed: self.failed.into_iter().map(|what| format!("{place}: {what}")).collect(), ..self }
    }

    /// The end of a command: shows it, and is an error if anything failed.
    fn conclude(&self, complaint: &'static str) -> anyhow::Result<()> {
        println!("{self}");
        if self.failed.is_empty() { Ok(()) } else { Err(anyhow::anyhow!(complaint)) }
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
