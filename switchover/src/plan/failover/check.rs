//! What must be right before a replica takes over from a primary that is dead.

use super::super::check::{Finding, grants};
use super::super::facts::ServerFacts;
use super::super::seen::{Beside, Channel, Replica, StandIn};
use super::more_than;

/// Everything that is judged.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The name of the old primary in the file.
    pub old: String,
    /// Its `server_id`, as its replicas know it; 0 if they do not.
    pub old_id: u32,
    /// The name of the new primary in the file.
    pub new: String,
    /// What answers at each address of the old primary.
    pub addresses: Vec<(String, Answer)>,
    /// Whether a command ends the old primary, or has done so.
    pub fenced: bool,
    /// The new primary, if it answers.
    pub replica: Option<ServerFacts>,
    /// The other replicas of the old primary, and servers that may be such: they do not answer.
    pub others: Vec<Replica>,
    /// Those that the DBA leaves out.
    pub without: Vec<String>,
    /// Another server that may have become the primary.
    pub beside: Option<Beside>,
    /// Replicas of a server with the `server_id` of the old primary, which may be another one; and of one that nothing tells.
    pub unclear: Vec<String>,
    /// Whether the file says how others replicate from the new primary.
    pub has_replication_user: bool,
    /// Whether a switchover has promoted the new primary already, before the old one died.
    pub promoted: bool,
    /// The name of the stand-in, and what it shows.
    pub stand_in: Option<(String, Option<StandIn>)>,
}

/// What answers at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing, and why.
    Silent(String),
    /// The stand-in.
    StandIn,
    /// Something accepts connections, and does not speak as a server does.
    Hangs(String),
    /// A server.
    Server(String),
    /// This machine cannot find out.
    Unknown(String),
}

/// What to say of an address at which a stand-in answers.
#[must_use]
pub fn answers(address: &str, old: &str) -> String {
    format!("the stand-in answers at {address}, not {old}")
}

/// Judges.
#[must_use]
pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    addresses(facts, &mut findings);
    receivers(facts, &mut findings);
    strangers(facts, &mut findings);
    stand_in(facts, &mut findings);
    if let Some(server) = &facts.replica {
        role(facts, server, &mut findings);
        if let Some(channel) = server.seen.channel_from(facts.old_id) {
            replication(facts, server, channel, &mut findings);
            others(facts, server, &mut findings);
        }
        settings(facts, server, &mut findings);
        grants(&facts.new, server, &mut findings);
    }
    findings
}

/// Whether the old primary answers.
fn addresses(facts: &Facts, findings: &mut Vec<Finding>) {
    let old = &facts.old;
    for (address, answer) in &facts.addresses {
        findings.push(match answer {
            Answer::Silent(why) => Finding::ok("dead", format!("{old} does not answer at {address}: {why}")),
            Answer::StandIn => Finding::ok("dead", answers(address, old)),
            Answer::Hangs(why) if facts.fenced => {
                Finding::warning("dead", format!("{address} accepts connections: {why}"), "--fenced-by decides")
            }
            Answer::Hangs(why) => Finding::failure(
                "dead",
                format!("{address} accepts connections: {why}. {old} may live"),
                format!("turn it off, or say with --fenced-by COMMAND how to turn {old} off"),
            ),
            Answer::Server(what) => Finding::failure(
                "dead",
                format!("a server answers at {address}: {what}. {old} may live"),
                format!(
                    "if it is {old}, use switchover, or turn it off; if it is a stand-in, write a group for it in the file \
                     with the servers: stand-in-for = {old}, and its socket"
                ),
            ),
            Answer::Unknown(why) => Finding::failure(
                "dead",
                format!("it is not known whether {old} answers at {address}: {why}"),
                format!("correct the entry of {old} in the file with the servers, or the network of this machine"),
            ),
        });
    }
}

