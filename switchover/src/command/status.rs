//! `status`.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;

use super::console::unanswered;
use super::{Context, Exit};
use crate::database::SqlError;
use crate::dead::stands_in;
use crate::facts;
use crate::link::Link;
use crate::plan::failover::more_than;
use crate::plan::next::has_restarted;
use crate::plan::record::Record;
use crate::plan::rolling::{self, Node, Stage};
use crate::plan::seen::{Around, Beside, Channel, Seen as Pair, Server};
use crate::plan::unfinished::Unfinished;
use crate::servers::{Entry, Servers};
use crate::stand_in::StandInLink;
use crate::threads;

/// How long until it is looked again.
const AGAIN: Duration = Duration::from_secs(1);
/// It is not looked again if that takes longer.
const SOON: Duration = Duration::from_secs(3);

/// What is said of a server that does not answer.
const SILENT: &str = "does not answer";

/// A rolling restart that began on this machine.
struct Rolling {
    record: rolling::Record,
    /// Whether its process lives.
    runs: bool,
}

impl Rolling {
    /// Whether this server is away for it.
    fn has_taken(&self, name: &str) -> bool {
        self.record.stage == Stage::Restarting && self.record.current() == name
    }
}

/// A server of the file.
#[cfg_attr(test, derive(Clone))]
struct Seen {
    entry: Entry,
    server: Result<Server, String>,
    /// Why it shows nothing, in two words.
    problem: &'static str,
    /// Whether a stand-in answers in its place.
    stands_in: bool,
    /// The connection of another command that is working on it.
    worker: Option<String>,
    /// What it says of itself, if it is a node of a Galera cluster.
    galera: Option<Node>,
    plugin: String,
    exempt: String,
}

/// A switchover or failover that left a note.
struct Open {
    unfinished: Unfinished,
    /// Whether a command is working on it.
    runs: bool,
}

impl Open {
    fn is_about(&self, name: &str) -> bool {
        let record = &self.unfinished.record;
        record.old.name == name || record.new.name == name || record.way.replicas.iter().any(|replica| replica == name)
    }
}

pub(super) fn status(context: &Context) -> Exit {
    let began = Instant::now();
    let mut view = View::of(context);
    if !view.problems.is_empty() && began.elapsed() < SOON {
        // A step that is being taken, or a server that has just started, may look like a problem.
        context.signals.sleep(AGAIN);
        view = View::of(context);
    }
    let View { all, open, before, rolling, problems } = view;
    let is_away = |name: &str| is_away(&before, &rolling, name);
    for seen in &all {
        let name = &seen.entry.name;
        show(context, seen, is_away(name), open.iter().any(|one| !one.runs && one.is_about(name)));
    }
    for one in &open {
        let Unfinished { record, state, .. } = &one.unfinished;
        if context.console.is_json() {
            let servers = [&record.old.name, &record.new.name];
            context.console.object(&json!({
                "unfinished": servers, "failover": record.failover.is_some(), "by": record.by, "state": state, "runs": one.runs,
            }));
        } else if one.runs {
            context.console.line(&format!("{} is under way: {state}", one.unfinished.name()));
        }
    }
    for Rolling { record, runs } in &rolling {
        if context.console.is_json() {
            context.console.object(&json!({
                "rolling": record.nodes, "by": record.by, "done": record.done, "node": record.current(),
                "stage": record.stage, "target": record.target, "runs": runs,
            }));
        } else {
            context.console.line(&record.state().replacen(": ", ":\n  ", 1));
        }
    }
    for entry in context.servers.stand_ins() {
        show_stand_in(context, entry);
    }
    for problem in &problems {
        context.console.say("problem", problem);
    }
    if problems.is_empty() { Exit::Done } else { Exit::Refused }
}

/// Everything that is shown.
struct View {
    all: Vec<Seen>,
    open: Vec<Open>,
    /// The rolling restarts of this machine before the servers were looked at, and afterwards.
    before: Vec<Rolling>,
    rolling: Vec<Rolling>,
    problems: Vec<String>,
}

impl View {
    fn of(context: &Context) -> Self {
        // A server may go away, or come back, while all are looked at.
        let before = rolling_here(context).unwrap_or_default();
        let all = look_at_all(context);
        let open = open(context, &all);
        let (rolling, unreadable) = match rolling_here(context) {
            Ok(rolling) => (rolling, None),
            Err(error) => (Vec::new(), Some(format!("the files with the state: {error}"))),
        };
        let is_away = |name: &str| is_away(&before, &rolling, name);
        let mut problems: Vec<String> = all
            .iter()
            .filter(|seen| seen.server.is_err() && !is_away(&seen.entry.name))
            .map(|seen| format!("{} {}", seen.entry.name, seen.problem))
            .collect();
        let interrupted = rolling.iter().filter(|one| !one.runs);
        problems.extend(interrupted.map(|one| {
            format!(
                "the rolling restart of {} is unfinished and not running: resume, or back",
                one.record.nodes.join(", ")
            )
        }));
        problems.extend(problems_of(&all, &open, &rolling, is_away));
        problems.extend(unreadable);
        Self { all, open, before, rolling, problems }
    }
}

