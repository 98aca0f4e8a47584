//! The clients: some log in, in every way possible; others misbehave.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use support::server;
use support::wire::{self, CLIENT_SSL, Client, LoggedIn, Reply, Session, handshake_response, native_reply, packet};

use super::Leg;
use super::state::{ACCESS_DENIED, Account, Login, Outcome, REDIRECT, State, Way, judge};

pub(super) const PASSWORD: &str = "secret";
/// The length of a TLS request: the start of a handshake response.
const TLS_REQUEST: usize = 32;
/// The domain of every target in a run.
pub(super) const DOMAIN: &str = "example.com";

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Uses the protocol directly.
    Wire,
    /// The same, with a pause before each packet.
    Slow,
    /// The program `mariadb`.
    Program,
    /// Logs in and changes user.
    ChangeUser,
    /// Disconnects after 0 bytes, then after 1 byte, and so on.
    HangUp,
    /// Sends invalid data instead of a login.
    Nonsense,
}

/// All concurrent clients.
pub(super) const ROLES: [Role; 12] = [
    Role::Wire,
    Role::Wire,
    Role::Wire,
    Role::Wire,
    Role::Slow,
    Role::Slow,
    Role::Program,
    Role::ChangeUser,
    Role::ChangeUser,
    Role::HangUp,
    Role::HangUp,
    Role::Nonsense,
];

/// One of the clients, with its own accounts.
#[derive(Debug)]
pub(super) struct Worker {
    number: usize,
    pub(super) role: Role,
    random: fastrand::Rng,
    /// Users whose last password was wrong. They use the right one until they are accepted: the server locks an account
    /// after too many wrong passwords in a row, which must never happen here.
    owing: HashSet<String>,
    /// After how many bytes to disconnect next.
    cut: usize,
}

/// The name of an account of the worker with this number.
pub(super) fn user(account: Account, number: usize, system_user: &str) -> String {
    let name = match account {
        Account::Native => "native",
        Account::NeedsTls => "needs_tls",
        Account::Ed25519 => "ed25519",
        Account::Ed25519OrNative => "ed25519_or_native",
        Account::NativeOrEd25519 => "native_or_ed25519",
        Account::UnixSocket => return system_user.to_owned(),
        Account::Moved => "moved",
        Account::MovedAlong => "moved_along",
        Account::Unknown => "nobody",
    };
    format!("{name}_{number}")
}

/// How an attempt to log in ended.
struct Attempt {
    outcome: Outcome,
    /// A time before the greeting.
    greeted: Instant,
    /// A time before the client sent its user name: any state from then on may decide.
    from: Instant,
    /// A time before the client sent its last packet: only a state from then on may accept it.
    last: Instant,
    session: Option<Session>,
}

