//! From beginning to end.

use super::application::{Application, Procedures};
use super::pair::{DB1, DB2, DB3, Pair};

#[test]
fn there_and_back_again() {
    for threads in ["one-thread-per-connection", "pool-of-threads"] {
        let pair = Pair::start(&[&format!("--thread-handling={threads}")]);
        let application = Application::start(&pair, Procedures::Yes);
        application.writes(200);
        let checked = pair.run_patiently(&["check", "db1", "db2"]);
        assert_eq!(checked.status, Some(0), "{}", checked.text);
        application.errors();
        let switched = pair.run_patiently(&["switchover", "db1", "db2", "--yes"]);
        println!("{}", switched.text);
        assert_eq!(switched.status, Some(0), "{}", switched.text);
        assert!(!switched.text.contains("other replicas"), "{}", switched.text);
        application.writes(200);
        let errors = application.errors();
        println!("{threads}: {} errors: {errors:#?}", errors.len());
        pair.is_switched();
        application.nothing_is_lost(&pair, DB2);

        let back = pair.run_patiently(&["switchover", "db2", "db1", "--yes"]);
        assert_eq!(back.status, Some(0), "{}", back.text);
        application.writes(200);
        println!("{threads}: {} errors", application.errors().len());
        application.nothing_is_lost(&pair, DB1);
        application.end();
        let status = pair.run(&["status"]);
        assert_eq!(status.status, Some(0), "{}", status.text);
    }
}

/// Users that are exempt and may write in spite of `read_only` do not write to the old primary behind the switchover's back.
#[test]
fn exempt_users_that_may_always_write() {
    let pair = Pair::start(&["--loose-instant-failover-exempt-users=repl,dba,ops"]);
    pair.sql(DB1, "CREATE USER ops IDENTIFIED BY 'open sesame'");
    pair.sql(DB1, "CREATE ROLE keeper");
    pair.sql(DB1, "GRANT READ ONLY ADMIN, INSERT, SELECT ON *.* TO keeper");
    pair.sql(DB1, "GRANT keeper TO ops");
    pair.sql(DB1, "SET DEFAULT ROLE keeper FOR ops");
    let application = Application::start_as(&pair, "ops");
    application.writes(50);
    let switched = pair.run_patiently(&["switchover", "db1", "db2", "--yes"]);
    assert_eq!(switched.status, Some(0), "{}", switched.text);
    assert!(
        switched.text.contains("No longer exempt on db1, because they may write in spite of read_only: ops"),
        "{}",
        switched.text
    );
    application.writes(50);
    application.nothing_is_lost(&pair, DB2);
    assert_eq!(pair.value(DB1, "SELECT @@instant_failover_exempt_users"), "repl,dba");
    pair.is_switched();
    application.end();
}

#[test]
fn status_shows_what_is_wrong() {
    let mut pair = Pair::start(&[]);
    let shows = |pair: &Pair, status: i32, expected: &str| {
        let ended = pair.run(&["status"]);
        assert_eq!(ended.status, Some(status), "{expected}: {}", ended.text);
        assert!(ended.text.contains(expected), "{expected}: {}", ended.text);
        let json = pair.run(&["status", "--json"]);
        for line in json.text.lines() {
            assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
        }
    };
    shows(&pair, 0, "server 1, PRIMARY, accepts writes, mode OFF");
    pair.sql(DB1, "SET GLOBAL instant_failover_mode = HOLD, instant_failover_hold_timeout = 60");
    shows(&pair, 1, "db1 holds clients, and no instant-failover is working on it");
    pair.sql(DB1, "SET GLOBAL instant_failover_mode = OFF, instant_failover_hold_timeout = 10");
    pair.sql(DB1, "SET GLOBAL instant_failover_exempt_users = 'dba'");
    shows(&pair, 1, "repl, the user of replication, is not exempt on db1");
    pair.sql(DB1, "SET GLOBAL instant_failover_exempt_users = 'repl,dba,root'");
    pair.sql(DB2, "STOP SLAVE");
    shows(&pair, 1, "replication has stopped on db2");
    pair.sql(DB2, "START SLAVE");
    pair.sql(DB1, "SET GLOBAL read_only = 1");
    shows(&pair, 1, "db1 and db2 are both read only");
    pair.sql(DB1, "SET GLOBAL read_only = 0");
    let [one, other] = [DB1, DB2].map(|n| pair.servers[n].address());
    pair.sql(DB1, &format!("SET GLOBAL instant_failover_target = '{other}', instant_failover_mode = ON"));
    pair.sql(DB2, &format!("SET GLOBAL instant_failover_target = '{one}', instant_failover_mode = ON"));
    shows(&pair, 1, "A CIRCLE: db1 and db2 redirect to each other");
    for n in [DB1, DB2] {
        pair.sql(n, "SET GLOBAL instant_failover_mode = OFF, instant_failover_target = ''");
    }
    pair.is_as_before();
    pair.sql(DB2, "SET GLOBAL read_only = 0");
    shows(&pair, 1, "TWO PRIMARIES: db1 and db2 both accept writes");
    pair.sql(DB2, "STOP SLAVE");
    pair.sql(DB2, "FLUSH HOSTS");
    pair.sql(DB2, "SET GLOBAL read_only = 1");
    shows(&pair, 1, "only db2 has 0-2-");
    pair.sql(DB2, "SET GLOBAL read_only = 0");
    pair.sql(DB1, "FLUSH HOSTS");
    shows(&pair, 1, "DIVERGED: only db1 has 0-1-");
    // Neither command changes anything then.
    for command in ["resume", "back"] {
        let ended = pair.run(&[command, "db1", "db2", "--yes"]);
        assert_eq!(ended.status, Some(4), "{}", ended.text);
        assert!(ended.text.contains("two primaries"), "{}", ended.text);
    }
    assert_eq!([DB1, DB2].map(|n| pair.value(n, "SELECT @@read_only")), ["0", "0"]);
    pair.servers[DB2].kill();
    shows(&pair, 1, "db2 does not answer");
}

