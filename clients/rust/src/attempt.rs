//! One attempt to connect, whatever the driver.

use std::env;

use failover::{Follow, Next, Peer, Target, Trust, TrustError};

/// The environment variable that says whose redirects are followed. Empty is as not set.
const ENVIRONMENT: &str = "INSTANT_FAILOVER_FOLLOW";

/// From the server that the program named to the one that accepts the login.
pub(crate) struct Attempt {
    follow: Follow,
    trust: Result<Trust, TrustError>,
}

impl Attempt {
    /// An attempt that begins at `origin`. Without `trust`, the environment decides.
    pub(crate) fn new(origin: String, trust: Option<Trust>) -> Self {
        Self { follow: Follow::from(origin), trust: trust.map_or_else(from_environment, Ok) }
    }

    /// Whether an error has the form of a redirect, with a valid target or not.
    pub(crate) fn is_redirect(&self, code: u16, message: &str) -> bool {
        self.follow.clone().refused(code, message.as_bytes()) != Next::NoRedirect
    }

    /// Why a redirect from this server is not followed, if it is not.
    pub(crate) fn objection(&self, peer: Peer) -> Option<String> {
        match &self.trust {
            Ok(trust) => trust.objection(peer).map(|distrust| distrust.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Where a redirect leads, or the message for the program.
    pub(crate) fn go_on(&mut self, code: u16, message: &str) -> Result<Target, String> {
        match self.follow.refused(code, message.as_bytes()) {
            Next::GoTo(target) => Ok(target),
            Next::Stop(reason) => Err(reason.to_string()),
            Next::NoRedirect => Err(self.with_chain(message)),
        }
    }

    /// The message of a redirect that is not followed.
    pub(crate) fn not_followed(&self, message: &str, why: &str) -> String {
        self.with_chain(&format!("{message} (not followed: {why})"))
    }

    /// A message with the servers on the way: the program knows only the first.
    pub(crate) fn with_chain(&self, message: &str) -> String {
        if self.follow.was_redirected() {
            format!("{message} (redirected: {})", self.follow)
        } else {
            message.to_owned()
        }
    }
}

fn from_environment() -> Result<Trust, TrustError> {
    match env::var_os(ENVIRONMENT).filter(|value| !value.is_empty()) {
        Some(value) => value.to_string_lossy().parse(),
        None => Ok(Trust::default()),
    }
}
