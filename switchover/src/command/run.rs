//! What the commands that change something have in common.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::{Console, Context, Ended, Exit};
use crate::dead::Dead;
use crate::live::{Live, Options, hooks};
use crate::plan::drive::{End, LeftOut, Limits, World as _, drive};
use crate::plan::next::{Goal, has_note};
use crate::plan::record::Record;
use crate::plan::seen::{Beside, Server};
use crate::plan::step::{Step, with_names};
use crate::servers::Entry;

/// Tries of a step that must not be left out, and looks at a server that does not answer: one a second.
const TRIES: u32 = 20;

/// The servers of a command, looked at once.
pub(super) fn live<'a>(
    context: &Context,
    console: &'a mut Console,
    [old, new]: [Entry; 2],
    options: Options,
    dead: Option<Dead>,
) -> Live<'a> {
    console.begin(&old.name, &new.name);
    let options = Options { others: super::pair::others(context, [&old, &new]), ..options };
    let mut live = Live::new(old, new, options, context.store.clone(), context.signals.clone(), console);
    live.dead = dead;
    // The id of each is needed to recognise the other's connection to it.
    live.look();
    live
}

/// The record in the file, unless another machine has finished that switchover: then it is removed.
pub(super) fn written(context: &Context, live: &mut Live<'_>) -> Result<Option<Record>, (Exit, String)> {
    let failed = |error: std::io::Error| (Exit::Refused, format!("the file with the state: {error}"));
    let (old, new) = (live.old.entry.name.clone(), live.new.entry.name.clone());
    let Some(record) = context.store.read(&old, &new).map_err(failed)? else { return Ok(None) };
    let seen = live.look();
    let is_failover = record.failover.is_some();
    // Without a restart, a note is removed by a command only. In a failover, the old primary has none.
    let is_finished = [(&mut live.old, &seen.old, &record.old), (&mut live.new, &seen.new, &record.new)]
        .into_iter()
        .filter(|(_, _, named)| !is_failover || named.name == record.new.name)
        .all(|(link, server, named)| {
            let Some(server) = server else { return false };
            let is_noted = has_note(server, &record);
            link.abilities.note && !is_noted && link.started().is_ok_and(|started| started.abs_diff(named.started) <= 2)
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

/// A refusal: since this began, another server seems to have become the primary. To go on, or back, would make two.
pub(super) fn is_overtaken(context: &Context, record: &Record, why: Overtaken) -> (Exit, String) {
    let (old, new) = (&record.old.name, &record.new.name);
    let (what, noted, replica) = match record.failover {
        Some(_) => ("failover", new.clone(), new),
        None => ("switchover", format!("{old} and {new}"), old),
    };
    let (why, primary, otherwise) = match why {
        Overtaken::Elsewhere(why) => (why, "PRIMARY".to_owned(), String::new()),
        Overtaken::By(Beside::Writes(name)) => (
            format!("{name} accepts writes, and belongs with {old} or has what {old} wrote"),
            name,
            format!(
                ". If it is not, SET GLOBAL read_only = 1 there, or, if it has nothing to do with {old}, set cluster in the groups of \
                 the file; then run this again"
            ),
        ),
        Overtaken::By(Beside::HasMore(name, gtid)) => (
            Beside::HasMore(name.clone(), gtid).to_string(),
            name,
            ". If it is not, and what only it has does not count, take its group out of the file; then run this again"
                .to_owned(),
        ),
        Overtaken::By(Beside::Silent(name)) => {
            let why = format!(
                "{name} does not answer, and {old} or {new} has restarted since this began: {name} may have become the primary meanwhile. Nothing \
                 is done. Start it; or, if it certainly has not, take its group out of the file; or, if it has nothing to do with {old}, \
                 set cluster in the groups; then run this again"
            );
            return (Exit::Refused, why);
        }
    };
    let why = format!(
        "{why}: nothing is done. If another server is the primary by now, this {what} is over: SET GLOBAL instant_failover_note = '' on \
         {noted}, remove {} if it is there, and make each that does not follow the primary its replica: instant-failover rejoin {replica} \
         {primary}, which says what else it needs{otherwise}",
        context.store.file(old, new).display()
    );
    (Exit::Refused, why)
}

/// What shows it.
pub(super) enum Overtaken {
    /// One of the two replicates from a third server: a text.
    Elsewhere(String),
    /// Another server of the file.
    By(Beside),
}

/// Asks, unless that is answered.
pub(super) fn confirm(context: &Context, yes: bool, question: &str) -> Result<(), (Exit, String)> {
    if yes {
        return Ok(());
    }
    match context.console.ask(question) {
        Ok(true) => Ok(()),
        Ok(false) => Err((Exit::Refused, "nothing has changed".to_owned())),
        Err(why) => Err((Exit::Refused, why)),
    }
}

/// How a dry run ends.
pub(super) fn nothing_changed(context: &Context) {
    context.console.say("done", "dry run: nothing has changed");
}

/// Shows the steps of a plan.
pub(super) fn show_steps<'a>(context: &Context, steps: impl Iterator<Item = &'a Step>, old: &str, new: &str) {
    for step in steps {
        let undo = match step.undo() {
            Some(undo) => format!("    undo: {}", undo.with_names(old, new)),
            None if step.promotes() => "    from here on there is no undo".to_owned(),
            None => String::new(),
        };
        if context.console.is_json() {
            // As in the events of the steps.
            context.console.object(&json!({ "plan": step.text(), "undo": step.undo().map(Step::text) }));
        } else {
            context.console.line(&format!("  {}{undo}", step.with_names(old, new)));
        }
    }
}

/// Runs a command of the DBA.
pub(super) fn hook(name: &str, command: &str, record: &Record) -> Result<(), String> {
    hooks::run(name, Some(command), record)
}

/// A new id for a record.
pub(super) fn id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}{:x}", now.as_millis(), std::process::id())
}

