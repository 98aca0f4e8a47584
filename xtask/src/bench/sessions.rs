//! Thousands of idle sessions: how soon a drain has ended them, what other sessions notice, and what they hold.
//!
//! Each run has a server of its own, so its drain is the first one: the hardest, since nothing is known of the sessions yet.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use support::build::Flavour;
use support::wire::{Client, Reply};

use super::Run;
use super::client::{PASSWORD, USER};
use super::mariadbd::{Mariadbd, Plugin};
use super::memory::Held;
use super::network::{self, Endings};
use super::report::{Sample, table};
use crate::common::results::machine;

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) run: Run,
    /// Number of idle sessions [default: 1000,5000]
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=8_000))]
    pub(super) sessions: Option<Vec<u32>>,
    /// Number of times to repeat each measurement [default: 7]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rounds: Option<u32>,
}

const MODELS: [&str; 2] = ["one-thread-per-connection", "pool-of-threads"];

/// The user of the sessions that are not drained.
const EXEMPT: &str = "monitor";

/// How many of them there are, and how long each waits between two statements: so the machine has time left.
const OTHERS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(1);

/// How long the others are watched before the drain.
const BEFORE: Duration = Duration::from_secs(1);

/// Until a server has come to rest.
const REST: Duration = Duration::from_millis(500);

/// A session that is still there by then is an error.
const LIMIT: Duration = Duration::from_mins(1);

/// One run.
struct Drain {
    /// Of the client, from `SET GLOBAL` to the end of the last session, in seconds.
    gone: f64,
    /// Until the server has closed them all.
    closed: f64,
    /// Statements of the others, in microseconds.
    before: Sample,
    meanwhile: Sample,
    /// What the server holds for each session without the plugin, and with it, in KiB.
    without_plugin: f64,
    with_plugin: f64,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let run = arguments.run;
    let sizes = run.length(arguments.sessions.clone(), vec![1000, 5000], vec![200]);
    let rounds = run.length(arguments.rounds, 7, 1);
    network::allow_many_files()?;
    let library = Flavour::Release.build()?;
    let mut drains: HashMap<(&str, u32), Vec<Drain>> = HashMap::new();
    for round in 1..=rounds {
        for model in MODELS {
            for &sessions in &sizes {
                eprintln!("Round {round} of {rounds}, {sessions} sessions, {model} ...");
                let drain =
                    drain(&library, model, sessions).with_context(|| format!("{sessions} sessions, {model}"))?;
                drains.entry((model, sessions)).or_default().push(drain);
            }
        }
    }
    let mut times = Vec::new();
    let mut memory = Vec::new();
    for model in MODELS {
        for &sessions in &sizes {
            let drains = &drains[&(model, sessions)];
            let over = |of: &dyn Fn(&Drain) -> f64, decimals| drains.iter().map(of).collect::<Sample>().cells(decimals);
            let median = |of: &dyn Fn(&Drain) -> f64, decimals| over(of, decimals)[0].clone();
            let [gone, spread] = over(&|drain| drain.gone, 2);
            times.push([
                model.to_owned(),
                sessions.to_string(),
                gone,
                spread,
                median(&|drain| drain.closed, 2),
                median(&|drain| drain.before.median(), 0),
                median(&|drain| drain.meanwhile.median() / drain.before.median(), 2),
                median(&|drain| drain.before.p99(), 0),
                median(&|drain| drain.meanwhile.p99() / drain.before.p99(), 2),
                over(&|drain| drain.meanwhile.p99() / drain.before.p99(), 2)[1].clone(),
            ]);
            let ratio = over(&|drain| drain.with_plugin / drain.without_plugin, 3);
            let [without, with] = [median(&|drain| drain.without_plugin, 1), median(&|drain| drain.with_plugin, 1)];
            memory.push([vec![model.to_owned(), sessions.to_string(), without, with], ratio.into()].concat());
        }
    }
    let times = table(
        [
            "threads",
            "sessions",
            "gone after, s",
            "lowest to highest",
            "closed after, s",
            "median before, µs",
            "median meanwhile / before",
            "p99 before, µs",
            "p99 meanwhile / before",
            "lowest to highest",
        ],
        times,
    );
    let memory = memory.into_iter().map(|row| <[String; 6]>::try_from(row).unwrap_or_default());
    let memory = table(
        ["threads", "sessions", "KiB per session, no plugin", "with it, OFF", "ratio", "lowest to highest"],
        memory,
    );
    let text = format!(
        "{times}\n{memory}\nMedians of {rounds} runs, each with a server of its own. Idle sessions over TCP are drained by \
         `SET GLOBAL instant_failover_mode = HOLD, instant_failover_drain = ON`; gone: their clients have all read the end of \
         their connections; closed: the server has done with them. Meanwhile {OTHERS} sessions of an exempt user execute \
         `SELECT 1`, {} ms apart; before: in the second before that. Resident memory of mariadbd per idle session. {}",
        PAUSE.as_millis(),
        machine()
    );
    run.show("sessions", &text, &[])
}

