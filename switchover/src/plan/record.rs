//! What is written down, so that another run can continue or go back: in a file, and briefly in `instant_failover_note` on both
//! servers.

use std::fmt::Write as _;

use failover::{MAX_NOTE, Mode};
use serde::{Deserialize, Serialize};

use super::gtid::Position;

/// One switchover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Tells it from every other one.
    pub id: String,
    /// The server that was the primary when it began.
    pub old: Named,
    /// The server that becomes the primary.
    pub new: Named,
    /// How it is done.
    pub way: Way,
    /// What the servers were like before, to be restored.
    pub before: Before,
    /// In a failover, because the old primary is dead: what there is more.
    #[serde(default)]
    pub failover: Option<Failover>,
    /// Everything that the old primary has written, once that is final.
    pub position: Option<Position>,
    /// Whether the promotion has begun: from then on it may have taken effect.
    pub promoting: bool,
    /// The step that began last.
    pub step: String,
    /// Who began it, and when.
    pub by: String,
}

/// A server as the file with the servers names it, and as it identifies itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its group in the file.
    pub name: String,
    /// Its `server_id`.
    pub server_id: u32,
    /// When it started, in seconds since 1970.
    pub started: u64,
}

/// How a switchover is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// Where clients are redirected.
    pub target: String,
    /// `ON` or `ALL`
    pub all: bool,
    /// Whether the plugin of the old primary can hold and drain.
    pub hold: bool,
    /// Whether the old primary becomes a replica of the new one.
    pub reverse: bool,
    /// Users that are no longer exempt on the old primary once it redirects: they may write in spite of `read_only`.
    pub no_longer_exempt: Vec<String>,
    /// Other replicas of the old primary, which follow the new one.
    #[serde(default)]
    pub replicas: Vec<String>,
}

impl Way {
    /// The mode in the end.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        if self.all { Mode::All } else { Mode::On }
    }
}

/// What the servers were like before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// `@@read_only` of the old primary.
    pub read_only: bool,
    /// `@@instant_failover_target` of the old primary.
    pub target: String,
    /// `@@instant_failover_hold_timeout` of the old primary, if it has that.
    pub hold_timeout: Option<u16>,
    /// Whether events ran on the old primary.
    pub events: bool,
    /// Whether the old primary already replicated from the new one.
    pub reverse: bool,
}

/// What a failover has more than a switchover.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failover {
    /// Servers of the file that do not answer, and that the DBA leaves out.
    pub without: Vec<String>,
    /// Whether a command has ended the old primary: what still listens on its address is not it.
    pub fenced: bool,
    /// What the stand-in was like before, if there was one.
    pub stand_in: Option<StandInBefore>,
}

/// What a stand-in was like before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandInBefore {
    /// `@@instant_failover_mode`
    #[serde(with = "mode_name")]
    pub mode: Mode,
    /// `@@instant_failover_hold_timeout`
    pub hold_timeout: u16,
    /// `@@instant_failover_target`
    pub target: String,
}

impl StandInBefore {
    fn to_word(&self) -> String {
        format!("{}/{}/{}", self.mode, self.hold_timeout, self.target)
    }

    fn from_word(word: &str) -> Option<Self> {
        let mut parts = word.splitn(3, '/');
        Some(Self {
            mode: parts.next()?.parse().ok()?,
            hold_timeout: parts.next()?.parse().ok()?,
            target: parts.next()?.to_owned(),
        })
    }
}

