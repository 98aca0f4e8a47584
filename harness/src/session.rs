//! The commands of clients that have logged in.
//!
//! This server has no data: it answers what clients ask when they connect, and shows the settings and the counters.
//! Anything else is refused with an error that says what this server is.

mod evaluate;
mod pattern;
mod statement;
mod variables;

use failover::Variable;
use mysql_common::constants::CapabilityFlags;
use tracing::debug;

use self::statement::{Assignment, Scope, Show, Statement};
use super::accounts::Authenticated;
use super::packet::{Cell, Next, SqlError, Value, Writer};
use super::shared::Shared;

pub(super) const COM_CHANGE_USER: u8 = 17;

/// The only global variable, besides the settings, that can be set.
const PROXY_NETWORKS: &str = "proxy_protocol_networks";

const COM_QUIT: u8 = 1;
const COM_INIT_DB: u8 = 2;
const COM_QUERY: u8 = 3;
const COM_STATISTICS: u8 = 9;
const COM_PING: u8 = 14;
const COM_STMT_PREPARE: u8 = 22;
const COM_STMT_SEND_LONG_DATA: u8 = 24;
const COM_STMT_CLOSE: u8 = 25;
const COM_SET_OPTION: u8 = 27;
const COM_RESET_CONNECTION: u8 = 31;

/// What setting the mode tells if that ends a drain.
const DRAIN_ENDED: &str = "instant_failover_drain is OFF too: nothing is drained in mode OFF";

/// As in MariaDB, which refuses every `COM_CHANGE_USER` after this many failures.
const MAX_FAILED_CHANGES: u8 = 3;

/// One line of `SHOW WARNINGS`.
#[derive(Debug)]
struct Warning {
    level: &'static str,
    message: String,
}

/// A client that has logged in, and the variables of its session.
#[derive(Debug)]
pub(super) struct Session {
    id: u32,
    user: String,
    host: String,
    database: Option<String>,
    capabilities: CapabilityFlags,
    administrator: bool,
    cipher: Option<&'static str>,
    variables: variables::SessionVariables,
    warnings: Vec<Warning>,
    failed_changes: u8,
}

impl Session {
    /// A session of a client that has authenticated.
    pub(super) fn new(
        id: u32,
        user: String,
        host: String,
        capabilities: CapabilityFlags,
        proof: &Authenticated,
    ) -> Self {
        Self {
            id,
            user,
            host,
            database: None,
            capabilities,
            administrator: proof.administrator(),
            cipher: None,
            variables: variables::SessionVariables::default(),
            warnings: Vec::new(),
            failed_changes: 0,
        }
    }

    pub(super) fn set_database(&mut self, database: Option<String>) {
        self.database = database;
    }

    fn use_database(&mut self, name: &str) -> Result<(), SqlError> {
        check_database(name)?;
        self.database = Some(name.to_owned());
        Ok(())
    }

    pub(super) const fn set_cipher(&mut self, cipher: Option<&'static str>) {
        self.cipher = cipher;
    }

    pub(super) fn user(&self) -> &str {
        &self.user
    }

    pub(super) const fn capabilities(&self) -> CapabilityFlags {
        self.capabilities
    }

    pub(super) const fn may_change_user(&self) -> bool {
        self.failed_changes < MAX_FAILED_CHANGES
    }

    pub(super) fn count_failed_change(&mut self) {
        self.failed_changes = self.failed_changes.saturating_add(1);
    }

