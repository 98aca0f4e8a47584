//! A redirect compared with the usual alternative, a proxy: the cost of each connection and of each query.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use support::build::Flavour;
use support::free_port;
use support::wire::{self, Reply, Session};

use super::Run;
use super::client::{PASSWORD, USER};
use super::mariadbd::{Mariadbd, Plugin};
use super::report::{Sample, table};
use super::server::Server;
use crate::common::plot::{self, Bar};
use crate::common::results::machine;

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) run: Run,
    /// Number of connections that each client opens by each route [default: 150]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) connections: Option<u32>,
    /// Number of queries on each connection [default: 200]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) queries: Option<u32>,
    /// Number of concurrent clients [default: 8,1]
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) clients: Option<Vec<u32>>,
}

const NAMES: [&str; 4] = ["direct", "redirect", "HAProxy", "HAProxy, spliced"];

/// The times of one route to the server, in microseconds.
#[derive(Clone, Debug, Default)]
struct Times {
    connect: Vec<f64>,
    query: Vec<f64>,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let run = arguments.run;
    let connections = run.length(arguments.connections, 150, 10);
    let queries = run.length(arguments.queries, 200, 20);
    let library = Flavour::Release.build()?;
    let dir = tempfile::tempdir()?;
    let there = Mariadbd::start(&library, &[])?;
    let mut here = Mariadbd::start(&library, &[])?;
    here.put(Plugin::On)?;
    here.root.query(&format!("SET GLOBAL instant_failover_target = '{}'", there.server.address()))?;
    let plain = haproxy(dir.path(), "plain", there.server.address(), "")?;
    let spliced = haproxy(dir.path(), "spliced", there.server.address(), "option splice-auto")?;
    let ways = [there.server.address(), here.server.address(), plain.address(), spliced.address()];
    let mut rows = Vec::new();
    let mut plots = Vec::new();
    for clients in run.length(arguments.clients.clone(), vec![8, 1], vec![8]) {
        eprintln!("{clients} at once ...");
        let times = measure(ways, clients, connections, queries)?;
        let (connect, query) = (
            rows_of("connect", clients, &times, |way| &way.connect),
            rows_of("query", clients, &times, |way| &way.query),
        );
        rows.extend(connect.into_iter().chain(query));
        if plots.is_empty() {
            let title = |what| format!("{what}, {clients} clients at once");
            plots.push(("Time to connect", plot(&title("Time to connect"), &times, |way| &way.connect)));
            plots.push(("Time per query", plot(&title("Time per query"), &times, |way| &way.query)));
        }
    }
    let header = ["clients", "what", "over", "median, µs", "99th percentile, µs", "ratio of medians", "of percentiles"];
    let text = format!(
        "{}\n{connections} connections of each client over each way, taking turns, {queries} times `DO 1` on each. A client \
         that is redirected pays when it connects, and then talks to the server itself; one behind a proxy pays for every \
         query. {}",
        table(header, rows),
        machine()
    );
    run.show("proxy", &text, &plots)
}

fn haproxy(dir: &Path, name: &str, server: SocketAddr, option: &str) -> Result<Server> {
    let address: SocketAddr = (Ipv4Addr::LOCALHOST, free_port()?).into();
    let configuration = dir.join(format!("{name}.cfg"));
    let text = format!(
        "global\n maxconn 1000\n\
         defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n {option}\n\
         listen {name}\n bind {address}\n server db {server}\n"
    );
    fs::write(&configuration, text)?;
    let mut command = Command::new("/usr/sbin/haproxy");
    command.arg("-db").arg("-f").arg(configuration);
    Server::start(&mut command, dir, |_| TcpStream::connect(address).ok().map(|_| address))
}

/// Lets clients use each route in turn, repeatedly.
fn measure(ways: [SocketAddr; 4], clients: u32, connections: u32, queries: u32) -> Result<[Times; 4]> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(move || client(ways, connections, queries))).collect();
        let mut all: [Times; 4] = Default::default();
        for thread in threads {
            let times = thread.join().map_err(|_| anyhow!("a client panicked"))??;
            for (all, times) in all.iter_mut().zip(times) {
                all.connect.extend(times.connect);
                all.query.extend(times.query);
            }
        }
        Ok(all)
    })
}

fn client(ways: [SocketAddr; 4], connections: u32, queries: u32) -> Result<[Times; 4]> {
    let mut times: [Times; 4] = Default::default();
    // The first connections are a warm-up and do not count.
    for connection in 0..connections + 5 {
        for (&way, times) in ways.iter().zip(&mut times) {
            let start = Instant::now();
            let mut session = connect(way)?;
            let connect = micros(start);
            let mut query = Vec::new();
            for _ in 0..queries {
                let start = Instant::now();
                session.query("DO 1")?;
                query.push(micros(start));
            }
            if connection >= 5 {
                times.connect.push(connect);
                times.query.extend(query);
            }
        }
    }
    Ok(times)
}

/// Connects, and follows a redirect as a client does that knows the message format.
fn connect(server: SocketAddr) -> Result<Session> {
    let login = wire::Client::connect(server)?.log_in_by_password(USER, PASSWORD)?;
    let target = match &login.reply {
        Reply::Ok => return login.session(),
        Reply::Err(error) if error.code == 4196 => error.message.rsplit('|').next().unwrap_or_default(),
        other => bail!("{other:?}"),
    };
    let target = target.parse().with_context(|| format!("the redirect target is not an address: {target:?}"))?;
    wire::Client::connect(target)?.log_in_by_password(USER, PASSWORD)?.session()
}

fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

fn rows_of(what: &str, clients: u32, times: &[Times; 4], of: fn(&Times) -> &Vec<f64>) -> Vec<[String; 7]> {
    let sample = |way: &Times| -> Sample { of(way).iter().copied().collect() };
    let direct = sample(&times[0]);
    let rows = NAMES.iter().zip(times).map(|(&name, way)| {
        let sample = sample(way);
        [
            clients.to_string(),
            what.to_owned(),
            name.to_owned(),
            format!("{:.0}", sample.median()),
            format!("{:.0}", sample.p99()),
            format!("{:.2}", sample.median() / direct.median()),
            format!("{:.2}", sample.p99() / direct.p99()),
        ]
    });
    rows.collect()
}

fn plot(title: &str, times: &[Times; 4], of: fn(&Times) -> &Vec<f64>) -> String {
    let bars = NAMES.iter().zip(times).map(|(&name, way)| {
        let sample: Sample = of(way).iter().copied().collect();
        Bar { name: name.to_owned(), value: sample.median(), spread: sample.middle_half() }
    });
    plot::bars(title, "microseconds: median, and where the middle half lies", &bars.collect::<Vec<_>>())
}
