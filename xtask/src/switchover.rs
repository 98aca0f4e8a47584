//! `cargo xtask switchover`: a primary and its replica swap roles while an application writes.
//!
//! The DBA runs the command `instant-failover`, or the statements of `docs/operations.md` by hand; each is printed with its time.
//! Nothing may be committed on the old primary after the position that the new one waits for. In the end every acknowledged write
//! must exist exactly once, also those of procedures and events with root as their definer.

mod application;
pub(crate) mod command;
mod mishaps;
pub(crate) mod pair;

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use support::build::{self, Flavour};
use support::{packages, project_root};

use crate::Outcome;
use crate::common::plot::{Axis, Line, count, lines_with_marks};
use crate::common::results::{self, RESULTS, machine};
use crate::common::tools::{Tool, Tools};
use crate::recipes::{self, Document};

use application::{Application, Crowd, Journal, in_words};
use command::Machine;
use pair::{Pair, name, number};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Switch by the command only, not by hand
    #[arg(long, conflicts_with = "keep")]
    pub(crate) short: bool,
    /// Write the result to docs/results/README.md and docs/switchover.svg
    #[arg(long)]
    pub(crate) keep: bool,
}

/// How the DBA switches over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// By `instant-failover switchover`.
    Command,
    /// By `instant-failover prepare`, and then `switchover`.
    Prepared,
    /// By hand, as in `docs/operations.md`, with a pause between two steps.
    ByHand(Duration),
    /// By hand without hold and drain, as before there were any: sessions are killed in the middle of what they do.
    Kill,
}

const ORDERS: &[Order] = &[
    Order::Command,
    Order::Prepared,
    Order::ByHand(Duration::ZERO),
    Order::ByHand(Duration::from_millis(300)),
    Order::Kill,
];
const SHORT: &[Order] = &[Order::Command];
// The mishaps need db2 as the primary.
const _: () = assert!(ORDERS.len() % 2 == 1 && SHORT.len() % 2 == 1);

impl Order {
    fn name(self) -> String {
        match self {
            Self::Command => "the command".to_owned(),
            Self::Prepared => "the command, after `prepare`".to_owned(),
            Self::ByHand(Duration::ZERO) => "by hand, without a pause".to_owned(),
            Self::ByHand(thinks) => format!("by hand, {thinks:?} between the steps"),
            Self::Kill => "by hand, without hold and drain".to_owned(),
        }
    }
}

/// The section of the runbook with the steps by hand.
const SECTION: &str = "Switchover by hand";

/// A part of a switchover, by its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Hold,
    Drain,
    Fence,
    CatchUp,
    Promote,
    Redirect,
    Kill,
}

impl Part {
    const ALL: [Self; 7] =
        [Self::Hold, Self::Drain, Self::Fence, Self::CatchUp, Self::Promote, Self::Redirect, Self::Kill];

    /// What happened by its end, for the plot.
    fn mark(self) -> Option<&'static str> {
        match self {
            Self::Hold => Some("hold"),
            Self::Drain => Some("drained"),
            Self::Fence => Some("fenced"),
            Self::CatchUp => None,
            Self::Promote => Some("promoted"),
            Self::Redirect => Some("redirected"),
            Self::Kill => Some("rest killed"),
        }
    }

    /// What takes the time until its end, for the table.
    fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Drain => "drain",
            Self::Fence => "fence",
            Self::CatchUp => "wait for the replica",
            Self::Promote => "stop replication, promote",
            Self::Redirect => "redirect",
            Self::Kill => "kill what is left",
        }
    }

    /// The step of the command, by a part of its text.
    fn of_command(self) -> &'static str {
        match self {
            Self::Hold => "hold new clients",
            Self::Drain => "wait until the sessions are drained",
            Self::Fence => "fence (events off",
            Self::CatchUp => "wait until it has everything",
            Self::Promote => "check the fence",
            Self::Redirect => "redirect clients",
            Self::Kill => "kill the sessions",
        }
    }
}

