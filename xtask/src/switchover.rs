//! `cargo xtask switchover`: a primary and its replica change places while an application writes.
//!
//! Every statement that a person would type is printed with its time. In the end every write that the application was told
//! of must be there, once. `docs/operations.md` is written from what is seen here.

mod application;
mod mishaps;
mod pair;

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use xtask::build::Flavour;
use xtask::{output, packages, project_root};

use crate::Outcome;
use crate::bench::plot::{Axis, Line, count, lines_with_marks};
use crate::clients::tools::{Tool, Tools};
use crate::results::{self, RESULTS, machine};

use application::{Application, Crowd, Journal, in_words};
use pair::{Pair, name, number};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// By the script alone, instead of every order of steps
    #[arg(long, conflicts_with = "keep")]
    pub(crate) short: bool,
    /// Keep the result in benches/RESULTS.md and docs/switchover.svg
    #[arg(long)]
    pub(crate) keep: bool,
}

/// In which order a DBA goes about it. What is asked is when new connections are sent away: before the new primary may be
/// written to, or after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// The old primary becomes read only, the new one is promoted, and only then mode ON.
    PromoteFirst,
    /// Mode ON a second before.
    RedirectFirst,
    /// As the first, with FLUSH TABLES WITH READ LOCK: writes wait instead of being refused.
    Lock,
    /// As the first, by `examples/switchover.sh`.
    Script,
}

/// What is done, and how long the DBA thinks between two steps.
type Plan = (Order, Duration);

const AT_ONCE: Duration = Duration::ZERO;
const BY_HAND: Duration = Duration::from_millis(300);
/// An odd number of them: in the end db2 is the primary.
const PLANS: &[Plan] = &[
    (Order::PromoteFirst, AT_ONCE),
    (Order::Lock, AT_ONCE),
    (Order::RedirectFirst, AT_ONCE),
    (Order::Lock, BY_HAND),
    (Order::PromoteFirst, BY_HAND),
    (Order::RedirectFirst, BY_HAND),
    (Order::Script, AT_ONCE),
];
const SHORT: &[Plan] = &[(Order::Script, AT_ONCE)];

impl Order {
    fn name(self) -> &'static str {
        match self {
            Self::PromoteFirst => "`read_only`, promote, `ON`, `KILL`",
            Self::RedirectFirst => "`ON`, a second later `read_only`, promote, `KILL`",
            Self::Lock => "`FLUSH TABLES WITH READ LOCK`, promote, `ON`, `KILL`",
            Self::Script => "`examples/switchover.sh`",
        }
    }
}

/// A switch that was made: when, and its steps.
struct Switch {
    plan: Plan,
    from: usize,
    span: Range<f64>,
    marks: Vec<(f64, &'static str)>,
}

/// An application needs as long to come to rest.
const SETTLE: Duration = Duration::from_millis(1500);
const PLOT: &str = "docs/switchover.svg";

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    println!("{}", run(arguments)?);
    Ok(())
}

/// Moves the primary, in every order of steps or in one, and tries the mishaps.
///
/// # Errors
/// If a write is lost or doubled, or anything else is not as `docs/operations.md` says.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    packages::install(&[packages::BUILD, packages::SERVER, &Tool::Python.packages()])?;
    let library = Flavour::Release.build()?;
    Tools::default().prepare(Tool::Python)?;
    let plans = if arguments.short { SHORT } else { PLANS };

    let mut pair = Pair::start(&library)?;
    println!("\n== Switchover, {} ==", machine());
    let mut running = Application::start(pair.application()?, Crowd::default())?;
    let mut switches = Vec::new();
    let (mut from, mut to) = (0, 1);
    for &plan in plans {
        running.wait_for_writes(number(from), 250)?;
        switches.push(switch(&mut pair, plan, from, to)?);
        running.wait_for_writes(number(to), 100)?;
        swap_roles(&mut pair, from, to)?;
        sleep(SETTLE);
        (from, to) = (to, from);
    }
    let journal = running.end()?;
    pair.wait_for_replica(from, to)?;
    let (rows, sum, other) = (pair.orders(from)?, pair.checksum(from)?, pair.checksum(to)?);
    journal.check(&rows)?;
    pair.check_totals(from)?;
    ensure!(sum == other, "the tables differ: {sum:?} and {other:?}");
    ensure!(journal.reads() > 0, "nobody has read");
    let report = report(&journal, &switches);
    let plot = plot(&journal, &switches[0]);
    println!("{} writes were acknowledged; all are there, once, on both servers.", journal.acknowledged().len());

    let mut outcome = Outcome { passed: switches.len(), ..Outcome::default() };
    ensure!(from == 1, "the mishaps begin with db2 as the primary");
    outcome.passed += mishaps::all(&mut pair)?;
    println!("\n{report}\n");
    if arguments.keep {
        fs::write(project_root().join(PLOT), plot).with_context(|| PLOT)?;
        results::keep(RESULTS, "switchover", &report)?;
    }
    Ok(outcome)
}

