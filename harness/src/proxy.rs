//! The PROXY protocol, versions 1 and 2: what a proxy says about the client behind it.
//!
//! See <https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>. Headers are parsed as in mariadbd, which is more lenient
//! with version 1 than the specification. Two things are stricter: a header must be complete, and a connection can have only
//! one. mariadbd accepts any number, so that a client behind a proxy can add its own header and choose its address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// The maximum length of a header, as in mariadbd.
pub const MAX_HEADER: usize = 256;

/// mariadbd tells a PROXY header from a packet by these first bytes, as many as a packet's header has.
const START: usize = 4;

const SIGNATURE_V1: &[u8] = b"PROXY";
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The fixed part of version 2: signature, version and command, address family, length of the rest.
const FIXED_V2: usize = 16;

/// What a client's bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// No header.
    None,
    /// An incomplete header, or too few bytes to tell.
    Part,
    /// A header of `length` bytes.
    Whole {
        /// Its length in bytes.
        length: usize,
        /// Whom it describes.
        source: Source,
    },
    /// It begins like a header but is not valid.
    Malformed,
}

/// Whom a header describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The proxy itself, for a health check.
    Proxy,
    /// A client with this address, in its canonical form.
    Address(IpAddr),
    /// A client that is connected to the proxy through a Unix socket.
    Socket,
}

/// Reads the header at the beginning of `bytes`. It never needs more than [`MAX_HEADER`] bytes.
#[must_use]
pub fn read(bytes: &[u8]) -> Header {
    let start = &bytes[..bytes.len().min(START)];
    let signature = [SIGNATURE_V1, SIGNATURE_V2].into_iter().find(|signature| signature.starts_with(start));
    match signature {
        None => Header::None,
        Some(_) if start.len() < START => Header::Part,
        Some(signature) if signature == SIGNATURE_V1 => version_1(bytes),
        Some(_) => version_2(bytes),
    }
}

fn version_1(bytes: &[u8]) -> Header {
    // Without an end of line, mariadbd reads this far and parses what it has.
    let longest = &bytes[..bytes.len().min(MAX_HEADER - 1)];
    let length = match longest.iter().position(|&byte| byte == b'\n') {
        Some(end) => end + 1,
        None if longest.len() == MAX_HEADER - 1 => longest.len(),
        None => return Header::Part,
    };
    line(&longest[..length]).map_or(Header::Malformed, |source| Header::Whole { length, source })
}

/// `PROXY TCP4 192.0.2.1 192.0.2.2 56324 3306`, or `PROXY UNKNOWN` with anything after it.
fn line(line: &[u8]) -> Option<Source> {
    // As a C string.
    let line = line.split(|&byte| byte == 0).next()?;
    let mut rest = str::from_utf8(line).ok()?.strip_prefix("PROXY")?;
    let family = word(&mut rest)?;
    let mut addresses_and_ports = || Some((word(&mut rest)?, word(&mut rest)?, number(&mut rest)?, number(&mut rest)?));
    let Some((client, server, client_port, server_port)) = addresses_and_ports() else {
        return (family == "UNKNOWN").then_some(Source::Proxy);
    };
    if [client_port, server_port].into_iter().any(|port| u16::try_from(port).is_err()) {
        return None;
    }
    let address = match family {
        "UNKNOWN" => return Some(Source::Proxy),
        "TCP4" => {
            server.parse::<Ipv4Addr>().ok()?;
            client.parse::<Ipv4Addr>().ok()?.into()
        }
        "TCP6" => {
            server.parse::<Ipv6Addr>().ok()?;
            client.parse::<Ipv6Addr>().ok()?.into()
        }
        _ => return None,
    };
    Some(Source::Address(canonical(address)))
}

const fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// The next word, up to a blank.
fn word<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let text = rest.trim_start_matches(is_blank);
    let (word, after) = text.split_at(text.find(is_blank).unwrap_or(text.len()));
    *rest = after;
    (!word.is_empty()).then_some(word)
}

/// The next number, which ends where its digits end.
fn number(rest: &mut &str) -> Option<i64> {
    let text = rest.trim_start_matches(is_blank);
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let end = text.len() - digits.trim_start_matches(|character: char| character.is_ascii_digit()).len();
    let (number, after) = text.split_at(end);
    *rest = after;
    number.parse().ok()
}

