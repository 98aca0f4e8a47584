//! The host as the program wrote it, behind `instant_failover://`.
#![forbid(unsafe_code)]

use std::fmt;

/// Where the program wants to connect to.
///
/// Unlike the target of a redirect it is the program's own affair: any host that Connector/C takes will do, a list of
/// several hosts included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    /// A name, an address without brackets, or a list; nothing for Connector/C's default.
    pub(super) host: Option<String>,
    /// The port, if one is given: it has precedence over the one the program gave beside the URL.
    pub(super) port: Option<u16>,
}

impl Location {
    /// Reads `host`, `host:port`, `[IPv6]` or `[IPv6]:port`.
    pub(super) fn parse(text: &str) -> Result<Self, LocationError> {
        let error = |problem| LocationError { text: text.to_owned(), problem };
        if let Some(bad) =
            text.chars().find(|c| matches!(c, '/' | '@' | '?' | '#') || c.is_whitespace() || c.is_control())
        {
            return Err(error(Problem::Character(bad)));
        }
        // A list of hosts, each with its port: for Connector/C to take apart.
        if text.contains(',') {
            return Ok(Self { host: Some(text.to_owned()), port: None });
        }
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(|| error(Problem::Bracket))?;
            match rest {
                "" => (host, None),
                _ => (host, Some(rest.strip_prefix(':').ok_or_else(|| error(Problem::Bracket))?)),
            }
        } else {
            match text.split_once(':') {
                Some((_, rest)) if rest.contains(':') => return Err(error(Problem::Colons)),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let port = match port {
            None => None,
            Some(digits) => match digits.parse() {
                Ok(port) if port != 0 && !digits.starts_with('+') => Some(port),
                _ => return Err(error(Problem::Port(digits.to_owned()))),
            },
        };
        Ok(Self { host: Some(host.to_owned()).filter(|host| !host.is_empty()), port })
    }
}

/// A URL that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LocationError {
    text: String,
    problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    Character(char),
    Bracket,
    Colons,
    Port(String),
}

impl fmt::Display for LocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instant_failover://{}: ", self.text)?;
        match &self.problem {
            Problem::Character(bad) => write!(f, "{bad:?} is not allowed")?,
            Problem::Bracket => f.write_str("unbalanced brackets")?,
            Problem::Colons => f.write_str("an IPv6 address needs brackets")?,
            Problem::Port(port) => write!(f, "'{port}' is not a port from 1 to 65535")?,
        }
        f.write_str("; give instant_failover://host, ://host:port or ://[IPv6]:port")
    }
}

#[cfg(test)]
mod tests {
    use super::Location;

    #[test]
    fn locations() {
        for (text, host, port) in [
            ("db1", Some("db1"), None),
            ("db1:3307", Some("db1"), Some(3307)),
            ("my_db.local:65535", Some("my_db.local"), Some(65535)),
            ("192.0.2.1:3306", Some("192.0.2.1"), Some(3306)),
            ("[::1]", Some("::1"), None),
            ("[fe80::1%eth0]:3307", Some("fe80::1%eth0"), Some(3307)),
            ("db1:3306,[::1]:3307", Some("db1:3306,[::1]:3307"), None),
            ("", None, None),
            (":3307", None, Some(3307)),
        ] {
            let expected = Location { host: host.map(str::to_owned), port };
            assert_eq!(Location::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, said) in [
            ("db1/test", "'/' is not allowed"),
            ("root@db1", "'@' is not allowed"),
            ("db 1", "' ' is not allowed"),
            ("::1", "an IPv6 address needs brackets"),
            ("[::1", "unbalanced brackets"),
            ("[::1]3307", "unbalanced brackets"),
            ("db1:", "'' is not a port"),
            ("db1:0", "'0' is not a port"),
            ("db1:65536", "'65536' is not a port"),
            ("db1:+1", "'+1' is not a port"),
            ("db1:x", "'x' is not a port"),
        ] {
            let error = Location::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("instant_failover://{text}: ")) && error.contains(said), "{error}");
        }
    }
}
