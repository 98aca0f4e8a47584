//! `cargo xtask drain`: sessions of every kind work while they are ended again and again, and nothing may be cut.
//!
//! Each write carries a number of its own. The clients remember which of them were acknowledged, and which got an error in
//! the place of an answer; at the end this is compared with what is in the tables. The same clients are then ended by KILL:
//! if that cuts nothing, this test would not notice a cut.

mod controller;
mod report;
mod roles;
mod work;

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder, SslOpts};
use support::build::Flavour;
use support::packages;
use support::server::Server;

use crate::Outcome;
use crate::common::results::{self, RESULTS, machine};
use crate::common::sample::Sample;
use crate::common::tls;

use controller::Controller;
use report::{Leg as Column, table};
use roles::{PROCEDURES, ROLES, Role, own_table};
use work::{Journal, Work};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How long sessions are ended with each way of handling threads; starting, warming up and checking take extra time
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How many clients of each kind and each way to connect
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=5))]
    copies: u32,
    /// How the server handles threads [default: both, one after the other]
    #[arg(long)]
    thread_handling: Option<Handling>,
    /// How sessions are ended
    #[arg(long, default_value = "drain", conflicts_with = "keep")]
    end_by: EndBy,
    /// Test this build of the plugin [default: build it]
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
    /// A few seconds of everything
    #[arg(long, conflicts_with_all = ["seconds", "copies", "keep"])]
    short: bool,
    /// Seed of the random choices; each run prints its seed, which repeats the run as far as threads allow
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Write the result to docs/results/README.md
    #[arg(long)]
    keep: bool,
}

impl Arguments {
    /// The short form, with both ways of handling threads.
    pub(crate) fn short() -> Self {
        Self {
            seconds: SHORT.0,
            copies: SHORT.1,
            thread_handling: None,
            end_by: EndBy::Drain,
            library: None,
            short: true,
            seed: None,
            keep: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Handling {
    OneThreadPerConnection,
    PoolOfThreads,
}

impl Handling {
    const fn name(self) -> &'static str {
        match self {
            Self::OneThreadPerConnection => "one-thread-per-connection",
            Self::PoolOfThreads => "pool-of-threads",
        }
    }
}

/// How sessions are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EndBy {
    /// By this plugin: nothing may be cut
    Drain,
    /// By KILL: something must be cut, or this test notices nothing
    Kill,
}

impl EndBy {
    /// Whether a client may get this error because its session was ended.
    fn explains(self, error: &mysql::Error) -> bool {
        /// "Server shutdown in progress", "Query execution was interrupted", "Connection was killed".
        const KILLED: [u16; 3] = [1053, 1317, 1927];
        match error {
            mysql::Error::IoError(_) => true,
            // What the connection says, or packets out of order, which have no source.
            mysql::Error::CodecError(error) => self == Self::Kill || error.source().is_some(),
            mysql::Error::MySqlError(error) => self == Self::Kill && KILLED.contains(&error.code),
            // An error that the server sends while the client sends a statement.
            mysql::Error::DriverError(_) | mysql::Error::TlsError(_) => self == Self::Kill,
            _ => false,
        }
    }
}

/// How a client connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Tcp,
    Tls,
    Compressed,
    Socket,
}

impl Way {
    const ALL: [Self; 4] = [Self::Tcp, Self::Tls, Self::Compressed, Self::Socket];
}

/// The seconds and the copies of the short form.
const SHORT: (u64, u32) = (6, 1);

const USER: &str = "stress";
const PASSWORD: &str = "secret";
/// The user of the controller.
const DBA: &str = "dba";

/// How long the test of the test takes, if it is not all that is asked for.
const SECONDS_OF_KILL: u64 = 3;
/// How long a client waits for an answer, and the server for a client: longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

const OPTIONS: &[&str] = &[
    "--plugin-load-add=instant_failover",
    "--plugin-maturity=unknown",
    "--max-connections=1000",
    // The controller comes by the extra port, past the thread pool. Slow statements fill that soon.
    "--extra-max-connections=10",
    "--thread-pool-stall-limit=30",
    // Commits take the way that they take on a primary.
    "--log-bin=binlog",
    "--server-id=1",
    "--binlog-format=ROW",
    "--max-binlog-size=16M",
    "--sync-binlog=0",
    "--local-infile=1",
    // No line in the log for each session that ends.
    "--log-warnings=1",
];

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    run(arguments)?.conclude("a drain was not clean; see above")
}

