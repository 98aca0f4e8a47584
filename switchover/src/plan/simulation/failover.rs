//! A primary that is dead, its replicas, and a stand-in, on which everything goes wrong in every order.

use ::failover::Mode;
use proptest::prelude::*;

use super::super::drive::{End, Event, Failure, Limits, Rest, World, drive};
use super::super::failover::State;
use super::super::gtid::{Gtid, Position, Transactions};
use super::super::next::{Goal, Missing};
use super::super::record::{Failover, Record, StandInBefore};
use super::super::seen::{Around, Channel, Replica, Seen, Server, StandIn};
use super::super::state::Promotion;
use super::super::step::Step;
use super::TARGET;

const NEW: usize = 0;
const OTHER: usize = 1;
const LIMITS: Limits = Limits { attempts: 1, tries: 3 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Refused,
    LostBefore,
    LostAfter,
    /// A replica restarts: read only, and without what it had received and not applied.
    Restarts(usize),
    Dies(usize),
    Revives,
    /// The old primary answers again.
    OldReturns,
    OldDies,
    /// The SQL thread of a replica stops with an error.
    SqlFails(usize),
    /// The hold of the stand-in ends, or it is gone.
    HoldOver,
    StandInDies,
    NotSaved,
    Interrupted,
    Killed,
}

impl Fault {
    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            30 => Just(Self::None),
            2 => Just(Self::Refused),
            2 => Just(Self::LostBefore),
            2 => Just(Self::LostAfter),
            1 => (0..2_usize).prop_map(Self::Restarts),
            1 => (0..2_usize).prop_map(Self::Dies),
            2 => Just(Self::Revives),
            1 => Just(Self::OldReturns),
            1 => Just(Self::OldDies),
            1 => (0..2_usize).prop_map(Self::SqlFails),
            1 => Just(Self::HoldOver),
            1 => Just(Self::StandInDies),
            1 => Just(Self::NotSaved),
            1 => Just(Self::Interrupted),
            1 => Just(Self::Killed),
        ]
    }
}

/// A replica of the old primary.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Simulated {
    id: u32,
    up: bool,
    read_only: bool,
    /// What it has applied of the old primary.
    applied: u64,
    /// What it has received.
    received: u64,
    /// What it wrote itself.
    own: u64,
    receives: bool,
    applies: bool,
    source: Option<u32>,
    mode: Mode,
    note: String,
}

impl Simulated {
    fn new(id: u32, applied: u64, received: u64) -> Self {
        Self {
            id,
            up: true,
            read_only: true,
            applied,
            received: received.max(applied),
            own: 0,
            receives: true,
            applies: true,
            source: Some(1),
            mode: Mode::Off,
            note: String::new(),
        }
    }

    fn restart(&mut self) {
        self.up = true;
        self.read_only = true;
        self.received = self.applied;
        (self.receives, self.applies) = (self.source.is_some(), self.source.is_some());
        self.mode = Mode::Off;
        self.note.clear();
    }

    fn seen(&self) -> Server {
        let of_old = Gtid { domain: 0, server: 1, sequence: self.applied };
        let own = (self.own > 0).then(|| Gtid { domain: 0, server: self.id, sequence: self.applied + self.own });
        let state: Vec<_> = [Some(of_old), own].into_iter().flatten().map(|gtid| gtid.to_string()).collect();
        let received = Gtid { sequence: self.received, ..of_old };
        let channel = Channel {
            name: String::new(),
            source: self.source,
            address: String::new(),
            receives: self.receives,
            is_connected: false,
            received: [received].into_iter().collect(),
            applies: self.applies,
        };
        Server {
            server_id: self.id,
            read_only: self.read_only,
            position: [own.unwrap_or(of_old)].into_iter().collect(),
            transactions: Transactions::parse(&state.join(","), "").unwrap(),
            channels: self.source.map(|_| channel).into_iter().collect(),
            mode: self.mode,
            target: String::new(),
            note: self.note.clone(),
            events_run: true,
        }
    }
}

#[derive(Clone, Debug)]
struct Simulation {
    replicas: [Simulated; 2],
    stand_in: Option<StandIn>,
    old_answers: bool,
    /// What the new primary had written when it was promoted and its clients got answers.
    acknowledged: u64,
    file: Option<Record>,
    faults: Vec<Fault>,
    now: usize,
    dead: bool,
    interrupted: bool,
    history: Vec<String>,
}

