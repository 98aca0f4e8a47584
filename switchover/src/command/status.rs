//! `status`.

use std::fmt::Write as _;

use serde_json::json;

use super::{Context, Exit};
use crate::database::SqlError;
use crate::link::Link;
use crate::plan::record::Record;
use crate::plan::seen::Server;
use crate::servers::Entry;
use crate::stand_in::StandInLink;

/// A server of the file.
struct Seen {
    entry: Entry,
    server: Result<Server, String>,
    /// Whether another command is working on it.
    is_locked: bool,
    plugin: String,
    exempt: String,
}

pub(super) fn status(context: &Context) -> Exit {
    let all: Vec<Seen> = context.servers.all().iter().map(look).collect();
    for seen in &all {
        show(context, seen);
    }
    for entry in context.servers.stand_ins() {
        show_stand_in(context, entry);
    }
    let problems = problems(&all);
    for problem in &problems {
        context.console.say("problem", problem);
    }
    if problems.is_empty() { Exit::Done } else { Exit::Refused }
}

fn look(entry: &Entry) -> Seen {
    let mut link = Link::new(entry.clone(), false);
    let server = link.look(entry, None).ok_or(()).map_err(|()| link.problem.clone());
    let mut value = |sql: &str| -> Result<String, SqlError> { link.value(sql) };
    let (mut is_locked, mut plugin, mut exempt) = (false, String::new(), String::new());
    if server.is_ok() {
        is_locked = value("SELECT IS_USED_LOCK('instant_failover')").is_ok_and(|id| !id.is_empty());
        plugin = value("SELECT PLUGIN_VERSION FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'instant_failover'")
            .unwrap_or_default();
        exempt = value("SELECT @@instant_failover_exempt_users").unwrap_or_default();
    }
    Seen { entry: entry.clone(), server, is_locked, plugin, exempt }
}

fn show(context: &Context, seen: &Seen) {
    let name = &seen.entry.name;
    match &seen.server {
        Err(why) if context.console.is_json() => context.console.object(&json!({ "server": name, "error": why })),
        Err(why) => context.console.line(&format!("{name:12} does not answer: {why}")),
        Ok(server) if context.console.is_json() => context.console.object(&json!({
            "server": name,
            "server_id": server.server_id,
            "cluster": seen.entry.cluster,
            "read_only": server.read_only,
            "mode": server.mode.name(),
            "target": server.target,
            "note": server.note,
            "position": server.position.to_string(),
            "plugin": seen.plugin,
            "working": seen.is_locked,
            "replicates_from": server.channels.iter().map(|channel| json!({
                "server_id": channel.source, "name": channel.name, "receives": channel.receives, "applies": channel.applies,
            })).collect::<Vec<_>>(),
        })),
        Ok(server) => {
            let role = if server.read_only { "read only" } else { "PRIMARY, accepts writes" };
            let mut text = format!("{name:12} server {}, {role}, mode {}", server.server_id, server.mode);
            if server.mode.redirects() {
                let _ = write!(text, " to {}", server.target);
            }
            if seen.plugin.is_empty() {
                text += ", NO PLUGIN";
            }
            for channel in &server.channels {
                let source = channel.source.map_or_else(|| "?".to_owned(), |id| id.to_string());
                let state = if channel.runs() { "" } else { " (STOPPED)" };
                let _ = write!(text, ", replicates from server {source}{state}");
            }
            let _ = write!(text, ", at {}", server.position);
            if !server.note.is_empty() {
                let _ = write!(text, "\n{:12} note: {}", "", server.note);
            }
            context.console.line(&text);
        }
    }
}

/// A stand-in is there only while its server is not.
fn show_stand_in(context: &Context, entry: &Entry) {
    let (name, mut link) = (&entry.name, StandInLink::new(entry.clone()));
    match link.look() {
        Some(one) if context.console.is_json() => {
            context.console.object(&json!({ "stand_in": name, "mode": one.mode.name(), "target": one.target }));
        }
        Some(one) => {
            let to = if one.target.is_empty() { String::new() } else { format!(", target {}", one.target) };
            context.console.line(&format!("{name:12} stand-in, mode {}{to}", one.mode));
        }
        None if context.console.is_json() => {
            context.console.object(&json!({ "stand_in": name, "error": link.problem }));
        }
        None => context.console.line(&format!("{name:12} stand-in, not running: {}", link.problem)),
    }
}

