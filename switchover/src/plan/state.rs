//! How far a switchover has come, judged by what the servers show.

use std::fmt;

use ::failover::Mode;

use super::failover;
use super::gtid::Gtid;
use super::record::{Evidence, Record};
use super::seen::{Seen, Server};

/// The state of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The old primary accepts writes, the new one is read only; no client is held or redirected.
    Steady,
    /// The same, and clients are held.
    Held,
    /// Both are read only, and the new one replicates.
    Fenced,
    /// Both are read only, and the new one does not replicate.
    Stopped,
    /// The new one accepts writes, or has done so. There is no way back.
    Promoted,
    /// The same, and the old one redirects to it.
    Redirected,
    /// The same, and the old one replicates from the new one.
    Reversed,
    /// Two primaries, or transactions on one server that the other one can never get.
    Diverged(Divergence),
    /// A server does not answer.
    Unreachable,
}

/// What is wrong with a pair that has diverged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Whether both accept writes.
    pub two_primaries: bool,
    /// What only the old primary has.
    pub only_old: Vec<Gtid>,
    /// What only the new primary has.
    pub only_new: Vec<Gtid>,
}

impl State {
    /// Judges.
    ///
    /// Without evidence of a promotion, two servers that accept writes are two primaries. With it, the old one has come back
    /// writable, and is made read only first.
    #[must_use]
    pub fn of(seen: &Seen, evidence: Evidence<'_>) -> Self {
        let (Some(old), Some(new)) = (&seen.old, &seen.new) else { return Self::Unreachable };
        let only_old = old.transactions.missing_on(&new.transactions);
        let only_new = new.lacking_on(old);
        let diverged = |two_primaries| {
            Self::Diverged(Divergence { two_primaries, only_old: only_old.clone(), only_new: only_new.clone() })
        };
        let has_written = new.wrote_after(evidence.position).is_some();
        match (old.read_only, new.read_only) {
            (false, false) if evidence.promoting => after_promotion(old, new, evidence),
            (false, false) => diverged(true),
            (true, false) if !only_old.is_empty() => diverged(false),
            (true, false) => after_promotion(old, new, evidence),
            (false, true) if evidence.promoting && has_written && only_old.is_empty() && !only_new.is_empty() => {
                after_promotion(old, new, evidence)
            }
            (false, true) if !only_new.is_empty() => diverged(false),
            (false, true) if old.mode == Mode::Hold => Self::Held,
            (false, true) => Self::Steady,
            (true, true) if !only_old.is_empty() && !only_new.is_empty() => diverged(false),
            (true, true) if has_written && only_old.is_empty() => after_promotion(old, new, evidence),
            // It has been promoted, and the old one has written since. Without a position, it may have been the primary long ago.
            (true, true) if has_written && evidence.position.is_some() => diverged(false),
            // The old primary must not be opened without what a third one wrote.
            (true, true) if only_new.iter().any(|gtid| gtid.server != new.server_id) => diverged(false),
            (true, true) if new.replicates_from(old.server_id) => Self::Fenced,
            (true, true) => Self::Stopped,
        }
    }

    /// Whether the new primary was promoted.
    #[must_use]
    pub const fn promotion(&self) -> Promotion {
        match self {
            Self::Fenced | Self::Stopped => Promotion::No,
            Self::Promoted | Self::Redirected | Self::Reversed => Promotion::Yes,
            Self::Steady | Self::Held | Self::Diverged(_) | Self::Unreachable => Promotion::Unknown,
        }
    }

    /// Whether the new primary was promoted: there is no way back.
    #[must_use]
    pub const fn is_promoted(&self) -> bool {
        matches!(self.promotion(), Promotion::Yes)
    }
}

/// Whether the new primary was promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promotion {
    /// Certainly not.
    No,
    /// The servers do not show it: the record decides.
    Unknown,
    /// There is no way back.
    Yes,
}

