//! The system variables: the settings, the properties of this server, and what clients ask for when they connect.

use std::collections::BTreeMap;

use failover::Variable;

use super::Session;
use super::statement::Scope;
use crate::packet::{MAX_PACKET, SqlError, Value};
use crate::shared::Shared;

/// The maximum length of a session variable's value.
const MAX_VALUE: usize = 1024;

/// How a variable's value is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    /// 0 or 1, which SHOW VARIABLES prints as OFF or ON.
    Switch,
}

use Kind::{Number, Switch, Text};

/// Variables that a session can set. They have no effect, because this server has no data.
const OF_SESSIONS: &[(&str, Kind, &str)] = &[
    ("auto_increment_increment", Number, "1"),
    ("auto_increment_offset", Number, "1"),
    ("autocommit", Switch, "1"),
    ("big_tables", Switch, "0"),
    ("character_set_client", Text, "utf8mb4"),
    ("character_set_connection", Text, "utf8mb4"),
    ("character_set_database", Text, "utf8mb4"),
    ("character_set_results", Text, "utf8mb4"),
    ("character_set_server", Text, "utf8mb4"),
    ("collation_connection", Text, "utf8mb4_general_ci"),
    ("collation_database", Text, "utf8mb4_general_ci"),
    ("collation_server", Text, "utf8mb4_general_ci"),
    ("completion_type", Text, "NO_CHAIN"),
    ("default_storage_engine", Text, "InnoDB"),
    ("div_precision_increment", Number, "4"),
    ("foreign_key_checks", Switch, "1"),
    ("group_concat_max_len", Number, "1048576"),
    ("idle_transaction_timeout", Number, "0"),
    ("innodb_lock_wait_timeout", Number, "50"),
    ("interactive_timeout", Number, "28800"),
    ("lc_messages", Text, "en_US"),
    ("lc_time_names", Text, "en_US"),
    ("lock_wait_timeout", Number, "86400"),
    ("long_query_time", Text, "10.000000"),
    ("max_join_size", Number, "18446744073709551615"),
    ("max_statement_time", Text, "0.000000"),
    ("net_buffer_length", Number, "16384"),
    ("net_read_timeout", Number, "30"),
    ("net_write_timeout", Number, "60"),
    ("query_cache_type", Text, "OFF"),
    ("session_track_schema", Switch, "0"),
    ("session_track_system_variables", Text, ""),
    ("session_track_transaction_info", Text, "OFF"),
    ("sql_auto_is_null", Switch, "0"),
    ("sql_big_selects", Switch, "1"),
    ("sql_log_bin", Switch, "0"),
    ("sql_log_off", Switch, "0"),
    ("sql_mode", Text, "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION"),
    ("sql_notes", Switch, "1"),
    ("sql_quote_show_create", Switch, "1"),
    ("sql_safe_updates", Switch, "0"),
    ("sql_select_limit", Number, "18446744073709551615"),
    ("sql_warnings", Switch, "0"),
    ("time_zone", Text, "SYSTEM"),
    ("transaction_isolation", Text, "REPEATABLE-READ"),
    ("transaction_read_only", Switch, "0"),
    ("tx_isolation", Text, "REPEATABLE-READ"),
    ("tx_read_only", Switch, "0"),
    ("unique_checks", Switch, "1"),
    ("wait_timeout", Number, "28800"),
];

/// The variables that a session has set: at most one short value for each of [`OF_SESSIONS`].
#[derive(Clone, Debug, Default)]
pub(super) struct SessionVariables(BTreeMap<&'static str, Option<String>>);

impl SessionVariables {
    /// Sets a variable that is not one of the settings; no value means the default.
    pub(super) fn set(&mut self, scope: Scope, name: &str, value: Option<Value>) -> Result<(), SqlError> {
        let Some((name, kind, _)) = of_sessions(name) else {
            return Err(if fixed(name).is_some() { read_only(name) } else { unknown(name) });
        };
        if scope == Scope::Global {
            return Err(read_only(name));
        }
        let Some(value) = value else {
            self.0.remove(name);
            return Ok(());
        };
        let text = value.text();
        let shown = text.as_deref().unwrap_or("NULL");
        let wrong =
            || SqlError::new(1231, *b"42000", format!("Variable '{name}' can't be set to the value of '{shown:.64}'"));
        let text = match kind {
            Switch => match shown.to_ascii_uppercase().as_str() {
                "ON" | "1" | "TRUE" => Some("1".to_owned()),
                "OFF" | "0" | "FALSE" => Some("0".to_owned()),
                _ => return Err(wrong()),
            },
            Number if shown.parse::<u64>().is_err() => return Err(wrong()),
            Number | Text if shown.len() > MAX_VALUE => return Err(wrong()),
            Number | Text => text,
        };
        self.0.insert(name, text);
        Ok(())
    }
}

fn of_sessions(name: &str) -> Option<(&'static str, Kind, &'static str)> {
    OF_SESSIONS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name)).copied()
}

