//! Where a redirected client is sent.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::shown::Shown;

/// The port of a target without one: MariaDB's default, not the port that this server listens on.
pub const DEFAULT_PORT: u16 = 3306;

/// The most bytes of a host name.
const MAX_NAME_LENGTH: usize = 253;
/// The most bytes of a target.
const MAX_LENGTH: usize = MAX_NAME_LENGTH + ":65535".len();

/// The server that a client is sent to: `host` or `host:port`.
///
/// A value of this type is always valid. Its [`Display`](fmt::Display) is the form on the wire, and parses back to the same
/// value. An address has one form, however it was written: that of RFC 5952; `::ffff:192.0.2.1` becomes `192.0.2.1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    host: Host,
    port: Option<u16>,
}

/// The host of a [`Target`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A DNS name as in RFC 1123 section 2.1, with `_` also allowed; at most 253 octets, case preserved.
    Name(String),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, written in brackets (RFC 5952 section 6); never an IPv4 address written as one.
    V6(Ipv6Addr),
}

impl Target {
    /// The host to connect to.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// The port to connect to, 1 to 65535: [`DEFAULT_PORT`] if the target has none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(DEFAULT_PORT)
    }

    /// Whether both name the same server: a missing port is the default port, and host names are compared without case.
    #[must_use]
    pub fn is_same_server(&self, other: &Self) -> bool {
        self.port() == other.port()
            && match (&self.host, &other.host) {
                (Host::Name(one), Host::Name(other)) => one.eq_ignore_ascii_case(other),
                (one, other) => one == other,
            }
    }
}

impl Host {
    /// The address, if the host is one.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::V4(address) => Some(IpAddr::V4(*address)),
            Self::V6(address) => Some(IpAddr::V6(*address)),
        }
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(address),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => write!(f, "{address}"),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(value: &str) -> Result<Self, TargetError> {
        parse(value).map_err(|problem| {
            // More is never shown, and the text of an account can have any length.
            let beginning = &value[..value.floor_char_boundary(MAX_LENGTH)];
            TargetError { value: beginning.to_owned(), problem }
        })
    }
}

fn parse(value: &str) -> Result<Target, Problem> {
    if value.len() > MAX_LENGTH {
        return Err(Problem::TooLong(value.len()));
    }
    if let Some((scheme, _)) = value.split_once("://") {
        return Err(Problem::Scheme(scheme.to_owned()));
    }
    let (host, port) = if let Some(rest) = value.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or(Problem::BracketNotClosed)?;
        let address: Ipv6Addr = address.parse().map_err(|_| Problem::NotIpv6(address.to_owned()))?;
        let port = match rest {
            "" => None,
            _ => Some(rest.strip_prefix(':').ok_or(Problem::AfterBracket)?),
        };
        (IpAddr::V6(address).into(), port)
    } else if value.parse::<Ipv6Addr>().is_ok() {
        return Err(Problem::Ipv6WithoutBrackets);
    } else {
        match value.split_once(':') {
            Some((name, port)) => (parse_name(name)?, Some(port)),
            None => (parse_name(value)?, None),
        }
    };
    if let Some(address) = host.address()
        && !is_of_one_host(address)
    {
        return Err(Problem::NotOneHost(address));
    }
    Ok(Target { host, port: port.map(parse_port).transpose()? })
}

/// Whether an address in canonical form can be that of a single host. `0.0.0.0/8` is never a destination (RFC 1122 section
/// 3.2.1.3), and clients take `0.0.0.0` and `::` for their own machine.
const fn is_of_one_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[0] != 0 && !address.is_multicast() && !address.is_broadcast(),
        IpAddr::V6(address) => !address.is_unspecified() && !address.is_multicast(),
    }
}

/// Reads a DNS name or an IPv4 address. A name whose last label is a number would be taken for an IPv4 address by some
/// resolvers and for a name by others (RFC 1123 section 2.1), so it must be a proper address.
fn parse_name(name: &str) -> Result<Host, Problem> {
    if name.is_empty() {
        return Err(Problem::NoHost);
    }
    if let Some(bad) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.')) {
        return Err(Problem::Character(bad));
    }
    if name.len() > MAX_NAME_LENGTH {
        return Err(Problem::NameTooLong(name.len()));
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    if last.bytes().all(|b| b.is_ascii_digit()) || hexadecimal.is_some_and(|h| h.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        return if last.is_empty() {
            Err(Problem::Label(last.to_owned()))
        } else {
            name.parse().map(Host::V4).map_err(|_| Problem::NotIpv4(name.to_owned()))
        };
    }
    match name.split('.').find(|l| l.is_empty() || l.len() > 63 || l.starts_with('-') || l.ends_with('-')) {
        Some(label) => Err(Problem::Label(label.to_owned())),
        None => Ok(Host::Name(name.to_owned())),
    }
}

