//! The policy in force.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use arc_swap::{ArcSwap, Guard};

use crate::failover::Policy;

static POLICY: LazyLock<ArcSwap<Policy>> = LazyLock::new(ArcSwap::default);

/// Whether the policy in force redirects anybody: the one thing a login reads while the mode is OFF. It is a hint, and
/// needs no order with anything: the policy says what holds.
static REDIRECTING: AtomicBool = AtomicBool::new(false);

/// Whether it is worth asking the policy.
#[inline]
pub(super) fn redirecting() -> bool {
    REDIRECTING.load(Ordering::Relaxed)
}

/// The policy in force: one whole value, however the settings change meanwhile. Never waits.
pub(super) fn policy() -> Guard<Arc<Policy>> {
    POLICY.load()
}

/// From now on nobody is redirected, whatever the policy says. Cannot fail.
pub(super) fn disarm() {
    REDIRECTING.store(false, Ordering::SeqCst);
}

/// Puts a policy in force. Callers take turns: see `variables` and `lifecycle`.
pub(super) fn put_in_force(policy: Policy) {
    let redirects = policy.settings().mode().redirects();
    POLICY.store(Arc::new(policy));
    REDIRECTING.store(redirects, Ordering::SeqCst);
}
