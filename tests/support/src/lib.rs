//! What the project's tests and commands share: Debian packages, what cargo builds, private MariaDB servers, the
//! stand-in, servers and attackers that send what no real server sends, and a client that shows the bytes on the wire.

pub mod build;
pub mod child;
pub mod fake;
pub mod harness;
pub mod packages;
pub mod server;
pub mod system;
pub mod tls;
pub mod wire;

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};

/// The root directory of the project.
#[must_use]
pub fn project_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Where cargo puts what it builds.
#[must_use]
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| project_root().join("target"), PathBuf::from)
}

/// Runs a command and shows its output.
///
/// # Errors
/// If it cannot be started or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

/// Runs a command and returns its output.
///
/// # Errors
/// If it cannot be started or fails; the error contains its output.
pub fn output(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    if !status.success() {
        bail!("{command:?}: {status}\n{stdout}{stderr}");
    }
    Ok(stdout.into_owned())
}

/// Where [`free_port`] looks: below those that Linux gives to connections, which would take the port of a server that restarts.
const PORTS: Range<u16> = 10_000..32_768;

/// Which of them this process tries next. Another process begins elsewhere.
static NEXT: LazyLock<AtomicU64> =
    LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(0) % u64::from(PORTS.end - PORTS.start)));

/// A port of 127.0.0.1 that was free a moment ago, and that no connection gets, nor anyone else in this process.
///
/// # Errors
/// If none is found.
pub fn free_port() -> Result<u16> {
    for _ in 0..1000 {
        let next = NEXT.fetch_add(1, Ordering::Relaxed) % u64::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(next)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port between {} and {} is free", PORTS.start, PORTS.end)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn no_port_is_given_twice() {
        let ports: BTreeSet<u16> = (0..5000).map(|_| super::free_port().unwrap()).collect();
        assert_eq!(ports.len(), 5000);
    }
}
