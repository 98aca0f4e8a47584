//! The counters for `SHOW STATUS`, for the summary in the log, and for Prometheus.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use failover::{Exemption, WayIn};

/// A number that many threads increment.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A place among the logins that are held, which becomes free when this is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicU64>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How one counter is shown.
#[derive(Debug)]
pub(super) struct Shown {
    /// In `SHOW STATUS`.
    pub(super) name: &'static str,
    /// The help text for Prometheus: a sentence.
    pub(super) help: &'static str,
    /// Whether it can decrease.
    pub(super) gauge: bool,
    pub(super) value: u64,
}

/// All counters. Those that the plugin has too have the same names.
#[derive(Debug)]
pub(super) struct Counters {
    started: Instant,
    redirects: Counter,
    redirects_tcp: Counter,
    redirects_socket: Counter,
    redirects_extra_port: Counter,
    change_user_redirects: Counter,
    exempted_users: Counter,
    exempted_hosts: Counter,
    /// In seconds since 1970; 0 before the first.
    last_redirect: AtomicU64,
    /// Now.
    held: Arc<AtomicU64>,
    holds: Counter,
    pub(super) hold_timeouts: Counter,
    pub(super) drained: Counter,
    pub(super) connections: Counter,
    pub(super) logins: Counter,
    pub(super) access_denied: Counter,
    /// Handshakes that were malformed, timed out, or were aborted by the client.
    pub(super) broken_handshakes: Counter,
    pub(super) too_many_connections: Counter,
    pub(super) tls_handshakes: Counter,
    pub(super) questions: Counter,
    /// Excluding those to the extra port.
    open: AtomicU64,
    open_extra: AtomicU64,
    most_open: AtomicU64,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            redirects: Counter::default(),
            redirects_tcp: Counter::default(),
            redirects_socket: Counter::default(),
            redirects_extra_port: Counter::default(),
            change_user_redirects: Counter::default(),
            exempted_users: Counter::default(),
            exempted_hosts: Counter::default(),
            last_redirect: AtomicU64::new(0),
            held: Arc::default(),
            holds: Counter::default(),
            hold_timeouts: Counter::default(),
            drained: Counter::default(),
            connections: Counter::default(),
            logins: Counter::default(),
            access_denied: Counter::default(),
            broken_handshakes: Counter::default(),
            too_many_connections: Counter::default(),
            tls_handshakes: Counter::default(),
            questions: Counter::default(),
            open: AtomicU64::new(0),
            open_extra: AtomicU64::new(0),
            most_open: AtomicU64::new(0),
        }
    }

    pub(super) fn redirect(&self, way_in: WayIn, change_user: bool) {
        self.redirects.add();
        match way_in {
            WayIn::Tcp => &self.redirects_tcp,
            WayIn::ExtraPort => &self.redirects_extra_port,
            WayIn::Socket => &self.redirects_socket,
        }
        .add();
        if change_user {
            self.change_user_redirects.add();
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_redirect.store(now.as_secs(), Ordering::Relaxed);
    }

    pub(super) fn exemption(&self, exemption: Exemption) {
        match exemption {
            Exemption::User => &self.exempted_users,
            Exemption::Host => &self.exempted_hosts,
        }
        .add();
    }

    /// Counts a login that is held, unless there are `most` already.
    pub(super) fn hold(&self, most: u64) -> Option<Place> {
        let place = Place(Arc::clone(&self.held));
        if self.held.fetch_add(1, Ordering::Relaxed) >= most {
            return None;
        }
        self.holds.add();
        Some(place)
    }

    const fn places(&self, extra: bool) -> &AtomicU64 {
        if extra { &self.open_extra } else { &self.open }
    }

    /// Counts a connection, to the extra port or not, unless there are `most` already. Returns whether it was counted; if so,
    /// call [`closed`](Self::closed) at its end.
    pub(super) fn opened(&self, extra: bool, most: u64) -> bool {
        if self.places(extra).fetch_add(1, Ordering::Relaxed) >= most {
            self.closed(extra);
            return false;
        }
        self.most_open.fetch_max(self.open(), Ordering::Relaxed);
        true
    }

    pub(super) fn closed(&self, extra: bool) {
        self.places(extra).fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed) + self.open_extra.load(Ordering::Relaxed)
    }

    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn redirects(&self) -> u64 {
        self.redirects.get()
    }

    /// The time of the last redirect as the plugin shows it (`2026-11-22T03:04:05Z`); empty before the first.
    pub(super) fn last_redirect(&self) -> String {
        match self.last_redirect.load(Ordering::Relaxed) {
            0 => String::new(),
            seconds => humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string(),
        }
    }

    /// All numbers, sorted by name. `concerned` is the number of open sessions that a drain concerns.
    pub(super) fn shown(&self, concerned: u64) -> Vec<Shown> {
        let counter = |name, help, counter: &Counter| Shown { name, help, gauge: false, value: counter.get() };
        let gauge = |name, help, value| Shown { name, help, gauge: true, value };
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        vec![
            counter("Aborted_connects", "Handshakes that failed before a login.", &self.broken_handshakes),
            counter("Access_denied_errors", "Logins that were refused.", &self.access_denied),
            counter("Connection_errors_max_connections", "Connections beyond the limit.", &self.too_many_connections),
            counter("Connections", "Connections that were accepted.", &self.connections),
            counter(
                "Instant_failover_change_user_redirects",
                "COM_CHANGE_USER redirects.",
                &self.change_user_redirects,
            ),
            counter("Instant_failover_drained", "Idle sessions that were closed by a drain.", &self.drained),
            counter(
                "Instant_failover_exempted_hosts",
                "Logins that succeeded because the host is exempt.",
                &self.exempted_hosts,
            ),
            counter(
                "Instant_failover_exempted_users",
                "Logins that succeeded because the user is exempt.",
                &self.exempted_users,
            ),
            gauge("Instant_failover_held", "Logins that are held.", load(&self.held)),
            counter("Instant_failover_hold_timeouts", "How often HOLD has ended by its timeout.", &self.hold_timeouts),
            counter("Instant_failover_holds", "Logins that were held.", &self.holds),
            counter("Instant_failover_redirects", "Logins that were redirected.", &self.redirects),
            counter(
                "Instant_failover_redirects_extra_port",
                "Logins that were redirected on the extra port.",
                &self.redirects_extra_port,
            ),
            counter(
                "Instant_failover_redirects_socket",
                "Logins that were redirected on the Unix socket.",
                &self.redirects_socket,
            ),
            counter(
                "Instant_failover_redirects_tcp",
                "Logins that were redirected on the standard port.",
                &self.redirects_tcp,
            ),
            gauge("Instant_failover_sessions", "Open sessions that a drain concerns.", concerned),
            // Here every command ends at once, there are no transactions, and no session is older than the program.
            gauge("Instant_failover_sessions_busy", "Those of them that execute a command.", 0),
            gauge("Instant_failover_sessions_in_transaction", "Those of them in a transaction.", 0),
            gauge("Instant_failover_sessions_unknown", "Open sessions that a drain cannot end.", 0),
            counter("Logins", "Logins that succeeded.", &self.logins),
            gauge("Max_used_connections", "Maximum number of simultaneous connections.", load(&self.most_open)),
            counter("Questions", "Commands received from sessions.", &self.questions),
            counter("Ssl_accepts", "TLS handshakes that succeeded.", &self.tls_handshakes),
            gauge("Threads_connected", "Open connections.", self.open()),
            gauge("Uptime", "Seconds since the start.", self.uptime().as_secs()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::{Counters, Exemption, WayIn};

    #[test]
    fn the_names_are_in_order_and_the_sums_agree() {
        let counters = Counters::new();
        assert_eq!(counters.last_redirect(), "");
        counters.redirect(WayIn::Tcp, false);
        counters.redirect(WayIn::Socket, true);
        counters.redirect(WayIn::ExtraPort, false);
        counters.exemption(Exemption::Host);
        let shown = counters.shown(5);
        assert!(shown.is_sorted_by_key(|shown| shown.name));
        let value = |name: &str| shown.iter().find(|shown| shown.name == name).unwrap().value;
        let parts = ["_tcp", "_socket", "_extra_port"].map(|part| value(&format!("Instant_failover_redirects{part}")));
        assert_eq!((value("Instant_failover_redirects"), parts), (3, [1, 1, 1]));
        assert_eq!(value("Instant_failover_change_user_redirects"), 1);
        assert_eq!((value("Instant_failover_exempted_hosts"), value("Instant_failover_exempted_users")), (1, 0));
        assert_eq!(value("Instant_failover_sessions"), 5);
        assert!(counters.last_redirect().ends_with('Z'));
    }

    #[test]
    fn places_are_given_back() {
        let counters = Counters::new();
        for extra in [false, true] {
            assert!(counters.opened(extra, 2) && counters.opened(extra, 2) && !counters.opened(extra, 2));
            counters.closed(extra);
            assert!(counters.opened(extra, 2));
        }
        assert_eq!(counters.open(), 4);
    }

    #[test]
    fn so_many_logins_are_held_and_no_more() {
        let counters = Counters::new();
        let number = |name: &str| counters.shown(0).iter().find(|shown| shown.name.ends_with(name)).unwrap().value;
        let (first, second) = (counters.hold(2).unwrap(), counters.hold(2).unwrap());
        assert!(counters.hold(2).is_none());
        assert_eq!((number("_held"), number("_holds")), (2, 2));
        drop(first);
        let third = counters.hold(2).unwrap();
        assert_eq!((number("_held"), number("_holds")), (2, 3));
        drop((second, third));
        assert!(counters.hold(0).is_none());
        assert_eq!((number("_held"), number("_holds")), (0, 3));
    }
}
