//! Something else has made another server the primary, or never took these two for a primary and its replica.

use std::fs;
use std::process::Child;
use std::time::Duration;

use support::wire::Session;

use super::faults::{interrupted, signal};
use super::pair::{DB1, DB2, DB3, Ended, Pair};
use super::surprises::meanwhile;

fn three() -> Pair {
    let mut pair = Pair::start(&["--loose-instant-failover-hold-timeout=42"]);
    pair.add_third();
    // After a restart it would write on a primary that is read only: its definer may.
    pair.sql(DB1, "DROP EVENT shop.tick");
    for replica in [DB2, DB3] {
        pair.replicated(DB1, replica);
    }
    pair
}

/// A switchover from db1 to db2 that is killed while it drains.
fn killed(pair: &Pair) {
    let ended = meanwhile(pair, |child| signal(child, "-KILL"));
    assert_eq!(ended.status, None, "{}", ended.text);
}

/// A refusal, which changes nothing.
fn refused(pair: &Pair, ended: &Ended, expected: &str, writable: &[usize]) {
    assert_eq!(ended.status, Some(1), "{}", ended.text);
    assert!(ended.text.contains(expected), "{expected}: {}", ended.text);
    let answering = (0..pair.servers.len()).filter(|n| pair.servers[*n].root().is_ok());
    let found: Vec<_> = answering.filter(|n| pair.value(*n, "SELECT @@read_only") == "0").collect();
    assert_eq!(found, writable, "{}", ended.text);
}

/// A restart is seen by the time of the start, which is exact to a second.
fn wait_before_restart() {
    std::thread::sleep(Duration::from_secs(3));
}

fn both_die(pair: &mut Pair) {
    wait_before_restart();
    for n in [DB1, DB2] {
        pair.servers[n].kill();
    }
}

fn fail_over_to_db3(pair: &Pair, more: &[&str]) {
    let ended = pair.run_elsewhere(&[&["failover", "db3", "--fenced-by", "true", "--yes"], more].concat());
    assert_eq!(ended.status, Some(0), "{}", ended.text);
}

#[test]
fn replicas_of_a_third_are_no_pair() {
    let pair = three();
    for [command, old, new] in [["back", "db2", "db3"], ["resume", "db2", "db3"], ["resume", "db3", "db2"]] {
        refused(&pair, &pair.run(&[command, old, new, "--yes"]), "replicates from server 1", &[DB1]);
    }
    // These are one.
    let ended = pair.run(&["back", "db1", "db2", "--yes"]);
    assert_eq!(ended.status, Some(3), "{}", ended.text);
    // A chain.
    let port = pair.servers[DB2].address().port();
    for sql in
        ["STOP SLAVE", &format!("CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}"), "START SLAVE"]
    {
        pair.sql(DB3, sql);
    }
    pair.wait_for(
        DB3,
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE '%has read all relay log%'",
        "1",
    );
    for command in ["back", "resume"] {
        let ended = pair.run(&[command, "db2", "db3", "--yes"]);
        refused(&pair, &ended, "db2 replicates from server 1", &[DB1]);
    }
}

#[test]
fn a_switchover_by_a_failover() {
    let mut pair = three();
    killed(&pair);
    let [db1, db3] = [DB1, DB3].map(|n| pair.servers[n].address().to_string());
    pair.sql(DB2, &format!("SET GLOBAL instant_failover_target = '{db1}', instant_failover_mode = 'ON'"));
    pair.servers[DB1].kill();
    fail_over_to_db3(&pair, &[]);
    assert_eq!(pair.value(DB2, "SELECT @@instant_failover_target"), db3);
    pair.begin(DB1, &[]);
    let status = pair.run(&["status"]);
    assert!(status.text.contains("if another server is the primary by now"), "{}", status.text);
    assert!(!status.text.contains("resume db1 db2"), "{}", status.text);
    for command in ["back", "resume"] {
        refused(&pair, &pair.run(&[command, "--yes"]), "db2 replicates from server 3", &[DB3]);
        refused(&pair, &pair.run_elsewhere(&[command, "db1", "db2", "--yes"]), "db2 replicates from server 3", &[DB3]);
    }
    // Nothing but db3 itself shows it.
    for sql in ["STOP SLAVE", "RESET SLAVE ALL"] {
        pair.sql(DB2, sql);
    }
    refused(&pair, &pair.run(&["back", "--yes"]), "db3 accepts writes", &[DB3]);
    pair.stop(DB2);
    refused(&pair, &pair.run(&["back", "--yes"]), "db3 accepts writes", &[DB3]);

    // As they were told.
    pair.begin(DB2, &[]);
    fs::remove_file(pair.state_of(["db1", "db2"])).unwrap();
    let ended = pair.run(&["rejoin", "db1", "db3", "--yes"]);
    refused(&pair, &ended, "STOP SLAVE ''; RESET SLAVE '' ALL on db1, and then rejoin", &[DB3]);
    for sql in ["STOP SLAVE ''", "RESET SLAVE '' ALL"] {
        pair.sql(DB1, sql);
    }
    for name in ["db1", "db2"] {
        let ended = pair.run(&["rejoin", name, "db3", "--yes"]);
        assert_eq!(ended.status, Some(0), "{}", ended.text);
    }
    let status = pair.run(&["status"]);
    assert_eq!(status.status, Some(0), "{}", status.text);
}

