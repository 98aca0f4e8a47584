//! A client that is in, and sends any commands: the first byte of the input chooses who it is and how it sends, and the
//! parts between bytes 0xff are the packets.
#![no_main]

use std::sync::LazyLock;

use failover::Mode;
use instant_failover_fuzz::{client, error, is_switch, packet, packets, server};
use instant_failover_harness::{Accounts, Connection, MAX_PACKET, Next, Scramble, Shared, When};
use libfuzzer_sys::fuzz_target;
use mysql_common::auth::plugins::mysql_native_password::scramble_native;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{Column, HandshakePacket};

/// Bits of the first byte. With a password it is no administrator, or else anybody, who is one.
const PASSWORD: u8 = 1;
const LOCAL: u8 = 1 << 1;
const ALL_AT_ONCE: u8 = 1 << 2;
const NO_PLUGINS: u8 = 1 << 3;
const NO_SECURE_CONNECTION: u8 = 1 << 4;

const COM_QUIT: u8 = 1;
const COM_QUERY: u8 = 3;
const COM_STATISTICS: u8 = 9;
const COM_CHANGE_USER: u8 = 17;
const COM_STMT_SEND_LONG_DATA: u8 = 24;
const COM_STMT_CLOSE: u8 = 25;

/// The most bytes of one answer.
const MAX_ANSWER: usize = 1024 * 1024;

/// Its only account, which changes nothing that others see.
static SERVER: LazyLock<Shared> = LazyLock::new(|| {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/accounts");
    server(Mode::Off, Accounts::default().read(file.as_ref(), When::Starting).expect("it is valid"), false)
});
static SCRAMBLE: LazyLock<Scramble> = LazyLock::new(|| Scramble::random().expect("there are random bytes"));

fuzz_target!(|input: &[u8]| {
    let Some((&flags, commands)) = input.split_first() else { return };
    let with_password = flags & PASSWORD != 0;
    let anybody;
    let shared = if with_password {
        &*SERVER
    } else {
        anybody = server(Mode::Off, Accounts::default().and_anybody(), false);
        &anybody
    };
    let mut session = Session::log_in(shared, flags);
    let commands = commands.split(|&byte| byte == 0xff);
    if flags & ALL_AT_ONCE != 0 {
        let packets: Vec<u8> = commands.flat_map(|command| packet(0, command)).collect();
        session.send(&packets);
        return;
    }
    for command in commands {
        if !session.command(command) {
            return;
        }
    }
    if with_password {
        if session.number != 0 {
            session.command(b"");
        }
        let (_, answer) = session.send(&packet(0, b"\x03SELECT CONCAT(USER(), ' ', @@instant_failover_mode)"));
        let expected = if flags & LOCAL != 0 { b"app@localhost OFF".as_slice() } else { b"app@192.0.2.1 OFF" };
        assert!(packets(&answer).iter().any(|(_, payload)| payload.ends_with(expected)), "{}", answer.escape_ascii());
    }
});

struct Session<'a> {
    shared: &'a Shared,
    connection: Connection,
    with_password: bool,
    /// The number of the next packet if it goes on with a change of user, or else 0.
    number: u8,
}

