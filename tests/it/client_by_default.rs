//! Following because of the environment alone (`tests/fixtures/client.c`), with each Connector/C: that of this machine and
//! those of other releases, as a shared library and inside the program.

mod program;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use support::build::Flavour;
use support::fake::{Fake, Pieces, When};
use support::packages;
use support::server::Server;
use support::system::System;
use tempfile::TempDir;

use crate::client::{Reconnecting, VALGRIND, port, redirect, redirect_loop, server_with_certificate, server_with_tls};
use crate::{built, library, redirect_to, server_with_plugin};
use program::{LIBC, Linked, Program, STATIC, compiler, fixture, lines};

/// What a program is told that does not follow.
fn told(target: &Server) -> String {
    let support::wire::Reply::Err(plain) = redirect_to(&target.address().to_string()) else { unreachable!() };
    format!("error 4196 {}", plain.message)
}

/// A server that redirects to another one.
fn redirecting() -> (Server, Server) {
    let (one, two) = (server_with_plugin(), server_with_plugin());
    redirect(&one, &two);
    (one, two)
}

const NO_PLUGIN: &str = "LIBMYSQL_PLUGINS=";

#[test]
fn many_with_each_way_to_link() {
    let (one, two) = redirecting();
    for linked in [Linked::Shared, Linked::Static, Linked::StaticAndExported] {
        let program = Program::here(linked);
        let left = "left open 0".to_owned();
        assert_eq!(program.lines(VALGRIND, "many", &one, 100, &[]), [port(&two), left.clone()], "{linked:?}");
        // Without the variable, and with another plugin, nothing is different.
        for environment in [NO_PLUGIN, "LIBMYSQL_PLUGINS=dialog", "LIBMYSQL_PLUGINS=instant_failover2"] {
            assert_eq!(program.lines(&[], "many", &one, 1, &[environment]), [told(&two), left.clone()]);
        }
        let environment = ["LIBMYSQL_PLUGINS=dialog;instant_failover"];
        assert_eq!(program.lines(VALGRIND, "many", &one, 1, &environment), [port(&two), left]);
    }
}

#[test]
fn with_the_connectors_of_other_releases() {
    if !packages::is_root() {
        eprintln!("skipped: only root can run the programs of another release");
        return;
    }
    let (one, two) = redirecting();
    for suite in ["bullseye", "trixie"] {
        for linked in [Linked::Shared, Linked::Static] {
            let program = Program::of(suite, linked);
            let run = |scenario, count| program.lines(&[], scenario, &one, count, &["INSTANT_FAILOVER_FOLLOW=always"]);
            let place = format!("{suite}, {linked:?}");
            assert_eq!(run("many", 20), [port(&two), "left open 0".to_owned()], "{place}");
            assert_eq!(run("threads", 2), vec![port(&two); 64], "{place}");
            assert_eq!(run("forks", 2), vec![port(&two); 3], "{place}");
            assert_eq!(run("nonblocking", 2), [port(&two), "waited yes".to_owned()], "{place}");
            assert_eq!(run("restarts", 2), vec![port(&two); 2], "{place}");
            let plain = program.lines(&[], "many", &one, 1, &[NO_PLUGIN]);
            assert_eq!(plain, [told(&two), "left open 0".to_owned()], "{place}");
        }
    }
}

#[test]
fn threads_and_forks() {
    let (one, two) = redirecting();
    let program = Program::here(Linked::Shared);
    assert_eq!(program.lines(VALGRIND, "threads", &one, 5, &[]), vec![port(&two); 160]);
    assert_eq!(program.lines(VALGRIND, "forks", &one, 5, &[]), vec![port(&two); 6]);
}

#[test]
fn without_blocking() {
    let (one, two) = redirecting();
    let program = Program::here(Linked::Shared);
    let waited = "waited yes".to_owned();
    assert_eq!(program.lines(VALGRIND, "nonblocking", &one, 20, &[]), [port(&two), waited.clone()]);
    redirect(&two, &one);
    let expected = [redirect_loop(&[&one, &two, &one]), waited];
    assert_eq!(program.lines(VALGRIND, "nonblocking", &one, 20, &[]), expected);
}

/// A program gives a server up that does not answer: nothing of ours is on the stack that Connector/C throws away.
#[test]
fn without_blocking_and_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let program = Program::here(Linked::Shared);
    let command = program.run_at(VALGRIND, "abandoned", silent.local_addr().unwrap(), 3, &[]);
    assert_eq!(lines(command), ["abandoned"]);
}