/// Whether a replica is connected to the old primary.
fn receivers(facts: &Facts, findings: &mut Vec<Finding>) {
    let old = &facts.old;
    let own = facts.replica.iter().map(|server| (facts.new.as_str(), &server.seen));
    let others = facts.others.iter().filter_map(|other| Some((other.name.as_str(), other.server.as_ref()?)));
    for (name, server) in own.chain(others) {
        if !server.channel_from(facts.old_id).is_some_and(|channel| channel.is_connected) {
            continue;
        }
        let seen = format!("{name} is still connected to {old}: Slave_IO_Running is Yes");
        findings.push(if facts.fenced {
            Finding::warning("dead", seen, "--fenced-by decides")
        } else {
            let cure = format!(
                "{old} may live. If it lost its power, {name} notices that after slave_net_timeout; or use --fenced-by COMMAND"
            );
            Finding::failure("dead", seen, cure)
        });
    }
}

/// Servers that do not replicate from the old primary, and may belong with it.
fn strangers(facts: &Facts, findings: &mut Vec<Finding>) {
    if let Some(Beside::Writes(name)) = &facts.beside {
        findings.push(Finding::failure(
            "dead",
            format!("{name} accepts writes, and belongs with {} or has what it wrote", facts.old),
            format!(
                "is {name} already the primary? If so, let {} replicate from it. If it has nothing to do with {}, set cluster in the \
                 groups of the file. If neither, SET GLOBAL read_only = 1 there",
                facts.new, facts.old
            ),
        ));
    }
    if let Some(Beside::HasMore(name, gtid)) = &facts.beside {
        findings.push(Finding::failure(
            "replicas",
            format!("{name} has {gtid}, which {} lacks, and does not replicate from {}", facts.new, facts.old),
            format!(
                "was {name} the primary since? Then SET GLOBAL read_only = 0 there, and nothing here. To lose what only it has: --without \
                 {name}"
            ),
        ));
    }
    for name in &facts.unclear {
        findings.push(Finding::failure(
            "replicas",
            format!(
                "{name} replicates from a server that may be {0}, at another address than {0} has in the file",
                facts.old
            ),
            format!(
                "set cluster in the groups of the file: the same in those of {0} and {name} if they belong together, or else another. If they \
                 do, and what only it has received may be lost: --without {name}",
                facts.old
            ),
        ));
    }
}

fn stand_in(facts: &Facts, findings: &mut Vec<Finding>) {
    let (old, new) = (&facts.old, &facts.new);
    findings.push(match &facts.stand_in {
        Some((name, Some(one))) => {
            Finding::ok("stand-in", format!("{name} is in mode {}, and will hold clients", one.mode))
        }
        Some((name, None)) => Finding::warning(
            "stand-in",
            format!("{name} does not answer: clients fail until they connect to {new}"),
            format!("start it on the address of {old}, in mode HOLD"),
        ),
        None => Finding::warning(
            "stand-in",
            format!("no stand-in is in the file (stand-in-for = {old}): clients fail until they connect to {new}"),
            "let clients know the new address, or move the old one",
        ),
    });
}

fn role(facts: &Facts, server: &ServerFacts, findings: &mut Vec<Finding>) {
    let new = &facts.new;
    findings.push(if server.seen.read_only {
        Finding::ok("replica", format!("{new} is read only"))
    } else if facts.promoted {
        Finding::ok("replica", format!("{new} accepts writes: a switchover has promoted it"))
    } else {
        let cure = format!(
            "is {new} already the primary? Then there is nothing to fail over; if not, SET GLOBAL read_only = 1 there, and check for \
             transactions that only it has"
        );
        Finding::failure("replica", format!("{new} accepts writes"), cure)
    });
    findings.push(if server.seen.channel_from(facts.old_id).is_some() {
        Finding::ok("replica", format!("{new} replicates from {}", facts.old))
    } else {
        let seen = format!("{new} does not replicate from {}", facts.old);
        Finding::failure("replica", seen, "name a replica of the primary that is dead")
    });
    for channel in server.seen.channels.iter().filter(|channel| channel.source != Some(facts.old_id)) {
        findings.push(Finding::failure(
            "replica",
            format!("{new} also replicates from {} (connection '{}')", channel.source_name(), channel.name),
            format!("RESET SLAVE '{}' ALL there; several sources are not supported", channel.name),
        ));
    }
}

