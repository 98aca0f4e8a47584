//! Reads what the check judges. Nothing is changed.

use std::collections::{BTreeMap, BTreeSet};

use crate::database::{Row, Session, SqlError, quoted};
use crate::link::Link;
use crate::live::sessions::{LOCKED, count, is_locked};
use crate::look::is_on;
use crate::plan::check::Finding;
use crate::plan::facts::{Account, Facts, Reached, ServerFacts, Wanted, series};
use crate::plan::gtid::Position;
use crate::plan::seen::Server;
use crate::servers::{Entry, Tls, Way};

/// Reads both servers, the old primary first.
pub fn read(old: &mut Link, new: &mut Link, mut wanted: Wanted, replicas: &[Entry]) -> (Facts, Vec<Finding>) {
    let mut problems = Vec::new();
    let new_entry = new.entry.clone();
    let old_entry = old.entry.clone();
    // Each must know the other's id, to recognise a connection that was never established.
    let ids = [old.value("SELECT @@server_id"), new.value("SELECT @@server_id")]
        .map(|id| id.ok().and_then(|id| id.parse().ok()));
    let mut followers = Vec::new();
    for entry in replicas {
        match replica(entry, [&old_entry, &new_entry], ids, &mut wanted) {
            Ok(server) => followers.push((&entry.name, server)),
            Err(problem) => problems.push(problem),
        }
    }
    let mut facts = Facts { wanted, ..Facts::default() };
    match server(old, &new_entry, ids[1], facts.wanted.max_age) {
        Ok(read) => facts.old = Some(read),
        Err(error) => problems.push(without_facts(old, &error)),
    }
    match server(new, &old_entry, ids[0], facts.wanted.max_age) {
        Ok(read) => facts.new = Some(read),
        Err(error) => problems.push(without_facts(new, &error)),
    }
    if let Some(old) = &facts.old {
        let extra =
            |(name, server): &(&String, Server)| Finding::extra(name, &old_entry.name, &server.lacking_on(&old.seen));
        problems.extend(followers.iter().filter_map(extra));
    }
    facts.old_later = old.look(&new_entry, ids[1]).map(|old| old.transactions);
    if let (Some(old), Some(_)) = (&facts.old, &facts.new) {
        let position = old.seen.position.received_by(ids[1].unwrap_or_default());
        facts.catches_up = catches_up(new, &position, facts.wanted.catch_up());
    }
    let channel = facts.new.as_ref().zip(ids[0]).and_then(|(new, id)| new.seen.channel_from(id));
    if let Some(channel) = channel.filter(|channel| old_entry.is_source_of(channel, &new_entry).is_none()) {
        problems.push(Finding::other_address(&new_entry.name, &old_entry.name, channel));
    }
    facts.target = reached(&new_entry);
    (facts, problems)
}

/// Another replica of the old primary, which is to follow the new one; or what is wrong with it.
fn replica(
    entry: &Entry,
    [old, new]: [&Entry; 2],
    ids: [Option<u32>; 2],
    wanted: &mut Wanted,
) -> Result<Server, Finding> {
    let name = format!("{} (--replica)", entry.name);
    let mut link = Link::new(entry.clone(), false);
    if let Err(error) = link.session() {
        return Err(not_read(&name, &error));
    }
    let Some(server) = link.look(old, ids[0]) else {
        return Err(not_read(&name, &link.problem()));
    };
    wanted.replicas.insert(server.server_id);
    let follows = |source: &Entry, id: Option<u32>| {
        let channel = id.and_then(|id| server.channel_from(id));
        channel.is_some_and(|channel| source.is_source_of(channel, entry) == Some(true))
    };
    let is_one = follows(old, ids[0]) || follows(new, ids[1]);
    if is_one { Ok(server) } else { Err(Finding::no_replica(&name, &old.name, &server.channels)) }
}

