//! What goes wrong in a switchover, and what helps. db2 is the primary here, db1 its replica that redirects.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use xtask::run;
use xtask::wire::Reply;

use super::application::{Application, Crowd};
use super::pair::{Pair, name};

const DB1: usize = 0;
const DB2: usize = 1;
/// The code of a redirect.
const REDIRECT: u16 = 4196;
/// A write that says where it went, and leaves nothing behind.
const WRITE: &str = "BEGIN; INSERT INTO orders VALUES (1000, 1, 0); SELECT @@server_id; ROLLBACK";

type Mishap = fn(&mut Pair) -> Result<()>;

/// Tries each, and returns how many there were.
pub(super) fn all(pair: &mut Pair) -> Result<usize> {
    let mishaps: [(&str, Mishap); 8] = [
        ("The script, and a replica that does not follow", no_replica),
        ("read_only, and who goes on writing", read_only),
        ("read_only, and a statement that takes long", long_statement),
        ("The target is mistyped", mistyped),
        ("ON before the target may be written to", too_early),
        ("ALL, and no session left", locked_out),
        ("The old server restarts", restart),
        ("The new primary dies", dies),
    ];
    for (title, mishap) in mishaps {
        println!("\n-- {title}");
        mishap(pair).with_context(|| title)?;
    }
    Ok(mishaps.len())
}

/// What a client shows must hold a text.
fn expect(shown: &str, text: &str) -> Result<()> {
    ensure!(shown.contains(text), "no {text:?} in {shown:?}");
    Ok(())
}

fn read_only(pair: &mut Pair) -> Result<()> {
    const INSERT: &str = "INSERT INTO shop.orders VALUES (1000, 1, 2)";
    // A transaction that is open then cannot be committed, and leaves nothing.
    let mut app = pair.session(DB2, "app")?;
    app.query("BEGIN")?;
    app.query(INSERT)?;
    pair.sql(DB2, "SET GLOBAL read_only = 1")?;
    let Err(error) = app.query("COMMIT") else { bail!("it was committed") };
    println!("{:16}COMMIT: {error}", "");
    expect(&error.to_string(), "ERROR 1290")?;
    ensure!(pair.sql(DB2, "SELECT * FROM shop.orders WHERE client = 1000")?.is_empty(), "it left something");
    // READ ONLY ADMIN is a way past.
    let mut dba = pair.session(DB2, "dba")?;
    for statement in ["BEGIN", INSERT, "ROLLBACK"] {
        dba.query(statement)?;
    }
    let who = "SELECT GRANTEE FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE LIKE 'READ%ONLY ADMIN'";
    ensure!(pair.sql(DB2, who)?.concat().contains(&"'dba'@'%'".to_owned()), "it is not seen who can");
    pair.sql(DB2, "SET GLOBAL read_only = 0").map(drop)
}

fn long_statement(pair: &mut Pair) -> Result<()> {
    const ID: &str = "SELECT ID FROM information_schema.PROCESSLIST WHERE STATE = 'User sleep'";
    let mut app = pair.session(DB2, "app")?;
    let update = thread::spawn(move || app.query("UPDATE shop.orders SET server = 2 WHERE SLEEP(60) = 0 LIMIT 1"));
    let mut ids = Vec::new();
    while ids.is_empty() {
        ensure!(!update.is_finished(), "it took no time");
        ids = pair.query(DB2, ID)?.concat();
        sleep(Duration::from_millis(5));
    }
    pair.sql(DB2, "SET lock_wait_timeout = 1")?;
    let Err(error) = pair.sql(DB2, "SET GLOBAL read_only = 1") else { bail!("it was not waited for") };
    println!("{:16}{error:#}", "");
    expect(&format!("{error:#}"), "ERROR 1205")?;
    ensure!(pair.value(DB2, "SELECT @@read_only")? == "0");
    pair.sql(DB2, &format!("KILL QUERY {}", ids.concat()))?;
    ensure!(matches!(update.join(), Ok(Err(_))), "it was not killed");
    Ok(())
}