/// What stands out.
fn problems(all: &[Seen]) -> Vec<String> {
    let mut problems = Vec::new();
    let answering: Vec<(&Seen, &Server)> =
        all.iter().filter_map(|seen| Some((seen, seen.server.as_ref().ok()?))).collect();
    for seen in all.iter().filter(|seen| seen.server.is_err()) {
        problems.push(format!("{} does not answer", seen.entry.name));
    }
    for (seen, server) in &answering {
        let name = &seen.entry.name;
        if seen.plugin.is_empty() {
            problems.push(format!("{name} has no plugin instant_failover"));
        }
        if server.mode == failover::Mode::Hold && !seen.is_locked {
            problems.push(format!("{name} holds clients, and no instant-failover is working on it: resume, or back"));
        }
        if let Some(record) = Record::from_note(&server.note)
            && !seen.is_locked
        {
            problems.push(format!(
                "{name} has the note of an unfinished switchover from {} to {} ({}): resume, or back",
                record.old.name, record.new.name, record.by
            ));
        }
        for channel in server.channels.iter().filter(|channel| !channel.runs()) {
            problems.push(format!("replication has stopped on {name} (connection '{}')", channel.name));
        }
        if let Some(user) = &seen.entry.replication.user
            && !seen.plugin.is_empty()
            && !seen.exempt.split(',').any(|exempt| exempt == user)
        {
            problems.push(format!("{user}, the user of replication, is not exempt on {name}"));
        }
    }
    for (n, (one, first)) in answering.iter().enumerate() {
        for (other, second) in &answering[n + 1..] {
            pair_problems((one, first), (other, second), &mut problems);
        }
    }
    let plugins: std::collections::BTreeSet<&str> =
        all.iter().map(|seen| seen.plugin.as_str()).filter(|version| !version.is_empty()).collect();
    if plugins.len() > 1 {
        problems
            .push(format!("the plugin has different versions: {}", plugins.into_iter().collect::<Vec<_>>().join(", ")));
    }
    problems
}

fn pair_problems((one, first): (&Seen, &Server), (other, second): (&Seen, &Server), problems: &mut Vec<String>) {
    let (a, b) = (&one.entry.name, &other.entry.name);
    if first.server_id == second.server_id {
        problems.push(format!("{a} and {b} have the same server_id {}", first.server_id));
        return;
    }
    let connected = first.channel_from(second.server_id).is_some() || second.channel_from(first.server_id).is_some();
    let together = connected || (one.entry.cluster.is_some() && one.entry.cluster == other.entry.cluster);
    if !together {
        return;
    }
    if !first.read_only && !second.read_only {
        problems.push(format!("TWO PRIMARIES: {a} and {b} both accept writes"));
    }
    if first.read_only && second.read_only && connected {
        problems.push(format!("{a} and {b} are both read only"));
    }
    let leads = |from: &Server, to: &Seen| from.mode.redirects() && from.target == to.entry.target.to_string();
    if leads(first, other) && leads(second, one) {
        problems.push(format!("A CIRCLE: {a} and {b} redirect to each other"));
    }
    let extra = |has: &Server, lacks: &Server| {
        let extra = has.transactions.missing_on(&lacks.transactions);
        extra.into_iter().filter(|gtid| gtid.server != lacks.server_id).map(|gtid| gtid.to_string()).collect::<Vec<_>>()
    };
    let (only_first, only_second) = (extra(first, second), extra(second, first));
    if !only_first.is_empty() && !only_second.is_empty() {
        problems.push(format!(
            "DIVERGED: only {a} has {}, only {b} has {}",
            only_first.join(","),
            only_second.join(",")
        ));
    }
}

/// Each primary with each of its replicas.
pub(super) fn pairs(context: &Context) -> Vec<[Entry; 2]> {
    let all: Vec<Seen> = context.servers.all().iter().map(look).collect();
    let mut pairs = Vec::new();
    for old in &all {
        let Ok(server) = &old.server else { continue };
        for new in &all {
            let Ok(replica) = &new.server else { continue };
            if !server.read_only && replica.channel_from(server.server_id).is_some() {
                pairs.push([old.entry.clone(), new.entry.clone()]);
            }
        }
    }
    pairs
}

/// The servers of each switchover that left a note.
pub(super) fn unfinished(context: &Context) -> Vec<[String; 2]> {
    let servers = context.servers.all().iter().map(look).filter_map(|seen| seen.server.ok());
    servers
        .filter_map(|server| Record::from_note(&server.note))
        .map(|record| [record.old.name, record.new.name])
        .collect()
}