/// The new primary was promoted, died, and is read only after its restart.
#[test]
fn a_promoted_one_by_a_failover() {
    let mut pair = three();
    let switchover = ["switchover", "db1", "db2", "--replica", "db3", "--yes", "--json", "--max-lag", "60"];
    let (ended, reached) = interrupted(pair.command(&switchover).spawn().unwrap(), "forget OLD", |child| {
        signal(child, "-KILL");
    });
    assert!(reached && ended.status.is_none(), "{}", ended.text);
    both_die(&mut pair);
    fail_over_to_db3(&pair, &["--without", "db1"]);
    for n in [DB1, DB2] {
        pair.begin(n, &[]);
    }
    let status = pair.run(&["status"]);
    assert!(!status.text.contains("instant-failover resume"), "{}", status.text);
    refused(&pair, &pair.run(&["resume", "db1", "db2", "--yes"]), "db3 accepts writes", &[DB3]);
    refused(&pair, &pair.run_elsewhere(&["resume", "db1", "db2", "--yes"]), "db3", &[DB3]);
}

/// The one that was promoted meanwhile has restarted, and is read only as all should be; or it is down.
#[test]
fn by_one_that_has_restarted() {
    let mut pair = three();
    killed(&pair);
    both_die(&mut pair);
    fail_over_to_db3(&pair, &["--without", "db2"]);
    pair.sql(DB3, "INSERT INTO shop.orders VALUES (7, 7, 3)");
    pair.restart(DB3);
    let failover = ["failover", "db2", "--fenced-by", "true", "--yes"];
    pair.begin(DB2, &[]);
    refused(&pair, &pair.run(&failover), "which db2 lacks, and does not replicate from db1", &[]);
    pair.begin(DB1, &[]);
    let status = pair.run(&["status"]);
    assert!(status.text.contains("db3 has 0-3-"), "{}", status.text);
    for command in ["back", "resume"] {
        refused(&pair, &pair.run(&[command, "--yes"]), "db3 has 0-3-", &[]);
    }
    pair.stop(DB3);
    for command in ["back", "resume"] {
        refused(&pair, &pair.run(&[command, "--yes"]), "db3 does not answer, and db1 or db2 has restarted since", &[]);
    }
}

/// db2 follows the one that was promoted meanwhile, but has not connected since it restarted.
#[test]
fn by_one_that_is_down() {
    let mut pair = three();
    killed(&pair);
    pair.servers[DB1].kill();
    fail_over_to_db3(&pair, &[]);
    wait_before_restart();
    for n in [DB2, DB3] {
        pair.stop(n);
    }
    for n in [DB1, DB2] {
        pair.begin(n, &[]);
    }
    let expected = format!("db2 replicates from an unknown server ({})", pair.servers[DB3].address());
    let status = pair.run(&["status"]);
    assert!(status.text.contains(&expected) && !status.text.contains("instant-failover resume"), "{}", status.text);
    for command in ["back", "resume"] {
        refused(&pair, &pair.run(&[command, "--yes"]), &expected, &[]);
    }
}

