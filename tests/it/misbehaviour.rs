//! Clients that disconnect, send invalid data, or send nothing: the server behaves as it does without the plugin.

use std::time::Duration;
use std::{io, thread};

use support::server::Server;
use support::wire::{CLIENT_SSL, Client, handshake_response, packet};

use crate::both::{MariaDb, UnderTest, greeted, log_in, on_both};
use crate::{redirect_to, server_with_plugin, server_without_plugin};

on_both!(nonsense, a_reply_of_the_wrong_length, no_tls_after_all, silence);

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
    let wait_for = |server: &Server, wanted: usize| {
        for _ in 0..500 {
            if aborted(server) >= wanted {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(aborted(server), wanted);
    };
    // Each counts twice: as aborted, and as aborted before authentication. The first one is the check whether the server is
    // running.
    for server in [&ours, &stock] {
        wait_for(server, 2);
        for length in 0..login.len() {
            let mut client = Client::connect(server.address()).unwrap();
            client.greeting().unwrap();
            client.write_raw(&login[..length]).unwrap();
        }
    }
    for server in [&ours, &stock] {
        wait_for(server, 2 + 2 * login.len());
    }
    assert_eq!(crate::log_in(&ours, "app"), redirect_to("db2"));
    assert_eq!(root.status("Instant_failover_redirects").unwrap(), "1");
    ours.stop().unwrap();
}

/// Answers to all kinds of first packets must be, byte for byte, those of a server without the plugin, except that a client
/// that has sent its user name is redirected.
fn nonsense<S: UnderTest>() {
    let (ours, stock) = (S::start(&[]), MariaDb::start(&[]));
    let mut root = ours.root();
    root.query("SET GLOBAL instant_failover_target = 'db2'").unwrap();
    for mode in ["OFF", "ON"] {
        root.query(&format!("SET GLOBAL instant_failover_mode = {mode}")).unwrap();
        for bytes in first_packets() {
            // A server that asks the client to switch the plugin redirects afterwards.
            let (ours, stock) = (answer_to(&ours, &bytes, mode == "ON"), answer_to(&stock, &bytes, false));
            // Access denied, accepted, or asked to switch the plugin: in all these cases the packet was understood.
            let recognised = stock.starts_with(b"\xff\x15\x04") || matches!(stock.first(), Some(0 | 0xfe));
            let expected = if mode == "ON" && recognised { redirect(&bytes) } else { stock };
            assert_eq!(ours.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{mode}: {bytes:02x?}");
        }
    }
}

/// The redirect for a client that sent this packet.
fn redirect(first_packet: &[u8]) -> Vec<u8> {
    let is_4_1 = first_packet[5] & 2 != 0;
    let message = "|Server is directing clients to the alternative server 'db2'.|db2";
    [&b"\xff\x64\x10"[..], if is_4_1 { b"#HY000" } else { b"" }, message.as_bytes()].concat()
}

/// Complete logins, logins truncated at every byte, and invalid packets.
fn first_packets() -> Vec<Vec<u8>> {
    const CONNECT_WITH_DB: u32 = 1 << 3;
    const SECURE_CONNECTION: u32 = 1 << 15;
    const PLUGIN_AUTH: u32 = 1 << 19;
    const CONNECT_ATTRS: u32 = 1 << 20;
    const LENENC: u32 = 1 << 21;
    let whole = handshake_response("app", &[7; 20], 0);
    let flavour = |on: u32, off: u32, rest: &[u8]| {
        let mut response = whole[..32].to_vec();
        let capabilities = u32::from_le_bytes(response[..4].try_into().unwrap());
        response[..4].copy_from_slice(&((capabilities | on) & !off).to_le_bytes());
        [response.as_slice(), rest].concat()
    };
    let mut payloads: Vec<Vec<u8>> = (0..=whole.len()).map(|length| whole[..length].to_vec()).collect();
    payloads.extend([
        b"\0".to_vec(),
        vec![0xff; 31],
        flavour(0, 0, b"app\0\xf0"),
        flavour(0, 0, b"app\0\x14aaaaaaaaaaaaaaaaaaaamysql_native_password\0junk"),
        flavour(0, 0, b"'app'\0\0mysql_native_password\0"),
        flavour(0, 0, b"nobody\0\0MYSQL_NATIVE_PASSWORD\0"),
        flavour(0, 0, b"app\0\0caching_sha2_password\0"),
        flavour(0, PLUGIN_AUTH, b"app\0\x14aaaaaaaaaaaaaaaaaaaa"),
        flavour(0, PLUGIN_AUTH, b"app\0\0"),
        flavour(0, SECURE_CONNECTION, b"app\0\0"),
        flavour(0, SECURE_CONNECTION, b"app\0abc\0"),
        flavour(0, PLUGIN_AUTH | SECURE_CONNECTION, b"app\0\0"),
        flavour(LENENC, 0, b"app\0\xfb"),
        flavour(LENENC, 0, b"app\0\xfc\0\0mysql_native_password\0"),
        flavour(LENENC, 0, b"app\0\xfe\xff\xff\xff\xff\xff\xff\xff\xffmysql_native_password\0"),
        flavour(LENENC, 0, b"app\0\xff"),
        flavour(CONNECT_WITH_DB, 0, b"app\0\0"),
        flavour(CONNECT_WITH_DB, 0, b"app\0\0db"),
        flavour(CONNECT_WITH_DB, 0, b"app\0\0db\0mysql_native_password\0"),
        flavour(CONNECT_ATTRS, 0, b"app\0\0mysql_native_password\0"),
        flavour(CONNECT_ATTRS, 0, b"app\0\0mysql_native_password\0\x04\x01a\x01b"),
        flavour(CONNECT_ATTRS, 0, b"app\0\0mysql_native_password\0\x04\x09a\x01b"),
        flavour(CONNECT_ATTRS, 0, b"app\0\0mysql_native_password\0\x05\x01a\x01b"),
        flavour(CONNECT_ATTRS, 0, b"app\0\0mysql_native_password\0\xfe\xff\xff\xff\xff\xff\xff\xff\xff"),
        // Longer than a user name may be: it is truncated.
        flavour(0, 0, &[&[b'u'; 300], &b"\0\0mysql_native_password\0"[..]].concat()),
        // Before protocol 4.1: two bytes of capabilities, three bytes of the maximum packet size.
        b"\x05\0\xff\xff\xffapp\0\0".to_vec(),
        b"\x05\0\xff\xff\xff".to_vec(),
        b"\x05\0\xff\xff".to_vec(),
    ]);
    let mut packets: Vec<_> = payloads.iter().map(|payload| packet(1, payload)).collect();
    packets.push(packet(0, &whole));
    packets.push(packet(7, &whole));
    packets.push(b"GET / HTTP/1.1\r\nHost: db1\r\n\r\n".to_vec());
    packets
}

/// A server's first answer to a client that sends `bytes` after the greeting; empty if it disconnects. Random parts are
/// removed. With `switch`, the client switches its plugin if asked to.
fn answer_to(server: &impl UnderTest, bytes: &[u8], switch: bool) -> Vec<u8> {
    let (mut client, _) = greeted(server);
    client.write_raw(bytes).unwrap();
    let mut answer = client.read_any().unwrap_or_default();
    if answer.first() == Some(&0xfe) && switch {
        client.write(&[7; 20]).unwrap();
        answer = client.read_any().unwrap_or_default();
    }
    if answer.first() == Some(&0xfe) {
        answer.truncate(b"\xfemysql_native_password".len());
    }
    answer
}

/// Not a valid password reply: the password plugin refuses it, but the client has sent its user name.
fn a_reply_of_the_wrong_length<S: UnderTest>() {
    let server = S::start(&[]);
    let response = packet(1, &handshake_response("app", b"abc", 0));
    assert_eq!(answer_to(&server, &response, false), b"\xff\x13\x04#08S01Bad handshake");
    server.root().query("SET GLOBAL instant_failover_target = 'db2', instant_failover_mode = ON").unwrap();
    assert_eq!(answer_to(&server, &response, false), redirect(&response));
}

/// The client asks for TLS and sends something else: the server reveals nothing more.
fn no_tls_after_all<S: UnderTest>() {
    let server = S::start(&[]);
    let mut root = server.root();
    root.query("SET GLOBAL instant_failover_target = 'db2', instant_failover_mode = ON").unwrap();
    let (mut client, _) = greeted(&server);
    client.write(&handshake_response("app", b"", CLIENT_SSL)[..32]).unwrap();
    client.write_raw(&[0x55; 64]).unwrap();
    let heard = client.read_to_end().unwrap();
    assert!(!heard.windows(3).any(|window| window == b"db2"), "{}", heard.escape_ascii());
    assert_eq!(root.status("Instant_failover_redirects").unwrap(), "0");
}

fn silence<S: UnderTest>() {
    let mut ours = S::start(&["--connect-timeout=2"]);
    let mut root = ours.root();
    root.query("SET GLOBAL instant_failover_target = 'db2', instant_failover_mode = ON").unwrap();
    let (mut client, _) = greeted(&ours);
    // Meanwhile, other clients do not wait for the silent one.
    assert_eq!(log_in(&ours, "app", "wrong"), redirect_to("db2"));
    assert!(client.read_to_end().map_err(|error| error.kind()) != Err(io::ErrorKind::WouldBlock));
    assert_eq!(root.status("Instant_failover_redirects").unwrap(), "1");
    ours.stop();
}
