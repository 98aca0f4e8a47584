//! `cargo xtask fuzz`: random input for every parser of untrusted input. The targets are in `fuzz/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Result, anyhow, bail};
use support::{output, packages, project_root, target_dir};

use crate::Outcome;
use crate::common::nightly;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Seconds for each target
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Run the named target with this input only
    #[arg(long, value_name = "FILE", requires = "targets")]
    input: Option<PathBuf>,
    /// Names of targets [default: all]
    #[arg(value_parser = TARGETS)]
    targets: Vec<String>,
}

const TARGETS: [&str; 5] = ["connection", "proxy_header", "session", "metrics", "redirect_message"];

/// The version of the program that builds the targets.
const CARGO_FUZZ: &str = "0.13.2";

/// Input longer than the longest packet that a server accepts. A target that needs more memory or time for it fails.
const LIMITS: [&str; 3] = ["-max_len=70000", "-rss_limit_mb=1024", "-timeout=10"];

impl Arguments {
    /// All targets, that long.
    pub(crate) fn all(seconds: u64) -> Self {
        Self { seconds, ..Self::default() }
    }
}

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    run(arguments)?.conclude("a target failed on an input")
}

/// Installs what is missing, builds the targets, and runs each.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let targets: Vec<&str> = match &arguments.targets[..] {
        [] => TARGETS.to_vec(),
        named => named.iter().map(String::as_str).collect(),
    };
    if arguments.input.is_some() && targets.len() > 1 {
        bail!("--input needs exactly one target");
    }
    nightly::install(&[])?;
    packages::install(&[packages::BUILD, packages::FUZZ])?;
    let binaries = build()?;
    let mut outcome = Outcome::default();
    // Each has one thread.
    for some in targets.chunks(thread::available_parallelism()?.get()) {
        let found = thread::scope(|scope| {
            let run = |&name| {
                let target = Target { name, binary: binaries.join(name) };
                scope.spawn(move || match &arguments.input {
                    Some(input) => target.try_out(input),
                    None => target.fuzz(arguments.seconds),
                })
            };
            let running: Vec<_> = some.iter().map(run).collect();
            let panicked = |_| Err(anyhow!("the thread of a target panicked"));
            running.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect::<Vec<_>>()
        });
        for (name, found) in some.iter().zip(found) {
            let Found { notes, problem } = found?;
            match problem {
                None => {
                    outcome.passed += 1;
                    println!("passed   {name:<17} {notes}");
                }
                Some(problem) => {
                    println!("FAILED   {name:<17} {notes}\n{problem}");
                    outcome.failed.push(format!("fuzzing {name}: {problem}"));
                }
            }
        }
    }
    Ok(outcome)
}

/// The directory of everything that fuzzing writes.
fn directory() -> PathBuf {
    target_dir().join("fuzz")
}

/// Builds all targets, and returns their directory.
fn build() -> Result<PathBuf> {
    let tools = target_dir().join("tools");
    let cargo_fuzz = tools.join("bin/cargo-fuzz");
    let installed = Command::new(&cargo_fuzz).arg("--version").output();
    if !installed.is_ok_and(|output| output.stdout == format!("cargo-fuzz {CARGO_FUZZ}\n").as_bytes()) {
        eprintln!("Installing cargo-fuzz {CARGO_FUZZ} ...");
        let package = format!("cargo-fuzz@{CARGO_FUZZ}");
        // A debug build: cargo-fuzz only starts the compiler, so its build time matters more than its speed.
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

/// The result of running a target.
struct Found {
    notes: String,
    problem: Option<String>,
}

impl Target<'_> {
    fn try_out(&self, input: &Path) -> Result<Found> {
        self.run(Command::new(&self.binary).arg(input))
    }

    /// Continues with the corpus of earlier runs and the seeds; the seeds do not change.
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

    /// What went wrong, and how to reproduce it.
    fn problem(&self, said: &str, log: &Path) -> String {
        let mut lines = said.lines().skip_while(|line| !line.contains("panicked at") && !line.contains("ERROR: "));
        let mut why: Vec<&str> = lines.by_ref().take(2).collect();
        why.retain(|line| !line.is_empty());
        let again = match said.lines().find_map(|line| line.split_once("Test unit written to ")) {
            Some((_, input)) => format!("to reproduce: cargo xtask fuzz {} --input {input}", self.name),
            None => "no input reproduces it".to_owned(),
        };
        format!("{}\n{again}\nmore: {}", why.join("\n"), log.display())
    }
}

/// The word after the last occurrence of `before` in `text`.
fn last_after<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    text.rsplit_once(before)?.1.split_whitespace().next()
}
