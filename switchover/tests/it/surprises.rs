//! What somebody else does meanwhile.

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use support::wire::{Client, Session};

use super::faults::{interrupted, signal};
use super::pair::{DB1, DB2, Ended, PASSWORD, Pair};

/// A transaction that keeps the command waiting.
fn transaction(pair: &Pair) -> Session {
    let client = Client::connect(pair.servers[DB1].address()).unwrap();
    let mut open = client.log_in_by_password("app", PASSWORD).unwrap().session().unwrap();
    open.query("BEGIN").unwrap();
    open.query("SELECT * FROM shop.orders").unwrap();
    open
}

/// While the command waits for a transaction, something happens.
pub(crate) fn meanwhile(pair: &Pair, happens: impl FnOnce(&Child)) -> Ended {
    let open = transaction(pair);
    let arguments =
        ["switchover", "db1", "db2", "--yes", "--json", "--max-lag", "60", "--max-pause", "20", "--attempts", "1"];
    let child = pair.command(&arguments).spawn().unwrap();
    let mut happens = Some((happens, open));
    let (ended, reached) = interrupted(child, "wait until the sessions", |child| {
        if let Some((happens, open)) = happens.take() {
            happens(child);
            drop(open);
        }
    });
    assert!(reached, "{}", ended.text);
    ended
}

/// Without that of the old primary, clients are neither held nor redirected; that of the new one is not needed yet.
#[test]
fn a_plugin_is_unloaded() {
    let pair = Pair::start(&[]);
    for (n, status) in [(DB1, 3), (DB2, 0)] {
        let ended = meanwhile(&pair, |_| drop(pair.sql(n, "UNINSTALL SONAME 'instant_failover'")));
        assert_eq!(ended.status, Some(status), "{}", ended.text);
        assert!(!ended.text.contains("does not answer"), "{}", ended.text);
        pair.sql(n, "INSTALL SONAME 'instant_failover'");
        pair.sql(n, "SET GLOBAL instant_failover_exempt_users = 'repl,dba,root'");
        if status == 0 { pair.is_switched() } else { pair.is_as_before() }
    }
}

#[test]
fn an_event_is_under_way() {
    let pair = Pair::start(&[]);
    an_event_does_not_end_later(&pair, &[]);
    pair.is_switched();
}