#[test]
fn reconnecting_begins_at_the_origin() {
    let servers = [server_with_plugin(), server_with_plugin(), server_with_plugin()];
    let [one, two, three] = &servers;
    let program = Program::here(Linked::Shared);
    redirect(one, two);
    let mut program = Reconnecting::start(program.run(VALGRIND, "reconnect", one, 6, &[]));
    assert_eq!(program.next(), port(two));
    redirect(one, three);
    assert_eq!(program.lose(), port(three));
    one.root().unwrap().query("SET GLOBAL instant_failover_mode = OFF").unwrap();
    assert_eq!(program.lose(), port(one));
    // From a server that did not redirect it.
    redirect(one, two);
    assert_eq!(program.lose(), port(two));
    // No target works: the connection stays lost, and can be retried.
    redirect(one, one);
    assert_eq!(program.lose(), redirect_loop(&[one, one]));
    redirect(one, two);
    assert_eq!(program.lose(), port(two));
    redirect(one, three);
    assert_eq!(program.lose(), port(three));
    program.end();
}

/// The same for a program that connects through the Unix socket.
#[test]
fn reconnecting_begins_at_the_socket() {
    let (one, two) = (server_with_plugin(), server_with_plugin());
    let redirect_all = || {
        let mut root = one.root().unwrap();
        root.query("SET GLOBAL instant_failover_exempt_users = 'root'").unwrap();
        let target = two.address();
        root.query(&format!("SET GLOBAL instant_failover_target = '{target}', instant_failover_mode = ALL")).unwrap();
    };
    redirect_all();
    let program = Program::here(Linked::Shared);
    let socket = format!("CLIENT_SOCKET={}", one.socket().display());
    let mut program = Reconnecting::start(program.run(VALGRIND, "reconnect", &one, 2, &[&socket]));
    assert_eq!(program.next(), port(&two));
    one.root().unwrap().query("SET GLOBAL instant_failover_mode = OFF").unwrap();
    assert_eq!(program.lose(), port(&one));
    redirect_all();
    assert_eq!(program.lose(), port(&two));
    program.end();
}

/// A handle that connects again, when it is connected, and when it is not any more.
#[test]
fn a_handle_is_used_again() {
    let (one, two) = redirecting();
    let (three, four) = redirecting();
    let program = Program::here(Linked::Shared);
    let mut expected = vec![
        port(&two),
        "error 2058 Can't connect twice. Already connected".to_owned(),
        format!("the same, {}", port(&two)),
        "lost".to_owned(),
        port(&four),
        port(&four),
    ];
    let second = u32::from(three.address().port());
    // Connector/C itself leaks the names of the first connection.
    let valgrind = &["valgrind", "--quiet", "--error-exitcode=99"];
    assert_eq!(program.lines(valgrind, "reuse", &one, second, &[]), expected);
    // And if the second server does not redirect.
    three.root().unwrap().query("SET GLOBAL instant_failover_mode = OFF").unwrap();
    expected[4] = port(&three);
    expected[5] = port(&three);
    assert_eq!(program.lines(valgrind, "reuse", &one, second, &[]), expected);
    // With the prefix, what the program does to a connection that it has does it no harm either.
    let mut command = program.run(valgrind, "reuse", &one, second, &[NO_PLUGIN]);
    command.env("CLIENT_PREFIX", "instant_failover://");
    assert_eq!(lines(command)[..3], expected[..3]);
}

/// A program that fails to connect finds its options as it would without the plugin.
#[test]
fn options_after_a_failure() {
    let (one, two) = redirecting();
    redirect(&two, &one);
    let program = Program::here(Linked::Shared);
    let without = program.lines(VALGRIND, "options", &one, 2, &[NO_PLUGIN]);
    let with = program.lines(VALGRIND, "options", &one, 2, &[]);
    assert_eq!(without.len(), 8);
    for n in [1, 3, 5, 7] {
        assert_eq!(with[n], without[n]);
    }
    assert_eq!(with[1], "timeout 7, with attributes");
    assert_eq!(with[3], "timeout 0, without attributes");
    for n in [0, 2, 4, 6] {
        assert_eq!(without[n], told(&two));
        assert_eq!(with[n], redirect_loop(&[&one, &two, &one]));
    }
    assert_eq!(program.lines(VALGRIND, "again", &one, 3, &[]), vec![redirect_loop(&[&one, &two, &one]); 3]);
}