impl Simulation {
    fn new(received: [(u64, u64); 2], faults: Vec<Fault>) -> Self {
        Self {
            replicas: [
                Simulated::new(2, received[0].0, received[0].1),
                Simulated::new(3, received[1].0, received[1].1),
            ],
            stand_in: Some(StandIn { mode: Mode::Off, target: String::new() }),
            old_answers: false,
            acknowledged: 0,
            file: None,
            faults,
            now: 0,
            dead: false,
            interrupted: false,
            history: Vec::new(),
        }
    }

    fn fault(&mut self) -> Fault {
        assert!(self.now < 3000, "it never ends: {:#?}", &self.history[..self.history.len().min(100)]);
        let fault = self.faults.get(self.now).copied().unwrap_or(Fault::None);
        self.now += 1;
        if fault != Fault::None {
            self.history.push(format!("{fault:?}"));
        }
        match fault {
            Fault::Restarts(n) => self.replicas[n].restart(),
            Fault::Dies(n) => self.replicas[n].up = false,
            Fault::Revives => self.replicas.iter_mut().filter(|one| !one.up).for_each(Simulated::restart),
            Fault::OldReturns => self.old_answers = true,
            Fault::OldDies => self.old_answers = false,
            Fault::SqlFails(n) => self.replicas[n].applies = false,
            Fault::HoldOver => {
                if let Some(one) = self.stand_in.as_mut().filter(|one| one.mode == Mode::Hold) {
                    one.mode = Mode::Off;
                }
            }
            Fault::StandInDies => self.stand_in = None,
            Fault::Interrupted => self.interrupted = true,
            Fault::Killed => self.dead = true,
            _ => {}
        }
        // Replicas apply; clients of the new primary write.
        for one in self.replicas.iter_mut().filter(|one| one.up && one.applies && one.source == Some(1)) {
            one.applied += u64::from(one.applied < one.received);
        }
        let new = &mut self.replicas[NEW];
        if new.up && !new.read_only {
            new.own += 1;
            self.acknowledged = new.own;
        }
        fault
    }

    fn execute(&mut self, step: Step, record: &Record) -> Result<Option<Position>, Failure> {
        let failed = |why: &str| Err(Failure(why.to_owned()));
        let left_out = |name: &str| record.failover.iter().any(|parts| parts.without.iter().any(|one| one == name));
        let is_everywhere = matches!(step, Step::Sever | Step::Receive);
        let other_up = self.replicas[OTHER].up;
        if !self.replicas[NEW].up || (is_everywhere && !other_up && !left_out("db3")) {
            return failed("it does not answer");
        }
        match step {
            Step::Begin | Step::Note => self.replicas[NEW].note = record.note(),
            Step::HoldAtStandIn | Step::RedirectAtStandIn => {
                let Some(one) = &mut self.stand_in else { return failed("no stand-in") };
                one.mode = if step == Step::HoldAtStandIn { Mode::Hold } else { Mode::On };
                one.target.clone_from(&record.way.target);
            }
            Step::ReleaseAtStandIn => self.stand_in = Some(StandIn { mode: Mode::Off, target: String::new() }),
            Step::Sever => {
                for one in self.replicas.iter_mut().filter(|one| one.up && one.source == Some(1)) {
                    if !one.applies && one.applied < one.received {
                        return failed("the SQL thread does not run");
                    }
                    one.receives = false;
                }
            }
            Step::Apply => {
                let new = &mut self.replicas[NEW];
                if new.receives || (!new.applies && new.applied < new.received) {
                    return failed("it cannot apply everything");
                }
                new.applied = new.received;
                return Ok(Some(new.seen().position));
            }
            Step::StopReplica => {
                let new = &mut self.replicas[NEW];
                (new.receives, new.applies) = (false, false);
            }
            Step::TakeOver | Step::Reopen => {
                self.replicas[NEW].note = record.note();
                if self.old_answers {
                    return failed("the old primary may live");
                }
                let new = &self.replicas[NEW];
                let is_active = new.receives || new.applies;
                if is_active || (step == Step::TakeOver && record.position != Some(new.seen().position)) {
                    return failed("it replicates again");
                }
                self.promote(step);
            }
            Step::Mark => self.replicas[NEW].own += 1,
            Step::Admit => self.replicas[NEW].mode = Mode::Off,
            Step::Repoint => {
                if !other_up {
                    return failed("a replica does not answer");
                }
                self.replicas[OTHER].source = Some(2);
                (self.replicas[OTHER].receives, self.replicas[OTHER].applies) = (true, true);
            }
            Step::Detach => {
                let new = &mut self.replicas[NEW];
                if new.receives || new.applies {
                    return failed("it replicates");
                }
                new.source = None;
            }
            Step::Receive => {
                for one in self.replicas.iter_mut().filter(|one| one.up && one.source == Some(1) && !one.receives) {
                    if !one.applies && one.applied < one.received {
                        return failed("it would discard what was received");
                    }
                    one.receives = true;
                    one.applies = true;
                }
            }
            Step::Finish | Step::Forget => {
                self.replicas[NEW].note.clear();
                self.file = None;
            }
            _ => panic!("{step} is no step of a failover"),
        }
        Ok(None)
    }

