//! What is known of one session, and who may write what.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::socket;
use crate::server::host::{self, Login};
use crate::server::state::InForce;
use crate::server::status;
use crate::sys::THD;
use failover::Connection;
use failover::drain::{self, Doing};

/// A session, from its login on. What does not change was written by the login.
#[derive(Debug)]
pub(super) struct Session {
    /// The connection id, which no other session has in the lifetime of the server.
    pub(super) id: u64,
    pub(super) socket: RawFd,
    pub(super) inode: u64,
    /// Where the server keeps it. Only the pool may look there: see [`pool`](super::pool).
    pub(super) thd: AtomicPtr<THD>,
    /// The thread that serves it and nobody else; `None` in a pool of threads.
    pub(super) thread: Option<libc::pid_t>,
    pub(super) is_tcp: bool,
    /// Written by its own thread.
    who: Mutex<Who>,
    /// How often it has begun to wait for its client: odd from then on, and even again once it has waited, if something was
    /// drained then. Zero until the first wait that we are told of. Written by its own thread.
    waits: AtomicU32,
    /// What it was found doing, and at which of its waits. Written by its own thread; in a pool of threads, by the keeper.
    seen: AtomicU64,
    /// The wait at which the keeper found that it had been quiet long enough. Written by the keeper.
    quiet: AtomicU32,
    /// When it had begun its last command, at the end of the wait from which the keeper has woken it. Written by its own thread.
    last_command: AtomicU64,
    /// Whether a drain has ended it. Written by its own thread.
    ended: AtomicBool,
    /// In a pool of threads: what was open after its last command, a [`Left`]. Written by its own thread; by the keeper, that it
    /// is not known.
    left: AtomicU8,
    /// How far the keeper has come with ending it, in a pool of threads: a [`Claim`].
    claim: AtomicU8,
    /// The number of a policy, doubled, and one more if that policy drains it. Written by anybody: it is always true.
    judged: AtomicU64,
}

/// The user and the address, one after the other: what a login costs counts.
#[derive(Debug)]
struct Who {
    short: [u8; SHORT],
    /// The text instead, if it is too long.
    long: Option<Box<[u8]>>,
    length: usize,
    user_length: usize,
}

/// How long a text is that needs no memory of its own.
const SHORT: usize = 56;

impl Who {
    const NOBODY: Self = Self { short: [0; SHORT], long: None, length: 0, user_length: 0 };

    fn set(&mut self, user: &[u8], ip: &[u8]) {
        (self.user_length, self.length) = (user.len(), user.len() + ip.len());
        self.long = None;
        match self.short.get_mut(..self.length) {
            Some(short) => {
                let (short_user, short_ip) = short.split_at_mut(user.len());
                short_user.copy_from_slice(user);
                short_ip.copy_from_slice(ip);
            }
            None => self.long = Some([user, ip].concat().into()),
        }
    }

    fn user_and_ip(&self) -> (&[u8], &[u8]) {
        self.long.as_deref().unwrap_or_else(|| &self.short[..self.length]).split_at(self.user_length)
    }
}

/// What the system is asked about a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    inode: u64,
    thread: Option<libc::pid_t>,
}

impl Facts {
    /// `None` if there is no socket.
    pub(super) fn of(login: &Login) -> Option<Self> {
        Some(Self { inode: socket::inode(login.socket())?, thread: host::own_thread(login) })
    }

    pub(super) const fn has_own_thread(self) -> bool {
        self.thread.is_some()
    }
}

/// What a command has left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Left {
    /// Nobody has told us of a command.
    Unknown,
    Nothing,
    Transaction,
}

/// How far the keeper has come with ending a session in a pool of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Claim {
    None,
    /// Nothing that its client sends arrives any more. Can be undone.
    Muted,
    /// The reading half of its connection is closed. Cannot be undone.
    Closing,
}

impl Session {
    /// No session yet.
    pub(super) fn nobody() -> Self {
        Self {
            id: 0,
            socket: -1,
            inode: 0,
            thd: AtomicPtr::default(),
            thread: None,
            is_tcp: false,
            who: Mutex::new(Who::NOBODY),
            waits: AtomicU32::new(0),
            seen: AtomicU64::new(0),
            quiet: AtomicU32::new(0),
            last_command: AtomicU64::new(u64::MAX),
            ended: AtomicBool::new(false),
            left: AtomicU8::new(Left::Unknown as u8),
            claim: AtomicU8::new(Claim::None as u8),
            judged: AtomicU64::new(u64::MAX),
        }
    }

