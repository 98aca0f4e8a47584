//! Who is who, the plugin, and the target.

use failover::{Mode, Target};

use super::super::facts::Reached;
use super::super::seen::Channel;
use super::{Finding, Pair};

pub(super) fn check(pair: &Pair<'_>, findings: &mut Vec<Finding>) {
    let (old, new) = (pair.old, pair.new);
    let (old_name, new_name) = (pair.old_name(), pair.new_name());
    if old.seen.server_id == new.seen.server_id {
        let seen = format!("{old_name} and {new_name} both have server_id {}", old.seen.server_id);
        let cure = "they are the same server, or one needs another server_id in its option file and a restart";
        findings.push(Finding::failure("servers", seen, cure));
        return;
    }
    findings.push(Finding::ok(
        "servers",
        format!("{old_name} is server {}, {new_name} is server {}", old.seen.server_id, new.seen.server_id),
    ));
    primary(pair, findings);
    replica(pair, findings);
    plugin(pair, findings);
    target(pair, findings);
}

/// Whether the names are given in the wrong order.
pub(super) fn swapped(pair: &Pair<'_>) -> Option<Finding> {
    let (old, new) = (&pair.old.seen, &pair.new.seen);
    let (old_name, new_name) = (pair.old_name(), pair.new_name());
    let is_replica = old.channel_from(new.server_id).is_some();
    // A replica that is prepared is replicated from, too.
    let replicates_back = new.channel_from(old.server_id).is_some();
    if !is_replica || new.read_only || replicates_back && !old.read_only {
        return None;
    }
    let in_order = format!("name the primary first: {new_name} {old_name}");
    Some(if old.read_only {
        Finding::failure(
            "servers",
            format!(
                "the names look swapped: {new_name} is the primary, which accepts writes, and {old_name} is its replica, which \
                 is read only"
            ),
            in_order,
        )
    } else {
        Finding::failure(
            "servers",
            format!("both accept writes, and {old_name} is the replica of {new_name}"),
            format!(
                "SET GLOBAL read_only = 1 on {old_name}, and in its option file; check for transactions that only it has; then \
                 {in_order}"
            ),
        )
    })
}

fn primary(pair: &Pair<'_>, findings: &mut Vec<Finding>) {
    let (old, name) = (pair.old, pair.old_name());
    if old.seen.read_only {
        let cure = format!(
            "is {name} the primary? If so, SET GLOBAL read_only = 0 there; if it is the replica, swap the names"
        );
        findings.push(Finding::failure("primary", format!("{name} is read only"), cure));
    } else {
        findings.push(Finding::ok("primary", format!("{name} accepts writes")));
    }
    let from = |channel: &Channel| channel.source != Some(pair.new.seen.server_id);
    let other: Vec<_> = old.seen.channels.iter().filter(|channel| from(channel)).collect();
    if let Some(channel) = other.first() {
        let seen = format!("{name} replicates from {} (connection '{}')", channel.source_name(), channel.name);
        let cure = format!(
            "{name} must be a primary: STOP SLAVE '{0}'; RESET SLAVE '{0}' ALL, or switch that server",
            channel.name
        );
        findings.push(Finding::failure("primary", seen, cure));
    }
}

fn replica(pair: &Pair<'_>, findings: &mut Vec<Finding>) {
    let (new, name) = (pair.new, pair.new_name());
    if new.seen.read_only {
        findings.push(Finding::ok("replica", format!("{name} is read only")));
    } else {
        let cure = format!(
            "SET GLOBAL read_only = 1 on {name}, and in its option file; then check for transactions that only it has"
        );
        findings.push(Finding::failure("replica", format!("{name} accepts writes"), cure));
    }
    let old_id = pair.old.seen.server_id;
    if new.seen.channel_from(old_id).is_none() {
        let sources: Vec<_> = new.seen.channels.iter().map(Channel::source_name).collect();
        let others = if sources.is_empty() { String::new() } else { format!(", but from {}", sources.join(", ")) };
        findings.push(Finding::failure(
            "replica",
            format!("{name} does not replicate from {}{others}", pair.old_name()),
            "name the primary first and its replica second; for a chain, switch the server next to it",
        ));
        return;
    }
    for channel in new.seen.channels.iter().filter(|channel| channel.source != Some(old_id)) {
        findings.push(Finding::failure(
            "replica",
            format!("{name} also replicates from {} (connection '{}')", channel.source_name(), channel.name),
            format!("RESET SLAVE '{}' ALL there; several sources are not supported", channel.name),
        ));
    }
}