/// Makes `to` the primary instead of `from`.
fn switch(pair: &mut Pair, plan: Plan, from: usize, to: usize) -> Result<Switch> {
    let (order, thinks) = plan;
    println!("\n-- {} to {}: {}", name(from), name(to), order.name());
    let target = format!("SET GLOBAL instant_failover_target = '{}'", pair.address(to));
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
        return Ok(Switch { plan, from, span: start..pair.now() + 1.0, marks });
    }
    pair.sql(from, &target)?;
    pair.sql(from, "SET lock_wait_timeout = 5")?;
    if order == Order::RedirectFirst {
        redirect(pair, from, to)?;
        marks.push((pair.now(), "ON"));
        sleep(Duration::from_secs(1));
    }
    if order == Order::Lock {
        pair.sql(from, "FLUSH TABLES WITH READ LOCK")?;
        marks.push((pair.now(), "locked"));
    } else {
        pair.sql(from, "SET GLOBAL read_only = 1")?;
        marks.push((pair.now(), "read_only = 1"));
    }
    sleep(thinks);
    pair.wait_for_replica(from, to)?;
    sleep(thinks);
    pair.sql(to, "STOP SLAVE")?;
    pair.sql(to, "RESET SLAVE ALL")?;
    pair.sql(to, "SET GLOBAL read_only = 0")?;
    marks.push((pair.now(), "promoted"));
    sleep(thinks);
    if order != Order::RedirectFirst {
        redirect(pair, from, to)?;
        marks.push((pair.now(), "ON"));
    }
    sleep(thinks);
    pair.sql(from, "KILL USER app")?;
    marks.push((pair.now(), "KILL USER app"));
    if order == Order::Lock {
        pair.sql(from, "SET GLOBAL read_only = 1")?;
        pair.sql(from, "UNLOCK TABLES")?;
    }
    let span = start..pair.now() + 1.0;
    Ok(Switch { plan, from, span, marks })
}

/// Sends new clients away. The new primary stops doing that first: they would go in circles.
fn redirect(pair: &mut Pair, from: usize, to: usize) -> Result<()> {
    pair.sql(to, "SET GLOBAL instant_failover_mode = OFF")?;
    pair.sql(from, "SET GLOBAL instant_failover_mode = ON").map(drop)
}

/// A transaction would be cut off, and `read_only` would wait for a statement.
fn nothing_takes_long(pair: &mut Pair, server: usize) -> Result<()> {
    const TRANSACTIONS: &str = "SELECT trx_mysql_thread_id, trx_started, trx_rows_modified FROM \
                                information_schema.INNODB_TRX WHERE trx_started < NOW() - INTERVAL 5 SECOND";
    const STATEMENTS: &str = "SELECT ID, USER, TIME, INFO FROM information_schema.PROCESSLIST WHERE COMMAND = 'Query' AND \
                              TIME > 5";
    for what in [TRANSACTIONS, STATEMENTS] {
        let rows = pair.sql(server, what)?;
        ensure!(rows.is_empty(), "the application does nothing that takes so long: {rows:?}");
    }
    Ok(())
}

/// Makes the old primary the replica of the new one.
fn swap_roles(pair: &mut Pair, from: usize, to: usize) -> Result<()> {
    let left = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'app'";
    let deadline = Instant::now() + Duration::from_secs(10);
    // A login that is being sent away may be among them.
    while pair.value(from, left)? != "0" {
        ensure!(Instant::now() < deadline, "sessions are left on {}", name(from));
        sleep(Duration::from_millis(50));
    }
    pair.sql(from, "SET GLOBAL gtid_slave_pos = @@gtid_binlog_pos")?;
    pair.replicate(from, to)?;
    pair.wait_for_replica(to, from)?;
    pair.sql(from, "SHOW GLOBAL STATUS LIKE 'Instant_failover_redirects'")?;
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
    let Crowd { writers, slow, readers, .. } = Crowd::default();
    let _ = write!(
        report,
        "\n{writers} writers, {slow} more that hold each transaction open for half a second, and {readers} readers, on \
         mysqlclient with the client plugin, with a pool that throws a connection away on any error or after half a second, and \
         tries again after 20 ms. {} writes were acknowledged, {} reads answered. No acknowledged write was lost, none was doubled, \
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
