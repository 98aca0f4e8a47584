//! The ways to reach servers, the options of a switchover, and other plugins and series of MariaDB.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::system::System;

use super::application::{Application, Procedures};
use super::pair::{DB1, DB2, DB3, PASSWORD, Pair};
use super::surprises::an_event_does_not_end_later;

fn switched(pair: &Pair, more: &[&str]) -> String {
    let ended = pair.run_patiently(&[&["switchover", "db1", "db2", "--yes"], more].concat());
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    ended.text
}

/// An authority, and a certificate for 127.0.0.1.
fn certificates(directory: &Path) -> [PathBuf; 4] {
    let path = |name: &str| directory.join(name);
    let openssl = |arguments: &str| {
        let status = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().unwrap();
        assert!(status.status.success(), "{arguments}: {}", String::from_utf8_lossy(&status.stderr));
    };
    fs::write(path("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    for name in ["ca", "other"] {
        openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem"
        ));
    }
    openssl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=127.0.0.1 -keyout db.key -out db.csr");
    openssl("x509 -req -in db.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out db.pem");
    ["ca.pem", "other.pem", "db.pem", "db.key"].map(path)
}

/// Both servers require TLS of everybody but clients.
#[test]
fn over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let [ca, other, certificate, key] = certificates(directory.path());
    let pair = Pair::start(&[
        &format!("--ssl-cert={}", certificate.display()),
        &format!("--ssl-key={}", key.display()),
        &format!("--ssl-ca={}", ca.display()),
    ]);
    pair.sql(DB1, "ALTER USER dba REQUIRE SSL");
    pair.sql(DB1, "ALTER USER repl REQUIRE SSL");
    pair.replicated(DB1, DB2);
    let refused = pair.run(&["check", "db1", "db2"]);
    assert_eq!(refused.status, Some(1), "{}", refused.text);
    assert!(refused.text.contains("Access denied"), "{}", refused.text);
    let with = |host: &str, ca: &Path| {
        let (host, ca) = (host.to_owned(), ca.display().to_string());
        pair.write_servers(move |text| {
            let tls = format!("ssl-ca = {ca}\nreplication-ssl-ca = {ca}");
            text.replace("skip-ssl", &tls).replace("host = 127.0.0.1", &format!("host = {host}"))
        });
    };
    for (host, ca, expected) in
        [("127.0.0.1", &other, "UnknownIssuer"), ("localhost", &ca, "not valid for name \"localhost\"")]
    {
        with(host, ca);
        let refused = pair.run(&["check", "db1", "db2"]);
        assert_eq!(refused.status, Some(1), "{}", refused.text);
        assert!(refused.text.contains(expected), "{expected}: {}", refused.text);
    }
    with("127.0.0.1", &ca);
    // db2 could not reconnect without TLS.
    for sql in ["STOP SLAVE", "CHANGE MASTER TO MASTER_SSL = 1", "START SLAVE"] {
        pair.sql(DB2, sql);
    }
    switched(&pair, &[]);
    pair.is_switched();
    let status = pair.sql(DB1, "SHOW ALL SLAVES STATUS").concat();
    assert!(status.contains(&ca.display().to_string()), "{status:?}");
}

/// By their sockets, with passwords from a command; and everything is redirected, through the socket too.
#[test]
fn by_sockets_with_passwords_from_a_command() {
    let pair = Pair::start(&[]);
    let sockets = [DB1, DB2].map(|n| pair.servers[n].socket().display().to_string());
    let ports = [DB1, DB2].map(|n| pair.servers[n].address().port());
    let written = pair.servers_file().with_file_name("password");
    fs::write(&written, format!("{PASSWORD}\nanother line\n")).unwrap();
    pair.write_servers(|mut text| {
        for (socket, port) in sockets.iter().zip(ports) {
            text = text.replace(&format!("host = 127.0.0.1\nport = {port}\n"), &format!("socket = {socket}\n"));
        }
        text.replace("skip-ssl\n", "")
            .replace(&format!("\npassword = {PASSWORD}"), &format!("\npassword-command = cat {}", written.display()))
    });
    let text = switched(&pair, &["--all-connections"]);
    assert!(text.contains("loose_instant_failover_mode = ALL"), "{text}");
    // root was exempt, and is no longer: it may write in spite of read_only.
    let error = pair.servers[DB1].root().err().map(|error| format!("{error:?}")).unwrap_or_default();
    assert!(error.contains(&pair.servers[DB2].address().to_string()), "root is not redirected: {error}");
    let status = pair.run(&["status"]);
    assert_eq!(status.status, Some(0), "{}", status.text);
    assert!(status.text.contains("mode ALL"), "{}", status.text);
    // The way out.
    let back = pair.run_patiently(&["switchover", "db2", "db1", "--yes"]);
    assert_eq!(back.status, Some(0), "{}", back.text);
    assert_eq!(pair.sql(DB1, "SELECT @@read_only, @@instant_failover_mode"), [["0", "OFF"]]);
}

