//! What is read for the check.

use std::collections::{BTreeMap, BTreeSet};

use super::gtid::Transactions;
use super::seen::Server;

/// Everything that the check judges.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The old primary, or why it was not reached.
    pub old: Option<ServerFacts>,
    /// The new primary, or why it was not reached.
    pub new: Option<ServerFacts>,
    /// Which server was reached at the target, as clients reach it.
    pub target: Reached,
    /// Whether the new primary had the position of the old one within [`Wanted::catch_up`]. `None` if that was not tried.
    pub catches_up: Option<bool>,
    /// What the old primary has, read again after the new one.
    pub old_later: Option<Transactions>,
    /// What was asked for.
    pub wanted: Wanted,
}

/// What the DBA asked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The names of both in the file.
    pub old: String,
    /// The name of the new primary.
    pub new: String,
    /// How clients reach the old primary.
    pub old_target: String,
    /// How clients reach the new primary.
    pub target: String,
    /// Whether the old primary becomes a replica.
    pub reverse: bool,
    /// The account with which the old primary replicates.
    pub replication_user: Option<String>,
    /// The `server_id` of each other replica that follows.
    pub replicas: BTreeSet<u32>,
    /// The most seconds that the new primary may be behind.
    pub max_lag: u64,
    /// The most seconds of a transaction or statement.
    pub max_age: u64,
}

/// The most seconds to wait for a position: the check must come to an end, and its session gets no answer meanwhile.
const MAX_CATCH_UP: u64 = 10;

impl Wanted {
    /// How many seconds the new primary may take to reach the present position: as many as it may be behind, within limits.
    #[must_use]
    pub fn catch_up(&self) -> u64 {
        self.max_lag.clamp(1, MAX_CATCH_UP)
    }
}

/// What is at the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reached {
    /// It was not tried.
    #[default]
    Untried,
    /// A server with this `server_id`, and when it started.
    Server {
        /// Its `server_id`.
        server_id: u32,
        /// Its `@@hostname` and port, which with the id tell it from others.
        identity: String,
    },
    /// It answered with an error, or not at all.
    Failed(String),
}

/// A server.
#[derive(Clone, Debug)]
pub struct ServerFacts {
    /// What the switchover itself looks at.
    pub seen: Server,
    /// `SHOW GLOBAL VARIABLES`
    pub variables: BTreeMap<String, String>,
    /// `SHOW GLOBAL STATUS`, in part.
    pub status: BTreeMap<String, String>,
    /// `SHOW ALL SLAVES STATUS`
    pub channels: Vec<BTreeMap<String, String>>,
    /// The version and the status of the plugin.
    pub plugin: Option<(String, String)>,
    /// `@@hostname` and port.
    pub identity: String,
    /// This account, as `CURRENT_USER()`.
    pub account: String,
    /// `SHOW GRANTS`, of roles too.
    pub grants: Vec<String>,
    /// Accounts and roles; `None` if `mysql.global_priv` cannot be read.
    pub accounts: Option<Vec<Account>>,
    /// What is under way for long: a text each.
    pub long: Vec<String>,
    /// Sessions that a switchover would have to wait for, or interrupt: backups, locks.
    pub obstacles: Vec<String>,
    /// Prepared XA transactions.
    pub prepared: usize,
    /// Enabled events, except those of a DBA's safety net.
    pub events: usize,
    /// Definers of routines, triggers and events, `user@host`.
    pub definers: BTreeSet<String>,
    /// `SHOW SLAVE HOSTS`: `server_id`, host and port.
    pub replicas: Vec<(u32, String)>,
    /// The number of sessions of clients.
    pub sessions: u64,
    /// Holders of `GET_LOCK` locks, if the server can tell.
    pub user_locks: Vec<String>,
    /// What seems to be another manager of replication.
    pub managers: Vec<String>,
}

impl ServerFacts {
    /// Nothing but what the switchover itself looks at.
    #[must_use]
    pub fn of(seen: Server) -> Self {
        Self {
            seen,
            variables: BTreeMap::new(),
            status: BTreeMap::new(),
            channels: Vec::new(),
            plugin: None,
            identity: String::new(),
            account: String::new(),
            grants: Vec::new(),
            accounts: None,
            long: Vec::new(),
            obstacles: Vec::new(),
            prepared: 0,
            events: 0,
            definers: BTreeSet::new(),
            replicas: Vec::new(),
            sessions: 0,
            user_locks: Vec::new(),
            managers: Vec::new(),
        }
    }

    /// A variable; empty where there is none.
    #[must_use]
    pub fn variable(&self, name: &str) -> &str {
        self.variables.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Whether a boolean variable is on.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        matches!(self.variable(name), "ON" | "1")
    }

    /// A number; 0 where there is none.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        self.variable(name).parse().unwrap_or_default()
    }

    /// Major and minor version.
    #[must_use]
    pub fn series(&self) -> (u32, u32) {
        series(self.variable("version"))
    }

    /// Whether the plugin can hold and drain.
    #[must_use]
    pub fn can_hold(&self) -> bool {
        self.variables.contains_key("instant_failover_drain")
    }

    /// Exempt users that may write in spite of `read_only`, without this account and the one of replication.
    #[must_use]
    pub fn exempt_writers(&self, replication_user: Option<&str>) -> Vec<String> {
        let own = self.account.rsplit_once('@').map_or(self.account.as_str(), |(user, _)| user);
        let accounts = self.accounts.iter().flatten();
        let able = accounts.filter(|account| account.ignores_read_only && !account.is_role && !account.is_locked);
        let users: BTreeSet<&str> = able.map(|account| account.user.as_str()).collect();
        let users =
            users.into_iter().filter(|user| self.exempts(user) && *user != own && Some(*user) != replication_user);
        users.map(str::to_owned).collect()
    }

    /// Whether the plugin exempts a user.
    #[must_use]
    pub fn exempts(&self, user: &str) -> bool {
        self.variable("instant_failover_exempt_users").split(',').any(|name| name.trim() == user)
    }
}

/// Major and minor version.
#[must_use]
pub fn series(version: &str) -> (u32, u32) {
    let mut parts = version.split(['.', '-']).map(|part| part.parse().unwrap_or_default());
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// An account or a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub user: String,
    /// The host; empty for a role.
    pub host: String,
    /// Whether it may write in spite of `read_only`, also by a role.
    pub ignores_read_only: bool,
    /// How it authenticates: the plugin and what that stores. For comparing only.
    pub authentication: String,
    /// Whether it is a role.
    pub is_role: bool,
    /// Whether nobody can log in.
    pub is_locked: bool,
}
