//! Logins that are held, and sessions that are drained.

use std::thread;
use std::time::{Duration, Instant};

use support::wire::{CLIENT_SSL, Client, Error, Reply, Session, handshake_response, native_reply, packet};

use crate::both::{PASSWORD, UnderTest, answer, greeted, log_in, on_both};
use crate::wire_format::{certificate, tls};
use crate::{is_access_denied, redirect_to};

on_both!(
    a_change_of_the_settings_decides,
    other_changes_do_not,
    hold_ends_by_its_timeout,
    hold_that_is_set_again_begins_anew,
    only_the_right_password_is_held,
    who_is_not_held,
    a_client_that_hangs_up,
    what_is_sent_too_early,
    half_of_the_connections,
    a_hundred_at_once,
    a_shutdown,
    the_login_timeout_does_not_count,
    idle_sessions_are_drained,
    sessions_that_are_not_drained,
    the_session_that_drains_stays,
    no_drain_without_a_mode,
);

fn set(root: &mut Session, what: &str) {
    root.query(&format!("SET GLOBAL instant_failover_{what}")).unwrap();
}

fn number(root: &mut Session, name: &str) -> u64 {
    root.status(&format!("Instant_failover_{name}")).unwrap().parse().unwrap()
}

fn variable(root: &mut Session, name: &str) -> String {
    root.query(&format!("SELECT @@global.instant_failover_{name}")).unwrap().concat().concat()
}

