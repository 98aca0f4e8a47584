//! A failover: the old primary is dead, and nothing is read from it or done there.
//!
//! Whether it is dead, a person or a command says; what speaks against it refuses ([`check`]). The replica that becomes the
//! primary must have everything that any other one has received.

pub mod check;

use std::fmt;

use ::failover::Mode;

use super::gtid::{Gtid, Position};
use super::next::{Goal, Missing, Next, Own, has_outdated_note};
use super::record::{Failover, Record};
use super::seen::{Around, Channel, Seen, Server};
use super::state::Promotion;
use super::step::Step;

/// How far a failover has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The new primary is read only, and still a replica.
    Following,
    /// The new primary is read only, and receives nothing more.
    Severed,
    /// The new primary accepts writes, or has done so. There is no way back.
    Promoted,
    /// The same, and it lets clients in; the stand-in, if there is one, redirects to it.
    Redirected,
    /// The new primary does not answer.
    Unreachable,
}

impl State {
    /// Judges.
    #[must_use]
    pub fn of(seen: &Seen, record: &Record) -> Self {
        let Some(new) = &seen.new else { return Self::Unreachable };
        let old = record.old.server_id;
        if new.read_only && new.wrote_after(record.position.as_ref()).is_none() {
            return if receives(new, old) { Self::Following } else { Self::Severed };
        }
        let leads =
            seen.around.stand_in.as_ref().is_none_or(|one| one.mode == Mode::On && one.target == record.way.target);
        if !new.read_only && new.mode == Mode::Off && leads { Self::Redirected } else { Self::Promoted }
    }

    /// Whether the new primary was promoted.
    #[must_use]
    pub const fn promotion(self) -> Promotion {
        match self {
            Self::Following | Self::Severed => Promotion::No,
            Self::Promoted | Self::Redirected => Promotion::Yes,
            Self::Unreachable => Promotion::Unknown,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Following => "following: the new primary is read only, and still a replica of the one that is dead",
            Self::Severed => {
                "severed: the new primary is read only, and receives nothing more from the one that is dead"
            }
            Self::Promoted => "promoted: the new primary is promoted, and clients are not redirected yet",
            Self::Redirected => "redirected: the new primary is promoted, and accepts clients",
            Self::Unreachable => "unknown: the new primary does not answer",
        })
    }
}

/// Decides.
#[must_use]
pub fn next(goal: Goal, seen: &Seen, record: &Record, parts: &Failover, own: &Own) -> Next {
    let is_promoted = State::of(seen, record).promotion() == Promotion::Yes;
    match (goal, &seen.new) {
        (Goal::Forward, Some(new)) if is_promoted => after_promotion(new, &seen.around, record, own),
        (Goal::Forward, Some(new)) => before_promotion(new, &seen.around, record, parts, own),
        (_, Some(_)) if is_promoted => Next::TooLate,
        // It may have been promoted: clients are not let in, and nothing is undone.
        (Goal::Forward, None) => Next::Await(Missing::New),
        (_, None) if record.promoting => Next::Await(Missing::New),
        (Goal::Again | Goal::Back, new) => back(new.as_ref(), &seen.around, record, parts, own),
    }
}

fn before_promotion(new: &Server, around: &Around, record: &Record, parts: &Failover, own: &Own) -> Next {
    let old = record.old.server_id;
    if !own.is_over(Step::Begin) {
        return Next::Take(Step::Begin);
    }
    if around.stand_in.as_ref().is_some_and(|one| one.mode != Mode::Hold) && !own.is_over(Step::HoldAtStandIn) {
        return Next::Take(Step::HoldAtStandIn);
    }
    for replica in &around.replicas {
        if replica.is_taken {
            return Next::Fails(format!("another instant-failover is working on {}", replica.name));
        }
        if replica.server.is_none() && !parts.without.contains(&replica.name) {
            return Next::Fails(format!("{} does not answer, and may have received more", replica.name));
        }
    }
    if receives(new, old) || replicas(around).any(|(_, server)| receives(server, old)) {
        return Next::Take(Step::Sever);
    }
    if !own.done.contains(&Step::Apply) {
        return Next::Take(Step::Apply);
    }
    for (name, server) in replicas(around) {
        if let Some(gtid) = more_than(server, new, old) {
            return Next::Fails(format!(
                "{name} has {gtid}, which {} has not: the one with everything must become the primary",
                record.new.name
            ));
        }
    }
    if new.channel_from(old).is_some_and(Channel::is_active) {
        return Next::Take(Step::StopReplica);
    }
    Next::Take(Step::TakeOver)
}

