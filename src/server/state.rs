//! The policy in force.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use arc_swap::{ArcSwap, Guard};

use failover::Policy;

static POLICY: LazyLock<ArcSwap<InForce>> = LazyLock::new(ArcSwap::default);

/// A policy that is or was in force. Its number distinguishes it from all others, including later ones with the same settings.
#[derive(Debug, Default)]
pub(super) struct InForce {
    policy: Policy,
    pub(super) number: u64,
}

impl Deref for InForce {
    type Target = Policy;

    fn deref(&self) -> &Policy {
        &self.policy
    }
}

/// Whether the policy in force redirects any client: all that a login reads while the mode is OFF. It is a hint and needs no
/// ordering: the policy decides.
static REDIRECTING: AtomicBool = AtomicBool::new(false);

/// Whether it is worth asking the policy.
#[inline]
pub(super) fn redirecting() -> bool {
    REDIRECTING.load(Ordering::Relaxed)
}

/// The policy in force: one whole value, whatever changes meanwhile. Never waits.
pub(super) fn policy() -> Guard<Arc<InForce>> {
    POLICY.load()
}

/// Stops redirecting, whatever the policy says. Cannot fail.
pub(super) fn disarm() {
    REDIRECTING.store(false, Ordering::SeqCst);
}

/// Puts a policy in force. Callers take turns: see `variables` and `lifecycle`.
pub(super) fn put_in_force(policy: Policy) {
    static PUT: AtomicU64 = AtomicU64::new(0);
    let redirects = policy.settings().mode().redirects();
    let number = PUT.fetch_add(1, Ordering::Relaxed) + 1;
    POLICY.store(Arc::new(InForce { policy, number }));
    REDIRECTING.store(redirects, Ordering::SeqCst);
}
