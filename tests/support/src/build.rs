//! Builds the plugin, the stand-in and the command with cargo.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{output, packages, project_root, run, target_dir};

/// A build of the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// The release build.
    Release,
    /// The same with the `panic-injection` feature, in a separate directory.
    PanicInjection,
}

impl Flavour {
    fn target_dir(self) -> PathBuf {
        match self {
            Self::Release => target_dir(),
            Self::PanicInjection => target_dir().join("panic-injection"),
        }
    }

    /// The path of the built library.
    #[must_use]
    pub fn library(self) -> PathBuf {
        self.target_dir().join("release/libinstant_failover.so")
    }

    /// Builds the library, and returns its path.
    ///
    /// # Errors
    /// If cargo fails; it prints the reason.
    pub fn build(self) -> Result<PathBuf> {
        let mut cargo = cargo_build();
        cargo.args(["--lib", "--package"]);
        cargo.arg("instant-failover").arg("--target-dir").arg(self.target_dir());
        if self == Self::PanicInjection {
            cargo.args(["--features", "panic-injection"]);
        }
        run(&mut cargo)?;
        Ok(self.library())
    }
}

/// What rustc calls 64-bit ARM.
const ARM64: &str = "aarch64-unknown-linux-gnu";

/// Builds the release build of the plugin for 64-bit ARM, and returns its path.
///
/// # Errors
/// If rustup or cargo fails; it prints the reason.
pub fn library_for_arm64() -> Result<PathBuf> {
    packages::install(&[packages::BUILD, packages::ARM64])?;
    output(Command::new("rustup").args(["target", "add", ARM64]))?;
    run(cargo_build()
        .args(["--lib", "--package=instant-failover", "--target", ARM64, "--target-dir"])
        .arg(target_dir())
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc"))?;
    Ok(target_dir().join(ARM64).join("release/libinstant_failover.so"))
}

/// A release build, without what `cargo run` tells the program that it runs: for `ring` that would be reason to build everything
/// again.
fn cargo_build() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(project_root()).args(["build", "--quiet", "--release"]);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| text.starts_with(prefix)) {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// A program with a package of its own. Each is built in a directory of its own: the plugin and the programs use the same
/// dependencies with different features. In one directory, each build would undo the other.
struct Program {
    package: &'static str,
    name: &'static str,
    directory: &'static str,
}

const HARNESS: Program =
    Program { package: "instant-failover-harness", name: "instant-failover-harness", directory: "harness" };
const COMMAND: Program =
    Program { package: "instant-failover-switchover", name: "instant-failover", directory: "switchover" };

impl Program {
    fn path(&self) -> PathBuf {
        target_dir().join(self.directory).join("release").join(self.name)
    }

    fn build(&self) -> Result<PathBuf> {
        let mut cargo = cargo_build();
        cargo.args(["--bin", self.name, "--package"]);
        run(cargo.arg(self.package).arg("--target-dir").arg(target_dir().join(self.directory)))?;
        Ok(self.path())
    }
}

/// The path of the built stand-in.
#[must_use]
pub fn harness_program() -> PathBuf {
    HARNESS.path()
}

/// Builds the release build of the stand-in, and returns its path.
///
/// # Errors
/// If cargo fails; it prints the reason.
pub fn harness() -> Result<PathBuf> {
    HARNESS.build()
}

/// Builds the release build of the command `instant-failover`, and returns its path.
///
/// # Errors
/// If cargo fails; it prints the reason.
pub fn command() -> Result<PathBuf> {
    COMMAND.build()
}