#[test]
fn a_former_primary_rejoins() {
    let mut pair = Pair::start(&[]);
    let switched = pair.run_patiently(&["switchover", "db1", "db2", "--yes"]);
    assert_eq!(switched.status, Some(0), "{}", switched.text);
    let ended = pair.run(&["rejoin", "db2", "db1", "--yes"]);
    assert_eq!(ended.status, Some(1), "{}", ended.text);
    assert!(ended.text.contains("the names look swapped: db2 accepts writes"), "{}", ended.text);

    // It comes back as an old option file has it: a second primary.
    pair.sql(DB1, "STOP SLAVE");
    pair.sql(DB1, "RESET SLAVE ALL");
    pair.restart(DB1);
    pair.sql(DB1, "SET GLOBAL read_only = 0");
    let ended = pair.run(&["rejoin", "db1", "db2", "--yes"]);
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    pair.is_switched();

    // With a write of its own, it is left alone.
    pair.sql(DB1, "STOP SLAVE");
    pair.sql(DB1, "SET GLOBAL read_only = 0");
    pair.sql(DB1, "INSERT INTO shop.orders VALUES (8, 8, 8)");
    let position = pair.value(DB1, "SELECT @@gtid_binlog_pos");
    let ended = pair.run(&["rejoin", "db1", "db2", "--yes"]);
    assert_eq!(ended.status, Some(1), "{}", ended.text);
    assert!(ended.text.contains(&position), "{position}: {}", ended.text);
    assert_eq!(pair.value(DB1, "SELECT @@read_only"), "0");
}

/// Half way, everything looks wrong, and all that is said is how to end it.
#[test]
fn half_done() {
    let mut pair = Pair::start(&[]);
    pair.add_third();
    let began = |more: &[&str], mode: &str, until: &[(usize, &str)]| {
        let arguments = ["switchover", "db1", "db2", "--yes", "--json", "--max-lag", "60"];
        let mut child = pair.command(&[&arguments, more].concat()).spawn().unwrap();
        pair.wait_for(DB1, "SELECT @@instant_failover_mode", mode);
        child.kill().unwrap();
        child.wait().unwrap();
        pair.wait_for(DB1, "SELECT IS_USED_LOCK('instant_failover') IS NULL", "1");
        for (server, sql) in until {
            pair.sql(*server, sql);
        }
        let status = pair.run(&["status"]);
        assert_eq!(status.status, Some(1), "{}", status.text);
        for other in ["promoting=", "replication has stopped", "both read only", "is working on it: connection"] {
            assert!(!status.text.contains(other), "{other}: {}", status.text);
        }
        assert_eq!(status.text.matches("instant-failover resume db1 db2").count(), 1, "{}", status.text);
        for names in [&["db1", "db2"][..], &["db2", "db1"], &["--all"]] {
            let checked = pair.run(&[&["check"], names].concat());
            assert_eq!(checked.status, Some(1), "{}", checked.text);
            assert!(checked.text.contains("FAILURE  unfinished  switchover from db1 to db2"), "{}", checked.text);
            assert!(!checked.text.contains("SET GLOBAL") && !checked.text.contains("START SLAVE"), "{}", checked.text);
        }
        status.text
    };
    let mut open = pair.application();
    open.query("BEGIN").unwrap();
    open.query("INSERT INTO shop.orders VALUES (5, 5, 5)").unwrap();
    // It waits for the transaction. What comes after that lasts for a moment only.
    let status = began(&["--max-pause", "600"], "HOLD", &[(DB1, "SET GLOBAL read_only = 1"), (DB2, "STOP SLAVE")]);
    open.query("ROLLBACK").unwrap();
    assert!(status.contains(": stopped: both servers are read only"), "{status}");
    assert!(status.contains("instant-failover back db1 db2"), "{status}");
    let back = pair.run(&["back", "--yes"]);
    assert_eq!(back.status, Some(3), "{}", back.text);
    pair.is_as_before();
    // Who resumes it does not have to know of db3.
    let status = began(&["--after-promotion", "sleep 3", "--replica", "db3"], "ON", &[]);
    assert!(status.contains("ed: the new primary is promoted, "), "{status}");
    assert!(!status.contains("back db1 db2"), "{status}");
    let without = |text: String| text.split("[db3]").next().unwrap_or_default().to_owned();
    pair.write_servers(without);
    let resumed = pair.run_elsewhere(&["resume", "--json"]);
    assert!(resumed.text.contains("db3, which was to follow db2, has no group in the file"), "{}", resumed.text);
    pair.write_servers(|text| text);
    let resumed = pair.run(&["resume", "--yes"]);
    assert_eq!(resumed.status, Some(0), "{}", resumed.text);
    pair.is_switched();
    let source = pair.servers[DB2].address().port().to_string();
    assert!(pair.sql(DB3, "SHOW SLAVE STATUS").concat().contains(&source), "{}", resumed.text);

    // A replica that was reset.
    pair.sql(DB1, "STOP SLAVE");
    pair.sql(DB1, "RESET SLAVE ALL");
    let status = pair.run(&["status"]);
    assert_eq!(status.status, Some(1), "{}", status.text);
    assert!(status.text.contains("db1 is read only, and replicates from no server"), "{}", status.text);
    pair.sql(DB1, "CREATE DATABASE only_here");
    let status = pair.run(&["status"]);
    assert!(status.text.contains("DIVERGED: only db1 has"), "{}", status.text);
}
