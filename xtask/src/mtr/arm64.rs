//! The suite on 64-bit ARM, emulated by qemu: the library is built for it, MariaDB is Debian's.

use std::fs;

use anyhow::Result;
use support::build::{self, Arch};
use support::system::System;

use super::{Arguments, run_with};
use crate::Outcome;

/// The release of Debian.
const SUITE: &str = "bookworm";

/// Without this, `InnoDB` reserves 8 TB of addresses, and qemu keeps account of each page of them. (Not `loose_`: mtr gives what begins
/// with `innodb` to the bootstrap, too.) And there is no asynchronous I/O, which it would warn of.
const MORE: &[&str] = &["--mysqld=--innodb-buffer-pool-size-max=64M", "--mysqld=--innodb-use-native-aio=0"];

/// Runs the named tests, or [all](all()) that can be run here.
pub(crate) fn run(tests: &[&str]) -> Result<Outcome> {
    let library = build::library_for(Arch::Arm64)?;
    let system = System::debian_arm64(SUITE)?;
    println!("\nMariaDB {} of {}, arm64", system.server_version()?, system.name()?);
    let tests = if tests.is_empty() { all()? } else { tests.iter().map(|&test| test.to_owned()).collect() };
    run_with(&system, &library, &Arguments { tests, ..Arguments::default() }, MORE).map(|outcome| outcome.at("arm64"))
}

/// Parts of the names of tests in which sessions are drained.
const DRAINS: [&str; 2] = ["drain", "uninstall_beside"];

/// All but those of a drain: it asks the kernel for the system call in which a thread waits, and the kernel answers with what
/// the emulator does there, by the number that this has on this machine.
fn all() -> Result<Vec<String>> {
    let mut tests = Vec::new();
    for file in fs::read_dir(support::project_root().join("mysql-test/instant_failover/t"))? {
        let name = file?.file_name().to_string_lossy().into_owned();
        tests.extend(
            name.strip_suffix(".test")
                .filter(|name| !DRAINS.iter().any(|drain| name.contains(drain)))
                .map(str::to_owned),
        );
    }
    tests.sort_unstable();
    Ok(tests)
}
