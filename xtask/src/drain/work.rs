//! A client's unit of work: what is open, which writes wait for their acknowledgement, and what an error means.

use std::collections::BTreeMap;
use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, Error};

use super::Leg;

/// What an error would cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Open {
    /// From the acknowledgement of BEGIN, or of the first statement with `autocommit = 0`, to that of COMMIT.
    Transaction,
    /// From XA START to XA COMMIT.
    Xa,
    /// From LOCK TABLES to UNLOCK TABLES.
    Locks,
    /// From an answer's first packet to its last.
    Answer,
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transaction => "transaction",
            Self::Xa => "XA transaction",
            Self::Locks => "locked tables",
            Self::Answer => "answer",
        })
    }
}

/// What one client saw.
#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) acknowledged: Vec<u64>,
    /// Writes with an error in the place of their acknowledgement.
    pub(super) in_doubt: Vec<u64>,
    /// Writes that were rolled back, acknowledged.
    pub(super) taken_back: Vec<u64>,
    /// Units of work that succeeded.
    pub(super) finished: u64,
    /// What an error has cut.
    pub(super) cut: BTreeMap<Open, u64>,
    /// Statements that got no answer while nothing was open.
    pub(super) refused: u64,
    /// Those of them that followed a ping at once, in the first second of a drain.
    pub(super) refused_after_ping: u64,
    pub(super) logins: u64,
    /// Logins that were redirected.
    pub(super) redirected: u64,
    /// Logins without an answer.
    pub(super) lost_logins: u64,
    /// Errors that nothing explains, and examples of what was cut.
    pub(super) strange: Vec<String>,
    pub(super) examples: Vec<String>,
}

/// Errors and examples beyond these say nothing new.
const ENOUGH: usize = 5;

impl Journal {
    pub(super) fn complain(&mut self, what: String) {
        if self.strange.len() < ENOUGH {
            self.strange.push(what);
        }
    }
}

/// A unit of work under way.
pub(super) struct Work<'a> {
    pub(super) leg: &'a Leg,
    pub(super) conn: &'a mut Conn,
    pub(super) random: &'a mut fastrand::Rng,
    journal: &'a mut Journal,
    /// The client's number and that of its last write.
    client: u32,
    last: &'a mut u32,
    open: Option<Open>,
    pending: Vec<u64>,
    /// When the client sent a ping, if that was its last command.
    pub(super) pinged: Option<Instant>,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        leg: &'a Leg,
        conn: &'a mut Conn,
        random: &'a mut fastrand::Rng,
        journal: &'a mut Journal,
        (client, last): (u32, &'a mut u32),
    ) -> Self {
        Self { leg, conn, random, journal, client, last, open: None, pending: Vec::new(), pinged: None }
    }

    /// The client's number, for the names of what it has for itself.
    pub(super) fn client(&self) -> u32 {
        self.client
    }

    /// From now on, an error cuts this.
    pub(super) fn opens(&mut self, what: Open) {
        self.open = Some(what);
    }

    /// Everything so far is acknowledged, and nothing is open any more.
    pub(super) fn closes(&mut self) {
        self.open = None;
        self.acknowledged();
    }

    /// The writes so far are acknowledged.
    pub(super) fn acknowledged(&mut self) {
        self.journal.acknowledged.append(&mut self.pending);
    }

    /// These writes were rolled back.
    pub(super) fn takes_back(&mut self, numbers: &[u64]) {
        self.pending.retain(|number| !numbers.contains(number));
        self.journal.taken_back.extend(numbers);
    }

    /// The unit of work succeeded.
    pub(super) fn finished(mut self) {
        self.closes();
        self.journal.finished += 1;
    }

    /// A new number for a write, which waits for its acknowledgement.
    pub(super) fn number(&mut self) -> u64 {
        *self.last += 1;
        let number = u64::from(self.client) << 32 | u64::from(*self.last);
        self.pending.push(number);
        number
    }

    /// Runs a statement, or several in one packet, and reads all answers.
    pub(super) fn run(&mut self, sql: &str) -> mysql::Result<()> {
        self.rows(sql, |_| {})
    }

    /// The same, with something to do after each row.
    pub(super) fn rows(&mut self, sql: &str, mut after_row: impl FnMut(&mut fastrand::Rng)) -> mysql::Result<()> {
        let mut answers = self.conn.query_iter(sql)?;
        let open = self.open.replace(self.open.unwrap_or(Open::Answer));
        while let Some(answer) = answers.iter() {
            for row in answer {
                row?;
                after_row(self.random);
            }
        }
        self.open = open;
        Ok(())
    }

    /// Runs a statement that must fail with this error of the server.
    pub(super) fn fails(&mut self, sql: &str, code: u16) -> mysql::Result<()> {
        match self.run(sql) {
            Err(Error::MySqlError(error)) if error.code == code => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                self.journal.complain(format!("no error {code}: {sql}"));
                Ok(())
            }
        }
    }

    /// Writes a row.
    pub(super) fn insert(&mut self) -> mysql::Result<u64> {
        let number = self.number();
        self.run(&format!("INSERT INTO writes (n) VALUES ({number})"))?;
        Ok(number)
    }

    /// Does nothing, mostly for a moment, seldom for longer than a drain waits politely.
    pub(super) fn nap(&mut self) {
        nap(self.random);
    }

    /// The unit of work ended with an error. Whoever uses the connection must open another one.
    pub(super) fn failed(self, error: &Error) {
        let Self { leg, journal, open, mut pending, pinged, .. } = self;
        journal.in_doubt.append(&mut pending);
        if !leg.ends_by.explains(error) {
            journal.complain(format!("{error} while {} was open", in_words(open)));
            return;
        }
        if let Some(open) = open {
            *journal.cut.entry(open).or_default() += 1;
            if journal.examples.len() < ENOUGH {
                journal.examples.push(format!("{open}: {error}"));
            }
        } else {
            journal.refused += 1;
            journal.refused_after_ping += u64::from(pinged.is_some_and(|at| leg.was_hasty(at)));
        }
    }
}

fn in_words(open: Option<Open>) -> String {
    open.map_or_else(|| "nothing".to_owned(), |open| open.to_string())
}

/// See [`Work::nap`].
pub(super) fn nap(random: &mut fastrand::Rng) {
    let most = match random.u8(..20) {
        0..8 => return,
        8..17 => 3_000,
        17..19 => 30_000,
        _ => 300_000,
    };
    sleep(Duration::from_micros(random.u64(..most)));
}
