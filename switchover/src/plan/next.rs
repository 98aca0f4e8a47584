//! The next step.
//!
//! It is decided anew after each step, from what the servers show, from the record, and from what this process holds. So it does
//! not matter which process took the steps before, and whether each of them took effect.

use super::failover;
use super::gtid::Position;
use super::record::Record;
use super::seen::{Channel, Seen, Server};
use super::state::{Divergence, Promotion, State, has_mark};
use super::step::Step;
use ::failover::Mode;

/// Where a switchover goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// NEW is the primary.
    Forward,
    /// Clients can write to OLD meanwhile; then forward again.
    Again,
    /// Everything is as before.
    Back,
}

/// What this process knows from having done it itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// The position under the lock, as long as the session that holds the lock is open.
    pub fence: Option<Position>,
    /// The steps that succeeded in this attempt.
    pub done: Vec<Step>,
    /// The steps that failed, and are left out.
    pub skipped: Vec<Step>,
    /// The old primary had the note when this run found it: since then, nothing but this run can have gone further than the record
    /// says, also when that note is removed.
    pub found_note: bool,
}

impl Own {
    /// Whether a step was taken, or is left out.
    #[must_use]
    pub fn is_over(&self, step: Step) -> bool {
        self.done.contains(&step) || self.skipped.contains(&step)
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Take this step.
    Take(Step),
    /// The goal is reached.
    Arrived,
    /// This attempt cannot succeed.
    Fails(String),
    /// Nor can another one.
    Abandon(String),
    /// A server does not answer, and nothing is right without it.
    Await(Missing),
    /// Going back is not possible: the new primary has been promoted.
    TooLate,
    /// Nothing may be changed any more.
    Diverged(Divergence),
    /// The same, because something else has changed whom they replicate from since it began, and what.
    Overtaken(String),
}

/// Which server does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The old primary.
    Old,
    /// The new primary.
    New,
}

/// Decides.
#[must_use]
pub fn next(goal: Goal, seen: &Seen, record: &Record, own: &Own) -> Next {
    if let Some(why) = overtaken(seen, record) {
        return Next::Overtaken(why);
    }
    if let Some(parts) = &record.failover {
        return failover::next(goal, seen, record, parts, own);
    }
    let state = State::of(seen, record.evidence());
    if let State::Diverged(divergence) = state {
        return Next::Diverged(divergence);
    }
    match (goal, &seen.old, &seen.new) {
        (Goal::Forward, Some(old), Some(new)) if state.is_promoted() => after_promotion(old, new, record, own),
        (Goal::Forward, Some(old), Some(new)) => before_promotion(&state, old, new, record, own),
        (_, Some(_), Some(_)) if state.is_promoted() => Next::TooLate,
        // It may have been promoted, by this run or by one that this record knows nothing of: OLD stays fenced.
        (_, Some(old), None) if record.promoting || !is_of_this_run(old, record, own) => Next::Await(Missing::New),
        (Goal::Again | Goal::Back, Some(old), new) => back(goal, old, new.as_ref(), record, own),
        (Goal::Forward, Some(_), None) => Next::Await(Missing::New),
        (_, None, _) => Next::Await(Missing::Old),
    }
}

/// A server that replicates from a third one: no switchover or failover begins with such, so another one has come in between.
#[must_use]
pub fn overtaken(seen: &Seen, record: &Record) -> Option<String> {
    let ids = [record.old.server_id, record.new.server_id];
    // One to a server of the pair that never connected is recognised by its address, if that server has told its id.
    let are_known = record.failover.is_some() || seen.old.is_some() && seen.new.is_some();
    let is_third = |channel: &&Channel| channel.source.map_or(are_known, |id| !ids.contains(&id));
    let third = |server: &Server| server.channels.iter().find(is_third).cloned();
    let servers = [(&record.old, &seen.old), (&record.new, &seen.new)];
    servers.into_iter().find_map(|(named, server)| Some((named, third(server.as_ref()?)?))).map(|(named, channel)| {
        format!("{} replicates from {} ({})", named.name, channel.source_name(), channel.address)
    })
}

/// Whether nothing but this run can have gone further than the record says: the old primary still has its note.
fn is_of_this_run(old: &Server, record: &Record, own: &Own) -> bool {
    own.found_note || own.done.contains(&Step::Begin) || has_note(old, record)
}

/// Whether a server has the note of a switchover.
#[must_use]
pub fn has_note(server: &Server, record: &Record) -> bool {
    Record::from_note(&server.note).is_some_and(|note| note.id == record.id)
}

/// Whether the server that is, or was, the primary may have been down since this began, so that a failover may have made another one.
#[must_use]
pub fn has_restarted(seen: &Seen, record: &Record) -> bool {
    let lacks_note = |server: &Option<Server>| server.as_ref().is_none_or(|server| !has_note(server, record));
    let is_promoted = Promotion::of(seen, record) == Promotion::Yes;
    lacks_note(&seen.old) || is_promoted && lacks_note(&seen.new)
}

