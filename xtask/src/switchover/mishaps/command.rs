//! What goes wrong with the command: it refuses, or goes back, or another machine finishes or undoes what it has begun. As in
//! the other mishaps db2 is the primary, and db1 its replica that redirects.

use std::path::Path;
use std::process::{Child, Command};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use support::run;

use super::super::command::{Ended, Machine};
use super::super::pair::Pair;
use super::{DB1, DB2, SLEEPS, WRITE};

/// Where the command runs: this machine, and another one, which has no state.
pub(super) struct Machines {
    here: Machine,
    elsewhere: Machine,
}

impl Machines {
    pub(super) fn new(program: &Path, pair: &Pair) -> Result<Self> {
        Ok(Self { here: Machine::new(program, pair, "dba")?, elsewhere: Machine::new(program, pair, "elsewhere")? })
    }
}

type Mishap = fn(&mut Pair, &Machines) -> Result<()>;
/// What happens to the command, which is a process on this machine.
type Fault = fn(&mut Pair, &Child) -> Result<()>;

pub(super) const ALL: [(&str, Mishap); 5] = [
    ("The command, and servers that are not ready", not_ready),
    ("The command, and a file with servers that is wrong", wrong_file),
    ("The command, and a replica that does not follow", no_replica),
    ("The command is killed before the promotion", killed_before),
    ("The command is killed after the promotion", killed_after),
];

const SWITCHOVER: [&str; 7] = ["switchover", "db2", "db1", "--yes", "--json", "--max-pause", "30"];
/// While the replica does not follow.
const CATCHES_UP: &str = "wait until it has everything";

/// Both servers are as before.
fn as_before(pair: &mut Pair, read_only: &str) -> Result<()> {
    let ask = "SELECT @@read_only, @@event_scheduler, @@instant_failover_mode, @@instant_failover_note";
    let db2 = pair.sql(DB2, ask)?.concat();
    ensure!(db2 == [read_only, "ON", "OFF", ""], "db2 is not as it was: {db2:?}");
    ensure!(pair.query(DB2, "SHOW ALL SLAVES STATUS")?.is_empty(), "db2 is a replica");
    pair.sql(DB2, "SET GLOBAL read_only = 0")?;
    ensure!(pair.client(DB2, WRITE)? == "2", "db2 accepts no writes");
    let db1 = pair.sql(DB1, ask)?.concat();
    ensure!(db1 == ["1", "ON", "ON", ""], "db1 is not as it was: {db1:?}");
    Ok(())
}

/// It is refused at once, whatever the application does meanwhile.
fn refused(pair: &mut Pair, machine: &Machine, names: [&str; 2], why: &str, read_only: &str) -> Result<()> {
    let ended = machine.run(pair, &["switchover", names[0], names[1], "--yes"])?;
    ended.expect(1, why)?;
    as_before(pair, read_only)
}

fn not_ready(pair: &mut Pair, machines: &Machines) -> Result<()> {
    let pairs = [["db2", "db1"], ["db1", "db2"]];
    pair.sql(DB1, "STOP SLAVE SQL_THREAD")?;
    refused(pair, &machines.here, pairs[0], "Slave_SQL_Running: No", "0")?;
    pair.sql(DB1, "START SLAVE SQL_THREAD")?;
    refused(pair, &machines.here, pairs[1], "the names look swapped", "0")?;
    // It stays read only: the command puts nothing back that it has not changed.
    pair.sql(DB2, "SET GLOBAL read_only = 1")?;
    refused(pair, &machines.here, pairs[0], "db2 is read only", "1")?;
    pair.sql(DB1, "FLUSH TABLES WITH READ LOCK")?;
    pair.sql(DB2, "INSERT INTO shop.orders VALUES (1001, 1, 2)")?;
    refused(pair, &machines.here, pairs[0], "db1 does not catch up with the present position", "0")?;
    pair.sql(DB1, "UNLOCK TABLES")?;
    pair.sql(DB2, "DELETE FROM shop.orders WHERE client = 1001")?;
    pair.wait_for_replica(DB2, DB1)
}

fn wrong_file(pair: &mut Pair, machines: &Machines) -> Result<()> {
    let machine = &machines.here;
    let [db1, db2] = [DB1, DB2].map(|server| pair.address(server).to_string());
    for (from, to, why) in [
        // Nothing listens there.
        (format!("target = {db1}"), "target = 127.0.0.1:1".to_owned(), "cannot be reached as clients reach it"),
        (format!("target = {db1}"), format!("target = {db2}"), "leads to server 2"),
        ("\npassword = open sesame".to_owned(), "\npassword = wrong".to_owned(), "Access denied for user 'dba'"),
    ] {
        machine.write_servers(pair, |text| text.replace(&from, &to))?;
        refused(pair, machine, ["db2", "db1"], why, "0")?;
    }
    machine.write_servers(pair, |text| text)?;
    machine.run(pair, &["--servers", "/none", "status"])?.expect(2, "/none: No such file or directory")?;
    machine.run(pair, &["switchover", "db2", "db3"])?.expect(2, "there is no server 'db3'")?;
    // The administrator's own account.
    pair.sql(DB2, "SET GLOBAL instant_failover_exempt_users = 'repl'")?;
    machine
        .run(pair, &["check", "db2", "db1", "--max-lag", "10"])?
        .expect(0, "dba, this account, is not exempt on db2")?;
    pair.sql(DB2, "SET GLOBAL instant_failover_exempt_users = 'repl,monitor,dba'")?;
    as_before(pair, "0")
}

