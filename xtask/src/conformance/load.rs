//! An application of each language, through a live switchover and back.

use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::build;
use support::child;

use super::language::Language;
use super::world::DATABASE;
use crate::Outcome;
use crate::common::results::machine;
use crate::switchover::command::Machine;
use crate::switchover::pair::{PASSWORD, Pair, name};

const WORKERS: u32 = 4;
/// Acknowledged before, between and after the switchovers.
const ENOUGH: usize = 100;
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of a language's writes.
struct Written {
    language: String,
    /// What the application says.
    said: Value,
    /// Acknowledged, but in no table.
    lost: u64,
    /// Rows that are there more than once.
    doubled: u64,
    /// In one table, but not in the other.
    halves: u64,
}

/// Runs the application of each language, for so many seconds; returns the table, and what failed.
pub(super) fn switch(languages: &[Language], library: &Path, seconds: u64) -> Result<(String, Outcome)> {
    let program = build::command()?;
    let (mut pair, mut dba) = start(library, &program)?;
    let (mut all, mut outcome) = (Vec::new(), Outcome::default());
    for language in languages {
        println!("\n{}:", language.name);
        match through_a_switchover(language, seconds, &mut pair, &dba) {
            Ok(written) => {
                println!("{}", written.said);
                outcome += written.outcome();
                all.push(written);
            }
            Err(error) => {
                outcome += Outcome::of(false, format!("{}: {error:#}", language.name));
                // The next language needs the pair as it was.
                (pair, dba) = start(library, &program)?;
            }
        }
    }
    Ok((report(&all, seconds), outcome))
}

/// A primary and its replica, and the DBA's machine.
fn start(library: &Path, program: &Path) -> Result<(Pair, Machine)> {
    let mut pair = Pair::start(library)?;
    // The applications write as fast as they can: a replica must keep up with that.
    pair.query(1, "STOP SLAVE")?;
    for server in 0..2 {
        pair.query(server, "SET GLOBAL instant_failover_exempt_users = 'repl,monitor,dba'")?;
        pair.query(server, "SET GLOBAL slave_parallel_threads = 4")?;
        pair.query(server, "SET GLOBAL sync_binlog = 0")?;
        pair.query(server, "SET GLOBAL innodb_flush_log_at_trx_commit = 0")?;
    }
    pair.query(1, "START SLAVE")?;
    pair.query(0, &format!("CREATE DATABASE {DATABASE}"))?;
    pair.query(0, &format!("GRANT ALL ON {DATABASE}.* TO app"))?;
    let dba = Machine::new(program, &pair, "dba")?;
    Ok((pair, dba))
}

fn through_a_switchover(language: &Language, seconds: u64, pair: &mut Pair, machine: &Machine) -> Result<Written> {
    for table in ["orders", "lines"] {
        // No primary key: a row that is written twice is to be seen.
        let columns = "(id BIGINT NOT NULL, KEY (id)) ENGINE=InnoDB";
        pair.query(0, &format!("CREATE OR REPLACE TABLE {DATABASE}.`{table}` {columns}"))?;
    }
    pair.wait_for_replica(0, 1)?;
    let file = pair.home.path().join("acknowledged");
    fs::write(&file, "")?;
    let address = pair.address(0);
    let load = json!({
        "host": address.ip().to_string(),
        "port": address.port(),
        "user": "app",
        "password": PASSWORD,
        "database": DATABASE,
        "tls": "off",
        "ca": null,
        "follow": null,
        "seconds": seconds,
        "workers": WORKERS,
        "file": file.display().to_string(),
    });
    let mut command = language.adapter(&["load", &load.to_string()])?;
    let mut application = child::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let result = move_and_back(pair, machine, &file);
    let said = result.and_then(|()| {
        let mut text = String::new();
        application.stdout.take().context("no output")?.read_to_string(&mut text)?;
        let status = application.wait()?;
        ensure!(status.success(), "the application exited with {status}");
        let last = text.lines().last().context("the application printed nothing")?;
        serde_json::from_str::<Value>(last).with_context(|| format!("no JSON: {last}"))
    });
    if said.is_err() {
        let _ = child::stop(&mut application);
    }
    judge(language, pair, said?, &file)
}

