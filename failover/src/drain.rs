//! Which open sessions a drain ends, and when.

use std::time::Duration;

/// So long after the beginning of a drain, only sessions that have been idle for [`QUIET`] are ended. Pools often test a
/// connection with a ping before they lend it, and no session should be ended between such a ping and the first statement.
pub const POLITE: Duration = Duration::from_secs(1);

/// How long a session is idle that no pool is about to lend.
pub const QUIET: Duration = Duration::from_millis(50);

/// From [`POLITE`] until so long after the beginning, only sessions that have been idle for [`BRIEF`] are ended; after that, any.
pub const PATIENT: Duration = Duration::from_secs(3);

/// How long even a session that is lent again and again is idle now and then.
pub const BRIEF: Duration = Duration::from_millis(10);

/// What a session is doing when it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It executes a command, or has not been looked at since it began one.
    Busy,
    /// It waits for the next command inside a transaction.
    InTransaction,
    /// It waits for the next command and holds tables by `LOCK TABLES`.
    LockingTables,
    /// It waits for the next command, and nothing is open.
    Idle,
}

impl Doing {
    /// What a session does that waits for its next command or does not, with or without a transaction open and tables locked.
    #[must_use]
    pub const fn of(is_waiting: bool, has_transaction: bool, has_locked_tables: bool) -> Self {
        match (is_waiting, has_transaction, has_locked_tables) {
            (false, ..) => Self::Busy,
            (true, _, true) => Self::LockingTables,
            (true, true, false) => Self::InTransaction,
            (true, false, false) => Self::Idle,
        }
    }
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
            (Doing::LockingTables, late * 1000, late * 1000, false),
            (Doing::Busy, late * 1000, late * 1000, false),
        ] {
            assert_eq!(ends(doing, drained_for, quiet_for), expected, "{doing:?} {drained_for:?} {quiet_for:?}");
        }
    }

    #[test]
    fn what_a_session_does() {
        for (is_waiting, has_transaction, has_locked_tables, expected) in [
            (false, false, false, Doing::Busy),
            (false, true, true, Doing::Busy),
            (true, false, false, Doing::Idle),
            (true, true, false, Doing::InTransaction),
            (true, false, true, Doing::LockingTables),
            // With autocommit=0, LOCK TABLES opens a transaction, too.
            (true, true, true, Doing::LockingTables),
        ] {
            assert_eq!(Doing::of(is_waiting, has_transaction, has_locked_tables), expected);
        }
    }
}
