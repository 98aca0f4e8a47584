//! `cargo xtask rpm`: RPMs of the plugin, the stand-in and the command, and a test of them. What is in them is in the
//! `[package.metadata.generate-rpm]` of each `Cargo.toml`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use support::build::{self, Arch};
use support::{output, packages, project_root, system, target_dir};

use crate::Outcome;
use crate::deb::{built_in, completions, packager, try_in_copy, try_under_systemd};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Install, use and remove them in a root directory
    #[arg(long)]
    test: bool,
    /// What they are for: amd64 or arm64
    #[arg(long, default_value_t = Arch::THIS)]
    arch: Arch,
}

impl Arguments {
    /// To build them.
    pub(crate) const fn build(arch: Arch) -> Self {
        Self { test: false, arch }
    }
}

/// What makes the packages.
const CARGO_GENERATE_RPM: &str = "0.21.1";
/// The release of Debian whose root directory has rpm.
const SUITE: &str = "bookworm";
/// Where Debian has something, and where RHEL and MariaDB's own RPMs have it. `docs/install.md` says so, too.
const PLACES: [[&str; 2]; 4] = [
    ["/etc/mysql/mariadb.conf.d/", "/etc/my.cnf.d/"],
    ["/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock"],
    ["/usr/lib/x86_64-linux-gnu/libmariadb3/plugin", "/usr/lib64/mariadb/plugin"],
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"],
];
/// The files of `packaging/` that say where it is.
const WITH_PLACES: [&str; 7] = [
    "follow-redirects.conf",
    "instant-failover-harness.8",
    "instant-failover-harness.cnf",
    "instant-failover-harness.socket",
    "instant-failover.1",
    "instant_failover.cnf",
    "servers.cnf",
];

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    if arguments.test {
        return test(arguments.arch)?.conclude("see above for what failed");
    }
    for file in built(arguments.arch, &build(arguments.arch)?)? {
        println!("{}", file.display());
    }
    Ok(())
}

/// Builds them, and tries them as a database administrator would.
pub(crate) fn test(arch: Arch) -> Result<Outcome> {
    if !packages::is_root() {
        println!("skipped: only root can install packages in a root directory");
        return Ok(Outcome { skipped: 1, ..Outcome::default() });
    }
    packages::install(&[packages::ROOTS])?;
    let directory = build(arch)?;
    let root = system::installed(SUITE, arch)?;
    let mut outcome = try_in_copy(&root, arch, &directory, "rpm.sh")?;
    if arch.foreign().is_some() {
        println!("skipped  systemd: it cannot be emulated");
        outcome.skipped += 1;
    } else {
        outcome += try_under_systemd(&root, arch, &directory, "rpm-systemd.sh")?;
    }
    Ok(outcome.at("RPM"))
}

/// The packages for that architecture in the directory.
fn built(arch: Arch, directory: &Path) -> Result<Vec<PathBuf>> {
    let end = format!(".{}.rpm", arch.kernel());
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        files.extend(path.to_string_lossy().ends_with(&end).then_some(path));
    }
    files.sort();
    Ok(files)
}

/// Builds them in a directory that has no others for that architecture.
fn build(arch: Arch) -> Result<PathBuf> {
    packages::install(&[packages::BUILD])?;
    completions()?;
    write_for_rhel()?;
    let directory = target_dir().join("rpm");
    fs::create_dir_all(&directory)?;
    for old in built(arch, &directory)? {
        fs::remove_file(old)?;
    }
    let packager = packager("cargo-generate-rpm", CARGO_GENERATE_RPM)?;
    for (package, program) in [
        (".", build::library_for(arch)?),
        ("harness", build::harness_for(arch)?),
        ("switchover", build::command_for(arch)?),
    ] {
        make(&packager, package, arch, &built_in(&program, arch), &directory)?;
    }
    Ok(directory)
}

/// Writes the files with RHEL's places to where each `Cargo.toml` looks for them.
fn write_for_rhel() -> Result<()> {
    let directory = project_root().join("target/rhel");
    fs::create_dir_all(&directory)?;
    for name in WITH_PLACES {
        let debian = fs::read_to_string(project_root().join("packaging").join(name)).context(name)?;
        let rhel = PLACES.iter().fold(debian.clone(), |text, [debian, rhel]| text.replace(debian, rhel));
        ensure!(
            rhel != debian,
            "packaging/{name} has none of Debian's places: take it as it is, and remove it from WITH_PLACES"
        );
        fs::write(directory.join(name), rhel)?;
    }
    Ok(())
}

/// Makes a package of the crate in that directory. What it requires is read from its files, not from this machine's packages.
fn make(packager: &Path, package: &str, arch: Arch, built: &Path, directory: &Path) -> Result<()> {
    output(
        Command::new(packager)
            .current_dir(project_root())
            // Every rpm can read gzip; by default it is zstd.
            .args(["generate-rpm", "--package", package, "--payload-compress", "gzip", "--auto-req"])
            .arg(project_root().join("packaging/rpm-requires"))
            .args(arch.foreign().map(|target| format!("--target={target}")))
            .arg("--target-dir")
            .arg(built)
            .arg("--output")
            .arg(directory),
    )
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::PLACES;

    #[test]
    fn places_are_documented() {
        let document = include_str!("../../docs/install.md");
        for [debian, rhel] in PLACES {
            let is_row = |line: &str| {
                line.split_once(" | ")
                    .and_then(|(_, places)| places.split_once(" | "))
                    .is_some_and(|(first, second)| first.contains(debian) && second.contains(rhel))
            };
            assert!(document.lines().any(is_row), "no row of the table in docs/install.md has {debian} and {rhel}");
        }
    }
}
