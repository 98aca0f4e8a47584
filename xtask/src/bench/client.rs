//! One client: it connects, logs in, and reads until the server has closed the connection.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Stream};
use support::wire::{CLIENT_SSL, handshake_response, native_reply, packet, scramble};

use super::TARGET;

/// The length of an `SSLRequest` packet: the start of a handshake response.
pub(super) const SSL_REQUEST_LENGTH: usize = 4 + 32;

const COM_QUIT: &[u8] = &[1];

/// Longer than any answer.
const BUFFER: usize = 1024;

/// Long enough for a machine under load; a server that hangs should fail the run.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The account that clients log in to.
pub(super) const USER: &str = "app";
/// Its password.
pub(super) const PASSWORD: &str = "secret";

/// A client's protocol.
#[derive(Clone, Debug)]
pub(super) enum Client {
    /// MariaDB's protocol, over TLS if there is a TLS configuration.
    MariaDb(Expected, Option<Arc<ClientConfig>>),
    /// HTTP.
    Http,
}

/// How a login ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// The client is redirected.
    Redirect,
    /// It is accepted, and disconnects.
    Session,
    /// It is refused because its password is wrong.
    Refusal,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redirect => write!(f, "redirect to {TARGET}"),
            Self::Session => f.write_str("session"),
            Self::Refusal => f.write_str("refusal"),
        }
    }
}

impl Client {
    /// Connects once.
    ///
    /// # Errors
    /// If the attempt does not end as expected.
    pub(super) fn attempt(&self, server: SocketAddr) -> Result<()> {
        let mut stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut buffer = [0; BUFFER];
        let result = match self {
            Self::MariaDb(expected, None) => plain(&mut stream, &mut buffer, *expected),
            Self::MariaDb(expected, Some(config)) => tls(&mut stream, &mut buffer, *expected, config),
            Self::Http => http(&mut stream, &mut buffer),
        };
        result.map_err(|error| if is_timeout(&error) { anyhow!("no answer within {TIMEOUT:?}") } else { error })
    }
}

fn is_timeout(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::WouldBlock)
}

fn plain(stream: &mut TcpStream, buffer: &mut [u8], expected: Expected) -> Result<()> {
    let reply = password_reply(stream, buffer, expected)?;
    log_in(stream, buffer, expected, 1, &handshake_response(USER, &reply, 0))
}

fn tls(stream: &mut TcpStream, buffer: &mut [u8], expected: Expected, config: &Arc<ClientConfig>) -> Result<()> {
    let reply = password_reply(stream, buffer, expected)?;
    let response = handshake_response(USER, &reply, CLIENT_SSL);
    stream.set_nodelay(true)?;
    stream.write_all(&packet(1, &response[..SSL_REQUEST_LENGTH - 4]))?;
    let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
    let mut tls = ClientConnection::new(Arc::clone(config), name)?;
    log_in(&mut Stream::new(&mut tls, stream), buffer, expected, 2, &response)
}

fn http(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: db1.example.com\r\nConnection: close\r\n\r\n")?;
    let answer = read_to_end(stream, buffer)?;
    let text = String::from_utf8_lossy(answer);
    let location = format!("\r\nLocation: http://{TARGET}/\r\n");
    ensure!(text.starts_with("HTTP/1.1 302 ") && text.contains(&location), "no 302 to {TARGET} but {text:?}");
    Ok(())
}

/// Reads the greeting, and scrambles the password with the greeting's challenge.
fn password_reply(stream: &mut TcpStream, buffer: &mut [u8], expected: Expected) -> Result<Vec<u8>> {
    let greeting = read_packet(stream, buffer)?;
    let payload = payload(greeting, 0).filter(|payload| payload.starts_with(&[10]));
    let scramble = payload.and_then(|payload| scramble(payload).ok());
    let scramble = scramble.with_context(|| format!("no greeting but \"{}\"", greeting.escape_ascii()))?;
    Ok(native_reply(if expected == Expected::Refusal { "wrong" } else { PASSWORD }, &scramble))
}

