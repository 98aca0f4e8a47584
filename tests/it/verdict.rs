//! The verdict must be valid when the login succeeds: the settings change while a client keeps the server waiting.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use support::server;
use support::wire::{CLIENT_SSL, Client, Reply, Session, handshake_response, native_reply, switch_scramble};

use crate::both::{MariaDb, PASSWORD, UnderTest, on_both};
use crate::wire_format::{certificate, tls};
use crate::{is_access_denied, redirect_to};

on_both!(
    of_a_new_connection_that_switches,
    of_a_session_that_changes_user,
    of_a_client_that_is_wrong_after_all,
    counts_a_login_once,
);

/// A change of the settings while a client is asked for its password.
#[derive(Debug)]
struct Change {
    before: &'static str,
    meanwhile: &'static str,
    way: Way,
    /// The redirect target; none if the client is accepted.
    to: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Tcp,
    Tls,
    ExtraPort,
    Socket,
}

const CHANGES: &[Change] = &[
    Change { before: "mode = OFF", meanwhile: "mode = ON", way: Way::Tcp, to: Some("db2") },
    Change { before: "mode = OFF", meanwhile: "mode = ON", way: Way::Tls, to: Some("db2") },
    Change { before: "mode = OFF", meanwhile: "mode = ON", way: Way::Socket, to: None },
    Change { before: "mode = OFF", meanwhile: "mode = ALL", way: Way::Socket, to: Some("db2") },
    Change {
        before: "mode = OFF",
        meanwhile: "target = 'db3', instant_failover_mode = ON",
        way: Way::Tcp,
        to: Some("db3"),
    },
    Change { before: "mode = ON", meanwhile: "mode = ALL", way: Way::Socket, to: Some("db2") },
    Change { before: "mode = ON", meanwhile: "mode = ALL", way: Way::ExtraPort, to: Some("db2") },
    Change { before: "mode = ON", meanwhile: "message = 'Not here but on %s.'", way: Way::Socket, to: None },
    Change { before: "mode = ON", meanwhile: "mode = OFF", way: Way::ExtraPort, to: None },
    Change {
        before: "exempt_users = 'app', instant_failover_mode = ON",
        meanwhile: "exempt_users = ''",
        way: Way::Tcp,
        to: Some("db2"),
    },
    Change {
        before: "exempt_users = 'app', instant_failover_mode = ON",
        meanwhile: "target = 'db3'",
        way: Way::Tcp,
        to: None,
    },
    Change {
        before: "exempt_users = 'app', instant_failover_mode = ALL",
        meanwhile: "exempt_users = 'other'",
        way: Way::Socket,
        to: Some("db2"),
    },
    Change {
        before: "exempt_hosts = '127.0.0.1', instant_failover_mode = ON",
        meanwhile: "exempt_hosts = '10.0.0.0/8'",
        way: Way::Tls,
        to: Some("db2"),
    },
    Change {
        before: "exempt_hosts = '127.0.0.1', instant_failover_mode = ON",
        meanwhile: "target = 'db3'",
        way: Way::Tcp,
        to: None,
    },
];

impl Change {
    fn before(&self, root: &mut Session) {
        for defaults in ["mode = OFF", "target = 'db2'", "message = DEFAULT", "exempt_users = ''", "exempt_hosts = ''"]
        {
            set(root, defaults);
        }
        set(root, self.before);
    }

    fn meanwhile(&self, root: &mut Session) {
        set(root, self.meanwhile);
    }

    /// Exempts `user` if this change exempts `app`; otherwise changes nothing.
    fn exempting(&self, user: &str) -> String {
        let users = if self.before.contains("'app'") { user } else { "" };
        format!("exempt_users = '{users}'")
    }

    fn expected(&self) -> Reply {
        self.to.map_or(Reply::Ok, redirect_to)
    }
}

fn set(root: &mut Session, what: &str) {
    root.query(&format!("SET GLOBAL instant_failover_{what}")).unwrap();
}

/// A client that has read the greeting, over TLS for [`Way::Tls`].
fn client(server: &impl UnderTest, way: Way) -> Client {
    let mut client = match way {
        Way::Tcp | Way::Tls => Client::connect(server.address()),
        Way::ExtraPort => Client::connect(server.extra_address()),
        Way::Socket => Client::connect_socket(&server.socket()),
    }
    .unwrap();
    client.greeting().unwrap();
    if way != Way::Tls {
        return client;
    }
    client.write(&handshake_response("", b"", CLIENT_SSL)[..32]).unwrap();
    client.upgrade(|stream| Box::new(tls(stream)))
}

