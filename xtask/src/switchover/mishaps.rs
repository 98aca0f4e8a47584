//! What goes wrong in a switchover, and what helps. db2 is the primary here, db1 its replica that redirects.

mod command;

use std::path::Path;
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use support::wire::{Reply, Session};

use super::application::{Application, Crowd};
use super::pair::{PASSWORD, Pair, name};
use crate::recipes::{Document, RUNBOOK};

use command::Machines;

const DB1: usize = 0;
const DB2: usize = 1;
/// The code of a redirect.
const REDIRECT: u16 = 4196;
/// A write that shows its server, and is rolled back.
const WRITE: &str = "BEGIN; INSERT INTO orders VALUES (1000, 1, 0); SELECT @@server_id; ROLLBACK";

/// The session that runs `SLEEP()`.
const SLEEPS: &str = "SELECT ID FROM information_schema.PROCESSLIST WHERE STATE = 'User sleep'";

type Mishap = fn(&mut Pair) -> Result<()>;

/// Runs each mishap, and returns their number. `program` is the command.
pub(super) fn all(pair: &mut Pair, program: &Path) -> Result<usize> {
    let mishaps: [(&str, Mishap); 7] = [
        ("read_only, which is no fence, and the fence", fence),
        ("The fence, and a long statement", long_statement),
        ("The target is mistyped", mistyped),
        ("ON before the target may be written to", too_early),
        ("ALL, and no session left", locked_out),
        ("The old server restarts", restart),
        ("The new primary dies", dies),
    ];
    pair.takes_over(DB2, DB1);
    let machines = Machines::new(program, pair)?;
    for (title, mishap) in command::ALL {
        println!("\n-- {title}");
        mishap(pair, &machines).with_context(|| title)?;
    }
    for (title, mishap) in mishaps {
        println!("\n-- {title}");
        mishap(pair).with_context(|| title)?;
    }
    Ok(command::ALL.len() + mishaps.len())
}

/// What a client shows must contain a text.
fn expect(shown: &str, text: &str) -> Result<()> {
    ensure!(shown.contains(text), "no {text:?} in {shown:?}");
    Ok(())
}

/// A way to write despite `read_only`.
struct Way {
    what: &'static str,
    user: &'static str,
    /// Statements to run before the server is read only.
    prepare: &'static [&'static str],
    /// `$n` is a number that was not used before. If none, the session ends.
    write: Option<&'static str>,
}

const WAYS: [Way; 6] = [
    Way {
        what: "a procedure whose definer is root, called by an ordinary user",
        user: "app",
        prepare: &[],
        write: Some("CALL shop.place_order(1000, $n)"),
    },
    Way {
        what: "READ ONLY ADMIN",
        user: "dba",
        prepare: &[],
        write: Some("INSERT INTO shop.orders VALUES (1001, $n, 2)"),
    },
    Way {
        what: "READ ONLY ADMIN by a role",
        user: "keeper",
        prepare: &["SET ROLE writer"],
        write: Some("INSERT INTO shop.orders VALUES (1002, $n, 2)"),
    },
    Way { what: "FLUSH by a user with RELOAD", user: "flusher", prepare: &[], write: Some("FLUSH HOSTS") },
    Way {
        what: "the end of a session with a temporary table",
        user: "dba",
        prepare: &["SET binlog_format = STATEMENT", "CREATE TEMPORARY TABLE shop.temporary (a INT)"],
        write: None,
    },
    Way {
        what: "the first use of a MEMORY table after a restart",
        user: "app",
        prepare: &[],
        write: Some("SELECT * FROM shop.memory$n"),
    },
];

impl Way {
    fn session(&self, pair: &Pair) -> Result<Session> {
        let mut session = pair.session(DB2, self.user)?;
        self.prepare.iter().try_for_each(|sql| session.query(sql).map(drop))?;
        Ok(session)
    }

    fn go(&self, mut session: Session, n: u32) -> Result<()> {
        match self.write {
            Some(sql) => session.query(&sql.replace("$n", &n.to_string())).map(drop).context(self.what),
            None => Ok(()),
        }
    }
}

