//! One connection, without its I/O: it takes bytes from the client and returns bytes for the client.
//!
//! A connection goes through these states in this order, and can end in any of them:
//!
//! 1. [`Phase::Greeted`]: the greeting is sent; next comes the client's first packet, perhaps after a proxy's header;
//! 2. [`Phase::Tls`]: the same over TLS, after the client's first packet has asked for it;
//! 3. [`Phase::Switched`]: the client has been asked to authenticate again with `mysql_native_password`;
//! 4. [`Phase::Held`]: the client has authenticated, and waits until the settings are others;
//! 5. [`Phase::Open`]: the client is logged in and sends commands. `COM_CHANGE_USER` leads back to 3, but not to 4.
//!
//! The verdict is reached as soon as the client has sent its user name, before any other answer, again after a switch of
//! the authentication plugin, and again whenever the settings change while the client is held.

use std::time::{Duration, SystemTime};

use failover::drain::{self, Doing};
use failover::{ER_INSTANT_FAILOVER, Exemption, Transport, Verdict};
use mysql_common::constants::CapabilityFlags;
use tracing::debug;

use super::accounts::{Authenticated, Peer, Scramble};
use super::character_set;
use super::counters::Place;
use super::login::{self, First, Login};
use super::open_sessions::{Entry, OpenSession};
use super::packet::{self, Frame, MAX_LOGIN, MAX_PACKET, Next, SqlError, Writer};
use super::proxy::{self, Header, Source};
use super::session::{self, Session};
use super::shared::Shared;

/// The number of unsent bytes beyond which no more commands are executed: a client must read its answers.
const MAX_UNSENT: usize = 64 * 1024;

/// How many characters of a database name are kept: more than MariaDB allows, so that a longer name is still refused.
const MAX_SHOWN: usize = 101;

/// The client has been told to go elsewhere.
struct Redirected;

/// What happens to a client that is not redirected, once it has authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    Served,
    Exempt(Exemption),
    Held,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    id: u32,
    peer: Peer,
    transport: Transport,
    scramble: Scramble,
    /// Bytes of a packet that is incomplete or cannot be answered yet.
    input: Vec<u8>,
    /// The sequence number of the next packet in either direction.
    sequence: u8,
    phase: Phase,
    /// Whether a proxy has named the client.
    proxied: bool,
    /// The TLS cipher suite.
    cipher: Option<&'static str>,
    /// Its place in the list of open sessions.
    entry: Option<Entry>,
}

#[derive(Debug)]
enum Phase {
    Greeted,
    Tls(CapabilityFlags),
    Switched(Box<Candidate>),
    Held(Box<Held>),
    Open(Box<Session>),
}

/// A client that has authenticated and waits.
#[derive(Debug)]
struct Held {
    candidate: Candidate,
    proof: Authenticated,
    _place: Place,
}

/// A client that has not authenticated yet.
#[derive(Debug)]
struct Candidate {
    user: String,
    database: Option<String>,
    capabilities: CapabilityFlags,
    collation: u8,
    stay: Stay,
    /// The session that is changing its user.
    session: Option<Box<Session>>,
}

impl Connection {
    /// A new connection, and its greeting in `out`.
    pub fn greet(shared: &Shared, peer: Peer, transport: Transport, scramble: Scramble, out: &mut Vec<u8>) -> Self {
        // The protocol has 32 bits for the connection id.
        let id = u32::try_from(shared.counters.connections.add() & u64::from(u32::MAX)).unwrap_or_default();
        packet::greeting(out, id, &scramble, shared.configuration().version.greeting(), shared.capabilities());
        Self {
            id,
            peer,
            transport,
            scramble,
            input: Vec::new(),
            sequence: 1,
            phase: Phase::Greeted,
            proxied: false,
            cipher: None,
            entry: None,
        }
    }

    /// Whether the client has not logged in yet. Such a connection has a deadline.
    #[must_use]
    pub const fn is_logging_in(&self) -> bool {
        !matches!(&self.phase, Phase::Open(_)) && !self.is_changing_user()
    }

