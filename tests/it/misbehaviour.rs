//! Clients that hang up, send nonsense, or say nothing: the server behaves as it does without us.

use std::time::Duration;
use std::{io, thread};

use xtask::server::Server;
use xtask::wire::{Client, handshake_response, packet};

use crate::{log_in, redirect_to, server_with_plugin, server_without_plugin};

/// What a server sends to a client that sends `bytes` after the greeting and then, perhaps, nothing more.
fn answer_to(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut client = Client::connect(server.address()).unwrap();
    client.greeting().unwrap();
    client.write_raw(bytes).unwrap();
    client.read_to_end().unwrap()
}

#[test]
fn hang_ups_at_every_byte() {
    let (mut ours, stock) = (server_with_plugin(), server_without_plugin());
    let mut root = ours.root().unwrap();
    root.query("SET GLOBAL instant_failover_target = 'db2', instant_failover_mode = ON").unwrap();
    let login = packet(1, &handshake_response("app", &[7; 20], 0));
    let aborted = |server: &Server| -> usize {
        let rows = server.root().unwrap().query("SHOW GLOBAL STATUS LIKE 'Aborted_connects%'").unwrap();
        rows.iter().map(|row| row[1].parse::<usize>().unwrap()).sum()
    };
    let before = [&ours, &stock].map(aborted);
    for server in [&ours, &stock] {
        for length in 0..login.len() {
            let mut client = Client::connect(server.address()).unwrap();
            client.greeting().unwrap();
            client.write_raw(&login[..length]).unwrap();
        }
    }
    // Both count each of them twice: as aborted, and as aborted before they had said who they are.
    for (server, before) in [&ours, &stock].into_iter().zip(before) {
        let wanted = before + 2 * login.len();
        for _ in 0..500 {
            if aborted(server) >= wanted {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(aborted(server), wanted);
    }
    assert_eq!(log_in(&ours, "app"), redirect_to("db2"));
    assert_eq!(root.status("Instant_failover_redirects").unwrap(), "1");
    ours.stop().unwrap();
}

#[test]
fn nonsense() {
    let (mut ours, stock) = (server_with_plugin(), server_without_plugin());
    let mut root = ours.root().unwrap();
    root.query("SET GLOBAL instant_failover_target = 'db2'").unwrap();
    let response = handshake_response("app", b"", 0);
    let mut nonsense = vec![
        packet(1, b""),
        packet(1, b"\0"),
        packet(1, &[0xff; 31]),
        packet(1, &response[..31]),
        packet(1, &response[..33]),
        packet(7, &response),
        b"GET / HTTP/1.1\r\nHost: db1\r\n\r\n".to_vec(),
        // TLS is asked for, and something else is sent.
        [packet(1, &handshake_response("app", b"", xtask::wire::CLIENT_SSL)[..32]), vec![0x55; 64]].concat(),
    ];
    // A length of the password that points past the end.
    let mut long = response.clone();
    long[36] = 0xf0;
    nonsense.push(packet(1, &long));
    for mode in ["OFF", "ON"] {
        root.query(&format!("SET GLOBAL instant_failover_mode = {mode}")).unwrap();
        for bytes in &nonsense {
            assert_eq!(answer_to(&ours, bytes), answer_to(&stock, bytes), "{mode}: {bytes:02x?}");
        }
    }
    ours.stop().unwrap();
}

#[test]
fn silence() {
    let mut ours = server_with_plugin();
    let mut root = ours.root().unwrap();
    root.query("SET GLOBAL connect_timeout = 2").unwrap();
    root.query("SET GLOBAL instant_failover_target = 'db2', instant_failover_mode = ON").unwrap();
    let mut client = Client::connect(ours.address()).unwrap();
    client.greeting().unwrap();
    // Meanwhile nobody waits for the silent one.
    assert_eq!(log_in(&ours, "app"), redirect_to("db2"));
    assert!(client.read_to_end().map_err(|error| error.kind()) != Err(io::ErrorKind::WouldBlock));
    assert_eq!(root.status("Instant_failover_redirects").unwrap(), "1");
    ours.stop().unwrap();
}
