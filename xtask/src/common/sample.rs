//! What a process holds.

use std::fs;

use anyhow::{Context, Result};

/// The resources of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Resident memory in KiB.
    pub(crate) memory: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
}

impl Sample {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).with_context(|| format!("no {name}"))
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
        Ok(Self { memory: value("VmRSS:")?, descriptors, threads: value("Threads:")? })
    }
}

#[cfg(test)]
mod tests {
    use super::Sample;

    #[test]
    fn a_process_can_be_sampled() {
        let sample = Sample::of(std::process::id()).unwrap();
        assert!(sample.memory > 0 && sample.descriptors > 0 && sample.threads > 0);
    }
}
