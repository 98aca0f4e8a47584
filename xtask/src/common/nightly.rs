//! The nightly compiler, for what the stable one cannot do.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::{Context, Result};
use support::{output, project_root};

const TOOLCHAIN: &str = "nightly";

/// Runs a program of the toolchain.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut rustup = Command::new("rustup");
    rustup.current_dir(project_root()).args(["run", TOOLCHAIN]).arg(program);
    rustup
}

/// Whether it is there with these components, which are installed where they are missing. If that fails, it has said what
/// to do.
pub(crate) fn is_there(components: &[&str]) -> bool {
    if has(components) {
        return true;
    }
    let mut install = Command::new("rustup");
    if has(&[]) {
        // The compiler that is there stays as it is.
        install.args(["component", "add", "--toolchain", TOOLCHAIN]).args(components);
    } else {
        install.args(["toolchain", "install", TOOLCHAIN, "--no-self-update", "--profile=minimal"]);
        install.args(components.iter().map(|component| format!("--component={component}")));
    }
    if output(&mut install).is_ok() && has(components) {
        return true;
    }
    println!("skipped: this needs a nightly compiler, which could not be installed here. Please try {install:?}");
    false
}

fn has(components: &[&str]) -> bool {
    let list = Command::new("rustup").args(["component", "list", "--installed", "--toolchain", TOOLCHAIN]).output();
    list.is_ok_and(|list| {
        let installed = String::from_utf8_lossy(&list.stdout).into_owned();
        list.status.success() && components.iter().all(|name| installed.lines().any(|line| line == *name))
    })
}

/// The name of this kind of machine, as in `--target`.
pub(crate) fn host() -> Result<String> {
    let version = output(command("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc has no host")?;
    Ok(host.to_owned())
}