/// Whether a rolling restart that runs here has taken this server away, or had when it was looked at.
fn is_away(before: &[Rolling], after: &[Rolling], name: &str) -> bool {
    before.iter().chain(after).any(|one| one.runs && one.has_taken(name))
}

/// All at once: each that hangs takes long.
fn look_at_all(context: &Context) -> Vec<Seen> {
    threads::each(context.servers.all(), |entry| look(&context.servers, entry))
}

fn rolling_here(context: &Context) -> std::io::Result<Vec<Rolling>> {
    let records = context.store.all_rolling()?.into_iter();
    Ok(records.map(|record| Rolling { runs: context.store.is_rolling(&record), record }).collect())
}

/// Every switchover and failover that left a note; or a file, if nothing else says why no server is the primary.
fn open(context: &Context, all: &[Seen]) -> Vec<Open> {
    let mut records: Vec<Record> = Vec::new();
    let files = context.store.all().unwrap_or_default();
    for record in all.iter().filter_map(|seen| Record::from_note(&seen.server.as_ref().ok()?.note)) {
        match records.iter().position(|known| known.id == record.id) {
            Some(n) => records[n] = records[n].clone().merged([record]),
            None => records.push(record.merged(files.iter().cloned())),
        }
    }
    let without_primary = |record: &Record| {
        let is_read_only = |name: &String| {
            let seen = all.iter().find(|seen| seen.entry.name == *name);
            seen.is_some_and(|seen| seen.server.as_ref().is_ok_and(|server| server.read_only))
        };
        is_read_only(&record.new.name) && (record.failover.is_some() || is_read_only(&record.old.name))
    };
    for record in files.into_iter().filter(without_primary) {
        // A restart has removed the notes.
        if !records.iter().any(|known| known.id == record.id) {
            records.push(record);
        }
    }
    let open = |record: Record| {
        let named = |name: &str| all.iter().find(|seen| seen.entry.name == name);
        let (old, new) = (named(&record.old.name), named(&record.new.name));
        let (old, new) = (known(old, new, record.new.server_id), known(new, old, record.old.server_id));
        let mut around = Around::default();
        if record.failover.is_some() {
            let stand_in = context.servers.stand_in_for(&record.old.name);
            around.stand_in = stand_in.and_then(|entry| StandInLink::new(entry.clone()).look());
        }
        let runs = is_worked_on(all, &record);
        let pair = Pair { old, new, around };
        let why = beside(all, &record, &pair);
        Open { runs, unfinished: Unfinished::of(record, &pair).beside(why) }
    };
    records.into_iter().map(open).collect()
}

/// What another server shows that may have become the primary since it began.
fn beside(all: &[Seen], record: &Record, pair: &Pair) -> Option<String> {
    let (old_name, new_name) = (&record.old.name, &record.new.name);
    let old = &all.iter().find(|seen| [old_name, new_name].contains(&&seen.entry.name))?.entry;
    let servers: Vec<&Server> = [&pair.old, &pair.new].into_iter().flatten().collect();
    let has_restarted = has_restarted(pair, record);
    let others = all.iter().filter(|seen| ![old_name, new_name].contains(&&seen.entry.name) && seen.galera.is_none());
    others.into_iter().find_map(|seen| {
        let (name, same_cluster) = (&seen.entry.name, old.same_cluster(&seen.entry));
        let found = match &seen.server {
            Ok(server) => server.beside(name, &servers, same_cluster)?,
            Err(_) if same_cluster == Some(false) || record.failover.is_some() => return None,
            Err(_) => Beside::Silent(name.clone()),
        };
        let cure = found.cure(old_name, new_name);
        (has_restarted || !matches!(found, Beside::Silent(_))).then(|| format!("{found} ({cure})"))
    })
}

/// A connection that was never established has no id of the server it leads to: its address tells.
fn known(seen: Option<&Seen>, other: Option<&Seen>, other_id: u32) -> Option<Server> {
    let mut server = seen?.server.clone().ok()?;
    for channel in &mut server.channels {
        let leads_there = other.is_some_and(|other| other.entry.replication.is_at(&channel.address));
        let id = channel.source.filter(|_| !(leads_there && other_id == 0));
        channel.source = id.or(leads_there.then_some(other_id));
    }
    Some(server)
}

/// Whether a command is working on it. What a command that was killed waits for on the new primary may take long, and its session
/// ends only then; so the old primary decides, if it answers.
fn is_worked_on(all: &[Seen], record: &Record) -> bool {
    let answering = |name: &str| all.iter().find(|seen| seen.entry.name == name && seen.server.is_ok());
    let old = answering(&record.old.name).filter(|_| record.failover.is_none());
    old.or_else(|| answering(&record.new.name)).is_some_and(|seen| seen.worker.is_some())
}

