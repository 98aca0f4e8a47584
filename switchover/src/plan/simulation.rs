//! Two servers with an application, on which everything goes wrong in every order.

mod failover;

use std::collections::{BTreeMap, BTreeSet};

use ::failover::Mode;
use proptest::prelude::*;

use super::drive::{End, Event, Failure, Limits, Rest, World, drive};
use super::gtid::{Gtid, Position, Transactions};
use super::next::{Goal, Missing};
use super::record::{Before, Named, Record, Way};
use super::seen::{Channel, Seen, Server};
use super::state::State;
use super::step::Step;

const OLD: usize = 0;
const NEW: usize = 1;
const TARGET: &str = "db2:3306";
const LIMITS: Limits = Limits { attempts: 2, tries: 3 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The server refuses the statement.
    Refused,
    /// The connection is lost before the statement arrives.
    LostBefore,
    /// It is lost, and the statement takes effect.
    LostAfter,
    /// It is lost, and the statement takes effect later.
    LostPending,
    /// The session that holds the lock is killed.
    FenceLost,
    /// `instant_failover_hold_timeout` passes.
    HoldOver,
    /// A server restarts with the `read_only` of its option file.
    Restarts(usize),
    /// A server restarts writable.
    RestartsWritable(usize),
    /// A server does not answer any more.
    Dies(usize),
    /// The servers that do not answer come back.
    Revives,
    /// A disk is full.
    NotSaved,
    Interrupted,
    /// This process is killed.
    Killed,
}

impl Fault {
    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            30 => Just(Self::None),
            2 => Just(Self::Refused),
            2 => Just(Self::LostBefore),
            2 => Just(Self::LostAfter),
            2 => Just(Self::LostPending),
            1 => Just(Self::FenceLost),
            1 => Just(Self::HoldOver),
            1 => (0..2_usize).prop_map(Self::Restarts),
            1 => (0..2_usize).prop_map(Self::RestartsWritable),
            1 => (0..2_usize).prop_map(Self::Dies),
            2 => Just(Self::Revives),
            1 => Just(Self::NotSaved),
            1 => Just(Self::Interrupted),
            1 => Just(Self::Killed),
        ]
    }
}

/// A server.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Simulated {
    id: u32,
    up: bool,
    read_only: bool,
    locked: bool,
    log: Vec<Gtid>,
    channel: Option<Channel>,
    mode: Mode,
    target: String,
    note: String,
    events: bool,
}

impl Simulated {
    fn new(id: u32) -> Self {
        Self {
            id,
            up: true,
            read_only: id == 2,
            locked: false,
            log: vec![Gtid { domain: 0, server: 1, sequence: 1 }],
            channel: (id == 2).then(|| running(1)),
            mode: Mode::Off,
            target: String::new(),
            note: String::new(),
            events: true,
        }
    }

    fn restart(&mut self, read_only: bool) {
        self.up = true;
        self.read_only = read_only;
        self.locked = false;
        self.mode = Mode::Off;
        self.target.clear();
        self.note.clear();
        self.events = true;
        self.start_replication();
    }

    fn start_replication(&mut self) {
        if let Some(channel) = &mut self.channel {
            (channel.receives, channel.applies) = (true, true);
        }
    }

    fn stop_replication(&mut self) {
        if let Some(channel) = &mut self.channel {
            (channel.receives, channel.applies) = (false, false);
        }
    }

    fn last(&self) -> u64 {
        self.log.iter().map(|gtid| gtid.sequence).max().unwrap_or_default()
    }

    fn write(&mut self) -> Gtid {
        let gtid = Gtid { domain: 0, server: self.id, sequence: self.last() + 1 };
        self.log.push(gtid);
        gtid
    }

    fn position(&self) -> Position {
        self.log.last().copied().into_iter().collect()
    }

    fn has_all_of(&self, other: &Self) -> bool {
        other.log.iter().all(|gtid| self.log.contains(gtid))
    }

