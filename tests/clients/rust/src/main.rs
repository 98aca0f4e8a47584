//! Rust clients for `cargo xtask clients`: one command per line in, one answer per line out.
//!
//! The argument names the client: `mysql` or `sqlx`.

use std::env;
use std::fmt::Write;
use std::io::stdin;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder, Pool, PoolConstraints, PoolOpts, SslOpts};
use sqlx::mysql::{
    MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlPool, MySqlPoolOptions, MySqlSslMode,
};
use sqlx::{Connection, Row};

fn main() -> Result<()> {
    match env::args().nth(1).as_deref() {
        Some("mysql") => with_mysql(),
        Some("sqlx") => tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(with_sqlx()),
        other => bail!("no client {other:?}"),
    }
}

fn variable(name: &str) -> Result<String> {
    env::var(name).context(name.to_owned())
}

fn query() -> Result<String> {
    variable("DB_QUERY")
}

/// A statement with a parameter; none for a server that prepares nothing.
fn prepared() -> Option<String> {
    Some(format!("{} {}", query().ok()?, env::var("DB_CONDITION").ok()?))
}

/// The file of the authority, for TLS.
fn authority() -> Option<PathBuf> {
    env::var_os("DB_AUTHORITY").map(PathBuf::from)
}

fn answer(names: Result<String>) {
    match names {
        Ok(names) => println!("ok {names}"),
        Err(error) => println!("error {} {}", code(&error), error.to_string().replace('\n', " ")),
    }
}

/// The server's error code, or 0 for an error of the client.
fn code(error: &anyhow::Error) -> u16 {
    if let Some(mysql::Error::MySqlError(error)) = error.downcast_ref() {
        return error.code;
    }
    let error = error.downcast_ref().and_then(sqlx::Error::as_database_error);
    error.and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>()).map_or(0, MySqlDatabaseError::number)
}

fn mysql_options() -> Result<OptsBuilder> {
    Ok(OptsBuilder::new()
        .ip_or_hostname(Some(variable("DB_HOST")?))
        .tcp_port(variable("DB_PORT")?.parse()?)
        .prefer_socket(false)
        .user(Some(variable("DB_USER")?))
        .pass(Some(variable("DB_PASSWORD")?))
        .db_name(Some(variable("DB_NAME")?))
        .ssl_opts(authority().map(|file| SslOpts::default().with_root_cert_path(Some(file)))))
}

fn use_mysql(conn: &mut Conn) -> Result<String> {
    let query = query()?;
    let before: Option<String> = conn.query_first(&query)?;
    let middle: Option<String> = match prepared() {
        Some(prepared) => conn.exec_first(prepared, (1,))?,
        None => conn.query_first(&query)?,
    };
    let after: Option<String> = conn.query_first(&query)?;
    Ok([before, middle, after].map(Option::unwrap_or_default).join(" "))
}

fn with_mysql() -> Result<()> {
    let constraints = PoolConstraints::new(0, 2).context("constraints")?;
    let pool = Pool::new(mysql_options()?.pool_opts(PoolOpts::new().with_constraints(constraints)))?;
    for line in stdin().lines() {
        answer(match line?.as_str() {
            "pool" => pool.get_conn().map_err(Into::into).and_then(|mut conn| use_mysql(conn.as_mut())),
            _ => Conn::new(mysql_options()?).map_err(Into::into).and_then(|mut conn| use_mysql(&mut conn)),
        });
    }
    Ok(())
}

async fn use_sqlx(connection: &mut MySqlConnection) -> Result<String> {
    let query = query()?;
    let mut rows = match prepared() {
        Some(prepared) => vec![
            sqlx::query(&query).persistent(false).fetch_one(&mut *connection).await?,
            sqlx::query(&prepared).bind(1).fetch_one(&mut *connection).await?,
        ],
        None => vec![
            sqlx::raw_sql(&query).fetch_one(&mut *connection).await?,
            sqlx::raw_sql(&query).fetch_one(&mut *connection).await?,
        ],
    };
    rows.push(sqlx::raw_sql(&query).fetch_one(&mut *connection).await?);
    let mut names = String::new();
    for row in rows {
        write!(names, "{} ", row.try_get::<String, _>(0)?)?;
    }
    Ok(names.trim_end().to_owned())
}

async fn with_sqlx() -> Result<()> {
    let mut options = MySqlConnectOptions::new()
        .host(&variable("DB_HOST")?)
        .port(variable("DB_PORT")?.parse()?)
        .username(&variable("DB_USER")?)
        .password(&variable("DB_PASSWORD")?)
        .database(&variable("DB_NAME")?)
        .ssl_mode(MySqlSslMode::Disabled);
    if let Some(file) = authority() {
        options = options.ssl_mode(MySqlSslMode::VerifyIdentity).ssl_ca(file);
    }
    // The default is 30 seconds.
    let pool: MySqlPool =
        MySqlPoolOptions::new().acquire_timeout(Duration::from_secs(3)).connect_lazy_with(options.clone());
    for line in stdin().lines() {
        answer(match line?.as_str() {
            "pool" => match pool.acquire().await {
                Ok(mut connection) => use_sqlx(&mut connection).await,
                Err(error) => Err(error.into()),
            },
            _ => match MySqlConnection::connect_with(&options).await {
                Ok(mut connection) => use_sqlx(&mut connection).await,
                Err(error) => Err(error.into()),
            },
        });
    }
    Ok(())
}
