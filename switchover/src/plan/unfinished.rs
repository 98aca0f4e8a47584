//! A switchover or failover that left a note: where it stands, and what is still possible.

use std::fmt::Write as _;

use super::failover;
use super::next::overtaken;
use super::record::Record;
use super::seen::Seen;
use super::state::{Promotion, State};

/// One that was begun, and not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// What its notes say.
    pub record: Record,
    /// How far it has come, as `resume` and `back` say it.
    pub state: String,
    promotion: Promotion,
    /// Whether the new primary accepts writes.
    is_open: bool,
    /// Whether each of the two, or the old one after the promotion, has what the other one can never get.
    has_diverged: bool,
    /// What shows that another server has become the primary since it began.
    overtaken: Option<String>,
}

impl Unfinished {
    /// Judges by what the servers show.
    #[must_use]
    pub fn of(record: Record, seen: &Seen) -> Self {
        let (state, mut promotion, has_diverged) = if record.failover.is_some() {
            let state = failover::State::of(seen, &record);
            (state.to_string(), state.promotion(), false)
        } else {
            let state = State::of(seen, record.evidence());
            let has_diverged =
                matches!(&state, State::Diverged(parts) if !(parts.only_old.is_empty() && parts.only_new.is_empty()));
            (state.to_string(), state.promotion(), has_diverged)
        };
        if promotion == Promotion::Unknown && !record.promoting {
            // Each server notes the promotion before it begins.
            promotion = Promotion::No;
        }
        let overtaken = overtaken(seen, &record);
        let is_open = seen.new.as_ref().is_some_and(|new| !new.read_only);
        Self { record, state, promotion, is_open, has_diverged, overtaken }
    }

    /// What another server of the file shows that may have become the primary.
    #[must_use]
    pub fn beside(self, why: Option<String>) -> Self {
        let why = why.filter(|_| !self.is_open);
        Self { overtaken: self.overtaken.or(why), ..self }
    }

    /// What it is, without its state.
    #[must_use]
    pub fn name(&self) -> String {
        let what = if self.record.failover.is_some() { "failover" } else { "switchover" };
        format!("{what} from {} to {}, begun by {}", self.record.old.name, self.record.new.name, self.record.by)
    }

