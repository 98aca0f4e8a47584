//! Ends sessions again and again, and changes what else may change meanwhile.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use support::wire::{Client, Session};

use super::{DBA, EndBy, Leg, PATIENCE, USER, lock};

/// Plugins that hear of each statement, as our own does while it drains.
const AUDITORS: [&str; 2] = ["server_audit", "sql_errlog"];

/// What the controller has done and seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) drains: u64,
    /// How often no session was left.
    pub(super) completed: u64,
    /// The longest of these.
    pub(super) longest: Duration,
    /// Sessions ended, as counted by the server, or KILLs.
    pub(super) ended: u64,
    /// Logins held.
    pub(super) held: u64,
    /// INSTALLs and UNINSTALLs of our plugin, and how many of them took effect only later.
    pub(super) reinstalls: u64,
    pub(super) put_off: u64,
    /// INSTALLs and UNINSTALLs of other plugins.
    pub(super) others: u64,
}

pub(super) struct Controller<'a> {
    leg: &'a Leg,
    root: Session,
    random: fastrand::Rng,
    pub(super) counts: Counts,
    /// The counters of the server when they were added to ours.
    counted: [u64; 2],
    /// The auditors that are installed.
    auditors: [bool; 2],
    /// Whether our plugin is taken away with sessions open. In a pool of threads, those that look for audit plugins meanwhile send us
    /// no events afterwards, and are not ended while they are at work.
    reinstalls: bool,
}

impl<'a> Controller<'a> {
    pub(super) fn new(leg: &'a Leg, seed: u64) -> Result<Self> {
        let mut root = Client::connect(leg.server.extra_address())?.log_in(DBA, b"")?.session()?;
        let handling = root.query("SELECT @@thread_handling")?;
        Ok(Self {
            leg,
            root,
            reinstalls: handling == [["one-thread-per-connection"]],
            random: fastrand::Rng::with_seed(seed),
            counts: Counts::default(),
            counted: [0; 2],
            auditors: [false; 2],
        })
    }

    /// Complains of a plugin that cannot drain.
    pub(super) fn can_drain(&mut self) -> Result<()> {
        self.root.query("SELECT @@instant_failover_drain").map(drop)
    }

    /// Ends sessions until then. At the end, clients are let in.
    pub(super) fn run(&mut self, until: Instant) -> Result<()> {
        while Instant::now() < until && self.leg.goes_on() {
            match self.leg.ends_by {
                EndBy::Kill => self.kill_some()?,
                EndBy::Drain => self.drain()?,
            }
        }
        Ok(())
    }

    fn pause(&mut self, most: u64) {
        sleep(Duration::from_millis(self.random.u64(..most)));
    }

    fn sql(&mut self, sql: &str) -> Result<Vec<Vec<String>>> {
        self.root.query(sql).map_err(|error| error.context(sql.to_owned()))
    }

    fn kill_some(&mut self) -> Result<()> {
        let some =
            format!("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = '{USER}' ORDER BY RAND() LIMIT 5");
        for id in self.sql(&some)?.into_iter().flatten() {
            // It may be gone already.
            self.counts.ended += u64::from(self.root.query(&format!("KILL {id}")).is_ok());
        }
        self.pause(60);
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        match self.random.u8(..16) {
            0 if self.reinstalls => self.reinstall(true)?,
            1 | 2 => self.toggle_auditor(),
            _ => {}
        }
        let mode = ["HOLD", "HOLD", "HOLD", "ON", "ALL"][self.random.usize(..5)];
        // Seldom, the mode ends by itself.
        let lapses = mode == "HOLD" && self.random.u8(..12) == 0;
        let timeout = if lapses { 1 } else { PATIENCE.as_secs() };
        let began = Instant::now();
        *lock(&self.leg.draining) = Some(began);
        self.sql(&format!(
            "SET GLOBAL instant_failover_target = '127.0.0.1:1', instant_failover_hold_timeout = {timeout}, \
             instant_failover_mode = {mode}, instant_failover_drain = ON"
        ))?;
        self.counts.drains += 1;
        if lapses {
            self.wait_for("HOLD to end by itself", |root| {
                Ok(root.query("SELECT @@instant_failover_mode")? == [["OFF"]])
            })?;
        } else if self.random.u8(..4) == 0 {
            self.pause(800);
        } else {
            self.wait_until_empty(began)?;
            if mode != "HOLD" {
                self.let_in_and_end()?;
            }
            self.pause(100);
        }
        self.end_of_drain()?;
        *lock(&self.leg.draining) = None;
        self.pause(600);
        Ok(())
    }