/// What a server of MariaDB can do is not expected of another one.
#[test]
fn redirected_to_a_server_that_is_not_mariadb() {
    let one = server_with_plugin();
    let other = Fake::start(1045, "no", When::AfterLogin).unwrap();
    let sql = format!("SET GLOBAL instant_failover_target = '{}', instant_failover_mode = ON", other.address());
    one.root().unwrap().query(&sql).unwrap();
    let program = Program::here(Linked::Shared);
    for prefix in ["", "instant_failover://"] {
        let mut command = program.run(VALGRIND, "capabilities", &one, 1, &[]);
        command.env("CLIENT_PREFIX", prefix);
        let lines = lines(command);
        assert!(lines[0].starts_with("error 1045 no"), "{lines:?}");
        assert_eq!(lines[1], "capabilities 0");
    }
}

#[test]
fn connector_c_that_is_ended_and_begins_again() {
    let (one, two) = redirecting();
    let program = Program::here(Linked::Shared);
    assert_eq!(program.lines(VALGRIND, "restarts", &one, 3, &[]), vec![port(&two); 3]);
}

/// The program as a library, with a Connector/C of its own: what the scenario `copies` needs in its environment.
fn copy(program: &Program) -> String {
    let copy = program.directory.join("copy.so");
    let mut cc = compiler(Path::new("/"));
    cc.args(["-shared", "-fPIC", "-Dmain=client_main", "-Wl,--exclude-libs,ALL"]).arg(fixture("client.c"));
    // Another test may be using it.
    let new = tempfile::Builder::new().tempfile_in(&program.directory).unwrap().into_temp_path();
    support::run(cc.arg("-o").arg(&new).args(STATIC).args(LIBC)).unwrap();
    new.persist(&copy).unwrap();
    format!("CLIENT_COPY={}", copy.display())
}

/// Two servers with one certificate, its fingerprint in the environment of a program that follows only who has proven it, and
/// the directory that must live as long. The first redirects to the second.
fn redirecting_under_tls() -> (Server, Server, [String; 2], TempDir) {
    let (one, fingerprint, files) = server_with_tls();
    let two = server_with_certificate(&files);
    redirect(&one, &two);
    let environment = [format!("CLIENT_FINGERPRINT={fingerprint}"), "INSTANT_FAILOVER_FOLLOW=verified".to_owned()];
    (one, two, environment, files)
}

/// An attacker on the network cannot look into TLS, but adds a redirect to the greeting, which comes before. All programs are
/// refused, and none is redirected; without the attacker, all are.
fn attack(programs: &[Program], environment: &[&str], one: &Server, two: &Server) {
    let attackers = Pieces::ALL.map(|pieces| {
        let when = When::BehindGreetingOf(one.address(), pieces);
        (pieces, Fake::start(4196, &format!("|text|{}", two.address()), when).unwrap())
    });
    for program in programs {
        redirect(one, two);
        for scenario in ["many", "tls"] {
            let lines = lines(program.run(&[], scenario, one, 2, environment));
            assert_eq!(lines[0], port(two), "{scenario} in {}", program.directory.display());
        }
        one.root().unwrap().query("SET GLOBAL instant_failover_mode = OFF").unwrap();
        for (pieces, attacker) in &attackers {
            for (scenario, times) in [("many", 1), ("tls", 2), ("forks", 3), ("restarts", 2)] {
                let before = attacker.connections();
                let lines = lines(program.run_at(&[], scenario, attacker.address(), 2, environment));
                let what = format!("{pieces:?}, {scenario} in {}: {lines:?}", program.directory.display());
                let refused = lines.iter().filter(|line| line.starts_with("error 2026 ")).count();
                assert_eq!(refused, times, "{what}");
                assert!(!lines.iter().any(|line| line.starts_with("port ")), "{what}");
                assert!(attacker.connections() > before, "{what}");
            }
        }
    }
}

const BEFORE_TLS: &str = " (not followed: this Connector/C may have received it before TLS ";

