//! The two drivers, behind one interface.

mod mysql;
mod mysql_async;

use std::fmt;

use anyhow::{Result, bail};
use instant_failover_client::Trust;
use serde::Deserialize;

/// Where and how to connect.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Options {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// A list to choose from, each `host:port`.
    pub(crate) hosts: Option<Vec<String>>,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: Option<String>,
    pub(crate) tls: Tls,
    pub(crate) ca: Option<String>,
    pub(crate) follow: Option<String>,
    /// In seconds.
    pub(crate) timeout: Option<u64>,
    /// Of a pool.
    pub(crate) size: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tls {
    Off,
    /// Without verification.
    Require,
    /// The authority and the name.
    Verify,
}

impl Options {
    /// The host. The drivers take one; of a list, they get them all.
    fn host(&self) -> String {
        self.hosts.as_ref().map_or_else(|| self.host.clone(), |hosts| hosts.join(","))
    }

    /// Who may redirect, if not the environment says that.
    fn trust(&self) -> Result<Option<Trust>> {
        Ok(self.follow.as_deref().map(str::parse).transpose()?)
    }
}

/// An error, with the server's code, or 0.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u16,
    pub(crate) message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.message)
    }
}

impl Failure {
    fn local(error: impl fmt::Display) -> Self {
        Self { code: 0, message: error.to_string() }
    }
}

pub(crate) type Outcome<T> = std::result::Result<T, Failure>;

pub(crate) trait Driver: Sync {
    fn connect(&self, options: &Options) -> Outcome<Box<dyn Session>>;
    fn pool(&self, options: &Options) -> Outcome<Box<dyn Pool>>;
}

pub(crate) trait Session {
    /// The first column of the first row.
    fn query(&mut self, sql: &str) -> Outcome<Option<String>>;
}

pub(crate) trait Pool: Send + Sync {
    /// A connection, which goes back when it is dropped.
    fn get(&self) -> Outcome<Box<dyn Session>>;
}

pub(crate) fn by_name(name: &str) -> Result<Box<dyn Driver>> {
    match name {
        "mysql" => Ok(Box::new(mysql::Blocking)),
        "mysql_async" => Ok(Box::new(mysql_async::Async::new()?)),
        _ => bail!("no driver {name}; give mysql or mysql_async"),
    }
}