/// Another replica follows, semi-sync is on, and commands run.
#[test]
fn with_a_third_server_and_commands() {
    let mut pair = Pair::start(&["--rpl-semi-sync-slave-enabled=1", "--rpl-semi-sync-master-timeout=60000"]);
    pair.add_third();
    pair.sql(DB1, "SET GLOBAL rpl_semi_sync_master_enabled = 1");
    let application = Application::start(&pair, Procedures::Yes);
    application.writes(50);
    let log = pair.servers_file().with_file_name("log");
    let line = |what: &str| {
        format!(
            "echo {what} $INSTANT_FAILOVER_HOOK $INSTANT_FAILOVER_OLD $INSTANT_FAILOVER_NEW $INSTANT_FAILOVER_TARGET >> {}",
            log.display()
        )
    };
    let (before, promoted, after) = (line("a"), line("b"), line("c"));
    let failing = format!("{before}; exit 3");
    let ended = pair.run_patiently(&["switchover", "db1", "db2", "--yes", "--before", &failing]);
    assert_eq!(ended.status, Some(3), "{}", ended.text);
    assert!(ended.text.contains("exit status: 3"), "{}", ended.text);
    pair.is_as_before();
    let checked = pair.run_patiently(&["check", "db1", "db2"]);
    assert!(checked.text.contains("replicates from db1 and stays behind it"), "{}", checked.text);
    assert!(checked.text.contains("rpl_semi_sync_master_enabled is ON on db1 and OFF on db2"), "{}", checked.text);
    let text =
        switched(&pair, &["--replica", "db3", "--before", &before, "--after-promotion", &promoted, "--after", &after]);
    assert!(text.contains("follows db2"), "{text}");
    assert!(text.contains("rpl_semi_sync_master_enabled is OFF on db1 now"), "{text}");
    let target = pair.servers[DB2].address();
    let expected = format!(
        "a before db1 db2 {target}\na before db1 db2 {target}\nb after-promotion db1 db2 {target}\nc after db1 db2 {target}\n"
    );
    assert_eq!(fs::read_to_string(log).unwrap(), expected);
    application.writes(50);
    application.nothing_is_lost(&pair, DB2);
    application.end();
    pair.is_switched();
    pair.replicated(DB2, DB3);
    // db3 is a replica of db2, and not of db1.
    let ended = pair.run(&["rejoin", "db3", "db1", "--yes"]);
    assert_eq!(ended.status, Some(1), "{}", ended.text);
    pair.sql(DB1, "STOP SLAVE");
    pair.sql(DB1, "RESET SLAVE ALL");
    pair.sql(DB1, "SET GLOBAL read_only = 0");
    let status = pair.run(&["status"]);
    assert!(status.text.contains("TWO PRIMARIES: db1 and db2 both accept writes"), "{}", status.text);
    let ended = pair.run(&["rejoin", "db3", "db1", "--yes"]);
    assert_eq!(ended.status, Some(1), "{}", ended.text);
    assert!(ended.text.contains("db3 replicates from server 2"), "{}", ended.text);
    assert_eq!(pair.value(DB3, "SELECT @@instant_failover_mode"), "OFF");
    let ended = pair.run(&["rejoin", "db1", "db2", "--yes"]);
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    pair.is_switched();
    // A command that fails at the end is said, once.
    let ended = pair.run_patiently(&["switchover", "db2", "db1", "--yes", "--after", "exit 5"]);
    assert_eq!(ended.status, Some(4), "{}", ended.text);
    assert_eq!(ended.text.matches("--after 'exit 5': exit status: 5").count(), 1, "{}", ended.text);
    assert_eq!(pair.sql(DB1, "SELECT @@read_only, @@instant_failover_note"), [["0", ""]]);
}

/// Without the plugin there is no switchover: clients could not be redirected.
#[test]
fn without_the_plugin() {
    let pair = Pair::start(&[]);
    pair.sql(DB2, "UNINSTALL SONAME 'instant_failover'");
    let ended = pair.run_patiently(&["switchover", "db1", "db2", "--yes"]);
    assert_eq!(ended.status, Some(1), "{}", ended.text);
    assert!(ended.text.contains("db2 has no plugin instant_failover"), "{}", ended.text);
    // db2 is connected to db1 before the plugin is there, and is no client.
    pair.sql(DB2, "STOP SLAVE");
    pair.sql(DB1, "UNINSTALL SONAME 'instant_failover'");
    pair.sql(DB2, "START SLAVE");
    pair.wait_for(
        DB1,
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Master has sent all binlog to slave%'",
        "1",
    );
    for n in [DB1, DB2] {
        pair.sql(n, "INSTALL SONAME 'instant_failover'");
        pair.sql(n, "SET GLOBAL instant_failover_exempt_users = 'repl,dba,root'");
    }
    assert_eq!(pair.sql(DB1, "SHOW GLOBAL STATUS LIKE 'instant_failover_sessions_unknown'").concat()[1], "1");
    let text = switched(&pair, &[]);
    assert!(!text.contains("before the plugin was loaded"), "{text}");
    pair.is_switched();
}

