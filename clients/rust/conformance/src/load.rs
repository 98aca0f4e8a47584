//! An application that writes by a pool, and counts what goes wrong.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;
use serde_json::json;

use crate::driver::{Driver, Failure, Options, Outcome, Pool, Session};

#[derive(Debug, Deserialize)]
pub(crate) struct Load {
    #[serde(flatten)]
    options: Options,
    seconds: u64,
    workers: u32,
    file: String,
}

/// Rests after an error, so that a server that is away is not asked all the time.
const REST: Duration = Duration::from_millis(10);
/// Between two pieces of work.
const THINK: Duration = Duration::from_millis(2);
const KEPT: usize = 5;

#[derive(Debug)]
struct Counts {
    acknowledged: u64,
    in_transaction: u64,
    outside: u64,
    /// Of those in a transaction: COMMIT was sent, and no answer came.
    unknown: u64,
    /// When the last write was acknowledged to any worker.
    last: Instant,
    longest_pause: Duration,
    first_errors: Vec<String>,
}

impl Counts {
    fn new() -> Self {
        Self {
            acknowledged: 0,
            in_transaction: 0,
            outside: 0,
            unknown: 0,
            last: Instant::now(),
            longest_pause: Duration::ZERO,
            first_errors: Vec::new(),
        }
    }

    fn end_pause(&mut self) {
        self.longest_pause = self.longest_pause.max(self.last.elapsed());
        self.last = Instant::now();
    }

    fn note(&mut self, place: &str, error: &Failure) {
        if self.first_errors.len() < KEPT {
            self.first_errors.push(format!("{place}: {error}"));
        }
    }
}

pub(crate) fn run(driver: &dyn Driver, load: &Load) -> Result<()> {
    let options = Options { size: Some(load.workers), ..load.options.clone() };
    let pool = driver.pool(&options).map_err(|error| anyhow!("{error}"))?;
    let file = OpenOptions::new().create(true).append(true).open(&load.file).context(load.file.clone())?;
    let (file, counts) = (Mutex::new(file), Mutex::new(Counts::new()));
    let end = Instant::now() + Duration::from_secs(load.seconds);
    thread::scope(|scope| {
        for worker in 0..u64::from(load.workers) {
            let (pool, file, counts) = (&*pool, &file, &counts);
            scope.spawn(move || Worker { pool, file, counts }.work(worker, end));
        }
    });
    let mut counts = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    counts.end_pause();
    println!(
        "{}",
        json!({
            "acknowledged": counts.acknowledged,
            "errors_in_transaction": counts.in_transaction,
            "errors_outside": counts.outside,
            "unknown": counts.unknown,
            "longest_pause_ms": u64::try_from(counts.longest_pause.as_millis())?,
            "first_errors": counts.first_errors,
        })
    );
    Ok(())
}

struct Worker<'a> {
    pool: &'a dyn Pool,
    file: &'a Mutex<File>,
    counts: &'a Mutex<Counts>,
}

impl Worker<'_> {
    fn work(&self, worker: u64, end: Instant) {
        let mut number = worker * 1_000_000_000;
        while Instant::now() < end {
            number += 1;
            let done = self.outside("connection", self.pool.get()).and_then(|mut session| {
                self.outside("BEGIN", session.query("BEGIN"))?;
                self.transaction(session.as_mut(), number)?;
                self.outside("read", session.query("SELECT COUNT(*) FROM orders WHERE id = 1"))
            });
            thread::sleep(if done.is_some() { THINK } else { REST });
        }
    }

    fn transaction(&self, session: &mut dyn Session, number: u64) -> Option<()> {
        for table in ["orders", "lines"] {
            if let Err(error) = session.query(&format!("INSERT INTO `{table}` (id) VALUES ({number})")) {
                self.count(|counts| {
                    counts.in_transaction += 1;
                    counts.note("INSERT", &error);
                });
                return None;
            }
        }
        match session.query("COMMIT") {
            Ok(_) => {
                let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
                // One write: a line is never in pieces.
                let written = file.write_all(format!("{number}\n").as_bytes());
                drop(file);
                self.count(|counts| {
                    counts.acknowledged += 1;
                    counts.end_pause();
                    if let Err(error) = written {
                        counts.first_errors.push(format!("cannot write the file: {error}"));
                    }
                });
                Some(())
            }
            Err(error) => {
                self.count(|counts| {
                    counts.in_transaction += 1;
                    // An error of the server is an answer.
                    counts.unknown += u64::from(error.code == 0);
                    counts.note("COMMIT", &error);
                });
                None
            }
        }
    }

    /// Counts an error that hits no transaction.
    fn outside<T>(&self, place: &str, outcome: Outcome<T>) -> Option<T> {
        outcome
            .inspect_err(|error| {
                self.count(|counts| {
                    counts.outside += 1;
                    counts.note(place, error);
                });
            })
            .ok()
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
