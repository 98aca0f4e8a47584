//! What the programs and libraries of a package are for, and what they need.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use support::build::Arch;
use support::output;

use super::packaging;

/// All that they may need.
const LIBRARIES: [&str; 5] =
    ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"];

/// Fails if the package has a program or library for another architecture, or one that needs more than the package depends on.
pub(super) fn check(package: &Path, arch: Arch) -> Result<()> {
    let field = |name| output(Command::new("dpkg-deb").arg("--field").arg(package).arg(name));
    let architecture = field("Architecture")?;
    ensure!(architecture.trim() == arch.debian(), "is for {}", architecture.trim());
    let depends = field("Depends")?;
    let promised = depends.split("libc6 (>= ").nth(1).and_then(|rest| rest.split(')').next());
    let promised = version(promised.with_context(|| format!("depends on {depends}"))?);
    let files = tempfile::tempdir()?;
    output(Command::new("dpkg-deb").arg("--extract").arg(package).arg(files.path()))?;
    let mut programs = 0;
    for file in output(Command::new("find").arg(files.path()).args(["-type", "f"]))?.lines() {
        let Some(machine) = machine(&fs::read(file)?) else { continue };
        programs += 1;
        let expected = match arch {
            Arch::Amd64 => 62,
            Arch::Arm64 => 183,
        };
        ensure!(machine == expected, "{file} is for machine {machine}, not {expected}");
        for need in needs(file)? {
            let (library, symbols) = need.split_once('(').unwrap_or_default();
            ensure!(library == "rtld" || LIBRARIES.contains(&library), "{file} needs {need}");
            if let Some(wanted) = symbols.strip_prefix("GLIBC_").and_then(|rest| rest.split(')').next()) {
                ensure!(version(wanted) <= promised, "{file} needs glibc {wanted}; the package depends on {depends}");
            }
        }
    }
    ensure!(programs > 0, "has no program");
    Ok(())
}

/// The machine of a program or a library, as in `elf.h`.
fn machine(contents: &[u8]) -> Option<u16> {
    let machine = contents.strip_prefix(b"\x7fELF")?.get(14..16)?;
    Some(u16::from_le_bytes(machine.try_into().ok()?))
}

/// Its libraries, and the versions of their symbols.
fn needs(file: &str) -> Result<Vec<String>> {
    let script: PathBuf = packaging().join("rpm-requires");
    let mut child = Command::new(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    writeln!(child.stdin.take().context("no input")?, "{file}")?;
    let lines: Vec<_> = String::from_utf8(child.wait_with_output()?.stdout)?.lines().map(str::to_owned).collect();
    ensure!(lines.iter().any(|line| line.starts_with("libc.so.6(")), "{file} does not need the C library: {lines:?}");
    Ok(lines)
}

fn version(text: &str) -> Vec<u32> {
    text.split('.').map(|number| number.parse().unwrap_or(u32::MAX)).collect()
}