fn look(servers: &Servers, entry: &Entry) -> Seen {
    let mut link = Link::new(entry.clone(), false);
    let seen = link.look(entry, None);
    let mut problem = match link.problem() {
        error if error.refuses_login() => {
            "refused the login: wrong user or password in the file with the servers, or no such account for this host"
        }
        SqlError::Lost(_) => SILENT,
        _ => "cannot be examined; see instant-failover check",
    };
    let mut has_stand_in = false;
    let server = seen.ok_or_else(|| {
        let stand_in = stands_in(servers, entry);
        has_stand_in = stand_in.is_some();
        stand_in
            .inspect(|_| problem = SILENT)
            .map_or_else(|| link.problem().to_string(), |why| format!("no answer: {why}"))
    });
    let galera = if server.is_ok() { crate::rolling::galera(&mut link).ok().flatten() } else { None };
    let galera = galera.map(|role| Node::named(&entry.name, role));
    let (mut worker, mut plugin, mut exempt) = (None, String::new(), String::new());
    if server.is_ok() {
        worker = link.value("SELECT IS_USED_LOCK('instant_failover')").ok().filter(|id| !id.is_empty());
        plugin = facts::plugin(&mut link).ok().flatten().unwrap_or_default().0;
        exempt = link.value("SELECT @@instant_failover_exempt_users").unwrap_or_default();
    }
    Seen { entry: entry.clone(), server, problem, stands_in: has_stand_in, worker, galera, plugin, exempt }
}

