//! The application: a process with writers and readers, and its journal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use support::child;

/// A process that makes no progress for this long hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// How many clients of each kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowd {
    /// The number of the first client, a writer. The others are numbered from there.
    pub(super) first: u64,
    pub(super) writers: u64,
    /// Writers that hold their transactions open for half a second.
    pub(super) slow: u64,
    /// Callers of a procedure whose definer may write despite `read_only`.
    pub(super) callers: u64,
    pub(super) readers: u64,
}

/// Which write: the client, and its number.
pub(super) type Order = (u64, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A write was acknowledged.
    Wrote,
    /// An earlier attempt with an unknown outcome was found to have been committed.
    Found,
    /// A write was abandoned because the application ends.
    Left,
    Read,
    /// An attempt that failed.
    Error,
    /// A COMMIT whose outcome is not known.
    Unknown,
}

/// A line of the journal.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// In seconds since 1970.
    pub(super) at: f64,
    pub(super) client: u64,
    pub(super) what: What,
    /// The number of the server; 0 without a connection.
    pub(super) server: u64,
    pub(super) number: u64,
    pub(super) words: String,
}

impl Event {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        Some(Self {
            at: fields.next()?.parse().ok()?,
            client: fields.next()?.parse().ok()?,
            what: match fields.next()? {
                "wrote" => What::Wrote,
                "found" => What::Found,
                "left" => What::Left,
                "read" => What::Read,
                "error" => What::Error,
                "unknown" => What::Unknown,
                _ => return None,
            },
            server: fields.next()?.parse().ok()?,
            number: fields.next()?.parse().ok()?,
            words: fields.next()?.to_owned(),
        })
    }

    fn order(&self) -> Order {
        (self.client, self.number)
    }
}

/// A running application; it ends when this value is dropped.
pub(super) struct Application {
    process: Child,
    journal: Arc<Mutex<Journal>>,
    reading: Option<JoinHandle<()>>,
}

impl Application {
    /// `command` runs the script with its environment.
    pub(super) fn start(mut command: Command, crowd: Crowd) -> Result<Self> {
        let Crowd { first, writers, slow, callers, readers } = crowd;
        command.args([first, writers, slow, callers, readers].map(|number| number.to_string()));
        let mut process = child::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let output = process.stdout.take().context("no output")?;
        let journal = Arc::new(Mutex::new(Journal { crowd, ..Journal::default() }));
        let shared = Arc::clone(&journal);
        let reading = thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut journal = lock(&shared);
                match Event::parse(&line) {
                    Some(event) => journal.events.push(event),
                    None => journal.unreadable.push(line),
                }
            }
        });
        Ok(Self { process, journal, reading: Some(reading) })
    }

    /// Waits until a server has acknowledged this many more writes.
    pub(super) fn wait_for_writes(&mut self, server: u64, more: usize) -> Result<()> {
        let written = |journal: &Journal| journal.written_on(server).count();
        let enough = written(&lock(&self.journal)) + more;
        let deadline = Instant::now() + PATIENCE;
        while written(&lock(&self.journal)) < enough {
            ensure!(self.process.try_wait()?.is_none(), "the application exited");
            ensure!(Instant::now() < deadline, "no {more} writes on db{server} within {PATIENCE:?}");
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Lets it finish its current work, and returns its journal.
    pub(super) fn end(mut self) -> Result<Journal> {
        drop(self.process.stdin.take());
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.process.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < deadline, "the application does not exit");
            sleep(Duration::from_millis(5));
        };
        if let Some(reading) = self.reading.take() {
            // It does not panic.
            let _ = reading.join();
        }
        ensure!(status.success(), "the application exited with {status}");
        let journal = std::mem::take(&mut *lock(&self.journal));
        if let Some(line) = journal.unreadable.first() {
            bail!("unexpected output of the application: {line:?}");
        }
        Ok(journal)
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Crowd {
    fn default() -> Self {
        Self { first: 1, writers: 4, slow: 2, callers: 2, readers: 4 }
    }
}

/// Everything that an application saw.
#[derive(Debug, Default)]
pub(super) struct Journal {
    crowd: Crowd,
    events: Vec<Event>,
    unreadable: Vec<String>,
}

impl Journal {
    /// Acknowledged writes on a server, with their times.
    pub(super) fn written_on(&self, server: u64) -> impl Iterator<Item = (f64, Order)> + '_ {
        let written = move |event: &&Event| event.what == What::Wrote && event.server == server;
        self.events.iter().filter(written).map(|event| (event.at, event.order()))
    }

    /// Every write that the application may rely on.
    pub(super) fn acknowledged(&self) -> BTreeSet<Order> {
        self.orders(&[What::Wrote, What::Found])
    }

    fn orders(&self, of: &[What]) -> BTreeSet<Order> {
        self.events.iter().filter(|event| of.contains(&event.what)).map(Event::order).collect()
    }

    /// Checks the writes that exist against the journal.
    pub(super) fn check(&self, there: &BTreeSet<Order>) -> Result<()> {
        let acknowledged = self.acknowledged();
        let lost: Vec<_> = acknowledged.difference(there).collect();
        ensure!(lost.is_empty(), "{} acknowledged writes are lost: {lost:?}", lost.len());
        let left = self.orders(&[What::Left]);
        let Crowd { first, writers, slow, callers, .. } = self.crowd;
        let clients = first..first + writers + slow + callers;
        let strange =
            |order: &&Order| clients.contains(&order.0) && !acknowledged.contains(order) && !left.contains(order);
        let strange: Vec<_> = there.iter().filter(strange).collect();
        ensure!(strange.is_empty(), "these writes are not in the journal: {strange:?}");
        Ok(())
    }

    /// The longest time between two acknowledged writes of one writer, not of a slow one, that overlaps with a span.
    pub(super) fn longest_pause(&self, span: &Range<f64>) -> Option<f64> {
        let writers = self.crowd.first..self.crowd.first + self.crowd.writers;
        let mut last: BTreeMap<u64, f64> = BTreeMap::new();
        let mut longest: Option<f64> = None;
        for event in &self.events {
            if matches!(event.what, What::Wrote | What::Found)
                && writers.contains(&event.client)
                && let Some(before) = last.insert(event.client, event.at)
                && before < span.end
                && event.at > span.start
            {
                longest = Some(longest.map_or(event.at - before, |longest| longest.max(event.at - before)));
            }
        }
        longest
    }

    /// How often clients saw each error in a span: its number, the phase and the server.
    pub(super) fn errors(&self, span: &Range<f64>) -> BTreeMap<String, u32> {
        let mut errors = BTreeMap::new();
        for event in &self.events {
            if matches!(event.what, What::Error | What::Unknown) && span.contains(&event.at) {
                let mut words = event.words.split(' ');
                let (phase, code) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                let place = if event.server == 0 { String::new() } else { format!(" on db{}", event.server) };
                *errors.entry(format!("{code} in {phase}{place}")).or_default() += 1;
            }
        }
        errors
    }

    /// The first error that contains a text.
    pub(super) fn error_with(&self, text: &str) -> Option<&str> {
        let errors = self.events.iter().filter(|event| event.what == What::Error);
        errors.map(|event| event.words.as_str()).find(|words| words.contains(text))
    }

    /// How many writes a procedure made.
    pub(super) fn called(&self) -> usize {
        let Crowd { first, writers, slow, callers, .. } = self.crowd;
        let called = first + writers + slow..first + writers + slow + callers;
        self.events.iter().filter(|event| event.what == What::Wrote && called.contains(&event.client)).count()
    }

    /// How many reads there were.
    pub(super) fn reads(&self) -> usize {
        self.events.iter().filter(|event| event.what == What::Read).count()
    }
}

