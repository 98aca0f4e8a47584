//! Builds the plugin, the stand-in and the command with cargo.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

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

/// A processor architecture that there are packages for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Arch {
    /// That of this machine.
    pub const THIS: Self = if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::Amd64 };

    /// What Debian calls it.
    #[must_use]
    pub fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// What the kernel and RPMs call it.
    #[must_use]
    pub fn kernel(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// What rustc calls it, if it is not that of this machine.
    #[must_use]
    pub fn foreign(self) -> Option<String> {
        (self != Self::THIS).then(|| format!("{}-unknown-linux-gnu", self.kernel()))
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.debian())
    }
}

impl FromStr for Arch {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::Amd64, Self::Arm64]
            .into_iter()
            .find(|arch| arch.debian() == name)
            .with_context(|| format!("{name:?} is not amd64 or arm64"))
    }
}

/// A release build for that architecture in that target directory, and the directory of what it makes.
fn cargo_build_for(arch: Arch, target_dir: &Path) -> Result<(Command, PathBuf)> {
    // The first time it takes minutes.
    eprintln!("Building for {arch} in {} ...", target_dir.display());
    let mut cargo = cargo_build();
    cargo.arg("--target-dir").arg(target_dir);
    let Some(target) = arch.foreign() else {
        return Ok((cargo, target_dir.join("release")));
    };
    if arch != Arch::Arm64 {
        bail!("packages for {arch} can be built on {arch} only");
    }
    packages::install(&[packages::ARM64])?;
    output(Command::new("rustup").args(["target", "add", &target]))?;
    cargo.args(["--target", &target]).env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
    Ok((cargo, target_dir.join(target).join("release")))
}

/// Builds the release build of the plugin for that architecture, and returns its path.
///
/// # Errors
/// If rustup or cargo fails; it prints the reason.
pub fn library_for(arch: Arch) -> Result<PathBuf> {
    packages::install(&[packages::BUILD])?;
    let (mut cargo, directory) = cargo_build_for(arch, &target_dir())?;
    run(cargo.args(["--lib", "--package=instant-failover"]))?;
    Ok(directory.join("libinstant_failover.so"))
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

    fn build(&self, arch: Arch) -> Result<PathBuf> {
        let (mut cargo, directory) = cargo_build_for(arch, &target_dir().join(self.directory))?;
        run(cargo.args(["--bin", self.name, "--package", self.package]))?;
        Ok(directory.join(self.name))
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
    harness_for(Arch::THIS)
}

/// The same for that architecture.
///
/// # Errors
/// If rustup or cargo fails; it prints the reason.
pub fn harness_for(arch: Arch) -> Result<PathBuf> {
    HARNESS.build(arch)
}

/// Builds the release build of the command `instant-failover`, and returns its path.
///
/// # Errors
/// If cargo fails; it prints the reason.
pub fn command() -> Result<PathBuf> {
    command_for(Arch::THIS)
}

/// The same for that architecture.
///
/// # Errors
/// If rustup or cargo fails; it prints the reason.
pub fn command_for(arch: Arch) -> Result<PathBuf> {
    COMMAND.build(arch)
}
