//! `cargo xtask switchover`: a primary and its replica swap roles while an application writes.
//!
//! The statements are read from `docs/operations.md`; each is printed with its time. Nothing may be committed on the old
//! primary after the position that the new one waits for. In the end every acknowledged write must exist exactly once, also
//! those of procedures and events with root as their definer.

mod application;
mod mishaps;
pub(crate) mod pair;

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use support::build::Flavour;
use support::{output, packages, project_root};

use crate::Outcome;
use crate::common::plot::{Axis, Line, count, lines_with_marks};
use crate::common::results::{self, RESULTS, machine};
use crate::common::tools::{Tool, Tools};
use crate::recipes::{self, Document};

use application::{Application, Crowd, Journal, in_words};
use pair::{Pair, name, number};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Switch by the script only, not by hand
    #[arg(long, conflicts_with = "keep")]
    pub(crate) short: bool,
    /// Write the result to docs/results/README.md and docs/switchover.svg
    #[arg(long)]
    pub(crate) keep: bool,
}

/// How the DBA switches over. New connections are redirected only once the new primary is writable: before that, a
/// procedure whose definer is root would write to it while it is a replica, and replication would stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// As in `docs/operations.md`: the fence, promote, and only then mode ON.
    Runbook,
    /// By `examples/switchover.sh`.
    Script,
}

/// The order of the steps, and how long the DBA waits between two steps.
type Plan = (Order, Duration);

const AT_ONCE: Duration = Duration::ZERO;
const BY_HAND: Duration = Duration::from_millis(300);
/// An odd number, so that db2 is the primary at the end.
const PLANS: &[Plan] = &[(Order::Runbook, AT_ONCE), (Order::Runbook, BY_HAND), (Order::Script, AT_ONCE)];
const SHORT: &[Plan] = &[(Order::Script, AT_ONCE)];

impl Order {
    fn name(self) -> &'static str {
        match self {
            Self::Runbook => "the fence, promote, `ON`, `KILL`",
            Self::Script => "`examples/switchover.sh`",
        }
    }
}

/// The section of the runbook with the steps.
const SECTION: &str = "Switchover";

/// A finished switchover: its time and its steps.
struct Switch {
    plan: Plan,
    from: usize,
    span: Range<f64>,
    marks: Vec<(f64, &'static str)>,
}

/// How long the application needs to settle.
const SETTLE: Duration = Duration::from_millis(1500);
const PLOT: &str = "docs/switchover.svg";

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    println!("{}", run(arguments)?);
    Ok(())
}

/// Moves the primary by hand and by the script, or by the script only, and tests the mishaps.
///
/// # Errors
/// If a write is lost or duplicated, or anything else differs from `docs/operations.md`.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    packages::install(&[packages::BUILD, packages::SERVER, &Tool::Python.packages()])?;
    let library = Flavour::Release.build()?;
    Tools::default().prepare(Tool::Python)?;
    let plans = if arguments.short { SHORT } else { PLANS };

    let runbook = Document::read(recipes::RUNBOOK)?;
    let mut pair = Pair::start(&library)?;
    println!("\n== Switchover, {} ==", machine());
    let mut running = Application::start(pair.application()?, Crowd::default())?;
    let mut switches = Vec::new();
    let (mut from, mut to) = (0, 1);
    for &plan in plans {
        running.wait_for_writes(number(from), 250)?;
        switches.push(switch(&mut pair, &runbook, plan, from, to)?);
        running.wait_for_writes(number(to), 100)?;
        pair.becomes_replica(&runbook)?;
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
    ensure!(from == 1, "the mishaps need db2 as the primary");
    outcome.passed += mishaps::all(&mut pair)?;
    println!("\n{report}\n");
    if arguments.keep {
        fs::write(project_root().join(PLOT), plot).with_context(|| PLOT)?;
        results::keep(RESULTS, "switchover", &report)?;
    }
    Ok(outcome)
}

