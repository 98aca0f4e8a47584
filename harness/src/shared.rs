//! What all connections share.

mod in_force;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use failover::{Mode, SettingError, Settings, ThisServer, Variable};
use mio::Waker;
use mysql_common::constants::CapabilityFlags;
use tracing::{info, warn};

pub(super) use self::in_force::InForce;
use super::accounts::Accounts;
use super::counters::{Counters, Shown};
use super::open_sessions::OpenSessions;
use super::proxy::ProxyNetworks;

/// Everything but the settings that a reload can change. Replaced as a whole.
#[derive(Debug)]
pub struct Configuration {
    /// The accounts that can log in.
    pub accounts: Arc<Accounts>,
    /// The TLS configuration; none if TLS is disabled.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The value of `tls_version`.
    pub tls_version: String,
    /// The value of `ssl_cipher`.
    pub ssl_cipher: String,
    /// Whether logins need TLS or a Unix socket.
    pub require_secure_transport: bool,
    /// The version that this server announces.
    pub version: Version,
    /// How long a client may take to log in.
    pub connect_timeout: Duration,
    /// How long a session may be idle.
    pub wait_timeout: Duration,
    /// The maximum number of simultaneous connections, not counting the extra port.
    pub max_connections: u32,
    /// The maximum number of simultaneous connections to the extra port.
    pub extra_max_connections: u32,
}

/// A server without accounts and without TLS.
impl Default for Configuration {
    fn default() -> Self {
        Self {
            accounts: Arc::default(),
            tls: None,
            tls_version: String::new(),
            ssl_cipher: String::new(),
            require_secure_transport: false,
            version: Version::default(),
            connect_timeout: Duration::from_secs(10),
            wait_timeout: Duration::from_hours(8),
            max_connections: 10_000,
            extra_max_connections: 10,
        }
    }
}

/// The announced server version: connectors recognize a MariaDB server by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    greeting: String,
}

impl Version {
    /// Prefix in the greeting of MariaDB 10, not used since 11.0; connectors remove it.
    const PREFIX: &str = "5.5.5-";

    /// The maximum length in MariaDB.
    const MAX_LENGTH: usize = 59;

    /// The version of the server that this one replaces, as `SELECT VERSION()` shows it there.
    ///
    /// # Errors
    /// If it is not a version.
    pub fn new(version: &str) -> Result<Self, String> {
        let numbers = version.split('-').next().unwrap_or_default().split('.');
        let numbered = numbers.clone().count() == 3 && numbers.clone().all(|number| number.parse::<u16>().is_ok());
        if !numbered || !version.bytes().all(|byte| byte.is_ascii_graphic()) || version.len() > Self::MAX_LENGTH {
            let (longest, shown) = (Self::MAX_LENGTH, version.escape_debug());
            return Err(format!(
                "'{shown:.100}' is not a version; give the output of SELECT VERSION() on the server that is being replaced, \
                 for example 11.8.3-MariaDB, with at most {longest} characters"
            ));
        }
        let prefix = if version.starts_with("10.") { Self::PREFIX } else { "" };
        Ok(Self { greeting: format!("{prefix}{version}") })
    }

    /// The version in the greeting.
    #[must_use]
    pub fn greeting(&self) -> &str {
        &self.greeting
    }

    /// The version shown everywhere else.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.greeting.strip_prefix(Self::PREFIX).unwrap_or(&self.greeting)
    }
}

impl Default for Version {
    fn default() -> Self {
        let version = concat!("5.5.5-10.11.0-MariaDB-instant-failover-harness-", env!("CARGO_PKG_VERSION"));
        Self { greeting: version.to_owned() }
    }
}

/// What does not change while the program runs.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The name of the machine.
    pub hostname: String,
    /// The standard port.
    pub port: u16,
    /// The port for emergencies, if there is one.
    pub extra_port: Option<u16>,
    /// The path of the Unix socket, or an empty string.
    pub socket: String,
    /// The value of `bind_address`.
    pub bind_address: String,
    /// How many clients can wait to be accepted.
    pub back_log: u32,
}

/// What all connections share. Readers never wait.
#[derive(Debug)]
pub struct Shared {
    in_force: ArcSwap<InForce>,
    configuration: ArcSwap<Configuration>,
    proxy_networks: ArcSwap<ProxyNetworks>,
    pub(super) identity: Identity,
    pub(super) counters: Counters,
    pub(super) open_sessions: OpenSessions,
    /// Held while what is in force is changed, so that no change is lost. Not held across I/O.
    changes: Mutex<()>,
    /// Woken after each change of a setting.
    wakers: Mutex<Vec<Arc<Waker>>>,
}

/// What to tell who has changed settings.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// Whether setting the mode has ended a drain.
    pub(super) ended_drain: bool,
}

impl Shared {
    /// A server with these settings and this configuration.
    #[must_use]
    pub fn new(settings: Settings, configuration: Configuration, identity: Identity) -> Self {
        Self {
            in_force: ArcSwap::from_pointee(InForce::new(settings, Instant::now())),
            configuration: ArcSwap::from_pointee(configuration),
            proxy_networks: ArcSwap::default(),
            identity,
            counters: Counters::new(),
            open_sessions: OpenSessions::default(),
            changes: Mutex::new(()),
            wakers: Mutex::default(),
        }
    }

    pub(super) fn in_force(&self) -> Guard<Arc<InForce>> {
        self.in_force.load()
    }

    /// The settings in force.
    pub(super) fn settings(&self) -> Settings {
        self.in_force().policy.settings().clone()
    }

