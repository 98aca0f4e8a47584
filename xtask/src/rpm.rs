//! `cargo xtask rpm`: RPMs of the plugin, the stand-in and the command, and a test of them. What is in them is in the
//! `[package.metadata.generate-rpm]` of each `Cargo.toml`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use support::build::{self, Flavour};
use support::{output, packages, project_root, system, target_dir};

use crate::Outcome;
use crate::deb::{built_in, completions, packager, try_in_copy};

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Install, use and remove them in a root directory
    #[arg(long)]
    test: bool,
}

/// What makes the packages.
const CARGO_GENERATE_RPM: &str = "0.21.1";
/// The release of Debian whose root directory has rpm.
const SUITE: &str = "bookworm";

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    if arguments.test {
        return test()?.conclude("see above for what failed");
    }
    for file in fs::read_dir(build()?)? {
        println!("{}", file?.path().display());
    }
    Ok(())
}

/// Builds them, and tries them as a database administrator would.
pub(crate) fn test() -> Result<Outcome> {
    if !packages::is_root() {
        println!("skipped: only root can install packages in a root directory");
        return Ok(Outcome { skipped: 1, ..Outcome::default() });
    }
    packages::install(&[packages::ROOTS])?;
    Ok(try_in_copy(&system::installed(SUITE)?, &build()?, "rpm.sh")?.at("RPM"))
}

/// Builds them in a directory that has nothing else.
fn build() -> Result<PathBuf> {
    packages::install(&[packages::BUILD])?;
    completions()?;
    let directory = target_dir().join("rpm");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory)?;
    let packager = packager("cargo-generate-rpm", CARGO_GENERATE_RPM)?;
    for (package, built) in
        [(".", Flavour::Release.build()?), ("harness", build::harness()?), ("switchover", build::command()?)]
    {
        make(&packager, package, &built_in(&built), &directory)?;
    }
    Ok(directory)
}

/// Makes a package of the crate in that directory. What it requires is read from its files, not from this machine's packages.
fn make(packager: &Path, package: &str, built: &Path, directory: &Path) -> Result<()> {
    output(
        Command::new(packager)
            .current_dir(project_root())
            .args(["generate-rpm", "--package", package, "--auto-req", "builtin", "--target-dir"])
            .arg(built)
            .arg("--output")
            .arg(directory),
    )
    .map(drop)
}
