//! What is refused, and what makes it go back.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::faults;
use super::pair::{DB1, DB2, Ended, Pair};

/// A check must fail, and say this.
fn fails(pair: &Pair, expected: &[&str]) {
    let checked = pair.run(&["check", "db1", "db2"]);
    assert_eq!(checked.status, Some(1), "{expected:?}: {}", checked.text);
    for text in expected {
        assert!(checked.text.contains(text), "{text}: {}", checked.text);
    }
    let refused = pair.run(&["switchover", "db1", "db2", "--yes"]);
    assert_eq!(refused.status, Some(1), "{}", refused.text);
    assert!(refused.text.contains("nothing has changed"), "{}", refused.text);
}

/// What is wrong, statements that make it so on each server, what the check says, and statements that mend it.
type Wrong<'a> = (&'a [(usize, &'a str)], &'a [&'a str], &'a [(usize, &'a str)]);

#[test]
fn a_check_finds_what_is_wrong() {
    let pair = Pair::start(&[]);
    let started = std::time::Instant::now();
    let checked = pair.run_patiently(&["check", "db1", "db2"]);
    assert_eq!(checked.status, Some(0), "{}", checked.text);
    println!("a check takes {:?}", started.elapsed());
    let wrong: &[Wrong<'_>] = &[
        (&[(DB2, "STOP SLAVE SQL_THREAD")], &["Slave_SQL_Running: No"], &[(DB2, "START SLAVE")]),
        (&[(DB2, "SET GLOBAL read_only = 0")], &["db2 accepts writes"], &[(DB2, "SET GLOBAL read_only = 1")]),
        (&[(DB1, "SET GLOBAL read_only = 1")], &["db1 is read only"], &[(DB1, "SET GLOBAL read_only = 0")]),
        (
            &[(DB2, "STOP SLAVE"), (DB2, "CHANGE MASTER TO MASTER_DELAY = 3600"), (DB2, "START SLAVE")],
            &["db2 is delayed by 3600 s on purpose"],
            &[(DB2, "STOP SLAVE"), (DB2, "CHANGE MASTER TO MASTER_DELAY = 0"), (DB2, "START SLAVE")],
        ),
        (
            &[(DB2, "STOP SLAVE"), (DB2, "SET GLOBAL replicate_do_db = 'shop'"), (DB2, "START SLAVE")],
            &["db2 has Replicate_Do_DB: shop"],
            &[(DB2, "STOP SLAVE"), (DB2, "SET GLOBAL replicate_do_db = ''"), (DB2, "START SLAVE")],
        ),
        (
            &[(DB1, "SET GLOBAL instant_failover_exempt_users = 'dba,root'")],
            &["repl, the user of replication, is not exempt on db1"],
            &[(DB1, "SET GLOBAL instant_failover_exempt_users = 'repl,dba,root'")],
        ),
        (
            &[(DB1, "SET GLOBAL instant_failover_target = 'db9', instant_failover_mode = ON")],
            &["db1 is in mode ON"],
            &[(DB1, "SET GLOBAL instant_failover_mode = OFF, instant_failover_target = ''")],
        ),
        (
            &[(DB1, "REVOKE PROCESS ON *.* FROM dba"), (DB2, "DO SLEEP(0.5)")],
            &["dba@% lacks PROCESS on db1", "GRANT PROCESS ON *.* TO 'dba'@'%'"],
            &[(DB1, "GRANT PROCESS ON *.* TO dba")],
        ),
        (
            &[
                (DB1, "XA START 'x'"),
                (DB1, "INSERT INTO shop.orders VALUES (9, 9, 9)"),
                (DB1, "XA END 'x'"),
                (DB1, "XA PREPARE 'x'"),
            ],
            &["1 prepared XA transactions on db1"],
            &[(DB1, "XA ROLLBACK 'x'")],
        ),
        (
            &[(DB1, "SET GLOBAL max_connections = 40"), (DB2, "SET GLOBAL max_connections = 10")],
            &["max_connections on db2 is 10"],
            &[(DB1, "SET GLOBAL max_connections = 500"), (DB2, "SET GLOBAL max_connections = 500")],
        ),
        (
            &[(DB1, "REVOKE RELOAD ON *.* FROM dba")],
            &["dba@% lacks RELOAD on db1", "GRANT RELOAD ON *.* TO 'dba'@'%'"],
            &[(DB1, "GRANT RELOAD ON *.* TO dba")],
        ),
        (
            &[(DB2, "SET GLOBAL read_only = 0"), (DB2, "FLUSH HOSTS"), (DB2, "SET GLOBAL read_only = 1")],
            &["db2 has transactions that db1 lacks: up to 0-2-"],
            &[],
        ),
    ];
    for (make, expected, mend) in wrong {
        println!("{expected:?}");
        let mut sessions = [pair.root(DB1), pair.root(DB2)];
        make.iter().for_each(|(server, sql)| {
            drop(sessions[*server].query(sql).unwrap_or_else(|error| panic!("{sql}: {error}")));
        });
        fails(&pair, expected);
        mend.iter().for_each(|(server, sql)| {
            drop(sessions[*server].query(sql).unwrap_or_else(|error| panic!("{sql}: {error}")));
        });
        if !mend.is_empty() {
            pair.is_as_before();
        }
    }
}

/// A server that does not answer is waited for, but not if a signal comes: nothing has changed.
#[test]
fn a_signal_ends_what_only_looks() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("servers.cnf");
    for (arguments, name, number) in [
        (&["status"][..], "-INT", libc::SIGINT),
        (&["check", "db1", "db2"], "-HUP", libc::SIGHUP),
        (&["switchover", "db1", "db2", "--yes"], "-TERM", libc::SIGTERM),
    ] {
        // A new one: connections of the command before would still wait to be accepted.
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let entry =
            |name| format!("[{name}]\nhost = 127.0.0.1\nport = {port}\nuser = dba\nskip-ssl\ntarget = {name}\n");
        fs::write(&file, entry("db1") + &entry("db2")).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_instant-failover"));
        command.arg("--servers").arg(&file).args(arguments).env("XDG_STATE_HOME", home.path());
        let mut child = command.stdin(Stdio::null()).spawn().unwrap();
        let _connection = server.accept().unwrap();
        faults::signal(&child, name);
        assert_eq!(child.wait().unwrap().signal(), Some(number), "{arguments:?}");
    }
}

#[test]
fn wrong_names_and_files() {
    let pair = Pair::start(&[]);
    for (arguments, status, expected) in [
        (&["switchover", "db1", "db3", "--yes"][..], 2, "there is no server 'db3'"),
        (&["switchover", "db1", "db1", "--yes"], 2, "OLD and NEW are both db1"),
        (&["switchover", "db2", "db1", "--yes"], 1, "the names look swapped: db1 is the primary"),
        (&["check", "db2", "db1"], 1, "-> name the primary first: db1 db2"),
        (&["check", "--all", "--replica", "db2"], 2, "cannot be used with"),
        (&["check", "db1", "db2", "--replica", "db2"], 2, "--replica db2: name a replica of db1 other than db2"),
        (&["switchover", "db1", "db2", "--yes", "--replica", "db1"], 2, "--replica db1: name a replica of db1 other"),
        (&["resume", "db1", "db2", "--yes", "--replica", "db2"], 2, "--replica db2: name a replica"),
        (&["check", "db1", "db2", "--force"], 2, "unexpected argument '--force'"),
        (&["resume", "--before", "true"], 2, "unexpected argument '--before'"),
        (&["back", "--force"], 2, "unexpected argument '--force'"),
        (&["resume", "--not-after", "tomorrow"], 2, "write it as 2026-01-31 03:30:00, in UTC"),
        (&["prepare", "db1", "db2", "--no-reverse"], 2, "unexpected argument '--no-reverse'"),
        (&["switchover", "db1", "db2"], 1, "there is no terminal to ask at: use --yes"),
        (&["resume"], 1, "no switchover is unfinished"),
        (&["back"], 1, "no switchover is unfinished"),
        (&["check"], 2, "give OLD and NEW, or --all"),
        (&["frobnicate"], 2, "unrecognized subcommand"),
        (&["switchover", "db1", "db2", "--yes", "--before", "exit 3"], 3, "exit status: 3"),
        (&["switchover", "db1", "db2", "--yes", "--not-after", "2020-01-01 00:00:00"], 3, "--not-after has passed"),
        (&["check", "--all"], 0, "db1 -> db2"),
        (&["switchover", "db1", "db2", "--dry-run"], 0, "dry run: nothing has changed\n"),
    ] {
        // What is refused before it is waited for does not need patience.
        let ended = if matches!(status, 0 | 3) { pair.run_patiently(arguments) } else { pair.run(arguments) };
        assert_eq!(ended.status, Some(status), "{arguments:?}: {}", ended.text);
        assert!(ended.text.contains(expected), "{arguments:?}: {}", ended.text);
        pair.is_as_before();
    }
    // Which one is to be read only does not depend on the order of the names.
    pair.sql(DB2, "SET GLOBAL read_only = 0");
    let ended = pair.run(&["check", "db2", "db1"]);
    assert_eq!(ended.status, Some(1), "{}", ended.text);
    assert!(ended.text.contains("both accept writes, and db2 is the replica of db1"), "{}", ended.text);
    assert!(ended.text.contains("SET GLOBAL read_only = 1 on db2"), "{}", ended.text);
    assert!(!ended.text.contains("on db1"), "{}", ended.text);
    pair.sql(DB2, "SET GLOBAL read_only = 1");
    pair.is_as_before();
    // Entries that are wrong: the target leads to the old primary; the password; a port where nothing listens.
    let ports = [DB1, DB2].map(|n| pair.servers[n].address().port().to_string());
    for (from, to, expected) in [
        (format!("target = 127.0.0.1:{}", ports[1]), format!("target = 127.0.0.1:{}", ports[0]), "leads to server 1"),
        ("\npassword = open sesame".to_owned(), "\npassword = x".to_owned(), "Access denied"),
        (format!("port = {}\n", ports[1]), "port = 1\n".to_owned(), "refused"),
    ] {
        pair.write_servers(|text| text.replace(&from, &to));
        let ended = pair.run(&["switchover", "db1", "db2", "--yes"]);
        assert_eq!(ended.status, Some(1), "{}", ended.text);
        assert!(ended.text.contains(expected), "{expected}: {}", ended.text);
        pair.is_as_before();
    }
    pair.write_servers(|text| text.replace("\npassword = open sesame", "\npassword = x"));
    let ended = pair.run(&["check", "db1", "db2"]);
    assert!(ended.text.contains("-> wrong user or password") && !ended.text.contains("start it"), "{}", ended.text);
    let ended = pair.run(&["status"]);
    assert_eq!(ended.status, Some(1), "{}", ended.text);
    assert!(ended.text.contains("db1 refused the login") && !ended.text.contains("does not answer"), "{}", ended.text);
    pair.write_servers(|text| text);
    fs::set_permissions(pair.servers_file(), Permissions::from_mode(0o644)).unwrap();
    let ended = pair.run(&["status"]);
    assert_eq!(ended.status, Some(2), "{}", ended.text);
    assert!(ended.text.contains("chmod 600"), "{}", ended.text);
}

#[test]
fn the_state_cannot_be_written() {
    let pair = Pair::start(&[]);
    let mut command = pair.command(&["switchover", "db1", "db2", "--yes"]);
    let ended: Ended = command.env("XDG_STATE_HOME", "/dev/full").output().unwrap().into();
    assert_eq!(ended.status, Some(1), "{}", ended.text);
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("instant-failover"), "not a directory").unwrap();
    let ended: Ended = pair
        .command(&["switchover", "db1", "db2", "--yes"])
        .env("XDG_STATE_HOME", home.path())
        .output()
        .unwrap()
        .into();
    assert_eq!(ended.status, Some(1), "{}", ended.text);
    pair.is_as_before();
}

/// A transaction that stays open.
#[test]
fn a_transaction_that_does_not_end() {
    let pair = Pair::start(&[]);
    let mut open = pair.application();
    open.query("BEGIN").unwrap();
    open.query("INSERT INTO shop.orders VALUES (5, 5, 5)").unwrap();
    let arguments = ["switchover", "db1", "db2", "--yes", "--max-lag", "60", "--max-pause", "2", "--attempts", "2"];
    let ended = pair.run(&arguments);
    assert_eq!(ended.status, Some(3), "{}", ended.text);
    assert!(ended.text.contains("app@127.0.0.1") && ended.text.contains("1 in transactions"), "{}", ended.text);
    // It goes on as if nothing had been.
    open.query("COMMIT").unwrap();
    pair.is_as_before();

    // A signal ends the wait, and it goes back.
    open.query("BEGIN").unwrap();
    open.query("INSERT INTO shop.orders VALUES (5, 6, 5)").unwrap();
    let waiting =
        pair.command(&["switchover", "db1", "db2", "--yes", "--max-lag", "60", "--max-pause", "600"]).spawn().unwrap();
    pair.wait_for(DB1, "SELECT @@instant_failover_mode", "HOLD");
    std::thread::sleep(Duration::from_millis(200));
    let ended = signal(waiting, "-TERM");
    assert_eq!(ended.status, Some(3), "{}", ended.text);
    assert!(ended.text.contains("SIGTERM"), "{}", ended.text);
    open.query("COMMIT").unwrap();
    pair.is_as_before();

    // With force it is killed, and its transaction is rolled back.
    open.query("BEGIN").unwrap();
    open.query("INSERT INTO shop.orders VALUES (5, 7, 5)").unwrap();
    let ended = pair.run(&["switchover", "db1", "db2", "--yes", "--max-lag", "60", "--max-pause", "5", "--force"]);
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    assert!(open.query("COMMIT").is_err());
    pair.is_switched();
    assert_eq!(pair.value(DB2, "SELECT GROUP_CONCAT(number ORDER BY number) FROM shop.orders WHERE client = 5"), "5,6");
}

/// The new primary dies meanwhile: what can be undone without it is undone, and the rest is said.
#[test]
fn the_new_primary_dies_before_it_is_one() {
    let mut pair = Pair::start(&[]);
    let mut open = pair.application();
    open.query("BEGIN").unwrap();
    open.query("INSERT INTO shop.orders VALUES (5, 5, 5)").unwrap();
    let arguments = ["switchover", "db1", "db2", "--yes", "--max-lag", "60", "--max-pause", "3", "--attempts", "1"];
    let waiting = pair.command(&arguments).spawn().unwrap();
    pair.wait_for(DB1, "SELECT @@instant_failover_mode", "HOLD");
    pair.servers[DB2].kill();
    let ended: Ended = waiting.wait_with_output().unwrap().into();
    assert_eq!(ended.status, Some(4), "{}", ended.text);
    assert_eq!(ended.text.matches("FAILED: db2: no answer").count(), 1, "{}", ended.text);
    assert!(ended.text.contains("To do, when they answer: SET GLOBAL instant_failover_note = ''"), "{}", ended.text);
    open.query("COMMIT").unwrap();
    pair.restart(DB2);
    pair.is_as_before();
}

/// Sessions that are idle in a transaction and have only read.
#[test]
fn idle_readers() {
    let pair = Pair::start(&[]);
    let session = |statements: &[&str]| {
        let mut session = support::wire::Client::connect(pair.servers[DB1].address())
            .unwrap()
            .log_in_by_password("app", super::pair::PASSWORD)
            .unwrap()
            .session()
            .unwrap();
        for sql in statements {
            session.query(sql).unwrap();
        }
        session
    };
    let read = "SELECT COUNT(*) FROM shop.orders";
    let mut readers = [
        session(&["BEGIN", read]),
        session(&["SET autocommit = 0", read]),
        session(&["START TRANSACTION WITH CONSISTENT SNAPSHOT"]),
        session(&["BEGIN", "INSERT INTO shop.orders VALUES (4, 1, 1)", "ROLLBACK", "BEGIN", read]),
    ];
    let mut writer = session(&["BEGIN", "INSERT INTO shop.orders VALUES (4, 2, 1)"]);
    let arguments = ["switchover", "db1", "db2", "--yes", "--max-lag", "60", "--max-pause", "4", "--attempts", "1"];
    let killing = [&arguments[..], &["--kill-idle-readers"]].concat();
    let ended = pair.run(&arguments);
    assert_eq!(ended.status, Some(3), "{}", ended.text);
    // One that has modified something stops it, and nobody is killed.
    let ended = pair.run(&killing);
    assert_eq!(ended.status, Some(3), "{}", ended.text);
    assert!(ended.text.contains("5 in transactions"), "{}", ended.text);
    writer.query("COMMIT").unwrap();
    for reader in &mut readers {
        reader.query(read).unwrap();
    }
    std::thread::sleep(Duration::from_millis(1200));
    let ended = pair.run(&killing);
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    assert!(ended.text.contains("4 idle sessions were killed; none had modified anything"), "{}", ended.text);
    for reader in &mut readers {
        assert!(reader.query(read).is_err());
    }
    pair.is_switched();
}

/// Transactions that begin with a read and a pause, as those of idle readers do, and then write: none is killed after that.
#[test]
fn readers_that_begin_to_write() {
    let pair = Pair::start(&[]);
    let address = pair.servers[DB1].address();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (lost, written) = (std::sync::atomic::AtomicU64::new(0), std::sync::atomic::AtomicU64::new(0));
    std::thread::scope(|scope| {
        for client in 0..12_u64 {
            let (stop, lost, written) = (&stop, &lost, &written);
            scope.spawn(move || {
                use std::sync::atomic::Ordering::SeqCst;
                let mut number = 0;
                while !stop.load(SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                    let Ok(client_session) = support::wire::Client::connect(address) else { continue };
                    let session = client_session
                        .log_in_by_password("app", super::pair::PASSWORD)
                        .and_then(support::wire::LoggedIn::session);
                    let Ok(mut session) = session else { continue };
                    number += 1;
                    let insert = format!("INSERT INTO shop.orders VALUES ({}, {number}, 1)", 100 + client);
                    if session.query("BEGIN").is_err() || session.query("SELECT 1 FROM shop.orders LIMIT 1").is_err() {
                        continue;
                    }
                    std::thread::sleep(Duration::from_millis(900 + 60 * client));
                    if session.query(&insert).is_err() {
                        continue;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                    // From here on, something is modified.
                    match session.query("COMMIT") {
                        Ok(_) => written.fetch_add(1, SeqCst),
                        Err(_) => lost.fetch_add(1, SeqCst),
                    };
                }
            });
        }
        let ended = pair.run(&[
            "switchover",
            "db1",
            "db2",
            "--yes",
            "--max-lag",
            "60",
            "--max-pause",
            "10",
            "--attempts",
            "5",
            "--kill-idle-readers",
        ]);
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        println!("{}", ended.text);
        assert_eq!(ended.status, Some(0), "{}", ended.text);
    });
    assert_eq!(lost.into_inner(), 0);
    let there = pair.value(DB2, "SELECT COUNT(*) FROM shop.orders WHERE client >= 100 AND client < 1000");
    assert_eq!(there, written.into_inner().to_string());
    pair.is_switched();
}

fn signal(child: Child, name: &str) -> Ended {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
    child.wait_with_output().unwrap().into()
}

/// A statement that holds up the lock.
#[test]
fn a_statement_that_does_not_end() {
    let pair = Pair::start(&[]);
    let mut root = pair.root(DB1);
    let busy = std::thread::spawn(move || root.query("INSERT INTO shop.orders SELECT 6, 6, SLEEP(600)"));
    pair.wait_for(DB1, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE = 'User sleep'", "1");
    let ended =
        pair.run(&["switchover", "db1", "db2", "--yes", "--max-lag", "60", "--max-pause", "3", "--attempts", "2"]);
    assert_eq!(ended.status, Some(3), "{}", ended.text);
    assert!(ended.text.contains("error 1205"), "{}", ended.text);
    let id = pair.value(DB1, "SELECT ID FROM information_schema.PROCESSLIST WHERE STATE = 'User sleep'");
    pair.sql(DB1, &format!("KILL QUERY {id}"));
    assert!(busy.join().unwrap().is_err());
    pair.is_as_before();
}

/// Two commands at once.
#[test]
fn one_at_a_time() {
    let pair = Pair::start(&[]);
    let mut other = pair.root(DB2);
    other.query("SELECT GET_LOCK('instant_failover', 1)").unwrap();
    let ended = pair.run_patiently(&["switchover", "db1", "db2", "--yes"]);
    assert_eq!(ended.status, Some(1), "{}", ended.text);
    assert!(ended.text.contains("another instant-failover is working on this server: connection"), "{}", ended.text);
    drop(other);
    pair.is_as_before();
}

/// `prepare`, and its undo.
#[test]
fn prepared() {
    let pair = Pair::start(&[]);
    let ended = pair.run_patiently(&["prepare", "db1", "db2"]);
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    assert_eq!(pair.sql(DB1, "SHOW ALL SLAVES STATUS").len(), 1);
    let swapped = pair.run(&["check", "db2", "db1"]);
    assert!(swapped.text.contains("-> name the primary first: db1 db2"), "{}", swapped.text);
    assert!(!swapped.text.contains("SET GLOBAL"), "{}", swapped.text);
    // It changes nothing for clients, and going back leaves it.
    let ended = pair.run_patiently(&["switchover", "db1", "db2", "--yes", "--not-after", "2020-01-01 00:00:00"]);
    assert_eq!(ended.status, Some(3), "{}", ended.text);
    assert_eq!(pair.sql(DB1, "SHOW ALL SLAVES STATUS").len(), 1);
    let ended = pair.run_patiently(&["switchover", "db1", "db2", "--yes"]);
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    pair.is_switched();
}

/// A replication user that cannot log in the other way round.
#[test]
fn the_other_way_round() {
    let pair = Pair::start(&[]);
    pair.write_servers(|text| text.replace("replication-password = open sesame", "replication-password = wrong"));
    let ended = pair.run_patiently(&["switchover", "db1", "db2", "--yes"]);
    assert_eq!(ended.status, Some(3), "{}", ended.text);
    assert!(ended.text.contains("Access denied for user 'repl'"), "{}", ended.text);
    pair.is_as_before();
    let ended = pair.run_patiently(&["switchover", "db1", "db2", "--yes", "--no-reverse"]);
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    assert!(ended.text.contains("there is no way back to db1"), "{}", ended.text);
    assert_eq!(pair.sql(DB1, "SELECT @@read_only, @@instant_failover_mode, @@event_scheduler"), [["1", "ON", "OFF"]]);
    assert_eq!(pair.sql(DB2, "SELECT @@read_only, @@instant_failover_mode, @@event_scheduler"), [["0", "OFF", "ON"]]);
}
