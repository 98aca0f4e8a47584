//! How soon SET GLOBAL takes effect, while clients log in as fast as they can.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use support::build::Flavour;
use support::wire::{self, Reply};

use super::Run;
use super::client::{PASSWORD, USER};
use super::mariadbd::{Mariadbd, Plugin};
use super::report::{Sample, table};
use crate::common::results::machine;

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) run: Run,
    /// Number of times to set the mode to ON [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) switches: Option<u32>,
    /// Number of concurrent clients [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) clients: Option<u32>,
}

/// How long each mode lasts: hundreds of logins.
const PHASE: Duration = Duration::from_millis(50);

/// One login.
struct Attempt {
    began: Instant,
    ended: Instant,
    redirected: bool,
}

/// One SET GLOBAL that left OFF, and when the change back to OFF began.
struct Switch {
    sent: Instant,
    returned: Instant,
    over: Instant,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let switches = arguments.run.length(arguments.switches, 50, 5);
    let clients = arguments.run.length(arguments.clients, 8, 8);
    let mut server = Mariadbd::start(&Flavour::Release.build()?, &[])?;
    server.put(Plugin::Off)?;
    let address = server.server.address();
    let stop = AtomicBool::new(false);
    let (switches, attempts) = thread::scope(|scope| -> Result<_> {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(|| log_in_until(address, &stop))).collect();
        let switches: Result<Vec<Switch>> = (0..switches).map(|_| switch(&mut server)).collect();
        stop.store(true, Ordering::Relaxed);
        let attempts =
            threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a client panicked")).flatten());
        let attempts: Result<Vec<Vec<Attempt>>> = attempts.collect();
        Ok((switches?, attempts?.into_iter().flatten().collect::<Vec<_>>()))
    })?;
    arguments.run.show("switch", &report(&switches, &attempts, clients), &[])
}

fn switch(server: &mut Mariadbd) -> Result<Switch> {
    sleep(PHASE);
    let sent = Instant::now();
    server.put(Plugin::On)?;
    let returned = Instant::now();
    sleep(PHASE);
    let over = Instant::now();
    server.put(Plugin::Off)?;
    Ok(Switch { sent, returned, over })
}

fn log_in_until(server: SocketAddr, stop: &AtomicBool) -> Result<Vec<Attempt>> {
    let mut attempts = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let login = wire::Client::connect(server)?.log_in_by_password(USER, PASSWORD)?;
        let ended = Instant::now();
        let redirected = match login.reply {
            Reply::Ok => false,
            Reply::Err(error) if error.code == 4196 => true,
            other => bail!("{other:?}"),
        };
        attempts.push(Attempt { began, ended, redirected });
    }
    Ok(attempts)
}

fn report(switches: &[Switch], attempts: &[Attempt], clients: u32) -> String {
    // Those that ended later may have seen OFF again.
    let during = |switch: &Switch| {
        let (from, to) = (switch.sent, switch.over);
        attempts.iter().filter(move |attempt| attempt.ended > from && attempt.ended < to)
    };
    let ended = |switch, redirected| during(switch).filter(move |a| a.redirected == redirected).map(|a| a.ended);
    let mut rows = Vec::new();
    let mut row = |what: &str, micros: Sample| {
        if micros.len() > 0 {
            let [median, spread] = micros.cells(0);
            rows.push([what.to_owned(), micros.len().to_string(), median, spread]);
        }
    };
    row("SET GLOBAL, sent to returned", switches.iter().map(|s| micros(s.sent, s.returned)).collect());
    let first = |from: fn(&Switch) -> Instant| -> Sample {
        switches.iter().filter_map(|s| Some(micros(from(s), ended(s, true).min()?))).collect()
    };
    row("sent to the first client that knows its redirect", first(|switch| switch.sent));
    row("returned to the first client that knows its redirect", first(|switch| switch.returned));
    let last = switches.iter().filter_map(|s| Some(micros(s.returned, ended(s, false).max()?)));
    row("returned to the last client that knows it was let in", last.collect());
    let late = switches.iter().flat_map(|switch| during(switch).filter(|a| !a.redirected && a.began > switch.returned));
    let late = late.count();
    let redirected: usize = switches.iter().map(|switch| ended(switch, true).count()).sum();
    let table = table(["time, in microseconds", "switches", "median", "lowest to highest"], rows);
    format!(
        "{table}\n{} switches, {clients} clients that log in as fast as they can, {} logins, {redirected} redirected; \
         of those that began after SET GLOBAL had returned, {late} were let in. A time below 0 lies before the return.\n\n{}",
        switches.len(),
        attempts.len(),
        machine()
    )
}

fn micros(from: Instant, to: Instant) -> f64 {
    let later = to.saturating_duration_since(from).as_secs_f64();
    (later - from.saturating_duration_since(to).as_secs_f64()) * 1e6
}
