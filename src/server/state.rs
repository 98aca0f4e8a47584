//! The policy in force.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};

use failover::{Lease, Mode, Policy};

static POLICY: LazyLock<ArcSwap<InForce>> = LazyLock::new(ArcSwap::default);

/// A policy that is or was in force. Its number distinguishes it from all others, including later ones with the same settings.
#[derive(Debug, Default)]
pub(super) struct InForce {
    policy: Policy,
    pub(super) number: u64,
    /// Of the mode HOLD: there is none in another mode.
    lease: Option<Lease>,
    /// There is none while nothing is drained.
    pub(super) drain: Option<Drain>,
}

/// A drain under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    pub(super) began: Instant,
    /// The session that has set it, which it does not end.
    pub(super) by: u64,
}

impl InForce {
    /// How much is left of a HOLD; zero when it is over. `None` in another mode.
    pub(super) fn hold_left(&self, now: Instant) -> Option<Duration> {
        let lease = self.lease?;
        Some(lease.left(self.settings().hold_timeout(), now).unwrap_or_default())
    }

    pub(super) const fn lease(&self) -> Option<Lease> {
        self.lease
    }
}

impl Deref for InForce {
    type Target = Policy;

    fn deref(&self) -> &Policy {
        &self.policy
    }
}

/// Whether the policy in force concerns any client: all that a login reads while the mode is OFF. It is a hint and needs no
/// ordering: the policy decides.
static IN_FORCE: AtomicBool = AtomicBool::new(false);

/// Whether sessions are drained: all that a session reads before it waits for its client. A hint, too.
static DRAINING: AtomicBool = AtomicBool::new(false);

/// Held while waiters are told of a change.
static CHANGE: Mutex<()> = Mutex::new(());
static CHANGED: Condvar = Condvar::new();

/// Whether it is worth asking the policy: the mode is not OFF.
#[inline]
pub(super) fn is_on() -> bool {
    IN_FORCE.load(Ordering::Relaxed)
}

/// Whether it is worth looking for sessions to end.
#[inline]
pub(super) fn is_draining() -> bool {
    DRAINING.load(Ordering::Relaxed)
}

/// The policy in force: one whole value, whatever changes meanwhile. Never waits.
pub(super) fn policy() -> Guard<Arc<InForce>> {
    POLICY.load()
}

/// Redirects, holds and ends nobody, whatever the policy says. Cannot fail.
pub(super) fn disarm() {
    IN_FORCE.store(false, Ordering::SeqCst);
    DRAINING.store(false, Ordering::SeqCst);
}

/// Puts a policy in force. Callers take turns: see `variables` and `lifecycle`.
pub(super) fn put_in_force(policy: Policy, lease: Option<Lease>, drain: Option<Drain>) {
    static PUT: AtomicU64 = AtomicU64::new(0);
    let is_on = policy.settings().mode() != Mode::Off;
    let number = PUT.fetch_add(1, Ordering::Relaxed) + 1;
    POLICY.store(Arc::new(InForce { policy, number, lease, drain }));
    IN_FORCE.store(is_on, Ordering::SeqCst);
    DRAINING.store(drain.is_some(), Ordering::SeqCst);
    wake();
}

/// Ends every [`wait_for_change`].
pub(super) fn wake() {
    // Whoever found that there was nothing new waits by now.
    drop(lock());
    CHANGED.notify_all();
}

/// Waits until there is another policy than the one with this number, or [`wake`] is called; at most so long, and not at all if
/// `is_over`. Whoever makes that true calls [`wake`] afterwards.
pub(super) fn wait_for_change(number: u64, at_most: Duration, is_over: impl FnOnce() -> bool) {
    let change = lock();
    if policy().number == number && !is_over() {
        drop(CHANGED.wait_timeout(change, at_most));
    }
}

fn lock() -> MutexGuard<'static, ()> {
    CHANGE.lock().unwrap_or_else(PoisonError::into_inner)
}
