//! What a proxy says about its clients, by the PROXY protocol.

use std::net::SocketAddr;

use support::wire::{CLIENT_SSL, Client, Reply, Session, handshake_response, native_reply, packet, scramble};

use crate::both::{PASSWORD, UnderTest, on_both};

on_both!(
    a_client_is_who_the_proxy_says,
    wrong_headers_are_refused,
    headers_are_accepted_from_proxies_alone,
    networks_are_set_and_refused
);

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    [V2, &[command, family], &u16::try_from(block.len()).unwrap().to_be_bytes(), block].concat()
}

const V4_BLOCK: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 4, 87, 12, 234];

/// What `app` is told after this header, once it has been greeted.
fn log_in(mut client: Client, header: &[u8]) -> (Reply, Option<Session>) {
    let scramble = scramble(&client.greeting().unwrap()).unwrap();
    client.write_raw(header).unwrap();
    client.write(&handshake_response("app", &native_reply(PASSWORD, &scramble), 0)).unwrap();
    let logged_in = client.reply().unwrap();
    let reply = logged_in.reply.clone();
    let session = (reply == Reply::Ok).then(|| logged_in.session().unwrap());
    (reply, session)
}

fn connect(address: SocketAddr) -> Client {
    Client::connect(address).unwrap()
}

/// Exemptions go by the address in the header, on every way in, and so does what a session is called.
fn a_client_is_who_the_proxy_says<S: UnderTest>() {
    let server = S::start(&["--proxy-protocol-networks=127.0.0.1,localhost"]);
    let mut root = server.root();
    root.query("SET GLOBAL instant_failover_target = 'db2', instant_failover_exempt_hosts = '192.0.2.7,2001:db8::/32'")
        .unwrap();
    root.query("SET GLOBAL instant_failover_mode = ALL").unwrap();
    let v6 = |address: &str| {
        let address: std::net::Ipv6Addr = address.parse().unwrap();
        v2(0x21, 0x21, &[&address.octets()[..], &[0; 20]].concat())
    };
    for (header, host) in [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 1111 3306\r\n".to_vec(), Some("192.0.2.7")),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1111 3306\r\n".to_vec(), Some("192.0.2.7")),
        (b"PROXY TCP6 2001:db8::7 ::1 1111 3306\r\n".to_vec(), Some("2001:db8::7")),
        (b"PROXY TCP4 192.0.2.8 10.0.0.1 1111 3306\r\n".to_vec(), None),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (v2(0x21, 0x11, &V4_BLOCK), Some("192.0.2.7")),
        (v2(0x21, 0x11, &[&V4_BLOCK[..], b"\x04\0\x03abc"].concat()), Some("192.0.2.7")),
        (v6("2001:db8::7"), Some("2001:db8::7")),
        (v6("::ffff:192.0.2.7"), Some("192.0.2.7")),
        (v2(0x20, 0x00, b""), None),
        (v2(0x20, 0x11, &V4_BLOCK), None),
        (v2(0x21, 0x31, &[0; 216]), None),
        (Vec::new(), None),
    ] {
        let shown = header.escape_ascii().to_string();
        for client in [
            connect(server.address()),
            connect(server.extra_address()),
            Client::connect_socket(&server.socket()).unwrap(),
        ] {
            let (reply, session) = log_in(client, &header);
            match (host, session) {
                (None, None) => {
                    assert!(matches!(&reply, Reply::Err(error) if error.code == 4196), "{shown}: {reply:?}");
                }
                (Some(host), Some(mut session)) => {
                    assert_eq!(session.query("SELECT USER()").unwrap(), [[format!("app@{host}")]], "{shown}");
                }
                _ => panic!("{shown}: {reply:?}"),
            }
        }
    }
}

fn wrong_headers_are_refused<S: UnderTest>() {
    let server = S::start(&["--proxy-protocol-networks=*"]);
    let failed = packet(1, b"\xff\x51\x04#HY000Failed to parse proxy header");
    let out_of_order = packet(1, b"\xff\x84\x04#08S01Got packets out of order");
    for (header, expected) in [
        (b"PROXY TCP4 192.0.2 10.0.0.1 1111 3306\r\n".to_vec(), &failed),
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 70000 3306\r\n".to_vec(), &failed),
        (b"PROXY TCP4 192.0.2.7\r\n".to_vec(), &failed),
        (b"PROXI TCP4 192.0.2.7 10.0.0.1 1111 3306\r\n".to_vec(), &failed),
        ([&b"PROXY "[..], &[b'x'; 300]].concat(), &failed),
        (v2(0x21, 0x11, &V4_BLOCK[..8]), &failed),
        (v2(0x21, 0x11, &[0; 241]), &failed),
        (v2(0x21, 0x12, &V4_BLOCK), &failed),
        (v2(0x22, 0x11, &V4_BLOCK), &failed),
        (v2(0x11, 0x11, &V4_BLOCK), &failed),
        (b"\r\n\r\n\0\r\nQUIX\n\x20\0\0\0".to_vec(), &failed),
        // What comes after it must be a packet.
        (b"PROXY UNKNOWN\r\n\x01\0\0\x05".to_vec(), &out_of_order),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), &out_of_order),
    ] {
        let mut client = connect(server.address());
        client.greeting().unwrap();
        client.write_raw(&header).unwrap();
        assert_eq!(client.read_to_end().unwrap(), *expected, "{}", header.escape_ascii());
    }
}

