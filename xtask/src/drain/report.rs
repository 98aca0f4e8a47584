//! The judgement: what the clients saw, compared with what is in the tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::common::sample::Sample;

use super::controller::Counts;
use super::roles::ROLES;
use super::work::{Journal, Open};
use super::{Client, EndBy, Handling};

/// What differs between the clients' journals and the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Differences {
    /// Acknowledged, and not there.
    lost: u64,
    /// There more than once.
    doubled: u64,
    /// There although the client got an error.
    unacknowledged: u64,
    /// There although rolled back.
    taken_back: u64,
    /// There, and no client knows of them.
    unknown: u64,
}

impl Differences {
    fn between<'a>(journals: impl Iterator<Item = &'a Journal>, mut there: Vec<u64>) -> Self {
        let all = there.len();
        there.sort_unstable();
        there.dedup();
        let mut found = Self { doubled: (all - there.len()) as u64, ..Self::default() };
        let mut known = 0;
        for journal in journals {
            let count = |numbers: &[u64]| numbers.iter().filter(|n| there.binary_search(n).is_ok()).count() as u64;
            let acknowledged = count(&journal.acknowledged);
            let (unacknowledged, taken_back) = (count(&journal.in_doubt), count(&journal.taken_back));
            found.lost += journal.acknowledged.len() as u64 - acknowledged;
            found.unacknowledged += unacknowledged;
            found.taken_back += taken_back;
            known += acknowledged + unacknowledged + taken_back;
        }
        found.unknown = (there.len() as u64).saturating_sub(known);
        found
    }
}

/// The result of one server.
pub(super) struct Leg {
    handling: &'static str,
    ends_by: EndBy,
    counts: Counts,
    sums: Sums,
    differences: Differences,
    prepared: u64,
    rest: (Sample, Sample),
    wrong: Vec<String>,
}

#[derive(Default)]
struct Sums {
    clients: usize,
    units: u64,
    acknowledged: u64,
    cut: BTreeMap<Open, u64>,
    refused: u64,
    refused_after_ping: u64,
    logins: u64,
    redirected: u64,
    lost_logins: u64,
    examples: Vec<String>,
}

/// Complaints and examples beyond these say nothing new.
const ENOUGH: usize = 12;

/// How many more descriptors the server may hold at the end than after the warm-up.
const DESCRIPTORS: u64 = 10;

/// How much more memory it may hold then, in KiB.
///
/// A thread that goes on after a refused login keeps some of its memory, with and without the plugin, and most logins here are
/// redirected, which is a refusal. `cargo xtask bench memory` measures 410 bytes for each in a cached thread; in a pool it was 57.
fn more_memory(redirected: u64) -> u64 {
    32 * 1024 + redirected * 64 / 1024
}

impl Leg {
    #[expect(clippy::too_many_arguments, reason = "they are the fields")]
    pub(super) fn new(
        handling: &'static str,
        ends_by: EndBy,
        clients: &[Client],
        counts: Counts,
        there: Vec<u64>,
        prepared: u64,
        rest: (Sample, Sample),
        mut wrong: Vec<String>,
    ) -> Self {
        let differences = Differences::between(clients.iter().map(|client| &client.journal), there);
        let mut sums = Sums { clients: clients.len(), ..Sums::default() };
        for Client { journal, role, way, .. } in clients {
            sums.units += journal.finished;
            sums.acknowledged += journal.acknowledged.len() as u64;
            journal.cut.iter().for_each(|(open, times)| *sums.cut.entry(*open).or_default() += times);
            sums.refused += journal.refused;
            sums.refused_after_ping += journal.refused_after_ping;
            sums.logins += journal.logins;
            sums.redirected += journal.redirected;
            sums.lost_logins += journal.lost_logins;
            let at = |what: &String| format!("{} ({way:?}): {what}", role.name);
            sums.examples.extend(journal.examples.iter().map(at));
            wrong.extend(journal.strange.iter().map(at));
        }
        for role in ROLES {
            let mut own = clients.iter().filter(|client| client.role.name == role.name);
            if own.all(|client| client.journal.finished == 0) {
                wrong.push(format!("{}: no client ever finished", role.name));
            }
        }
        Self { handling, ends_by, counts, sums, differences, prepared, rest, wrong }
    }

