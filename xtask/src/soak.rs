//! `cargo xtask soak`: clients of every kind connect to one mariadbd while its settings and plugins change.
//!
//! Each login must end as allowed by one of the states that the server may have been in during the login. At the end the
//! counters must agree with what the clients saw, and the server must hold no more resources than before.

mod clients;
mod controller;
mod report;
mod state;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use rustls::ClientConfig;
use support::build::Flavour;
use support::server::Server;
use support::wire::{Client, Session};
use support::{output, packages};

use crate::Outcome;
use crate::common::results::{self, RESULTS, machine};
use crate::common::sample::Sample;
use crate::common::tls;

use clients::{PASSWORD, ROLES, Role, Worker, user};
use controller::{Controller, Round};
use report::{Growth, Tally};
use state::{Account, History, State};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How long settings and plugins change; the phases before that take extra time
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) minutes: u64,
    /// Seed of the random choices; each run prints its seed, which repeats the run as far as threads allow
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// Write the results to docs/results/README.md
    #[arg(long)]
    pub(crate) keep: bool,
}

/// How the server handles threads: one leg of the run each.
const HANDLING: [&str; 2] = ["one-thread-per-connection", "pool-of-threads"];

/// Low limits, so that threads start and end often, and hosts would be blocked and accounts locked soon.
const OPTIONS: [&str; 9] = [
    "--skip-name-resolve=0",
    "--max-connect-errors=3",
    "--max-password-errors=3",
    "--thread-cache-size=2",
    "--thread-pool-idle-timeout=1",
    "--max-connections=200",
    "--extra-max-connections=100",
    // The server's own test plugins have any maturity.
    "--plugin-maturity=unknown",
    // No log line for each client that disconnects.
    "--log-warnings=1",
];

/// The user whose sessions stay open.
const STAYING: &str = "staying";

/// How many KiB the server may grow by while everything changes. It keeps some of the memory of the largest packets, TLS
/// and each INSTALL.
const CHANGES: u64 = 16 * 1024;
/// The same while nothing changes or no clients connect, and in addition for each login.
const LOGINS: u64 = 256;
const BYTES_PER_LOGIN: u64 = 32;
const REINSTALLS: u64 = 100;

/// More than this many complaints end the run.
const ENOUGH: usize = 10;

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    run(arguments)?.conclude("the soak test failed; see above")
}

/// Set by Ctrl-C: the run ends early, and cleans up.
static STOP: AtomicBool = AtomicBool::new(false);

/// One server for each way of handling threads.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let seed = arguments.seed.unwrap_or(now);
    let duration = Duration::from_mins(arguments.minutes);
    packages::install(&[packages::BUILD, packages::SERVER, packages::TEST])?;
    let library = Flavour::Release.build()?;
    // If another handler is already set, Ctrl-C ends everything at once.
    let _ = ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed));
    println!("seed {seed}");
    let mut outcome = Outcome::default();
    let mut report = format!("Seed {seed}, {}.\n", machine());
    for handling in HANDLING {
        if STOP.load(Ordering::Relaxed) {
            outcome.skipped += 1;
            continue;
        }
        println!("\n--thread-handling={handling}");
        let (text, complaints) = run_leg(&library, handling, duration / 2, seed)?;
        println!("\n{text}");
        let _ = write!(report, "\n`--thread-handling={handling}`\n\n{text}");
        for complaint in &complaints {
            println!("WRONG: {complaint}");
        }
        match (complaints.is_empty(), STOP.load(Ordering::Relaxed)) {
            (false, _) => outcome.failed.push(format!("--thread-handling={handling}: {}", complaints.join("; "))),
            (true, true) => outcome.skipped += 1,
            (true, false) => outcome.passed += 1,
        }
    }
    if STOP.load(Ordering::Relaxed) {
        println!("Interrupted.");
    } else if arguments.keep && outcome.failed.is_empty() {
        results::keep(RESULTS, "soak", &report)?;
    }
    Ok(outcome)
}