impl<'a> Session<'a> {
    fn log_in(shared: &'a Shared, flags: u8) -> Self {
        let (peer, transport) = client(flags & LOCAL != 0);
        let mut out = Vec::new();
        let connection = Connection::greet(shared, peer, transport, SCRAMBLE.clone(), &mut out);
        let with_password = flags & PASSWORD != 0;
        let reply = if with_password { reply(packets(&out)[0].1) } else { [0; 20] };
        // LONG_PASSWORD, CONNECT_WITH_DB, PROTOCOL_41, MULTI_RESULTS and perhaps SECURE_CONNECTION, PLUGIN_AUTH.
        let mut fixed = *b"\x09\x02\x02\0\0\0\0\x01\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        if flags & NO_PLUGINS == 0 {
            fixed[2] |= 1 << 3;
        }
        let is_secure =
            with_password || flags & (NO_SECURE_CONNECTION | NO_PLUGINS) != NO_SECURE_CONNECTION | NO_PLUGINS;
        if is_secure {
            fixed[1] |= 1 << 7;
        }
        let reply = if is_secure { [&[20], &reply[..]].concat() } else { vec![0] };
        let login = [&fixed, &b"app\0"[..], &reply, b"demo\0mysql_native_password\0"].concat();
        let mut session = Self { shared, connection, with_password, number: 0 };
        let (_, answer) = session.send(&packet(1, &login));
        assert!(matches!(packets(&answer)[..], [(2, [0, ..])]), "{}", answer.escape_ascii());
        session
    }

    /// Sends packets, and returns whether the connection goes on, and the answers.
    fn send(&mut self, sent: &[u8]) -> (bool, Vec<u8>) {
        let (mut all, mut out) = (Vec::new(), Vec::new());
        let mut next = self.connection.receive(sent, self.shared, &mut out);
        loop {
            assert!(out.len() <= MAX_ANSWER, "{} bytes", out.len());
            assert!(!self.connection.is_logging_in());
            let numbers: Vec<u8> = packets(&out).iter().map(|(number, _)| *number).collect();
            assert!(numbers.windows(2).all(|pair| pair[1] == 1 || pair[1] == pair[0].wrapping_add(1)), "{numbers:?}");
            all.append(&mut out);
            match next {
                Next::Read => return (true, all),
                Next::Close => return (false, all),
                Next::SendFirst => {
                    assert!(!numbers.is_empty(), "there is nothing to send");
                    next = self.connection.receive(&[], self.shared, &mut out);
                }
                Next::StartTls => panic!("TLS is not offered"),
                Next::Hold => panic!("an open session is held"),
            }
        }
    }

    /// Sends one packet and checks the answer. Returns whether the session goes on.
    fn command(&mut self, command: &[u8]) -> bool {
        let changes_user = self.number != 0 || command.first() == Some(&COM_CHANGE_USER);
        let (goes_on, answer) = self.send(&packet(self.number, command));
        let answer = packets(&answer);
        let mut number = self.number;
        for (answered, _) in &answer {
            number = number.wrapping_add(1);
            assert_eq!(*answered, number);
        }
        if !goes_on {
            let is_long = command.len() > MAX_PACKET;
            assert!(is_long || command[0] == COM_QUIT && answer.is_empty(), "closed: {answer:?}");
            return false;
        }
        self.number = match answer[..] {
            [(number, payload)] if is_switch(payload) => number + 1,
            _ => 0,
        };
        if self.number != 0 {
            assert!(changes_user && self.with_password, "who is this?");
            return true;
        }
        let command = command.first().copied();
        match answer[..] {
            [] => assert!(matches!(command, Some(COM_STMT_SEND_LONG_DATA | COM_STMT_CLOSE)), "no answer"),
            [(_, [0, ..])] => assert!(!(changes_user && self.with_password), "the user has changed"),
            [(_, payload)] if error(payload).is_some() => {}
            [(_, [0xfe, _, _, _, _])] => {}
            [(_, _)] => assert!(command == Some(COM_STATISTICS) && !changes_user, "{answer:?}"),
            [_, _, ..] => {
                assert!(command == Some(COM_QUERY) && !changes_user, "{answer:?}");
                check_result(&answer);
            }
        }
        true
    }
}

/// The answer to the scramble in a greeting.
fn reply(greeting: &[u8]) -> [u8; 20] {
    let greeting: HandshakePacket<'_> = ParseBuf(greeting).parse(()).expect("a greeting");
    scramble_native(&greeting.nonce(), b"secret").expect("there is a password")
}

/// A result says how many columns it has, what they are, and every row has so many values.
fn check_result(answer: &[(u8, &[u8])]) {
    let payloads: Vec<&[u8]> = answer.iter().map(|(_, payload)| *payload).collect();
    let columns = ParseBuf(payloads[0]).checked_eat_lenenc_int().and_then(|columns| usize::try_from(columns).ok());
    let columns = columns.expect("the number of columns");
    let is_end = |payload: &[u8]| payload.len() == 5 && payload[0] == 0xfe;
    for column in &payloads[1..=columns] {
        let column: Column = ParseBuf(column).parse(()).expect("a column");
        assert!(matches!(column.character_set(), 45 | 63), "{column:?}");
    }
    let (end, rows) = payloads[1 + columns..].split_first().expect("an end of columns");
    assert!(is_end(end));
    let (end, rows) = rows.split_last().expect("an end of rows");
    assert!(is_end(end));
    for row in rows {
        let mut rest = ParseBuf(row);
        for _ in 0..columns {
            if rest.0.first() == Some(&0xfb) {
                rest.skip(1);
            } else {
                rest.checked_eat_lenenc_str().expect("a value");
            }
        }
        assert!(rest.is_empty(), "more values than columns");
    }
}
