//! Results: counts of outcomes, and what the server holds.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::common::sample::Sample;

use super::clients::CHANGE_USER;
use super::state::{Account, Login, Outcome, Way};

/// What clients of one kind saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Row {
    let_in: u64,
    redirected: u64,
    refused: u64,
    hung_up: u64,
}

/// Redirects, as the server counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) total: u64,
    /// In the order of [`Way::ALL`].
    pub(super) by_way: [u64; 3],
    pub(super) change_user: u64,
    pub(super) account: u64,
}

impl Counters {
    fn values(&self) -> [u64; 6] {
        let [tcp, extra_port, socket] = self.by_way;
        [self.total, tcp, extra_port, socket, self.change_user, self.account]
    }

    /// The increase since `before`.
    fn since(&self, before: &Self) -> [u64; 6] {
        let mut grown = self.values();
        grown.iter_mut().zip(before.values()).for_each(|(now, before)| *now = now.saturating_sub(before));
        grown
    }
}

/// What all clients saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    rows: BTreeMap<&'static str, Row>,
    redirects: Counters,
    /// Logins that the server may have counted as redirected although their client did not see it.
    unsure: u64,
    tls: u64,
}

impl Tally {
    pub(super) fn count(&mut self, kind: &'static str, login: &Login, outcome: &Outcome, unsure: bool) {
        let row = self.rows.entry(kind).or_default();
        match outcome {
            Outcome::LetIn | Outcome::Ended => row.let_in += 1,
            Outcome::Refused(_) => row.refused += 1,
            Outcome::HungUp | Outcome::Strange(_) => row.hung_up += 1,
            Outcome::Redirected(_) => {
                row.redirected += 1;
                self.redirects.total += 1;
                for (way, counter) in Way::ALL.into_iter().zip(&mut self.redirects.by_way) {
                    *counter += u64::from(way == login.way);
                }
                self.redirects.change_user += u64::from(kind == CHANGE_USER);
                self.redirects.account += u64::from(matches!(login.account, Account::Moved | Account::MovedAlong));
            }
        }
        self.unsure += u64::from(unsure);
        self.tls += u64::from(login.tls);
    }

    pub(super) fn attempts(&self) -> u64 {
        self.rows.values().map(|row| row.let_in + row.redirected + row.refused + row.hung_up).sum()
    }

    /// The tally in one line.
    pub(super) fn line(&self) -> String {
        let sum = |of: fn(&Row) -> u64| -> u64 { self.rows.values().map(of).sum() };
        format!(
            "{} attempts: {} accepted, {} redirected, {} refused, {} ended otherwise",
            self.attempts(),
            sum(|row| row.let_in),
            sum(|row| row.redirected),
            sum(|row| row.refused),
            sum(|row| row.hung_up)
        )
    }

    /// The tally as a table.
    pub(super) fn table(&self) -> String {
        let mut table = "| clients | let in | redirected | refused | no answer |\n|---|--:|--:|--:|--:|\n".to_owned();
        for (kind, row) in &self.rows {
            let _ =
                writeln!(table, "| {kind} | {} | {} | {} | {} |", row.let_in, row.redirected, row.refused, row.hung_up);
        }
        table
    }

    /// How many attempts used TLS.
    pub(super) fn tls(&self) -> u64 {
        self.tls
    }

    /// Checks the server's counters against the growth of the tally from `before` to this.
    pub(super) fn compare(&self, before: &Self, counted: &Counters, counted_before: &Counters) -> Result<(), String> {
        let (seen, counted) = (self.redirects.since(&before.redirects), counted.since(counted_before));
        let unsure = self.unsure - before.unsure;
        let [total, tcp, extra_port, socket, ..] = counted;
        let agree = seen.iter().zip(counted).all(|(&seen, counted)| (seen..=seen + unsure).contains(&counted));
        if agree && total == tcp + extra_port + socket {
            return Ok(());
        }
        Err(format!(
            "redirects (all, tcp, extra port, socket, change user, account) counted {counted:?}, seen {seen:?}, and \
             {unsure} that no client may have seen"
        ))
    }
}