fn plugin(pair: &Pair<'_>, findings: &mut Vec<Finding>) {
    for (name, server) in pair.both() {
        match &server.plugin {
            None => {
                let cure =
                    format!("INSTALL SONAME 'instant_failover' on {name}, and plugin_load_add in its option file");
                findings.push(Finding::failure("plugin", format!("{name} has no plugin instant_failover"), cure));
            }
            Some((version, status)) if status == "ACTIVE" && server.variables.contains_key("instant_failover_mode") => {
                findings.push(Finding::ok("plugin", format!("{name} has version {version}")));
            }
            Some((_, status)) => {
                let cure = "a session keeps it busy: disconnect sessions that have used its variables, then INSTALL SONAME again";
                findings.push(Finding::failure("plugin", format!("the plugin is {status} on {name}"), cure));
            }
        }
        let leads_back = name == pair.new_name() && server.seen.redirects_to(&pair.facts.wanted.old_target);
        if leads_back {
            findings
                .push(Finding::ok("mode", format!("{name} redirects to {} until it is the primary", pair.old_name())));
        } else if server.plugin.is_some() && server.seen.mode != Mode::Off {
            let mode = server.seen.mode;
            let note =
                if server.seen.note.is_empty() { String::new() } else { format!(" (note: {})", server.seen.note) };
            let cure = match mode {
                Mode::Hold => format!(
                    "another switchover may be under way; if not, SET GLOBAL instant_failover_mode = OFF on {name}"
                ),
                _ => format!("SET GLOBAL instant_failover_mode = OFF on {name}, once no client needs the redirect"),
            };
            findings.push(Finding::failure("mode", format!("{name} is in mode {mode}{note}"), cure));
        } else if !server.seen.note.is_empty() {
            let cure = "see instant-failover status; resume or back finishes that switchover";
            findings.push(Finding::warning("note", format!("{name} has the note: {}", server.seen.note), cure));
        }
    }
    if let (Some((one, _)), Some((other, _))) = (&pair.old.plugin, &pair.new.plugin) {
        let major = |version: &str| version.split('.').next().unwrap_or_default().to_owned();
        if major(one) != major(other) {
            let seen = format!("the plugins have versions {one} and {other}");
            findings.push(Finding::failure("plugin", seen, "install the same major version on both"));
        }
    }
    if pair.old.plugin.is_some() && !pair.old.can_hold() {
        let seen = format!("the plugin of {} cannot hold and drain", pair.old_name());
        let cure = "a switchover works without, and costs: open transactions are killed, and writers see errors 1290 and 2013; \
                    a newer plugin avoids that";
        findings.push(Finding::warning("hold", seen, cure));
    }
}

fn target(pair: &Pair<'_>, findings: &mut Vec<Finding>) {
    let target = &pair.facts.wanted.target;
    let new = pair.new_name();
    findings.push(match &pair.facts.target {
        Reached::Untried => return,
        Reached::Server { server_id, identity }
            if *server_id == pair.new.seen.server_id && *identity == pair.new.identity =>
        {
            let port = target.parse::<Target>().ok().map(|target| target.port().to_string());
            if port.is_some_and(|port| port == pair.new.variable("extra_port")) {
                Finding::warning(
                    "target",
                    format!("{target} is the extra_port of {new}, which accepts few connections"),
                    format!("let the target of {new} in the file with the servers have its port"),
                )
            } else {
                Finding::ok("target", format!("{target} leads to {new}"))
            }
        }
        Reached::Server { server_id, identity } => Finding::failure(
            "target",
            format!("{target} leads to server {server_id} ({identity}), not to {new} ({})", pair.new.identity),
            format!("correct the target of {new} in the file with the servers"),
        ),
        Reached::Failed(why) => Finding::failure(
            "target",
            format!("{target} cannot be reached as clients reach it: {why}"),
            format!("correct the target of {new} in the file with the servers, or let this account log in there"),
        ),
    });
}
