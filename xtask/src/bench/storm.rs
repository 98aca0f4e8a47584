//! Thousands of clients that lose their sessions and reconnect at once to a server that redirects.
//!
//! Everything that happens before authentication delays the redirect: the listen queue, `max_connections`, name
//! resolution. Each configuration is measured on a separate server. In some, the server holds all of them first.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{PoisonError, RwLock, mpsc};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use support::build::Flavour;
use support::wire::{Client, LoggedIn, Reply, handshake_response, native_reply, scramble};
use support::{output, system};

use super::Run;
use super::client::{PASSWORD, USER};
use super::mariadbd::{Mariadbd, Plugin};
use super::network::{self, Resolver};
use super::report::{Sample, table};
use crate::common::plot::{self, Axis, Line};
use crate::common::results::machine;

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) run: Run,
    /// Number of clients that reconnect [default: 5000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) clients: Option<u32>,
    /// Number of times to measure each configuration [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rounds: Option<u32>,
}

/// A server, and what happens to its clients.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    options: &'static [&'static str],
    /// A statement to run before setting the mode.
    advice: Option<&'static str>,
    /// What happens to the old sessions.
    sessions: Sessions,
    /// Whether the server resolves each client address, and waits a second for the answer.
    names: bool,
    plotted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sessions {
    /// `KILL USER` ends them.
    Killed,
    /// The same, in `HOLD`; `ON` comes once all clients are held, or after [`HOLD`].
    Held,
    /// The clients abandon them without telling the server.
    Stay,
}

const MORE_CONNECTIONS: Option<&str> = Some("SET GLOBAL max_connections = 100000");
const USUAL: Case = Case {
    name: "killed, max_connections just enough",
    options: &[],
    advice: None,
    sessions: Sessions::Killed,
    names: false,
    plotted: true,
};
const CASES: &[Case] = &[
    USUAL,
    Case { name: "killed, max_connections raised", advice: MORE_CONNECTIONS, ..USUAL },
    Case {
        name: "killed, max_connections raised, back_log=4096",
        options: &["--back-log=4096"],
        advice: MORE_CONNECTIONS,
        ..USUAL
    },
    Case {
        name: "killed, max_connections raised, back_log=4096, pool-of-threads",
        options: &["--back-log=4096", "--thread-handling=pool-of-threads"],
        advice: MORE_CONNECTIONS,
        plotted: false,
        ..USUAL
    },
    Case {
        name: "killed in HOLD, then ON; max_connections raised, back_log=4096",
        options: &["--back-log=4096"],
        advice: MORE_CONNECTIONS,
        sessions: Sessions::Held,
        ..USUAL
    },
    Case {
        name: "killed in HOLD, then ON; the same, pool-of-threads",
        options: &["--back-log=4096", "--thread-handling=pool-of-threads"],
        advice: MORE_CONNECTIONS,
        sessions: Sessions::Held,
        plotted: false,
        ..USUAL
    },
    Case { name: "old sessions stay, max_connections just enough", sessions: Sessions::Stay, ..USUAL },
    Case {
        name: "old sessions stay, max_connections raised, back_log=4096",
        options: &["--back-log=4096"],
        advice: MORE_CONNECTIONS,
        sessions: Sessions::Stay,
        ..USUAL
    },
    Case {
        name: "slow names, max_connections raised, back_log=4096",
        options: &["--skip-name-resolve=0", "--back-log=4096"],
        advice: MORE_CONNECTIONS,
        names: true,
        ..USUAL
    },
    Case {
        name: "slow names, the same, host_cache_size=65536",
        options: &["--skip-name-resolve=0", "--back-log=4096", "--host-cache-size=65536"],
        advice: MORE_CONNECTIONS,
        names: true,
        plotted: false,
        ..USUAL
    },
];

/// How long a pool waits before it tries again.
const PAUSE: Duration = Duration::from_millis(100);
/// A client without a redirect by then counts as failed.
const LIMIT: Duration = Duration::from_secs(10);

/// How long clients are held at most: less than a client waits for an answer.
const HOLD: Duration = Duration::from_secs(8);