/// The command is still running when the old primary dies, and comes back after somebody has made db3 the primary.
#[test]
fn while_it_runs() {
    for step in ["wait until the sessions", "stop replication"] {
        let mut pair = three();
        let switchover = ["switchover", "db1", "db2", "--yes", "--json", "--max-lag", "60"];
        let (ended, reached) = interrupted(pair.command(&switchover).spawn().unwrap(), step, |child| {
            signal(child, "-STOP");
            pair.servers[DB1].kill();
            // db2 is worked on: it cannot be left out.
            let failover = ["failover", "db3", "--fenced-by", "true", "--yes", "--without", "db2"];
            refused(&pair, &pair.run_elsewhere(&failover), "another instant-failover is working on db2", &[]);
            for sql in ["STOP SLAVE", "SET GLOBAL read_only = 0", "INSERT INTO shop.orders VALUES (7, 7, 3)"] {
                pair.sql(DB3, sql);
            }
            pair.begin(DB1, &[]);
            signal(child, "-CONT");
        });
        assert!(reached && ended.status == Some(4), "{}", ended.text);
        assert!(ended.text.contains("db3 accepts writes: db1 is not opened"), "{}", ended.text);
        for n in [DB1, DB2] {
            assert_eq!(pair.value(n, "SELECT @@read_only"), "1", "{}", ended.text);
        }
    }
}

/// Stops the command after it has promoted db2.
fn stopped_after_the_promotion(pair: &Pair, child: &Child) {
    pair.wait_for(DB2, "SELECT @@read_only", "0");
    signal(child, "-STOP");
}

/// The same after the promotion: the new primary dies, too, and comes back read only.
#[test]
fn while_it_runs_after_the_promotion() {
    let mut pair = three();
    let switchover = ["switchover", "db1", "db2", "--yes", "--json", "--max-lag", "60", "--after-promotion", "sleep 3"];
    let (ended, reached) = interrupted(pair.command(&switchover).spawn().unwrap(), "redirect clients", |child| {
        stopped_after_the_promotion(&pair, child);
        both_die(&mut pair);
        fail_over_to_db3(&pair, &["--without", "db2"]);
        for n in [DB1, DB2] {
            pair.begin(n, &[]);
        }
        signal(child, "-CONT");
    });
    assert!(reached && ended.status == Some(4), "{}", ended.text);
    assert!(ended.text.contains("db3 accepts writes: db2 is not opened"), "{}", ended.text);
    refused(&pair, &pair.run(&["resume", "db1", "db2", "--yes"]), "db3", &[DB3]);
}

/// A server that is down is no reason not to go on, as long as no failover can have taken place; and later, the texts lead on.
#[test]
fn a_server_that_is_down() {
    for is_killed in [false, true] {
        let mut pair = three();
        pair.stop(DB3);
        let switchover =
            ["switchover", "db1", "db2", "--yes", "--json", "--max-lag", "60", "--after-promotion", "sleep 3"];
        let (ended, reached) = interrupted(pair.command(&switchover).spawn().unwrap(), "redirect clients", |child| {
            stopped_after_the_promotion(&pair, child);
            pair.wait_for(DB2, "SELECT @@gtid_binlog_pos LIKE '0-2-%'", "1");
            wait_before_restart();
            pair.restart(DB2);
            signal(child, if is_killed { "-KILL" } else { "-CONT" });
        });
        assert!(reached, "{}", ended.text);
        if is_killed {
            let expected = "db3 does not answer, and db1 or db2 has restarted since";
            refused(&pair, &pair.run(&["resume", "--yes"]), expected, &[]);
            let status = pair.run(&["status"]);
            assert!(
                status.text.contains("db3 does not answer, and may have become the primary (start it, or"),
                "{}",
                status.text
            );
            // As it says.
            pair.write_servers(|text| text.split("[db3]").next().unwrap_or_default().to_owned());
            let ended = pair.run(&["resume", "--yes"]);
            assert_eq!(ended.status, Some(0), "{}", ended.text);
        } else {
            assert_eq!(ended.status, Some(0), "{}", ended.text);
        }
        assert_eq!(pair.value(DB2, "SELECT @@read_only"), "0");
    }
}

