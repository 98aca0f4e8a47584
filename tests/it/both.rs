//! One suite, two targets: a mariadbd with the plugin, and the stand-in.
//!
//! Both must behave as the contract says, so the tests do not know which server they test.

use std::net::SocketAddr;
use std::path::PathBuf;

use support::harness::Harness;
use support::server::Server;
use support::wire::{self, Client, LoggedIn, Reply, Session, handshake_response, native_reply};

use crate::library;

/// The password of the accounts `app` and `other`.
pub(crate) const PASSWORD: &str = "secret";
/// What `SELECT PASSWORD('secret')` prints.
const HASH: &str = "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7";

/// A server that redirects.
pub(crate) trait UnderTest: Send + Sync {
    /// Whether the server closes the connections of those that it kills before they can be told why: MariaDB since 10.11.
    const CLOSES_KILLED: bool;

    /// The standard port.
    fn address(&self) -> SocketAddr;
    /// The extra port.
    fn extra_address(&self) -> SocketAddr;
    /// The Unix socket.
    fn socket(&self) -> PathBuf;
    /// A session that may set global variables.
    fn root(&self) -> Session;
    /// Stops the server, which must succeed.
    fn stop(&mut self);
    /// Starts a server with options that both servers have.
    fn start(options: &[&str]) -> Self
    where
        Self: Sized;
}

/// A mariadbd with the plugin.
pub(crate) struct MariaDb(Server);

impl UnderTest for MariaDb {
    const CLOSES_KILLED: bool = true;

    fn address(&self) -> SocketAddr {
        self.0.address()
    }

    fn extra_address(&self) -> SocketAddr {
        self.0.extra_address()
    }

    fn socket(&self) -> PathBuf {
        self.0.socket()
    }

    fn root(&self) -> Session {
        self.0.root().unwrap()
    }

    fn stop(&mut self) {
        self.0.stop().unwrap();
    }

    fn start(options: &[&str]) -> Self {
        let server = Server::start(&library(), options).unwrap();
        let mut root = server.root().unwrap();
        root.query("INSTALL SONAME 'instant_failover'").unwrap();
        root.query(&format!("CREATE USER app IDENTIFIED BY '{PASSWORD}', other IDENTIFIED BY '{PASSWORD}'")).unwrap();
        Self(server)
    }
}

/// The stand-in.
pub(crate) struct Standalone {
    harness: Harness,
    /// Holds the accounts file.
    _directory: tempfile::TempDir,
}

impl UnderTest for Standalone {
    const CLOSES_KILLED: bool = false;

    fn address(&self) -> SocketAddr {
        self.harness.address()
    }

    fn extra_address(&self) -> SocketAddr {
        self.harness.extra_address()
    }

    fn socket(&self) -> PathBuf {
        self.harness.socket()
    }

    fn root(&self) -> Session {
        self.harness.root().unwrap()
    }

    fn stop(&mut self) {
        self.harness.stop().unwrap();
    }

    fn start(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let accounts = directory.path().join("accounts");
        std::fs::write(&accounts, format!("app {HASH}\nother {HASH}\n")).unwrap();
        let accounts = format!("--accounts-file={}", accounts.display());
        let options = [&[accounts.as_str()], options].concat();
        Self { harness: Harness::start(&crate::harness(), &options).unwrap(), _directory: directory }
    }
}

/// Turns each test into two: `mariadbd::name` and `standalone::name`.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod mariadbd {
            $(#[test]
            fn $name() {
                super::$name::<$crate::both::MariaDb>();
            })+
        }
        mod standalone {
            $(#[test]
            fn $name() {
                super::$name::<$crate::both::Standalone>();
            })+
        }
    };
}
pub(crate) use on_both;

/// A client that has read the greeting and sent nothing, and the scramble from the greeting.
pub(crate) fn greeted(server: &impl UnderTest) -> (Client, Vec<u8>) {
    let mut client = Client::connect(server.address()).unwrap();
    let scramble = wire::scramble(&client.greeting().unwrap()).unwrap();
    (client, scramble)
}

/// Answers the greeting.
pub(crate) fn answer((mut client, scramble): (Client, Vec<u8>), user: &str, password: &str) -> LoggedIn {
    client.write(&handshake_response(user, &native_reply(password, &scramble), 0)).unwrap();
    client.reply().unwrap()
}

/// A login over TCP.
pub(crate) fn log_in(server: &impl UnderTest, user: &str, password: &str) -> Reply {
    answer(greeted(server), user, password).reply
}
