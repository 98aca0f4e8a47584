//! A client that shows the bytes on the wire, and does nothing implicitly.
//!
//! It supports the parts of the protocol that the demo and the tests need: the connection phase packet by packet, and
//! single statements. See <https://mariadb.com/kb/en/connection/>.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha1::{Digest, Sha1};
use socket2::{Domain, Socket, Type};

const CLIENT_LONG_PASSWORD: u32 = 1;
const CLIENT_PROTOCOL_41: u32 = 1 << 9;
/// The client wants TLS.
pub const CLIENT_SSL: u32 = 1 << 11;
const CLIENT_SECURE_CONNECTION: u32 = 1 << 15;
const CLIENT_PLUGIN_AUTH: u32 = 1 << 19;

const UTF8MB4_GENERAL_CI: u8 = 45;

/// The transport of a connection.
pub trait Stream: Read + Write + Send + fmt::Debug {}
impl<T: Read + Write + Send + fmt::Debug> Stream for T {}

/// A connection in its connection phase.
#[derive(Debug)]
pub struct Client {
    stream: Box<dyn Stream>,
    sequence: u8,
}

/// A server's answer to a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The login is accepted.
    Ok,
    /// The login is refused.
    Err(Error),
    /// The client should switch to this client plugin.
    Switch(String),
}

/// An error packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The error code.
    pub code: u16,
    /// The SQLSTATE; none in an error sent before the server knows the client's capabilities.
    pub state: Option<String>,
    /// The message.
    pub message: String,
}

impl Client {
    /// Opens a connection over TCP.
    ///
    /// # Errors
    /// Network errors.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self::over(stream))
    }

    /// The same from one of this machine's addresses.
    ///
    /// # Errors
    /// Network errors.
    pub fn connect_from(from: Ipv4Addr, address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket.connect(&address.into())?;
        socket.set_tcp_nodelay(true)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self::over(TcpStream::from(socket)))
    }

    /// Opens a connection through a Unix socket.
    ///
    /// # Errors
    /// Network errors.
    pub fn connect_socket(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self::over(stream))
    }

    /// A client over any stream.
    pub fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), sequence: 0 }
    }

    /// The same connection over another stream, for example TLS.
    #[must_use]
    pub fn upgrade(self, wrap: impl FnOnce(Box<dyn Stream>) -> Box<dyn Stream>) -> Self {
        Self { stream: wrap(self.stream), sequence: self.sequence }
    }

    /// Reads one packet; its sequence number must be the next.
    ///
    /// # Errors
    /// Network errors, and `InvalidData` for a packet out of order.
    pub fn read(&mut self) -> io::Result<Vec<u8>> {
        let expected = self.sequence;
        let packet = self.read_any()?;
        if self.sequence != expected.wrapping_add(1) {
            let number = self.sequence.wrapping_sub(1);
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("packet {number} out of order")));
        }
        Ok(packet)
    }

    /// Reads one packet with any sequence number.
    ///
    /// # Errors
    /// Network errors.
    pub fn read_any(&mut self) -> io::Result<Vec<u8>> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header)?;
        let length = u32::from_le_bytes([header[0], header[1], header[2], 0]);
        self.sequence = header[3].wrapping_add(1);
        let mut payload = Vec::new();
        let read = (&mut self.stream).take(length.into()).read_to_end(&mut payload)?;
        if read < length as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(payload)
    }

    /// Sends a packet with the next sequence number.
    ///
    /// # Errors
    /// Network errors.
    pub fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        let packet = packet(self.sequence, payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.write_raw(&packet)
    }

    /// Sends raw bytes, which need not be a packet.
    ///
    /// # Errors
    /// Network errors.
    pub fn write_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Counts a packet that was sent as raw bytes.
    pub fn skip(&mut self) {
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// Reads everything until the server closes the connection.
    ///
    /// # Errors
    /// Network errors.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            // A server that closes before it has read everything resets the connection.
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
            _ => Ok(rest),
        }
    }

    /// Reads the server's greeting and answers with `user` and this reply of the native password client plugin.
    ///
    /// # Errors
    /// Network errors; an error packet instead of the greeting.
    pub fn log_in(mut self, user: &str, scramble: &[u8]) -> Result<LoggedIn> {
        self.greeting()?;
        self.write(&handshake_response(user, scramble, 0))?;
        self.reply()
    }

    /// The same with a password.
    ///
    /// # Errors
    /// Those of [`log_in`](Self::log_in).
    pub fn log_in_by_password(mut self, user: &str, password: &str) -> Result<LoggedIn> {
        let greeting = self.greeting()?;
        let scramble = scramble(&greeting)?;
        self.write(&handshake_response(user, &native_reply(password, &scramble), 0))?;
        self.reply()
    }

    /// Reads the server's greeting.
    ///
    /// # Errors
    /// Network errors; an error packet instead of the greeting.
    pub fn greeting(&mut self) -> Result<Vec<u8>> {
        let greeting = self.read()?;
        if greeting.first() != Some(&10) {
            bail!("no greeting but {:?}", parse_reply(&greeting)?);
        }
        Ok(greeting)
    }

    /// Reads the server's answer to a handshake response. A switch to native passwords is answered with an empty reply.
    ///
    /// # Errors
    /// Network errors; an invalid reply.
    pub fn reply(mut self) -> Result<LoggedIn> {
        let mut reply = parse_reply(&self.read()?)?;
        if reply == Reply::Switch("mysql_native_password".to_owned()) {
            self.write(b"")?;
            reply = parse_reply(&self.read()?)?;
        }
        Ok(LoggedIn { client: self, reply })
    }
}

