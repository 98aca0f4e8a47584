//! Following redirects: what a client does next.
//!
//! A state machine without I/O. Its owner connects and reports each refusal; it says where to go next, or why to stop.

use std::fmt;

use super::ER_INSTANT_FAILOVER;
use super::message::{self, ParseError};
use super::target::{Target, TargetError};

/// The most redirects that one attempt to connect follows.
pub const MAX_HOPS: usize = 8;

/// The code of a client patch that was published for the same proposal. A server sends [`ER_INSTANT_FAILOVER`].
const ALSO_ACCEPTED: u16 = 4200;

/// One attempt to connect: from the server that the caller named to the one that accepts the login.
///
/// ```
/// use failover::{Follow, Next};
///
/// let mut attempt = Follow::from("db1.example.com:3306");
/// // ... connecting to db1 fails with error 4196 ...
/// match attempt.refused(4196, b"|Go there.|db2.example.com") {
///     Next::GoTo(target) => assert_eq!(target.port(), 3306),
///     Next::Stop(_) | Next::NoRedirect => unreachable!(),
/// }
/// // ... so does connecting to db2, which sends the client back ...
/// assert!(matches!(attempt.refused(4196, b"|Go there.|db1.example.com:3306"), Next::Stop(_)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follow {
    /// The first server, as the caller named it.
    origin: String,
    /// Where the attempt has been sent since, in order.
    hops: Vec<Target>,
}

/// What to do after a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Connect to this server, over TCP, with everything the caller asked for. Next comes a successful login, or another
    /// [`Follow::refused`].
    GoTo(Target),
    /// Give up; the caller should see this instead of the server's error.
    Stop(FollowError),
    /// An ordinary error, which the caller should see. Nothing follows.
    NoRedirect,
}

impl Follow {
    /// An attempt that begins at `origin`: `host:port` as a target would be written, or the path of a Unix socket.
    #[must_use]
    pub fn from(origin: impl Into<String>) -> Self {
        Self { origin: origin.into(), hops: Vec::new() }
    }

    /// Says what to do after a server refused the connection.
    ///
    /// Call it only for an error in the connection phase: later the same code means something else. `message` is the
    /// error's message as the server sent it.
    #[must_use]
    pub fn refused(&mut self, code: u16, message: &[u8]) -> Next {
        if code != ER_INSTANT_FAILOVER && code != ALSO_ACCEPTED {
            return Next::NoRedirect;
        }
        let target = match message::parse(message) {
            Ok(parsed) => parsed.target,
            Err(ParseError::NotARedirect) => return Next::NoRedirect,
            Err(ParseError::BadTarget(error)) => {
                return Next::Stop(FollowError::BadTarget { server: self.here(), error });
            }
        };
        if self.has_seen(&target) {
            return Next::Stop(FollowError::Circle { chain: format!("{self} -> {}", address(&target)) });
        }
        if self.hops.len() >= MAX_HOPS {
            return Next::Stop(FollowError::TooMany { chain: self.to_string() });
        }
        self.hops.push(target.clone());
        Next::GoTo(target)
    }

    /// Whether any redirect was followed.
    #[must_use]
    pub const fn was_redirected(&self) -> bool {
        !self.hops.is_empty()
    }

    /// The server that is being tried.
    fn here(&self) -> String {
        self.hops.last().map_or_else(|| self.origin.clone(), address)
    }

    /// An origin that is not a valid target cannot be the destination of a redirect.
    fn has_seen(&self, target: &Target) -> bool {
        let origin = self.origin.parse().ok();
        origin.iter().chain(&self.hops).any(|seen| target.is_same_server(seen))
    }
}

/// A target with its port, whether given or not: `db2` and `db2:3306` are the same server.
fn address(target: &Target) -> String {
    format!("{}:{}", target.host(), target.port())
}

/// The servers in order: `db1:3306 -> db2:3307`.
impl fmt::Display for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        self.hops.iter().try_for_each(|hop| write!(f, " -> {}", address(hop)))
    }
}

