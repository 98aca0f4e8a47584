//! `cargo xtask galera`: a real cluster, and what `packaging/galera-notify` makes of what happens to it.

mod application;
mod cluster;
mod health;
mod rolling;
mod transfer;

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
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
    /// Run it with the MariaDB of another system, with this root directory; it also needs galera-4, mariadb-backup, rsync and socat
    #[arg(long, value_name = "DIR")]
    pub(crate) server_root: Option<PathBuf>,
    /// Only the most important checks
    #[arg(long, conflicts_with = "only")]
    pub(crate) short: bool,
    /// Only the checks whose description has one of these texts, after the first, which installs the plugin
    #[arg(value_name = "TEXT")]
    pub(crate) only: Vec<String>,
}

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    run(arguments)?.conclude("the cluster differs from the documents; see above")
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    packages::install(&[packages::BUILD, packages::SERVER, packages::TEST, packages::GALERA])?;
    let system = arguments.server_root.as_deref().map_or_else(|| Ok(System::this()), System::at)?;
    let library = Flavour::Release.build()?;
    let started = Instant::now();
    let mut cluster = Cluster::start(&system, &library)?;
    println!("MariaDB {}: three nodes are synced after {:.0?}", system.server_version()?, started.elapsed());
    let mut outcome = Outcome::default();
    let is_wanted = |what: &str| arguments.only.is_empty() || arguments.only.iter().any(|text| what.contains(text));
    let long = if arguments.short { &[] } else { LONG_CHECKS };
    for (n, (what, check)) in CHECKS.iter().chain(long).enumerate() {
        if n > 0 && !is_wanted(what) {
            continue;
        }
        let checked = check(&mut cluster);
        println!("{} {what}", if checked.is_ok() { "passed  " } else { "FAILED  " });
        if let Err(why) = &checked {
            println!("         {why:#}");
        }
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
    ("a state transfer by mariadb-backup works in ON, and in ALL with an exempt account", transfer::mariabackup),
    ("a node that has lost the others sends its clients to them, and serves again", partition),
    ("without a quorum nobody redirects: clients get the server's error", no_quorum),
    ("a mode that a person has set stays", persons_mode),
    ("a rolling restart under load cuts no transaction, and loses and doubles no write", rolling::under_load),
    ("a rolling restart stops at a node that does not come back, and resumes", rolling::stops),
];

/// Not run with `--short`.
const LONG_CHECKS: &[(&str, Check)] = &[
    (
        "when the target of a node that has lost the others leaves, another one takes its place; what a person sets there stays",
        target_leaves,
    ),
    ("galera-notify needs no option file of its own, and says why it cannot do something", notify_by_hand),
    ("of two rolling restarts that begin at the same time, one restarts nothing", rolling::two_at_once),
    ("a rolling restart waits for a node that sends a state transfer, or is desynced", rolling::donor),
    ("a rolling restart whose command restarts the wrong node says so", rolling::wrong_node),
    ("a rolling restart survives that the others lose their quorum", rolling::no_quorum),
    ("galera-notify overwrites nothing, however long it looks for a target", notify_looks_for_long),
];

fn said(cluster: &Cluster) -> String {
    cluster.nodes.each_ref().map(|node| format!("{} notes:\n{}", node.name, node.notes())).concat()
}

fn install_everywhere(cluster: &mut Cluster) -> Result<()> {
    let [first, second, third] = &mut cluster.nodes;
    let library = third.dir().join("plugin/instant_failover.so");
    let away = third.dir().join("away.so");
    fs::rename(&library, &away)?;
    let installed = "SELECT COUNT(*) FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'instant_failover'";
    first.root()?.query("INSTALL SONAME 'instant_failover'")?;
    second.wait_until("with the plugin", |node| {
        node.root().and_then(|mut root| root.query(installed)).is_ok_and(|rows| rows == [["1"]])
    })?;
    // Connections of other nodes, which were there before: no clients.
    let unknown = first.root()?.status("Instant_failover_sessions_unknown")?;
    ensure!(unknown != "0", "no connection from before the plugin");
    // What the third has executed, it has executed without it.
    second.root()?.query("INSERT INTO shop.orders (client, number) VALUES (0, 0)")?;
    third.wait_until("up to date", |node| {
        let orders = node.root().and_then(|mut root| root.query("SELECT COUNT(*) FROM shop.orders"));
        orders.is_ok_and(|rows| rows == [["1"]])
    })?;
    ensure!(third.is_synced() && third.root()?.query(installed)? == [["0"]], "the third node is not as it was");
    fs::rename(&away, &library)?;
    let mut root = third.root()?;
    root.query("SET SESSION wsrep_on = OFF")?;
    root.query("INSTALL SONAME 'instant_failover'").map(drop)
}

