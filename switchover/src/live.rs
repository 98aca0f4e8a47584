//! The steps, on servers.

mod events;
mod failover;
pub(crate) mod hooks;
pub(crate) mod sessions;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use crate::beside::beside;
use crate::database::{Session, SqlError, quoted};
use crate::dead::Dead;
use crate::link::Link;
use crate::look::is_on;
use crate::plan::drive::{Event, Failure, Rest, World};
use crate::plan::gtid::Position;
use crate::plan::next::{Missing, has_note};
use crate::plan::record::Record;
use crate::plan::seen::{Beside, Seen, Server};
use crate::plan::step::Step;
use crate::servers::{Entry, Replication};
use crate::signals::Signals;
use crate::store::Store;

/// How it is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long clients may wait.
    pub max_pause: Duration,
    /// How long clients work between two attempts.
    pub rest: Duration,
    /// Kill sessions that do not drain in time.
    pub force: bool,
    /// Kill sessions that are idle in a transaction and have modified nothing.
    pub kill_idle_readers: bool,
    /// No attempt begins after this.
    pub not_after: Option<SystemTime>,
    /// Other replicas of the old primary, which follow the new one.
    pub replicas: Vec<Entry>,
    /// Other servers that may belong with the two.
    pub others: Vec<Entry>,
    /// Commands to run.
    pub hooks: Hooks,
}

/// Commands of the DBA.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    /// Before anything changes. If it fails, nothing does.
    pub before: Option<String>,
    /// As soon as the new primary accepts writes.
    pub after_promotion: Option<String>,
    /// At the end.
    pub after: Option<String>,
}

/// What is said while it goes on.
pub trait Report {
    /// Something happened.
    fn event(&mut self, event: Event<'_>);
    /// How far a step is.
    fn progress(&mut self, text: &str);
    /// Something to know.
    fn note(&mut self, text: &str);
}

/// Clients wait a little longer than `--max-pause`: the hold must not end while the last steps are under way.
const HOLD_RESERVE: Duration = Duration::from_secs(2);
/// That much of the hold must be left when the new primary is promoted.
const GATE_RESERVE: Duration = Duration::from_secs(1);
/// From the promotion on, clients wait until they are redirected, even if this process is killed: the old primary must not let
/// them in, and those that may write in spite of `read_only` could do so.
pub(crate) const HOLD_AFTER_PROMOTION: u16 = 600;
/// How long a replica may take to connect.
const CONNECT_PATIENCE: Duration = Duration::from_secs(8);
/// How often to set a position that a client's write makes obsolete.
const POSITION_TRIES: usize = 200;
/// How long the mark may take.
const MARK_PATIENCE: Duration = Duration::from_secs(20);

/// The two servers, and everything else that the steps need.
pub struct Live<'a> {
    /// The old primary.
    pub old: Link,
    /// The new primary.
    pub new: Link,
    /// How it is done.
    pub options: Options,
    /// In a failover: what there is instead of the old primary.
    pub dead: Option<Dead>,
    fence: Option<Fence>,
    /// When clients began to wait: held, or locked out by the fence.
    pause_began: Option<Instant>,
    /// When this run began to hold clients, if it did.
    hold_began: Option<Instant>,
    /// When this run closed the old primary, if that accepted writes until then.
    writes_ended: Option<Instant>,
    /// Whether this run has promoted the new primary.
    has_promoted: bool,
    store: Store,
    signals: Signals,
    report: &'a mut dyn Report,
}

/// The session that holds the lock on the old primary.
struct Fence {
    session: Session,
    position: Position,
}

impl<'a> Live<'a> {
    /// Not yet connected.
    pub fn new(
        old: Entry,
        new: Entry,
        options: Options,
        store: Store,
        signals: Signals,
        report: &'a mut dyn Report,
    ) -> Self {
        let (old, new) = (Link::new(old, true), Link::new(new, true));
        Self {
            old,
            new,
            options,
            dead: None,
            fence: None,
            pause_began: None,
            hold_began: None,
            writes_ended: None,
            has_promoted: false,
            store,
            signals,
            report,
        }
    }