#[test]
fn what_an_attacker_adds_to_the_greeting() {
    let (one, two, environment, _files) = redirecting_under_tls();
    let environment = environment.each_ref().map(String::as_str);
    let programs =
        [Program::here(Linked::Shared), Program::here(Linked::Static), Program::here(Linked::StaticAndExported)];
    attack(&programs, &environment, &one, &two);
    // Without the variable that names the plugin, but with the prefix.
    let program = &programs[0];
    let attacker = When::BehindGreetingOf(one.address(), Pieces::One);
    let attacker = Fake::start(4196, &format!("|text|{}", two.address()), attacker).unwrap();
    let by_prefix = [&environment[..], &[NO_PLUGIN]].concat();
    for scenario in ["tls", "restarts"] {
        let mut command = program.run_at(VALGRIND, scenario, attacker.address(), 2, &by_prefix);
        command.env("CLIENT_PREFIX", "instant_failover://");
        let lines = lines(command);
        assert!(lines[0].starts_with("error 2026 "), "{scenario}: {lines:?}");
    }
    // Each copy of Connector/C in a process.
    let copy = copy(program);
    let with_copy = [&environment[..], &[&copy]].concat();
    let lines = lines(program.run_at(&[], "copies", attacker.address(), 1, &with_copy));
    assert!(lines.len() == 4 && [0, 2].iter().all(|&n| lines[n].starts_with("error 2026 ")), "{lines:?}");
}

#[test]
fn what_an_attacker_adds_to_the_greeting_with_the_connectors_of_other_releases() {
    if !packages::is_root() {
        eprintln!("skipped: only root can run the programs of another release");
        return;
    }
    let (one, two, environment, _files) = redirecting_under_tls();
    let programs =
        ["bullseye", "trixie"].map(|suite| [Linked::Shared, Linked::Static].map(|linked| Program::of(suite, linked)));
    // To Connector/C 3.4 a fingerprint proves nothing if the program does not verify certificates.
    let environment = [environment[0].as_str(), "INSTANT_FAILOVER_FOLLOW=always"];
    attack(programs.as_flattened(), &environment, &one, &two);
}

/// Functions that do not block may read in another way: then no redirect is followed, whoever sent it.
#[test]
fn what_an_attacker_adds_to_the_greeting_without_blocking() {
    let (one, two, environment, _files) = redirecting_under_tls();
    let environment = environment.each_ref().map(String::as_str);
    let program = Program::here(Linked::Shared);
    let run = |address| lines(program.run_at(&[], "nonblocking", address, 1, &environment))[0].clone();
    let said = run(one.address());
    assert!(said == port(&two) || said.starts_with(&told(&two)) && said.contains(BEFORE_TLS), "{said}");
    one.root().unwrap().query("SET GLOBAL instant_failover_mode = OFF").unwrap();
    for pieces in Pieces::ALL {
        let attacker = When::BehindGreetingOf(one.address(), pieces);
        let attacker = Fake::start(4196, &format!("|text|{}", two.address()), attacker).unwrap();
        let said = run(attacker.address());
        assert!(said.starts_with("error 2026 ") || said.contains(BEFORE_TLS), "{pieces:?}: {said}");
    }
}

/// If Connector/C cannot be kept from reading ahead, what it took for an answer inside TLS proves nothing.
#[test]
fn what_may_have_come_before_tls() {
    let (one, two, environment, _files) = redirecting_under_tls();
    let program = Program::here(Linked::Shared);
    let directory = tempfile::tempdir().unwrap();
    let (plugins, place) = (directory.path().join("plugin"), directory.path().join("place"));
    let buggy = built("INSTANT_FAILOVER_PANIC_SO", Flavour::PanicInjection.library());
    System::this().install_client_plugins(&plugins, &buggy).unwrap();
    let buggy =
        [format!("MARIADB_PLUGIN_DIR={}", plugins.display()), format!("INSTANT_FAILOVER_PANIC={}", place.display())];
    let environment: Vec<_> = environment.iter().chain(&buggy).map(String::as_str).collect();
    let run = |more: &[&str]| {
        let mut command = program.run(VALGRIND, "tls", &one, 1, &[&environment[..], more].concat());
        command.env("CLIENT_PREFIX", "instant_failover://");
        lines(command)[0].clone()
    };
    for callback in ["ifo_rs_client_init", "ifo_rs_client_read", "ifo_rs_client_was_read"] {
        fs::write(&place, callback).unwrap();
        let said = run(&[]);
        assert!(said.starts_with(&told(&two)) && said.contains(BEFORE_TLS), "{callback}: {said}");
        assert_eq!(run(&["INSTANT_FAILOVER_FOLLOW=always"]), port(&two), "{callback}");
    }
    fs::write(&place, "none").unwrap();
    assert_eq!(run(&[]), port(&two));
}

