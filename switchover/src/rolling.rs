//! Takes one node after the other out of a Galera cluster, or one replica after the other from a primary, for a restart.

use std::time::{Duration, Instant};

use crate::database::{SqlError, quoted};
use crate::link::Link;
use crate::live::sessions::{Left, left, of_clients};
use crate::live::{Report, hooks};
use crate::plan::rolling::{Node, Record, Role, Stage, target};
use crate::servers::Entry;
use crate::signals::Signals;
use crate::store::Store;

/// Between two looks at a node.
const LOOK: Duration = Duration::from_millis(100);
/// Looks that find no session, in a row, before it is believed.
const QUIET_LOOKS: u32 = 3;

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

/// Why a node cannot be gone on with.
struct Failure(String);

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        Self(error.to_string())
    }
}

impl<'a> Rolling<'a> {
    /// The nodes to restart, in order, and the others that belong to them.
    #[must_use]
    pub fn new(entries: Vec<Entry>, store: Store, signals: Signals, report: &'a mut dyn Report) -> Self {
        // There are no locks in Galera; the note says who works on a node.
        let links = entries.into_iter().map(|entry| Link::new(entry, false)).collect();
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
            self.save(record);
        }
        self.forget(record);
        End::Done
    }

    fn forget(&mut self, record: &Record) {
        if let Err(error) = self.store.remove_rolling(record) {
            self.report.note(&format!("the file with the state cannot be removed: {error}"));
        }
    }

    /// Lets the current node serve again, if it has not been restarted, and goes no further.
    ///
    /// # Errors
    /// Why that is impossible.
    pub fn back(&mut self, record: &mut Record) -> Result<(), String> {
        if record.stage == Stage::Restarting {
            return Err(format!("the restart of {} has begun: resume", record.nodes[record.done]));
        }
        if record.stage == Stage::Redirected {
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
            self.report.note(&format!("{name}: new clients are redirected to {}", record.target));
            record.stage = Stage::Redirected;
            self.save(record);
        }
        if record.stage == Stage::Redirected {
            let done = self.redirect(record).and_then(|()| self.drain(record));
            if let Err(Failure(why)) = done {
                return Err(match self.serve(record) {
                    Ok(()) => {
                        record.stage = Stage::Ready;
                        self.save(record);
                        End::Back(format!("{name}: {why}; it serves again"))
                    }
                    Err(Failure(again)) => End::Halfway(format!(
                        "{name}: {why}; it cannot be made to serve again ({again}): SET GLOBAL instant_failover_mode = OFF there"
                    )),
                });
            }
            record.stage = Stage::Restarting;
            self.save(record);
            self.report.note(&format!("{name}: {}", record.how.restart));
            self.restart(record).map_err(|why| is_away(record, &why))?;
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
        loop {
            let nodes = self.look(record.how.max_lag);
            match target(&nodes, record.done) {
                Ok(to) => return Ok((nodes, to)),
                Err(why) if Instant::now() >= end => return Err(why),
                Err(why) => self.report.progress(&why),
            }
            if self.signals.pending() {
                return Err(self.signals.take().unwrap_or("a signal").to_owned());
            }
            self.signals.sleep(LOOK);
        }
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
        Ok(link.run(&sql)?)
    }

    /// Waits until no session of a client is left, or cuts them.
    fn drain(&mut self, record: &Record) -> Result<(), Failure> {
        let end = Instant::now() + Duration::from_secs(record.how.max_drain);
        let name = &record.nodes[record.done];
        let link = &mut self.links[record.done];
        let mut quiet = 0;
        while quiet < QUIET_LOOKS {
            let (sessions, text) = if link.abilities.hold {
                let Left { sessions, busy, in_transaction: open, unknown } = left(link)?;
                let total = sessions + unknown;
                (
                    total,
                    format!(
                        "{total} sessions left: {busy} busy, {open} in transactions, {unknown} not known to the plugin"
                    ),
                )
            } else {
                let clients = of_clients(&[link.id()]);
                let count =
                    link.value(&format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE {clients}"))?;
                (count.parse().unwrap_or_default(), format!("{count} sessions left"))
            };
            quiet = if sessions == 0 { quiet + 1 } else { 0 };
            self.report.progress(&format!("{name}: {text}"));
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

    /// A signal reaches the command, too; this waits for its end.
    fn restart(&self, record: &Record) -> Result<(), String> {
        let own_target = self.links[record.done].entry.target.to_string();
        let variables = [
            ("INSTANT_FAILOVER_ID", record.id.as_str()),
            ("INSTANT_FAILOVER_NODE", &record.nodes[record.done]),
            ("INSTANT_FAILOVER_NODE_TARGET", &own_target),
            ("INSTANT_FAILOVER_TARGET", &record.target),
        ];
        hooks::run_within("restart", &record.how.restart, &variables, Duration::from_secs(record.how.max_wait))
    }

    fn await_ready(&mut self, record: &Record) -> Result<(), Failure> {
        let end = Instant::now() + Duration::from_secs(record.how.max_wait);
        let link = &mut self.links[record.done];
        loop {
            let node = look(link, record.how.max_lag);
            if node.is_ready() {
                return Ok(());
            }
            self.report.progress(&format!("{}: {}", node.name, node.state()));
            if self.signals.pending() {
                let signal = self.signals.take().unwrap_or("a signal");
                return Err(Failure(format!("{signal}, while it is {}", node.state())));
            }
            if Instant::now() >= end {
                return Err(Failure(format!("after {} s it is {}", record.how.max_wait, node.state())));
            }
            self.signals.sleep(LOOK);
        }
    }

    /// The current node serves as before. After a restart, only a mode from its option file has to go.
    fn serve(&mut self, record: &Record) -> Result<(), Failure> {
        let (target, note) = &record.before;
        let link = &mut self.links[record.done];
        link.session()?;
        let mut sql = format!("SET GLOBAL instant_failover_mode = 'OFF', instant_failover_target = {}", quoted(target));
        if link.abilities.note {
            sql = format!("{sql}, instant_failover_note = {}", quoted(note));
        }
        Ok(link.run(&sql)?)
    }

    fn save(&mut self, record: &Record) {
        if let Err(error) = self.store.save_rolling(record) {
            self.report.note(&format!("the state cannot be written to the file: {error}"));
        }
    }
}

fn is_away(record: &Record, why: &str) -> End {
    End::Halfway(format!(
        "{}: {why}; its clients are at {}. Bring it back, then: instant-failover resume",
        record.nodes[record.done], record.target
    ))
}

fn look(link: &mut Link, max_lag: u64) -> Node {
    let mut node = Node {
        name: link.entry.name.clone(),
        problem: String::new(),
        role: Role::Alone,
        drains: false,
        mode: None,
        target: String::new(),
        note: String::new(),
    };
    if let Err(error) = read(link, max_lag, &mut node) {
        node.problem = error.to_string();
    }
    node
}

fn read(link: &mut Link, max_lag: u64, node: &mut Node) -> Result<(), SqlError> {
    let rows = link.rows(
        "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_cluster_state_uuid', 'wsrep_cluster_size', \
         'wsrep_local_state_comment', 'wsrep_cluster_status', 'wsrep_ready')",
    )?;
    let status = |name: &str| {
        rows.iter().find(|row| row.at(0).eq_ignore_ascii_case(name)).map(|row| row.at(1).to_owned()).unwrap_or_default()
    };
    if status("wsrep_cluster_size").parse().is_ok_and(|size: u32| size > 0) {
        node.role = Role::Galera {
            cluster: status("wsrep_cluster_state_uuid"),
            size: status("wsrep_cluster_size").parse().unwrap_or_default(),
            state: status("wsrep_local_state_comment"),
            is_primary: status("wsrep_cluster_status") == "Primary" && status("wsrep_ready") == "ON",
        };
    } else if let Some(row) = link.rows("SHOW ALL SLAVES STATUS")?.first() {
        let behind = row.get("Seconds_Behind_Master");
        let runs = row.get("Slave_IO_Running") == "Yes" && row.get("Slave_SQL_Running") == "Yes";
        node.role = Role::Replica {
            source: row.get("Master_Server_Id").to_owned(),
            is_current: runs && behind.parse().is_ok_and(|behind: u64| behind <= max_lag),
            state: if runs {
                format!("a replica, {} s behind", if behind.is_empty() { "?" } else { behind })
            } else {
                "a replica that does not run: see SHOW SLAVE STATUS".to_owned()
            },
        };
    }
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
