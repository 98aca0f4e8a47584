//! Clients that are never redirected: replication, monitoring, the DBA.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

use super::shown::Shown;

/// The most entries of a list.
const MAX_ENTRIES: usize = 5000;

/// The most characters of a user name, as in MariaDB.
const MAX_USER_LENGTH: usize = 128;

/// The value of `instant_failover_exempt_users`: user names without hosts, separated by commas.
///
/// Names are compared byte for byte with the name the client gave, as MariaDB compares them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExemptUsers {
    /// The list, in the order it was given.
    shown: String,
    /// Sorted. (A hash table would ask for a newer glibc, for its random seed.)
    names: Vec<String>,
}

impl ExemptUsers {
    /// Whether connections of `user` are exempt. A long list does not make it slower.
    #[must_use]
    pub fn contains(&self, user: &[u8]) -> bool {
        self.names.binary_search_by(|name| name.as_bytes().cmp(user)).is_ok()
    }

    /// The first name that contains an `@`: probably meant as `user@host`, which exempts only a user with exactly that name.
    pub(super) fn with_host(&self) -> Option<&str> {
        self.shown.split(',').find(|name| name.contains('@'))
    }
}

impl FromStr for ExemptUsers {
    type Err = ExemptUsersError;

    fn from_str(value: &str) -> Result<Self, ExemptUsersError> {
        let names = entries(value).map_err(ExemptUsersError::TooMany)?;
        for &name in &names {
            match name {
                "" => return Err(ExemptUsersError::Empty { value: value.to_owned() }),
                _ if name.chars().any(char::is_control) => return Err(ExemptUsersError::Control(name.to_owned())),
                _ if name.chars().count() > MAX_USER_LENGTH => return Err(ExemptUsersError::TooLong(name.to_owned())),
                _ => {}
            }
        }
        let shown = names.join(",");
        let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        names.sort_unstable();
        Ok(Self { shown, names })
    }
}

impl fmt::Display for ExemptUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// A value that is not a list of users, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExemptUsersError {
    /// Too many entries: this many.
    TooMany(usize),
    /// An empty entry: two commas in a row, or one at either end.
    Empty {
        /// The whole list.
        value: String,
    },
    /// A name with a line break or another control character.
    Control(String),
    /// A name longer than MariaDB's 128 characters.
    TooLong(String),
}

impl fmt::Display for ExemptUsersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany(count) => write!(f, "the list has {count} entries, but at most {MAX_ENTRIES} are allowed")?,
            Self::Empty { value } => write!(f, "{} contains an empty name", Shown(value))?,
            Self::Control(name) => write!(f, "user {} contains a control character", Shown(name))?,
            Self::TooLong(name) => write!(f, "user {} has more than {MAX_USER_LENGTH} characters", Shown(name))?,
        }
        f.write_str("; give user names without hosts, separated by commas")
    }
}

impl std::error::Error for ExemptUsersError {}

/// The value of `instant_failover_exempt_hosts`: IP addresses and CIDR blocks, separated by commas.
///
/// An IPv4 address has one form here, as an entry and as a client's address: `::ffff:192.0.2.1`, the form that a dual-stack
/// socket reports, becomes `192.0.2.1`. IPv6 blocks do not cover IPv4 addresses.
///
/// A connection through the Unix socket has no address, so this list never exempts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExemptHosts {
    /// In the order given.
    blocks: Vec<IpNet>,
    /// The same, sorted, without blocks that lie inside another.
    disjoint: Vec<IpNet>,
}

impl ExemptHosts {
    /// Whether connections from `address` are exempt. A long list hardly makes it slower.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        // Blocks that start later cannot contain it; of the others only the last can, because no block lies inside another.
        let later = self.disjoint.partition_point(|block| block.network() <= address);
        self.disjoint[..later].last().is_some_and(|block| block.contains(&address))
    }
}

impl FromStr for ExemptHosts {
    type Err = ExemptHostsError;

