//! Takes one node after the other out of a Galera cluster, or one replica after the other from a primary, for a restart.

use std::time::{Duration, Instant};

use crate::database::{Row, Session, SqlError, quoted};
use crate::link::Link;
use crate::live::sessions::{Left, count, left, of_clients};
use crate::live::{Report, hooks};
use crate::plan::rolling::{NOTIFY, Node, Record, Role, Stage, target};
use crate::servers::Entry;
use crate::signals::Signals;
use crate::store::Store;

/// Between two looks at a node.
const LOOK: Duration = Duration::from_millis(100);
/// Looks that find no session, in a row, before it is believed.
const QUIET_LOOKS: u32 = 3;

/// Between two lines that say what is waited for.
const REMINDER: Duration = Duration::from_secs(10);

/// The error of a redirect.
const REDIRECTED: u16 = 4196;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Every node was done.
    Done,
    /// The current node was not restarted and serves as before; those before it are done.
    Back(String),
    /// The current node is not back; the others serve.
    Halfway(String),
}

/// Servers that belong together, and what does the work.
pub struct Rolling<'a> {
    /// The nodes to restart first, in their order.
    links: Vec<Link>,
    store: Store,
    signals: Signals,
    report: &'a mut dyn Report,
}

/// Says what is waited for: a line when it has taken a while, and then for each change, but not for all that happen quickly.
struct Waiting {
    last: String,
    told: String,
    next: Instant,
}

impl Waiting {
    fn new() -> Self {
        Self { last: String::new(), told: String::new(), next: Instant::now() + REMINDER }
    }

    fn says(&mut self, report: &mut dyn Report, text: String) {
        if text != self.last {
            report.progress(&text);
        }
        if text != self.told && Instant::now() >= self.next {
            report.note(&format!("waiting: {text}"));
            self.told.clone_from(&text);
            self.next = Instant::now() + REMINDER;
        }
        self.last = text;
    }
}

/// Why a node cannot be gone on with.
struct Failure(String);

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        Self(error.to_string())
    }
}

impl<'a> Rolling<'a> {
    /// The nodes to restart, in order, and the others that belong to them. No other command works on any of them meanwhile, where
    /// there are locks: a Galera cluster may have none, and then the note says who works on a node.
    #[must_use]
    pub fn new(entries: Vec<Entry>, locks: bool, store: Store, signals: Signals, report: &'a mut dyn Report) -> Self {
        let links = entries.into_iter().map(|entry| Link::new(entry, locks)).collect();
        Self { links, store, signals, report }
    }

    /// Looks at all nodes.
    pub fn look(&mut self, max_lag: u64) -> Vec<Node> {
        self.links.iter_mut().map(|link| look(link, max_lag)).collect()
    }

    /// Does what is left to do, from the stage in which the record says the current node is.
    pub fn run(&mut self, record: &mut Record) -> End {
        while record.done < record.nodes.len() {
            if let Err(end) = self.one(record) {
                if record.done == 0 && matches!(end, End::Back(_)) {
                    // Everything is as before.
                    self.forget(record);
                }
                return end;
            }
            record.done += 1;
            record.stage = Stage::Ready;
            // If it is not written, the node is looked at again, and found to be done.
            if let Err(Failure(why)) = self.save(record) {
                self.report.note(&why);
            }
        }
        self.forget(record);
        End::Done
    }

    fn forget(&mut self, record: &Record) {
        if let Err(error) = self.store.remove_rolling(record) {
            self.report.note(&format!("the file with the state cannot be removed: {error}"));
        }
    }

    /// Lets the current node serve again, and goes no further.
    ///
    /// # Errors
    /// Why that is impossible.
    pub fn back(&mut self, record: &mut Record) -> Result<(), String> {
        if record.stage == Stage::Restarting {
            let node = look(&mut self.links[record.done], record.how.max_lag);
            if !node.is_ready() {
                return Err(format!(
                    "the restart of {} has begun, and it is not ready ({}): bring it back first",
                    node.name,
                    node.state()
                ));
            }
        }
        if record.stage != Stage::Ready {
            self.serve(record).map_err(|Failure(why)| why)?;
        }
        self.store.remove_rolling(record).map_err(|error| error.to_string())
    }