fn parse_port(port: &str) -> Result<u16, Problem> {
    let plain = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
    match port.parse() {
        Ok(number) if plain => Ok(number),
        _ => Err(Problem::Port(port.to_owned())),
    }
}

/// A value that is not a target, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetError {
    value: String,
    problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    TooLong(usize),
    Scheme(String),
    NoHost,
    Character(char),
    NameTooLong(usize),
    Label(String),
    NotIpv4(String),
    NotIpv6(String),
    NotOneHost(IpAddr),
    Ipv6WithoutBrackets,
    BracketNotClosed,
    AfterBracket,
    Port(String),
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not a target: ", Shown(&self.value))?;
        match &self.problem {
            Problem::TooLong(length) => write!(f, "it has {length} bytes, but a target has at most {MAX_LENGTH}")?,
            Problem::Scheme(scheme) => write!(f, "leave out {}", Shown(&format!("{scheme}://")))?,
            Problem::NoHost => f.write_str("the host is missing")?,
            Problem::Character(bad) => write!(f, "a host name cannot contain {}", Shown(&bad.to_string()))?,
            Problem::NameTooLong(length) => {
                write!(f, "a host name has at most {MAX_NAME_LENGTH} characters, this one has {length}")?;
            }
            Problem::Label(label) => write!(
                f,
                "{} is not a valid host name label (1 to 63 letters, digits, underscores and inner hyphens)",
                Shown(label)
            )?,
            Problem::NotIpv4(text) => write!(f, "{} is not an IPv4 address", Shown(text))?,
            Problem::NotIpv6(text) => write!(f, "{} is not an IPv6 address", Shown(text))?,
            Problem::NotOneHost(address) => write!(f, "{address} is not the address of a single host")?,
            Problem::Ipv6WithoutBrackets => return write!(f, "write an IPv6 address in brackets, [{}]", self.value),
            Problem::BracketNotClosed => f.write_str("the bracket is not closed")?,
            Problem::AfterBracket => f.write_str("only ':' and a port can follow the bracket")?,
            Problem::Port(port) => write!(f, "port {} is not a number from 1 to 65535", Shown(port))?,
        }
        f.write_str("; give host, host:port or [IPv6]:port")
    }
}

impl std::error::Error for TargetError {}