/// Who runs this, where, and when.
pub(super) fn who() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::current()).ok().flatten().map(|user| user.name);
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let time = humantime::format_rfc3339_seconds(SystemTime::now());
    format!("{}@{},{time}", user.unwrap_or_default(), host.unwrap_or_default())
}

/// Goes to a goal, and says how it ended.
pub(super) fn go(context: &Context, mut live: Live<'_>, mut record: Record, goal: Goal, attempts: u32) -> Ended {
    context.signals.hold();
    let end = drive(&mut live, &mut record, goal, Limits { attempts, tries: TRIES });
    let file = live.file().display().to_string();
    let links = [&live.old, &live.new].into_iter().filter(|link| link.problem.is_some());
    let problems: Vec<String> = links.map(|link| format!("{}: {}. ", link.entry.name, link.problem())).collect();
    let after = live.options.hooks.after.clone();
    let lives = live.dead.as_mut().and_then(Dead::lives);
    let is_failover = record.failover.is_some();
    let astray = if is_failover && matches!(end, End::Done(_)) { astray(&mut live) } else { Vec::new() };
    drop(live);
    let console = &context.console;
    console.end();
    let (old, new) = (&record.old.name, &record.new.name);
    let later = format!("'instant-failover status' shows where it stands; then 'instant-failover resume {old} {new}'");
    match end {
        End::Done(left_out) => {
            for step in &left_out {
                console.say("warning", &format!("not done: {}", with_names(&step.to_string(), old, new)));
            }
            let hook = after.map_or(Ok(()), |command| hook("after", &command, &record));
            let rest = if is_failover { "" } else { &format!(", and {old} redirects to it") };
            console.say("done", &format!("{new} is the primary{rest}"));
            if is_failover {
                for name in astray {
                    let target = &record.way.target;
                    let text = format!(
                        "{name} redirects clients to {old}: SET GLOBAL instant_failover_target = '{target}' on {name}, and in its option \
                         file"
                    );
                    console.say("warning", &text);
                }
                let stand_in = if record.failover.as_ref().is_some_and(|failover| failover.stand_in.is_some()) {
                    "stop the stand-in, and "
                } else {
                    ""
                };
                let text = format!(
                    "before {old} starts again, {stand_in}set read_only = 1 in its option file, or it is a second primary; then: \
                     instant-failover rejoin {old} {new}. From the option file of {new}, remove loose_instant_failover_target and \
                     loose_instant_failover_mode"
                );
                console.say("note", &text);
            } else if !console.is_json() {
                option_files(context, &record);
            }
            if let Some(why) = lives {
                let why =
                    format!("{old} ANSWERS AGAIN ({why}): turn it off, or SET GLOBAL read_only = 1 there, at once");
                return Err((Exit::Halfway, why));
            }
            hook.map_err(|why| (Exit::Halfway, format!("{why}; everything else is done")))?;
            if left_out.is_empty() {
                Ok(Exit::Done)
            } else {
                Err((Exit::Halfway, format!("some steps were left out: {later}")))
            }
        }
        End::Back(why, left_out) if left_out.is_empty() => {
            let primary = if is_failover { "" } else { &format!("{old} is the primary, and ") };
            Err((Exit::Back, format!("went back ({why}): {primary}everything is as before")))
        }
        End::Back(why, left_out) => Err((
            Exit::Halfway,
            format!(
                "went back ({why}): {}not all is as before: {}. To do, when they answer: {}",
                if is_failover { String::new() } else { format!("{old} is the primary and accepts writes; but ") },
                with_names(&join(&left_out, ToString::to_string), old, new),
                join(&left_out, |left_out| by_hand(left_out.step, &record))
            ),
        )),
        End::TooLate => Err((
            Exit::Refused,
            format!("{new} is promoted: there is no way back; resume, or switch over to {old} afterwards"),
        )),
        End::Halfway(why) => Err((
            Exit::Halfway,
            format!(
                "stopped at: {}. {why}. {}No server was made writable beside another. The state is in {file}. {later}, or 'back' if {new} was not promoted",
                record.step,
                problems.concat()
            ),
        )),
        End::Diverged(divergence) => {
            let then = if divergence.only_old.is_empty() && divergence.only_new.is_empty() {
                format!("then 'instant-failover resume {old} {new}', or 'back'")
            } else {
                "and find its transactions with mariadb-binlog".to_owned()
            };
            Err((
                Exit::Halfway,
                format!(
                    "STOPPED, nothing more is changed: {divergence} (old: {old}, new: {new}). Decide which server has the data that counts, \
                     make the other one read only, {then}"
                ),
            ))
        }
    }
}

