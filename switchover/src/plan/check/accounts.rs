//! Who can do what.

use super::super::facts::{Account, ServerFacts};
use super::{Finding, Pair};

pub(super) fn check(pair: &Pair<'_>, findings: &mut Vec<Finding>) {
    for (name, server) in pair.both() {
        grants(name, server, findings);
        exempt(name, server, pair, findings);
    }
    writers(pair, findings);
    same_accounts(pair, findings);
    if pair.facts.wanted.reverse {
        reverse(pair, findings);
    }
}

/// Privileges that the steps need. From 10.11 on, `SUPER` no longer contains most of them.
const NEEDED: &[&str] = &[
    "SUPER",
    "RELOAD",
    "PROCESS",
    "READ_ONLY ADMIN",
    "BINLOG MONITOR",
    "REPLICATION SLAVE ADMIN",
    "REPLICATION MASTER ADMIN",
    "SLAVE MONITOR",
    "CONNECTION ADMIN",
    "EVENT",
    "SET USER",
];
const WITHIN_SUPER: &[&str] = &[
    "READ_ONLY ADMIN",
    "REPLICATION SLAVE ADMIN",
    "REPLICATION MASTER ADMIN",
    "CONNECTION ADMIN",
    "SET USER",
    "BINLOG MONITOR",
    "SLAVE MONITOR",
];

/// Whether this account may do what the steps do.
pub(in crate::plan) fn grants(name: &str, server: &ServerFacts, findings: &mut Vec<Finding>) {
    findings.push(
        lacking(name, &server.account, &server.grants, server.series()).unwrap_or_else(|| {
            Finding::ok("privileges", format!("{} has all that is needed on {name}", server.account))
        }),
    );
    if server.accounts.is_none() {
        let seen = format!(
            "{} cannot read mysql.global_priv on {name}: who may write in spite of read_only is not known",
            server.account
        );
        findings.push(Finding::warning(
            "privileges",
            seen,
            format!("GRANT SELECT ON mysql.* TO {}", quoted(&server.account)),
        ));
    }
}

/// Which privileges an account lacks, by `SHOW GRANTS`.
pub(super) fn lacking(name: &str, account: &str, held: &[String], series: (u32, u32)) -> Option<Finding> {
    let global: Vec<String> = held
        .iter()
        .filter_map(|grant| Some(grant.strip_prefix("GRANT ")?.split_once(" ON *.* TO ")?.0))
        .flat_map(|list| list.split(',').map(|privilege| privilege.trim().replace("READ ONLY", "READ_ONLY")))
        .collect();
    let has = |privilege: &str| global.iter().any(|held| held == privilege || held == "ALL PRIVILEGES");
    let super_contains = series < (10, 11) && has("SUPER");
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|privilege| !(has(privilege) || super_contains && WITHIN_SUPER.contains(privilege)))
        .map(|privilege| privilege.replace("READ_ONLY", "READ ONLY"))
        .collect();
    (!missing.is_empty()).then(|| {
        let missing = missing.join(", ");
        let cure = format!("GRANT {missing} ON *.* TO {}", quoted(account));
        Finding::failure("privileges", format!("{account} lacks {missing} on {name}"), cure)
    })
}

fn quoted(account: &str) -> String {
    let (user, host) = account.rsplit_once('@').unwrap_or((account, "%"));
    format!("'{user}'@'{host}'")
}

fn exempt(name: &str, server: &ServerFacts, pair: &Pair<'_>, findings: &mut Vec<Finding>) {
    let user = server.account.rsplit_once('@').map_or(server.account.as_str(), |(user, _)| user);
    if !server.exempts(user) {
        let cure = format!("add it to instant_failover_exempt_users on {name}, and in its option file");
        findings.push(Finding::warning("exempt users", format!("{user}, this account, is not exempt on {name}: if this session is lost in mode ON, only the socket or the extra port is left"), cure));
    }
    match &pair.facts.wanted.replication_user {
        Some(user) if !server.exempts(user) => {
            let cure = format!("add it to instant_failover_exempt_users on {name}, and in its option file");
            findings.push(Finding::failure(
                "exempt users",
                format!("{user}, the user of replication, is not exempt on {name}: replicas would be redirected"),
                cure,
            ));
        }
        _ => {}
    }
}