/// The greeting says that the server can do TLS, and has the client log in by a plugin that sends nothing: TLS never begins.
#[test]
fn a_login_without_a_word() {
    let (one, two, environment, _files) = redirecting_under_tls();
    let environment = environment.each_ref().map(String::as_str);
    let program = Program::here(Linked::Shared);
    // A redirect in clear, which proves nothing.
    let impostor = When::WithGreetingFor("only_read");
    let impostor = Fake::start(4196, &format!("|text|{}", two.address()), impostor).unwrap();
    // The target of a redirect inside TLS.
    let target = Fake::start(1045, "no", When::WithGreetingFor("ask_nobody")).unwrap();
    let sql = format!("SET GLOBAL instant_failover_target = '{}'", target.address());
    one.root().unwrap().query(&sql).unwrap();
    for prefix in ["", "instant_failover://"] {
        let run = |address| {
            let mut command = program.run_at(&[], "hasty", address, 1, &environment);
            command.env("CLIENT_PREFIX", prefix);
            lines(command)[0].clone()
        };
        let said = run(impostor.address());
        assert!(said.starts_with("error 4196 ") && said.contains(BEFORE_TLS), "{said}");
        let said = run(one.address());
        assert!(said.starts_with("error 2026 "), "{said}");
    }
    assert!(impostor.connections() == 2 && target.connections() == 2);
    assert_eq!(target.logins(), 0);
}

/// As without us, but that behind a redirect, or a prefix, the thread first comes back from connecting. By force it would be
/// unwound through our functions, which ends the process.
#[test]
fn a_thread_that_is_cancelled() {
    let (one, two) = redirecting();
    let program = Program::here(Linked::Shared);
    // It accepts connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [silent.local_addr().unwrap(), one.address(), two.address()] {
        for prefix in ["", "instant_failover://"] {
            let mut command = program.run_at(&[], "cancelled", address, 1, &[]);
            command.env("CLIENT_PREFIX", prefix);
            assert_eq!(lines(command), ["cancelled"], "{prefix}{address}");
        }
    }
    // A program that would wait for ever, and one that does not block at other times.
    for more in ["CLIENT_TIMEOUT=600", "CLIENT_NONBLOCK=1"] {
        let command = program.run_at(&[], "cancelled", silent.local_addr().unwrap(), 1, &[more]);
        assert_eq!(lines(command), ["cancelled"], "{more}");
    }
}

#[test]
fn two_copies_of_connector_c() {
    let (one, two) = redirecting();
    let program = Program::here(Linked::Shared);
    let copy = copy(&program);
    let expected = [port(&two), "left open 0".to_owned(), port(&two), "left open 0".to_owned()];
    let twice = [expected.clone(), expected].concat();
    // What a library leaves behind that is unloaded, valgrind cannot attribute.
    assert_eq!(program.lines(&[], "copies", &one, 1, &[&copy])[..3], twice[..3]);
    assert_eq!(program.lines(VALGRIND, "copies", &one, 2, &[&copy]).len(), 8);
}

/// Both ways in one connection are one.
#[test]
fn a_prefix_besides() {
    let (one, two) = redirecting();
    let program = Program::here(Linked::Shared);
    let mut command = program.run(VALGRIND, "many", &one, 10, &[]);
    command.env("CLIENT_PREFIX", "instant_failover://");
    assert_eq!(lines(command), [port(&two), "left open 0".to_owned()]);
    let redirects = one.root().unwrap().status("Instant_failover_redirects").unwrap();
    assert_eq!(redirects, "10");
    redirect(&two, &one);
    let mut command = program.run(VALGRIND, "many", &one, 10, &[]);
    command.env("CLIENT_PREFIX", "instant_failover://");
    assert_eq!(lines(command)[0], redirect_loop(&[&one, &two, &one]));
    let told = |server: &Server| server.root().unwrap().status("Instant_failover_redirects").unwrap();
    assert_eq!((told(&one), told(&two)), ("20".to_owned(), "10".to_owned()));
}