/// Errors as text.
pub(super) fn in_words(errors: &BTreeMap<String, u32>) -> String {
    let mut words = String::new();
    for (error, times) in errors {
        let _ = write!(words, "{}{times} × {error}", if words.is_empty() { "" } else { ", " });
    }
    if words.is_empty() { "none".to_owned() } else { words }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(lines: &[&str]) -> Journal {
        let events = lines.iter().map(|line| Event::parse(&line.replace(' ', "\t")).unwrap()).collect();
        Journal { events, ..Journal::default() }
    }

    #[test]
    fn a_lost_write_is_noticed_and_so_is_a_strange_one() {
        let journal = journal(&["1.0 1 wrote 1 1 ", "2.0 1 unknown 1 0 commit", "2.5 1 found 0 2 ", "3.0 2 left 0 1 "]);
        let check = |there: &[Order]| journal.check(&there.iter().copied().collect()).is_ok();
        assert!(check(&[(1, 1), (1, 2)]) && check(&[(1, 1), (1, 2), (2, 1), (99, 1)]));
        assert!(!check(&[(1, 1)]) && !check(&[(1, 2)]));
        assert!(!check(&[(1, 1), (1, 2), (1, 3)]));
    }

    #[test]
    fn pauses_and_errors_are_those_of_the_span() {
        let journal = journal(&["1 1 wrote 1 1 ", "4 1 wrote 1 2 ", "4.5 1 error 1 0 statement", "6 1 wrote 2 3 "]);
        assert_eq!(journal.longest_pause(&(4.2..5.0)), Some(2.0));
        assert_eq!(journal.longest_pause(&(3.0..5.0)), Some(3.0));
        assert_eq!(journal.longest_pause(&(7.0..8.0)), None);
        assert_eq!(in_words(&journal.errors(&(4.0..5.0))), "1 ×  in statement on db1");
        assert_eq!(in_words(&journal.errors(&(5.0..6.0))), "none");
    }
}