impl Worker {
    pub(super) fn new(number: usize, role: Role, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed.wrapping_add(number as u64));
        Self { number, role, random, owing: HashSet::new(), cut: 0 }
    }

    /// Connects once, and pauses.
    pub(super) fn run_once(&mut self, leg: &Leg) {
        self.run_without_pause(leg);
        sleep(Duration::from_millis(self.random.u64(..3)));
    }

    /// Connects once.
    pub(super) fn run_without_pause(&mut self, leg: &Leg) {
        match self.role {
            Role::Wire => self.log_in(leg, Duration::ZERO),
            Role::Slow => {
                let silence = Duration::from_millis(self.random.u64(..500));
                self.log_in(leg, silence);
            }
            Role::Program => {
                let login = self.pick(leg, &Account::ALL);
                self.run_program(leg, &login);
            }
            Role::ChangeUser => self.change_user(leg),
            Role::HangUp => self.hang_up(leg),
            Role::Nonsense => self.talk_nonsense(leg),
        }
    }

    fn pick(&mut self, leg: &Leg, accounts: &[Account]) -> Login {
        let account = accounts[self.random.usize(..accounts.len())];
        let user = user(account, self.number, &leg.system_user);
        // These need the program, which is slow.
        let seldom = self.role != Role::Program && account.takes_ed25519();
        let owing = self.owing.contains(&user);
        let mut way = Way::ALL[self.random.usize(..Way::ALL.len())];
        if way != Way::Tcp && self.random.bool() || owing && account == Account::NeedsTls {
            way = Way::Tcp;
        }
        // These use one address only.
        let one_host = self.role == Role::Program || account == Account::UnixSocket;
        Login {
            right: owing || if seldom { self.random.u8(..16) == 0 } else { self.random.bool() },
            tls: way != Way::Socket && (self.random.u8(..4) == 0 || owing && account == Account::NeedsTls),
            from: Ipv4Addr::new(127, 0, 0, if one_host || way == Way::Socket { 1 } else { self.random.u8(1..10) }),
            user,
            account,
            way,
            changes_user: false,
        }
    }

    fn log_in(&mut self, leg: &Leg, silence: Duration) {
        let login = self.pick(leg, &Account::ALL);
        if login.right && login.account.takes_ed25519() {
            let from = Ipv4Addr::LOCALHOST;
            self.run_program(leg, &Login { from, ..login });
        } else {
            let attempt = attempt(leg, &login, silence);
            self.settle(leg, &login, &attempt, login.account.name());
        }
    }

    fn run_program(&mut self, leg: &Leg, login: &Login) {
        let from = Instant::now();
        let attempt = Attempt { outcome: program(leg, login), greeted: from, from, last: from, session: None };
        self.settle(leg, login, &attempt, "mariadb (program)");
    }

    fn change_user(&mut self, leg: &Leg) {
        let login = Login { right: true, ..self.pick(leg, &[Account::Native, Account::NeedsTls]) };
        let mut attempt = attempt(leg, &login, Duration::ZERO);
        self.settle(leg, &login, &attempt, login.account.name());
        let Some(mut session) = attempt.session.take() else { return };
        if leg.pool && login.tls {
            // With the thread pool, mariadbd itself sometimes loses such a session.
            return;
        }
        let next = self.pick(leg, &[Account::Native, Account::Moved, Account::MovedAlong]);
        let next = Login { way: login.way, from: login.from, tls: login.tls, changes_user: true, ..next };
        let let_in = attempt.last;
        let from = Instant::now();
        let silence = Duration::from_millis(if self.random.bool() { self.random.u64(..100) } else { 0 });
        let mut last = from;
        let reply = session.change_user(&next.user, |scramble| {
            sleep(silence);
            last = Instant::now();
            native_reply(password(&next), scramble)
        });
        let outcome = match reply {
            Ok(reply) => match outcome_of(reply) {
                Outcome::LetIn => arrived(&mut session, &next.user),
                other => match arrived(&mut session, &login.user) {
                    Outcome::LetIn => other,
                    Outcome::Ended => Outcome::Ended,
                    gone => Outcome::Strange(format!("{other}, then {gone}")),
                },
            },
            Err(error) => broken(&error),
        };
        let was_drained = |state: &State| state.drains(&login) || state.drains(&next);
        if matches!(outcome, Outcome::HungUp | Outcome::Ended)
            && leg.states(let_in, Instant::now()).iter().any(was_drained)
        {
            // As the one user or as the other.
            return;
        }
        self.settle(leg, &next, &Attempt { outcome, greeted: from, from, last, session: None }, CHANGE_USER);
    }

    /// Judges and counts the outcome of a login.
    fn settle(&mut self, leg: &Leg, login: &Login, attempt: &Attempt, kind: &'static str) {
        let until = Instant::now();
        match attempt.outcome {
            Outcome::Refused(ACCESS_DENIED) => drop(self.owing.insert(login.user.clone())),
            Outcome::LetIn | Outcome::Ended => drop(self.owing.remove(&login.user)),
            _ => {}
        }
        // A login is accepted only by a verdict at or after the client's last packet.
        let is_in = matches!(attempt.outcome, Outcome::LetIn | Outcome::Ended);
        let from = if is_in { attempt.last } else { attempt.from };
        let mut states = leg.states(from, until);
        // A client that was greeted while our plugin was not installed may finish without it.
        states.extend(leg.states(attempt.greeted, from).into_iter().filter(|state| state.settings.is_none()));
        let unsure = judge(&states, login, &attempt.outcome).unwrap_or_else(|why| {
            leg.complain(format!("{kind}: {why}"));
            false
        });
        leg.tally().count(kind, login, &attempt.outcome, unsure);
    }

    fn hang_up(&mut self, leg: &Leg) {
        let response = handshake_response(&user(Account::Unknown, self.number, ""), &[7; 20], 0);
        let login = packet(1, &response);
        let hello = [packet(1, &handshake_response("", b"", CLIENT_SSL)[..TLS_REQUEST]), hello(leg)].concat();
        let all = login.len() + 1 + hello.len() + 1;
        let cut = self.cut % all;
        self.cut += 1;
        let (kind, bytes, who) = match cut.checked_sub(login.len() + 1) {
            None => (HANG_UP, &login[..cut], cut == login.len()),
            Some(cut) => (HANG_UP_TLS, &hello[..cut], false),
        };
        self.misbehave(leg, kind, bytes, user(Account::Unknown, self.number, ""), who);
    }

    fn talk_nonsense(&mut self, leg: &Leg) {
        let length = self.random.usize(..300);
        let random: Vec<u8> = std::iter::repeat_with(|| self.random.u8(..)).take(length).collect();
        let bytes = match self.random.u8(..6) {
            0 => random,
            // The ninth byte is the collation: swe7 has no `|`, which is a known limitation.
            1 => packet(
                1,
                &random.into_iter().enumerate().map(|(n, byte)| if n == 8 { 45 } else { byte }).collect::<Vec<_>>(),
            ),
            2 => packet(self.random.u8(..), &handshake_response("nobody", &[7; 20], 0)),
            3 => packet(1, &[&handshake_response("nobody", &[7; 20], 0)[..32], &random].concat()),
            // Longer than the server allows, and with the maximum length in the header.
            4 => packet(1, &vec![b'a'; self.random.usize(60_000..200_000)]),
            _ => [&[0xff, 0xff, 0xff, 1][..], &vec![b'a'; self.random.usize(..100_000)]].concat(),
        };
        self.misbehave(leg, NONSENSE, &bytes, "nobody".to_owned(), true);
    }

    /// Sends these bytes after the greeting and disconnects, with or without waiting for an answer. `who` is whether the
    /// server may have learned the user name.
    fn misbehave(&mut self, leg: &Leg, kind: &'static str, bytes: &[u8], user: String, who: bool) {
        let way = if self.random.bool() { Way::Tcp } else { Way::ExtraPort };
        let from = Ipv4Addr::LOCALHOST;
        let login = Login { user, account: Account::Unknown, right: false, way, from, tls: false, changes_user: false };
        let from = Instant::now();
        let heard = send_and_hang_up(leg, way, bytes, self.random.bool());
        let states = leg.states(from, Instant::now());
        let outcome = heard.map_or_else(|error| broken(&error.into()), |heard| what_was_heard(&heard));
        let (wrong, unsure) = match &outcome {
            Outcome::LetIn | Outcome::Ended | Outcome::Strange(_) | Outcome::Refused(HOST_IS_BLOCKED) => (true, false),
            Outcome::Redirected(_) => (!who || judge(&states, &login, &outcome).is_err(), false),
            // A client that disconnects may be counted nevertheless.
            Outcome::Refused(_) | Outcome::HungUp => (false, who),
        };
        if wrong {
            leg.complain(format!("{kind} by {way:?} of {} bytes: {outcome}", bytes.len()));
        }
        leg.tally().count(kind, &login, &outcome, unsure);
    }
}