    fn seen(&self) -> Server {
        let mut written = BTreeMap::new();
        for gtid in &self.log {
            written.insert(gtid.server, *gtid);
        }
        let state: Vec<_> = written.values().map(ToString::to_string).collect();
        Server {
            server_id: self.id,
            read_only: self.read_only,
            position: self.position(),
            transactions: Transactions::parse(&state.join(","), "").unwrap(),
            channels: self.channel.iter().cloned().collect(),
            mode: self.mode,
            target: self.target.clone(),
            note: self.note.clone(),
            events_run: self.events,
        }
    }
}

fn running(from: u32) -> Channel {
    Channel {
        name: String::new(),
        source: Some(from),
        address: String::new(),
        receives: true,
        is_connected: true,
        received: Position::default(),
        applies: true,
    }
}

/// Everything.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Simulation {
    servers: [Simulated; 2],
    /// Whether this process holds the lock.
    fence: Option<Position>,
    /// A statement that a server has received and not executed.
    pending: Option<Step>,
    file: Option<Record>,
    faults: Vec<Fault>,
    now: usize,
    dead: bool,
    interrupted: bool,
    /// Whether clients have sessions on the old primary.
    sessions: bool,
    acknowledged: BTreeSet<Gtid>,
    /// Whether something happened after which no command can help: a server restarted writable, or somebody wrote to the old
    /// primary in spite of `read_only`.
    beyond_help: bool,
    /// Whether somebody calls a procedure whose definer is root.
    privileged: bool,
    /// Whether no client writes.
    idle: bool,
    record: Option<Record>,
    history: Vec<String>,
}

impl Simulation {
    fn new(faults: Vec<Fault>) -> Self {
        Self {
            servers: [Simulated::new(1), Simulated::new(2)],
            fence: None,
            pending: None,
            file: None,
            faults,
            now: 0,
            dead: false,
            interrupted: false,
            sessions: true,
            acknowledged: BTreeSet::new(),
            beyond_help: false,
            privileged: true,
            idle: false,
            record: None,
            history: Vec::new(),
        }
    }

