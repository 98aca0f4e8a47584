//! `prepare`, `switchover`, `resume` and `back`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::{Context, Ended, Exit, How, Prepare, Rejoin, Switchover, Unfinished, pair};
use crate::link::Link;
use crate::live::{Hooks, Live, Options};
use crate::plan::check::{Level, worst};
use crate::plan::drive::{End, Failure, Limits, World as _, drive};
use crate::plan::facts::Facts;
use crate::plan::next::Goal;
use crate::plan::record::{Before, Named, Record, Way};
use crate::plan::seen::{Seen, Server};
use crate::plan::state::State;
use crate::plan::step::Step;
use crate::servers::Entry;

/// The steps of a switchover, for the plan.
const STEPS: &[Step] = &[
    Step::Begin,
    Step::Prepare,
    Step::Aim,
    Step::Hold,
    Step::Drain,
    Step::Fence,
    Step::CatchUp,
    Step::StopReplica,
    Step::Promote,
    Step::Mark,
    Step::Admit,
    Step::Redirect,
    Step::Disconnect,
    Step::Unlock,
    Step::AwaitMark,
    Step::Repoint,
    Step::MoveEvents,
    Step::Detach,
    Step::Finish,
];

/// Tries of a step that must not be left out, and looks at a server that does not answer: one a second.
const TRIES: u32 = 20;

pub(super) fn prepare(context: &mut Context, arguments: &Prepare) -> Ended {
    let [old, new] = pair::pair(context, &arguments.pair.old, &arguments.pair.new)?;
    let mut console = context.console.clone();
    let mut live = live(context, &mut console, old, new, &arguments_of_prepare(), &[]);
    let (_, findings) = pair::judge(context, &mut live.old, &mut live.new, &arguments.judging)?;
    if worst(&findings) == Level::Failure {
        context.console.findings("check", &findings);
        return Err((Exit::Refused, "nothing has changed".to_owned()));
    }
    let seen = live.look();
    let (Some(old), Some(new)) = (&seen.old, &seen.new) else {
        return Err((Exit::Refused, "a server does not answer".to_owned()));
    };
    let (old_name, new_name) = (&arguments.pair.old, &arguments.pair.new);
    if old.replicates_from(new.server_id) {
        context.console.say("done", &format!("{old_name} already replicates from {new_name}"));
        return Ok(Exit::Done);
    }
    let had = old.channel_from(new.server_id).is_some();
    let record = record(context, &mut live, &seen, None, true, false);
    if let Err(Failure(why)) = live.take(Step::Prepare, &record) {
        let undone = had || live.take(Step::Unprepare, &record).is_ok();
        let exit = if undone { Exit::Back } else { Exit::Halfway };
        let rest = if undone {
            "everything is as before".to_owned()
        } else {
            format!("on {old_name}: STOP SLAVE; RESET SLAVE ALL")
        };
        return Err((exit, format!("{old_name} cannot replicate from {new_name}: {why}; {rest}")));
    }
    context.console.say(
        "done",
        &format!("{old_name} replicates from {new_name}, which is still read only. To undo: STOP SLAVE; RESET SLAVE ALL on {old_name}"),
    );
    Ok(Exit::Done)
}

fn arguments_of_prepare() -> How {
    How {
        max_pause: 5,
        attempts: 1,
        force: false,
        yes: true,
        not_after: None,
        before: None,
        after_promotion: None,
        after: None,
    }
}

pub(super) fn switchover(context: &mut Context, arguments: &Switchover) -> Ended {
    let Switchover { pair: names, judging, how, all_connections, dry_run } = arguments;
    let [old, new] = pair::pair(context, &names.old, &names.new)?;
    let mut console = context.console.clone();
    let replicas = pair::entries(context, &judging.replicas)?;
    let mut live = live(context, &mut console, old, new, how, &replicas);
    if let Some(record) = written(context, &mut live)? {
        let why = format!(
            "the switchover from {} to {} that began {} is unfinished: resume, or back",
            names.old, names.new, record.by
        );
        return Err((Exit::Refused, why));
    }
    let (facts, findings) = pair::judge(context, &mut live.old, &mut live.new, judging)?;
    let title = format!("{} -> {}", names.old, names.new);
    context.console.findings(&title, &findings);
    if worst(&findings) == Level::Failure {
        return Err((Exit::Refused, "nothing has changed".to_owned()));
    }
    let hold = facts.old.as_ref().is_some_and(crate::plan::facts::ServerFacts::can_hold);
    show_plan(context, arguments, &facts, hold);
    if *dry_run {
        return Ok(Exit::Done);
    }
    if !how.yes {
        confirm(context, how, &format!("Make {} the primary instead of {}?", names.new, names.old))?;
        // The answer may have taken long.
        let (_, findings) = pair::judge(context, &mut live.old, &mut live.new, judging)?;
        if worst(&findings) == Level::Failure {
            context.console.findings(&title, &findings);
            return Err((Exit::Refused, "nothing has changed".to_owned()));
        }
    }
    let seen = live.look();
    let mut record = record(context, &mut live, &seen, Some(&facts), !judging.no_reverse, *all_connections);
    record.way.hold = hold;
    let replication_user = live.new.entry.replication.user.as_deref();
    record.way.no_longer_exempt = facts.old.map(|old| old.exempt_writers(replication_user)).unwrap_or_default();
    go(context, live, record, Goal::Forward, how)
}