pub(super) const CHANGE_USER: &str = "COM_CHANGE_USER";
const HANG_UP: &str = "disconnect in the login";
const HANG_UP_TLS: &str = "disconnect in the TLS hello";
const NONSENSE: &str = "invalid data";

const HOST_IS_BLOCKED: u16 = 1129;

impl Account {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::NeedsTls => "native, REQUIRE SSL",
            Self::Ed25519 => "ed25519",
            Self::Ed25519OrNative => "ed25519 OR native",
            Self::NativeOrEd25519 => "native OR ed25519",
            Self::UnixSocket => "unix_socket",
            Self::Moved => "instant_failover, own target",
            Self::MovedAlong => "instant_failover, no target",
            Self::Unknown => "unknown user",
        }
    }
}

fn password(login: &Login) -> &'static str {
    if login.right { PASSWORD } else { "wrong" }
}

fn attempt(leg: &Leg, login: &Login, silence: Duration) -> Attempt {
    let now = Instant::now();
    let mut attempt = Attempt { outcome: Outcome::HungUp, greeted: now, from: now, last: now, session: None };
    match say_who(leg, login, silence, &mut attempt.from, &mut attempt.last) {
        Ok((outcome, session)) => {
            attempt.outcome = outcome;
            attempt.session = session;
        }
        Err(error) => attempt.outcome = broken(&error),
    }
    attempt
}