    fn one(&mut self, record: &mut Record) -> Result<(), End> {
        let name = record.nodes[record.done].clone();
        if record.stage == Stage::Ready {
            let (nodes, to) = self.await_all(record).map_err(End::Back)?;
            let node = &nodes[record.done];
            record.before = (node.target.clone(), node.note.clone());
            record.target = self.links[to].entry.target.to_string();
            if !node.drains && !record.how.force {
                return Err(End::Back(format!(
                    "the plugin of {name} cannot drain: sessions would be cut; install a newer one, or use --force"
                )));
            }
            record.stage = Stage::Redirected;
            if let Err(Failure(why)) = self.save(record) {
                record.stage = Stage::Ready;
                return Err(End::Back(format!("{name} is left as it is: {why}")));
            }
            self.report.note(&format!("{name}: new clients are redirected to {}", record.target));
        }
        // Whether the command has not been run for this node, whatever the node shows.
        let mut is_due = false;
        if record.stage == Stage::Redirected {
            let mut done = self.redirect(record).and_then(|()| self.is_alone(record)).and_then(|()| self.drain(record));
            if done.is_ok() {
                record.stage = Stage::Restarting;
                done = self.save(record);
            }
            if let Err(Failure(why)) = done {
                record.stage = Stage::Redirected;
                return Err(match self.serve(record) {
                    Ok(()) => {
                        record.stage = Stage::Ready;
                        // An older state in the file is no harm: the node is made to serve again.
                        let _ = self.save(record);
                        End::Back(format!("{name}: {why}; it serves again"))
                    }
                    Err(Failure(again)) => End::Halfway(format!(
                        "{name}: {why}; it cannot be made to serve again ({again}). When it answers: instant-failover back, or \
                         SET GLOBAL instant_failover_mode = OFF there"
                    )),
                });
            }
            is_due = true;
        }
        if is_due || self.is_untouched(record) {
            self.report.note(&format!("{name}: {}", record.how.restart));
            self.report.progress(&format!("{name}: is being restarted"));
            let restarted = self.restart(record);
            if self.is_untouched(record) {
                let why = restarted.err().unwrap_or_else(|| format!("the command has ended: {}", record.how.restart));
                return Err(End::Halfway(format!(
                    "{name}: {why}; it has NOT been restarted, and redirects to {}{}. If nothing restarts it any more: \
                     instant-failover resume, which runs the command again, or back, and it serves again",
                    record.target,
                    self.of_target(record)
                )));
            }
            restarted.map_err(|why| is_away(record, &why))?;
        }
        self.await_ready(record).and_then(|()| self.serve(record)).map_err(|Failure(why)| is_away(record, &why))?;
        self.report.note(&format!("{name}: is back and serves"));
        Ok(())
    }

    /// Looks until the current node may be taken out, and where its clients go then. After a node has come back, others may not be
    /// ready for a moment: they have given it what it had missed.
    fn await_all(&mut self, record: &Record) -> Result<(Vec<Node>, usize), String> {
        let patience = if record.done > 0 { record.how.max_wait } else { 0 };
        let end = Instant::now() + Duration::from_secs(patience);
        let mut waiting = Waiting::new();
        loop {
            if let Some(signal) = self.signals.take() {
                return Err(signal.to_owned());
            }
            let nodes = self.look(record.how.max_lag);
            match target(&nodes, record.nodes.len(), record.done) {
                Ok(to) => return Ok((nodes, to)),
                Err(why) if Instant::now() >= end => return Err(why),
                Err(why) => waiting.says(self.report, why),
            }
            self.signals.sleep(LOOK);
        }
    }

    /// Whether nobody else has begun to take a node away meanwhile. Of two who look only after they have written their note, one at
    /// least sees the other.
    fn is_alone(&mut self, record: &Record) -> Result<(), Failure> {
        let nodes = self.look(record.how.max_lag);
        let node = &nodes[record.done];
        if self.links[record.done].abilities.note && node.note != record.note() {
            return Err(Failure(format!("it has another note by now: '{}'", node.note)));
        }
        let others = nodes.iter().enumerate().filter(|&(place, other)| place != record.done && node.is_beside(other));
        for (_, other) in others {
            if let Some(mode) = other.mode.filter(|mode| *mode != failover::Mode::Off) {
                return Err(Failure(format!("{} is in mode {mode} by now ('{}')", other.name, other.note)));
            }
        }
        Ok(())
    }

