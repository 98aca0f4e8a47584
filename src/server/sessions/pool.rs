//! Sessions in a pool of threads.
//!
//! Such a session has no thread while it waits for its client, so nothing can be done in its own thread before a command comes.
//! What is done instead needs events, which the other plugin of this library gets:
//!
//! - **after a command that went well**, in the thread that executed it, with its answer sent ([`command_done`]): outside a
//!   transaction the session is ended there ([`Session::end`]);
//! - **while it is idle**, in two steps of the keeper ([`look`]). First it is muted: the system drops what the client sends, which
//!   its own system will send again. If it is still idle a while later, nothing has been read that is not executed yet, and the
//!   reading half of the connection is closed: the pool wakes, finds the end of the connection, and closes it;
//! - **before the next command is read** ([`go_on`]): if a transaction is open in spite of all that, because a command had been read
//!   before it was muted and the server took longer than that while to begin it, the thread waits there until more of it has come,
//!   and so carries it to its end. Only what reads more than once what its client sends (LOAD DATA LOCAL, a statement in several
//!   pieces) would find the end of the connection there.
//!
//! The plugin that gets the events sleeps but while it is needed: it wants no events. Otherwise each session would hold it,
//! and UNINSTALL would be put off until the last one ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::session::{Claim, Left, Session};
use super::{socket, table};
use crate::server::host::{self, Wait};
use crate::server::{hooks, state, status};
use crate::sys::{self, MYSQL_AUDIT_CONNECTION_CLASSMASK, MYSQL_AUDIT_GENERAL_CLASSMASK};
use failover::drain::Doing;

/// That sessions begin and end.
const CONNECTION: u64 = MYSQL_AUDIT_CONNECTION_CLASSMASK as u64;

/// The events that are needed.
const CLASSES: u64 = CONNECTION | MYSQL_AUDIT_GENERAL_CLASSMASK as u64;

/// How long a thread waits for the rest of a transaction, at most: as long as a server waits for its client by default.
const MAX_CARRIED: Duration = Duration::from_hours(8);

/// Between two looks for it.
const STEPS: [Duration; 2] = [Duration::from_micros(100), Duration::from_millis(5)];

/// How long a session is muted before it is closed: longer than a thread that has read a command takes to begin it, on a
/// machine that has much more to do than it can.
const MUTED: Duration = Duration::from_millis(250);

/// Whether the plugin that gets events is installed.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// The session that has installed it; 0 at start-up.
static INSTALLED_BY: AtomicU64 = AtomicU64::new(0);

/// Whether it gets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Asleep,
    Awake,
    /// The server sends none since then, and sessions that have just begun to send one may do so.
    Dozing(Instant),
}

static PHASE: Mutex<Phase> = Mutex::new(Phase::Asleep);

/// Whether it is not asleep: all that a session asks.
static AWAKE: AtomicBool = AtomicBool::new(false);

/// How long it dozes.
const DOZE: Duration = Duration::from_secs(1);

/// How long until it is worth looking again whether sessions have ended.
const UNTIL_ENDED: Duration = Duration::from_millis(10);

fn phase() -> MutexGuard<'static, Phase> {
    PHASE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sessions that will tell when they end ([`session_ends`]), and until then may be looked at by whoever holds this lock.
static ALIVE: Mutex<BTreeMap<u64, Arc<Session>>> = Mutex::new(BTreeMap::new());

fn alive() -> MutexGuard<'static, BTreeMap<u64, Arc<Session>>> {
    ALIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The plugin is installed, and sleeps: the server looks at what it wants after this.
pub(super) fn install() {
    let _phase = phase();
    let by = if host::has_session() { host::statement().session() } else { 0 };
    INSTALLED_BY.store(by, Ordering::SeqCst);
    classes_of_ours().store(0, Ordering::SeqCst);
    INSTALLED.store(true, Ordering::SeqCst);
}

/// The plugin is uninstalled.
pub(super) fn uninstall() {
    let mut phase = phase();
    INSTALLED.store(false, Ordering::SeqCst);
    forget_all();
    AWAKE.store(false, Ordering::SeqCst);
    *phase = Phase::Asleep;
    // The server refuses a plugin that wants nothing: for the next INSTALL.
    classes_of_ours().store(CONNECTION, Ordering::SeqCst);
}

/// Whether the plugin that gets events is installed.
pub(super) fn is_installed() -> bool {
    INSTALLED.load(Ordering::SeqCst)
}

/// What our plugin wants. The server reads it in other threads at any time, as 8 aligned bytes.
fn classes_of_ours() -> &'static AtomicU64 {
    // SAFETY: it lives as long as the library and is aligned; after start-up only this module writes it.
    unsafe { AtomicU64::from_ptr(sys::ifo_c_audit_classes_of_ours()) }
}

/// What all plugins want. The server changes it under a lock of its own.
fn classes_of_all() -> &'static AtomicU64 {
    // SAFETY: a variable of the server, aligned; sessions::prepare() has found that it is there.
    unsafe { AtomicU64::from_ptr(sys::ifo_c_audit_classes_of_all()) }
}

