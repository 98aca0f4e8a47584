//! What the keeper does while sessions are drained.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::session::Session;
use super::{pool, signal, table};
use crate::server::host::{self, Severity};
use crate::server::state::InForce;
use failover::drain::{self, Doing};

/// How long the keeper waits between two looks at all sessions, at least.
const TICK: Duration = Duration::from_millis(5);

/// How many sessions are woken at one look, so that those that stay are served meanwhile.
const BATCH: usize = 100;

/// After how long a session that is still in the same wait is woken again: the signal came before its thread was in `poll()`, so
/// that it interrupted nothing.
const AGAIN: Duration = Duration::from_millis(500);

/// How often the log names what is left.
const REPORT: Duration = Duration::from_secs(10);

/// How many sessions it names.
const NAMED: usize = 5;

/// What is remembered from one look to the next.
pub(in crate::server) struct Drainer {
    /// The drain that this belongs to.
    began: Instant,
    reported: Instant,
    known: Vec<Known>,
}

/// A session that is still there.
struct Known {
    id: u64,
    /// Its wait at the last look, and since when it has been at it.
    wait: u32,
    since: Instant,
    /// When it was last woken during this wait.
    woken: Option<Instant>,
    /// In a pool of threads: since when it has been muted.
    muted: Option<Instant>,
}

impl Drainer {
    /// A drain that began then.
    pub(in crate::server) const fn new(began: Instant) -> Self {
        Self { began, reported: began, known: Vec::new() }
    }

    pub(in crate::server) fn is_of(&self, policy: &InForce) -> bool {
        policy.drain.is_some_and(|drain| drain.began == self.began)
    }

    /// Wakes the sessions that are to be looked at or ended, and returns how long to wait until the next look.
    pub(in crate::server) fn look(&mut self, policy: &InForce) -> Duration {
        if host::has_thread_pool() {
            pool::wake();
            pool::unmute(|session| !session.is_drained_by(policy));
        }
        let now = Instant::now();
        let drained_for = now.saturating_duration_since(self.began);
        let mut left = Vec::new();
        let mut woken = 0;
        for session in table::open().into_iter().filter(|session| session.is_drained_by(policy)) {
            let mut known = self.find(session.id, session.wait(), now);
            if !session.has_own_thread() {
                look_in_pool(&session, &mut known, drained_for, now);
            } else if woken < BATCH && needs_waking(&session, &known, drained_for, now) {
                woken += usize::from(wake(&session, &mut known, now));
            }
            left.push((session, known));
        }
        if now.saturating_duration_since(self.reported) >= REPORT {
            self.reported = now;
            report(&mut left, now);
        }
        self.known = left.into_iter().map(|(_, known)| known).collect();
        self.known.sort_unstable_by_key(|known| known.id);
        // With many sessions a look takes long: it must not take all the time.
        TICK.max(now.elapsed() * 4)
    }

    fn find(&self, id: u64, wait: u32, now: Instant) -> Known {
        match self.known.binary_search_by_key(&id, |known| known.id) {
            Ok(index) if self.known[index].wait == wait => {
                let Known { since, woken, muted, .. } = self.known[index];
                Known { id, wait, since, woken, muted }
            }
            _ => Known { id, wait, since: now, woken: None, muted: None },
        }
    }
}

/// Looks at a session in a pool of threads, and ends it if it is to be ended now.
fn look_in_pool(session: &Session, known: &mut Known, drained_for: Duration, now: Instant) {
    let quiet_for = now.saturating_duration_since(known.since);
    let is_due = |doing| quiet_for >= drain::QUIET && drain::ends(doing, drained_for, quiet_for);
    let doing = pool::look(session, &mut known.muted, is_due).unwrap_or(Doing::Busy);
    if session.seen().is_some_and(|seen| seen != doing) {
        known.since = now;
    }
    session.saw(known.wait, doing);
}

/// Whether a session is to be woken: it waits, and either nobody has looked at it during this wait, or it is idle and was
/// not ended, because it had not been quiet long enough.
fn needs_waking(session: &Session, known: &Known, drained_for: Duration, now: Instant) -> bool {
    let has_just_been_woken = |at| now.saturating_duration_since(at) < AGAIN;
    if session.is_ended() || known.woken.is_some_and(has_just_been_woken) {
        return false;
    }
    let quiet_for = now.saturating_duration_since(known.since);
    match (session.seen(), known.wait) {
        (Some(doing), _) => drain::ends(doing, drained_for, quiet_for),
        // It may be in the middle of a statement, so it is not disturbed before it has done nothing for a while.
        (None, _) if quiet_for < drain::QUIET => false,
        // Before the first wait that we are told of, only the system knows what it is doing; in poll(), the signal has interrupted it.
        (None, 0) => {
            known.woken.is_none() && session.thread.is_some_and(|thread| signal::is_polling(thread) != Some(false))
        }
        (None, wait) => !wait.is_multiple_of(2),
    }
}

/// Returns whether it was woken.
fn wake(session: &Session, known: &mut Known, now: Instant) -> bool {
    let Some(thread) = session.thread else { return false };
    known.woken = Some(now);
    session.set_quiet(known.wait);
    // The thread serves this session as long as its connection is open.
    let is_open = session.is_open();
    if is_open {
        signal::send(thread);
    }
    is_open
}

/// Names what is left in the log.
fn report(left: &mut [(Arc<Session>, Known)], now: Instant) {
    left.sort_by_key(|(_, known)| known.since);
    let names: Vec<_> = left.iter().take(NAMED).map(|(session, known)| describe(session, known, now)).collect();
    if !names.is_empty() {
        let sessions = if left.len() == 1 { "session" } else { "sessions" };
        host::log(Severity::IFO_NOTE, &format!("draining, {} {sessions} left: {}", left.len(), names.join(", ")));
    }
}

/// `17 app@192.0.2.1 in a transaction since 2026-11-26T03:04:05Z`
fn describe(session: &Session, known: &Known, now: Instant) -> String {
    let doing = match session.doing() {
        Doing::Busy => "busy",
        Doing::InTransaction => "in a transaction",
        Doing::Idle => "idle",
    };
    let since = SystemTime::now() - now.saturating_duration_since(known.since);
    format!("{} {doing} since {}", session.name(), humantime::format_rfc3339_seconds(since))
}
