//! What was read from the servers.

use std::fmt;

use failover::{Mode, Target};

use super::gtid::{Gtid, Position, Transactions};

/// Both servers. `None` where a server did not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The server that is, or was, the primary. It is read before the other one, so that nothing it has can seem to be missing
    /// there only because of the time between the two.
    pub old: Option<Server>,
    /// The replica that becomes the primary.
    pub new: Option<Server>,
    /// In a failover, where nothing is read from the old primary: the servers around it.
    pub around: Around,
}

/// What a failover needs besides the new primary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// The other replicas of the old primary.
    pub replicas: Vec<Replica>,
    /// The stand-in on the address of the old primary.
    pub stand_in: Option<StandIn>,
}

/// Another replica of the old primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its group in the file.
    pub name: String,
    /// `None` if it does not answer.
    pub server: Option<Server>,
    /// Whether it answers, and another instant-failover is working on it.
    pub is_taken: bool,
}

/// A stand-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandIn {
    /// `@@instant_failover_mode`
    pub mode: Mode,
    /// `@@instant_failover_target`
    pub target: String,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `@@server_id`
    pub server_id: u32,
    /// `@@read_only`
    pub read_only: bool,
    /// `@@gtid_binlog_pos`
    pub position: Position,
    /// From `@@gtid_binlog_state` and `@@gtid_slave_pos`.
    pub transactions: Transactions,
    /// `SHOW ALL SLAVES STATUS`
    pub channels: Vec<Channel>,
    /// `@@instant_failover_mode`; the plugin is loaded on both servers, or nothing begins.
    pub mode: Mode,
    /// `@@instant_failover_target`
    pub target: String,
    /// `@@instant_failover_note`; empty also where the plugin has none.
    pub note: String,
    /// Whether `@@event_scheduler` is `ON`.
    pub events_run: bool,
}

/// What another server shows that may have become the primary of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beside {
    /// It accepts writes.
    Writes(String),
    /// It has a transaction that neither of the two has.
    HasMore(String, Gtid),
    /// It does not answer.
    Silent(String),
}

impl Beside {
    /// What to do if the one that it names has not become the primary.
    #[must_use]
    pub fn cure(&self, old: &str, new: &str) -> String {
        match self {
            Self::Writes(_) => {
                format!("if it has nothing to do with {old} and {new}, set cluster in the groups of the file")
            }
            Self::HasMore(..) => "if what only it has does not count, take its group out of the file".to_owned(),
            Self::Silent(_) => "start it, or, if it certainly has not, take its group out of the file".to_owned(),
        }
    }
}

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Writes(name) => write!(f, "{name} accepts writes"),
            Self::HasMore(name, gtid) => {
                write!(f, "{name} has {gtid}, which others lack: it may have been the primary since")
            }
            Self::Silent(name) => write!(f, "{name} does not answer, and may have become the primary"),
        }
    }
}

