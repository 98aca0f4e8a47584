//! How many instructions logins and statements cost mariadbd, and connections cost a client, counted by callgrind.
//!
//! One process under valgrind goes through the states of the plugin, so that all states share what depends on the
//! process: addresses, caches, the allocator. Only user space instructions of the server are counted.

mod callgrind;
mod connections;
mod logins;
mod statements;

use std::time::Duration;

use anyhow::Result;

use super::Run;
use super::report::Sample;
use callgrind::Counts;

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) run: Run,
    /// Number of logins, and of statements of each kind, to count together [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) times: Option<u32>,
    /// Number of times to repeat that in each state [default: 9]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rounds: Option<u32>,
}

/// Long enough for a session to wait for its next statement, and for its thread to return to the thread cache before the next
/// client needs it.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let times = arguments.run.length(arguments.times, 100, 10);
    let rounds = arguments.run.length(arguments.rounds, 9, 1);
    connections::run(arguments.run, times, rounds)?;
    logins::run(arguments.run, times, rounds)?;
    statements::run(arguments.run, times, rounds)
}

fn sample(counts: &[Counts], of: fn(&Counts) -> f64) -> Sample {
    counts.iter().map(of).collect()
}
