//! The command line.

mod console;
mod failover;
mod pair;
mod rolling;
mod run;
mod status;
mod switch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::live::{Hooks, Options};
use crate::servers::Servers;
use crate::signals::Signals;
use crate::store::Store;

use console::Console;

/// Switches the roles of a MariaDB primary and its replica, without losing a write.
#[derive(Debug, Parser)]
#[command(name = "instant-failover", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Arguments {
    /// The option file with the servers, a group for each [default: ~/.config/instant-failover/servers.cnf, then
    /// /etc/instant-failover/servers.cnf]
    #[arg(long, value_name = "FILE")]
    servers: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit status:
  0  done
  1  refused; nothing has changed (check, status: something needs attention)
  2  usage
  3  gone back; everything is as before
  4  stopped on the way, usually after the promotion; what to do is printed";

const CHECK_USAGE: &str = "\
instant-failover check [OPTIONS] <OLD> <NEW>
       instant-failover check [OPTIONS] --all";

const RESUMED_PAUSE: &str = "The longest time that clients may have to wait in an attempt [default: 5; in a failover, for NEW to apply \
                             what it has received: 60]";

#[derive(Debug, Subcommand)]
enum Command {
    /// Check everything that a switchover needs; change nothing
    #[command(override_usage = CHECK_USAGE)]
    Check(Check),
    /// Let OLD replicate from NEW already, so that the switchover is faster
    Prepare(Prepare),
    /// Make NEW, a replica of OLD, the primary, and redirect clients to it
    Switchover(Switchover),
    /// Make NEW, a replica, the primary because its primary is dead; what that acknowledged last may be lost
    Failover(Failover),
    /// Restart the nodes of a Galera cluster, or the replicas of a primary, one after the other, without their clients
    Rolling(rolling::Arguments),
    /// Finish a switchover, failover or rolling restart that was interrupted
    #[command(mut_arg("max_pause", |arg| arg.help(RESUMED_PAUSE)))]
    Resume(Resume),
    /// Undo a switchover or failover that was interrupted, which is impossible after the promotion; stop a rolling restart
    Back(Back),
    /// Make OLD, a former primary, a replica of NEW again, if it has nothing that NEW lacks
    Rejoin(Rejoin),
    /// Show all servers of the file
    Status(Status),
}

#[derive(Clone, Debug, Args)]
struct Pair {
    /// The primary
    old: String,
    /// Its replica, which becomes the primary
    new: String,
}

#[derive(Clone, Debug, Default, Args)]
struct Judging {
    /// The most seconds that NEW may be behind
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    max_lag: u64,
    /// Do not make OLD a replica of NEW: there is no way back then
    #[arg(long)]
    no_reverse: bool,
    /// Another replica of OLD, which follows NEW; can be repeated
    #[arg(long = "replica", value_name = "NAME")]
    replicas: Vec<String>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Check {
    /// The primary
    old: Option<String>,
    /// Its replica
    new: Option<String>,
    /// Check each replica of the file with its primary
    #[arg(long, conflicts_with_all = ["old", "new", "replicas"])]
    all: bool,
    #[command(flatten)]
    judging: Judging,
}

#[derive(Debug, Args)]
struct Prepare {
    #[command(flatten)]
    pair: Pair,
    /// The most seconds that NEW may be behind
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    max_lag: u64,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, Default, Args)]
struct How {
    /// The longest time that clients may have to wait in an attempt [default: 5]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3000))]
    max_pause: Option<u64>,
    /// How often to try to drain and lock OLD
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    attempts: u32,
    /// Kill sessions that do not end in time, with their open transactions
    #[arg(long)]
    force: bool,
    /// Kill sessions that are idle in a transaction and have modified nothing; they do not drain
    #[arg(long)]
    kill_idle_readers: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Begin no attempt after this time (2026-01-31 03:30:00, UTC)
    #[arg(long, value_name = "TIME", value_parser = time)]
    not_after: Option<SystemTime>,
    /// Run this command as soon as NEW accepts writes
    #[arg(long, value_name = "COMMAND")]
    after_promotion: Option<String>,
    /// Run this command at the end
    #[arg(long, value_name = "COMMAND")]
    after: Option<String>,
}

