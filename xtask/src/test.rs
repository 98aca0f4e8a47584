//! Every test of the project.

use std::process::Command;

use anyhow::{Result, bail};
use xtask::build::Flavour;
use xtask::{packages, project_root, run};

use crate::mtr;

pub(crate) fn run_all() -> Result<()> {
    packages::install(&[packages::BUILD, packages::SERVER, packages::TEST])?;
    let mut skipped = Vec::new();

    title("Formatting and lints");
    for (tool, arguments) in [
        ("fmt", &["--all", "--check"][..]),
        ("clippy", &["--quiet", "--workspace", "--all-targets", "--", "--deny=warnings"]),
    ] {
        if cargo(tool).arg("--version").output().is_ok_and(|output| output.status.success()) {
            run(cargo(tool).args(arguments))?;
        } else {
            skipped.push(format!("cargo {tool} is not installed (rustup component add)"));
        }
    }

    title("Unit and integration tests");
    let (plugin, panicking) = (Flavour::Release.build()?, Flavour::PanicInjection.build()?);
    run(cargo("test")
        .args(["--quiet", "--workspace", "--no-fail-fast"])
        .env("INSTANT_FAILOVER_SO", plugin)
        .env("INSTANT_FAILOVER_PANIC_SO", panicking))?;

    title("MTR suite");
    let outcome = mtr::run(&mtr::Arguments::default())?;
    for reason in &skipped {
        println!("skipped: {reason}");
    }
    println!(
        "\nMTR and tools: {} passed, {} failed, {} skipped",
        outcome.passed,
        outcome.failed,
        outcome.skipped + skipped.len()
    );
    if outcome.failed > 0 {
        bail!("the MTR suite failed");
    }
    println!("Everything else passed too.");
    Ok(())
}

fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(project_root()).arg(command);
    cargo
}

fn title(text: &str) {
    println!("\n=== {text} ===");
}