/// Why a server cannot be judged. It may be because of a privilege; then all that lack are named.
fn without_facts(link: &mut Link, error: &SqlError) -> Finding {
    let name = link.entry.name.clone();
    let mut privileges = || {
        let held: Vec<String> = link.rows("SHOW GRANTS").ok()?.iter().map(|row| row.at(0).to_owned()).collect();
        let (account, version) = (link.value("SELECT CURRENT_USER()").ok()?, link.value("SELECT VERSION()").ok()?);
        Finding::privileges(&name, &account, &held, series(&version))
    };
    let lacking = if matches!(error, SqlError::Refused { .. }) && !error.refuses_login() { privileges() } else { None };
    lacking.unwrap_or_else(|| not_read(&name, error))
}

fn not_read(name: &str, error: &SqlError) -> Finding {
    let seen = format!("{name}: {error}");
    match error {
        SqlError::Lost(_) => Finding::unreachable(seen),
        error if error.refuses_login() => Finding::refused(seen),
        _ => Finding::unusable(seen),
    }
}

fn catches_up(new: &mut Link, position: &Position, seconds: u64) -> Option<bool> {
    if position.is_empty() {
        return None;
    }
    let sql = format!("SELECT MASTER_GTID_WAIT({}, {seconds})", quoted(&position.to_string()));
    new.value(&sql).ok().map(|waited| waited == "0")
}

/// The server at the target, over the network as clients reach it.
fn reached(entry: &Entry) -> Reached {
    let tls = match &entry.way {
        Way::Tcp { tls, .. } => tls.clone(),
        Way::Socket(_) => Tls::Off,
    };
    let host = entry.target.host().to_string();
    let host = host.trim_matches(['[', ']']).to_owned();
    let way = Way::Tcp { host, port: entry.target.port(), tls };
    let answer =
        Session::open_at(entry, &way).and_then(|mut session| session.row("SELECT @@server_id, @@hostname, @@port"));
    match answer {
        Ok(row) => match row.at(0).parse() {
            Ok(server_id) => Reached::Server { server_id, identity: format!("{}:{}", row.at(1), row.at(2)) },
            Err(_) => Reached::Failed(format!("server_id is '{}'", row.at(0))),
        },
        Err(error) => Reached::Failed(error.to_string()),
    }
}

/// Reads a server.
///
/// # Errors
/// If it does not answer, or refuses a statement.
pub fn server(link: &mut Link, other: &Entry, other_id: Option<u32>, max_age: u64) -> Result<ServerFacts, SqlError> {
    link.session()?;
    let seen = link.look(other, other_id);
    let seen = seen.ok_or_else(|| link.problem())?;
    let variables = map(&link.rows("SHOW GLOBAL VARIABLES")?);
    let status = map(&link.rows("SHOW GLOBAL STATUS WHERE Variable_name IN ('Uptime', 'Rpl_semi_sync_slave_status')")?);
    let channels = link.rows("SHOW ALL SLAVES STATUS")?.iter().map(Row::to_map).collect();
    let identity = link.rows("SELECT @@hostname, @@port, CURRENT_USER()")?;
    let row = identity.into_iter().next().unwrap_or_default();
    let version = variables.get("version").cloned().unwrap_or_default();
    let events = link.rows(
        "SELECT DEFINER FROM information_schema.EVENTS WHERE STATUS = 'ENABLED' AND EVENT_NAME NOT LIKE 'instant\\_failover\\_%'",
    )?;
    Ok(ServerFacts {
        identity: format!("{}:{}", row.at(0), row.at(1)),
        account: row.at(2).to_owned(),
        grants: link.rows("SHOW GRANTS")?.iter().map(|row| row.at(0).to_owned()).collect(),
        accounts: accounts(link, &version).ok(),
        long: long(link, max_age)?,
        obstacles: obstacles(link)?,
        prepared: link.rows("XA RECOVER")?.len(),
        definers: definers(link, &events)?,
        events: events.len(),
        replicas: link.rows("SHOW SLAVE HOSTS")?.iter().filter_map(slave_host).collect(),
        sessions: count(link, "TRUE")?,
        user_locks: user_locks(link),
        managers: managers(link)?,
        seen,
        variables,
        status,
        channels,
        plugin: plugin(link)?,
    })
}

