//! Looks whether another server has become the primary of a pair.

use crate::link::Link;
use crate::plan::seen::{Beside, Seen, Server};
use crate::servers::Entry;
use crate::threads;

/// Looks at others, all at once, and names the one that speaks most clearly against opening one of the two that were seen.
/// `has_restarted`: the primary of the two may have been down since this began. As long as it has not, no failover is likely to have
/// begun, and one that does not answer does not count.
#[must_use]
pub fn beside(others: &[Entry], old: &Entry, seen: &Seen, has_restarted: bool) -> Option<Beside> {
    let pair: Vec<&Server> = [&seen.old, &seen.new].into_iter().flatten().collect();
    let old_id = seen.old.as_ref().map(|server| server.server_id);
    let mut found = threads::each(others, |entry| {
        let Some(server) = Link::new(entry.clone(), false).look(old, old_id) else {
            return Some(Beside::Silent(entry.name.clone()));
        };
        server.beside(&entry.name, &pair, old.same_cluster(entry))
    });
    let rank = |beside: &Option<Beside>| match beside {
        Some(Beside::Writes(_)) => 0,
        Some(Beside::HasMore(..)) => 1,
        Some(Beside::Silent(_)) => 2,
        None => 3,
    };
    found.sort_by_key(rank);
    let found = found.into_iter().next().flatten();
    found.filter(|found| has_restarted || !matches!(found, Beside::Silent(_)))
}
