//! One client: it connects, is sent away, and reads until the server has closed the connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Stream};
use xtask::wire::{CLIENT_SSL, handshake_response, packet};

use super::TARGET;

/// A packet with as much of a handshake response as asks for TLS.
pub(super) const SSL_REQUEST_LENGTH: usize = 4 + 32;

/// Longer than any answer.
const BUFFER: usize = 1024;

/// Long enough for a machine under load; a server that hangs should fail the run.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a client speaks.
#[derive(Clone, Debug)]
pub(super) enum Client {
    /// MariaDB's protocol.
    Plain,
    /// The same over TLS.
    Tls(Arc<ClientConfig>),
    /// HTTP.
    Http,
}

impl Client {
    /// Connects once.
    ///
    /// # Errors
    /// If it is not sent where it should.
    pub(super) fn attempt(&self, server: SocketAddr) -> Result<()> {
        let mut stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut buffer = [0; BUFFER];
        let result = match self {
            Self::Plain => plain(&mut stream, &mut buffer),
            Self::Tls(config) => tls(&mut stream, &mut buffer, config),
            Self::Http => http(&mut stream, &mut buffer),
        };
        result.map_err(|error| if is_timeout(&error) { anyhow!("no answer for {TIMEOUT:?}") } else { error })
    }
}

fn is_timeout(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::WouldBlock)
}

fn plain(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    greeting(stream, buffer)?;
    log_in(stream, buffer, 1, 0)
}

fn tls(stream: &mut TcpStream, buffer: &mut [u8], config: &Arc<ClientConfig>) -> Result<()> {
    greeting(stream, buffer)?;
    stream.set_nodelay(true)?;
    stream.write_all(&packet(1, &response(CLIENT_SSL)[..SSL_REQUEST_LENGTH - 4]))?;
    let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
    let mut tls = ClientConnection::new(Arc::clone(config), name)?;
    log_in(&mut Stream::new(&mut tls, stream), buffer, 2, CLIENT_SSL)
}

fn http(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: db1.example.com\r\nConnection: close\r\n\r\n")?;
    let answer = read_to_end(stream, buffer)?;
    let text = String::from_utf8_lossy(answer);
    let location = format!("\r\nLocation: http://{TARGET}/\r\n");
    ensure!(text.starts_with("HTTP/1.1 302 ") && text.contains(&location), "no 302 to {TARGET} but {text:?}");
    Ok(())
}

fn greeting(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let greeting = read_packet(stream, buffer)?;
    let is_greeting = payload(greeting, 0).is_some_and(|payload| payload.starts_with(&[10]));
    ensure!(is_greeting, "no greeting but \"{}\"", greeting.escape_ascii());
    Ok(())
}

fn log_in(stream: &mut (impl Read + Write), buffer: &mut [u8], sequence: u8, more_capabilities: u32) -> Result<()> {
    stream.write_all(&packet(sequence, &response(more_capabilities)))?;
    let answer = read_to_end(stream, buffer)?;
    let is_redirect = payload(answer, sequence + 1).is_some_and(is_redirect);
    ensure!(is_redirect, "no redirect to {TARGET} but \"{}\"", answer.escape_ascii());
    Ok(())
}

fn response(more_capabilities: u32) -> Vec<u8> {
    handshake_response("app", &[0x5a; 20], more_capabilities)
}

fn is_redirect(payload: &[u8]) -> bool {
    payload.starts_with(b"\xff\x64\x10#HY000|")
        && payload.strip_suffix(TARGET.as_bytes()).is_some_and(|rest| rest.ends_with(b"|"))
}

/// What is in these bytes, if they are one packet with this number and nothing else.
fn payload(bytes: &[u8], sequence: u8) -> Option<&[u8]> {
    let (_, payload) = bytes.split_at_checked(4)?;
    (packet(sequence, payload) == bytes).then_some(payload)
}

/// Reads until a packet is whole.
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
            // Like MariaDB, a server may end TLS by ending the connection.
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
    use super::super::tls;
    use super::*;

    fn serve(floor: Floor) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || floor.accept_from(&listener));
        address
    }

    #[test]
    fn plain_clients_are_sent_away() {
        Client::Plain.attempt(serve(Floor::new(TARGET, None))).unwrap();
    }

    #[test]
    fn tls_clients_are_sent_away() {
        let dir = tempfile::tempdir().unwrap();
        let files = tls::Files::make(dir.path()).unwrap();
        let server = tls::server_config(&files.certificate, &files.key).unwrap();
        let client = Client::Tls(tls::client_config().unwrap());
        client.attempt(serve(Floor::new(TARGET, Some(server)))).unwrap();
    }

    #[test]
    fn another_answer_is_an_error() {
        let elsewhere = serve(Floor::new("db3.example.com:3307", None));
        let error = Client::Plain.attempt(elsewhere).unwrap_err().to_string();
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