/// Anything committed after the position was read is lost with the old primary, so nothing may be.
fn fence(pair: &mut Pair) -> Result<()> {
    const POSITION: &str = "SELECT @@gtid_binlog_pos";
    const INSERT: &str = "INSERT INTO shop.orders VALUES (1000, 1, 2)";
    let runbook = Document::read(RUNBOOK)?;
    for sql in [
        "CREATE ROLE writer",
        "GRANT READ ONLY ADMIN, INSERT ON *.* TO writer",
        &format!("CREATE USER keeper IDENTIFIED BY '{PASSWORD}'"),
        "GRANT writer TO keeper",
        &format!("CREATE USER flusher IDENTIFIED BY '{PASSWORD}'"),
        "GRANT RELOAD ON *.* TO flusher",
        "CREATE TABLE shop.memory1 ENGINE=MEMORY SELECT 1",
        "CREATE TABLE shop.memory2 ENGINE=MEMORY SELECT 1",
    ] {
        pair.sql(DB2, sql)?;
    }
    pair.servers[DB2].stop()?;
    pair.start_again(DB2, &[])?;
    pair.log_in(DB2)?;

    // A transaction that is open at that time cannot be committed, and leaves nothing behind.
    let mut app = pair.session(DB2, "app")?;
    app.query("BEGIN")?;
    app.query(INSERT)?;
    let sessions = WAYS.iter().map(|way| way.session(pair)).collect::<Result<Vec<_>>>()?;
    pair.sql(DB2, "SET GLOBAL read_only = 1")?;
    let Err(error) = app.query("COMMIT") else { bail!("the transaction was committed") };
    println!("{:16}COMMIT: {error}", "");
    expect(&error.to_string(), "ERROR 1290")?;
    ensure!(
        pair.sql(DB2, "SELECT * FROM shop.orders WHERE client = 1000")?.is_empty(),
        "the transaction left something behind"
    );
    for (way, session) in WAYS.iter().zip(sessions) {
        let before = pair.query(DB2, POSITION)?;
        way.go(session, 1)?;
        moved(pair, &before)?.then_some(()).with_context(|| format!("{}: blocked by read_only", way.what))?;
        println!("{:16}read_only does not block: {}", "", way.what);
    }
    let event =
        "CREATE EVENT shop.tick9 ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.ticks VALUES (9, NOW(6), @@server_id)";
    pair.sql(DB2, event)?;
    let before = pair.query(DB2, POSITION)?;
    ensure!(moved(pair, &before)?, "read_only blocks the event");
    println!("{:16}read_only does not block: an event", "");
    pair.sql(DB2, "SET GLOBAL read_only = 0")?;

    // All of them at once, and the COMMIT of an ordinary user: they wait, and succeed after the way back.
    let mut sessions = WAYS.iter().map(|way| way.session(pair)).collect::<Result<Vec<_>>>()?;
    let mut ordinary = pair.session(DB2, "app")?;
    ordinary.query("BEGIN")?;
    ordinary.query("INSERT INTO shop.orders VALUES (1003, 1, 2)")?;
    let position = pair.fence(&runbook)?;
    let waiting: Vec<_> = (0..WAYS.len()).rev().map(|n| (n, sessions.pop())).collect();
    let writes = waiting
        .into_iter()
        .filter_map(|(n, session)| session.map(|session| thread::spawn(move || WAYS[n].go(session, 2))));
    let mut writes: Vec<_> = writes.collect();
    writes.push(thread::spawn(move || ordinary.query("COMMIT").map(drop)));
    sleep(Duration::from_millis(1500));
    ensure!(pair.value(DB2, POSITION)? == position, "something was written despite the fence");
    pair.back(&runbook)?;
    for write in writes {
        write.join().map_err(|_| anyhow!("a writer panicked"))?.context("after the way back")?;
    }
    ensure!(moved(pair, &[vec![position]])?, "nothing is written after the way back");

    for sql in [
        "DROP EVENT shop.tick9",
        "DELETE FROM shop.orders WHERE client >= 1000",
        "DROP TABLE shop.memory1, shop.memory2",
        "DROP USER keeper, flusher",
        "DROP ROLE writer",
    ] {
        pair.sql(DB2, sql)?;
    }
    pair.wait_for_replica(DB2, DB1)
}

/// Whether the position changes within two seconds.
fn moved(pair: &mut Pair, before: &[Vec<String>]) -> Result<bool> {
    for _ in 0..100 {
        if pair.query(DB2, "SELECT @@gtid_binlog_pos")? != before {
            return Ok(true);
        }
        sleep(Duration::from_millis(20));
    }
    Ok(false)
}

