//! Builds the plugin and the stand-in with cargo.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{project_root, run, target_dir};

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

/// A separate directory: the plugin and the stand-in use the same dependencies with different features. In one directory,
/// each build would undo the other.
fn harness_dir() -> PathBuf {
    target_dir().join("harness")
}

/// The path of the built stand-in.
#[must_use]
pub fn harness_program() -> PathBuf {
    harness_dir().join("release").join(HARNESS)
}

/// Builds the release build of the stand-in, and returns its path.
///
/// # Errors
/// If cargo fails; it prints the reason.
pub fn harness() -> Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(project_root()).args(["build", "--quiet", "--release", "--bin", HARNESS, "--package", HARNESS]);
    run(cargo.arg("--target-dir").arg(harness_dir()))?;
    Ok(harness_program())
}