fn log_in(
    stream: &mut (impl Read + Write),
    buffer: &mut [u8],
    expected: Expected,
    sequence: u8,
    response: &[u8],
) -> Result<()> {
    stream.write_all(&packet(sequence, response))?;
    let answer = match expected {
        Expected::Session => read_packet(stream, buffer)?,
        Expected::Redirect | Expected::Refusal => read_to_end(stream, buffer)?,
    };
    let is_expected = payload(answer, sequence + 1).is_some_and(|payload| match expected {
        Expected::Session => payload.starts_with(&[0]),
        Expected::Redirect => is_redirect(payload),
        Expected::Refusal => payload.starts_with(b"\xff\x15\x04#28000"),
    });
    ensure!(is_expected, "no {expected} but \"{}\"", answer.escape_ascii());
    if expected == Expected::Session {
        stream.write_all(&packet(0, COM_QUIT))?;
        let rest = read_to_end(stream, buffer)?;
        ensure!(rest.is_empty(), "no end of the session but \"{}\"", rest.escape_ascii());
    }
    Ok(())
}

fn is_redirect(payload: &[u8]) -> bool {
    payload.starts_with(b"\xff\x64\x10#HY000|")
        && payload.strip_suffix(TARGET.as_bytes()).is_some_and(|rest| rest.ends_with(b"|"))
}

/// The payload, if these bytes are exactly one packet with this sequence number.
fn payload(bytes: &[u8], sequence: u8) -> Option<&[u8]> {
    let (_, payload) = bytes.split_at_checked(4)?;
    (packet(sequence, payload) == bytes).then_some(payload)
}

/// Reads until a packet is complete.
pub(super) fn read_packet<'a>(stream: &mut impl Read, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let mut length = 0;
    while length < 4 || length < 4 + usize::from(u16::from_le_bytes([buffer[0], buffer[1]])) {
        match stream.read(&mut buffer[length..])? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            read => length += read,
        }
    }
    Ok(&buffer[..length])
}

fn read_to_end<'a>(stream: &mut impl Read, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let mut length = 0;
    loop {
        match stream.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            // A server may end TLS by closing the connection, as MariaDB does.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    Ok(&buffer[..length])
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::super::floor::Floor;
    use super::*;
    use crate::common::tls;

    const PLAIN: Client = Client::MariaDb(Expected::Redirect, None);

    fn serve(floor: Floor) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || floor.accept_from(&listener));
        address
    }

    #[test]
    fn plain_clients_are_sent_away() {
        PLAIN.attempt(serve(Floor::new(TARGET, None))).unwrap();
    }

    #[test]
    fn tls_clients_are_sent_away() {
        let dir = tempfile::tempdir().unwrap();
        let files = tls::Files::make(dir.path()).unwrap();
        let server = tls::server_config(&files.certificate, &files.key).unwrap();
        let client = Client::MariaDb(Expected::Redirect, Some(tls::client_config().unwrap()));
        client.attempt(serve(Floor::new(TARGET, Some(server)))).unwrap();
    }

    #[test]
    fn another_answer_is_an_error() {
        let elsewhere = serve(Floor::new("db3.example.com:3307", None));
        let error = PLAIN.attempt(elsewhere).unwrap_err().to_string();
        assert!(error.starts_with("no redirect to db2.example.com:3307 but"), "{error}");
        assert!(error.contains("db3.example.com:3307"), "{error}");
    }

    #[test]
    fn of_http_only_the_right_302_counts() {
        let attempt = |answer| Client::Http.attempt(answer_once(answer)).map_err(|error| error.to_string());
        let right = "HTTP/1.1 302 Moved Temporarily\r\nLocation: http://db2.example.com:3307/\r\n\r\n";
        assert_eq!(attempt(right.to_owned()), Ok(()));
        for wrong in [right.replace("302", "200"), right.replace("db2", "db3")] {
            assert_eq!(attempt(wrong.clone()), Err(format!("no 302 to {TARGET} but {wrong:?}")));
        }
    }

    fn answer_once(answer: String) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let _ = stream.read(&mut [0; BUFFER]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn a_packet_is_one_with_its_number_and_nothing_else() {
        assert_eq!(payload(b"\x02\0\0\x01ab", 1), Some(&b"ab"[..]));
        assert_eq!(payload(b"\x02\0\0\x01ab", 2), None);
        assert_eq!(payload(b"\x02\0\0\x01a", 1), None);
        assert_eq!(payload(b"\x02\0\0\x01abc", 1), None);
        assert_eq!(payload(b"\0\0\0", 0), None);
    }
}
