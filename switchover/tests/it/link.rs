//! Sessions of the command that are lost.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::thread;

use support::build::Flavour;
use support::server::Server;
use switchover::link::Link;
use switchover::servers::{Entry, Servers};

/// Passes bytes on between clients and a server. The client that sends a certain text is cut off once, and the server never
/// notices.
struct Relay {
    address: SocketAddr,
    cut_at: Arc<Mutex<Option<&'static str>>>,
}

impl Relay {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let cut_at: Arc<Mutex<Option<&'static str>>> = Arc::default();
        let texts = Arc::clone(&cut_at);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(server).unwrap());
                let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut from, &mut to));
                let texts = Arc::clone(&texts);
                thread::spawn(move || pass_on(client, server, &texts));
            }
        });
        Self { address, cut_at }
    }
}

fn pass_on(mut client: TcpStream, mut server: TcpStream, cut_at: &Mutex<Option<&'static str>>) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = client.read(&mut bytes) {
        server.write_all(&bytes[..length]).unwrap();
        let text = String::from_utf8_lossy(&bytes[..length]);
        if cut_at.lock().unwrap().take_if(|cut_at| text.contains(*cut_at)).is_some() {
            client.shutdown(Shutdown::Both).unwrap();
            // Until the end of this process.
            std::mem::forget(server);
            return;
        }
    }
}

fn entry(address: SocketAddr) -> Entry {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("servers.cnf");
    let text = format!("[db1]\nhost = 127.0.0.1\nport = {}\nuser = dba\nskip-ssl\ntarget = x\n", address.port());
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    Servers::read(Some(&file)).unwrap().get("db1").unwrap().clone()
}

/// Wherever a session is lost, the next one ends it: it may hold the lock.
#[test]
fn a_lost_session_does_not_keep_the_lock() {
    let server = Server::start(&Flavour::Release.library(), &[]).unwrap();
    let mut root = server.root().unwrap();
    root.query("CREATE USER dba").unwrap();
    root.query("GRANT ALL ON *.* TO dba").unwrap();
    let relay = Relay::to(server.address());
    let cut_at = |text| *relay.cut_at.lock().unwrap() = Some(text);
    for text in ["GET_LOCK", "SHOW GLOBAL VARIABLES", "SELECT 1"] {
        let mut link = Link::new(entry(relay.address), true);
        cut_at(text);
        assert!(link.value("SELECT 1").is_err(), "{text}");
        assert_eq!(link.value("SELECT 1"), Ok("1".to_owned()), "{text}");
    }
    // While it ends another one.
    let mut link = Link::new(entry(relay.address), true);
    link.session().unwrap();
    link.has_lost(u32::MAX);
    cut_at("information_schema.PROCESSLIST");
    assert!(link.value("SELECT 1").is_err());
    assert_eq!(link.value("SELECT 1"), Ok("1".to_owned()));
}
