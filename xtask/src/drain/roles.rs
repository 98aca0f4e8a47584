//! What clients do: each kind of work that a drain must not cut.

use std::io::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, LocalInfileHandler, Result};

use super::work::{Open, Work, nap};

/// A kind of client.
#[derive(Debug)]
pub(super) struct Role {
    pub(super) name: &'static str,
    /// Statements after each login.
    pub(super) setup: &'static [&'static str],
    /// One unit of work, again and again.
    pub(super) act: fn(&mut Work) -> Result<()>,
}

const fn role(name: &'static str, act: fn(&mut Work) -> Result<()>) -> Role {
    Role { name, setup: &[], act }
}

const NO_AUTOCOMMIT: &[&str] = &["SET autocommit = 0"];

pub(super) const ROLES: &[Role] = &[
    role("BEGIN, INSERTs, COMMIT", transaction),
    role("autocommit INSERT", autocommit),
    Role { name: "autocommit = 0, writes", setup: NO_AUTOCOMMIT, act: implicit },
    Role { name: "autocommit = 0, reads", setup: NO_AUTOCOMMIT, act: implicit_read },
    role("XA", xa),
    role("LOCK TABLES", lock_tables),
    role("CALL with a transaction inside", call),
    role("CALL with autocommit, and an error handled inside", call_handler),
    role("BEGIN; INSERT; COMMIT in one packet", one_packet),
    role("INSERT; INSERT in one packet", two_in_one_packet),
    role("prepared statements", prepared),
    role("prepared statements in a transaction", prepared_transaction),
    role("PREPARE s FROM 'BEGIN'", prepared_in_sql),
    role("LOAD DATA LOCAL in a transaction", load_data),
    role("large results, read slowly", large_result),
    role("slow statements", slow),
    role("statements that fail", failing),
    role("statements that fail in a transaction", failing_in_transaction),
    role("SAVEPOINT", savepoint),
    role("ping, then INSERT", ping),
    role("COM_RESET_CONNECTION", reset),
    role("seldom anything", seldom),
];

fn transaction(work: &mut Work) -> Result<()> {
    work.run("BEGIN")?;
    work.opens(Open::Transaction);
    for _ in 0..work.random.u8(1..4) {
        work.nap();
        work.insert()?;
    }
    commit(work)
}

fn commit(work: &mut Work) -> Result<()> {
    work.nap();
    work.run("COMMIT")?;
    work.closes();
    Ok(())
}

fn autocommit(work: &mut Work) -> Result<()> {
    work.insert().map(drop)
}

fn implicit(work: &mut Work) -> Result<()> {
    work.insert()?;
    work.opens(Open::Transaction);
    work.nap();
    work.run("SELECT COUNT(*) FROM small")?;
    work.nap();
    work.insert()?;
    commit(work)
}

fn implicit_read(work: &mut Work) -> Result<()> {
    work.run("SELECT COUNT(*) FROM small")?;
    work.opens(Open::Transaction);
    work.nap();
    work.insert()?;
    commit(work)
}

fn xa(work: &mut Work) -> Result<()> {
    let number = work.number();
    let step = |work: &mut Work, what: &str| {
        work.nap();
        work.run(&format!("XA {what} '{number}'"))
    };
    step(work, "START")?;
    work.opens(Open::Xa);
    work.nap();
    work.run(&format!("INSERT INTO writes (n) VALUES ({number})"))?;
    step(work, "END")?;
    step(work, "PREPARE")?;
    step(work, "COMMIT")?;
    work.closes();
    Ok(())
}

/// The table that is locked by the client with this number.
pub(super) fn own_table(client: u32) -> String {
    format!("locked_{client}")
}

fn lock_tables(work: &mut Work) -> Result<()> {
    let table = own_table(work.client());
    work.run(&format!("LOCK TABLES {table} WRITE"))?;
    work.opens(Open::Locks);
    for _ in 0..2 {
        work.nap();
        let number = work.number();
        work.run(&format!("INSERT INTO {table} (n) VALUES ({number})"))?;
        work.acknowledged();
    }
    work.nap();
    work.run("UNLOCK TABLES")?;
    work.closes();
    Ok(())
}

/// The procedures that clients call.
pub(super) const PROCEDURES: &[&str] = &[
    "CREATE PROCEDURE in_a_transaction(a BIGINT, b BIGINT) BEGIN \
     START TRANSACTION; INSERT INTO writes (n) VALUES (a); DO SLEEP(0.005); INSERT INTO writes (n) VALUES (b); COMMIT; \
     END",
    "CREATE PROCEDURE with_a_handler(a BIGINT, b BIGINT) BEGIN \
     DECLARE CONTINUE HANDLER FOR 1062 SELECT 'handled'; \
     INSERT INTO writes (n) VALUES (a); INSERT INTO small (n) VALUES (1); DO SLEEP(0.005); \
     INSERT INTO writes (n) VALUES (b); END",
];

fn call(work: &mut Work) -> Result<()> {
    let (a, b) = (work.number(), work.number());
    work.run(&format!("CALL in_a_transaction({a}, {b})"))
}

fn call_handler(work: &mut Work) -> Result<()> {
    let (a, b) = (work.number(), work.number());
    work.run(&format!("CALL with_a_handler({a}, {b})"))
}