/// A finished switchover.
struct Switch {
    order: Order,
    from: usize,
    /// From the first step that clients can feel to the last, and a second more.
    span: Range<f64>,
    /// When that first step began.
    began: f64,
    /// When each part ended.
    parts: Vec<(Part, f64)>,
}

impl Switch {
    fn end(&self, part: Part) -> Option<f64> {
        self.parts.iter().find(|(other, _)| *other == part).map(|(_, at)| *at)
    }

    /// How long a part took, in seconds.
    fn took(&self, part: Part) -> Option<f64> {
        let end = self.end(part)?;
        let before = self.parts.iter().map(|(_, at)| *at).take_while(|at| *at < end).last();
        Some(end - before.unwrap_or(self.began))
    }
}

/// How long the application needs to settle.
const SETTLE: Duration = Duration::from_millis(1500);
const PLOT: &str = "docs/switchover.svg";

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    println!("{}", run(arguments)?);
    Ok(())
}

/// Moves the primary in every order, or by the command only, and tests the mishaps.
///
/// # Errors
/// If a write is lost or duplicated, or anything else differs from `docs/operations.md`.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    packages::install(&[packages::BUILD, packages::SERVER, &Tool::Python.packages()])?;
    let (library, program) = (Flavour::Release.build()?, build::command()?);
    Tools::default().prepare(Tool::Python)?;
    let orders = if arguments.short { SHORT } else { ORDERS };

    let runbook = Document::read(recipes::RUNBOOK)?;
    let mut pair = Pair::start(&library)?;
    let machine_of_dba = Machine::new(&program, &pair, "dba")?;
    println!("\n== Switchover, {} ==", machine());
    let mut running = Application::start(pair.application()?, Crowd::default())?;
    let mut switches = Vec::new();
    let (mut from, mut to) = (0, 1);
    for &order in orders {
        running.wait_for_writes(number(from), 250)?;
        switches.push(switch(&mut pair, &runbook, &machine_of_dba, order, from, to)?);
        running.wait_for_writes(number(to), 100)?;
        sleep(SETTLE);
        (from, to) = (to, from);
    }
    let journal = running.end()?;
    pair.wait_for_replica(from, to)?;
    let (rows, sum, other) = (pair.orders(from)?, pair.checksum(from)?, pair.checksum(to)?);
    journal.check(&rows)?;
    ensure!(journal.called() > 0, "no procedure was called");
    pair.check_totals(from)?;
    ensure!(sum == other, "the tables differ: {sum:?} and {other:?}");
    ensure!(journal.reads() > 0, "the application made no reads");
    let report = report(&journal, &switches);
    let plot = plot(&journal, &switches[0]);
    println!("{} writes were acknowledged; all exist exactly once on both servers.", journal.acknowledged().len());

    pair.no_more_events(from)?;
    pair.wait_for_replica(from, to)?;
    let mut outcome = Outcome { passed: switches.len(), ..Outcome::default() };
    outcome.passed += mishaps::all(&mut pair, &program)?;
    println!("\n{report}\n");
    if arguments.keep {
        fs::write(project_root().join(PLOT), plot).with_context(|| PLOT)?;
        results::keep(RESULTS, "switchover", &report)?;
    }
    Ok(outcome)
}

/// Users with sessions that are idle at the time, and must be gone afterwards: an exempt administrator, a user with an odd
/// name, and one with a host.
const IDLE: [&str; 3] = ["dba", "\"o'brien\" app", "jo"];