/// The version and the status of the plugin, if it is installed.
///
/// This holds the library, and loads no other. `information_schema.PLUGINS` would hold plugins that others uninstall just now,
/// which can crash the server (docs/internals.md).
///
/// # Errors
/// If it does not answer, or refuses the statement.
pub fn plugin(link: &mut Link) -> Result<Option<(String, String)>, SqlError> {
    let rows = link.rows(
        "SELECT PLUGIN_VERSION, PLUGIN_STATUS FROM information_schema.ALL_PLUGINS WHERE \
         PLUGIN_LIBRARY = 'instant_failover.so' AND PLUGIN_NAME = 'instant_failover' AND PLUGIN_STATUS <> 'NOT INSTALLED'",
    )?;
    Ok(rows.first().map(|row| (row.at(0).to_owned(), row.at(1).to_owned())))
}

/// What [`ServerFacts::exempt_writers`] says of a server.
///
/// # Errors
/// If it does not answer, or refuses a statement.
pub fn exempt_writers(link: &mut Link, seen: Server, replication_user: Option<&str>) -> Result<Vec<String>, SqlError> {
    let variables = map(&link.rows("SHOW GLOBAL VARIABLES")?);
    let accounts = accounts(link, variables.get("version").map(String::as_str).unwrap_or_default())?;
    let account = link.value("SELECT CURRENT_USER()")?;
    let server = ServerFacts { variables, account, accounts: Some(accounts), ..ServerFacts::of(seen) };
    Ok(server.exempt_writers(replication_user))
}

fn map(rows: &[Row]) -> BTreeMap<String, String> {
    rows.iter().map(|row| (row.at(0).to_owned(), row.at(1).to_owned())).collect()
}

fn slave_host(row: &Row) -> Option<(u32, String)> {
    Some((row.get("Server_id").parse().ok()?, format!("{}:{}", row.get("Host"), row.get("Port"))))
}

const SUPER: u64 = 1 << 15;
const READ_ONLY_ADMIN: u64 = 1 << 33;