/// Attempts `login`. Sets `from` to a time before the client sends its user name, and `last` to a time before its last
/// packet.
fn say_who(
    leg: &Leg,
    login: &Login,
    silence: Duration,
    from: &mut Instant,
    last: &mut Instant,
) -> Result<(Outcome, Option<Session>)> {
    let mut client = match login.way {
        Way::Tcp => Client::connect_from(login.from, leg.server.address()),
        Way::ExtraPort => Client::connect_from(login.from, leg.server.extra_address()),
        Way::Socket => Client::connect_socket(&leg.server.socket()),
    }?;
    let greeting = client.read()?;
    if greeting.first() == Some(&0xff) {
        return Ok((outcome_of(wire::parse_reply(&greeting)?), None));
    }
    let scramble = wire::scramble(&greeting)?;
    sleep(silence);
    let mut more_capabilities = 0;
    if login.tls {
        more_capabilities = CLIENT_SSL;
        client.write(&handshake_response("", b"", CLIENT_SSL)[..TLS_REQUEST])?;
        let connection = tls(leg)?;
        client = client.upgrade(|stream| Box::new(StreamOwned::new(connection, stream)));
    }
    *from = Instant::now();
    *last = *from;
    client.write(&handshake_response(&login.user, &native_reply(password(login), &scramble), more_capabilities))?;
    loop {
        let packet = client.read()?;
        match wire::parse_reply(&packet)? {
            Reply::Switch(plugin) => {
                let scramble = packet.get(plugin.len() + 2..).unwrap_or_default();
                let scramble = scramble.strip_suffix(b"\0").unwrap_or(scramble);
                sleep(silence);
                *last = Instant::now();
                match plugin.as_str() {
                    "mysql_native_password" => client.write(&native_reply(password(login), scramble))?,
                    // As long as a signature, but not a valid one.
                    _ => client.write(&[7; 64])?,
                }
            }
            Reply::Ok => {
                let mut session = LoggedIn { client, reply: Reply::Ok }.session()?;
                return Ok((arrived(&mut session, &login.user), Some(session)));
            }
            Reply::Err(error) => {
                // The server closes TLS without close_notify.
                let rest = client.read_to_end().unwrap_or_default();
                let outcome = outcome_of(Reply::Err(error));
                let nothing_more = rest.is_empty();
                let more = || Outcome::Strange(format!("{outcome}, then \"{}\"", rest.escape_ascii()));
                return Ok((if nothing_more { outcome } else { more() }, None));
            }
        }
    }
}

/// Logs in as a user with a native password.
pub(super) fn open(mut client: Client, user: &str) -> Result<Session> {
    let scramble = wire::scramble(&client.greeting()?)?;
    client.write(&handshake_response(user, &native_reply(PASSWORD, &scramble), 0))?;
    client.reply()?.session()
}

fn tls(leg: &Leg) -> Result<ClientConnection> {
    Ok(ClientConnection::new(Arc::clone(&leg.tls), ServerName::IpAddress(Ipv4Addr::LOCALHOST.into()))?)
}

/// The first TLS message of a client.
fn hello(leg: &Leg) -> Vec<u8> {
    let mut hello = Vec::new();
    if let Ok(mut connection) = tls(leg) {
        let _ = connection.write_tls(&mut hello);
    }
    hello
}

/// Whether the session belongs to this user.
fn arrived(session: &mut Session, user: &str) -> Outcome {
    match session.query("SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', 1)") {
        Ok(rows) if rows == [[user]] => Outcome::LetIn,
        Ok(rows) => Outcome::Strange(format!("accepted as {rows:?}")),
        Err(error) if broken(&error) == Outcome::HungUp => Outcome::Ended,
        Err(error) => Outcome::Strange(format!("accepted, then {error}")),
    }
}

fn outcome_of(reply: Reply) -> Outcome {
    match reply {
        Reply::Ok => Outcome::LetIn,
        Reply::Err(error) if error.code != REDIRECT => Outcome::Refused(error.code),
        Reply::Err(error) if error.state.as_deref() == Some("HY000") => Outcome::Redirected(error.message),
        other => Outcome::Strange(format!("{other:?}")),
    }
}

