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
    /// A server that was not reached.
    #[must_use]
    pub fn unreachable(seen: String) -> Self {
        Self::failure("servers", seen, "correct its entry in the file with the servers, or start it")
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
