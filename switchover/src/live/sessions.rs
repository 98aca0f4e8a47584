//! The sessions on the old primary: drained, and killed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::Live;
use crate::database::SqlError;
use crate::link::Link;
use crate::plan::drive::Failure;
use crate::plan::record::Record;

/// Drains must leave time for the other steps.
const OTHER_STEPS: Duration = Duration::from_secs(1);
/// Looks that find nothing, in a row, before it is believed.
const QUIET_LOOKS: u32 = 5;
/// The time between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// How long to kill.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a session must have been idle, to be taken for one that stays so.
const IDLE_MS: u32 = 1000;
/// A copy of `INNODB_TRX` that was not read for 0.1 s is renewed.
const RENEWAL: Duration = Duration::from_millis(120);
/// Engines whose transactions `INNODB_TRX` does not show.
const OTHER_ENGINES: &str = "SELECT GROUP_CONCAT(ENGINE) FROM information_schema.ENGINES WHERE TRANSACTIONS = 'YES' \
                             AND SUPPORT IN ('YES', 'DEFAULT') AND ENGINE NOT IN ('InnoDB', 'SEQUENCE')";
/// A condition: these are events that had begun when the scheduler was switched off. They wait for the lock, and would write once it
/// is released: `read_only` does not stop every definer. A login has no statement.
const EVENTS: &str = "COMMAND = 'Connect' AND USER NOT IN ('system user', 'unauthenticated user') \
                      AND (INFO IS NOT NULL OR USER = 'event_scheduler')";
/// A condition: the plugin ends these sessions.
const NOT_EXEMPT: &str = "NOT FIND_IN_SET(USER, REPLACE(@@global.instant_failover_exempt_users, ', ', ','))";
/// What [`is_locked`] finds.
pub(crate) const LOCKED: &str = "a session has locked all tables (FLUSH TABLES WITH READ LOCK), perhaps for a backup";
/// The error number for a lock that was waited for in vain.
const LOCK_WAIT_TIMEOUT: u16 = 1205;
/// How many sessions are named.
const NAMED: usize = 5;

