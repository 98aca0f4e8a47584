//! Sessions on a server.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable as _;
use mysql::{ClientIdentity, Conn, OptsBuilder, SslOpts};

use crate::servers::{Entry, Tls, Way};
use crate::threads;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a statement may take, and a server may be silent. Statements that wait do so for less.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// The lock that says that a command works on a server. It ends with its session, and so after everything that was sent there.
const LOCK: &str = "instant_failover";

/// How long a login may take.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(CONNECT_TIMEOUT.as_secs() + ANSWER_TIMEOUT.as_secs());

/// How a node of a Galera cluster may refuse a lock.
const NOT_SUPPORTED: u16 = 1235;

/// The error number for a variable that does not exist.
pub(crate) const UNKNOWN_VARIABLE: u16 = 1193;

/// The error number of a redirect.
const REDIRECTED: u16 = 4196;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlError {
    /// The server refused: the statement did nothing.
    Refused {
        /// The error number.
        code: u16,
        /// The text.
        message: String,
    },
    /// The connection was lost, or there is none: it is not known whether the statement took effect.
    Lost(String),
    /// Another command holds the server's lock.
    Taken {
        /// The id of its session there.
        holder: String,
    },
    /// The server answered what cannot be understood, or is not what it should be.
    Strange(String),
}

impl SqlError {
    /// The TLS library names its own types.
    fn of_tls(text: &str) -> Self {
        match text.split_once("invalid peer certificate: ") {
            Some((_, why)) => Self::Strange(format!(
                "its certificate is not accepted ({}): it must be signed by a certificate of ssl-ca, not be a CA itself, be valid now, and \
                 name the host as the file does",
                why.trim_end_matches([' ', '}', '\''])
            )),
            None => Self::Lost(text.to_owned()),
        }
    }

    /// Whether the server did not accept the account: wrong user, password or host, locked, or expired.
    #[must_use]
    pub const fn refuses_login(&self) -> bool {
        matches!(self, Self::Refused { code: 1045 | 1130 | 1698 | 1862 | 4151, .. })
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code: UNKNOWN_VARIABLE, message } if message.contains("instant_failover") => {
                write!(f, "{message}: the plugin is not loaded; INSTALL SONAME 'instant_failover'")
            }
            Self::Refused { code: REDIRECTED, message } => {
                let target = message.rsplit('|').next().unwrap_or_default();
                write!(f, "error {REDIRECTED}: it redirects this login to {target}: the account is not exempt there")
            }
            Self::Refused { code, message } => write!(f, "error {code}: {message}"),
            Self::Lost(why) => write!(f, "no answer: {why}"),
            Self::Taken { holder } => write!(
                f,
                "another instant-failover is working on this server: connection {holder} (if that command has certainly \
                 ended: KILL {holder}); or both names lead to the same server"
            ),
            Self::Strange(what) => f.write_str(what),
        }
    }
}

impl From<mysql::Error> for SqlError {
    fn from(error: mysql::Error) -> Self {
        match error {
            // The server ends the session with these.
            mysql::Error::MySqlError(error) if matches!(error.code, 1053 | 1927) => Self::Lost(error.message),
            mysql::Error::MySqlError(error) => Self::Refused { code: error.code, message: error.message },
            mysql::Error::DriverError(mysql::DriverError::TlsNotSupported) => Self::Strange(NO_TLS.to_owned()),
            mysql::Error::DriverError(error) => Self::Lost(plain(&error)),
            mysql::Error::IoError(error) => Self::Lost(error.to_string()),
            error => Self::of_tls(&error.to_string()),
        }
    }
}

const NO_TLS: &str = "it has no TLS, which the file with the servers asks for (ssl-ca): give it a certificate, or write skip-ssl in its \
                      section to send the password without";