/// Makes `to` the primary instead of `from`.
fn switch(pair: &mut Pair, runbook: &Document, plan: Plan, from: usize, to: usize) -> Result<Switch> {
    let (order, thinks) = plan;
    println!("\n-- {} to {}: {}", name(from), name(to), order.name());
    pair.takes_over(from, to);
    for server in [from, to] {
        pair.sql(server, "SET GLOBAL instant_failover_exempt_users = 'repl,monitor,dba'")?;
    }
    pair.replica_runs(to)?;
    nothing_takes_long(pair, from)?;

    let start = pair.now();
    let mut marks = Vec::new();
    if order == Order::Script {
        println!("{:16}{}", "", output(&mut pair.script(from, to)?)?.trim());
        marks.push((pair.now(), "switchover.sh"));
        // The script ends every session on the old primary, including this one.
        pair.log_in(from)?;
    } else {
        pair.sql(from, &format!("SET GLOBAL instant_failover_target = '{}'", pair.address(to)))?;
        let position = pair.fence(runbook)?;
        marks.push((pair.now(), "locked"));
        for (step, mark) in [(2, None), (3, Some("promoted")), (4, Some("ON")), (5, Some("killed"))] {
            sleep(thinks);
            pair.step(runbook, step)?;
            marks.extend(mark.map(|mark| (pair.now(), mark)));
        }
        pair.step(runbook, 6)?;
        let now = pair.value(from, "SELECT @@gtid_binlog_pos")?;
        ensure!(now == position, "{} wrote despite the fence: {position} became {now}", name(from));
    }
    let span = start..pair.now() + 1.0;
    pair.nothing_is_left_behind(from, to)?;
    Ok(Switch { plan, from, span, marks })
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
    let mut report =
        "| order of steps | from the first step to the last, ms | longest pause of a writer, ms | errors that \
                      the application saw |\n|---|--:|--:|---|\n"
            .to_owned();
    for Switch { plan: (order, thinks), span, marks, .. } in switches {
        let last = marks.last().map_or(span.start, |(at, _)| *at);
        let pause = journal.longest_pause(span).unwrap_or_default();
        let errors = in_words(&journal.errors(span));
        let (steps, pause) = ((last - span.start) * 1e3, pause * 1e3);
        let by_hand = if thinks.is_zero() { String::new() } else { format!(", {thinks:?} between the steps") };
        let _ = writeln!(report, "| {}{by_hand} | {steps:.0} | {pause:.0} | {errors} |", order.name());
    }
    let Crowd { writers, slow, callers, readers, .. } = Crowd::default();
    let _ = write!(
        report,
        "\n{writers} writers, {slow} more that hold each transaction open for half a second, {callers} callers of a procedure whose \
         definer is root, and {readers} readers, on mysqlclient with the client plugin, with a pool that throws a connection away on any error or after half a second, and \
         tries again after 20 ms; and five events that write each second. {} writes were acknowledged, {} reads answered. No acknowledged write was lost, none was doubled, \
         and the tables of both servers were the same. {}",
        journal.acknowledged().len(),
        journal.reads(),
        machine()
    );
    report
}

/// Writes per second on either server around a switch.
fn plot(journal: &Journal, switch: &Switch) -> String {
    const BEFORE: f64 = 1.0;
    const WIDTH: f64 = 0.05;
    const BUCKETS: usize = 50;
    let start = switch.span.start - BEFORE;
    let line = |server: usize| {
        let mut buckets = [0; BUCKETS];
        for (at, _) in journal.written_on(number(server)) {
            let place = (0..BUCKETS).find(|&n| (start + WIDTH * count(n)..start + WIDTH * count(n + 1)).contains(&at));
            if let Some(place) = place {
                buckets[place] += 1;
            }
        }
        let points = (0..BUCKETS).map(|n| (WIDTH * (count(n) + 0.5), count(buckets[n]) / WIDTH)).collect();
        Line { name: format!("acknowledged by {}", name(server)), points }
    };
    let lines = [line(switch.from), line(1 - switch.from)];
    let highest = lines.iter().flat_map(|line| &line.points).map(|point| point.1).fold(0.0, f64::max);
    let marks: Vec<_> = switch.marks.iter().map(|&(at, words)| (at - start, words.to_owned())).collect();
    lines_with_marks(
        "A switchover while clients write",
        &Axis::up_to("seconds", WIDTH * count(BUCKETS)),
        &Axis::up_to("writes per second", 1.4 * highest),
        &lines,
        &marks,
    )
}