    /// Where the record is.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.store.file(&self.old.entry.name, &self.new.entry.name)
    }

    /// Reads both servers.
    pub fn read(&mut self) -> Seen {
        if let Some(dead) = &mut self.dead {
            let around = dead.around();
            return Seen { old: None, new: self.new.look(&dead.old, Some(dead.old_id)), around };
        }
        self.watch_fence();
        let old = self.old.look(&self.new.entry, self.new.server_id);
        let new = self.new.look(&self.old.entry, self.old.server_id);
        Seen { old, new, ..Seen::default() }
    }

    /// Notices that the lock is gone.
    fn watch_fence(&mut self) {
        if let Some(fence) = &mut self.fence
            && let Err(error) = fence.session.value("SELECT 1")
        {
            self.old.problem = Some(error);
            self.drop_fence();
        }
    }

    /// Ends the session with the lock, whatever its state.
    fn drop_fence(&mut self) {
        if let Some(fence) = self.fence.take() {
            self.old.has_lost(fence.session.id());
        }
    }

    /// The time that is left of the pause.
    fn pause_left(&self) -> Duration {
        let end = self
            .pause_began
            .map_or(self.options.max_pause, |began| self.options.max_pause.saturating_sub(began.elapsed()));
        end.max(Duration::from_millis(100))
    }

    /// Looks again and again until something is so, the time is up, or a signal comes.
    fn wait(
        &mut self,
        patience: Duration,
        what: &str,
        mut look: impl FnMut(&mut Self) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let end = Instant::now() + patience;
        loop {
            if look(self)? {
                return Ok(());
            }
            if self.signals.pending() {
                return Err(Failure(format!("{what}: interrupted")));
            }
            if Instant::now() >= end {
                return Err(Failure(format!("{what}: not within {:.1} s", patience.as_secs_f64())));
            }
            self.signals.sleep(Duration::from_millis(20));
        }
    }

    /// Sets the notes of both servers; in a failover, that of the new primary.
    fn leave_notes(&mut self, note: &str) -> Result<(), Failure> {
        let old = self.dead.is_none().then_some(&mut self.old);
        for link in old.into_iter().chain([&mut self.new]) {
            leave_note(link, note)?;
        }
        Ok(())
    }

    /// Removes each note that can be removed.
    fn remove_notes(&mut self) -> Result<(), Failure> {
        let old = self.dead.is_none().then_some(&mut self.old);
        let failures = old.into_iter().chain([&mut self.new]).filter_map(|link| leave_note(link, "").err());
        let failures: Vec<String> = failures.map(|Failure(why)| why).collect();
        if failures.is_empty() { Ok(()) } else { Err(Failure(failures.join("; "))) }
    }

    fn hold(&mut self) -> Result<(), Failure> {
        if let Some(end) = self.options.not_after
            && SystemTime::now() > end
        {
            return Err(Failure("the time of --not-after has passed".to_owned()));
        }
        let lease = (self.options.max_pause + HOLD_RESERVE).as_secs().clamp(1, 3600);
        let began = Instant::now();
        self.old.run(&format!(
            "SET GLOBAL instant_failover_hold_timeout = {lease}, instant_failover_mode = 'HOLD', instant_failover_drain = ON"
        ))?;
        (self.pause_began, self.hold_began) = (Some(began), Some(began));
        Ok(())
    }

    fn set_fence(&mut self) -> Result<Position, Failure> {
        self.drop_fence();
        let was_open = !is_on(&self.old.value("SELECT @@global.read_only")?);
        let began = Instant::now();
        self.pause_began.get_or_insert(began);
        let patience = self.pause_left().as_secs().clamp(1, 5);
        self.old.session()?;
        let mut session = Session::open(&self.old.entry)?;
        let id = session.id();
        let result = lock(&mut session, patience).and_then(|()| {
            if self.options.kill_idle_readers && self.old.abilities.hold {
                self.kill_idle_readers(id)?;
            }
            final_position(&mut session)
        });
        match result {
            Ok(position) => {
                self.fence = Some(Fence { session, position: position.clone() });
                if was_open {
                    self.writes_ended = Some(began);
                }
                Ok(position)
            }
            Err(error) => {
                self.old.has_lost(session.id());
                drop(session);
                Err(error)
            }
        }
    }

    fn catch_up(&mut self) -> Result<(), Failure> {
        let position = self
            .fence
            .as_ref()
            .map(|fence| fence.position.clone())
            .ok_or_else(|| Failure("there is no lock".to_owned()))?;
        let received = position.received_by(self.new.server_id.unwrap_or_default());
        let sql = format!("SELECT MASTER_GTID_WAIT({}, 0.2)", quoted(&received.to_string()));
        let what = format!("{} has {position}", self.new.entry.name);
        self.wait(self.pause_left(), &what, |live| Ok(live.new.value(&sql)? == "0"))
    }

    /// Everything must still be as it was when the position was read.
    fn promote(&mut self, record: &Record) -> Result<(), Failure> {
        // No client could write to it.
        if sessions::is_locked(&mut self.new)? {
            return Err(Failure(format!("{}: {}", self.new.entry.name, sessions::LOCKED)));
        }
        self.leave_notes(&record.note())?;
        if record.way.hold {
            self.old.run(&format!("SET GLOBAL instant_failover_hold_timeout = {HOLD_AFTER_PROMOTION}"))?;
        }
        let fence = self.fence.as_mut().ok_or_else(|| Failure("the lock on the old primary was lost".to_owned()))?;
        let mut columns = "@@global.read_only, @@gtid_binlog_pos".to_owned();
        if record.way.hold {
            columns += ", @@instant_failover_mode";
        }
        let row = fence.session.row(&format!("SELECT {columns}"))?;
        let now: Position = row.at(1).parse().map_err(|_| Failure(format!("the position is '{}'", row.at(1))))?;
        if !is_on(row.at(0)) {
            return Err(Failure("the old primary is no longer read only".to_owned()));
        }
        if now != fence.position {
            return Err(Failure(format!(
                "the old primary is at {now}, and was at {} when it was locked",
                fence.position
            )));
        }
        if record.way.hold && row.at(2) != "HOLD" {
            return Err(Failure("the old primary no longer holds clients".to_owned()));
        }
        let lease = self.options.max_pause + HOLD_RESERVE;
        if record.way.hold && self.pause_began.is_some_and(|began| began.elapsed() + GATE_RESERVE > lease) {
            return Err(Failure("less than a second of the hold is left".to_owned()));
        }
        self.new.run("SET GLOBAL read_only = 0")?;
        self.has_promoted = true;
        Ok(())
    }

    /// After the promotion, the new primary has restarted; and while it was down, a failover may have made another one. It would need the
    /// lock of the old one, so not if this run has held that all the time.
    fn reopen(&mut self, record: &Record) -> Result<(), Failure> {
        let seen = self.read();
        let (Some(old), Some(new)) = (&seen.old, &seen.new) else {
            let silent = if seen.old.is_none() { &self.old } else { &self.new };
            return Err(Failure(silent.problem().to_string()));
        };
        if !old.read_only {
            return Err(Failure("the old primary is writable".to_owned()));
        }
        let is_known = self.has_promoted && self.old.is_unbroken();
        match beside(&self.options.others, &self.old.entry, &seen, !is_known && !has_note(new, record)) {
            None => Ok(self.new.run("SET GLOBAL read_only = 0")?),
            Some(other) => Err(self.is_not_opened(&self.new.entry.name, &other)),
        }
    }

    fn redirect(&mut self, record: &Record) -> Result<(), Failure> {
        let (target, mode) = (quoted(&record.way.target), record.way.mode().name());
        let exempt = self.old.value("SELECT @@instant_failover_exempt_users")?;
        let stays = |user: &&str| !record.way.no_longer_exempt.iter().any(|other| other == user);
        let exempt: Vec<_> = exempt.split(',').filter(stays).collect();
        self.old.run(&format!(
            "SET GLOBAL instant_failover_exempt_users = {}, instant_failover_target = {target}, instant_failover_mode = '{mode}'",
            quoted(&exempt.join(","))
        ))?;
        self.say_pause();
        if let Err(why) = hooks::run("after-promotion", self.options.hooks.after_promotion.as_deref(), record) {
            self.report.note(&why);
        }
        Ok(())
    }

    fn say_pause(&mut self) {
        self.pause_began = None;
        // Of what began in an earlier run, nothing is known.
        let spans = [
            ("new clients waited for up to", self.hold_began.take()),
            ("no write was possible for", self.writes_ended.take()),
        ];
        let began = spans.into_iter().filter_map(|(what, began)| Some((what, began?.elapsed().as_millis())));
        let spans: Vec<_> = began.map(|(what, waited)| format!("{what} {waited} ms")).collect();
        if !spans.is_empty() {
            self.report.note(&spans.join(", "));
        }
    }

    fn unlock(&mut self) -> Result<(), Failure> {
        if let Some(mut fence) = self.fence.take() {
            let id = fence.session.id();
            if let Err(error) = fence.session.run("UNLOCK TABLES") {
                self.old.has_lost(id);
                return Err(error.into());
            }
        }
        // What waited for the lock goes through now, and is seen.
        std::thread::sleep(Duration::from_millis(100));
        Ok(())
    }

    fn unfence(&mut self, record: &Record) -> Result<(), Failure> {
        self.refuse_if_overtaken(record)?;
        let read_only = format!("SET GLOBAL read_only = {}", u8::from(record.before.read_only));
        // In this order: a COMMIT that waits for the lock would be refused by read_only.
        match &mut self.fence {
            Some(fence) => {
                let id = fence.session.id();
                let result = fence.session.run(&read_only).and_then(|()| fence.session.run("UNLOCK TABLES"));
                self.fence = None;
                if let Err(error) = result {
                    self.old.has_lost(id);
                    return Err(error.into());
                }
            }
            None => self.old.run(&read_only)?,
        }
        self.writes_ended = None;
        if !record.way.hold {
            self.pause_began = None;
        }
        self.set_scheduler(record.before.events)
    }

    /// If the old primary has been down, a failover may have made another one. As long as it has the note, and the session that holds
    /// the lock, it has not.
    fn refuse_if_overtaken(&mut self, record: &Record) -> Result<(), Failure> {
        let seen = self.read();
        let Some(old) = &seen.old else { return Err(Failure(self.old.problem().to_string())) };
        let has_restarted = !has_note(old, record);
        let is_opened = old.read_only && !record.before.read_only;
        if !is_opened || self.fence.is_some() && !has_restarted {
            return Ok(());
        }
        match beside(&self.options.others, &self.old.entry, &seen, has_restarted) {
            None => Ok(()),
            Some(other) => Err(self.is_not_opened(&self.old.entry.name, &other)),
        }
    }

    fn is_not_opened(&self, name: &str, other: &Beside) -> Failure {
        let cure = other.cure(&self.old.entry.name, &self.new.entry.name);
        Failure(format!("{other}: {name} is not opened ({cure})"))
    }

    fn set_scheduler(&mut self, on: bool) -> Result<(), Failure> {
        let now = self.old.value("SELECT @@global.event_scheduler")?;
        if now != "DISABLED" && is_on(&now) != on {
            self.old.run(&format!("SET GLOBAL event_scheduler = {}", if on { "ON" } else { "OFF" }))?;
        }
        Ok(())
    }

    fn release(&mut self, record: &Record) -> Result<(), Failure> {
        self.old.run("SET GLOBAL instant_failover_mode = 'OFF'")?;
        (self.pause_began, self.hold_began) = (None, None);
        self.restore_timeout(record)
    }

    fn restore_timeout(&mut self, record: &Record) -> Result<(), Failure> {
        if record.way.hold {
            let seconds =
                record.before.hold_timeout.map_or_else(|| "DEFAULT".to_owned(), |seconds| seconds.to_string());
            self.old.run(&format!("SET GLOBAL instant_failover_hold_timeout = {seconds}"))?;
        }
        Ok(())
    }

    /// The name of the connection by which one server replicates from the other.
    fn channel(link: &mut Link, other: &Link) -> Result<Option<String>, Failure> {
        let seen = link.look(&other.entry, other.server_id).ok_or_else(|| Failure(link.problem().to_string()))?;
        let channel = other.server_id.and_then(|id| seen.channel_from(id));
        Ok(channel.map(|channel| channel.name.clone()))
    }

    fn on_channel_of_new(&mut self, statement: impl Fn(&str) -> String) -> Result<(), Failure> {
        if let Some(dead) = &self.dead {
            self.old.server_id = Some(dead.old_id);
        }
        match Self::channel(&mut self.new, &self.old)? {
            Some(name) => Ok(self.new.run(&statement(&quoted(&name)))?),
            None => Ok(()),
        }
    }

    fn start_replica(&mut self) -> Result<(), Failure> {
        if Self::channel(&mut self.new, &self.old)?.is_none() {
            return Err(Failure(format!(
                "{} does not know {} as its primary",
                self.new.entry.name, self.old.entry.name
            )));
        }
        self.on_channel_of_new(|name| format!("START SLAVE {name}"))?;
        Self::await_replication(self, false)
    }

    /// Waits until both threads run.
    fn await_replication(&mut self, reverse: bool) -> Result<(), Failure> {
        let (replica, primary) = if reverse { (&self.old, &self.new) } else { (&self.new, &self.old) };
        let what = format!("{} replicates from {}", replica.entry.name, primary.entry.name);
        self.wait(CONNECT_PATIENCE, &what, |live| {
            let (replica, primary) = if reverse { (&mut live.old, &live.new) } else { (&mut live.new, &live.old) };
            let rows = replica.rows("SHOW ALL SLAVES STATUS")?;
            let id = primary.server_id.map(|id| id.to_string()).unwrap_or_default();
            let replication = &primary.entry.replication;
            let ours = rows.iter().find(|row| {
                row.get("Master_Server_Id") == id
                    || (row.get("Master_Host") == replication.host
                        && row.get("Master_Port") == replication.port.to_string())
            });
            let Some(row) = ours else { return Ok(false) };
            for error in ["Last_IO_Error", "Last_SQL_Error"].map(|name| row.get(name)) {
                if !error.is_empty() {
                    let cure = if reverse && error.contains("Access denied") {
                        format!(
                            " (correct replication-user and replication-password of {} in the file with the servers)",
                            primary.entry.name
                        )
                    } else {
                        String::new()
                    };
                    return Err(Failure(format!("{}: {error}{cure}", replica.entry.name)));
                }
            }
            Ok(row.get("Slave_IO_Running") == "Yes" && row.get("Slave_SQL_Running") == "Yes")
        })
    }

    /// Makes the old primary a replica of the new one. While it is the primary, nothing arrives by that.
    fn attach(&mut self) -> Result<(), Failure> {
        let name = match Self::channel(&mut self.old, &self.new)? {
            Some(name) => {
                self.old.run(&format!("STOP SLAVE {}", quoted(&name)))?;
                name
            }
            None => String::new(),
        };
        let start = self.start_where_it_is()?;
        // NEW refuses a replica that asks for what it does not have yet.
        let what = format!("{} has {start}", self.new.entry.name);
        self.wait(CONNECT_PATIENCE, &what, |live| {
            let new = live.new.look(&live.old.entry, live.old.server_id);
            Ok(new.ok_or_else(|| Failure(live.new.problem().to_string()))?.transactions.reaches(&start))
        })?;
        let change = change_master(&name, &self.new.entry.replication)?;
        self.old.run(&change)?;
        self.old.run(&format!("START SLAVE {}", quoted(&name)))?;
        self.await_replication(true)
    }

    /// Makes the end of the old primary's binary log the position from which it replicates, and returns that.
    ///
    /// With `gtid_strict_mode` the server refuses a position that is no longer the end. So it is read and set in one statement,
    /// and again if a client wrote in between.
    fn start_where_it_is(&mut self) -> Result<Position, Failure> {
        let row = self.old.rows("SELECT @@gtid_slave_pos, @@gtid_binlog_pos")?.into_iter().next().unwrap_or_default();
        let position = |text: &str| text.parse::<Position>().map_err(|error| Failure(error.to_string()));
        let (applied, written) = (position(row.at(0))?, position(row.at(1))?);
        // Domains that it has only received.
        let others: Position = applied.last().filter(|gtid| written.in_domain(gtid.domain).is_none()).collect();
        let sql = format!(
            "SET GLOBAL gtid_slave_pos = CONCAT_WS(',', @@gtid_binlog_pos, NULLIF({}, ''))",
            quoted(&others.to_string())
        );
        for _ in 0..POSITION_TRIES {
            match self.old.run(&sql) {
                Err(SqlError::Refused { code: 1947, .. }) => {}
                other => {
                    other?;
                    return position(&self.old.value("SELECT @@gtid_slave_pos")?);
                }
            }
        }
        Err(Failure("clients write so fast that the position cannot be set; try again when there are fewer".to_owned()))
    }

    fn unprepare(&mut self, record: &Record) -> Result<(), Failure> {
        // The new primary may never have answered to this run.
        self.new.server_id.get_or_insert(record.new.server_id);
        if let Some(name) = Self::channel(&mut self.old, &self.new)? {
            self.old.run(&format!("STOP SLAVE {}", quoted(&name)))?;
            self.old.run(&format!("RESET SLAVE {} ALL", quoted(&name)))?;
        }
        Ok(())
    }

    /// What the old primary applies as a replica would wait there for an answer of its own replicas, as the writes of its
    /// clients did. If it has none any more, it would wait for `rpl_semi_sync_master_timeout`.
    fn end_semi_sync(&mut self) -> Result<(), Failure> {
        let sql = "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'RPL_SEMI_SYNC_MASTER_CLIENTS'";
        if is_on(&self.old.value("SELECT @@global.rpl_semi_sync_master_enabled")?) && self.old.value(sql)? == "0" {
            self.old.run("SET GLOBAL rpl_semi_sync_master_enabled = 0")?;
            let text = format!(
                "rpl_semi_sync_master_enabled is OFF on {} now: no replica is left there. Set it on {} if its writes should wait",
                self.old.entry.name, self.new.entry.name
            );
            self.report.note(&text);
        }
        Ok(())
    }

    fn await_mark(&mut self) -> Result<(), Failure> {
        self.end_semi_sync()?;
        let position = self.new.value("SELECT @@gtid_binlog_pos")?;
        let position: Position = position.parse().map_err(|_| Failure(format!("the position is '{position}'")))?;
        let received = position.received_by(self.old.server_id.unwrap_or_default());
        let sql = format!("SELECT MASTER_GTID_WAIT({}, 0.5)", quoted(&received.to_string()));
        let what = format!("{} has {position} of {}", self.old.entry.name, self.new.entry.name);
        self.wait(MARK_PATIENCE, &what, |live| Ok(live.old.value(&sql)? == "0"))
    }

    /// The other replicas follow the new primary, one by one.
    fn repoint(&mut self) -> Result<(), Failure> {
        let mut failed = Vec::new();
        let mut replicas: Vec<_> = self.options.replicas.iter().map(|entry| Link::new(entry.clone(), true)).collect();
        if let Some(dead) = &mut self.dead {
            self.old.server_id = Some(dead.old_id);
            replicas.append(&mut dead.replicas);
        }
        let without = self.dead.as_ref().map(|dead| dead.without.clone()).unwrap_or_default();
        for replica in replicas.iter_mut().filter(|replica| !without.contains(&replica.entry.name)) {
            if let Err(Failure(why)) = self.repoint_one(replica) {
                failed.push(format!("{}: {why}", replica.entry.name));
            }
        }
        if let Some(dead) = &mut self.dead {
            dead.replicas = replicas;
        }
        if failed.is_empty() { Ok(()) } else { Err(Failure(failed.join("; "))) }
    }

    fn has_other_replicas(&self) -> bool {
        !self.options.replicas.is_empty() || self.dead.as_ref().is_some_and(|dead| !dead.replicas.is_empty())
    }

    fn repoint_one(&mut self, replica: &mut Link) -> Result<(), Failure> {
        let entry = replica.entry.clone();
        let seen =
            replica.look(&self.old.entry, self.old.server_id).ok_or_else(|| Failure(replica.problem().to_string()))?;
        let (old, new) = (self.old.server_id.unwrap_or_default(), self.new.server_id.unwrap_or_default());
        if seen.replicates_from(new) {
            return self.redirect_from(replica, &seen);
        }
        let channel =
            seen.channel_from(old).ok_or_else(|| Failure("it does not replicate from the old primary".to_owned()))?;
        if self.old.entry.is_source_of(channel, &entry) == Some(false) {
            return Err(Failure("it belongs to another cluster, the file says".to_owned()));
        }
        let name = quoted(&channel.name);
        replica.run(&format!("STOP SLAVE {name}"))?;
        replica.run(&change_master(&channel.name, &self.new.entry.replication)?)?;
        replica.run(&format!("START SLAVE {name}"))?;
        let new_entry = self.new.entry.clone();
        self.wait(CONNECT_PATIENCE, &format!("{} replicates from {}", entry.name, new_entry.name), |_| {
            let seen = replica.look(&new_entry, Some(new)).ok_or_else(|| Failure(replica.problem().to_string()))?;
            Ok(seen.replicates_from(new))
        })?;
        self.redirect_from(replica, &seen)
    }

    /// A replica that sends clients to a primary that is dead sends them to the new one.
    fn redirect_from(&mut self, replica: &mut Link, seen: &Server) -> Result<(), Failure> {
        if self.dead.is_some() && seen.redirects_to(&self.old.entry.target.to_string()) {
            let target = &self.new.entry.target;
            replica.run(&format!("SET GLOBAL instant_failover_target = {}", quoted(&target.to_string())))?;
            let name = &replica.entry.name;
            self.report.note(&format!(
                "{name} redirects clients to {target} now; in its option file: loose_instant_failover_target = {target}"
            ));
        }
        Ok(())
    }

    fn forget(&mut self, record: &Record) -> Result<(), Failure> {
        let notes = self.remove_notes();
        let removed = self.store.remove(&record.old.name, &record.new.name);
        notes?;
        removed.map_err(|error| Failure(error.to_string()))
    }

    /// HOLD may have ended by itself: then nothing has restored its timeout.
    fn end_going_back(&mut self, record: &Record) -> Result<(), Failure> {
        let knows_it = self.dead.is_none() && self.old.abilities.hold;
        let restored = if knows_it { self.restore_timeout(record) } else { Ok(()) };
        self.forget(record)?;
        restored
    }

    fn finish(&mut self, record: &Record) -> Result<(), Failure> {
        self.restore_timeout(record)?;
        self.forget(record)
    }

    fn begin(&mut self, record: &Record) -> Result<(), Failure> {
        hooks::run("before", self.options.hooks.before.as_deref(), record).map_err(Failure)?;
        self.leave_notes(&record.note())
    }
}

