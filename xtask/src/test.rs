//! Every test of the project.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};
use xtask::build::{self, Flavour};
use xtask::{packages, project_root, run, target_dir};

use crate::{Outcome, clients, deb, fuzz, mtr, sanitize, soak, switchover};

/// For each target.
const SECONDS_OF_FUZZING: u64 = 15;
/// With each sanitizer.
const SECONDS_IN_THE_HOST: u64 = 20;
/// Those that valgrind sees in every run; `cargo xtask mtr --valgrind` has more.
const UNDER_VALGRIND: &[&str] = &["instant_failover", "change_user", "install_order"];
const MINUTES_OF_SOAK: u64 = 2;

pub(crate) fn run_all() -> Result<()> {
    packages::install(&[packages::BUILD, packages::SERVER, packages::TEST, packages::FUZZ])?;
    let started = Instant::now();
    let mut outcome = Outcome::default();

    title(started, "Formatting, lints and documentation");
    for (tool, arguments) in [
        ("fmt", &["--all", "--check"][..]),
        ("clippy", &["--quiet", "--workspace", "--all-targets", "--", "--deny=warnings"]),
    ] {
        if cargo(tool).arg("--version").output().is_ok_and(|output| output.status.success()) {
            for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
                let mut cargo = cargo(tool);
                run(cargo.args(["--manifest-path", manifest]).args(arguments).env("CARGO_TARGET_DIR", target_dir()))?;
            }
            outcome.passed += 1;
        } else {
            println!("skipped: cargo {tool} is not installed (rustup component add)");
            outcome.skipped += 1;
        }
    }
    run(cargo("doc")
        .args(["--quiet", "--no-deps", "--document-private-items", "--lib"])
        .args(["--package=instant-failover", "--package=instant-failover-harness"])
        .env("RUSTDOCFLAGS", "--deny=warnings"))?;
    outcome.passed += 1;

    title(started, "Unit and integration tests");
    let (plugin, panicking, harness) = (Flavour::Release.build()?, Flavour::PanicInjection.build()?, build::harness()?);
    run(cargo("test")
        .args(["--quiet", "--workspace", "--no-fail-fast"])
        .env("INSTANT_FAILOVER_SO", plugin)
        .env("INSTANT_FAILOVER_PANIC_SO", panicking)
        .env("INSTANT_FAILOVER_HARNESS", harness))?;

    title(started, "Fuzzing");
    outcome += fuzz::run(&fuzz::Arguments::all(SECONDS_OF_FUZZING))?;

    title(started, "Sanitizers");
    outcome += sanitize::run(&[], SECONDS_IN_THE_HOST)?;

    title(started, "MTR suite, with the MariaDB of every release");
    outcome += mtr::run_versions()?;

    title(started, "MTR suite under valgrind");
    outcome += mtr::run_valgrind(UNDER_VALGRIND)?;

    title(started, "MariaDB's own tests");
    outcome += mtr::run_server_tests()?;

    title(started, "Client libraries");
    outcome += clients::run(&clients::Arguments::default())?;

    title(started, "Soak");
    outcome += soak::run(&soak::Arguments { minutes: MINUTES_OF_SOAK, seed: Some(1), keep: false })?;

    title(started, "Switchover");
    outcome += switchover::run(&switchover::Arguments { short: true, keep: false })?;

    title(started, "Packages");
    outcome += deb::test()?;

    title(started, "Measurements, short");
    // A process of its own: what measures is built to be fast.
    run(cargo("xtask").args(["bench", "--short"]))?;
    outcome.passed += 1;

    println!("\nAll but the unit and integration tests: {outcome}");
    if outcome.failed > 0 {
        bail!("see above for what failed");
    }
    println!("The unit and integration tests passed too.");
    Ok(())
}

fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(project_root()).arg(command);
    cargo
}

/// Says what comes, and how long it took to get there.
fn title(started: Instant, text: &str) {
    println!("\n=== {text} === (after {} s)", started.elapsed().as_secs());
}