#[cfg(test)]
pub(super) mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::{Host, Target, is_of_one_host};

    /// Any valid target, as text and as it must come out.
    pub(crate) fn any_target() -> impl Strategy<Value = String> {
        let label = "[a-zA-Z_]([a-zA-Z0-9_-]{0,20}[a-zA-Z0-9_])?";
        let name = proptest::collection::vec(label, 1..8).prop_map(|labels| labels.join("."));
        let v4 = any::<Ipv4Addr>().prop_filter("one host", |&a| is_of_one_host(a.into()));
        let v6 =
            any::<Ipv6Addr>().prop_filter("one host", |&a| a.to_ipv4_mapped().is_none() && is_of_one_host(a.into()));
        let host = prop_oneof![name, v4.prop_map(|a| a.to_string()), v6.prop_map(|a| format!("[{a}]"))];
        (host, proptest::option::of(1..=u16::MAX)).prop_map(|(host, port)| match port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        })
    }

    /// The same address, in other digits.
    fn any_spelling(address: Ipv6Addr, full: bool, upper: bool, dotted: bool) -> String {
        let all = address.segments();
        let text = match (full, dotted) {
            (false, _) => address.to_string(),
            (true, false) => all.map(|group| format!("{group:04x}")).join(":"),
            (true, true) => {
                let groups: Vec<_> = all[..6].iter().map(|group| format!("{group:x}")).collect();
                let [.., high, low] = all;
                format!("{}:{}", groups.join(":"), Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
            }
        };
        if upper { text.to_uppercase() } else { text }
    }

    proptest! {
        #[test]
        fn every_spelling_of_an_address_is_the_same_target(
            groups in proptest::array::uniform8(prop_oneof![Just(0), any::<u16>()]),
            mapped in any::<bool>(), full in any::<bool>(), upper in any::<bool>(), dotted in any::<bool>(),
        ) {
            let [.., a, b] = groups;
            let address = if mapped { Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, a, b) } else { Ipv6Addr::from(groups) };
            let text = format!("[{}]:3307", any_spelling(address, full, upper, dotted));
            let canonical = IpAddr::V6(address).to_canonical();
            let parsed = text.parse::<Target>();
            prop_assert_eq!(parsed.is_ok(), is_of_one_host(canonical), "{}", text);
            if let Ok(target) = parsed {
                prop_assert_eq!(target.host().address(), Some(canonical));
                prop_assert_eq!(target.to_string(), std::net::SocketAddr::new(canonical, 3307).to_string());
            }
        }

        #[test]
        fn display_gives_a_valid_target_back(text in any_target()) {
            let target: Target = text.parse().unwrap();
            prop_assert_eq!(target.to_string(), text);
        }

        #[test]
        fn no_text_makes_parse_panic(text in any::<String>()) {
            if let Ok(target) = text.parse::<Target>() {
                prop_assert_eq!(target.to_string().parse(), Ok(target));
            }
        }

        #[test]
        fn text_close_to_a_target_neither(text in r"[\[\]0-9a-fx:.%/ -]{0,24}") {
            if let Ok(target) = text.parse::<Target>() {
                prop_assert_eq!(target.to_string().parse(), Ok(target));
            }
        }
    }

    #[test]
    fn valid_targets() {
        let v6 = |text: &str| Host::V6(text.parse().unwrap());
        let name = |text: &str| Host::Name(text.to_owned());
        let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        assert_eq!(longest.len(), 253);
        for (text, host, port) in [
            ("db2", name("db2"), 3306),
            ("db2.example.com:3307", name("db2.example.com"), 3307),
            ("DB-2.Example.COM:1", name("DB-2.Example.COM"), 1),
            ("3com.net:65535", name("3com.net"), 65535),
            ("0xdb.example:3306", name("0xdb.example"), 3306),
            ("db_1:3307", name("db_1"), 3307),
            ("_db._tcp.example", name("_db._tcp.example"), 3306),
            ("db_", name("db_"), 3306),
            ("_", name("_"), 3306),
            ("1_0", name("1_0"), 3306),
            ("0x_", name("0x_"), 3306),
            ("192.0.2.1", Host::V4(Ipv4Addr::new(192, 0, 2, 1)), 3306),
            ("192.0.2.1:3306", Host::V4(Ipv4Addr::new(192, 0, 2, 1)), 3306),
            ("[2001:db8::1]", v6("2001:db8::1"), 3306),
            ("[2001:DB8:0:0:0:0:0:1]:3307", v6("2001:db8::1"), 3307),
            (longest.as_str(), name(&longest), 3306),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!((target.host(), target.port()), (&host, port), "{text}");
        }
    }

    #[test]
    fn an_address_has_one_form_however_it_is_written() {
        for (text, canonical) in [
            ("[2001:DB8:0:0:0:0:0:1]:3307", "[2001:db8::1]:3307"),
            ("[2001:db8:0:0:1:0:0:1]", "[2001:db8::1:0:0:1]"),
            ("[2001:db8:0:1:1:1:1:1]", "[2001:db8:0:1:1:1:1:1]"),
            ("[1:2:3:4:5:6:7::]", "[1:2:3:4:5:6:7:0]"),
            ("[::ffff:192.0.2.1]:3307", "192.0.2.1:3307"),
            ("[::FFFF:C000:0201]", "192.0.2.1"),
            ("[0:0:0:0:0:ffff:192.0.2.1]", "192.0.2.1"),
            ("[::ffff:127.0.0.1]", "127.0.0.1"),
            // Neither of these is an IPv4 address: one has an obsolete form, the other is a translator's.
            ("[::192.0.2.1]", "[::c000:201]"),
            ("[64:ff9b::192.0.2.1]", "[64:ff9b::c000:201]"),
            ("[::0.0.0.1]", "[::1]"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.to_string(), canonical, "{text}");
            assert_eq!(canonical.parse(), Ok(target), "{text}");
        }
    }

    #[test]
    fn the_same_server_in_other_words() {
        let same = |one: &str, other: &str| {
            let (one, other) = (one.parse::<Target>().unwrap(), other.parse().unwrap());
            assert_eq!(one.is_same_server(&other), other.is_same_server(&one));
            one.is_same_server(&other)
        };
        for (one, other) in [
            ("db1", "DB1:3306"),
            ("db_1.example:3307", "Db_1.Example:3307"),
            ("[::ffff:192.0.2.1]:3306", "192.0.2.1"),
            ("[2001:DB8:0::1]", "[2001:db8::1]:3306"),
        ] {
            assert!(same(one, other), "{one} {other}");
        }
        for (one, other) in [("db1", "db1:3307"), ("db1", "db2"), ("192.0.2.1", "192.0.2.2"), ("[::1]", "127.0.0.1")] {
            assert!(!same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn the_longest_target_and_one_longer() {
        let name = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        assert!(format!("{name}:65535").parse::<Target>().is_ok());
        for (text, said) in [
            (format!("{name}b"), "a host name has at most 253 characters, this one has 254"),
            (format!("{name}:655350"), "it has 260 bytes, but a target has at most 259; give host"),
            ("x".repeat(1 << 24), "it has 16777216 bytes, but a target has at most 259; give host"),
            ("\u{20ac}".repeat(100), "it has 300 bytes, but a target has at most 259; give host"),
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
            assert!(error.value.len() <= 259);
        }
    }

    #[test]
    fn invalid_targets_and_what_is_said_of_them() {
        let long = "a".repeat(254);
        let label = format!("{}.example", "a".repeat(64));
        for (text, said) in [
            ("", "the host is missing"),
            (":3306", "the host is missing"),
            (" db2", "a host name cannot contain ' '"),
            ("db2 ", "a host name cannot contain ' '"),
            ("db+2", "a host name cannot contain '+'"),
            ("db2|x", "a host name cannot contain '|'"),
            ("d\u{e9}b2", "a host name cannot contain '\u{e9}'"),
            ("mysql://db2", "leave out 'mysql://'; give host"),
            ("instant_failover://db2:3306", "leave out 'instant_failover://'; give host"),
            ("user@db2", "a host name cannot contain '@'"),
            ("db2/path", "a host name cannot contain '/'"),
            ("db2\n", "a host name cannot contain '\\n'"),
            (&long, "a host name has at most 253 characters, this one has 254"),
            ("a..b", "'' is not a valid host name label"),
            ("db2.", "'' is not a valid host name label"),
            ("-db2", "'-db2' is not a valid host name label"),
            ("db2-.example", "'db2-' is not a valid host name label"),
            ("_-.example", "'_-' is not a valid host name label"),
            (&label, "is not a valid host name label"),
            ("10.0.0.256", "'10.0.0.256' is not an IPv4 address"),
            ("10.0.1", "'10.0.1' is not an IPv4 address"),
            ("010.0.0.1", "'010.0.0.1' is not an IPv4 address"),
            ("3306", "'3306' is not an IPv4 address"),
            ("0x7f000001", "'0x7f000001' is not an IPv4 address"),
            ("::1", "write an IPv6 address in brackets, [::1]"),
            ("[::1", "the bracket is not closed"),
            ("[::g]", "'::g' is not an IPv6 address"),
            ("[fe80::1%eth0]", "'fe80::1%eth0' is not an IPv6 address"),
            ("[::1]3306", "only ':' and a port can follow the bracket"),
            ("[192.0.2.1]", "'192.0.2.1' is not an IPv6 address"),
            ("0.0.0.0", "0.0.0.0 is not the address of a single host"),
            ("[::]:3306", ":: is not the address of a single host"),
            ("224.0.0.1", "224.0.0.1 is not the address of a single host"),
            ("255.255.255.255", "255.255.255.255 is not the address of a single host"),
            ("239.255.255.255", "239.255.255.255 is not the address of a single host"),
            ("0.1.2.3", "0.1.2.3 is not the address of a single host"),
            ("[ff02::1]", "ff02::1 is not the address of a single host"),
            ("[::0.0.0.0]", ":: is not the address of a single host"),
            ("[::ffff:0.0.0.0]", "0.0.0.0 is not the address of a single host"),
            ("[::ffff:0:1]", "0.0.0.1 is not the address of a single host"),
            ("[::ffff:224.0.0.1]:3306", "224.0.0.1 is not the address of a single host"),
            ("[::FFFF:EFFF:FFFF]", "239.255.255.255 is not the address of a single host"),
            ("[::ffff:255.255.255.255]", "255.255.255.255 is not the address of a single host"),
            ("[00001::]", "'00001::' is not an IPv6 address"),
            ("[::1.02.3.4]", "'::1.02.3.4' is not an IPv6 address"),
            ("[1:2:3:4:5:6:7:8::]", "is not an IPv6 address"),
            ("[::1.2.3.4:5]", "is not an IPv6 address"),
            ("1.2.3.4.", "'' is not a valid host name label"),
            ("1.2.3.0x4", "'1.2.3.0x4' is not an IPv4 address"),
            ("db.0x", "'db.0x' is not an IPv4 address"),
            ("db2:", "port '' is not a number from 1 to 65535"),
            ("db2:0", "port '0' is not a number from 1 to 65535"),
            ("db2:65536", "port '65536' is not a number from 1 to 65535"),
            ("db2:+3306", "port '+3306' is not a number from 1 to 65535"),
            ("db2:03306", "port '03306' is not a number from 1 to 65535"),
            ("db2:3306:3307", "port '3306:3307' is not a number from 1 to 65535"),
            ("[::1]:", "port '' is not a number from 1 to 65535"),
        ] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(said), "{text:?} gave {error:?}, not {said:?}");
            assert!(error.len() < 300, "{} bytes: {error}", error.len());
        }
    }
}
