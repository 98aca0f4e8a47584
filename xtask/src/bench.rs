//! `cargo xtask bench`: what the plugin costs, what it saves, and how fast the stand-in is.
//!
//! No absolute speed is asserted, as machines differ. The ratios count, so everything that is compared runs side by side
//! and in turn, round by round, under the same load.

mod calls;
mod client;
mod floor;
mod harness;
mod instructions;
mod load;
mod logins;
mod mariadbd;
mod memory;
mod network;
mod nginx;
mod proxy;
mod report;
mod server;
mod sessions;
mod storm;
mod switch;

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use support::{packages, project_root, target_dir};

use crate::common::results::{self, RESULTS};

/// The redirect target for clients that do not follow.
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
    /// Count the instructions of a login and of a statement, with and without the plugin
    Instructions(instructions::Arguments),
    /// Measure logins per second with and without the plugin, and redirects per second
    Logins(logins::Arguments),
    /// Measure the time from SET GLOBAL to the first client that is redirected
    Switch(switch::Arguments),
    /// Compare a redirect with a proxy: time to connect, and time per query
    Proxy(proxy::Arguments),
    /// Measure the memory of mariadbd before and after many redirects
    Memory(memory::Arguments),
    /// Let thousands of clients reconnect at once to a server that redirects
    Storm(storm::Arguments),
    /// Drain thousands of idle sessions: how long it takes, and what other sessions notice
    Sessions(sessions::Arguments),
    /// Compare the stand-in with nginx and with the simplest possible server
    Harness(harness::Arguments),
    /// Run the simplest possible server
    #[command(hide = true)]
    Floor(floor::Arguments),
}

/// The options of every measurement.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
struct Run {
    /// Run for a few seconds only: enough to see that it works
    #[arg(long)]
    short: bool,
    /// Write the results to docs/results/README.md, and the plots next to it
    #[arg(long)]
    keep: bool,
}

impl Run {
    /// How much to do: as given on the command line, or the default.
    fn length<T>(self, asked: Option<T>, usual: T, short: T) -> T {
        asked.unwrap_or(if self.short { short } else { usual })
    }

    /// Prints a report, and keeps it with `--keep`. The title of a plot also names its file.
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
    duration
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "expected a number of seconds greater than 0".to_owned())
}

pub(crate) fn command(arguments: Arguments) -> Result<()> {
    let benches = match arguments.bench {
        Some(Bench::Floor(arguments)) => return floor::run(&arguments),
        Some(bench) => vec![bench],
        None => all(arguments.run),
    };
    if cfg!(debug_assertions) {
        // Clients and floor must be as fast as possible.
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
        Bench::Sessions(sessions::Arguments { run, ..Default::default() }),
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
            Self::Sessions(arguments) => sessions::run(arguments),
            Self::Harness(arguments) => harness::run(arguments),
            Self::Floor(arguments) => floor::run(arguments),
        }
    }
}

/// Continues as the release build.
fn run_optimized() -> Result<()> {
    eprintln!("Building ...");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "--release", "--package=xtask", "--manifest-path"]);
    cargo.arg(project_root().join("Cargo.toml")).arg("--").args(std::env::args_os().skip(1));
    Err(cargo.exec()).context("cannot start cargo")
}
