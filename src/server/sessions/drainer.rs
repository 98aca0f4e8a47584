//! What the keeper does while sessions are drained.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::session::{Claim, Session};
use super::{pool, signal, table};
use crate::server::host::{self, Severity};
use crate::server::state::{self, InForce};
use failover::drain::{self, Doing};

/// How long the keeper waits between two looks at all sessions, at least.
const TICK: Duration = Duration::from_millis(5);

/// How many sessions are woken before the keeper rests, so that those that stay are served meanwhile.
const WOKEN: usize = 100;

/// How many are closed in a pool of threads, which serves them before whoever comes later.
const CLOSED: usize = 25;

/// How often the log names what is left.
const REPORT: Duration = Duration::from_secs(10);

/// How many sessions it names.
const NAMED: usize = 5;

/// How many sessions the log names at the end of a drain that they have outlived, each in a line of its own.
const NAMED_AT_THE_END: usize = 10;

/// What is remembered from one look to the next.
pub(in crate::server) struct Drainer {
    /// The drain that this belongs to.
    began: Instant,
    reported: Instant,
    /// Those that were left at the last look, by their numbers.
    left: Vec<(Arc<Session>, Known)>,
}

/// What is known of a session that is still there.
#[derive(Clone, Copy)]
struct Known {
    /// Its wait at the last look, and since when it has been at it.
    wait: u32,
    since: Instant,
    /// Whether it has been woken during this wait.
    is_woken: bool,
    /// In a pool of threads: since when it has been muted.
    muted: Option<Instant>,
    /// What it did at the last look.
    doing: Doing,
}

impl Drainer {
    /// A drain that began then.
    pub(in crate::server) const fn new(began: Instant) -> Self {
        Self { began, reported: began, left: Vec::new() }
    }

    pub(in crate::server) fn is_of(&self, policy: &InForce) -> bool {
        policy.drain.is_some_and(|drain| drain.began == self.began)
    }

    /// Wakes the sessions that are to be looked at or ended, batch by batch, and returns how long to wait until the next look.
    /// Stops when another policy is in force.
    pub(in crate::server) fn look(&mut self, policy: &InForce) -> Duration {
        if host::has_thread_pool() {
            pool::wake();
            pool::unmute(|session| !session.is_drained_by(policy));
        }
        let mut left = Vec::new();
        let (mut now, mut batch, mut goes_on) = (Instant::now(), 0, true);
        // Whether they are open is asked where it matters: that takes longer than anything else here.
        for session in table::all().into_iter().filter(|session| session.is_drained_by(policy)) {
            let mut known = self.find(session.id, session.wait(), now);
            let drained_for = now.saturating_duration_since(self.began);
            if !goes_on {
                // Only what is known is kept.
            } else if !session.has_own_thread() {
                batch += if look_in_pool(&session, &mut known, drained_for, now) { WOKEN / CLOSED } else { 0 };
            } else if needs_waking(&session, &known, drained_for, now) && wake(&session, &mut known) {
                batch += 1;
            }
            known.doing = session.doing();
            left.push((session, known));
            if batch >= WOKEN {
                batch = 0;
                state::wait_for_change(policy.number, TICK.max(now.elapsed()), || false);
                now = Instant::now();
                goes_on = is_in_force(policy);
            }
        }
        if now.saturating_duration_since(self.reported) >= REPORT {
            self.reported = now;
            left.retain(|(session, _)| session.is_open());
            report(&left, now);
        }
        left.sort_unstable_by_key(|(session, _)| session.id);
        self.left = left;
        // With many sessions a look takes long: it must not take all the time.
        TICK.max(now.elapsed() * 4)
    }

    fn find(&self, id: u64, wait: u32, now: Instant) -> Known {
        match self.left.binary_search_by_key(&id, |(session, _)| session.id) {
            Ok(index) if self.left[index].1.wait == wait => self.left[index].1,
            _ => Known { wait, since: now, is_woken: false, muted: None, doing: Doing::Busy },
        }
    }