fn show_plan(context: &Context, arguments: &Switchover, facts: &Facts, hold: bool) {
    let (old, new) = (&arguments.pair.old, &arguments.pair.new);
    let reverse = !arguments.judging.no_reverse;
    let left_out = |step: &Step| match step {
        Step::Hold | Step::Drain => !hold,
        Step::Prepare | Step::AwaitMark => !reverse,
        Step::Admit => facts.new.as_ref().is_some_and(|new| new.seen.mode == failover::Mode::Off),
        Step::Repoint => arguments.judging.replicas.is_empty(),
        _ => false,
    };
    for step in STEPS.iter().filter(|step| !left_out(step)) {
        let undo = match step.undo() {
            Some(undo) => format!("    undo: {}", undo.with_names(old, new)),
            None if *step == Step::Promote => "    from here on there is no undo".to_owned(),
            None => String::new(),
        };
        let text = step.with_names(old, new);
        if context.console.is_json() {
            context.console.object(&json!({ "plan": text, "undo": step.undo().map(|undo| undo.with_names(old, new)) }));
        } else {
            context.console.line(&format!("  {text}{undo}"));
        }
    }
    let long = facts.old.as_ref().map(|old| old.long.len()).unwrap_or_default();
    let pause = if long > 0 {
        format!(
            "{long} transactions or statements are older than 5 s: clients would wait for up to {} s, in vain",
            arguments.how.max_pause
        )
    } else {
        format!("clients wait until open transactions have ended, at most {} s", arguments.how.max_pause)
    };
    context.console.say("pause", &pause);
    if !reverse {
        context
            .console
            .say("warning", &format!("there is no way back to {old} afterwards: it does not become a replica"));
    }
}

pub(super) fn resume(context: &mut Context, arguments: &Unfinished) -> Ended {
    unfinished(context, arguments, Goal::Forward)
}

pub(super) fn back(context: &mut Context, arguments: &Unfinished) -> Ended {
    unfinished(context, arguments, Goal::Back)
}

fn unfinished(context: &mut Context, arguments: &Unfinished, goal: Goal) -> Ended {
    let [old, new] = names(context, &arguments.names)?;
    let [old, new] = pair::pair(context, &old, &new)?;
    let replicas = pair::entries(context, &arguments.replicas)?;
    let mut console = context.console.clone();
    let mut live = live(context, &mut console, old, new, &arguments.how, &replicas);
    let file = written(context, &mut live)?;
    let seen = live.look();
    for (link, server) in [(&live.old, &seen.old), (&live.new, &seen.new)] {
        if server.is_none() {
            context.console.say("note", &format!("{}: {}", link.entry.name, link.problem));
        }
    }
    let notes: Vec<Record> =
        [&seen.old, &seen.new].into_iter().flatten().filter_map(|server| Record::from_note(&server.note)).collect();
    let known = file.into_iter().chain(notes.iter().cloned()).next();
    let record = if let Some(known) = known {
        for (named, server) in [(&known.old, &seen.old), (&known.new, &seen.new)] {
            if server.as_ref().is_some_and(|server| server.server_id != named.server_id) {
                let why = format!(
                    "{} is no longer the server with server_id {}: nothing is done",
                    named.name, named.server_id
                );
                return Err((Exit::Refused, why));
            }
        }
        known.merged(notes)
    } else {
        let text = "nothing was written down about a switchover of these: what the servers show decides";
        context.console.say("note", text);
        record(context, &mut live, &seen, None, true, false)
    };
    let state = State::of(&seen, record.evidence());
    context.console.say("state", &state.to_string());
    if goal == Goal::Back && state.is_promoted() {
        let why = format!(
            "{} is promoted: there is no way back; resume, or switch over to {} afterwards",
            record.new.name, record.old.name
        );
        return Err((Exit::Refused, why));
    }
    let question = match goal {
        Goal::Back => format!("Go back, so that {} is the primary?", record.old.name),
        _ => format!("Go on, so that {} is the primary?", record.new.name),
    };
    confirm(context, &arguments.how, &question)?;
    go(context, live, record, goal, &arguments.how)
}

