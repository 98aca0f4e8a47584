//! What goes wrong at each step, while an application writes.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

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
    /// A server does not answer for so long that the hold ends.
    Freeze(usize),
    /// The disk with the state of the command is full.
    DiskFull,
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
                // It was killed before it left a note.
                Some(1) if goal == "resume" && next.text.contains("nothing is unfinished") => pair.is_as_before(),
                _ => panic!("{more}"),
            }
        }
    }
    application.writes(20);
    let primary = if pair.value(DB1, "SELECT @@read_only") == "0" { DB1 } else { DB2 };
    application.nothing_is_lost(pair, primary);
    if primary == DB2 {
        let back = || pair.run_patiently(&["switchover", "db2", "db1", "--yes"]);
        let mut back_again = back();
        for _ in 0..30 {
            // The machine may be so busy that a replica lags, or a hold ends before its time is used.
            if back_again.status != Some(3) && !back_again.text.contains("does not catch up") {
                break;
            }
            back_again = back();
        }
        let back = back_again;
        assert_eq!(back.status, Some(0), "{context}\n{}", back.text);
        // As it was at first.
        pair.sql(DB2, "SET GLOBAL instant_failover_mode = OFF, instant_failover_target = ''");
        pair.sql(DB1, "SET GLOBAL instant_failover_target = ''");
        pair.sql(DB1, "STOP SLAVE");
        pair.sql(DB1, "RESET SLAVE ALL");
        application.writes(20);
    }
}

/// When a server was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    InTime,
    /// The command had done everything: a restart undoes what is not in an option file.
    Late,
}

/// Kills a server, while the command stands still, and starts it again.
fn restart(pair: &mut Pair, child: &Child, server: usize, read_only: bool) -> Moment {
    signal(child, "-STOP");
    let state = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        stat.rsplit_once(')').unwrap().1.trim_start().chars().next()
    };
    while !matches!(state(), Some('T' | 'Z')) {
        thread::sleep(Duration::from_millis(1));
    }
    let is_done = pair.sql(DB2, "SELECT @@read_only, @@instant_failover_note") == [["0", ""]];
    let is_late = state() == Some('Z') || is_done;
    pair.servers[server].kill();
    signal(child, "-CONT");
    pair.restart_as(server, read_only);
    if is_late { Moment::Late } else { Moment::InTime }
}

/// As the documents say, for a former primary that has restarted.
fn rejoined(pair: &Pair, ended: &Ended, what: &str) {
    println!("{what}: too late");
    assert_eq!(ended.status, Some(0), "{what}: {}", ended.text);
    // As option files ought to have it, if it was the new one.
    pair.sql(DB2, "SET GLOBAL read_only = 0");
    let rejoined = pair.run(&["rejoin", "db1", "db2", "--yes"]);
    assert_eq!(rejoined.status, Some(0), "{what}: {}", rejoined.text);
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
    for step in STEPS {
        for &(fault, goal, elsewhere) in faults {
            let what = format!("{fault:?} at '{step}', then {goal}, elsewhere: {elsewhere}");
            println!("{what}");
            catches_up(&pair, ["db1", "db2"]);
            let mut command = pair.command(SWITCHOVER);
            if fault == Fault::DiskFull {
                command = on_a_small_disk(&pair);
            }
            let child = command.spawn().unwrap();
            let mut moment = Moment::InTime;
            let (ended, reached) = interrupted(child, step, |child| match fault {
                Fault::Signal(name) => signal(child, name),
                Fault::Sessions(server) => kill_sessions(&pair, server),
                Fault::Restart(server) => moment = restart(&mut pair, child, server, true),
                Fault::Freeze(server) => freeze(&pair, server),
                Fault::DiskFull => fill_disk(child),
            });
            assert_ne!(ended.status, Some(1), "{what}: refused\n{}", ended.text);
            if !reached {
                missed.push(what.clone());
            }
            if moment == Moment::Late {
                rejoined(&pair, &ended, &what);
            }
            afterwards(&pair, &application, &ended, goal, elsewhere, &what);
        }
    }
    println!("not reached: {missed:#?}");
    // A wait that is not needed is left out.
    assert!(missed.iter().all(|missed| missed.contains("wait ")), "{missed:?}");
    application.end();
}

const SWITCHOVER: &[&str] = &["switchover", "db1", "db2", "--yes", "--json", "--max-lag", "60"];

/// Longer than `--max-pause` and the reserve.
fn freeze(pair: &Pair, server: usize) {
    pair.servers[server].signal(libc::SIGSTOP);
    thread::sleep(Duration::from_secs(8));
    pair.servers[server].signal(libc::SIGCONT);
}

