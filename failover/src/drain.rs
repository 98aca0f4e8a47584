//! Which open sessions a drain ends, and when.

use std::time::Duration;

/// Pools often test a connection with a ping before they lend it. No session should be ended between such a ping and the first
/// statement. So for so long after the beginning of a drain only sessions that have been idle for [`QUIET`] are ended,
pub const POLITE: Duration = Duration::from_secs(1);

/// and how long that is;
pub const QUIET: Duration = Duration::from_millis(50);

/// until then only those that have been idle for [`BRIEF`]; and after that any.
pub const PATIENT: Duration = Duration::from_secs(3);

/// How long a session that is at work all the time is idle at least.
pub const BRIEF: Duration = Duration::from_millis(10);

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
    let enough = if drained_for < POLITE {
        QUIET
    } else if drained_for < PATIENT {
        BRIEF
    } else {
        Duration::ZERO
    };
    doing == Doing::Idle && quiet_for >= enough
}

#[cfg(test)]
mod tests {
    use super::{BRIEF, Doing, PATIENT, POLITE, QUIET, ends};
    use std::time::Duration;

    #[test]
    fn only_idle_sessions_end_and_at_first_only_quiet_ones() {
        let (soon, late) = (Duration::ZERO, PATIENT);
        for (doing, drained_for, quiet_for, expected) in [
            (Doing::Idle, soon, Duration::ZERO, false),
            (Doing::Idle, soon, QUIET.mul_f32(0.99), false),
            (Doing::Idle, soon, QUIET, true),
            (Doing::Idle, POLITE, Duration::ZERO, false),
            (Doing::Idle, POLITE, BRIEF, true),
            (Doing::Idle, late, Duration::ZERO, true),
            (Doing::InTransaction, soon, QUIET, false),
            (Doing::InTransaction, late * 1000, late * 1000, false),
            (Doing::Busy, late * 1000, late * 1000, false),
        ] {
            assert_eq!(ends(doing, drained_for, quiet_for), expected, "{doing:?} {drained_for:?} {quiet_for:?}");
        }
    }
}
