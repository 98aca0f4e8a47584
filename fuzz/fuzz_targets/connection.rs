//! A client that has not been let in, and says anything: five bytes choose the server, the way in and how the rest is cut
//! into pieces; that rest is what the client sends.
#![no_main]

use std::sync::LazyLock;

use failover::{ER_INSTANT_FAILOVER, Mode, message};
use instant_failover_fuzz::{TARGET, client, cut, error, is_switch, packet, packets, pieces, server};
use instant_failover_harness::{Accounts, Connection, MAX_LOGIN, Next, ProxyNetworks, Scramble, Shared};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

const HEAD: usize = 5;
/// Bits of the first byte, besides two for the mode.
const LOCAL: u8 = 1 << 2;
const TLS: u8 = 1 << 3;
const WELL_FORMED: u8 = 1 << 4;
/// A proxy may say who the client is.
const PROXIED: u8 = 1 << 5;

/// The most bytes of all answers together.
const MAX_ANSWER: usize = 4096;

const OUT_OF_ORDER: u16 = 1156;
const TOO_LONG: u16 = 1153;
const BAD_HANDSHAKE: u16 = 1043;
const NO_PROXY: u16 = 1130;
const BAD_PROXY_HEADER: u16 = 1105;

/// For each mode without TLS and with it, without proxies and with them. No client gets in, so they stay as they are.
static SERVERS: LazyLock<[[[Shared; 2]; 2]; 4]> = LazyLock::new(|| {
    MODES.map(|mode| {
        [false, true].map(|tls| {
            ["", "*"].map(|networks| {
                let server = server(mode, Accounts::default(), tls);
                server.set_proxy_networks(networks.parse::<ProxyNetworks>().expect("it is valid"), "the fuzzer");
                server
            })
        })
    })
});
static SCRAMBLE: LazyLock<Scramble> = LazyLock::new(|| Scramble::random().expect("there are random bytes"));
const MODES: [Mode; 4] = [Mode::Off, Mode::On, Mode::All, Mode::Hold];

fuzz_target!(|input: &[u8]| {
    let Some((&[flags, ref lengths @ ..], said)) = input.split_first_chunk::<HEAD>() else { return };
    let mode = usize::from(flags & 3);
    let [tls, proxied] = [TLS, PROXIED].map(|bit| usize::from(flags & bit != 0));
    let talk = Talk { shared: &SERVERS[mode][tls][proxied], local: flags & LOCAL != 0 };
    let redirects = mode == 2 || mode == 1 && !talk.local;

    if flags & WELL_FORMED != 0 {
        let answers = talk.hold([packet(1, &login(said)).as_slice()]);
        let code = packets(&answers).first().and_then(|(_, payload)| check(payload, redirects));
        assert_ne!(code, Some(BAD_HANDSHAKE), "a login is refused");
        assert_eq!(code == Some(ER_INSTANT_FAILOVER), redirects, "{code:?}");
        return;
    }
    let answers = talk.hold(pieces(said, lengths));
    assert!(answers.len() <= MAX_ANSWER, "{} bytes", answers.len());
    for (_, payload) in packets(&answers) {
        check(payload, redirects);
    }
    let again = if proxied == 0 { talk.hold_by_packets(said) } else { talk.hold([said]) };
    assert_eq!(answers, again, "it depends on the pieces");
});

/// Checks one answer, and returns the code of its error.
fn check(payload: &[u8], redirects: bool) -> Option<u16> {
    let Some((code, message)) = error(payload) else {
        assert!(is_switch(payload), "this is let in: {}", payload.escape_ascii());
        assert!(!redirects, "it is served");
        return None;
    };
    match code {
        ER_INSTANT_FAILOVER => {
            assert!(redirects, "it is redirected");
            let parsed = message::parse(message).expect("a redirect");
            assert_eq!(parsed.target.to_string(), TARGET);
        }
        OUT_OF_ORDER | TOO_LONG | BAD_HANDSHAKE | NO_PROXY | BAD_PROXY_HEADER => {}
        _ => assert!(!redirects, "error {code} instead of a redirect"),
    }
    Some(code)
}

