//! `cargo xtask bench`: how many clients per second are sent away, and how many others send.
//!
//! Nothing is asserted: a machine is as fast as it is. What counts are the ratios, so all servers run side by side and take
//! turns, round by round, under the same load.

mod client;
mod floor;
mod load;
mod nginx;
mod report;
mod server;
pub(crate) mod tls;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf, absolute};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use xtask::{build, packages, project_root, target_dir};

use crate::results::{self, RESULTS};

use client::Client;
use report::{Ratio, Report};
use server::Server;

/// Where every client is sent.
const TARGET: &str = "db2.example.com:3307";

const RATIOS: &[Ratio] =
    &[("harness", "floor"), ("harness, TLS", "floor, TLS"), ("harness", "nginx 302"), ("floor", "nginx 302")];

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bench {
    /// Measure the standalone server, next to nginx and to the least that a server can do
    Harness(Arguments),
    /// The least that a server can do
    #[command(hide = true)]
    Floor(floor::Arguments),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How long a measurement takes
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// How often each measurement is made
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How many clients come at the same time
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "8,32", value_parser = clap::value_parser!(u32).range(1..))]
    clients: Vec<u32>,
    /// Measure this program instead of building the one of the project
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Keep the numbers in benches/RESULTS.md
    #[arg(long)]
    keep: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let duration = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.filter(|duration| !duration.is_zero()).ok_or_else(|| "not a number of seconds above 0".to_owned())
}

pub(crate) fn command(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Floor(arguments) => floor::run(arguments),
        // Clients and floor are to be as fast as they can.
        Bench::Harness(_) if cfg!(debug_assertions) => run_optimized(),
        Bench::Harness(arguments) => harness(arguments),
    }
}

/// Goes on as the release build.
fn run_optimized() -> Result<()> {
    eprintln!("Building ...");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "--release", "--package=xtask", "--manifest-path"]);
    cargo.arg(project_root().join("Cargo.toml")).arg("--").args(std::env::args_os().skip(1));
    Err(cargo.exec()).context("cargo cannot be started")
}

fn harness(arguments: &Arguments) -> Result<()> {
    packages::install(&[packages::BENCH])?;
    let program = arguments.program.clone().map_or_else(build_harness, Ok)?;
    fs::create_dir_all(target_dir())?;
    let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(absolute(target_dir())?)?;
    let report = measure(&contenders(&program, dir.path())?, arguments)?.to_string();
    println!("{report}");
    if arguments.keep {
        results::keep(RESULTS, "harness", &report)?;
    }
    Ok(())
}

fn build_harness() -> Result<PathBuf> {
    packages::install(&[packages::BUILD])?;
    build::harness()
}

/// A server, and what its clients do.
struct Contender {
    name: &'static str,
    server: Server,
    client: Client,
}

/// Starts all servers.
fn contenders(program: &Path, dir: &Path) -> Result<[Contender; 5]> {
    let files = tls::Files::make(dir)?;
    let tls = Client::Tls(tls::client_config()?);
    let contender = |name, server, client: &Client| Contender { name, server, client: client.clone() };
    Ok([
        contender("nginx 302", nginx::start(dir)?, &Client::Http),
        contender("harness", start_harness(program, dir, &files)?, &Client::Plain),
        contender("floor", floor::start(dir, None)?, &Client::Plain),
        contender("harness, TLS", start_harness(program, dir, &files)?, &tls),
        contender("floor, TLS", floor::start(dir, Some(&files))?, &tls),
    ])
}

fn start_harness(program: &Path, dir: &Path, files: &tls::Files) -> Result<Server> {
    let mut command = Command::new(program);
    command
        .args(["--port=0", "--bind-address=127.0.0.1"])
        .arg(format!("--instant-failover-target={TARGET}"))
        .arg("--instant-failover-mode=ON")
        .arg(format!("--ssl-cert={}", files.certificate.display()))
        .arg(format!("--ssl-key={}", files.key.display()));
    Server::start(&mut command, dir, server::announced)
}

/// Lets the servers take turns.
fn measure(contenders: &[Contender], arguments: &Arguments) -> Result<Report> {
    let mut report = Report::new(RATIOS);
    // The first round makes the caches warm and fills the kernel's table of closed connections, and does not count.
    for round in 0..=arguments.rounds {
        eprintln!("Round {round} of {} ...", arguments.rounds);
        for &clients in &arguments.clients {
            for Contender { name, server, client } in contenders {
                let rate = load::measure(server.address(), client, clients, arguments.seconds)
                    .with_context(|| format!("{name}, {clients} clients at once\n{}", server.printed().trim_end()))?;
                if round > 0 {
                    report.add(clients, name, rate);
                }
            }
        }
    }
    Ok(report)
}
