//! Instructions per statement.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use support::wire::{self, Reply, packet};

use super::super::Run;
use super::super::client::{PASSWORD, USER};
use super::super::mariadbd::{Mariadbd, Plugin};
use super::super::report::table;
use super::callgrind::{self, Counter, Counts};
use super::{PAUSE, sample};
use crate::common::results::machine;

/// What the plugin does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    NotInstalled,
    Off,
    /// Sessions are drained, but not this one: its user is exempt.
    Draining,
}

/// Before the first drain. The repeated case shows the smallest difference that a run can resolve.
const BEFORE: &[(&str, State)] =
    &[("no plugin", State::NotInstalled), ("no plugin, again", State::NotInstalled), ("OFF", State::Off)];

/// After it: what it has installed in the server stays.
const AFTER: &[(&str, State)] = &[("OFF, after a drain", State::Off), ("draining others", State::Draining)];

const KINDS: [&str; 2] = ["text", "prepared"];

const MODELS: [&str; 2] = ["one-thread-per-connection", "pool-of-threads"];

/// After a drain: until the plugin wants no events any more.
const REST: Duration = Duration::from_secs(3);

const SQL: &[u8] = b"SELECT 1";
const COM_QUERY: u8 = 3;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;

pub(super) fn run(run: Run, times: u32, rounds: u32) -> Result<()> {
    let mut rows = Vec::new();
    for model in MODELS {
        let (mut server, counter) = callgrind::start(&[&format!("--thread-handling={model}")])?;
        let mut measure = |cases: &'static [(&str, State)]| -> Result<Vec<_>> {
            let mut counts = vec![(Vec::new(), Vec::new()); cases.len()];
            // The first round is a warm-up and does not count.
            for round in 0..=rounds {
                eprintln!("Statements, {model}, round {round} of {rounds} ...");
                for (&(name, state), (text, prepared)) in cases.iter().zip(&mut counts) {
                    let taken = count(&mut server, &counter, state, times).with_context(|| name)?;
                    if round > 0 {
                        text.push(taken[0]);
                        prepared.push(taken[1]);
                    }
                }
            }
            Ok(counts)
        };
        let mut counts = measure(BEFORE)?;
        counts.extend(measure(AFTER)?);
        let names = BEFORE.iter().chain(AFTER);
        for (n, kind) in KINDS.into_iter().enumerate() {
            let kind_of = |counts: &(Vec<Counts>, Vec<Counts>)| {
                sample(if n == 0 { &counts.0 } else { &counts.1 }, |counts| counts.all)
            };
            let base = kind_of(&counts[0]);
            for ((name, _), counts) in names.clone().zip(&counts) {
                let all = kind_of(counts);
                let [median, spread] = all.cells(0);
                let [more, more_spread] = all.minus(&base).cells(0);
                rows.push([model.to_owned(), kind.to_owned(), (*name).to_owned(), median, spread, more, more_spread]);
            }
        }
    }
    let header = ["threads", "statement", "plugin", "median", "lowest to highest", "more", "lowest to highest"];
    let report = format!(
        "{}\nInstructions of mariadbd per `SELECT 1`, {} ms apart, so that the session waits for each; {rounds} times {times} \
         statements each, in one process for each way to handle threads. What the keeper does while sessions are drained \
         is not counted. {}",
        table(header, rows),
        PAUSE.as_millis(),
        machine()
    );
    run.show("statements", &report, &[])
}

/// Counts statements of a new session, as text and prepared.
fn count(server: &mut Mariadbd, counter: &Counter, state: State, times: u32) -> Result<[Counts; 2]> {
    server.put(if state == State::NotInstalled { Plugin::None } else { Plugin::Off })?;
    if state == State::Draining {
        server.root.query(&format!(
            "SET GLOBAL instant_failover_exempt_users = '{USER}', instant_failover_mode = ON, instant_failover_drain = ON"
        ))?;
    }
    let keeper = counter.threads_of_plugin()?;
    ensure!(keeper.len() == usize::from(state == State::Draining), "threads of the plugin: {keeper:?}");
    let mut session = Session::log_in(server.server.address())?;
    let query = [&[COM_QUERY], SQL].concat();
    let execute = session.prepare()?;
    let mut taken = [Counts::default(); 2];
    for (payload, taken) in [query, execute].iter().zip(&mut taken) {
        (0..3).try_for_each(|_| session.execute(payload))?;
        counter.reset()?;
        (0..times).try_for_each(|_| session.execute(payload))?;
        *taken = counter.take_without(&keeper)?.per(times);
    }
    drop(session);
    if state == State::Draining {
        server.root.query("SET GLOBAL instant_failover_mode = OFF, instant_failover_exempt_users = ''")?;
        sleep(REST);
    }
    Ok(taken)
}

struct Session(wire::Client);

impl Session {
    fn log_in(address: SocketAddr) -> Result<Self> {
        let login = wire::Client::connect(address)?.log_in_by_password(USER, PASSWORD)?;
        ensure!(login.reply == Reply::Ok, "not accepted: {:?}", login.reply);
        Ok(Self(login.client))
    }

    /// Prepares the statement, and returns the command that executes it.
    fn prepare(&mut self) -> Result<Vec<u8>> {
        self.0.write_raw(&packet(0, &[&[COM_STMT_PREPARE], SQL].concat()))?;
        let answer = self.0.read_any()?;
        let id = answer.get(1..5).filter(|_| answer[0] == 0).context("not prepared")?;
        // No parameter, and one column.
        while !is_end(&self.0.read_any()?) {}
        let no_cursor_once = [0, 1, 0, 0, 0];
        Ok([&[COM_STMT_EXECUTE], id, &no_cursor_once].concat())
    }

    /// Executes a command that returns rows, and lets the session wait for a while.
    fn execute(&mut self, payload: &[u8]) -> Result<()> {
        self.0.write_raw(&packet(0, payload))?;
        let columns = self.0.read_any()?;
        ensure!(columns == [1], "not one column but \"{}\"", columns.escape_ascii());
        // The columns, and the rows.
        for _ in 0..2 {
            while !is_end(&self.0.read_any()?) {}
        }
        sleep(PAUSE);
        Ok(())
    }
}

fn is_end(packet: &[u8]) -> bool {
    packet.first() == Some(&0xfe) && packet.len() < 9
}
