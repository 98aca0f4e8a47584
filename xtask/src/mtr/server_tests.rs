//! `cargo xtask server-tests`: MariaDB's own login tests, without the plugin and with it in mode `OFF`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;

use anyhow::{Context, Result, bail};
use support::build::Flavour;
use support::system::System;
use support::{packages, project_root};

use super::{Mtr, State};
use crate::Outcome;
use crate::common::results::{self, RESULTS};

/// The tests to run, and why.
const LIST: &str = "mysql-test/server_tests.txt";

#[derive(Debug, Default, clap::Args)]
pub(crate) struct ServerTests {
    /// Write the table to docs/results/README.md
    #[arg(long)]
    keep: bool,
    /// Names of tests [default: those in mysql-test/server_tests.txt]
    tests: Vec<String>,
}

/// The user that runs them: the tests of `unix_socket` do not support root.
const NOBODY: u32 = 65534;

/// How the tests ended, by their names.
type States = BTreeMap<String, State>;

pub(crate) fn command(arguments: &ServerTests) -> Result<()> {
    packages::install(&[packages::BUILD, packages::SERVER, packages::TEST])?;
    let listed = arguments.tests.is_empty().then(listed).transpose()?;
    let tests = listed.unwrap_or_else(|| arguments.tests.clone());
    let (without, with) = run_both(&tests)?;
    let table = table(&without, &with);
    println!("\n{table}");
    let differences = differences(&without, &with);
    if !differences.is_empty() {
        bail!("these tests end differently with the plugin: {}", differences.join(", "));
    }
    if arguments.keep {
        results::keep(RESULTS, "server-tests", &table)?;
    }
    Ok(())
}

/// Runs all listed tests: a test passes if it ends with the plugin as it does without.
pub(crate) fn run() -> Result<Outcome> {
    let (without, with) = run_both(&listed()?)?;
    let differences = differences(&without, &with);
    let passed = with.len() - differences.len();
    println!("\n{passed} of MariaDB's own tests ended the same way with the plugin as without it.");
    let of = |name: &str| {
        format!("{name}: {} without the plugin, {} with it", shown(without.get(name)), shown(with.get(name)))
    };
    Ok(Outcome { passed, failed: differences.into_iter().map(of).collect(), skipped: 0 })
}

fn listed() -> Result<Vec<String>> {
    let list = fs::read_to_string(project_root().join(LIST)).with_context(|| format!("cannot read {LIST}"))?;
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    Ok(lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

fn run_both(tests: &[String]) -> Result<(States, States)> {
    let system = System::this();
    // Not in the target directory: the user of the tests may not be able to read it.
    let dir = tempfile::Builder::new().prefix("instant_failover_").tempdir_in("/tmp")?;
    let mtr = Mtr::prepare_in(dir.path().to_owned(), &system, &Flavour::Release.build()?)?;
    if packages::is_root() {
        chown(dir.path(), Some(NOBODY), Some(NOBODY))?;
    }
    let run = |title: &str, options: &[&str]| {
        println!("\nMariaDB's own tests, {title}");
        let mut command = mtr.command("var");
        if packages::is_root() {
            command.uid(NOBODY).gid(NOBODY).env("USER", "nobody").env("HOME", dir.path());
        }
        command.args(options).args(tests);
        let tests = mtr.run(command, "var")?;
        anyhow::Ok(tests.into_iter().map(|test| (test.name, test.state)).collect())
    };
    let without = run("without the plugin", &[])?;
    // Not `loose`: a server without the plugin must not start.
    let load = ["--mysqld=--plugin-load-add=instant_failover", "--mysqld=--instant-failover-mode=OFF"];
    let with = run("with the plugin in mode OFF", &load)?;
    Ok((without, with))
}

fn differences<'a>(without: &'a States, with: &'a States) -> Vec<&'a str> {
    let names = without.keys().chain(with.keys().filter(|name| !without.contains_key(*name)));
    names.filter(|name| without.get(*name) != with.get(*name)).map(String::as_str).collect()
}

fn table(without: &States, with: &States) -> String {
    let header = "| test | without the plugin | with it, `OFF` |\n|---|---|---|\n".to_owned();
    let names: std::collections::BTreeSet<&String> = without.keys().chain(with.keys()).collect();
    let row = |name| format!("| {name} | {} | {} |\n", shown(without.get(name)), shown(with.get(name)));
    [header].into_iter().chain(names.into_iter().map(row)).collect()
}

fn shown(state: Option<&State>) -> &'static str {
    match state {
        Some(State::Passed) => "passed",
        Some(State::Failed) => "failed",
        Some(State::Skipped) => "skipped",
        None => "not run",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_otherwise_is_found() {
        let states =
            |states: &[(&str, State)]| states.iter().map(|(name, state)| ((*name).to_owned(), *state)).collect();
        let without: States = states(&[("a", State::Passed), ("b", State::Failed), ("c", State::Passed)]);
        let with: States = states(&[("a", State::Failed), ("b", State::Failed), ("d", State::Passed)]);
        assert_eq!(differences(&without, &with), ["a", "c", "d"]);
        assert_eq!(differences(&with, &with), [""; 0]);
        assert!(table(&without, &with).contains("| c | passed | not run |"));
    }
}