/// A login that every server understands, with the parts of `said` between zeros as its user name, password and so on.
fn login(said: &[u8]) -> Vec<u8> {
    let mut parts = said.split(|&byte| byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (user, reply, database, plugin) = (part(), part(), part(), part());
    // A reply of another length is malformed there.
    let most =
        if plugin.eq_ignore_ascii_case(b"mysql_native_password") { 20 * usize::from(reply.len() >= 20) } else { 250 };
    let reply = &reply[..reply.len().min(most)];
    let most = MAX_LOGIN - 32 - reply.len() - 4;
    let [user, database, plugin] = [user, database, plugin].map(|text| &text[..text.len().min(most / 3)]);
    let length = u8::try_from(reply.len()).unwrap_or(u8::MAX);
    // FOUND_ROWS, CONNECT_WITH_DB, PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH.
    let fixed = b"\x0a\x82\x08\0\0\0\0\x01\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    [fixed, user, &[0, length], reply, database, &[0], plugin, &[0]].concat()
}

struct Talk<'a> {
    shared: &'a Shared,
    local: bool,
}

impl Talk<'_> {
    fn greet(&self) -> Connection {
        let (peer, transport) = client(self.local);
        let mut out = Vec::new();
        let connection = Connection::greet(self.shared, peer, transport, SCRAMBLE.clone(), &mut out);
        assert!(matches!(packets(&out)[..], [(0, [10, ..])]), "{}", out.escape_ascii());
        connection
    }

    /// Hands on what the client says, and returns what it is answered after the greeting.
    fn hold<'b>(&self, pieces: impl IntoIterator<Item = &'b [u8]>) -> Vec<u8> {
        let (mut connection, mut out) = (self.greet(), Vec::new());
        for piece in pieces {
            if self.receive(&mut connection, piece, &mut out) == Next::Close {
                return out;
            }
        }
        out
    }

    /// The same packet by packet, with a look at each answer's number.
    fn hold_by_packets(&self, mut said: &[u8]) -> Vec<u8> {
        let (mut connection, mut out) = (self.greet(), Vec::new());
        let mut number = 1;
        while !said.is_empty() {
            // If it is not whole, the header counts.
            if let Some(&[low, middle, high, sent]) = said.first_chunk()
                && sent == number
                && (cut(&mut &*said).is_some() || u32::from_le_bytes([low, middle, high, 0]) as usize > MAX_LOGIN)
            {
                number += 1;
            }
            let before = said;
            let piece =
                if cut(&mut said).is_some() { &before[..before.len() - said.len()] } else { std::mem::take(&mut said) };
            let answered = out.len();
            let next = self.receive(&mut connection, piece, &mut out);
            for (answer, _) in packets(&out[answered..]) {
                assert_eq!(answer, number);
                number += 1;
            }
            if next == Next::Close {
                assert!(out.len() > answered, "closed without a word");
                break;
            }
        }
        out
    }

    /// What comes after a client has asked for TLS stands for what comes out of TLS.
    fn receive(&self, connection: &mut Connection, piece: &[u8], out: &mut Vec<u8>) -> Next {
        let mut next = connection.receive(piece, self.shared, out);
        if next == Next::StartTls {
            let rest = connection.take_input();
            connection.set_cipher("TLS");
            next = connection.receive(&rest, self.shared, out);
        }
        assert!(matches!(next, Next::Read | Next::Close), "{next:?}");
        assert!(connection.is_logging_in(), "a client is in");
        next
    }
}

// Most changes to a packet would make it too short or too long for what its header says: most of them are followed by one
// to the header.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    const MOST: usize = 16;
    let whole = data[..size.min(max_size)].to_vec();
    let (Some((head, mut said)), 1..) = (whole.split_first_chunk::<HEAD>(), seed % 4) else {
        return fuzzer_mutate(data, size, max_size);
    };
    let mut parts: Vec<_> = std::iter::from_fn(|| cut(&mut said)).take(MOST).collect();
    if parts.is_empty() || !said.is_empty() {
        // What is left is made a packet, too.
        parts.push((u8::try_from(parts.len()).unwrap_or_default() + 1, said.get(4..).unwrap_or_default()));
    }
    let chosen = seed as usize / 4 % parts.len();
    let mut payload = parts[chosen].1.to_vec();
    let length = payload.len();
    payload.resize(length + 256, 0);
    let length = fuzzer_mutate(&mut payload, length, length + 256);
    parts[chosen].1 = &payload[..length];
    let packets: Vec<u8> = parts.iter().flat_map(|(number, payload)| packet(*number, payload)).collect();
    let changed = [head, &packets[..]].concat();
    let length = changed.len().min(max_size);
    data[..length].copy_from_slice(&changed[..length]);
    length
});