/// The record in the file, unless another machine has finished that switchover: then it is removed.
fn written(context: &Context, live: &mut Live<'_>) -> Result<Option<Record>, (Exit, String)> {
    let failed = |error: std::io::Error| (Exit::Refused, format!("the file with the state: {error}"));
    let (old, new) = (live.old.entry.name.clone(), live.new.entry.name.clone());
    let Some(record) = context.store.read(&old, &new).map_err(failed)? else { return Ok(None) };
    let seen = live.look();
    // Without a restart, a note is removed by a command only.
    let is_finished = [(&mut live.old, &seen.old, &record.old), (&mut live.new, &seen.new, &record.new)]
        .into_iter()
        .all(|(link, server, named)| {
            let Some(server) = server else { return false };
            let is_noted = Record::from_note(&server.note).is_some_and(|note| note.id == record.id);
            link.abilities.note && !is_noted && link.started().is_ok_and(|started| started.abs_diff(named.started) <= 5)
        });
    if !is_finished {
        return Ok(Some(record));
    }
    context.console.say(
        "note",
        &format!(
            "the switchover that began {} has ended: it was finished from another machine, or never began",
            record.by
        ),
    );
    context.store.remove(&old, &new).map_err(failed)?;
    Ok(None)
}

/// What is left of a switchover when the new primary has long been the primary.
pub(super) fn rejoin(context: &mut Context, arguments: &Rejoin) -> Ended {
    let [old, new] = pair::pair(context, &arguments.old, &arguments.new)?;
    let mut console = context.console.clone();
    let mut live = live(context, &mut console, old, new, &arguments.how, &[]);
    let seen = live.look();
    let (Some(old), Some(new)) = (&seen.old, &seen.new) else {
        return Err((Exit::Refused, format!("{}; {}", live.old.problem, live.new.problem)));
    };
    if new.read_only {
        return Err((Exit::Refused, format!("{} is read only: it is not the primary", arguments.new)));
    }
    let extra = old.transactions.missing_on(&new.transactions);
    if !extra.is_empty() {
        let list: Vec<_> = extra.iter().map(ToString::to_string).collect();
        let why = format!(
            "{} has transactions that {} lacks, up to {}: nothing is changed. Find them with mariadb-binlog; then rebuild {0}",
            arguments.old,
            arguments.new,
            list.join(",")
        );
        return Err((Exit::Refused, why));
    }
    confirm(context, &arguments.how, &format!("Make {} a replica of {}?", arguments.old, arguments.new))?;
    let mut record = record(context, &mut live, &seen, None, true, false);
    record.promoting = true;
    go(context, live, record, Goal::Forward, &arguments.how)
}

/// Asks, unless that is answered.
fn confirm(context: &Context, how: &How, question: &str) -> Result<(), (Exit, String)> {
    if how.yes {
        return Ok(());
    }
    match context.console.ask(question) {
        Ok(true) => Ok(()),
        Ok(false) => Err((Exit::Refused, "nothing has changed".to_owned())),
        Err(why) => Err((Exit::Refused, why)),
    }
}

/// The servers of the switchover that is unfinished.
fn names(context: &Context, given: &[String]) -> Result<[String; 2], (Exit, String)> {
    if let [old, new] = given {
        return Ok([old.clone(), new.clone()]);
    }
    if !given.is_empty() {
        return Err((Exit::Usage, "give both OLD and NEW, or neither".to_owned()));
    }
    let files = context.store.all().map_err(|error| (Exit::Refused, format!("the files with the state: {error}")))?;
    let mut pairs: Vec<_> = files.into_iter().map(|record| [record.old.name, record.new.name]).collect();
    if pairs.is_empty() {
        pairs = super::status::unfinished(context);
    }
    pairs.sort();
    pairs.dedup();
    match pairs.as_slice() {
        [pair] => Ok(pair.clone()),
        [] => Err((Exit::Refused, "no switchover is unfinished".to_owned())),
        _ => {
            let list: Vec<_> = pairs.iter().map(|pair| pair.join(" ")).collect();
            Err((Exit::Usage, format!("several switchovers are unfinished; give OLD and NEW: {}", list.join("; "))))
        }
    }
}

fn live<'a>(
    context: &Context,
    console: &'a mut super::Console,
    old: Entry,
    new: Entry,
    how: &How,
    replicas: &[Entry],
) -> Live<'a> {
    console.begin(&old.name, &new.name);
    let options = Options {
        max_pause: how.max_pause(),
        rest: how.max_pause(),
        force: how.force,
        not_after: how.not_after,
        replicas: replicas.to_vec(),
        hooks: Hooks {
            before: how.before.clone(),
            after_promotion: how.after_promotion.clone(),
            after: how.after.clone(),
        },
    };
    let mut live = Live::new(old, new, options, context.store.clone(), context.signals.clone(), console);
    // The id of each is needed to recognise the other's connection to it.
    live.look();
    live
}