    /// The next fault, after whatever happens meanwhile.
    fn fault(&mut self) -> Fault {
        assert!(self.now < 3000, "it never ends: {:#?}", &self.history[..self.history.len().min(100)]);
        let fault = self.faults.get(self.now).copied().unwrap_or(Fault::None);
        self.now += 1;
        if fault != Fault::None {
            self.history.push(format!("{fault:?}"));
        }
        match fault {
            Fault::FenceLost => self.lose_fence(),
            Fault::HoldOver => self.hold_over(),
            Fault::Restarts(n) => self.restart(n, true),
            Fault::RestartsWritable(n) => {
                self.beyond_help = true;
                self.restart(n, false);
            }
            Fault::Dies(n) => {
                if n == OLD {
                    self.lose_fence();
                }
                self.servers[n].up = false;
            }
            Fault::Revives => (0..2)
                .filter(|&n| !self.servers[n].up)
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|n| self.restart(n, true)),
            Fault::Interrupted => self.interrupted = true,
            Fault::Killed => {
                self.dead = true;
                self.lose_fence();
            }
            _ => {}
        }
        self.clients_work();
        fault
    }

    fn restart(&mut self, n: usize, read_only: bool) {
        if n == OLD {
            self.lose_fence();
            self.sessions = true;
        }
        self.servers[n].restart(read_only);
    }

    fn lose_fence(&mut self) {
        self.servers[OLD].locked = false;
        self.fence = None;
    }

    fn hold_over(&mut self) {
        if self.servers[OLD].mode == Mode::Hold {
            self.servers[OLD].mode = Mode::Off;
        }
    }

    fn clients_work(&mut self) {
        let [old, new] = &mut self.servers;
        let on_old = self.sessions || old.mode == Mode::Off;
        if on_old && old.up && !old.locked && !self.idle {
            if !old.read_only {
                self.acknowledged.insert(old.write());
            } else if self.privileged && self.now.is_multiple_of(5) {
                let was_primary = new.log.iter().any(|gtid| gtid.server == new.id);
                self.beyond_help |= !new.read_only || !replicates(new, old) || was_primary;
                self.acknowledged.insert(old.write());
            }
        }
        if old.mode == Mode::On && new.up && !new.read_only && new.mode == Mode::Off {
            self.acknowledged.insert(new.write());
        }
        self.replicate(NEW, OLD);
        self.replicate(OLD, NEW);
    }

    fn replicate(&mut self, to: usize, from: usize) {
        let source = self.servers[from].clone();
        let replica = &mut self.servers[to];
        if !replicates(replica, &source) || !source.up || !replica.up || replica.locked {
            return;
        }
        for gtid in source.log {
            if gtid.server == replica.id || replica.log.contains(&gtid) {
                continue;
            }
            if gtid.sequence <= replica.last() {
                // gtid_strict_mode
                if let Some(channel) = &mut replica.channel {
                    channel.applies = false;
                }
                return;
            }
            replica.log.push(gtid);
        }
    }

    /// On which servers a step needs an answer.
    fn needs(step: Step) -> &'static [usize] {
        match step {
            Step::Begin
            | Step::Note
            | Step::Promote
            | Step::AwaitMark
            | Step::MoveEvents
            | Step::Attach
            | Step::Finish => &[OLD, NEW],
            Step::CatchUp
            | Step::StopReplica
            | Step::Mark
            | Step::Admit
            | Step::Detach
            | Step::StartReplica
            | Step::Reopen => &[NEW],
            _ => &[OLD],
        }
    }

    /// What the statements of a step do.
    fn execute(&mut self, step: Step, record: &Record) -> Result<Option<Position>, Failure> {
        let failed = |why: &str| Err(Failure(why.to_owned()));
        if let Some(n) = Self::needs(step).iter().find(|&&n| !self.servers[n].up) {
            return failed(&format!("server {n} is down"));
        }
        match step {
            Step::Begin | Step::Note => self.servers.iter_mut().for_each(|server| server.note = record.note()),
            Step::Prepare | Step::Attach => self.servers[OLD].channel = Some(running(2)),
            Step::Aim => self.servers[OLD].target.clone_from(&record.way.target),
            Step::Hold => self.servers[OLD].mode = Mode::Hold,
            Step::Drain | Step::Repoint => {}
            Step::Fence => {
                let old = &mut self.servers[OLD];
                (old.locked, old.read_only, old.events) = (true, true, false);
                self.fence = Some(old.position());
                return Ok(self.fence.clone());
            }
            Step::CatchUp => {
                self.replicate(NEW, OLD);
                if !self.servers[NEW].has_all_of(&self.servers[OLD]) {
                    return failed("not in time");
                }
            }
            Step::StopReplica => self.servers[NEW].stop_replication(),
            Step::Promote => {
                let [old, new] = &mut self.servers;
                if self.fence.as_ref() != Some(&old.position()) || !old.read_only || !old.locked {
                    return failed("the gate is closed");
                }
                for server in [&mut *old, &mut *new] {
                    server.note = record.note();
                }
                assert!(new.has_all_of(old), "promoted without {:?}", old.log);
                new.read_only = false;
            }
            Step::Reopen => {
                let [old, new] = &mut self.servers;
                assert!(!old.up || old.read_only || self.beyond_help, "reopened beside a primary");
                new.read_only = false;
            }
            Step::CloseOld => (self.servers[OLD].read_only, self.servers[OLD].events) = (true, false),
            Step::Mark => drop(self.servers[NEW].write()),
            Step::Admit => self.servers[NEW].mode = Mode::Off,
            Step::Redirect => {
                self.servers[OLD].target.clone_from(&record.way.target);
                self.servers[OLD].mode = record.way.mode();
            }
            Step::Disconnect => self.sessions = false,
            Step::Unlock => self.lose_fence(),
            Step::AwaitMark => {
                self.replicate(OLD, NEW);
                if !self.servers[OLD].has_all_of(&self.servers[NEW]) {
                    return failed("no mark");
                }
            }
            Step::Detach => self.servers[NEW].channel = None,
            Step::MoveEvents => (self.servers[OLD].events, self.servers[NEW].events) = (true, true),
            Step::Finish | Step::Forget => {
                self.servers.iter_mut().filter(|server| server.up).for_each(|server| server.note.clear());
                self.file = None;
                if self.servers.iter().any(|server| !server.up) {
                    return failed("a note is left");
                }
            }
            Step::Unfence => {
                self.servers[OLD].read_only = record.before.read_only;
                self.servers[OLD].events = record.before.events;
                self.lose_fence();
            }
            Step::Release => self.servers[OLD].mode = Mode::Off,
            Step::StartReplica => self.servers[NEW].start_replication(),
            Step::Unaim => self.servers[OLD].target.clone_from(&record.before.target),
            Step::Unprepare => self.servers[OLD].channel = None,
            Step::HoldAtStandIn
            | Step::Sever
            | Step::Apply
            | Step::TakeOver
            | Step::RedirectAtStandIn
            | Step::ReleaseAtStandIn
            | Step::Receive => panic!("{step} is no step of a switchover"),
        }
        Ok(None)
    }

    fn check(&self) {
        let [old, new] = &self.servers;
        let two = old.up && new.up && !old.read_only && !new.read_only;
        assert!(!two || self.beyond_help, "two primaries");
    }

    /// Runs the command once, from a machine that has the file or not.
    fn run(&mut self, goal: Goal, other_machine: bool) -> Option<End> {
        self.dead = false;
        self.interrupted = false;
        let notes: Vec<_> = self
            .servers
            .iter()
            .filter(|server| server.up)
            .filter_map(|server| Record::from_note(&server.note))
            .collect();
        let file = self.file.clone().filter(|_| !other_machine);
        let known = file.into_iter().chain(notes.iter().cloned()).next();
        let mut record = known.map_or_else(record, |known| known.merged(notes));
        self.history.push(format!("{goal:?}, other machine: {other_machine}"));
        let end = drive(self, &mut record, goal, LIMITS);
        self.history.push(format!("{end:?}"));
        self.check();
        let killed = self.dead;
        self.lose_fence();
        self.record = Some(record);
        if killed {
            return None;
        }
        self.check_end(&end);
        Some(end)
    }

    fn check_end(&self, end: &End) {
        let [old, new] = &self.servers;
        let has_all = |server: &Simulated| self.acknowledged.iter().all(|gtid| server.log.contains(gtid));
        match end {
            End::Done(left_out) => {
                assert!(new.up && !new.read_only && new.mode == Mode::Off, "no primary: {:#?}", self.history);
                assert!(
                    old.read_only && old.mode == Mode::On && old.target == TARGET,
                    "clients do not reach it: {:#?}",
                    self.history
                );
                assert!(has_all(new), "writes are lost: {:#?}", self.history);
                if left_out.is_empty() {
                    assert!(
                        old.note.is_empty() && new.note.is_empty() && self.file.is_none(),
                        "something is left behind: {:#?}",
                        self.history
                    );
                    assert!(new.channel.is_none() && replicates(old, new), "not reversed: {:#?}", self.history);
                    assert!(old.events && new.events, "no event scheduler: {:#?}", self.history);
                }
            }
            End::Back(_, left_out) => {
                assert!(
                    !old.read_only && !old.locked && old.mode == Mode::Off,
                    "clients cannot write: {:#?}",
                    self.history
                );
                assert!(
                    !new.up || new.read_only || self.beyond_help,
                    "the new primary is writable: {:#?}",
                    self.history
                );
                assert!(has_all(old), "writes are lost: {:#?}", self.history);
                if left_out.is_empty() && new.up {
                    assert!(
                        old.note.is_empty() && new.note.is_empty() && self.file.is_none(),
                        "something is left behind: {:#?}",
                        self.history
                    );
                    assert!(
                        old.target.is_empty() && old.channel.is_none() && old.events,
                        "not as before: {:#?}",
                        self.history
                    );
                    assert!(replicates(new, old) || !new.up, "replication is not as before: {:#?}", self.history);
                }
            }
            End::Diverged(_) => assert!(self.beyond_help, "diverged by our doing: {:#?}", self.history),
            End::TooLate | End::Halfway(_) => {}
        }
    }
}

