//! What all connections share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use failover::{Caution, Policy, SettingError, Settings, ThisServer, Variable, shortened};
use mysql_common::constants::CapabilityFlags;
use tracing::{info, warn};

use super::accounts::Accounts;
use super::counters::Counters;
use super::proxy::ProxyNetworks;

/// What a reload may change, besides the settings. Swapped whole.
#[derive(Debug)]
pub struct Configuration {
    /// Who gets in.
    pub accounts: Arc<Accounts>,
    /// How TLS is spoken; none where it is not.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// `tls_version`, as it is shown.
    pub tls_version: String,
    /// `ssl_cipher`, as it was given.
    pub ssl_cipher: String,
    /// Whether only TLS and Unix sockets lead to a session.
    pub require_secure_transport: bool,
    /// What this server says it is.
    pub version: Version,
    /// How long a client may take to log in.
    pub connect_timeout: Duration,
    /// How long a session may be silent.
    pub wait_timeout: Duration,
    /// How many connections there may be at a time, besides those to the extra port.
    pub max_connections: u32,
    /// How many there may be to the extra port.
    pub extra_max_connections: u32,
}

/// A server that lets nobody in, and has no TLS.
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

/// What a server says it is: enough for connectors to treat it as a MariaDB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    greeting: String,
}

impl Version {
    /// In the greeting of MariaDB 10, and gone with 11.0; connectors take it off.
    const PREFIX: &str = "5.5.5-";

    /// The most characters that MariaDB has.
    const MAX_LENGTH: usize = 59;

    /// The version of a server that this one stands in for, as `SELECT VERSION()` shows it there.
    ///
    /// # Errors
    /// If it is no version.
    pub fn new(version: &str) -> Result<Self, String> {
        let numbers = version.split('-').next().unwrap_or_default().split('.');
        let numbered = numbers.clone().count() == 3 && numbers.clone().all(|number| number.parse::<u16>().is_ok());
        if !numbered || !version.bytes().all(|byte| byte.is_ascii_graphic()) || version.len() > Self::MAX_LENGTH {
            let (longest, shown) = (Self::MAX_LENGTH, version.escape_debug());
            return Err(format!(
                "'{shown:.100}' is not a version; give what SELECT VERSION() prints on the server that this one stands in \
                 for, 11.8.3-MariaDB for example, with at most {longest} characters"
            ));
        }
        let prefix = if version.starts_with("10.") { Self::PREFIX } else { "" };
        Ok(Self { greeting: format!("{prefix}{version}") })
    }

    /// As it is sent to every client first.
    #[must_use]
    pub fn greeting(&self) -> &str {
        &self.greeting
    }

    /// As it is shown everywhere else.
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

/// What stays as it is from start to end.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The name of the machine.
    pub hostname: String,
    /// The standard port.
    pub port: u16,
    /// The port for emergencies, if there is one.
    pub extra_port: Option<u16>,
    /// The path of the Unix socket, or nothing.
    pub socket: String,
    /// `bind_address`, as it was given.
    pub bind_address: String,
    /// How many clients may wait to be accepted.
    pub back_log: u32,
}

/// What all connections share. Readers never wait.
#[derive(Debug)]
pub struct Shared {
    policy: ArcSwap<Policy>,
    configuration: ArcSwap<Configuration>,
    proxy_networks: ArcSwap<ProxyNetworks>,
    pub(super) identity: Identity,
    pub(super) counters: Counters,
    /// Held by whoever changes the policy, so that no change is lost. Not held across I/O.
    changes: Mutex<()>,
}

impl Shared {
    /// A server that behaves like this.
    #[must_use]
    pub fn new(settings: Settings, configuration: Configuration, identity: Identity) -> Self {
        Self {
            policy: ArcSwap::from_pointee(Policy::new(settings)),
            configuration: ArcSwap::from_pointee(configuration),
            proxy_networks: ArcSwap::default(),
            identity,
            counters: Counters::new(),
            changes: Mutex::new(()),
        }
    }

    pub(super) fn policy(&self) -> Guard<Arc<Policy>> {
        self.policy.load()
    }

    pub(super) fn proxy_networks(&self) -> Guard<Arc<ProxyNetworks>> {
        self.proxy_networks.load()
    }

    /// Sets where headers of the PROXY protocol are accepted from.
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

    /// What this server can do, as it tells every client.
    pub(super) fn capabilities(&self) -> CapabilityFlags {
        let tls =
            if self.configuration().tls.is_some() { CapabilityFlags::CLIENT_SSL } else { CapabilityFlags::empty() };
        CAPABILITIES | tls
    }

    /// Carries out `SET GLOBAL`: all of `changes`, or none.
    ///
    /// # Errors
    /// [`SettingError`] says what is wrong; what was in force stays so.
    pub(super) fn set(&self, changes: &[(Variable, String)], by: &str) -> Result<Vec<Caution>, SettingError> {
        let (before, after) = {
            let _alone = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
            let before = self.policy().settings().clone();
            let after = changes
                .iter()
                .try_fold(before.clone(), |settings, (variable, value)| settings.set(*variable, value.as_bytes()))?;
            self.policy.store(Arc::new(Policy::new(after.clone())));
            (before, after)
        };
        log_changes(&before, &after, by);
        let variables: Vec<_> = changes.iter().map(|(variable, _)| *variable).collect();
        Ok(after.cautions(&variables, &self.this_server()))
    }

    /// Puts another configuration in force, for connections that come from now on.
    pub(super) fn configure(&self, configuration: Configuration) {
        self.configuration.store(Arc::new(configuration));
    }

    /// Says in the log what in the settings in force is seldom meant.
    pub(super) fn log_cautions(&self) {
        for caution in self.policy().settings().cautions(&Variable::ALL, &self.this_server()) {
            warn!("{caution}");
        }
    }

    fn this_server(&self) -> ThisServer {
        ThisServer {
            ports: [Some(self.identity.port), self.identity.extra_port].into_iter().flatten().collect(),
            name: self.identity.hostname.clone(),
            addresses: if_addrs::get_if_addrs()
                .map(|interfaces| interfaces.iter().map(if_addrs::Interface::ip).collect())
                .unwrap_or_default(),
        }
    }
}

fn log_changes(before: &Settings, after: &Settings, by: &str) {
    for variable in Variable::ALL {
        let (old, new) = (before.value(variable), after.value(variable));
        if old != new {
            info!("{} changed from '{}' to '{}' by {by}", variable.name(), shortened(&old), shortened(&new));
        }
    }
}

/// Those of MariaDB 10.11 that this server has too. Without `CLIENT_LONG_PASSWORD`, which says "MySQL".
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
