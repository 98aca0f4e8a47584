//! `cargo xtask recipes`: runs every statement that the documents tell you to type, as written, on a primary
//! and its replica.

mod document;

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use support::build::Flavour;
use support::packages;
use support::wire::Reply;

use crate::Outcome;
use crate::switchover::pair::{Pair, name};

pub(crate) use document::{Document, Statement};

/// The documents with recipes.
const DOCUMENTS: [&str; 5] = ["README.md", "docs/install.md", REFERENCE, RUNBOOK, "docs/way-out.md"];
const REFERENCE: &str = "docs/reference.md";
pub(crate) const RUNBOOK: &str = "docs/operations.md";

pub(crate) fn command() -> Result<()> {
    run()?.conclude("a recipe failed; see above")
}

/// Runs every recipe. Each section starts with a pair of servers as they are before a switchover.
///
/// # Errors
/// If a server cannot be started. The outcome contains statements that fail.
pub(crate) fn run() -> Result<Outcome> {
    packages::install(&[packages::BUILD, packages::SERVER])?;
    let library = Flavour::Release.build()?;
    let mut outcome = Outcome::default();
    for path in DOCUMENTS {
        let document = Document::read(path)?;
        let mut pair: Option<(String, Pair)> = None;
        for block in document.blocks {
            let place = format!("{path}:{}", block.line);
            if let Some(reason) = &block.not_run {
                println!("\n-- {place}: not run: {reason}");
                continue;
            }
            if pair.as_ref().is_none_or(|(section, _)| *section != block.section) {
                println!("\n== {path}: {}", block.section);
                // Stop the old pair before the new one needs the memory.
                drop(pair.take());
                let mut servers = Pair::start(&library)?;
                servers.recipes_can_run()?;
                pair = Some((block.section.clone(), servers));
            }
            let (_, servers) = pair.as_mut().context("no pair of servers")?;
            println!("\n-- {place}");
            let ran = block.statements.iter().try_for_each(|statement| run_statement(servers, statement).map(drop));
            let ran = ran.and_then(|()| servers.still_replicates());
            outcome +=
                Outcome::of(ran.is_ok(), format!("{place}: {:#}", ran.err().unwrap_or_else(|| anyhow::anyhow!(""))));
        }
    }
    for (name, test) in [
        ("one tenant, and a replica without the plugin", one_tenant as fn(&Path) -> Result<()>),
        ("the dead man's switch fires", dead_mans_switch),
    ] {
        println!("\n== {name}");
        let ended = test(&library);
        outcome +=
            Outcome::of(ended.is_ok(), format!("{name}: {:#}", ended.err().unwrap_or_else(|| anyhow::anyhow!(""))));
    }
    Ok(outcome)
}

/// Only db1 redirects the tenant, which keeps its password on the replica and can be moved back. Without the precautions
/// of the recipe, the replica stops.
fn one_tenant(library: &Path) -> Result<()> {
    let recipe = Document::read(REFERENCE)?;
    let blocks: Vec<_> =
        recipe.blocks.iter().filter(|block| block.statements.iter().any(|s| s.sql.contains("tenant7"))).collect();
    ensure!(
        blocks.len() == 2,
        "{REFERENCE} must have two blocks for a tenant, there and back, but has {}",
        blocks.len()
    );
    let mut pair = Pair::start(library)?;
    pair.recipes_can_run()?;
    pair.query(1, "UNINSTALL SONAME 'instant_failover'")?;
    for (block, answer) in blocks.iter().zip(["a redirect", "access"]) {
        block.statements.iter().try_for_each(|statement| run_statement(&mut pair, statement).map(drop))?;
        pair.still_replicates()?;
        for (server, expected) in [(0, answer), (1, "access")] {
            let told = match pair.try_login(server, Some(pair.address(server)), "tenant7")? {
                Reply::Err(error) if error.code == 4196 => "a redirect",
                Reply::Ok => "access",
                other => bail!("tenant7 got {other:?} from {}", name(server)),
            };
            ensure!(told == expected, "tenant7 on {}: got {told}, expected {expected}", name(server));
        }
    }
    pair.sql(0, "ALTER USER tenant7 IDENTIFIED VIA instant_failover USING 'db7.example.com:3306'")?;
    ensure!(
        pair.still_replicates().is_err(),
        "the replica survives the statement, so the recipe's precautions are unnecessary"
    );
    Ok(())
}