    /// Executes one command and writes its answer.
    pub(super) fn command(&mut self, packet: &[u8], shared: &Shared, answer: &mut Writer<'_>) -> Next {
        let Some((&command, argument)) = packet.split_first() else {
            answer.error(&unknown_command());
            return Next::Read;
        };
        match command {
            COM_QUIT => return Next::Close,
            COM_PING => answer.ok(0),
            COM_INIT_DB => match utf8(argument).and_then(|name| self.use_database(name)) {
                Ok(()) => answer.ok(0),
                Err(error) => answer.error(&error),
            },
            COM_QUERY => match utf8(argument).and_then(|sql| self.query(sql, shared, answer)) {
                Ok(()) => {}
                Err(error) => {
                    debug!(id = self.id, user = self.user, error = error.message, "statement refused");
                    answer.error(&error);
                }
            },
            COM_STATISTICS => answer.line(&statistics(shared)),
            // The only option is several statements in one query, which this server never accepts.
            COM_SET_OPTION => answer.eof(0),
            COM_RESET_CONNECTION => {
                self.variables = variables::SessionVariables::default();
                self.warnings.clear();
                answer.ok(0);
            }
            // After this error, MariaDB's drivers send the statement as text.
            COM_STMT_PREPARE => answer.error(&statement::not_prepared()),
            // These have no answer.
            COM_STMT_CLOSE | COM_STMT_SEND_LONG_DATA => {}
            0..=COM_RESET_CONNECTION => answer.error(&statement::not_supported()),
            _ => answer.error(&unknown_command()),
        }
        Next::Read
    }

    fn query(&mut self, sql: &str, shared: &Shared, answer: &mut Writer<'_>) -> Result<(), SqlError> {
        let statement = statement::parse(sql)?;
        if !matches!(statement, Statement::Show(Show::Warnings | Show::WarningCount)) {
            self.warnings.clear();
        }
        match statement {
            Statement::Nothing => answer.ok(0),
            Statement::Use(name) => {
                self.use_database(&name)?;
                answer.ok(0);
            }
            Statement::Select { columns, rows } => {
                let row = evaluate::values(columns.iter().map(|(_, expression)| expression), self, shared)?;
                let cells = columns.into_iter().zip(&row).map(|((name, _), value)| Cell { name, value: value.clone() });
                let cells: Vec<_> = cells.collect();
                answer.result(&cells, if rows { std::slice::from_ref(&row) } else { &[] }, 0);
            }
            Statement::Show(show) => self.show(&show, shared, answer),
            Statement::Set(assignments) => {
                self.set(&assignments, shared)?;
                answer.ok(u16::try_from(self.warnings.len()).unwrap_or(u16::MAX));
            }
        }
        Ok(())
    }

    fn show(&self, show: &Show, shared: &Shared, answer: &mut Writer<'_>) {
        let text = |name: &str| Cell { name: name.to_owned(), value: Value::Text(String::new()) };
        let number = |name: &str| Cell { name: name.to_owned(), value: Value::Integer(0) };
        let (rows, filter) = match show {
            Show::Warnings => {
                let row = |Warning { level, message }: &Warning| {
                    vec![Value::Text((*level).to_owned()), Value::Integer(1105), Value::Text(message.clone())]
                };
                let rows: Vec<_> = self.warnings.iter().map(row).collect();
                return answer.result(&[text("Level"), number("Code"), text("Message")], &rows, 0);
            }
            Show::WarningCount => {
                let count = i64::try_from(self.warnings.len()).unwrap_or(i64::MAX);
                return answer.result(&[number("@@session.warning_count")], &[vec![Value::Integer(count)]], 0);
            }
            Show::Variables(scope, filter) => (variables::all(*scope, self, shared), filter),
            Show::Status(filter) => (status(self, shared), filter),
        };
        let rows: Vec<_> = rows
            .into_iter()
            .filter(|(name, _)| filter.as_ref().is_none_or(|filter| filter.matches(name)))
            .map(|(name, value)| vec![Value::Text(name), Value::Text(value)])
            .collect();
        answer.result(&[text("Variable_name"), text("Value")], &rows, 0);
    }

