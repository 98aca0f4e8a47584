//! A client that shows what is on the wire, and does no more than it is told.
//!
//! It speaks as much of the protocol as the demo and the tests need: the connection phase packet by packet, and single
//! statements. See <https://mariadb.com/kb/en/connection/>.

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

/// What a connection runs over.
pub trait Stream: Read + Write + Send + fmt::Debug {}
impl<T: Read + Write + Send + fmt::Debug> Stream for T {}

/// A connection in its connection phase.
#[derive(Debug)]
pub struct Client {
    stream: Box<dyn Stream>,
    sequence: u8,
}

/// What a server says to a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The client is in.
    Ok,
    /// It is not.
    Err(Error),
    /// It should use this client plugin.
    Switch(String),
}

/// An error packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The error code.
    pub code: u16,
    /// The SQLSTATE; nothing in an error that comes before the server knows the client.
    pub state: Option<String>,
    /// The message.
    pub message: String,
}

impl Client {
    /// Opens a connection over TCP.
    ///
    /// # Errors
    /// Those of the network.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self::over(stream))
    }

    /// The same from one of this machine's addresses.
    ///
    /// # Errors
    /// Those of the network.
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
    /// Those of the network.
    pub fn connect_socket(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self::over(stream))
    }

    /// A client over any stream.
    pub fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), sequence: 0 }
    }

    /// The same connection over another stream: TLS, say.
    #[must_use]
    pub fn upgrade(self, wrap: impl FnOnce(Box<dyn Stream>) -> Box<dyn Stream>) -> Self {
        Self { stream: wrap(self.stream), sequence: self.sequence }
    }

    /// Reads a packet whole; the number it carries must be the next.
    ///
    /// # Errors
    /// Those of the network, and `InvalidData` for a packet out of order.
    pub fn read(&mut self) -> io::Result<Vec<u8>> {
        let expected = self.sequence;
        let packet = self.read_any()?;
        if self.sequence != expected.wrapping_add(1) {
            let number = self.sequence.wrapping_sub(1);
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("packet {number} out of order")));
        }
        Ok(packet)
    }

    /// Reads a packet whole, whatever its number.
    ///
    /// # Errors
    /// Those of the network.
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

    /// Sends a packet with the next number.
    ///
    /// # Errors
    /// Those of the network.
    pub fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        let packet = packet(self.sequence, payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.write_raw(&packet)
    }

    /// Sends bytes that need be no packet.
    ///
    /// # Errors
    /// Those of the network.
    pub fn write_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Reads all that comes until the server closes the connection.
    ///
    /// # Errors
    /// Those of the network.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            // A server that closes before it has read everything resets the connection.
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
            _ => Ok(rest),
        }
    }

    /// Reads the server's greeting and answers with `user` and what the client plugin for native passwords would send.
    ///
    /// # Errors
    /// Those of the network; an error packet in the place of the greeting.
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
    /// Those of the network; an error packet in the place of the greeting.
    pub fn greeting(&mut self) -> Result<Vec<u8>> {
        let greeting = self.read()?;
        if greeting.first() != Some(&10) {
            bail!("no greeting but {:?}", parse_reply(&greeting)?);
        }
        Ok(greeting)
    }

    /// Reads what the server says to a handshake response. A switch to native passwords is answered with none.
    ///
    /// # Errors
    /// Those of the network; a packet that is no reply.
    pub fn reply(mut self) -> Result<LoggedIn> {
        let mut reply = parse_reply(&self.read()?)?;
        if reply == Reply::Switch("mysql_native_password".to_owned()) {
            self.write(b"")?;
            reply = parse_reply(&self.read()?)?;
        }
        Ok(LoggedIn { client: self, reply })
    }
}

/// The client plugin of ed25519. A client that offers it to an account of another kind is asked to switch.
pub const ED25519: &str = "client_ed25519";

impl Client {
    /// Answers the greeting by offering the client plugin of [`ED25519`], and what the server says then by what `answer`
    /// makes of it, which may take its time: `answer` gets the number of the round, from 0, and what the server sent.
    ///
    /// # Errors
    /// Those of the network; a packet that is no reply.
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
        bail!("a server that asks for ever")
    }
}

/// The scramble in a packet that asks for a switch to native passwords.
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
    /// The session, of a client that was let in.
    ///
    /// # Errors
    /// If it was not.
    pub fn session(self) -> Result<Session> {
        match self.reply {
            Reply::Ok => Ok(Session { client: self.client }),
            other => bail!("not let in: {other:?}"),
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
    /// The server's [`Error`], or those of the network.
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

    /// The value of a status variable.
    ///
    /// # Errors
    /// Those of [`query`](Self::query); if there is no such variable.
    pub fn status(&mut self, name: &str) -> Result<String> {
        let rows = self.query(&format!("SHOW GLOBAL STATUS LIKE '{name}'"))?;
        rows.into_iter().flatten().nth(1).with_context(|| format!("no status variable {name}"))
    }

    /// Becomes another user; `reply` is what the client plugin for native passwords makes of a scramble.
    ///
    /// # Errors
    /// Those of the network.
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
        let Some((taken, left)) = rest.split_at_checked(n) else { bail!("a row that ends too soon") };
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
        _ => bail!("a column longer than this client reads"),
    };
    Ok(String::from_utf8_lossy(take(length)?).into_owned())
}

/// A packet of less than 16 MiB.
#[must_use]
pub fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&length[..3], &[sequence], payload].concat()
}

/// What a client answers to the greeting. With [`CLIENT_SSL`] among `more_capabilities` it is also what it sends, cut
/// after 32 bytes, to ask for TLS.
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
/// If it is no greeting.
pub fn scramble(greeting: &[u8]) -> Result<Vec<u8>> {
    let version_end = greeting.iter().position(|&byte| byte == 0).context("a greeting without a version")?;
    let fixed = &greeting[version_end + 1..];
    // Number of the connection; the first 8 bytes; 19 bytes of other things; the last 12.
    match (fixed.get(4..12), fixed.get(31..43)) {
        (Some(first), Some(last)) => Ok([first, last].concat()),
        _ => bail!("a greeting that ends too soon"),
    }
}

/// What the client plugin for native passwords makes of a scramble.
#[must_use]
pub fn native_reply(password: &str, scramble: &[u8]) -> Vec<u8> {
    let once = Sha1::digest(password);
    let mask = Sha1::new().chain_update(scramble).chain_update(Sha1::digest(once)).finalize();
    once.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect()
}

/// What a server has said to a login.
///
/// # Errors
/// If it is no reply.
pub fn parse_reply(payload: &[u8]) -> Result<Reply> {
    match payload.first() {
        Some(0) => Ok(Reply::Ok),
        Some(0xff) => Ok(Reply::Err(parse_error(payload))),
        Some(0xfe) => {
            let name = payload[1..].split(|&b| b == 0).next().unwrap_or_default();
            Ok(Reply::Switch(String::from_utf8_lossy(name).into_owned()))
        }
        _ => bail!("no reply to a login: {payload:02x?}"),
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
