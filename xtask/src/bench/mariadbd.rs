//! A mariadbd to measure.

use std::path::Path;

use anyhow::Result;
use support::server::Server;
use support::system;
use support::wire::Session;

use super::TARGET;
use super::client::{PASSWORD, USER};

/// The state of the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plugin {
    /// It is not installed, or no longer: the server handles logins alone.
    None,
    /// It is installed, and does nothing.
    Off,
    /// It redirects.
    On,
    /// It lets nobody in, and lets them wait.
    Hold,
}

/// A server with an account for the clients.
#[derive(Debug)]
pub(super) struct Mariadbd {
    pub(super) server: Server,
    pub(super) root: Session,
    plugin: Plugin,
}

impl Mariadbd {
    /// Starts a server without the plugin.
    pub(super) fn start(library: &Path, options: &[&str]) -> Result<Self> {
        Self::start_program(&system::mariadbd(), library, options)
    }

    /// The same, with another mariadbd.
    pub(super) fn start_program(program: &Path, library: &Path, options: &[&str]) -> Result<Self> {
        let server = Server::start_program(program, library, options)?;
        let mut root = server.root()?;
        root.query(&format!("CREATE USER {USER} IDENTIFIED BY '{PASSWORD}'"))?;
        Ok(Self { server, root, plugin: Plugin::None })
    }

    /// Puts the plugin in a state. All states run in one process, so that they share everything else: addresses, caches.
    pub(super) fn put(&mut self, plugin: Plugin) -> Result<()> {
        if plugin == self.plugin {
            return Ok(());
        }
        if self.plugin == Plugin::None {
            self.root.query("INSTALL SONAME 'instant_failover'")?;
            self.root.query(&format!("SET GLOBAL instant_failover_target = '{TARGET}'"))?;
        }
        match plugin {
            Plugin::None => self.root.query("UNINSTALL SONAME 'instant_failover'")?,
            Plugin::Off => self.root.query("SET GLOBAL instant_failover_mode = OFF")?,
            Plugin::On => self.root.query("SET GLOBAL instant_failover_mode = ON")?,
            Plugin::Hold => self.root.query("SET GLOBAL instant_failover_mode = HOLD")?,
        };
        self.plugin = plugin;
        Ok(())
    }
}