/// A plugin from before `HOLD`: `INSTANT_FAILOVER_OLD_LIBRARY=FILE cargo test -p instant-failover-switchover --test it
/// a_plugin_that_cannot_hold -- --ignored`.
#[test]
#[ignore = "needs an old library: see its comment"]
fn a_plugin_that_cannot_hold() {
    let library =
        PathBuf::from(std::env::var_os("INSTANT_FAILOVER_OLD_LIBRARY").expect("INSTANT_FAILOVER_OLD_LIBRARY"));
    let here = System::this();
    let pair = Pair::start_with([(&here, &library), (&here, &library)], &[]);
    let application = Application::start(&pair, Procedures::Yes);
    application.writes(50);
    let checked = pair.run_patiently(&["check", "db1", "db2"]);
    assert_eq!(checked.status, Some(0), "{}", checked.text);
    assert!(checked.text.contains("the plugin of db1 cannot hold and drain"), "{}", checked.text);
    assert!(checked.text.contains("open transactions are killed"), "{}", checked.text);
    println!("{}", switched(&pair, &[]));
    application.writes(50);
    application.nothing_is_lost(&pair, DB2);
    println!("{} errors", application.errors().len());
    assert_eq!(pair.sql(DB1, "SELECT @@read_only, @@instant_failover_mode"), [["1", "ON"]]);
    assert_eq!(pair.sql(DB2, "SELECT @@read_only, @@instant_failover_mode"), [["0", "OFF"]]);
    let back = pair.run_patiently(&["switchover", "db2", "db1", "--yes"]);
    assert_eq!(back.status, Some(0), "{}", back.text);
    application.writes(50);
    application.nothing_is_lost(&pair, DB1);
    application.end();
}

/// There and back on one series; from an older one to a newer one only there.
fn between(old: &str, new: &str) {
    let system = |suite: &str| if suite == "bookworm" { System::this() } else { System::debian(suite).unwrap() };
    let (old_system, new_system) = (system(old), system(new));
    let library = support::build::Flavour::Release.library();
    let pair = Pair::start_with([(&old_system, &library), (&new_system, &library)], &[]);
    let versions = [DB1, DB2].map(|n| pair.value(n, "SELECT VERSION()"));
    println!("{versions:?}");
    let series = |version: &str| -> Vec<u32> { version.split('.').take(2).map(|part| part.parse().unwrap()).collect() };
    let newer = series(&versions[1]) > series(&versions[0]);
    let application = Application::start(&pair, Procedures::Yes);
    application.writes(50);
    let checked = pair.run_patiently(&["check", "db1", "db2"]);
    println!("{}", checked.text);
    assert_eq!(checked.status, Some(i32::from(newer)), "{}", checked.text);
    let more: &[&str] = if newer {
        assert!(checked.text.contains("use --no-reverse; then there is no way back to db1"), "{}", checked.text);
        &["--no-reverse"]
    } else {
        &[]
    };
    println!("{}", switched(&pair, more));
    application.writes(50);
    application.nothing_is_lost(&pair, DB2);
    if newer {
        assert_eq!(pair.sql(DB1, "SELECT @@read_only, @@instant_failover_mode"), [["1", "ON"]]);
        assert_eq!(pair.sql(DB2, "SELECT @@read_only, @@instant_failover_mode"), [["0", "OFF"]]);
        assert_eq!(pair.sql(DB1, "SHOW ALL SLAVES STATUS"), Vec::<Vec<String>>::new());
    } else {
        pair.is_switched();
        let back: &[&str] = if series(&versions[0]) > series(&versions[1]) { &["--no-reverse"] } else { &[] };
        let ended = pair.run_patiently(&[&["switchover", "db2", "db1", "--yes"], back].concat());
        assert_eq!(ended.status, Some(0), "{}", ended.text);
        application.writes(50);
        application.nothing_is_lost(&pair, DB1);
    }
    println!("{} errors", application.errors().len());
    application.end();
    let pair = Pair::start_with([(&old_system, &library), (&new_system, &library)], &[]);
    an_event_does_not_end_later(&pair, more);
}

#[test]
#[ignore = "needs root and other Debian releases: cargo test -p instant-failover-switchover --test it -- --ignored on_10_5"]
fn on_10_5() {
    between("bullseye", "bullseye");
}

#[test]
#[ignore = "needs root and other Debian releases: cargo test -p instant-failover-switchover --test it -- --ignored on_11_8"]
fn on_11_8() {
    between("trixie", "trixie");
}

#[test]
#[ignore = "needs root and other Debian releases: cargo test -p instant-failover-switchover --test it -- --ignored from_10_5"]
fn from_10_5_to_10_11() {
    between("bullseye", "bookworm");
}

#[test]
#[ignore = "needs root and other Debian releases: cargo test -p instant-failover-switchover --test it -- --ignored from_11_8"]
fn from_11_8_to_10_11() {
    between("trixie", "bookworm");
}
