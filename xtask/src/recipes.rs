//! `cargo xtask recipes`: every statement that README and runbook tell a person to type, run as it is written on a primary
//! and its replica.

mod document;

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use xtask::build::Flavour;
use xtask::packages;

use crate::Outcome;
use crate::switchover::pair::{Pair, name};

pub(crate) use document::{Document, Statement};

/// The documents with recipes.
const DOCUMENTS: [&str; 2] = ["README.md", RUNBOOK];
pub(crate) const RUNBOOK: &str = "docs/operations.md";

pub(crate) fn command() -> Result<()> {
    run()?.conclude("see above for what failed")
}

/// Runs every recipe. Each section finds a pair of servers as it is before a switchover.
///
/// # Errors
/// If a server cannot be started. A statement that fails is in the outcome.
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
                // The old pair ends before the new one takes its memory.
                drop(pair.take());
                let mut servers = Pair::start(&library)?;
                servers.recipes_can_run()?;
                pair = Some((block.section.clone(), servers));
            }
            let (_, servers) = pair.as_mut().context("there is a pair")?;
            println!("\n-- {place}");
            let ran = block.statements.iter().try_for_each(|statement| run_statement(servers, statement).map(drop));
            outcome +=
                Outcome::of(ran.is_ok(), format!("{place}: {:#}", ran.err().unwrap_or_else(|| anyhow::anyhow!(""))));
        }
    }
    Ok(outcome)
}

/// Runs a statement as it is written, but for the names, positions and passwords that are examples, and compares what it
/// returns with what the document promises. Statements that it returns are for db2, as the document says.
///
/// # Errors
/// If it fails, or does not return what is promised within some seconds.
pub(crate) fn run_statement(pair: &mut Pair, statement: &Statement) -> Result<Vec<Vec<String>>> {
    let sql = pair.with_real_names(&statement.sql)?;
    let [primary, replica] = pair.roles();
    let server = if statement.server == 0 { primary } else { replica };
    // These servers have the library installed; the recipe is for one that has not.
    if sql.starts_with("INSTALL SONAME") {
        pair.query(server, "UNINSTALL SONAME 'instant_failover'")?;
    }
    let mut rows = pair.sql(server, &sql)?;
    if let Some(expected) = &statement.returns {
        let deadline = Instant::now() + Duration::from_secs(5);
        while rows.concat() != *expected {
            // What a replica has yet to apply, or a session that ends.
            if !sql.starts_with("SELECT") || Instant::now() > deadline {
                bail!("{}> {} returns {:?}, not {expected:?}", name(server), statement.sql, rows.concat());
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
