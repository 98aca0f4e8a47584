//! Servers that send what no real server sends: malformed targets, long chains, errors before TLS.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::wire::{self, CLIENT_SSL};

/// When the error is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// After the client's login, as it should be. The server offers no TLS.
    AfterLogin,
    /// Instead of the greeting.
    InsteadOfGreeting,
    /// Right after a greeting that offers TLS, before the client can start TLS.
    WithGreeting,
    /// Likewise, and the greeting names this plugin for the client's login.
    WithGreetingFor(&'static str),
    /// In plaintext, after the client has asked for TLS.
    AfterTlsRequest,
    /// Behind the greeting of a real server, as if it were the answer to a login inside TLS. All else is passed on between that
    /// server and the client: an attacker on the network, who cannot look into TLS.
    BehindGreetingOf(SocketAddr, Pieces),
    /// After the client has switched to another method, in one round.
    AfterSwitch,
    /// The same, in three rounds: the full authentication of `caching_sha2_password`, with this public key (PEM).
    AfterThreeRounds(String),
}

/// In which pieces an attacker passes on a greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pieces {
    /// The greeting and the error.
    One,
    /// Half of the greeting; the rest and the error.
    Two,
    /// Three bytes, which do not even say how long the greeting is; the rest and the error.
    InHeader,
}

impl Pieces {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::One, Self::Two, Self::InHeader];
}

/// A server that answers every login with the same error. It stops when dropped.
pub struct Fake {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    logins: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

impl Fake {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If there is none.
    pub fn start(code: u16, message: &str, when: When) -> io::Result<Self> {
        Self::start_on((IpAddr::V4(Ipv4Addr::LOCALHOST), 0).into(), code, message, when)
    }

