//! Nodes are restarted one after the other, by the command `instant-failover rolling`.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use support::build;

use super::application::Application;
use super::cluster::{Cluster, Node};
use super::{all_serve, is_served};

pub(super) fn under_load(cluster: &mut Cluster) -> Result<()> {
    let hosts: Vec<_> = cluster.nodes.iter().map(Node::address).collect();
    let command = Rehearsal::new(cluster)?;
    let application = Application::start(&hosts);
    sleep(Duration::from_secs(1));
    let began = Instant::now();
    let arguments = ["rolling", "node1", "node2", "node3", "--yes", "--restart"];
    let ended = command.run(cluster, &arguments, |nodes, n| {
        let node = &mut nodes[n];
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

pub(super) fn two_at_once(cluster: &mut Cluster) -> Result<()> {
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

pub(super) fn stops(cluster: &mut Cluster) -> Result<()> {
    let command = Rehearsal::new(cluster)?;
    let (status, text) = command.run(
        cluster,
        &["rolling", "node1", "node2", "--yes", "--max-wait", "30", "--restart"],
        // It is stopped, and that is all.
        |nodes, n| nodes[n].stop(),
    )?;
    ensure!(status == Some(4) && text.contains("instant-failover resume"), "it ended with {status:?}: {text}");
    let [first, second, third] = &mut cluster.nodes;
    for node in [second, third] {
        node.wait_until("serving", |node| node.mode().is_ok_and(|mode| mode.starts_with("OFF")))?;
        is_served(node)?;
    }
    first.begin(&[])?;
    let (status, text) = command.run(cluster, &["resume", "--yes"], restart)?;
    ensure!(status == Some(0) && text.contains("node1, node2"), "resume ended with {status:?}: {text}");
    all_serve(cluster)
}

pub(super) fn donor(cluster: &mut Cluster) -> Result<()> {
    let command = Rehearsal::new(cluster)?;
    // When it is back, another one asks it for all its data.
    let (status, text) =
        command.run(cluster, &["rolling", "node1", "--yes", "--restart"], |[first, _, third], _| {
            first.stop()?;
            first.run(&[])?;
            third.stop()?;
            third.forget_data()?;
            let before = first.notes().len();
            let _waiting = first.hold_transfers()?;
            third.begin(&["--wsrep-sst-donor=node1"])?;
            first.wait_until("a donor", |node| node.notes()[before..].contains("clients are redirected"))
        })?;
    ensure!(status == Some(0) && cluster.nodes[0].is_synced(), "it ended with {status:?}: {text}");
    cluster.nodes[2].wait_until("synced", Node::is_synced)?;
    all_serve(cluster)?;

    // When it is back, a person desyncs it.
    let arguments = ["rolling", "node1", "--yes", "--max-wait", "15", "--restart"];
    let (status, text) = command.run(cluster, &arguments, |[first, ..], _| {
        first.stop()?;
        first.run(&[])?;
        first.set("wsrep_desync = ON")
    })?;
    let is = "Donor/Desynced (by wsrep_desync), in a cluster of 3";
    ensure!(
        status == Some(4)
            && text.contains(&format!("waiting: node1: {is}"))
            && text.contains(&format!("after 15 s it is {is}")),
        "it ended with {status:?}: {text}"
    );
    let mut resumed = command.command(&["resume", "--yes"]).stdout(Stdio::null()).spawn()?;
    sleep(Duration::from_secs(2));
    ensure!(resumed.try_wait()?.is_none(), "resume does not wait for a node that is desynced");
    cluster.nodes[0].set("wsrep_desync = OFF")?;
    let status = resumed.wait()?;
    ensure!(status.success(), "resume ended with {status}");
    all_serve(cluster)
}

pub(super) fn wrong_node(cluster: &mut Cluster) -> Result<()> {
    let command = Rehearsal::new(cluster)?;
    // Of all nodes the one to which the clients are sent.
    let (status, text) =
        command.run(cluster, &["rolling", "node1", "--yes", "--restart"], |[_, _, third], _| third.stop())?;
    ensure!(
        status == Some(4) && text.contains("NOT been restarted") && text.contains("NOT READY (node3: no answer"),
        "it ended with {status:?}: {text}"
    );
    command.shows(&["back", "--yes"], 3, &["node1 serves"])?;
    is_served(&cluster.nodes[0])?;
    cluster.nodes[2].run(&[])?;
    all_serve(cluster)
}

pub(super) fn no_quorum(cluster: &mut Cluster) -> Result<()> {
    let command = Rehearsal::new(cluster)?;
    let arguments = ["rolling", "node1", "node2", "--yes", "--max-wait", "15", "--restart"];
    let (status, text) = command.run(cluster, &arguments, |[first, second, third], _| {
        first.stop()?;
        second.isolate(true)?;
        third.isolate(true)?;
        for node in [&*second, &*third] {
            node.wait_until("out of the primary component", |node| !node.is_synced())?;
        }
        first.begin(&[])
    })?;
    ensure!(status == Some(4) && text.contains("Once it is ready"), "it ended with {status:?}: {text}");
    command.shows(
        &["status"],
        1,
        &[
            "node2 is not in a primary component",
            "node3 is not in a primary component",
            "is unfinished and not running",
        ],
    )?;
    let [first, second, third] = &mut cluster.nodes;
    for node in [&*second, &*third] {
        node.isolate(false)?;
    }
    for node in [&*second, &*third] {
        node.wait_until("synced", Node::is_synced)?;
    }
    // It may have given up.
    first.kill()?;
    first.run(&[])?;
    let (status, text) = command.run(cluster, &["resume", "--yes"], restart)?;
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
        restart: impl Fn(&mut [Node; 3], usize) -> Result<()>,
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

fn restart(nodes: &mut [Node; 3], n: usize) -> Result<()> {
    nodes[n].stop()?;
    nodes[n].begin(&[])
}

/// Restarts the node that the command asks for.
fn serve(home: &Path, cluster: &mut Cluster, restart: impl Fn(&mut [Node; 3], usize) -> Result<()>) -> Result<()> {
    let Ok(name) = fs::read_to_string(home.join("restart")) else { return Ok(()) };
    let place = cluster.nodes.iter().position(|node| node.name == name.trim());
    restart(&mut cluster.nodes, place.with_context(|| format!("there is no {name}"))?)?;
    fs::remove_file(home.join("restart")).map_err(Into::into)
}