impl Server {
    /// The connection by which it replicates from another server.
    #[must_use]
    pub fn channel_from(&self, server_id: u32) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.source == Some(server_id))
    }

    /// Whether it replicates from another server now.
    #[must_use]
    pub fn replicates_from(&self, server_id: u32) -> bool {
        self.channel_from(server_id).is_some_and(Channel::runs)
    }

    /// Whether its clients are sent to this target, written with a port or without.
    #[must_use]
    pub fn redirects_to(&self, target: &str) -> bool {
        let both = (self.target.parse::<Target>(), target.parse::<Target>());
        self.mode.redirects() && matches!(both, (Ok(own), Ok(other)) if own.is_same_server(&other))
    }

    /// Whether it belongs with other servers. Unless it is known whether they are of the same cluster, their binary logs decide.
    fn belongs_with(&self, others: &[&Self], same_cluster: Option<bool>) -> bool {
        let have_a_past = |other: &&Self| {
            self.transactions.knows(other.server_id) || self.transactions.share_a_writer(&other.transactions)
        };
        same_cluster.unwrap_or_else(|| others.iter().any(have_a_past))
    }

    /// Whether it has become the primary of others: it accepts writes, replicates from none, and belongs with them.
    #[must_use]
    pub fn is_primary_beside(&self, others: &[&Self], same_cluster: Option<bool>) -> bool {
        !self.read_only && self.is_beside(others, same_cluster)
    }

    /// Whether it belongs with others, and replicates from none of them.
    fn is_beside(&self, others: &[&Self], same_cluster: Option<bool>) -> bool {
        let is_replica = others.iter().any(|other| self.replicates_from(other.server_id));
        !is_replica && self.belongs_with(others, same_cluster)
    }

    /// What shows that it may have become the primary of others. One that replicates from them has not.
    #[must_use]
    pub fn beside(&self, name: &str, others: &[&Self], same_cluster: Option<bool>) -> Option<Beside> {
        if !self.is_beside(others, same_cluster) {
            return None;
        }
        if !self.read_only {
            return Some(Beside::Writes(name.to_owned()));
        }
        self.has_more_than(others).map(|gtid| Beside::HasMore(name.to_owned(), gtid))
    }

    /// A transaction that it has, and that all others lack though none of them wrote it; or that it has received, and not from the one
    /// that wrote it.
    ///
    /// Its last one counts also where their positions have passed the number of that: a primary that had lagged when it was promoted
    /// uses numbers again.
    fn has_more_than(&self, others: &[&Self]) -> Option<Gtid> {
        let is_their_own = |gtid: &Gtid| others.iter().any(|other| other.server_id == gtid.server);
        let last = self.position.last().filter(|gtid| others.iter().all(|other| !other.transactions.wrote(*gtid)));
        let written = self.transactions.missing_on(&Transactions::default()).into_iter();
        let missing = written.filter(|gtid| others.iter().all(|other| !other.transactions.has(*gtid)));
        let of_others = |channel: &Channel| {
            let source = channel.source;
            channel.received.last().filter(move |gtid| source != Some(gtid.server)).collect::<Vec<_>>()
        };
        let received = self.channels.iter().flat_map(of_others);
        let received = received.filter(|gtid| others.iter().all(|other| !other.transactions.has(*gtid)));
        last.chain(missing).chain(received).find(|gtid| !others.is_empty() && !is_their_own(gtid))
    }

    /// What it has, and its primary lacks. What the primary itself wrote since it was read is not that.
    #[must_use]
    pub fn lacking_on(&self, primary: &Self) -> Vec<Gtid> {
        let mut extra = self.transactions.missing_on(&primary.transactions);
        extra.retain(|gtid| gtid.server != primary.server_id);
        extra
    }

    /// The last transaction that it wrote itself, if that came after a position: it was not a replica then.
    #[must_use]
    pub fn wrote_after(&self, position: Option<&Position>) -> Option<Gtid> {
        let own = self.position.last().filter(|gtid| gtid.server == self.server_id);
        own.into_iter().find(|gtid| {
            let before = position.and_then(|position| position.in_domain(gtid.domain));
            position.is_none() || before.is_none_or(|before| before.sequence < gtid.sequence)
        })
    }
}

/// A connection to a server that is replicated from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its name, usually empty.
    pub name: String,
    /// `Master_Server_Id`; `None` as long as it never connected.
    pub source: Option<u32>,
    /// `Master_Host` and `Master_Port`, with a colon.
    pub address: String,
    /// Whether the thread that receives runs: `Yes` or `Connecting`.
    pub receives: bool,
    /// Whether it is connected: `Yes`.
    pub is_connected: bool,
    /// `Gtid_IO_Pos`: what it has received, applied or not.
    pub received: Position,
    /// Whether the thread that applies runs.
    pub applies: bool,
}

impl Channel {
    /// The server that is replicated from, for people.
    #[must_use]
    pub fn source_name(&self) -> String {
        self.source.map_or_else(|| "an unknown server".to_owned(), |id| format!("server {id}"))
    }

    /// Whether both threads run; the one that receives may not be connected.
    #[must_use]
    pub const fn runs(&self) -> bool {
        self.receives && self.applies
    }

    /// Whether a thread runs.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.receives || self.applies
    }
}

#[cfg(test)]
mod tests {
    use failover::Mode;

    use super::super::unfinished::tests::{channel, server};
    use super::Beside;

    #[test]
    fn what_was_received_counts() {
        let new = server(2, true, "0-1-7");
        let mut other = server(3, true, "0-1-7");
        other.channels.push(channel(1));
        other.channels[0].received = "0-1-9".parse().unwrap();
        assert_eq!(other.beside("db3", &[&new], Some(true)), None, "from the one that wrote it");
        other.channels[0].source = None;
        let expected = Beside::HasMore("db3".to_owned(), "0-1-9".parse().unwrap());
        assert_eq!(other.beside("db3", &[&new], Some(true)), Some(expected));
    }

    #[test]
    fn targets_are_compared_as_clients_understand_them() {
        let mut one = server(1, true, "");
        one.target = "DB2.example.com".to_owned();
        assert!(!one.redirects_to("db2.example.com"), "it is in mode OFF");
        one.mode = Mode::On;
        for (target, expected) in
            [("db2.example.com", true), ("db2.example.com:3306", true), ("db2.example.com:3307", false), ("", false)]
        {
            assert_eq!(one.redirects_to(target), expected, "{target}");
        }
    }
}