/// Those that `read_only` does not stop. The fence does.
fn writers(pair: &Pair<'_>, findings: &mut Vec<Finding>) {
    let Some(accounts) = &pair.old.accounts else { return };
    let able: Vec<&Account> =
        accounts.iter().filter(|account| account.ignores_read_only && !account.is_role && !account.is_locked).collect();
    let exempt = pair.old.exempt_writers(pair.facts.wanted.replication_user.as_deref());
    if exempt.is_empty() {
        findings.push(Finding::ok("writers", "no other exempt user may write in spite of read_only"));
    } else {
        let seen = format!("exempt, and may write in spite of read_only: {}", exempt.join(", "));
        let cure = format!(
            "they are removed from instant_failover_exempt_users on {} when it redirects; its option file is left as it is",
            pair.old_name()
        );
        findings.push(Finding::warning("writers", seen, cure));
    }
    let by_definer = pair
        .old
        .definers
        .iter()
        .filter(|definer| able.iter().any(|account| **definer == format!("{}@{}", account.user, account.host)));
    let by_definer: Vec<_> = by_definer.cloned().collect();
    if !by_definer.is_empty() {
        let seen = format!(
            "routines, triggers or events may write in spite of read_only: their definers are {}",
            by_definer.join(", ")
        );
        findings.push(Finding::ok("writers", format!("{seen}; the fence stops them")));
    }
}

fn same_accounts(pair: &Pair<'_>, findings: &mut Vec<Finding>) {
    let (Some(old), Some(new)) = (&pair.old.accounts, &pair.new.accounts) else { return };
    let mut different = Vec::new();
    for account in old.iter().filter(|account| !account.is_role) {
        let there = new.iter().find(|other| other.user == account.user && other.host == account.host);
        match there {
            None => different.push(format!("{}@{} does not exist", account.user, account.host)),
            Some(there) if there.authentication != account.authentication => {
                different.push(format!("{}@{} authenticates differently", account.user, account.host));
            }
            Some(_) => {}
        }
    }
    if different.is_empty() {
        findings.push(Finding::ok("accounts", "every account is the same on both"));
    } else {
        different.truncate(5);
        let seen = format!("on {}: {}", pair.new_name(), different.join("; "));
        findings.push(Finding::warning(
            "accounts",
            seen,
            "make them alike: SHOW CREATE USER on the primary has the statement",
        ));
    }
}

fn reverse(pair: &Pair<'_>, findings: &mut Vec<Finding>) {
    let Some(user) = &pair.facts.wanted.replication_user else {
        let seen = format!("{} has no replication-user in the file with the servers", pair.new_name());
        findings.push(Finding::failure(
            "reverse",
            seen,
            "add replication-user and replication-password, or use --no-reverse",
        ));
        return;
    };
    if let Some(accounts) = &pair.new.accounts
        && !accounts.iter().any(|account| account.user == *user)
    {
        let seen = format!("there is no account {user} on {}", pair.new_name());
        findings.push(Finding::failure(
            "reverse",
            seen,
            format!("CREATE USER {user}; GRANT REPLICATION SLAVE ON *.* TO {user} on the primary"),
        ));
    }
    if pair.new.series() > pair.old.series() {
        let seen = format!(
            "{} is {}, newer than {}",
            pair.new_name(),
            pair.new.variable("version"),
            pair.old.variable("version")
        );
        findings.push(Finding::failure(
            "reverse",
            seen,
            format!(
                "an older server may not understand a newer one: use --no-reverse; then there is no way back to {}",
                pair.old_name()
            ),
        ));
    }
}