/// Other replicas that redirect clients to the dead primary.
fn astray(live: &mut Live<'_>) -> Vec<String> {
    let target = live.old.entry.target.to_string();
    let replicas = live.look().around.replicas.into_iter();
    let redirects = |server: &Server| server.redirects_to(&target);
    replicas.filter(|replica| replica.server.as_ref().is_some_and(redirects)).map(|replica| replica.name).collect()
}

fn join(left_out: &[LeftOut], text: impl Fn(&LeftOut) -> String) -> String {
    left_out.iter().map(text).collect::<Vec<_>>().join("; ")
}

/// What does a step of going back that was left out.
fn by_hand(step: Step, record: &Record) -> String {
    let (old, new) = (&record.old.name, &record.new.name);
    match step {
        Step::StartReplica => {
            format!(
                "START ALL SLAVES on {new}, or, if it has no connection to {old}: instant-failover rejoin {new} {old}"
            )
        }
        Step::Unaim => format!("SET GLOBAL instant_failover_target = '{}' on {old}", record.before.target),
        Step::Unprepare => format!("STOP SLAVE; RESET SLAVE ALL on {old}"),
        Step::Forget => {
            "SET GLOBAL instant_failover_note = '' on each server that still has the note (a restart removes it)"
                .to_owned()
        }
        Step::Receive => format!(
            "on each replica of {old} that receives nothing: remove what stops its SQL thread, START SLAVE SQL_THREAD, and only when \
             it has applied everything START SLAVE IO_THREAD: with both stopped, START SLAVE discards what was received and not applied"
        ),
        Step::ReleaseAtStandIn => {
            let before = record.failover.as_ref().and_then(|failover| failover.stand_in.as_ref());
            before.map_or_else(String::new, |before| {
                format!(
                    "SET GLOBAL instant_failover_hold_timeout = {}, instant_failover_target = '{}', instant_failover_mode = '{}' on \
                     the stand-in",
                    before.hold_timeout, before.target, before.mode
                )
            })
        }
        // Step::may_fail_going_back() has no other.
        _ => String::new(),
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
