//! What a server asks of the kernel for each client: its system calls, counted by strace.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::client::Client;
use super::load;
use super::report::table;
use super::server::{self, Server};

const CLIENTS: u32 = 8;
/// So many that the calls of a server that starts do not count.
const TIMES: u32 = 2500;
/// For strace to write its table once the server has ended.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often each system call was made per client, by name.
type PerClient = BTreeMap<String, f64>;

/// Counts the calls of a server that this command starts. `dir` is for files.
pub(super) fn per_client(server: &Command, client: &Client, dir: &Path) -> Result<PerClient> {
    let counts = dir.join("calls");
    let mut command = Command::new("strace");
    // Not its parent: the process that is started, and stopped, is the server.
    command.args(["--daemonize=grandchild", "--follow-forks", "--summary-only", "--summary-columns=calls,name"]);
    command.arg("--output").arg(&counts).arg("--").arg(server.get_program()).args(server.get_args());
    let server = Server::start(&mut command, dir, server::announced)?;
    load::repeat(server.address(), client, CLIENTS, TIMES)?;
    drop(server);
    let deadline = Instant::now() + TIMEOUT;
    while Instant::now() < deadline {
        if let Some(calls) = parse(&fs::read_to_string(&counts).unwrap_or_default(), CLIENTS * TIMES) {
            fs::remove_file(&counts)?;
            return Ok(calls);
        }
        sleep(Duration::from_millis(10));
    }
    bail!("strace has written no table of system calls within {TIMEOUT:?}")
}

/// Reads strace's table. Without the line of the sum it is not complete.
fn parse(counts: &str, clients: u32) -> Option<PerClient> {
    let lines = counts.lines().filter_map(|line| {
        let (count, name) = line.trim().split_once(' ')?;
        Some((name.trim().to_owned(), f64::from(count.parse::<u32>().ok()?) / f64::from(clients)))
    });
    let mut calls: PerClient = lines.collect();
    calls.remove("total")?;
    Some(calls)
}

/// The calls that each of two servers makes at least once for a hundred clients.
pub(super) fn compare(names: [&str; 2], calls: &[PerClient; 2]) -> String {
    let all = |name: &str| calls.each_ref().map(|calls| calls.get(name).copied().unwrap_or_default());
    let mut rows: Vec<(&str, [f64; 2])> =
        calls.iter().flat_map(BTreeMap::keys).map(|name| (name.as_str(), all(name))).collect();
    rows.retain(|(_, counts)| counts.iter().any(|&count| count >= 0.01));
    rows.sort_by_key(|&(name, _)| name);
    rows.dedup();
    let sums = [0, 1].map(|server| rows.iter().map(|(_, counts)| counts[server]).sum());
    rows.push(("together", sums));
    let rows = rows.into_iter().map(|(name, counts)| {
        let [one, other] = counts.map(|count| format!("{count:.2}"));
        [name.to_owned(), one, other]
    });
    table(["system calls per client", names[0], names[1]], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS: &str = "\
        \x20   calls syscall\n\
        --------- ----------------\n\
        \x20      20 accept4\n\
        \x20       5 epoll_wait\n\
        --------- ----------------\n\
        \x20      25 total\n";

    #[test]
    fn a_table_of_strace() {
        let calls = parse(COUNTS, 10).unwrap();
        assert_eq!(calls, [("accept4".to_owned(), 2.0), ("epoll_wait".to_owned(), 0.5)].into());
        let incomplete = COUNTS.strip_suffix("25 total\n").unwrap();
        assert_eq!(parse(incomplete, 10), None);
    }

    #[test]
    fn a_call_that_only_one_server_makes_has_a_row() {
        let calls = [parse(COUNTS, 10).unwrap(), parse("20 accept4\n1 brk\n21 total", 1000).unwrap()];
        let table = compare(["one", "other"], &calls);
        let rows: Vec<String> =
            table.lines().skip(2).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(rows, ["| accept4 | 2.00 | 0.02 |", "| epoll_wait | 0.50 | 0.00 |", "| together | 2.50 | 0.02 |"]);
    }
}
