//! `cargo xtask fuzz`: random bytes for every parser of what a peer sends. The targets are in `fuzz/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use support::{output, packages, project_root, target_dir};

use crate::Outcome;
use crate::common::nightly;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Seconds for each target
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Try this input only, with the one target that is named
    #[arg(long, value_name = "FILE", requires = "targets")]
    input: Option<PathBuf>,
    /// Names of targets: all of them if none is given
    #[arg(value_parser = TARGETS)]
    targets: Vec<String>,
}

const TARGETS: [&str; 5] = ["connection", "proxy_header", "session", "metrics", "redirect_message"];

/// What builds the targets.
const CARGO_FUZZ: &str = "0.13.2";

/// Longer than the longest packet that a server takes. Whoever needs so much memory or time for it fails.
const LIMITS: [&str; 3] = ["-max_len=70000", "-rss_limit_mb=1024", "-timeout=10"];

impl Arguments {
    /// All targets, that long.
    pub(crate) fn all(seconds: u64) -> Self {
        Self { seconds, ..Self::default() }
    }
}

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    run(arguments)?.conclude("an input was found that should not be")
}

/// Installs what is missing, builds the targets, and runs each.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let targets: Vec<&str> = match &arguments.targets[..] {
        [] => TARGETS.to_vec(),
        named => named.iter().map(String::as_str).collect(),
    };
    if arguments.input.is_some() && targets.len() > 1 {
        bail!("an input is for one target");
    }
    if !nightly::is_there(&[]) {
        return Ok(Outcome { skipped: targets.len(), ..Outcome::default() });
    }
    packages::install(&[packages::BUILD, packages::FUZZ])?;
    let binaries = build()?;
    let mut outcome = Outcome::default();
    for target in targets {
        let target = Target { name: target, binary: binaries.join(target) };
        let found = match &arguments.input {
            Some(input) => target.try_out(input)?,
            None => target.fuzz(arguments.seconds)?,
        };
        match found.problem {
            None => {
                outcome.passed += 1;
                println!("passed   {:<17} {}", target.name, found.notes);
            }
            Some(problem) => {
                println!("FAILED   {:<17} {}\n{problem}", target.name, found.notes);
                outcome.failed.push(format!("fuzzing {}: {problem}", target.name));
            }
        }
    }
    Ok(outcome)
}

/// Where all that belongs to fuzzing lies, but for the sources and seeds.
fn directory() -> PathBuf {
    target_dir().join("fuzz")
}

/// Builds all targets, and returns where they lie.
fn build() -> Result<PathBuf> {
    let tools = target_dir().join("tools");
    let cargo_fuzz = tools.join("bin/cargo-fuzz");
    let installed = Command::new(&cargo_fuzz).arg("--version").output();
    if !installed.is_ok_and(|output| output.stdout == format!("cargo-fuzz {CARGO_FUZZ}\n").as_bytes()) {
        eprintln!("Installing cargo-fuzz {CARGO_FUZZ} ...");
        let package = format!("cargo-fuzz@{CARGO_FUZZ}");
        // Quick to build rather than to run: it starts the compiler.
        output(
            Command::new(env!("CARGO")).args(["install", "--debug", "--locked", "--root"]).arg(&tools).arg(package),
        )?;
    }
    eprintln!("Building the fuzz targets ...");
    output(nightly::command(cargo_fuzz).args(["build", "--target-dir"]).arg(directory()))?;
    Ok(directory().join(nightly::host()?).join("release"))
}

struct Target<'a> {
    name: &'a str,
    binary: PathBuf,
}

/// What a run of a target has shown.
struct Found {
    notes: String,
    problem: Option<String>,
}

impl Target<'_> {
    fn try_out(&self, input: &Path) -> Result<Found> {
        self.run(Command::new(&self.binary).arg(input))
    }

    /// Goes on from what was found before, and from the seeds; those stay as they are.
    fn fuzz(&self, seconds: u64) -> Result<Found> {
        let sources = project_root().join("fuzz");
        let corpus = directory().join("corpus").join(self.name);
        fs::create_dir_all(&corpus)?;
        for seed in fs::read_dir(sources.join("corpus").join(self.name))? {
            let seed = seed?;
            fs::copy(seed.path(), corpus.join(seed.file_name()))?;
        }
        let mut fuzzer = Command::new(&self.binary);
        fuzzer.arg(corpus).arg(format!("-max_total_time={seconds}"));
        let words = sources.join(self.name).with_extension("dict");
        if words.exists() {
            fuzzer.arg(format!("-dict={}", words.display()));
        }
        self.run(&mut fuzzer)
    }

    fn run(&self, fuzzer: &mut Command) -> Result<Found> {
        let artifacts = directory().join("artifacts").join(self.name);
        fs::create_dir_all(&artifacts)?;
        let log = artifacts.with_extension("log");
        fuzzer.args(LIMITS).arg("-print_final_stats=1").arg(format!("-artifact_prefix={}/", artifacts.display()));
        let status = fuzzer.stderr(fs::File::create(&log)?).status()?;
        let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let notes = format!(
            "{} executions, coverage {}",
            last_after(&said, "stat::number_of_executed_units: ").unwrap_or("no"),
            last_after(&said, " cov: ").unwrap_or("unknown")
        );
        let problem = (!status.success()).then(|| self.problem(&said, &log));
        Ok(Found { notes, problem })
    }

    /// What went wrong, and how to see it again.
    fn problem(&self, said: &str, log: &Path) -> String {
        let mut lines = said.lines().skip_while(|line| !line.contains("panicked at") && !line.contains("ERROR: "));
        let mut why: Vec<&str> = lines.by_ref().take(2).collect();
        why.retain(|line| !line.is_empty());
        let again = match said.lines().find_map(|line| line.split_once("Test unit written to ")) {
            Some((_, input)) => format!("again: cargo xtask fuzz {} --input {input}", self.name),
            None => "there is no input that shows it again".to_owned(),
        };
        format!("{}\n{again}\nmore: {}", why.join("\n"), log.display())
    }
}

/// The last word in `text` that comes after `before`.
fn last_after<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    text.rsplit_once(before)?.1.split_whitespace().next()
}