/// One server's part of the run: what all clients share.
struct Leg {
    server: Server,
    tls: Arc<ClientConfig>,
    /// The user whose account uses `unix_socket`.
    system_user: String,
    pid: u32,
    /// Whether it has a thread pool.
    pool: bool,
    history: Mutex<History>,
    tally: Mutex<Tally>,
    complaints: Mutex<Vec<String>>,
    shown: Mutex<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Leg {
    fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(&self.tally)
    }

    /// The states that may have applied between two instants.
    fn states(&self, from: Instant, until: Instant) -> Vec<State> {
        self.history().between(from, until)
    }

    fn complain(&self, what: String) {
        let mut complaints = lock(&self.complaints);
        if complaints.len() <= ENOUGH {
            complaints.push(what);
        }
    }

    fn goes_on(&self) -> bool {
        !STOP.load(Ordering::Relaxed) && lock(&self.complaints).len() <= ENOUGH
    }

    fn show_progress(&self) {
        let mut shown = lock(&self.shown);
        if shown.elapsed() < Duration::from_secs(5) {
            return;
        }
        *shown = Instant::now();
        let mode = self.history().last().settings.map_or("not installed".to_owned(), |s| s.mode.to_string());
        let sample = Sample::of(self.pid).unwrap_or_default();
        println!(
            "{}; mode {mode}; {} KiB, {} descriptors, {} threads",
            self.tally().line(),
            sample.memory,
            sample.descriptors,
            sample.threads
        );
    }
}

fn start(library: &Path, handling: &str) -> Result<Leg> {
    let files = tempfile::tempdir()?;
    let pair = tls::Files::make(files.path())?;
    let (certificate, key) =
        (format!("--ssl-cert={}", pair.certificate.display()), format!("--ssl-key={}", pair.key.display()));
    let pool = handling == "pool-of-threads";
    let handling = format!("--thread-handling={handling}");
    let mut options = OPTIONS.to_vec();
    options.extend([handling.as_str(), &certificate, &key]);
    let server = Server::start(library, &options)?;
    let pid = server.pid();
    let leg = Leg {
        server,
        tls: tls::client_config()?,
        system_user: output(std::process::Command::new("id").args(["--user", "--name"]))?.trim().to_owned(),
        pid,
        pool,
        history: Mutex::new(History::new(State::default(), Instant::now())),
        tally: Mutex::default(),
        complaints: Mutex::default(),
        shown: Mutex::new(Instant::now()),
    };
    create_accounts(&leg)?;
    Ok(leg)
}

fn create_accounts(leg: &Leg) -> Result<()> {
    let mut root = leg.server.root()?;
    for soname in ["auth_ed25519", "instant_failover"] {
        root.query(&format!("INSTALL SONAME '{soname}'"))?;
    }
    // Accounts for one host would take precedence over ours, which are for any host.
    root.query("DELETE FROM mysql.global_priv WHERE User = '' OR User = 'root' AND Host <> 'localhost'")?;
    root.query("FLUSH PRIVILEGES")?;
    for number in 0..ROLES.len() {
        for account in Account::ALL {
            let password = format!("USING PASSWORD('{PASSWORD}')");
            let identified = match account {
                Account::Native => format!("BY '{PASSWORD}'"),
                Account::NeedsTls => format!("BY '{PASSWORD}' REQUIRE SSL"),
                Account::Ed25519 => format!("VIA ed25519 {password}"),
                Account::Ed25519OrNative => {
                    format!("VIA ed25519 USING PASSWORD('other') OR mysql_native_password {password}")
                }
                Account::NativeOrEd25519 => {
                    format!("VIA mysql_native_password USING PASSWORD('other') OR ed25519 {password}")
                }
                Account::Moved => {
                    let user = user(account, number, "");
                    format!("VIA instant_failover USING '{}'", state::own_target(&user))
                }
                Account::MovedAlong => "VIA instant_failover".to_owned(),
                Account::UnixSocket | Account::Unknown => continue,
            };
            root.query(&format!("CREATE USER {} IDENTIFIED {identified}", user(account, number, "")))?;
        }
    }
    root.query(&format!("CREATE USER {STAYING} IDENTIFIED BY '{PASSWORD}'"))?;
    root.query(&format!("CREATE OR REPLACE USER '{}'@localhost IDENTIFIED VIA unix_socket", leg.system_user))?;
    root.query(&format!("GRANT ALL ON *.* TO '{}'@localhost", leg.system_user))?;
    for soname in ["auth_ed25519", "instant_failover"] {
        root.query(&format!("UNINSTALL SONAME '{soname}'"))?;
    }
    Ok(())
}