    /// Whether it came to the extra port.
    #[must_use]
    pub const fn is_extra(&self) -> bool {
        matches!(self.transport, Transport::Tcp { extra: true })
    }

    const fn is_changing_user(&self) -> bool {
        matches!(&self.phase, Phase::Switched(candidate) if candidate.session.is_some())
    }

    /// Takes bytes from the client, appends the answer to `out`, and returns what to do next.
    pub fn receive(&mut self, bytes: &[u8], shared: &Shared, out: &mut Vec<u8>) -> Next {
        if self.input.is_empty() {
            // The usual case: packets arrive complete, and no byte is copied.
            let (next, rest) = self.packets(bytes, shared, out);
            self.input.extend_from_slice(rest);
            return next;
        }
        let mut input = std::mem::take(&mut self.input);
        make_room(&mut input, bytes.len());
        input.extend_from_slice(bytes);
        let (next, rest) = self.packets(&input, shared, out);
        let answered = input.len() - rest.len();
        if answered < input.len() {
            // Only then: a packet that comes in small pieces moves no bytes.
            input.drain(..answered);
            self.input = input;
        }
        next
    }

    /// Sets the cipher suite, once TLS has negotiated it.
    pub fn set_cipher(&mut self, cipher: &'static str) {
        self.cipher = Some(cipher);
    }