/// The same in a failover, whose session on db3 somebody has ended.
#[test]
fn while_a_failover_runs() {
    let mut pair = three();
    pair.servers[DB1].kill();
    let failover = ["failover", "db2", "--fenced-by", "true", "--yes", "--json", "--after-promotion", "sleep 3"];
    let (ended, reached) = interrupted(pair.command(&failover).spawn().unwrap(), "still silent", |child| {
        stopped_after_the_promotion(&pair, child);
        wait_before_restart();
        pair.servers[DB2].kill();
        let holder = pair.value(DB3, "SELECT IS_USED_LOCK('instant_failover')");
        pair.sql(DB3, &format!("KILL {holder}"));
        fail_over_to_db3(&pair, &["--without", "db2"]);
        pair.begin(DB2, &[]);
        signal(child, "-CONT");
    });
    assert!(reached && ended.status == Some(3), "{}", ended.text);
    assert!(ended.text.contains("db3 accepts writes: db2 is not opened"), "{}", ended.text);
    assert_eq!(pair.value(DB2, "SELECT @@read_only"), "1", "{}", ended.text);
}

/// The new primary died later, and a failover has made the old one the primary again.
#[test]
fn by_a_failover_back() {
    let mut pair = Pair::start(&[]);
    pair.sql(DB1, "DROP EVENT shop.tick");
    pair.replicated(DB1, DB2);
    killed(&pair);
    let old_file = fs::read(pair.state_of(["db1", "db2"])).unwrap();
    let ended = pair.run(&["resume", "--yes"]);
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    pair.servers[DB2].kill();
    let ended = pair.run(&["failover", "db1", "--fenced-by", "true", "--yes"]);
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    pair.sql(DB1, "INSERT INTO shop.orders VALUES (7, 7, 3)");
    wait_before_restart();
    pair.begin(DB2, &["--skip-slave-start"]);
    pair.restart(DB1);
    let only_db1 = "only the old primary has 0-1-";
    fs::write(pair.state_of(["db1", "db2"]), old_file).unwrap();
    let status = pair.run(&["status"]);
    assert!(status.text.contains(only_db1) && !status.text.contains("instant-failover resume"), "{}", status.text);
    for command in ["resume", "back"] {
        let ended = pair.run(&[command, "db1", "db2", "--yes"]);
        assert!(ended.text.contains(only_db1), "{}", ended.text);
        for n in [DB1, DB2] {
            assert_eq!(pair.value(n, "SELECT @@read_only"), "1", "{}", ended.text);
        }
    }
    // Without the file, only the servers tell.
    let elsewhere = pair.run_elsewhere(&["resume", "db1", "db2", "--yes"]);
    assert_eq!(pair.value(DB2, "SELECT @@read_only"), "1", "{}", elsewhere.text);
}

/// The new primary has restarted, and does not know the dead one's `server_id`; another replica has received more.
#[test]
fn a_replica_that_restarted_is_not_alone() {
    for address in ["127.0.0.1", "localhost"] {
        let mut pair = three();
        let port = pair.servers[DB1].address().port();
        let change = format!("CHANGE MASTER TO MASTER_HOST = '{address}', MASTER_PORT = {port}, MASTER_DELAY = 3600");
        for sql in ["STOP SLAVE", &change, "START SLAVE"] {
            pair.sql(DB3, sql);
        }
        pair.write_servers(|text| text.replace("user = dba\n", "user = dba\ncluster = shop\n"));
        pair.stop(DB2);
        pair.sql(DB1, "INSERT INTO shop.orders VALUES (7, 7, 1)");
        let last = pair.value(DB1, "SELECT @@gtid_binlog_pos");
        let received =
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting until MASTER_DELAY%'";
        pair.wait_for(DB3, received, "1");
        pair.servers[DB1].kill();
        pair.begin(DB2, &[]);
        let ended = pair.run(&["failover", "db2", "--fenced-by", "true", "--yes"]);
        let expected = match address {
            "127.0.0.1" => format!("db3 has received {last}, and db2 has not"),
            _ => "db3 replicates from a server that may be db1, at another address".to_owned(),
        };
        refused(&pair, &ended, &expected, &[]);
    }
}

/// One that replicates from nobody any more, and has what the replica lacks.
#[test]
fn what_others_have_is_not_lost() {
    let mut pair = three();
    pair.sql(DB2, "STOP SLAVE IO_THREAD");
    pair.sql(DB1, "INSERT INTO shop.orders VALUES (7, 7, 1)");
    let last = pair.value(DB1, "SELECT @@gtid_binlog_pos");
    pair.replicated(DB1, DB3);
    for sql in ["STOP SLAVE", "RESET SLAVE ALL"] {
        pair.sql(DB3, sql);
    }
    pair.servers[DB1].kill();
    let failover = ["failover", "db2", "--fenced-by", "true", "--yes"];
    refused(&pair, &pair.run(&failover), &format!("db3 has {last}, which db2 lacks"), &[]);
    let ended = pair.run(&[&failover[..], &["--without", "db3"]].concat());
    assert_eq!(ended.status, Some(0), "{}", ended.text);
}