    /// Executes SET: everything is checked before anything is changed.
    fn set(&mut self, assignments: &[Assignment], shared: &Shared) -> Result<(), SqlError> {
        let mut variables = self.variables.clone();
        let mut changes = Vec::new();
        let mut networks = None;
        for Assignment { scope, name, value } in assignments {
            let ours = Variable::ALL.into_iter().find(|variable| variable.name().eq_ignore_ascii_case(name));
            match (ours, scope) {
                (Some(variable), Scope::Global) => {
                    self.check_administrator()?;
                    let value = match value {
                        Some(value) => evaluate::setting(value, variable, self, shared)?,
                        None => failover::Settings::default().value(variable),
                    };
                    changes.push((variable, value));
                }
                (Some(variable), Scope::Session) => {
                    let name = variable.name();
                    let message = format!("Variable '{name}' is a GLOBAL variable and should be set with SET GLOBAL");
                    return Err(SqlError::new(1229, *b"HY000", message));
                }
                (None, Scope::Global) if name.eq_ignore_ascii_case(PROXY_NETWORKS) => {
                    self.check_administrator()?;
                    let value = value.as_ref().map(|value| evaluate::assigned(value, self, shared)).transpose()?;
                    let value = value.and_then(|value| value.text()).unwrap_or_default();
                    let wrong = |why| SqlError::new(1231, *b"42000", format!("{PROXY_NETWORKS}: {why}"));
                    networks = Some(value.parse().map_err(wrong)?);
                }
                (None, _) => {
                    let value = value.as_ref().map(|value| evaluate::assigned(value, self, shared)).transpose()?;
                    variables.set(*scope, name, value)?;
                }
            }
        }
        let by = format!("{}@{}", self.user.escape_debug(), self.host);
        if !changes.is_empty() {
            let set = shared.set(&changes, &by, Some(self.id));
            let set = set.map_err(|error| SqlError::new(1231, *b"42000", error.to_string()))?;
            let caution = |message| Warning { level: "Warning", message };
            let cautions = shared.cautions(changes.into_iter().map(|(variable, _)| variable));
            let note = set.ended_drain.then(|| Warning { level: "Note", message: DRAIN_ENDED.to_owned() });
            self.warnings = cautions.into_iter().map(caution).chain(note).collect();
        }
        if let Some(networks) = networks {
            shared.set_proxy_networks(networks, &by);
        }
        self.variables = variables;
        Ok(())
    }

    fn check_administrator(&self) -> Result<(), SqlError> {
        if self.administrator {
            return Ok(());
        }
        let message = "Access denied; you need (at least one of) the SUPER privilege(s) for this operation";
        Err(SqlError::new(1227, *b"42000", message))
    }
}

/// Refuses database names that are too long for MariaDB.
pub(super) fn check_database(name: &str) -> Result<(), SqlError> {
    const MAX_LENGTH: usize = 64;
    if name.chars().count() > MAX_LENGTH {
        return Err(SqlError::new(1102, *b"42000", format!("Incorrect database name '{name:.100}'")));
    }
    Ok(())
}

/// `SHOW STATUS`, sorted by name.
fn status(session: &Session, shared: &Shared) -> Vec<(String, String)> {
    let counters = &shared.counters;
    let mut rows: Vec<_> =
        shared.numbers().into_iter().map(|shown| (shown.name.to_owned(), shown.value.to_string())).collect();
    rows.push(("Instant_failover_last_redirect".to_owned(), counters.last_redirect()));
    let cipher = session.cipher.unwrap_or_default();
    // Only the names of TLS 1.3 suites begin like this.
    let version = match cipher {
        "" => "",
        cipher if cipher.starts_with("TLS_") => "TLSv1.3",
        _ => "TLSv1.2",
    };
    rows.push(("Ssl_cipher".to_owned(), cipher.to_owned()));
    rows.push(("Ssl_version".to_owned(), version.to_owned()));
    rows.sort();
    rows
}

fn statistics(shared: &Shared) -> String {
    let counters = &shared.counters;
    format!(
        "Uptime: {}  Threads: {}  Questions: {}  Redirects: {}",
        counters.uptime().as_secs(),
        counters.open(),
        counters.questions.get(),
        counters.redirects()
    )
}