    /// Makes it the session whose login succeeds: see [`Facts`].
    pub(super) fn begin(&mut self, login: &Login, facts: Facts) {
        self.set(login.session_id(), login.socket(), facts, login.user(), login.ip());
        *self.thd.get_mut() = login.session();
        self.is_tcp = login.is_tcp();
    }

    fn set(&mut self, id: u64, socket: RawFd, Facts { inode, thread }: Facts, user: &[u8], ip: &[u8]) {
        (self.id, self.socket, self.inode, self.thread) = (id, socket, inode, thread);
        self.who.get_mut().unwrap_or_else(PoisonError::into_inner).set(user, ip);
        // In a pool of threads nobody tells us of the first wait, either.
        *self.waits.get_mut() = u32::from(thread.is_none());
        *self.seen.get_mut() = 0;
        *self.quiet.get_mut() = 0;
        *self.ended.get_mut() = false;
        *self.left.get_mut() = Left::Unknown as u8;
        *self.claim.get_mut() = Claim::None as u8;
        *self.judged.get_mut() = u64::MAX;
    }

    pub(super) const fn has_own_thread(&self) -> bool {
        self.thread.is_some()
    }

    /// Whether its connection is still open.
    pub(super) fn is_open(&self) -> bool {
        socket::inode(self.socket) == Some(self.inode)
    }

    /// Whether a drain by this policy concerns it.
    pub(super) fn is_drained_by(&self, policy: &InForce) -> bool {
        if policy.drain.is_some_and(|drain| drain.by == self.id) {
            return false;
        }
        let judged = self.judged.load(Ordering::Relaxed);
        if judged >> 1 == policy.number {
            return judged & 1 != 0;
        }
        let who = self.who();
        let (user, ip) = who.user_and_ip();
        let transport = host::transport(self.is_tcp, self.socket);
        let connection = Connection { transport, user, address: host::address(ip) };
        let drains = policy.drains(&connection);
        self.judged.store(policy.number << 1 | u64::from(drains), Ordering::Relaxed);
        drains
    }

    /// Whether a drain by this policy ends it now, if it does that and has been quiet for so long.
    pub(super) fn is_due(&self, policy: &InForce, doing: Doing, quiet_for: Duration) -> bool {
        policy.drain.is_some_and(|drain| drain::ends(doing, drain.began.elapsed(), quiet_for))
            && self.is_drained_by(policy)
    }

    fn who(&self) -> MutexGuard<'_, Who> {
        self.who.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its own thread finds that it has this user. The server may have refused a change of the user that its plugin accepted.
    pub(super) fn set_user(&self, user: &[u8]) {
        let mut who = self.who();
        let (known, ip) = who.user_and_ip();
        if known != user {
            let ip = ip.to_vec();
            who.set(user, &ip);
            self.judged.store(u64::MAX, Ordering::Relaxed);
        }
    }

    /// Its own thread begins to wait for the client. Returns the number of the wait.
    pub(super) fn begin_wait(&self) -> u32 {
        let wait = self.wait().wrapping_add(1) | 1;
        self.waits.store(wait, Ordering::Relaxed);
        wait
    }

    /// Its own thread has waited, while something is drained. Returns whether the keeper has woken it, which need not be what ended
    /// the wait.
    pub(super) fn end_wait(&self) -> bool {
        let is_woken = self.quiet.load(Ordering::Relaxed) == self.wait() | 1;
        // The callbacks may have been installed during the first wait, the beginning of which we were not told of.
        let wait = self.wait().wrapping_add(2) & !1;
        self.waits.store(wait, Ordering::Relaxed);
        is_woken
    }

    /// Its own thread has been woken, and began its last command then.
    pub(super) fn set_last_command(&self, began: u64) {
        self.last_command.store(began, Ordering::Relaxed);
    }

    /// It has executed a command, in a pool of threads, where its waits are not known.
    pub(super) fn count_command(&self) {
        self.waits.store(self.wait().wrapping_add(2) | 1, Ordering::Relaxed);
    }

    /// The number of the present wait, or of the last one.
    pub(super) fn wait(&self) -> u32 {
        self.waits.load(Ordering::Relaxed)
    }

    /// Whether it waits, or had been waiting when the drain began and has gone on since.
    fn is_waiting(&self) -> bool {
        !self.wait().is_multiple_of(2)
    }

    /// What it is doing has been found out, at this wait.
    pub(super) fn saw(&self, wait: u32, doing: Doing) {
        self.seen.store(u64::from(wait) << 2 | code(doing), Ordering::Relaxed);
    }