/// Set by Ctrl-C: the run ends early, and cleans up.
static STOP: AtomicBool = AtomicBool::new(false);

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    packages::install(&[packages::BUILD, packages::SERVER, packages::TEST])?;
    let library = arguments.library.clone().map_or_else(|| Flavour::Release.build(), Ok)?;
    // If another handler is already set, Ctrl-C ends everything at once.
    let _ = ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed));
    let seed =
        arguments.seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    println!("seed {seed}");
    let (seconds, copies) = if arguments.short { SHORT } else { (arguments.seconds, arguments.copies) };
    let both = [Handling::OneThreadPerConnection, Handling::PoolOfThreads];
    let (mut outcome, mut columns) = (Outcome::default(), Vec::new());
    for handling in both.into_iter().filter(|handling| arguments.thread_handling.is_none_or(|only| only == *handling)) {
        // In the short form, once is enough: it is the same clients that are judged.
        let test_of_the_test = arguments.end_by == EndBy::Drain && (columns.is_empty() || !arguments.short);
        let legs = [test_of_the_test.then_some((EndBy::Kill, SECONDS_OF_KILL)), Some((arguments.end_by, seconds))];
        for (ends_by, seconds) in legs.into_iter().flatten() {
            if STOP.load(Ordering::Relaxed) {
                outcome.skipped += 1;
                continue;
            }
            println!("\n--thread-handling={}, sessions are ended by {ends_by:?}", handling.name());
            let column = run_leg(&library, handling, ends_by, seconds, copies, seed)?;
            let complaints = column.complaints();
            println!("{}", table(std::slice::from_ref(&column)));
            for complaint in &complaints {
                println!("WRONG: {complaint}");
            }
            outcome += Outcome::of(complaints.is_empty(), format!("{}: {}", column.name(), complaints.join("; ")));
            columns.push(column);
        }
    }
    let all = table(&columns);
    if columns.len() > 1 {
        println!("\n{all}");
    }
    if STOP.load(Ordering::Relaxed) {
        println!("Interrupted.");
    } else if arguments.keep && outcome.failed.is_empty() {
        results::keep(RESULTS, "drain", &format!("Seed {seed}, {}.\n\n{all}", machine()))?;
    }
    Ok(outcome)
}

/// What the clients and the controller of one server share.
struct Leg {
    server: Server,
    ends_by: EndBy,
    over: AtomicBool,
    /// When the drain under way began.
    draining: Mutex<Option<Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Leg {
    fn start(library: &Path, handling: Handling, ends_by: EndBy, clients: u32) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let handling = format!("--thread-handling={}", handling.name());
        let certificate = tls::Files::make(files.path())?.options();
        let mut options = OPTIONS.to_vec();
        options.push(&handling);
        options.extend(certificate.iter().map(String::as_str));
        let server = Server::start(library, &options)?;
        let leg = Self { server, ends_by, over: AtomicBool::new(false), draining: Mutex::new(None) };
        leg.create(clients)?;
        Ok(leg)
    }

    fn create(&self, clients: u32) -> Result<()> {
        let mut root = self.root()?;
        root.query_drop("CREATE DATABASE stress")?;
        root.query_drop("USE stress")?;
        root.query_drop("DELETE FROM mysql.global_priv WHERE User = ''")?;
        root.query_drop("FLUSH PRIVILEGES")?;
        root.query_drop(format!("CREATE USER {USER} IDENTIFIED BY '{PASSWORD}'"))?;
        root.query_drop(format!("GRANT ALL ON stress.* TO {USER}"))?;
        root.query_drop(format!("CREATE USER {DBA}"))?;
        root.query_drop(format!("GRANT ALL ON *.* TO {DBA}"))?;
        // No key is unique: a write that is done twice must be seen.
        root.query_drop("CREATE TABLE writes (n BIGINT NOT NULL, KEY (n))")?;
        for client in 0..clients {
            root.query_drop(format!("CREATE TABLE {} LIKE writes", own_table(client)))?;
        }
        root.query_drop("CREATE TABLE small (n INT PRIMARY KEY) AS SELECT seq AS n FROM seq_1_to_80")?;
        PROCEDURES.iter().try_for_each(|procedure| root.query_drop(procedure))?;
        Ok(())
    }

    /// A session of root, through the socket.
    fn root(&self) -> Result<Conn> {
        let options = OptsBuilder::new().user(Some("root")).socket(Some(self.server.socket().to_string_lossy()));
        Conn::new(options).context("root cannot log in")
    }

    fn options(&self, way: Way) -> Opts {
        let mut options = OptsBuilder::new()
            .user(Some(USER))
            .pass(Some(PASSWORD))
            .db_name(Some("stress"))
            .prefer_socket(false)
            .stmt_cache_size(0)
            .max_allowed_packet(Some(1 << 24))
            .read_timeout(Some(PATIENCE))
            .ip_or_hostname(Some("127.0.0.1"))
            .tcp_port(self.server.address().port());
        match way {
            Way::Tcp => {}
            Way::Tls => options = options.ssl_opts(SslOpts::default().with_danger_accept_invalid_certs(true)),
            Way::Compressed => options = options.compress(Some(mysql::Compression::fast())),
            Way::Socket => options = options.socket(Some(self.server.socket().to_string_lossy())),
        }
        options.into()
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed) && !STOP.load(Ordering::Relaxed)
    }

    /// Whether a session that sent a ping then was ended right after it, in the first second of a drain.
    fn was_hasty(&self, pinged: Instant) -> bool {
        let polite = |began: Instant| began.elapsed() < Duration::from_secs(1);
        lock(&self.draining).is_some_and(polite) && pinged.elapsed() < Duration::from_millis(40)
    }
}

/// One of the clients.
struct Client {
    number: u32,
    role: &'static Role,
    way: Way,
    random: fastrand::Rng,
    /// The number of its last write.
    last: u32,
    journal: Journal,
}