/// What a server holds before and after something.
#[derive(Clone, Debug)]
pub(super) struct Growth {
    pub(super) what: String,
    pub(super) before: Sample,
    pub(super) after: Sample,
    /// How many KiB the memory may grow by; none if the server is without our plugin.
    pub(super) bound: Option<u64>,
}

/// More than these count as leaks. Idle threads wait in pools and caches.
const DESCRIPTORS: u64 = 3;
const THREADS: u64 = 10;

impl Growth {
    /// What has grown too much, if anything.
    pub(super) fn complaint(&self) -> Option<String> {
        let Self { what, before, after, bound } = self;
        let bound = (*bound)?;
        let too_much = after.memory > before.memory + bound
            || after.descriptors > before.descriptors + DESCRIPTORS
            || after.threads > before.threads + THREADS;
        too_much.then(|| {
            format!(
                "{what}: the server held {before:?}, then {after:?}; it may grow by {bound} KiB, {DESCRIPTORS} \
                 descriptors and {THREADS} threads"
            )
        })
    }
}

/// All of them as a table.
pub(super) fn growths(growths: &[Growth]) -> String {
    let mut table = "| what the server holds when idle | KiB before | after | may grow by | descriptors | threads |\n\
                     |---|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for Growth { what, before, after, bound } in growths {
        let bound = bound.map_or("-".to_owned(), |bound| bound.to_string());
        let _ = writeln!(
            table,
            "| {what} | {} | {} | {bound} | {} → {} | {} → {} |",
            before.memory, after.memory, before.descriptors, after.descriptors, before.threads, after.threads
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn tally(redirects: u64, unsure: u64) -> Tally {
        let login = Login {
            user: "app".to_owned(),
            account: Account::Moved,
            right: false,
            way: Way::ExtraPort,
            from: Ipv4Addr::LOCALHOST,
            tls: true,
            changes_user: false,
        };
        let mut tally = Tally::default();
        for _ in 0..redirects {
            tally.count(CHANGE_USER, &login, &Outcome::Redirected(String::new()), false);
        }
        for _ in 0..unsure {
            tally.count(CHANGE_USER, &login, &Outcome::HungUp, true);
        }
        tally
    }

    #[test]
    fn counters_agree_with_what_was_seen() {
        let counters = |n| Counters { total: n, by_way: [0, n, 0], change_user: n, account: n };
        let compare = |now: &Tally, counted| now.compare(&tally(2, 1), &counters(counted), &counters(7)).is_ok();
        assert!(compare(&tally(5, 1), 10));
        assert!(!compare(&tally(5, 1), 9));
        assert!(!compare(&tally(5, 1), 11));
        assert!(compare(&tally(5, 2), 10) && compare(&tally(5, 2), 11));
        assert!(!compare(&tally(5, 2), 12));
        let odd = Counters { by_way: [1, 10, 0], ..counters(10) };
        assert!(tally(5, 2).compare(&tally(2, 1), &odd, &counters(7)).is_err());
    }

    #[test]
    fn what_grows_too_much() {
        let before = Sample { memory: 1000, descriptors: 50, threads: 20 };
        let complains = |memory, descriptors, threads, bound| {
            let after = Sample { memory, descriptors, threads };
            Growth { what: String::new(), before, after, bound }.complaint().is_some()
        };
        assert!(!complains(1100, 53, 30, Some(100)) && !complains(1, 1, 1, Some(0)));
        assert!(complains(1101, 53, 30, Some(100)));
        assert!(complains(1100, 54, 30, Some(100)));
        assert!(complains(1100, 53, 31, Some(100)));
        assert!(!complains(9999, 99, 99, None));
    }
}