/// Opens sessions without the plugin, opens them with it on another server, and drains those.
fn drain(library: &Path, model: &str, sessions: u32) -> Result<Drain> {
    let options = [
        &format!("--max-connections={}", 2 * (sessions + OTHERS + 10)),
        &format!("--thread-handling={model}"),
        "--back-log=4096",
    ];
    let start = || -> Result<Mariadbd> {
        let mut server = Mariadbd::start(library, &options)?;
        server.root.query(&format!("CREATE USER {EXEMPT} IDENTIFIED BY '{PASSWORD}'"))?;
        Ok(server)
    };
    let server = start()?;
    let (open, without_plugin) = open_sessions(&server, sessions)?;
    drop((open, server));

    let mut server = start()?;
    server.put(Plugin::Off)?;
    server.root.query(&format!(
        "SET GLOBAL instant_failover_exempt_users = '{EXEMPT}', instant_failover_hold_timeout = {}",
        2 * LIMIT.as_secs()
    ))?;
    let (open, with_plugin) = open_sessions(&server, sessions)?;
    let address = server.server.address();
    let stop = AtomicBool::new(false);
    let (sent, gone, closed, statements) = thread::scope(|scope| -> Result<_> {
        let others: Vec<_> = (0..OTHERS).map(|_| scope.spawn(|| execute_until(address, &stop))).collect();
        let times = watch(&mut server, &open);
        stop.store(true, Ordering::Relaxed);
        let statements =
            others.into_iter().map(|other| other.join().map_err(|_| anyhow!("a client panicked")).flatten());
        let statements: Vec<(Instant, Instant)> = statements.collect::<Result<Vec<_>>>()?.concat();
        let (sent, gone, closed) = times?;
        Ok((sent, gone, closed, statements))
    })?;
    let micros = |(began, ended): &(Instant, Instant)| ended.duration_since(*began).as_secs_f64() * 1e6;
    let before = statements.iter().filter(|(began, ended)| *ended < sent && *began + BEFORE > sent);
    let meanwhile = statements.iter().filter(|(began, ended)| *ended > sent && *began < closed);
    Ok(Drain {
        gone: gone.duration_since(sent).as_secs_f64(),
        closed: closed.duration_since(sent).as_secs_f64(),
        before: before.map(micros).collect(),
        meanwhile: meanwhile.map(micros).collect(),
        without_plugin,
        with_plugin,
    })
}

/// Drains them. Returns when that began, when the last session was gone, and when the server had closed all of them.
fn watch(server: &mut Mariadbd, open: &[TcpStream]) -> Result<(Instant, Instant, Instant)> {
    let endings = Endings::of(open)?;
    sleep(REST + BEFORE);
    let sent = Instant::now();
    server.root.query("SET GLOBAL instant_failover_mode = HOLD, instant_failover_drain = ON")?;
    let gone = endings.wait(LIMIT)?;
    // The others, and this one.
    let left = (OTHERS + 1).to_string();
    while server.root.status("Threads_connected")? != left {
        ensure!(sent.elapsed() < LIMIT, "the server has not closed all sessions after {LIMIT:?}");
        sleep(PAUSE);
    }
    Ok((sent, gone, Instant::now()))
}

/// Opens sessions, and returns them with the KiB that the server holds for each.
fn open_sessions(server: &Mariadbd, sessions: u32) -> Result<(Vec<TcpStream>, f64)> {
    let address = server.server.address();
    drop(log_in(address, USER)?);
    sleep(REST);
    let before = Held::by(server)?;
    let open: Vec<_> = (0..sessions).map(|_| Ok(log_in(address, USER)?.0)).collect::<Result<_>>()?;
    sleep(REST);
    let after = Held::by(server)?;
    Ok((open, (after.memory - before.memory) / f64::from(sessions)))
}

fn log_in(address: SocketAddr, user: &str) -> Result<(TcpStream, Client)> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let login = Client::over(stream.try_clone()?).log_in_by_password(user, PASSWORD)?;
    ensure!(login.reply == Reply::Ok, "not accepted: {:?}", login.reply);
    Ok((stream, login.client))
}

/// Returns when each statement began and ended.
fn execute_until(address: SocketAddr, stop: &AtomicBool) -> Result<Vec<(Instant, Instant)>> {
    let mut session = Client::connect(address)?.log_in_by_password(EXEMPT, PASSWORD)?.session()?;
    let mut statements = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        session.query("SELECT 1")?;
        statements.push((began, Instant::now()));
        sleep(PAUSE);
    }
    Ok(statements)
}