/// One server, from start to stop. Returns what to print, and the complaints.
fn run_leg(library: &Path, handling: &str, duration: Duration, seed: u64) -> Result<(String, Vec<String>)> {
    let mut leg = start(library, handling)?;
    let done = AtomicBool::new(false);
    let text = thread::scope(|scope| -> Result<String> {
        let sessions = staying_sessions(&leg)?;
        let staying = sessions.len();
        scope.spawn(|| stay(&leg, sessions, &done));
        // Even if something here fails: the thread must end.
        let _done = SetOnDrop(&done);
        Part { leg: &leg, workers: workers(seed), controller: Controller::new(&leg, seed)?, staying }.run(duration)
    });
    let text = text.unwrap_or_else(|error| {
        leg.complain(format!("{error:#}"));
        String::new()
    });
    let stopped = leg.server.stop();
    let log = leg.server.error_log_to_judge();
    let mut complaints = leg.complaints.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = stopped {
        // Before its consequences.
        complaints.insert(0, error.to_string());
    } else {
        let wrong = |line: &&str| line.contains("[ERROR]") || line.contains("panicked");
        complaints.extend(log.lines().filter(wrong).map(|line| format!("in the error log: {line}")));
    }
    Ok((text, complaints))
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sessions opened before everything else, one by each way to connect.
fn staying_sessions(leg: &Leg) -> Result<Vec<Session>> {
    let clients = [
        Client::connect(leg.server.address())?,
        Client::connect(leg.server.extra_address())?,
        Client::connect_socket(&leg.server.socket())?,
    ];
    clients.into_iter().map(|client| clients::open(client, STAYING)).collect()
}

/// Asks all sessions for their user, repeatedly.
fn stay(leg: &Leg, mut sessions: Vec<Session>, done: &AtomicBool) {
    let ask = |session: &mut Session| session.query("SELECT CONNECTION_ID(), CURRENT_USER()");
    let before: Vec<_> = sessions.iter_mut().map(|session| ask(session).unwrap_or_default()).collect();
    while !done.load(Ordering::Relaxed) {
        for (session, before) in sessions.iter_mut().zip(&before) {
            match ask(session) {
                Ok(rows) if rows == *before && rows.len() == 1 => {}
                other => {
                    leg.complain(format!("an open session said {before:?}, and now {other:?}"));
                    return;
                }
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn workers(seed: u64) -> Vec<Worker> {
    ROLES.into_iter().enumerate().map(|(number, role)| Worker::new(number, role, seed)).collect()
}

/// The phases of one leg.
struct Part<'a> {
    leg: &'a Leg,
    workers: Vec<Worker>,
    controller: Controller<'a>,
    /// The number of sessions that stay open.
    staying: usize,
}

impl Part<'_> {
    fn run(mut self, duration: Duration) -> Result<String> {
        let start = Instant::now();
        let logins = (duration.as_secs() * 300).clamp(20_000, 100_000);
        self.controller.toggle_ed25519()?;
        // This comes first: later, a leak may go unnoticed in memory that the server holds but does not use.
        println!("{logins} logins without the plugin, twice");
        self.flood(logins)?;
        let mut growths =
            vec![self.growth(format!("{logins} logins without the plugin"), None, |part| part.flood(logins))?];
        println!("{logins} logins, all redirected, twice");
        self.controller.redirect_all()?;
        self.flood(logins)?;
        let bound = LOGINS + logins * BYTES_PER_LOGIN / 1024;
        growths.push(self.growth(format!("{logins} redirects"), Some(bound), |part| part.flood(logins))?);
        growths.push(self.growth(format!("{REINSTALLS} times UNINSTALL and INSTALL"), Some(LOGINS), |part| {
            part.controller.reinstall(REINSTALLS)
        })?);

        let third = duration / 3;
        let length = (third / 4).clamp(Duration::from_secs(3), Duration::from_secs(30));
        println!("changes, without the plugin");
        self.controller.uninstall_ours()?;
        growths.push(self.growth("changes without the plugin".to_owned(), None, |part| {
            part.rounds(&[Round::Without], length, third)
        })?);
        println!("changes, with the plugin");
        let rounds = [Round::Stays, Round::ComesAndGoes];
        self.rounds(&rounds, length, third)?;
        growths.push(
            self.growth("changes, the later half".to_owned(), Some(CHANGES), |part| {
                part.rounds(&rounds, length, third)
            })?,
        );
        growths.iter().filter_map(Growth::complaint).for_each(|complaint| self.leg.complain(complaint));

        let (tally, controller) = (self.leg.tally(), &self.controller);
        Ok(format!(
            "{} logins, {} of them with TLS, in {} seconds; {} changes, HOLD {} times, {} drains, {} INSTALLs, {} of \
             them of this plugin.\n\n{}\n{}",
            tally.attempts(),
            tally.tls(),
            start.elapsed().as_secs(),
            controller.changes,
            controller.holds,
            controller.drains,
            controller.installs,
            controller.own_installs,
            tally.table(),
            report::growths(&growths)
        ))
    }

    /// Does something, and records what the server holds before and after.
    fn growth(
        &mut self,
        what: String,
        bound: Option<u64>,
        action: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<Growth> {
        let before = self.rest()?;
        action(self)?;
        Ok(Growth { what, before, after: self.rest()?, bound })
    }

    /// Repeats these rounds in turn for this long.
    fn rounds(&mut self, rounds: &[Round], length: Duration, duration: Duration) -> Result<()> {
        let start = Instant::now();
        for &round in rounds.iter().cycle().take_while(|_| start.elapsed() < duration && self.leg.goes_on()) {
            self.round(round, length)?;
        }
        Ok(())
    }

    /// Waits until all clients have disconnected, and samples what the server holds.
    fn rest(&mut self) -> Result<Sample> {
        self.controller.wait_for_rest(self.staying)?;
        Sample::of(self.leg.pid)
    }

    /// All clients connect while the controller changes everything.
    fn round(&mut self, round: Round, length: Duration) -> Result<()> {
        if round == Round::Stays {
            self.controller.install_ours()?;
        }
        self.counted(round != Round::ComesAndGoes, |part| {
            let (leg, over) = (part.leg, AtomicBool::new(false));
            thread::scope(|scope| {
                let _over = SetOnDrop(&over);
                for worker in &mut part.workers {
                    scope.spawn(|| {
                        while !over.load(Ordering::Relaxed) {
                            worker.run_once(leg);
                        }
                    });
                }
                part.controller.run(round, Instant::now() + length)
            })
        })
    }

    /// This many logins, as fast as possible, while nothing changes.
    fn flood(&mut self, logins: u64) -> Result<()> {
        self.counted(true, |part| {
            let (leg, left) = (part.leg, AtomicU64::new(logins));
            thread::scope(|scope| {
                for worker in part.workers.iter_mut().filter(|worker| worker.role == Role::Wire) {
                    let left = &left;
                    scope.spawn(move || {
                        let one_less = |left: u64| left.checked_sub(1);
                        while leg.goes_on() && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
                        {
                            worker.run_without_pause(leg);
                            leg.show_progress();
                        }
                    });
                }
            });
            Ok(())
        })
    }

    /// Does something, and compares the server's counters with what the clients see meanwhile, unless the plugin is
    /// reinstalled in between.
    fn counted(&mut self, stays: bool, what: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let (seen, counted) = (self.leg.tally().clone(), self.controller.counters()?);
        what(self)?;
        self.rest()?;
        if stays {
            let counted_now = self.controller.counters()?;
            if let Err(why) = self.leg.tally().compare(&seen, &counted_now, &counted) {
                self.leg.complain(why);
            }
        }
        Ok(())
    }
}