/// As soon as it begins, and whether or not the rest is a header.
fn headers_are_accepted_from_proxies_alone<S: UnderTest>() {
    for networks in ["", "10.0.0.0/8,::1,localhost"] {
        let server = S::start(&[&format!("--proxy-protocol-networks={networks}")]);
        let expected = packet(1, b"\xff\x6a\x04#HY000Proxy header is not accepted from 127.0.0.1");
        for header in [&b"PROXY TCP4 192.0.2.7 10.0.0.1 1111 3306\r\n"[..], b"PROX", b"\r\n\r\n", V2] {
            let mut client = connect(server.address());
            client.greeting().unwrap();
            client.write_raw(header).unwrap();
            assert_eq!(client.read_to_end().unwrap(), expected, "{networks} {}", header.escape_ascii());
        }
        assert_eq!(log_in(connect(server.address()), b"").0, Reply::Ok);
    }
}

fn networks_are_set_and_refused<S: UnderTest>() {
    let server = S::start(&[]);
    let mut root = server.root();
    let header = b"PROXY TCP4 192.0.2.7 10.0.0.1 1111 3306\r\n";
    for (networks, accepted) in [
        ("127.0.0.1", true),
        ("10.0.0.0/8, 127.0.0.0/8", true),
        ("::ffff:127.0.0.1", true),
        ("::ffff:127.0.0.0/104", true),
        ("*", true),
        ("::/0", false),
        ("localhost", false),
        ("", false),
    ] {
        root.query(&format!("SET GLOBAL proxy_protocol_networks = '{networks}'")).unwrap();
        assert_eq!(root.query("SELECT @@proxy_protocol_networks").unwrap(), [[networks]]);
        if accepted {
            assert_eq!(log_in(connect(server.address()), header).0, Reply::Ok, "{networks}");
        } else {
            let mut client = connect(server.address());
            client.greeting().unwrap();
            client.write_raw(header).unwrap();
            let answer = client.read_to_end().unwrap();
            assert!(answer[4..].starts_with(b"\xff\x6a\x04"), "{networks}: {}", answer.escape_ascii());
        }
    }
    for networks in ["*,::1", "127.0.0.1/33", "db1", "::ffff:127.0.0.1/95"] {
        assert!(root.query(&format!("SET GLOBAL proxy_protocol_networks = '{networks}'")).is_err(), "{networks}");
        assert_eq!(root.query("SELECT @@proxy_protocol_networks").unwrap(), [[""]]);
    }
}

/// The rest is what the standalone server does better than mariadbd, or in its own way.
mod standalone_only {
    use super::{CLIENT_SSL, Client, V4_BLOCK, connect, handshake_response, log_in, packet, v2};
    use crate::both::{Standalone, UnderTest};
    use support::harness::Harness;

    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 1111 3306\r\n";

    /// mariadbd takes any number of them, so that a client behind a proxy can choose the address it comes from.
    #[test]
    fn a_client_behind_a_proxy_cannot_add_a_header() {
        let server = Standalone::start(&["--proxy-protocol-networks=*"]);
        for second in [HEADER.to_vec(), v2(0x21, 0x11, &V4_BLOCK), b"PROXY UNKNOWN\r\n".to_vec()] {
            for first in [HEADER.to_vec(), v2(0x20, 0, b"")] {
                let mut client = connect(server.address());
                client.greeting().unwrap();
                client.write_raw(&[first, second.clone()].concat()).unwrap();
                let expected = packet(1, b"\xff\x84\x04#08S01Got packets out of order");
                assert_eq!(client.read_to_end().unwrap(), expected);
            }
        }
    }

    #[test]
    fn a_header_may_come_byte_by_byte_and_before_the_greeting_is_read() {
        let server = Standalone::start(&["--proxy-protocol-networks=127.0.0.1"]);
        for header in [HEADER.to_vec(), v2(0x21, 0x11, &V4_BLOCK)] {
            let mut client = connect(server.address());
            for byte in &header {
                client.write_raw(&[*byte]).unwrap();
            }
            let session = log_in(client, b"").1;
            assert_eq!(session.unwrap().query("SELECT USER()").unwrap(), [["app@192.0.2.7"]]);
        }
    }

    #[test]
    fn tls_comes_after_the_header() {
        let server = Standalone::start(&["--proxy-protocol-networks=*"]);
        let mut root = server.root();
        root.query("SET GLOBAL instant_failover_target = 'db2', instant_failover_exempt_hosts = '192.0.2.7'").unwrap();
        root.query("SET GLOBAL instant_failover_mode = ON").unwrap();
        for (header, code) in [(HEADER, 1045_u16), (b"PROXY TCP4 192.0.2.8 10.0.0.1 1111 3306\r\n", 4196)] {
            let mut client = connect(server.address());
            client.greeting().unwrap();
            client.write_raw(header).unwrap();
            let response = handshake_response("app", b"", CLIENT_SSL);
            client.write(&response[..32]).unwrap();
            let mut client =
                client.upgrade(|stream| Box::new(crate::wire_format::tls_with(stream, rustls::ALL_VERSIONS, None)));
            client.write(&response).unwrap();
            let answer = client.read().unwrap();
            assert_eq!(answer[..3], [&[0xff][..], &code.to_le_bytes()].concat(), "{}", answer.escape_ascii());
        }
    }

    /// The proxy vouches for its clients, but gets none of their rights.
    #[test]
    fn a_proxy_on_the_socket_does_not_lend_its_user() {
        let server = Harness::start(&crate::harness(), &["--proxy-protocol-networks=localhost"]).unwrap();
        for header in [HEADER.to_vec(), v2(0x21, 0x31, b"")] {
            let mut client = Client::connect_socket(&server.socket()).unwrap();
            client.greeting().unwrap();
            client.write_raw(&header).unwrap();
            client.write(&handshake_response("root", b"", 0)).unwrap();
            let reply = client.reply().unwrap().reply;
            assert!(matches!(&reply, support::wire::Reply::Err(error) if error.code == 1045), "{reply:?}");
        }
    }
}
