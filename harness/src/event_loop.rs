//! Sockets: moves bytes between clients and [`Connection`](super::Connection)s.
//!
//! Several loops, one per core, share the listening sockets: an idle one accepts the next client and keeps it. Clients have no
//! thread each, and have a buffer only while data for them or from them is incomplete.

mod client;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use failover::Transport;
use failover::drain::{BRIEF, PATIENT};
use mio::event::Event;
use mio::net::{TcpListener, UnixListener};
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use nix::sys::socket::{getsockopt, sockopt};
use slab::Slab;
use tracing::error;

use self::client::{Buffers, Client, Link, State};
use super::accounts::{Peer, Scrambles};
use super::listeners::Listeners;
use super::log::CLIENTS;
use super::packet::{Writer, too_many_connections};
use super::shared::Shared;

/// How many clients are accepted from one listener before the next listener's turn.
const MAX_ACCEPTED: usize = 64;

/// How long accepting pauses when the system is out of resources.
const PAUSE: Duration = Duration::from_millis(100);

/// How often deadlines are checked.
const TICK: Duration = Duration::from_secs(1);

/// The maximum number of Prometheus connections per loop.
const MAX_METRICS_CLIENTS: usize = 16;

/// Smaller tokens belong to the listeners.
const FIRST_CLIENT: usize = 1024;
const WAKER: Token = Token(FIRST_CLIENT - 1);

/// One loop.
pub(super) struct EventLoop {
    poll: Poll,
    shared: Arc<Shared>,
    doors: Vec<Door>,
    clients: Slab<Client>,
    metrics_clients: usize,
    buffers: Buffers,
    scrambles: Scrambles,
    /// When to look for idle sessions that a drain ends, besides those that send something.
    next_look: Option<Instant>,
    stopping: Arc<AtomicBool>,
}

/// Stops a loop.
pub(super) struct Stopper {
    waker: Arc<Waker>,
    stopping: Arc<AtomicBool>,
}

impl Stopper {
    /// Lets handshakes in progress finish, and ends everything else.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        // A loop that cannot be woken notices at its next tick.
        let _ = self.waker.wake();
    }
}

/// A listener, and the kind of its clients.
struct Door {
    listener: Listener,
    kind: Kind,
    /// Whether clients may be waiting: events are edge-triggered.
    ready: bool,
    not_before: Option<Instant>,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The transport says which limit counts: `extra_max_connections` or `max_connections`.
    Database(Transport),
    Metrics,
}

impl EventLoop {
    /// A loop on all of `listeners`.
    pub(super) fn new(listeners: &Listeners, shared: Arc<Shared>) -> io::Result<(Self, Stopper)> {
        let poll = Poll::new()?;
        let mut doors = Vec::new();
        for (listeners, extra) in [(&listeners.tcp, false), (&listeners.extra, true)] {
            for listener in listeners {
                let listener = Listener::Tcp(TcpListener::from_std(listener.try_clone()?));
                doors.push((listener, Kind::Database(Transport::Tcp { extra })));
            }
        }
        for listener in &listeners.unix {
            let listener = UnixListener::from_std(listener.try_clone()?);
            let kind = Kind::Database(Transport::Local);
            doors.push((Listener::Unix(listener), kind));
        }
        if let Some(listener) = &listeners.metrics {
            doors.push((Listener::Tcp(TcpListener::from_std(listener.try_clone()?)), Kind::Metrics));
        }
        let mut open = Vec::new();
        for (index, (listener, kind)) in doors.into_iter().enumerate() {
            let mut door = Door { listener, kind, ready: true, not_before: None };
            door.register(poll.registry(), Token(index))?;
            open.push(door);
        }
        let stopping = Arc::new(AtomicBool::new(false));
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        shared.wake_on_change(Arc::clone(&waker));
        let stopper = Stopper { waker, stopping: Arc::clone(&stopping) };
        let event_loop = Self {
            poll,
            shared,
            doors: open,
            clients: Slab::new(),
            metrics_clients: 0,
            buffers: Buffers::new(),
            scrambles: Scrambles::new(),
            next_look: None,
            stopping,
        };
        Ok((event_loop, stopper))
    }

