//! Commands of the DBA, for virtual addresses, DNS and proxies.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::plan::record::Record;

const PATIENCE: Duration = Duration::from_mins(1);

/// Runs a command, and waits for it.
///
/// # Errors
/// If it fails, or does not end within a minute. It is not killed then.
pub(crate) fn run(name: &str, command: Option<&str>, record: &Record) -> Result<(), String> {
    let Some(command) = command else { return Ok(()) };
    let failed = |why: String| format!("--{name} '{command}': {why}");
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .env("INSTANT_FAILOVER_HOOK", name)
        .env("INSTANT_FAILOVER_ID", &record.id)
        .env("INSTANT_FAILOVER_OLD", &record.old.name)
        .env("INSTANT_FAILOVER_NEW", &record.new.name)
        .env("INSTANT_FAILOVER_TARGET", &record.way.target)
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let end = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(failed(status.to_string())),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => return Err(failed(format!("not finished within {} s", PATIENCE.as_secs()))),
            Err(error) => return Err(failed(error.to_string())),
        }
    }
}