/// In words for a DBA.
fn plain(error: &mysql::DriverError) -> String {
    use mysql::DriverError::{ConnectTimeout, CouldNotConnect, Timeout};
    match error {
        ConnectTimeout => format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()),
        CouldNotConnect(Some((address, why, _))) => format!("{address}: {why}"),
        Timeout => format!("nothing within {} s", ANSWER_TIMEOUT.as_secs()),
        error => error.to_string(),
    }
}

/// A row, by the names of its columns.
#[derive(Clone, Debug, Default)]
pub struct Row(Vec<(String, Option<String>)>);

impl Row {
    /// A value; empty where it is NULL, or where there is no such column.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        let column = self.0.iter().find(|(column, _)| column.eq_ignore_ascii_case(name));
        column.and_then(|(_, value)| value.as_deref()).unwrap_or_default()
    }

    /// All values that are not NULL.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.0.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect()
    }

    /// The value of a column by its place.
    #[must_use]
    pub fn at(&self, place: usize) -> &str {
        self.0.get(place).and_then(|(_, value)| value.as_deref()).unwrap_or_default()
    }
}

impl From<mysql::Row> for Row {
    fn from(row: mysql::Row) -> Self {
        let names: Vec<String> = row.columns_ref().iter().map(|column| column.name_str().into_owned()).collect();
        let values = row.unwrap_raw().into_iter().map(|value| match value {
            None | Some(mysql::Value::NULL) => None,
            Some(mysql::Value::Bytes(bytes)) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Some(other) => Some(other.as_sql(true).trim_matches('\'').to_owned()),
        });
        Self(names.into_iter().zip(values).collect())
    }
}

/// Logs in. Without a limit for all of it, a Unix socket whose backlog is full would be waited for without end.
pub(crate) fn connect(options: OptsBuilder, patience: Duration) -> Result<Conn, SqlError> {
    let opened = threads::within(patience, || Conn::new(options));
    Ok(opened.ok_or_else(|| SqlError::Lost(format!("no login within {} s", patience.as_secs_f64())))??)
}

/// A session.
pub struct Session {
    connection: Conn,
}

impl Session {
    /// Logs in.
    ///
    /// # Errors
    /// If the server refuses, or does not answer.
    pub fn open(entry: &Entry) -> Result<Self, SqlError> {
        Self::open_at(entry, &entry.way)
    }

    /// Logs in over another way than the administrator's, as clients do.
    ///
    /// # Errors
    /// If the server refuses, or does not answer.
    pub fn open_at(entry: &Entry, way: &Way) -> Result<Self, SqlError> {
        let password = entry.password().map_err(SqlError::Strange)?;
        let mut options = OptsBuilder::new()
            .user(Some(&entry.user))
            .pass(Some(password.reveal()))
            .tcp_connect_timeout(Some(CONNECT_TIMEOUT))
            .read_timeout(Some(ANSWER_TIMEOUT))
            .write_timeout(Some(ANSWER_TIMEOUT))
            .prefer_socket(false)
            .stmt_cache_size(0);
        match way {
            Way::Socket(socket) => options = options.socket(Some(socket)),
            Way::Tcp { host, port, tls } => {
                options = options.ip_or_hostname(Some(host)).tcp_port(*port);
                if let Tls::Verified { ca, identity } = tls {
                    let files = std::iter::once(ca).chain(identity.iter().flat_map(|(one, other)| [one, other]));
                    for file in files {
                        let readable = std::fs::File::open(file);
                        readable.map_err(|error| SqlError::Strange(format!("{}: {error}", file.display())))?;
                    }
                    let identity = identity.clone().map(|(certificate, key)| ClientIdentity::new(certificate, key));
                    options = options.ssl_opts(
                        SslOpts::default().with_root_cert_path(Some(ca.clone())).with_client_identity(identity),
                    );
                }
            }
        }
        let mut session = Self { connection: connect(options, LOGIN_TIMEOUT)? };
        session.run("SET SESSION sql_mode = '', autocommit = 1, lock_wait_timeout = 5, wait_timeout = 28800")?;
        Ok(session)
    }