/// It would write on the old primary once the lock is released: `read_only` does not stop root.
pub(crate) fn an_event_does_not_end_later(pair: &Pair, more: &[&str]) {
    const SECONDS: u64 = 20;
    let event = format!(
        "CREATE EVENT shop.slow ON SCHEDULE EVERY 1 DAY DO BEGIN DO SLEEP({SECONDS}); \
         INSERT INTO shop.orders VALUES (900001, 1, @@server_id); END"
    );
    pair.root(DB1).query(&event).unwrap();
    let began = Instant::now();
    pair.wait_for(DB1, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'DO SLEEP%'", "1");
    let ended = pair.run_patiently(&[&["switchover", "db1", "db2", "--yes"], more].concat());
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    // Without a way back, db1 does not replicate.
    if more.is_empty() {
        pair.is_switched();
    }
    // It is over, and has done nothing.
    pair.wait_for(DB1, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'DO SLEEP%'", "0");
    assert!(began.elapsed() < Duration::from_secs(SECONDS), "the switchover took too long to tell");
    assert_eq!(pair.sql(DB1, "SELECT COUNT(*) FROM shop.orders WHERE client = 900001"), [["0"]]);
}

/// As a backup does. Once the server is the primary, no client could write to it until that has ended.
#[test]
fn the_new_primary_is_locked() {
    let pair = Pair::start(&[]);
    // It would wait for what the event writes, and not come to the promotion.
    pair.sql(DB1, "DROP EVENT shop.tick");
    pair.replicated(DB1, DB2);
    let mut backup = pair.root(DB2);
    let lock = "FLUSH TABLES WITH READ LOCK";
    backup.query(lock).unwrap();
    let checked = pair.run_patiently(&["check", "db1", "db2"]);
    assert_eq!(checked.status, Some(1), "{}", checked.text);
    assert!(checked.text.contains("db2: a session has locked all tables"), "{}", checked.text);
    backup.query("UNLOCK TABLES").unwrap();
    let ended = meanwhile(&pair, |_| drop(backup.query(lock).unwrap()));
    assert_eq!(ended.status, Some(3), "{}", ended.text);
    assert!(ended.text.contains("db2: a session has locked all tables"), "{}", ended.text);
    backup.query("UNLOCK TABLES").unwrap();
    pair.is_as_before();
}

/// The servers have notes, which are enough.
#[test]
fn the_file_with_the_state_is_damaged() {
    let pair = Pair::start(&[]);
    let ended = meanwhile(&pair, |child| signal(child, "-KILL"));
    assert_eq!(ended.status, None, "{}", ended.text);
    let file = pair.state_of(["db1", "db2"]);
    fs::write(&file, "{").unwrap();
    for arguments in [&["resume", "--yes"][..], &["back", "db1", "db2", "--yes"], &["switchover", "db1", "db2"]] {
        let refused = pair.run(arguments);
        assert_eq!(refused.status, Some(1), "{}", refused.text);
        for expected in [file.to_str().unwrap(), "if it is damaged, remove it"] {
            assert!(refused.text.contains(expected), "{}", refused.text);
        }
    }
    fs::remove_file(&file).unwrap();
    let back = pair.run(&["back", "--yes"]);
    assert_eq!(back.status, Some(3), "{}", back.text);
    pair.is_as_before();
    // Nothing has judged this pair.
    let refused = pair.run(&["resume", "db1", "db2", "--yes"]);
    assert_eq!(refused.status, Some(1), "{}", refused.text);
    assert!(refused.text.contains("nothing is unfinished: instant-failover switchover db1 db2"), "{}", refused.text);
    pair.is_as_before();
}

/// Promoted, and not yet redirected.
fn promoted() -> Pair {
    let pair = Pair::start(&[]);
    pair.sql(DB1, "DROP EVENT shop.tick");
    pair.sql(DB1, "SET GLOBAL read_only = 1, instant_failover_hold_timeout = 600, instant_failover_mode = 'OFF'");
    pair.replicated(DB1, DB2);
    pair.sql(DB2, "STOP SLAVE");
    pair.sql(DB2, "SET GLOBAL read_only = 0");
    pair
}

/// The account that is exempt, and that `read_only` does not stop, is not exempt any longer.
fn is_closed(pair: &Pair, resumed: &Ended) {
    assert_eq!(resumed.status, Some(0), "{}", resumed.text);
    assert!(resumed.text.contains("No longer exempt on db1"), "{}", resumed.text);
    pair.is_switched();
    assert_eq!(pair.value(DB1, "SELECT @@instant_failover_exempt_users"), "repl,dba");
}

/// Neither in a file nor in a note: what the servers show decides, and what the file with the servers says.
#[test]
fn nothing_is_written_down_after_the_promotion() {
    let pair = promoted();
    is_closed(&pair, &pair.run(&["resume", "db1", "db2", "--yes"]));
    assert_eq!(pair.value(DB1, "SELECT @@instant_failover_hold_timeout"), "10");
}

/// There are more exempt users than fit into it.
#[test]
fn a_note_is_too_short() {
    let pair = promoted();
    let note = "instant-failover switchover id=1 old=db1/1/0 new=db2/2/0 promoting=1 all=0 hold=1 reverse=1 was-read-only=0 \
                had-events=1 had-reverse=0 had-hold-timeout=20";
    pair.sql(DB1, &format!("SET GLOBAL instant_failover_note = '{note}'"));
    is_closed(&pair, &pair.run(&["resume", "--yes"]));
    assert_eq!(pair.value(DB1, "SELECT @@instant_failover_hold_timeout"), "20");
}

#[test]
fn a_former_primary_joins_again() {
    let pair = promoted();
    is_closed(&pair, &pair.run(&["rejoin", "db1", "db2", "--yes"]));
}