/// The script goes back, and the primary is what it was.
fn no_replica(pair: &mut Pair) -> Result<()> {
    const WAITS: &str = "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT MASTER_GTID_WAIT%'";
    let refused = |pair: &mut Pair, ended: &Output, why: &str| {
        let said = String::from_utf8_lossy(&ended.stderr);
        println!("{:16}{}", "", said.trim());
        ensure!(!ended.status.success(), "the script went on");
        expect(&said, why)?;
        ensure!(pair.client(DB2, WRITE)? == "2", "db2 is not what it was");
        let db1 = pair.sql(DB1, "SELECT @@read_only, @@instant_failover_mode")?.concat();
        ensure!(db1 == ["1", "ON"], "db1 is not what it was: {db1:?}");
        Ok(())
    };
    pair.sql(DB1, "STOP SLAVE SQL_THREAD")?;
    let ended = pair.script(DB2, DB1)?.output()?;
    refused(pair, &ended, "not a replica that runs")?;
    pair.sql(DB1, "START SLAVE SQL_THREAD")?;
    pair.sql(DB1, "FLUSH TABLES WITH READ LOCK")?;
    pair.sql(DB2, "INSERT INTO shop.orders VALUES (1001, 1, 2)")?;
    let ended = pair.script(DB2, DB1)?.output()?;
    refused(pair, &ended, "takes writes as before")?;
    let mut waiting = pair.script(DB2, DB1)?.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    while pair.query(DB1, WAITS)?.is_empty() {
        ensure!(waiting.try_wait()?.is_none(), "it does not wait");
        sleep(Duration::from_millis(5));
    }
    println!("{:16}^C", "");
    run(Command::new("kill").args(["-INT", "--", &format!("-{}", waiting.id())]))?;
    refused(pair, &waiting.wait_with_output()?, "takes writes as before")?;
    pair.sql(DB1, "UNLOCK TABLES")?;
    pair.sql(DB2, "DELETE FROM shop.orders WHERE client = 1001")?;
    pair.wait_for_replica(DB2, DB1)
}

fn mistyped(pair: &mut Pair) -> Result<()> {
    pair.sql(DB1, "SET GLOBAL instant_failover_target = 'db2.example.invalid:3306'")?;
    expect(&pair.client(DB1, "SELECT @@server_id")?, "ERROR 2005")?;
    // Nobody listens there.
    pair.sql(DB1, "SET GLOBAL instant_failover_target = '127.0.0.1:1'")?;
    expect(&pair.client(DB1, "SELECT @@server_id")?, "ERROR 2002")?;
    let target = pair.address(DB2);
    pair.sql(DB1, &format!("SET GLOBAL instant_failover_target = '{target}'"))?;
    ensure!(pair.client(DB1, "SELECT @@server_id")? == "2");
    Ok(())
}

fn too_early(pair: &mut Pair) -> Result<()> {
    // Both send clients away, each to the other.
    let target = pair.address(DB1);
    pair.sql(DB2, &format!("SET GLOBAL instant_failover_target = '{target}', instant_failover_mode = ON"))?;
    expect(&pair.client(DB2, "SELECT @@server_id")?, "ERROR 4196")?;
    pair.sql(DB1, "SET GLOBAL instant_failover_mode = OFF")?;
    ensure!(pair.client(DB2, "SELECT @@server_id")? == "1", "reading is possible");
    expect(&pair.client(DB2, WRITE)?, "ERROR 1290")?;
    // Back.
    pair.sql(DB2, "SET GLOBAL instant_failover_mode = OFF")?;
    pair.sql(DB1, "SET GLOBAL instant_failover_mode = ON")?;
    ensure!(pair.client(DB1, WRITE)? == "2");
    Ok(())
}

