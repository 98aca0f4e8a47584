//! The plugin and the standalone server as cargo builds them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{project_root, run, target_dir};

/// A build of the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// As it is shipped.
    Release,
    /// The same with the `panic-injection` feature, in a directory of its own.
    PanicInjection,
}

impl Flavour {
    fn target_dir(self) -> PathBuf {
        match self {
            Self::Release => target_dir(),
            Self::PanicInjection => target_dir().join("panic-injection"),
        }
    }

    /// Where the library lies once it is built.
    #[must_use]
    pub fn library(self) -> PathBuf {
        self.target_dir().join("release/libinstant_failover.so")
    }

    /// Builds it, and returns where it lies.
    ///
    /// # Errors
    /// If cargo fails; it has said why.
    pub fn build(self) -> Result<PathBuf> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(project_root()).args(["build", "--quiet", "--release", "--lib", "--package"]);
        cargo.arg("instant-failover").arg("--target-dir").arg(self.target_dir());
        if self == Self::PanicInjection {
            cargo.args(["--features", "panic-injection"]);
        }
        run(&mut cargo)?;
        Ok(self.library())
    }
}

const HARNESS: &str = "instant-failover-harness";

/// A directory of its own: with the standalone server, the libraries that the plugin is built with have other features. In
/// one directory, each build of one would undo the other.
fn harness_dir() -> PathBuf {
    target_dir().join("harness")
}

/// Where the standalone server lies once it is built.
#[must_use]
pub fn harness_program() -> PathBuf {
    harness_dir().join("release").join(HARNESS)
}

/// Builds the standalone server as it is shipped, and returns where it lies.
///
/// # Errors
/// If cargo fails; it has said why.
pub fn harness() -> Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(project_root()).args(["build", "--quiet", "--release", "--bin", HARNESS, "--package", HARNESS]);
    run(cargo.arg("--target-dir").arg(harness_dir()))?;
    Ok(harness_program())
}