fn donor(cluster: &mut Cluster) -> Result<()> {
    let [first, second, third] = &mut cluster.nodes;
    third.stop()?;
    third.forget_data()?;
    let waiting = second.hold_transfers()?;
    third.begin(&["--wsrep-sst-donor=node2"])?;
    let to = format!("clients are redirected to {}", first.address());
    second.wait_until("a donor that has redirected", |node| node.notes().contains(&to))?;
    drop(waiting);
    third.wait_until("synced", Node::is_synced)?;
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
    // Without an account for the others it finds none of them.
    let log = by_hand(second, &target.to_string(), &["--peers-file=/nonexistent/peers.cnf"], 1)?;
    second.wait_until("without a peer", |_| {
        fs::read_to_string(&log)
            .is_ok_and(|log| log.contains("no other node takes its clients") && log.contains("peers.cnf"))
    })?;
    second.isolate(false)?;
    second.wait_until("synced", Node::is_synced)?;
    second.wait_until("serving again", |node| node.mode().is_ok_and(|mode| mode.starts_with("OFF")))?;
    is_served(second)
}

fn target_leaves(cluster: &mut Cluster) -> Result<()> {
    let [first, second, third] = &mut cluster.nodes;
    second.isolate(true)?;
    for (node, leaves) in [(&mut *first, true), (third, false)] {
        let target = node.address();
        second.wait_until("redirecting", |node| node.mode().is_ok_and(|mode| mode == format!("ON {target}")))?;
        if leaves {
            // The other one keeps the quorum; and of this nothing reaches the second.
            node.stop()?;
        }
    }
    // A person wants clients there, whatever they get.
    let before = second.notes().len();
    second.set("instant_failover_mode = 'OFF'")?;
    second.wait_until("told", |node| node.notes()[before..].contains("left alone: mode OFF"))?;
    is_served(second)?;
    first.run(&[])?;
    ensure!(second.mode()?.starts_with("OFF"), "its mode is {}", second.mode()?);
    second.isolate(false)?;
    // From then on all is as before.
    let note = "SELECT @@instant_failover_note";
    second.wait_until("without a note", |node| {
        node.is_synced() && node.root().and_then(|mut root| root.query(note)).is_ok_and(|rows| rows == [[""]])
    })?;
    all_serve(cluster)
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
        for (statement, is_executed) in health::STATEMENTS {
            let result = session.query(statement);
            ensure!(result.is_ok() == *is_executed, "{statement}: {result:?}");
        }
        for ((program, expected), said) in health::CONTENT.iter().zip(health::programs(node)?) {
            ensure!(said.starts_with(expected), "{program}: {said}");
        }
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

/// Starts `galera-notify` so many times, as the server does, but without the options of [`cluster`]. Returns where its log is.
fn by_hand(node: &Node, targets: &str, more: &[&str], times: usize) -> Result<PathBuf> {
    let (log, home) = (node.dir().join("by-hand.log"), node.dir().join("home"));
    fs::create_dir_all(&home)?;
    let socket = node.dir().join("socket");
    fs::write(home.join(".my.cnf"), format!("[client]\nuser = root\nskip-ssl\nsocket = {}\n", socket.display()))?;
    for _ in 0..times {
        let mut notify = Command::new(node.dir().join("galera-notify"));
        notify
            .arg(format!("--targets={targets}"))
            .arg(format!("--log={}", log.display()))
            .args(more)
            .env("HOME", &home);
        // A state that there is not, and what no shell may see.
        let event =
            ["--status", "Odd; exit 9", "--uuid", "$(exit 9)", "--primary", "maybe", "--members", "a/`exit 9`/b"];
        ensure!(notify.args(event).status()?.success(), "galera-notify fails");
    }
    Ok(log)
}

fn notify_by_hand(cluster: &mut Cluster) -> Result<()> {
    let [first, second, _] = &mut cluster.nodes;
    let target = second.address().to_string();
    // A mode of its own that is outdated: several at the same time set it right.
    first.set(&format!(
        "instant_failover_note = 'galera-notify', instant_failover_target = '{target}', instant_failover_mode = 'ON'"
    ))?;
    by_hand(first, &target, &[], 5)?;
    first.wait_until("serving", |node| node.mode().is_ok_and(|mode| mode.starts_with("OFF")))?;
    let log = by_hand(first, &target, &["--defaults-extra-file=/nonexistent/here.cnf"], 1)?;
    first.wait_until("told", |_| {
        fs::read_to_string(&log).is_ok_and(|log| log.contains("this node cannot be asked") && log.contains("here.cnf"))
    })?;
    for targets in ["", "x:1';SET", "$(id)", "fe80::1", "[::1", "[::1]:", "g1:x"] {
        let output = Command::new(first.dir().join("galera-notify")).arg(format!("--targets={targets}")).output()?;
        ensure!(output.status.code() == Some(2), "--targets={targets}: {output:?}");
    }
    is_served(first)
}

fn notify_looks_for_long(cluster: &mut Cluster) -> Result<()> {
    let [first, second, third] = &mut cluster.nodes;
    let peers = format!("--peers-file={}", first.dir().join("peers.cnf").display());
    first.set("wsrep_desync = ON")?;
    // It takes connections, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let silent = listener.local_addr()?.to_string();
    let targets = [silent.clone(), silent.clone(), silent, second.address().to_string()].join(",");
    let log = by_hand(first, &targets, &[&peers], 1)?;
    // Meanwhile, a person sets a mode.
    let target = third.address().to_string();
    first.set(&format!("instant_failover_target = '{target}', instant_failover_mode = 'ON'"))?;
    first.wait_until("told", |_| fs::read_to_string(&log).is_ok_and(|log| log.contains("left alone: mode ON")))?;
    ensure!(first.mode()? == format!("ON {target}"), "its mode is {}", first.mode()?);
    first.wait_for("galera-notify")?;
    first.set("instant_failover_mode = 'OFF'")?;

    // An IPv6 address, behind itself, which never comes into question.
    let port = TcpListener::bind("[::1]:0")?.local_addr()?.port();
    let mut relay = Command::new("socat")
        .args([format!("TCP6-LISTEN:{port},bind=[::1],fork"), format!("TCP:{}", second.address())])
        .spawn()?;
    let target = format!("[::1]:{port}");
    by_hand(first, &format!("{},{target}", first.address()), &[&peers], 1)?;
    let redirects =
        first.wait_until("redirecting", |node| node.mode().is_ok_and(|mode| mode == format!("ON {target}")));
    relay.kill()?;
    relay.wait()?;
    first.set("wsrep_desync = OFF")?;
    redirects?;
    first.wait_until("serving", |node| node.mode().is_ok_and(|mode| mode.starts_with("OFF")))?;
    is_served(first)
}

/// A node that has just come back, or has given another one what it had missed, may redirect for a moment yet.
fn all_serve(cluster: &Cluster) -> Result<()> {
    cluster.nodes.iter().try_for_each(|node| node.wait_until("synced", Node::is_synced))?;
    cluster.nodes.iter().try_for_each(Node::wait_for_notify)?;
    let is_serving = |node: &Node| node.log_in().is_ok_and(|reply| reply == Reply::Ok);
    cluster.nodes.iter().try_for_each(|node| node.wait_until("serving", is_serving))
}

fn is_served(node: &Node) -> Result<()> {
    let reply = node.log_in()?;
    ensure!(reply == Reply::Ok, "a client of {} gets {reply:?}", node.name);
    Ok(())
}