/// A new record of what the servers are like now.
fn record(
    context: &Context,
    live: &mut Live<'_>,
    seen: &Seen,
    facts: Option<&Facts>,
    reverse: bool,
    all: bool,
) -> Record {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let named = |link: &mut Link, server: Option<&Server>| Named {
        name: link.entry.name.clone(),
        server_id: server.map_or(0, |server| server.server_id),
        started: server.and_then(|_| link.started().ok()).unwrap_or_default(),
    };
    let old = seen.old.as_ref();
    let new_id = seen.new.as_ref().map_or(0, |server| server.server_id);
    let hold_timeout =
        facts.and_then(|facts| facts.old.as_ref()?.variable("instant_failover_hold_timeout").parse().ok());
    Record {
        id: format!("{:x}{:x}", now.as_millis(), std::process::id()),
        old: named(&mut live.old, old),
        new: named(&mut live.new, seen.new.as_ref()),
        way: Way {
            target: live.new.entry.target.to_string(),
            all,
            hold: live.old.abilities.hold,
            reverse,
            no_longer_exempt: Vec::new(),
        },
        before: Before {
            read_only: false,
            target: old.map(|old| old.target.clone()).unwrap_or_default(),
            hold_timeout,
            events: old.is_some_and(|old| old.events_run),
            reverse: old.is_some_and(|old| old.channel_from(new_id).is_some()),
        },
        // What is written from now on is written after this.
        position: facts.and(old.map(|old| old.position.clone())),
        promoting: false,
        step: String::new(),
        by: who(context),
    }
}

fn who(_: &Context) -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::current()).ok().flatten().map(|user| user.name);
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let time = humantime::format_rfc3339_seconds(SystemTime::now());
    format!("{}@{},{time}", user.unwrap_or_default(), host.unwrap_or_default())
}

/// Goes to a goal, and says how it ended.
fn go(context: &Context, mut live: Live<'_>, mut record: Record, goal: Goal, how: &How) -> Ended {
    let end = drive(&mut live, &mut record, goal, Limits { attempts: how.attempts, tries: TRIES });
    let file = live.file().display().to_string();
    let problems =
        [(&live.old, "old"), (&live.new, "new")].map(|(link, _)| format!("{}: {}", link.entry.name, link.problem));
    drop(live);
    let console = &context.console;
    console.end();
    let (old, new) = (&record.old.name, &record.new.name);
    let later = format!("'instant-failover status' shows where it stands; then 'instant-failover resume {old} {new}'");
    match end {
        End::Done(warnings) => {
            for warning in &warnings {
                console.say("warning", &format!("not done: {}", warning.replace("OLD", old).replace("NEW", new)));
            }
            console.say("done", &format!("{new} is the primary, and {old} redirects to it"));
            if !console.is_json() {
                option_files(context, &record);
            }
            if warnings.is_empty() {
                Ok(Exit::Done)
            } else {
                Err((Exit::Halfway, format!("some steps were left out: {later}")))
            }
        }
        End::Back(why, warnings) if warnings.is_empty() => {
            Err((Exit::Back, format!("went back ({why}): {old} is the primary, and everything is as before")))
        }
        End::Back(why, warnings) => Err((
            Exit::Halfway,
            format!(
                "went back ({why}): {old} is the primary and accepts writes; but not all is as before: {}",
                warnings.join("; ").replace("OLD", old).replace("NEW", new)
            ),
        )),
        End::TooLate => Err((
            Exit::Refused,
            format!("{new} is promoted: there is no way back; resume, or switch over to {old} afterwards"),
        )),
        End::Halfway(why) => Err((
            Exit::Halfway,
            format!(
                "stopped at: {}. {why}. {}. No server was made writable beside another. The state is in {file}. {later}, or 'back' if {new} was not promoted",
                record.step,
                problems.join(", ")
            ),
        )),
        End::Diverged(divergence) => Err((
            Exit::Halfway,
            format!(
                "STOPPED, nothing more is changed: {divergence} (old: {old}, new: {new}). Decide which server has the data that counts, \
                 make the other one read only, and find its transactions with mariadb-binlog"
            ),
        )),
    }
}

/// What must be in the option files, so that a restart changes nothing.
fn option_files(context: &Context, record: &Record) {
    let (old, new, way) = (&record.old.name, &record.new.name, &record.way);
    if !way.no_longer_exempt.is_empty() {
        context.console.line(&format!(
            "No longer exempt on {old}, because they may write in spite of read_only: {}",
            way.no_longer_exempt.join(", ")
        ));
    }
    context.console.line(&format!(
        "For restarts, in the option file of {old}:\n    loose_instant_failover_target = {}\n    loose_instant_failover_mode = {}\n    read_only = 1\n\
         and of {new}: remove loose_instant_failover_target and loose_instant_failover_mode",
        way.target,
        way.mode()
    ));
}