/// Makes `to` the primary instead of `from`.
fn switch(
    pair: &mut Pair,
    runbook: &Document,
    machine: &Machine,
    order: Order,
    from: usize,
    to: usize,
) -> Result<Switch> {
    println!("\n-- {} to {}: {}", name(from), name(to), order.name());
    pair.takes_over(from, to);
    for server in [from, to] {
        pair.sql(server, "SET GLOBAL instant_failover_exempt_users = 'repl,monitor,dba'")?;
    }
    pair.replica_runs(to)?;
    nothing_takes_long(pair, from)?;
    let idle = IDLE.iter().map(|user| pair.session(from, user)).collect::<Result<Vec<_>>>()?;

    let (began, parts) = match order {
        Order::Command | Order::Prepared => by_command(pair, machine, order, from, to)?,
        Order::ByHand(thinks) => by_hand(pair, runbook, true, thinks)?,
        Order::Kill => by_hand(pair, runbook, false, Duration::ZERO)?,
    };
    let last = parts.last().map_or(began, |(_, at)| *at);
    for (user, mut session) in IDLE.iter().zip(idle) {
        ensure!(session.query("DO 1").is_err(), "the session of {user} is still open on {}", name(from));
    }
    pair.wait_for_replica(to, from)?;
    pair.nothing_is_left_behind(from, to)?;
    Ok(Switch { order, from, span: began..last + 1.0, began, parts })
}

/// When it began, and when each part ended.
type Times = (f64, Vec<(Part, f64)>);

fn by_command(pair: &mut Pair, machine: &Machine, order: Order, from: usize, to: usize) -> Result<Times> {
    let names = [name(from), name(to)];
    let patient = ["--max-lag", "10", "--json"];
    if order == Order::Prepared {
        machine.run(pair, &[&["prepare"], &names[..], &patient[..]].concat())?.expect(0, "done")?;
    }
    let ended = machine.run(pair, &[&["switchover"], &names[..], &["--yes"], &patient[..]].concat())?;
    // It ends every session on the old primary, including this one.
    pair.log_in(from)?;
    ended.expect(0, "is the primary, and")?;
    // If the replica has everything already, there is nothing to wait for.
    let parts = Part::ALL.into_iter().filter_map(|part| Some((part, ended.done(part.of_command())?)));
    let began = ended.began(Part::Hold.of_command()).context("it did not hold clients")?;
    Ok((began, parts.collect()))
}

fn by_hand(pair: &mut Pair, runbook: &Document, holds: bool, thinks: Duration) -> Result<Times> {
    let [from, to] = pair.roles();
    pair.sql(from, &format!("SET GLOBAL instant_failover_target = '{}'", pair.address(to)))?;
    let began = pair.now();
    let mut parts = Vec::new();
    if holds {
        pair.step(runbook, 0)?;
        parts.push((Part::Hold, pair.now()));
        pair.drained(from)?;
        parts.push((Part::Drain, pair.now()));
        sleep(thinks);
    }
    let position = pair.fence(runbook)?;
    parts.push((Part::Fence, pair.now()));
    for (step, part) in [(2, Part::CatchUp), (3, Part::Promote), (4, Part::Redirect), (5, Part::Kill)] {
        sleep(thinks);
        pair.step(runbook, step)?;
        parts.push((part, pair.now()));
    }
    pair.step(runbook, 6)?;
    let now = pair.value(from, "SELECT @@gtid_binlog_pos")?;
    ensure!(now == position, "{} wrote despite the fence: {position} became {now}", name(from));
    pair.step(runbook, 7)?;
    Ok((began, parts))
}

/// A long transaction would be killed, and `read_only` would wait for a long statement.
fn nothing_takes_long(pair: &mut Pair, server: usize) -> Result<()> {
    const TRANSACTIONS: &str = "SELECT trx_mysql_thread_id, trx_started, trx_rows_modified FROM \
                                information_schema.INNODB_TRX WHERE trx_started < NOW() - INTERVAL 5 SECOND";
    const STATEMENTS: &str = "SELECT ID, USER, TIME, INFO FROM information_schema.PROCESSLIST WHERE COMMAND = 'Query' AND \
                              TIME > 5";
    for what in [TRANSACTIONS, STATEMENTS] {
        let rows = pair.sql(server, what)?;
        ensure!(rows.is_empty(), "unexpected long transactions or statements: {rows:?}");
    }
    Ok(())
}