fn accounts(link: &mut Link, version: &str) -> Result<Vec<Account>, SqlError> {
    let rows = link.rows(
        "SELECT User, Host, JSON_VALUE(Priv, '$.access') AS access, JSON_VALUE(Priv, '$.is_role') AS is_role, \
         JSON_VALUE(Priv, '$.account_locked') AS locked, JSON_VALUE(Priv, '$.plugin') AS plugin, \
         MD5(CONCAT_WS(' ', JSON_VALUE(Priv, '$.plugin'), JSON_VALUE(Priv, '$.authentication_string'), \
         JSON_EXTRACT(Priv, '$.auth_or'))) AS authentication FROM mysql.global_priv WHERE User <> 'mariadb.sys' AND User <> 'PUBLIC'",
    )?;
    let granted = link.rows("SELECT Host, User, Role FROM mysql.roles_mapping")?;
    let bits = if series(version) < (10, 11) { SUPER | READ_ONLY_ADMIN } else { READ_ONLY_ADMIN };
    let mut accounts: Vec<Account> = rows
        .iter()
        .map(|row| Account {
            user: row.get("User").to_owned(),
            host: row.get("Host").to_owned(),
            ignores_read_only: row.get("access").parse::<u64>().is_ok_and(|access| access & bits != 0),
            authentication: row.get("authentication").to_owned(),
            is_role: is_on(row.get("is_role")) && row.get("is_role") != "false",
            is_locked: row.get("locked") == "1" || row.get("locked") == "true",
        })
        .collect();
    // Roles can be granted to roles.
    for _ in 0..accounts.len() {
        let able: BTreeSet<String> = accounts
            .iter()
            .filter(|account| account.is_role && account.ignores_read_only)
            .map(|role| role.user.clone())
            .collect();
        let mut changed = false;
        for account in &mut accounts {
            let by_role = granted.iter().any(|row| {
                row.get("User") == account.user && row.get("Host") == account.host && able.contains(row.get("Role"))
            });
            if by_role && !account.ignores_read_only {
                account.ignores_read_only = true;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    Ok(accounts)
}

/// Transactions and statements that have been going on for long.
fn long(link: &mut Link, max_age: u64) -> Result<Vec<String>, SqlError> {
    let transactions = link.rows(&format!(
        "SELECT t.trx_mysql_thread_id, p.USER, p.HOST, t.trx_started, t.trx_rows_modified FROM information_schema.INNODB_TRX t \
         LEFT JOIN information_schema.PROCESSLIST p ON p.ID = t.trx_mysql_thread_id \
         WHERE t.trx_started < NOW() - INTERVAL {max_age} SECOND AND t.trx_mysql_thread_id <> 0 ORDER BY t.trx_started LIMIT 10"
    ))?;
    let statements = link.rows(&format!(
        "SELECT ID, USER, HOST, TIME, LEFT(INFO, 80) FROM information_schema.PROCESSLIST WHERE COMMAND IN ('Query', 'Execute') \
         AND TIME > {max_age} AND ID <> CONNECTION_ID() AND USER <> 'system user' ORDER BY TIME DESC LIMIT 10"
    ))?;
    let mut long: Vec<String> = transactions
        .iter()
        .map(|row| {
            format!(
                "transaction of {}@{} (connection {}) since {}, {} rows changed",
                row.at(1),
                row.at(2),
                row.at(0),
                row.at(3),
                row.at(4)
            )
        })
        .collect();
    long.extend(statements.iter().map(|row| {
        format!(
            "statement of {}@{} (connection {}) for {} s: {}",
            row.at(1),
            row.at(2),
            row.at(0),
            row.at(3),
            row.at(4)
        )
    }));
    Ok(long)
}

/// Backups, and locks of whole servers.
fn obstacles(link: &mut Link) -> Result<Vec<String>, SqlError> {
    let rows = link.rows(
        "SELECT ID, USER, HOST, STATE, LEFT(INFO, 80) FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() \
         AND USER <> 'system user' AND (INFO LIKE 'BACKUP STAGE%' OR INFO LIKE 'FLUSH TABLES%WITH READ LOCK%' \
         OR STATE LIKE 'Waiting for backup lock%' OR STATE LIKE 'Waiting for global read lock%')",
    )?;
    let mut obstacles: Vec<_> = rows
        .iter()
        .map(|row| format!("connection {} of {}@{}: {} {}", row.at(0), row.at(1), row.at(2), row.at(3), row.at(4)))
        .collect();
    if is_locked(link)? {
        obstacles.push(LOCKED.to_owned());
    }
    Ok(obstacles)
}

fn definers(link: &mut Link, events: &[Row]) -> Result<BTreeSet<String>, SqlError> {
    let routines = link.rows(
        "SELECT DISTINCT DEFINER FROM information_schema.ROUTINES WHERE SECURITY_TYPE = 'DEFINER' AND ROUTINE_SCHEMA NOT IN ('mysql', 'sys')",
    )?;
    let triggers =
        link.rows("SELECT DISTINCT DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA <> 'sys'")?;
    Ok(routines.iter().chain(&triggers).chain(events).map(|row| row.at(0).to_owned()).collect())
}

/// Only known where the plugin `METADATA_LOCK_INFO` is loaded.
fn user_locks(link: &mut Link) -> Vec<String> {
    let rows = link.rows(
        "SELECT THREAD_ID, TABLE_SCHEMA FROM information_schema.METADATA_LOCK_INFO WHERE LOCK_TYPE = 'User lock' \
         AND THREAD_ID <> CONNECTION_ID() AND TABLE_SCHEMA <> 'instant_failover'",
    );
    let rows = rows.unwrap_or_default();
    rows.iter().map(|row| format!("connection {} holds the lock '{}'", row.at(0), row.at(1))).collect()
}

/// Users and databases of programs that manage replication.
fn managers(link: &mut Link) -> Result<Vec<String>, SqlError> {
    let rows = link.rows(
        "SELECT DISTINCT USER FROM information_schema.PROCESSLIST WHERE USER RLIKE 'maxscale|mariadbmon|orchestrator|replication-manager|mha'",
    )?;
    let mut managers: Vec<_> = rows.iter().map(|row| format!("{} is connected", row.at(0))).collect();
    let rows = link.rows(
        "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME IN ('replication_manager_schema', 'maxscale_schema')",
    )?;
    managers.extend(rows.iter().map(|row| format!("there is a database {}", row.at(0))));
    Ok(managers)
}
