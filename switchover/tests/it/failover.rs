//! The primary is dead.

use std::fs;
use std::process::Command;

use support::build::harness_program;
use support::harness::Harness;

use super::application::{Application, Procedures};
use super::faults::{interrupted, signal};
use super::pair::{DB1, DB2, DB3, Ended, PASSWORD, Pair};

/// Three servers. With semi-sync, every write that is acknowledged has been received by a replica.
fn three() -> Pair {
    let mut pair = Pair::start(&["--rpl-semi-sync-slave-enabled=1", "--rpl-semi-sync-master-timeout=60000"]);
    pair.add_third();
    pair.sql(DB1, "SET GLOBAL rpl_semi_sync_master_enabled = 1");
    pair.wait_for(DB1, "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'RPL_SEMI_SYNC_MASTER_CLIENTS'", "2");
    pair
}

/// A stand-in on the address of `db1`, which is dead. It lets clients wait only if it knows their accounts.
fn stand_in(pair: &Pair) -> Harness {
    let program = harness_program();
    assert!(program.exists(), "build the stand-in first: cargo xtask test");
    let directory = tempfile::tempdir().unwrap();
    let accounts = directory.path().join("accounts");
    let hash = pair.value(DB2, &format!("SELECT PASSWORD('{PASSWORD}')"));
    fs::write(&accounts, format!("app {hash}\n")).unwrap();
    let port = format!("--port={}", pair.servers[DB1].address().port());
    let stand_in = Harness::start(&program, &[&port, &format!("--accounts-file={}", accounts.display())]).unwrap();
    let entry = format!("[stand-in]\nstand-in-for = db1\nsocket = {}\n", stand_in.socket().display());
    pair.write_servers(|text| text + &entry);
    stand_in
}

/// With the replica that has everything: which one that is, is a matter of chance.
fn fail_over(pair: &Pair, more: &[&str]) -> (Ended, usize) {
    let run = |name| pair.run(&[&["failover", name, "--fenced-by", "true", "--yes"], more].concat());
    let ended = run("db2");
    if ended.status == Some(1) && ended.text.contains("failover db3, which has more") {
        return (run("db3"), DB3);
    }
    (ended, DB2)
}

/// A replica was promoted, and the other one follows it.
fn is_failed_over(pair: &Pair, to: usize) {
    let ask = "SELECT @@read_only, @@instant_failover_mode, @@instant_failover_note";
    let other = DB2 + DB3 - to;
    assert_eq!(pair.sql(to, ask), [["0", "OFF", ""]]);
    assert_eq!(pair.sql(to, "SHOW ALL SLAVES STATUS"), Vec::<Vec<String>>::new());
    assert_eq!(pair.sql(other, ask), [["1", "OFF", ""]]);
    pair.sql(to, "INSERT INTO shop.orders SELECT 1001, COUNT(*), 2 FROM shop.orders WHERE client = 1001");
    pair.replicated(to, other);
}

