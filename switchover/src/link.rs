//! The administrator's session on one server, opened again when it is lost.

use std::time::Duration;

use crate::database::{Row, Session, SqlError, UNKNOWN_VARIABLE};
use crate::look::{self, Abilities, Other};
use crate::plan::seen::Server;
use crate::servers::Entry;

/// How long another command may hold the lock before this one gives up. A command that was killed loses it at once.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// A server and the session on it.
pub struct Link {
    /// The server.
    pub entry: Entry,
    /// What its plugin can do.
    pub abilities: Abilities,
    /// Its `server_id`, as soon as it is known.
    pub server_id: Option<u32>,
    /// Why it was not reached the last time.
    pub(crate) problem: Option<SqlError>,
    session: Option<Session>,
    /// Sessions of ours that were lost: the server may still work for them.
    lost: Vec<u32>,
    /// Whether a session, and the lock with it, was lost.
    was_lost: bool,
    /// Whether to hold the lock.
    locks: bool,
}

impl Link {
    /// Not yet connected. Only commands that change something hold the lock.
    #[must_use]
    pub fn new(entry: Entry, locks: bool) -> Self {
        Self {
            entry,
            abilities: Abilities::default(),
            server_id: None,
            problem: None,
            session: None,
            lost: Vec::new(),
            was_lost: false,
            locks,
        }
    }

    /// The session. A new one first ends those that were lost.
    ///
    /// # Errors
    /// If the server does not answer, or another command holds the lock.
    pub fn session(&mut self) -> Result<&mut Session, SqlError> {
        if self.session.is_none() {
            let mut session = Session::open(&self.entry)?;
            if let Err(error) = self.begin(&mut session) {
                // It may hold the lock.
                self.lost.push(session.id());
                return Err(error);
            }
            return Ok(self.session.insert(session));
        }
        if !self.lost.is_empty()
            && let Some(mut session) = self.session.take()
        {
            let ended = self.end_lost(&mut session);
            self.session = Some(session);
            self.noting(ended)?;
        }
        self.session.as_mut().ok_or_else(|| SqlError::Lost("no session".to_owned()))
    }

    fn begin(&mut self, session: &mut Session) -> Result<(), SqlError> {
        self.end_lost(session)?;
        if self.locks {
            session.lock(LOCK_PATIENCE)?;
        }
        self.abilities = Abilities::read(session)?;
        Ok(())
    }

    fn end_lost(&mut self, session: &mut Session) -> Result<(), SqlError> {
        while let Some(id) = self.lost.last() {
            session.end_other(*id)?;
            self.lost.pop();
        }
        Ok(())
    }

    /// Another session of ours on this server was lost. It is ended before anything else happens.
    pub fn has_lost(&mut self, id: u32) {
        self.lost.push(id);
    }

    /// Whether another command held the lock when it was tried last.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        matches!(self.problem, Some(SqlError::Taken { .. }))
    }

    /// Why it was not reached the last time.
    #[must_use]
    pub fn problem(&self) -> SqlError {
        self.problem.clone().unwrap_or_else(|| SqlError::Lost("not asked".to_owned()))
    }

    /// Whether this held the lock all the time since it was taken first: no other command has worked on this server since.
    #[must_use]
    pub const fn is_unbroken(&self) -> bool {
        self.session.is_some() && !self.was_lost
    }

    /// The id of the session, if there is one.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.session.as_ref().map(Session::id)
    }

    /// Runs a statement.
    ///
    /// # Errors
    /// If the server refuses, or does not answer.
    pub fn rows(&mut self, sql: &str) -> Result<Vec<Row>, SqlError> {
        let result = self.session().and_then(|session| session.rows(sql));
        self.noting(result)
    }

    /// Runs a statement without a result.
    ///
    /// # Errors
    /// If the server refuses, or does not answer.
    pub fn run(&mut self, sql: &str) -> Result<(), SqlError> {
        self.rows(sql).map(drop)
    }

    /// The only value of a result.
    ///
    /// # Errors
    /// If the server refuses, or does not answer.
    pub fn value(&mut self, sql: &str) -> Result<String, SqlError> {
        Ok(self.rows(sql)?.first().map(|row| row.at(0).to_owned()).unwrap_or_default())
    }

    /// When the server started, by its own clock in seconds since 1970; exact to a second.
    ///
    /// # Errors
    /// If the server refuses, or does not answer.
    pub fn started(&mut self) -> Result<u64, SqlError> {
        let sql = "SELECT UNIX_TIMESTAMP() - VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'UPTIME'";
        let value = self.value(sql)?;
        let seconds = value.split('.').next().unwrap_or_default();
        seconds.parse().map_err(|_| SqlError::Strange(format!("the time of start is '{value}'")))
    }

    /// What the server shows; `None` if it does not answer, also not to a new session.
    pub fn look(&mut self, other: &Entry, other_id: Option<u32>) -> Option<Server> {
        for _ in 0..2 {
            let other = Other { server_id: other_id, replication: &other.replication };
            let is_new = self.session.is_none();
            let abilities = match self.session() {
                Ok(_) => self.abilities,
                Err(error) => {
                    self.problem = Some(error);
                    // Each try may take long.
                    if is_new {
                        return None;
                    }
                    continue;
                }
            };
            let result = self.session().and_then(|session| look::server(session, abilities, other));
            match self.noting(result) {
                Ok(server) => {
                    self.server_id = Some(server.server_id);
                    return Some(server);
                }
                Err(error) => {
                    let is_unloaded = matches!(error, SqlError::Refused { code: UNKNOWN_VARIABLE, .. });
                    self.problem = Some(error);
                    if is_unloaded {
                        self.look_again_for_the_plugin();
                    }
                }
            }
        }
        None
    }

    /// It was unloaded, or loaded with another version, since the session was opened.
    fn look_again_for_the_plugin(&mut self) {
        let abilities = self.session().and_then(Abilities::read);
        if let Ok(abilities) = self.noting(abilities) {
            self.abilities = abilities;
        }
    }

    /// Gives up a session that was lost.
    fn noting<T>(&mut self, result: Result<T, SqlError>) -> Result<T, SqlError> {
        if let (Err(SqlError::Lost(_)), Some(session)) = (&result, &self.session) {
            self.lost.push(session.id());
            self.session = None;
            self.was_lost = true;
        }
        result
    }
}