/// Switches over while the application writes, and back.
fn move_and_back(pair: &mut Pair, machine: &Machine, file: &Path) -> Result<()> {
    for (from, to) in [(0, 1), (1, 0)] {
        wait_for_more(file)?;
        pair.takes_over(from, to);
        pair.replica_runs(to)?;
        let patient = ["--yes", "--max-lag", "60", "--max-pause", "30", "--json"];
        let ended = machine.run(pair, &[&["switchover", name(from), name(to)], &patient[..]].concat())?;
        // It ends every session on the old primary, including this one.
        pair.log_in(from)?;
        ended.expect(0, "is the primary, and")?;
    }
    wait_for_more(file).context("after the switchovers")
}

/// Waits until the application has written some more.
fn wait_for_more(file: &Path) -> Result<()> {
    let written = || -> Result<usize> { Ok(fs::read_to_string(file)?.lines().count()) };
    let enough = written()? + ENOUGH;
    let deadline = Instant::now() + PATIENCE;
    while written()? < enough {
        ensure!(Instant::now() < deadline, "the application does not write: {} in all", written()?);
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Compares what was acknowledged with what is there.
fn judge(language: &Language, pair: &mut Pair, said: Value, file: &Path) -> Result<Written> {
    let text = fs::read_to_string(file)?;
    let acknowledged: Vec<&str> = text.lines().collect();
    let counted = said["acknowledged"].as_u64().context("no \"acknowledged\"")?;
    ensure!(counted == acknowledged.len() as u64, "{counted} acknowledged, but {} in the file", acknowledged.len());
    pair.wait_for_replica(0, 1)?;
    let mut count =
        |sql: &str| -> Result<u64> { Ok(pair.query(0, sql)?.concat().first().context("no answer")?.parse()?) };
    let doubled = count(&format!("SELECT COUNT(*) - COUNT(DISTINCT id) FROM {DATABASE}.orders"))?
        + count(&format!("SELECT COUNT(*) - COUNT(DISTINCT id) FROM {DATABASE}.`lines`"))?;
    let halves =
        count(&format!("SELECT COUNT(*) FROM {DATABASE}.orders WHERE id NOT IN (SELECT id FROM {DATABASE}.`lines`)"))?
            + count(&format!(
                "SELECT COUNT(*) FROM {DATABASE}.`lines` WHERE id NOT IN (SELECT id FROM {DATABASE}.orders)"
            ))?;
    let mut lost = 0;
    for some in acknowledged.chunks(1000) {
        for id in some {
            id.parse::<u64>().with_context(|| format!("'{id}' in the file is no number"))?;
        }
        let there =
            count(&format!("SELECT COUNT(DISTINCT id) FROM {DATABASE}.orders WHERE id IN ({})", some.join(",")))?;
        lost += some.len() as u64 - there;
    }
    Ok(Written { language: language.name.clone(), said, lost, doubled, halves })
}

impl Written {
    /// Nothing may be lost, doubled or cut. Errors are counted, not judged.
    fn outcome(&self) -> Outcome {
        let good = self.lost == 0 && self.doubled == 0 && self.halves == 0;
        let Self { language, lost, doubled, halves, .. } = self;
        Outcome::of(good, format!("{language}: {lost} writes lost, {doubled} doubled, {halves} transactions cut"))
    }
}

fn report(all: &[Written], seconds: u64) -> String {
    let mut report =
        "| | acknowledged | errors in transactions | of these, of unknown outcome | errors outside | lost | doubled | cut | \
                      longest pause, ms |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|"
            .to_owned();
    for Written { language, said, lost, doubled, halves } in all {
        let number = |key: &str| said[key].as_f64().map_or_else(|| "–".to_owned(), |number| format!("{number:.0}"));
        let _ = write!(
            report,
            "\n| {language} | {} | {} | {} | {} | {lost} | {doubled} | {halves} | {} |",
            number("acknowledged"),
            number("errors_in_transaction"),
            number("unknown"),
            number("errors_outside"),
            number("longest_pause_ms"),
        );
    }
    let _ = write!(
        report,
        "\n\nA pool of {WORKERS} connections, used by as many threads or tasks, for {seconds} s, through a switchover by the command and \
         another back. The pause is the longest time in which no write was acknowledged. {}",
        machine()
    );
    report
}
