//! What must be right before anything changes.
//!
//! Everything is judged at once: a DBA who prepares a switchover wants the whole list.

mod accounts;
mod likeness;
mod replication;
mod roles;
mod work;

use serde::Serialize;

use super::facts::{Facts, ServerFacts};
use super::gtid::Gtid;
use super::record::Record;
use super::rolling;
use super::seen::{Channel, Seen};
use super::unfinished::Unfinished;

pub(super) use accounts::grants;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// A switchover works, with the consequence that is said.
    Warning,
    /// There is no switchover before this is mended.
    Failure,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about, in a word.
    pub about: &'static str,
    /// How it came out.
    pub level: Level,
    /// What was seen.
    pub seen: String,
    /// What to do; empty if nothing.
    pub cure: String,
}

impl Finding {
    /// A server that did not accept the account.
    #[must_use]
    pub fn refused(seen: String) -> Self {
        let cure =
            "wrong user or password in the file with the servers, or no such account for this host: correct that";
        Self::failure("servers", seen, cure)
    }

    /// Privileges that an account lacks, if it lacks some.
    #[must_use]
    pub fn privileges(name: &str, account: &str, held: &[String], series: (u32, u32)) -> Option<Self> {
        accounts::lacking(name, account, held, series)
    }

    /// A server that was reached, or not even asked, and cannot be judged.
    #[must_use]
    pub fn unusable(seen: String) -> Self {
        Self::failure("servers", seen, "correct that there, or its group in the file with the servers")
    }

    /// A server that was not reached.
    #[must_use]
    pub fn unreachable(seen: String) -> Self {
        Self::failure(
            "servers",
            seen,
            "correct its entry in the file with the servers, or start it; if it is a primary that is dead: instant-failover failover",
        )
    }

    /// Another replica with transactions of its own, which would go on replicating without anybody noticing that it differs.
    #[must_use]
    pub fn extra(name: &str, old: &str, extra: &[Gtid]) -> Option<Self> {
        let list: Vec<_> = extra.iter().map(ToString::to_string).collect();
        (!list.is_empty()).then(|| {
            Self::failure(
                "replicas",
                format!("{name} (--replica) has transactions that {old} lacks, up to {}", list.join(",")),
                format!("find them with mariadb-binlog on {name}, and rebuild it; or leave it out"),
            )
        })
    }

    /// Another server that seems to be a primary of the same servers.
    #[must_use]
    pub fn other_primary(name: &str, old: &str) -> Self {
        Self::failure(
            "others",
            format!("{name} accepts writes, replicates from neither, and belongs with {old} or has what it wrote"),
            format!(
                "is {name} the primary? If not, SET GLOBAL read_only = 1 there, and in its option file; if it has nothing to do with \
                 {old}, set cluster in the groups of the file"
            ),
        )
    }

    /// A replica of a server that has the id of the old primary, and perhaps is another one.
    #[must_use]
    pub fn other_address(new: &str, old: &str, channel: &Channel) -> Self {
        Self::failure(
            "replica",
            format!("{new} replicates from {}, which is not the address of {old} in the file", channel.address),
            format!(
                "if that is {old}: set replication-host and replication-port in its group, or the same cluster in the groups of both"
            ),
        )
    }

    /// A server that was named as a replica of the old primary, and replicates from elsewhere.
    #[must_use]
    pub fn no_replica(name: &str, old: &str, channels: &[Channel]) -> Self {
        let sources: Vec<_> =
            channels.iter().map(|channel| format!("{} ({})", channel.source_name(), channel.address)).collect();
        let but = if sources.is_empty() { String::new() } else { format!(", but from {}", sources.join(", ")) };
        Self::failure(
            "replicas",
            format!("{name} does not replicate from {old}{but}"),
            format!(
                "name replicas of {old} only; if that is {old}, give both groups the same value of cluster in the file"
            ),
        )
    }

    pub(super) fn ok(about: &'static str, seen: impl Into<String>) -> Self {
        Self { about, level: Level::Ok, seen: seen.into(), cure: String::new() }
    }

    pub(super) fn warning(about: &'static str, seen: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { about, level: Level::Warning, seen: seen.into(), cure: cure.into() }
    }

    pub(super) fn failure(about: &'static str, seen: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { about, level: Level::Failure, seen: seen.into(), cure: cure.into() }
    }
}

/// Judges.
#[must_use]
pub fn check(facts: &Facts) -> Vec<Finding> {
    if let Some(finding) = unfinished(facts) {
        // What it has changed so far looks wrong, and correcting that would undo it.
        return vec![finding];
    }
    let mut findings = Vec::new();
    if let (Some(old), Some(new)) = (&facts.old, &facts.new) {
        let pair = Pair { facts, old, new };
        if let Some(finding) = roles::swapped(&pair) {
            // Everything else would be said the wrong way round.
            return vec![finding];
        }
        roles::check(&pair, &mut findings);
        replication::check(&pair, &mut findings);
        accounts::check(&pair, &mut findings);
        work::check(&pair, &mut findings);
        likeness::check(&pair, &mut findings);
    }
    findings
}