fn leave_note(link: &mut Link, note: &str) -> Result<(), Failure> {
    let mut leave = || {
        link.session()?;
        if link.abilities.note {
            link.run(&format!("SET GLOBAL instant_failover_note = {}", quoted(note)))?;
        }
        Ok(())
    };
    leave().map_err(|error: SqlError| Failure(format!("{}: {error}", link.entry.name)))
}

/// Nothing can be written from here on, not even by those that `read_only` does not stop.
fn lock(session: &mut Session, patience: u64) -> Result<(), Failure> {
    session.run(&format!("SET SESSION wait_timeout = 30, lock_wait_timeout = {patience}"))?;
    if session.value("SELECT @@global.event_scheduler")? == "ON" {
        session.run("SET GLOBAL event_scheduler = OFF")?;
    }
    Ok(session.run("FLUSH TABLES WITH READ LOCK")?)
}

/// Under the lock.
fn final_position(session: &mut Session) -> Result<Position, Failure> {
    session.run("SET GLOBAL read_only = 1")?;
    let position = session.value("SELECT @@gtid_binlog_pos")?;
    let position: Position = position.parse().map_err(|_| Failure(format!("the position is '{position}'")))?;
    if position.is_empty() {
        return Err(Failure("the position is empty: is the binary log on?".to_owned()));
    }
    Ok(position)
}

