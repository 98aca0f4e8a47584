//! Which open sessions a drain ends, and when.

use std::time::Duration;

/// Pools often test a connection with a ping before they lend it. For so long after the beginning of a drain, no session is
/// ended between such a ping and the first statement: only sessions that have been idle for [`QUIET`] are.
pub const POLITE: Duration = Duration::from_secs(1);

/// How long a session has been idle before it is ended politely.
pub const QUIET: Duration = Duration::from_millis(50);

/// What a session is doing when it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It executes a command, or has not been looked at since it began one.
    Busy,
    /// It waits for the next command inside a transaction.
    InTransaction,
    /// It waits for the next command, and nothing is open.
    Idle,
}

/// Whether a session that does this is ended now: `drained_for` is the time since the drain began, `quiet_for` how long the
/// session is known to have waited for its next command.
#[must_use]
pub fn ends(doing: Doing, drained_for: Duration, quiet_for: Duration) -> bool {
    doing == Doing::Idle && (drained_for >= POLITE || quiet_for >= QUIET)
}

#[cfg(test)]
mod tests {
    use super::{Doing, POLITE, QUIET, ends};
    use std::time::Duration;

    #[test]
    fn only_idle_sessions_end_and_at_first_only_quiet_ones() {
        let (soon, late) = (Duration::ZERO, POLITE);
        for (doing, drained_for, quiet_for, expected) in [
            (Doing::Idle, soon, Duration::ZERO, false),
            (Doing::Idle, soon, QUIET.mul_f32(0.99), false),
            (Doing::Idle, soon, QUIET, true),
            (Doing::Idle, late, Duration::ZERO, true),
            (Doing::InTransaction, soon, QUIET, false),
            (Doing::InTransaction, late * 1000, late * 1000, false),
            (Doing::Busy, late * 1000, late * 1000, false),
        ] {
            assert_eq!(ends(doing, drained_for, quiet_for), expected, "{doing:?} {drained_for:?} {quiet_for:?}");
        }
    }
}
