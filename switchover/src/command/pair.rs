//! `check`, and what other commands check before they begin.

use std::collections::BTreeSet;

use super::{Check, Context, Ended, Exit, Judging};
use crate::facts;
use crate::link::Link;
use crate::plan::check::{self, Finding, Level};
use crate::plan::facts::{Facts, Wanted};
use crate::servers::Entry;
use crate::threads;

/// Transactions and statements that are older are named, in seconds.
const MAX_AGE: u64 = 5;

/// The servers with these names.
pub(super) fn entries(context: &Context, names: &[String]) -> Result<Vec<Entry>, (Exit, String)> {
    names.iter().map(|name| context.servers.get(name).cloned().map_err(|why| (Exit::Usage, why))).collect()
}

/// The other replicas of a pair, each once.
pub(super) fn replicas(
    context: &Context,
    names: &[String],
    [old, new]: [&str; 2],
) -> Result<Vec<Entry>, (Exit, String)> {
    if let Some(name) = names.iter().find(|name| [old, new].contains(&name.as_str())) {
        return Err((Exit::Usage, format!("--replica {name}: name a replica of {old} other than {new}")));
    }
    let mut replicas = entries(context, names)?;
    let mut seen = BTreeSet::new();
    replicas.retain(|entry| seen.insert(entry.name.clone()));
    Ok(replicas)
}

/// The old and the new primary.
pub(super) fn pair(context: &Context, old: &str, new: &str) -> Result<[Entry; 2], (Exit, String)> {
    if old == new {
        return Err((Exit::Usage, format!("OLD and NEW are both {old}")));
    }
    let get = |name| context.servers.get(name).cloned().map_err(|why| (Exit::Usage, why));
    Ok([get(old)?, get(new)?])
}

/// Another server of the file that has become the primary of these two.
pub(super) fn primary_beside(context: &Context, pair: [&Entry; 2], ids: [u32; 2]) -> Option<String> {
    let [old, new] = pair;
    let others = context.servers.all().iter().filter(|entry| ![&old.name, &new.name].contains(&&entry.name));
    let links: Vec<Link> = others.map(|entry| Link::new(entry.clone(), false)).collect();
    let found = threads::each(links, |mut link| {
        let server = link.look(old, Some(ids[0]))?;
        server.is_primary_beside(ids, old.same_cluster(&link.entry)).then_some(link.entry.name)
    });
    found.into_iter().flatten().next()
}

pub(super) fn check(context: &mut Context, arguments: &Check) -> Ended {
    let pairs = match (&arguments.old, &arguments.new) {
        (Some(old), Some(new)) => vec![pair(context, old, new)?],
        _ if arguments.all => super::status::pairs(context).map_err(|why| (Exit::Refused, why))?,
        _ => return Err((Exit::Usage, "give OLD and NEW, or --all".to_owned())),
    };
    let mut worst = Level::Ok;
    for [old, new] in pairs {
        let title = format!("{} -> {}", old.name, new.name);
        let (mut old, mut new) = (Link::new(old, false), Link::new(new, false));
        let (_, findings) = judge(context, &mut old, &mut new, &arguments.judging)?;
        context.console.findings(&title, &findings);
        worst = worst.max(check::worst(&findings));
    }
    Ok(if worst == Level::Failure { Exit::Refused } else { Exit::Done })
}

/// Reads and judges a pair.
pub(super) fn judge(
    context: &Context,
    old: &mut Link,
    new: &mut Link,
    judging: &Judging,
) -> Result<(Facts, Vec<Finding>), (Exit, String)> {
    let replicas = replicas(context, &judging.replicas, [&old.entry.name, &new.entry.name])?;
    let wanted = Wanted {
        old: old.entry.name.clone(),
        new: new.entry.name.clone(),
        old_target: old.entry.target.to_string(),
        target: new.entry.target.to_string(),
        reverse: !judging.no_reverse,
        replication_user: new.entry.replication.user.clone(),
        max_lag: judging.max_lag,
        max_age: MAX_AGE,
        ..Wanted::default()
    };
    let (facts, mut findings) = facts::read(old, new, wanted, &replicas);
    findings.extend(check::check(&facts));
    Ok((facts, findings))
}