    /// What it was found doing at the wait in which it still is; `None` if it has not been looked at.
    pub(super) fn seen(&self) -> Option<Doing> {
        let seen = self.seen.load(Ordering::Relaxed);
        (self.is_waiting() && seen >> 2 == u64::from(self.wait())).then(|| doing(seen & 3))
    }

    /// What it is doing, as far as is known.
    pub(super) fn doing(&self) -> Doing {
        self.seen().unwrap_or(Doing::Busy)
    }

    /// The keeper has found it quiet long enough at this wait, or before the first.
    pub(super) fn set_quiet(&self, wait: u32) {
        self.quiet.store(wait | 1, Ordering::Relaxed);
    }

    /// Whether the keeper has found it quiet at the wait before this one, and it has executed nothing since: a command may have come
    /// just when it was woken. `last_command` is when it began its last one.
    pub(super) fn was_quiet(&self, wait: u32, last_command: u64) -> bool {
        let quiet = self.quiet.load(Ordering::Relaxed);
        quiet != 0 && quiet.wrapping_add(2) == wait && self.last_command.load(Ordering::Relaxed) == last_command
    }

    /// Ends it, in its own thread, between two commands. One that is closing has been counted.
    ///
    /// In a pool of threads, with TLS, the server may have read the next command together with the last one, if the client has sent
    /// both in one piece: that is executed, and not answered. Nothing tells us.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        socket::end(self.socket);
        if !self.is(Claim::Closing) {
            status::count_drained();
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    pub(super) fn set_left(&self, left: Left) {
        self.left.store(left as u8, Ordering::SeqCst);
    }

    pub(super) fn has_left(&self, left: Left) -> bool {
        self.left.load(Ordering::SeqCst) == left as u8
    }

    pub(super) fn is(&self, claim: Claim) -> bool {
        self.claim.load(Ordering::SeqCst) == claim as u8
    }

    /// Goes on from one claim to another. False if it was not the first.
    pub(super) fn advance(&self, from: Claim, to: Claim) -> bool {
        self.claim.compare_exchange(from as u8, to as u8, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// For the log: `17 app@192.0.2.1`.
    pub(super) fn name(&self) -> String {
        let who = self.who();
        let (user, host) = who.user_and_ip();
        let [user, host] = [user, host].map(String::from_utf8_lossy);
        let host = if host.is_empty() { "localhost" } else { &host };
        format!("{} {}@{host}", self.id, user.escape_debug())
    }
}

const fn code(doing: Doing) -> u64 {
    match doing {
        Doing::Busy => 0,
        Doing::LockingTables => 1,
        Doing::InTransaction => 2,
        Doing::Idle => 3,
    }
}

const fn doing(code: u64) -> Doing {
    match code {
        1 => Doing::LockingTables,
        2 => Doing::InTransaction,
        3 => Doing::Idle,
        _ => Doing::Busy,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::{Doing, Facts, SHORT, Session, socket};

    #[test]
    fn what_was_seen_holds_for_one_wait() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let inode = socket::inode(ours.as_raw_fd()).unwrap();
        let mut session = Session::nobody();
        session.set(17, ours.as_raw_fd(), Facts { inode, thread: Some(1) }, b"app\n", b"");
        assert_eq!(session.name(), "17 app\\n@localhost");
        assert!(session.is_open());
        for user in ["x".repeat(SHORT + 1), "dba".to_owned()] {
            session.set_user(user.as_bytes());
            assert_eq!(session.name(), format!("17 {user}@localhost"));
        }
        // The callbacks were installed during its first wait, from which it was woken.
        session.set_quiet(session.wait());
        assert!(session.end_wait());
        session.set_last_command(1000);
        let first = session.begin_wait();
        assert!(session.was_quiet(first, 1000));
        // A command has come at the same time.
        assert!(!session.was_quiet(first, 1001));
        for doing in [Doing::Busy, Doing::LockingTables, Doing::InTransaction, Doing::Idle] {
            let wait = session.wait();
            assert_eq!(session.seen(), None);
            session.saw(wait, doing);
            assert_eq!(session.seen(), Some(doing));
            assert!(!session.end_wait());
            assert_eq!((session.seen(), session.doing()), (None, Doing::Busy));
            assert!(!session.was_quiet(session.begin_wait(), 1000));
        }
        session.set_quiet(session.wait());
        assert!(session.end_wait());
        session.set_last_command(2000);
        assert!(session.was_quiet(session.begin_wait(), 2000));
        // It was woken when the wait had just ended, so it has remembered nothing.
        let wait = session.wait();
        assert!(!session.end_wait());
        session.set_quiet(wait);
        assert!(!session.was_quiet(session.begin_wait(), 3000));
        drop(ours);
        assert!(!session.is_open());
    }
}
