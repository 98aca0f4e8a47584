//! What all connections share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use instant_failover::failover::{Caution, Policy, SettingError, Settings, ThisServer, Variable, shortened};
use mysql_common::constants::CapabilityFlags;
use tracing::{info, warn};

use super::accounts::Accounts;
use super::counters::Counters;

/// What a reload may change, besides the settings. Swapped whole.
#[derive(Debug)]
pub struct Configuration {
    /// Who gets in.
    pub accounts: Accounts,
    /// How TLS is spoken; none where it is not.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// How long a client may take to log in.
    pub connect_timeout: Duration,
    /// How many connections there may be at a time.
    pub max_connections: u32,
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
}

/// What all connections share. Readers never wait.
#[derive(Debug)]
pub struct Shared {
    policy: ArcSwap<Policy>,
    configuration: ArcSwap<Configuration>,
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
            identity,
            counters: Counters::new(),
            changes: Mutex::new(()),
        }
    }

    pub(super) fn policy(&self) -> Guard<Arc<Policy>> {
        self.policy.load()
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