/// The command with its state in a file system of its own, which only root can mount.
fn on_a_small_disk(pair: &Pair) -> Command {
    const MOUNT: &str = "mount -t tmpfs -o size=64k none \"$XDG_STATE_HOME\" && exec \"$@\"";
    let plain = pair.command(SWITCHOVER);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", MOUNT, "sh"]).arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.env("XDG_STATE_HOME", pair.state_directory());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn fill_disk(child: &Child) {
    let environment = fs::read(format!("/proc/{}/environ", child.id())).unwrap();
    let environment = String::from_utf8(environment).unwrap();
    let state = environment.split('\0').find_map(|word| word.strip_prefix("XDG_STATE_HOME=")).unwrap();
    let file = format!("/proc/{}/root{state}/fill", child.id());
    assert!(fs::write(file, vec![0; 1024 * 1024]).is_err(), "the disk is not full");
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
fn servers_freeze_at_each_step() {
    each_step(&[(Fault::Freeze(DB1), "resume", true), (Fault::Freeze(DB2), "resume", false)]);
}

#[test]
#[ignore = "takes minutes, and needs root: cargo test -p instant-failover-switchover --test it -- --ignored"]
fn the_disk_is_full_at_each_step() {
    each_step(&[(Fault::DiskFull, "resume", true)]);
}

/// How it must end when the old primary restarts while procedures of root's and events write, or when it restarts writable.
///
/// What they write there after the promotion, the new primary never gets. The command must say so, and change nothing more.
fn restarted(step: &str, read_only: bool) -> &'static str {
    let mut pair = Pair::start(&[]);
    let application = Application::start(&pair, Procedures::Yes);
    application.writes(50);
    catches_up(&pair, ["db1", "db2"]);
    let child = pair.command(SWITCHOVER).spawn().unwrap();
    let mut moment = Moment::InTime;
    let (mut ended, _) = interrupted(child, step, |child| moment = restart(&mut pair, child, DB1, read_only));
    if moment == Moment::Late {
        return late(&pair, &application, &ended, step, read_only);
    }
    let mut text = format!("{step}, read only: {read_only}: {}", ended.text);
    for _ in 0..3 {
        let rows = |n: usize| application.there(&pair, n);
        match ended.status {
            Some(0) => {
                application.writes(20);
                application.nothing_is_lost(&pair, DB2);
                pair.is_switched();
                equal(&pair, DB2, DB1);
                return "switched";
            }
            Some(1 | 3) => {
                application.writes(20);
                application.nothing_is_lost(&pair, DB1);
                pair.is_as_before();
                equal(&pair, DB1, DB2);
                return "as before";
            }
            Some(4) if ended.text.contains("STOPPED, nothing more is changed") => {
                // Nothing is lost on both together, and everybody who looks sees it.
                application.stop();
                let acknowledged = application.acknowledged();
                let all: BTreeSet<_> = rows(DB1).union(&rows(DB2)).copied().collect();
                let lost: Vec<_> = acknowledged.difference(&all).copied().collect();
                assert!(lost.is_empty(), "{text}: {lost:?}");
                let states =
                    || [DB1, DB2].map(|n| pair.value(n, "SELECT CONCAT(@@read_only, @@instant_failover_mode)"));
                let before = states();
                let again = pair.run_elsewhere(&["resume", "db1", "db2", "--yes"]);
                assert_eq!(again.status, Some(4), "{text}: {}", again.text);
                assert_eq!(states(), before, "{text}: {}", again.text);
                let shown = pair.run_elsewhere(&["status"]);
                assert_eq!(shown.status, Some(1), "{text}: {}", shown.text);
                let is_seen = shown.text.contains("TWO PRIMARIES") || shown.text.contains("DIVERGED");
                assert!(is_seen, "{text}: {}", shown.text);
                return "diverged, and said so";
            }
            _ => {
                ended = pair.run_elsewhere(&["resume", "db1", "db2", "--yes", "--json"]);
                text += &ended.text;
            }
        }
    }
    panic!("{text}")
}

/// It restarts when all is done. If it is writable, it is a second primary, which everybody sees who looks.
fn late(pair: &Pair, application: &Application, ended: &Ended, step: &str, read_only: bool) -> &'static str {
    if read_only {
        rejoined(pair, ended, step);
        application.writes(20);
        application.nothing_is_lost(pair, DB2);
        pair.is_switched();
        return "switched, and restarted afterwards";
    }
    if pair.value(DB1, "SELECT @@read_only") == "1" {
        // The command had not ended yet, and has closed it.
        return "switched";
    }
    let shown = pair.run_elsewhere(&["status"]);
    assert_eq!(shown.status, Some(1), "{step}: {}", shown.text);
    assert!(shown.text.contains("TWO PRIMARIES"), "{step}: {}", shown.text);
    "restarted afterwards, and said so"
}

/// Both have the same rows, those of the event too.
fn equal(pair: &Pair, primary: usize, replica: usize) {
    let ticks = |n: usize| pair.value(n, "SELECT COUNT(*) FROM shop.ticks");
    let before: u64 = ticks(primary).parse().unwrap();
    pair.wait_for(primary, &format!("SELECT COUNT(*) > {before} FROM shop.ticks"), "1");
    let mut lock = pair.root(primary);
    lock.query("FLUSH TABLES WITH READ LOCK").unwrap();
    pair.replicated(primary, replica);
    for table in ["orders", "ticks"] {
        let rows = |n: usize| pair.sql(n, &format!("SELECT * FROM shop.{table} ORDER BY 1, 2"));
        assert!(rows(primary) == rows(replica), "{table} differs");
    }
}

#[test]
#[ignore = "takes minutes: cargo test -p instant-failover-switchover --test it -- --ignored"]
fn the_old_primary_restarts_at_each_step() {
    for read_only in [true, false] {
        for step in STEPS {
            println!("{step}, read only: {read_only}: {}", restarted(step, read_only));
        }
    }
}

#[test]
fn the_old_primary_restarts_writable() {
    // Before the promotion, another attempt may succeed; after it, whatever was written there is said.
    assert_ne!(restarted("stop replication", false), "diverged, and said so");
    assert_ne!(restarted("release the lock", false), "as before");
}

#[test]
#[ignore = "takes minutes: cargo test -p instant-failover-switchover --test it -- --ignored"]
fn servers_are_killed_at_each_step() {
    each_step(&[(Fault::Restart(DB1), "resume", true), (Fault::Restart(DB2), "resume", false)]);
}
