//! Reads what a server shows.

use failover::Mode;

use crate::database::{Session, SqlError};
use crate::plan::gtid::Transactions;
use crate::plan::seen::{Channel, Server};
use crate::servers::Replication;

/// Which variables a server's plugin has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// The plugin is loaded.
    pub plugin: bool,
    /// It has mode `HOLD`, and can drain.
    pub hold: bool,
    /// It has a note.
    pub note: bool,
}

impl Abilities {
    /// Asks for them.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn read(session: &mut Session) -> Result<Self, SqlError> {
        let rows = session.rows("SHOW GLOBAL VARIABLES LIKE 'instant\\_failover\\_%'")?;
        let has = |name: &str| rows.iter().any(|row| row.at(0) == name);
        Ok(Self {
            plugin: has("instant_failover_mode"),
            hold: has("instant_failover_drain") && has("instant_failover_hold_timeout"),
            note: has("instant_failover_note"),
        })
    }
}

/// Another server, to recognise a connection to it that was never established.
#[derive(Clone, Copy, Debug)]
pub struct Other<'a> {
    /// Its `server_id`, if that is known; 0 if it is dead, and its replica has forgotten it.
    pub server_id: Option<u32>,
    /// How others replicate from it.
    pub replication: &'a Replication,
}

/// Reads a server.
///
/// # Errors
/// If it does not answer, or answers what cannot be understood.
pub fn server(session: &mut Session, abilities: Abilities, other: Other<'_>) -> Result<Server, SqlError> {
    let mut sql = "SELECT @@server_id, @@global.read_only, @@gtid_binlog_pos, @@gtid_binlog_state, @@gtid_slave_pos, \
                   @@global.event_scheduler"
        .to_owned();
    if abilities.plugin {
        sql += ", @@instant_failover_mode, @@instant_failover_target";
    }
    if abilities.note {
        sql += ", @@instant_failover_note";
    }
    let row = session.row(&sql)?;
    let mode = row.get("@@instant_failover_mode");
    Ok(Server {
        server_id: row.at(0).parse().map_err(|_| SqlError::Strange(format!("server_id is '{}'", row.at(0))))?,
        read_only: is_on(row.at(1)),
        position: row.at(2).parse().map_err(|error| SqlError::Strange(format!("gtid_binlog_pos: {error}")))?,
        transactions: Transactions::parse(row.at(3), row.at(4))
            .map_err(|error| SqlError::Strange(format!("gtid_binlog_state: {error}")))?,
        channels: channels(session, other)?,
        mode: if mode.is_empty() {
            Mode::Off
        } else {
            mode.parse().map_err(|error| SqlError::Strange(format!("{error}")))?
        },
        target: row.get("@@instant_failover_target").to_owned(),
        note: row.get("@@instant_failover_note").to_owned(),
        events_run: is_on(row.at(5)),
    })
}

/// Whether a variable's value means that it is on. Newer series have more values for some.
#[must_use]
pub fn is_on(value: &str) -> bool {
    !matches!(value.to_ascii_uppercase().as_str(), "0" | "OFF" | "DISABLED" | "")
}

fn channels(session: &mut Session, other: Other<'_>) -> Result<Vec<Channel>, SqlError> {
    let rows = session.rows("SHOW ALL SLAVES STATUS")?;
    let channel = |row: &crate::database::Row| {
        let received = row.get("Gtid_IO_Pos");
        let received =
            received.parse().map_err(|error| SqlError::Strange(format!("Gtid_IO_Pos is '{received}': {error}")))?;
        let address = format!("{}:{}", row.get("Master_Host"), row.get("Master_Port"));
        let is_other = other.replication.is_at(&address);
        // If nobody knows the other one's id, 0 is that of whatever leads to its address.
        let id = row.get("Master_Server_Id").parse().ok().filter(|id| *id != 0);
        let id = id.filter(|_| !(is_other && other.server_id == Some(0)));
        Ok(Channel {
            name: row.get("Connection_name").to_owned(),
            source: id.or(other.server_id.filter(|_| is_other)),
            address,
            receives: row.get("Slave_IO_Running") != "No",
            is_connected: row.get("Slave_IO_Running") == "Yes",
            received,
            applies: row.get("Slave_SQL_Running") != "No",
        })
    };
    rows.iter().map(channel).collect()
}