/// An operation that left a note on a server.
fn unfinished(facts: &Facts) -> Option<Finding> {
    let wanted = &facts.wanted;
    let named = [(&wanted.old, &facts.old), (&wanted.new, &facts.new)];
    let servers: Vec<_> = named.into_iter().filter_map(|(name, server)| Some((name, &server.as_ref()?.seen))).collect();
    let records: Vec<Record> = servers.iter().filter_map(|(_, server)| Record::from_note(&server.note)).collect();
    if let Some(record) = records.first() {
        let get = |name: &str| servers.iter().find(|(other, _)| *other == name).map(|(_, server)| (*server).clone());
        let seen = Seen { old: get(&record.old.name), new: get(&record.new.name), ..Seen::default() };
        let unfinished = Unfinished::of(record.clone().merged(records), &seen);
        return Some(Finding::failure(
            "unfinished",
            format!("{}: {}", unfinished.name(), unfinished.state),
            format!("see instant-failover status; unless a command is working on it: {}", unfinished.cure()),
        ));
    }
    servers.into_iter().find_map(|(name, server)| {
        let (_, by) = rolling::noted(&server.note)?;
        Some(Finding::failure(
            "unfinished",
            format!("{name} redirects for a rolling restart by {by}"),
            "see instant-failover status; unless that command is running: resume, or back, where it began",
        ))
    })
}

/// The worst of all.
#[must_use]
pub fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}

/// Both servers.
struct Pair<'a> {
    facts: &'a Facts,
    old: &'a ServerFacts,
    new: &'a ServerFacts,
}

impl Pair<'_> {
    fn old_name(&self) -> &str {
        &self.facts.wanted.old
    }

    fn new_name(&self) -> &str {
        &self.facts.wanted.new
    }

    fn both(&self) -> [(&str, &ServerFacts); 2] {
        [(self.old_name(), self.old), (self.new_name(), self.new)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Facts, ServerFacts, Wanted};
    use super::super::record::Record;
    use super::super::unfinished::tests::{channel, record, server};
    use super::{Level, check};

    fn facts(old: ServerFacts, new: ServerFacts) -> Facts {
        let wanted = Wanted { old: "db1".to_owned(), new: "db2".to_owned(), ..Wanted::default() };
        Facts { old: Some(old), new: Some(new), wanted, ..Facts::default() }
    }

    #[test]
    fn an_unfinished_switchover_is_all_that_is_reported() {
        let (mut old, mut new) = (server(1, true, "0-1-7"), server(2, true, "0-1-7"));
        new.channels = vec![channel(1)];
        let judge =
            |old: &_, new: &_| check(&facts(ServerFacts::of(Clone::clone(old)), ServerFacts::of(Clone::clone(new))));
        assert!(judge(&old, &new).len() > 1);
        // One note is enough, and it does not matter on which server it is.
        for note in [Record { promoting: false, ..record() }.note(), record().note()] {
            for on_old in [true, false] {
                let (on, off) = if on_old { (&mut old, &mut new) } else { (&mut new, &mut old) };
                on.note.clone_from(&note);
                off.note.clear();
                let findings = judge(&old, &new);
                let [finding] = findings.as_slice() else { panic!("{findings:?}") };
                assert_eq!(finding.level, Level::Failure);
                assert!(finding.seen.contains("switchover from db1 to db2") && finding.seen.contains(": fenced: "));
                assert!(finding.cure.contains("resume db1 db2") && finding.cure.contains("back db1 db2"));
                assert!(!finding.cure.contains("SET GLOBAL"), "{findings:?}");
            }
        }
        // The names the other way round; and db1 is off.
        let mut facts = facts(ServerFacts::of(new), ServerFacts::of(old));
        (facts.wanted.old, facts.wanted.new) = ("db2".to_owned(), "db1".to_owned());
        assert!(check(&facts)[0].seen.contains(": fenced: "));
        facts.new = None;
        facts.old.as_mut().unwrap().seen.note = record().note();
        assert!(check(&facts)[0].seen.contains(": unknown: "), "{:?}", check(&facts));
    }

    #[test]
    fn a_rolling_restart_too() {
        let mut new = server(2, true, "0-1-7");
        new.note = "rolling 5f3a ann@desk".to_owned();
        let findings = check(&facts(ServerFacts::of(server(1, false, "0-1-7")), ServerFacts::of(new)));
        assert_eq!(findings.len(), 1);
        assert!(findings[0].seen.contains("db2 redirects for a rolling restart by ann@desk"), "{findings:?}");
    }
}