/// What happened to one client.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    redirected: Option<Instant>,
    attempts: u32,
    /// How often it got "Too many connections".
    too_many: u32,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let run = arguments.run;
    let clients = run.length(arguments.clients, 5000, 100);
    let rounds = run.length(arguments.rounds, 3, 1);
    network::allow_many_files()?;
    let own_mounts = output(Command::new("unshare").args(["--mount", "true"])).is_ok();
    let library = Flavour::Release.build()?;
    let mut storms: Vec<Vec<Storm>> = vec![Vec::new(); CASES.len()];
    for round in 1..=rounds {
        for (case, storms) in CASES.iter().zip(&mut storms) {
            if case.names && !own_mounts {
                eprintln!(
                    "skipped  {}: a private resolver needs mount namespaces, which this machine forbids",
                    case.name
                );
                continue;
            }
            eprintln!("Round {round} of {rounds}, {} ...", case.name);
            storms.push(storm(case, &library, clients).with_context(|| case.name)?);
        }
    }
    let header = [
        "configuration",
        "redirected at the first attempt, %",
        "heard 1040, times",
        "half redirected after, s",
        "99 % after, s",
        "all after, s",
    ];
    let rows = CASES.iter().zip(&storms).filter(|(_, storms)| !storms.is_empty());
    let rows = rows.map(|(case, storms)| {
        let median = |of: &dyn Fn(&Storm) -> f64| storms.iter().map(of).collect::<Sample>().median();
        let after = |share: f64| seconds(median(&|storm| storm.after(share)));
        [
            case.name.to_owned(),
            format!("{:.1}", median(&|storm| storm.at_first)),
            format!("{:.0}", median(&|storm| storm.too_many)),
            after(0.5),
            after(0.99),
            after(1.0),
        ]
    });
    let text = format!(
        "{}\nMedians of {rounds} runs with {clients} clients, which try again {} ms after an error; never means not within \
         {} s. Time starts with KILL USER, with ON after HOLD, or, where the old sessions stay, with the first new connection. {}",
        table(header, rows),
        PAUSE.as_millis(),
        LIMIT.as_secs(),
        machine()
    );
    run.show("storm", &text, &[("Reconnect storm", plot(&storms))])
}

fn seconds(seconds: f64) -> String {
    if seconds.is_finite() { format!("{seconds:.2}") } else { "never".to_owned() }
}

/// What happened to all clients.
#[derive(Clone, Debug)]
struct Storm {
    /// When they were redirected, in order.
    redirected: Vec<f64>,
    clients: usize,
    /// How many needed only one attempt, in percent.
    at_first: f64,
    too_many: f64,
}

impl Storm {
    fn over(outcomes: &[Outcome], start: Instant) -> Self {
        let redirected = outcomes.iter().filter_map(|outcome| outcome.redirected);
        let mut redirected: Vec<f64> = redirected.map(|at| at.saturating_duration_since(start).as_secs_f64()).collect();
        redirected.sort_by(f64::total_cmp);
        let clients = outcomes.len();
        let at_first = outcomes.iter().filter(|outcome| outcome.attempts == 1 && outcome.redirected.is_some()).count();
        let too_many = outcomes.iter().map(|outcome| f64::from(outcome.too_many)).sum();
        Self { redirected, clients, at_first: 100.0 * plot::count(at_first) / plot::count(clients), too_many }
    }

    /// When that share of the clients had been redirected.
    fn after(&self, share: f64) -> f64 {
        let needed = (1..=self.clients).find(|&n| plot::count(n) >= share * plot::count(self.clients)).unwrap_or(1);
        self.redirected.get(needed - 1).copied().unwrap_or(f64::INFINITY)
    }
}

fn plot(storms: &[Vec<Storm>]) -> String {
    let lines = CASES.iter().zip(storms).filter(|(case, storms)| case.plotted && !storms.is_empty());
    let lines: Vec<Line> = lines
        .map(|(case, storms)| {
            let storm = &storms[storms.len() - 1];
            let share = |n: usize| 100.0 * plot::count(n) / plot::count(storm.clients);
            let points = storm.redirected.iter().enumerate().map(|(n, &time)| (time, share(n + 1)));
            Line { name: case.name.to_owned(), points: plot::steps(points) }
        })
        .collect();
    let last = lines.iter().flat_map(|line| &line.points).map(|point| point.0).fold(0.1, f64::max);
    plot::lines(
        "Clients that come back at once: how many know where to go",
        &Axis::up_to("seconds", last),
        &Axis::up_to("clients redirected, %", 100.0),
        &lines,
    )
}

