//! Servers that send what no real server sends: malformed targets, long chains, errors before TLS.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use support::wire::{CLIENT_SSL, packet};

/// When the error is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// After the client's login, as it should be. The server offers no TLS.
    AfterLogin,
    /// Instead of the greeting.
    InsteadOfGreeting,
    /// Right after a greeting that offers TLS, before the client can start TLS.
    WithGreeting,
}

/// A server that answers every login with the same error. It stops when dropped.
pub(super) struct Fake {
    address: SocketAddr,
    logins: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl Fake {
    /// Listens on a free port of 127.0.0.1.
    pub(super) fn start(code: u16, message: &str, when: When) -> io::Result<Self> {
        Self::start_on((IpAddr::V4(Ipv4Addr::LOCALHOST), 0).into(), code, message, when)
    }

    pub(super) fn start_on(address: SocketAddr, code: u16, message: &str, when: When) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let (logins, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, over) = (Arc::clone(&logins), Arc::clone(&is_over));
        let message = message.to_owned();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                // A client may disconnect early.
                let _ = serve(stream, code, &message, when, &seen);
            }
        });
        Ok(Self { address, logins, is_over })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many clients sent more than a TLS request.
    pub(super) fn logins(&self) -> usize {
        self.logins.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// What a client sends to ask for TLS.
const TLS_REQUEST: usize = 4 + 32;

fn serve(mut stream: TcpStream, code: u16, message: &str, when: When, logins: &AtomicUsize) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let error =
        |sequence| packet(sequence, &[&[0xff], &code.to_le_bytes()[..], b"#HY000", message.as_bytes()].concat());
    let bare_error = || packet(0, &[&[0xff], &code.to_le_bytes()[..], message.as_bytes()].concat());
    let mut received = [0; 4096];
    match when {
        When::AfterLogin => {
            stream.write_all(&packet(0, &greeting(0)))?;
            if stream.read(&mut received)? > TLS_REQUEST {
                logins.fetch_add(1, Ordering::SeqCst);
            }
            stream.write_all(&error(2))?;
        }
        When::InsteadOfGreeting => stream.write_all(&bare_error())?,
        When::WithGreeting => stream.write_all(&[packet(0, &greeting(CLIENT_SSL)), error(2)].concat())?,
    }
    // Closing a connection with unread data resets it, and the error would be lost.
    stream.shutdown(std::net::Shutdown::Write)?;
    while stream.read(&mut received)? > 0 {}
    Ok(())
}

fn greeting(more_capabilities: u32) -> Vec<u8> {
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
        b"123456789012\0mysql_native_password\0",
    ]
    .concat()
}