/// Whether a server sends somebody away: through the socket, and on the extra port.
fn closed(pair: &Pair, user: &str) -> Result<bool> {
    let mut sent_away = Vec::new();
    for way in [None, Some(pair.servers[DB1].extra_address())] {
        sent_away.push(match pair.try_login(DB1, way, user)? {
            Reply::Err(error) if error.code == REDIRECT => true,
            Reply::Ok => false,
            other => bail!("{user} was told {other:?}"),
        });
    }
    let places = ["the socket", "the extra port"];
    for (place, sent_away) in places.iter().zip(&sent_away) {
        println!("{:16}{user} through {place}: {}", "", if *sent_away { "ERROR 4196" } else { "let in" });
    }
    ensure!(sent_away[0] == sent_away[1], "{user} is let in one way alone");
    Ok(sent_away[0])
}

fn locked_out(pair: &mut Pair) -> Result<()> {
    let target = format!("--loose-instant-failover-target={}", pair.address(DB2));
    // An exempt user has a way in, and root none. The session in which ALL was set is not used any more.
    pair.sql(DB1, "SET GLOBAL instant_failover_mode = ALL")?;
    ensure!(closed(pair, "root")? && !closed(pair, "dba")?);
    pair.sql(DB1, "SET GLOBAL instant_failover_exempt_users = ''")?;
    ensure!(closed(pair, "root")? && closed(pair, "dba")?);

    println!("{:16}db1: SIGTERM, as systemctl stop mariadb sends it", "");
    pair.servers[DB1].stop()?;
    pair.start_again(DB1, &["--read-only=1"])?;
    pair.log_in(DB1)?;
    ensure!(pair.value(DB1, "SELECT @@instant_failover_mode")? == "OFF");
    pair.wait_for_replica(DB2, DB1)?;

    // The configuration says so: the last option counts, and the command line's comes last.
    let all = ["--read-only=1", &target, "--loose-instant-failover-mode=ALL"];
    pair.servers[DB1].stop()?;
    pair.start_again(DB1, &all)?;
    ensure!(closed(pair, "root")?);
    pair.servers[DB1].stop()?;
    pair.start_again(DB1, &[&all[..], &["--loose-instant-failover-mode=OFF"]].concat())?;
    pair.log_in(DB1)?;
    ensure!(pair.value(DB1, "SELECT @@instant_failover_mode")? == "OFF");

    // Without grant tables nobody is sent away, nor asked for a password. They name the plugins, too: it must be told.
    pair.servers[DB1].stop()?;
    let alone =
        ["--plugin-load-add=instant_failover", "--skip-grant-tables", "--skip-networking", "--skip-slave-start"];
    pair.start_again(DB1, &[&all[..], &alone].concat())?;
    pair.log_in(DB1)?;
    ensure!(pair.value(DB1, "SELECT @@instant_failover_mode")? == "ALL");
    pair.servers[DB1].stop()?;
    pair.start_again(DB1, &["--read-only=1"])?;
    pair.log_in(DB1)?;
    pair.wait_for_replica(DB2, DB1)
}

fn restart(pair: &mut Pair) -> Result<()> {
    const ASK: &str = "SELECT @@read_only, @@instant_failover_mode";
    println!("{:16}db1: killed, and started with the configuration it always had", "");
    pair.servers[DB1].kill();
    pair.start_again(DB1, &[])?;
    pair.log_in(DB1)?;
    ensure!(pair.sql(DB1, ASK)? == [["0", "OFF"]]);
    // It takes what nobody else will know of.
    ensure!(pair.client(DB1, WRITE)? == "1", "db1 takes no writes");

    println!("{:16}db1: killed, and started with a configuration that says what it is", "");
    pair.servers[DB1].kill();
    let target = format!("--loose-instant-failover-target={}", pair.address(DB2));
    let exempt = "--loose-instant-failover-exempt-users=repl,monitor,dba";
    pair.start_again(DB1, &["--read-only=1", exempt, &target, "--loose-instant-failover-mode=ON"])?;
    pair.log_in(DB1)?;
    ensure!(pair.sql(DB1, ASK)? == [["1", "ON"]]);
    ensure!(pair.client(DB1, WRITE)? == "2", "db1 does not redirect");
    pair.wait_for_replica(DB2, DB1)
}

