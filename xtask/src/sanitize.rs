//! `cargo xtask sanitize`: the plugin with sanitizers, in a host that simulates mariadbd (`tests/host/`).
//!
//! Everything uses one runtime, rustc's own, which the host contains: our Rust code, the standard library (rebuilt for
//! this), our C code and the host (both compiled by `cc`). Each sanitizer must first find deliberate faults in each of
//! these; only then does its silence mean something.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use support::{output, packages, project_root, target_dir};

use crate::Outcome;
use crate::common::nightly;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How long the host drives the plugin with each sanitizer, in seconds
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Sanitizers [default: all]
    sanitizers: Vec<Sanitizer>,
}

/// Either also looks for undefined behaviour in C code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sanitizer {
    /// Memory errors and leaks
    Address,
    /// Data races
    Thread,
}

/// A deliberate fault of the host, and what its report must contain: its kind and its place.
struct Fault(&'static str, [&'static str; 2]);

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    run(&arguments.sanitizers, arguments.seconds)?.conclude("a sanitizer found an error, or missed a deliberate fault")
}

/// Runs these sanitizers, or all if the list is empty, for this many seconds each.
pub(crate) fn run(sanitizers: &[Sanitizer], seconds: u64) -> Result<Outcome> {
    let sanitizers = if sanitizers.is_empty() { Sanitizer::value_variants() } else { sanitizers };
    nightly::install(&["rust-src"])?;
    packages::install(&[packages::BUILD, packages::TEST, packages::SANITIZE])?;
    let mut outcome = Outcome::default();
    for sanitizer in sanitizers {
        let build = Build::new(*sanitizer)?;
        outcome += build.find_faults()?;
        outcome += build.drive(seconds)?;
        // Each unit test has one thread: there is no race to find.
        if *sanitizer == Sanitizer::Address {
            outcome += build.unit_tests()?;
        }
    }
    Ok(outcome)
}

impl Sanitizer {
    /// The name that rustc uses.
    const fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Thread => "thread",
        }
    }

    /// The name that its functions and its runtime use.
    const fn short(self) -> &'static str {
        match self {
            Self::Address => "asan",
            Self::Thread => "tsan",
        }
    }

    const fn faults(self) -> &'static [Fault] {
        const OVERFLOW: Fault = Fault("overflow", ["signed integer overflow", "main.c"]);
        const MISALIGNED: Fault = Fault("misaligned-c", ["misaligned address", "c-shim/server_plugin.c"]);
        match self {
            Self::Address => &[
                Fault("freed", ["heap-use-after-free", "in fault "]),
                Fault("freed-rust", ["heap-use-after-free", "in instant_failover::server::account"]),
                Fault("freed-session", ["heap-use-after-free", "in ifo_c_glance"]),
                Fault("leak", ["LeakSanitizer: detected memory leaks", "in fault "]),
                OVERFLOW,
                MISALIGNED,
            ],
            Self::Thread => &[
                Fault("race", ["data race", "write_shared"]),
                Fault("race-rust", ["data race", "instant_failover::server::account"]),
                OVERFLOW,
                MISALIGNED,
            ],
        }
    }
}

/// The parts of the host.
const HOST: [&str; 4] = ["main.o", "server.o", "sessions.o", "pool.o"];

/// A build with one sanitizer.
struct Build {
    sanitizer: Sanitizer,
    directory: PathBuf,
    machine: String,
}

impl Build {
    fn new(sanitizer: Sanitizer) -> Result<Self> {
        let started = Instant::now();
        eprintln!("Building with the {} sanitizer ...", sanitizer.name());
        let directory = target_dir().join("sanitize").join(sanitizer.name());
        let build = Self { sanitizer, directory, machine: nightly::host()? };
        output(&mut build.cargo("build"))?;
        build.host()?;
        build.check_symbols()?;
        println!("built    {:<8} in {:.0} s", sanitizer.name(), started.elapsed().as_secs_f64());
        Ok(build)
    }

    /// Cargo, for a library or its unit tests, with the sanitizer in every part.
    fn cargo(&self, command: &str) -> Command {
        let mut cargo = nightly::command("cargo");
        cargo
            .args([command, "--quiet", "--lib", "--package=instant-failover", "-Zbuild-std"])
            .args(["--target", &self.machine, "--target-dir"])
            .arg(&self.directory)
            .env("RUSTFLAGS", format!("-Zsanitizer={} -Cforce-frame-pointers", self.sanitizer.name()))
            .env(format!("CFLAGS_{}", self.machine.replace('-', "_")), self.c_flags())
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
        cargo
    }

    fn c_flags(&self) -> String {
        let sanitizers = format!("-fsanitize={},undefined -fno-sanitize-recover=undefined", self.sanitizer.name());
        format!("{sanitizers} -fno-omit-frame-pointer -g -O1")
    }