impl Live<'_> {
    /// Waits until the plugin has ended the sessions that it can end.
    pub(super) fn drain(&mut self) -> Result<(), Failure> {
        let patience = self.pause_left();
        let patience = patience.saturating_sub(OTHER_STEPS).max(patience / 2);
        let end = Instant::now() + patience;
        loop {
            let left = left(&mut self.old)?;
            let Left { sessions, busy, in_transaction, unknown } = left;
            let total = sessions + unknown;
            if sessions == 0 {
                if unknown > 0 {
                    self.report.note(&format!(
                        "{unknown} sessions were opened before the plugin was loaded; they are not drained, and will be killed"
                    ));
                }
                return Ok(());
            }
            if self.options.kill_idle_readers && sessions == in_transaction && self.only_idle_readers()? {
                self.report.note(&format!("{sessions} sessions are idle in transactions that have modified nothing"));
                return Ok(());
            }
            self.report.progress(&format!("{total} sessions left: {busy} busy, {in_transaction} in transactions"));
            if self.signals.pending() {
                return Err(Failure("interrupted".to_owned()));
            }
            if Instant::now() >= end {
                let named = self.names_of_the_oldest()?;
                let text = format!(
                    "{total} {} did not end within {:.1} s, what --max-pause {} leaves for that ({}): {named}",
                    if total == 1 { "session" } else { "sessions" },
                    patience.as_secs_f64(),
                    self.options.max_pause.as_secs(),
                    left.states(),
                );
                if self.options.force {
                    self.report.note(&format!("{text}; they will be killed (--force)"));
                    return Ok(());
                }
                return Err(Failure(format!(
                    "{text}. Allow more with --max-pause, or end them with --kill-idle-readers or --force"
                )));
            }
            self.signals.sleep(BETWEEN_LOOKS);
        }
    }

    /// Whether every session that would have to drain is idle, for a while already, and has modified nothing.
    fn only_idle_readers(&mut self) -> Result<bool, Failure> {
        let others = self.old.value(OTHER_ENGINES)?;
        if !others.is_empty() {
            return Err(Failure(format!(
                "--kill-idle-readers: what transactions of {others} have modified is not known"
            )));
        }
        let sql = format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST p LEFT JOIN information_schema.INNODB_TRX t \
             ON t.trx_mysql_thread_id = p.ID WHERE {} AND {NOT_EXEMPT} \
             AND (COMMAND <> 'Sleep' OR TIME_MS < {IDLE_MS} OR COALESCE(trx_rows_modified, 0) > 0)",
            self.ours_and_replication()
        );
        Ok(self.old.value(&sql)? == "0")
    }

    /// Kills what is idle and has modified nothing. The global read lock is held: no session can modify anything meanwhile.
    ///
    /// A session that has modified something since [`Self::only_idle_readers`] is not killed: this fails.
    pub(super) fn kill_idle_readers(&mut self, fence: u32) -> Result<(), Failure> {
        let modified = self.modifying()?;
        let condition = self.ours_and_replication();
        let sessions = self.old.rows(&format!(
            "SELECT ID, COMMAND, USER, HOST FROM information_schema.PROCESSLIST WHERE {condition} AND ID <> {fence} AND {NOT_EXEMPT}"
        ))?;
        if let Some(row) = sessions.iter().find(|row| modified.contains(row.at(0))) {
            return Err(Failure(format!(
                "connection {} of {}@{} has begun to modify something",
                row.at(0),
                row.at(2),
                row.at(3)
            )));
        }
        let mut killed = 0;
        for row in sessions.iter().filter(|row| row.at(1) == "Sleep") {
            match self.old.run(&format!("KILL {}", row.at(0))) {
                Ok(()) => killed += 1,
                Err(SqlError::Refused { code: 1094, .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if killed > 0 {
            let text = format!("{killed} idle sessions were killed; none had modified anything (--kill-idle-readers)");
            self.report.note(&text);
        }
        Ok(())
    }

    /// The connections whose transactions have modified something now.
    ///
    /// `INNODB_TRX` is a copy that the server renews only when it was not read for 0.1 s. That it is recent shows a
    /// transaction of our own.
    fn modifying(&mut self) -> Result<BTreeSet<String>, Failure> {
        self.old.run("START TRANSACTION WITH CONSISTENT SNAPSHOT")?;
        let own = self.old.id().unwrap_or_default().to_string();
        for _ in 0..10 {
            let rows =
                self.old.rows("SELECT trx_mysql_thread_id, trx_rows_modified FROM information_schema.INNODB_TRX")?;
            if rows.iter().any(|row| row.at(0) == own) {
                self.old.run("COMMIT")?;
                let modified = rows.iter().filter(|row| row.at(1) != "0");
                return Ok(modified.map(|row| row.at(0).to_owned()).collect());
            }
            std::thread::sleep(RENEWAL);
        }
        self.old.run("COMMIT")?;
        Err(Failure("INNODB_TRX is not renewed: does a monitor read it all the time?".to_owned()))
    }

    /// Sessions of clients with what they have open, the oldest first.
    fn names_of_the_oldest(&mut self) -> Result<String, SqlError> {
        let rows = self.old.rows(&format!(
            "SELECT p.ID, p.USER, p.HOST, COALESCE(t.trx_started, NOW() - INTERVAL p.TIME SECOND) AS since \
             FROM information_schema.PROCESSLIST p LEFT JOIN information_schema.INNODB_TRX t ON t.trx_mysql_thread_id = p.ID \
             WHERE {} ORDER BY t.trx_started IS NULL, since LIMIT {NAMED}",
            self.ours_and_replication()
        ))?;
        let name = |row: &crate::database::Row| {
            format!("{}@{} (connection {}, since {})", row.at(1), row.at(2), row.at(0), row.at(3))
        };
        Ok(rows.iter().map(name).collect::<Vec<_>>().join(", "))
    }

    /// A condition: sessions of clients.
    fn ours_and_replication(&self) -> String {
        of_clients(&[self.old.id(), self.fence.as_ref().map(|fence| fence.session.id())])
    }

    /// Kills, by id, until several looks in a row find no session and no event: the process list takes a session for its
    /// routine's definer while that runs, so nothing else would find all of them.
    pub(super) fn disconnect(&mut self, record: &Record) -> Result<(), Failure> {
        let end = Instant::now() + PATIENCE;
        let (mut quiet, mut killed) = (0, 0);
        while quiet < QUIET_LOOKS {
            let clients = self.ours_and_replication();
            let rows =
                self.old.rows(&format!("SELECT ID FROM information_schema.PROCESSLIST WHERE {clients} OR {EVENTS}"))?;
            quiet = if rows.is_empty() { quiet + 1 } else { 0 };
            for row in &rows {
                match self.old.run(&format!("KILL {}", row.at(0))) {
                    Ok(()) => killed += 1,
                    // It has ended by itself.
                    Err(SqlError::Refused { code: 1094, .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if Instant::now() > end {
                let named = self.names_of_the_oldest()?;
                return Err(Failure(format!("sessions keep connecting: {named}")));
            }
            if quiet < QUIET_LOOKS {
                std::thread::sleep(BETWEEN_LOOKS);
            }
        }
        self.report.progress(&format!("{killed} sessions killed"));
        if record.way.hold {
            self.old.run("SET GLOBAL instant_failover_drain = OFF")?;
        }
        Ok(())
    }
}

/// A condition: not our own sessions, and not those of replication and of the server itself. Nor logins: those that were held
/// are just being told where to go.
pub(crate) fn of_clients(ours: &[Option<u32>]) -> String {
    let ours: Vec<_> = [0].iter().chain(ours.iter().flatten()).map(u32::to_string).collect();
    format!(
        "ID NOT IN ({}) AND COMMAND NOT LIKE 'Binlog Dump%' AND COMMAND NOT IN ('Connect', 'Daemon') \
         AND USER NOT IN ('system user', 'event_scheduler', 'unauthenticated user')",
        ours.join(", ")
    )
}

/// How many sessions of clients meet a condition.
pub(crate) fn count(link: &mut Link, condition: &str) -> Result<u64, SqlError> {
    // Before its id is asked for: there may be none yet.
    link.session()?;
    let clients = of_clients(&[link.id()]);
    let sql = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE {clients} AND {condition}");
    Ok(link.value(&sql)?.parse().unwrap_or_default())
}

/// Whether another session keeps everybody from writing, by `FLUSH TABLES WITH READ LOCK`, as backups do. It may be idle: the
/// process list does not show it. Asked for is the lock that a write would need; nothing is written.
pub(crate) fn is_locked(link: &mut Link) -> Result<bool, SqlError> {
    match link.run("SET STATEMENT lock_wait_timeout = 1 FOR SELECT 1 FROM mysql.gtid_slave_pos WHERE FALSE FOR UPDATE")
    {
        Err(SqlError::Refused { code: LOCK_WAIT_TIMEOUT, .. }) => Ok(true),
        // Without SELECT on that table, it is not known.
        Err(SqlError::Refused { .. }) => Ok(false),
        other => other.map(|()| false),
    }
}

/// What a drain has left on a server.
///
/// The plugin counts every connection that was there before it, those of replicas and of other nodes too. No more of them are
/// clients than the process list has: while one runs a procedure, as the procedure's definer.
pub(crate) fn left(link: &mut Link) -> Result<Left, SqlError> {
    let rows = link.rows("SHOW GLOBAL STATUS LIKE 'Instant\\_failover\\_sessions%'")?;
    let value =
        |name: &str| rows.iter().find(|row| row.at(0) == name).and_then(|row| row.at(1).parse().ok()).unwrap_or(0);
    let [sessions, busy, in_transaction, mut unknown] = [
        "Instant_failover_sessions",
        "Instant_failover_sessions_busy",
        "Instant_failover_sessions_in_transaction",
        "Instant_failover_sessions_unknown",
    ]
    .map(value);
    if unknown > 0 {
        unknown = unknown.min(count(link, &format!("(COMMAND <> 'Sleep' OR {NOT_EXEMPT})"))?);
    }
    Ok(Left { sessions, busy, in_transaction, unknown })
}

/// What a drain has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) sessions: u64,
    pub(crate) busy: u64,
    pub(crate) in_transaction: u64,
    pub(crate) unknown: u64,
}

impl Left {
    /// What all of them do.
    fn states(self) -> String {
        let idle = self.sessions.saturating_sub(self.busy + self.in_transaction);
        let mut text = format!("{} busy, {} in transactions", self.busy, self.in_transaction);
        for (number, what) in [(idle, "idle"), (self.unknown, "opened before the plugin was loaded")] {
            if number > 0 {
                let _ = write!(text, ", {number} {what}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Left;

    #[test]
    fn every_session_is_counted() {
        let left = Left { sessions: 4, busy: 1, in_transaction: 2, unknown: 0 };
        assert_eq!(left.states(), "1 busy, 2 in transactions, 1 idle");
        let left = Left { sessions: 3, busy: 1, in_transaction: 2, unknown: 2 };
        assert_eq!(left.states(), "1 busy, 2 in transactions, 2 opened before the plugin was loaded");
    }
}