/// It lagged when it was promoted: the numbers of its transactions are used twice.
#[test]
fn by_one_that_had_lagged() {
    let mut pair = three();
    pair.sql(DB3, "STOP SLAVE IO_THREAD");
    for number in 0..6 {
        pair.sql(DB1, &format!("INSERT INTO shop.orders VALUES (8, {number}, 1)"));
    }
    pair.replicated(DB1, DB2);
    killed(&pair);
    both_die(&mut pair);
    pair.sql(DB3, "START SLAVE IO_THREAD");
    fail_over_to_db3(&pair, &["--without", "db2"]);
    pair.sql(DB3, "INSERT INTO shop.orders VALUES (7, 7, 3)");
    pair.restart(DB3);
    for n in [DB1, DB2] {
        pair.begin(n, &[]);
    }
    for command in ["back", "resume"] {
        refused(&pair, &pair.run(&[command, "--yes"]), "db3 has 0-3-", &[]);
    }
}

/// A transaction of its own makes no primary of a replica.
#[test]
fn not_by_a_replica() {
    let pair = three();
    killed(&pair);
    pair.sql(DB3, "INSERT INTO shop.orders VALUES (7, 7, 3)");
    let ended = pair.run(&["back", "--yes"]);
    assert_eq!(ended.status, Some(3), "{}", ended.text);
    // It would follow, and nobody would notice.
    let ended = pair.run(&["switchover", "db1", "db2", "--replica", "db3", "--yes", "--max-lag", "60"]);
    refused(&pair, &ended, "db3 (--replica) has transactions that db1 lacks, up to 0-3-", &[DB1]);
}

#[test]
fn a_failover_by_another_one() {
    let mut pair = three();
    pair.servers[DB1].kill();
    let first = ["failover", "db2", "--fenced-by", "true", "--yes", "--json"];
    let (ended, reached) = interrupted(pair.command(&first).spawn().unwrap(), "apply everything", |child| {
        signal(child, "-KILL");
    });
    assert!(reached && ended.status.is_none(), "{}", ended.text);
    pair.servers[DB2].kill();
    fail_over_to_db3(&pair, &["--without", "db2"]);
    wait_before_restart();
    pair.restart(DB2);
    for command in ["back", "resume"] {
        refused(&pair, &pair.run(&[command, "--yes"]), "db3 accepts writes", &[DB3]);
    }
}

/// It may take long to see that it does not answer, but that is not tried again before each step.
#[test]
#[ignore = "takes half a minute: cargo test -p instant-failover-switchover --test it -- --ignored"]
fn a_server_that_hangs_is_left_out() {
    let mut pair = three();
    pair.servers[DB1].kill();
    pair.servers[DB2].signal(libc::SIGSTOP);
    let ended = pair.run(&["failover", "db3", "--fenced-by", "true", "--yes", "--without", "db2"]);
    pair.servers[DB2].signal(libc::SIGCONT);
    assert_eq!(ended.status, Some(0), "{}", ended.text);
}