    /// The commands that end it. Only what is certainly not promoted can go back.
    #[must_use]
    pub fn cure(&self) -> String {
        let (old, new) = (&self.record.old.name, &self.record.new.name);
        if let Some(why) = &self.overtaken {
            return format!(
                "{why}; if another server is the primary by now: SET GLOBAL instant_failover_note = '' on each server with the note, \
                 and make each that does not replicate from it its replica: instant-failover rejoin SERVER PRIMARY"
            );
        }
        if self.has_diverged {
            return "decide which server has the data that counts, and let only that one accept writes. SET GLOBAL instant_failover_note = '' \
                    on each server with the note, and make the other one its replica: instant-failover rejoin SERVER PRIMARY, which says what \
                    it needs"
                .to_owned();
        }
        let mut cure = format!("instant-failover resume {old} {new}");
        let _ = match self.promotion {
            Promotion::No => write!(cure, ", or instant-failover back {old} {new}"),
            Promotion::Unknown => write!(cure, ", or, if {new} was not promoted, instant-failover back {old} {new}"),
            Promotion::Yes => Ok(()),
        };
        cure
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use ::failover::Mode;

    use super::super::gtid::{Position, Transactions};
    use super::super::record::{Before, Named, Record, Way};
    use super::super::seen::{Channel, Seen, Server};
    use super::Unfinished;

    pub(crate) fn record() -> Record {
        let named = |name: &str, server_id| Named { name: name.to_owned(), server_id, started: 0 };
        Record {
            id: "5f3a".to_owned(),
            old: named("db1", 1),
            new: named("db2", 2),
            way: Way {
                target: "db2".to_owned(),
                all: false,
                hold: true,
                reverse: true,
                no_longer_exempt: Vec::new(),
                replicas: Vec::new(),
            },
            before: Before {
                read_only: false,
                target: String::new(),
                hold_timeout: None,
                events: false,
                reverse: false,
            },
            failover: None,
            position: Some("0-1-7".parse().unwrap()),
            promoting: true,
            step: String::new(),
            by: "ann@desk".to_owned(),
        }
    }

    /// A server that has everything up to a position.
    pub(crate) fn server(server_id: u32, read_only: bool, position: &str) -> Server {
        Server {
            server_id,
            read_only,
            position: position.parse().unwrap(),
            transactions: Transactions::parse(position, "").unwrap(),
            channels: Vec::new(),
            mode: Mode::Off,
            target: String::new(),
            note: String::new(),
            events_run: false,
        }
    }

    pub(crate) fn channel(source: u32) -> Channel {
        Channel {
            name: String::new(),
            source: Some(source),
            address: "db1:3306".to_owned(),
            receives: true,
            is_connected: true,
            received: Position::default(),
            applies: true,
        }
    }

    #[test]
    fn one_that_was_overtaken_is_not_continued() {
        let (mut old, mut new) = (server(1, true, "0-1-7"), server(2, true, "0-1-7"));
        let judge = |old: &Server, new: &Server| {
            Unfinished::of(record(), &Seen { old: Some(old.clone()), new: Some(new.clone()), ..Seen::default() })
        };
        let resumes = |one: &Unfinished| one.cure().contains("resume");
        assert!(resumes(&judge(&old, &new)));
        assert!(!resumes(&judge(&old, &new).beside(Some("db3 accepts writes".to_owned()))));
        for other in [&mut old, &mut new] {
            other.channels = vec![channel(3)];
        }
        let both = judge(&old, &new);
        assert!(both.cure().starts_with("db1 replicates from server 3 (db1:3306); "), "{}", both.cure());
        old.channels.clear();
        let one = judge(&old, &new);
        assert!(one.cure().starts_with("db2 replicates from server 3 (db1:3306); "), "{}", one.cure());
        // It never connected, and its address is not that of db1.
        new.channels[0].source = None;
        assert!(!resumes(&judge(&old, &new)));
        let alone = Seen { new: Some(new), ..Seen::default() };
        assert!(resumes(&Unfinished::of(record(), &alone)));
    }

    #[test]
    fn the_cure_depends_on_the_promotion() {
        let (mut old, mut new) = (server(1, true, "0-1-7"), server(2, true, "0-1-7"));
        new.channels = vec![channel(1)];
        let judge = |old: &Server, new: &Server, record| {
            Unfinished::of(record, &Seen { old: Some(old.clone()), new: Some(new.clone()), ..Seen::default() })
        };
        let fenced = judge(&old, &new, record());
        assert_eq!(fenced.state, "fenced: both servers are read only, and the new primary is still a replica");
        assert_eq!(fenced.cure(), "instant-failover resume db1 db2, or instant-failover back db1 db2");

        (new.read_only, new.channels) = (false, Vec::new());
        (new.position, new.transactions) = ("0-2-8".parse().unwrap(), Transactions::parse("0-1-7,0-2-8", "").unwrap());
        let promoted = judge(&old, &new, record());
        assert!(promoted.state.starts_with("promoted: "), "{}", promoted.state);
        assert_eq!(promoted.cure(), "instant-failover resume db1 db2");
        assert_eq!(promoted.name(), "switchover from db1 to db2, begun by ann@desk");

        // A server does not answer: the note decides.
        old.read_only = false;
        for (promoting, expected) in [
            (false, "instant-failover resume db1 db2, or instant-failover back db1 db2"),
            (true, "instant-failover resume db1 db2, or, if db2 was not promoted, instant-failover back db1 db2"),
        ] {
            let seen = Seen { old: Some(old.clone()), ..Seen::default() };
            let unknown = Unfinished::of(Record { promoting, ..record() }, &seen);
            assert_eq!(
                (unknown.state.as_str(), unknown.cure().as_str()),
                ("unknown: a server does not answer", expected)
            );
        }
    }
}