fn long_statement(pair: &mut Pair) -> Result<()> {
    let mut app = pair.session(DB2, "app")?;
    let update = thread::spawn(move || app.query("UPDATE shop.orders SET server = 2 WHERE SLEEP(60) = 0 LIMIT 1"));
    let mut ids = Vec::new();
    while ids.is_empty() {
        ensure!(!update.is_finished(), "the statement ended at once");
        ids = pair.query(DB2, SLEEPS)?.concat();
        sleep(Duration::from_millis(5));
    }
    pair.sql(DB2, "SET lock_wait_timeout = 1")?;
    for statement in ["FLUSH TABLES WITH READ LOCK", "SET GLOBAL read_only = 1"] {
        let Err(error) = pair.sql(DB2, statement) else { bail!("the statement did not wait") };
        println!("{:16}{error:#}", "");
        expect(&format!("{error:#}"), "ERROR 1205")?;
    }
    ensure!(pair.value(DB2, "SELECT @@read_only")? == "0");
    pair.sql(DB2, &format!("KILL QUERY {}", ids.concat()))?;
    ensure!(matches!(update.join(), Ok(Err(_))), "the statement was not killed");
    Ok(())
}

fn mistyped(pair: &mut Pair) -> Result<()> {
    pair.sql(DB1, "SET GLOBAL instant_failover_target = 'db2.example.invalid:3306'")?;
    expect(&pair.client(DB1, "SELECT @@server_id")?, "ERROR 2005")?;
    // Nothing listens there.
    pair.sql(DB1, "SET GLOBAL instant_failover_target = '127.0.0.1:1'")?;
    expect(&pair.client(DB1, "SELECT @@server_id")?, "ERROR 2002")?;
    let target = pair.address(DB2);
    pair.sql(DB1, &format!("SET GLOBAL instant_failover_target = '{target}'"))?;
    ensure!(pair.client(DB1, "SELECT @@server_id")? == "2");
    Ok(())
}

fn too_early(pair: &mut Pair) -> Result<()> {
    // Each redirects to the other.
    let target = pair.address(DB1);
    pair.sql(DB2, &format!("SET GLOBAL instant_failover_target = '{target}', instant_failover_mode = ON"))?;
    expect(&pair.client(DB2, "SELECT @@server_id")?, "ERROR 4196")?;
    pair.sql(DB1, "SET GLOBAL instant_failover_mode = OFF")?;
    ensure!(pair.client(DB2, "SELECT @@server_id")? == "1", "db1 does not answer reads");
    expect(&pair.client(DB2, WRITE)?, "ERROR 1290")?;
    // Revert.
    pair.sql(DB2, "SET GLOBAL instant_failover_mode = OFF")?;
    pair.sql(DB1, "SET GLOBAL instant_failover_mode = ON")?;
    ensure!(pair.client(DB1, WRITE)? == "2");
    Ok(())
}

/// Whether db1 redirects a user, both on the socket and on the extra port.
fn closed(pair: &Pair, user: &str) -> Result<bool> {
    let mut redirected = Vec::new();
    for way in [None, Some(pair.servers[DB1].extra_address())] {
        redirected.push(match pair.try_login(DB1, way, user)? {
            Reply::Err(error) if error.code == REDIRECT => true,
            Reply::Ok => false,
            other => bail!("{user} got {other:?}"),
        });
    }
    let places = ["the socket", "the extra port"];
    for (place, redirected) in places.iter().zip(&redirected) {
        println!("{:16}{user} through {place}: {}", "", if *redirected { "ERROR 4196" } else { "accepted" });
    }
    ensure!(redirected[0] == redirected[1], "{user} is accepted on only one of them");
    Ok(redirected[0])
}

