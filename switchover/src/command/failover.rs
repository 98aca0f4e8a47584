//! `failover`: the primary is dead.

use std::time::Duration;

use ::failover::Mode;

use super::run::{Overtaken, confirm, go, hook, id, is_overtaken, live, nothing_changed, show_steps, who, written};
use super::{Context, Ended, Exit, Failover, How, pair};
use crate::dead::Dead;
use crate::link::Link;
use crate::live::Live;
use crate::plan::check::{Level, worst};
use crate::plan::drive::World as _;
use crate::plan::failover::State;
use crate::plan::failover::check::check;
use crate::plan::next::{Goal, overtaken};
use crate::plan::record::{self, Before, Named, Record, Way};
use crate::plan::seen::Seen;
use crate::plan::state::Promotion;
use crate::plan::step::Step;
use crate::servers::Entry;

/// The steps of a failover, for the plan.
const STEPS: &[Step] = &[
    Step::Begin,
    Step::HoldAtStandIn,
    Step::Sever,
    Step::Apply,
    Step::StopReplica,
    Step::TakeOver,
    Step::Mark,
    Step::Admit,
    Step::RedirectAtStandIn,
    Step::Repoint,
    Step::Detach,
    Step::Finish,
];

/// How long to wait for the new primary to apply what it has received.
const MAX_PAUSE: Duration = Duration::from_mins(1);

pub(super) fn failover(context: &mut Context, arguments: &Failover) -> Ended {
    let new = context.servers.get(&arguments.new).cloned().map_err(|why| (Exit::Usage, why))?;
    for name in &arguments.without {
        context.servers.get(name).map_err(|why| (Exit::Usage, why))?;
    }
    let (old, old_id) = primary_of(context, &new)?;
    pair::pair(context, &old.name, &new.name)?;
    let (old_name, new_name) = (old.name.clone(), new.name.clone());
    let how = how(arguments);
    let mut console = context.console.clone();
    let mut dead = Dead::find(&context.servers, old.clone(), old_id, &new, arguments.without.clone());
    dead.fenced = arguments.fenced_by.is_some();
    let mut options = how.options(MAX_PAUSE);
    options.hooks.before.clone_from(&arguments.before);
    let mut live = live(context, &mut console, [old, new], options, Some(dead));
    let earlier = unfinished_before(context, &mut live)?;
    let mode = judge(context, &mut live, true)?;
    let left_out = |step: &Step| match step {
        Step::HoldAtStandIn | Step::RedirectAtStandIn => live.dead.as_ref().is_none_or(|dead| dead.stand_in.is_none()),
        Step::Admit => mode == Mode::Off,
        Step::Repoint => live.dead.as_ref().is_none_or(|dead| dead.replicas.is_empty()),
        _ => false,
    };
    show_steps(context, STEPS.iter().filter(|step| !left_out(step)), &old_name, &new_name);
    if arguments.dry_run {
        nothing_changed(context);
        return Ok(Exit::Done);
    }
    let question = format!("Make {new_name} the primary, because {old_name} is dead?");
    let mut record = record(&mut live, &arguments.without);
    if let Some(earlier) = earlier.filter(|earlier| earlier.promoting) {
        record.promoting = true;
        record.position = earlier.position.or(record.position);
    }
    match &arguments.fenced_by {
        None => {
            let text = format!(
                "{question} What it acknowledged and {new_name} did not receive is lost. If {old_name} lives, there are \
                                two primaries. To confirm that it is dead, type its name: "
            );
            match context.console.ask_for(&text) {
                Ok(answer) if answer == old_name => {}
                Ok(_) => return Err((Exit::Refused, format!("that is not {old_name}: nothing has changed"))),
                Err(why) => {
                    return Err((Exit::Refused, format!("{why}; without one, use --fenced-by COMMAND")));
                }
            }
        }
        Some(command) => {
            confirm(context, arguments.yes, &question)?;
            // It is said how this ends.
            context.signals.hold();
            hook("fenced-by", command, &record).map_err(|why| {
                (Exit::Refused, format!("{why}: it is not certain that {old_name} is off; nothing else was done"))
            })?;
            judge(context, &mut live, false)?;
        }
    }
    if let Some(failover) = &mut record.failover {
        failover.fenced = arguments.fenced_by.is_some();
    }
    go(context, live, record, Goal::Forward, 1)
}