    fn plugin(&self) -> PathBuf {
        self.directory.join(&self.machine).join("debug/libinstant_failover.so")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Compiles the host, and the libraries with other plugins.
    fn host(&self) -> Result<()> {
        for (source, object, defines) in [
            ("main.c", "main.o", &[][..]),
            ("server.c", "server.o", &[]),
            ("sessions.c", "sessions.o", &[]),
            ("pool.c", "pool.o", &[]),
            ("other.c", "other.o", &["-DMYSQL_DYNAMIC_PLUGIN"]),
            ("other.c", "fixed.o", &["-DMYSQL_DYNAMIC_PLUGIN", "-DCONSTANT"]),
        ] {
            let mut cc = Command::new("cc");
            cc.current_dir(project_root().join("tests/host"))
                .args(["-std=gnu11", "-D_GNU_SOURCE", "-fPIC", "-Wall", "-Wextra", "-Werror", "-isystem"])
                .arg(include_directory()?)
                .args(self.c_flags().split(' '))
                .args(defines)
                .args(["-c", source, "-o"])
                .arg(self.file(object));
            output(&mut cc)?;
        }
        for (object, library) in [("other.o", "other.so"), ("fixed.o", "fixed.so")] {
            let mut cc = Command::new("cc");
            cc.args(["-shared", "-Wl,-z,relro,-z,now", "-o"]).arg(self.file(library)).arg(self.file(object));
            output(&mut cc)?;
        }
        let libraries = output(nightly::command("rustc").args(["--print", "target-libdir"]))?;
        let runtime = Path::new(libraries.trim()).join(format!("librustc-nightly_rt.{}.a", self.sanitizer.short()));
        let mut cc = Command::new("cc");
        cc.arg("-o").arg(self.file("host")).args(HOST.map(|object| self.file(object)));
        // The whole archive: the libraries need parts of it that the host does not.
        cc.args(["-rdynamic", "-Wl,-z,relro,-z,now", "-Wl,--whole-archive"]).arg(runtime).args([
            "-Wl,--no-whole-archive",
            "-lpthread",
            "-ldl",
            "-lm",
            "-lrt",
            "-lgcc_s",
            "-lresolv",
        ]);
        output(&mut cc).map(drop)
    }

    /// Checks that everything to be checked calls the sanitizers.
    fn check_symbols(&self) -> Result<()> {
        let objects = HOST.into_iter().chain(["other.o", "fixed.o"]).map(|object| (self.file(object), "-u"));
        for (file, option) in objects.chain([(self.plugin(), "-uD")]) {
            let symbols = output(Command::new("nm").arg(option).arg(&file))?;
            for prefix in [format!("__{}_", self.sanitizer.short()), "__ubsan_".to_owned()] {
                if !symbols.contains(&prefix) {
                    bail!("{} does not call {prefix}*", file.display());
                }
            }
        }
        Ok(())
    }

    fn find_faults(&self) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        for Fault(name, expected) in self.sanitizer.faults() {
            let log = self.file(&format!("{name}.log"));
            let mut host = Command::new(self.file("host"));
            let success = run_into(host.arg("--fault").arg(name).arg(self.plugin()), &log)?;
            let report = fs::read_to_string(&log)?;
            let found = !success && expected.iter().all(|words| report.contains(words));
            outcome += self.tell(&format!("finds the fault {name}"), found, &log)?;
        }
        Ok(outcome)
    }

    /// Drives the plugin with a thread for each session, and with a pool of threads.
    fn drive(&self, seconds: u64) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        for kind in ["threads", "pool"] {
            let log = self.file(&format!("{kind}.log"));
            let mut host = Command::new(self.file("host"));
            host.arg(kind)
                .arg(self.plugin())
                .args([self.file("other.so"), self.file("fixed.so")])
                .arg(seconds.to_string());
            let success = run_into(&mut host, &log)?;
            outcome += self.tell(&format!("drives the plugin for {seconds} s, {kind}"), success, &log)?;
            if success {
                print!("{}", fs::read_to_string(&log)?);
            }
        }
        Ok(outcome)
    }

    fn unit_tests(&self) -> Result<Outcome> {
        let log = self.file("unit-tests.log");
        let success = run_into(&mut self.cargo("test"), &log)?;
        self.tell("unit tests", success, &log)
    }

    /// Reports how something ended, with its output if it failed.
    fn tell(&self, what: &str, success: bool, log: &Path) -> Result<Outcome> {
        println!("{} {:<8} {what}", if success { "passed  " } else { "FAILED  " }, self.sanitizer.name());
        if success {
            return Ok(Outcome::of(true, ""));
        }
        let said = fs::read_to_string(log)?;
        let start = said.lines().take(60).collect::<Vec<_>>().join("\n    ");
        let failed = format!("{} {what}\n    {start}\n    full log: {}", self.sanitizer.name(), log.display());
        Ok(Outcome::of(false, failed))
    }
}

/// Runs a checked program, and keeps its output. Returns whether it succeeded.
fn run_into(program: &mut Command, log: &Path) -> Result<bool> {
    let mut file = File::create(log)?;
    let status = program
        .env("ASAN_OPTIONS", "detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1")
        .env("UBSAN_OPTIONS", "print_stacktrace=1")
        .env("TSAN_OPTIONS", "second_deadlock_stack=1")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file.try_clone()?)
        .status()
        .with_context(|| format!("cannot start {program:?}"))?;
    if status.code().is_none() {
        // Of a hang there is nothing else: the host is ended by SIGALRM.
        writeln!(file, "{status}")?;
    }
    Ok(status.success())
}

/// The directory of the server's plugin headers.
fn include_directory() -> Result<PathBuf> {
    let include = output(Command::new("mariadb_config").arg("--variable=pkgincludedir"))?;
    Ok(Path::new(include.trim()).join("server"))
}