fn after_promotion(new: &Server, around: &Around, record: &Record, own: &Own) -> Next {
    let old = record.old.server_id;
    if !own.is_over(Step::Note) && has_outdated_note(new, record) {
        return Next::Take(Step::Note);
    }
    // It restarted, and replication has begun again.
    let to_old = new.channel_from(old);
    if to_old.is_some_and(Channel::is_active) {
        return Next::Take(Step::StopReplica);
    }
    if new.read_only {
        return Next::Take(Step::Reopen);
    }
    if new.wrote_after(record.position.as_ref()).is_none() && !own.is_over(Step::Mark) {
        return Next::Take(Step::Mark);
    }
    if new.mode != Mode::Off {
        return Next::Take(Step::Admit);
    }
    let leads_elsewhere = |one: &super::seen::StandIn| one.mode != Mode::On || one.target != record.way.target;
    if around.stand_in.as_ref().is_some_and(leads_elsewhere) && !own.skipped.contains(&Step::RedirectAtStandIn) {
        return Next::Take(Step::RedirectAtStandIn);
    }
    if !own.is_over(Step::Repoint) {
        return Next::Take(Step::Repoint);
    }
    if to_old.is_some() && !own.skipped.contains(&Step::Detach) {
        return Next::Take(Step::Detach);
    }
    if own.is_over(Step::Finish) { Next::Arrived } else { Next::Take(Step::Finish) }
}

/// The new primary was not promoted.
fn back(new: Option<&Server>, around: &Around, record: &Record, parts: &Failover, own: &Own) -> Next {
    let old = record.old.server_id;
    if let (Some(now), Some(before)) = (&around.stand_in, &parts.stand_in)
        && (now.mode != before.mode || now.target != before.target)
        && !own.is_over(Step::ReleaseAtStandIn)
    {
        return Next::Take(Step::ReleaseAtStandIn);
    }
    let stopped = |server: &Server| server.channel_from(old).is_some_and(|channel| !channel.receives);
    if (new.is_some_and(stopped) || replicas(around).any(|(_, server)| stopped(server))) && !own.is_over(Step::Receive)
    {
        return Next::Take(Step::Receive);
    }
    if own.is_over(Step::Forget) { Next::Arrived } else { Next::Take(Step::Forget) }
}

fn replicas(around: &Around) -> impl Iterator<Item = (&str, &Server)> {
    around.replicas.iter().filter_map(|replica| Some((replica.name.as_str(), replica.server.as_ref()?)))
}

fn receives(server: &Server, old: u32) -> bool {
    server.channel_from(old).is_some_and(|channel| channel.receives)
}

/// A transaction that one replica has, or has received, and another one has not even received.
#[must_use]
pub fn more_than(one: &Server, other: &Server, old: u32) -> Option<Gtid> {
    let received =
        |server: &Server| server.channel_from(old).map(|channel| channel.received.clone()).unwrap_or_default();
    let (ours, theirs): (Position, Position) = (received(one), received(other));
    let has = |gtid: &Gtid| {
        let in_relay_log = theirs.in_domain(gtid.domain).is_some_and(|last| last.sequence >= gtid.sequence);
        in_relay_log || other.transactions.has(*gtid)
    };
    let applied = one.transactions.missing_on(&other.transactions);
    // What it wrote itself is not of the old primary.
    ours.last().chain(applied).find(|gtid| gtid.server != one.server_id && !has(gtid))
}
