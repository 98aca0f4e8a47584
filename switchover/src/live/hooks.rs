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
    let variables = [
        ("INSTANT_FAILOVER_HOOK", name),
        ("INSTANT_FAILOVER_ID", &record.id),
        ("INSTANT_FAILOVER_OLD", &record.old.name),
        ("INSTANT_FAILOVER_NEW", &record.new.name),
        ("INSTANT_FAILOVER_TARGET", &record.way.target),
    ];
    run_within(name, command, &variables, PATIENCE, || None)
}

/// The same with other variables in its environment, and another limit. As soon as there is another reason, it is not waited for
/// any longer.
///
/// # Errors
/// As for [`run`].
pub(crate) fn run_within(
    name: &str,
    command: &str,
    variables: &[(&str, &str)],
    patience: Duration,
    leave: impl Fn() -> Option<&'static str>,
) -> Result<(), String> {
    let failed = |why: String| format!("--{name} '{command}': {why}");
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        // What we write there may be for programs.
        .stdout(std::io::stderr())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let end = Instant::now() + patience;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(failed(status.to_string())),
            Ok(None) if let Some(why) = leave() => return Err(failed(format!("{why}; it is left running"))),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => return Err(failed(format!("not finished within {} s", patience.as_secs()))),
            Err(error) => return Err(failed(error.to_string())),
        }
    }
}
