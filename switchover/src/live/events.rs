//! Events run on the primary only.

use std::time::Duration;

use super::Live;
use crate::database::{identifier, quoted};
use crate::look::is_on;
use crate::plan::drive::Failure;
use crate::plan::record::Record;

/// How long the statements may take to arrive on the old primary.
const PATIENCE: Duration = Duration::from_secs(10);

/// Events that run on the old primary. Those that begin with the plugin's name are a DBA's safety net, and stay.
const ENABLED: &str = "SELECT EVENT_SCHEMA, EVENT_NAME, DEFINER FROM information_schema.EVENTS WHERE STATUS = 'ENABLED' AND \
                       EVENT_NAME NOT LIKE 'instant\\_failover\\_%'";

/// Without DEFINER, this account would become the definer.
pub(super) fn enable(schema: &str, name: &str, definer: &str) -> String {
    let (user, host) = definer.rsplit_once('@').unwrap_or((definer, ""));
    let host = if host.is_empty() { String::new() } else { format!("@{}", quoted(host)) };
    format!("ALTER DEFINER = {}{host} EVENT {}.{} ENABLE", quoted(user), identifier(schema), identifier(name))
}

impl Live<'_> {
    /// Enables on the new primary the events that are enabled on the old one. The statements are replicated to the old one,
    /// and disable them there. Only then may its scheduler run.
    pub(super) fn move_events(&mut self, record: &Record) -> Result<(), Failure> {
        if record.way.reverse {
            self.end_semi_sync()?;
        }
        for event in self.old.rows(ENABLED)? {
            self.new.run(&enable(event.at(0), event.at(1), event.at(2)))?;
        }
        let scheduler = self.new.value("SELECT @@global.event_scheduler")?;
        if record.before.events && !is_on(&scheduler) {
            if scheduler == "DISABLED" {
                self.report.note("the new primary was started with event_scheduler=DISABLED: events do not run");
            } else {
                self.new.run("SET GLOBAL event_scheduler = ON")?;
            }
        }
        if !record.before.events {
            return Ok(());
        }
        if !record.way.reverse {
            self.report.note("the event scheduler of the old primary stays off: its events are still enabled there");
            return Ok(());
        }
        self.wait(PATIENCE, "the events are disabled on the old primary", |live| {
            Ok(live.old.rows(ENABLED)?.is_empty())
        })?;
        self.set_scheduler(true)
    }
}