/// The client plugin for ed25519. The server asks a client that offers it to switch if the account uses another plugin.
pub const ED25519: &str = "client_ed25519";

impl Client {
    /// Answers the greeting by offering the client plugin [`ED25519`], and each further packet with the result of `answer`,
    /// which may take its time. `answer` gets the number of the round, from 0, and the packet.
    ///
    /// # Errors
    /// Network errors; an invalid reply.
    pub fn converse(
        mut self,
        user: &str,
        more_capabilities: u32,
        mut answer: impl FnMut(usize, &[u8]) -> Vec<u8>,
    ) -> Result<LoggedIn> {
        self.write(&handshake_response_by(ED25519, user, b"", more_capabilities))?;
        for round in 0.. {
            let packet = self.read()?;
            if matches!(packet.first(), Some(0 | 0xff)) {
                return Ok(LoggedIn { reply: parse_reply(&packet)?, client: self });
            }
            self.write(&answer(round, &packet))?;
        }
        bail!("the server never stops asking")
    }

    /// Answers the greeting by offering the client plugin [`ED25519`], and then the request to switch to native passwords.
    /// The server's last answer remains to be read, with [`reply`](Self::reply).
    ///
    /// # Errors
    /// Network errors; if the server does not ask for a native password.
    pub fn send_login(mut self, user: &str, password: &str, more_capabilities: u32) -> Result<Self> {
        self.write(&handshake_response_by(ED25519, user, b"", more_capabilities))?;
        let packet = self.read()?;
        let Some(scramble) = switch_scramble(&packet) else { bail!("no switch but {:?}", parse_reply(&packet)?) };
        self.write(&native_reply(password, scramble))?;
        Ok(self)
    }
}

/// The scramble in a request to switch to native passwords.
#[must_use]
pub fn switch_scramble(packet: &[u8]) -> Option<&[u8]> {
    let scramble = packet.strip_prefix(b"\xfemysql_native_password\0")?;
    Some(scramble.strip_suffix(b"\0").unwrap_or(scramble))
}

/// Long enough for a machine under load; a test that hangs should end.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that the server has answered.
#[derive(Debug)]
pub struct LoggedIn {
    /// The connection.
    pub client: Client,
    /// The answer.
    pub reply: Reply,
}

