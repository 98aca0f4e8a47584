//! Global transaction ids.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One transaction: domain, server and sequence number, written `0-1-100`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gtid {
    /// The replication domain.
    pub domain: u32,
    /// The `server_id` of the server that wrote it.
    pub server: u32,
    /// The number within the domain.
    pub sequence: u64,
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.sequence)
    }
}

impl FromStr for Gtid {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, GtidError> {
        let wrong = || GtidError(text.to_owned());
        let mut parts = text.trim().split('-');
        let mut part = || parts.next().ok_or_else(wrong);
        let (domain, server, sequence) = (part()?, part()?, part()?);
        let gtid = Self {
            domain: domain.parse().map_err(|_| wrong())?,
            server: server.parse().map_err(|_| wrong())?,
            sequence: sequence.parse().map_err(|_| wrong())?,
        };
        if parts.next().is_some() { Err(wrong()) } else { Ok(gtid) }
    }
}

/// A text that is not a GTID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GtidError(String);

impl fmt::Display for GtidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is not a GTID", self.0)
    }
}

impl std::error::Error for GtidError {}

fn list(text: &str) -> impl Iterator<Item = Result<Gtid, GtidError>> {
    text.split(',').filter(|entry| !entry.trim().is_empty()).map(str::parse)
}

/// The last transaction of each domain, as in `@@gtid_binlog_pos` and `@@gtid_slave_pos`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Position(BTreeMap<u32, Gtid>);

impl Position {
    /// Whether it contains no domain. `MASTER_GTID_WAIT` of an empty position returns immediately.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The last transaction in each domain.
    pub fn last(&self) -> impl Iterator<Item = Gtid> {
        self.0.values().copied()
    }

    /// The last transaction in a domain.
    #[must_use]
    pub fn in_domain(&self, domain: u32) -> Option<Gtid> {
        self.0.get(&domain).copied()
    }

    /// The part that a server must have received: without what it wrote itself, for which `MASTER_GTID_WAIT` would wait forever.
    #[must_use]
    pub fn received_by(&self, server: u32) -> Self {
        Self(self.0.iter().filter(|(_, gtid)| gtid.server != server).map(|(domain, gtid)| (*domain, *gtid)).collect())
    }
}

impl FromIterator<Gtid> for Position {
    fn from_iter<T: IntoIterator<Item = Gtid>>(gtids: T) -> Self {
        Self(gtids.into_iter().map(|gtid| (gtid.domain, gtid)).collect())
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, self.last())
    }
}

impl FromStr for Position {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, GtidError> {
        list(text).collect()
    }
}

impl TryFrom<String> for Position {
    type Error = GtidError;

    fn try_from(text: String) -> Result<Self, GtidError> {
        text.parse()
    }
}

impl From<Position> for String {
    fn from(position: Position) -> Self {
        position.to_string()
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, gtids: impl Iterator<Item = Gtid>) -> fmt::Result {
    for (n, gtid) in gtids.enumerate() {
        if n > 0 {
            f.write_str(",")?;
        }
        write!(f, "{gtid}")?;
    }
    Ok(())
}

/// Which transactions a server has: the last one of each domain and server in its binary log, and what it has applied as a
/// replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transactions {
    written: BTreeMap<(u32, u32), u64>,
    applied: Position,
}

impl Transactions {
    /// From `@@gtid_binlog_state` and `@@gtid_slave_pos`.
    ///
    /// # Errors
    /// If they are not lists of GTIDs.
    pub fn parse(binlog_state: &str, slave_pos: &str) -> Result<Self, GtidError> {
        let mut written = BTreeMap::new();
        for gtid in list(binlog_state) {
            let gtid = gtid?;
            written.insert((gtid.domain, gtid.server), gtid.sequence);
        }
        Ok(Self { written, applied: slave_pos.parse()? })
    }

