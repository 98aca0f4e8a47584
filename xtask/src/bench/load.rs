//! Many clients at once.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::client::Client;

/// Lets `clients` threads connect again and again for that time, and returns how often they did per second.
///
/// # Errors
/// If a single one is not sent where it should.
pub(super) fn measure(server: SocketAddr, client: &Client, clients: u32, time: Duration) -> Result<f64> {
    let start = Instant::now();
    let attempts = thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(|| attempts(server, client, start + time))).collect();
        let results =
            threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a client panicked")).flatten());
        results.sum::<Result<u32>>()
    })?;
    Ok(f64::from(attempts) / start.elapsed().as_secs_f64())
}

fn attempts(server: SocketAddr, client: &Client, end: Instant) -> Result<u32> {
    let mut attempts = 0;
    while Instant::now() < end {
        client.attempt(server).with_context(|| format!("attempt {} of a client", attempts + 1))?;
        attempts += 1;
    }
    Ok(attempts)
}