/// Lets all clients log in, lose their sessions, and reconnect.
fn storm(case: &Case, library: &Path, clients: u32) -> Result<Storm> {
    let dir = tempfile::tempdir()?;
    let resolver = if case.names { Some(Resolver::start(Duration::from_secs(1))?) } else { None };
    let program = resolver.as_ref().map_or_else(|| Ok(system::mariadbd()), |resolver| wrapper(dir.path(), resolver))?;
    // One more for the session that sets the mode.
    let max_connections = format!("--max-connections={}", clients + 1);
    let options = [case.options, &[max_connections.as_str()]].concat();
    let mut server = Mariadbd::start_program(&program, library, &options)?;
    server.put(Plugin::Off)?;
    let address = server.server.address();
    let (opened, open) = mpsc::channel();
    // The clients wait for it, with their sessions. It opens even if something fails.
    let gate = RwLock::new(());
    thread::scope(|scope| {
        let closed = gate.write();
        let threads: Result<Vec<_>, _> = (0..clients)
            .map(|n| {
                let (opened, gate) = (opened.clone(), &gate);
                let work = move || {
                    let session = first_session(address, n);
                    opened.send(())?;
                    drop(gate.read().unwrap_or_else(PoisonError::into_inner));
                    let mut session = session?;
                    if case.sessions != Sessions::Stay {
                        session.client.read_to_end()?;
                    }
                    let outcome = come_back(address, n)?;
                    // The old session stays until all have reconnected.
                    Ok((outcome, session))
                };
                thread::Builder::new().stack_size(256 * 1024).spawn_scoped(scope, work)
            })
            .collect();
        let threads = threads?;
        drop(opened);
        (0..clients).try_for_each(|_| open.recv())?;
        if let Some(sql) = case.advice {
            server.root.query(sql)?;
        }
        let hold = case.sessions == Sessions::Held;
        server.put(if hold { Plugin::Hold } else { Plugin::On })?;
        let mut start = Instant::now();
        drop(closed);
        if case.sessions != Sessions::Stay {
            server.root.query(&format!("KILL USER {USER}"))?;
        }
        if hold {
            let all = clients.to_string();
            while start.elapsed() < HOLD && server.root.status("Instant_failover_held")? != all {
                sleep(Duration::from_millis(10));
            }
            eprintln!(
                "{} held after {:.2} s",
                server.root.status("Instant_failover_held")?,
                start.elapsed().as_secs_f64()
            );
            start = Instant::now();
            server.put(Plugin::On)?;
        }
        let results =
            threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a client panicked")).flatten());
        let results: Result<Vec<(Outcome, LoggedIn)>> = results.collect();
        let outcomes: Vec<Outcome> = results?.into_iter().map(|(outcome, _)| outcome).collect();
        Ok(Storm::over(&outcomes, start))
    })
}

/// A separate address for each client: what the server caches for one does not help the others.
fn source(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 1, 1).to_bits() + n)
}

/// The session that a client has before the storm. Clients open these one after another.
fn first_session(server: SocketAddr, n: u32) -> Result<LoggedIn> {
    sleep(Duration::from_millis(1) * n);
    let deadline = Instant::now() + LIMIT;
    loop {
        match attempt(server, n) {
            Ok(Attempt::Answered(login)) if login.reply == Reply::Ok => return Ok(login),
            Ok(Attempt::Answered(login)) => return Err(anyhow!("not accepted: {:?}", login.reply)),
            Err(error) if Instant::now() > deadline => return Err(error),
            Ok(Attempt::TooMany) | Err(_) => sleep(PAUSE),
        }
    }
}

fn come_back(server: SocketAddr, n: u32) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        outcome.attempts += 1;
        match attempt(server, n) {
            Ok(Attempt::Answered(LoggedIn { reply: Reply::Err(error), .. })) if error.code == 4196 => {
                outcome.redirected = Some(Instant::now());
                break;
            }
            Ok(Attempt::Answered(login)) => return Err(anyhow!("not redirected: {:?}", login.reply)),
            Ok(Attempt::TooMany) => outcome.too_many += 1,
            // Network errors: the client tries again as well.
            Err(_) => {}
        }
        sleep(PAUSE);
    }
    Ok(outcome)
}

enum Attempt {
    Answered(LoggedIn),
    /// Error 1040 instead of the greeting.
    TooMany,
}

fn attempt(server: SocketAddr, n: u32) -> Result<Attempt> {
    let mut client = Client::over(network::connect(source(n), server, LIMIT)?);
    let greeting = client.read()?;
    if greeting.starts_with(b"\xff\x10\x04") {
        return Ok(Attempt::TooMany);
    }
    let scramble = scramble(&greeting).context("no greeting")?;
    client.write(&handshake_response(USER, &native_reply(PASSWORD, &scramble), 0))?;
    Ok(Attempt::Answered(client.reply()?))
}

/// A script that runs mariadbd, and only mariadbd, with our resolver.
fn wrapper(dir: &Path, resolver: &Resolver) -> Result<PathBuf> {
    let path = |name| dir.join(name);
    fs::write(path("resolv.conf"), format!("nameserver {}\n", resolver.address().ip()))?;
    fs::write(path("nsswitch.conf"), "hosts: dns\n")?;
    let text = format!(
        "#!/bin/sh\n\
         exec unshare --mount sh -c 'for file in resolv.conf nsswitch.conf; do mount --bind {}/$file /etc/$file || exit; done\n\
         exec {} \"$@\"' sh \"$@\"\n",
        dir.display(),
        system::mariadbd().display()
    );
    fs::write(path("mariadbd"), text)?;
    fs::set_permissions(path("mariadbd"), fs::Permissions::from_mode(0o755))?;
    Ok(path("mariadbd"))
}