    /// Whether the server has a transaction.
    ///
    /// Its binary log tells, where that knows the server that wrote it. A server that was set up from a backup has older
    /// transactions that its binary log never saw: of those, the position it has applied tells.
    #[must_use]
    pub fn has(&self, gtid: Gtid) -> bool {
        let applied = || self.applied.in_domain(gtid.domain).map(|applied| applied.sequence);
        let last = self.written.get(&(gtid.domain, gtid.server)).copied().or_else(applied);
        last.is_some_and(|last| last >= gtid.sequence)
    }

    /// Whether its binary log has anything that another server wrote.
    #[must_use]
    pub fn knows(&self, server: u32) -> bool {
        self.written.keys().any(|(_, written_by)| *written_by == server)
    }

    /// Whether the binary log has a transaction.
    #[must_use]
    pub fn wrote(&self, gtid: Gtid) -> bool {
        self.written.get(&(gtid.domain, gtid.server)).is_some_and(|last| *last >= gtid.sequence)
    }

    /// Whether both binary logs have something that the same server wrote.
    #[must_use]
    pub fn share_a_writer(&self, other: &Self) -> bool {
        self.written.keys().any(|(_, written_by)| other.knows(*written_by))
    }

    /// Whether the server has everything up to a position.
    #[must_use]
    pub fn reaches(&self, position: &Position) -> bool {
        position.last().all(|gtid| self.has(gtid))
    }

    /// Whether the server has a transaction that another server wrote after a position.
    #[must_use]
    pub fn has_any_after(&self, server: u32, position: &Position) -> bool {
        let of_server = self.written.iter().filter(|((_, written_by), _)| *written_by == server);
        of_server
            .into_iter()
            .any(|((domain, _), last)| position.in_domain(*domain).is_none_or(|before| *last > before.sequence))
    }

    /// The last transaction of each domain and server that this server has and the other one lacks.
    #[must_use]
    pub fn missing_on(&self, other: &Self) -> Vec<Gtid> {
        let written = self.written.iter().map(|(&(domain, server), &sequence)| Gtid { domain, server, sequence });
        written.filter(|&gtid| !other.has(gtid)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Gtid, Position, Transactions};

    fn gtid(text: &str) -> Gtid {
        text.parse().unwrap()
    }

    #[test]
    fn positions_are_read_and_written() {
        for text in ["", "0-1-100", "0-1-100,5-3-7", "4294967295-4294967295-18446744073709551615"] {
            assert_eq!(text.parse::<Position>().unwrap().to_string(), text);
        }
        assert_eq!("1-1-1, 0-2-3".parse::<Position>().unwrap().to_string(), "0-2-3,1-1-1");
        for text in ["0", "0-1", "0-1-", "0-1-2-3", "a-1-2", "0-4294967296-1"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
        assert!("".parse::<Position>().unwrap().is_empty());
    }

    #[test]
    fn a_server_receives_only_what_others_wrote() {
        let position: Position = "0-1-100,5-2-7".parse().unwrap();
        assert_eq!(position.received_by(1).to_string(), "5-2-7");
        assert_eq!(position.received_by(2).to_string(), "0-1-100");
        assert_eq!(position.received_by(3), position);
    }

    #[test]
    fn what_a_server_has() {
        let server = Transactions::parse("0-1-100,0-2-57", "0-1-100").unwrap();
        for text in ["0-1-1", "0-1-100", "0-2-57", "0-3-40"] {
            assert!(server.has(gtid(text)), "{text}");
        }
        // 0-2-58 would be below what it has applied, but its binary log knows server 2, and not that one.
        for text in ["0-1-101", "0-2-58", "0-3-101", "1-1-1"] {
            assert!(!server.has(gtid(text)), "{text}");
        }
        assert!(server.reaches(&"0-1-99".parse().unwrap()));
        assert!(!server.reaches(&"0-1-99,1-1-1".parse().unwrap()));
    }

    #[test]
    fn diverged_servers_each_lack_something() {
        let old = Transactions::parse("0-1-101", "").unwrap();
        let new = Transactions::parse("0-1-100,0-2-101", "0-1-100").unwrap();
        assert_eq!(old.missing_on(&new), [gtid("0-1-101")]);
        assert_eq!(new.missing_on(&old), [gtid("0-2-101")]);
        assert_eq!(old.missing_on(&old), []);
    }
}