    fn from_str(value: &str) -> Result<Self, ExemptHostsError> {
        let entries = entries(value).map_err(ExemptHostsError::TooMany)?;
        if entries.contains(&"") {
            return Err(ExemptHostsError::Empty { value: value.to_owned() });
        }
        let blocks: Vec<IpNet> = entries.into_iter().map(parse_block).collect::<Result<_, _>>()?;
        let mut disjoint = blocks.clone();
        // A block sorts right before the blocks inside it.
        disjoint.sort_unstable();
        disjoint.dedup_by(|block, before| before.contains(&*block));
        Ok(Self { blocks, disjoint })
    }
}

/// Parses an address or a CIDR block. IPv4 written as IPv6 becomes IPv4.
fn parse_block(entry: &str) -> Result<IpNet, ExemptHostsError> {
    const IPV4_MAPPED: IpAddr = IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0));
    const BITS_BEFORE_IPV4: u8 = 96;
    /// Of those, the ones that are 0.
    const ZERO_BITS: u8 = 80;
    let wrong = || ExemptHostsError::NotABlock(entry.to_owned());
    let (address, length) = entry.split_once('/').map_or((entry, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let block = match length {
        None => IpNet::from(address),
        Some("0") => IpNet::new_assert(address, 0),
        Some(digits) if digits.starts_with(['0', '+']) => return Err(wrong()),
        Some(digits) => digits.parse().ok().and_then(|bits| IpNet::new(address, bits).ok()).ok_or_else(wrong)?,
    };
    let canonical = address.to_canonical();
    let is_mapped = canonical != address;
    let bits = block.prefix_len();
    let block = match bits.checked_sub(BITS_BEFORE_IPV4) {
        Some(bits) if is_mapped => IpNet::new_assert(canonical, bits),
        None if is_mapped || (bits > ZERO_BITS && block.contains(&IPV4_MAPPED)) => {
            return Err(ExemptHostsError::MoreThanIpv4(entry.to_owned()));
        }
        _ => block,
    };
    if block.trunc() == block {
        Ok(block)
    } else {
        Err(ExemptHostsError::HostBits { entry: entry.to_owned(), block: block.trunc(), host: canonical })
    }
}

impl fmt::Display for ExemptHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, block) in self.blocks.iter().enumerate() {
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

/// A value that is not a list of addresses, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExemptHostsError {
    /// Too many entries: this many.
    TooMany(usize),
    /// An empty entry: two commas in a row, or one at either end.
    Empty {
        /// The whole list.
        value: String,
    },
    /// Neither an address nor a CIDR block: a host name, a pattern, a netmask.
    NotABlock(String),
    /// An IPv6 block that contains all of IPv4 (`::ffff:0:0/96`), and besides only addresses that no host can have.
    MoreThanIpv4(String),
    /// A block whose address has bits set after the prefix: either the one address was meant, or the block.
    HostBits {
        /// As it was given.
        entry: String,
        /// The block that contains it.
        block: IpNet,
        /// The address alone.
        host: IpAddr,
    },
}

impl fmt::Display for ExemptHostsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany(count) => write!(f, "the list has {count} entries, but at most {MAX_ENTRIES} are allowed")?,
            Self::Empty { value } => write!(f, "{} contains an empty entry", Shown(value))?,
            Self::NotABlock(entry) => write!(f, "{} is neither an IP address nor a CIDR block", Shown(entry))?,
            Self::MoreThanIpv4(entry) => {
                return write!(
                    f,
                    "{} covers more than all IPv4 addresses; give 0.0.0.0/0 for all of them",
                    Shown(entry)
                );
            }
            Self::HostBits { entry, block, host } => {
                return write!(
                    f,
                    "{} has host bits set; give {block} for the block or {host} for the host",
                    Shown(entry)
                );
            }
        }
        f.write_str("; give addresses like 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32, separated by commas")
    }
}

impl std::error::Error for ExemptHostsError {}