    /// Serves until it is stopped and the last handshake in progress has ended.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut next_tick = Instant::now() + TICK;
        let mut stopped = false;
        loop {
            let now = Instant::now();
            if now >= next_tick {
                self.close_late_clients(now);
                next_tick = now + TICK;
            }
            if !stopped && self.stopping.load(Ordering::Acquire) {
                stopped = true;
                self.stop_listening();
            }
            if stopped && self.clients.is_empty() {
                return Ok(());
            }
            if self.next_look.is_some_and(|at| now >= at) {
                self.drain(now);
            }
            let next = [self.next_accept(now), self.next_look].into_iter().flatten().fold(next_tick, Instant::min);
            match self.poll.poll(&mut events, Some(next.saturating_duration_since(now))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                self.handle(event);
            }
            self.accept();
        }
    }

    fn handle(&mut self, event: &Event) {
        if event.token() == WAKER {
            return self.settings_have_changed();
        }
        let Token(token) = event.token();
        if let Some(key) = token.checked_sub(FIRST_CLIENT) {
            self.drive(key);
            // What it has sent stays unread, but that it has hung up is seen.
            if (event.is_read_closed() || event.is_error()) && self.clients.get(key).is_some_and(Client::is_held) {
                self.close(key);
            }
        } else if let Some(door) = self.doors.get_mut(token) {
            door.ready = true;
        }
    }

    /// Decides anew about every client that is held, and about the open sessions.
    fn settings_have_changed(&mut self) {
        let held: Vec<usize> = self.clients.iter().filter(|(_, client)| client.is_held()).map(|(key, _)| key).collect();
        for key in held {
            self.drive(key);
        }
        self.next_look = Some(Instant::now());
    }

    /// Closes the sessions that a drain ends, unless one of them has sent something that was not read yet.
    fn drain(&mut self, now: Instant) {
        self.next_look = None;
        let Some(drain) = self.shared.in_force().drain else { return };
        let drained_for = now.saturating_duration_since(drain.began);
        // Later none is spared.
        if let Some(patient) = PATIENT.checked_sub(drained_for) {
            self.next_look = Some(now + BRIEF.min(patient));
        }
        let is_drained = |client: &Client| client.is_drained(&self.shared, drained_for, now);
        let idle: Vec<usize> =
            self.clients.iter().filter(|(_, client)| is_drained(client)).map(|(key, _)| key).collect();
        for key in idle {
            self.drive(key);
        }
    }

    /// Whether a drain ends this client, all of whose commands are answered.
    fn ends_by_drain(&self, key: usize) -> bool {
        let Some(drain) = self.shared.in_force().drain else { return false };
        let now = Instant::now();
        let drained_for = now.saturating_duration_since(drain.began);
        self.clients.get(key).is_some_and(|client| client.is_drained(&self.shared, drained_for, now))
    }

    /// When to accept again, if clients may be waiting.
    fn next_accept(&self, now: Instant) -> Option<Instant> {
        self.doors.iter().filter(|door| door.ready).map(|door| door.not_before.unwrap_or(now)).min()
    }

    fn accept(&mut self) {
        for index in 0..self.doors.len() {
            for _ in 0..MAX_ACCEPTED {
                if !self.accept_one(index) {
                    break;
                }
            }
        }
    }

    /// Whether there may be more.
    fn accept_one(&mut self, index: usize) -> bool {
        let Some(door) = self.doors.get_mut(index) else { return false };
        if !door.ready || door.not_before.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        door.not_before = None;
        let kind = door.kind;
        match door.listener.accept() {
            Ok((link, peer)) => {
                self.welcome(link, peer, kind);
                true
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => {
                    door.ready = false;
                    false
                }
                // The client has already disconnected.
                io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => true,
                _ => {
                    error!(target: CLIENTS, %error, "accept failed; retrying in {PAUSE:?}");
                    door.not_before = Some(Instant::now() + PAUSE);
                    false
                }
            },
        }
    }

    fn welcome(&mut self, mut link: Link, peer: Peer, kind: Kind) {
        let state = match kind {
            Kind::Metrics if self.metrics_clients >= MAX_METRICS_CLIENTS => return,
            Kind::Metrics => {
                self.metrics_clients += 1;
                State::metrics()
            }
            Kind::Database(transport) => {
                let extra = transport == Transport::Tcp { extra: true };
                let configuration = self.shared.configuration();
                let most = if extra { configuration.extra_max_connections } else { configuration.max_connections };
                drop(configuration);
                if !self.shared.counters.opened(extra, most.into()) {
                    return self.turn_away(&mut link);
                }
                match self.scrambles.take() {
                    Ok(scramble) => State::greet(&self.shared, peer, transport, scramble, &mut self.buffers),
                    Err(error) => {
                        error!(target: CLIENTS, %error, "no random bytes available: connection refused");
                        return self.shared.counters.closed(extra);
                    }
                }
            }
        };
        let entry = self.clients.vacant_entry();
        let key = entry.key();
        let mut client = Client::new(link, state, &self.shared);
        let (registry, token) = (self.poll.registry(), Token(FIRST_CLIENT + key));
        // The greeting first: the client is waiting for it.
        let welcomed = client.greet(&mut self.buffers).and_then(|()| client.register(registry, token));
        self.buffers.clear();
        entry.insert(client);
        if welcomed.is_err() {
            self.close(key);
        }
    }

    /// Sends the error for too many connections. As in mariadbd, there is no greeting.
    fn turn_away(&self, link: &mut Link) {
        self.shared.counters.too_many_connections.add();
        let mut error = Vec::new();
        let nothing_known = mysql_common::constants::CapabilityFlags::empty();
        Writer::new(&mut error, 0, nothing_known).error(&too_many_connections());
        let _ = io::Write::write(link, &error);
    }

    fn drive(&mut self, key: usize) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let token = Token(FIRST_CLIENT + key);
        // A bug in this program must not affect other clients. What this client has left in the buffers is discarded.
        let stopping = self.stopping.load(Ordering::Acquire);
        let drive = || client.drive(&self.shared, self.poll.registry(), token, &mut self.buffers, stopping);
        let stays = catch_unwind(AssertUnwindSafe(drive)).unwrap_or_else(|_| {
            error!(target: CLIENTS, "connection closed because of an internal error; please report the message above");
            self.buffers.clear();
            false
        });
        if !stays || (stopping && !self.clients[key].is_logging_in()) {
            self.close(key);
        } else if self.ends_by_drain(key) {
            self.shared.counters.drained.add();
            self.close(key);
        }
    }

    fn close(&mut self, key: usize) {
        let Some(client) = self.clients.try_remove(key) else { return };
        if client.is_database() {
            self.shared.counters.closed(client.is_extra());
        } else {
            self.metrics_clients -= 1;
        }
        if client.has_broken_handshake() {
            self.shared.counters.broken_handshakes.add();
        }
    }

    fn close_late_clients(&mut self, now: Instant) {
        // Usually none, and then nothing is allocated.
        let late: Vec<usize> =
            self.clients.iter().filter(|(_, client)| client.is_late(now)).map(|(key, _)| key).collect();
        for key in late {
            self.close(key);
        }
    }

    /// Accepts the clients that are waiting, stops listening, and ends the sessions and the clients that are held.
    fn stop_listening(&mut self) {
        self.accept();
        let end = |client: &Client| client.is_held() || !client.is_logging_in();
        let ended: Vec<usize> = self.clients.iter().filter(|(_, client)| end(client)).map(|(key, _)| key).collect();
        for key in ended {
            if self.clients[key].is_held() {
                self.drive(key);
            } else {
                self.close(key);
            }
        }
        // Last: when connecting fails, the sessions have ended too.
        self.doors.clear();
    }
}

impl Door {
    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.listener {
            Listener::Tcp(listener) => registry.register(listener, token, Interest::READABLE),
            Listener::Unix(listener) => registry.register(listener, token, Interest::READABLE),
        }
    }
}

impl Listener {
    fn accept(&self) -> io::Result<(Link, Peer)> {
        match self {
            Self::Tcp(listener) => listener
                .accept()
                .map(|(stream, address)| (Link::Tcp(stream), Peer { address: Some(ip(address)), uid: None })),
            Self::Unix(listener) => listener.accept().map(|(stream, _)| {
                let uid = getsockopt(&stream, sockopt::PeerCredentials).ok().map(|credentials| credentials.uid());
                (Link::Unix(stream), Peer { address: None, uid })
            }),
        }
    }
}

/// The client's address: an IPv4 address on a dual-stack socket is converted back to IPv4.
const fn ip(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}