#[test]
fn a_missing_plugin_changes_nothing() {
    let (one, two) = redirecting();
    let program = Program::here(Linked::Shared);
    let empty = tempfile::tempdir().unwrap();
    let nowhere = format!("MARIADB_PLUGIN_DIR={}", empty.path().display());
    let left = "left open 0".to_owned();
    assert_eq!(program.lines(&[], "many", &one, 1, &[&nowhere]), [told(&two), left.clone()]);
    fs::write(empty.path().join("instant_failover.so"), "not a library").unwrap();
    assert_eq!(program.lines(&[], "many", &one, 1, &[&nowhere]), [told(&two), left.clone()]);
    assert_eq!(program.lines(&[], "many", &two, 1, &[&nowhere]), [port(&two), left]);
}

#[test]
fn who_may_redirect() {
    let (one, two) = redirecting();
    let program = Program::here(Linked::Shared);
    let run = |value: &str| program.lines(VALGRIND, "many", &one, 1, &[&format!("INSTANT_FAILOVER_FOLLOW={value}")]);
    for value in ["", "auto", "always", "1"] {
        assert_eq!(run(value)[0], port(&two), "{value}");
    }
    for value in ["never", "0"] {
        assert_eq!(run(value)[0], told(&two), "{value}");
    }
    let verified = run("verified")[0].clone();
    assert!(
        verified.starts_with(&told(&two)) && verified.contains("(not followed: the connection has no TLS "),
        "{verified}"
    );
    let unknown = run("sometimes")[0].clone();
    assert!(unknown.contains("(not followed: INSTANT_FAILOVER_FOLLOW is 'sometimes'; give never, "), "{unknown}");
    // A program can opt out, and in again.
    assert_eq!(program.lines(VALGRIND, "opt_out", &one, 1, &[]), [told(&two), port(&two)]);
}

/// A bug in our code: an error at most.
#[test]
fn an_internal_error() {
    let (one, two) = redirecting();
    let program = Program::here(Linked::Shared);
    let directory = tempfile::tempdir().unwrap();
    let plugins = directory.path().join("plugin");
    let buggy = built("INSTANT_FAILOVER_PANIC_SO", Flavour::PanicInjection.library());
    System::this().install_client_plugins(&plugins, &buggy).unwrap();
    let place = directory.path().join("place");
    let environment =
        [format!("MARIADB_PLUGIN_DIR={}", plugins.display()), format!("INSTANT_FAILOVER_PANIC={}", place.display())];
    for (callback, expected) in [
        ("none", port(&two)),
        ("ifo_rs_client_init", told(&two)),
        ("ifo_rs_client_read", port(&two)),
        ("ifo_rs_client_was_read", port(&two)),
        ("ifo_rs_client_begin", told(&two)),
        ("ifo_rs_client_refused", "error 2000 Internal error in the instant_failover client plugin".to_owned()),
    ] {
        fs::write(&place, callback).unwrap();
        let said = program.lines(VALGRIND, "many", &one, 2, &environment.each_ref().map(String::as_str));
        assert_eq!(said, [expected, "left open 0".to_owned()], "{callback}");
    }
    let prefixed = |callback, scenario, count| {
        fs::write(&place, callback).unwrap();
        let mut command = program.run(&[], scenario, &one, count, &environment.each_ref().map(String::as_str));
        command.env("CLIENT_PREFIX", "instant_failover://");
        command
    };
    for (callback, expected) in [
        ("ifo_rs_client_connect", "error 2000 Internal error in the instant_failover client plugin".to_owned()),
        ("ifo_rs_client_close", port(&two)),
    ] {
        assert_eq!(lines(prefixed(callback, "many", 2))[0], expected, "{callback}");
    }
    // A program that tries to opt out is told that it cannot.
    assert_eq!(prefixed("ifo_rs_client_options", "opt_out", 1).status().unwrap().code(), Some(4));
    let mut reconnecting = Reconnecting::start(prefixed("", "reconnect", 2));
    assert_eq!(reconnecting.next(), port(&two));
    fs::write(&place, "ifo_rs_client_reconnect").unwrap();
    // How the connection was lost.
    assert!(reconnecting.lose().starts_with("error "));
    fs::write(&place, "").unwrap();
    assert_eq!(reconnecting.lose(), port(&two));
    reconnecting.end();
}