impl LoggedIn {
    /// The session of an accepted client.
    ///
    /// # Errors
    /// If the client was not accepted.
    pub fn session(self) -> Result<Session> {
        match self.reply {
            Reply::Ok => Ok(Session { client: self.client }),
            other => bail!("login not accepted: {other:?}"),
        }
    }
}

/// An open session.
#[derive(Debug)]
pub struct Session {
    client: Client,
}

impl Session {
    /// Runs one statement and returns its rows, NULL as `NULL`.
    ///
    /// # Errors
    /// The server's [`Error`], or network errors.
    pub fn query(&mut self, sql: &str) -> Result<Vec<Vec<String>>> {
        let first = self.command(3, sql.as_bytes())?;
        match first.first() {
            Some(0) => return Ok(Vec::new()),
            Some(0xff) => bail!(parse_error(&first)),
            _ => {}
        }
        while !is_eof(&self.client.read()?) {}
        let mut rows = Vec::new();
        loop {
            let row = self.client.read()?;
            if is_eof(&row) {
                return Ok(rows);
            }
            if row.first() == Some(&0xff) {
                bail!(parse_error(&row));
            }
            let mut rest = row.as_slice();
            let mut columns = Vec::new();
            while !rest.is_empty() {
                columns.push(column(&mut rest)?);
            }
            rows.push(columns);
        }
    }

    /// Sends a ping and waits for the answer.
    ///
    /// # Errors
    /// Network errors.
    pub fn ping(&mut self) -> io::Result<()> {
        self.command(14, b"").map(drop)
    }

    /// The value of a status variable.
    ///
    /// # Errors
    /// Those of [`query`](Self::query); if there is no such variable.
    pub fn status(&mut self, name: &str) -> Result<String> {
        let rows = self.query(&format!("SHOW GLOBAL STATUS LIKE '{name}'"))?;
        rows.into_iter().flatten().nth(1).with_context(|| format!("no status variable {name}"))
    }

    /// Whether the server still has a plugin of this library, which it may have until a session ends.
    ///
    /// This holds the library, and none of its plugins. `information_schema.PLUGINS` would hold one that another session is
    /// about to remove, which can crash the server (docs/internals.md).
    ///
    /// # Errors
    /// Those of [`query`](Self::query).
    pub fn has_installed(&mut self, soname: &str) -> Result<bool> {
        let rows = self.query(&format!("SHOW PLUGINS SONAME '{soname}.so'"))?;
        Ok(rows.iter().any(|row| row.get(1).is_some_and(|status| status != "NOT INSTALLED")))
    }

    /// Changes the user; `reply` computes the reply of the native password client plugin from a scramble.
    ///
    /// # Errors
    /// Network errors.
    pub fn change_user(&mut self, user: &str, mut reply: impl FnMut(&[u8]) -> Vec<u8>) -> Result<Reply> {
        let payload = [user.as_bytes(), b"\0\0\0", &[UTF8MB4_GENERAL_CI, 0], b"mysql_native_password\0"].concat();
        let answer = self.command(17, &payload)?;
        let Some(scramble) = switch_scramble(&answer) else { return parse_reply(&answer) };
        self.client.write(&reply(scramble))?;
        parse_reply(&self.client.read()?)
    }

    fn command(&mut self, code: u8, payload: &[u8]) -> io::Result<Vec<u8>> {
        self.client.sequence = 0;
        self.client.write(&[&[code], payload].concat())?;
        self.client.read()
    }
}

fn is_eof(packet: &[u8]) -> bool {
    packet.first() == Some(&0xfe) && packet.len() < 9
}