#[test]
fn clients_wait_at_the_stand_in() {
    let mut pair = three();
    let application = Application::start(&pair, Procedures::No);
    application.writes(100);
    pair.servers[DB1].kill();
    let stand_in = stand_in(&pair);
    let (ended, new) = fail_over(&pair, &[]);
    println!("{}", ended.text);
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    for text in [
        "the stand-in answers at",
        "semi-sync is on",
        "new clients waited for up to",
        "ALTER DEFINER = 'root'@'localhost' EVENT",
    ] {
        assert!(ended.text.contains(text), "{text}: {}", ended.text);
    }
    is_failed_over(&pair, new);
    application.writes(100);
    application.nothing_is_lost(&pair, new);
    application.end();
    let mut root = stand_in.root().unwrap();
    let target = pair.servers[new].address().to_string();
    let shown = root.query("SELECT @@instant_failover_mode, @@instant_failover_target").unwrap();
    assert_eq!(shown, [["ON".to_owned(), target]]);
    let status = pair.run(&["status"]);
    assert!(status.text.contains("stand-in     stand-in, mode ON"), "{}", status.text);
    let answers = format!("the stand-in answers at {}, not db1", pair.servers[DB1].address());
    assert!(status.text.contains(&format!("db1          does not answer: {answers}\n")), "{}", status.text);
    let too_early = pair.run(&["rejoin", "db1", &format!("db{}", new + 1), "--yes"]);
    assert_eq!((too_early.status, too_early.text), (Some(1), format!("instant-failover: {answers}\n")));

    // The old primary comes back in place of the stand-in, as an old option file has it: writable. It has nothing that the new
    // one lacks, or says so.
    drop((root, stand_in));
    pair.restart_as(DB1, false);
    let name = format!("db{}", new + 1);
    let rejoined = pair.run(&["rejoin", "db1", &name, "--yes"]);
    match rejoined.status {
        Some(0) => {
            pair.replicated(new, DB1);
            assert_eq!(pair.value(DB1, "SELECT @@read_only"), "1");
        }
        // A write that waited for an answer of a replica when it was killed.
        Some(1) => assert!(rejoined.text.contains("has transactions that"), "{}", rejoined.text),
        _ => panic!("{}", rejoined.text),
    }
}

/// A refusal changes nothing.
fn refused(pair: &Pair, arguments: &[&str], expected: &str) {
    let ask = "SELECT @@read_only, @@instant_failover_note";
    let ended = pair.run(&[&["failover"], arguments].concat());
    assert_eq!(ended.status, Some(1), "{arguments:?}: {}", ended.text);
    assert!(ended.text.contains(expected), "{expected}: {}", ended.text);
    for n in [DB2, DB3] {
        if pair.servers[n].root().is_ok() {
            assert_eq!(pair.sql(n, ask), [["1", ""]]);
        }
    }
}

const FENCED: &[&str] = &["db2", "--fenced-by", "true", "--yes"];

#[test]
fn refused_while_the_primary_may_live() {
    let mut pair = three();
    refused(&pair, FENCED, "a server answers at 127.0.0.1");
    refused(&pair, &["db1", "--fenced-by", "true", "--yes"], "db1 does not replicate");
    assert_eq!(pair.run(&["failover", "db2", "--yes"]).status, Some(2));
    assert_eq!(pair.run(&["failover", "db9", "--fenced-by", "true", "--yes"]).status, Some(2));
    // Its entry leads nowhere, but the replicas are connected to it.
    let port = pair.servers[DB1].address().port().to_string();
    let hidden = |text: String| {
        let (first, rest) = text.split_once("[db2]").unwrap();
        first.replace(&format!("port = {port}\n"), "port = 1\n").replace(&format!("127.0.0.1:{port}"), "127.0.0.1:1")
            + "[db2]"
            + rest
    };
    pair.write_servers(hidden);
    refused(
        &pair,
        &["db2"],
        &format!("db2 replicates from 127.0.0.1:{port}, and no server in the file has that address"),
    );
    pair.write_servers(|text| text);

    // It hangs: it may go on. A command that ends it decides.
    pair.servers[DB1].signal(libc::SIGSTOP);
    refused(&pair, &["db2"], "no greeting within 3 s");
    refused(&pair, &["db2"], "db2 is still connected to db1");
    refused(&pair, &["db2"], "db3 is still connected to db1");
    refused(&pair, &["db2", "--fenced-by", "exit 7", "--yes"], "--fenced-by 'exit 7': exit status: 7");
    let kill = format!("test $INSTANT_FAILOVER_OLD = db1 && kill -KILL {}", pair.servers[DB1].pid());
    let ended = pair.run(&["failover", "db2", "--fenced-by", &kill, "--yes"]);
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    is_failed_over(&pair, DB2);
    pair.servers[DB1].kill();
    refused_twice(&pair);
}

/// Afterwards.
fn refused_twice(pair: &Pair) {
    let ended = pair.run(&["failover", "db3", "--fenced-by", "true", "--yes"]);
    assert_eq!(ended.status, Some(1), "{}", ended.text);
    assert!(ended.text.contains("a server answers at"), "{}", ended.text);
}