    /// Whether the current node answers and still has the note that a restart removes.
    fn is_untouched(&mut self, record: &Record) -> bool {
        let link = &mut self.links[record.done];
        let mut node = look(link, record.how.max_lag);
        if !node.problem.is_empty() {
            // That may have been our session alone.
            node = look(link, record.how.max_lag);
        }
        node.problem.is_empty() && node.note == record.note()
    }

    /// Why the clients of the current node find nothing where they are sent: its command may have restarted the wrong one.
    fn of_target(&mut self, record: &Record) -> String {
        let link = self.links.iter_mut().find(|link| link.entry.target.to_string() == record.target);
        let node = link.map(|link| look(link, record.how.max_lag)).filter(|node| !node.is_ready());
        node.map(|node| format!(", WHICH IS NOT READY ({}: {})", node.name, node.state())).unwrap_or_default()
    }

    fn redirect(&mut self, record: &Record) -> Result<(), Failure> {
        let mode = if record.how.all_connections { "ALL" } else { "ON" };
        let link = &mut self.links[record.done];
        let mut sql = format!(
            "SET GLOBAL instant_failover_target = {}, instant_failover_mode = '{mode}'",
            quoted(&record.target)
        );
        link.session()?;
        if link.abilities.note {
            sql = format!("{sql}, instant_failover_note = {}", quoted(&record.note()));
        }
        if link.abilities.hold {
            sql += ", instant_failover_drain = ON";
        }
        link.run(&sql)?;
        // If this session is lost, another one is needed.
        match Session::open(&link.entry) {
            Err(SqlError::Refused { code: REDIRECTED, .. }) => Err(Failure(format!(
                "it redirects this account, too: add {} to instant_failover_exempt_users there",
                link.entry.user
            ))),
            _ => Ok(()),
        }
    }

    /// Waits until no session of a client is left, or cuts them.
    fn drain(&mut self, record: &Record) -> Result<(), Failure> {
        let end = Instant::now() + Duration::from_secs(record.how.max_drain);
        let name = &record.nodes[record.done];
        let link = &mut self.links[record.done];
        let (mut quiet, mut waiting) = (0, Waiting::new());
        while quiet < QUIET_LOOKS {
            let (sessions, text) = if link.abilities.hold {
                let Left { sessions, busy, in_transaction: open, unknown } = left(link)?;
                if link.abilities.note && link.value("SELECT @@instant_failover_note")? != record.note() {
                    return Err(Failure("another program or administrator has begun to work on it".to_owned()));
                }
                if link.value("SELECT @@instant_failover_mode")? == "OFF" {
                    return Err(Failure("another program or administrator has set its mode to OFF".to_owned()));
                }
                let total = sessions + unknown;
                (
                    total,
                    format!(
                        "{total} sessions left: {busy} busy, {open} in transactions, {unknown} not known to the plugin"
                    ),
                )
            } else {
                let sessions = count(link, "TRUE")?;
                (sessions, format!("{sessions} sessions left"))
            };
            quiet = if sessions == 0 { quiet + 1 } else { 0 };
            waiting.says(self.report, format!("{name}: {text}"));
            if self.signals.pending() {
                return Err(Failure(self.signals.take().unwrap_or("a signal").to_owned()));
            }
            if Instant::now() >= end && sessions > 0 {
                if !record.how.force {
                    return Err(Failure(format!("after {} s, {text}", record.how.max_drain)));
                }
                self.report.note(&format!("{name}: {text}; they are cut (--force)"));
                let clients = of_clients(&[link.id()]);
                for row in link.rows(&format!("SELECT ID FROM information_schema.PROCESSLIST WHERE {clients}"))? {
                    // One that has ended by itself is no failure.
                    let _ = link.run(&format!("KILL {}", row.at(0)));
                }
                return Ok(());
            }
            self.signals.sleep(LOOK);
        }
        self.report.note(&format!("{name}: no session is left"));
        Ok(())
    }

