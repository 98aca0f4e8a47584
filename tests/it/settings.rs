//! The settings: both servers accept the same values and refuse the same values with the same errors.

use std::collections::BTreeSet;

use support::wire::{Error, Session};

use crate::both::{MariaDb, PASSWORD, Standalone, UnderTest, log_in};

type Rows = Vec<Vec<String>>;

/// The result of a statement: its rows and warnings, or its error.
fn outcome(session: &mut Session, sql: &str) -> Result<[Rows; 2], Error> {
    let rows = session.query(sql).map_err(|error| error.downcast::<Error>().unwrap())?;
    Ok([rows, session.query("SHOW WARNINGS").unwrap()])
}

/// Every `SET GLOBAL` with literal values in the MTR suite.
fn statements_of_the_suite() -> BTreeSet<String> {
    let suite = support::project_root().join("mysql-test/instant_failover/t");
    let tests = std::fs::read_dir(suite).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    let is_ours = |line: &&str| {
        let words_of_the_server = ["@", "$", "CONCAT", "CONVERT", "_binary", "0x", "max_", "require_"];
        line.starts_with("SET GLOBAL instant_failover_")
            && line.ends_with(';')
            && !words_of_the_server.iter().any(|word| line.contains(word) && !line.contains("root@"))
    };
    tests
        .flat_map(|test| {
            test.lines().filter(is_ours).map(|line| line.trim_end_matches(';').to_owned()).collect::<Vec<_>>()
        })
        .collect()
}

/// Each variable with its longest value, and with a value that is too long by one.
fn at_the_bounds() -> Vec<String> {
    let name = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
    let list = |entry: &str, times| vec![entry; times].join(",");
    [
        ("target", [name.clone() + ":65535", name.clone() + ":655350"]),
        ("target", [name.clone(), name + "b"]),
        ("message", ["x".repeat(511), "x".repeat(512)]),
        ("message", ["\u{20ac}".repeat(170), "\u{20ac}".repeat(171)]),
        ("exempt_users", ["\u{e9}".repeat(128), "\u{e9}".repeat(129)]),
        ("exempt_users", [list("u", 5000), list("u", 5001)]),
        ("exempt_hosts", [list("10.0.0.0/8", 5000), list("::1", 5001)]),
        ("note", ["\u{20ac}".repeat(400), "\u{20ac}".repeat(401)]),
    ]
    .into_iter()
    .flat_map(|(name, values)| values.map(|value| format!("SET GLOBAL instant_failover_{name} = '{value}'")))
    .collect()
}

#[test]
fn statements_do_the_same_on_both() {
    let (mariadb, standalone) = (MariaDb::start(&[]), Standalone::start(&[]));
    let (mut one, mut other) = (mariadb.root(), standalone.root());
    for session in [&mut one, &mut other] {
        session.query("SET NAMES utf8mb4").unwrap();
    }
    let suite = statements_of_the_suite();
    assert!(suite.len() > 80, "{}", suite.len());
    let more = [
        "SET @@global.instant_failover_target = 'db5', @@global.instant_failover_mode = 'on'",
        "SET GLOBAL instant_failover_mode = OFF, GLOBAL instant_failover_target = ''",
        "SET GLOBAL instant_failover_target := 'db6'",
        "SET instant_failover_mode = ON",
        "SET SESSION instant_failover_target = 'x'",
        "SET @@instant_failover_message = 'x'",
        "SET GLOBAL instant_failover_nothing = 1",
        "SET GLOBAL instant_failover_mode = HOLD",
        "SET GLOBAL instant_failover_mode = HOLD, instant_failover_drain = ON",
        "SET GLOBAL instant_failover_drain = ON",
        "SET GLOBAL instant_failover_drain = TRUE",
        "SET GLOBAL instant_failover_drain = 'on'",
        "SET GLOBAL instant_failover_drain = 1",
        "SET GLOBAL instant_failover_drain = OFF",
        "SET GLOBAL instant_failover_drain = DEFAULT",
        "SET GLOBAL instant_failover_drain = 2",
        "SET GLOBAL instant_failover_drain = -1",
        "SET GLOBAL instant_failover_drain = 'maybe'",
        "SET GLOBAL instant_failover_drain = ''",
        "SET GLOBAL instant_failover_drain = NULL",
        "SET GLOBAL instant_failover_drain = 1.5",
        "SET GLOBAL instant_failover_mode = ON, instant_failover_drain = ON, instant_failover_mode = OFF",
        "SET GLOBAL instant_failover_hold_timeout = 3600",
        "SET GLOBAL instant_failover_hold_timeout = 1",
        "SET GLOBAL instant_failover_hold_timeout = DEFAULT",
        "SET GLOBAL instant_failover_hold_timeout = 0",
        "SET GLOBAL instant_failover_hold_timeout = 3601",
        "SET GLOBAL instant_failover_hold_timeout = -1",
        "SET GLOBAL instant_failover_hold_timeout = 4294967297",
        "SET GLOBAL instant_failover_hold_timeout = '20'",
        "SET GLOBAL instant_failover_hold_timeout = ON",
        "SET GLOBAL instant_failover_hold_timeout = NULL",
        "SET GLOBAL instant_failover_hold_timeout = 1.5",
        "SET GLOBAL instant_failover_note = 'step 3, by ann'",
        "SET GLOBAL instant_failover_note = DEFAULT",
        "SET GLOBAL instant_failover_note = NULL",
        "SET GLOBAL instant_failover_note = 3",
        "SET GLOBAL instant_failover_note = 'two\nlines'",
        "SELECT @@global.instant_failover_hold_timeout, @@instant_failover_drain, @@instant_failover_note",
        "SELECT @@global.instant_failover_mode, @@instant_failover_target",
        "SELECT @@session.instant_failover_mode",
        "SHOW GLOBAL VARIABLES LIKE 'instant%'",
        "SHOW VARIABLES WHERE Variable_name = 'instant_failover_message'",
    ];
    let more = more.map(str::to_owned).into_iter().chain(at_the_bounds());
    for sql in &suite.iter().cloned().chain(more).collect::<Vec<_>>() {
        for mode in ["OFF", "ON"] {
            let show = |session: &mut Session| {
                let mut rows = session.query("SHOW GLOBAL VARIABLES LIKE 'instant_failover_%'").unwrap();
                // mariadbd truncates values at this length here.
                rows.iter_mut().flatten().for_each(|text| text.truncate(2048));
                // It repeats the warning about that until a statement with a table.
                session.query("SHOW GLOBAL STATUS LIKE 'none'").unwrap();
                rows
            };
            let [(first, before), (second, _)] = [&mut one, &mut other].map(|session| {
                // Both start from the same state.
                session.query("SET GLOBAL instant_failover_mode = OFF").unwrap();
                session
                    .query("SET GLOBAL instant_failover_target = 'db2', instant_failover_message = DEFAULT")
                    .unwrap();
                session.query(&format!("SET GLOBAL instant_failover_mode = {mode}")).unwrap();
                // mariadbd keeps what it had to say until a statement with a table.
                session.query("SHOW GLOBAL STATUS LIKE 'none'").unwrap();
                let outcome = outcome(session, sql);
                (outcome, show(session))
            });
            assert_eq!(second, first, "{mode}: {sql}");
            assert_eq!(show(&mut other), before, "{mode}: {sql}");
        }
    }
}

