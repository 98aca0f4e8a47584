//! One client: its socket, its TLS state, and the data not sent to it yet.

use std::io::{self, IoSlice, Read, Write};
use std::time::{Duration, Instant};

use failover::Transport;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustls::ServerConnection;
use socket2::SockRef;

use crate::accounts::{Peer, Scramble};
use crate::connection::Connection;
use crate::metrics::Exchange;
use crate::packet::{MAX_LOGIN, Next};
use crate::shared::Shared;
use crate::tls::cipher_name;

/// How many times one client is read before the next client's turn.
const MAX_READS: usize = 16;

/// The maximum number of TLS bytes before the login is complete: for certificates and the longest login.
const MAX_TLS: usize = 16 * 1024 + MAX_LOGIN;

/// Buffers that all clients of a loop use in turn.
pub(super) struct Buffers {
    /// Bytes from the socket.
    read: Box<[u8]>,
    /// Bytes decrypted by TLS.
    plain: Box<[u8]>,
    /// Answers.
    out: Vec<u8>,
}

impl Buffers {
    const LENGTH: usize = 16 * 1024;

    pub(super) fn new() -> Self {
        let buffer = || vec![0; Self::LENGTH].into_boxed_slice();
        Self { read: buffer(), plain: buffer(), out: Vec::with_capacity(Self::LENGTH) }
    }

    /// Discards answers to a client that is gone.
    pub(super) fn clear(&mut self) {
        self.out.clear();
    }
}

/// A socket of either kind.
pub(super) enum Link {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    // TLS has its records in several pieces: send them together.
    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(pieces),
            Self::Unix(stream) => stream.write_vectored(pieces),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The protocol state of a client.
pub(super) enum State {
    Database(Connection),
    Metrics(Exchange),
}

impl State {
    pub(super) fn metrics() -> Self {
        Self::Metrics(Exchange::default())
    }

    /// A database connection, with its greeting in the buffers.
    pub(super) fn greet(
        shared: &Shared,
        peer: Peer,
        transport: Transport,
        scramble: Scramble,
        buffers: &mut Buffers,
    ) -> Self {
        Self::Database(Connection::greet(shared, peer, transport, scramble, &mut buffers.out))
    }

    fn receive(&mut self, bytes: &[u8], shared: &Shared, out: &mut Vec<u8>) -> Next {
        match self {
            Self::Database(connection) => connection.receive(bytes, shared, out),
            Self::Metrics(exchange) => exchange.receive(bytes, shared, out),
        }
    }
}

/// One client.
pub(super) struct Client {
    link: Link,
    tls: Option<Box<ServerConnection>>,
    /// TLS bytes received before the login was complete.
    tls_received: usize,
    state: State,
    /// Answers that the socket did not take; not encrypted yet.
    unsent: Vec<u8>,
    after_send: AfterSend,
    /// When it is disconnected, unless it is held.
    deadline: Instant,
    /// When it was last answered.
    answered: Instant,
    /// Whether all that it has sent so far has been read.
    is_read: bool,
}

/// What to do once everything is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AfterSend {
    Read,
    /// Read nothing until the settings have changed.
    Hold,
    /// Answer packets that have already been read.
    Answer,
    /// Close; with TLS, announce it first.
    Close,
    Closed,
}

impl Client {
    pub(super) fn new(link: Link, state: State, shared: &Shared) -> Self {
        let answered = Instant::now();
        Self {
            link,
            tls: None,
            tls_received: 0,
            state,
            unsent: Vec::new(),
            after_send: AfterSend::Read,
            deadline: answered + shared.configuration().connect_timeout,
            answered,
            is_read: true,
        }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.link {
            Link::Tcp(stream) => registry.register(stream, token, Interest::READABLE),
            Link::Unix(stream) => registry.register(stream, token, Interest::READABLE),
        }
    }