/// `CHANGE MASTER` with every option that matters: newer series have other defaults.
fn change_master(name: &str, to: &Replication) -> Result<String, Failure> {
    let user =
        to.user.as_deref().ok_or_else(|| Failure("replication-user is not in the file with the servers".to_owned()))?;
    let mut sql = format!(
        "CHANGE MASTER {} TO MASTER_HOST = {}, MASTER_PORT = {}, MASTER_USER = {}, MASTER_PASSWORD = {}, \
         MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1, MASTER_SSL = {}, MASTER_SSL_VERIFY_SERVER_CERT = {}",
        quoted(name),
        quoted(&to.host),
        to.port,
        quoted(user),
        quoted(to.password.reveal()),
        u8::from(to.ssl),
        u8::from(to.ssl && to.ssl_verify),
    );
    for (option, file) in [("CA", &to.ssl_ca), ("CERT", &to.ssl_cert), ("KEY", &to.ssl_key)] {
        if let Some(file) = file {
            let _ = write!(sql, ", MASTER_SSL_{option} = {}", quoted(file));
        }
    }
    Ok(sql)
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        Self(error.to_string())
    }
}

impl World for Live<'_> {
    fn look(&mut self) -> Seen {
        self.read()
    }

    fn problem(&self, missing: Missing) -> String {
        match missing {
            Missing::Old => self.old.problem().to_string(),
            Missing::New => self.new.problem().to_string(),
        }
    }

    fn fence(&self) -> Option<Position> {
        self.fence.as_ref().map(|fence| fence.position.clone())
    }

    fn save(&mut self, record: &Record) -> Result<(), String> {
        self.store.save(record).map_err(|error| format!("{}: {error}", self.file().display()))
    }

    fn take(&mut self, step: Step, record: &Record) -> Result<Option<Position>, Failure> {
        if self.dead.is_some()
            && let Some(taken) = self.take_in_failover(step, record)
        {
            return taken;
        }
        match step {
            Step::Begin => self.begin(record)?,
            Step::Note => self.leave_notes(&record.note())?,
            Step::Prepare | Step::Attach => self.attach()?,
            Step::Aim => {
                self.old.run(&format!("SET GLOBAL instant_failover_target = {}", quoted(&record.way.target)))?;
            }
            Step::Hold => self.hold()?,
            Step::Drain => self.drain()?,
            Step::Fence => return self.set_fence().map(Some),
            Step::CatchUp => self.catch_up()?,
            Step::StopReplica => self.on_channel_of_new(|name| format!("STOP SLAVE {name}"))?,
            Step::Promote => self.promote(record)?,
            Step::Reopen => self.reopen(record)?,
            Step::CloseOld => {
                self.set_scheduler(false)?;
                self.old.run("SET GLOBAL read_only = 1")?;
            }
            Step::Mark => self.new.run("FLUSH HOSTS")?,
            Step::Admit => self.new.run("SET GLOBAL instant_failover_mode = 'OFF'")?,
            Step::Redirect => self.redirect(record)?,
            Step::Disconnect => self.disconnect(record)?,
            Step::Unlock => self.unlock()?,
            Step::AwaitMark => self.await_mark()?,
            Step::Repoint => self.repoint()?,
            Step::Detach => self.on_channel_of_new(|name| format!("RESET SLAVE {name} ALL"))?,
            Step::MoveEvents => self.move_events(record)?,
            Step::Finish => self.finish(record)?,
            Step::Unfence => self.unfence(record)?,
            Step::Release => self.release(record)?,
            Step::StartReplica => self.start_replica()?,
            Step::Unaim => {
                self.old.run(&format!("SET GLOBAL instant_failover_target = {}", quoted(&record.before.target)))?;
            }
            Step::Unprepare => self.unprepare(record)?,
            Step::Forget => self.end_going_back(record)?,
            Step::HoldAtStandIn
            | Step::Sever
            | Step::Apply
            | Step::TakeOver
            | Step::RedirectAtStandIn
            | Step::ReleaseAtStandIn
            | Step::Receive => return Err(Failure("this is a step of a failover".to_owned())),
        }
        Ok(None)
    }

    fn rest(&mut self, why: Rest) {
        let time = match why {
            Rest::Retry => Duration::from_secs(1),
            Rest::NextAttempt => self.options.rest,
        };
        self.signals.sleep(time);
    }

    fn interrupted(&mut self) -> Option<String> {
        self.signals.take().map(str::to_owned)
    }

    fn tell(&mut self, event: Event<'_>) {
        if matches!(event, Event::Begins(Step::Repoint) | Event::Succeeded(Step::Repoint)) && !self.has_other_replicas()
        {
            return;
        }
        self.report.event(event);
    }
}
