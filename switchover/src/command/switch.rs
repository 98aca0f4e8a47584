//! `prepare`, `switchover`, `resume` and `back`.

use std::time::Duration;

use ::failover::Mode;

use super::run::{Overtaken, confirm, go, id, is_overtaken, live, nothing_changed, show_steps, who, written};
use super::{Back, Context, Ended, Exit, How, Judging, Prepare, Rejoin, Resume, Switchover, pair};
use crate::beside::beside;
use crate::database::SqlError;
use crate::dead::stands_in;
use crate::facts;
use crate::link::Link;
use crate::live::{HOLD_AFTER_PROMOTION, Live};
use crate::plan::check::{Level, worst};
use crate::plan::drive::{Failure, World as _};
use crate::plan::facts::Facts;
use crate::plan::next::{Goal, has_restarted, overtaken};
use crate::plan::record::{Before, Named, Record, Way};
use crate::plan::seen::{Seen, Server};
use crate::plan::state::State;
use crate::plan::step::Step;

/// How long clients may wait.
const MAX_PAUSE: Duration = Duration::from_secs(5);

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

pub(super) fn prepare(context: &mut Context, arguments: &Prepare) -> Ended {
    let [old, new] = pair::pair(context, &arguments.pair.old, &arguments.pair.new)?;
    let mut console = context.console.clone();
    let mut live = live(context, &mut console, [old, new], How::default().options(MAX_PAUSE), None);
    let judging = Judging { max_lag: arguments.max_lag, ..Judging::default() };
    let (_, findings) = pair::judge(context, &mut live.old, &mut live.new, &judging)?;
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
    let record = record(&mut live, &seen, true, false);
    context.signals.hold();
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

pub(super) fn switchover(context: &mut Context, arguments: &Switchover) -> Ended {
    let Switchover { pair: names, judging, how, before, all_connections, dry_run } = arguments;
    let [old, new] = pair::pair(context, &names.old, &names.new)?;
    let mut console = context.console.clone();
    let mut options = how.options(MAX_PAUSE);
    options.replicas = pair::replicas(context, &judging.replicas, [&old.name, &new.name])?;
    options.hooks.before.clone_from(before);
    let mut live = live(context, &mut console, [old, new], options, None);
    if let Some(record) = written(context, &mut live)? {
        let why = format!(
            "the switchover from {} to {} that began {} is unfinished: instant-failover status says how to end it",
            names.old, names.new, record.by
        );
        return Err((Exit::Refused, why));
    }
    let (mut facts, findings) = pair::judge(context, &mut live.old, &mut live.new, judging)?;
    let title = format!("{} -> {}", names.old, names.new);
    context.console.findings(&title, &findings);
    if worst(&findings) == Level::Failure {
        return Err((Exit::Refused, "nothing has changed".to_owned()));
    }
    let hold = facts.old.as_ref().is_some_and(crate::plan::facts::ServerFacts::can_hold);
    show_plan(context, arguments, &facts, hold);
    if *dry_run {
        nothing_changed(context);
        return Ok(Exit::Done);
    }
    if !how.yes {
        confirm(context, false, &format!("Make {} the primary instead of {}?", names.new, names.old))?;
        // The answer may have taken long.
        let (later, findings) = pair::judge(context, &mut live.old, &mut live.new, judging)?;
        facts = later;
        if worst(&findings) == Level::Failure {
            context.console.findings(&title, &findings);
            return Err((Exit::Refused, "nothing has changed".to_owned()));
        }
    }
    let seen = live.look();
    let mut record = record(&mut live, &seen, !judging.no_reverse, *all_connections);
    // What is written from now on is written after this.
    record.position = seen.old.map(|old| old.position);
    record.way.replicas = live.options.replicas.iter().map(|entry| entry.name.clone()).collect();
    if let Some(old) = &facts.old {
        record.way.hold = old.can_hold();
        record.before.hold_timeout = old.variable("instant_failover_hold_timeout").parse().ok();
        record.way.no_longer_exempt = old.exempt_writers(live.new.entry.replication.user.as_deref());
    }
    go(context, live, record, Goal::Forward, how.attempts)
}

fn show_plan(context: &Context, arguments: &Switchover, facts: &Facts, hold: bool) {
    let (old, new) = (&arguments.pair.old, &arguments.pair.new);
    let reverse = !arguments.judging.no_reverse;
    let left_out = |step: &Step| match step {
        Step::Hold | Step::Drain => !hold,
        Step::Prepare | Step::AwaitMark => !reverse,
        Step::Admit => facts.new.as_ref().is_some_and(|new| new.seen.mode == Mode::Off),
        Step::Repoint => arguments.judging.replicas.is_empty(),
        _ => false,
    };
    show_steps(context, STEPS.iter().filter(|step| !left_out(step)), old, new);
    let long = facts.old.as_ref().map(|old| old.long.len()).unwrap_or_default();
    let pause = if long > 0 {
        format!(
            "{long} transactions or statements are older than 5 s: clients would wait for up to {} s, and the switchover would still fail",
            arguments.how.max_pause(MAX_PAUSE).as_secs()
        )
    } else {
        format!(
            "clients wait until open transactions have ended, at most {} s",
            arguments.how.max_pause(MAX_PAUSE).as_secs()
        )
    };
    context.console.say("pause", &pause);
    if !reverse {
        context
            .console
            .say("warning", &format!("there is no way back to {old} afterwards: it does not become a replica"));
    }
}

pub(super) fn resume(context: &mut Context, arguments: &Resume) -> Ended {
    if let Some(record) = super::rolling::unfinished(context, &arguments.unfinished.names())? {
        return super::rolling::go_on(context, record, arguments.how.yes, false);
    }
    unfinished(context, &arguments.unfinished.names(), &arguments.how, &arguments.replicas, Goal::Forward)
}

pub(super) fn back(context: &mut Context, arguments: &Back) -> Ended {
    if let Some(record) = super::rolling::unfinished(context, &arguments.unfinished.names())? {
        return super::rolling::go_on(context, record, arguments.yes, true);
    }
    let how = How { yes: arguments.yes, attempts: 1, ..How::default() };
    unfinished(context, &arguments.unfinished.names(), &how, &[], Goal::Back)
}

fn unfinished(context: &mut Context, given: &[String], how: &How, replicas: &[String], goal: Goal) -> Ended {
    let [old, new] = names(context, given)?;
    let [old, new] = pair::pair(context, &old, &new)?;
    let mut console = context.console.clone();
    let names = [old.name.clone(), new.name.clone()];
    pair::replicas(context, replicas, names.each_ref().map(String::as_str))?;
    let mut live = live(context, &mut console, [old, new], how.options(MAX_PAUSE), None);
    let file = written(context, &mut live)?;
    let has_file = file.is_some();
    let seen = live.look();
    for (link, server) in [(&live.old, &seen.old), (&live.new, &seen.new)] {
        if server.is_none() {
            context.console.say("note", &format!("{}: {}", link.entry.name, link.problem()));
        }
    }
    let notes: Vec<Record> =
        [&seen.old, &seen.new].into_iter().flatten().filter_map(|server| Record::from_note(&server.note)).collect();
    let mut known = file.into_iter().chain(notes.iter().cloned()).next();
    if let Some(known) = known.as_mut().filter(|known| known.way.target.is_empty()) {
        // A note may be too short for it.
        known.way.target = live.new.entry.target.to_string();
    }
    let is_known = known.is_some();
    if let Some(known) = known.as_ref().filter(|known| known.failover.is_some()) {
        drop(live);
        return super::failover::unfinished(context, known.clone().merged(notes), how, goal);
    }
    let mut record = if let Some(known) = known {
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
        let mut record = record(&mut live, &seen, true, redirects_all(&seen));
        // One that was killed may have left this.
        record.before.hold_timeout = hold_timeout(&mut live).filter(|seconds| *seconds != HOLD_AFTER_PROMOTION);
        record
    };
    // Another machine may have begun it, and its file other groups: that is no reason not to end it.
    let (known, missing): (Vec<String>, Vec<String>) =
        std::mem::take(&mut record.way.replicas).into_iter().partition(|name| context.servers.get(name).is_ok());
    for name in missing.iter().filter(|_| goal == Goal::Forward) {
        let text = format!("{name}, which was to follow {}, has no group in the file: it is left as it is", names[1]);
        context.console.say("warning", &text);
    }
    record.way.replicas = known.into_iter().chain(replicas.iter().cloned()).collect();
    live.options.replicas = pair::replicas(context, &record.way.replicas, names.each_ref().map(String::as_str))?;
    refuse_if_overtaken(context, &live, &seen, &record, is_known)?;
    let state = State::of(&seen, record.evidence());
    context.console.say("state", &state.to_string());
    if state.is_promoted() && how.after_promotion.is_some() {
        let text = "the new primary is promoted: --after-promotion is run only if clients are not redirected yet";
        context.console.say("warning", text);
    }
    let (old, new) = (&record.old.name, &record.new.name);
    let why = match state {
        State::Unreachable => Some("try again when both servers answer: nothing is done".to_owned()),
        State::Steady if goal == Goal::Forward => {
            Some(format!("nothing is unfinished: instant-failover switchover {old} {new}"))
        }
        _ => None,
    };
    if let Some(why) = why.filter(|_| !is_known) {
        return Err((Exit::Refused, why));
    }
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
    // A note may be too short for them.
    if goal == Goal::Forward && !has_file {
        end_exemptions(context, &mut live, &seen, &mut record)?;
    }
    confirm(context, how.yes, &question)?;
    if !how.yes {
        // The answer may have taken long.
        let seen = live.look();
        refuse_if_overtaken(context, &live, &seen, &record, is_known)?;
    }
    go(context, live, record, goal, how.attempts)
}

/// Whether all clients of the old primary are redirected: that stays.
fn redirects_all(seen: &Seen) -> bool {
    seen.old.as_ref().is_some_and(|old| old.mode == Mode::All)
}

/// What holds at the old primary now, to be restored.
fn hold_timeout(live: &mut Live<'_>) -> Option<u16> {
    live.old.abilities.hold.then(|| live.old.value("SELECT @@instant_failover_hold_timeout").ok()?.parse().ok())?
}

/// Since this switchover began, others may have made another server the primary. To go on, or back, would make two.
fn refuse_if_overtaken(
    context: &Context,
    live: &Live<'_>,
    seen: &Seen,
    record: &Record,
    is_known: bool,
) -> Result<(), (Exit, String)> {
    let (old, new) = (&live.old.entry, &live.new.entry);
    let is_promoted = State::of(seen, record.evidence()).is_promoted();
    let why = match overtaken(seen, record) {
        Some(why) if !is_known => {
            let why = format!(
                "{why}: {} and {} are not the servers of a switchover, and nothing is done",
                old.name, new.name
            );
            return Err((Exit::Refused, why));
        }
        Some(why) => Some(Overtaken::Elsewhere(why)),
        // There is nothing that would make another one.
        None if is_promoted && seen.new.as_ref().is_some_and(|new| !new.read_only) => None,
        None => beside(&live.options.others, old, seen, has_restarted(seen, record)).map(Overtaken::By),
    };
    why.map_or(Ok(()), |why| Err(is_overtaken(context, record, why)))
}

/// Whoever may write in spite of `read_only` is no longer exempt once the old primary redirects.
fn end_exemptions(
    context: &Context,
    live: &mut Live<'_>,
    seen: &Seen,
    record: &mut Record,
) -> Result<(), (Exit, String)> {
    let name = live.old.entry.name.clone();
    let unknown = "who may write there in spite of read_only is not known";
    let Some(old) = seen.old.clone() else {
        return Err((Exit::Refused, format!("{name}: {}: {unknown}", live.old.problem())));
    };
    match facts::exempt_writers(&mut live.old, old, live.new.entry.replication.user.as_deref()) {
        Ok(users) => record.way.no_longer_exempt.extend(users),
        Err(error @ SqlError::Lost(_)) => return Err((Exit::Refused, format!("{name}: {error}: {unknown}"))),
        // As in a switchover, which warns.
        Err(error) => context.console.say("warning", &format!("{name}: {error}: {unknown}")),
    }
    record.way.no_longer_exempt.sort();
    record.way.no_longer_exempt.dedup();
    Ok(())
}

/// What is left of a switchover when the new primary has long been the primary.
pub(super) fn rejoin(context: &mut Context, arguments: &Rejoin) -> Ended {
    let [old, new] = pair::pair(context, &arguments.old, &arguments.new)?;
    let mut console = context.console.clone();
    let mut live = live(context, &mut console, [old, new], How::default().options(MAX_PAUSE), None);
    let seen = live.look();
    judge_rejoin(context, &live, &seen, arguments)?;
    let mut record = record(&mut live, &seen, true, redirects_all(&seen));
    record.promoting = true;
    record.before.hold_timeout = hold_timeout(&mut live);
    end_exemptions(context, &mut live, &seen, &mut record)?;
    confirm(context, arguments.yes, &format!("Make {} a replica of {}?", arguments.old, arguments.new))?;
    if !arguments.yes {
        // The answer may have taken long.
        let seen = live.look();
        judge_rejoin(context, &live, &seen, arguments)?;
    }
    go(context, live, record, Goal::Forward, 1)
}

/// Refuses what would harm.
fn judge_rejoin(context: &Context, live: &Live<'_>, seen: &Seen, arguments: &Rejoin) -> Result<(), (Exit, String)> {
    let (Some(old), Some(new)) = (&seen.old, &seen.new) else {
        let silent =
            [(&live.old, &seen.old), (&live.new, &seen.new)].into_iter().filter(|(_, server)| server.is_none());
        let why = |(link, _): (&Link, _)| {
            stands_in(&context.servers, &link.entry)
                .unwrap_or_else(|| format!("{}: {}", link.entry.name, link.problem()))
        };
        return Err((Exit::Refused, silent.map(why).collect::<Vec<_>>().join("; ")));
    };
    if !live.old.abilities.plugin {
        let why = format!(
            "{0} has no plugin instant_failover, and could not redirect its clients: INSTALL SONAME 'instant_failover' there; then rejoin",
            arguments.old
        );
        return Err((Exit::Refused, why));
    }
    if new.read_only {
        let only_new = new.transactions.missing_on(&old.transactions);
        let why = if !only_new.is_empty() {
            let list: Vec<_> = only_new.iter().map(ToString::to_string).collect();
            format!(
                "{0} is read only, and has transactions that {1} lacks, up to {2}: nothing is changed. Decide which of them has the data \
                 that counts; that one is to accept writes",
                arguments.new,
                arguments.old,
                list.join(",")
            )
        } else if old.read_only {
            format!("{} is read only: it is not the primary", arguments.new)
        } else {
            format!(
                "the names look swapped: {0} accepts writes, and {1} is read only; to make {1} a replica of {0}: instant-failover \
                 rejoin {1} {0}",
                arguments.old, arguments.new
            )
        };
        return Err((Exit::Refused, why));
    }
    if !old.read_only && new.channel_from(old.server_id).is_some() {
        let why = format!(
            "both accept writes, and {1} is a replica of {0}: it is not clear which is the primary, and nothing is changed. If it is \
             {0}: SET GLOBAL read_only = 1 on {1}, and in its option file. If it is {1}: STOP ALL SLAVES; RESET SLAVE ALL on {1}, and \
             then rejoin",
            arguments.old, arguments.new
        );
        return Err((Exit::Refused, why));
    }
    if let Some(channel) = new.channels.iter().find(|channel| channel.source != Some(old.server_id)) {
        let why = format!(
            "{} replicates from {} ({}), so it is not the primary: nothing is changed",
            arguments.new,
            channel.source_name(),
            channel.address
        );
        return Err((Exit::Refused, why));
    }
    let others = old.channels.iter().filter(|channel| channel.source != Some(new.server_id));
    if let Some(channel) = others.into_iter().next() {
        let why = format!(
            "{0} replicates from {3} (connection '{2}'), so it is no former primary of {1}: nothing is changed. To make it a replica \
             of {1}: STOP SLAVE '{2}'; RESET SLAVE '{2}' ALL on {0}, and then rejoin",
            arguments.old,
            arguments.new,
            channel.name,
            channel.source_name()
        );
        return Err((Exit::Refused, why));
    }
    let extra = old.transactions.missing_on(&new.transactions);
    if !extra.is_empty() {
        let list: Vec<_> = extra.iter().map(ToString::to_string).collect();
        let why = format!(
            "{} has transactions that {} lacks, up to {}: nothing is changed. {}Find them with mariadb-binlog; then rebuild {0}",
            arguments.old,
            arguments.new,
            list.join(","),
            if old.read_only {
                String::new()
            } else {
                format!("It accepts writes, which are lost then: SET GLOBAL read_only = 1 on {}, now. ", arguments.old)
            }
        );
        return Err((Exit::Refused, why));
    }
    Ok(())
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
        [] => Err((
            Exit::Refused,
            super::status::rolling_elsewhere(context).unwrap_or_else(|| "no switchover is unfinished".to_owned()),
        )),
        _ => {
            let list: Vec<_> = pairs.iter().map(|pair| pair.join(" ")).collect();
            Err((Exit::Usage, format!("several switchovers are unfinished; give OLD and NEW: {}", list.join("; "))))
        }
    }
}

/// A new record of what the servers show. More must be added to it before clients are redirected.
fn record(live: &mut Live<'_>, seen: &Seen, reverse: bool, all: bool) -> Record {
    let named = |link: &mut Link, server: Option<&Server>| Named {
        name: link.entry.name.clone(),
        server_id: server.map_or(0, |server| server.server_id),
        started: server.and_then(|_| link.started().ok()).unwrap_or_default(),
    };
    let old = seen.old.as_ref();
    let new_id = seen.new.as_ref().map_or(0, |server| server.server_id);
    Record {
        id: id(),
        old: named(&mut live.old, old),
        new: named(&mut live.new, seen.new.as_ref()),
        way: Way {
            target: live.new.entry.target.to_string(),
            all,
            hold: live.old.abilities.hold,
            reverse,
            no_longer_exempt: Vec::new(),
            replicas: Vec::new(),
        },
        before: Before {
            read_only: false,
            target: old.map(|old| old.target.clone()).unwrap_or_default(),
            hold_timeout: None,
            events: old.is_some_and(|old| old.events_run),
            reverse: old.is_some_and(|old| old.channel_from(new_id).is_some()),
        },
        failover: None,
        position: None,
        promoting: false,
        step: String::new(),
        by: who(),
    }
}