/// A mode by its name.
mod mode_name {
    use failover::Mode;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(super) fn serialize<S: Serializer>(mode: &Mode, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(mode.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mode, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// What is known of a switchover besides what the servers show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence<'a> {
    /// [`Record::position`]
    pub position: Option<&'a Position>,
    /// [`Record::promoting`]
    pub promoting: bool,
}

impl Record {
    /// What it says about the state of the servers.
    #[must_use]
    pub const fn evidence(&self) -> Evidence<'_> {
        Evidence { position: self.position.as_ref(), promoting: self.promoting }
    }

    /// What is left on the servers for whoever looks: one line. A long one lacks its last words.
    #[must_use]
    pub fn note(&self) -> String {
        let flag = |name: &str, value| format!("{name}={} ", u8::from(value));
        let mut note = format!("{PREFIX} id={} old={} new={} ", self.id, server(&self.old), server(&self.new));
        note += &flag("promoting", self.promoting);
        note += &flag("all", self.way.all);
        note += &flag("hold", self.way.hold);
        note += &flag("reverse", self.way.reverse);
        note += &flag("was-read-only", self.before.read_only);
        note += &flag("had-events", self.before.events);
        note += &flag("had-reverse", self.before.reverse);
        if let Some(failover) = &self.failover {
            note += &flag("failover", true);
            note += &flag("fenced", failover.fenced);
        }
        if let Some(seconds) = self.before.hold_timeout {
            let _ = write!(note, "had-hold-timeout={seconds} ");
        }
        let position = self.position.as_ref().map(|position| ("position", position.to_string()));
        let target = Some(("target", self.way.target.clone()));
        let users = self.way.no_longer_exempt.join(",");
        let users = (!users.is_empty() && !users.contains(' ')).then_some(("no-longer-exempt", users));
        let list = |names: &[String]| Some(names.join(",")).filter(|names| !names.is_empty());
        let replicas = list(&self.way.replicas).map(|names| ("replicas", names));
        let had_target = Some(("had-target", self.before.target.clone()));
        let failover = self.failover.as_ref();
        let without = failover.and_then(|failover| list(&failover.without)).map(|names| ("without", names));
        let stand_in = failover.and_then(|failover| failover.stand_in.as_ref());
        let stand_in = stand_in.map(|stand_in| ("had-stand-in", stand_in.to_word()));
        let by = Some(("by", self.by.replace([' ', '='], "_")));
        for (name, value) in
            [position, target, users, replicas, without, stand_in, had_target, by].into_iter().flatten()
        {
            let word = format!("{name}={value} ");
            if note.chars().count() + word.chars().count() <= MAX_NOTE {
                note += &word;
            }
        }
        note.truncate(note.trim_end().len());
        note
    }

    /// Reads a note. `None` if it is not about a switchover.
    #[must_use]
    pub fn from_note(note: &str) -> Option<Self> {
        let words = note.strip_prefix(PREFIX)?;
        let word = |name: &str| words.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let list = |name| -> Vec<String> {
            word(name).map(|names| names.split(',').map(str::to_owned).collect()).unwrap_or_default()
        };
        let flag = |name| word(name).map(|value| value == "1");
        Some(Self {
            id: word("id")?.to_owned(),
            old: named(word("old")?)?,
            new: named(word("new")?)?,
            way: Way {
                target: word("target").unwrap_or_default().to_owned(),
                all: flag("all")?,
                hold: flag("hold")?,
                reverse: flag("reverse")?,
                no_longer_exempt: list("no-longer-exempt"),
                replicas: list("replicas"),
            },
            before: Before {
                read_only: flag("was-read-only")?,
                target: word("had-target").unwrap_or_default().to_owned(),
                hold_timeout: word("had-hold-timeout").and_then(|seconds| seconds.parse().ok()),
                events: flag("had-events")?,
                reverse: flag("had-reverse")?,
            },
            failover: word("failover").map(|_| Failover {
                without: list("without"),
                fenced: flag("fenced").unwrap_or_default(),
                stand_in: word("had-stand-in").and_then(StandInBefore::from_word),
            }),
            position: word("position").and_then(|position| position.parse().ok()),
            promoting: flag("promoting")?,
            step: String::new(),
            by: word("by").unwrap_or_default().to_owned(),
        })
    }

    /// The most that is known from several sources: the file, and a note on each server. Notes of other switchovers are ignored.
    #[must_use]
    pub fn merged(mut self, others: impl IntoIterator<Item = Self>) -> Self {
        for other in others {
            if other.id == self.id {
                self.promoting |= other.promoting;
                self.position = self.position.or(other.position);
            }
        }
        self
    }
}

const PREFIX: &str = "instant-failover switchover";

fn server(server: &Named) -> String {
    format!("{}/{}/{}", server.name, server.server_id, server.started)
}

fn named(text: &str) -> Option<Named> {
    let mut parts = text.rsplitn(3, '/');
    let (started, server_id, name) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Named { name: name.to_owned(), server_id: server_id.parse().ok()?, started: started.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::{Before, Failover, MAX_NOTE, Mode, Named, Record, StandInBefore, Way};

    fn record() -> Record {
        Record {
            id: "5f3a".to_owned(),
            old: Named { name: "db1".to_owned(), server_id: 1, started: 1_700_000_000 },
            new: Named { name: "a/b".to_owned(), server_id: 2, started: 1_700_000_001 },
            way: Way {
                target: "db2.example.com:3306".to_owned(),
                all: false,
                hold: true,
                reverse: true,
                no_longer_exempt: vec!["root".to_owned(), "ops".to_owned()],
                replicas: vec!["db3".to_owned(), "db4".to_owned()],
            },
            before: Before {
                read_only: false,
                target: String::new(),
                hold_timeout: Some(10),
                events: true,
                reverse: false,
            },
            failover: None,
            position: Some("0-1-100,1-1-7".parse().unwrap()),
            promoting: true,
            step: String::new(),
            by: "ann@desk,14:03".to_owned(),
        }
    }

    #[test]
    fn a_note_tells_everything_that_another_machine_needs() {
        let record = record();
        assert_eq!(Record::from_note(&record.note()), Some(record.clone()));
        for other in
            ["", "hands off until Monday", "instant-failover switchover", "instant-failover switchover id=1 old=x"]
        {
            assert_eq!(Record::from_note(other), None, "{other}");
        }
        let mut failover = record.clone();
        failover.failover = Some(Failover {
            without: vec!["db3".to_owned(), "db4".to_owned()],
            fenced: true,
            stand_in: Some(StandInBefore {
                mode: Mode::Off,
                hold_timeout: 10,
                target: "[2001:db8::1]:3306".to_owned(),
            }),
        });
        let note = failover.note();
        assert_eq!(Record::from_note(&note), Some(failover.clone()));
        let json = serde_json::to_string(&failover).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), failover);
        // What is not a mode must not get into a statement.
        let wrong = |text: &str| text.replace("OFF", "OFF',read_only='0");
        assert_eq!(Record::from_note(&wrong(&note)).unwrap().failover.unwrap().stand_in, None);
        assert!(serde_json::from_str::<Record>(&wrong(&json)).is_err());
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
    }

    #[test]
    fn a_note_is_never_too_long() {
        let mut record = record();
        record.way.target = format!("{}:3306", "x".repeat(250));
        record.before.target.clone_from(&record.way.target);
        let note = record.note();
        assert!(note.parse::<failover::Note>().is_ok(), "{} of {MAX_NOTE}", note.chars().count());
        assert_eq!(Record::from_note(&note).unwrap().position, record.position);
    }

    #[test]
    fn one_note_that_says_promoting_is_enough() {
        let (mut file, note, mut other) = (record(), record(), record());
        (file.promoting, file.position) = (false, None);
        other.id = "other".to_owned();
        assert!(!file.clone().merged([other]).promoting);
        let merged = file.merged([note.clone()]);
        assert_eq!((merged.promoting, merged.position), (true, note.position));
    }
}