fn utf8(bytes: &[u8]) -> Result<&str, SqlError> {
    str::from_utf8(bytes).map_err(|error| {
        let shown = String::from_utf8_lossy(&bytes[error.valid_up_to()..]).chars().take(20).collect::<String>();
        SqlError::new(1300, *b"HY000", format!("Invalid utf8mb4 character string: '{shown}'; use SET NAMES utf8mb4"))
    })
}

fn unknown_command() -> SqlError {
    SqlError::new(1047, *b"08S01", "Unknown command")
}

#[cfg(test)]
mod tests {
    use failover::Settings;
    use mysql_common::constants::CapabilityFlags;

    use super::{COM_INIT_DB, COM_PING, COM_QUERY, COM_STMT_PREPARE, Session};
    use crate::accounts::{Accounts, Peer};
    use crate::packet::{Frame, MAX_PACKET, Writer, cut};
    use crate::shared::{Configuration, Identity, Shared};

    struct Administrator {
        session: Session,
        shared: Shared,
    }

    impl Administrator {
        fn new() -> Self {
            let accounts = Accounts::default().and_anybody();
            let proof = accounts.by_peer("root", &Peer::default()).unwrap();
            let capabilities = CapabilityFlags::CLIENT_PROTOCOL_41;
            let mut session = Session::new(1, "root".to_owned(), "localhost".to_owned(), capabilities, &proof);
            session.set_cipher(Some("TLS_AES_256_GCM_SHA384"));
            let configuration = Configuration { accounts: accounts.into(), ..Configuration::default() };
            Self { session, shared: Shared::new(Settings::default(), configuration, Identity::default()) }
        }

        /// Sends a command, and returns the payloads of the packets of the answer.
        fn answer(&mut self, command: u8, argument: &str) -> Vec<Vec<u8>> {
            let mut out = Vec::new();
            let mut writer = Writer::new(&mut out, 1, CapabilityFlags::CLIENT_PROTOCOL_41);
            self.session.command(&[&[command], argument.as_bytes()].concat(), &self.shared, &mut writer);
            let (mut packets, mut rest) = (Vec::new(), out.as_slice());
            while let Frame::Packet { payload, rest: more, .. } = cut(rest, MAX_PACKET) {
                packets.push(payload.to_vec());
                rest = more;
            }
            packets
        }

        /// Sends a command, and returns the code of the error, or the length of the longest packet of the answer.
        fn send(&mut self, command: u8, argument: &str) -> Result<usize, u16> {
            let packets = self.answer(command, argument);
            match packets[0][..] {
                [0xff, low, high, ..] => Err(u16::from_le_bytes([low, high])),
                _ => Ok(packets.iter().map(Vec::len).max().unwrap()),
            }
        }
    }

    #[test]
    fn the_status_tells_of_tls() {
        let packets = Administrator::new().answer(COM_QUERY, "SHOW STATUS LIKE 'ssl%_%er%'");
        // After the number of columns, their definitions, and an EOF packet.
        assert_eq!(packets[4], b"\x0aSsl_cipher\x16TLS_AES_256_GCM_SHA384");
        assert_eq!(packets[5], b"\x0bSsl_version\x07TLSv1.3");
    }

    #[test]
    fn a_driver_that_may_not_prepare_is_told_so() {
        let mut administrator = Administrator::new();
        let [error] = &administrator.answer(COM_STMT_PREPARE, "SELECT 1")[..] else { panic!() };
        let text = String::from_utf8_lossy(&error[3..]);
        assert_eq!(error[..3], [0xff, 0x0f, 0x05], "1295");
        assert!(
            text.starts_with("#HY000This is instant-failover-harness,")
                && text.ends_with("does not support prepared statements"),
            "{text}"
        );
        assert_eq!(administrator.answer(COM_PING, "")[0][0], 0);
    }

    #[test]
    fn names_of_databases_are_short() {
        let mut administrator = Administrator::new();
        let (longest, longer) = ("é".repeat(64), "é".repeat(65));
        assert!(administrator.send(COM_INIT_DB, &longest).is_ok());
        assert_eq!(administrator.send(COM_INIT_DB, &longer), Err(1102));
        assert_eq!(administrator.send(COM_QUERY, &format!("USE `{longer}`")), Err(1102));
        assert_eq!(administrator.session.database, Some(longest));
    }

