//! The nightly compiler, for what the stable compiler cannot do.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use support::{output, project_root};

const TOOLCHAIN: &str = "nightly";

/// Runs a program of the toolchain.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut rustup = Command::new("rustup");
    rustup.current_dir(project_root()).args(["run", TOOLCHAIN]).arg(program);
    rustup
}

/// Installs the toolchain with these components if it is missing.
///
/// # Errors
/// If that fails; the error names the command to try.
pub(crate) fn install(components: &[&str]) -> Result<()> {
    if has(components) {
        return Ok(());
    }
    let mut install = Command::new("rustup");
    if has(&[]) {
        // Do not update the installed compiler.
        install.args(["component", "add", "--toolchain", TOOLCHAIN]).args(components);
    } else {
        install.args(["toolchain", "install", TOOLCHAIN, "--no-self-update", "--profile=minimal"]);
        install.args(components.iter().map(|component| format!("--component={component}")));
    }
    output(&mut install)
        .context("this needs a nightly compiler, which could not be installed; install it with rustup")?;
    ensure!(
        has(components),
        "the nightly compiler is still incomplete after {install:?}; install {components:?} with rustup"
    );
    Ok(())
}

fn has(components: &[&str]) -> bool {
    let list = Command::new("rustup").args(["component", "list", "--installed", "--toolchain", TOOLCHAIN]).output();
    list.is_ok_and(|list| {
        let installed = String::from_utf8_lossy(&list.stdout).into_owned();
        list.status.success() && components.iter().all(|name| installed.lines().any(|line| line == *name))
    })
}

/// The target triple of this machine, as in `--target`.
pub(crate) fn host() -> Result<String> {
    let version = output(command("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("`rustc -vV` prints no host")?;
    Ok(host.to_owned())
}
