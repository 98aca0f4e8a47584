//! The stand-in on the address of a server that is dead: it lets clients wait, and then redirects them.

use failover::ModeError;

use crate::database::{Session, SqlError, quoted};
use crate::plan::record::StandInBefore;
use crate::plan::seen::StandIn;
use crate::probe::Probe;
use crate::servers::Entry;

/// What a stand-in says that it is.
const COMMENT: &str = "instant-failover-harness";

/// A stand-in and the session on it.
pub struct StandInLink {
    /// Its entry in the file; or that of the server, where the stand-in has taken over its socket.
    pub entry: Entry,
    /// Why it was not reached the last time.
    pub problem: String,
    session: Option<Session>,
}

impl StandInLink {
    /// Not yet connected.
    #[must_use]
    pub fn new(entry: Entry) -> Self {
        Self { entry, problem: String::new(), session: None }
    }

    fn session(&mut self) -> Result<&mut Session, SqlError> {
        if self.session.is_none() {
            let mut session = Session::open(&self.entry)?;
            let comment = session.value("SELECT @@version_comment")?;
            if !comment.starts_with(COMMENT) {
                let message = format!("a server that is no stand-in answers there: version_comment is '{comment}'");
                return Err(SqlError::Strange(message));
            }
            self.session = Some(session);
        }
        self.session.as_mut().ok_or_else(|| SqlError::Lost("no session".to_owned()))
    }

    fn asking<T>(&mut self, ask: impl Fn(&mut Session) -> Result<T, SqlError>) -> Result<T, SqlError> {
        let result = self.session().and_then(&ask);
        let Err(SqlError::Lost(_)) = &result else { return result };
        // It may have restarted. Everything that is asked here can be asked again.
        self.session = None;
        let result = self.session().and_then(&ask);
        if result.is_err() {
            self.session = None;
        }
        result
    }

    /// What it shows; `None` if it does not answer, or is not a stand-in.
    pub fn look(&mut self) -> Option<StandIn> {
        let row = self.asking(|session| session.row("SELECT @@instant_failover_mode, @@instant_failover_target"));
        match row.map(|row| row.at(0).parse().map(|mode| StandIn { mode, target: row.at(1).to_owned() })) {
            Ok(Ok(stand_in)) => Some(stand_in),
            Ok(Err(error)) => {
                self.problem = format!("its mode: {error}");
                None
            }
            Err(error) => {
                self.problem = error.to_string();
                None
            }
        }
    }

    /// What it is like, to be restored.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn before(&mut self) -> Result<StandInBefore, SqlError> {
        let sql = "SELECT @@instant_failover_mode, @@instant_failover_hold_timeout, @@instant_failover_target";
        let row = self.asking(|session| session.row(sql))?;
        let strange = |error: ModeError| SqlError::Strange(format!("its mode: {error}"));
        Ok(StandInBefore {
            mode: row.at(0).parse().map_err(strange)?,
            hold_timeout: row.at(1).parse().unwrap_or_default(),
            target: row.at(2).to_owned(),
        })
    }

    /// Sets everything at once.
    ///
    /// # Errors
    /// If it refuses, or does not answer.
    pub fn set(&mut self, to: &StandInBefore) -> Result<(), SqlError> {
        let sql = format!(
            "SET GLOBAL instant_failover_hold_timeout = {}, instant_failover_target = {}, instant_failover_mode = '{}'",
            to.hold_timeout,
            quoted(&to.target),
            to.mode.name()
        );
        self.asking(|session| session.run(&sql))
    }

    /// Whether it is what greets at an address: the connection id of that greeting is between those of two sessions here.
    pub fn is_at(&mut self, probe: impl Fn() -> Probe) -> bool {
        let open = |entry: &Entry| Session::open(entry).map(|session| session.id()).ok();
        let Some(before) = open(&self.entry) else { return false };
        let Probe::Greets { connection, .. } = probe() else { return false };
        let Some(after) = open(&self.entry) else { return false };
        self.look().is_some() && before < connection && connection < after
    }
}