    /// Wakes a poll after each change of a setting: what is held there is judged anew.
    pub(super) fn wake_on_change(&self, waker: Arc<Waker>) {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(waker);
    }

    fn wake(&self) {
        let wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for waker in wakers {
            if let Err(error) = waker.wake() {
                warn!("a thread was not told that the settings have changed: {error}");
            }
        }
    }

    /// All numbers, sorted by name.
    pub(super) fn numbers(&self) -> Vec<Shown> {
        self.counters.shown(self.open_sessions.concerned(&self.in_force()))
    }

    pub(super) fn proxy_networks(&self) -> Guard<Arc<ProxyNetworks>> {
        self.proxy_networks.load()
    }

    /// Sets the networks from which PROXY headers are accepted.
    pub fn set_proxy_networks(&self, networks: ProxyNetworks, by: &str) {
        let old = self.proxy_networks.swap(Arc::new(networks));
        let new = self.proxy_networks();
        if old != *new {
            info!("proxy_protocol_networks changed from '{old}' to '{new}' by {by}");
        }
    }

    pub(super) fn configuration(&self) -> Guard<Arc<Configuration>> {
        self.configuration.load()
    }

    /// The capabilities that this server announces.
    pub(super) fn capabilities(&self) -> CapabilityFlags {
        let tls =
            if self.configuration().tls.is_some() { CapabilityFlags::CLIENT_SSL } else { CapabilityFlags::empty() };
        CAPABILITIES | tls
    }

    /// Executes `SET GLOBAL`: all of `changes`, or none. `session` is the id of the session that does it.
    ///
    /// # Errors
    /// [`SettingError`] says what is wrong; nothing is changed then.
    pub(super) fn set(
        &self,
        changes: &[(Variable, String)],
        by: &str,
        session: Option<u32>,
    ) -> Result<Changed, SettingError> {
        let (before, after, ended_drain) = {
            let _alone = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
            let before = self.settings();
            let change = self.in_force().set(changes, session, Instant::now())?;
            let after = change.after.policy.settings().clone();
            self.in_force.store(Arc::new(change.after));
            (before, after, change.ends_drain)
        };
        self.wake();
        for change in before.changes(&after, Some(by)) {
            info!("{change}");
        }
        Ok(Changed { ended_drain })
    }

    /// Ends HOLD if that is over.
    pub(super) fn end_hold(&self, now: Instant) {
        if self.in_force().hold_left(now).is_none_or(|left| !left.is_zero()) {
            return;
        }
        let (before, after) = {
            let _alone = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
            let before = self.settings();
            // It may have been set again meanwhile.
            let Some(after) = self.in_force().switched_off(now) else { return };
            let settings = after.policy.settings().clone();
            self.in_force.store(Arc::new(after));
            (before, settings)
        };
        self.wake();
        self.counters.hold_timeouts.add();
        for change in before.changes(&after, None) {
            info!("{change}: HOLD has ended by its timeout, after {} s", before.hold_timeout());
        }
    }

    /// Sets the configuration for new connections.
    pub(super) fn configure(&self, configuration: Configuration) {
        self.configuration.store(Arc::new(configuration));
    }

    /// Warnings about what is in force and rarely intended, for whoever has just set these variables.
    pub(super) fn cautions(&self, variables: impl IntoIterator<Item = Variable>) -> Vec<String> {
        let (settings, variables) = (self.settings(), Vec::from_iter(variables));
        let cautions = settings.cautions(&variables, &self.this_server());
        let nobody_waits = nobody_waits(&settings, &self.configuration().accounts);
        let nobody_waits = nobody_waits.filter(|_| variables.contains(&Variable::Mode));
        cautions.iter().map(ToString::to_string).chain(nobody_waits.map(str::to_owned)).collect()
    }

    fn this_server(&self) -> ThisServer {
        let Identity { port, extra_port, ref hostname, .. } = self.identity;
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        ThisServer::new(port, extra_port, hostname, interfaces.iter().map(if_addrs::Interface::ip))
    }
}

/// A warning if HOLD makes nobody wait.
pub(super) fn nobody_waits(settings: &Settings, accounts: &Accounts) -> Option<&'static str> {
    (settings.mode() == Mode::Hold && !accounts.has_clients())
        .then_some("mode HOLD without an account in --accounts-file: no client waits, each gets error 1045 at once")
}

/// The capabilities of MariaDB 10.11 that this server has too. Without `CLIENT_LONG_PASSWORD`, which means "MySQL".
const CAPABILITIES: CapabilityFlags = CapabilityFlags::CLIENT_FOUND_ROWS
    .union(CapabilityFlags::CLIENT_LONG_FLAG)
    .union(CapabilityFlags::CLIENT_CONNECT_WITH_DB)
    .union(CapabilityFlags::CLIENT_NO_SCHEMA)
    .union(CapabilityFlags::CLIENT_ODBC)
    .union(CapabilityFlags::CLIENT_IGNORE_SPACE)
    .union(CapabilityFlags::CLIENT_PROTOCOL_41)
    .union(CapabilityFlags::CLIENT_INTERACTIVE)
    .union(CapabilityFlags::CLIENT_IGNORE_SIGPIPE)
    .union(CapabilityFlags::CLIENT_TRANSACTIONS)
    .union(CapabilityFlags::CLIENT_RESERVED)
    .union(CapabilityFlags::CLIENT_SECURE_CONNECTION)
    .union(CapabilityFlags::CLIENT_MULTI_RESULTS)
    .union(CapabilityFlags::CLIENT_PLUGIN_AUTH)
    .union(CapabilityFlags::CLIENT_CONNECT_ATTRS)
    .union(CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA);
