//! Whether the new primary has, or will have, everything.

use std::collections::BTreeMap;

use super::{Finding, Pair};

pub(super) fn check(pair: &Pair<'_>, findings: &mut Vec<Finding>) {
    for (name, server) in pair.both() {
        if !server.is_on("log_bin") {
            findings.push(Finding::failure(
                "binary log",
                format!("log_bin is off on {name}"),
                "set log_bin in its option file, and restart it",
            ));
        } else if server.seen.position.is_empty() {
            findings.push(Finding::failure(
                "binary log",
                format!("gtid_binlog_pos is empty on {name}"),
                format!("is {name} new? Nothing was written to its binary log: on a replica set log_slave_updates, and write something on the primary"),
            ));
        }
    }
    if !pair.new.is_on("log_slave_updates") {
        let seen = format!("log_slave_updates is off on {}", pair.new_name());
        findings.push(Finding::failure(
            "binary log",
            seen,
            "set it in the option file and restart: other replicas could not follow",
        ));
    }
    for (name, server) in pair.both() {
        if !server.is_on("gtid_strict_mode") {
            let cure = format!("SET GLOBAL gtid_strict_mode = 1 on {name}, and in its option file");
            findings.push(Finding::warning(
                "GTID",
                format!("gtid_strict_mode is off on {name}: diverging transactions are not refused"),
                cure,
            ));
        }
    }
    if let Some(channel) = channel(pair) {
        running(pair, channel, findings);
    }
    transactions(pair, findings);
    other_replicas(pair, findings);
    semi_sync(pair, findings);
}

fn channel<'a>(pair: &'a Pair<'_>) -> Option<&'a BTreeMap<String, String>> {
    let id = pair.old.seen.server_id.to_string();
    pair.new.channels.iter().find(|channel| channel.get("Master_Server_Id") == Some(&id)).or(pair.new.channels.first())
}

fn running(pair: &Pair<'_>, channel: &BTreeMap<String, String>, findings: &mut Vec<Finding>) {
    let get = |name: &str| channel.get(name).map(String::as_str).unwrap_or_default();
    let new = pair.new_name();
    let (io, sql) = (get("Slave_IO_Running"), get("Slave_SQL_Running"));
    if io == "Yes" && sql == "Yes" {
        findings.push(Finding::ok("replication", format!("both threads run on {new}")));
    } else {
        let error = [get("Last_IO_Error"), get("Last_SQL_Error")].join(" ");
        let seen = format!("Slave_IO_Running: {io}, Slave_SQL_Running: {sql} on {new} {error}");
        findings.push(Finding::failure(
            "replication",
            seen.trim_end(),
            format!("SHOW SLAVE STATUS on {new}; then START SLAVE"),
        ));
    }
    if get("Using_Gtid") == "No" {
        let cure = format!("STOP SLAVE; CHANGE MASTER TO MASTER_USE_GTID = slave_pos; START SLAVE on {new}");
        findings.push(Finding::failure("GTID", format!("{new} replicates without GTIDs"), cure));
    }
    let delay = get("SQL_Delay");
    if !matches!(delay, "" | "0") {
        let cure = format!("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = 0; START SLAVE on {new}");
        findings.push(Finding::failure("lag", format!("{new} is delayed by {delay} s on purpose"), cure));
    }
    let lag = get("Seconds_Behind_Master");
    let behind = lag.parse::<u64>().is_ok_and(|seconds| seconds > pair.facts.wanted.max_lag);
    if behind || pair.facts.catches_up == Some(false) {
        let wanted = &pair.facts.wanted;
        let seen = if behind {
            format!("{new} is {lag} s behind")
        } else {
            format!("{new} does not catch up with the present position within {} s", wanted.catch_up())
        };
        let more = if behind || wanted.max_lag <= wanted.catch_up() {
            format!(", or allow more with --max-lag (now {} s)", wanted.max_lag)
        } else {
            // Clients would wait for that, too.
            format!("; --max-lag ({} s) allows a lag, but no check waits longer than this", wanted.max_lag)
        };
        findings.push(Finding::failure("lag", seen, format!("wait until it has caught up{more}")));
    } else if io == "Yes" && sql == "Yes" {
        findings.push(Finding::ok("lag", format!("{new} is {lag} s behind")));
    }
    for (name, value) in channel {
        if (name.starts_with("Replicate_")
            && !matches!(name.as_str(), "Replicate_Ignore_Server_Ids" | "Replicate_Rewrite_DB"))
            && !value.is_empty()
        {
            let cure = "a new primary must have everything: remove the filter, and rebuild the replica";
            findings.push(Finding::failure("filters", format!("{new} has {name}: {value}"), cure));
        }
    }
    for (name, server) in pair.both() {
        for variable in ["binlog_do_db", "binlog_ignore_db"] {
            if !server.variable(variable).is_empty() {
                let seen = format!("{name} has {variable} = {}", server.variable(variable));
                findings.push(Finding::failure(
                    "filters",
                    seen,
                    "a new primary must have everything: remove the filter, and rebuild the replica",
                ));
            }
        }
    }
}

fn transactions(pair: &Pair<'_>, findings: &mut Vec<Finding>) {
    // The old primary was read again after the new one: everything there must be here.
    let old = pair.facts.old_later.as_ref().unwrap_or(&pair.old.seen.transactions);
    let extra = pair.new.seen.transactions.missing_on(old);
    if extra.is_empty() {
        findings.push(Finding::ok(
            "transactions",
            format!("{} has nothing that {} lacks", pair.new_name(), pair.old_name()),
        ));
    } else {
        let list: Vec<_> = extra.iter().map(ToString::to_string).collect();
        let seen =
            format!("{} has transactions that {} lacks: up to {}", pair.new_name(), pair.old_name(), list.join(","));
        let cure = "find them with mariadb-binlog; rebuild the replica, or apply them to the primary with an expert";
        findings.push(Finding::failure("transactions", seen, cure));
    }
}

fn other_replicas(pair: &Pair<'_>, findings: &mut Vec<Finding>) {
    let new = pair.new.seen.server_id;
    let others = pair.old.replicas.iter().filter(|(id, _)| *id != new);
    let (follow, stay): (Vec<_>, Vec<_>) = others.partition(|(id, _)| pair.facts.wanted.replicas.contains(id));
    for (id, host) in follow {
        findings.push(Finding::ok("replicas", format!("server {id} ({host}) follows {}", pair.new_name())));
    }
    for (id, host) in stay {
        let seen = format!("server {id} ({host}) replicates from {} and stays behind it", pair.old_name());
        findings.push(Finding::warning(
            "replicas",
            seen,
            "name it with --replica, if it should follow the new primary",
        ));
    }
}

fn semi_sync(pair: &Pair<'_>, findings: &mut Vec<Finding>) {
    if pair.old.is_on("rpl_semi_sync_master_enabled") != pair.new.is_on("rpl_semi_sync_master_enabled") {
        let value = |on| if on { "ON" } else { "OFF" };
        let seen = format!(
            "rpl_semi_sync_master_enabled is {} on {} and {} on {}",
            value(pair.old.is_on("rpl_semi_sync_master_enabled")),
            pair.old_name(),
            value(pair.new.is_on("rpl_semi_sync_master_enabled")),
            pair.new_name()
        );
        findings.push(Finding::warning("semi-sync", seen, "set it on the new primary when a replica is attached: without one, its first write waits for rpl_semi_sync_master_timeout"));
    }
}
