//! Tests of the plugin in real servers, and of the stand-in, on the wire and from outside the process.
//!
//! Run them with `cargo xtask test`, which builds what is tested and installs MariaDB. Each test has its own server; common
//! behaviour is tested on both servers ([`both`]).
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "clippy recognises tests by their attribute, but not their helpers"
)]

mod both;
mod character_sets;
mod client;
mod client_by_default;
mod drain;
mod hold;
mod library;
mod lifecycle;
mod misbehaviour;
mod panics;
mod proxy_protocol;
mod settings;
mod standalone;
mod switch;
mod verdict;
mod wire_format;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use support::server::Server;
use support::wire::{Client, Error, LoggedIn, Reply};

/// The release build of the plugin.
fn library() -> PathBuf {
    built("INSTANT_FAILOVER_SO", support::build::Flavour::Release.library())
}

/// The release build of the stand-in.
fn harness() -> PathBuf {
    built("INSTANT_FAILOVER_HARNESS", support::build::harness_program())
}

fn built(variable: &str, usual: PathBuf) -> PathBuf {
    let path = std::env::var_os(variable).map_or(usual, PathBuf::from);
    assert!(path.is_file(), "{} is missing: run `cargo xtask test`", path.display());
    path
}

/// A server with the plugin installed, and two accounts without passwords.
fn server_with_plugin() -> Server {
    let server = server_without_plugin();
    server.root().unwrap().query("INSTALL SONAME 'instant_failover'").unwrap();
    server
}

/// The same without the plugin.
fn server_without_plugin() -> Server {
    let server = Server::start(&library(), &[]).unwrap();
    server.root().unwrap().query("CREATE USER app, other").unwrap();
    server
}

/// A login over TCP as `user`, without a password.
fn log_in(server: &Server, user: &str) -> Reply {
    Client::connect(server.address()).unwrap().log_in(user, b"").unwrap().reply
}

/// Waits until something is so.
fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "waited 20 s for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The reply that redirects a client.
fn redirect_to(target: &str) -> Reply {
    Reply::Err(Error {
        code: 4196,
        state: Some("HY000".to_owned()),
        message: format!("|Server is directing clients to the alternative server '{target}'.|{target}"),
    })
}

/// Whether the reply is "Access denied", as for a wrong password.
fn is_access_denied(reply: &Reply) -> bool {
    matches!(reply, Reply::Err(error) if error.code == 1045)
}

/// A client that has read the greeting and sent nothing.
fn greeted(server: &Server) -> Client {
    let mut client = Client::connect(server.address()).unwrap();
    client.greeting().unwrap();
    client
}

/// Answers the greeting as `user`, without a password.
fn answer(mut client: Client, user: &str) -> LoggedIn {
    client.write(&support::wire::handshake_response(user, b"", 0)).unwrap();
    client.reply().unwrap()
}