/// The entries of a list without surrounding spaces; none if there are only spaces. The error is the number of entries if
/// there are too many.
fn entries(value: &str) -> Result<Vec<&str>, usize> {
    if value.trim_matches(' ').is_empty() {
        return Ok(Vec::new());
    }
    match value.split(',').count() {
        count if count > MAX_ENTRIES => Err(count),
        _ => Ok(value.split(',').map(|entry| entry.trim_matches(' ')).collect()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::net::{IpAddr, Ipv6Addr};

    use ipnet::IpNet;

    use super::{ExemptHosts, ExemptUsers, MAX_ENTRIES};

    #[test]
    fn users() {
        let users: ExemptUsers = " repl, Monitor ,dba".parse().unwrap();
        assert_eq!(users.to_string(), "repl,Monitor,dba");
        for (user, exempt) in [("repl", true), ("Monitor", true), ("monitor", false), ("", false), ("rep", false)] {
            assert_eq!(users.contains(user.as_bytes()), exempt, "{user}");
        }
        assert!(!"".parse::<ExemptUsers>().unwrap().contains(b""));
        for (value, said) in [
            ("a,,b", "'a,,b' contains an empty name"),
            (",a", "contains an empty name"),
            ("a,", "contains an empty name"),
            ("a\tb", "user 'a\\tb' contains a control character"),
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
            ("10.0.0.0/8,", "contains an empty entry"),
            ("db2.example.com", "'db2.example.com' is neither an IP address nor a CIDR block"),
            ("10.0.%", "'10.0.%' is neither"),
            ("10.0.0.0/255.0.0.0", "'10.0.0.0/255.0.0.0' is neither"),
            ("10.0.0.0/33", "'10.0.0.0/33' is neither"),
            ("10.1.2.3/8", "'10.1.2.3/8' has host bits set; give 10.0.0.0/8 for the block or 10.1.2.3 for the host"),
            ("10.0.0.0/08", "'10.0.0.0/08' is neither"),
            ("10.0.0.0/+8", "'10.0.0.0/+8' is neither"),
            ("10.0.0.0/", "'10.0.0.0/' is neither"),
            ("10.0.0.0/8/8", "'10.0.0.0/8/8' is neither"),
            ("010.0.0.0/8", "'010.0.0.0/8' is neither"),
            ("00001::/16", "'00001::/16' is neither"),
            ("::1/129", "'::1/129' is neither"),
            ("::1/1000", "'::1/1000' is neither"),
            ("fe80::1%eth0", "'fe80::1%eth0' is neither"),
            ("[::1]", "'[::1]' is neither"),
        ] {
            let error = value.parse::<ExemptHosts>().unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    /// A socket for both families shows an IPv4 client as `::ffff:192.0.2.1`, and people copy that.
    #[test]
    fn ipv4_written_as_ipv6_is_ipv4() {
        for (value, shown, inside, outside) in [
            ("::ffff:127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("::FFFF:7F00:1", "127.0.0.1", "::ffff:127.0.0.1", "::ffff:127.0.0.2"),
            ("::ffff:127.0.0.1/128", "127.0.0.1", "127.0.0.1", "127.0.0.0"),
            ("::ffff:127.0.0.0/104", "127.0.0.0/8", "127.255.255.255", "128.0.0.0"),
            ("::ffff:0:0/96", "0.0.0.0/0", "255.255.255.255", "::1"),
            ("0:0:0:0:0:ffff:10.0.0.0/105", "10.0.0.0/9", "::ffff:10.127.0.0", "10.128.0.0"),
            ("::/0", "::/0", "::1", "127.0.0.1"),
            ("::/80", "::/80", "::1", "::ffff:127.0.0.1"),
            ("::fffe:0:0/96", "::fffe:0:0/96", "::fffe:1:1", "0.1.0.1"),
        ] {
            let hosts: ExemptHosts = value.parse().unwrap();
            assert_eq!(hosts.to_string(), shown, "{value}");
            assert_eq!(shown.parse(), Ok(hosts.clone()), "{value}");
            assert!(hosts.contains(inside.parse().unwrap()), "{value}");
            assert!(!hosts.contains(outside.parse().unwrap()), "{value}");
        }
        for (value, said) in [
            ("::ffff:0:0/90", "'::ffff:0:0/90' covers more than all IPv4 addresses; give 0.0.0.0/0 for all of them"),
            ("::ffff:0:0/95", "covers more than all IPv4 addresses"),
            ("::ffff:127.0.0.1/8", "covers more than all IPv4 addresses"),
            ("::ffff:127.0.0.1/0", "covers more than all IPv4 addresses"),
            ("::ffc0:0:0/90", "covers more than all IPv4 addresses"),
            ("::ffff:127.0.0.1/104", "has host bits set; give 127.0.0.0/8 for the block or 127.0.0.1 for the host"),
            ("::ffff:0:0/129", "'::ffff:0:0/129' is neither"),
        ] {
            let error = value.parse::<ExemptHosts>().unwrap_err().to_string();
            assert!(error.contains(said), "{value}: {error}");
        }
    }

    #[test]
    fn the_longest_lists_and_one_entry_more() {
        let users = |count: usize| (0..count).map(|n| format!("user{n}")).collect::<Vec<_>>().join(",");
        let hosts = |count: usize| (0..count).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect::<Vec<_>>();
        let hosts = |count| hosts(count).join(",");
        let most: ExemptUsers = users(MAX_ENTRIES).parse().unwrap();
        assert!(most.contains(b"user0") && most.contains(b"user4999") && !most.contains(b"user5000"));
        let most: ExemptHosts = hosts(MAX_ENTRIES).parse().unwrap();
        assert!(most.contains("10.19.135.1".parse().unwrap()) && !most.contains("10.19.136.1".parse().unwrap()));
        let said = "the list has 5001 entries, but at most 5000 are allowed; give ";
        for error in [
            users(MAX_ENTRIES + 1).parse::<ExemptUsers>().unwrap_err().to_string(),
            hosts(MAX_ENTRIES + 1).parse::<ExemptHosts>().unwrap_err().to_string(),
            ",".repeat(MAX_ENTRIES).parse::<ExemptUsers>().unwrap_err().to_string(),
            "::1,".repeat(MAX_ENTRIES).parse::<ExemptHosts>().unwrap_err().to_string(),
        ] {
            assert!(error.starts_with(said), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_long_list_finds_what_each_entry_holds(
            blocks in proptest::collection::vec((any::<bool>(), 0u8..=3, 0u8..=3, 8u8..=32), 0..40),
            clients in proptest::collection::vec((any::<bool>(), 0u8..=3, 0u8..=3, any::<u16>()), 20),
        ) {
            let address = |v6, a: u8, b: u8, c: u16| -> IpAddr {
                if v6 {
                    Ipv6Addr::new(u16::from(a) << 8 | u16::from(b), c, 0, 0, 0, 0, 0, 0).into()
                } else {
                    let [c, d] = c.to_be_bytes();
                    [a, b, c, d].into()
                }
            };
            let blocks: Vec<_> = blocks
                .into_iter()
                .map(|(v6, a, b, bits)| IpNet::new(address(v6, a, b, 0), bits).unwrap().trunc())
                .collect();
            let list = blocks.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            let hosts: ExemptHosts = list.parse().unwrap();
            for (v6, a, b, c) in clients {
                let address = address(v6, a, b, c);
                prop_assert_eq!(hosts.contains(address), blocks.iter().any(|block| block.contains(&address)));
            }
        }

        #[test]
        fn a_block_of_ipv4_is_the_same_in_both_spellings(address in any::<u32>(), bits in 0u8..=32, client in any::<u32>()) {
            let block = IpNet::new(IpAddr::V4(address.into()), bits).unwrap().trunc();
            let mapped = format!("::ffff:{}/{}", block.addr(), 96 + bits);
            let plain: ExemptHosts = block.to_string().parse().unwrap();
            prop_assert_eq!(mapped.parse(), Ok(plain.clone()));
            let client = std::net::Ipv4Addr::from(client);
            for client in [IpAddr::V4(client), IpAddr::V6(client.to_ipv6_mapped())] {
                prop_assert_eq!(plain.contains(client), block.contains(&client.to_canonical()));
            }
        }

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