    fn restart(&self, record: &Record) -> Result<(), String> {
        let own_target = self.links[record.done].entry.target.to_string();
        let variables = [
            ("INSTANT_FAILOVER_ID", record.id.as_str()),
            ("INSTANT_FAILOVER_NODE", record.current()),
            ("INSTANT_FAILOVER_NODE_TARGET", &own_target),
            ("INSTANT_FAILOVER_TARGET", &record.target),
        ];
        let patience = Duration::from_secs(record.how.max_wait);
        hooks::run_within("restart", &record.how.restart, &variables, patience, || self.signals.take())
    }

    /// Waits until the node can serve as the others can.
    fn await_ready(&mut self, record: &Record) -> Result<(), Failure> {
        let end = Instant::now() + Duration::from_secs(record.how.max_wait);
        let (mut position, mut waiting) = (None, Waiting::new());
        loop {
            let node = look(&mut self.links[record.done], record.how.max_lag);
            let mut why = node.state();
            if node.is_ready() {
                if node.note == record.note() {
                    return Err(Failure("it has NOT been restarted".to_owned()));
                }
                match self.lacks(record, &node, &mut position)? {
                    None => return Ok(()),
                    Some(lacks) => why = lacks,
                }
            }
            waiting.says(self.report, format!("{}: {why}", node.name));
            if let Some(signal) = self.signals.take() {
                return Err(Failure(format!("{signal}, while it is {why}")));
            }
            if Instant::now() >= end {
                return Err(Failure(format!("after {} s it is {why}", record.how.max_wait)));
            }
            self.signals.sleep(LOOK);
        }
    }

    /// What a node that is ready lacks of what another one has: it may have begun a cluster of its own, or have received nothing
    /// yet. A position is asked for once. If no other one answers, clients have nobody else.
    fn lacks(
        &mut self,
        record: &Record,
        node: &Node,
        position: &mut Option<String>,
    ) -> Result<Option<String>, Failure> {
        let mut places: Vec<usize> = (0..self.links.len()).filter(|&place| place != record.done).collect();
        // The one that has the clients first.
        places.sort_by_key(|&place| self.links[place].entry.target.to_string() != record.target);
        let looks = places.into_iter().map(|place| (place, look(&mut self.links[place], record.how.max_lag)));
        let answering: Vec<_> = looks.filter(|(_, other)| other.problem.is_empty()).collect();
        let is_replica = matches!(node.role, Role::Replica { .. });
        // Beside replicas, their primary may be in the file.
        let other =
            answering.iter().find(|(place, other)| !is_replica || *place < record.nodes.len() || node.is_beside(other));
        let Some((place, other)) = other else { return Ok(None) };
        if !node.is_beside(other) {
            return Ok(Some(format!("{}, and {} is {}", node.state(), other.name, other.state())));
        }
        if is_replica {
            let position = match position {
                Some(position) => position,
                None => position.insert(self.links[*place].value("SELECT @@gtid_slave_pos")?),
            };
            let sql = format!("SELECT MASTER_GTID_WAIT({}, 0)", quoted(position));
            if !position.is_empty() && self.links[record.done].value(&sql)? != "0" {
                return Ok(Some(format!("a replica that has not yet applied {position}, which {} has", other.name)));
            }
        }
        Ok(None)
    }

    /// The current node serves as before. After a restart, only a mode from its option file has to go.
    fn serve(&mut self, record: &Record) -> Result<(), Failure> {
        let (had_target, had_note) = &record.before;
        let node = look(&mut self.links[record.done], record.how.max_lag);
        if !node.problem.is_empty() {
            return Err(Failure(node.problem));
        }
        let Some(mode) = node.mode else {
            return Err(Failure("it has no plugin: INSTALL SONAME 'instant_failover'".to_owned()));
        };
        let is_ours = [record.note().as_str(), had_note, NOTIFY, ""].contains(&node.note.as_str());
        if mode != failover::Mode::Off && !is_ours {
            return Err(Failure(format!("another program or administrator has set mode {mode} ('{}')", node.note)));
        }
        let link = &mut self.links[record.done];
        let mut sql =
            format!("SET GLOBAL instant_failover_mode = 'OFF', instant_failover_target = {}", quoted(had_target));
        if link.abilities.note {
            sql = format!("{sql}, instant_failover_note = {}", quoted(had_note));
        }
        Ok(link.run(&sql)?)
    }