    /// Listens on this address.
    ///
    /// # Errors
    /// If it cannot.
    pub fn start_on(address: SocketAddr, code: u16, message: &str, when: When) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let (connections, logins) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let is_over = Arc::new(AtomicBool::new(false));
        let (accepted, seen, over) = (Arc::clone(&connections), Arc::clone(&logins), Arc::clone(&is_over));
        let answer = Arc::new(Answer { code, message: message.to_owned(), when });
        let listening = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                accepted.fetch_add(1, Ordering::SeqCst);
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                // A client may disconnect early.
                thread::spawn(move || answer.serve(stream, &seen));
            }
        });
        Ok(Self { address, connections, logins, is_over, listening: Some(listening) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many clients connected.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many clients sent more than a TLS request.
    #[must_use]
    pub fn logins(&self) -> usize {
        self.logins.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        // The next one may have the same address.
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}

/// Long enough for the client to read one piece before the next.
const APART: Duration = Duration::from_millis(50);

/// The payload of a client's request for TLS.
const TLS_REQUEST: usize = 32;

struct Answer {
    code: u16,
    message: String,
    when: When,
}

impl Answer {
    fn serve(&self, mut stream: TcpStream, logins: &AtomicUsize) -> io::Result<()> {
        if let When::BehindGreetingOf(server, pieces) = self.when {
            return self.relay(stream, server, pieces);
        }
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        self.talk(&stream, logins)?;
        // Closing a connection with unread data resets it, and the error would be lost.
        stream.shutdown(Shutdown::Write)?;
        let mut rest = [0; 4096];
        while stream.read(&mut rest)? > 0 {}
        Ok(())
    }

    fn relay(&self, mut client: TcpStream, server: SocketAddr, pieces: Pieces) -> io::Result<()> {
        let mut server = TcpStream::connect(server)?;
        let mut greeting = [0; 4096];
        let length = server.read(&mut greeting)?;
        let greeting = &greeting[..length];
        let (first, rest) = greeting.split_at(match pieces {
            Pieces::One => 0,
            Pieces::Two => length / 2,
            Pieces::InHeader => 3,
        });
        client.write_all(first)?;
        thread::sleep(APART);
        // The request for TLS is packet 1, the login packet 2.
        client.write_all(&[rest, &wire::packet(3, &self.error())].concat())?;
        let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
        // Whoever hangs up, or resets the connection: the other side's ends, too.
        thread::spawn(move || {
            let _ = io::copy(&mut from_client, &mut to_server);
            to_server.shutdown(Shutdown::Both)
        });
        let _ = io::copy(&mut server, &mut client);
        client.shutdown(Shutdown::Both)
    }

    fn error(&self) -> Vec<u8> {
        [&[0xff], &self.code.to_le_bytes()[..], b"#HY000", self.message.as_bytes()].concat()
    }

    fn talk(&self, stream: &TcpStream, logins: &AtomicUsize) -> io::Result<()> {
        let error = self.error();
        // It numbers packets for either side.
        let mut client = wire::Client::over(stream.try_clone()?);
        match &self.when {
            When::InsteadOfGreeting => {
                // Without SQLSTATE: the server does not know the client's capabilities.
                return client.write(&[&[0xff], &self.code.to_le_bytes()[..], self.message.as_bytes()].concat());
            }
            When::WithGreeting => {
                let packets = [wire::packet(0, &greeting(CLIENT_SSL, NATIVE)), wire::packet(2, &error)].concat();
                return client.write_raw(&packets);
            }
            When::WithGreetingFor(plugin) => {
                // To a client that sends nothing in between.
                let packets = [wire::packet(0, &greeting(CLIENT_SSL, plugin)), wire::packet(1, &error)].concat();
                client.write_raw(&packets)?;
                // Or a goodbye.
                if ![TLS_REQUEST, 1].contains(&client.read()?.len()) {
                    logins.fetch_add(1, Ordering::SeqCst);
                }
                return Ok(());
            }
            When::AfterTlsRequest => {
                client.write(&greeting(CLIENT_SSL, NATIVE))?;
                client.read()?;
                return client.write(&error);
            }
            When::AfterLogin | When::AfterSwitch | When::AfterThreeRounds(_) | When::BehindGreetingOf(..) => {}
        }
        client.write(&greeting(0, NATIVE))?;
        if client.read()?.len() > TLS_REQUEST {
            logins.fetch_add(1, Ordering::SeqCst);
        }
        match &self.when {
            When::AfterSwitch => {
                client.write(&[&b"\xfemysql_native_password\0"[..], SCRAMBLE, b"\0"].concat())?;
                client.read()?;
            }
            When::AfterThreeRounds(key) => {
                client.write(&[&b"\xfecaching_sha2_password\0"[..], SCRAMBLE, b"\0"].concat())?;
                client.read()?;
                // Full authentication; the client asks for the key, and gets it.
                client.write(b"\x01\x04")?;
                client.read()?;
                client.write(&[b"\x01", key.as_bytes()].concat())?;
                client.read()?;
            }
            _ => {}
        }
        client.write(&error)
    }
}

const SCRAMBLE: &[u8; 20] = b"abcdefghijklmnopqrst";

/// The client plugin that most greetings name.
const NATIVE: &str = "mysql_native_password";

fn greeting(more_capabilities: u32, plugin: &str) -> Vec<u8> {
    /// Long passwords and flags, a database, the protocol of 4.1, transactions, authentication plugins.
    const CAPABILITIES: u32 = 1 | 4 | 8 | 1 << 9 | 1 << 13 | 1 << 15 | 1 << 19;
    let capabilities = (CAPABILITIES | more_capabilities).to_le_bytes();
    [
        &b"\x0a5.5.5-10.11.0-MariaDB-fake\0"[..],
        &1_u32.to_le_bytes(),
        b"12345678\0",
        &capabilities[..2],
        &[45, 2, 0],
        &capabilities[2..],
        &[21],
        &[0; 10],
        b"123456789012\0",
        plugin.as_bytes(),
        b"\0",
    ]
    .concat()
}