    /// Asks for an event when `interest` can be satisfied, even if it can now.
    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match &mut self.link {
            Link::Tcp(stream) => registry.reregister(stream, token, interest),
            Link::Unix(stream) => registry.reregister(stream, token, interest),
        }
    }

    pub(super) const fn is_database(&self) -> bool {
        matches!(&self.state, State::Database(_))
    }

    /// Whether it is a database connection to the extra port.
    pub(super) const fn is_extra(&self) -> bool {
        matches!(&self.state, State::Database(connection) if connection.is_extra())
    }

    pub(super) const fn is_logging_in(&self) -> bool {
        match &self.state {
            State::Database(connection) => connection.is_logging_in(),
            State::Metrics(_) => true,
        }
    }

    pub(super) fn is_late(&self, now: Instant) -> bool {
        now > self.deadline && !self.is_held()
    }

    pub(super) fn is_held(&self) -> bool {
        self.after_send == AfterSend::Hold
    }

    /// Whether a drain that has lasted `drained_for` ends it: it is an open session, and everything is answered.
    pub(super) fn is_drained(&self, shared: &Shared, drained_for: Duration, now: Instant) -> bool {
        let quiet_for = now.saturating_duration_since(self.answered);
        let is_answered = self.is_read && self.after_send == AfterSend::Read && self.unsent.is_empty();
        is_answered
            && matches!(&self.state, State::Database(connection) if connection.is_drained(shared, drained_for, quiet_for))
    }

    /// Whether a handshake ended without an answer: because of TLS, the client or a timeout. Malformed packets are answered,
    /// and counted then.
    pub(super) const fn has_broken_handshake(&self) -> bool {
        self.is_database() && self.is_logging_in() && matches!(self.after_send, AfterSend::Read | AfterSend::Hold)
    }

    /// Sends the greeting, which fits into the buffer of every new socket.
    pub(super) fn greet(&mut self, buffers: &mut Buffers) -> io::Result<()> {
        if self.send(&mut buffers.out)? { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Reads, answers and sends as much as the socket allows; a client that is held is judged anew, and ends if the loop is
    /// `stopping`. Returns whether the client stays connected.
    pub(super) fn drive(
        &mut self,
        shared: &Shared,
        registry: &Registry,
        token: Token,
        buffers: &mut Buffers,
        stopping: bool,
    ) -> bool {
        let stays = self.try_drive(shared, registry, token, buffers, stopping).unwrap_or(false);
        if !stays {
            buffers.clear();
        }
        stays
    }

    fn try_drive(
        &mut self,
        shared: &Shared,
        registry: &Registry,
        token: Token,
        buffers: &mut Buffers,
        stopping: bool,
    ) -> io::Result<bool> {
        let Buffers { read, plain, out } = buffers;
        self.is_read = false;
        // What comes right after a login is kept while the client is held.
        let most = if self.is_logging_in() { MAX_LOGIN } else { read.len() };
        let read = &mut read[..most];
        for _ in 0..MAX_READS {
            if !self.send(out)? {
                // A slow reader: there is an event when the socket can take more.
                self.reregister(registry, token, Interest::READABLE | Interest::WRITABLE)?;
                return Ok(true);
            }
            match self.after_send {
                AfterSend::Close | AfterSend::Closed => return Ok(false),
                AfterSend::Hold => {
                    let State::Database(connection) = &mut self.state else { return Ok(false) };
                    let next = if stopping { connection.shut_down(out) } else { connection.judge_anew(shared, out) };
                    self.proceed(next, shared);
                    if next == Next::Hold {
                        return Ok(true);
                    }
                }
                AfterSend::Answer => self.answer(&[], shared, plain, out)?,
                AfterSend::Read => match self.link.read(read) {
                    Ok(0) => return Ok(false),
                    Ok(length) => self.receive(&read[..length], shared, plain, out)?,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.is_read = true;
                        return Ok(true);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                },
            }
        }
        // The other clients first. There is another event right away, because the socket is writable.
        self.send(out)?;
        self.reregister(registry, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(true)
    }

    /// Handles bytes from the socket.
    fn receive(&mut self, mut bytes: &[u8], shared: &Shared, plain: &mut [u8], out: &mut Vec<u8>) -> io::Result<()> {
        if self.tls.is_none() {
            return self.answer(bytes, shared, plain, out);
        }
        if self.is_logging_in() {
            self.tls_received += bytes.len();
            if self.tls_received > MAX_TLS {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        while !bytes.is_empty() && self.after_send != AfterSend::Close {
            let Some(tls) = &mut self.tls else { return Ok(()) };
            let handshaking = tls.is_handshaking();
            tls.read_tls(&mut bytes)?;
            if let Err(error) = tls.process_new_packets() {
                // The alert says why. It is not sent again if the socket does not take it now.
                let _ = tls.write_tls(&mut self.link);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            if handshaking && !tls.is_handshaking() {
                shared.counters.tls_handshakes.add();
                if let Link::Tcp(stream) = &self.link {
                    // This server sends nothing now. A client without TCP_NODELAY sends its login only after the end of
                    // its handshake is acknowledged, which the system would delay by 40 ms.
                    SockRef::from(stream).set_tcp_quickack(true)?;
                }
                if let (State::Database(connection), Some(suite)) = (&mut self.state, tls.negotiated_cipher_suite()) {
                    connection.set_cipher(cipher_name(suite.suite()));
                }
            }
            self.receive_plain(shared, plain, out)?;
        }
        Ok(())
    }

    /// Handles bytes decrypted by TLS.
    fn receive_plain(&mut self, shared: &Shared, plain: &mut [u8], out: &mut Vec<u8>) -> io::Result<()> {
        while let Some(tls) = &mut self.tls
            && self.after_send != AfterSend::Close
        {
            match tls.reader().read(plain) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    let next = self.state.receive(&plain[..length], shared, out);
                    self.proceed(next, shared);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Handles bytes that are not, or no longer, encrypted.
    fn answer(&mut self, bytes: &[u8], shared: &Shared, plain: &mut [u8], out: &mut Vec<u8>) -> io::Result<()> {
        if self.after_send == AfterSend::Close {
            return Ok(());
        }
        let next = self.state.receive(bytes, shared, out);
        if next == Next::StartTls
            && let State::Database(connection) = &mut self.state
        {
            let hello = connection.take_input();
            // A reload may have disabled TLS since it was offered.
            let config = shared.configuration().tls.clone().ok_or(io::ErrorKind::ConnectionAborted)?;
            self.tls = Some(Box::new(ServerConnection::new(config).map_err(io::Error::other)?));
            return self.receive(&hello, shared, plain, out);
        }
        self.proceed(next, shared);
        Ok(())
    }

    fn proceed(&mut self, next: Next, shared: &Shared) {
        self.answered = Instant::now();
        let wait = if self.is_logging_in() { None } else { Some(shared.configuration().wait_timeout) };
        let (after_send, wait) = match next {
            // TLS inside TLS does not exist.
            Next::Close | Next::StartTls => (AfterSend::Close, Some(shared.configuration().connect_timeout)),
            Next::SendFirst => (AfterSend::Answer, wait),
            Next::Hold => (AfterSend::Hold, None),
            Next::Read => (AfterSend::Read, wait),
        };
        self.after_send = after_send;
        if let Some(wait) = wait {
            self.deadline = self.answered + wait;
        }
    }

    /// Sends the unsent data, then `out`, and keeps the rest. Returns whether everything was sent.
    fn send(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            self.unsent.append(out);
            std::mem::swap(&mut self.unsent, out);
        }
        // From here on, all data to send is in `out`.
        let sent = match &mut self.tls {
            None => send_plain(&mut self.link, out)?,
            Some(tls) => send_tls(&mut self.link, tls, out)?,
        };
        if sent < out.len() {
            self.unsent.extend_from_slice(&out[sent..]);
            out.clear();
            return Ok(false);
        }
        out.clear();
        // Frees the memory, if there is any.
        self.unsent = Vec::new();
        let Some(tls) = &mut self.tls else { return Ok(true) };
        if self.after_send == AfterSend::Close {
            tls.send_close_notify();
            self.after_send = AfterSend::Closed;
        }
        flush_tls(&mut self.link, tls)
    }
}

/// Returns how much was sent.
fn send_plain(link: &mut Link, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match link.write(&bytes[sent..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => sent += length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// Returns how much TLS has taken; it buffers no more than a socket would.
fn send_tls(link: &mut Link, tls: &mut ServerConnection, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        sent += tls.writer().write(&bytes[sent..])?;
        if !flush_tls(link, tls)? {
            break;
        }
    }
    Ok(sent)
}

/// Returns whether the socket has taken all of TLS's output.
fn flush_tls(link: &mut Link, tls: &mut ServerConnection) -> io::Result<bool> {
    while tls.wants_write() {
        match tls.write_tls(link) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