/// Whether the variable can have a session value. It need not exist.
pub(super) fn has_session_value(name: &str) -> bool {
    let is_setting = Variable::ALL.iter().any(|variable| variable.name().eq_ignore_ascii_case(name));
    !is_setting && fixed(name).is_none()
}

/// The value of a variable.
pub(super) fn value(scope: Scope, name: &str, session: &Session, shared: &Shared) -> Result<Value, SqlError> {
    if let Some(variable) = Variable::ALL.into_iter().find(|variable| variable.name().eq_ignore_ascii_case(name)) {
        let settings = shared.settings();
        return Ok(match variable {
            Variable::HoldTimeout => Value::Integer(settings.hold_timeout().seconds().into()),
            Variable::Drain => Value::Integer(settings.drains().into()),
            _ => Value::Text(settings.value(variable)),
        });
    }
    if let Some((name, kind, default)) = of_sessions(name) {
        return Ok(match session.variables.0.get(name) {
            Some(None) if scope == Scope::Session => Value::Null,
            Some(Some(own)) if scope == Scope::Session => typed(kind, own),
            _ => typed(kind, default),
        });
    }
    let fixed = fixed(name).ok_or_else(|| unknown(name))?;
    let (kind, text) = fixed(shared);
    Ok(typed(kind, &text))
}

fn typed(kind: Kind, text: &str) -> Value {
    match kind {
        Number | Switch => text.parse().map_or_else(|_| Value::Decimal(text.to_owned()), Value::Integer),
        Text => Value::Text(text.to_owned()),
    }
}

/// `SHOW VARIABLES`, sorted by name.
pub(super) fn all(scope: Scope, session: &Session, shared: &Shared) -> Vec<(String, String)> {
    let switch = |kind: Kind, text: String| match (kind, text.as_str()) {
        (Switch, "1") => "ON".to_owned(),
        (Switch, _) => "OFF".to_owned(),
        _ => text,
    };
    let settings = shared.settings();
    let mut all = Vec::from(Variable::ALL.map(|variable| (variable.name().to_owned(), settings.value(variable))));
    for (name, kind, default) in OF_SESSIONS {
        let own = session.variables.0.get(name).filter(|_| scope == Scope::Session);
        let text = own.map_or_else(|| (*default).to_owned(), |own| own.clone().unwrap_or_default());
        all.push(((*name).to_owned(), switch(*kind, text)));
    }
    for name in FIXED {
        if let Some(fixed) = fixed(name) {
            let (kind, text) = fixed(shared);
            all.push(((*name).to_owned(), switch(kind, text)));
        }
    }
    all.sort();
    all
}

/// Read-only variables.
const FIXED: &[&str] = &[
    "back_log",
    "bind_address",
    "character_set_system",
    "connect_timeout",
    "extra_max_connections",
    "extra_port",
    "have_openssl",
    "have_ssl",
    "hostname",
    "in_transaction",
    "init_connect",
    "log_bin",
    "lower_case_table_names",
    "max_allowed_packet",
    "max_connections",
    "performance_schema",
    "port",
    "protocol_version",
    "proxy_protocol_networks",
    "query_cache_size",
    "read_only",
    "require_secure_transport",
    "server_id",
    "skip_name_resolve",
    "socket",
    "ssl_cipher",
    "system_time_zone",
    "tls_version",
    "version",
    "version_comment",
    "version_compile_machine",
    "version_compile_os",
];

type Fixed = fn(&Shared) -> (Kind, String);