    #[test]
    fn the_drain_and_the_timeout_take_values_of_their_types() {
        let mut administrator = Administrator::new();
        let mut set = |what: &str| administrator.send(COM_QUERY, &format!("SET GLOBAL instant_failover_{what}"));
        for (what, expected) in [
            ("hold_timeout = 20", Ok(())),
            ("hold_timeout = (SELECT 3600)", Ok(())),
            ("hold_timeout = TRUE", Ok(())),
            ("hold_timeout = DEFAULT", Ok(())),
            ("hold_timeout = '20'", Err(1232)),
            ("hold_timeout = ON", Err(1232)),
            ("hold_timeout = NULL", Err(1232)),
            ("hold_timeout = 1.5", Err(1232)),
            ("hold_timeout = 0", Err(1231)),
            ("hold_timeout = -1", Err(1231)),
            ("hold_timeout = 3601", Err(1231)),
            ("hold_timeout = 18446744073709551626", Err(1231)),
            ("drain = ON", Err(1231)),
            ("drain = OFF", Ok(())),
            ("mode = HOLD", Ok(())),
            ("drain = ON", Ok(())),
            ("drain = 'off'", Ok(())),
            ("drain = TRUE", Ok(())),
            ("drain = 0", Ok(())),
            ("drain = 1", Ok(())),
            ("drain = DEFAULT", Ok(())),
            ("drain = 2", Err(1231)),
            ("drain = 'maybe'", Err(1231)),
            ("drain = NULL", Err(1231)),
            ("drain = 1.0", Err(1232)),
            ("note = 'step 3'", Ok(())),
            ("note = 3", Err(1232)),
        ] {
            assert_eq!(set(what).map(drop), expected, "{what}");
        }
        let row = |administrator: &mut Administrator, sql: &str| {
            let packets = administrator.answer(COM_QUERY, sql);
            String::from_utf8_lossy(&packets[packets.len() - 2]).into_owned()
        };
        let both = "SELECT @@global.instant_failover_hold_timeout, @@instant_failover_drain";
        assert_eq!(row(&mut administrator, both), "\u{2}10\u{1}0");
        administrator.send(COM_QUERY, "SET GLOBAL instant_failover_drain = ON").unwrap();
        assert_eq!(row(&mut administrator, both), "\u{2}10\u{1}1");
        let shown = row(&mut administrator, "SHOW VARIABLES LIKE 'instant_failover_drain'");
        assert_eq!(shown, "\u{16}instant_failover_drain\u{2}ON");
        administrator.send(COM_QUERY, "SET GLOBAL instant_failover_mode = OFF").unwrap();
        let warning = row(&mut administrator, "SHOW WARNINGS");
        assert!(warning.starts_with("\u{4}Note\u{4}1105") && warning.ends_with(super::DRAIN_ENDED), "{warning}");
    }

    #[test]
    fn values_do_not_grow_without_end() {
        let mut administrator = Administrator::new();
        let mut send = |sql: &str| administrator.send(COM_QUERY, sql);
        let many = |value: &str| vec![value; 400].join(",");
        let users = "instant_failover_exempt_users";
        assert!(send(&format!("SET GLOBAL {users} = '{}'", vec!["x".repeat(100); 10].join(","))).is_ok());
        let grow = format!("SET GLOBAL {users} = CONCAT({})", vec![format!("@@{users}"); 50].join(", ',', "));
        assert!(send(&grow).is_ok());
        assert_eq!(send(&grow), Err(1301));
        assert!(send(&format!("SELECT @@{users}")).is_ok_and(|length| length >= 40_000));
        assert_eq!(send(&format!("SELECT {}", many(&format!("@@{users}")))), Err(1301));
        assert!(send(&format!("SELECT '{}'", "x".repeat(MAX_PACKET - 100))).is_ok());
    }
}
