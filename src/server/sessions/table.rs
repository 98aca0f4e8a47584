//! Which sessions there are.
//!
//! They are kept by their descriptors. A new session has the descriptor of one that has ended, so the table never has more
//! entries than there were sessions at the same time, and nobody needs to tell us that a session ends.

use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::session::Session;
use super::socket;

static TABLE: Mutex<Vec<Option<Arc<Session>>>> = Mutex::new(Vec::new());

/// Sessions that were open when the plugin was loaded: (descriptor, inode).
static UNKNOWN: Mutex<Vec<(RawFd, u64)>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No change can panic halfway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a session, in the place of the one that had its descriptor before, and in its memory if nobody else has that one.
pub(super) fn put(socket: RawFd, begin: impl FnOnce(&mut Session)) -> Option<Arc<Session>> {
    let index = usize::try_from(socket).ok()?;
    let mut table = lock(&TABLE);
    if table.len() <= index {
        table.resize(index + 1, None);
    }
    let entry = &mut table[index];
    if let Some(ended) = entry.as_mut().and_then(Arc::get_mut) {
        begin(ended);
        return entry.clone();
    }
    let mut session = Session::nobody();
    begin(&mut session);
    let session = Arc::new(session);
    let old = entry.replace(Arc::clone(&session));
    drop(table);
    drop(old);
    Some(session)
}

/// Forgets a session.
pub(super) fn remove(session: &Arc<Session>) {
    clear_if(session.socket, |entry| Arc::ptr_eq(entry, session));
}

/// Forgets whatever session has that descriptor.
pub(super) fn clear(socket: RawFd) {
    clear_if(socket, |_| true);
}

fn clear_if(socket: RawFd, is_meant: impl FnOnce(&Arc<Session>) -> bool) {
    let Ok(index) = usize::try_from(socket) else { return };
    let old = lock(&TABLE).get_mut(index).and_then(|entry| entry.take_if(|entry| is_meant(entry)));
    drop(old);
}

/// The session with that id.
pub(super) fn find(id: u64) -> Option<Arc<Session>> {
    lock(&TABLE).iter().flatten().find(|session| session.id == id).cloned()
}

/// The sessions, some of which may have ended.
pub(super) fn all() -> Vec<Arc<Session>> {
    lock(&TABLE).iter().flatten().cloned().collect()
}

/// The sessions that are open. Those that have ended are forgotten.
pub(super) fn open() -> Vec<Arc<Session>> {
    let (open, ended): (Vec<_>, Vec<_>) = all().into_iter().partition(|session| session.is_open());
    for session in &ended {
        remove(session);
    }
    open
}

/// The descriptors of those that are open, in order.
fn known() -> Vec<RawFd> {
    open().iter().map(|session| session.socket).collect()
}

/// Notes which sessions are open without being known.
pub(super) fn find_unknown() {
    let known = known();
    let mut connections = socket::connections();
    connections.retain(|(socket, _)| known.binary_search(socket).is_err());
    *lock(&UNKNOWN) = connections;
}

/// How many of them are still open.
pub(super) fn unknown() -> u64 {
    let mut unknown = lock(&UNKNOWN);
    if unknown.is_empty() {
        return 0;
    }
    let known = known();
    unknown.retain(|&(socket, inode)| socket::inode(socket) == Some(inode) && known.binary_search(&socket).is_err());
    unknown.len() as u64
}
