//! Clients that write while nodes are restarted, and what became of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use support::wire::{Client, Error, Reply, Session};

const CLIENTS: u32 = 8;
/// As Connector/C has them.
const HOPS: u32 = 8;
/// Of an order.
const PAUSE: Duration = Duration::from_millis(5);
const DEADLOCK: u16 = 1213;

/// Clients with a list of hosts: they take the first that answers, and follow redirects.
pub(super) struct Application {
    stops: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Journal>>,
}

/// What one client has seen, or all of them.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// Orders whose COMMIT was answered.
    pub(super) acknowledged: Vec<(u32, u32)>,
    /// Sessions that ended inside a transaction, and not by a conflict between two nodes.
    pub(super) cut: Vec<String>,
    /// Sessions that had ended when the client began its next transaction.
    pub(super) ended: u32,
    pub(super) conflicts: u32,
    /// The longest time for an order, with all that it took.
    pub(super) longest: Duration,
}

impl Application {
    pub(super) fn start(hosts: &[SocketAddr]) -> Self {
        let stops = Arc::new(AtomicBool::new(false));
        let clients = (0..CLIENTS)
            .map(|client| {
                let (stops, hosts) = (Arc::clone(&stops), hosts.to_vec());
                thread::spawn(move || work(client, &hosts, &stops))
            })
            .collect();
        Self { stops, clients }
    }

    pub(super) fn stop(self) -> Result<Journal> {
        self.stops.store(true, Ordering::Relaxed);
        let mut all = Journal::default();
        for client in self.clients {
            let one = client.join().map_err(|_| anyhow!("a client panicked"))?;
            all.acknowledged.extend(one.acknowledged);
            all.cut.extend(one.cut);
            all.ended += one.ended;
            all.conflicts += one.conflicts;
            all.longest = all.longest.max(one.longest);
        }
        Ok(all)
    }
}

impl Journal {
    /// How many acknowledged orders are missing, and how many orders are there twice.
    pub(super) fn compare(&self, session: &mut Session) -> Result<(usize, usize)> {
        let mut times: HashMap<(u32, u32), u32> = HashMap::new();
        for row in session.query("SELECT client, number FROM shop.orders WHERE number > 0")? {
            let [client, number] = row.as_slice() else { continue };
            *times.entry((client.parse()?, number.parse()?)).or_default() += 1;
        }
        let lost = self.acknowledged.iter().filter(|order| !times.contains_key(order)).count();
        Ok((lost, times.values().filter(|&&times| times > 1).count()))
    }
}

fn work(client: u32, hosts: &[SocketAddr], stops: &AtomicBool) -> Journal {
    let mut journal = Journal::default();
    let mut session = None;
    for number in 1.. {
        let began = Instant::now();
        // An order is repeated only while it is certain that it was not carried out.
        while !stops.load(Ordering::Relaxed) {
            if session.is_none() {
                session = connect(hosts);
            }
            let Some(open) = session.as_mut() else {
                sleep(PAUSE);
                continue;
            };
            match order(open, client, number) {
                Ok(()) => {
                    journal.acknowledged.push((client, number));
                    break;
                }
                Err(Stop::Before) => {
                    journal.ended += 1;
                    session = None;
                }
                Err(Stop::Conflict) => journal.conflicts += 1,
                Err(Stop::Inside(why)) => {
                    journal.cut.push(why);
                    session = None;
                    // It may have been carried out.
                    break;
                }
            }
        }
        journal.longest = journal.longest.max(began.elapsed());
        if stops.load(Ordering::Relaxed) {
            break;
        }
        sleep(PAUSE);
    }
    journal
}

/// Why an order was not carried out.
enum Stop {
    Before,
    Conflict,
    Inside(String),
}

fn order(session: &mut Session, client: u32, number: u32) -> Result<(), Stop> {
    session.query("BEGIN").map_err(|_| Stop::Before)?;
    for statement in [
        &format!("INSERT INTO shop.orders (client, number) VALUES ({client}, {number})") as &str,
        "SELECT COUNT(*) FROM shop.orders WHERE number = 0",
        "COMMIT",
    ] {
        session.query(statement).map_err(|error| match error.downcast_ref::<Error>() {
            Some(error) if error.code == DEADLOCK => Stop::Conflict,
            _ => Stop::Inside(format!("{statement}: {error}")),
        })?;
    }
    Ok(())
}

fn connect(hosts: &[SocketAddr]) -> Option<Session> {
    hosts.iter().find_map(|&host| follow(host))
}

fn follow(mut address: SocketAddr) -> Option<Session> {
    for _ in 0..=HOPS {
        let logged_in = Client::connect(address).ok()?.log_in("app", b"").ok()?;
        match &logged_in.reply {
            Reply::Ok => return logged_in.session().ok(),
            Reply::Err(error) => address = error.message.rsplit('|').next()?.parse().ok()?,
            Reply::Switch(_) => return None,
        }
    }
    None
}
