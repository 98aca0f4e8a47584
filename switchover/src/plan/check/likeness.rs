//! Whether the new primary can do the work of the old one, in the same way.

use super::{Finding, Pair};

/// Variables that change what statements do, or how safe they are.
const ALIKE: &[&str] = &[
    "sql_mode",
    "time_zone",
    "lower_case_table_names",
    "character_set_server",
    "collation_server",
    "auto_increment_increment",
    "auto_increment_offset",
    "max_allowed_packet",
    "sync_binlog",
    "innodb_flush_log_at_trx_commit",
    "slave_run_triggers_for_rbr",
    "gtid_domain_id",
];

/// Connections that are not the application's.
const RESERVE: u64 = 10;

pub(super) fn check(pair: &Pair<'_>, findings: &mut Vec<Finding>) {
    let mut alike = true;
    for variable in ALIKE {
        let (one, other) = (pair.old.variable(variable), pair.new.variable(variable));
        if one != other {
            alike = false;
            let seen = format!("{variable} is '{one}' on {} and '{other}' on {}", pair.old_name(), pair.new_name());
            findings.push(Finding::warning("likeness", seen, "make them equal, unless that is meant"));
        }
    }
    for (name, server) in pair.both() {
        for variable in ["sync_binlog", "innodb_flush_log_at_trx_commit"] {
            if server.variable(variable) != "1" {
                let seen = format!(
                    "{variable} is {} on {name}: writes that were acknowledged can be lost in a crash",
                    server.variable(variable)
                );
                findings.push(Finding::warning(
                    "durability",
                    seen,
                    format!("SET GLOBAL {variable} = 1, and in the option file"),
                ));
            }
        }
    }
    if alike {
        findings.push(Finding::ok("likeness", "sql_mode, character sets, durability and the like are equal"));
    }
    let (sessions, room) = (pair.old.sessions, pair.new.number("max_connections"));
    if sessions + RESERVE > room {
        let seen = format!(
            "{} has {sessions} sessions, and max_connections on {} is {room}",
            pair.old_name(),
            pair.new_name()
        );
        findings.push(Finding::failure(
            "room",
            seen,
            format!("SET GLOBAL max_connections = {} on {}", 2 * (sessions + RESERVE), pair.new_name()),
        ));
    } else {
        findings.push(Finding::ok(
            "room",
            format!("max_connections {room} on {} for {sessions} sessions", pair.new_name()),
        ));
    }
    let back_log = pair.new.number("back_log");
    if sessions > back_log {
        let seen = format!("back_log on {} is {back_log}, for {sessions} clients that come at once", pair.new_name());
        findings.push(Finding::warning("room", seen, "set back_log = 4096 in its option file; it needs a restart"));
    }
    if pair.old.can_hold() {
        let free = pair.old.number("max_connections").saturating_sub(sessions);
        if free < sessions.min(pair.old.number("max_connections") / 2) {
            let seen = format!("{} has room for {free} clients that wait, and {sessions} sessions", pair.old_name());
            findings.push(Finding::warning(
                "room",
                seen,
                format!("SET GLOBAL max_connections = {} on {}", 3 * sessions + RESERVE, pair.old_name()),
            ));
        }
    }
}