fn replicates(replica: &Simulated, source: &Simulated) -> bool {
    replica.channel.as_ref().is_some_and(|channel| channel.source == Some(source.id) && channel.runs())
}

fn record() -> Record {
    Record {
        id: "1".to_owned(),
        old: Named { name: "db1".to_owned(), server_id: 1, started: 0 },
        new: Named { name: "db2".to_owned(), server_id: 2, started: 0 },
        way: Way {
            target: TARGET.to_owned(),
            all: false,
            hold: true,
            reverse: true,
            no_longer_exempt: Vec::new(),
            replicas: Vec::new(),
        },
        before: Before {
            read_only: false,
            target: String::new(),
            hold_timeout: Some(10),
            events: true,
            reverse: false,
        },
        failover: None,
        position: None,
        promoting: false,
        step: String::new(),
        by: String::new(),
    }
}

impl World for Simulation {
    fn look(&mut self) -> Seen {
        let fault = self.fault();
        if self.dead {
            return Seen::default();
        }
        if let Some(step) = self.pending.take()
            && let Some(record) = self.record.clone()
        {
            // The connection has ended: either it was executed by now, or it never will be.
            if fault != Fault::LostBefore && step != Step::Promote {
                let fence = self.fence.clone();
                let _ = self.execute(step, &record);
                self.servers[OLD].locked = fence.is_some();
                self.fence = fence;
            } else if step == Step::Promote && fault != Fault::LostBefore && self.servers[NEW].up {
                self.servers[NEW].read_only = false;
            }
        }
        let seen = |server: &Simulated| server.up.then(|| server.seen());
        let old = seen(&self.servers[OLD]);
        self.clients_work();
        Seen { old, new: seen(&self.servers[NEW]), ..Seen::default() }
    }

