//! `cargo xtask bench`: what the plugin costs, what it spares, and how fast the standalone server is.
//!
//! Nothing is asserted about a speed: a machine is as fast as it is. What counts are the ratios, so all that is compared
//! runs side by side and takes turns, round by round, under the same load.

mod client;
mod floor;
mod harness;
mod instructions;
mod load;
mod logins;
mod mariadbd;
mod memory;
mod nginx;
mod proxy;
mod report;
mod server;
mod storm;
mod switch;

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use support::{packages, project_root, target_dir};

use crate::common::results::{self, RESULTS};

/// Where every client is sent that does not follow.
const TARGET: &str = "db2.example.com:3307";

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    bench: Option<Bench>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, clap::Subcommand)]
enum Bench {
    /// Count the instructions of a login, without the plugin, with it, and redirected
    Instructions(instructions::Arguments),
    /// Measure logins per second without the plugin and with it, and redirects per second
    Logins(logins::Arguments),
    /// Measure the time from SET GLOBAL to the first client that is redirected
    Switch(switch::Arguments),
    /// Compare a redirect with a proxy: the time to connect, and that of each query
    Proxy(proxy::Arguments),
    /// Measure the memory of mariadbd before and after many redirects
    Memory(memory::Arguments),
    /// Let thousands of clients come back at once to a server that redirects
    Storm(storm::Arguments),
    /// Measure the standalone server, next to nginx and to the least that a server can do
    Harness(harness::Arguments),
    /// The least that a server can do
    #[command(hide = true)]
    Floor(floor::Arguments),
}

/// What every measurement is told.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
struct Run {
    /// Take a few seconds only: enough to see that it works
    #[arg(long)]
    short: bool,
    /// Keep the numbers in docs/results/README.md, and the plots beside it
    #[arg(long)]
    keep: bool,
}

impl Run {
    /// How much to do: what was asked for, if something was.
    fn length<T>(self, asked: Option<T>, usual: T, short: T) -> T {
        asked.unwrap_or(if self.short { short } else { usual })
    }

    /// Prints a report, and keeps it if that is asked for. Each plot has a title, which also names its file.
    fn show(self, name: &str, report: &str, plots: &[(&str, String)]) -> Result<()> {
        println!("{report}\n");
        let directory = if self.keep { project_root().join("docs/results") } else { target_dir().join("benches") };
        fs::create_dir_all(&directory)?;
        let mut links = String::new();
        for (title, svg) in plots {
            let file = format!("{}.svg", title.to_lowercase().replace(' ', "-"));
            let path = directory.join(&file);
            fs::write(&path, svg)?;
            println!("{}", path.display());
            links.extend(["![", title, "](", &file, ")\n\n"]);
        }
        if self.keep {
            results::keep(RESULTS, name, &format!("{links}{report}"))?;
        }
        Ok(())
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let duration = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.filter(|duration| !duration.is_zero()).ok_or_else(|| "not a number of seconds above 0".to_owned())
}

pub(crate) fn command(arguments: Arguments) -> Result<()> {
    let benches = match arguments.bench {
        Some(Bench::Floor(arguments)) => return floor::run(&arguments),
        Some(bench) => vec![bench],
        None => all(arguments.run),
    };
    if cfg!(debug_assertions) {
        // Clients and floor are to be as fast as they can.
        return run_optimized();
    }
    packages::install(&[packages::BUILD, packages::SERVER, packages::BENCH])?;
    benches.iter().try_for_each(Bench::run)
}

fn all(run: Run) -> Vec<Bench> {
    vec![
        Bench::Instructions(instructions::Arguments { run, ..Default::default() }),
        Bench::Logins(logins::Arguments { run, ..Default::default() }),
        Bench::Switch(switch::Arguments { run, ..Default::default() }),
        Bench::Proxy(proxy::Arguments { run, ..Default::default() }),
        Bench::Memory(memory::Arguments { run, ..Default::default() }),
        Bench::Storm(storm::Arguments { run, ..Default::default() }),
        Bench::Harness(harness::Arguments { run, ..Default::default() }),
    ]
}

impl Bench {
    fn run(&self) -> Result<()> {
        match self {
            Self::Instructions(arguments) => instructions::run(arguments),
            Self::Logins(arguments) => logins::run(arguments),
            Self::Switch(arguments) => switch::run(arguments),
            Self::Proxy(arguments) => proxy::run(arguments),
            Self::Memory(arguments) => memory::run(arguments),
            Self::Storm(arguments) => storm::run(arguments),
            Self::Harness(arguments) => harness::run(arguments),
            Self::Floor(arguments) => floor::run(arguments),
        }
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
