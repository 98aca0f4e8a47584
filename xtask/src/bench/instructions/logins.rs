//! Instructions per login.

use std::thread::sleep;

use anyhow::{Context, Result};

use super::super::client::{Client, Expected};
use super::super::mariadbd::Plugin;
use super::super::report::table;
use super::super::{Run, TARGET};
use super::callgrind::{self, Counts};
use super::{PAUSE, sample};
use crate::common::plot::{self, Bar};
use crate::common::results::machine;

/// What is counted. The repeated case shows the smallest difference that a run can resolve.
const CONTENDERS: &[(&str, Plugin, Expected)] = &[
    ("login, no plugin", Plugin::None, Expected::Session),
    ("login, no plugin, again", Plugin::None, Expected::Session),
    ("login, OFF", Plugin::Off, Expected::Session),
    ("redirect", Plugin::On, Expected::Redirect),
    ("wrong password, no plugin", Plugin::None, Expected::Refusal),
];

pub(super) fn run(run: Run, logins: u32, rounds: u32) -> Result<()> {
    let (mut server, counter) = callgrind::start(&[])?;
    let mut counts: Vec<Vec<Counts>> = vec![Vec::new(); CONTENDERS.len()];
    // The first round is a warm-up and does not count.
    for round in 0..=rounds {
        eprintln!("Logins, round {round} of {rounds} ...");
        for (&(name, plugin, expected), counts) in CONTENDERS.iter().zip(&mut counts) {
            server.put(plugin)?;
            let log_in = || -> Result<()> {
                Client::MariaDb(expected, None).attempt(server.server.address()).with_context(|| name)?;
                sleep(PAUSE);
                Ok(())
            };
            log_in()?;
            counter.reset()?;
            (0..logins).try_for_each(|_| log_in())?;
            let taken = counter.take()?.per(logins);
            if round > 0 {
                counts.push(taken);
            }
        }
    }
    let report = report(&counts, logins);
    run.show("instructions", &report, &[("Instructions per login", plot(&counts))])
}

fn report(counts: &[Vec<Counts>], logins: u32) -> String {
    let base = sample(&counts[0], |counts| counts.all);
    let rows = CONTENDERS.iter().zip(counts).map(|(&(name, ..), counts)| {
        let all = sample(counts, |counts| counts.all);
        let [median, spread] = all.cells(0);
        let [more, more_spread] = all.minus(&base).cells(0);
        let plugin = sample(counts, |counts| counts.plugin).median();
        let called = sample(counts, |counts| counts.called).median();
        [name.to_owned(), median, spread, more, more_spread, format!("{plugin:.0}"), format!("{called:.0}")]
    });
    let header = ["", "median", "lowest to highest", "more", "lowest to highest", "in the plugin", "in what it calls"];
    let table = table(header, rows);
    let rounds = counts[0].len();
    format!(
        "{table}\nInstructions of mariadbd per login; {rounds} times {logins} logins each. The redirect goes to {TARGET}; the \
         server copies an error message character by character, at some 90 instructions each. A refusal writes no line in \
         the error log here (`log_warnings` is 1). {}",
        machine()
    )
}

fn plot(counts: &[Vec<Counts>]) -> String {
    let bars = CONTENDERS.iter().zip(counts).map(|(&(name, ..), counts)| {
        let all = sample(counts, |counts| counts.all);
        Bar { name: name.to_owned(), value: all.median(), spread: (all.low(), all.high()) }
    });
    plot::bars("Instructions of mariadbd per login", "instructions in user space", &bars.collect::<Vec<_>>())
}
