//! MariaDB's own test program, with our suite and our plugin.

mod arm64;
mod program;
mod server_tests;
mod valgrind;
mod versions;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Result;
use support::build::Flavour;
use support::system::System;
use support::{packages, project_root};
use tempfile::TempDir;

use crate::Outcome;
pub(crate) use arm64::run as run_arm64;
use program::{Mtr, State};
pub(crate) use server_tests::{ServerTests, command as server_tests, run as run_server_tests};
pub(crate) use valgrind::run as run_valgrind;
pub(crate) use versions::{Versions, command as versions, run as run_versions};

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Record the output of the tests as their expected results
    #[arg(long)]
    record: bool,
    /// Run them with the MariaDB of another system, with this root directory
    #[arg(long, value_name = "DIR")]
    server_root: Option<PathBuf>,
    /// Run the server under valgrind: with the named tests, or a selection
    #[arg(long, conflicts_with_all = ["record", "server_root"])]
    valgrind: bool,
    /// Names of tests, as in mysql-test/instant_failover/t [default: all]
    tests: Vec<String>,
}

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    packages::install(&[packages::BUILD, packages::SERVER, packages::TEST])?;
    let outcome = if arguments.valgrind {
        run_valgrind(&arguments.tests.iter().map(String::as_str).collect::<Vec<_>>())?
    } else {
        let system = arguments.server_root.as_deref().map_or_else(|| Ok(System::this()), System::at)?;
        run(&system, arguments)?
    };
    outcome.conclude("the MTR suite failed")
}

/// Builds the plugin and runs the suite with it.
pub(crate) fn run(system: &System, arguments: &Arguments) -> Result<Outcome> {
    run_with(system, &Flavour::Release.build()?, arguments, &[])
}

/// Runs the suite with that library, and with more arguments of the test program.
fn run_with(system: &System, library: &Path, arguments: &Arguments, more: &[&str]) -> Result<Outcome> {
    let mtr = Mtr::prepare(system, library)?;
    let suite = link_to_suite()?;
    let mut command = mtr.command("var");
    command
        .arg(format!("--suite={}", suite.path().join("instant_failover").display()))
        .args(arguments.record.then_some("--record"))
        .args(more)
        .args(&arguments.tests);
    Ok(mtr.run(command, "var")?.into_iter().collect())
}

/// A directory with a link to the suite: mtr truncates suite names at a hyphen, and our own path may contain one.
fn link_to_suite() -> Result<TempDir> {
    let dir = tempfile::Builder::new().prefix("instant_failover_").tempdir_in("/tmp")?;
    symlink(project_root().join("mysql-test/instant_failover"), dir.path().join("instant_failover"))?;
    Ok(dir)
}
