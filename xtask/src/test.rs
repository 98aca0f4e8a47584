//! Every test of the project.

use std::process::Command;

use anyhow::{Result, bail};
use xtask::build::Flavour;
use xtask::{packages, project_root, run};

use crate::{clients, mtr};

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
    let mtr = mtr::run(&mtr::Arguments::default())?;

    title("Client libraries");
    let clients = clients::run(&clients::Arguments::default())?;
    for reason in &skipped {
        println!("skipped: {reason}");
    }
    println!(
        "\nMTR, clients and tools: {} passed, {} failed, {} skipped",
        mtr.passed + clients.passed,
        mtr.failed + clients.failed,
        mtr.skipped + clients.skipped + skipped.len()
    );
    if mtr.failed > 0 {
        bail!("the MTR suite failed");
    }
    if clients.failed > 0 {
        bail!("a client did not do as it should");
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