const fn capabilities(way: Way) -> u32 {
    if matches!(way, Way::Tls) { CLIENT_SSL } else { 0 }
}

/// The server asks for a switch to native passwords, and gets the answer after the change.
fn of_a_new_connection_that_switches<S: UnderTest>() {
    let (_directory, options) = certificate();
    let server = S::start(&options.each_ref().map(String::as_str));
    let mut root = server.root();
    for change in CHANGES {
        change.before(&mut root);
        let login = client(&server, change.way).converse("app", capabilities(change.way), |_, packet| {
            change.meanwhile(&mut root);
            native_reply(PASSWORD, switch_scramble(packet).unwrap())
        });
        assert_eq!(login.unwrap().reply, change.expected(), "{change:?}");
    }
}

/// The same for `COM_CHANGE_USER`; the session keeps its user if the change is refused.
fn of_a_session_that_changes_user<S: UnderTest>() {
    let (_directory, options) = certificate();
    let server = S::start(&options.each_ref().map(String::as_str));
    let mut root = server.root();
    for change in CHANGES {
        set(&mut root, "mode = OFF");
        let login = client(&server, change.way).converse("other", capabilities(change.way), |_, packet| {
            native_reply(PASSWORD, switch_scramble(packet).unwrap())
        });
        let mut session = login.unwrap().session().unwrap();
        change.before(&mut root);
        let reply = session.change_user("app", |scramble| {
            change.meanwhile(&mut root);
            native_reply(PASSWORD, scramble)
        });
        assert_eq!(reply.unwrap(), change.expected(), "{change:?}");
        let user = if change.to.is_some() { "other@" } else { "app@" };
        let is = session.query("SELECT USER()").unwrap().concat().concat();
        assert!(is.starts_with(user), "{change:?}: {is}");
    }
}

/// A client with a wrong password is never accepted, whatever the settings become.
fn of_a_client_that_is_wrong_after_all<S: UnderTest>() {
    let (_directory, options) = certificate();
    let server = S::start(&options.each_ref().map(String::as_str));
    let mut root = server.root();
    for change in CHANGES {
        change.before(&mut root);
        let login = client(&server, change.way).converse("app", capabilities(change.way), |_, packet| {
            change.meanwhile(&mut root);
            native_reply("wrong", switch_scramble(packet).unwrap())
        });
        let reply = login.unwrap().reply;
        let right = change.to.map_or_else(|| is_access_denied(&reply), |to| reply == redirect_to(to));
        assert!(right, "{change:?}: {reply:?}");
    }
}

/// A withdrawn exemption counts as a redirect, and not as an exemption.
fn counts_a_login_once<S: UnderTest>() {
    const COUNTERS: [&str; 4] = ["redirects", "redirects_tcp", "exempted_users", "exempted_hosts"];
    let server = S::start(&[]);
    let mut root = server.root();
    let count = |root: &mut Session| {
        COUNTERS.map(|name| root.status(&format!("Instant_failover_{name}")).unwrap().parse::<u64>().unwrap())
    };
    set(&mut root, "target = 'db2'");
    set(&mut root, "mode = ON");
    for (before, meanwhile, expected) in [
        ("exempt_users = 'app'", "exempt_users = ''", [1, 1, 0, 0]),
        ("exempt_users = 'app'", "target = 'db2'", [0, 0, 1, 0]),
        ("exempt_users = 'app'", "exempt_users = ''; exempt_hosts = '127.0.0.1'", [0, 0, 0, 1]),
        ("exempt_users = 'app'", "mode = OFF", [0, 0, 0, 0]),
    ] {
        for defaults in ["exempt_users = ''", "exempt_hosts = ''", "mode = ON", before] {
            set(&mut root, defaults);
        }
        let earlier = count(&mut root);
        client(&server, Way::Tcp)
            .converse("app", 0, |_, packet| {
                // There is a moment without an exemption, which does not matter here.
                meanwhile.split("; ").for_each(|what| set(&mut root, what));
                native_reply(PASSWORD, switch_scramble(packet).unwrap())
            })
            .unwrap();
        let later = count(&mut root);
        let counted: Vec<_> = later.iter().zip(earlier).map(|(later, earlier)| later - earlier).collect();
        assert_eq!(counted, expected, "{before}; {meanwhile}");
    }
}

