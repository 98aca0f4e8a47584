//! Logins per second with and without the plugin, redirects, and refusals of a wrong password.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::ClientConfig;
use support::build::Flavour;

use super::client::{Client, Expected};
use super::mariadbd::{Mariadbd, Plugin};
use super::report::{Ratio, Report};
use super::{Run, load, seconds};
use crate::common::plot::{self, Axis, Line};
use crate::common::tls;

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) run: Run,
    /// Duration of each measurement [default: 0.1]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) seconds: Option<Duration>,
    /// Number of times to repeat each measurement [default: 41]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rounds: Option<u32>,
    /// Number of concurrent clients [default: 1,8,32,128]
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) clients: Option<Vec<u32>>,
}

/// What is measured: with or without TLS, the state of the plugin, and how logins end. The repeated case shows the
/// smallest difference that a run can resolve.
const CONTENDERS: &[(&str, bool, Plugin, Expected)] = &[
    ("no plugin", false, Plugin::None, Expected::Session),
    ("again", false, Plugin::None, Expected::Session),
    ("OFF", false, Plugin::Off, Expected::Session),
    ("redirect", false, Plugin::On, Expected::Redirect),
    ("refusal", false, Plugin::None, Expected::Refusal),
    ("no plugin, TLS", true, Plugin::None, Expected::Session),
    ("again, TLS", true, Plugin::None, Expected::Session),
    ("OFF, TLS", true, Plugin::Off, Expected::Session),
    ("redirect, TLS", true, Plugin::On, Expected::Redirect),
    ("refusal, TLS", true, Plugin::None, Expected::Refusal),
];

const RATIOS: &[Ratio] = &[
    ("again", "no plugin"),
    ("OFF", "no plugin"),
    ("redirect", "no plugin"),
    ("redirect", "refusal"),
    ("again, TLS", "no plugin, TLS"),
    ("OFF, TLS", "no plugin, TLS"),
    ("redirect, TLS", "no plugin, TLS"),
    ("redirect, TLS", "refusal, TLS"),
];

/// With 1, a refusal writes no line to the error log, just like a redirect. The default is 2.
const OPTIONS: &[&str] = &["--max-connections=500", "--thread-cache-size=200", "--log-warnings=1"];

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let files = tls::Files::make(dir.path())?;
    let options = files.options();
    let options: Vec<&str> = options.iter().map(String::as_str).chain(OPTIONS.iter().copied()).collect();
    let mut server = Mariadbd::start(&Flavour::Release.build()?, &options)?;
    let report = measure(&mut server, &tls::client_config()?, arguments)?;
    arguments.run.show("logins", &report.text(), &[("Logins and redirects", plot(&report))])
}

fn measure(server: &mut Mariadbd, tls: &Arc<ClientConfig>, arguments: &Arguments) -> Result<Report> {
    let run = arguments.run;
    let time = run.length(arguments.seconds, Duration::from_millis(100), Duration::from_millis(50));
    let rounds = run.length(arguments.rounds, 41, 3);
    let clients = run.length(arguments.clients.clone(), vec![1, 8, 32, 128], vec![8]);
    let mut report = Report::new(RATIOS);
    // The first round does not count: it warms the caches and fills the kernel's table of closed connections.
    for round in 0..=rounds {
        eprintln!("Round {round} of {rounds} ...");
        for &clients in &clients {
            // Rotate, so that no case always follows the same other case.
            let (first, second) = CONTENDERS.split_at(round as usize % CONTENDERS.len());
            for &(name, with_tls, plugin, expected) in &[second, first].concat() {
                server.put(plugin)?;
                let client = Client::MariaDb(expected, with_tls.then(|| Arc::clone(tls)));
                let rate = load::measure(server.server.address(), &client, clients, time)
                    .with_context(|| format!("{name}, {clients} clients at once\n{}", server.server.error_log()))?;
                if round > 0 {
                    report.add(clients, name, rate);
                }
            }
        }
    }
    Ok(report)
}

fn plot(report: &Report) -> String {
    let ratios: Vec<_> = report.ratios().collect();
    let lines = RATIOS.iter().map(|(one, other)| {
        let name = format!("{one} / {other}");
        let points = ratios.iter().filter(|series| series.name == name);
        Line { points: points.map(|series| (f64::from(series.clients), series.sample.median())).collect(), name }
    });
    let lines: Vec<Line> = lines.collect();
    let values = || lines.iter().flat_map(|line| &line.points);
    let mut clients: Vec<f64> = values().map(|point| point.0).collect();
    clients.sort_by(f64::total_cmp);
    clients.dedup();
    let highest = values().map(|point| point.1).fold(1.0, f64::max);
    let lowest = values().map(|point| point.1).fold(1.0, f64::min);
    plot::lines(
        "How many clients per second are answered, as ratios",
        &Axis::logarithmic("clients at once", clients),
        &Axis::between("ratio (1 is as many)", lowest, highest),
        &lines,
    )
}