/// Waits until a counter has this value.
fn wait_for(root: &mut Session, name: &str, value: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let now = number(root, name);
        if now == value {
            return;
        }
        assert!(Instant::now() < deadline, "{name} stays {now} instead of {value}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A client that has sent all of its login, with the right password; its answer remains to be read.
fn waiting(server: &impl UnderTest) -> Client {
    let (client, _) = greeted(server);
    client.send_login("app", PASSWORD, 0).unwrap()
}

/// The same over TLS.
fn waiting_in_tls(server: &impl UnderTest) -> Client {
    let (mut client, _) = greeted(server);
    client.write(&handshake_response("", b"", CLIENT_SSL)[..32]).unwrap();
    client.upgrade(|stream| Box::new(tls(stream))).send_login("app", PASSWORD, CLIENT_SSL).unwrap()
}

fn reply(client: Client) -> Reply {
    client.reply().unwrap().reply
}

fn session(server: &impl UnderTest, user: &str) -> Session {
    answer(greeted(server), user, PASSWORD).session().unwrap()
}

/// Whether the session was closed without a word.
fn is_closed_in_silence(session: &mut Session) -> bool {
    session.query("SELECT 1").is_err_and(|error| error.downcast_ref::<Error>().is_none())
}

fn error(code: u16, state: &str, message: &str) -> Reply {
    Reply::Err(Error { code, state: Some(state.to_owned()), message: message.to_owned() })
}

fn a_change_of_the_settings_decides<S: UnderTest>() {
    let (_directory, options) = certificate();
    let server = S::start(&options.each_ref().map(String::as_str));
    let mut root = server.root();
    let changes = [
        ("mode = ON", Some("db2")),
        ("mode = ALL", Some("db2")),
        ("target = 'db3', instant_failover_mode = ON", Some("db3")),
        ("mode = OFF", None),
        ("exempt_users = 'app'", None),
        ("exempt_hosts = '127.0.0.0/8'", None),
    ];
    let mut held = 0;
    for (what, to) in changes {
        for before in ["exempt_users = ''", "exempt_hosts = ''", "target = 'db2'", "mode = HOLD"] {
            set(&mut root, before);
        }
        let clients = [waiting(&server), waiting_in_tls(&server)];
        wait_for(&mut root, "held", 2);
        held += 2;
        set(&mut root, what);
        for client in clients {
            let login = client.reply().unwrap();
            assert_eq!(login.reply, to.map_or(Reply::Ok, redirect_to), "{what}");
            if to.is_none() {
                let mut session = login.session().unwrap();
                assert_eq!(session.query("SELECT 1").unwrap(), [["1"]], "{what}");
            }
        }
        wait_for(&mut root, "held", 0);
    }
    let counters = ["holds", "hold_timeouts", "redirects", "redirects_tcp", "exempted_users", "exempted_hosts"];
    assert_eq!(counters.map(|name| number(&mut root, name)), [held, 0, 6, 6, 2, 2]);
}

/// Nor does a change that is refused.
fn other_changes_do_not<S: UnderTest>() {
    let server = S::start(&[]);
    let mut root = server.root();
    set(&mut root, "mode = HOLD");
    let client = waiting(&server);
    wait_for(&mut root, "held", 1);
    for what in ["note = 'waiting'", "exempt_users = 'other'", "hold_timeout = 600", "mode = HOLD"] {
        set(&mut root, what);
    }
    let refused = root.query("SET GLOBAL instant_failover_mode = ON").unwrap_err().downcast::<Error>().unwrap();
    assert_eq!(refused.code, 1231);
    assert_eq!(variable(&mut root, "mode"), "HOLD");
    assert_eq!(number(&mut root, "held"), 1);
    set(&mut root, "target = 'db2', instant_failover_mode = ON");
    assert_eq!(reply(client), redirect_to("db2"));
}

fn hold_ends_by_its_timeout<S: UnderTest>() {
    let server = S::start(&[]);
    let mut root = server.root();
    set(&mut root, "hold_timeout = 2");
    set(&mut root, "mode = HOLD, instant_failover_drain = ON");
    let mut session = waiting(&server).reply().unwrap().session().unwrap();
    assert_eq!(session.query("SELECT 1").unwrap(), [["1"]]);
    assert_eq!([variable(&mut root, "mode"), variable(&mut root, "drain")], ["OFF", "0"]);
    assert_eq!(["holds", "held", "hold_timeouts"].map(|name| number(&mut root, name)), [1, 0, 1]);
    // The timeout is the administrator's, and stays.
    assert_eq!(variable(&mut root, "hold_timeout"), "2");
}

fn hold_that_is_set_again_begins_anew<S: UnderTest>() {
    let server = S::start(&[]);
    let mut root = server.root();
    set(&mut root, "hold_timeout = 6");
    for _ in 0..3 {
        set(&mut root, "mode = HOLD");
        // Twice this is more than the timeout.
        thread::sleep(Duration::from_secs(4));
    }
    assert_eq!(variable(&mut root, "mode"), "HOLD");
    // A timeout counts from the beginning of HOLD, which was longer ago.
    set(&mut root, "hold_timeout = 1");
    wait_for(&mut root, "hold_timeouts", 1);
    assert_eq!(variable(&mut root, "mode"), "OFF");
}

fn only_the_right_password_is_held<S: UnderTest>() {
    let server = S::start(&[]);
    let mut root = server.root();
    set(&mut root, "mode = HOLD");
    for (user, password) in [("app", "wrong"), ("app", ""), ("nobody", PASSWORD)] {
        let (client, scramble) = greeted(&server);
        let at_once = answer((client, scramble), user, password).reply;
        assert!(is_access_denied(&at_once), "{user}: {at_once:?}");
    }
    assert_eq!(number(&mut root, "holds"), 0);
}

fn who_is_not_held<S: UnderTest>() {
    let server = S::start(&[]);
    let mut root = server.root();
    let mut before = session(&server, "other");
    set(&mut root, "exempt_users = 'other'");
    set(&mut root, "mode = HOLD");
    assert_eq!(log_in(&server, "other", PASSWORD), Reply::Ok);
    for client in [Client::connect(server.extra_address()), Client::connect_socket(&server.socket())] {
        assert_eq!(client.unwrap().log_in_by_password("app", PASSWORD).unwrap().reply, Reply::Ok);
    }
    // A session stays open while it changes its user.
    assert_eq!(before.change_user("app", |scramble| native_reply(PASSWORD, scramble)).unwrap(), Reply::Ok);
    let is = before.query("SELECT USER()").unwrap().concat().concat();
    assert!(is.starts_with("app@"), "{is}");
    assert_eq!(number(&mut root, "holds"), 0);
}

fn a_client_that_hangs_up<S: UnderTest>() {
    let server = S::start(&[]);
    let mut root = server.root();
    set(&mut root, "mode = HOLD");
    let (mut silent, mut talking) = (waiting(&server), waiting(&server));
    wait_for(&mut root, "held", 2);
    talking.write_raw(&packet(0, b"\x03SELECT 1")).unwrap();
    drop(talking);
    wait_for(&mut root, "held", 1);
    silent.write_raw(&[b'x'; 5000]).unwrap();
    drop(silent);
    wait_for(&mut root, "held", 0);
    assert_eq!(number(&mut root, "holds"), 2);
}

/// It is answered after the login, in order, or not at all.
fn what_is_sent_too_early<S: UnderTest>() {
    let (_directory, options) = certificate();
    let server = S::start(&options.each_ref().map(String::as_str));
    let mut root = server.root();
    set(&mut root, "target = 'db2'");
    for mode in ["OFF", "ON"] {
        set(&mut root, "mode = HOLD");
        let mut statements = [waiting(&server), waiting_in_tls(&server)];
        let mut garbage = [waiting(&server), waiting_in_tls(&server)];
        wait_for(&mut root, "held", 4);
        for client in &mut statements {
            client.write_raw(&packet(0, b"\x03SELECT 'early'")).unwrap();
            client.write_raw(&packet(0, b"\x0e")).unwrap();
        }
        for client in &mut garbage {
            // No packet has this number.
            client.write_raw(&vec![0xff; 50_000]).unwrap();
        }
        assert_eq!(number(&mut root, "held"), 4);
        set(&mut root, &format!("mode = {mode}"));
        let expected = if mode == "OFF" { Reply::Ok } else { redirect_to("db2") };
        for client in garbage {
            assert_eq!(reply(client), expected, "{mode}");
        }
        for client in statements {
            let mut login = client.reply().unwrap();
            assert_eq!(login.reply, expected, "{mode}");
            if mode == "OFF" {
                // The number of columns, a column, an end, the row, an end; and the answer to the ping.
                let mut packets = (0..6).map(|_| login.client.read_any().unwrap());
                assert_eq!(packets.nth(3).unwrap(), b"\x05early");
                assert_eq!(packets.nth(1).unwrap()[0], 0);
            } else {
                // Closed; TLS may tell it first.
                let _ = login.client.read_any().unwrap_err();
            }
        }
        wait_for(&mut root, "held", 0);
    }
}

fn half_of_the_connections<S: UnderTest>() {
    let server = S::start(&["--max-connections=10"]);
    let mut root = server.root();
    set(&mut root, "mode = HOLD");
    let held: Vec<_> = (0..5).map(|_| waiting(&server)).collect();
    wait_for(&mut root, "held", 5);
    assert_eq!(reply(waiting(&server)), error(1040, "08004", "Too many connections"));
    // Others get in: administrators, and who is exempt.
    assert_eq!(server.root().query("SELECT 1").unwrap(), [["1"]]);
    set(&mut root, "exempt_users = 'other'");
    assert_eq!(log_in(&server, "other", PASSWORD), Reply::Ok);
    // A place becomes free.
    drop(held);
    wait_for(&mut root, "held", 0);
    let last = waiting(&server);
    wait_for(&mut root, "held", 1);
    set(&mut root, "mode = OFF");
    assert_eq!(reply(last), Reply::Ok);
    assert_eq!(number(&mut root, "holds"), 6);
}

fn a_hundred_at_once<S: UnderTest>() {
    const CLIENTS: usize = 100;
    let server = S::start(&["--max-connections=300"]);
    let mut root = server.root();
    set(&mut root, "target = 'db2', instant_failover_hold_timeout = 600");
    for (mode, expected) in [("ON", redirect_to("db2")), ("OFF", Reply::Ok)] {
        set(&mut root, "mode = HOLD");
        let clients: Vec<_> = (0..CLIENTS).map(|_| waiting(&server)).collect();
        wait_for(&mut root, "held", CLIENTS as u64);
        let began = Instant::now();
        set(&mut root, &format!("mode = {mode}"));
        let answers: Vec<_> = clients.into_iter().map(|client| client.reply().unwrap()).collect();
        let took = began.elapsed();
        println!("{CLIENTS} held logins answered after mode = {mode} in {took:?}");
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert!(answers.iter().all(|answer| answer.reply == expected), "{mode}");
    }
}

fn a_shutdown<S: UnderTest>() {
    let mut server = S::start(&[]);
    let mut root = server.root();
    set(&mut root, "mode = HOLD");
    let (plain, talking) = (waiting(&server), waiting(&server));
    wait_for(&mut root, "held", 2);
    let mut talking = talking;
    talking.write_raw(&packet(0, b"\x0e")).unwrap();
    drop(root);
    server.stop();
    let expected = error(1053, "08S01", "Server shutdown in progress");
    match plain.reply() {
        Ok(answer) => assert_eq!(answer.reply, expected),
        Err(error) => assert!(S::CLOSES_KILLED, "{error}"),
    }
    // What mariadbd has not read makes the system reset the connection, and the answer may be lost.
    if let Ok(answer) = talking.reply() {
        assert_eq!(answer.reply, expected);
    }
}

fn the_login_timeout_does_not_count<S: UnderTest>() {
    let server = S::start(&["--connect-timeout=2"]);
    let mut root = server.root();
    set(&mut root, "mode = HOLD");
    let client = waiting(&server);
    wait_for(&mut root, "held", 1);
    thread::sleep(Duration::from_secs(5));
    assert_eq!(number(&mut root, "held"), 1);
    set(&mut root, "mode = OFF");
    assert_eq!(reply(client), Reply::Ok);
}

fn idle_sessions_are_drained<S: UnderTest>() {
    let server = S::start(&[]);
    let mut root = server.root();
    let mut sessions = [session(&server, "app"), session(&server, "other")];
    for session in &mut sessions {
        session.query("SELECT 1").unwrap();
    }
    assert_eq!(number(&mut root, "sessions"), 0);
    set(&mut root, "mode = HOLD");
    assert_eq!(number(&mut root, "sessions"), 2);
    set(&mut root, "drain = ON");
    wait_for(&mut root, "sessions", 0);
    assert!(sessions.iter_mut().all(is_closed_in_silence));
    wait_for(&mut root, "drained", 2);
    // They come back and are held, not drained.
    let client = waiting(&server);
    wait_for(&mut root, "held", 1);
    set(&mut root, "mode = OFF");
    let mut session = client.reply().unwrap().session().unwrap();
    assert_eq!(session.query("SELECT 1").unwrap(), [["1"]]);
    let others = ["drained", "sessions_busy", "sessions_in_transaction", "sessions_unknown"];
    assert_eq!(others.map(|name| number(&mut root, name)), [2, 0, 0, 0]);
}

fn sessions_that_are_not_drained<S: UnderTest>() {
    let server = S::start(&[]);
    let mut root = server.root();
    let by_way = |client: Client| client.log_in_by_password("app", PASSWORD).unwrap().session().unwrap();
    let mut stay = [
        by_way(Client::connect(server.extra_address()).unwrap()),
        by_way(Client::connect_socket(&server.socket()).unwrap()),
    ];
    let (mut exempt, mut drained) = (session(&server, "other"), session(&server, "app"));
    set(&mut root, "target = 'db2', instant_failover_exempt_users = 'other'");
    set(&mut root, "mode = ON, instant_failover_drain = ON");
    wait_for(&mut root, "drained", 1);
    assert!(is_closed_in_silence(&mut drained));
    // Sessions that are busy are drained no sooner than after their command, and these never.
    for session in stay.iter_mut().chain([&mut exempt]) {
        assert_eq!(session.query("SELECT 1").unwrap(), [["1"]]);
    }
    // Exemptions are judged when a session would end.
    set(&mut root, "exempt_users = ''");
    wait_for(&mut root, "drained", 2);
    assert!(is_closed_in_silence(&mut exempt));
    set(&mut root, "mode = ALL");
    wait_for(&mut root, "drained", 4);
    assert!(stay.iter_mut().all(is_closed_in_silence));
}

fn the_session_that_drains_stays<S: UnderTest>() {
    let server = S::start(&[]);
    let (mut root, mut second) = (server.root(), server.root());
    set(&mut root, "target = 'db2'");
    set(&mut root, "mode = ALL, instant_failover_drain = ON");
    wait_for(&mut root, "drained", 1);
    assert!(is_closed_in_silence(&mut second));
    assert_eq!([number(&mut root, "sessions"), number(&mut root, "drained")], [0, 1]);
    set(&mut root, "mode = OFF");
    assert_eq!(server.root().query("SELECT 1").unwrap(), [["1"]]);
}

fn no_drain_without_a_mode<S: UnderTest>() {
    let server = S::start(&[]);
    let mut root = server.root();
    let refused = root.query("SET GLOBAL instant_failover_drain = ON").unwrap_err().downcast::<Error>().unwrap();
    assert_eq!(refused.code, 1231);
    assert!(refused.message.starts_with("instant_failover_drain cannot be ON while "), "{}", refused.message);
    for (what, notes) in [
        ("mode = HOLD, instant_failover_drain = ON", vec![]),
        ("mode = OFF", vec![["Note", "1105", "instant_failover_drain is OFF too: nothing is drained in mode OFF"]]),
        ("mode = OFF", vec![]),
    ] {
        // mariadbd keeps what it has to say until a statement with a table.
        root.query("SHOW GLOBAL STATUS LIKE 'none'").unwrap();
        set(&mut root, what);
        assert_eq!(root.query("SHOW WARNINGS").unwrap(), notes, "{what}");
    }
    let shown = root.query("SHOW GLOBAL VARIABLES LIKE 'instant_failover_drain'").unwrap();
    assert_eq!(shown, [["instant_failover_drain", "OFF"]]);
}