fn locked_out(pair: &mut Pair) -> Result<()> {
    let target = format!("--loose-instant-failover-target={}", pair.address(DB2));
    // An exempt user can log in, and root cannot. The session that set ALL is not used any more.
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

    // ALL is in the configuration: the last option wins, and the command line comes last.
    let all = ["--read-only=1", &target, "--loose-instant-failover-mode=ALL"];
    pair.servers[DB1].stop()?;
    pair.start_again(DB1, &all)?;
    ensure!(closed(pair, "root")?);
    pair.servers[DB1].stop()?;
    pair.start_again(DB1, &[&all[..], &["--loose-instant-failover-mode=OFF"]].concat())?;
    pair.log_in(DB1)?;
    ensure!(pair.value(DB1, "SELECT @@instant_failover_mode")? == "OFF");

    // Without grant tables no client is redirected or asked for a password. They also list the plugins, so it must be
    // loaded by an option.
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
    println!("{:16}db1: killed, and started with its old configuration", "");
    pair.servers[DB1].kill();
    pair.start_again(DB1, &[])?;
    pair.log_in(DB1)?;
    ensure!(pair.sql(DB1, ASK)? == [["0", "OFF"]]);
    // It accepts writes that no other server will have.
    ensure!(pair.client(DB1, WRITE)? == "1", "db1 accepts no writes");

    println!("{:16}db1: killed, and started with a configuration for its new role", "");
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
    // From now on, only db2 has what it acknowledges.
    pair.sql(DB1, "STOP SLAVE IO_THREAD")?;
    application.wait_for_writes(2, 20)?;
    println!("{:16}db2: killed", "");
    pair.servers[DB2].kill();
    sleep(Duration::from_millis(500));

    // Apply first what has been received.
    let arrived = pair.slave_status(DB1)?.arrived;
    println!("{:16}db1> SHOW SLAVE STATUS: Gtid_IO_Pos: {arrived}", "");
    ensure!(
        pair.value(DB1, &format!("SELECT MASTER_GTID_WAIT('{arrived}', 60)"))? == "0",
        "db1 did not apply what it received"
    );
    pair.sql(DB1, "STOP SLAVE")?;
    pair.sql(DB1, "RESET SLAVE ALL")?;
    pair.sql(DB1, "SET GLOBAL instant_failover_mode = OFF")?;
    pair.sql(DB1, "SET GLOBAL read_only = 0")?;
    application.wait_for_writes(1, 50)?;
    let journal = application.end()?;
    pair.check_totals(DB1)?;
    println!("{:16}clients saw: {}", "", journal.error_with("2002").context("no client saw that db2 was gone")?);

    // db2 returns, and clients may not write to it.
    pair.start_again(DB2, &["--read-only=1", "--skip-slave-start"])?;
    pair.log_in(DB2)?;
    let (here, there) = (pair.orders(DB1)?, pair.orders(DB2)?);
    let missing: Vec<_> = journal.acknowledged().difference(&here).copied().collect();
    println!("{:16}{} writes that only db2 acknowledged are missing on db1, which was at {arrived}", "", missing.len());
    ensure!(!missing.is_empty(), "nothing was lost although the replica had stopped");
    ensure!(missing.iter().all(|order| there.contains(order)), "db2 does not have what it acknowledged");

    // It cannot replicate from a server that lacks some of its writes.
    let position = pair.value(DB2, "SELECT @@gtid_binlog_pos")?;
    pair.sql(DB2, &format!("SET GLOBAL gtid_slave_pos = '{position}'"))?;
    pair.replicate(DB2, DB1)?;
    let error = io_error(pair, DB2)?;
    ensure!(error.0 == "1236", "{} replicates, or reports {error:?}", name(DB2));
    println!("{:16}{}", "", error.1);

    // Enter the lost writes by hand: those that db2 has and db1 lacks.
    for (client, number) in there.difference(&here) {
        pair.query(DB1, "BEGIN")?;
        pair.query(DB1, &format!("INSERT INTO shop.orders VALUES ({client}, {number}, 2)"))?;
        pair.query(DB1, &format!("UPDATE shop.totals SET orders = orders + 1 WHERE client = {client}"))?;
        pair.query(DB1, "COMMIT")?;
    }
    pair.check_totals(DB1)?;
    journal.check(&pair.orders(DB1)?)
}

/// Waits until a replica reports why it does not read from its primary.
fn io_error(pair: &mut Pair, replica: usize) -> Result<(String, String)> {
    for _ in 0..500 {
        let error = pair.slave_status(replica)?.io_error;
        if error.0 != "0" {
            return Ok(error);
        }
        sleep(Duration::from_millis(20));
    }
    bail!("{} reports no error", name(replica))
}