fn report(journal: &Journal, switches: &[Switch]) -> String {
    let mut report = "| |".to_owned();
    let mut row = |title: &str, cell: &dyn Fn(&Switch) -> String| {
        let _ = write!(report, "\n| {title} |");
        for switch in switches {
            let _ = write!(report, " {} |", cell(switch));
        }
    };
    let milliseconds = |time: Option<f64>| time.map_or_else(|| "–".to_owned(), |time| format!("{:.0}", time * 1e3));
    for part in Part::ALL {
        row(&format!("{}, ms", part.name()), &|switch| milliseconds(switch.took(part)));
    }
    row("**from the first to the redirect, ms**", &|switch| {
        milliseconds(switch.end(Part::Redirect).map(|at| at - switch.began))
    });
    row("**no client can write, from the fence to the redirect, ms**", &|switch| {
        let (end, fence) = (switch.end(Part::Redirect), switch.end(Part::Fence));
        milliseconds(end.zip(fence).map(|(end, fence)| end - fence + switch.took(Part::Fence).unwrap_or_default()))
    });
    row("**longest pause of a writer, ms**", &|switch| milliseconds(journal.longest_pause(&switch.span)));
    row("errors that the application saw", &|switch| in_words(&journal.errors(&switch.span)));
    let mut header = String::from("| |");
    for switch in switches {
        let _ = write!(header, " {} |", switch.order.name());
    }
    header += "\n|---|";
    header += &"--:|".repeat(switches.len());
    report.replace_range(..3, &header);
    let Crowd { writers, slow, callers, readers, .. } = Crowd::default();
    let _ = write!(
        report,
        "\n\n{writers} writers, {slow} more that hold each transaction open for half a second, {callers} callers of a procedure \
         whose definer is root, and {readers} readers, on mysqlclient with the client plugin. Their pool tests a connection before it \
         lends it, throws it away on any error or after half a second, and tries again after 20 ms. Five events write each second. \
         {} writes were acknowledged, {} reads answered. No acknowledged write was lost, none was doubled, and the tables of both \
         servers were the same. {}",
        journal.acknowledged().len(),
        journal.reads(),
        machine()
    );
    report
}

/// Writes per second on either server around a switch.
fn plot(journal: &Journal, switch: &Switch) -> String {
    const BEFORE: f64 = 0.7;
    const WIDTH: f64 = 0.05;
    const MOST: usize = 200;
    let start = switch.began - BEFORE;
    let buckets = (0..MOST).find(|&n| start + WIDTH * count(n) > switch.span.end).unwrap_or(MOST);
    let line = |server: usize| {
        let mut written = vec![0; buckets];
        for (at, _) in journal.written_on(number(server)) {
            let place = (0..buckets).find(|&n| (start + WIDTH * count(n)..start + WIDTH * count(n + 1)).contains(&at));
            if let Some(place) = place {
                written[place] += 1;
            }
        }
        let points = (0..buckets).map(|n| (WIDTH * (count(n) + 0.5), count(written[n]) / WIDTH)).collect();
        Line { name: format!("acknowledged by {}", name(server)), points }
    };
    let lines = [line(switch.from), line(1 - switch.from)];
    let highest = lines.iter().flat_map(|line| &line.points).map(|point| point.1).fold(0.0, f64::max);
    let marks = switch.parts.iter().filter_map(|&(part, at)| Some((at - start, part.mark()?.to_owned())));
    let marks: Vec<_> = marks.collect();
    lines_with_marks(
        "A switchover by the command, while clients write",
        &Axis::up_to("seconds", WIDTH * count(buckets)),
        &Axis::up_to("writes per second", 1.4 * highest),
        &lines,
        &marks,
    )
}