#[test]
fn the_one_with_everything() {
    let mut pair = three();
    let write = |number: u64| format!("INSERT INTO shop.orders VALUES (7, {number}, 1)");
    pair.sql(DB1, "DROP EVENT shop.tick");
    // db2 receives less than db3, which does not apply all that it receives.
    pair.replicated(DB1, DB2);
    pair.sql(DB2, "STOP SLAVE IO_THREAD");
    pair.sql(DB3, "STOP SLAVE SQL_THREAD");
    for number in 0..10 {
        pair.sql(DB1, &write(number));
    }
    let position = pair.value(DB1, "SELECT @@gtid_binlog_pos");
    pair.wait_for(DB3, "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'RPL_SEMI_SYNC_SLAVE_STATUS'", "ON");
    pair.servers[DB1].kill();
    refused(&pair, FENCED, &format!("db3 has received {position}, and db2 has not"));
    let three = ["db3", "--fenced-by", "true", "--yes"];
    refused(&pair, &three, "and its SQL thread does not run");
    pair.sql(DB3, "START SLAVE SQL_THREAD");
    // A server that does not answer may have more, unless the DBA knows better.
    pair.servers[DB2].kill();
    refused(&pair, &three, "db2 does not answer: it may replicate from db1");
    let ended = pair.run(&["failover", "db3", "--fenced-by", "true", "--yes", "--without", "db2"]);
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    assert!(ended.text.contains("db2 does not answer and is left out"), "{}", ended.text);
    assert_eq!(pair.value(DB3, "SELECT COUNT(*) FROM shop.orders WHERE client = 7"), "10");
    assert_eq!(pair.sql(DB3, "SELECT @@read_only, @@instant_failover_note"), [["0", ""]]);
}

/// It dies in the middle of a switchover: before the promotion, and after it.
#[test]
fn it_dies_in_a_switchover() {
    for step in ["check the fence", "redirect clients"] {
        let mut pair = Pair::start(&[]);
        let child = pair.command(&["switchover", "db1", "db2", "--yes", "--json", "--max-lag", "60"]).spawn().unwrap();
        let (ended, reached) = interrupted(child, step, |child| {
            signal(child, "-KILL");
            pair.servers[DB1].kill();
        });
        assert!(reached, "{}", ended.text);
        let resumed = pair.command(&["resume", "--yes", "--json"]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_secs(3));
        signal(&resumed, "-KILL");
        resumed.wait_with_output().unwrap();
        let ended = pair.run_elsewhere(&["failover", "db2", "--fenced-by", "true", "--yes"]);
        assert_eq!(ended.status, Some(0), "{step}: {}", ended.text);
        assert!(ended.text.contains("this takes the place of the switchover that began"), "{}", ended.text);
        let ask = "SELECT @@read_only, @@instant_failover_mode, @@instant_failover_note";
        assert_eq!(pair.sql(DB2, ask), [["0", "OFF", ""]]);
        assert_eq!(pair.sql(DB2, "SHOW ALL SLAVES STATUS"), Vec::<Vec<String>>::new());
    }
}

