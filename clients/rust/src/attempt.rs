//! One attempt to connect, whatever the driver.

use std::env;

use failover::{Follow, Next, Peer, Target, Trust, TrustError};

/// The environment variable that says whose redirects are followed. Empty is as not set.
const ENVIRONMENT: &str = "INSTANT_FAILOVER_FOLLOW";

/// From the server that the program named to the one that accepts the login.
pub(crate) struct Attempt {
    follow: Follow,
    trust: Result<Trust, TrustError>,
    /// The program chose it, and not the environment.
    is_own_trust: bool,
}

impl Attempt {
    /// An attempt that begins at `origin`. Without `trust`, the environment decides.
    pub(crate) fn new(origin: String, trust: Option<Trust>) -> Self {
        Self {
            follow: Follow::from(origin),
            is_own_trust: trust.is_some(),
            trust: trust.map_or_else(from_environment, Ok),
        }
    }

    /// Whether an error has the form of a redirect, with a valid target or not. Where following is off, it is an error like others.
    pub(crate) fn is_redirect(&self, code: u16, message: &str) -> bool {
        self.trust != Ok(Trust::Never) && self.follow.clone().refused(code, message.as_bytes()) != Next::NoRedirect
    }

    /// Why a redirect from this server is not followed, if it is not, and what to do. The driver's `authority` takes the file.
    pub(crate) fn objection(&self, peer: Peer, authority: &str) -> Option<String> {
        let trust = match &self.trust {
            Ok(trust) => *trust,
            Err(error) => return Some(error.to_string()),
        };
        // Its own text is for Connector/C.
        trust.objection(peer)?;
        let reason = if peer.tls { "the server's certificate is not verified" } else { "the connection has no TLS" };
        let cure = match (peer.tls, peer.verification_asked) {
            (false, false) => format!("set ssl_opts with SslOpts::{authority}"),
            // The drivers use no TLS there.
            (false, true) => "connect by TCP instead of a socket".to_owned(),
            (true, false) => format!("set SslOpts::{authority} instead of with_danger_accept_invalid_certs"),
            (true, true) => "remove SslOpts::with_danger_skip_domain_validation".to_owned(),
        };
        Some(format!("{reason} ({}); {cure}, or {}", self.rule(trust), self.rule(Trust::Always)))
    }

    /// A rule as the program or its environment says it.
    fn rule(&self, trust: Trust) -> String {
        if self.is_own_trust { format!("Trust::{trust:?}") } else { format!("{ENVIRONMENT}={trust}") }
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

#[cfg(test)]
mod tests {
    use failover::{Follow, Peer, Trust};

    use super::Attempt;

    /// What is to be done is named as the drivers and the program name it: another option or setting would have no effect.
    #[test]
    fn the_rule_and_the_cure_are_named() {
        let attempt =
            |trust, is_own_trust| Attempt { follow: Follow::from("db1:3306"), trust: Ok(trust), is_own_trust };
        let peer = |tls, verification_asked| Peer { tls, verification_asked, verified: false };
        for (attempt, peer, said) in [
            (
                attempt(Trust::Verified, true),
                peer(false, false),
                "the connection has no TLS (Trust::Verified); set ssl_opts with SslOpts::with_file, or Trust::Always",
            ),
            (
                attempt(Trust::Auto, true),
                peer(false, true),
                "the connection has no TLS (Trust::Auto); connect by TCP instead of a socket, or Trust::Always",
            ),
            (
                attempt(Trust::Verified, false),
                peer(true, false),
                "the server's certificate is not verified (INSTANT_FAILOVER_FOLLOW=verified); set SslOpts::with_file \
                 instead of with_danger_accept_invalid_certs, or INSTANT_FAILOVER_FOLLOW=always",
            ),
            (
                attempt(Trust::Auto, false),
                peer(true, true),
                "the server's certificate is not verified (INSTANT_FAILOVER_FOLLOW=auto); remove \
                 SslOpts::with_danger_skip_domain_validation, or INSTANT_FAILOVER_FOLLOW=always",
            ),
        ] {
            assert_eq!(attempt.objection(peer, "with_file").unwrap(), said);
        }
        assert_eq!(attempt(Trust::Auto, true).objection(peer(false, false), "with_file"), None);
        let unknown = Attempt { trust: "on".parse(), ..attempt(Trust::Auto, false) };
        let said = "INSTANT_FAILOVER_FOLLOW is 'on'; give never, verified, auto or always";
        assert_eq!(unknown.objection(peer(false, false), "with_file").unwrap(), said);
    }

    /// An error like others, so that it is passed on unchanged.
    #[test]
    fn nothing_is_a_redirect_where_following_is_off() {
        for (trust, is_redirect) in [(Trust::Never, false), (Trust::Verified, true)] {
            assert_eq!(Attempt::new("db1:3306".to_owned(), Some(trust)).is_redirect(4196, "|text|db2"), is_redirect);
        }
    }
}
