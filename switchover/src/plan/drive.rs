//! The loop: look, decide, write down, do.

use std::fmt;

use super::gtid::Position;
use super::next::{Goal, Missing, Next, Own, has_note, next};
use super::record::Record;
use super::seen::Seen;
use super::state::{Divergence, Promotion};
use super::step::Step;

/// The servers, and the file with the record.
pub trait World {
    /// What both servers show. A server that is shown executes nothing that this switchover has sent before: a connection whose
    /// answer was lost is known to have ended there.
    fn look(&mut self) -> Seen;

    /// Why a server that was not shown does not answer.
    fn problem(&self, missing: Missing) -> String;

    /// The position under the lock, if this process holds it now.
    fn fence(&self) -> Option<Position>;

    /// Writes the record down, so that it survives a crash.
    ///
    /// # Errors
    /// Why it could not.
    fn save(&mut self, record: &Record) -> Result<(), String>;

    /// Takes a step. [`Step::Fence`] returns the position.
    ///
    /// # Errors
    /// Whether it may have taken effect, and why it failed.
    fn take(&mut self, step: Step, record: &Record) -> Result<Option<Position>, Failure>;

    /// Waits before it goes on. A signal ends the wait.
    fn rest(&mut self, why: Rest);

    /// The signal that this process got, if it got one since it was asked last.
    fn interrupted(&mut self) -> Option<String>;