/// Why a redirect is not followed. Its text is for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FollowError {
    /// The target was tried before.
    Circle {
        /// All servers in order, ending with the repeated one.
        chain: String,
    },
    /// [`MAX_HOPS`] redirects have been followed.
    TooMany {
        /// All servers in order.
        chain: String,
    },
    /// The message has the form of a redirect, but its target is invalid.
    BadTarget {
        /// The server that sent it.
        server: String,
        /// What is wrong.
        error: TargetError,
    },
}

impl fmt::Display for FollowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Circle { chain } => write!(f, "Redirect loop: {chain}"),
            Self::TooMany { chain } => write!(f, "Too many instant failovers (>= {MAX_HOPS}): {chain}"),
            Self::BadTarget { server, error } => {
                write!(f, "Server '{server}' sent an invalid redirect target: {error}")
            }
        }
    }
}

impl std::error::Error for FollowError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::target::tests::any_target;
    use super::{Follow, FollowError, MAX_HOPS, Next};

    fn redirect(attempt: &mut Follow, target: &str) -> Next {
        attempt.refused(4196, format!("|text|{target}").as_bytes())
    }

    fn go_to(target: &str) -> Next {
        Next::GoTo(target.parse().unwrap())
    }

    #[test]
    fn redirects_are_followed_and_remembered() {
        let mut attempt = Follow::from("db1:3306");
        assert!(!attempt.was_redirected());
        assert_eq!(redirect(&mut attempt, "db2"), go_to("db2"));
        assert_eq!(attempt.refused(4200, b"|text|[::1]:3307"), go_to("[::1]:3307"));
        assert!(attempt.was_redirected());
        assert_eq!(attempt.to_string(), "db1:3306 -> db2:3306 -> [::1]:3307");
    }

    #[test]
    fn circles_of_every_length_end_at_once() {
        for (origin, hops, target) in [
            ("db1:3306", &[][..], "db1"),
            ("db1:3306", &[], "DB1:3306"),
            ("db1:3306", &["db2"], "db1:3306"),
            ("db1:3306", &["db2"], "db2:3306"),
            ("/run/mysqld.sock", &["db1", "db2", "db3:3307"], "db2"),
            ("[::ffff:192.0.2.1]:3306", &[], "192.0.2.1"),
            ("[2001:DB8:0::1]:3306", &[], "[2001:db8::1]"),
            ("db_1:3306", &["db2"], "DB_1"),
        ] {
            let mut attempt = Follow::from(origin);
            for hop in hops {
                assert_eq!(redirect(&mut attempt, hop), go_to(hop));
            }
            let before = attempt.to_string();
            let Next::Stop(error @ FollowError::Circle { .. }) = redirect(&mut attempt, target) else {
                panic!("{origin} {hops:?} {target}")
            };
            let port = if target.contains(":3306") { "" } else { ":3306" };
            assert_eq!(error.to_string(), format!("Redirect loop: {before} -> {target}{port}"));
        }
        let mut another_port = Follow::from("db1:3306");
        assert_eq!(redirect(&mut another_port, "db1:3307"), go_to("db1:3307"));
    }

    #[test]
    fn a_circle_is_noticed_however_the_address_is_written() {
        for (first, again) in [
            ("192.0.2.1:3306", "[::ffff:192.0.2.1]"),
            ("[::ffff:c000:201]", "192.0.2.1:3306"),
            ("[2001:db8::1]", "[2001:DB8:0:0::0.0.0.1]:3306"),
        ] {
            let mut from_there = Follow::from(format!("{}:3306", first.trim_end_matches(":3306")));
            let mut over_there = Follow::from("db0:3306");
            assert!(matches!(redirect(&mut over_there, first), Next::GoTo(_)));
            for attempt in [&mut from_there, &mut over_there] {
                let next = redirect(attempt, again);
                assert!(matches!(next, Next::Stop(FollowError::Circle { .. })), "{first} {again}: {next:?}");
            }
        }
    }

    #[test]
    fn the_ninth_redirect_is_one_too_many() {
        let mut attempt = Follow::from("db0:3306");
        for n in 1..=MAX_HOPS {
            assert_eq!(redirect(&mut attempt, &format!("db{n}")), go_to(&format!("db{n}")));
        }
        let Next::Stop(error) = redirect(&mut attempt, "db9") else { panic!("followed") };
        assert!(
            error.to_string().starts_with("Too many instant failovers (>= 8): db0:3306 -> db1:3306 -> "),
            "{error}"
        );
    }

    #[test]
    fn other_errors_are_no_redirect() {
        let mut attempt = Follow::from("db1:3306");
        for (code, message) in [
            (1045, &b"|text|db2"[..]),
            (0, b"|text|db2"),
            (4196, b"Sequence 'a.b' table has wrong number of columns"),
            (4200, b"Variable is ignored"),
            (4196, b""),
            (4196, b"|text"),
        ] {
            assert_eq!(attempt.refused(code, message), Next::NoRedirect);
        }
        assert!(!attempt.was_redirected());
    }

    #[test]
    fn a_malformed_target_is_shown() {
        let mut attempt = Follow::from("db1:3306");
        let Next::Stop(error) = redirect(&mut attempt, "db2:0") else { panic!("followed") };
        assert!(
            error
                .to_string()
                .starts_with("Server 'db1:3306' sent an invalid redirect target: 'db2:0' is not a target: port '0'"),
            "{error}"
        );
        assert!(!attempt.was_redirected());
    }

    /// The test vectors that `docs/protocol.md` gives to authors of connectors.
    #[test]
    fn published_vectors() {
        let vectors: Value = serde_json::from_str(include_str!("../../docs/protocol-vectors.json")).unwrap();
        for vector in vectors["messages"].as_array().unwrap() {
            let bytes = match &vector["hex"] {
                Value::String(hex) => hex
                    .as_bytes()
                    .chunks(2)
                    .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
                    .collect(),
                _ => vector["message"].as_str().unwrap().as_bytes().to_vec(),
            };
            let found = match Follow::from("db1:3306").refused(4196, &bytes) {
                Next::GoTo(target) => {
                    let host = target.host().to_string();
                    json!({ "host": host.trim_matches(['[', ']']), "port": target.port() })
                }
                Next::Stop(FollowError::BadTarget { .. }) => json!("malformed"),
                Next::Stop(other) => panic!("{other}"),
                Next::NoRedirect => Value::Null,
            };
            assert_eq!(found, vector["target"], "{vector}");
        }
        for vector in vectors["attempts"].as_array().unwrap() {
            let mut attempt = Follow::from(vector["origin"].as_str().unwrap());
            let errors = vector["errors"].as_array().unwrap();
            let steps = errors.iter().map(|error| {
                let code = u16::try_from(error[0].as_u64().unwrap()).unwrap();
                attempt.refused(code, error[1].as_str().unwrap().as_bytes())
            });
            let outcome = match steps.last().unwrap() {
                Next::GoTo(target) => super::address(&target),
                Next::Stop(FollowError::Circle { .. }) => "circle".to_owned(),
                Next::Stop(FollowError::TooMany { .. }) => "too many".to_owned(),
                Next::Stop(FollowError::BadTarget { .. }) => "malformed".to_owned(),
                Next::NoRedirect => "ordinary".to_owned(),
            };
            assert_eq!(vector["outcome"], outcome, "{vector}");
        }
    }

    proptest! {
        #[test]
        fn every_attempt_ends(targets in proptest::collection::vec(any_target(), 12)) {
            let mut attempt = Follow::from("db1:3306");
            let followed = targets.iter().take_while(|target| matches!(redirect(&mut attempt, target), Next::GoTo(_))).count();
            prop_assert!(followed <= MAX_HOPS);
        }
    }
}