/// Runs the recipe as written, with a shorter time.
fn dead_mans_switch(library: &Path) -> Result<()> {
    let runbook = Document::read(RUNBOOK)?;
    let blocks: Vec<_> = runbook.blocks.iter().filter(|block| block.section == "A dead man's switch").collect();
    let [there, back] = blocks[..] else { bail!("\"A dead man's switch\" in the runbook must have two blocks") };
    let mut pair = Pair::start(library)?;
    pair.recipes_can_run()?;
    for statement in &there.statements {
        let sql = statement.sql.replace("INTERVAL 30 MINUTE", "INTERVAL 2 SECOND");
        run_statement(&mut pair, &Statement { sql, ..statement.clone() })?;
    }
    pair.sql(0, "SET GLOBAL instant_failover_mode = ALL")?;
    let off = "SELECT @@instant_failover_mode";
    run_statement(&mut pair, &Statement { server: 0, sql: off.to_owned(), returns: Some(vec!["ALL".to_owned()]) })?;
    run_statement(&mut pair, &Statement { server: 0, sql: off.to_owned(), returns: Some(vec!["OFF".to_owned()]) })?;
    back.statements.iter().try_for_each(|statement| run_statement(&mut pair, statement).map(drop))?;
    pair.still_replicates()
}

/// Runs a statement as written, with real names, positions and passwords in place of the examples, and compares its result
/// with the document. Statements in the result are run on db2, as the document says.
///
/// # Errors
/// If it fails, or does not return the documented result within a few seconds.
pub(crate) fn run_statement(pair: &mut Pair, statement: &Statement) -> Result<Vec<Vec<String>>> {
    let sql = pair.with_real_names(&statement.sql)?;
    let [primary, replica] = pair.roles();
    let server = if statement.server == 0 { primary } else { replica };
    // These servers have the plugin installed; the recipe is for one that does not.
    if sql.starts_with("INSTALL SONAME") {
        pair.query(server, "UNINSTALL SONAME 'instant_failover'")?;
    }
    let mut rows = pair.sql(server, &sql)?;
    if let Some(expected) = &statement.returns {
        let deadline = Instant::now() + Duration::from_secs(5);
        while rows.concat() != *expected {
            // A replica may still be applying, or a session ending.
            if !sql.starts_with("SELECT") || Instant::now() > deadline {
                bail!("{}> {} returns {:?}, expected {expected:?}", name(server), statement.sql, rows.concat());
            }
            sleep(Duration::from_millis(20));
            rows = pair.query(server, &sql)?;
        }
    }
    for enable in rows.iter().flatten().filter(|value| value.starts_with("ALTER DEFINER=")) {
        pair.sql(replica, enable.trim_end_matches(';'))?;
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use support::project_root;

    use super::DOCUMENTS;

    /// The command's options are as its command line has them. What it does is tested by `cargo xtask switchover`.
    #[test]
    fn commands_in_the_documents_are_valid() {
        let mut found = 0;
        for path in DOCUMENTS.iter().chain(&["packaging/instant-failover.1"]) {
            let text = fs::read_to_string(project_root().join(path)).unwrap();
            // In the manual page without a prompt, and in a loop.
            let lines = text.lines().map(|line| line.trim().trim_start_matches("$ "));
            for line in lines.filter(|line| line.starts_with("instant-failover ")) {
                let line = line.split(" #").next().unwrap_or_default().split(" ||").next().unwrap_or_default();
                let parsed = switchover::command::command_line().try_get_matches_from(line.split_whitespace());
                assert!(parsed.is_ok(), "{path}: {line}: {}", parsed.unwrap_err());
                found += 1;
            }
        }
        assert!(found > 10, "{found}");
    }
}