    /// The drain is over: names in the log who has outlived it.
    pub(in crate::server) fn finish(mut self) {
        self.left.retain(|(session, _)| session.is_open() && !session.is_ended());
        if self.left.is_empty() {
            return;
        }
        for (session, known) in &mut self.left {
            // What it has said itself since the last look.
            known.doing = session.seen().unwrap_or(known.doing);
        }
        let now = Instant::now();
        let note = |text: &str| host::log(Severity::IFO_NOTE, text);
        note(&format!("the drain has ended, {}", how_many_left(self.left.len())));
        for (session, known) in oldest(&self.left, NAMED_AT_THE_END) {
            note(&format!("not drained: {}", describe(session, known, now)));
        }
        if let Some(others @ 1..) = self.left.len().checked_sub(NAMED_AT_THE_END) {
            note(&format!("not drained: and {others} more"));
        }
    }
}

/// Whether sessions are still drained, by this policy.
fn is_in_force(policy: &InForce) -> bool {
    let is_over = policy.hold_left(Instant::now()).is_some_and(|left| left.is_zero());
    state::is_draining() && state::policy().number == policy.number && !is_over
}

/// Looks at a session in a pool of threads, and ends it if it is to be ended now. Returns whether that has closed it.
fn look_in_pool(session: &Session, known: &mut Known, drained_for: Duration, now: Instant) -> bool {
    let quiet_for = now.saturating_duration_since(known.since);
    let is_due = |doing| quiet_for >= drain::QUIET && drain::ends(doing, drained_for, quiet_for);
    let was_closing = session.is(Claim::Closing);
    let doing = pool::look(session, &mut known.muted, is_due).unwrap_or(Doing::Busy);
    if session.seen().is_some_and(|seen| seen != doing) {
        known.since = now;
    }
    session.saw(known.wait, doing);
    !was_closing && session.is(Claim::Closing)
}

/// Whether a session is to be woken: it waits, and either nobody has looked at it during this wait, or it is idle and was
/// not ended, because it had not been quiet long enough.
fn needs_waking(session: &Session, known: &Known, drained_for: Duration, now: Instant) -> bool {
    if session.is_ended() || known.is_woken {
        return false;
    }
    let quiet_for = now.saturating_duration_since(known.since);
    match (session.seen(), known.wait) {
        (Some(doing), _) => drain::ends(doing, drained_for, quiet_for),
        // It may be in the middle of a statement, so it is not disturbed before it has done nothing for a while.
        (None, _) if quiet_for < drain::QUIET => false,
        (None, wait) => wait == 0 || !wait.is_multiple_of(2),
    }
}

/// Returns whether it was woken.
fn wake(session: &Arc<Session>, known: &mut Known) -> bool {
    let Some(thread) = session.thread else { return false };
    if !session.is_open() {
        table::remove(session);
        return false;
    }
    // If its wait began before the drain, or before the first one that we are told of, only the system knows whether it still
    // waits.
    if signal::is_polling(thread) == Some(false) {
        return false;
    }
    known.is_woken = true;
    session.set_quiet(known.wait);
    // The thread serves this session as long as its connection is open, and that took a while.
    let is_open = session.is_open();
    if is_open {
        signal::send(thread);
    }
    is_open
}

/// Names what is left in the log.
fn report(left: &[(Arc<Session>, Known)], now: Instant) {
    let names: Vec<_> = oldest(left, NAMED).map(|(session, known)| describe(session, known, now)).collect();
    if !names.is_empty() {
        let text = format!("draining, {}: {}", how_many_left(left.len()), names.join(", "));
        host::log(Severity::IFO_NOTE, &text);
    }
}

fn how_many_left(sessions: usize) -> String {
    format!("{sessions} {} left", if sessions == 1 { "session" } else { "sessions" })
}

/// Those of the sessions that have been doing the same for the longest time.
fn oldest(left: &[(Arc<Session>, Known)], at_most: usize) -> impl Iterator<Item = (&Session, &Known)> {
    let mut left: Vec<_> = left.iter().map(|(session, known)| (&**session, known)).collect();
    left.sort_by_key(|(_, known)| known.since);
    left.into_iter().take(at_most)
}

/// `17 app@192.0.2.1 in a transaction since 2026-11-26T03:04:05Z`
fn describe(session: &Session, known: &Known, now: Instant) -> String {
    let doing = match known.doing {
        Doing::Busy => "busy",
        Doing::InTransaction => "in a transaction",
        Doing::LockingTables => "in LOCK TABLES",
        Doing::Idle => "idle",
    };
    let since = SystemTime::now() - now.saturating_duration_since(known.since);
    format!("{} {doing} since {}", session.name(), humantime::format_rfc3339_seconds(since))
}