#[derive(Debug, Args)]
struct Switchover {
    #[command(flatten)]
    pair: Pair,
    #[command(flatten)]
    judging: Judging,
    #[command(flatten)]
    how: How,
    /// Run this command before anything changes; if it fails, nothing does
    #[arg(long, value_name = "COMMAND")]
    before: Option<String>,
    /// Redirect connections to the Unix socket and the extra port of OLD, too: mode ALL
    #[arg(long)]
    all_connections: bool,
    /// Show the checks and the steps, and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct Failover {
    /// A replica of the primary that is dead
    new: String,
    /// Run this command to turn the old primary off; it must succeed only if that is certain. Without it, you are asked to type
    /// the name of the old primary
    #[arg(long, value_name = "COMMAND")]
    fenced_by: Option<String>,
    /// Leave out this server, which does not answer: what only it has received is lost; can be repeated
    #[arg(long, value_name = "NAME")]
    without: Vec<String>,
    /// The longest time for NEW to apply what it has received [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3000))]
    max_pause: Option<u64>,
    /// Do not ask, with --fenced-by
    #[arg(long, requires = "fenced_by")]
    yes: bool,
    /// Run this command before anything changes; if it fails, nothing does
    #[arg(long, value_name = "COMMAND")]
    before: Option<String>,
    /// Run this command as soon as NEW accepts writes
    #[arg(long, value_name = "COMMAND")]
    after_promotion: Option<String>,
    /// Run this command at the end
    #[arg(long, value_name = "COMMAND")]
    after: Option<String>,
    /// Show the checks and the steps, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Which operation is meant.
#[derive(Debug, Args)]
struct Unfinished {
    /// The primary, if there is more than one switchover that is unfinished; or the node of a rolling restart
    old: Option<String>,
    /// The replica
    new: Option<String>,
}

#[derive(Debug, Args)]
struct Back {
    #[command(flatten)]
    unfinished: Unfinished,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Resume {
    #[command(flatten)]
    unfinished: Unfinished,
    /// Another replica of OLD, which follows NEW; can be repeated
    #[arg(long = "replica", value_name = "NAME")]
    replicas: Vec<String>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct Rejoin {
    /// The server that was the primary
    old: String,
    /// The primary
    new: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Status {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

fn time(text: &str) -> Result<SystemTime, String> {
    humantime::parse_rfc3339_weak(text).map_err(|error| format!("{error}; write it as 2026-01-31 03:30:00, in UTC"))
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Done = 0,
    Refused = 1,
    Usage = 2,
    Back = 3,
    Halfway = 4,
}

/// What every command has.
struct Context {
    servers: Servers,
    store: Store,
    signals: Signals,
    console: Console,
}

/// The command line, for completions.
#[must_use]
pub fn command_line() -> clap::Command {
    Arguments::command()
}

/// Runs a command line.
#[must_use]
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let json = match &arguments.command {
        Command::Check(check) => check.judging.json,
        Command::Prepare(prepare) => prepare.json,
        Command::Switchover(switchover) => switchover.judging.json,
        Command::Failover(failover) => failover.json,
        Command::Rolling(rolling) => rolling.json,
        Command::Resume(resume) => resume.json,
        Command::Back(back) => back.json,
        Command::Rejoin(rejoin) => rejoin.json,
        Command::Status(status) => status.json,
    };
    let mut console = Console::new(json);
    let exit = match prepare(&arguments, console.clone()) {
        Ok(mut context) => dispatch(&mut context, &arguments.command),
        Err(why) => {
            console.error(&why);
            Exit::Usage
        }
    };
    ExitCode::from(exit as u8)
}

fn prepare(arguments: &Arguments, console: Console) -> Result<Context, String> {
    Ok(Context {
        servers: Servers::read(arguments.servers.as_deref())?,
        store: Store::new()?,
        signals: Signals::catch().map_err(|error| error.to_string())?,
        console,
    })
}

fn dispatch(context: &mut Context, command: &Command) -> Exit {
    let result = match command {
        Command::Check(check) => pair::check(context, check),
        Command::Prepare(prepare) => switch::prepare(context, prepare),
        Command::Switchover(switchover) => switch::switchover(context, switchover),
        Command::Failover(failover) => failover::failover(context, failover),
        Command::Rolling(arguments) => rolling::rolling(context, arguments),
        Command::Resume(resume) => switch::resume(context, resume),
        Command::Back(back) => switch::back(context, back),
        Command::Rejoin(rejoin) => switch::rejoin(context, rejoin),
        Command::Status(_) => Ok(status::status(context)),
    };
    result.unwrap_or_else(|(exit, why)| {
        context.console.error(&why);
        exit
    })
}

/// What a command ends with: how, or how and why not.
type Ended = Result<Exit, (Exit, String)>;

impl Unfinished {
    /// Those that are given.
    fn names(&self) -> Vec<String> {
        self.old.iter().chain(&self.new).cloned().collect()
    }
}

impl How {
    fn max_pause(&self, default: Duration) -> Duration {
        self.max_pause.map_or(default, Duration::from_secs)
    }

    fn options(&self, default_pause: Duration) -> Options {
        let max_pause = self.max_pause(default_pause);
        Options {
            max_pause,
            rest: max_pause,
            force: self.force,
            kill_idle_readers: self.kill_idle_readers,
            not_after: self.not_after,
            replicas: Vec::new(),
            others: Vec::new(),
            hooks: Hooks { before: None, after_promotion: self.after_promotion.clone(), after: self.after.clone() },
        }
    }
}

#[cfg(test)]
mod manual;
