//! What answers at an address, found out without a login.

use std::io::{self, ErrorKind, Read};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::threads;

/// How long a server may take to accept a connection, and to send its greeting.
const PATIENCE: Duration = Duration::from_secs(3);

/// What answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Nothing, and why.
    Silent(String),
    /// Connections are accepted, and nothing that a server sends comes.
    Hangs(String),
    /// A server: its version, and the id of the connection.
    Greets {
        /// As it is sent to clients.
        version: String,
        /// As in the process list.
        connection: u32,
    },
    /// A server that refuses the connection.
    Refuses(String),
    /// This machine cannot find out.
    Unknown(String),
}

/// Asks every address that a host name has. The one that shows most of a server counts.
#[must_use]
pub fn tcp(host: &str, port: u16) -> Probe {
    let addresses: Vec<_> = match (host, port).to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => return Probe::Unknown(error.to_string()),
    };
    let probes = threads::each(addresses, |address| match TcpStream::connect_timeout(&address, PATIENCE) {
        Ok(stream) => match stream.set_read_timeout(Some(PATIENCE)) {
            Ok(()) => greeting(stream),
            Err(error) => Probe::Unknown(error.to_string()),
        },
        Err(error) => not_connected(&error),
    });
    probes.into_iter().max_by_key(Probe::weight).unwrap_or_else(|| Probe::Unknown("the name has no address".to_owned()))
}

/// Asks at a Unix socket.
#[must_use]
pub fn socket(path: &str) -> Probe {
    let address = path.to_owned();
    // As long as its backlog is full, this waits.
    let connected = threads::within(PATIENCE, || UnixStream::connect(address));
    let Some(connected) = connected else {
        return Probe::Hangs(format!("no connection within {} s", PATIENCE.as_secs()));
    };
    match connected {
        Ok(stream) => match stream.set_read_timeout(Some(PATIENCE)) {
            Ok(()) => greeting(stream),
            Err(error) => Probe::Unknown(error.to_string()),
        },
        Err(error) => not_connected(&error),
    }
}

impl Probe {
    /// How much it shows of a server.
    const fn weight(&self) -> u8 {
        match self {
            Self::Silent(_) => 0,
            Self::Unknown(_) => 1,
            Self::Hangs(_) => 2,
            Self::Refuses(_) => 3,
            Self::Greets { .. } => 4,
        }
    }
}

fn not_connected(error: &io::Error) -> Probe {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NotFound => {
            Probe::Silent(error.to_string())
        }
        _ => Probe::Unknown(error.to_string()),
    }
}

/// Reads the first packet: see <https://mariadb.com/kb/en/connection/#initial-handshake-packet>.
fn greeting(mut stream: impl Read) -> Probe {
    let mut header = [0; 4];
    let hangs = |error: io::Error| {
        Probe::Hangs(match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("no greeting within {} s", PATIENCE.as_secs()),
            ErrorKind::UnexpectedEof => "the connection is closed without a greeting".to_owned(),
            _ => error.to_string(),
        })
    };
    if let Err(error) = stream.read_exact(&mut header) {
        return hangs(error);
    }
    let length = u32::from_le_bytes([header[0], header[1], header[2], 0]);
    let mut payload = Vec::new();
    if let Err(error) = stream.take(length.min(1024).into()).read_to_end(&mut payload) {
        return hangs(error);
    }
    parse(&payload).unwrap_or_else(|| Probe::Hangs("what it sends is not a server's greeting".to_owned()))
}

fn parse(payload: &[u8]) -> Option<Probe> {
    match payload.split_first()? {
        (10, rest) => {
            let end = rest.iter().position(|byte| *byte == 0)?;
            let version = String::from_utf8_lossy(rest.get(..end)?).into_owned();
            let id = rest.get(end + 1..end + 5)?.try_into().ok()?;
            Some(Probe::Greets { version, connection: u32::from_le_bytes(id) })
        }
        (0xff, rest) => Some(Probe::Refuses(String::from_utf8_lossy(rest.get(2..)?).into_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::time::Duration;

    use mysql::OptsBuilder;
    use socket2::{Domain, SockAddr, Socket, Type};

    use super::{Probe, parse, socket, tcp};
    use crate::database::connect;

    fn answering(bytes: &'static [u8]) -> Probe {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(bytes).unwrap());
        let probe = tcp("127.0.0.1", port);
        server.join().unwrap();
        probe
    }

    #[test]
    fn what_answers() {
        let greeting = b"\x0f\0\0\0\x0a10.11.1\0\x07\x01\0\0rest";
        let greets = Probe::Greets { version: "10.11.1".to_owned(), connection: 263 };
        assert_eq!(answering(greeting), greets);
        assert_eq!(
            answering(b"\x17\0\0\0\xff\x10\x04Too many connections"),
            Probe::Refuses("Too many connections".to_owned())
        );
        for bytes in [&b""[..], b"\x05", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x02\0\0\0\x0a1"] {
            assert!(matches!(answering(bytes), Probe::Hangs(_)), "{bytes:?}");
        }
        for payload in [&b""[..], b"\x0a", b"\x0a1\0\0\0\0", b"\xff", b"\x09"] {
            assert_eq!(parse(payload), None, "{payload:?}");
        }
    }

    #[test]
    fn what_does_not_answer() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert!(matches!(tcp("127.0.0.1", port), Probe::Silent(_)));
        assert!(matches!(tcp("no.such.host.invalid", 3306), Probe::Unknown(_)));
        // It accepts connections, and says nothing.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(tcp("127.0.0.1", listener.local_addr().unwrap().port()), Probe::Hangs(_)));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        assert!(matches!(socket(path.to_str().unwrap()), Probe::Silent(_)));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(matches!(socket(path.to_str().unwrap()), Probe::Hangs(_)));
        drop(listener);
        assert!(matches!(socket(path.to_str().unwrap()), Probe::Silent(_)));
    }

    /// As that of a server that hangs.
    #[test]
    fn a_full_backlog() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let _first = UnixStream::connect(&path).unwrap();
        let path = path.to_str().unwrap();
        assert_eq!(socket(path), Probe::Hangs("no connection within 3 s".to_owned()));
        let options = OptsBuilder::new().socket(Some(path));
        let Err(error) = connect(options, Duration::from_millis(100)) else { panic!("it connects") };
        assert_eq!(error.to_string(), "no answer: no login within 0.1 s");
    }
}