fn one_packet(work: &mut Work) -> Result<()> {
    let number = work.number();
    work.run(&format!("BEGIN; INSERT INTO writes (n) VALUES ({number}); DO SLEEP(0.002); COMMIT"))
}

fn two_in_one_packet(work: &mut Work) -> Result<()> {
    let (a, b) = (work.number(), work.number());
    work.run(&format!("INSERT INTO writes (n) VALUES ({a}); INSERT INTO writes (n) VALUES ({b})"))
}

const PREPARED: &str = "INSERT INTO writes (n) VALUES (?)";

/// Its `COM_STMT_CLOSE` gets no answer.
fn prepared(work: &mut Work) -> Result<()> {
    let statement = work.conn.prep(PREPARED)?;
    work.nap();
    let number = work.number();
    work.conn.exec_drop(&statement, (number,))?;
    work.closes();
    work.nap();
    work.conn.close(statement)
}

fn prepared_transaction(work: &mut Work) -> Result<()> {
    let statement = work.conn.prep(PREPARED)?;
    work.run("START TRANSACTION")?;
    work.opens(Open::Transaction);
    for _ in 0..2 {
        work.nap();
        let number = work.number();
        work.conn.exec_drop(&statement, (number,))?;
    }
    let sum = work.conn.prep("SELECT COUNT(*) FROM small WHERE n < ?")?;
    let _: Option<u64> = work.conn.exec_first(&sum, (10,))?;
    work.conn.close(sum)?;
    work.conn.close(statement)?;
    commit(work)
}

fn prepared_in_sql(work: &mut Work) -> Result<()> {
    work.run("PREPARE b FROM 'BEGIN'")?;
    work.nap();
    work.run("EXECUTE b")?;
    work.opens(Open::Transaction);
    work.nap();
    let number = work.number();
    work.run(&format!("EXECUTE IMMEDIATE 'INSERT INTO writes (n) VALUES ({number})'"))?;
    work.run("PREPARE c FROM 'COMMIT'")?;
    work.nap();
    work.run("EXECUTE c")?;
    work.closes();
    Ok(())
}

fn load_data(work: &mut Work) -> Result<()> {
    let lines: Vec<u64> = (0..3).map(|_| work.number()).collect();
    let mut random = work.random.fork();
    work.conn.set_local_infile_handler(Some(LocalInfileHandler::new(move |_, to| {
        for line in &lines {
            writeln!(to, "{line}")?;
            to.flush()?;
            nap(&mut random);
        }
        Ok(())
    })));
    work.run("BEGIN")?;
    work.opens(Open::Transaction);
    work.run("LOAD DATA LOCAL INFILE 'numbers' INTO TABLE writes (n)")?;
    commit(work)
}

/// More than a socket holds: the server waits for the client.
fn large_result(work: &mut Work) -> Result<()> {
    work.rows("SELECT REPEAT('x', 100000) FROM small", |random| {
        if random.u8(..4) == 0 {
            sleep(Duration::from_millis(random.u64(..5)));
        }
    })
}

fn slow(work: &mut Work) -> Result<()> {
    let seconds = f32::from(work.random.u8(..40)) / 100.0;
    let number = work.number();
    work.run(&format!("INSERT INTO writes (n) SELECT {number} + SLEEP({seconds})"))?;
    work.closes();
    work.nap();
    work.run(&format!("SELECT SLEEP({seconds})"))
}

const DUPLICATE: (&str, u16) = ("INSERT INTO small (n) VALUES (1)", 1062);
const SYNTAX: (&str, u16) = ("INSERT THIS", 1064);

fn failing(work: &mut Work) -> Result<()> {
    let (sql, code) = if work.random.bool() { DUPLICATE } else { SYNTAX };
    work.fails(sql, code)?;
    work.nap();
    work.insert().map(drop)
}

fn failing_in_transaction(work: &mut Work) -> Result<()> {
    work.run("BEGIN")?;
    work.opens(Open::Transaction);
    work.nap();
    work.insert()?;
    let (sql, code) = if work.random.bool() { DUPLICATE } else { SYNTAX };
    work.fails(sql, code)?;
    work.nap();
    work.insert()?;
    commit(work)
}

fn savepoint(work: &mut Work) -> Result<()> {
    work.run("BEGIN")?;
    work.opens(Open::Transaction);
    work.insert()?;
    work.run("SAVEPOINT a")?;
    work.nap();
    let number = work.insert()?;
    work.run("ROLLBACK TO SAVEPOINT a")?;
    work.takes_back(&[number]);
    work.nap();
    work.insert()?;
    commit(work)
}

/// A pool that validates a connection before it lends it.
fn ping(work: &mut Work) -> Result<()> {
    let before = Instant::now();
    work.conn.ping()?;
    sleep(Duration::from_millis(work.random.u64(..5)));
    work.pinged = Some(before);
    work.insert()?;
    work.pinged = None;
    Ok(())
}

fn reset(work: &mut Work) -> Result<()> {
    work.conn.reset()?;
    work.nap();
    transaction(work)
}

fn seldom(work: &mut Work) -> Result<()> {
    work.insert()?;
    work.closes();
    sleep(Duration::from_millis(work.random.u64(..1000)));
    Ok(())
}

/// Prepares a new connection for its role.
pub(super) fn set_up(role: &Role, conn: &mut Conn) -> Result<()> {
    role.setup.iter().try_for_each(|sql| conn.query_drop(sql))
}