fn replication(facts: &Facts, server: &ServerFacts, channel: &Channel, findings: &mut Vec<Finding>) {
    let new = &facts.new;
    let row = server.channels.iter().find(|row| row.get("Connection_name") == Some(&channel.name));
    let get = |name: &str| row.and_then(|row| row.get(name)).map(String::as_str).unwrap_or_default();
    if get("Using_Gtid") == "No" {
        let cure = "without GTIDs it is not known which replica has the most: promote by hand";
        findings.push(Finding::failure("GTID", format!("{new} replicates without GTIDs"), cure));
    }
    let received = &channel.received;
    let applied = server.variable("gtid_slave_pos");
    findings.push(if channel.applies {
        Finding::ok("replication", format!("{new} has received {received}, and applied {applied}"))
    } else if server.seen.transactions.reaches(received) {
        Finding::ok("replication", format!("{new} has applied everything that it has received"))
    } else {
        let seen = format!(
            "{new} has received {received}, applied {applied}, and its SQL thread does not run: {}",
            get("Last_SQL_Error")
        );
        let cure = if channel.receives {
            "remove the cause; then START SLAVE SQL_THREAD. Not STOP SLAVE: with both threads stopped, the next START SLAVE \
             discards what was received"
        } else {
            "copy its relay log files first: with both threads stopped, the next START SLAVE discards what was received and \
             not applied. Then apply that from the copies with mariadb-binlog, or choose another replica"
        };
        Finding::failure("replication", seen.trim_end_matches([' ', ':']), cure)
    });
    if !matches!(get("SQL_Delay"), "" | "0") {
        let seen = format!("{new} is delayed by {} s on purpose", get("SQL_Delay"));
        findings.push(Finding::warning("lag", seen, "choose another replica, or allow that time with --max-pause"));
    }
    for (name, value) in row.into_iter().flatten() {
        let is_filter = name.starts_with("Replicate_")
            && !matches!(name.as_str(), "Replicate_Ignore_Server_Ids" | "Replicate_Rewrite_DB");
        if is_filter && !value.is_empty() {
            let cure = "it does not have everything: choose another replica if there is one";
            findings.push(Finding::warning("filters", format!("{new} has {name}: {value}"), cure));
        }
    }
    findings.push(Finding::warning("lost writes", unknown_writes(facts, server, received), ""));
}

/// What may be lost.
fn unknown_writes(facts: &Facts, server: &ServerFacts, received: &super::super::gtid::Position) -> String {
    let (old, new) = (&facts.old, &facts.new);
    if server.status.get("Rpl_semi_sync_slave_status").is_some_and(|status| status == "ON") {
        format!(
            "semi-sync is on at {new}. If it was on at {old} too, every write that {old} acknowledged was received, except \
             those that it acknowledged after rpl_semi_sync_master_timeout without a replica: what these are is unknown"
        )
    } else {
        format!("semi-sync is off at {new}: what {old} acknowledged later than {received} is unknown")
    }
}

