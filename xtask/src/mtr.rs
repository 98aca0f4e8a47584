//! MariaDB's own test program, with our suite and our plugin.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use xtask::build::Flavour;
use xtask::{packages, project_root, server, target_dir};

use crate::Outcome;

/// Where Debian's mariadb-test puts it.
const MTR_DIR: &str = "/usr/share/mysql/mysql-test";

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Write what the tests print down as what they should print
    #[arg(long)]
    record: bool,
    /// Names of tests, as in mysql-test/instant_failover/t
    tests: Vec<String>,
}

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    packages::install(&[packages::BUILD, packages::SERVER, packages::TEST])?;
    let outcome = run(arguments)?;
    println!("{outcome}");
    if outcome.failed > 0 {
        bail!("the MTR suite failed");
    }
    Ok(())
}

/// Builds the plugin and runs the suite with it.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let library = Flavour::Release.build()?;
    let dir = target_dir().join("mtr");
    let plugins = dir.join("plugin");
    let client_plugins = dir.join("client");
    for old in [&plugins, &client_plugins] {
        let _ = fs::remove_dir_all(old);
    }
    server::install_plugins(&plugins, &library)?;
    server::install_client_plugins(&client_plugins, &library)?;

    let suite = link_to_suite()?;
    let mut mtr = Command::new("perl");
    mtr.current_dir(MTR_DIR)
        .env("INSTANT_FAILOVER_CLIENT_PLUGIN_DIR", client_plugins)
        .arg("mysql-test-run.pl")
        .arg(format!("--suite={}", suite.path().join("instant_failover").display()))
        .arg(format!("--vardir={}", dir.join("var").display()))
        .arg(format!("--mysqld=--plugin-dir={}", plugins.display()))
        .args(["--force", "--max-test-fail=0", "--parallel=2"])
        .args(arguments.record.then_some("--record"))
        .args(&arguments.tests)
        .stdout(Stdio::piped());
    let mut process = mtr.spawn().with_context(|| format!("{mtr:?} cannot be started"))?;
    let mut outcome = Outcome::default();
    for line in BufReader::new(process.stdout.take().context("no output")?).lines() {
        let line = line?;
        println!("{line}");
        let count = |state: &str| usize::from(line.contains(&format!("[ {state} ]")));
        outcome.passed += count("pass");
        outcome.failed += count("fail");
        outcome.skipped += count("skipped") + count("disabled");
    }
    let status = process.wait()?;
    if outcome.passed + outcome.failed == 0 {
        bail!("mtr ran no test: {status}");
    }
    // A server that leaves something behind, or logs what it should not, fails the run but no test.
    if !status.success() && outcome.failed == 0 {
        bail!("mtr failed: {status}; see above and {}", dir.join("var/log").display());
    }
    Ok(outcome)
}

/// A directory with a link to the suite: mtr cuts the names of suites at a hyphen, and our own path has one.
fn link_to_suite() -> Result<TempDir> {
    let dir = tempfile::Builder::new().prefix("instant_failover_").tempdir_in("/tmp")?;
    symlink(project_root().join("mysql-test/instant_failover"), dir.path().join("instant_failover"))?;
    Ok(dir)
}