fn column(rest: &mut &[u8]) -> Result<String> {
    let mut take = |n: usize| -> Result<&[u8]> {
        let Some((taken, left)) = rest.split_at_checked(n) else { bail!("truncated row") };
        *rest = left;
        Ok(taken)
    };
    let length = match take(1)?[0] {
        0xfb => return Ok("NULL".to_owned()),
        0xfc => {
            let bytes = take(2)?;
            usize::from(u16::from_le_bytes([bytes[0], bytes[1]]))
        }
        length @ ..=0xfa => usize::from(length),
        _ => bail!("the column is longer than this client supports"),
    };
    Ok(String::from_utf8_lossy(take(length)?).into_owned())
}

/// A packet of less than 16 MiB.
#[must_use]
pub fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&length[..3], &[sequence], payload].concat()
}

/// A client's answer to the greeting. With [`CLIENT_SSL`] in `more_capabilities`, its first 32 bytes are also the TLS
/// request.
#[must_use]
pub fn handshake_response(user: &str, scramble: &[u8], more_capabilities: u32) -> Vec<u8> {
    handshake_response_by("mysql_native_password", user, scramble, more_capabilities)
}

fn handshake_response_by(plugin: &str, user: &str, scramble: &[u8], more_capabilities: u32) -> Vec<u8> {
    let capabilities =
        CLIENT_LONG_PASSWORD | CLIENT_PROTOCOL_41 | CLIENT_SECURE_CONNECTION | CLIENT_PLUGIN_AUTH | more_capabilities;
    let length = u8::try_from(scramble.len()).unwrap_or(u8::MAX);
    [
        &capabilities.to_le_bytes()[..],
        &0x0100_0000_u32.to_le_bytes(),
        &[UTF8MB4_GENERAL_CI],
        &[0; 23],
        user.as_bytes(),
        &[0, length],
        scramble,
        plugin.as_bytes(),
        b"\0",
    ]
    .concat()
}

/// The scramble in a greeting.
///
/// # Errors
/// If it is not a greeting.
pub fn scramble(greeting: &[u8]) -> Result<Vec<u8>> {
    let version_end = greeting.iter().position(|&byte| byte == 0).context("the greeting has no version")?;
    let fixed = &greeting[version_end + 1..];
    // The connection id; the first 8 bytes of the scramble; 19 other bytes; the last 12 bytes of the scramble.
    match (fixed.get(4..12), fixed.get(31..43)) {
        (Some(first), Some(last)) => Ok([first, last].concat()),
        _ => bail!("truncated greeting"),
    }
}

/// The reply of the native password client plugin to a scramble.
#[must_use]
pub fn native_reply(password: &str, scramble: &[u8]) -> Vec<u8> {
    let once = Sha1::digest(password);
    let mask = Sha1::new().chain_update(scramble).chain_update(Sha1::digest(once)).finalize();
    once.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect()
}

/// Parses a server's answer to a login.
///
/// # Errors
/// If it is not a valid answer.
pub fn parse_reply(payload: &[u8]) -> Result<Reply> {
    match payload.first() {
        Some(0) => Ok(Reply::Ok),
        Some(0xff) => Ok(Reply::Err(parse_error(payload))),
        Some(0xfe) => {
            let name = payload[1..].split(|&b| b == 0).next().unwrap_or_default();
            Ok(Reply::Switch(String::from_utf8_lossy(name).into_owned()))
        }
        _ => bail!("not an answer to a login: {payload:02x?}"),
    }
}

fn parse_error(payload: &[u8]) -> Error {
    let code = payload.get(1..3).map_or(0, |code| u16::from_le_bytes([code[0], code[1]]));
    let text = String::from_utf8_lossy(payload.get(3..).unwrap_or_default()).into_owned();
    match text.strip_prefix('#').and_then(|text| text.split_at_checked(5)) {
        Some((state, message)) => Error { code, state: Some(state.to_owned()), message: message.to_owned() },
        None => Error { code, state: None, message: text },
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ERROR {} ({}): {}", self.code, self.state.as_deref().unwrap_or("-----"), self.message)
    }
}

impl std::error::Error for Error {}
