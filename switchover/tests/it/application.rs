//! An application that writes, and keeps a journal.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use failover::{ER_INSTANT_FAILOVER, message};
use mysql::prelude::Queryable as _;
use mysql::{Conn, OptsBuilder};

use super::pair::{DB1, PASSWORD, Pair};

/// Which write: the client, and its number.
pub(crate) type Order = (u64, u64);

/// How a client writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A transaction of two statements.
    Transaction,
    /// A procedure whose definer may write in spite of `read_only`.
    Procedure,
}

/// Whether some clients call procedures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Procedures {
    Yes,
    No,
}

/// A running application.
pub(crate) struct Application {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    written: AtomicU64,
    acknowledged: Mutex<BTreeSet<Order>>,
    errors: Mutex<Vec<String>>,
}

impl Application {
    pub(crate) fn start(pair: &Pair, procedures: Procedures) -> Self {
        Self::start_with(pair, procedures, "app")
    }

    /// With another user, who must be able to write.
    pub(crate) fn start_as(pair: &Pair, user: &'static str) -> Self {
        Self::start_with(pair, Procedures::No, user)
    }

    fn start_with(pair: &Pair, procedures: Procedures, user: &'static str) -> Self {
        let shared = Arc::new(Shared::default());
        let address = pair.servers[DB1].address();
        let clients = (0..6).map(|client| {
            let shared = Arc::clone(&shared);
            let kind =
                if client % 3 == 0 && procedures == Procedures::Yes { Kind::Procedure } else { Kind::Transaction };
            thread::spawn(move || work(&shared, address, user, client, kind))
        });
        Self { clients: clients.collect(), shared }
    }

    /// Waits until this many more writes were acknowledged.
    pub(crate) fn writes(&self, more: u64) {
        let enough = self.shared.written.load(Ordering::SeqCst) + more;
        for _ in 0..12_000 {
            if self.shared.written.load(Ordering::SeqCst) >= enough {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("no client can write: {:?}", self.errors().iter().rev().take(5).collect::<Vec<_>>());
    }

    /// The errors that clients saw since they were asked for last.
    pub(crate) fn errors(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.errors.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every write that was acknowledged is on a server.
    pub(crate) fn nothing_is_lost(&self, pair: &Pair, server: usize) {
        let acknowledged = self.acknowledged();
        let there = self.there(pair, server);
        let lost: Vec<_> = acknowledged.difference(&there).collect();
        assert!(!acknowledged.is_empty());
        assert!(lost.is_empty(), "{} writes are lost: {lost:?}", lost.len());
    }

    /// The writes that were acknowledged.
    pub(crate) fn acknowledged(&self) -> BTreeSet<Order> {
        self.shared.acknowledged.lock().unwrap().clone()
    }

    /// The writes that are on a server.
    #[expect(clippy::unused_self, reason = "only an application has orders")]
    pub(crate) fn there(&self, pair: &Pair, server: usize) -> BTreeSet<Order> {
        let rows = pair.sql(server, "SELECT client, number FROM shop.orders");
        rows.iter().map(|row| (row[0].parse().unwrap(), row[1].parse().unwrap())).collect()
    }

    /// No client begins another write.
    pub(crate) fn stop(&self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }

    /// Lets the clients finish.
    pub(crate) fn end(mut self) {
        self.stop();
        for client in self.clients.drain(..) {
            client.join().unwrap();
        }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

fn work(shared: &Shared, address: SocketAddr, user: &str, client: u64, kind: Kind) {
    let mut connection: Option<Conn> = None;
    let mut number = 0;
    // Whether an earlier attempt to write this number may have succeeded.
    let mut unknown = false;
    let failed = |what: &str, error: &mysql::Error| {
        let mut errors = shared.errors.lock().unwrap_or_else(PoisonError::into_inner);
        errors.push(format!("client {client}, {what}: {error}"));
    };
    while !shared.stop.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(10 + client));
        // As pools do before they lend a connection.
        let is_alive = connection.as_mut().is_some_and(|connection| connection.ping().is_ok());
        if !is_alive {
            connection = match connect(address, user) {
                Ok(connection) => Some(connection),
                Err(error) => {
                    failed("login", &error);
                    thread::sleep(Duration::from_millis(20));
                    continue;
                }
            };
        }
        let Some(open) = connection.as_mut() else { continue };
        let result = if unknown { look(open, client, number) } else { Ok(false) };
        let result = result.and_then(|there| if there { Ok(()) } else { write(open, client, number, kind) });
        match result {
            Ok(()) => {
                shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).insert((client, number));
                shared.written.fetch_add(1, Ordering::SeqCst);
                number += 1;
                unknown = false;
            }
            Err(error) => {
                failed("write", &error);
                unknown = true;
                connection = None;
            }
        }
    }
}

fn look(connection: &mut Conn, client: u64, number: u64) -> mysql::Result<bool> {
    let found: Option<u64> = connection
        .query_first(format!("SELECT number FROM shop.orders WHERE client = {client} AND number = {number}"))?;
    Ok(found.is_some())
}

fn write(connection: &mut Conn, client: u64, number: u64, kind: Kind) -> mysql::Result<()> {
    match kind {
        Kind::Procedure => connection.query_drop(format!("CALL shop.place({client}, {number})")),
        Kind::Transaction => {
            connection.query_drop("BEGIN")?;
            connection.query_drop(format!("INSERT INTO shop.orders VALUES ({client}, {number}, @@server_id)"))?;
            thread::sleep(Duration::from_millis(2));
            connection.query_drop("COMMIT")
        }
    }
}

/// Follows redirects.
pub(crate) fn connect(address: SocketAddr, user: &str) -> mysql::Result<Conn> {
    let mut next = (address.ip().to_string(), address.port());
    for _ in 0..4 {
        let options = OptsBuilder::new()
            .ip_or_hostname(Some(next.0.clone()))
            .tcp_port(next.1)
            .user(Some(user))
            .pass(Some(PASSWORD))
            .prefer_socket(false)
            .tcp_connect_timeout(Some(Duration::from_secs(2)))
            .read_timeout(Some(Duration::from_secs(30)));
        match Conn::new(options) {
            Err(mysql::Error::MySqlError(error)) if error.code == ER_INSTANT_FAILOVER => {
                let Ok(parsed) = message::parse(error.message.as_bytes()) else {
                    return Err(mysql::Error::MySqlError(error));
                };
                next = (parsed.target.host().to_string(), parsed.target.port());
            }
            other => return other,
        }
    }
    Err(mysql::Error::IoError(std::io::Error::other("a circle")))
}
