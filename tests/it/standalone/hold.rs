//! Logins that the stand-in holds, and sessions that it drains: from its start, in its log, in numbers.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use support::wire::{CLIENT_SSL, Client, LoggedIn, Reply, Session, handshake_response, packet};

use super::{Harness, Instant, Read, TcpStream, fs, many_descriptors, start, wait_until};
use crate::redirect_to;
use crate::wire_format::tls;

/// An account without a password, and the option that names it.
fn account() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("accounts");
    fs::write(&file, "app no-password\n").unwrap();
    let option = format!("--accounts-file={}", file.display());
    (directory, option)
}

/// A client that has logged in and sent `early` at once, and has read no answer yet.
fn early(server: &Harness, over_tls: bool, early: &[u8]) -> Client {
    let mut client = Client::connect(server.address()).unwrap();
    client.greeting().unwrap();
    if over_tls {
        client.write(&handshake_response("", b"", CLIENT_SSL)[..32]).unwrap();
        client = client.upgrade(|stream| Box::new(tls(stream)));
    }
    let (number, flags) = if over_tls { (2, CLIENT_SSL) } else { (1, 0) };
    let login = packet(number, &handshake_response("app", b"", flags));
    client.write_raw(&[&login, early].concat()).unwrap();
    client.skip();
    client
}

fn waiting(server: &Harness) -> Client {
    early(server, false, b"")
}

fn held(root: &mut Session) -> String {
    root.status("Instant_failover_held").unwrap()
}

/// In the place of a server that is dead, clients wait from the start.
#[test]
fn hold_begins_at_the_start() {
    let (_directory, account) = account();
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let server = start(&[
        &account,
        "--instant-failover-mode=HOLD",
        "--instant-failover-hold-timeout=5",
        "--instant-failover-note=by ann",
        "--instant-failover-drain=OFF",
        &format!("--metrics={}", free.port()),
    ]);
    let client = waiting(&server);
    let mut root = server.root().unwrap();
    wait_until("it is held", || held(&mut root) == "1");
    assert_eq!(root.query("SELECT @@instant_failover_note").unwrap(), [["by ann"]]);
    let mut http = TcpStream::connect(free).unwrap();
    http.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut metrics = String::new();
    http.read_to_string(&mut metrics).unwrap();
    for number in
        ["held 1", "holds_total 1", "hold_timeouts_total 0", "drained_total 0", "sessions 0", "mode{mode=\"HOLD\"} 1"]
    {
        assert!(metrics.contains(&format!("\ninstant_failover_harness_{number}\n")), "{number}: {metrics}");
    }
    root.query("SET GLOBAL instant_failover_drain = ON").unwrap();
    assert_eq!(client.reply().unwrap().reply, Reply::Ok);
    for line in ["mode changed from 'HOLD' to 'OFF'", "drain changed from 'ON' to 'OFF'"] {
        let line = format!("INFO instant_failover_{line}: HOLD has ended by its timeout, after 5 s");
        wait_until(&line, || server.error_log().matches(&line).count() == 1);
    }
}

/// A session whose client does not read its answers is not idle.
#[test]
fn the_log_names_what_is_not_drained() {
    const QUERIES: usize = 500;
    const LENGTH: usize = 40_000;
    let (_directory, account) = account();
    let server = start(&[&account, "--instant-failover-target=db2"]);
    let mut root = server.root().unwrap();
    // More than both sides' buffers take.
    let users = vec!["x".repeat(99); LENGTH / 100].join(",");
    root.query(&format!("SET GLOBAL instant_failover_exempt_users = '{users}'")).unwrap();
    let queries = packet(0, b"\x03SELECT @@instant_failover_exempt_users").repeat(QUERIES);
    let mut deaf: Vec<Client> = (0..7)
        .map(|_| {
            let LoggedIn { mut client, reply } = waiting(&server).reply().unwrap();
            assert_eq!(reply, Reply::Ok);
            client.write_raw(&queries).unwrap();
            client
        })
        .collect();
    root.query("SET GLOBAL instant_failover_mode = ON, instant_failover_drain = ON").unwrap();
    wait_until("it is logged", || server.error_log().contains("INFO draining for 10 s: "));
    assert_eq!(root.status("Instant_failover_sessions").unwrap(), "7");
    let log = server.error_log();
    let line = log.lines().find(|line| line.contains("draining for")).unwrap();
    let named = line.matches(" of app@127.0.0.1 since 2").count();
    assert!(line.contains("7 sessions left; the oldest: ") && named == 5, "{line}");
    // Who reads at last gets every answer, and is drained then.
    assert!(deaf[0].read_to_end().unwrap().len() > QUERIES * (LENGTH - 1));
    assert_eq!(root.status("Instant_failover_drained").unwrap(), "1");
}

#[test]
fn a_thousand_in_little_memory_and_time() {
    const CLIENTS: usize = 1000;
    let _alone = many_descriptors(CLIENTS as u64);
    let (_directory, account) = account();
    // What each kind may need, in bytes: no more than before the login. What the allocator keeps makes it differ by 3 KB.
    for (what, over_tls, said, most) in [
        ("plain", false, 0, 4_000),
        ("plain, talking", false, 60_000, 14_000),
        ("TLS", true, 0, 20_000),
        ("TLS, talking", true, 6_000, 40_000),
    ] {
        let server = start(&[&account, "--max-connections=4000", "--instant-failover-target=db2"]);
        let memory = || -> u64 {
            let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let mut root = server.root().unwrap();
        root.query("SET GLOBAL instant_failover_hold_timeout = 3600").unwrap();
        let before = memory();
        for (mode, expected) in [("ON", redirect_to("db2")), ("OFF", Reply::Ok)] {
            root.query("SET GLOBAL instant_failover_mode = HOLD").unwrap();
            let too_early = vec![0xff; said];
            let clients: Vec<Client> = (0..CLIENTS).map(|_| early(&server, over_tls, &too_early)).collect();
            wait_until("all are held", || held(&mut root) == CLIENTS.to_string());
            let each = memory().saturating_sub(before) * 1024 / CLIENTS as u64;
            let began = Instant::now();
            root.query(&format!("SET GLOBAL instant_failover_mode = {mode}")).unwrap();
            let replies: Vec<_> = clients.into_iter().map(|client| client.reply().unwrap()).collect();
            let took = began.elapsed();
            println!("{CLIENTS} held, {what}: {each} bytes each; answered after mode = {mode} in {took:?}");
            assert!(replies.iter().all(|login| login.reply == expected), "{mode}");
            assert!(each < most, "{what}: {each}");
            assert!(took < Duration::from_secs(10), "{what}: {took:?}");
            drop(replies);
            wait_until("all are gone", || root.status("Threads_connected").unwrap() == "1");
        }
    }
}
