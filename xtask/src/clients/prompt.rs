//! What is expected of `mariadb` at a terminal.

use std::path::Path;

use anyhow::{Result, ensure};

use super::{Notes, SOON, USER, WHAT_HARNESS_IS, World};
use crate::common::script::Script;

/// What `\s` prints, in this order. White space in an answer is normalised.
const STATUS: &[&str] = &[
    "Connection id: ",
    "Current database: demo ",
    "Current user: app@127.0.0.1 SSL: ",
    "Using delimiter: ; Server: MariaDB Server version: ",
    "Protocol version: 10 Connection: 127.0.0.1 via TCP/IP Server characterset: ",
    "Db characterset: ",
    "Client characterset: ",
    "Conn. characterset: ",
    "TCP port: ",
    "Uptime: ",
    "Threads: ",
    "Questions: ",
    "app@127.0.0.1 [demo]>",
];

pub(super) fn check(world: &mut World, script: &mut Script, notes: &mut Notes) -> Result<()> {
    if !Path::new("/dev/pts/ptmx").exists() {
        notes.skipped.push("this machine has no terminals: /dev/pts is not mounted".to_owned());
        return Ok(());
    }
    let db2 = world.db2.address().to_string();
    let port = world.db1.address().port();
    let moved = format!("ERROR 4196 (HY000): |Server is directing clients to the alternative server '{db2}'.|{db2} ");
    let (refused, version) = if world.db1.has_data() {
        ("ERROR 1146 (42S02): ".to_owned(), "-MariaDB")
    } else {
        (format!("ERROR 1235 (42000): {WHAT_HARNESS_IS}"), "instant-failover-harness")
    };

    expect(script, &["start"], &["Welcome to the MariaDB monitor.", version, &format!("{USER}@127.0.0.1 [(none)]>")])?;
    expect(script, &["enter", "use demo"], &["Database changed", "app@127.0.0.1 [demo]>"])?;
    // This asks again for the words that the Tab key completes.
    expect(script, &["enter", "rehash"], &["rehash app@127.0.0.1 [demo]>"])?;
    expect(script, &["enter", "\\s"], STATUS)?;
    expect(
        script,
        &["enter", "SHOW VARIABLES LIKE 'port';"],
        &["| Variable_name | Value |", &format!("| port | {port} |"), "1 row in set"],
    )?;
    expect(
        script,
        &["enter", "SELECT user(), DATABASE(), @@port, TRUE, (1);"],
        &["| user() | DATABASE() | @@port | TRUE | 1 |", &format!("| app@127.0.0.1 | demo | {port} | 1 | 1 |")],
    )?;
    expect(script, &["enter", "SELECT * FROM nowhere;"], &[&refused, "app@127.0.0.1 [demo]>"])?;
    world.redirect(Some(&db2))?;
    expect(script, &["enter", "connect"], &[&moved, "app@not_connected [demo]>"])?;
    world.redirect(None)?;
    expect(script, &["enter", "connect"], &["Connection id: ", "Current database: demo", "app@127.0.0.1 [demo]>"])?;
    expect(script, &["enter", "quit"], &["Bye"])?;
    notes.said.push("shows what is expected".to_owned());
    Ok(())
}

/// The answer must contain all of `wanted`, in this order, and no other error.
fn expect(script: &mut Script, words: &[&str], wanted: &[&str]) -> Result<()> {
    let answer = script.ask(words)?;
    let mut rest = answer.text.as_str();
    for wanted in wanted {
        let found = rest.split_once(wanted);
        ensure!(found.is_some(), "{words:?}: '{wanted}' expected, got '{}'", answer.text);
        rest = found.map_or("", |(_, after)| after);
    }
    let is_error = wanted.iter().any(|wanted| wanted.starts_with("ERROR "));
    ensure!(is_error || !answer.text.contains("ERROR"), "{words:?}: got '{}'", answer.text);
    ensure!(answer.took < SOON, "{words:?}: it took {:?}", answer.took);
    Ok(())
}