fn fixed(name: &str) -> Option<Fixed> {
    Some(match name.to_ascii_lowercase().as_str() {
        "back_log" => |shared| (Number, shared.identity.back_log.to_string()),
        "bind_address" => |shared| (Text, shared.identity.bind_address.clone()),
        "character_set_system" => |_| (Text, "utf8mb4".to_owned()),
        "connect_timeout" => |shared| (Number, shared.configuration().connect_timeout.as_secs().to_string()),
        "extra_max_connections" => |shared| (Number, shared.configuration().extra_max_connections.to_string()),
        "extra_port" => |shared| (Number, shared.identity.extra_port.unwrap_or_default().to_string()),
        "have_openssl" | "have_ssl" => {
            |shared| (Text, if shared.configuration().tls.is_some() { "YES" } else { "DISABLED" }.to_owned())
        }
        "hostname" => |shared| (Text, shared.identity.hostname.clone()),
        "in_transaction" | "lower_case_table_names" | "query_cache_size" | "server_id" => |_| (Number, "0".to_owned()),
        "init_connect" => |_| (Text, String::new()),
        "log_bin" | "performance_schema" => |_| (Switch, "0".to_owned()),
        "max_allowed_packet" => |_| (Number, MAX_PACKET.to_string()),
        "max_connections" => |shared| (Number, shared.configuration().max_connections.to_string()),
        "port" => |shared| (Number, shared.identity.port.to_string()),
        "protocol_version" => |_| (Number, "10".to_owned()),
        "proxy_protocol_networks" => |shared| (Text, shared.proxy_networks().to_string()),
        "require_secure_transport" => {
            |shared| (Switch, u8::from(shared.configuration().require_secure_transport).to_string())
        }
        "read_only" | "skip_name_resolve" => |_| (Switch, "1".to_owned()),
        "socket" => |shared| (Text, shared.identity.socket.clone()),
        "ssl_cipher" => |shared| (Text, shared.configuration().ssl_cipher.clone()),
        "system_time_zone" => |_| (Text, "UTC".to_owned()),
        "tls_version" => |shared| (Text, shared.configuration().tls_version.clone()),
        "version" => |shared| (Text, shared.configuration().version.shown().to_owned()),
        "version_comment" => |_| (Text, "instant-failover-harness: redirects clients, has no data".to_owned()),
        "version_compile_machine" => |_| (Text, std::env::consts::ARCH.to_owned()),
        "version_compile_os" => |_| (Text, std::env::consts::OS.to_owned()),
        _ => return None,
    })
}

fn unknown(name: &str) -> SqlError {
    SqlError::new(1193, *b"HY000", format!("Unknown system variable '{name:.64}'"))
}

fn read_only(name: &str) -> SqlError {
    SqlError::new(1238, *b"HY000", format!("Variable '{name:.64}' is a read only variable"))
}

#[cfg(test)]
mod tests {
    use super::{FIXED, OF_SESSIONS, Scope, SessionVariables, Value, fixed};

    #[test]
    fn the_lists_are_in_order_and_whole() {
        assert!(OF_SESSIONS.is_sorted_by_key(|(name, ..)| *name));
        assert!(FIXED.is_sorted());
        assert!(FIXED.iter().all(|name| fixed(name).is_some()));
    }

    #[test]
    fn sessions_set_what_is_theirs() {
        let mut variables = SessionVariables::default();
        let mut set = |scope, name, value: Option<Value>| variables.set(scope, name, value).map_err(|error| error.code);
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        assert_eq!(set(Scope::Session, "AUTOCOMMIT", text("off")), Ok(()));
        assert_eq!(set(Scope::Session, "autocommit", text("maybe")), Err(1231));
        assert_eq!(set(Scope::Session, "wait_timeout", Some(Value::Integer(-1))), Err(1231));
        assert_eq!(set(Scope::Session, "sql_mode", text(&"x".repeat(1025))), Err(1231));
        assert_eq!(set(Scope::Session, "character_set_results", Some(Value::Null)), Ok(()));
        assert_eq!(set(Scope::Global, "sql_mode", text("")), Err(1238));
        assert_eq!(set(Scope::Session, "version", text("")), Err(1238));
        assert_eq!(set(Scope::Session, "no_such", text("")), Err(1193));
        assert_eq!(set(Scope::Session, "autocommit", None), Ok(()));
        assert_eq!(variables.0.len(), 1);
    }
}
