//! `cargo xtask conformance`: the packages in `clients/` all do the same.
//!
//! Each package has an adapter, described by `conformance/command.json`. What is expected of it is here, once for all languages: of
//! its parser, with the published vectors and random messages, and of its connections, with real servers and servers that misbehave.
//! With `--switch`, its application works through a live switchover.

mod language;
mod load;
mod own_tests;
mod parser;
mod scenarios;
mod table;
mod world;

use std::path::PathBuf;

use anyhow::Result;
use support::build::{self, Flavour};
use support::packages;

use crate::Outcome;
use crate::common::results::{self, RESULTS};
use crate::common::tools;

use language::Language;
use table::Table;
use world::World;

#[expect(clippy::struct_excessive_bools, reason = "options of a command line")]
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Folders in `clients/` [default: all that have an adapter]
    languages: Vec<String>,
    /// Let the application of each write through a live switchover, instead
    #[arg(long)]
    switch: bool,
    /// With --switch: one driver of each language, for half the time
    #[arg(long, requires = "switch", conflicts_with = "keep")]
    short: bool,
    /// Run the packages' own tests, instead
    #[arg(long, conflicts_with_all = ["switch", "keep", "clients"])]
    own_tests: bool,
    /// If nothing fails, write the table to docs/clients.md, or the results of --switch to docs/results/README.md
    #[arg(long, conflicts_with = "languages")]
    keep: bool,
    /// Look for the languages in another folder than `clients/`
    #[arg(long, value_name = "DIR", conflicts_with = "keep")]
    clients: Option<PathBuf>,
}

/// Where the table is.
const DOCUMENT: &str = "docs/clients.md";

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    run(arguments)?.conclude("a package did not behave as expected")
}

/// Builds the adapters, and tests each.
fn run(arguments: &Arguments) -> Result<Outcome> {
    if arguments.own_tests {
        return own_tests::run_all(&arguments.languages);
    }
    let mut languages = language::choose(arguments.clients.as_deref(), &arguments.languages)?;
    languages.retain(|language| !arguments.short || language.name == language.folder());
    let needed: Vec<_> = languages.iter().flat_map(Language::packages).collect();
    packages::install(&[packages::BUILD, packages::SERVER, packages::TEST, tools::ALWAYS, &needed])?;
    let (library, harness) = (Flavour::Release.build()?, build::harness()?);
    let mut outcome = Outcome::default();
    let languages: Vec<_> = languages
        .into_iter()
        .filter(|language| match language.build() {
            Ok(()) => true,
            Err(error) => {
                outcome += Outcome::of(false, format!("{}: cannot build the adapter: {error:#}", language.name));
                false
            }
        })
        .collect();

    if arguments.switch {
        let (report, result) = load::switch(&languages, &library, if arguments.short { 30 } else { 60 })?;
        println!("\n{report}\n");
        outcome += result;
        if arguments.keep && outcome.failed.is_empty() {
            results::keep(RESULTS, "conformance", &report)?;
        }
        return Ok(outcome);
    }

    let mut table = Table::default();
    let mut world = World::start(&library, &harness)?;
    for language in &languages {
        println!("\n{}:", language.name);
        table.note(language, parser::SCENARIO, parser::check(language));
        scenarios::check(language, &mut world, &mut table)?;
    }
    world.stop()?;
    println!("\n{table}\n");
    outcome += table.outcome();
    if arguments.keep && outcome.failed.is_empty() {
        results::keep(DOCUMENT, "conformance", &table.to_string())?;
    }
    Ok(outcome)
}