/// Has every session give back the plugins whose events it sends, before its next command ([`go_on`]), and ask again whose
/// there are. As after INSTALL.
fn renew() {
    // SAFETY: a variable of the server, aligned, which it compares without a lock; sessions::prepare() has found that it is there.
    unsafe { AtomicU32::from_ptr(sys::ifo_c_plugin_version()) }.fetch_add(1, Ordering::SeqCst);
}

/// Events come from now on. Called at every look: another plugin that comes or goes may have changed what the server sends.
pub(super) fn wake() {
    // Asked without a lock: it waits for one of the server's.
    let sends_events = host::sends_events();
    let mut phase = phase();
    if !INSTALLED.load(Ordering::SeqCst) {
        return;
    }
    if !sends_events {
        // It is being removed, as soon as no session holds it any more: the others do not tell us of their end.
        forget_all();
        return;
    }
    classes_of_ours().fetch_or(CLASSES, Ordering::SeqCst);
    let before = classes_of_all().fetch_or(CLASSES, Ordering::SeqCst);
    if before & CLASSES == CLASSES && *phase == Phase::Awake {
        return;
    }
    *phase = Phase::Awake;
    AWAKE.store(true, Ordering::SeqCst);
    renew();
    forget_all();
    // A session looks for the plugins that want an event when there is the first one of its class, and then not again. One that
    // found another plugin, or none because ours was not there, will not tell us of its end. So if there is another plugin, and
    // for sessions from before ours was installed, a session must send us an event before it may be looked at.
    if hooks::audit_classes() & CONNECTION == 0 {
        let by = INSTALLED_BY.load(Ordering::SeqCst);
        for session in table::open().into_iter().filter(|session| !session.has_own_thread() && session.id > by) {
            begin(&session);
        }
    }
}

/// Nothing is drained any more. Returns how long to wait before the next call; `None` if that is all.
///
/// A session that has found that events are wanted, and then that no plugin wants them, remembers the former for good, and
/// would send none to a plugin that wants them later. So at first only the server is told that nobody wants any.
///
/// What another plugin wants stays on. One that is being installed meanwhile is found at the second look: its library is loaded
/// before the server turns on what it wants.
pub(in crate::server) fn rest() -> Option<Duration> {
    if !AWAKE.load(Ordering::SeqCst) {
        return None;
    }
    unmute(|_| true);
    let mut phase = phase();
    match *phase {
        // Their events are needed until they have ended.
        Phase::Awake if is_ending() => Some(UNTIL_ENDED),
        Phase::Awake => {
            let unwanted = || CLASSES & !hooks::audit_classes();
            let off = unwanted();
            classes_of_all().fetch_and(!off, Ordering::SeqCst);
            classes_of_all().fetch_or(off & !unwanted(), Ordering::SeqCst);
            *phase = Phase::Dozing(Instant::now());
            Some(DOZE)
        }
        Phase::Dozing(since) => match DOZE.checked_sub(since.elapsed()) {
            Some(left) if !left.is_zero() => Some(left),
            _ => {
                classes_of_ours().store(0, Ordering::SeqCst);
                renew();
                forget_all();
                AWAKE.store(false, Ordering::SeqCst);
                *phase = Phase::Asleep;
                None
            }
        },
        Phase::Asleep => None,
    }
}

/// Whether a session that cannot go on has not ended yet. While one executes a command, it may not be among those that are
/// [`ALIVE`].
fn is_ending() -> bool {
    table::all().iter().any(|session| session.is(Claim::Closing) && session.is_open())
}

/// Lets the clients of sessions that are muted be heard again, where that is wanted.
pub(super) fn unmute(is_wanted: impl Fn(&Session) -> bool) {
    if AWAKE.load(Ordering::SeqCst) {
        alive().values().filter(|session| is_wanted(session)).for_each(|session| unmute_one(session));
    }
}

/// Returns whether it is muted now and was not before.
fn mute_one(session: &Session) -> bool {
    if !session.advance(Claim::None, Claim::Muted) {
        return false;
    }
    if !socket::mute(session.socket, session.inode) {
        session.advance(Claim::Muted, Claim::None);
        return false;
    }
    // Its own thread may have undone it before it was done, or closed the session.
    if session.is(Claim::None) {
        socket::unmute(session.socket, session.inode);
    }
    session.is(Claim::Muted)
}

fn unmute_one(session: &Session) {
    // Undone before the other thread may mute it again.
    if session.is(Claim::Muted) {
        socket::unmute(session.socket, session.inode);
        session.advance(Claim::Muted, Claim::None);
    }
}

/// No session may be looked at any more, and none stays muted.
fn forget_all() {
    unmute(|_| true);
    alive().clear();
}

/// A login that does not succeed yet.
pub(super) fn forget(id: u64) {
    if AWAKE.load(Ordering::SeqCst) {
        let old = alive().remove(&id);
        drop(old);
    }
}