/// Another cluster, whose primary happens to have the same `server_id`.
#[test]
fn replicas_of_another_cluster_are_left_alone() {
    let mut pair = three();
    let clusters = |of_third: &'static str| {
        move |text: String| {
            let group = |name: &str, cluster: &str| (format!("[{name}]\n"), format!("[{name}]\n{cluster}"));
            let groups = [group("db1", "cluster = shop\n"), group("db2", "cluster = shop\n"), group("db3", of_third)];
            groups.into_iter().fold(text, |text, (from, to)| text.replace(&from, &to))
        }
    };
    pair.write_servers(clusters("cluster = stock\n"));
    for command in ["check", "prepare", "switchover", "resume", "back", "rejoin"] {
        let ended = pair.run(&[command, "db1", "db3"]);
        assert_eq!(ended.status, Some(2), "{}", ended.text);
        assert!(ended.text.contains("different values of cluster"), "{}", ended.text);
    }
    let all = pair.run(&["check", "--all", "--max-lag", "60"]);
    assert!(all.text.contains("db1 -> db2") && !all.text.contains("db3"), "{}", all.text);
    let ended = pair.run(&["switchover", "db1", "db2", "--replica", "db3", "--yes", "--max-lag", "60"]);
    refused(&pair, &ended, "db3 (--replica) does not replicate from db1, but from server 1", &[DB1]);
    // It is said of one of them alone, and the address is another one.
    let port = pair.servers[DB1].address().port();
    for sql in
        ["STOP SLAVE", &format!("CHANGE MASTER TO MASTER_HOST = 'localhost', MASTER_PORT = {port}"), "START SLAVE"]
    {
        pair.sql(DB3, sql);
    }
    pair.replicated(DB1, DB3);
    pair.write_servers(clusters(""));
    pair.servers[DB1].kill();
    let failover = ["failover", "db2", "--fenced-by", "true", "--yes"];
    refused(&pair, &pair.run(&failover), "at another address than db1 has in the file", &[]);
    pair.write_servers(clusters("cluster = stock\n"));
    let ended = pair.run(&failover);
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    assert_eq!(pair.sql(DB3, "SHOW SLAVE STATUS")[0][1], "localhost");
    assert!(!ended.text.contains("db3"), "{}", ended.text);
}

#[test]
fn a_replica_that_is_writable_is_not_the_primary() {
    let pair = Pair::start(&[]);
    pair.sql(DB2, "SET GLOBAL read_only = 0");
    let ended = pair.run(&["rejoin", "db1", "db2", "--yes"]);
    refused(&pair, &ended, "it is not clear which is the primary", &[DB1, DB2]);
}

#[test]
fn a_replica_without_its_primary() {
    let mut pair = Pair::start(&[]);
    pair.servers[DB1].kill();
    pair.wait_for(DB2, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Reconnecting%'", "1");
    let status = pair.run(&["status"]);
    assert!(status.text.contains("replicates from server 1 (NOT CONNECTED)"), "{}", status.text);
    assert!(status.text.contains("db2 is not connected to server 1 at 127.0.0.1:"), "{}", status.text);
}

/// A power cut of all: no server has its note, and only the file tells what was going on.
#[test]
fn the_notes_are_gone() {
    let mut pair = Pair::start(&[]);
    let switchover = ["switchover", "db1", "db2", "--yes", "--json", "--max-lag", "60"];
    let (ended, reached) = interrupted(pair.command(&switchover).spawn().unwrap(), "redirect clients", |child| {
        signal(child, "-KILL");
    });
    assert!(reached && ended.status.is_none(), "{}", ended.text);
    wait_before_restart();
    for n in [DB1, DB2] {
        pair.restart(n);
    }
    let unfinished = "unfinished switchover from db1 to db2";
    let status = pair.run(&["status"]);
    assert!(status.text.contains(unfinished), "{}", status.text);
    let elsewhere = pair.run_elsewhere(&["status"]);
    assert!(elsewhere.text.contains("db1 and db2 are both read only"), "{}", elsewhere.text);
    let ended = pair.run(&["resume", "--yes"]);
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    pair.is_switched();
    let status = pair.run(&["status"]);
    assert!(!status.text.contains(unfinished), "{}", status.text);
}

/// What holds at db1 for its mode HOLD.
fn hold_timeout(session: &mut Session) -> String {
    session.query("SELECT @@instant_failover_hold_timeout").unwrap().concat().concat()
}

#[test]
fn it_goes_back_without_the_new_primary() {
    let mut pair = Pair::start(&["--loose-instant-failover-hold-timeout=42"]);
    killed(&pair);
    // HOLD ends by itself.
    pair.wait_for(DB1, "SELECT @@instant_failover_mode", "OFF");
    let mut root = pair.root(DB1);
    assert_ne!(hold_timeout(&mut root), "42");
    pair.stop(DB2);
    let ended = pair.run(&["back", "--yes"]);
    assert_eq!(ended.status, Some(4), "{}", ended.text);
    assert!(ended.text.contains("SET GLOBAL instant_failover_note = ''"), "{}", ended.text);
    assert_eq!(hold_timeout(&mut root), "42");
    assert_eq!(pair.value(DB1, "SELECT @@read_only"), "0");
    pair.begin(DB2, &[]);
    pair.is_as_before();
}