fn others(facts: &Facts, server: &ServerFacts, findings: &mut Vec<Finding>) {
    let (old, new) = (&facts.old, &facts.new);
    for Replica { name, server: other, is_taken } in &facts.others {
        findings.push(match other {
            None if *is_taken => Finding::failure(
                "replicas",
                format!("another instant-failover is working on {name}"),
                "let that end, or end it; then status says what it has left",
            ),
            None if facts.without.contains(name) => Finding::warning(
                "replicas",
                format!("{name} does not answer and is left out: what only it has received is lost"),
                format!("when it is back, compare its GTIDs with those of {new} before it replicates from there"),
            ),
            None => Finding::failure(
                "replicas",
                format!(
                    "{name} does not answer: it may replicate from {old}, and may have received more than {new}"
                ),
                format!(
                    "start it, or leave it out: --without {name}. If it belongs to another primary, set cluster in the groups \
                     of the file"
                ),
            ),
            Some(other) => match more_than(other, &server.seen, facts.old_id) {
                Some(gtid) => Finding::failure(
                    "replicas",
                    format!("{name} has received {gtid}, and {new} has not"),
                    format!("failover {name}, which has more"),
                ),
                None => Finding::ok("replicas", format!("{name} has nothing more, and follows {new}")),
            },
        });
    }
}