    fn save(&mut self, record: &Record) -> Result<(), Failure> {
        let failed = |error| Failure(format!("the state cannot be written to the file: {error}"));
        self.store.save_rolling(record).map_err(failed)
    }
}

fn is_away(record: &Record, why: &str) -> End {
    End::Halfway(format!(
        "{}: {why}; its clients are at {}. Once it is ready: instant-failover resume",
        record.nodes[record.done], record.target
    ))
}

fn look(link: &mut Link, max_lag: u64) -> Node {
    let mut node = Node::named(&link.entry.name, Role::Alone);
    if let Err(error) = read(link, max_lag, &mut node) {
        node.problem = error.to_string();
    }
    node
}

fn read(link: &mut Link, max_lag: u64, node: &mut Node) -> Result<(), SqlError> {
    node.role = match galera(link)? {
        Some(role) => role,
        None => replica(&link.rows("SHOW ALL SLAVES STATUS")?, max_lag),
    };
    node.drains = link.abilities.hold;
    if link.abilities.plugin {
        let mode = link.value("SELECT @@instant_failover_mode")?;
        node.mode = mode.parse().ok();
        node.target = link.value("SELECT @@instant_failover_target")?;
    }
    if link.abilities.note {
        node.note = link.value("SELECT @@instant_failover_note")?;
    }
    Ok(())
}

/// What a node of a Galera cluster says of itself; `None` if it is none.
pub(crate) fn galera(link: &mut Link) -> Result<Option<Role>, SqlError> {
    let rows = link.rows(
        "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_cluster_state_uuid', 'wsrep_cluster_size', \
         'wsrep_local_state_comment', 'wsrep_cluster_status', 'wsrep_ready')",
    )?;
    let status = |name: &str| {
        rows.iter().find(|row| row.at(0).eq_ignore_ascii_case(name)).map(|row| row.at(1).to_owned()).unwrap_or_default()
    };
    let size = status("wsrep_cluster_size").parse().unwrap_or_default();
    let mut state = status("wsrep_local_state_comment");
    let (is_primary, is_ready) = (status("wsrep_cluster_status") == "Primary", status("wsrep_ready") == "ON");
    if is_primary && !is_ready {
        state += " (not ready)";
    } else if state == "Donor/Desynced" {
        state += match link.value("SELECT @@wsrep_desync")?.as_str() {
            "0" => " (gives a state transfer or a backup)",
            _ => " (by wsrep_desync)",
        };
    }
    Ok((size > 0).then(|| Role::Galera { cluster: status("wsrep_cluster_state_uuid"), size, state, is_primary }))
}

/// What a replica says of all its primaries.
fn replica(channels: &[Row], max_lag: u64) -> Role {
    if channels.is_empty() {
        return Role::Alone;
    }
    let behind = |row: &Row| row.get("Seconds_Behind_Master").parse::<u64>().ok();
    let runs = |row: &&Row| row.get("Slave_IO_Running") == "Yes" && row.get("Slave_SQL_Running") == "Yes";
    let lag = channels.iter().map(behind).try_fold(0, |most, one| Some(most.max(one?)));
    let state = match channels.iter().find(|row| !runs(row)) {
        Some(stopped) => {
            let errors = [stopped.get("Last_IO_Error"), stopped.get("Last_SQL_Error")];
            let errors: Vec<_> = errors.into_iter().filter(|error| !error.is_empty()).collect();
            let why = if errors.is_empty() { "see SHOW SLAVE STATUS".to_owned() } else { errors.join("; ") };
            format!("a replica that does not run: {why}")
        }
        None => match lag {
            Some(lag) => format!("a replica, {lag} s behind"),
            None => "a replica, ? s behind".to_owned(),
        },
    };
    let sources: Vec<_> = channels.iter().map(|row| row.get("Master_Server_Id")).collect();
    Role::Replica {
        source: sources.join(","),
        is_current: channels.iter().all(|row| runs(&row)) && lag.is_some_and(|lag| lag <= max_lag),
        state,
    }
}
