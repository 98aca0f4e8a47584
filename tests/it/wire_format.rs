//! The bytes of a redirect, and of the packets around it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Arc, Mutex};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned, SupportedProtocolVersion};
use support::tls::AnyCertificate;
use support::wire::{CLIENT_SSL, Client, Reply, Session, Stream, handshake_response, native_reply, packet};

use crate::both::{PASSWORD, UnderTest, answer, greeted, on_both};

on_both!(
    one_error_packet_and_nothing_after,
    to_a_client_of_the_oldest_protocol,
    a_session_that_changes_user_stays,
    a_session_that_may_change_user_does,
    nothing_before_tls
);

const MESSAGE: &[u8] =
    b"|Server is directing clients to the alternative server 'db2.example.com:3307'.|db2.example.com:3307";

/// 0xFF, the code 4196 as two bytes, the marker and the SQLSTATE, the message.
fn error_packet(sequence: u8) -> Vec<u8> {
    packet(sequence, &[b"\xff\x64\x10#HY000", MESSAGE].concat())
}

fn redirect_all(server: &impl UnderTest) {
    let mut root = server.root();
    root.query("SET GLOBAL instant_failover_target = 'db2.example.com:3307'").unwrap();
    root.query("SET GLOBAL instant_failover_mode = ALL").unwrap();
}

fn one_error_packet_and_nothing_after<S: UnderTest>() {
    let server = S::start(&[]);
    redirect_all(&server);
    let over = [
        Client::connect(server.address()).unwrap(),
        Client::connect(server.extra_address()).unwrap(),
        Client::connect_socket(&server.socket()).unwrap(),
    ];
    // A right password, a wrong one, a user that does not exist: the answers are identical.
    for (mut client, (user, scramble)) in
        over.into_iter().zip([("app", &b""[..]), ("app", &[7; 20]), ("nobody", &[7; 20])])
    {
        client.greeting().unwrap();
        client.write(&handshake_response(user, scramble, 0)).unwrap();
        assert_eq!(client.read_to_end().unwrap(), error_packet(2), "{user}");
    }
}

/// Before protocol 4.1 an error had no SQLSTATE; such a client is still told where to go.
fn to_a_client_of_the_oldest_protocol<S: UnderTest>() {
    let server = S::start(&[]);
    redirect_all(&server);
    let (mut client, _) = greeted(&server);
    // Two bytes of capabilities, three bytes of the maximum packet size, the user, an empty password.
    client.write(b"\0\0\0\0\0app\0\0").unwrap();
    assert_eq!(client.read_to_end().unwrap(), packet(2, &[b"\xff\x64\x10", MESSAGE].concat()));
}

fn a_session_that_changes_user_stays<S: UnderTest>() {
    let server = S::start(&[]);
    let mut session = answer(greeted(&server), "app", PASSWORD).session().unwrap();
    redirect_all(&server);
    let Reply::Err(error) = session.change_user("other", |_| Vec::new()).unwrap() else { panic!("accepted") };
    assert_eq!((error.code, error.message.as_bytes()), (4196, MESSAGE));
    assert_eq!(session.query("SELECT USER()").unwrap(), [["app@127.0.0.1"]]);
}

/// Without a redirect, changing the user works as usual: the right password is accepted, the session keeps its user after a
/// wrong one, and after three wrong ones no further attempt is allowed.
fn a_session_that_may_change_user_does<S: UnderTest>() {
    let server = S::start(&[]);
    let mut session = answer(greeted(&server), "app", PASSWORD).session().unwrap();
    let user = |session: &mut Session| session.query("SELECT USER()").unwrap().concat().concat();
    let code = |reply: Reply| if let Reply::Err(error) = reply { error.code } else { 0 };
    assert_eq!(session.change_user("other", |scramble| native_reply(PASSWORD, scramble)).unwrap(), Reply::Ok);
    assert_eq!(user(&mut session), "other@127.0.0.1");
    for expected in [1045, 1045, 1045, 1047] {
        assert_eq!(code(session.change_user("app", |scramble| native_reply("wrong", scramble)).unwrap()), expected);
        assert_eq!(user(&mut session), "other@127.0.0.1");
    }
    assert_eq!(code(session.change_user("app", |scramble| native_reply(PASSWORD, scramble)).unwrap()), 1047);
}