    fn promote(&mut self, step: Step) {
        let [new, other] = &mut self.replicas;
        if step == Step::TakeOver {
            assert_eq!(new.applied, new.received, "promoted without what it received: {:#?}", self.history);
            assert!(!other.up || other.received <= new.applied, "promoted with less: {:#?}", self.history);
        }
        assert!(!new.receives, "promoted while it receives: {:#?}", self.history);
        new.read_only = false;
    }

    /// Begins a failover.
    fn begin(&mut self) -> Option<End> {
        let record = self.record();
        self.go(record, Goal::Forward)
    }

    /// Resumes it, or goes back, from a machine that has the file or not. `None` if it finds nothing that is unfinished, or
    /// is killed.
    fn again(&mut self, goal: Goal, other_machine: bool) -> Option<End> {
        let note = Record::from_note(&self.replicas[NEW].note).filter(|_| self.replicas[NEW].up);
        let file = self.file.clone().filter(|_| !other_machine);
        let known = file.into_iter().chain(note.clone()).next();
        self.history.push(format!("{goal:?}, other machine: {other_machine}"));
        self.go(known?.merged(note), goal)
    }

    fn go(&mut self, mut record: Record, goal: Goal) -> Option<End> {
        (self.dead, self.interrupted) = (false, false);
        let end = drive(self, &mut record, goal, LIMITS);
        self.history.push(format!("{end:?}"));
        if self.dead {
            return None;
        }
        let [new, other] = &self.replicas;
        match &end {
            End::Done(left_out) => {
                assert!(new.up && !new.read_only && new.mode == Mode::Off, "no primary: {:#?}", self.history);
                assert!(new.own >= self.acknowledged, "writes are lost: {:#?}", self.history);
                if left_out.is_empty() {
                    assert!(new.source.is_none() && new.note.is_empty(), "not finished: {:#?}", self.history);
                    assert_eq!(other.source, Some(2), "not repointed: {:#?}", self.history);
                    let leads = |one: &StandIn| one.mode == Mode::On && one.target == TARGET;
                    assert!(self.stand_in.as_ref().is_none_or(leads), "not redirected: {:#?}", self.history);
                }
            }
            End::Back(_, left_out) => {
                assert!(!new.up || new.read_only, "writable: {:#?}", self.history);
                assert_eq!(new.own, 0, "went back after the promotion: {:#?}", self.history);
                if left_out.is_empty() && new.up {
                    let is_off = |one: &StandIn| one.mode == Mode::Off && one.target.is_empty();
                    assert!(self.stand_in.as_ref().is_none_or(is_off), "clients wait: {:#?}", self.history);
                    assert!(new.receives, "it does not receive: {:#?}", self.history);
                }
            }
            End::Diverged(_) => panic!("nothing can diverge: {:#?}", self.history),
            End::TooLate | End::Halfway(_) => {}
        }
        Some(end)
    }

    fn record(&self) -> Record {
        let seen = self.replicas[NEW].seen();
        Record {
            failover: Some(Failover {
                without: Vec::new(),
                fenced: false,
                stand_in: Some(StandInBefore { mode: Mode::Off, hold_timeout: 10, target: String::new() }),
            }),
            position: Some(seen.position),
            ..super::record()
        }
    }

    fn is_promoted(&self) -> bool {
        let seen = Seen { new: Some(self.replicas[NEW].seen()), ..Seen::default() };
        let record = self.file.clone().unwrap_or_else(|| Record { position: None, ..self.record() });
        State::of(&seen, &record).promotion() == Promotion::Yes
    }
}

impl World for Simulation {
    fn look(&mut self) -> Seen {
        self.fault();
        if self.dead {
            return Seen::default();
        }
        let [new, other] = &self.replicas;
        let replica = Replica { name: "db3".to_owned(), server: other.up.then(|| other.seen()), is_taken: false };
        Seen {
            old: None,
            new: new.up.then(|| new.seen()),
            around: Around { replicas: vec![replica], stand_in: self.stand_in.clone() },
        }
    }