impl Promotion {
    /// Judges by what the servers show.
    #[must_use]
    pub fn of(seen: &Seen, record: &Record) -> Self {
        match record.failover {
            Some(_) => failover::State::of(seen, record).promotion(),
            None => State::of(seen, record.evidence()).promotion(),
        }
    }
}

/// Whether the old primary has anything that the new one wrote as a primary.
#[must_use]
pub fn has_mark(old: &Server, new: &Server, evidence: Evidence<'_>) -> bool {
    match evidence.position {
        Some(position) => old.transactions.has_any_after(new.server_id, position),
        None => new.wrote_after(None).is_some_and(|last| old.transactions.has(last)),
    }
}

/// After the promotion: how far.
fn after_promotion(old: &Server, new: &Server, evidence: Evidence<'_>) -> State {
    let is_open = new.mode == Mode::Off;
    if is_open
        && old.read_only
        && has_mark(old, new, evidence)
        && old.replicates_from(new.server_id)
        && old.mode.redirects()
    {
        State::Reversed
    } else if is_open && old.read_only && old.mode.redirects() {
        State::Redirected
    } else {
        State::Promoted
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Steady => "steady: the old primary accepts writes, and the new one is read only",
            Self::Held => "held: the old primary accepts writes, and new clients wait",
            Self::Fenced => "fenced: both servers are read only, and the new primary is still a replica",
            Self::Stopped => "stopped: both servers are read only, and the new primary does not replicate",
            Self::Promoted => "promoted: the new primary is promoted, and clients are not redirected yet",
            Self::Redirected => "redirected: the new primary is promoted, and clients are redirected to it",
            Self::Reversed => "reversed: the new primary is promoted, and the old one replicates from it",
            Self::Diverged(divergence) => return divergence.fmt(f),
            Self::Unreachable => "unknown: a server does not answer",
        })
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.two_primaries {
            "two primaries: both servers accept writes"
        } else {
            "the servers have diverged"
        })?;
        for (whose, gtids) in [("old", &self.only_old), ("new", &self.only_new)] {
            if !gtids.is_empty() {
                let list: Vec<_> = gtids.iter().map(ToString::to_string).collect();
                write!(f, "; only the {whose} primary has {}", list.join(","))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::gtid::Transactions;
    use super::super::record::Evidence;
    use super::super::seen::Seen;
    use super::super::unfinished::tests::server;
    use super::State;

    #[test]
    fn what_the_old_primary_wrote_after_the_promotion() {
        let (mut old, mut new) = (server(1, true, "0-1-9"), server(2, true, "0-2-8"));
        old.transactions = Transactions::parse("0-1-9,0-2-8", "").unwrap();
        new.transactions = Transactions::parse("0-1-7,0-2-8", "").unwrap();
        let seen = Seen { old: Some(old), new: Some(new), ..Seen::default() };
        let position = "0-1-7".parse().unwrap();
        let state = |position| State::of(&seen, Evidence { position, promoting: true });
        assert!(matches!(state(Some(&position)), State::Diverged(_)));
        // A replica that lags, and was the primary long ago.
        assert_eq!(state(None), State::Stopped);
    }

    #[test]
    fn what_a_third_server_wrote() {
        let (old, mut new) = (server(1, true, "0-1-7"), server(2, true, "0-1-7"));
        let position = "0-1-7".parse().unwrap();
        let evidence = Evidence { position: Some(&position), promoting: false };
        for (written, is_diverged) in [("0-1-7", false), ("0-1-7,0-2-6", false), ("0-1-7,0-3-8", true)] {
            new.transactions = Transactions::parse(written, "").unwrap();
            let seen = Seen { old: Some(old.clone()), new: Some(new.clone()), ..Seen::default() };
            let state = State::of(&seen, evidence);
            assert_eq!(matches!(state, State::Diverged(_)), is_diverged, "{written}: {state}");
        }
    }
}