/// The switchover between the same servers in which the old primary died: this continues it. A failover is resumed instead.
fn unfinished_before(context: &Context, live: &mut Live<'_>) -> Result<Option<Record>, (Exit, String)> {
    let seen = live.look();
    let note = seen.new.as_ref().and_then(|server| Record::from_note(&server.note));
    let note = note.filter(|note| note.old.name == live.old.entry.name && note.new.name == live.new.entry.name);
    let file = written(context, live)?;
    let Some(earlier) = file.into_iter().chain(note.clone()).next().map(|record| record.merged(note)) else {
        return Ok(None);
    };
    if earlier.failover.is_some() {
        let why = format!("the failover that began {} is unfinished: resume, or back", earlier.by);
        return Err((Exit::Refused, why));
    }
    context.console.say("note", &format!("this takes the place of the switchover that began {}", earlier.by));
    if let (Some(dead), Some(new)) = (&mut live.dead, &seen.new) {
        dead.promoted = earlier.promoting && !new.read_only;
    }
    Ok(Some(earlier))
}

/// Refuses what must not be. Returns the mode of the new primary.
fn judge(context: &Context, live: &mut Live<'_>, shows: bool) -> Result<Mode, (Exit, String)> {
    let Some(dead) = &mut live.dead else { return Ok(Mode::Off) };
    let facts =
        dead.facts(&mut live.new).map_err(|error| (Exit::Refused, format!("{}: {error}", live.new.entry.name)))?;
    let findings = check(&facts);
    let is_refused = worst(&findings) == Level::Failure;
    if shows || is_refused {
        context.console.findings(&format!("failover from {} to {}", facts.old, facts.new), &findings);
    }
    if is_refused {
        return Err((Exit::Refused, "nothing has changed".to_owned()));
    }
    Ok(facts.replica.map_or(Mode::Off, |server| server.seen.mode))
}

fn how(arguments: &Failover) -> How {
    How {
        max_pause: arguments.max_pause,
        attempts: 1,
        yes: arguments.yes,
        after_promotion: arguments.after_promotion.clone(),
        after: arguments.after.clone(),
        ..How::default()
    }
}

/// The server of the file from which a replica replicates, and its `server_id` if the replica has seen it.
fn primary_of(context: &Context, new: &Entry) -> Result<(Entry, u32), (Exit, String)> {
    let mut link = Link::new(new.clone(), false);
    let rows =
        link.rows("SHOW ALL SLAVES STATUS").map_err(|error| (Exit::Refused, format!("{}: {error}", new.name)))?;
    let [row] = rows.as_slice() else {
        let why = if rows.is_empty() { "does not replicate" } else { "replicates from several servers" };
        return Err((Exit::Refused, format!("{} {why}: name a replica of the primary that is dead", new.name)));
    };
    let address = format!("{}:{}", row.get("Master_Host"), row.get("Master_Port"));
    let is_it = |entry: &&Entry| entry.replication.is_at(&address);
    let id = row.get("Master_Server_Id").parse().unwrap_or_default();
    match context.servers.all().iter().find(is_it) {
        Some(entry) => Ok((entry.clone(), id)),
        None => Err((
            Exit::Refused,
            format!(
                "{} replicates from {address}, and no server in the file has that address: write its group, or set \
                 replication-host and replication-port in it",
                new.name
            ),
        )),
    }
}

