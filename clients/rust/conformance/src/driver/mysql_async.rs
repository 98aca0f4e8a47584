//! `mysql_async`, with deadpool.

use std::ops::DerefMut;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use deadpool::Runtime as PoolRuntime;
use deadpool::managed::{Object, PoolError};
use instant_failover_client::mysql_async::{Manager, connect, connect_trusting};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Opts, OptsBuilder, SslOpts};
use tokio::runtime::{Handle, Runtime};

use super::{Driver, Failure, Options, Outcome, Session, Tls};

pub(super) struct Async(Runtime);

impl Async {
    pub(super) fn new() -> Result<Self> {
        Ok(Self(Runtime::new()?))
    }
}

impl Driver for Async {
    fn connect(&self, options: &Options) -> Outcome<Box<dyn Session>> {
        let (opts, trust) = (opts(options), options.trust().map_err(Failure::local)?);
        let attempt = async {
            match trust {
                Some(trust) => connect_trusting(opts, trust).await,
                None => connect(opts).await,
            }
        };
        let limit = timeout(options);
        let limited = self.0.block_on(async { tokio::time::timeout(limit, attempt).await });
        let conn = limited.map_err(Failure::local)?.map_err(failure)?;
        Ok(Box::new(Connection { conn: Box::new(conn), handle: self.0.handle().clone() }))
    }

    fn pool(&self, options: &Options) -> Outcome<Box<dyn super::Pool>> {
        let mut manager = Manager::new(opts(options));
        if let Some(trust) = options.trust().map_err(Failure::local)? {
            manager = manager.trusting(trust);
        }
        let pool = deadpool::managed::Pool::builder(manager)
            .max_size(options.size.unwrap_or(4) as usize)
            .create_timeout(Some(timeout(options)))
            .runtime(PoolRuntime::Tokio1)
            .build()
            .map_err(Failure::local)?;
        Ok(Box::new(Pool { pool, handle: self.0.handle().clone() }))
    }
}

fn timeout(options: &Options) -> Duration {
    Duration::from_secs(options.timeout.unwrap_or(10))
}

fn opts(options: &Options) -> Opts {
    let roots = options.ca.iter().map(|path| PathBuf::from(path).into()).collect();
    let ssl = SslOpts::default().with_root_certs(roots);
    let ssl = match options.tls {
        Tls::Off => None,
        Tls::Require => Some(ssl.with_danger_accept_invalid_certs(true)),
        Tls::Verify => Some(ssl),
    };
    OptsBuilder::default()
        .ip_or_hostname(options.host())
        .tcp_port(options.port)
        .prefer_socket(false)
        .user(Some(&options.user))
        .pass(Some(&options.password))
        .db_name(options.database.as_deref())
        .ssl_opts(ssl)
        .into()
}

/// A connection of its own or one of a pool, and where its future runs.
struct Connection<C> {
    conn: C,
    handle: Handle,
}

impl<C: DerefMut<Target = Conn>> Session for Connection<C> {
    fn query(&mut self, sql: &str) -> Outcome<Option<String>> {
        let value: Option<Option<String>> = self.handle.block_on(self.conn.query_first(sql)).map_err(failure)?;
        Ok(value.flatten())
    }
}

struct Pool {
    pool: deadpool::managed::Pool<Manager>,
    handle: Handle,
}

impl super::Pool for Pool {
    fn get(&self) -> Outcome<Box<dyn Session>> {
        let conn: Object<Manager> = self.handle.block_on(self.pool.get()).map_err(|error| match error {
            PoolError::Backend(error) => failure(error),
            other => Failure::local(other),
        })?;
        Ok(Box::new(Connection { conn, handle: self.handle.clone() }))
    }
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Server(error) => Failure { code: error.code, message: error.message },
        other => Failure::local(other),
    }
}
