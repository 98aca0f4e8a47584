//! A package of the plugin as it was before it could hold and drain, to upgrade from: its library had one plugin and five
//! variables. It is built from the project's history, and not kept: what is built is what was committed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use support::{output, run, target_dir};

use super::{CARGO_DEB, Maintainer, PLUGIN, packager};
use crate::common::git::git;

/// The last commit with that layout.
const COMMIT: &str = "83484fac42e1da89385b8e0b42e1ace13e86c71c";
/// Named, so that what the build itself needs is shared with other builds for a named target.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the package, and writes it to that file. False if the commit is not there.
pub(super) fn build(file: &Path) -> Result<bool> {
    let Some(source) = source()? else { return Ok(false) };
    run(Command::new(env!("CARGO"))
        .current_dir(&source)
        .args(["build", "--quiet", "--release", "--locked", "--lib", "--package=instant-failover"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(target_dir()))?;
    // cargo-deb removes other packages of the same name from the target directory: it gets one of its own.
    let own = source.join("target");
    fs::create_dir_all(own.join("release"))?;
    fs::create_dir_all(own.join("debian"))?;
    let library = "release/libinstant_failover.so";
    fs::copy(target_dir().join(TARGET).join(library), own.join(library))?;
    fs::copy(source.join("packaging/changelog"), own.join("debian/changelog"))?;
    output(
        Command::new(packager("cargo-deb", CARGO_DEB)?)
            .current_dir(&source)
            .args(["deb", "--no-build", "--package", PLUGIN[0]])
            .args(["--maintainer", &Maintainer::of_this_build()?.to_string()])
            .arg("--output")
            .arg(file)
            .env("CARGO_TARGET_DIR", own),
    )?;
    Ok(true)
}

/// The sources of that commit, in a directory of their own.
fn source() -> Result<Option<PathBuf>> {
    if !git(&["cat-file", "-e", COMMIT]).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return Ok(None);
    }
    let source = target_dir().join("earlier");
    fs::create_dir_all(&source)?;
    let mut archive = git(&["archive", COMMIT]).stdout(Stdio::piped()).spawn()?;
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--directory").arg(&source);
    if let Some(stdout) = archive.stdout.take() {
        tar.stdin(stdout);
    }
    output(&mut tar)?;
    if !archive.wait()?.success() {
        bail!("git archive {COMMIT} failed");
    }
    Ok(Some(source))
}
