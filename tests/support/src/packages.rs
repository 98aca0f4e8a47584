//! Debian packages that a command needs, installed where they are missing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

/// To build the plugin: MariaDB's headers, and what bindgen reads them with.
pub const BUILD: &[&str] = &["libmariadbd-dev", "libclang-dev"];
/// To run a private server and talk to it.
pub const SERVER: &[&str] = &["mariadb-server-core", "mariadb-client-core"];
/// To run the tests: `mtr`, and the authentication plugins they log in with.
pub const TEST: &[&str] = &["mariadb-test", "mariadb-server", "binutils", "valgrind"];
/// To measure: what is measured against, and the tool that counts instructions.
pub const BENCH: &[&str] = &["nginx-light", "haproxy", "valgrind"];
/// To unpack other releases of Debian.
pub const ROOTS: &[&str] = &["mmdebstrap"];
/// To make Debian packages.
pub const PACKAGES: &[&str] = &["dpkg-dev"];
/// To test them in a network of their own.
pub const PACKAGES_TEST: &[&str] = &["iproute2", "lintian", "shellcheck"];
/// To build the fuzz targets: libFuzzer is C++.
pub const FUZZ: &[&str] = &["g++"];
/// For names in the reports of sanitizers: `llvm-symbolizer`.
pub const SANITIZE: &[&str] = &["llvm"];

/// Installs those of `packages` that are missing. No service is started or restarted by that.
///
/// # Errors
/// If something is missing and this user may not install it: the error has the command line that does.
pub fn install(packages: &[&[&str]]) -> Result<()> {
    let missing: Vec<&str> = packages.concat().into_iter().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_root() {
        bail!(
            "these packages are missing; please install them and try again:\n\n    \
               sudo apt-get install --no-install-recommends {list}\n"
        );
    }
    eprintln!("Installing {list} ...");
    let _no_services = NoServices::until_dropped()?;
    apt_get(&["update"])?;
    apt_get(&[&["install", "--yes", "--no-install-recommends"], missing.as_slice()].concat())
}

fn is_installed(package: &str) -> bool {
    let query = Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", package]).output();
    query.is_ok_and(|output| output.stdout == b"installed")
}

/// Whether this process runs as root.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    crate::output(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive")).map(drop)
}

/// While it lives, Debian's packages start no service (`invoke-rc.d` asks this file). A machine that has a policy of its
/// own keeps it.
struct NoServices {
    ours: bool,
}

impl NoServices {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn until_dropped() -> Result<Self> {
        let ours = !Path::new(Self::POLICY).exists();
        if ours {
            fs::write(Self::POLICY, "#!/bin/sh\nexit 101\n")?;
            fs::set_permissions(Self::POLICY, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(Self::POLICY);
        }
    }
}