fn record(live: &mut Live<'_>, without: &[String]) -> Record {
    let seen = live.read();
    let new = seen.new.as_ref();
    let (old_id, stand_in) = match &mut live.dead {
        Some(dead) => (dead.old_id, dead.stand_in.as_mut().and_then(|one| one.before().ok())),
        None => (0, None),
    };
    let started = live.new.started().unwrap_or_default();
    Record {
        id: id(),
        old: Named { name: live.old.entry.name.clone(), server_id: old_id, started: 0 },
        new: Named { name: live.new.entry.name.clone(), server_id: new.map_or(0, |server| server.server_id), started },
        way: Way {
            target: live.new.entry.target.to_string(),
            all: false,
            hold: false,
            reverse: false,
            no_longer_exempt: Vec::new(),
            replicas: live.dead.iter().flat_map(|dead| &dead.replicas).map(|link| link.entry.name.clone()).collect(),
        },
        before: Before { read_only: true, target: String::new(), hold_timeout: None, events: false, reverse: false },
        failover: Some(record::Failover { without: without.to_vec(), fenced: false, stand_in }),
        // What it writes from now on, it writes as the primary.
        position: new.map(|server| server.position.clone()),
        promoting: false,
        step: String::new(),
        by: who(),
    }
}

/// Finishes or undoes one that was interrupted.
pub(super) fn unfinished(context: &Context, record: Record, how: &How, goal: Goal) -> Ended {
    let [old, new] = pair::pair(context, &record.old.name, &record.new.name)?;
    let mut console = context.console.clone();
    let failover = record.failover.clone().unwrap_or_default();
    let mut dead = Dead::find(&context.servers, old.clone(), record.old.server_id, &new, failover.without);
    dead.fenced = failover.fenced;
    let mut live = live(context, &mut console, [old, new], how.options(MAX_PAUSE), Some(dead));
    let seen: Seen = live.look();
    if seen.new.as_ref().is_some_and(|server| server.server_id != record.new.server_id) {
        let why = format!(
            "{} is no longer the server with server_id {}: nothing is done",
            record.new.name, record.new.server_id
        );
        return Err((Exit::Refused, why));
    }
    let state = State::of(&seen, &record);
    context.console.say("state", &state.to_string());
    let is_promoted = state.promotion() == Promotion::Yes;
    let other = match (&live.dead, &seen.new) {
        // There is nothing that would make another one.
        (_, Some(new)) if is_promoted && !new.read_only => None,
        (Some(dead), new) => new.as_ref().and_then(|new| dead.beside(new)),
        _ => None,
    };
    let why = overtaken(&seen, &record).map(Overtaken::Elsewhere).or_else(|| other.map(Overtaken::By));
    if let Some(why) = why {
        return Err(is_overtaken(context, &record, why));
    }
    name_missing(context, &record, is_promoted, goal)?;
    if is_promoted && how.after_promotion.is_some() {
        let text = "the new primary is promoted: --after-promotion is not run; run it yourself if it has not been";
        context.console.say("warning", text);
    }
    if goal == Goal::Back && is_promoted {
        return Err((Exit::Refused, format!("{} is promoted: there is no way back; resume", record.new.name)));
    }
    if goal == Goal::Forward
        && !is_promoted
        && let Some(why) = live.dead.as_mut().and_then(Dead::lives)
    {
        let text =
            format!("{} may live: {why}. Go back: instant-failover back {0} {}", record.old.name, record.new.name);
        return Err((Exit::Refused, text));
    }
    let question = match goal {
        Goal::Back => format!("Go back, so that {} is a replica of {}?", record.new.name, record.old.name),
        _ => format!("Go on, so that {} is the primary? {} must be dead", record.new.name, record.old.name),
    };
    confirm(context, how.yes, &question)?;
    go(context, live, record, goal, 1)
}

/// Another machine may have begun it, and the file here lack replicas that it knew.
fn name_missing(context: &Context, record: &Record, is_promoted: bool, goal: Goal) -> Result<(), (Exit, String)> {
    let left_out = |name: &&String| record.failover.iter().any(|failover| failover.without.contains(name));
    let missing = record.way.replicas.iter().filter(|name| context.servers.get(name).is_err() && !left_out(name));
    let missing = missing.map(String::as_str).collect::<Vec<_>>().join(", ");
    if missing.is_empty() {
        return Ok(());
    }
    let why = format!("{missing} has no group in the file here, and had one where this failover began");
    if goal == Goal::Forward && !is_promoted {
        let why = format!("{why}; it may have received more than {}: write its group", record.new.name);
        return Err((Exit::Refused, why));
    }
    context.console.say("warning", &format!("{why}: it is left as it is"));
    Ok(())
}