/// What MariaDB's own programs do, by the name under which they log in.
#[test]
fn programs_of_mariadb() {
    let (one, two) = redirecting();
    let program = Program::here(Linked::Shared);
    let run = |name: &str, more: &[&str]| {
        let name = format!("CLIENT_PROGRAM={name}");
        program.lines(VALGRIND, "many", &one, 1, &[&[name.as_str()], more].concat())[0].clone()
    };
    assert_eq!(run("app", &[]), port(&two));
    let refused = run("mysql", &[]);
    assert!(refused.starts_with(&told(&two)) && refused.contains("(not followed: mysql needs "), "{refused}");
    assert_eq!(run("mysql", &["INSTANT_FAILOVER_FOLLOW=auto"]), port(&two));
    for more in [&[][..], &["INSTANT_FAILOVER_FOLLOW=always"]] {
        let refused = run("mysqladmin", more);
        assert!(refused.contains("(not followed: mysqladmin works only on the server that it is given; "), "{refused}");
    }
    let mut command = program.run(&[], "many", &one, 1, &["CLIENT_PROGRAM=mysqladmin"]);
    command.env("CLIENT_PREFIX", "instant_failover://");
    assert_eq!(lines(command)[0], port(&two));
}

/// The table is exchanged only if there is no doubt about it.
#[test]
fn which_table_wins() {
    let directory = tempfile::tempdir().unwrap();
    let run = |variant: &str, environment: &[(&str, &str)]| {
        let program = directory.path().join(variant);
        let mut cc = compiler(Path::new("/"));
        cc.arg(format!("-D{variant}")).arg("-rdynamic").arg(fixture("connector.c")).arg("-o").arg(&program);
        support::run(&mut cc).unwrap();
        let mut command = Command::new(program);
        command.arg(library()).arg("2").env_remove("INSTANT_FAILOVER_FOLLOW").envs(environment.iter().copied());
        lines(command)
    };
    let asked = ("LIBMYSQL_PLUGINS", "instant_failover");
    assert_eq!(run("ONE", &[asked]), ["another", "another"]);
    assert_eq!(run("READ_ONLY", &[asked]), ["another", "another"]);
    for variant in ["SECOND", "FOREIGN", "OTHER_NAME"] {
        assert_eq!(run(variant, &[asked]), ["as it was", "as it was"], "{variant}");
    }
    assert_eq!(run("ONE", &[]), ["as it was", "as it was"]);
    assert_eq!(run("ONE", &[asked, ("INSTANT_FAILOVER_FOLLOW", "never")]), ["as it was", "as it was"]);
}

/// `mariadb-admin shutdown` ends the server that it was given, or none.
#[test]
fn programs_that_administer_reach_no_other_server() {
    let (one, two) = redirecting();
    let plugins = Program::here(Linked::Shared).directory.join("plugin");
    one.root().unwrap().query("GRANT ALL ON *.* TO app").unwrap();
    two.root().unwrap().query("GRANT ALL ON *.* TO app").unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(["--no-defaults", "--user=app", "--host=127.0.0.1"]);
        command.arg(format!("--port={}", one.address().port())).args(arguments);
        command.env("MARIADB_PLUGIN_DIR", &plugins).env("LIBMYSQL_PLUGINS", "instant_failover");
        command.env("INSTANT_FAILOVER_FOLLOW", "always");
        let output = command.output().unwrap();
        assert!(!output.status.success(), "{program}: {output:?}");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    for (program, name, arguments) in
        [("mariadb-admin", "mysqladmin", &["shutdown"][..]), ("mariadb-check", "mysqlcheck", &["--all-databases"])]
    {
        let said = run(program, arguments);
        assert!(said.contains(&format!("(not followed: {name} works only on the server ")), "{said}");
    }
    // It runs mariadb-check, and gives up when that does.
    let said = run("mariadb-upgrade", &["--force"]);
    assert!(said.contains("FATAL ERROR: Upgrade failed"), "{said}");
    // It has no Connector/C.
    let files = tempfile::tempdir().unwrap();
    let said = run("mariadb-backup", &["--backup", &format!("--target-dir={}", files.path().display())]);
    assert!(
        said.contains(&format!("|Server is directing clients to the alternative server '{}'.", two.address())),
        "{said}"
    );
    // It is still there.
    assert_eq!(two.root().unwrap().query("SELECT 1").unwrap(), [["1"]]);
}
