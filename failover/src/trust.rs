//! Which servers may redirect a client.

use std::fmt;
use std::str::FromStr;

use super::shown::Shown;

/// The value of `INSTANT_FAILOVER_FOLLOW`, in the environment of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// No server.
    Never,
    /// A server whose certificate was verified.
    Verified,
    /// As [`Verified`](Self::Verified) if the program asks for verification; otherwise any server.
    #[default]
    Auto,
    /// Any server.
    Always,
}

/// What a client knows about a server when it receives the redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The connection uses TLS.
    pub tls: bool,
    /// The program asks for certificates to be verified, or gave a fingerprint, or its library verifies by default.
    pub verification_asked: bool,
    /// The certificate has been verified, by an authority and the name or by a fingerprint.
    pub verified: bool,
}

impl Trust {
    /// Why a redirect from this server is not followed; `None` if it is.
    #[must_use]
    pub const fn objection(self, peer: Peer) -> Option<Distrust> {
        let proven = peer.tls && peer.verified;
        let is_trusted = match self {
            Self::Never => false,
            Self::Verified => proven,
            Self::Auto => proven || !peer.verification_asked,
            Self::Always => true,
        };
        if is_trusted { None } else { Some(Distrust { trust: self, peer }) }
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Never => "never",
            Self::Verified => "verified",
            Self::Auto => "auto",
            Self::Always => "always",
        })
    }
}

/// Parses a name in any case; `0` and `1`, the values of older versions, mean `never` and `auto`.
impl FromStr for Trust {
    type Err = TrustError;

    fn from_str(value: &str) -> Result<Self, TrustError> {
        match value {
            "0" => Ok(Self::Never),
            "1" => Ok(Self::Auto),
            _ => [Self::Never, Self::Verified, Self::Auto, Self::Always]
                .into_iter()
                .find(|trust| trust.to_string().eq_ignore_ascii_case(value))
                .ok_or_else(|| TrustError(value.to_owned())),
        }
    }
}

/// Why a redirect is not followed. Its text comes after the server's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distrust {
    trust: Trust,
    peer: Peer,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match (self.trust, self.peer.tls) {
            (Trust::Never, _) => return write!(f, "INSTANT_FAILOVER_FOLLOW={}", self.trust),
            (_, false) => "the connection has no TLS",
            (_, true) => "the server's certificate is not verified",
        };
        let cure = if self.peer.verification_asked { "set ssl-ca" } else { "set ssl-ca and ssl-verify-server-cert" };
        write!(
            f,
            "{reason} (INSTANT_FAILOVER_FOLLOW={}); {cure}, or INSTANT_FAILOVER_FOLLOW={}",
            self.trust,
            Trust::Always
        )
    }
}

/// An unknown value. It is treated as [`Trust::Never`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustError(String);

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "INSTANT_FAILOVER_FOLLOW is {}; give never, verified, auto or always", Shown(&self.0))
    }
}

impl std::error::Error for TrustError {}

#[cfg(test)]
mod tests {
    use super::{Peer, Trust};

    /// The columns of the table: no TLS, TLS, TLS and verified; each first for a program that does not ask for
    /// verification, then for one that does.
    const PEERS: [Peer; 6] = {
        const fn peer(tls: bool, verification_asked: bool, verified: bool) -> Peer {
            Peer { tls, verification_asked, verified }
        }
        [
            peer(false, false, false),
            peer(true, false, false),
            peer(true, false, true),
            peer(false, true, false),
            peer(true, true, false),
            peer(true, true, true),
        ]
    };

    #[test]
    fn who_may_redirect() {
        for (trust, followed) in [
            (Trust::Never, [false, false, false, false, false, false]),
            (Trust::Verified, [false, false, true, false, false, true]),
            (Trust::Auto, [true, true, true, false, false, true]),
            (Trust::Always, [true, true, true, true, true, true]),
        ] {
            assert_eq!(PEERS.map(|peer| trust.objection(peer).is_none()), followed, "{trust}");
        }
    }

    #[test]
    fn a_certificate_without_tls_proves_nothing() {
        let stale = Peer { tls: false, verification_asked: true, verified: true };
        assert!(Trust::Verified.objection(stale).is_some());
        assert!(Trust::Auto.objection(stale).is_some());
    }

    #[test]
    fn the_rule_and_the_cure_are_named() {
        for (trust, peer, said) in [
            (
                Trust::Auto,
                PEERS[4],
                "the server's certificate is not verified (INSTANT_FAILOVER_FOLLOW=auto); set ssl-ca, or \
                 INSTANT_FAILOVER_FOLLOW=always",
            ),
            (
                Trust::Verified,
                PEERS[1],
                "the server's certificate is not verified (INSTANT_FAILOVER_FOLLOW=verified); set ssl-ca and \
                 ssl-verify-server-cert, or INSTANT_FAILOVER_FOLLOW=always",
            ),
            (
                Trust::Verified,
                PEERS[0],
                "the connection has no TLS (INSTANT_FAILOVER_FOLLOW=verified); set ssl-ca and \
                 ssl-verify-server-cert, or INSTANT_FAILOVER_FOLLOW=always",
            ),
            (Trust::Never, PEERS[5], "INSTANT_FAILOVER_FOLLOW=never"),
        ] {
            assert_eq!(trust.objection(peer).unwrap().to_string(), said);
        }
    }

    #[test]
    fn values() {
        assert_eq!(Trust::default(), Trust::Auto);
        for (text, trust) in [
            ("never", Trust::Never),
            ("0", Trust::Never),
            ("verified", Trust::Verified),
            ("auto", Trust::Auto),
            ("1", Trust::Auto),
            ("always", Trust::Always),
            ("ALWAYS", Trust::Always),
        ] {
            assert_eq!(text.parse(), Ok(trust), "{text}");
            assert_eq!(trust.to_string().parse(), Ok(trust));
        }
        for text in ["", "2", "00", "yes", "on", "false", "always ", "no\u{1b}"] {
            let error = text.parse::<Trust>().unwrap_err().to_string();
            let shown = text.replace('\u{1b}', "\\u{1b}");
            assert_eq!(error, format!("INSTANT_FAILOVER_FOLLOW is '{shown}'; give never, verified, auto or always"));
        }
    }
}
