//! The stand-in, compared with nginx and with the simplest possible server.

use std::fs;
use std::path::{Path, PathBuf, absolute};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use support::{build, packages, target_dir};

use super::client::{Client, Expected};
use super::report::{Ratio, Report};
use super::server::{self, Server};
use super::{Run, TARGET, calls, floor, load, nginx, seconds};
use crate::common::tls;

const RATIOS: &[Ratio] =
    &[("harness", "floor"), ("harness, TLS", "floor, TLS"), ("harness", "nginx 302"), ("floor", "nginx 302")];

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) run: Run,
    /// Duration of each measurement [default: 2]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) seconds: Option<Duration>,
    /// Number of times to repeat each measurement [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rounds: Option<u32>,
    /// Number of concurrent clients [default: 8,32]
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) clients: Option<Vec<u32>>,
    /// Measure this program instead of the project's own
    #[arg(long, value_name = "FILE")]
    pub(super) program: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let program = arguments.program.clone().map_or_else(build_program, Ok)?;
    fs::create_dir_all(target_dir())?;
    let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(absolute(target_dir())?)?;
    let mut text = measure(&contenders(&program, dir.path())?, arguments)?.text();
    if !arguments.run.short {
        text += &calls(&program, dir.path())?;
    }
    arguments.run.show("harness", &text, &[])
}

/// What keeps the stand-in from the floor.
fn calls(program: &Path, dir: &Path) -> Result<String> {
    let plain = Client::MariaDb(Expected::Redirect, None);
    let servers = [command(program, None), floor::command(None)?];
    let [harness, floor] = servers.map(|server| calls::per_client(&server, &plain, dir));
    Ok(format!(
        "\n\n{}\nCounted by strace, which slows both down.",
        calls::compare(["harness", "floor"], &[harness?, floor?])
    ))
}

fn build_program() -> Result<PathBuf> {
    packages::install(&[packages::BUILD])?;
    build::harness()
}

/// A server and its clients.
struct Contender {
    name: &'static str,
    server: Server,
    client: Client,
}

/// Starts all servers.
fn contenders(program: &Path, dir: &Path) -> Result<[Contender; 5]> {
    let files = tls::Files::make(dir)?;
    let plain = Client::MariaDb(Expected::Redirect, None);
    let tls = Client::MariaDb(Expected::Redirect, Some(tls::client_config()?));
    let contender = |name, server, client: &Client| Contender { name, server, client: client.clone() };
    let start = |mut command: Command| Server::start(&mut command, dir, server::announced);
    Ok([
        contender("nginx 302", nginx::start(dir)?, &Client::Http),
        contender("harness", start(command(program, Some(&files)))?, &plain),
        contender("floor", start(floor::command(None)?)?, &plain),
        contender("harness, TLS", start(command(program, Some(&files)))?, &tls),
        contender("floor, TLS", start(floor::command(Some(&files))?)?, &tls),
    ])
}

/// The stand-in, with TLS if `files` are given.
fn command(program: &Path, files: Option<&tls::Files>) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--port=0", "--bind-address=127.0.0.1"])
        .arg(format!("--instant-failover-target={TARGET}"))
        .arg("--instant-failover-mode=ON")
        .args(files.map(tls::Files::options).into_iter().flatten());
    command
}

/// Measures the servers in turn.
fn measure(contenders: &[Contender], arguments: &Arguments) -> Result<Report> {
    let run = arguments.run;
    let time = run.length(arguments.seconds, Duration::from_secs(2), Duration::from_millis(100));
    let rounds = run.length(arguments.rounds, 5, 1);
    let mut report = Report::new(RATIOS);
    // The first round does not count: it warms the caches and fills the kernel's table of closed connections.
    for round in 0..=rounds {
        eprintln!("Round {round} of {rounds} ...");
        for &clients in &run.length(arguments.clients.clone(), vec![8, 32], vec![8]) {
            for Contender { name, server, client } in contenders {
                let rate = load::measure(server.address(), client, clients, time)
                    .with_context(|| format!("{name}, {clients} clients at once\n{}", server.printed().trim_end()))?;
                if round > 0 {
                    report.add(clients, name, rate);
                }
            }
        }
    }
    Ok(report)
}