impl Client {
    fn all(copies: u32, seed: u64) -> Vec<Self> {
        let kinds = ROLES.iter().flat_map(|role| Way::ALL.map(|way| (role, way)));
        let kinds = kinds.flat_map(|kind| (0..copies).map(move |_| kind));
        (0..)
            .zip(kinds)
            .map(|(number, (role, way))| Self {
                number,
                role,
                way,
                random: fastrand::Rng::with_seed(seed.wrapping_add(number.into())),
                last: 0,
                journal: Journal::default(),
            })
            .collect()
    }

    /// Works until the round is over, with one connection after another.
    fn run(&mut self, leg: &Leg) {
        while let Some(mut conn) = self.connect(leg) {
            while leg.goes_on() {
                let mut work =
                    Work::new(leg, &mut conn, &mut self.random, &mut self.journal, (self.number, &mut self.last));
                work.nap();
                match (self.role.act)(&mut work) {
                    Ok(()) => work.finished(),
                    Err(error) => {
                        work.failed(&error);
                        break;
                    }
                }
            }
        }
    }

    /// Tries until it has a connection, or the round is over.
    fn connect(&mut self, leg: &Leg) -> Option<Conn> {
        while leg.goes_on() {
            let connected = Conn::new(leg.options(self.way)).and_then(|mut conn| {
                roles::set_up(self.role, &mut conn)?;
                Ok(conn)
            });
            match connected {
                Ok(conn) => {
                    self.journal.logins += 1;
                    return Some(conn);
                }
                Err(mysql::Error::MySqlError(error)) if error.code == 4196 => self.journal.redirected += 1,
                Err(error) if leg.ends_by.explains(&error) => self.journal.lost_logins += 1,
                Err(error) => self.journal.complain(format!("a login failed: {error}")),
            }
            thread::sleep(Duration::from_millis(self.random.u64(1..40)));
        }
        None
    }
}

/// One server, from start to stop.
fn run_leg(library: &Path, handling: Handling, ends_by: EndBy, seconds: u64, copies: u32, seed: u64) -> Result<Column> {
    let mut clients = Client::all(copies, seed);
    let mut leg = Leg::start(library, handling, ends_by, u32::try_from(clients.len())?)?;
    let mut controller = Controller::new(&leg, seed)?;
    if ends_by == EndBy::Drain {
        controller.can_drain()?;
    }
    let warm_up = Duration::from_secs((seconds / 3).clamp(2, 20));
    let rounds = (|| {
        round(&leg, &mut controller, &mut clients, warm_up)?;
        let before = at_rest(&leg, &mut controller)?;
        round(&leg, &mut controller, &mut clients, Duration::from_secs(seconds))?;
        let after = at_rest(&leg, &mut controller)?;
        anyhow::Ok((before, after, controller.prepared_left()?, numbers(&leg, clients.len())?))
    })();
    let counts = controller.counts;
    let survived = leg.server.is_running();
    let stopped = leg.server.stop();
    let log = leg.server.error_log_to_judge();
    let (before, after, prepared, there) = match rounds {
        Ok(rounds) => rounds,
        Err(error) => {
            let end: Vec<&str> = log.lines().rev().take(30).collect();
            let end: Vec<&str> = end.into_iter().rev().collect();
            let state = if survived { "ran" } else { "was gone" };
            return Err(error.context(format!("the server {state}, and its log ends with:\n{}", end.join("\n"))));
        }
    };
    let mut wrong = Vec::new();
    wrong.extend(stopped.err().map(|error| error.to_string()));
    let line_is_wrong = |line: &&str| line.contains("[ERROR]") || line.contains("panicked");
    wrong.extend(log.lines().filter(line_is_wrong).map(|line| format!("in the error log: {line}")));
    Ok(Column::new(handling.name(), ends_by, &clients, counts, there, prepared, (before, after), wrong))
}

/// All clients work while their sessions are ended again and again.
fn round(leg: &Leg, controller: &mut Controller<'_>, clients: &mut [Client], length: Duration) -> Result<()> {
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    leg.over.store(false, Ordering::Relaxed);
    thread::scope(|scope| {
        // Even if something here fails: the threads must end.
        let _over = Over(&leg.over);
        for client in clients {
            scope.spawn(|| client.run(leg));
        }
        controller.run(Instant::now() + length)
    })
}

/// Waits until all clients have disconnected, and samples what the server holds.
fn at_rest(leg: &Leg, controller: &mut Controller<'_>) -> Result<Sample> {
    controller.wait_for_rest()?;
    Sample::of(leg.server.pid())
}

/// The numbers in all tables.
fn numbers(leg: &Leg, clients: usize) -> Result<Vec<u64>> {
    let mut root = leg.root()?;
    let mut numbers: Vec<u64> = root.query("SELECT n FROM stress.writes")?;
    for client in 0..u32::try_from(clients)? {
        numbers.extend(root.query::<u64, _>(format!("SELECT n FROM stress.{}", own_table(client)))?);
    }
    ensure!(!numbers.is_empty(), "no client has written anything");
    Ok(numbers)
}