fn show(context: &Context, seen: &Seen, is_away: bool, is_abandoned: bool) {
    let name = &seen.entry.name;
    match &seen.server {
        Err(_) if !context.console.is_json() && is_away => {
            context.console.line(&format!("{name:12} does not answer: it is being restarted"));
        }
        Err(why) if context.console.is_json() => context.console.object(&json!({ "server": name, "error": why })),
        Err(why) => context.console.line(&unanswered(&format!("{name:12}"), why)),
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
            "working": seen.worker.is_some(),
            "galera": seen.galera.as_ref().map(Node::state),
            "replicates_from": server.channels.iter().map(|channel| json!({
                "server_id": channel.source, "name": channel.name, "receives": channel.receives, "applies": channel.applies,
            })).collect::<Vec<_>>(),
        })),
        Ok(server) => {
            let role = match &seen.galera {
                Some(node) => node.state(),
                None if server.read_only => "read only".to_owned(),
                None => "PRIMARY, accepts writes".to_owned(),
            };
            let mut text = format!("{name:12} server {}, {role}, mode {}", server.server_id, server.mode);
            if server.mode.redirects() {
                let _ = write!(text, " to {}", server.target);
            }
            if seen.plugin.is_empty() {
                text += ", NO PLUGIN";
            }
            for channel in &server.channels {
                let source = channel.source.map_or_else(|| "?".to_owned(), |id| id.to_string());
                let state = match channel {
                    Channel { receives: true, applies: true, is_connected: false, .. } => " (NOT CONNECTED)",
                    channel if channel.runs() => "",
                    _ => " (STOPPED)",
                };
                let _ = write!(text, ", replicates from server {source}{state}");
            }
            if !server.position.is_empty() {
                let _ = write!(text, ", at {}", server.position);
            }
            if let Some((_, by)) = rolling::noted(&server.note) {
                let _ = write!(text, "\n{:12} rolling restart by {by}: its clients go to {}", "", server.target);
            } else if !server.note.is_empty() && Record::from_note(&server.note).is_none() {
                let _ = write!(text, "\n{:12} note: {}", "", server.note);
            }
            match &seen.worker {
                Some(connection) if is_abandoned => {
                    let _ = write!(text, "\n{:12} connection {connection} of an instant-failover that is gone still waits", "");
                }
                Some(connection) => {
                    let _ = write!(text, "\n{:12} an instant-failover is working on it: connection {connection}", "");
                }
                None => {}
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
fn problems_of(all: &[Seen], open: &[Open], rolling: &[Rolling], is_away: impl Fn(&str) -> bool) -> Vec<String> {
    let abandoned = open.iter().filter(|one| !one.runs).map(|one| &one.unfinished);
    let mut problems: Vec<String> =
        abandoned.map(|one| format!("unfinished {}: {}. To end it: {}", one.name(), one.state, one.cure())).collect();
    let answering: Vec<(&Seen, &Server)> =
        all.iter().filter_map(|seen| Some((seen, seen.server.as_ref().ok()?))).collect();
    problems.extend(all.iter().filter_map(|dead| without_primary(dead, &answering, open, &is_away)));
    for (seen, server) in &answering {
        let name = &seen.entry.name;
        if seen.plugin.is_empty() {
            problems.push(format!("{name} has no plugin instant_failover"));
        }
        if seen.galera.as_ref().is_some_and(|node| !node.is_in_primary_component()) && !is_away(name) {
            problems.push(format!("{name} is not in a primary component: clients get error 1047"));
        }
        problems.extend(astray((seen, server), all, &answering, open, &is_away));
        // What is expected in the middle of a switchover is no problem of its own.
        let unfinished = open.iter().find(|one| one.is_about(name));
        let is_alone = unfinished.map_or(seen.worker.is_none(), |one| !one.runs);
        if server.mode == failover::Mode::Hold && is_alone {
            problems.push(if unfinished.is_some() {
                format!("{name} holds clients, and no instant-failover is working on it")
            } else if server.note.is_empty() {
                format!("{name} holds clients, and no instant-failover is working on it: resume, or back")
            } else {
                format!("{name} holds clients, and has the note '{}'", server.note)
            });
        }
        if let Some((id, by)) = rolling::noted(&server.note)
            && is_alone
            && seen.galera.is_none()
            && !rolling.iter().any(|one| one.record.id == id)
        {
            problems.push(format!(
                "{name} redirects for a rolling restart by {by}, which is not running: resume, or back, where it began; or SET GLOBAL \
                 instant_failover_mode = OFF, instant_failover_note = '' on {name}"
            ));
        }
        let is_expected = |channel: &&Channel| {
            unfinished.is_some_and(|one| {
                let Record { old, new, .. } = &one.unfinished.record;
                [old, new].iter().any(|server| channel.source == Some(server.server_id))
            })
        };
        for channel in server.channels.iter().filter(|channel| !channel.runs() && !is_expected(channel)) {
            problems.push(format!("replication has stopped on {name} (connection '{}')", channel.name));
        }
        let is_cut_off = |channel: &&Channel| channel.runs() && !channel.is_connected && unfinished.is_none();
        for channel in server.channels.iter().filter(is_cut_off) {
            problems.push(format!(
                "{name} is not connected to {} at {} (connection '{}'): SHOW ALL SLAVES STATUS on {name} says why",
                channel.source_name(),
                channel.address,
                channel.name
            ));
        }
        if server.read_only && server.channels.is_empty() && seen.galera.is_none() && unfinished.is_none() {
            let text = format!("{name} is read only, and replicates from no server");
            problems.push(match primary_beside(&answering, (seen, server)) {
                Some((primary, its)) if server.transactions.missing_on(&its.transactions).is_empty() => {
                    format!("{text}: instant-failover rejoin {name} {}", primary.entry.name)
                }
                Some((primary, _)) => format!(
                    "{text}, and {0} accepts writes and lacks transactions of {name}: leave {name} read only, find them with \
                     mariadb-binlog, and rebuild {name} from {0}",
                    primary.entry.name
                ),
                None => format!(
                    "{text}. If it is the primary: SET GLOBAL read_only = 0 on {name}. If another is: instant-failover rejoin {name} PRIMARY"
                ),
            });
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
            let is_of_one = |open: &Open| open.is_about(&one.entry.name) || open.is_about(&other.entry.name);
            pair_problems((one, first), (other, second), open.iter().any(is_of_one), &mut problems);
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

/// A server that sends clients to one that cannot serve them.
fn astray(
    (seen, server): (&Seen, &Server),
    all: &[Seen],
    answering: &[(&Seen, &Server)],
    open: &[Open],
    is_away: impl Fn(&str) -> bool,
) -> Option<String> {
    let name = &seen.entry.name;
    let is_target = |other: &&Seen| other.server.is_err() && server.redirects_to(&other.entry.target.to_string());
    // That of one that is being promoted is changed by the command.
    let target = all.iter().find(is_target).filter(|_| !open.iter().any(|one| one.is_about(name)));
    if let Some(dead) = target.filter(|dead| !dead.stands_in && !is_away(&dead.entry.name)) {
        let text = format!("{name} redirects clients to {}, which does not answer", dead.entry.name);
        return Some(match primary_beside(answering, (seen, server)) {
            Some((primary, _)) => format!("{text}: {}", lead(name, primary)),
            None => text,
        });
    }
    let is_closed = |other: &&(&Seen, &Server)| {
        // One that replicates may serve readers.
        let leads_on = other.1.mode.redirects() || !other.1.read_only || other.1.channels.iter().any(Channel::runs);
        server.redirects_to(&other.0.entry.target.to_string()) && !leads_on
    };
    let (closed, _) = answering.iter().find(is_closed)?;
    if open.iter().any(|one| one.is_about(name) || one.is_about(&closed.entry.name)) {
        return None;
    }
    let (primary, _) = primary_beside(answering, (seen, server))?;
    Some(format!(
        "{name} redirects clients to {}, which is read only and replicates from no server; {} accepts writes: {}",
        closed.entry.name,
        primary.entry.name,
        lead(name, primary)
    ))
}

/// The server that has become the primary of another one.
fn primary_beside<'a>(
    answering: &[(&'a Seen, &'a Server)],
    (seen, server): (&Seen, &Server),
) -> Option<(&'a Seen, &'a Server)> {
    let is_primary = |(other, primary): &&(&Seen, &Server)| {
        primary.server_id != server.server_id
            && primary.is_primary_beside(&[server], seen.entry.same_cluster(&other.entry))
    };
    answering.iter().find(is_primary).copied()
}

/// The statement that sends the clients of a server to the primary.
fn lead(name: &str, primary: &Seen) -> String {
    format!("SET GLOBAL instant_failover_target = '{}' on {name}", primary.entry.target)
}

/// What to do about a primary that does not answer, if no other server has taken its place.
fn without_primary(
    dead: &Seen,
    answering: &[(&Seen, &Server)],
    open: &[Open],
    is_away: impl Fn(&str) -> bool,
) -> Option<String> {
    let name = &dead.entry.name;
    let is_known = is_away(name) || open.iter().any(|one| one.is_about(name));
    if dead.server.is_ok() || dead.problem != SILENT || is_known {
        return None;
    }
    let channel = |replica: &Server| {
        let leads_there = |channel: &&Channel| dead.entry.replication.is_at(&channel.address);
        replica.channels.iter().find(leads_there).cloned()
    };
    let replicas: Vec<_> =
        answering.iter().filter_map(|(seen, server)| Some((*seen, *server, channel(server)?.source?))).collect();
    let is_replaced = replicas
        .iter()
        .any(|(seen, server, _)| !server.read_only || primary_beside(answering, (*seen, *server)).is_some());
    let has_most = |(_, server, id): &&(&Seen, &Server, u32)| {
        replicas.iter().all(|(_, other, _)| more_than(other, server, *id).is_none())
    };
    let (best, ..) = replicas.iter().find(has_most).filter(|_| !is_replaced)?;
    Some(format!(
        "no server accepts writes in place of {name}: start {name}, or, if it is dead: instant-failover failover {} --dry-run",
        best.entry.name
    ))
}

fn pair_problems(
    (one, first): (&Seen, &Server),
    (other, second): (&Seen, &Server),
    is_unfinished: bool,
    problems: &mut Vec<String>,
) {
    let (a, b) = (&one.entry.name, &other.entry.name);
    let leads = |from: &Server, to: &Seen| from.redirects_to(&to.entry.target.to_string());
    if leads(first, other) && leads(second, one) {
        problems.push(format!("A CIRCLE: {a} and {b} redirect to each other"));
    }
    if one.galera.is_some() && other.galera.is_some() {
        // All of them accept writes, and the rest is Galera's.
        return;
    }
    let same_cluster = one.entry.same_cluster(&other.entry);
    if same_cluster == Some(false) {
        // By chance, they may have the same ids.
        return;
    }
    if first.server_id == second.server_id {
        problems.push(format!("{a} and {b} have the same server_id {}", first.server_id));
        return;
    }
    let connected = first.channel_from(second.server_id).is_some() || second.channel_from(first.server_id).is_some();
    // One that redirects to the other was its primary or replica, and may not replicate any more.
    let redirects = leads(first, other) || leads(second, one);
    // After a failover nothing else connects them. Servers that were restored from a backup have an empty binary log.
    let same_past = same_cluster.is_none()
        && (first.transactions.knows(second.server_id) || second.transactions.knows(first.server_id));
    let both_write = !first.read_only && !second.read_only;
    let belong_together = connected || redirects || same_cluster.is_some();
    if !(belong_together || same_past && both_write) {
        return;
    }
    if both_write {
        let how = if belong_together {
            ""
        } else {
            ", and one has transactions of the other. If they do not belong together, give their groups in the file different values \
             of cluster; if they do, make the one that clients do not use read only, and then: instant-failover rejoin"
        };
        problems.push(format!("TWO PRIMARIES: {a} and {b} both accept writes{how}"));
    }
    // In a chain, the primary is elsewhere.
    let is_in_chain = |server: &Server, other: &Server| {
        server.channels.iter().any(|channel| channel.runs() && channel.source.is_some_and(|id| id != other.server_id))
    };
    let in_chain = is_in_chain(first, second) || is_in_chain(second, first);
    if first.read_only && second.read_only && connected && !in_chain && !is_unfinished {
        problems.push(format!("{a} and {b} are both read only"));
    }
    let extra =
        |has: &Server, lacks: &Server| has.lacking_on(lacks).iter().map(ToString::to_string).collect::<Vec<_>>();
    let (only_first, only_second) = (extra(first, second), extra(second, first));
    // What a primary lacks, it never gets, unless it is a replica, too.
    let never_gets = |server: &Server| !server.read_only && !server.channels.iter().any(Channel::runs);
    let both = !only_first.is_empty() && !only_second.is_empty();
    let one_of_them = !only_first.is_empty() && never_gets(second) || !only_second.is_empty() && never_gets(first);
    if both || one_of_them {
        let only = [(a, only_first), (b, only_second)].into_iter().filter(|(_, gtids)| !gtids.is_empty());
        let only: Vec<_> = only.map(|(name, gtids)| format!("only {name} has {}", gtids.join(","))).collect();
        problems.push(format!("DIVERGED: {}", only.join(", ")));
    }
}

/// Each primary with each of its replicas, and the servers of a switchover that is unfinished; or why there are none.
pub(super) fn pairs(context: &Context) -> Result<Vec<[Entry; 2]>, String> {
    let all = look_at_all(context);
    let pairs = pairs_of(&all);
    if pairs.is_empty() { Err(why_no_pair(&all)) } else { Ok(pairs) }
}

fn pairs_of(all: &[Seen]) -> Vec<[Entry; 2]> {
    let mut pairs: Vec<[Entry; 2]> = Vec::new();
    for seen in all {
        let record = seen.server.as_ref().ok().and_then(|server| Record::from_note(&server.note));
        let named = |name: &str| all.iter().find(|seen| seen.entry.name == name).map(|seen| seen.entry.clone());
        if let Some(pair) = record.and_then(|record| Some([named(&record.old.name)?, named(&record.new.name)?]))
            && !pairs.contains(&pair)
        {
            pairs.push(pair);
        }
    }
    for old in all {
        let Ok(server) = &old.server else { continue };
        for new in all {
            let Ok(replica) = &new.server else { continue };
            let is_unfinished = pairs.iter().any(|pair| pair.contains(&old.entry) && pair.contains(&new.entry));
            let channel = replica.channel_from(server.server_id);
            let is_its = channel.is_some_and(|channel| old.entry.is_source_of(channel, &new.entry) != Some(false));
            if !server.read_only && is_its && !is_unfinished {
                pairs.push([old.entry.clone(), new.entry.clone()]);
            }
        }
    }
    pairs
}

fn why_no_pair(all: &[Seen]) -> String {
    let name = |seen: &Seen| seen.entry.name.clone();
    let (answering, silent): (Vec<&Seen>, Vec<&Seen>) = all.iter().partition(|seen| seen.server.is_ok());
    let read_only = |seen: &&&Seen| seen.server.as_ref().is_ok_and(|server| server.read_only);
    let closed: Vec<String> = answering.iter().filter(read_only).map(|seen| name(seen)).collect();
    let mut whys = Vec::new();
    if !closed.is_empty() && closed.len() == answering.len() {
        let are = if closed.len() > 1 { "are" } else { "is" };
        whys.push(format!("no server accepts writes: {} {are} read only", closed.join(", ")));
    } else if !answering.is_empty() {
        whys.push("no server of the file replicates from one that accepts writes".to_owned());
    }
    whys.extend(silent.into_iter().map(|seen| {
        let why = seen.server.as_ref().err().map(String::as_str).unwrap_or_default();
        format!("{}: {why}", name(seen))
    }));
    whys.join("; ")
}

/// The servers of each switchover that left a note.
pub(super) fn unfinished(context: &Context) -> Vec<[String; 2]> {
    let servers = look_at_all(context).into_iter().filter_map(|seen| seen.server.ok());
    servers
        .filter_map(|server| Record::from_note(&server.note))
        .map(|record| [record.old.name, record.new.name])
        .collect()
}

/// What to say when a server has the note of a rolling restart that did not begin on this machine.
pub(super) fn rolling_elsewhere(context: &Context) -> Option<String> {
    look_at_all(context).into_iter().find_map(|seen| {
        let note = seen.server.ok()?.note;
        let (_, by) = rolling::noted(&note)?;
        let name = &seen.entry.name;
        Some(format!(
            "{name} redirects for a rolling restart by {by}: go on where it began; or, if it does not run any more, SET GLOBAL \
             instant_failover_mode = OFF, instant_failover_note = '' on {name}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{
        Open, Pair, Record, SILENT, Seen, Unfinished, beside, is_worked_on, pairs_of, problems_of, why_no_pair,
    };
    use crate::plan::gtid::Transactions;
    use crate::plan::record::{Failover, Named};
    use crate::plan::unfinished::tests::{channel, record, server};
    use crate::servers::Servers;

    /// db1, the primary, and db2, its replica.
    fn pair() -> [Seen; 2] {
        let text = "[db1]\nsocket=/1\nuser=u\ntarget=db1\n[db2]\nsocket=/2\nuser=u\ntarget=db2\n";
        let servers = Servers::parse(text, Path::new("f")).unwrap();
        let seen = |n: usize, server| Seen {
            entry: servers.all()[n].clone(),
            server: Ok(server),
            problem: "",
            stands_in: false,
            worker: None,
            galera: None,
            plugin: "0.2".to_owned(),
            exempt: String::new(),
        };
        let mut replica = server(2, true, "0-1-7");
        replica.channels.push(channel(1));
        [seen(0, server(1, false, "0-1-7")), seen(1, replica)]
    }

    fn problems(pair: &[Seen; 2], open: &[Open]) -> Vec<String> {
        problems_of(pair, open, &[], |_| false)
    }

    fn interrupted(pair: &[Seen; 2], record: Record, runs: bool) -> Open {
        let [old, new] = [&pair[0], &pair[1]].map(|seen| seen.server.clone().ok());
        Open { runs, unfinished: Unfinished::of(record, &Pair { old, new, ..Pair::default() }) }
    }

    #[test]
    fn one_that_redirects_and_does_not_replicate() {
        let mut pair = pair();
        let replica = pair[1].server.as_mut().unwrap();
        replica.channels.clear();
        (replica.mode, replica.target) = (failover::Mode::On, "db1".to_owned());
        assert_eq!(
            problems(&pair, &[]),
            ["db2 is read only, and replicates from no server: instant-failover rejoin db2 db1"]
        );
        pair[1].server.as_mut().unwrap().transactions = Transactions::parse("0-1-7,0-2-8", "").unwrap();
        let problems = problems(&pair, &[]);
        assert!(
            problems[0].contains("db1 accepts writes and lacks transactions of db2: leave db2 read only"),
            "{problems:?}"
        );
        assert_eq!(problems.last().unwrap(), "DIVERGED: only db2 has 0-2-8");
    }

    #[test]
    fn two_primaries_after_a_failover() {
        let mut pair = pair();
        // db1 was dead, and is back.
        let new = pair[1].server.as_mut().unwrap();
        new.channels.clear();
        new.read_only = false;
        new.transactions = Transactions::parse("0-1-7,0-2-8", "").unwrap();
        let found = problems(&pair, &[]);
        assert!(found[0].starts_with("TWO PRIMARIES: db1 and db2 both accept writes, and one has"), "{found:?}");
        assert_eq!(found[1..], ["DIVERGED: only db2 has 0-2-8"]);
        pair[1].server.as_mut().unwrap().read_only = true;
        assert!(!problems(&pair, &[]).concat().contains("PRIMARIES"));
        pair[1].server.as_mut().unwrap().read_only = false;
        // They are known to be of two clusters, or of one.
        for (name, found) in [("stock", None), ("shop", Some("TWO PRIMARIES: db1 and db2 both accept writes"))] {
            pair[0].entry.cluster = Some("shop".to_owned());
            pair[1].entry.cluster = Some(name.to_owned());
            assert_eq!(problems(&pair, &[]).first().map(String::as_str), found);
        }
        // Of servers with nothing in common nothing is said.
        let mut pair = self::pair();
        let other = pair[1].server.as_mut().unwrap();
        other.channels.clear();
        other.read_only = false;
        other.transactions = Transactions::parse("0-2-8", "").unwrap();
        assert_eq!(problems(&pair, &[]), [""; 0]);
    }

    #[test]
    fn one_that_redirects_to_a_dead_server() {
        let mut pair = pair();
        pair[0].server = Err("no answer".to_owned());
        let replica = pair[1].server.as_mut().unwrap();
        (replica.mode, replica.target) = (failover::Mode::On, "db1".to_owned());
        let said = problems(&pair, &[]).concat();
        assert!(said.contains("db2 redirects clients to db1, which does not answer"), "{said}");
        pair[0].stands_in = true;
        assert_eq!(problems(&pair, &[]), [""; 0]);
        pair[0].problem = SILENT;
        let expected = "no server accepts writes in place of db1: start db1, or, if it is dead: instant-failover failover db2 --dry-run";
        assert_eq!(problems(&pair, &[]), [expected]);
        pair[1].server.as_mut().unwrap().read_only = false;
        assert_eq!(problems(&pair, &[]), [""; 0], "it has taken its place");
    }

    #[test]
    fn one_that_redirects_to_a_former_primary() {
        let mut pair = pair();
        let mut third = pair[1].clone();
        (third.entry.name, third.entry.target) = ("db3".to_owned(), "db3".parse().unwrap());
        let new = third.server.as_mut().unwrap();
        (new.server_id, new.read_only) = (3, false);
        new.channels.clear();
        pair[0].server.as_mut().unwrap().read_only = true;
        let replica = pair[1].server.as_mut().unwrap();
        (replica.mode, replica.target) = (failover::Mode::On, "db1".to_owned());
        let all = [pair[0].clone(), pair[1].clone(), third];
        let expected = "db2 redirects clients to db1, which is read only and replicates from no server; db3 accepts writes: SET GLOBAL \
                        instant_failover_target = 'db3' on db2";
        let found = problems_of(&all, &[], &[], |_| false);
        assert!(found.iter().any(|text| text == expected), "{found:?}");
    }

    #[test]
    fn one_that_cannot_connect() {
        let mut pair = pair();
        pair[1].server.as_mut().unwrap().channels[0].is_connected = false;
        let found = problems(&pair, &[]);
        assert!(
            found[0].starts_with("db2 is not connected to server 1 at db1:3306 (connection ''): SHOW ALL"),
            "{found:?}"
        );
        // Part of an unfinished one.
        pair[1].server.as_mut().unwrap().note = record().note();
        let open = [interrupted(&pair, record(), true)];
        assert_eq!(problems(&pair, &open), [""; 0]);
    }

    #[test]
    fn another_primary_beside_them() {
        let mut pair = pair();
        let [one, mut other] = self::pair();
        // db1 is back, and db2 has become the primary of what db3 and db1 were.
        let about = Record { new: Named { name: "db3".to_owned(), ..record().new }, ..record() };
        let why = |seen: &[Seen; 2]| {
            beside(seen, &about, &Pair { old: seen[0].server.clone().ok(), ..Pair::default() }).unwrap_or_default()
        };
        let new = other.server.as_mut().unwrap();
        (new.server_id, new.read_only) = (3, false);
        assert_eq!(why(&[one.clone(), other.clone()]), "", "it is a replica");
        other.server.as_mut().unwrap().channels.clear();
        assert!(why(&[one.clone(), other.clone()]).starts_with("db2 accepts writes"));
        // It has restarted.
        let mut closed = other.clone();
        let new = closed.server.as_mut().unwrap();
        new.read_only = true;
        assert_eq!(why(&[one.clone(), closed.clone()]), "");
        closed.server.as_mut().unwrap().transactions = Transactions::parse("0-1-7,0-3-8", "").unwrap();
        assert!(why(&[one.clone(), closed.clone()]).starts_with("db2 has 0-3-8, which others lack"));
        // It follows db1.
        closed.server.as_mut().unwrap().channels.push(channel(1));
        assert_eq!(why(&[one.clone(), closed]), "");
        for (cluster, expected) in [("shop", true), ("stock", false)] {
            pair = [one.clone(), other.clone()];
            pair[0].entry.cluster = Some("shop".to_owned());
            pair[1].entry.cluster = Some(cluster.to_owned());
            assert_eq!(!why(&pair).is_empty(), expected);
        }
        // What is read only is to follow it.
        let old = pair[0].server.as_mut().unwrap();
        old.read_only = true;
        pair[1].entry.cluster = Some("shop".to_owned());
        let found = problems(&pair, &[]);
        assert!(
            found.iter().any(|text| text.ends_with("from no server: instant-failover rejoin db1 db2")),
            "{found:?}"
        );
    }

    #[test]
    fn servers_of_other_clusters_have_nothing_in_common() {
        let mut pair = pair();
        pair[0].entry.cluster = Some("shop".to_owned());
        pair[1].entry.cluster = Some("stock".to_owned());
        let other = pair[1].server.as_mut().unwrap();
        (other.server_id, other.read_only) = (1, false);
        other.channels.clear();
        other.transactions = Transactions::parse("0-1-9", "").unwrap();
        assert_eq!(problems(&pair, &[]), [""; 0]);
    }

    #[test]
    fn pairs_to_check() {
        let mut pair = pair();
        let names = |pair: &[Seen; 2]| {
            pairs_of(pair).iter().map(|[old, new]| format!("{} {}", old.name, new.name)).collect::<Vec<_>>()
        };
        assert_eq!(names(&pair), ["db1 db2"]);
        pair[1].server.as_mut().unwrap().note = record().note();
        assert_eq!(names(&pair), ["db1 db2"]);
        pair[0].server.as_mut().unwrap().read_only = true;
        assert_eq!(names(&pair), ["db1 db2"]);
        pair[1].server.as_mut().unwrap().note.clear();
        assert_eq!(names(&pair), [""; 0]);
        assert_eq!(why_no_pair(&pair), "no server accepts writes: db1, db2 are read only");
        pair[0].server = Err("no answer: refused".to_owned());
        assert_eq!(why_no_pair(&pair), "no server accepts writes: db2 is read only; db1: no answer: refused");
        let mut pair = self::pair();
        pair[1].server.as_mut().unwrap().channels.clear();
        assert_eq!(why_no_pair(&pair), "no server of the file replicates from one that accepts writes");
    }

    #[test]
    fn an_interrupted_switchover_is_one_problem() {
        let mut pair = pair();
        assert_eq!(problems(&pair, &[]), [""; 0]);
        let (old, new) = pair.split_at_mut(1);
        let (old, new) = (old[0].server.as_mut().unwrap(), new[0].server.as_mut().unwrap());
        old.read_only = true;
        old.note = record().note();
        (new.channels[0].receives, new.channels[0].applies) = (false, false);
        new.note.clone_from(&old.note);
        let open = [interrupted(&pair, record(), false)];
        assert_eq!(
            problems(&pair, &open),
            [
                "unfinished switchover from db1 to db2, begun by ann@desk: stopped: both servers are read only, and the new primary \
                 does not replicate. To end it: instant-failover resume db1 db2, or instant-failover back db1 db2"
            ]
        );
        // As long as a command is working on it, there is no problem.
        assert_eq!(problems(&pair, &[interrupted(&pair, record(), true)]), [""; 0]);
        // The session of a command that was killed waits on the new primary.
        pair[1].worker = Some("198".to_owned());
        assert!(!is_worked_on(&pair, &record()));
        assert!(is_worked_on(&pair, &Record { failover: Some(Failover::default()), ..record() }));
        pair[0].worker = Some("7".to_owned());
        assert!(is_worked_on(&pair, &record()));
        pair[0].worker = None;
        pair[0].server = Err("no answer".to_owned());
        assert!(is_worked_on(&pair, &record()));
        let mut pair = self::pair();
        pair[0].server.as_mut().unwrap().read_only = true;
        pair[1].server.as_mut().unwrap().channels[0].applies = false;
        // Without a note, both are.
        let without = problems(&pair, &[]).join("\n");
        assert!(without.contains("replication has stopped on db2"), "{without}");
        assert!(without.contains("both read only"), "{without}");
    }
}