    /// The id in the process list.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.connection.connection_id()
    }

    /// Runs a statement without a result.
    ///
    /// # Errors
    /// If the server refuses, or does not answer.
    pub fn run(&mut self, sql: &str) -> Result<(), SqlError> {
        self.rows(sql).map(drop)
    }

    /// Runs a statement.
    ///
    /// # Errors
    /// If the server refuses, or does not answer.
    pub fn rows(&mut self, sql: &str) -> Result<Vec<Row>, SqlError> {
        let rows: Vec<mysql::Row> = self.connection.query(sql)?;
        Ok(rows.into_iter().map(Row::from).collect())
    }

    /// The only row of a result.
    ///
    /// # Errors
    /// If the server refuses, or does not answer.
    pub fn row(&mut self, sql: &str) -> Result<Row, SqlError> {
        Ok(self.rows(sql)?.into_iter().next().unwrap_or_default())
    }

    /// The only value of a result.
    ///
    /// # Errors
    /// If the server refuses, or does not answer.
    pub fn value(&mut self, sql: &str) -> Result<String, SqlError> {
        Ok(self.row(sql)?.at(0).to_owned())
    }

    /// Takes the lock, and holds it until this session ends. A node of a Galera cluster may have no locks.
    ///
    /// # Errors
    /// [`SqlError::Taken`], if another session holds it for longer than that.
    pub fn lock(&mut self, patience: Duration) -> Result<(), SqlError> {
        let sql = format!("SELECT GET_LOCK('{LOCK}', {})", patience.as_secs_f64());
        match self.value(&sql) {
            Ok(got) if got == "1" => return Ok(()),
            Err(SqlError::Refused { code: NOT_SUPPORTED, .. }) => return Ok(()),
            got => got?,
        };
        let holder = self.value(&format!("SELECT IS_USED_LOCK('{LOCK}')"))?;
        Err(SqlError::Taken { holder })
    }

    /// Ends another session of this account, and waits until everything that was sent through it has been executed or never will
    /// be. If the id belongs to somebody else, the server has restarted since, and that one stays.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn end_other(&mut self, id: u32) -> Result<(), SqlError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let there = format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {id} AND USER = SUBSTRING_INDEX(USER(), '@', 1)"
        );
        loop {
            if self.value(&there)? == "0" {
                return Ok(());
            }
            match self.run(&format!("KILL {id}")) {
                Ok(()) | Err(SqlError::Refused { code: 1094, .. }) => {}
                Err(error) => return Err(error),
            }
            if Instant::now() > deadline {
                return Err(SqlError::Lost(format!("connection {id} does not end")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A string as a literal. It relies on `sql_mode = ''`, which every session sets.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A name in backquotes.
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::{SqlError, identifier, quoted};

    #[test]
    fn what_a_driver_says_is_said_in_words() {
        let nobody = mysql::OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(1).prefer_socket(false);
        let limited = nobody.clone().tcp_connect_timeout(Some(super::CONNECT_TIMEOUT));
        for options in [nobody, limited] {
            let error = SqlError::from(mysql::Conn::new(options).unwrap_err()).to_string();
            assert_eq!(error, "no answer: 127.0.0.1:1: Connection refused (os error 111)");
        }
        let error = SqlError::from(mysql::Error::DriverError(mysql::DriverError::ConnectTimeout)).to_string();
        assert_eq!(error, "no answer: no connection within 3 s");
        let error = SqlError::from(mysql::Error::DriverError(mysql::DriverError::TlsNotSupported)).to_string();
        assert!(error.starts_with("it has no TLS, ") && error.contains("skip-ssl"), "{error}");
        let text = "CodecError { IO error: 'invalid peer certificate: UnknownIssuer' }";
        let error = SqlError::of_tls(text).to_string();
        assert!(error.starts_with("its certificate is not accepted (UnknownIssuer): "), "{error}");
    }

    #[test]
    fn literals() {
        assert_eq!(quoted("o'brien\\"), r"'o''brien\\'");
        assert_eq!(identifier("a`b"), "`a``b`");
    }
}