    /// Reports.
    fn tell(&mut self, event: Event<'_>);
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

/// Why to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// A server does not answer, or refused.
    Retry,
    /// Before the next attempt, clients get time.
    NextAttempt,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A step begins.
    Begins(Step),
    /// A step succeeded.
    Succeeded(Step),
    /// A step failed.
    Failed(Step, &'a str),
    /// It goes back, or to the beginning of another attempt.
    Turns(Goal, &'a str),
    /// A signal came after the promotion: it goes on.
    GoesOn(&'a str),
    /// A server does not answer, and why. It is said again only when the reason has changed.
    Waits(Missing, &'a str),
    /// The record could not be written, when that no longer stops it.
    NotSaved(&'a str),
}

/// A step that was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The step.
    pub step: Step,
    /// Why it failed.
    pub why: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.why)
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The new primary is promoted, and everything is done. What failed without harm to clients is listed.
    Done(Vec<LeftOut>),
    /// Everything is as before, and why. What could not be restored is listed: nothing that keeps clients from writing.
    Back(String, Vec<LeftOut>),
    /// Going back was asked for, and the new primary is promoted.
    TooLate,
    /// It stopped on the way, and why. No server accepts writes that did not before, except a new primary that was promoted.
    Halfway(String),
    /// Nothing may be changed any more.
    Diverged(Divergence),
}

/// How often things are tried.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Attempts to drain, fence and catch up.
    pub attempts: u32,
    /// Tries of a step that must not be left out, and looks at a server that does not answer.
    pub tries: u32,
}

/// Tries of [`Step::Repoint`].
const REPOINT_TRIES: u32 = 3;

/// The most steps.
const MAX_STEPS: u32 = 5000;

/// Goes to a goal.
pub fn drive(world: &mut impl World, record: &mut Record, goal: Goal, limits: Limits) -> End {
    let asked_back = goal == Goal::Back;
    let why = if asked_back { "as you asked".to_owned() } else { String::new() };
    let mut run = Run {
        world,
        goal,
        own: Own::default(),
        why,
        left_out: Vec::new(),
        attempts: limits.attempts,
        failures: 0,
        waited: 0,
        problem: None,
        repeated: 0,
    };
    // Each attempt has some twenty steps, and failures are counted: this is only met if the servers change all the time.
    for _ in 0..MAX_STEPS {
        let seen = run.world.look();
        run.own.fence = run.world.fence();
        run.own.found_note |= seen.old.as_ref().is_some_and(|old| has_note(old, record));
        let promotion = Promotion::of(&seen, record);
        if promotion == Promotion::No {
            // It is certain that the promotion did not take effect.
            record.promoting = false;
        }
        // It may have come back writable without this step.
        let is_promoted = promotion == Promotion::Yes;
        record.promoting |= is_promoted;
        if let Some(signal) = run.world.interrupted() {
            match run.goal {
                Goal::Forward if is_promoted => run.world.tell(Event::GoesOn(&signal)),
                // Whether it is promoted is not known: look again.
                Goal::Forward if record.promoting => run.turn(Goal::Back, signal),
                Goal::Forward | Goal::Again => run.turn(Goal::Back, signal),
                Goal::Back => {}
            }
        }
        let decision = next(run.goal, &seen, record, &run.own);
        if !matches!(decision, Next::Await(_)) {
            run.waited = 0;
        }
        match decision {
            Next::Take(step) => {
                if let Err(end) = run.take(step, record, is_promoted, limits) {
                    return end;
                }
            }
            Next::Arrived => match run.goal {
                Goal::Forward => return End::Done(run.left_out),
                Goal::Back => return End::Back(run.why, run.left_out),
                Goal::Again => {
                    run.own.done.retain(|step| *step == Step::Begin);
                    run.goal = Goal::Forward;
                    run.world.rest(Rest::NextAttempt);
                }
            },
            Next::Fails(why) => run.attempt_failed(true, why),
            Next::Abandon(why) => run.attempt_failed(false, why),
            Next::TooLate if asked_back => return End::TooLate,
            Next::TooLate => run.goal = Goal::Forward,
            Next::Diverged(divergence) => return End::Diverged(divergence),
            Next::Overtaken(why) => return End::Halfway(why),
            // As long as it cannot have been promoted, the old primary does not wait for it.
            Next::Await(Missing::New) if run.goal == Goal::Forward && !record.promoting => {
                run.turn(Goal::Back, "the new primary does not answer".to_owned());
            }
            Next::Await(missing) => {
                if run.waited >= limits.tries {
                    return End::Halfway(match missing {
                        Missing::Old => "the old primary does not answer".to_owned(),
                        Missing::New => "the new primary does not answer".to_owned(),
                    });
                }
                let problem = Some((missing, run.world.problem(missing)));
                if let Some((missing, why)) = problem.as_ref().filter(|_| run.waited == 0 || problem != run.problem) {
                    run.world.tell(Event::Waits(*missing, why));
                }
                run.problem = problem;
                run.waited += 1;
                run.world.rest(Rest::Retry);
            }
        }
    }
    End::Halfway("it does not come to an end: does something else change the servers?".to_owned())
}

struct Run<'a, W> {
    world: &'a mut W,
    goal: Goal,
    own: Own,
    why: String,
    left_out: Vec<LeftOut>,
    attempts: u32,
    failures: u32,
    /// Looks at a server that did not answer, in a row.
    waited: u32,
    /// Why it did not, the last time.
    problem: Option<(Missing, String)>,
    /// How often the last step was taken again, after it had succeeded.
    repeated: u32,
}

impl<W: World> Run<'_, W> {
    fn turn(&mut self, goal: Goal, why: String) {
        self.world.tell(Event::Turns(goal, &why));
        self.goal = goal;
        self.why = why;
        self.failures = 0;
    }

    /// Nothing is promoted, and this attempt will not succeed.
    fn attempt_failed(&mut self, may_be_tried_again: bool, why: String) {
        if may_be_tried_again && self.attempts > 1 {
            self.attempts -= 1;
            self.turn(Goal::Again, why);
        } else {
            self.turn(Goal::Back, why);
        }
    }

    fn take(&mut self, step: Step, record: &mut Record, is_promoted: bool, limits: Limits) -> Result<(), End> {
        let before = self.goal == Goal::Forward && !is_promoted;
        let promoting = record.promoting;
        record.promoting |= step.promotes();
        step.text().clone_into(&mut record.step);
        // These remove the record, and are the last.
        let is_recorded = !matches!(step, Step::Finish | Step::Forget);
        if is_recorded {
            self.own.done.retain(|done| !matches!(done, Step::Finish | Step::Forget));
        }
        if let Some(why) = is_recorded.then(|| self.world.save(record)).and_then(Result::err) {
            if before {
                record.promoting = promoting;
                self.attempt_failed(false, why);
                return Ok(());
            }
            self.world.tell(Event::NotSaved(&why));
        }
        self.world.tell(Event::Begins(step));
        let taken = self.world.take(step, record);
        // If it is decided again, it had no effect.
        let has_effect = self.own.done.last() != Some(&step) || self.repeated < limits.tries;
        match taken {
            Ok(_) if !has_effect => {
                self.failed(step, "it succeeded, and changed nothing".to_owned(), before, is_promoted, limits)
            }
            Ok(position) => {
                self.world.tell(Event::Succeeded(step));
                record.position = position.or(record.position.take());
                match step {
                    // Clients may have come in before.
                    Step::Redirect => self.own.done.retain(|done| *done != Step::Disconnect),
                    // It turns the scheduler off.
                    Step::CloseOld => self.own.done.retain(|done| *done != Step::MoveEvents),
                    // More may have been received before.
                    Step::Sever => self.own.done.retain(|done| *done != Step::Apply),
                    _ => {}
                }
                self.repeated = if self.own.done.last() == Some(&step) { self.repeated + 1 } else { 0 };
                self.own.done.push(step);
                self.failures = 0;
                Ok(())
            }
            Err(Failure(why)) => self.failed(step, why, before, is_promoted, limits),
        }
    }

    fn failed(&mut self, step: Step, why: String, before: bool, is_promoted: bool, limits: Limits) -> Result<(), End> {
        self.world.tell(Event::Failed(step, &why));
        if before && step.may_be_left_out() {
            self.leave_out(step, why);
            return Ok(());
        }
        if before {
            match self.world.interrupted() {
                // That is why it failed: there is no other attempt.
                Some(signal) => self.turn(Goal::Back, signal),
                None => self.attempt_failed(step.may_be_tried_again(), why),
            }
            return Ok(());
        }
        self.failures += 1;
        // Each try may take as long as servers that hang let it, and what follows waits.
        let tries = if step == Step::Repoint { limits.tries.min(REPOINT_TRIES) } else { limits.tries };
        if self.failures < tries && self.repeated < limits.tries {
            self.world.rest(Rest::Retry);
            return Ok(());
        }
        (self.failures, self.repeated) = (0, 0);
        let may_fail = if is_promoted { step.may_fail_after_promotion() } else { step.may_fail_going_back() };
        if !may_fail {
            return Err(End::Halfway(format!("{step}: {why}")));
        }
        self.leave_out(step, why);
        Ok(())
    }

    fn leave_out(&mut self, step: Step, why: String) {
        self.own.skipped.push(step);
        self.left_out.push(LeftOut { step, why });
    }
}