/// A session may be looked at from now on: its connection is open, and the server will tell us when that is closed.
fn begin(session: &Arc<Session>) {
    let mut alive = alive();
    if session.is_open() {
        session.set_left(Left::Unknown);
        alive.insert(session.id, Arc::clone(session));
    }
}

/// The session that this thread serves at the moment.
fn own(id: u64) -> Option<Arc<Session>> {
    if !AWAKE.load(Ordering::SeqCst) {
        return None;
    }
    let found = alive().get(&id).cloned();
    found.or_else(|| {
        let session = table::find(id).filter(|session| !session.has_own_thread() && session.is_open())?;
        begin(&session);
        Some(session)
    })
}

/// Whether the session of this thread has a transaction open.
fn has_transaction() -> bool {
    host::activity().has_transaction != 0
}

/// The session of this thread has logged in, and we have been told.
pub(super) fn session_begins(id: u64) {
    let _ = own(id);
}

/// The session of this thread has executed a command. If that went well, its answer has been sent.
pub(super) fn command_done(id: u64, went_well: bool) {
    let Some(session) = own(id) else { return };
    // Whatever it was, it is not idle since the last look.
    session.count_command();
    // It came before the session was muted.
    unmute_one(&session);
    host::with_user(|user| session.set_user(user));
    let has_transaction = has_transaction();
    session.set_left(if has_transaction { Left::Transaction } else { Left::Nothing });
    if has_transaction {
        if session.is(Claim::Closing) {
            renew();
        }
        return;
    }
    if !went_well || session.is_ended() {
        return;
    }
    if session.is(Claim::Closing) || session.is_due(&state::policy(), Doing::Idle, Duration::ZERO) {
        session.end();
    }
}

/// The connection of this thread's session has been closed: it must not be looked at any more.
pub(super) fn session_ends(id: u64) {
    let ended = alive().remove(&id);
    if let Some(session) = ended {
        table::remove(&session);
    }
}

/// The server forgets for a while that this thread's session has our plugin, and may not tell us of its end: see [`ALIVE`].
pub(super) fn released(id: u64) {
    go_on(id);
    let old = alive().remove(&id);
    // Nobody else would.
    if let Some(session) = old {
        unmute_one(&session);
    }
}

/// This thread goes on with a session: there is something to read, or the end of what there is.
fn go_on(id: u64) {
    let Some(session) = own(id).filter(|session| session.is(Claim::Closing) && !session.is_ended()) else { return };
    if !has_transaction() {
        return session.end();
    }
    socket::unmute(session.socket, session.inode);
    let began = Instant::now();
    let mut wait = None;
    while socket::unread(session.socket) == Some(0)
        && !socket::has_peer_closed(session.socket)
        && !host::is_killed()
        && !host::is_shutting_down()
        && began.elapsed() <= MAX_CARRIED
    {
        wait.get_or_insert_with(Wait::begin);
        thread::sleep(if began.elapsed() < STEPS[1] { STEPS[0] } else { STEPS[1] });
    }
}

/// What a session is doing, and one step towards its end if it is idle and `is_due`. `None` if it cannot be looked at. The step is
/// taken again and again; `muted` says since when it has been muted.
pub(super) fn look(session: &Session, muted: &mut Option<Instant>, is_due: impl Fn(Doing) -> bool) -> Option<Doing> {
    // As long as the lock is held, the session cannot end.
    let alive = alive();
    let session = alive.get(&session.id).filter(|session| session.is_open())?;
    // SAFETY: it is alive: see ALIVE. What is read may change meanwhile, as for SHOW PROCESSLIST.
    let glance = unsafe { host::glance(session.thd.load(Ordering::Relaxed)) };
    let has_transaction = glance.has_transaction != 0 || session.has_left(Left::Transaction);
    let doing = Doing::of(glance.is_idle != 0, has_transaction, glance.has_locked_tables != 0);
    // On a Unix socket nothing is dropped, and a client could not send any more.
    let may_end = is_due(doing) && session.is_tcp && socket::unread(session.socket) == Some(0);
    match *muted {
        _ if session.is(Claim::Closing) || session.is_ended() => {}
        _ if !may_end => {
            unmute_one(session);
            *muted = None;
        }
        Some(since) if session.is(Claim::Muted) => {
            let may_have = glance.has_no_autocommit != 0 && session.has_left(Left::Unknown);
            // SAFETY: it is alive and idle, and no command can reach it.
            let has = || unsafe { host::has_implicit_transaction(session.thd.load(Ordering::Relaxed)) };
            if since.elapsed() < MUTED {
                // Not yet.
            } else if may_have && has() {
                // Until its next command.
                session.set_left(Left::Transaction);
                unmute_one(session);
                return Some(Doing::InTransaction);
            } else if session.advance(Claim::Muted, Claim::Closing) {
                renew();
                socket::end_reading(session.socket, session.inode);
                status::count_drained();
            }
        }
        _ => *muted = mute_one(session).then(Instant::now),
    }
    Some(doing)
}
