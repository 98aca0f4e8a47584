//! `cargo xtask galera`: a real cluster, and what `packaging/galera-notify` makes of what happens to it.

mod application;
mod cluster;
mod health;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use support::build::{self, Flavour};
use support::packages;
use support::system::System;
use support::wire::Reply;

use crate::Outcome;
use application::Application;
use cluster::{Cluster, Node};

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Run it with the MariaDB of another system, with this root directory
    #[arg(long, value_name = "DIR")]
    pub(crate) server_root: Option<PathBuf>,
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
    ("a node that has lost the others sends its clients to them, and serves again", partition),
    ("without a quorum nobody redirects: clients get the server's error", no_quorum),
    ("a mode that a person has set stays", persons_mode),
    ("galera-notify needs no option file of its own, and says why it cannot do something", notify_by_hand),
    ("a rolling restart under load cuts no transaction, and loses and doubles no write", rolling),
    ("of two rolling restarts that begin at the same time, one restarts nothing", two_at_once),
    ("a rolling restart stops at a node that does not come back, and resumes", rolling_stops),
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
    for targets in ["", "x:1';SET", "$(id)"] {
        let output = Command::new(first.dir().join("galera-notify")).arg(format!("--targets={targets}")).output()?;
        ensure!(output.status.code() == Some(2), "--targets={targets}: {output:?}");
    }
    is_served(first)
}

fn rolling(cluster: &mut Cluster) -> Result<()> {
    let hosts: Vec<_> = cluster.nodes.iter().map(Node::address).collect();
    let command = Rehearsal::new(cluster)?;
    let application = Application::start(&hosts);
    sleep(Duration::from_secs(1));
    let began = Instant::now();
    let arguments = ["rolling", "node1", "node2", "node3", "--yes", "--restart"];
    let ended = command.run(cluster, &arguments, |node| {
        let is_at = format!("{} is being restarted", node.name);
        command.shows(
            &["status"],
            0,
            &[&is_at, "rolling restart by", "its clients go to", "Synced, in a cluster of 3"],
        )?;
        let others = ["rolling", "node3", "node2", "node1", "--yes", "--restart", "true"];
        command.shows(&others, 1, &["is unfinished: resume, or back"])?;
        let elsewhere = command.elsewhere()?;
        // By a lock, or by the note where a cluster has no locks.
        elsewhere.shows(&others, 1, &["nothing has changed"])?;
        elsewhere.shows(&["status"], 0, &["rolling restart by"])?;
        node.stop()?;
        command.shows(&["status"], 0, &["does not answer: it is being restarted", "Synced, in a cluster of 2"])?;
        elsewhere.shows(&["status"], 1, &[&format!("{} does not answer", node.name)])?;
        node.begin(&[])
    })?;
    let took = began.elapsed();
    sleep(Duration::from_secs(1));
    let journal = application.stop()?;
    ensure!(ended.0 == Some(0), "it ended with {:?}: {}", ended.0, ended.1);
    let (lost, doubled) = journal.compare(&mut cluster.nodes[0].root()?)?;
    println!(
        "         {} orders acknowledged, {lost} lost, {doubled} doubled; {} transactions cut, {} sessions ended between two, \
         {} conflicts; longest order {} ms; {:.0} s for three nodes",
        journal.acknowledged.len(),
        journal.cut.len(),
        journal.ended,
        journal.conflicts,
        journal.longest.as_millis(),
        took.as_secs_f64(),
    );
    ensure!(lost == 0 && doubled == 0 && !journal.acknowledged.is_empty(), "{lost} lost, {doubled} doubled");
    ensure!(journal.cut.is_empty(), "{:?}\n{}", journal.cut, ended.1);
    all_serve(cluster)
}

fn two_at_once(cluster: &mut Cluster) -> Result<()> {
    // On two machines, which know nothing of each other.
    let commands = [Rehearsal::new(cluster)?, Rehearsal::new(cluster)?];
    for orders in [[["node1", "node2"], ["node1", "node3"]], [["node1", "node2"], ["node2", "node3"]]] {
        let begin = |(command, order): (&Rehearsal, [&str; 2])| {
            let mut child = command.command(&[&["rolling"], &order[..], &["--yes", "--restart", "exit 1"]].concat());
            child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(anyhow::Error::from)
        };
        let children = commands.iter().zip(orders).map(begin).collect::<Result<Vec<_>>>()?;
        let outputs = children.into_iter().map(Child::wait_with_output).collect::<Result<Vec<_>, _>>()?;
        // 4 is the one that ran its command, which fails.
        let ended: Vec<_> = outputs.iter().map(|output| output.status.code()).collect();
        println!("         ended with {ended:?}");
        let restarted = ended.iter().filter(|code| **code == Some(4)).count();
        let others = ended.iter().filter(|code| matches!(code, Some(1 | 3))).count();
        ensure!(restarted <= 1 && restarted + others == 2, "{outputs:#?}");
        for (command, code) in commands.iter().zip(ended) {
            if code == Some(4) {
                command.shows(&["back", "--yes"], 3, &["serves"])?;
            }
        }
        all_serve(cluster)?;
    }
    Ok(())
}