fn settings(facts: &Facts, server: &ServerFacts, findings: &mut Vec<Finding>) {
    let new = &facts.new;
    if !server.is_on("log_bin") || !server.is_on("log_slave_updates") {
        findings.push(Finding::failure(
            "binary log",
            format!("log_bin or log_slave_updates is off on {new}: no other server could replicate from it"),
            "choose another replica",
        ));
    }
    if server.is_on("rpl_semi_sync_master_enabled") {
        let seen = format!(
            "rpl_semi_sync_master_enabled is ON on {new}: until a replica is attached, a write waits for up to {} ms",
            server.variable("rpl_semi_sync_master_timeout")
        );
        let cure = format!("SET GLOBAL rpl_semi_sync_master_enabled = 0 on {new} until then");
        findings.push(Finding::warning("semi-sync", seen, cure));
    }
    if !facts.others.is_empty() && !facts.has_replication_user {
        let seen = format!("{new} has no replication-user in the file with the servers: no replica can follow it");
        findings.push(Finding::warning("replicas", seen, "add replication-user and replication-password"));
    }
    if server.prepared > 0 {
        let seen = format!("{} prepared XA transactions on {new}", server.prepared);
        let cure = format!("afterwards: XA RECOVER on {new}; then XA COMMIT or XA ROLLBACK each");
        findings.push(Finding::warning("XA", seen, cure));
    }
    if server.plugin.is_none() {
        let seen = format!("{new} has no plugin instant_failover");
        let cure = "no switchover from it is possible later: INSTALL SONAME 'instant_failover'";
        findings.push(Finding::warning("plugin", seen, cure));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ::failover::Mode;

    use super::super::super::check::{Level, worst};
    use super::super::super::facts::ServerFacts;
    use super::super::super::gtid::{Position, Transactions};
    use super::super::super::seen::{Beside, Channel, Replica, Server};
    use super::{Answer, Facts, check};

    fn server(id: u32, applied: &str, received: &str) -> Server {
        Server {
            server_id: id,
            read_only: true,
            position: applied.parse().unwrap(),
            transactions: Transactions::parse(applied, applied).unwrap(),
            channels: vec![Channel {
                name: String::new(),
                source: Some(1),
                address: String::new(),
                receives: true,
                is_connected: false,
                received: received.parse().unwrap(),
                applies: true,
            }],
            mode: Mode::Off,
            target: String::new(),
            note: String::new(),
            events_run: true,
        }
    }

    fn facts() -> Facts {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        Facts {
            old: "db1".to_owned(),
            old_id: 1,
            new: "db2".to_owned(),
            addresses: vec![("db1:3306".to_owned(), Answer::Silent("refused".to_owned()))],
            replica: Some(ServerFacts {
                channels: vec![map(&[("Connection_name", ""), ("Using_Gtid", "Slave_Pos")])],
                variables: map(&[("log_bin", "ON"), ("log_slave_updates", "ON"), ("version", "10.11.1")]),
                grants: vec!["GRANT ALL PRIVILEGES ON *.* TO dba".to_owned()],
                ..ServerFacts::of(server(2, "0-1-7", "0-1-9"))
            }),
            others: vec![Replica {
                name: "db3".to_owned(),
                server: Some(server(3, "0-1-8", "0-1-8")),
                is_taken: false,
            }],
            ..Facts::default()
        }
    }

    fn own(facts: &mut Facts) -> &mut Server {
        &mut facts.replica.as_mut().unwrap().seen
    }

    fn other(facts: &mut Facts) -> &mut Server {
        facts.others[0].server.as_mut().unwrap()
    }

    type Change = fn(&mut Facts);

    #[test]
    fn what_refuses() {
        assert_ne!(worst(&check(&facts())), Level::Failure, "{:#?}", check(&facts()));
        let cases: &[(&str, Change)] = &[
            ("may live", |facts| facts.addresses[0].1 = Answer::Server("10.11".to_owned())),
            ("may live", |facts| facts.addresses[0].1 = Answer::Hangs("no greeting".to_owned())),
            ("not known", |facts| facts.addresses[0].1 = Answer::Unknown("no such host".to_owned())),
            ("db2 is still connected", |facts| own(facts).channels[0].is_connected = true),
            ("db3 is still connected", |facts| other(facts).channels[0].is_connected = true),
            ("db3 has received 0-1-10", |facts| other(facts).channels[0].received = "0-1-10".parse().unwrap()),
            ("db3 has received 0-1-11", |facts| other(facts).transactions = Transactions::parse("0-1-11", "").unwrap()),
            ("db3 does not answer", |facts| facts.others[0].server = None),
            ("db4 accepts writes", |facts| facts.beside = Some(Beside::Writes("db4".to_owned()))),
            ("db4 has 0-4-9, which db2 lacks", |facts| {
                facts.beside = Some(Beside::HasMore("db4".to_owned(), "0-4-9".parse().unwrap()));
            }),
            ("db4 replicates from a server that may be db1", |facts| facts.unclear.push("db4".to_owned())),
            ("db2 accepts writes", |facts| own(facts).read_only = false),
            ("SQL thread does not run", |facts| own(facts).channels[0].applies = false),
            ("does not replicate", |facts| own(facts).channels.clear()),
        ];
        for (expected, change) in cases {
            let mut facts = facts();
            change(&mut facts);
            let failures: Vec<_> =
                check(&facts).into_iter().filter(|finding| finding.level == Level::Failure).collect();
            assert!(failures.iter().any(|finding| finding.seen.contains(expected)), "{expected}: {failures:#?}");
        }
    }

    /// What a command that has turned the old primary off overrides, and what not even that does.
    #[test]
    fn what_a_fence_overrides() {
        let mut facts = facts();
        facts.fenced = true;
        facts.addresses[0].1 = Answer::Hangs("no greeting".to_owned());
        own(&mut facts).channels[0].is_connected = true;
        assert_eq!(worst(&check(&facts)), Level::Warning);
        facts.addresses[0].1 = Answer::Server("10.11".to_owned());
        assert_eq!(worst(&check(&facts)), Level::Failure);
    }

    #[test]
    fn one_that_a_switchover_has_promoted() {
        let mut facts = facts();
        facts.promoted = true;
        own(&mut facts).read_only = false;
        assert_eq!(worst(&check(&facts)), Level::Warning);
    }

    #[test]
    fn a_server_that_is_left_out() {
        let mut facts = facts();
        facts.others[0].server = None;
        facts.without.push("db3".to_owned());
        assert_eq!(worst(&check(&facts)), Level::Warning);
    }

    /// Its threads need not run.
    #[test]
    fn a_replica_that_has_applied_everything() {
        let mut facts = facts();
        let channel = &mut own(&mut facts).channels[0];
        (channel.applies, channel.receives, channel.received) = (false, false, Position::default());
        facts.others.clear();
        assert_eq!(worst(&check(&facts)), Level::Warning);
    }
}
