//! `cargo xtask versions`: one library, with the MariaDB of every Debian release that has one.

use anyhow::{Result, bail, ensure};
use support::packages;
use support::system::System;

use super::{Arguments, run as run_suite, run_arm64};
use crate::Outcome;
use crate::common::results;

/// In addition to the release of this machine.
const SUITES: &[&str] = &["bullseye", "trixie", "sid"];

#[derive(Debug, clap::Args)]
pub(crate) struct Versions {
    /// Write the table to docs/install.md
    #[arg(long, conflicts_with = "arch")]
    keep: bool,
    /// On another architecture, which is emulated
    #[arg(long, value_parser = ["arm64"])]
    arch: Option<String>,
    /// Names of tests there [default: all that can be emulated]
    #[arg(requires = "arch")]
    tests: Vec<String>,
}

/// One line of the table.
struct Row {
    server: String,
    system: String,
    connector: String,
    glibc: String,
    outcome: Outcome,
}

pub(crate) fn command(arguments: &Versions) -> Result<()> {
    if arguments.arch.is_some() {
        let tests: Vec<_> = arguments.tests.iter().map(String::as_str).collect();
        return run_arm64(&tests)?.conclude("the MTR suite failed");
    }
    packages::install(&[packages::BUILD, packages::SERVER, packages::TEST])?;
    let rows = rows()?;
    let table = table(&rows);
    println!("\n{table}");
    if rows.iter().any(|row| !row.outcome.failed.is_empty()) {
        bail!("the MTR suite failed");
    }
    if arguments.keep {
        results::keep("docs/install.md", "versions", &table)?;
    }
    Ok(())
}

/// Runs the suite with each release, and shows the table.
pub(crate) fn run() -> Result<Outcome> {
    let rows = rows()?;
    println!("\n{}", table(&rows));
    let mut sum = Outcome::default();
    for row in rows {
        sum += row.outcome.at(&format!("MariaDB {}", row.server));
    }
    Ok(sum)
}

fn rows() -> Result<Vec<Row>> {
    ensure!(
        packages::is_root(),
        "only root can run the MariaDB of other releases ({}): run this as root",
        SUITES.join(", ")
    );
    let mut rows = vec![row(&System::this())?];
    for suite in SUITES {
        rows.push(row(&System::debian(suite)?)?);
    }
    rows.sort_by_key(|row| row.server.split('.').map(|number| number.parse().unwrap_or(0)).collect::<Vec<u32>>());
    Ok(rows)
}

fn row(system: &System) -> Result<Row> {
    let (server, name) = (system.server_version()?, system.name()?);
    println!("\nMariaDB {server} of {name}");
    let outcome = run_suite(system, &Arguments::default())?;
    Ok(Row { server, system: name, connector: system.connector_version()?, glibc: system.glibc_version()?, outcome })
}

fn table(rows: &[Row]) -> String {
    let row = |row: &Row| {
        let Row { server, system, connector, glibc, outcome } = row;
        format!("| {server} | {system} | {connector} | {glibc} | {outcome} |\n")
    };
    let header = "| MariaDB | of | Connector/C | glibc | tests of the suite |\n|---|---|---|---|---|\n";
    [header.to_owned()].into_iter().chain(rows.iter().map(row)).collect()
}
