//! What goes wrong at each step, while an application writes.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command};

use super::application::{Application, Procedures};
use super::pair::{DB1, DB2, Ended, Pair};

/// Steps, by a part of their text.
const STEPS: &[&str] = &[
    "leave a note",
    "replicate from NEW, which is still",
    "set the target",
    "hold new clients",
    "wait until the sessions",
    "fence",
    "wait until it has everything",
    "stop replication",
    "check the fence",
    "mark the promotion",
    "redirect clients",
    "kill the sessions",
    "release the lock",
    "wait for the mark",
    "enable the events",
    "forget OLD",
    "remove the notes",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Signal(&'static str),
    /// Every session of the command on a server is killed.
    Sessions(usize),
    /// A server is killed and started again, read only.
    Restart(usize),
}

/// Starts the command, and does something as soon as a step begins. Returns how it ended, and whether it came to that step.
pub(crate) fn interrupted(mut child: Child, step: &str, mut fault: impl FnMut(&Child)) -> (Ended, bool) {
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (mut text, mut line, mut reached) = (String::new(), String::new(), false);
    while output.read_line(&mut line).unwrap() > 0 {
        if !reached && line.contains("\"begins\"") && line.contains(step) {
            reached = true;
            fault(&child);
        }
        text += &line;
        line.clear();
    }
    let status = child.wait().unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    (Ended { status: status.code(), text: text + &errors }, reached)
}

pub(crate) fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// One primary that has everything, or both are read only.
fn never_two(pair: &Pair) -> [bool; 2] {
    let writable = [DB1, DB2].map(|n| pair.value(n, "SELECT @@read_only") == "0");
    assert_ne!(writable, [true, true], "two primaries");
    writable
}

/// After a fault: what is so, and the way on.
fn afterwards(pair: &Pair, application: &Application, ended: &Ended, goal: &str, elsewhere: bool, what: &str) {
    let context = format!("{what}\n{}", ended.text);
    never_two(pair);
    match ended.status {
        Some(0) => pair.is_switched(),
        Some(1 | 3) => pair.is_as_before(),
        // Killed, or halfway: go on.
        _ => {
            let arguments = [goal, "db1", "db2", "--yes", "--json"];
            let mut next = if elsewhere { pair.run_elsewhere(&arguments) } else { pair.run(&arguments) };
            never_two(pair);
            if goal == "back" && next.status == Some(1) {
                assert!(next.text.contains("no way back"), "{context}\n{}", next.text);
                next = pair.run(&["resume", "db1", "db2", "--yes", "--json"]);
            }
            let more = format!("{context}\n{goal}, elsewhere: {elsewhere}: {}", next.text);
            match next.status {
                Some(0) => pair.is_switched(),
                Some(3) if goal == "back" => pair.is_as_before(),
                _ => panic!("{more}"),
            }
        }
    }
    application.writes(20);
    let primary = if pair.value(DB1, "SELECT @@read_only") == "0" { DB1 } else { DB2 };
    application.nothing_is_lost(pair, primary);
    if primary == DB2 {
        catches_up(pair, ["db2", "db1"]);
        let back = pair.run_patiently(&["switchover", "db2", "db1", "--yes"]);
        assert_eq!(back.status, Some(0), "{context}\n{}", back.text);
        // As it was at first.
        pair.sql(DB2, "SET GLOBAL instant_failover_mode = OFF, instant_failover_target = ''");
        pair.sql(DB1, "SET GLOBAL instant_failover_target = ''");
        pair.sql(DB1, "STOP SLAVE");
        pair.sql(DB1, "RESET SLAVE ALL");
        application.writes(20);
    }
}

/// A server that was killed needs time.
fn catches_up(pair: &Pair, [primary, replica]: [&str; 2]) {
    for _ in 0..30 {
        let checked = pair.run_patiently(&["check", primary, replica]);
        if checked.status == Some(0) {
            return;
        }
    }
}

fn each_step(faults: &[(Fault, &str, bool)]) {
    let mut pair = Pair::start(&[]);
    let restarts = faults.iter().any(|(fault, ..)| matches!(fault, Fault::Restart(_)));
    // A server that restarts lets them in, and they write in spite of read_only: the servers diverge, and the command says so.
    let application = Application::start(&pair, if restarts { Procedures::No } else { Procedures::Yes });
    if restarts {
        pair.sql(DB1, "DROP EVENT shop.tick");
    }
    application.writes(50);
    let mut missed = Vec::new();
    // After the last step, it is done: a restart undoes what is not in an option file.
    let steps = if restarts { &STEPS[..STEPS.len() - 1] } else { STEPS };
    for step in steps {
        for &(fault, goal, elsewhere) in faults {
            let what = format!("{fault:?} at '{step}', then {goal}, elsewhere: {elsewhere}");
            println!("{what}");
            catches_up(&pair, ["db1", "db2"]);
            let child =
                pair.command(&["switchover", "db1", "db2", "--yes", "--json", "--max-lag", "60"]).spawn().unwrap();
            let (ended, reached) = interrupted(child, step, |child| match fault {
                Fault::Signal(name) => signal(child, name),
                Fault::Sessions(server) => kill_sessions(&pair, server),
                Fault::Restart(server) => pair.restart(server),
            });
            assert_ne!(ended.status, Some(1), "{what}: refused\n{}", ended.text);
            if !reached {
                missed.push(what.clone());
            }
            afterwards(&pair, &application, &ended, goal, elsewhere, &what);
        }
    }
    println!("not reached: {missed:#?}");
    // A wait that is not needed is left out.
    assert!(missed.iter().all(|missed| missed.contains("wait ")), "{missed:?}");
    application.end();
}

/// The command may kill this session, too.
fn kill_sessions(pair: &Pair, server: usize) {
    let Ok(mut root) = pair.servers[server].root() else { return };
    let ids = root.query("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'dba'").unwrap_or_default();
    for id in ids.concat() {
        let _ = root.query(&format!("KILL {id}"));
    }
}

#[test]
#[ignore = "takes minutes: cargo test -p instant-failover-switchover --test it -- --ignored"]
fn signals_at_each_step() {
    each_step(&[
        (Fault::Signal("-TERM"), "resume", false),
        (Fault::Signal("-KILL"), "resume", false),
        (Fault::Signal("-KILL"), "back", true),
    ]);
}

#[test]
#[ignore = "takes minutes: cargo test -p instant-failover-switchover --test it -- --ignored"]
fn sessions_are_killed_at_each_step() {
    each_step(&[(Fault::Sessions(DB1), "resume", true), (Fault::Sessions(DB2), "back", false)]);
}

#[test]
#[ignore = "takes minutes: cargo test -p instant-failover-switchover --test it -- --ignored"]
fn servers_are_killed_at_each_step() {
    each_step(&[(Fault::Restart(DB1), "resume", true), (Fault::Restart(DB2), "resume", false)]);
}