    pub(super) fn name(&self) -> String {
        let by = match self.ends_by {
            EndBy::Drain => "drain",
            EndBy::Kill => "KILL",
        };
        format!("{by}, {}", self.handling)
    }

    fn cut(&self) -> u64 {
        self.sums.cut.values().sum::<u64>()
    }

    /// What must be zero.
    fn zeros(&self) -> [(&'static str, u64); 9] {
        let cut = |open| self.sums.cut.get(&open).copied().unwrap_or(0);
        [
            ("transactions cut", cut(Open::Transaction)),
            ("XA transactions cut", cut(Open::Xa)),
            ("LOCK TABLES cut", cut(Open::Locks)),
            ("answers cut", cut(Open::Answer)),
            ("writes done, not acknowledged", self.differences.unacknowledged),
            ("writes acknowledged, lost", self.differences.lost),
            ("writes doubled", self.differences.doubled),
            ("writes there that were rolled back, or that nobody made", {
                self.differences.taken_back + self.differences.unknown
            }),
            ("XA transactions left prepared", self.prepared),
        ]
    }

    /// What is wrong.
    pub(super) fn complaints(&self) -> Vec<String> {
        let mut complaints: Vec<String> = self.wrong.iter().take(ENOUGH).cloned().collect();
        if self.ends_by == EndBy::Kill {
            // What KILL does is not ours to judge; that it is noticed is.
            if self.cut() == 0 {
                complaints
                    .push(format!("{} KILLs, and no cut was noticed: this test would miss one", self.counts.ended));
            }
            return complaints;
        }
        let not_zero = self.zeros().into_iter().filter(|(_, number)| *number > 0);
        complaints.extend(not_zero.map(|(what, number)| format!("{number} {what}")));
        if self.cut() > 0 {
            complaints.extend(self.sums.examples.iter().take(ENOUGH).map(|example| format!("cut: {example}")));
        }
        let Counts { completed, ended, put_off, .. } = self.counts;
        if completed == 0 || ended == 0 {
            complaints
                .push(format!("{completed} drains were completed, and {ended} sessions ended: nothing was tested"));
        }
        // In a pool, a ping may slip in when the end of its session cannot be undone any more.
        let refused = self.sums.refused_after_ping;
        if refused > 0 && self.handling == Handling::OneThreadPerConnection.name() {
            complaints.push(format!("{refused} sessions were ended right after a ping, in a drain's first second"));
        }
        if put_off > 0 {
            complaints.push(format!("{put_off} UNINSTALLs were put off in mode OFF"));
        }
        let (before, after) = self.rest;
        let memory = more_memory(self.sums.redirected);
        if after.memory > before.memory + memory || after.descriptors > before.descriptors + DESCRIPTORS {
            complaints.push(format!(
                "the server held {before:?}, then {after:?}; it may grow by {memory} KiB and {DESCRIPTORS} descriptors"
            ));
        }
        complaints
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let Sums { clients, units, acknowledged, refused, refused_after_ping, logins, redirected, lost_logins, .. } =
            &self.sums;
        let Counts { drains, completed, longest, ended, held, reinstalls, others, .. } = self.counts;
        let (before, after) = self.rest;
        let mut rows = vec![
            ("clients", clients.to_string()),
            ("units of work done", units.to_string()),
            ("writes acknowledged", acknowledged.to_string()),
            ("drains; times that no session was left", format!("{drains}; {completed}")),
            ("longest time until then, ms", longest.as_millis().to_string()),
            ("sessions ended", ended.to_string()),
        ];
        rows.extend(self.zeros().map(|(what, number)| (what, format!("**{number}**"))));
        rows.extend([
            ("statements refused outside transactions, not executed", refused.to_string()),
            ("of these right after a ping, in a drain's first second", refused_after_ping.to_string()),
            ("logins, held, redirected, lost", format!("{logins}, {held}, {redirected}, {lost_logins}")),
            ("plugin reinstalled, other plugins changed", format!("{reinstalls}, {others}")),
            ("descriptors at rest", format!("{} → {}", before.descriptors, after.descriptors)),
            ("memory at rest, KiB", format!("{} → {}", before.memory, after.memory)),
        ]);
        rows
    }
}

/// All results, one column each.
pub(super) fn table(legs: &[Leg]) -> String {
    let mut table = "| |".to_owned();
    for leg in legs {
        let _ = write!(table, " {} |", leg.name());
    }
    table.push_str("\n|---|");
    table.push_str(&"--:|".repeat(legs.len()));
    table.push('\n');
    let columns: Vec<_> = legs.iter().map(Leg::rows).collect();
    let Some(first) = columns.first() else { return table };
    for (n, (what, _)) in first.iter().enumerate() {
        let _ = write!(table, "| {what} |");
        for (_, value) in columns.iter().filter_map(|rows| rows.get(n)) {
            let _ = write!(table, " {value} |");
        }
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(acknowledged: &[u64], in_doubt: &[u64], taken_back: &[u64], there: &[u64]) -> Differences {
        let journal = Journal {
            acknowledged: acknowledged.to_vec(),
            in_doubt: in_doubt.to_vec(),
            taken_back: taken_back.to_vec(),
            ..Journal::default()
        };
        Differences::between([&journal].into_iter(), there.to_vec())
    }

    #[test]
    fn each_difference_is_found() {
        let none = Differences::default();
        assert_eq!(found(&[1, 2], &[3], &[4], &[2, 1]), none);
        assert_eq!(found(&[1, 2], &[], &[], &[1]), Differences { lost: 1, ..none });
        assert_eq!(found(&[1, 2], &[], &[], &[1, 2, 1]), Differences { doubled: 1, ..none });
        assert_eq!(found(&[1], &[2, 3], &[], &[1, 3]), Differences { unacknowledged: 1, ..none });
        assert_eq!(found(&[1], &[], &[2], &[2, 1]), Differences { taken_back: 1, ..none });
        assert_eq!(found(&[1], &[], &[], &[1, 9]), Differences { unknown: 1, ..none });
    }

    fn leg(ends_by: EndBy, cut: &[(Open, u64)]) -> Leg {
        Leg {
            handling: Handling::OneThreadPerConnection.name(),
            ends_by,
            counts: Counts { drains: 2, completed: 1, ended: 9, ..Counts::default() },
            sums: Sums { cut: cut.iter().copied().collect(), ..Sums::default() },
            differences: Differences::default(),
            prepared: 0,
            rest: (Sample::default(), Sample::default()),
            wrong: Vec::new(),
        }
    }

    #[test]
    fn a_drain_must_cut_nothing_and_kill_something() {
        let cuts = [Open::Transaction, Open::Xa, Open::Locks, Open::Answer].map(|open| [(open, 1)]);
        assert!(leg(EndBy::Drain, &[]).complaints().is_empty());
        assert!(!leg(EndBy::Kill, &[]).complaints().is_empty());
        for cut in cuts {
            assert!(!leg(EndBy::Drain, &cut).complaints().is_empty());
            assert!(leg(EndBy::Kill, &cut).complaints().is_empty());
        }
    }

    #[test]
    fn every_other_fault_is_a_complaint() {
        type Change = fn(&mut Leg);
        let changes: [Change; 10] = [
            |leg| leg.differences.lost = 1,
            |leg| leg.differences.doubled = 1,
            |leg| leg.differences.unacknowledged = 1,
            |leg| leg.prepared = 1,
            |leg| leg.counts.put_off = 1,
            |leg| leg.sums.refused_after_ping = 1,
            |leg| leg.counts.completed = 0,
            |leg| leg.rest.1.descriptors = DESCRIPTORS + 1,
            |leg| leg.rest.1.memory = more_memory(0) + 1,
            |leg| leg.wrong.push("crashed".to_owned()),
        ];
        for change in changes {
            let mut leg = leg(EndBy::Drain, &[]);
            change(&mut leg);
            assert_eq!(leg.complaints().len(), 1);
        }
    }
}
