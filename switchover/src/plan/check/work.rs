//! What is under way.

use super::{Finding, Pair};

pub(super) fn check(pair: &Pair<'_>, findings: &mut Vec<Finding>) {
    for (name, server) in pair.both() {
        if server.prepared > 0 {
            let seen = format!("{} prepared XA transactions on {name}", server.prepared);
            findings.push(Finding::failure(
                "XA",
                seen,
                format!("XA RECOVER on {name}; then XA COMMIT or XA ROLLBACK each"),
            ));
        }
        for obstacle in &server.obstacles {
            findings.push(Finding::failure(
                "backup",
                format!("{name}: {obstacle}"),
                "wait until it has ended, or end it",
            ));
        }
        for manager in &server.managers {
            let cure = "turn off its automatic failover for the time of the switchover";
            findings.push(Finding::warning("manager", format!("{name}: {manager}"), cure));
        }
    }
    if pair.old.long.is_empty() {
        findings.push(Finding::ok(
            "work",
            format!("nothing on {} is older than {} s", pair.old_name(), pair.facts.wanted.max_age),
        ));
    }
    for long in &pair.old.long {
        let cure = "a switchover would wait for it, and still fail; wait until it has ended, or KILL it";
        findings.push(Finding::warning("work", format!("{}: {long}", pair.old_name()), cure));
    }
    for lock in &pair.old.user_locks {
        let cure = "it loses its lock in the switchover";
        findings.push(Finding::warning("locks", format!("{}: {lock}", pair.old_name()), cure));
    }
    if pair.old.events > 0 {
        let seen = format!("{} enabled events move to {}", pair.old.events, pair.new_name());
        findings.push(Finding::ok("events", seen));
    }
}