fn version_2(bytes: &[u8]) -> Header {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_V2>() else { return Header::Part };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if !fixed.starts_with(SIGNATURE_V2) || length > MAX_HEADER - FIXED_V2 {
        return Header::Malformed;
    }
    let Some(block) = rest.get(..length) else { return Header::Part };
    let source = match (fixed[12], fixed[13]) {
        // LOCAL, whatever the rest contains.
        (0x20, _) => Some(Source::Proxy),
        // PROXY: addresses of client and server, and their ports.
        (0x21, 0x11) if block.len() >= 12 => block.first_chunk::<4>().map(|&ip| IpAddr::from(ip)).map(Source::Address),
        (0x21, 0x21) if block.len() >= 36 => {
            block.first_chunk::<16>().map(|&ip| IpAddr::from(ip)).map(canonical).map(Source::Address)
        }
        (0x21, 0x31) => Some(Source::Socket),
        _ => None,
    };
    source.map_or(Header::Malformed, |source| Header::Whole { length: FIXED_V2 + length, source })
}

/// Converts an IPv6 address that contains an IPv4 address (`::ffff:192.0.2.1` or `::192.0.2.1`) to the latter.
fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) if !v6.is_unspecified() && !v6.is_loopback() => v6.to_ipv4().map_or(address, IpAddr::V4),
        _ => address,
    }
}

/// The value of `proxy_protocol_networks`: the networks from which headers are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyNetworks {
    blocks: Vec<IpNet>,
    /// Unix sockets.
    local: bool,
    /// The value as it was set.
    value: String,
}

impl ProxyNetworks {
    /// The maximum length of a value: much more than a list of proxies needs.
    const MAX_LENGTH: usize = 4096;

    /// Whether a header is accepted from this address, or without an address from a Unix socket.
    #[must_use]
    pub fn contain(&self, address: Option<IpAddr>) -> bool {
        match address {
            None => self.local,
            Some(address) => self.blocks.iter().any(|block| block.contains(&address)),
        }
    }
}

impl FromStr for ProxyNetworks {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        if value.len() > Self::MAX_LENGTH {
            let (length, longest) = (value.len(), Self::MAX_LENGTH);
            return Err(format!("the value has {length} bytes, at most {longest} are allowed"));
        }
        let mut networks = Self { value: value.to_owned(), ..Self::default() };
        if value == "*" {
            networks.local = true;
            let everywhere = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
            networks.blocks = everywhere.into_iter().filter_map(|address| IpNet::new(address, 0).ok()).collect();
            return Ok(networks);
        }
        for entry in value.split([',', ' ']).filter(|entry| !entry.is_empty()) {
            if entry == "localhost" {
                networks.local = true;
            } else {
                let wrong = || {
                    format!(
                        "'{}' is not an IP address, a CIDR block or localhost; separate entries by commas, or give * alone",
                        entry.escape_debug()
                    )
                };
                networks.blocks.push(block(entry).ok_or_else(wrong)?);
            }
        }
        Ok(networks)
    }
}

/// An address or a block in its canonical form. As in mariadbd, bits after the prefix are ignored.
fn block(entry: &str) -> Option<IpNet> {
    let (address, length) = match entry.split_once('/') {
        None => (entry.parse().ok()?, None),
        Some((_, length)) if !length.bytes().all(|byte| byte.is_ascii_digit()) => return None,
        Some((address, length)) => (address.parse::<IpAddr>().ok()?, Some(length.parse::<u8>().ok()?)),
    };
    let length = length.unwrap_or(if address.is_ipv4() { 32 } else { 128 });
    let (address, length) = match (address, canonical(address)) {
        // The prefix must cover the part that marks it as an IPv4 address.
        (IpAddr::V6(_), IpAddr::V4(v4)) => (v4.into(), length.checked_sub(96)?),
        (_, address) => (address, length),
    };
    IpNet::new(address, length).ok().map(|block| block.trunc())
}

