//! `cargo xtask galera`: a real cluster, and what `packaging/galera-notify` makes of what happens to it.

mod cluster;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use support::build::Flavour;
use support::packages;
use support::system::System;
use support::wire::Reply;

use crate::Outcome;
use cluster::{Cluster, Node};

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Run it with the MariaDB of another system, with this root directory
    #[arg(long, value_name = "DIR")]
    server_root: Option<PathBuf>,
}

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    run(arguments)?.conclude("the cluster differs from the documents; see above")
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    packages::install(&[packages::BUILD, packages::SERVER, packages::TEST, packages::GALERA])?;
    let system = arguments.server_root.as_deref().map_or_else(|| Ok(System::this()), System::at)?;
    let library = Flavour::Release.build()?;
    let started = Instant::now();
    let mut cluster = Cluster::start(&system, &library, "rsync")?;
    println!("MariaDB {}: three nodes are synced after {:.0?}", system.server_version()?, started.elapsed());
    let mut outcome = Outcome::default();
    for (what, check) in CHECKS {
        let checked = check(&mut cluster);
        println!("{} {what}", if checked.is_ok() { "passed  " } else { "FAILED  " });
        let why = checked.as_ref().err().map(|why| format!("{what}: {why:#}\n{}", said(&cluster))).unwrap_or_default();
        outcome += Outcome::of(checked.is_ok(), why);
    }
    Ok(outcome)
}

type Check = fn(&mut Cluster) -> Result<()>;

/// Each leaves the cluster as it found it: all nodes are synced and serve.
const CHECKS: &[(&str, Check)] = &[
    ("INSTALL SONAME reaches every node that has the library, and harms none that has not", install_everywhere),
    ("a donor sends its clients away, and serves again", donor),
    ("a node that has lost the others sends its clients to them, and serves again", partition),
    ("without a quorum nobody redirects: clients get the server's error", no_quorum),
    ("a mode that a person has set stays", persons_mode),
];

fn said(cluster: &Cluster) -> String {
    cluster.nodes.each_ref().map(|node| format!("{} notes:\n{}", node.name, node.notes())).concat()
}

fn install_everywhere(cluster: &mut Cluster) -> Result<()> {
    let [first, second, third] = &mut cluster.nodes;
    let library = third.dir().join("plugin/instant_failover.so");
    let away = third.dir().join("away.so");
    std::fs::rename(&library, &away)?;
    let installed = "SELECT COUNT(*) FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'instant_failover'";
    first.root()?.query("INSTALL SONAME 'instant_failover'")?;
    second.wait_until("with the plugin", |node| {
        node.root().and_then(|mut root| root.query(installed)).is_ok_and(|rows| rows == [["1"]])
    })?;
    // What the third has executed, it has executed without it.
    second.root()?.query("INSERT INTO shop.orders (client, number) VALUES (0, 0)")?;
    third.wait_until("up to date", |node| {
        let orders = node.root().and_then(|mut root| root.query("SELECT COUNT(*) FROM shop.orders"));
        orders.is_ok_and(|rows| rows == [["1"]])
    })?;
    ensure!(third.is_synced() && third.root()?.query(installed)? == [["0"]], "the third node is not as it was");
    std::fs::rename(&away, &library)?;
    let mut root = third.root()?;
    root.query("SET SESSION wsrep_on = OFF")?;
    root.query("INSTALL SONAME 'instant_failover'").map(drop)
}

fn donor(cluster: &mut Cluster) -> Result<()> {
    let [first, second, third] = &mut cluster.nodes;
    third.stop()?;
    third.forget_data()?;
    third.run(&["--wsrep-sst-donor=node2"])?;
    let to = format!("clients are redirected to {}", first.address());
    second.wait_until("a donor that has redirected", |node| node.notes().contains(&to))?;
    second.wait_until("serving again", |node| node.mode().is_ok_and(|mode| mode.starts_with("OFF")))?;
    is_served(second)?;
    // It has come back with everything, the plugin included.
    is_served(third)
}

fn partition(cluster: &mut Cluster) -> Result<()> {
    let [first, second, _] = &mut cluster.nodes;
    second.isolate(true)?;
    let target = first.address();
    second.wait_until("redirecting", |node| node.mode().is_ok_and(|mode| mode == format!("ON {target}")))?;
    let redirect = second.log_in()?;
    ensure!(
        matches!(&redirect, Reply::Err(error) if error.message.ends_with(&format!("|{target}"))),
        "a client gets {redirect:?}"
    );
    is_served(first)?;
    second.isolate(false)?;
    second.wait_until("synced", Node::is_synced)?;
    second.wait_until("serving again", |node| node.mode().is_ok_and(|mode| mode.starts_with("OFF")))?;
    is_served(second)
}

fn no_quorum(cluster: &mut Cluster) -> Result<()> {
    for node in &cluster.nodes {
        node.isolate(true)?;
    }
    for node in &cluster.nodes {
        node.wait_until("out of the primary component", |node| {
            let status = node.root().and_then(|mut root| root.status("wsrep_cluster_status"));
            status.is_ok_and(|status| status == "non-Primary")
        })?;
    }
    for node in &cluster.nodes {
        node.wait_until("letting clients in", |node| node.log_in().is_ok_and(|reply| reply == Reply::Ok))?;
        let mut session = support::wire::Client::connect(node.address())?.log_in("app", b"")?.session()?;
        let refused = session.query("SELECT * FROM shop.orders").err().map(|error| error.to_string());
        ensure!(refused.as_ref().is_some_and(|error| error.contains("1047")), "a client gets {refused:?}");
    }
    for node in &cluster.nodes {
        node.isolate(false)?;
    }
    for node in &cluster.nodes {
        node.wait_until("synced", Node::is_synced)?;
        node.wait_until("serving again", |node| node.log_in().is_ok_and(|reply| reply == Reply::Ok))?;
    }
    Ok(())
}

fn persons_mode(cluster: &mut Cluster) -> Result<()> {
    let [first, second, third] = &mut cluster.nodes;
    let target = second.address().to_string();
    first.set(&format!("instant_failover_target = '{target}', instant_failover_mode = 'ON'"))?;
    let before = first.notes().len();
    // The others see that it leaves and comes back: a state transfer of what it has missed.
    third.stop()?;
    third.run(&[])?;
    first.wait_until("told", |node| node.notes()[before..].contains("left alone"))?;
    ensure!(first.mode()? == format!("ON {target}"), "its mode is {}", first.mode()?);
    first.set("instant_failover_mode = 'OFF'")?;
    is_served(first)
}

fn is_served(node: &Node) -> Result<()> {
    let reply = node.log_in()?;
    ensure!(reply == Reply::Ok, "a client of {} gets {reply:?}", node.name);
    Ok(())
}
