//! Who is never redirected: replication, monitoring, the DBA.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::shown::Shown;

/// The value of `instant_failover_exempt_users`: account names, the user part alone, separated by commas.
///
/// Names are compared byte for byte with the name the client gave, as MariaDB compares them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExemptUsers(Vec<String>);

impl ExemptUsers {
    /// Whether connections of `user` are exempt.
    #[must_use]
    pub fn contains(&self, user: &[u8]) -> bool {
        self.0.iter().any(|name| name.as_bytes() == user)
    }

    /// The first name that holds an `@`: likely `user@host`, which exempts nobody unless an account has that very name.
    pub(super) fn with_host(&self) -> Option<&str> {
        self.0.iter().map(String::as_str).find(|name| name.contains('@'))
    }
}

impl FromStr for ExemptUsers {
    type Err = ExemptUsersError;

    fn from_str(value: &str) -> Result<Self, ExemptUsersError> {
        entries(value)
            .map(|name| match name {
                "" => Err(ExemptUsersError::Empty { value: value.to_owned() }),
                _ if name.chars().any(char::is_control) => Err(ExemptUsersError::Control(name.to_owned())),
                _ if name.chars().count() > 128 => Err(ExemptUsersError::TooLong(name.to_owned())),
                _ => Ok(name.to_owned()),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Display for ExemptUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// A value that is no list of users, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExemptUsersError {
    /// Two commas, or one at either end, with nothing between.
    Empty {
        /// The whole list.
        value: String,
    },
    /// A name with a line break or the like.
    Control(String),
    /// A name longer than MariaDB's 128 characters.
    TooLong(String),
}

impl fmt::Display for ExemptUsersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { value } => write!(f, "{} has an empty name in it", Shown(value))?,
            Self::Control(name) => write!(f, "user {} has a control character in it", Shown(name))?,
            Self::TooLong(name) => write!(f, "user {} has more than 128 characters", Shown(name))?,
        }
        f.write_str("; give user names without hosts, separated by commas")
    }
}

impl std::error::Error for ExemptUsersError {}

/// The value of `instant_failover_exempt_hosts`: IP addresses and CIDR blocks, separated by commas.
///
/// A connection through the Unix socket has no address, and so is never exempt by this list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExemptHosts(Vec<IpNet>);

impl ExemptHosts {
    /// Whether connections from `address` are exempt. An IPv4 address that a dual-stack socket shows as IPv6
    /// (`::ffff:192.0.2.1`) counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|block| block.contains(&address))
    }
}

impl FromStr for ExemptHosts {
    type Err = ExemptHostsError;

    fn from_str(value: &str) -> Result<Self, ExemptHostsError> {
        entries(value)
            .map(|entry| match entry.parse::<IpAddr>().map(IpNet::from).or_else(|_| entry.parse()) {
                _ if entry.is_empty() => Err(ExemptHostsError::Empty { value: value.to_owned() }),
                Ok(block) if block.trunc() != block => {
                    Err(ExemptHostsError::HostBits { entry: entry.to_owned(), block: block.trunc() })
                }
                Ok(block) => Ok(block),
                Err(_) => Err(ExemptHostsError::NotABlock(entry.to_owned())),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Display for ExemptHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, block) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            if block.prefix_len() == block.max_prefix_len() {
                write!(f, "{comma}{}", block.addr())?;
            } else {
                write!(f, "{comma}{block}")?;
            }
        }
        Ok(())
    }
}

/// A value that is no list of addresses, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExemptHostsError {
    /// Two commas, or one at either end, with nothing between.
    Empty {
        /// The whole list.
        value: String,
    },
    /// Neither an address nor a CIDR block: a host name, a pattern, a netmask.
    NotABlock(String),
    /// A block whose address has bits set behind the prefix: perhaps one address was meant, perhaps the block.
    HostBits {
        /// As it was given.
        entry: String,
        /// The block it lies in.
        block: IpNet,
    },
}

impl fmt::Display for ExemptHostsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { value } => write!(f, "{} has an empty entry in it", Shown(value))?,
            Self::NotABlock(entry) => write!(f, "{} is neither an IP address nor a CIDR block", Shown(entry))?,
            Self::HostBits { entry, block } => {
                return write!(f, "{} is not a block; give {block} for the block or {} for the host", Shown(entry), {
                    entry.split('/').next().unwrap_or(entry)
                });
            }
        }
        f.write_str("; give addresses like 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32, separated by commas")
    }
}

impl std::error::Error for ExemptHostsError {}

/// The entries of a list, without the spaces around them; none where there is nothing but spaces.
fn entries(value: &str) -> impl Iterator<Item = &str> {
    let list = Some(value).filter(|list| !list.trim_matches(' ').is_empty());
    list.into_iter().flat_map(|list| list.split(',')).map(|entry| entry.trim_matches(' '))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ExemptHosts, ExemptUsers};

    #[test]
    fn users() {
        let users: ExemptUsers = " repl, Monitor ,dba".parse().unwrap();
        assert_eq!(users.to_string(), "repl,Monitor,dba");
        for (user, exempt) in [("repl", true), ("Monitor", true), ("monitor", false), ("", false), ("rep", false)] {
            assert_eq!(users.contains(user.as_bytes()), exempt, "{user}");
        }
        assert!(!"".parse::<ExemptUsers>().unwrap().contains(b""));
        for (value, said) in [
            ("a,,b", "'a,,b' has an empty name in it"),
            (",a", "has an empty name"),
            ("a,", "has an empty name"),
            ("a\tb", "user 'a\\tb' has a control character"),
            (&"x".repeat(129), "has more than 128 characters"),
        ] {
            let error = value.parse::<ExemptUsers>().unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("give user names without hosts"), "{error}");
        }
    }

    #[test]
    fn hosts() {
        let hosts: ExemptHosts = "192.0.2.7, 10.0.0.0/8,2001:db8::/32,::1".parse().unwrap();
        assert_eq!(hosts.to_string(), "192.0.2.7,10.0.0.0/8,2001:db8::/32,::1");
        for (address, exempt) in [
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("::ffff:10.1.2.3", true),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("::1", true),
            ("::2", false),
        ] {
            assert_eq!(hosts.contains(address.parse().unwrap()), exempt, "{address}");
        }
        for (value, said) in [
            ("10.0.0.0/8,", "has an empty entry in it"),
            ("db2.example.com", "'db2.example.com' is neither an IP address nor a CIDR block"),
            ("10.0.%", "'10.0.%' is neither"),
            ("10.0.0.0/255.0.0.0", "'10.0.0.0/255.0.0.0' is neither"),
            ("10.0.0.0/33", "'10.0.0.0/33' is neither"),
            ("10.1.2.3/8", "'10.1.2.3/8' is not a block; give 10.0.0.0/8 for the block or 10.1.2.3 for the host"),
        ] {
            let error = value.parse::<ExemptHosts>().unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    proptest! {
        #[test]
        fn lists_survive_display(value in "[a-c0-9.:/, ]{0,30}") {
            if let Ok(users) = value.parse::<ExemptUsers>() {
                prop_assert_eq!(users.to_string().parse(), Ok(users));
            }
            if let Ok(hosts) = value.parse::<ExemptHosts>() {
                prop_assert_eq!(hosts.to_string().parse(), Ok(hosts));
            }
        }
    }
}