fn rolling_stops(cluster: &mut Cluster) -> Result<()> {
    let command = Rehearsal::new(cluster)?;
    let (status, text) = command.run(
        cluster,
        &["rolling", "node1", "node2", "--yes", "--max-wait", "30", "--restart"],
        // It is stopped, and that is all.
        Node::stop,
    )?;
    ensure!(status == Some(4) && text.contains("instant-failover resume"), "it ended with {status:?}: {text}");
    let [first, second, third] = &mut cluster.nodes;
    for node in [second, third] {
        node.wait_until("serving", |node| node.mode().is_ok_and(|mode| mode.starts_with("OFF")))?;
        is_served(node)?;
    }
    first.begin(&[])?;
    let (status, text) = command.run(cluster, &["resume", "--yes"], |node| {
        node.stop()?;
        node.begin(&[])
    })?;
    ensure!(status == Some(0) && text.contains("node1, node2"), "resume ended with {status:?}: {text}");
    all_serve(cluster)
}

/// The command, and what it needs.
struct Rehearsal {
    program: PathBuf,
    home: tempfile::TempDir,
}

impl Rehearsal {
    fn new(cluster: &Cluster) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let mut servers = String::new();
        for node in &cluster.nodes {
            write!(
                servers,
                "[{}]\nsocket = {}\nuser = root\npassword =\ntarget = {}\ncluster = shop\n",
                node.name,
                node.dir().join("socket").display(),
                node.address()
            )?;
        }
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(home.path().join("servers"))?;
        file.write_all(servers.as_bytes())?;
        Ok(Self { program: build::command()?, home })
    }

    /// The same servers from a machine without a state.
    fn elsewhere(&self) -> Result<Self> {
        let home = tempfile::tempdir()?;
        fs::copy(self.home.path().join("servers"), home.path().join("servers"))?;
        Ok(Self { program: self.program.clone(), home })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let home = self.home.path();
        let mut command = Command::new(&self.program);
        command.arg("--servers").arg(home.join("servers")).args(arguments).env("XDG_STATE_HOME", home);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command that restarts nothing.
    fn shows(&self, arguments: &[&str], status: i32, texts: &[&str]) -> Result<()> {
        let output = self.command(arguments).output()?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.code() == Some(status), "{arguments:?} ended with {}: {text}", output.status);
        texts.iter().try_for_each(|expected| {
            ensure!(text.contains(expected), "{arguments:?} does not say '{expected}': {text}");
            Ok(())
        })
    }

    /// Runs the command; `restart` is what its `--restart` does. Returns its exit status and what it says.
    fn run(
        &self,
        cluster: &mut Cluster,
        arguments: &[&str],
        restart: impl Fn(&mut Node) -> Result<()>,
    ) -> Result<(Option<i32>, String)> {
        let home = self.home.path();
        let mut command = self.command(arguments);
        if arguments.last() == Some(&"--restart") {
            // Asks us, and waits until we have done it.
            command.arg(format!(
                "echo $INSTANT_FAILOVER_NODE >{0}/asked && mv {0}/asked {0}/restart && while [ -e {0}/restart ]; do sleep 0.05; done",
                home.display()
            ));
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        while child.try_wait()?.is_none() {
            sleep(Duration::from_millis(20));
            serve(home, cluster, &restart)?;
        }
        let Output { status, stdout, stderr } = child.wait_with_output()?;
        Ok((status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned()))
    }
}

/// Restarts the node that the command asks for.
fn serve(home: &Path, cluster: &mut Cluster, restart: impl Fn(&mut Node) -> Result<()>) -> Result<()> {
    let Ok(name) = fs::read_to_string(home.join("restart")) else { return Ok(()) };
    let node = cluster.nodes.iter_mut().find(|node| node.name == name.trim());
    restart(node.with_context(|| format!("there is no {name}"))?)?;
    fs::remove_file(home.join("restart")).map_err(Into::into)
}

/// A node that has just come back, or has given another one what it had missed, may redirect for a moment yet.
fn all_serve(cluster: &Cluster) -> Result<()> {
    let is_serving = |node: &Node| node.log_in().is_ok_and(|reply| reply == Reply::Ok);
    cluster.nodes.iter().try_for_each(|node| node.wait_until("serving", is_serving))
}

fn is_served(node: &Node) -> Result<()> {
    let reply = node.log_in()?;
    ensure!(reply == Reply::Ok, "a client of {} gets {reply:?}", node.name);
    Ok(())
}
