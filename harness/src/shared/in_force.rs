//! What is in force: the policy, and since when it holds logins and drains sessions.

use std::time::{Duration, Instant};

use failover::{Connection, Lease, Mode, Policy, SettingError, Settings, Variable};

/// One value, replaced as a whole whenever a setting is set.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(crate) policy: Policy,
    /// Some exactly in mode `HOLD`.
    lease: Option<Lease>,
    /// Some exactly while sessions are drained.
    pub(crate) drain: Option<Drain>,
}

/// A drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drain {
    pub(crate) began: Instant,
    /// The session that has set it, which is not drained.
    by: Option<u32>,
}

/// The result of setting variables.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) after: InForce,
    /// Whether setting the mode has ended a drain.
    pub(super) ends_drain: bool,
}

impl InForce {
    /// These settings since `now`.
    pub(crate) fn new(settings: Settings, now: Instant) -> Self {
        let lease = (settings.mode() == Mode::Hold).then(|| Lease::new(now));
        let drain = settings.drains().then_some(Drain { began: now, by: None });
        Self { policy: Policy::new(settings), lease, drain }
    }

    /// What is in force once all of `changes` are made `now`, in this order; `session` is the id of the session that makes them.
    pub(super) fn set(
        &self,
        changes: &[(Variable, String)],
        session: Option<u32>,
        now: Instant,
    ) -> Result<Change, SettingError> {
        let mut settings = self.policy.settings().clone();
        let (mut lease, mut drain, mut ends_drain) = (self.lease, self.drain, false);
        for (variable, value) in changes {
            let before = settings;
            settings = before.set(*variable, value.as_bytes())?;
            ends_drain |= settings.has_ended_drain(&before, *variable);
            match variable {
                // HOLD begins anew, also if it is in force already.
                Variable::Mode => lease = (settings.mode() == Mode::Hold).then(|| Lease::new(now)),
                Variable::Drain => drain = Some(Drain { began: now, by: session }),
                _ => {}
            }
            drain = drain.filter(|_| settings.drains());
        }
        Ok(Change { after: Self { policy: Policy::new(settings), lease, drain }, ends_drain })
    }

    /// What is in force after HOLD, if that is over.
    pub(super) fn switched_off(&self, now: Instant) -> Option<Self> {
        self.hold_left(now).filter(Duration::is_zero)?;
        Some(Self { policy: Policy::new(self.policy.settings().switched_off()), lease: None, drain: None })
    }

    /// How much of HOLD is left: nothing if it is over, and none in another mode.
    pub(crate) fn hold_left(&self, now: Instant) -> Option<Duration> {
        let timeout = self.policy.settings().hold_timeout();
        self.lease.map(|lease| lease.left(timeout, now).unwrap_or_default())
    }

    /// Whether a drain concerns the session with this id, now or if it began.
    pub(crate) fn concerns(&self, session: u32, connection: &Connection<'_>) -> bool {
        let began_it = self.drain.is_some_and(|drain| drain.by == Some(session));
        !began_it && self.policy.drains(connection)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use failover::{Connection, Mode, Settings, Transport, Variable};

    use super::InForce;

    const TCP: Connection<'_> = Connection { transport: Transport::Tcp { extra: false }, user: b"app", address: None };

    fn set(before: &InForce, what: &[(Variable, &str)], now: Instant) -> (InForce, bool) {
        let changes: Vec<_> = what.iter().map(|(variable, value)| (*variable, (*value).to_owned())).collect();
        let change = before.set(&changes, Some(7), now).unwrap();
        (change.after, change.ends_drain)
    }

    #[test]
    fn hold_ends_by_itself_and_begins_anew_when_it_is_set_again() {
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let left = |in_force: &InForce, seconds| in_force.hold_left(after(seconds)).map(|left| left.as_secs());
        let off = InForce::new(Settings::default(), began);
        assert_eq!(left(&off, 0), None);
        let (held, _) = set(&off, &[(Variable::Mode, "HOLD"), (Variable::Drain, "ON")], began);
        assert_eq!(
            [left(&held, 0), left(&held, 9), left(&held, 10), left(&held, 99)],
            [Some(10), Some(1), Some(0), Some(0)]
        );
        assert!(held.switched_off(after(9)).is_none());
        let over = held.switched_off(after(10)).unwrap();
        assert_eq!((over.policy.settings().mode(), over.drain), (Mode::Off, None));
        assert_eq!(left(&over, 10), None);
        // A timeout counts from the beginning, a note changes nothing, and HOLD begins anew.
        let (shorter, _) = set(&held, &[(Variable::HoldTimeout, "5"), (Variable::Note, "x")], after(3));
        assert_eq!(left(&shorter, 3), Some(2));
        let (again, _) = set(&shorter, &[(Variable::Mode, "HOLD")], after(4));
        assert_eq!(left(&again, 4), Some(5));
        assert_eq!(again.drain, held.drain);
        let (on, _) = set(&again, &[(Variable::Target, "db2"), (Variable::Mode, "ON")], after(5));
        assert_eq!(left(&on, 5), None);
        // At the start of the program.
        assert_eq!(left(&InForce::new(held.policy.settings().clone(), after(8)), 8), Some(10));
    }

    #[test]
    fn a_drain_begins_where_it_is_set_and_spares_the_session_that_set_it() {
        let began = Instant::now();
        let off = InForce::new(Settings::default(), began);
        assert!(!off.concerns(1, &TCP));
        let (held, _) = set(&off, &[(Variable::Mode, "HOLD")], began);
        assert!(held.concerns(1, &TCP) && held.concerns(7, &TCP));
        let (drained, _) = set(&held, &[(Variable::Drain, "ON")], began);
        assert!(drained.concerns(1, &TCP) && !drained.concerns(7, &TCP));
        let later = began + Duration::from_secs(3);
        let (on, ends) = set(&drained, &[(Variable::Target, "db2"), (Variable::Mode, "ON")], later);
        assert_eq!((on.drain, ends), (drained.drain, false));
        assert!(off.set(&[(Variable::Drain, "ON".to_owned())], None, later).is_err());
        for (what, ends) in [
            (&[(Variable::Mode, "OFF")][..], true),
            (&[(Variable::Mode, "OFF"), (Variable::Mode, "ON")], true),
            (&[(Variable::Drain, "OFF"), (Variable::Mode, "OFF")], false),
        ] {
            let (ended, has_ended) = set(&on, what, later);
            assert_eq!((ended.drain, has_ended), (None, ends), "{what:?}");
        }
    }
}