/// A client's answers to another authentication plugin, one per round. The last one is sent after the change.
#[derive(Debug)]
struct Method {
    user: &'static str,
    account: &'static str,
    rounds: &'static [Answer],
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Text(&'static [u8]),
    /// The reply of the native password client plugin.
    Native,
}

const METHODS: &[Method] = &[
    Method {
        user: "attempts",
        account: "VIA three_attempts USING 'secret'",
        rounds: &[Answer::Text(b"wrong\0"), Answer::Text(b"wrong\0"), Answer::Text(b"secret\0")],
    },
    Method {
        user: "questions",
        account: "VIA two_questions USING 'secret'",
        rounds: &[Answer::Text(b"secret\0"), Answer::Text(b"yes, of course\0")],
    },
    // The first method fails, and the second waits.
    Method {
        user: "ed_or_native",
        account: "VIA ed25519 USING PASSWORD('other') OR mysql_native_password USING PASSWORD('secret')",
        rounds: &[Answer::Text(&[7; 64]), Answer::Native],
    },
    Method {
        user: "socket_or_native",
        account: "VIA unix_socket OR mysql_native_password USING PASSWORD('secret')",
        rounds: &[Answer::Native],
    },
];

#[test]
fn of_plugins_that_ask_more_than_once() {
    let (_directory, options) = certificate();
    let options = [&options.each_ref().map(String::as_str)[..], &["--plugin-maturity=unknown"]].concat();
    let mut server = MariaDb::start(&options);
    let mut root = server.root();
    for soname in ["dialog_examples", "auth_ed25519"] {
        root.query(&format!("INSTALL SONAME '{soname}'")).unwrap();
    }
    for Method { user, account, .. } in METHODS {
        root.query(&format!("CREATE USER {user} IDENTIFIED {account}")).unwrap();
    }
    for method in METHODS {
        for change in CHANGES {
            change.before(&mut root);
            set(&mut root, &change.exempting(method.user));
            let login = client(&server, change.way).converse(method.user, capabilities(change.way), |round, packet| {
                if round + 1 == method.rounds.len() {
                    change.meanwhile(&mut root);
                }
                match method.rounds[round] {
                    Answer::Text(text) => text.to_vec(),
                    Answer::Native => native_reply(PASSWORD, switch_scramble(packet).unwrap()),
                }
            });
            assert_eq!(login.unwrap().reply, change.expected(), "{} {change:?}", method.user);
        }
    }
    server.stop();
}

/// The program `mariadb` with ed25519, whose answer is delayed.
#[test]
fn of_a_real_client_with_ed25519() {
    let mut server = MariaDb::start(&[]);
    let mut root = server.root();
    root.query("INSTALL SONAME 'auth_ed25519'").unwrap();
    root.query("CREATE USER ed IDENTIFIED VIA ed25519 USING PASSWORD('secret')").unwrap();
    for (mode, expected) in [("ALL", Err("ERROR 4196")), ("ON", Ok("ed"))] {
        set(&mut root, "target = 'db2'");
        set(&mut root, "mode = ON");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let output = thread::scope(|scope| {
            let socket = server.socket();
            scope.spawn(|| {
                relay(&listener, socket, |packet| {
                    // The handshake response, then the answer to the switch.
                    if packet == 1 {
                        set(&mut root, &format!("mode = {mode}"));
                    }
                });
            });
            let mut command = server::client();
            command.args(["--protocol=tcp", "--host=127.0.0.1", "--skip-ssl", "--user=ed", "--password=secret"]);
            command.arg(format!("--port={port}")).args(["--batch", "--skip-column-names"]);
            command.arg("--execute=SELECT SUBSTRING_INDEX(USER(), '@', 1)").output().unwrap()
        });
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        match expected {
            Ok(user) => assert_eq!(out.trim(), user, "{err}"),
            Err(error) => assert!(err.contains(error), "{out}{err}"),
        }
    }
    server.stop();
}

/// Relays one client to the server's Unix socket, and calls `before` with the number of each piece that the client sends.
fn relay(listener: &TcpListener, socket: PathBuf, mut before: impl FnMut(usize)) {
    let (mut client, _) = listener.accept().unwrap();
    let mut server = UnixStream::connect(socket).unwrap();
    let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let back = thread::spawn(move || {
        let _ = std::io::copy(&mut from_server, &mut to_client);
        let _ = TcpStream::shutdown(&to_client, Shutdown::Both);
    });
    let mut buffer = [0; 4096];
    for packet in 0.. {
        match client.read(&mut buffer) {
            Ok(length @ 1..) => {
                before(packet);
                if server.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            _ => break,
        }
    }
    let _ = server.shutdown(Shutdown::Both);
    back.join().unwrap();
}
