//! `cargo xtask monitoring`: the alerts and the dashboard of `packaging/monitoring/`.
//!
//! The alerts have tests of their own, which promtool runs. Neither file may name a metric that the exporter or the stand-in
//! does not have, and Prometheus must understand every expression.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use support::build::{self, Flavour};
use support::harness::Harness;
use support::server::Server;
use support::{child, free_port, output, packages, project_root};

use crate::Outcome;

/// promtool, and the exporter.
const PACKAGES: &[&str] = &["prometheus", "prometheus-mysqld-exporter"];

const RULES: &str = "instant-failover.rules.yml";
const DASHBOARD: &str = "instant-failover.dashboard.json";

/// What Grafana puts in the place of its variables.
const VARIABLES: &[(&str, &str)] = &[("$instance", ".*"), ("$__rate_interval", "1m"), ("$__range", "30m")];

pub(crate) fn command() -> Result<()> {
    run()?.conclude("the alerts or the dashboard are wrong")
}

pub(crate) fn run() -> Result<Outcome> {
    packages::install(&[packages::BUILD, packages::SERVER, PACKAGES])?;
    let mut outcome = Outcome::default();
    for (what, test) in [
        ("the alerts fire when they should, and only then", promtool as fn() -> Result<()>),
        ("Prometheus understands the dashboard", check_expressions),
        ("every metric exists", check_names),
    ] {
        let result = test();
        println!("{} monitoring: {what}", if result.is_ok() { "passed  " } else { "FAILED  " });
        outcome += match result {
            Ok(()) => Outcome::of(true, ""),
            Err(error) => Outcome::of(false, format!("monitoring: {what}: {error:#}")),
        };
    }
    Ok(outcome)
}

fn directory() -> PathBuf {
    project_root().join("packaging/monitoring")
}

fn read(name: &str) -> Result<String> {
    fs::read_to_string(directory().join(name)).with_context(|| name.to_owned())
}

fn promtool() -> Result<()> {
    for arguments in [["check", "rules", RULES], ["test", "rules", "instant-failover.test.yml"]] {
        output(Command::new("promtool").current_dir(directory()).args(arguments))?;
    }
    Ok(())
}

/// The dashboard's expressions as rules of Prometheus, which are YAML, and so is JSON.
fn check_expressions() -> Result<()> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)?)?;
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().context("the dashboard has no panels")? {
        for target in panel["targets"].as_array().context("a panel has no targets")? {
            let mut expression = target["expr"].as_str().context("a target has no expression")?.to_owned();
            for (variable, value) in VARIABLES {
                expression = expression.replace(variable, value);
            }
            expressions.push(json!({"record": format!("panel:{}", expressions.len()), "expr": expression}));
        }
    }
    let mut file = tempfile::NamedTempFile::new()?;
    write!(file, "{}", json!({"groups": [{"name": "dashboard", "rules": expressions}]}))?;
    output(Command::new("promtool").args(["check", "rules"]).arg(file.path())).map(drop)
}

fn check_names() -> Result<()> {
    let known = [names(&plugin_metrics()?), names(&standin_metrics()?)].concat();
    let named: BTreeSet<String> = names(&[read(RULES)?, read(DASHBOARD)?].concat()).into_iter().collect();
    let unknown: Vec<_> = named.iter().filter(|name| !known.contains(name)).collect();
    if named.is_empty() || !unknown.is_empty() {
        bail!("of {} metrics, these do not exist: {unknown:?}", named.len());
    }
    Ok(())
}

/// The names of metrics in a text.
fn names(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("mysql_") || word.starts_with("instant_failover_harness_"))
        .map(str::to_owned)
        .collect()
}

/// Of a server with the plugin in mode OFF, as `mysqld_exporter` shows them.
fn plugin_metrics() -> Result<String> {
    let server = Server::start(&Flavour::Release.build()?, &[])?;
    let mut root = server.root()?;
    for sql in ["INSTALL SONAME 'instant_failover'", "CREATE USER exporter IDENTIFIED BY 'exporter'"] {
        root.query(sql)?;
    }
    let directory = tempfile::tempdir()?;
    let options = directory.path().join("exporter.cnf");
    let address = server.address();
    fs::write(
        &options,
        format!("[client]\nhost={}\nport={}\nuser=exporter\npassword=exporter\n", address.ip(), address.port()),
    )?;
    let port = free_port()?;
    let _exporter = Exporter::start(&options, port)?;
    metrics(port, "mysql_up 1")
}

fn standin_metrics() -> Result<String> {
    let port = free_port()?;
    let _standin = Harness::start(&build::harness()?, &[&format!("--metrics={port}")])?;
    metrics(port, "instant_failover_harness_uptime")
}

/// `mysqld_exporter`, until the value is dropped.
struct Exporter(std::process::Child);

impl Exporter {
    fn start(options: &Path, port: u16) -> Result<Self> {
        child::spawn(
            Command::new("prometheus-mysqld-exporter")
                .arg(format!("--config.my-cnf={}", options.display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )
        .map(Self)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = child::stop(&mut self.0);
    }
}

/// What is served on that port, once it contains `wanted`.
fn metrics(port: u16, wanted: &str) -> Result<String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match get(port) {
            Ok(text) if text.contains(wanted) => return Ok(text),
            Err(error) if error.kind() != ErrorKind::ConnectionRefused => return Err(error.into()),
            other if Instant::now() > deadline => bail!("no '{wanted}' on port {port} after 30 s: {other:?}"),
            _ => sleep(Duration::from_millis(50)),
        }
    }
}

fn get(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