#[test]
fn only_administrators_change_anything() {
    for change in ["SET GLOBAL instant_failover_mode = OFF", "SET GLOBAL instant_failover_target = 'x'"] {
        let (mariadb, standalone) = (MariaDb::start(&[]), Standalone::start(&[]));
        let refused = |server: &dyn Fn() -> Session| {
            let error = server().query(change).unwrap_err().downcast::<Error>().unwrap();
            (error.code, error.state)
        };
        let session =
            |server: &MariaDb| crate::both::answer(crate::both::greeted(server), "app", PASSWORD).session().unwrap();
        let other =
            |server: &Standalone| crate::both::answer(crate::both::greeted(server), "app", PASSWORD).session().unwrap();
        assert_eq!(refused(&|| session(&mariadb)), refused(&|| other(&standalone)));
    }
}

/// The same logins result in the same counters.
#[test]
fn the_counters_agree() {
    fn numbers<S: UnderTest>() -> Vec<Vec<String>> {
        let server = S::start(&[]);
        let mut root = server.root();
        root.query("SET GLOBAL instant_failover_exempt_users = 'other', instant_failover_target = 'db2'").unwrap();
        for mode in ["OFF", "ON", "ALL"] {
            root.query(&format!("SET GLOBAL instant_failover_mode = {mode}")).unwrap();
            for (user, password) in [("app", PASSWORD), ("app", "wrong"), ("other", PASSWORD), ("other", "wrong")] {
                log_in(&server, user, password);
                for mut client in [
                    support::wire::Client::connect(server.extra_address()).unwrap(),
                    support::wire::Client::connect_socket(&server.socket()).unwrap(),
                ] {
                    client.greeting().unwrap();
                    client.write(&support::wire::handshake_response(user, &[1; 20], 0)).unwrap();
                    client.reply().unwrap();
                }
            }
        }
        root.query("SET GLOBAL instant_failover_exempt_hosts = '127.0.0.0/8'").unwrap();
        log_in(&server, "app", PASSWORD);
        let _ = root.change_user("app", |_| Vec::new()).unwrap();
        // Ignore the time of the last redirect, what only the plugin has, and what no login here is counted in.
        let rows = root.query("SHOW GLOBAL STATUS LIKE 'Instant_failover%'").unwrap();
        let alike = |row: &Vec<String>| {
            let others =
                ["last_redirect", "account_redirects", "hooked_plugins", "sessions", "held", "hold", "drained"];
            !others.iter().any(|name| row[0].contains(&format!("failover_{name}")))
        };
        rows.into_iter().filter(alike).collect()
    }
    let (mariadb, standalone) = (numbers::<MariaDb>(), numbers::<Standalone>());
    assert_eq!(standalone, mariadb);
    assert_eq!(mariadb.len(), 7);
    assert!(mariadb.iter().all(|row| row[1] != "0"), "{mariadb:?}");
}