fn dies(pair: &mut Pair) -> Result<()> {
    let crowd = Crowd { first: 101, ..Crowd::default() };
    let mut application = Application::start(pair.application()?, crowd)?;
    application.wait_for_writes(2, 50)?;
    // What db2 acknowledges now, it alone has.
    pair.sql(DB1, "STOP SLAVE IO_THREAD")?;
    application.wait_for_writes(2, 20)?;
    println!("{:16}db2: killed", "");
    pair.servers[DB2].kill();
    sleep(Duration::from_millis(500));

    // What has arrived is applied first.
    let arrived = pair.slave_status(DB1)?.arrived;
    println!("{:16}db1> SHOW SLAVE STATUS: Gtid_IO_Pos: {arrived}", "");
    ensure!(pair.value(DB1, &format!("SELECT MASTER_GTID_WAIT('{arrived}', 60)"))? == "0", "it is not applied");
    pair.sql(DB1, "STOP SLAVE")?;
    pair.sql(DB1, "RESET SLAVE ALL")?;
    pair.sql(DB1, "SET GLOBAL instant_failover_mode = OFF")?;
    pair.sql(DB1, "SET GLOBAL read_only = 0")?;
    application.wait_for_writes(1, 50)?;
    let journal = application.end()?;
    pair.check_totals(DB1)?;
    println!("{:16}clients saw: {}", "", journal.error_with("2002").context("nobody saw that db2 was gone")?);

    // Back it comes, and nobody may write to it.
    pair.start_again(DB2, &["--read-only=1", "--skip-slave-start"])?;
    pair.log_in(DB2)?;
    let (here, there) = (pair.orders(DB1)?, pair.orders(DB2)?);
    let missing: Vec<_> = journal.acknowledged().difference(&here).copied().collect();
    println!(
        "{:16}{} writes that db2 alone acknowledged are missing on db1, which was at {arrived}",
        "",
        missing.len()
    );
    ensure!(!missing.is_empty(), "nothing was lost though the replica had stopped");
    ensure!(missing.iter().all(|order| there.contains(order)), "db2 does not have what it acknowledged");

    // It cannot be the replica of a server that lacks what it has.
    let position = pair.value(DB2, "SELECT @@gtid_binlog_pos")?;
    pair.sql(DB2, &format!("SET GLOBAL gtid_slave_pos = '{position}'"))?;
    pair.replicate(DB2, DB1)?;
    let error = io_error(pair, DB2)?;
    ensure!(error.0 == "1236", "{} replicates, or says {error:?}", name(DB2));
    println!("{:16}{}", "", error.1);

    // What was lost is entered by hand, from what db2 has and db1 lacks.
    for (client, number) in there.difference(&here) {
        pair.query(DB1, "BEGIN")?;
        pair.query(DB1, &format!("INSERT INTO shop.orders VALUES ({client}, {number}, 2)"))?;
        pair.query(DB1, &format!("UPDATE shop.totals SET orders = orders + 1 WHERE client = {client}"))?;
        pair.query(DB1, "COMMIT")?;
    }
    pair.check_totals(DB1)?;
    journal.check(&pair.orders(DB1)?)
}

/// Waits until a replica has said why it does not read from its primary.
fn io_error(pair: &mut Pair, replica: usize) -> Result<(String, String)> {
    for _ in 0..500 {
        let error = pair.slave_status(replica)?.io_error;
        if error.0 != "0" {
            return Ok(error);
        }
        sleep(Duration::from_millis(20));
    }
    bail!("{} says nothing", name(replica))
}