/// At a terminal, which `script` provides.
#[test]
fn its_name_must_be_typed() {
    let mut pair = Pair::start(&[]);
    pair.servers[DB1].kill();
    let ended = pair.run(&["failover", "db2"]);
    assert_eq!(ended.status, Some(1), "{}", ended.text);
    assert!(ended.text.contains("there is no terminal to ask at; without one, use --fenced-by"), "{}", ended.text);
    let program = env!("CARGO_BIN_EXE_instant-failover");
    let typed = |name: &str| -> Ended {
        let command = format!("{program} --servers {} failover db2", pair.servers_file().display());
        let shell =
            format!("(sleep 3; echo {name}; sleep 1) | script --quiet --return --command '{command}' /dev/null");
        let mut shell_command = Command::new("sh");
        shell_command.args(["-c", &shell]).env("XDG_STATE_HOME", pair.servers_file().parent().unwrap());
        shell_command.output().unwrap().into()
    };
    let ended = typed("db2");
    assert_eq!(ended.status, Some(1), "{}", ended.text);
    assert!(ended.text.contains("that is not db1: nothing has changed"), "{}", ended.text);
    assert_eq!(pair.value(DB2, "SELECT @@read_only"), "1");
    // Ctrl-C
    let ended = typed("\u{3}");
    assert_eq!(ended.status, Some(128 + libc::SIGINT), "{}", ended.text);
    assert_eq!(pair.sql(DB2, "SELECT @@read_only, @@instant_failover_note"), [["1", ""]]);
    let ended = typed("db1");
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    assert!(ended.text.contains("semi-sync is off at db2: what db1 acknowledged later than 0-1-"), "{}", ended.text);
    assert_eq!(pair.sql(DB2, "SELECT @@read_only, @@instant_failover_note"), [["0", ""]]);
}

/// Steps, by a part of their text.
const STEPS: &[&str] = &[
    "leave a note",
    "hold clients",
    "receive nothing more",
    "apply everything",
    "stop replication",
    "still silent",
    "mark the promotion",
    "redirect clients",
    "other replicas",
    "forget OLD",
    "remove the notes",
];

/// Killed, and then finished or undone from another machine.
fn killed_at(step: &str, goal: &str) {
    let mut pair = three();
    pair.servers[DB1].kill();
    let stand_in = stand_in(&pair);
    let mut arguments = vec!["failover", "db2", "--fenced-by", "true", "--yes", "--json"];
    let tried = pair.run(&[&arguments[..], &["--dry-run"]].concat());
    let new = if tried.status == Some(0) { DB2 } else { DB3 };
    let name = format!("db{}", new + 1);
    arguments[1] = &name;
    let child = pair.command(&arguments).spawn().unwrap();
    let (ended, reached) = interrupted(child, step, |child| signal(child, "-KILL"));
    assert!(reached, "{step}: {}", ended.text);
    let mut next = pair.run_elsewhere(&[goal, "--yes", "--json"]);
    let mut goal = goal;
    if goal == "back" && next.status == Some(1) && next.text.contains("there is no way back") {
        goal = "resume";
        next = pair.run_elsewhere(&[goal, "--yes", "--json"]);
    }
    let what = format!("{step}: {}\n{goal}: {}", ended.text, next.text);
    if next.status == Some(1) && next.text.contains("no switchover is unfinished") {
        // It was killed before the first note, or after the last, when it had gone on for a moment.
        let is_last = ended.text.contains("\"begins\":\"remove the notes");
        assert!(step == "leave a note" || is_last, "{what}");
        if is_last {
            is_failed_over(&pair, new);
        }
        return;
    }
    let mode = || stand_in.root().unwrap().query("SELECT @@instant_failover_mode").unwrap().concat().concat();
    if goal == "resume" {
        assert_eq!(next.status, Some(0), "{what}");
        is_failed_over(&pair, new);
        assert_eq!(mode(), "ON", "{what}");
    } else {
        assert_eq!(next.status, Some(3), "{what}");
        assert_eq!(pair.sql(new, "SELECT @@read_only, @@instant_failover_note"), [["1", ""]], "{what}");
        assert_eq!(mode(), "OFF", "{what}");
        // Everything goes on when the old primary is there again.
        drop(stand_in);
        pair.restart_as(DB1, false);
        for n in [DB2, DB3] {
            pair.wait_for(
                n,
                "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE = 'Waiting for master to send event'",
                "1",
            );
            pair.replicated(DB1, n);
        }
    }
}

#[test]
fn killed_on_the_way() {
    killed_at("still silent", "back");
    killed_at("redirect clients", "resume");
}

#[test]
#[ignore = "takes minutes: cargo test -p instant-failover-switchover --test it -- --ignored"]
fn killed_at_each_step() {
    for step in STEPS {
        for goal in ["resume", "back"] {
            println!("{step}, {goal}");
            killed_at(step, goal);
        }
    }
}
