//! The suite with mariadbd under valgrind, which finds what a sanitizer cannot, as Debian's mariadbd is built without.
//!
//! Valgrind writes to separate files, not to the servers' logs: mtr treats every report in a log as a failure, even those
//! about mariadbd alone. Only reports with our library in the stack count here.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use support::build::Flavour;
use support::system::System;

use super::program::Mtr;
use crate::Outcome;

/// Tests that together cover all of the plugin in the server.
const CORE: &[&str] = &[
    "account",
    "auth_plugins",
    "change_user",
    "error_log",
    "exempt",
    "install_order",
    "instant_failover",
    "reinstall",
    "startup",
    "status",
    "variables",
];

const VAR: &str = "var-valgrind";
const LIBRARY: &str = "instant_failover.so";

/// Runs these tests of the suite, or a core selection.
pub(crate) fn run(tests: &[&str]) -> Result<Outcome> {
    let tests = if tests.is_empty() { CORE } else { tests };
    let system = System::this();
    let mtr = Mtr::prepare(&system, &Flavour::Release.build()?)?;
    let suite = super::link_to_suite()?;
    let logs = tempfile::tempdir()?;
    let mut command = mtr.command(VAR);
    command
        // The last option of a kind wins: mtr sets --quiet and --show-reachable=yes before. "Possibly" lost blocks do not
        // count: the current policy is held by a pointer to its middle, as shared values are in Rust.
        .arg(format!(
            "--valgrind=-v --log-file={}/%p --show-leak-kinds=definite,indirect --num-callers=40 \
             --child-silent-after-fork=yes",
            logs.path().display()
        ))
        // Under valgrind, InnoDB waits forever for completions of io_uring, and cannot reserve as many addresses as it does.
        .args(["--mysqld=--innodb-use-native-aio=0", "--mysqld=--loose-innodb-buffer-pool-size-max=64M"])
        .arg(format!("--suite={}", suite.path().join("instant_failover").display()))
        .args(tests);
    let mut outcome: Outcome = mtr.run(command, VAR)?.into_iter().collect();
    let found = evaluate(logs.path())?;
    outcome += Outcome::of(found.is_empty(), format!("valgrind found errors in {LIBRARY}:\n\n{}", found.join("\n\n")));
    Ok(outcome)
}

/// The reports about our library in the logs of all servers.
fn evaluate(logs: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let (mut ended, mut killed, mut others) = (0, 0, 0);
    for log in fs::read_dir(logs)? {
        let log = String::from_utf8_lossy(&fs::read(log?.path())?).into_owned();
        *(if log.contains("ERROR SUMMARY: ") { &mut ended } else { &mut killed }) += 1;
        for report in reports(&log) {
            if is_ours(&report) { found.push(report) } else { others += 1 }
        }
    }
    println!(
        "valgrind: {ended} servers stopped and were checked for leaks, {killed} were killed; {} reports with {LIBRARY}, \
         {others} without",
        found.len()
    );
    if ended == 0 {
        bail!("no server stopped normally under valgrind, so none was checked for leaks");
    }
    Ok(found)
}

/// The reports of a log: paragraphs with a stack.
fn reports(log: &str) -> Vec<String> {
    // Each line starts with ==PID==, or --PID-- if it is about valgrind.
    let lines = log.lines().filter_map(|line| line.strip_prefix("==")?.split_once("==").map(|(_, text)| text));
    let text: Vec<&str> = lines.map(str::trim_end).collect();
    let paragraphs = text.split(|line| line.is_empty()).map(|lines| lines.join("\n"));
    paragraphs.filter(|paragraph| paragraph.lines().any(is_frame)).collect()
}

fn is_frame(line: &str) -> bool {
    ["at 0x", "by 0x"].iter().any(|start| line.trim_start().starts_with(start))
}

fn is_ours(report: &str) -> bool {
    report.lines().any(|line| is_frame(line) && line.contains(LIBRARY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_told_apart() {
        let log = "\
==7== Memcheck, a memory error detector
==7== Command: mariadbd --plugin-load=instant_failover.so
==7== 
--7-- Reading syms from /tmp/instant_failover.so
==7== Invalid read of size 8
==7==    at 0x1: f (in /usr/sbin/mariadbd)
==7==    by 0x2: main (in /usr/sbin/mariadbd)
==7== 
==7== 20 bytes in 1 blocks are definitely lost in loss record 1 of 2
==7==    at 0x3: malloc (vg_replace_malloc.c:381)
==7==    by 0x4: check (in /tmp/plugin/instant_failover.so)
==7== 
==7== ERROR SUMMARY: 2 errors from 2 contexts (suppressed: 0 from 0)
";
        let reports = reports(log);
        assert_eq!(reports.len(), 2);
        assert!(!is_ours(&reports[0]), "{}", reports[0]);
        assert!(is_ours(&reports[1]), "{}", reports[1]);
    }
}