    /// Returns what the client sent after it asked for TLS.
    pub fn take_input(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.input)
    }

    /// Decides anew about a client that is held, and about no other.
    pub fn judge_anew(&mut self, shared: &Shared, out: &mut Vec<u8>) -> Next {
        let Some(mut held) = self.take_held() else { return Next::Read };
        let Candidate { ref user, capabilities, collation, .. } = held.candidate;
        match self.judge(user, capabilities, collation, false, shared, out) {
            Ok(Stay::Held) => {
                self.phase = Phase::Held(held);
                Next::Hold
            }
            Ok(stay) => {
                held.candidate.stay = stay;
                match self.let_in(held.candidate, &held.proof, shared, out) {
                    // What it has sent in the meantime.
                    Next::Read => Next::SendFirst,
                    other => other,
                }
            }
            Err(Redirected) => Next::Close,
        }
    }

    /// Ends a client that is held because the program ends.
    pub(super) fn shut_down(&mut self, out: &mut Vec<u8>) -> Next {
        if let Some(held) = self.take_held() {
            let error = SqlError::new(1053, *b"08S01", "Server shutdown in progress");
            Writer::new(out, self.sequence, held.candidate.capabilities).error(&error);
        }
        Next::Close
    }

    fn take_held(&mut self) -> Option<Box<Held>> {
        match std::mem::replace(&mut self.phase, Phase::Greeted) {
            Phase::Held(held) => Some(held),
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// Whether a drain ends this connection: `quiet_for` is the time since it was last read from or written to.
    pub(super) fn is_drained(&self, shared: &Shared, drained_for: Duration, quiet_for: Duration) -> bool {
        let Phase::Open(session) = &self.phase else { return false };
        drain::ends(Doing::Idle, drained_for, quiet_for)
            && shared.in_force().concerns(self.id, &self.as_judged(session.user()))
    }

    fn packets<'b>(&mut self, mut bytes: &'b [u8], shared: &Shared, out: &mut Vec<u8>) -> (Next, &'b [u8]) {
        if matches!(self.phase, Phase::Greeted) && !self.proxied {
            match proxy::read(bytes) {
                Header::None => {}
                Header::Part if self.may_be_proxied(shared) => return (Next::Read, bytes),
                // mariadbd looks only at its first bytes.
                Header::Part if bytes.len() < 4 => return (Next::Read, bytes),
                _ if !self.may_be_proxied(shared) => {
                    let message = format!("Proxy header is not accepted from {}", self.host());
                    return (self.refuse(&SqlError::new(1130, *b"HY000", message), shared, out), &[]);
                }
                Header::Whole { length, source } => {
                    self.proxied = true;
                    // From here on neither the proxy's address nor its user counts.
                    match source {
                        Source::Proxy => {}
                        Source::Address(address) => self.peer = Peer { address: Some(address), uid: None },
                        Source::Socket => self.peer = Peer { address: None, uid: None },
                    }
                    bytes = &bytes[length..];
                }
                _ => {
                    let error = SqlError::new(1105, *b"HY000", "Failed to parse proxy header");
                    return (self.refuse(&error, shared, out), &[]);
                }
            }
        }
        loop {
            if matches!(self.phase, Phase::Held(_)) {
                // Kept unread until it is let in.
                return (Next::Hold, bytes);
            }
            match packet::cut(bytes, self.longest_packet()) {
                // mariadbd does not wait for a packet that is out of order.
                Frame::Part if bytes.get(3).is_some_and(|&sequence| sequence != self.expected()) => {
                    self.sequence = self.expected();
                    return (self.refuse(&out_of_order(), shared, out), &[]);
                }
                Frame::Part => return (Next::Read, bytes),
                Frame::Packet { .. } if out.len() >= MAX_UNSENT => return (Next::SendFirst, bytes),
                Frame::TooLong { sequence } => {
                    let error = self.count(sequence).err().unwrap_or_else(|| {
                        let most = self.longest_packet();
                        let message = format!("Got a packet bigger than 'max_allowed_packet' bytes ({most})");
                        SqlError::new(1153, *b"08S01", message)
                    });
                    return (self.refuse(&error, shared, out), &[]);
                }
                Frame::Packet { sequence, payload, rest } => {
                    let next = self.packet(sequence, payload, shared, out);
                    if next != Next::Read {
                        return (next, rest);
                    }
                    bytes = rest;
                }
            }
        }
    }

    /// Whether the peer is a proxy that may name the client.
    fn may_be_proxied(&self, shared: &Shared) -> bool {
        shared.proxy_networks().contain(self.peer.address)
    }

    /// Whether `require_secure_transport` allows a login over this transport; like mariadbd, others are denied access.
    fn is_secure_enough(&self, shared: &Shared) -> bool {
        let secure = self.cipher.is_some() || self.transport == Transport::Local;
        secure || !shared.configuration().require_secure_transport
    }

    const fn longest_packet(&self) -> usize {
        if self.is_logging_in() { MAX_LOGIN } else { MAX_PACKET }
    }

    /// The sequence number of the client's next packet.
    const fn expected(&self) -> u8 {
        if matches!(self.phase, Phase::Open(_)) { 0 } else { self.sequence }
    }

    /// Checks the sequence number of a packet and counts it.
    fn count(&mut self, sequence: u8) -> Result<(), SqlError> {
        self.sequence = self.expected();
        if sequence != self.sequence {
            return Err(out_of_order());
        }
        self.sequence = self.sequence.wrapping_add(1);
        Ok(())
    }

    fn packet(&mut self, sequence: u8, payload: &[u8], shared: &Shared, out: &mut Vec<u8>) -> Next {
        if let Err(error) = self.count(sequence) {
            return self.refuse(&error, shared, out);
        }
        match &mut self.phase {
            Phase::Greeted => self.first(payload, None, shared, out),
            Phase::Tls(capabilities) => {
                let capabilities = *capabilities;
                self.first(payload, Some(capabilities), shared, out)
            }
            Phase::Switched(_) => self.switched(payload, shared, out),
            Phase::Held(_) => Next::Hold,
            Phase::Open(session) => {
                shared.counters.questions.add();
                if let Some((&session::COM_CHANGE_USER, packet)) = payload.split_first() {
                    return self.change_user(packet, shared, out);
                }
                let mut writer = Writer::new(out, self.sequence, session.capabilities());
                session.command(payload, shared, &mut writer)
            }
        }
    }

    fn first(&mut self, payload: &[u8], tls: Option<CapabilityFlags>, shared: &Shared, out: &mut Vec<u8>) -> Next {
        match login::first(payload, shared.capabilities(), tls) {
            Ok(First::Tls(capabilities)) => {
                self.phase = Phase::Tls(capabilities);
                Next::StartTls
            }
            Ok(First::Login(login)) => self.login(&login, None, shared, out),
            Err(login::Malformed) => {
                // Its flags, if the packet has any, say whether it can read an SQLSTATE.
                let client = tls.unwrap_or_else(|| client_flags(payload));
                self.refuse_with(client, &bad_handshake(), shared, out)
            }
        }
    }

    /// Decides about a client that has sent its user name; `session` is set for a change of the user.
    fn login(&mut self, login: &Login<'_>, session: Option<Box<Session>>, shared: &Shared, out: &mut Vec<u8>) -> Next {
        let verdict = self.judge(&login.user, login.capabilities, login.collation, session.is_some(), shared, out);
        let Ok(stay) = verdict else { return self.back_to(session) };
        let candidate = Candidate {
            user: login.user.clone().into_owned(),
            // No more than an error message shows.
            database: login.database.as_deref().map(|name| name.chars().take(MAX_SHOWN).collect()),
            capabilities: login.capabilities,
            collation: login.collation,
            stay,
            session,
        };
        if !login.native && !login.capabilities.contains(CapabilityFlags::CLIENT_PLUGIN_AUTH) {
            let message = "Client does not support authentication protocol requested by server; consider upgrading \
                           MariaDB client";
            return self.deny(candidate, &SqlError::new(1251, *b"08004", message), shared, out);
        }
        // Clients older than 4.1 could not read the answers.
        let modern = login.capabilities.contains(CapabilityFlags::CLIENT_PROTOCOL_41);
        let by_peer = shared.configuration().accounts.by_peer(&candidate.user, &self.peer);
        if let Some(proof) = by_peer.filter(|_| modern && self.is_secure_enough(shared)) {
            return self.open(candidate, proof, shared, out);
        }
        // Like mariadbd, use a new scramble for every change of the user.
        let fresh = candidate.session.is_some() && login.capabilities.contains(CapabilityFlags::CLIENT_PLUGIN_AUTH);
        if fresh {
            match Scramble::random() {
                Ok(scramble) => self.scramble = scramble,
                Err(error) => {
                    return self.deny(candidate, &SqlError::new(1105, *b"HY000", error.to_string()), shared, out);
                }
            }
        }
        if fresh || !login.native {
            let mut writer = Writer::new(out, self.sequence, login.capabilities);
            writer.switch(&self.scramble);
            self.sequence = self.sequence.wrapping_add(1);
            self.phase = Phase::Switched(Box::new(candidate));
            return Next::Read;
        }
        self.check(candidate, login.reply, shared, out)
    }

    fn switched(&mut self, reply: &[u8], shared: &Shared, out: &mut Vec<u8>) -> Next {
        let Phase::Switched(candidate) = std::mem::replace(&mut self.phase, Phase::Greeted) else { return Next::Close };
        let Candidate { capabilities, collation, .. } = *candidate;
        match self.judge(&candidate.user, capabilities, collation, candidate.session.is_some(), shared, out) {
            Ok(stay) => self.check(Candidate { stay, ..*candidate }, reply, shared, out),
            Err(Redirected) => self.back_to(candidate.session),
        }
    }

    /// Reaches the verdict by the policy that is in force now, and sends the error to a client that is redirected.
    fn judge(
        &self,
        user: &str,
        capabilities: CapabilityFlags,
        collation: u8,
        changes_user: bool,
        shared: &Shared,
        out: &mut Vec<u8>,
    ) -> Result<Stay, Redirected> {
        match shared.in_force().policy.verdict(&self.as_judged(user)) {
            Verdict::Serve => Ok(Stay::Served),
            Verdict::Exempt(exemption) => Ok(Stay::Exempt(exemption)),
            // A session stays open while it changes its user.
            Verdict::Hold if changes_user => Ok(Stay::Served),
            Verdict::Hold => Ok(Stay::Held),
            Verdict::Redirect(redirect) => {
                let message = character_set::encode(redirect.message.as_bytes(), collation);
                let mut writer = Writer::new(out, self.sequence, capabilities);
                writer.error_bytes(ER_INSTANT_FAILOVER, *b"HY000", &message);
                shared.counters.redirect(redirect.way_in, changes_user);
                debug!(id = self.id, user, peer = ?self.peer, "redirected");
                Err(Redirected)
            }
        }
    }

    /// This connection as the policy sees it.
    const fn as_judged<'a>(&self, user: &'a str) -> failover::Connection<'a> {
        failover::Connection { transport: self.transport, user: user.as_bytes(), address: self.peer.address }
    }

    fn check(&mut self, candidate: Candidate, reply: &[u8], shared: &Shared, out: &mut Vec<u8>) -> Next {
        if !matches!(reply.len(), 0 | super::accounts::SCRAMBLE_LENGTH) {
            return self.deny(candidate, &bad_handshake(), shared, out);
        }
        let proof = shared.configuration().accounts.by_password(&candidate.user, &self.scramble, reply);
        if let Some(proof) = proof.filter(|_| self.is_secure_enough(shared)) {
            return self.open(candidate, proof, shared, out);
        }
        shared.counters.access_denied.add();
        let (user, host) = (&candidate.user, self.host());
        let password = if reply.is_empty() { "NO" } else { "YES" };
        let message = format!("Access denied for user '{user}'@'{host}' (using password: {password})");
        self.deny(candidate, &SqlError::new(1045, *b"28000", message), shared, out)
    }

    /// Lets in a client that has authenticated, or holds it.
    fn open(&mut self, candidate: Candidate, proof: Authenticated, shared: &Shared, out: &mut Vec<u8>) -> Next {
        if candidate.stay != Stay::Held {
            return self.let_in(candidate, &proof, shared, out);
        }
        // The others are for those that are not held.
        let most = shared.configuration().max_connections / 2;
        let Some(place) = shared.counters.hold(most.into()) else {
            shared.counters.too_many_connections.add();
            debug!(id = self.id, user = candidate.user, peer = ?self.peer, "too many are held");
            Writer::new(out, self.sequence, candidate.capabilities).error(&packet::too_many_connections());
            return Next::Close;
        };
        debug!(id = self.id, user = candidate.user, peer = ?self.peer, "held");
        self.phase = Phase::Held(Box::new(Held { candidate, proof, _place: place }));
        Next::Hold
    }

    fn let_in(&mut self, candidate: Candidate, proof: &Authenticated, shared: &Shared, out: &mut Vec<u8>) -> Next {
        if let Err(error) = candidate.database.as_deref().map_or(Ok(()), session::check_database) {
            return self.deny(candidate, &error, shared, out);
        }
        shared.counters.logins.add();
        if let Stay::Exempt(exemption) = candidate.stay {
            shared.counters.exemption(exemption);
        }
        debug!(id = self.id, user = candidate.user, peer = ?self.peer, "let in");
        let capabilities = candidate.capabilities;
        self.entry = Some(shared.open_sessions.add(OpenSession {
            id: self.id,
            user: candidate.user.clone(),
            address: self.peer.address,
            transport: self.transport,
            since: SystemTime::now(),
        }));
        let mut session = Session::new(self.id, candidate.user, self.host(), capabilities, proof);
        session.set_database(candidate.database);
        session.set_cipher(self.cipher);
        self.phase = Phase::Open(Box::new(session));
        Writer::new(out, self.sequence, capabilities).let_in(proof);
        Next::Read
    }

    /// Refuses a login. A session that was changing its user continues unchanged.
    fn deny(&mut self, candidate: Candidate, error: &SqlError, shared: &Shared, out: &mut Vec<u8>) -> Next {
        debug!(id = self.id, user = candidate.user, peer = ?self.peer, error = error.message, "refused");
        match candidate.session {
            Some(mut session) => {
                session.count_failed_change();
                Writer::new(out, self.sequence, candidate.capabilities).error(error);
                self.back_to(Some(session))
            }
            None => self.refuse_with(candidate.capabilities, error, shared, out),
        }
    }

    /// Continues after a refused login: a session stays as it was, any other connection ends.
    fn back_to(&mut self, session: Option<Box<Session>>) -> Next {
        match session {
            Some(session) => {
                self.phase = Phase::Open(session);
                Next::Read
            }
            None => Next::Close,
        }
    }

    fn change_user(&mut self, packet: &[u8], shared: &Shared, out: &mut Vec<u8>) -> Next {
        let Phase::Open(session) = std::mem::replace(&mut self.phase, Phase::Greeted) else { return Next::Close };
        let capabilities = session.capabilities();
        match login::change_user(packet, capabilities) {
            Ok(login) if session.may_change_user() => self.login(&login, Some(session), shared, out),
            _ => {
                Writer::new(out, self.sequence, capabilities).error(&SqlError::new(1047, *b"08S01", "Unknown command"));
                self.back_to(Some(session))
            }
        }
    }

    /// Sends an error and ends the connection.
    fn refuse(&self, error: &SqlError, shared: &Shared, out: &mut Vec<u8>) -> Next {
        let capabilities = match &self.phase {
            Phase::Greeted => CapabilityFlags::CLIENT_PROTOCOL_41,
            Phase::Tls(capabilities) => *capabilities,
            Phase::Switched(candidate) => candidate.capabilities,
            Phase::Held(held) => held.candidate.capabilities,
            Phase::Open(session) => session.capabilities(),
        };
        self.refuse_with(capabilities, error, shared, out)
    }

    fn refuse_with(&self, client: CapabilityFlags, error: &SqlError, shared: &Shared, out: &mut Vec<u8>) -> Next {
        if self.is_logging_in() && error.code != 1045 {
            shared.counters.broken_handshakes.add();
        }
        Writer::new(out, self.sequence, client).error(error);
        Next::Close
    }

    /// The client's host as MariaDB shows it in messages.
    fn host(&self) -> String {
        self.peer.address.map_or_else(|| "localhost".to_owned(), |address| address.to_string())
    }
}