impl fmt::Display for ProxyNetworks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::{Header, MAX_HEADER, ProxyNetworks, Source, read};

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [super::SIGNATURE_V2, &[command, family], &length, block].concat()
    }

    fn v6(address: &str) -> Vec<u8> {
        let address: std::net::Ipv6Addr = address.parse().unwrap();
        [&address.octets()[..], &[0; 20]].concat()
    }

    fn address(text: &str) -> Source {
        Source::Address(text.parse().unwrap())
    }

    /// The source of a header with more bytes after it. It must not depend on them, nor on how the bytes arrive.
    fn source(header: &[u8]) -> Option<Source> {
        let all = [header, b"rest"].concat();
        for length in 0..header.len() {
            assert!(matches!(read(&header[..length]), Header::Part | Header::Malformed), "{length}");
        }
        match read(&all) {
            Header::Whole { length, source } => {
                assert_eq!(length, header.len(), "{}", header.escape_ascii());
                Some(source)
            }
            Header::Malformed => None,
            other => panic!("{other:?}: {}", header.escape_ascii()),
        }
    }

    /// Each as observed with mariadbd 10.11.
    #[test]
    fn version_1() {
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.7 10.0.0.1 1111 3306\r\n", Some(address("192.0.2.7"))),
            ("PROXY TCP4 192.0.2.7 10.0.0.1 1111 3306\n", Some(address("192.0.2.7"))),
            ("PROXYTCP4   192.0.2.7\t10.0.0.1 +1111 3306junk \r\n", Some(address("192.0.2.7"))),
            ("PROXY TCP4 192.0.2.7 10.0.0.1 1111 3306 more\r\n", Some(address("192.0.2.7"))),
            ("PROXY TCP6 2001:DB8:0::7 ::1 1111 3306\r\n", Some(address("2001:db8::7"))),
            ("PROXY TCP6 ::ffff:192.0.2.7 ::1 1111 3306\r\n", Some(address("192.0.2.7"))),
            ("PROXY TCP6 ::192.0.2.7 ::1 1111 3306\r\n", Some(address("192.0.2.7"))),
            ("PROXY TCP6 ::1 ::1 1111 3306\r\n", Some(address("::1"))),
            ("PROXY UNKNOWN\r\n", Some(Source::Proxy)),
            ("PROXY UNKNOWN ffff:: ffff:: 65535 65535\r\n", Some(Source::Proxy)),
            ("PROXY UNKNOWN x\r\n", Some(Source::Proxy)),
            ("PROXY UNKNOWN a b 70000 1\r\n", None),
            ("PROXY TCP4 192.0.2 10.0.0.1 1111 3306\r\n", None),
            ("PROXY TCP4 192.000.002.007 10.0.0.1 1111 3306\r\n", None),
            ("PROXY TCP4 192.0.2.7 x 1111 3306\r\n", None),
            ("PROXY TCP4 192.0.2.7 10.0.0.1 70000 3306\r\n", None),
            ("PROXY TCP4 192.0.2.7 10.0.0.1 99999999999999999999 3306\r\n", None),
            ("PROXY TCP4 192.0.2.7 10.0.0.1 -1 3306\r\n", None),
            ("PROXY TCP4 192.0.2.7 10.0.0.1 1111x 3306\r\n", None),
            ("PROXY TCP4 192.0.2.7\r\n", None),
            ("PROXY TCP4 2001:db8::7 ::1 1111 3306\r\n", None),
            ("PROXY TCP6 192.0.2.7 10.0.0.1 1111 3306\r\n", None),
            ("PROXY TCP6 fe80::1%lo ::1 1111 3306\r\n", None),
            ("PROXY TCP5 192.0.2.7 10.0.0.1 1111 3306\r\n", None),
            ("PROXY tcp4 192.0.2.7 10.0.0.1 1111 3306\r\n", None),
            ("PROXY TCP4 192.0.2.7\0 10.0.0.1 1111 3306\r\n", None),
            ("PROXY\r\n", None),
            ("PROXI TCP4 192.0.2.7 10.0.0.1 1111 3306\r\n", None),
        ] {
            assert_eq!(source(line.as_bytes()), expected, "{line:?}");
        }
        assert_eq!(source(b"PROXY TCP4 \xff 10.0.0.1 1111 3306\r\n"), None);
    }

    #[test]
    fn version_2() {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 4, 87, 12, 234];
        for (command, family, block, expected) in [
            (0x21, 0x11, &v4[..], Some(address("192.0.2.7"))),
            (0x21, 0x11, &[&v4[..], b"\x04\0\x03abc"].concat(), Some(address("192.0.2.7"))),
            (0x21, 0x11, &[&v4[..], &[0; 228]].concat(), Some(address("192.0.2.7"))),
            (0x21, 0x11, &[&v4[..], &[0; 229]].concat(), None),
            (0x21, 0x11, &v4[..11], None),
            (0x21, 0x21, &v6("2001:db8::7"), Some(address("2001:db8::7"))),
            (0x21, 0x21, &v6("::ffff:192.0.2.7"), Some(address("192.0.2.7"))),
            (0x21, 0x21, &v6("2001:db8::7")[..35], None),
            (0x21, 0x31, &[0; 216], Some(Source::Socket)),
            (0x20, 0x11, &v4, Some(Source::Proxy)),
            (0x20, 0x00, b"", Some(Source::Proxy)),
            (0x20, 0x99, b"xyz", Some(Source::Proxy)),
            (0x21, 0x00, b"", None),
            (0x21, 0x12, &v4, None),
            (0x11, 0x11, &v4, None),
            (0x22, 0x11, &v4, None),
        ] {
            assert_eq!(source(&v2(command, family, block)), expected, "{command:x} {family:x} {}", block.len());
        }
        assert_eq!(read(b"\r\n\r\n\0\r\nQUIX\n\x20\0\0\0"), Header::Malformed);
    }

    #[test]
    fn a_header_that_never_ends_is_not_waited_for() {
        let endless = [b"PROXY TCP4 192.0.2.7 10.0.0.1 1111 3306".as_slice(), &[b' '; 1000]].concat();
        for length in 4..MAX_HEADER - 1 {
            assert_eq!(read(&endless[..length]), Header::Part);
        }
        // As mariadbd: what there is by then counts.
        let whole = Header::Whole { length: MAX_HEADER - 1, source: address("192.0.2.7") };
        assert_eq!(read(&endless), whole);
        assert_eq!(read(&[b"PROX".as_slice(), &[b'x'; 1000]].concat()), Header::Malformed);
        assert_eq!(read(&v2(0x21, 0x11, &[0; 241])[..16]), Header::Malformed);
    }

    #[test]
    fn packets_are_no_headers() {
        for packet in [&b"\x20\0\0\x01"[..], b"\x01\0\0\x01", b"x", b"PROD", b"\r\n\r\x01", b"\r\n\r\x01\0\r\nQUIT\n"] {
            assert_eq!(read(packet), Header::None, "{}", packet.escape_ascii());
        }
    }

    /// As mariadbd takes them.
    #[test]
    fn networks() {
        let v4 = Some("127.0.0.1".parse().unwrap());
        let v6 = Some("::1".parse().unwrap());
        for (value, expected) in [
            ("", [false, false, false]),
            (",", [false, false, false]),
            ("*", [true, true, true]),
            ("localhost", [false, false, true]),
            ("127.0.0.1 , ::1", [true, true, false]),
            ("10.0.0.0/8,127.0.0.9/8", [true, false, false]),
            ("127.0.0.1/0", [true, false, false]),
            ("127.0.0.1/08", [true, false, false]),
            ("::/0", [false, true, false]),
            ("::ffff:127.0.0.1", [true, false, false]),
            ("::ffff:127.0.0.0/104", [true, false, false]),
            ("::ffff:0:0/96", [true, false, false]),
            ("::127.0.0.1", [true, false, false]),
            ("10.0.0.0/8", [false, false, false]),
        ] {
            let networks: ProxyNetworks = value.parse().unwrap();
            assert_eq!([v4, v6, None].map(|address| networks.contain(address)), expected, "{value}");
            assert_eq!(networks.to_string(), value);
        }
        for value in [
            "*,::1",
            "LOCALHOST",
            "127.1",
            "127.0.0.1/",
            "127.0.0.1/33",
            "127.0.0.1/+8",
            "127.0.0.1/255.0.0.0",
            "::1/129",
            "::ffff:127.0.0.1/95",
            "localhost/8",
            "db1",
        ] {
            let entry = value.split(',').next().unwrap();
            let error = value.parse::<ProxyNetworks>().unwrap_err();
            assert!(error.starts_with(&format!("'{entry}' is not")), "{error}");
        }
        assert!("1.2.3.4,".repeat(513).parse::<ProxyNetworks>().unwrap_err().contains("at most 4096"));
    }
}