/// The command goes back if the replica does not get the last write, which the fence has waited for.
fn no_replica(pair: &mut Pair, machines: &Machines) -> Result<()> {
    let faults: [(&str, Fault); 3] = [
        ("interrupted", |_, child| kill(&["-TERM", &child.id().to_string()])),
        ("interrupted", |_, child| kill(&["-INT", "--", &format!("-{}", child.id())])),
        ("the lock on the old primary was lost", |pair, _| {
            // Of the command's two sessions there, the one with the lock.
            let sessions = pair.query(
                DB2,
                "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'dba' AND ID <> IS_USED_LOCK('instant_failover')",
            )?;
            sessions.concat().iter().try_for_each(|id| pair.sql(DB2, &format!("KILL {id}")).map(drop))?;
            pair.sql(DB1, "UNLOCK TABLES").map(drop)
        }),
    ];
    for (why, then) in faults {
        let (ended, write) = without_a_replica(pair, machines, then)?;
        ended.expect(3, why)?;
        pair.sql(DB1, "UNLOCK TABLES")?;
        // What waited for the fence goes through.
        write.join().ok().context("the writer panicked")??;
        as_before(pair, "0")?;
        pair.wait_for_replica(DB2, DB1)?;
    }
    Ok(())
}

fn kill(arguments: &[&str]) -> Result<()> {
    println!("{:16}$ kill {}", "", arguments.join(" "));
    run(Command::new("kill").args(arguments))
}

/// Runs the command, does something while it waits for a replica that cannot follow, and returns how it ended.
fn without_a_replica(
    pair: &mut Pair,
    machines: &Machines,
    mut then: impl FnMut(&mut Pair, &Child) -> Result<()>,
) -> Result<(Ended, JoinHandle<Result<()>>)> {
    pair.sql(DB1, "LOCK TABLES shop.ticks READ")?;
    // Time to begin a statement between the check and the fence.
    let patient = ["--max-lag", "10", "--attempts", "1", "--before", "sleep 1"];
    let mut root = pair.servers[DB2].root()?;
    let sql = "INSERT INTO shop.ticks SELECT 99, NOW(6), 2 + SLEEP(3)";
    let (start, begun) = std::sync::mpsc::channel::<()>();
    let write = thread::spawn(move || {
        begun.recv()?;
        root.query(sql).map(drop)
    });
    // It prints this before it runs --before.
    let mut machine_waits = false;
    let arguments = [&SWITCHOVER[..], &patient].concat();
    let ended = machines.here.watch(pair, &arguments, |pair, child, begins| {
        if begins.contains("leave a note") {
            start.send(())?;
            while pair.query(DB2, SLEEPS)?.is_empty() {
                sleep(Duration::from_millis(5));
            }
        } else if begins.contains(CATCHES_UP) && !std::mem::replace(&mut machine_waits, true) {
            then(pair, child)?;
        }
        Ok(())
    })?;
    ensure!(machine_waits, "it did not wait for the replica:\n{}", ended.text);
    Ok((ended, write))
}

/// Both servers are read only then, and whoever looks sees it.
fn killed_before(pair: &mut Pair, machines: &Machines) -> Result<()> {
    let (ended, write) = without_a_replica(pair, machines, |_, child| kill(&["-KILL", &child.id().to_string()]))?;
    ensure!(ended.status.is_none(), "it was not killed: {ended:?}");
    pair.sql(DB1, "UNLOCK TABLES")?;
    write.join().ok().context("the writer panicked")??;
    let looked = machines.elsewhere.run(pair, &["status"])?;
    for text in ["unfinished switchover from db2 to db1", "both servers are read only", "instant-failover back db2 db1"]
    {
        looked.expect(1, text)?;
    }
    machines
        .here
        .run(pair, &["switchover", "db2", "db1", "--yes"])?
        .expect(1, "is unfinished: instant-failover status says how to end it")?;
    machines.elsewhere.run(pair, &["back", "--yes"])?.expect(3, "everything is as before")?;
    machines.elsewhere.run(pair, &["status"])?.expect(0, "db2")?;
    as_before(pair, "0")?;
    pair.wait_for_replica(DB2, DB1)
}

/// There is no way back then, and the rest can be done from any machine.
fn killed_after(pair: &mut Pair, machines: &Machines) -> Result<()> {
    let arguments = [&SWITCHOVER[..], &["--max-lag", "10"]].concat();
    let ended = machines.here.watch(pair, &arguments, |_, child, begins| {
        if begins.contains("mark the promotion") { kill(&["-KILL", &child.id().to_string()]) } else { Ok(()) }
    })?;
    ensure!(ended.status.is_none(), "it was not killed: {ended:?}");
    pair.log_in(DB2)?;
    ensure!(pair.sql(DB1, "SELECT @@read_only")? == [["0"]] && pair.sql(DB2, "SELECT @@read_only")? == [["1"]]);
    machines.elsewhere.run(pair, &["back", "--yes"])?.expect(1, "there is no way back")?;
    machines.elsewhere.run(pair, &["resume", "--yes"])?.expect(0, "db1 is the primary, and db2 redirects to it")?;
    pair.log_in(DB2)?;
    ensure!(pair.client(DB2, WRITE)? == "1", "db2 does not redirect");
    pair.wait_for_replica(DB1, DB2)?;
    // Back to where the other mishaps begin.
    let again = ["switchover", "db1", "db2", "--yes", "--max-lag", "10", "--max-pause", "30"];
    machines.here.run(pair, &again)?.expect(0, "db2 is the primary, and db1 redirects to it")?;
    pair.log_in(DB1)?;
    pair.wait_for_replica(DB2, DB1)?;
    as_before(pair, "0")
}