    /// Exempts the clients for a moment, again and again: they come back, and are ended at the first opportunity, as the first
    /// second of the drain is over.
    fn let_in_and_end(&mut self) -> Result<()> {
        for _ in 0..self.random.u8(..20) {
            if !self.leg.goes_on() {
                break;
            }
            self.sql(&format!("SET GLOBAL instant_failover_exempt_users = '{USER}'"))?;
            self.pause(200);
            self.sql("SET GLOBAL instant_failover_exempt_users = ''")?;
            self.wait_until_empty(Instant::now())?;
        }
        Ok(())
    }

    /// Waits until no session is left of those that a drain ends.
    fn wait_until_empty(&mut self, since: Instant) -> Result<()> {
        self.wait_for("all sessions to be ended", |root| Ok(root.status("Instant_failover_sessions")? == "0"))?;
        self.counts.completed += 1;
        self.counts.longest = self.counts.longest.max(since.elapsed());
        Ok(())
    }

    /// Lets clients in, in one way or another.
    fn end_of_drain(&mut self) -> Result<()> {
        match self.random.u8(..12) {
            0 => self.sql("SET GLOBAL instant_failover_drain = OFF").map(drop)?,
            1 => {
                // Who is held is redirected.
                self.sql("SET GLOBAL instant_failover_mode = 'ON'")?;
                self.pause(50);
            }
            2 => {
                self.sql("SET GLOBAL instant_failover_mode = 'ALL'")?;
                self.pause(50);
            }
            3 if self.reinstalls => return self.reinstall(false),
            _ => {}
        }
        self.sql("SET GLOBAL instant_failover_mode = 'OFF'")?;
        let left = self.root.status("Instant_failover_sessions")?;
        ensure!(left == "0", "Instant_failover_sessions is {left} in mode OFF");
        self.wait_for("those who are held to be let in", |root| Ok(root.status("Instant_failover_held")? == "0"))?;
        self.count()
    }

    /// Adds the server's counters to ours.
    fn count(&mut self) -> Result<()> {
        let now: [u64; 2] = [
            self.root.status("Instant_failover_drained")?.parse()?,
            self.root.status("Instant_failover_holds")?.parse()?,
        ];
        let [ended, held] = [0, 1].map(|n: usize| now[n].saturating_sub(self.counted[n]));
        self.counts.ended += ended;
        self.counts.held += held;
        self.counted = now;
        Ok(())
    }

    /// Takes our plugin away and brings it back. In mode `OFF`, that takes effect at once.
    fn reinstall(&mut self, off: bool) -> Result<()> {
        self.count()?;
        self.sql("UNINSTALL SONAME 'instant_failover'")?;
        if off {
            self.counts.put_off += u64::from(self.root.has_installed("instant_failover")?);
        }
        self.wait_for("our plugin to be gone", |root| Ok(!root.has_installed("instant_failover")?))?;
        self.pause(100);
        self.sql("INSTALL SONAME 'instant_failover'")?;
        self.counted = [0; 2];
        self.counts.reinstalls += 1;
        Ok(())
    }

    fn toggle_auditor(&mut self) {
        let which = self.random.usize(..AUDITORS.len());
        let statement = if self.auditors[which] { "UNINSTALL" } else { "INSTALL" };
        // Sessions that have used it put the end of an auditor off, and it cannot be installed again before.
        if self.root.query(&format!("{statement} SONAME '{}'", AUDITORS[which])).is_ok() {
            self.auditors[which] = !self.auditors[which];
            self.counts.others += 1;
        }
    }

    fn wait_for(&mut self, what: &str, is_there: impl Fn(&mut Session) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE / 2;
        while !is_there(&mut self.root)? {
            if Instant::now() > deadline {
                let mut shown = self.sql("SHOW GLOBAL STATUS LIKE 'Instant_failover%'")?;
                shown.extend(self.sql("SHOW FULL PROCESSLIST")?);
                let shown: Vec<String> = shown.iter().map(|row| row.join(" ")).collect();
                bail!("timed out waiting for {what}:\n{}", shown.join("\n"));
            }
            sleep(Duration::from_millis(3));
        }
        Ok(())
    }

    /// Waits until only root is connected.
    pub(super) fn wait_for_rest(&mut self) -> Result<()> {
        let clients = format!("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = '{USER}'");
        self.wait_for("the clients to disconnect", |root| Ok(root.query(&clients)?.is_empty()))
    }

    /// Rolls back what was prepared and never committed, and returns how many of them there were.
    pub(super) fn prepared_left(&mut self) -> Result<u64> {
        let mut left = 0;
        for row in self.sql("XA RECOVER")? {
            let Some(name) = row.last() else { bail!("XA RECOVER says {row:?}") };
            self.sql(&format!("XA ROLLBACK '{name}'"))?;
            left += 1;
        }
        Ok(left)
    }
}