    fn problem(&self, missing: Missing) -> String {
        format!("{missing:?} is down")
    }

    fn fence(&self) -> Option<Position> {
        None
    }

    fn save(&mut self, record: &Record) -> Result<(), String> {
        if self.fault() == Fault::NotSaved || self.dead {
            return Err("disk full".to_owned());
        }
        self.file = Some(record.clone());
        Ok(())
    }

    fn take(&mut self, step: Step, record: &Record) -> Result<Option<Position>, Failure> {
        let fault = self.fault();
        if self.dead {
            return Err(Failure("killed".to_owned()));
        }
        self.history.push(step.to_string());
        match fault {
            Fault::Refused | Fault::LostBefore => Err(Failure(format!("{fault:?}"))),
            Fault::LostAfter => {
                let _ = self.execute(step, record);
                Err(Failure("connection lost".to_owned()))
            }
            _ => self.execute(step, record),
        }
    }

    fn rest(&mut self, _: Rest) {
        self.fault();
    }

    fn interrupted(&mut self) -> Option<String> {
        std::mem::take(&mut self.interrupted).then(|| "SIGTERM".to_owned())
    }

    fn tell(&mut self, event: Event<'_>) {
        if let Event::Turns(..) | Event::GoesOn(_) = event {
            self.history.push(format!("{event:?}"));
        }
    }
}

#[test]
fn nothing_goes_wrong() {
    let mut simulation = Simulation::new([(5, 9), (7, 8)], Vec::new());
    assert_eq!(simulation.begin(), Some(End::Done(Vec::new())), "{:#?}", simulation.history);
    assert!(simulation.acknowledged > 0);
}

#[test]
fn the_one_with_less_is_not_promoted() {
    let mut simulation = Simulation::new([(5, 9), (7, 10)], Vec::new());
    let end = simulation.begin();
    assert!(matches!(&end, Some(End::Back(why, _)) if why.contains("db3 has 0-1-10")), "{end:?}");
}

#[test]
fn each_step_fails_once() {
    let faults = [
        Fault::Refused,
        Fault::LostBefore,
        Fault::LostAfter,
        Fault::NotSaved,
        Fault::Killed,
        Fault::Interrupted,
        Fault::StandInDies,
    ];
    for fault in faults {
        for at in 0..50 {
            for goal in [Goal::Forward, Goal::Back] {
                for other_machine in [false, true] {
                    let mut faults = vec![Fault::None; at];
                    faults.push(fault);
                    let mut simulation = Simulation::new([(5, 9), (7, 8)], faults);
                    simulation.begin();
                    simulation.faults.clear();
                    let end = simulation.again(goal, other_machine);
                    let expected = match end {
                        None => simulation.file.is_none() || other_machine,
                        Some(End::Done(_)) => goal == Goal::Forward,
                        Some(End::Back(..) | End::TooLate) => goal == Goal::Back,
                        _ => false,
                    };
                    assert!(expected, "{fault:?} at {at}: {:#?}", simulation.history);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn everything_fails(
        received in prop::array::uniform2((1..8_u64, 1..12_u64)),
        first in prop::collection::vec(Fault::any(), 0..60),
        second in prop::collection::vec(Fault::any(), 0..40),
        goals in prop::collection::vec((prop_oneof![Just(Goal::Forward), Just(Goal::Back)], any::<bool>()), 2),
        led_back: bool,
    ) {
        let mut simulation = Simulation::new(received, first);
        if led_back {
            simulation.replicas[NEW].mode = Mode::On;
        }
        simulation.begin();
        (simulation.faults, simulation.now) = (second, 0);
        let (goal, other_machine) = goals[0];
        simulation.again(goal, other_machine);

        // Now everything works, and the old primary is dead.
        (simulation.faults, simulation.now) = (vec![Fault::Revives, Fault::OldDies], 0);
        let (goal, other_machine) = goals[1];
        let was_promoted = simulation.replicas[NEW].up && simulation.is_promoted();
        let end = simulation.again(goal, other_machine);
        match end {
            Some(End::Back(..)) => prop_assert!(!was_promoted, "went back after the promotion"),
            // Nothing is unfinished.
            Some(End::Done(_)) | None => {}
            Some(End::TooLate) => {
                let end = simulation.again(Goal::Forward, other_machine);
                prop_assert!(matches!(end, Some(End::Done(_))), "{end:?}");
            }
            end => prop_assert!(false, "{end:?}: {:#?}", simulation.history),
        }
    }
}
