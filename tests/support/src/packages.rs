//! Installs Debian packages that a command needs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

/// To build the plugin: MariaDB's headers, and the library with which bindgen reads them.
pub const BUILD: &[&str] = &["libmariadbd-dev", "libclang-dev"];
/// To run a private server and connect to it.
pub const SERVER: &[&str] = &["mariadb-server-core", "mariadb-client-core"];
/// To run the tests: `mtr`, and the authentication plugins that they use.
pub const TEST: &[&str] = &["mariadb-test", "mariadb-server", "binutils", "valgrind"];
/// To run a Galera cluster: the provider, what its state transfers call, and the health checks that look at it.
pub const GALERA: &[&str] = &[
    "galera-4",
    "mariadb-backup",
    "rsync",
    "socat",
    "lsof",
    "iproute2",
    "util-linux",
    "haproxy",
    "monitoring-plugins-standard",
];
/// To build for 64-bit ARM.
pub const ARM64: &[&str] = &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"];
/// To run such programs here.
pub const ARM64_TEST: &[&str] = &["binfmt-support", "qemu-user-static"];
/// To measure: the servers to compare with, and the tools that count instructions and system calls.
pub const BENCH: &[&str] = &["nginx-light", "haproxy", "valgrind", "strace"];
/// To unpack other Debian releases.
pub const ROOTS: &[&str] = &["mmdebstrap"];
/// To build Debian packages.
pub const PACKAGES: &[&str] = &["dpkg-dev"];
/// To test them in a separate network.
pub const PACKAGES_TEST: &[&str] = &["iproute2", "lintian", "shellcheck"];
/// To build the fuzz targets: libFuzzer is C++.
pub const FUZZ: &[&str] = &["g++"];
/// For names in the reports of sanitizers: `llvm-symbolizer`.
pub const SANITIZE: &[&str] = &["llvm"];

/// To build and test the package of a language in `clients/`: each program, and Debian's package that has it. Rust's is there.
const LANGUAGES: &[(&str, &str, &str)] = &[
    ("go", "go", "golang"),
    ("java", "javac", "default-jdk-headless"),
    ("java", "mvn", "maven"),
    ("node", "node", "nodejs"),
    ("node", "npm", "npm"),
    ("php", "php", "php-cli"),
    ("php", "phpize", "php-dev"),
    ("php", "gcc", "gcc"),
    ("php", "make", "make"),
    ("python", "python3", "python3"),
];
/// The same, for what is no program.
const LANGUAGES_TOO: &[(&str, &str)] = &[("php", "php-mysql"), ("python", "python3-venv")];

/// The packages that a language in `clients/` needs, except for programs that the machine has: they may be newer than Debian's.
#[must_use]
pub fn of_language(language: &str) -> Vec<&'static str> {
    let is_missing = |program: &str| Command::new(program).arg("--version").output().is_err();
    let programs = LANGUAGES.iter().filter(|(name, program, _)| *name == language && is_missing(program));
    let others = LANGUAGES_TOO.iter().filter(|(name, _)| *name == language);
    programs.map(|(.., package)| *package).chain(others.map(|(_, package)| *package)).collect()
}

/// The same for all languages.
#[must_use]
pub fn of_languages() -> Vec<&'static str> {
    ["go", "java", "node", "php", "python"].into_iter().flat_map(of_language).collect()
}

/// Installs those of `packages` that are missing, without starting or restarting any service.
///
/// # Errors
/// If a package is missing and this user may not install it; the error contains the command to run.
pub fn install(packages: &[&[&str]]) -> Result<()> {
    let missing: Vec<&str> = packages.concat().into_iter().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_root() {
        bail!(
            "these packages are missing; install them and try again:\n\n    \
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

/// While it exists, Debian's packages start no service (`invoke-rc.d` runs this file). A machine with its own policy keeps
/// it.
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
