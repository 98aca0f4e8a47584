//! `rolling`: one node after the other.

use serde_json::json;

use super::run::{confirm, id, nothing_changed, who};
use super::{Context, Ended, Exit};
use crate::plan::rolling::{How, Record, Stage, target};
use crate::rolling::{End, Rolling};
use crate::servers::Entry;

/// What, how, and whether at all.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Arguments {
    /// The nodes to restart, in this order
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    #[command(flatten)]
    manner: Manner,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Show what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// One JSON object a line
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Clone, Debug, clap::Args)]
struct Manner {
    /// The command that restarts a node, whose name is in its environment; it must not end before that is done
    #[arg(long, value_name = "COMMAND")]
    restart: String,
    /// How long the sessions of a node may take to end; if they do not, it serves again, and nothing more is done
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86400))]
    max_drain: u64,
    /// How long the command may take, and then the node until it is ready
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86400))]
    max_wait: u64,
    /// The most seconds that a replica may be behind
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    max_lag: u64,
    /// Kill sessions that do not end in time, with their open transactions
    #[arg(long)]
    force: bool,
    /// Redirect connections to the Unix socket and the extra port, too: mode ALL
    #[arg(long)]
    all_connections: bool,
}

pub(super) fn rolling(context: &mut Context, arguments: &Arguments) -> Ended {
    let entries = entries(context, &arguments.nodes)?;
    if let Some(record) = unfinished(context, &arguments.nodes)? {
        let why = format!("the rolling restart that began {} is unfinished: resume, or back", record.by);
        return Err((Exit::Refused, why));
    }
    let manner = &arguments.manner;
    let mut record = Record {
        id: id(),
        by: who(),
        nodes: arguments.nodes.clone(),
        done: 0,
        stage: Stage::Ready,
        before: Default::default(),
        target: String::new(),
        how: How {
            restart: manner.restart.clone(),
            max_drain: manner.max_drain,
            max_wait: manner.max_wait,
            force: manner.force,
            all_connections: manner.all_connections,
            max_lag: manner.max_lag,
        },
    };
    let mut console = context.console.clone();
    console.begin(&arguments.nodes[0], "");
    let mut rolling =
        Rolling::new(entries.clone(), !arguments.dry_run, context.store.clone(), context.signals.clone(), &mut console);
    let nodes = rolling.look(manner.max_lag);
    for node in &nodes {
        if context.console.is_json() {
            context.console.object(&json!({ "server": node.name, "state": node.state(), "ready": node.is_ready() }));
        } else {
            context.console.line(&format!("{:12} {}", node.name, node.state()));
        }
    }
    for (current, name) in arguments.nodes.iter().enumerate() {
        let to = target(&nodes, arguments.nodes.len(), current)
            .map_err(|why| (Exit::Refused, format!("{why}; nothing has changed")))?;
        context.console.say(
            "plan",
            &format!(
                "{name}: redirect to {} and drain it, {}, wait until it is ready",
                entries[to].target, manner.restart
            ),
        );
    }
    if arguments.dry_run {
        nothing_changed(context);
        return Ok(Exit::Done);
    }
    confirm(context, arguments.yes, &format!("Restart {}?", arguments.nodes.join(", then ")))?;
    let _lock = lock(context, &record)?;
    context.signals.hold();
    let end = rolling.run(&mut record);
    ended(context, &record, end)
}

/// Goes on with the one that is unfinished, or lets its node serve again.
pub(super) fn go_on(context: &mut Context, mut record: Record, yes: bool, back: bool) -> Ended {
    let entries = entries(context, &record.nodes)?;
    let _lock = lock(context, &record)?;
    let name = record.current().to_owned();
    context.console.say("state", &record.state());
    let question = if back { format!("Let {name} serve again, and stop?") } else { "Go on?".to_owned() };
    confirm(context, yes, &question)?;
    context.signals.hold();
    let mut console = context.console.clone();
    console.begin(&name, "");
    let mut rolling = Rolling::new(entries, true, context.store.clone(), context.signals.clone(), &mut console);
    if back {
        rolling.back(&mut record).map_err(|why| (Exit::Refused, why))?;
        context.console.end();
        context.console.say("done", &format!("{name} serves; nothing more is restarted"));
        return Ok(Exit::Back);
    }
    let end = rolling.run(&mut record);
    ended(context, &record, end)
}

/// Nobody else on this machine works on it.
fn lock(context: &Context, record: &Record) -> Result<std::fs::File, (Exit, String)> {
    match context.store.lock_rolling(record) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err((Exit::Refused, format!("{}; it is still running", record.state()))),
        Err(error) => Err((Exit::Refused, format!("the state cannot be written to the file: {error}"))),
    }
}

/// The one that is unfinished with these nodes, or the only one.
pub(super) fn unfinished(context: &Context, names: &[String]) -> Result<Option<Record>, (Exit, String)> {
    let failed = |error: std::io::Error| (Exit::Refused, format!("the files with the state: {error}"));
    let mut all = context.store.all_rolling().map_err(failed)?;
    all.retain(|record| names.is_empty() || record.nodes.iter().any(|node| names.contains(node)));
    match all.len() {
        0 | 1 => Ok(all.pop()),
        _ => Err((Exit::Usage, "several rolling restarts are unfinished: name a node".to_owned())),
    }
}

fn ended(context: &mut Context, record: &Record, end: End) -> Ended {
    context.console.end();
    let done = record.nodes[..record.done].join(", ");
    match end {
        End::Done => {
            context.console.say("done", &format!("every node was restarted: {done}"));
            Ok(Exit::Done)
        }
        End::Back(why) if record.done == 0 => Err((Exit::Back, why)),
        End::Back(why) => Err((Exit::Back, format!("{why}. Restarted: {done}; to go on: instant-failover resume"))),
        End::Halfway(why) => Err((Exit::Halfway, why)),
    }
}

/// The nodes, and after them the others that the file says belong to them.
fn entries(context: &Context, names: &[String]) -> Result<Vec<Entry>, (Exit, String)> {
    let mut entries = super::pair::entries(context, names)?;
    for (n, name) in names.iter().enumerate() {
        if names[..n].contains(name) {
            return Err((Exit::Usage, format!("{name} is named twice")));
        }
        if let Some(same) = entries[..n].iter().find(|entry| entry.target == entries[n].target) {
            let why = format!("{} and {name} have the same target {}", same.name, same.target);
            return Err((Exit::Usage, why));
        }
    }
    let cluster = entries.first().and_then(|entry| entry.cluster.clone());
    let others: Vec<_> = context.servers.all().iter().filter(|entry| !names.contains(&entry.name)).collect();
    let is_one = |entry: &&&Entry| cluster.is_some() && entry.cluster == cluster;
    entries.extend(others.iter().filter(is_one).map(|entry| (*entry).clone()));
    Ok(entries)
}