fn broken(error: &anyhow::Error) -> Outcome {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    match error.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof) => Outcome::HungUp,
        _ => Outcome::Strange(error.to_string()),
    }
}

fn program(leg: &Leg, login: &Login) -> Outcome {
    let mut command = server::client();
    match login.way {
        Way::Tcp => command.arg("--protocol=tcp").arg(format!("--port={}", leg.server.address().port())),
        Way::ExtraPort => command.arg("--protocol=tcp").arg(format!("--port={}", leg.server.extra_address().port())),
        Way::Socket => command.arg("--protocol=socket").arg(format!("--socket={}", leg.server.socket().display())),
    };
    if login.way != Way::Socket {
        command.arg("--host=127.0.0.1");
    }
    command.args(if login.tls { ["--ssl", "--skip-ssl-verify-server-cert"].as_slice() } else { &["--skip-ssl"] });
    command.arg(format!("--user={}", login.user)).arg(format!("--password={}", password(login)));
    command.args(["--connect-timeout=30", "--skip-column-names", "--batch"]);
    command.arg("--execute=SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', 1)");
    // Ctrl-C must not reach the program.
    let output = match command.process_group(0).output() {
        Ok(output) => output,
        Err(error) => return Outcome::Strange(error.to_string()),
    };
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() && said.trim_end() == login.user {
        return Outcome::LetIn;
    }
    // In front of the error, the program may repeat the statement.
    let error = complained.lines().find_map(|line| line.strip_prefix("ERROR ")?.split_once(' '));
    match error.and_then(|(code, rest)| Some((code.parse::<u16>().ok()?, rest))) {
        Some((REDIRECT, rest)) => match rest.strip_prefix("(HY000): ") {
            Some(message) => Outcome::Redirected(message.to_owned()),
            None => Outcome::Strange(complained.into_owned()),
        },
        // The program was let in, and lost the connection in its first statement; under TLS, without notice (2026).
        Some((2006 | 2013 | 2026, rest)) if rest.starts_with("(HY000) at line 1: ") => Outcome::Ended,
        // Codes from 2000 on are the program's own.
        Some((code @ ..2000, _)) => Outcome::Refused(code),
        _ => Outcome::Strange(format!("{}: {said}{complained}", output.status)),
    }
}

/// The server's answer to these bytes; empty if `listen` is false.
fn send_and_hang_up(leg: &Leg, way: Way, bytes: &[u8], listen: bool) -> io::Result<Vec<u8>> {
    let address = if way == Way::Tcp { leg.server.address() } else { leg.server.extra_address() };
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Client::over(stream.try_clone()?).read()?;
    stream.write_all(bytes)?;
    if !listen {
        return Ok(Vec::new());
    }
    stream.shutdown(Shutdown::Write)?;
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        // A server that closes before it has read everything resets the connection.
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error),
        _ => Ok(heard),
    }
}

/// What the server told a misbehaving client.
fn what_was_heard(heard: &[u8]) -> Outcome {
    let strange = |what: &str| Outcome::Strange(format!("{what}: \"{}\"", heard.escape_ascii()));
    // The server's TLS messages, or an alert, which it may follow with an error in plain text.
    if let [0x15 | 0x16, 3, ..] = heard {
        let target = heard.windows(DOMAIN.len()).any(|window| window == DOMAIN.as_bytes());
        return if target { strange("a target outside TLS") } else { Outcome::HungUp };
    }
    let mut outcome = Outcome::HungUp;
    let mut rest = heard;
    while !rest.is_empty() {
        let length = match rest {
            [a, b, c, _, ..] => u32::from_le_bytes([*a, *b, *c, 0]) as usize,
            _ => return strange("incomplete header"),
        };
        let Some((payload, after)) = rest[4..].split_at_checked(length) else { return strange("incomplete packet") };
        match wire::parse_reply(payload) {
            Ok(Reply::Switch(_)) => {}
            Ok(Reply::Err(error)) if error.code == REDIRECT => outcome = Outcome::Redirected(error.message),
            Ok(reply) => outcome = outcome_of(reply),
            Err(error) => return strange(&error.to_string()),
        }
        rest = after;
    }
    outcome
}