fn before_promotion(state: &State, old: &Server, new: &Server, record: &Record, own: &Own) -> Next {
    if !own.is_over(Step::Begin) {
        return Next::Take(Step::Begin);
    }
    // While it was down, a failover may have made another one the primary: nothing may be promoted.
    if own.found_note && !has_note(old, record) {
        return Next::Abandon("the old primary has restarted: its note is gone".to_owned());
    }
    if record.way.reverse && !old.replicates_from(new.server_id) && !old.read_only {
        return Next::Take(Step::Prepare);
    }
    if old.target != record.way.target {
        return Next::Take(Step::Aim);
    }
    if record.way.hold && old.mode != Mode::Hold {
        return if own.done.contains(&Step::Hold) {
            Next::Fails("the old primary no longer holds clients: instant_failover_hold_timeout has passed".to_owned())
        } else {
            Next::Take(Step::Hold)
        };
    }
    if record.way.hold && !old.read_only && !own.is_over(Step::Drain) {
        return Next::Take(Step::Drain);
    }
    let Some(position) = own.fence.as_ref().filter(|_| old.read_only) else {
        return if own.done.contains(&Step::Fence) {
            Next::Fails("the lock on the old primary was lost".to_owned())
        } else {
            Next::Take(Step::Fence)
        };
    };
    let has_all = new.transactions.reaches(position);
    match state {
        State::Fenced if has_all => Next::Take(Step::StopReplica),
        State::Fenced => Next::Take(Step::CatchUp),
        State::Stopped if has_all => Next::Take(Step::Promote),
        // Replication ended early, or another run stopped it before this one set up the fence.
        State::Stopped if own.is_over(Step::StartReplica) => {
            Next::Fails("the new primary does not replicate".to_owned())
        }
        State::Stopped => Next::Take(Step::StartReplica),
        _ => Next::Fails(format!("unexpected state: {state}")),
    }
}

/// Another machine must not take it for one that can go back, while NEW does not answer.
pub(super) fn has_outdated_note(server: &Server, record: &Record) -> bool {
    Record::from_note(&server.note).is_some_and(|note| note.id == record.id && !note.promoting)
}

fn after_promotion(old: &Server, new: &Server, record: &Record, own: &Own) -> Next {
    if !own.is_over(Step::Note) && [old, new].iter().any(|server| has_outdated_note(server, record)) {
        return Next::Take(Step::Note);
    }
    // It restarted. Events write in spite of read_only until they are moved.
    if !old.read_only || (old.events_run && !own.is_over(Step::MoveEvents)) {
        return Next::Take(Step::CloseOld);
    }
    // It restarted: replication has begun again by itself, and it is read only.
    let to_old = new.channel_from(old.server_id);
    if to_old.is_some_and(Channel::is_active) {
        return Next::Take(Step::StopReplica);
    }
    if new.read_only {
        return Next::Take(Step::Reopen);
    }
    let mark = new.wrote_after(record.position.as_ref());
    if mark.is_none() && !own.is_over(Step::Mark) {
        return Next::Take(Step::Mark);
    }
    if new.mode != Mode::Off {
        return Next::Take(Step::Admit);
    }
    if old.mode != record.way.mode() || old.target != record.way.target {
        return Next::Take(Step::Redirect);
    }
    if !own.is_over(Step::Disconnect) {
        return Next::Take(Step::Disconnect);
    }
    if own.fence.is_some() {
        return Next::Take(Step::Unlock);
    }
    let reversed = record.way.reverse && !own.skipped.contains(&Step::Attach);
    if reversed && !old.replicates_from(new.server_id) {
        return Next::Take(Step::Attach);
    }
    if reversed && !has_mark(old, new, record.evidence()) && !own.is_over(Step::AwaitMark) {
        return Next::Take(Step::AwaitMark);
    }
    for step in [Step::Repoint, Step::MoveEvents] {
        if !own.is_over(step) {
            return Next::Take(step);
        }
    }
    if to_old.is_some() && !own.skipped.contains(&Step::Detach) {
        return Next::Take(Step::Detach);
    }
    if own.is_over(Step::Finish) { Next::Arrived } else { Next::Take(Step::Finish) }
}

/// The new primary was not promoted, or it does not answer and its promotion had not begun.
fn back(goal: Goal, old: &Server, new: Option<&Server>, record: &Record, own: &Own) -> Next {
    // The old primary first: clients wait for it.
    if old.read_only != record.before.read_only || own.fence.is_some() {
        return Next::Take(Step::Unfence);
    }
    if old.mode != Mode::Off {
        return Next::Take(Step::Release);
    }
    if old.events_run != record.before.events {
        return Next::Take(Step::Unfence);
    }
    let left = |step, there| there && !own.skipped.contains(&step);
    let replicates = new.is_none_or(|new| new.replicates_from(old.server_id));
    if left(Step::StartReplica, !replicates) {
        return Next::Take(Step::StartReplica);
    }
    if goal == Goal::Again {
        return Next::Arrived;
    }
    if left(Step::Unaim, old.target != record.before.target) {
        return Next::Take(Step::Unaim);
    }
    // The new primary is not needed for that.
    let made_reverse = !record.before.reverse && old.channel_from(record.new.server_id).is_some();
    if left(Step::Unprepare, made_reverse) {
        return Next::Take(Step::Unprepare);
    }
    if own.is_over(Step::Forget) { Next::Arrived } else { Next::Take(Step::Forget) }
}
