//! The open sessions of all loops, for `SHOW STATUS` and for the log of a drain.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use failover::{Connection, Transport};

use super::shared::InForce;

/// How many of the sessions that are left the log names.
const NAMED: usize = 5;

/// Who has an open session.
#[derive(Clone, Debug)]
pub(super) struct OpenSession {
    pub(super) id: u32,
    pub(super) user: String,
    pub(super) address: Option<IpAddr>,
    pub(super) transport: Transport,
    pub(super) since: SystemTime,
}

impl OpenSession {
    /// As the policy sees it.
    fn connection(&self) -> Connection<'_> {
        Connection { transport: self.transport, user: self.user.as_bytes(), address: self.address }
    }
}

impl fmt::Display for OpenSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, user, address, since, .. } = self;
        let host = address.map_or_else(|| "localhost".to_owned(), |address| address.to_string());
        write!(f, "{id} of {user}@{host} since {}", humantime::format_rfc3339_seconds(*since))
    }
}

/// All of them, in the order in which they were opened.
#[derive(Debug, Default)]
struct List {
    next: u64,
    sessions: BTreeMap<u64, OpenSession>,
}

/// The list of all open sessions.
#[derive(Debug, Default)]
pub(super) struct OpenSessions(Arc<Mutex<List>>);

/// A session's place in the list, which it leaves when this is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    number: u64,
    list: Arc<Mutex<List>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let gone = lock(&self.list).sessions.remove(&self.number);
        // Freed without the lock.
        drop(gone);
    }
}

fn lock(list: &Mutex<List>) -> MutexGuard<'_, List> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OpenSessions {
    pub(super) fn add(&self, session: OpenSession) -> Entry {
        let mut list = lock(&self.0);
        let number = list.next;
        list.next += 1;
        list.sessions.insert(number, session);
        Entry { number, list: Arc::clone(&self.0) }
    }

    /// How many a drain concerns, now or if it began.
    pub(super) fn concerned(&self, in_force: &InForce) -> u64 {
        let list = lock(&self.0);
        list.sessions.values().filter(|one| in_force.concerns(one.id, &one.connection())).count() as u64
    }

    /// Those that a drain concerns: their number, and the oldest. None if there are none.
    pub(super) fn left(&self, in_force: &InForce) -> Option<String> {
        let (oldest, number) = {
            let list = lock(&self.0);
            let mut concerned = list.sessions.values().filter(|one| in_force.concerns(one.id, &one.connection()));
            let oldest: Vec<OpenSession> = concerned.by_ref().take(NAMED).cloned().collect();
            let number = oldest.len() + concerned.count();
            (oldest, number)
        };
        let oldest: Vec<String> = oldest.iter().map(ToString::to_string).collect();
        (number > 0).then(|| format!("{number} sessions left; the oldest: {}", oldest.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, UNIX_EPOCH};

    use failover::{Settings, Variable};

    use super::{OpenSession, OpenSessions, Transport};
    use crate::shared::InForce;

    #[test]
    fn the_oldest_of_those_that_a_drain_concerns_are_named() {
        let hold = Settings::default().set(Variable::Mode, b"HOLD").unwrap();
        let (off, hold) = (InForce::new(Settings::default(), Instant::now()), InForce::new(hold, Instant::now()));
        let sessions = OpenSessions::default();
        assert_eq!(sessions.left(&hold), None);
        let session = |id, transport| OpenSession {
            id,
            user: format!("u{id}"),
            address: Some([192, 0, 2, 1].into()),
            transport,
            since: UNIX_EPOCH + Duration::from_secs(id.into()),
        };
        let _local = sessions.add(session(1, Transport::Local));
        let mut others: Vec<_> = (2..9).map(|id| sessions.add(session(id, Transport::Tcp { extra: false }))).collect();
        drop(others.remove(1));
        assert_eq!((sessions.concerned(&off), sessions.concerned(&hold)), (0, 6));
        assert_eq!(sessions.left(&off), None);
        let left = sessions.left(&hold).unwrap();
        let one = |id| format!("{id} of u{id}@192.0.2.1 since 1970-01-01T00:00:0{id}Z");
        assert_eq!(left, format!("6 sessions left; the oldest: {}", [2, 4, 5, 6, 7].map(one).join(", ")));
        drop(others);
        assert_eq!(sessions.concerned(&hold), 0);
    }
}
