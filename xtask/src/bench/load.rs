//! Many clients at once.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::client::Client;

/// Lets `clients` threads connect repeatedly for that time, and returns the connections per second.
///
/// # Errors
/// If any attempt does not end as expected.
pub(super) fn measure(server: SocketAddr, client: &Client, clients: u32, time: Duration) -> Result<f64> {
    let start = Instant::now();
    let attempts = in_threads(clients, || attempts(server, client, |_| start.elapsed() < time))?;
    Ok(f64::from(attempts) / start.elapsed().as_secs_f64())
}

/// Lets `clients` threads connect `times` times each.
///
/// # Errors
/// As for [`measure`].
pub(super) fn repeat(server: SocketAddr, client: &Client, clients: u32, times: u32) -> Result<()> {
    in_threads(clients, || attempts(server, client, |attempts| attempts < times)).map(drop)
}

fn in_threads(clients: u32, work: impl Fn() -> Result<u32> + Sync) -> Result<u32> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(&work)).collect();
        let results =
            threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a client panicked")).flatten());
        results.sum()
    })
}

fn attempts(server: SocketAddr, client: &Client, go_on: impl Fn(u32) -> bool) -> Result<u32> {
    let mut attempts = 0;
    while go_on(attempts) {
        client.attempt(server).with_context(|| format!("connection attempt {} of a client", attempts + 1))?;
        attempts += 1;
    }
    Ok(attempts)
}