    fn problem(&self, missing: Missing) -> String {
        format!("{missing:?} is down")
    }

    fn fence(&self) -> Option<Position> {
        self.fence.clone()
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
        self.record = Some(record.clone());
        let lost = Err(Failure("connection lost".to_owned()));
        let taken = match fault {
            Fault::Refused => Err(Failure("refused".to_owned())),
            // A step that waits stops.
            Fault::Interrupted if step.may_be_tried_again() => Err(Failure("interrupted".to_owned())),
            Fault::LostBefore => lost,
            Fault::LostAfter => {
                let _ = self.execute(step, record);
                if Self::needs(step) == [OLD] {
                    self.lose_fence();
                }
                lost
            }
            // A lock that is not waited for is lost with its connection.
            Fault::LostPending if step == Step::Fence => lost,
            Fault::LostPending if self.fence.is_some() || step != Step::Promote => {
                if step == Step::Promote {
                    // These come first.
                    self.servers.iter_mut().filter(|server| server.up).for_each(|server| server.note = record.note());
                }
                self.pending = Some(step);
                lost
            }
            _ => self.execute(step, record),
        };
        self.check();
        taken
    }

    fn rest(&mut self, _: Rest) {
        self.fault();
    }

    fn interrupted(&mut self) -> Option<String> {
        std::mem::take(&mut self.interrupted).then(|| "SIGTERM".to_owned())
    }

    fn tell(&mut self, event: Event<'_>) {
        if let Event::Turns(..) | Event::GoesOn(_) | Event::Waits(..) = event {
            self.history.push(format!("{event:?}"));
        }
    }
}

#[test]
fn nothing_goes_wrong() {
    let mut simulation = Simulation::new(Vec::new());
    assert_eq!(simulation.run(Goal::Forward, false), Some(End::Done(Vec::new())), "{:#?}", simulation.history);
    assert!(!simulation.acknowledged.is_empty());
    let seen = simulation.look();
    assert_eq!(State::of(&seen, simulation.record.unwrap().evidence()), State::Reversed);
}