/// Grows a buffer by what has arrived, instead of doubling it.
fn make_room(input: &mut Vec<u8>, length: usize) {
    const STEP: usize = 512;
    if input.capacity() - input.len() < length {
        input.reserve_exact(length.next_multiple_of(STEP));
    }
}

fn out_of_order() -> SqlError {
    SqlError::new(1156, *b"08S01", "Got packets out of order")
}

fn bad_handshake() -> SqlError {
    SqlError::new(1043, *b"08S01", "Bad handshake")
}

/// The client's flags as far as the packet, complete or not, has them: mariadbd assumes a 4.1 client until it has read
/// otherwise.
fn client_flags(packet: &[u8]) -> CapabilityFlags {
    match packet.first_chunk() {
        Some(&flags) => CapabilityFlags::from_bits_retain(u16::from_le_bytes(flags).into()),
        None => CapabilityFlags::CLIENT_PROTOCOL_41,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Connection, Next, Peer, Shared, Transport};
    use crate::accounts::{Accounts, Scramble};
    use crate::shared::{Configuration, Identity};
    use failover::{Settings, Variable};

    /// A server that accepts any login.
    fn server() -> Shared {
        let configuration =
            Configuration { accounts: Accounts::default().and_anybody().into(), ..Configuration::default() };
        Shared::new(Settings::default(), configuration, Identity::default())
    }

    fn greet(shared: &Shared) -> Connection {
        let scramble = Scramble::random().unwrap();
        Connection::greet(shared, Peer::default(), Transport::Local, scramble, &mut Vec::new())
    }

    /// A packet with a login.
    fn login(database: &str) -> Vec<u8> {
        // CONNECT_WITH_DB, PROTOCOL_41, SECURE_CONNECTION.
        let login = [b"\x08\x82\0\0".as_slice(), &[0; 28], b"app\0\0", database.as_bytes(), b"\0"].concat();
        [&[u8::try_from(login.len()).unwrap(), 0, 0, 1], &login[..]].concat()
    }

    #[test]
    fn databases_with_too_long_names_are_refused() {
        let shared = server();
        for (length, next) in [(64, Next::Read), (65, Next::Close)] {
            let mut out = Vec::new();
            assert_eq!(greet(&shared).receive(&login(&"d".repeat(length)), &shared, &mut out), next, "{length}");
            let refused = out[3..].starts_with(b"\x02\xff\x4e\x04#42000Incorrect database name");
            assert_eq!(refused, next == Next::Close, "{}", out.escape_ascii());
        }
    }

    const PING: &[u8] = b"\x01\0\0\0\x0e";

    fn set(shared: &Shared, variable: Variable, value: &str) {
        shared.set(&[(variable, value.to_owned())], "a test", None).unwrap();
    }

    fn number(shared: &Shared, name: &str) -> u64 {
        shared.numbers().iter().find(|shown| shown.name == format!("Instant_failover_{name}")).unwrap().value
    }

    /// A client over TCP that is held, and has been answered nothing.
    fn held(shared: &Shared) -> Connection {
        let scramble = Scramble::random().unwrap();
        let tcp = Transport::Tcp { extra: false };
        let mut connection = Connection::greet(shared, Peer::default(), tcp, scramble, &mut Vec::new());
        let mut out = Vec::new();
        assert_eq!(connection.receive(&login("db"), shared, &mut out), Next::Hold);
        assert!(out.is_empty() && connection.is_logging_in(), "{}", out.escape_ascii());
        connection
    }

    #[test]
    fn a_client_that_is_held_is_judged_anew() {
        const OK: &[u8] = b"\x07\0\0\x02\0";
        const REDIRECT: &[u8] = b"\x02\xff\x64\x10#HY000|Server";
        for (variable, value, next, answer) in [
            (Variable::Note, "nothing of interest", Next::Hold, b"".as_slice()),
            (Variable::Mode, "HOLD", Next::Hold, b""),
            (Variable::Mode, "OFF", Next::SendFirst, OK),
            (Variable::ExemptUsers, "app", Next::SendFirst, OK),
            (Variable::Mode, "ON", Next::Close, REDIRECT),
        ] {
            let shared = server();
            set(&shared, Variable::Target, "db2");
            set(&shared, Variable::Mode, "HOLD");
            let mut connection = held(&shared);
            // What it sends meanwhile is neither answered nor lost.
            let mut out = Vec::new();
            for part in [&PING[..2], &PING[2..], PING] {
                assert_eq!(connection.receive(part, &shared, &mut out), Next::Hold);
            }
            assert!(out.is_empty() && number(&shared, "held") == 1);
            set(&shared, variable, value);
            assert_eq!(connection.judge_anew(&shared, &mut out), next, "{variable:?} {value}");
            let start = if next == Next::Close { 3 } else { 0 };
            assert!(out.get(start..).is_some_and(|out| out.starts_with(answer)), "{value}: {}", out.escape_ascii());
            assert_eq!(number(&shared, "held"), u64::from(next == Next::Hold));
            assert_eq!(number(&shared, "redirects"), u64::from(next == Next::Close));
            assert_eq!(number(&shared, "exempted_users"), u64::from(variable == Variable::ExemptUsers));
            if next == Next::SendFirst {
                out.clear();
                assert_eq!(connection.receive(b"", &shared, &mut out), Next::Read);
                assert_eq!(out, [&b"\x07\0\0\x01\0\0\0\x02\0\0\0"[..]; 2].concat());
                // A client is judged anew only while it is held.
                assert_eq!(connection.judge_anew(&shared, &mut out), Next::Read);
            }
            drop(connection);
            assert_eq!((number(&shared, "held"), number(&shared, "holds")), (0, 1));
        }
    }

    #[test]
    fn half_of_the_connections_are_held() {
        let shared = server();
        shared.configure(Configuration {
            max_connections: 5,
            accounts: Accounts::default().and_anybody().into(),
            ..Configuration::default()
        });
        set(&shared, Variable::Mode, "HOLD");
        let _two = [held(&shared), held(&shared)];
        let mut out = Vec::new();
        let tcp = Transport::Tcp { extra: false };
        let scramble = Scramble::random().unwrap();
        let mut third = Connection::greet(&shared, Peer::default(), tcp, scramble, &mut Vec::new());
        assert_eq!(third.receive(&login("db"), &shared, &mut out), Next::Close);
        assert!(out[3..].starts_with(b"\x02\xff\x10\x04#08004Too many connections"), "{}", out.escape_ascii());
    }

    #[test]
    fn the_end_of_the_program_ends_those_that_are_held() {
        let shared = server();
        set(&shared, Variable::Mode, "HOLD");
        let (mut connection, mut out) = (held(&shared), Vec::new());
        assert_eq!(connection.shut_down(&mut out), Next::Close);
        assert!(out[3..].starts_with(b"\x02\xff\x1d\x04#08S01Server shutdown in progress"), "{}", out.escape_ascii());
        assert_eq!(number(&shared, "held"), 0);
    }

    #[test]
    fn only_an_open_session_is_drained() {
        const LATE: Duration = failover::drain::PATIENT;
        let shared = server();
        set(&shared, Variable::Mode, "HOLD");
        let mut connection = held(&shared);
        assert!(!connection.is_drained(&shared, LATE, LATE));
        set(&shared, Variable::Mode, "OFF");
        connection.judge_anew(&shared, &mut Vec::new());
        assert_eq!((number(&shared, "sessions"), connection.is_drained(&shared, LATE, LATE)), (0, false));
        set(&shared, Variable::Mode, "HOLD");
        assert_eq!((number(&shared, "sessions"), connection.is_drained(&shared, LATE, LATE)), (1, true));
        assert!(!connection.is_drained(&shared, Duration::ZERO, Duration::ZERO));
        // A session that changes its user stays open in HOLD.
        let mut out = Vec::new();
        let change = b"\x09\0\0\0\x11other\0\0\0";
        assert_eq!(connection.receive(change, &shared, &mut out), Next::Read, "{}", out.escape_ascii());
        assert!(out[4] == 0 && number(&shared, "held") == 0, "{}", out.escape_ascii());
        assert_eq!(number(&shared, "sessions"), 1);
        drop(connection);
        assert_eq!(number(&shared, "sessions"), 0);
    }

    #[test]
    fn packets_that_cannot_be_taken_are_answered_in_order() {
        let shared = server();
        let let_in = login("db");
        for (before, packet, number, code) in [
            (&[][..], b"\x01\0\x01\x01".as_slice(), 2, 1153),
            (&[], b"\x01\0\x01\x02", 1, 1156),
            (&[], b"\x01\0\0\x02\0", 1, 1156),
            (&[&let_in[..]], b"\x01\0\x01\0", 1, 1153),
            (&[&let_in, PING], b"\x01\0\x01\0", 1, 1153),
            (&[&let_in, PING], b"\x01\0\x01\x01", 0, 1156),
            (&[&let_in, PING], b"\x01\0\0\x01\x0e", 0, 1156),
        ] {
            let mut connection = greet(&shared);
            for packet in before {
                assert_eq!(connection.receive(packet, &shared, &mut Vec::new()), Next::Read);
            }
            let mut out = Vec::new();
            assert_eq!(connection.receive(packet, &shared, &mut out), Next::Close);
            let [low, high] = u16::to_le_bytes(code);
            assert!(out[3..].starts_with(&[number, 0xff, low, high]), "{number} {code}: {}", out.escape_ascii());
        }
    }
}
