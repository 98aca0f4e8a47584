//! The steps of a failover.

use std::time::{Duration, Instant};

use ::failover::Mode;

use super::{Live, hooks};
use crate::database::{SqlError, quoted};
use crate::link::Link;
use crate::plan::drive::Failure;
use crate::plan::gtid::Position;
use crate::plan::next::has_note;
use crate::plan::record::{Record, StandInBefore};
use crate::plan::seen::Channel;
use crate::plan::step::Step;

/// How much longer than for applying the stand-in holds clients.
const HOLD_RESERVE: Duration = Duration::from_mins(1);
/// The longest hold.
const MAX_HOLD: u64 = 3600;
/// How `Slave_SQL_State` begins when everything that was received is read.
const ALL_READ: &str = "Slave has read all relay log";

impl Live<'_> {
    /// Takes a step that is another one than in a switchover. `None` if it is not.
    pub(super) fn take_in_failover(
        &mut self,
        step: Step,
        record: &Record,
    ) -> Option<Result<Option<Position>, Failure>> {
        let done = match step {
            Step::HoldAtStandIn => self.hold_at_stand_in(record),
            Step::Sever => self.sever(),
            Step::Apply => return Some(self.apply().map(Some)),
            Step::TakeOver => self.take_over(record),
            Step::Reopen => self.reopen_alone(record),
            Step::RedirectAtStandIn => self.redirect_at_stand_in(record),
            Step::ReleaseAtStandIn => self.release_at_stand_in(record),
            Step::Receive => self.receive(),
            Step::Finish => self.finish_failover(record),
            _ => return None,
        };
        Some(done.map(|()| None))
    }

    fn hold_at_stand_in(&mut self, record: &Record) -> Result<(), Failure> {
        let seconds = (self.options.max_pause + HOLD_RESERVE).as_secs().min(MAX_HOLD);
        let began = Instant::now();
        self.set_stand_in(Mode::Hold, seconds, &record.way.target)?;
        (self.pause_began, self.hold_began) = (Some(began), Some(began));
        Ok(())
    }

    fn set_stand_in(&mut self, mode: Mode, seconds: u64, target: &str) -> Result<(), Failure> {
        let stand_in = self.dead.as_mut().and_then(|dead| dead.stand_in.as_mut());
        let stand_in = stand_in.ok_or_else(|| Failure("there is no stand-in".to_owned()))?;
        let to =
            StandInBefore { mode, hold_timeout: u16::try_from(seconds).unwrap_or(u16::MAX), target: target.to_owned() };
        stand_in.set(&to).map_err(|error| match error {
            SqlError::Refused { code: 1227, message } => Failure(format!(
                "{message}: a stand-in can be controlled through its Unix socket only; give socket, not host, in the group {}",
                stand_in.entry.name
            )),
            error => error.into(),
        })
    }

    fn redirect_at_stand_in(&mut self, record: &Record) -> Result<(), Failure> {
        let before = record.failover.as_ref().and_then(|failover| failover.stand_in.as_ref());
        let seconds = before.map_or(10, |before| before.hold_timeout);
        self.set_stand_in(Mode::On, seconds.into(), &record.way.target)?;
        self.say_pause();
        Ok(())
    }

    fn release_at_stand_in(&mut self, record: &Record) -> Result<(), Failure> {
        let before = record.failover.as_ref().and_then(|failover| failover.stand_in.clone());
        let before = before.ok_or_else(|| Failure("what it was like before is not known".to_owned()))?;
        self.set_stand_in(before.mode, before.hold_timeout.into(), &before.target)
    }

    /// Runs something on each replica that answers, the new primary first, with its connection to the old primary.
    fn on_each_replica(
        &mut self,
        mut act: impl FnMut(&mut Link, &Channel, bool) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Some(dead) = &mut self.dead else { return Ok(()) };
        let silent = dead.silent();
        let replicas = dead.replicas.iter_mut().filter(|link| !silent.contains(&link.entry.name));
        for link in std::iter::once(&mut self.new).chain(replicas) {
            let Some(server) = link.look(&dead.old, Some(dead.old_id)) else {
                if dead.without.contains(&link.entry.name) {
                    continue;
                }
                return Err(Failure(format!("{}: {}", link.entry.name, link.problem())));
            };
            let Some(channel) = server.channel_from(dead.old_id) else { continue };
            act(link, channel, server.transactions.reaches(&channel.received))
                .map_err(|Failure(why)| Failure(format!("{}: {why}", link.entry.name)))?;
        }
        Ok(())
    }

    /// From now on, nothing arrives from the old primary even if it comes back.
    fn sever(&mut self) -> Result<(), Failure> {
        let fenced = self.dead.as_ref().is_some_and(|dead| dead.fenced);
        self.on_each_replica(|link, channel, has_all| {
            if !channel.receives {
                return Ok(());
            }
            if channel.is_connected && !fenced {
                return Err(Failure("it is connected to the old primary, which may live".to_owned()));
            }
            // With both threads stopped, the next start discards what was received.
            if !channel.applies && !has_all {
                return Err(Failure("its SQL thread does not run, and it has not applied everything".to_owned()));
            }
            Ok(link.run(&format!("STOP SLAVE {} IO_THREAD", quoted(&channel.name)))?)
        })
    }

    /// Going back: they try to connect again.
    fn receive(&mut self) -> Result<(), Failure> {
        self.on_each_replica(|link, channel, has_all| {
            let name = quoted(&channel.name);
            match (channel.receives, channel.applies) {
                (true, _) => Ok(()),
                (false, true) => Ok(link.run(&format!("START SLAVE {name} IO_THREAD"))?),
                (false, false) if has_all => Ok(link.run(&format!("START SLAVE {name}"))?),
                (false, false) => {
                    Err(Failure("START SLAVE would discard what it has received and not applied".to_owned()))
                }
            }
        })
    }

    /// The new primary has everything that it has received. Returns the position.
    fn apply(&mut self) -> Result<Position, Failure> {
        let patience = self.options.max_pause;
        let what = format!("{} has applied everything", self.new.entry.name);
        self.wait(patience, &what, Self::has_applied)?;
        let position = self.new.value("SELECT @@gtid_binlog_pos")?;
        position.parse().map_err(|_| Failure(format!("the position is '{position}'")))
    }

    fn has_applied(&mut self) -> Result<bool, Failure> {
        let Some(dead) = &self.dead else { return Ok(false) };
        let old_id = dead.old_id;
        let server = self.new.look(&dead.old, Some(old_id)).ok_or_else(|| Failure(self.new.problem().to_string()))?;
        let Some(channel) = server.channel_from(old_id) else {
            return Err(Failure(format!("{} no longer replicates", self.new.entry.name)));
        };
        if channel.receives {
            return Err(Failure(format!("{} receives again: did it restart?", self.new.entry.name)));
        }
        let rows = self.new.rows("SHOW ALL SLAVES STATUS")?;
        let row = rows.iter().find(|row| row.get("Connection_name") == channel.name);
        let get = |name| row.map(|row| row.get(name)).unwrap_or_default();
        if !get("Last_SQL_Error").is_empty() {
            return Err(Failure(format!("{}: {}", self.new.entry.name, get("Last_SQL_Error"))));
        }
        let has_all = server.transactions.reaches(&channel.received.received_by(server.server_id));
        let missing = format!("received {}, applied {}", channel.received, server.position);
        let read_all = !channel.applies || get("Slave_SQL_State").starts_with(ALL_READ);
        self.report.progress(&missing);
        if !channel.applies && !has_all {
            return Err(Failure(format!("the SQL thread does not run: {missing}")));
        }
        Ok(has_all && read_all)
    }

    /// The gate: whatever can be known must still say that the old primary is dead.
    fn take_over(&mut self, record: &Record) -> Result<(), Failure> {
        self.leave_notes(&record.note())?;
        self.refuse_if_it_lives()?;
        self.open(false, record.position.as_ref())?;
        if let Err(why) = hooks::run("after-promotion", self.options.hooks.after_promotion.as_deref(), record) {
            self.report.note(&why);
        }
        Ok(())
    }

    fn reopen_alone(&mut self, record: &Record) -> Result<(), Failure> {
        self.refuse_if_it_lives()?;
        let seen = self.read().new.ok_or_else(|| Failure(self.new.problem().to_string()))?;
        self.open(!has_note(&seen, record), None)
    }

    /// Lets clients write to the new primary; only at a position, if there is one.
    ///
    /// A server that has restarted replicates again, and lacks what it had received. If it restarts here, the session is lost. And while
    /// it was down, or this command was stopped and another one took its locks, another failover may have made another primary.
    fn open(&mut self, has_restarted: bool, position: Option<&Position>) -> Result<(), Failure> {
        let seen = self.read().new.ok_or_else(|| Failure(self.new.problem().to_string()))?;
        if let Some(other) = self.dead.as_ref().and_then(|dead| dead.beside_now(&seen, has_restarted)) {
            return Err(self.is_not_opened(&self.new.entry.name, &other));
        }
        let old_id = self.dead.as_ref().map_or(0, |dead| dead.old_id);
        let is_active = seen.channel_from(old_id).is_some_and(Channel::is_active);
        if is_active || position.is_some_and(|position| *position != seen.position) {
            return Err(Failure(format!("{} replicates again, and is at {}", self.new.entry.name, seen.position)));
        }
        Ok(self.new.run("SET GLOBAL read_only = 0")?)
    }

    fn refuse_if_it_lives(&mut self) -> Result<(), Failure> {
        match self.dead.as_mut().and_then(crate::dead::Dead::lives) {
            Some(why) => Err(Failure(format!("{} may live: {why}", self.old.entry.name))),
            None => Ok(()),
        }
    }

    fn finish_failover(&mut self, record: &Record) -> Result<(), Failure> {
        self.name_events()?;
        self.forget(record)
    }

    /// Whether an event was enabled on the old primary cannot be seen here: all are `SLAVESIDE_DISABLED`.
    fn name_events(&mut self) -> Result<(), Failure> {
        let events = self.new.rows(
            "SELECT EVENT_SCHEMA, EVENT_NAME, DEFINER FROM information_schema.EVENTS WHERE STATUS = 'SLAVESIDE_DISABLED' AND \
             EVENT_NAME NOT LIKE 'instant\\_failover\\_%'",
        )?;
        if events.is_empty() {
            return Ok(());
        }
        let mut text =
            "events do not run yet; which of them were enabled is not known. Enable those that should run:".to_owned();
        for event in &events {
            text += "\n    ";
            text += &super::events::enable(event.at(0), event.at(1), event.at(2));
        }
        self.report.note(&text);
        Ok(())
    }
}
