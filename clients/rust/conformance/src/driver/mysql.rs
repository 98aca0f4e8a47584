//! `mysql`, with r2d2.

use std::path::PathBuf;
use std::time::Duration;

use instant_failover_client::mysql::{Manager, connect, connect_trusting};
use mysql::prelude::Queryable;
use mysql::{Conn, Error, Opts, OptsBuilder, SslOpts};

use super::{Driver, Failure, Options, Outcome, Pool, Session, Tls};

pub(super) struct Blocking;

impl Driver for Blocking {
    fn connect(&self, options: &Options) -> Outcome<Box<dyn Session>> {
        let opts = opts(options);
        let conn = match options.trust().map_err(Failure::local)? {
            Some(trust) => connect_trusting(opts, trust),
            None => connect(opts),
        };
        Ok(Box::new(conn.map_err(failure)?))
    }

    fn pool(&self, options: &Options) -> Outcome<Box<dyn Pool>> {
        let mut manager = Manager::new(opts(options));
        if let Some(trust) = options.trust().map_err(Failure::local)? {
            manager = manager.trusting(trust);
        }
        let pool = r2d2::Pool::builder()
            .max_size(options.size.unwrap_or(4))
            .min_idle(Some(0))
            .error_handler(Box::new(r2d2::NopErrorHandler))
            .connection_timeout(Duration::from_secs(options.timeout.unwrap_or(10)))
            .build_unchecked(manager);
        Ok(Box::new(pool))
    }
}

fn opts(options: &Options) -> Opts {
    let host = options.host();
    let host = if options.hosts.is_none() && host.contains(':') { format!("[{host}]") } else { host };
    let ssl = SslOpts::default().with_root_cert_path(options.ca.clone().map(PathBuf::from));
    let ssl = match options.tls {
        Tls::Off => None,
        Tls::Require => Some(ssl.with_danger_accept_invalid_certs(true)),
        Tls::Verify => Some(ssl),
    };
    OptsBuilder::new()
        .ip_or_hostname(Some(host))
        .tcp_port(options.port)
        .prefer_socket(false)
        .user(Some(&options.user))
        .pass(Some(&options.password))
        .db_name(options.database.as_deref())
        .tcp_connect_timeout(options.timeout.map(Duration::from_secs))
        .ssl_opts(ssl)
        .into()
}

impl Session for Conn {
    fn query(&mut self, sql: &str) -> Outcome<Option<String>> {
        let value: Option<Option<String>> = self.query_first(sql).map_err(failure)?;
        Ok(value.flatten())
    }
}

impl Session for r2d2::PooledConnection<Manager> {
    fn query(&mut self, sql: &str) -> Outcome<Option<String>> {
        Session::query(&mut **self, sql)
    }
}

impl Pool for r2d2::Pool<Manager> {
    fn get(&self) -> Outcome<Box<dyn Session>> {
        // Of the error that made it give up, r2d2 keeps the text alone.
        Ok(Box::new(self.get().map_err(Failure::local)?))
    }
}

fn failure(error: Error) -> Failure {
    match error {
        Error::MySqlError(error) => Failure { code: error.code, message: error.message },
        other => Failure::local(other),
    }
}
