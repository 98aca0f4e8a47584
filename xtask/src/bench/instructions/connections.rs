//! Instructions per connection of a program on Connector/C, in the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use support::build::Flavour;
use support::server::Server;
use support::system::System;
use support::{output, project_root};

use super::super::Run;
use super::super::report::{Sample, table};
use crate::common::results::machine;

/// A program, by its environment and the prefix of its host. The repeated case shows the smallest difference that a run can
/// resolve.
const CONTENDERS: &[(&str, &str, &str)] = &[
    ("no plugin", "", ""),
    ("no plugin, again", "", ""),
    ("`LIBMYSQL_PLUGINS=instant_failover`", "instant_failover", ""),
    ("`instant_failover://`", "", "instant_failover://"),
];

pub(super) fn run(run: Run, connections: u32, rounds: u32) -> Result<()> {
    let directory = tempfile::tempdir()?;
    System::this().install_client_plugins(&directory.path().join("plugin"), &Flavour::Release.build()?)?;
    let program = compile(directory.path())?;
    let server = Server::start(&Flavour::Release.build()?, &[])?;
    server.root()?.query("CREATE USER app")?;
    let mut samples = vec![Sample::default(); CONTENDERS.len()];
    for round in 1..=rounds {
        eprintln!("Connections, round {round} of {rounds} ...");
        for (&(name, plugins, prefix), sample) in CONTENDERS.iter().zip(&mut samples) {
            let count = |connections: u32| -> Result<f64> {
                count(&program, &server, plugins, prefix, connections).with_context(|| name)
            };
            // What it costs to start the program, and the query of the last connection, does not count.
            sample.push((count(1 + connections)? - count(1)?) / f64::from(connections));
        }
    }
    let base = samples[0].clone();
    let rows = CONTENDERS.iter().zip(&samples).map(|(&(name, ..), sample)| {
        let [median, spread] = sample.cells(0);
        let [more, _] = sample.minus(&base).cells(0);
        let percent = format!("{:.2} %", (sample.over(&base).median() - 1.0) * 100.0);
        [name.to_owned(), median, spread, more, percent]
    });
    let table = table(["", "median", "lowest to highest", "more", ""], rows);
    let report = format!(
        "{table}\nInstructions of a C program on Connector/C per connection that is not redirected, from `mysql_init()` to \
         `mysql_close()`, without TLS; {rounds} times {connections} connections each. {}",
        machine()
    );
    run.show("connections", &report, &[])
}

/// The program, in this directory.
fn compile(directory: &Path) -> Result<PathBuf> {
    let config = |option| output(Command::new("mariadb_config").arg(option));
    let program = directory.join("client");
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-pthread"]).arg("-I").arg(project_root().join("c-shim/compat"));
    cc.args(config("--cflags")?.split_whitespace());
    cc.arg(project_root().join("tests/fixtures/client.c")).arg("-o").arg(&program);
    cc.args(config("--libs")?.split_whitespace());
    output(&mut cc)?;
    Ok(program)
}

/// The instructions of the program, which connects so many times.
fn count(program: &Path, server: &Server, plugins: &str, prefix: &str, connections: u32) -> Result<f64> {
    let profile = program.with_file_name("profile");
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--tool=callgrind"]).arg(format!("--callgrind-out-file={}", profile.display()));
    command.arg(program).arg("many").arg(server.address().ip().to_string());
    command.arg(server.address().port().to_string()).arg(connections.to_string());
    command.env("MARIADB_PLUGIN_DIR", program.with_file_name("plugin"));
    command.env("LIBMYSQL_PLUGINS", plugins).env("CLIENT_PREFIX", prefix).env_remove("INSTANT_FAILOVER_FOLLOW");
    let said = output(&mut command)?;
    ensure!(said.starts_with(&format!("port {}\n", server.address().port())), "the program said {said:?}");
    let profile = fs::read_to_string(profile)?;
    let totals = profile.lines().find_map(|line| line.strip_prefix("totals: "));
    Ok(totals.context("callgrind wrote no valid profile")?.trim().parse()?)
}