#[test]
fn each_step_fails_once() {
    for fault in
        [Fault::Refused, Fault::LostBefore, Fault::LostAfter, Fault::LostPending, Fault::Killed, Fault::Interrupted]
    {
        for at in 0..80 {
            for goal in [Goal::Forward, Goal::Back] {
                for other_machine in [false, true] {
                    let mut faults = vec![Fault::None; at];
                    faults.push(fault);
                    let mut simulation = Simulation::new(faults);
                    simulation.privileged = false;
                    simulation.run(Goal::Forward, false);
                    simulation.faults.clear();
                    let end = simulation.run(goal, other_machine);
                    let expected = match end {
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

#[test]
fn a_server_that_does_not_answer_is_named_once() {
    let mut simulation = Simulation::new(vec![Fault::Dies(OLD)]);
    let end = simulation.run(Goal::Forward, false);
    assert_eq!(end, Some(End::Halfway("the old primary does not answer".to_owned())));
    let named: Vec<_> = simulation.history.iter().filter(|line| line.starts_with("Waits")).collect();
    assert_eq!(named, [r#"Waits(Old, "Old is down")"#]);
}

#[test]
fn there_is_no_other_attempt_after_a_signal() {
    for at in 0..80 {
        let mut simulation = Simulation::new([vec![Fault::None; at], vec![Fault::Interrupted]].concat());
        simulation.run(Goal::Forward, false);
        let again = simulation.history.iter().any(|event| event.starts_with("Turns(Again"));
        assert!(!again, "{at}: {:#?}", simulation.history);
    }
}

#[test]
fn the_new_primary_dies() {
    let mut went_back = 0;
    for at in 0..80 {
        let mut simulation = Simulation::new([vec![Fault::None; at], vec![Fault::Dies(NEW)]].concat());
        if let Some(End::Back(..)) = simulation.run(Goal::Forward, false) {
            let old = &simulation.servers[OLD];
            assert!(old.target.is_empty() && old.channel.is_none() && old.events, "{:#?}", simulation.history);
            went_back += 1;
        }
    }
    assert!(went_back > 10, "{went_back}");
}

/// The scheduler was turned off because of the restart, after it had been turned on again.
#[test]
fn the_old_primary_restarts_writable_while_no_client_writes() {
    for at in 0..80 {
        let mut simulation = Simulation::new([vec![Fault::None; at], vec![Fault::RestartsWritable(OLD)]].concat());
        simulation.idle = true;
        let end = simulation.run(Goal::Forward, false);
        assert!(matches!(end, Some(End::Done(_) | End::Back(..))), "at {at}: {end:?}: {:#?}", simulation.history);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn everything_fails(
        first in prop::collection::vec(Fault::any(), 0..80),
        second in prop::collection::vec(Fault::any(), 0..60),
        goals in prop::collection::vec((prop_oneof![Just(Goal::Forward), Just(Goal::Back)], any::<bool>()), 2),
        lease_ends: bool,
        is_way_back: bool,
    ) {
        let mut simulation = Simulation::new(first);
        if is_way_back {
            simulation.servers[NEW].mode = Mode::On;
        }
        simulation.run(Goal::Forward, false);
        (simulation.faults, simulation.now) = (second, 0);
        if lease_ends {
            simulation.hold_over();
        }
        let (goal, other_machine) = goals[0];
        simulation.run(goal, other_machine);

        // Now everything works again.
        (simulation.faults, simulation.now) = (vec![Fault::Revives], 0);
        let (goal, other_machine) = goals[1];
        let was_primary = simulation.servers[NEW].up && !simulation.servers[NEW].read_only;
        let end = simulation.run(goal, other_machine);
        match end {
            Some(End::Back(..)) => prop_assert!(!was_primary || simulation.beyond_help, "went back after the promotion"),
            Some(End::TooLate) => {
                let end = simulation.run(Goal::Forward, other_machine);
                let ended = matches!(end, Some(End::Done(_))) || (matches!(end, Some(End::Diverged(_))) && simulation.beyond_help);
                prop_assert!(ended, "{end:?}");
            }
            Some(End::Done(_) | End::Diverged(_)) => {}
            end => prop_assert!(false, "{end:?}"),
        }
    }
}