/// A certificate for a server, as options for both servers; removed with the directory.
pub(crate) fn certificate() -> (tempfile::TempDir, [String; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    std::fs::write(&cert, certificate.cert.pem()).unwrap();
    std::fs::write(&key, certificate.signing_key.serialize_pem()).unwrap();
    let options = [format!("--ssl-cert={}", cert.display()), format!("--ssl-key={}", key.display())];
    (directory, options)
}

/// With TLS, the server sends only its greeting before the handshake, and the redirect inside TLS.
fn nothing_before_tls<S: UnderTest>() {
    let (_directory, options) = certificate();
    let server = S::start(&options.each_ref().map(String::as_str));
    redirect_all(&server);

    let tap = Tap(TcpStream::connect(server.address()).unwrap(), Arc::default());
    let heard = Arc::clone(&tap.1);
    let mut client = Client::over(tap);
    client.greeting().unwrap();
    heard.lock().unwrap().clear();

    let response = handshake_response("app", b"", CLIENT_SSL);
    client.write(&response[..32]).unwrap();
    let mut client = client.upgrade(|stream| Box::new(tls(stream)));
    client.write(&response).unwrap();
    // TLS ends with the connection; MariaDB sends no close_notify after a refused login, the stand-in does.
    let mut inside = Vec::new();
    while let Ok(packet) = client.read() {
        inside.push(packet);
    }
    assert_eq!(inside, [error_packet(0)[4..].to_vec()]);

    // On the wire: TLS records from the first byte to the last.
    let heard = heard.lock().unwrap();
    let mut rest = heard.as_slice();
    while let [kind, major, _, high, low, ..] = *rest {
        assert!((20..=23).contains(&kind) && major == 3, "{kind} {major} is not a TLS record");
        rest = &rest[5 + usize::from(u16::from_be_bytes([high, low]))..];
    }
    assert!(rest.is_empty(), "{rest:02x?}");
    assert!(!heard.windows(4).any(|window| window == b"4196" || window == b"db2."));
}

/// A stream that records what it receives.
#[derive(Debug)]
struct Tap(TcpStream, Arc<Mutex<Vec<u8>>>);

impl Read for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.0.read(buffer)?;
        self.1.lock().unwrap().extend_from_slice(&buffer[..length]);
        Ok(length)
    }
}

impl Write for Tap {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

pub(crate) type TlsStream = StreamOwned<ClientConnection, Box<dyn Stream>>;

/// TLS over a stream, without verifying the server.
pub(crate) fn tls(stream: Box<dyn Stream>) -> TlsStream {
    tls_noting(stream, &Arc::default())
}

/// The same, and records the server's certificate.
pub(crate) fn tls_noting(stream: Box<dyn Stream>, certificate: &Arc<Mutex<Vec<u8>>>) -> TlsStream {
    tls_over(stream, rustls::ALL_VERSIONS, certificate, None)
}

/// The same with these TLS versions, and optionally with a client certificate and its key.
pub(crate) fn tls_with(
    stream: Box<dyn Stream>,
    versions: &[&'static SupportedProtocolVersion],
    own: Option<(Vec<u8>, Vec<u8>)>,
) -> TlsStream {
    tls_over(stream, versions, &Arc::default(), own)
}

fn tls_over(
    stream: Box<dyn Stream>,
    versions: &[&'static SupportedProtocolVersion],
    certificate: &Arc<Mutex<Vec<u8>>>,
    own: Option<(Vec<u8>, Vec<u8>)>,
) -> TlsStream {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(Arc::clone(certificate))));
    let config = match own {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            config.with_client_auth_cert(vec![certificate.into()], key.try_into().unwrap()).unwrap()
        }
    };
    let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
}
