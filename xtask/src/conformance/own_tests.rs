//! The packages' own tests: the command that each README gives.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use support::build::{self, Flavour};
use support::{packages, project_root, run};

use super::language;
use crate::Outcome;
use crate::common::tools::forget_settings;

/// The folder in `clients/`, and a command for the shell.
const COMMANDS: &[(&str, &str)] = &[
    ("go", "go test -race ./..."),
    ("java", "mvn -q -B verify"),
    ("node", "npm ci --no-audit --no-fund && npm test"),
    ("php", "./test.sh"),
    ("python", "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/pytest"),
    ("rust", "cargo test --quiet --package instant-failover-client --features r2d2,deadpool"),
];

/// Runs those of every language that has an adapter.
pub(super) fn run_all(names: &[String]) -> Result<Outcome> {
    let mut folders: Vec<_> =
        language::choose(None, names)?.iter().map(|language| language.folder().to_owned()).collect();
    folders.dedup();
    let needed: Vec<_> = folders.iter().flat_map(|folder| packages::of_language(folder)).collect();
    packages::install(&[packages::BUILD, packages::SERVER, packages::TEST, &needed])?;
    let (library, harness) = (Flavour::Release.build()?, build::harness()?);
    let mut outcome = Outcome::default();
    for folder in &folders {
        println!("\n{folder}:");
        let result = test(folder, &library, &harness);
        let why = result.as_ref().err().map(|error| format!("{folder}: {error:#}"));
        outcome += Outcome::of(result.is_ok(), why.unwrap_or_default());
    }
    Ok(outcome)
}

fn test(folder: &str, library: &Path, harness: &Path) -> Result<()> {
    let known = COMMANDS.iter().find(|(name, _)| *name == folder);
    let (_, line) = known.context("there is no command for its tests; add it in xtask/src/conformance/own_tests.rs")?;
    let mut command = Command::new("sh");
    forget_settings(&mut command);
    command
        .args(["-c", line])
        .current_dir(project_root().join("clients").join(folder))
        .env("INSTANT_FAILOVER_SO", library)
        .env("INSTANT_FAILOVER_STANDIN", harness);
    run(&mut command)
}
