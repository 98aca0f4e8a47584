//! What a client sends to log in: the first packet after the greeting, and `COM_CHANGE_USER`.
//!
//! Both are read as mariadbd reads them, as lenient and as strict. The reader is that of `mysql_common`, but not its packets:
//! they do not support clients older than 4.1, and collect the connect attributes, which are not needed here, in a map.
//!
//! See <https://mariadb.com/kb/en/connection/#client-handshake-response> and <https://mariadb.com/kb/en/com_change_user/>.

use std::borrow::Cow;

use mysql_common::constants::CapabilityFlags;
use mysql_common::io::ParseBuf;

use super::packet::NATIVE_PASSWORD;

/// The number of characters that MariaDB keeps of a user name.
const MAX_USER: usize = 128;

/// A malformed packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The first packet of a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First<'a> {
    /// A request for TLS; the login follows over TLS.
    Tls(CapabilityFlags),
    /// A login.
    Login(Login<'a>),
}

/// The contents of a login.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Login<'a> {
    /// The capabilities that both sides have.
    pub(super) capabilities: CapabilityFlags,
    /// The low byte of the id of the client's collation.
    pub(super) collation: u8,
    pub(super) user: Cow<'a, str>,
    /// The reply of its authentication plugin.
    pub(super) reply: &'a [u8],
    /// Whether `reply` comes from [`NATIVE_PASSWORD`].
    pub(super) native: bool,
    pub(super) database: Option<Cow<'a, str>>,
}

/// Reads the first packet, or with `tls` the first one over TLS: then the capabilities are those of the request for TLS.
pub(super) fn first(
    packet: &[u8],
    server: CapabilityFlags,
    tls: Option<CapabilityFlags>,
) -> Result<First<'_>, Malformed> {
    let capabilities = match tls {
        Some(capabilities) => capabilities,
        None => server & client_capabilities(packet)?,
    };
    if tls.is_none() && capabilities.contains(CapabilityFlags::CLIENT_SSL) {
        return Ok(First::Tls(capabilities));
    }
    // Capabilities, maximum packet length, character set, filler; before 4.1 only the first two, and shorter.
    let fixed = if capabilities.contains(CapabilityFlags::CLIENT_PROTOCOL_41) { 32 } else { 5 };
    let mut rest = ParseBuf(packet);
    let collation = match rest.checked_eat(fixed).ok_or(Malformed)? {
        [_, _, _, _, _, _, _, _, collation, ..] => *collation,
        // Before 4.1, the server's collation.
        _ => 0,
    };
    let user = null_terminated(&mut rest).ok_or(Malformed)?;
    let reply = if !capabilities.contains(CapabilityFlags::CLIENT_SECURE_CONNECTION) {
        rest.eat_null_str()
    } else if capabilities.contains(CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA) {
        length_encoded(&mut rest).ok_or(Malformed)?
    } else {
        rest.checked_eat_u8_str().ok_or(Malformed)?
    };
    let database = if capabilities.contains(CapabilityFlags::CLIENT_CONNECT_WITH_DB) {
        if rest.is_empty() {
            return Err(Malformed);
        }
        Some(String::from_utf8_lossy(rest.eat_null_str()))
    } else {
        None
    };
    // Some clients set the flag for a plugin but name none.
    let plugin =
        (capabilities.contains(CapabilityFlags::CLIENT_PLUGIN_AUTH) && !rest.is_empty()).then(|| rest.eat_null_str());
    attributes(&mut rest, capabilities)?;
    Ok(First::Login(Login {
        capabilities,
        collation,
        user: user_name(user),
        reply,
        native: is_native(plugin, reply, capabilities),
        database: database.filter(|name| !name.is_empty()),
    }))
}

/// Reads `COM_CHANGE_USER` without its first byte.
pub(super) fn change_user(packet: &[u8], capabilities: CapabilityFlags) -> Result<Login<'_>, Malformed> {
    let mut rest = ParseBuf(packet);
    let user = null_terminated(&mut rest).ok_or(Malformed)?;
    let reply = if capabilities.contains(CapabilityFlags::CLIENT_SECURE_CONNECTION) {
        rest.checked_eat_u8_str().ok_or(Malformed)?
    } else {
        rest.eat_null_str()
    };
    let database = null_terminated(&mut rest).ok_or(Malformed)?;
    let collation = rest.checked_eat(2.min(rest.len())).ok_or(Malformed)?.first().copied().unwrap_or_default();
    let plugin = if capabilities.contains(CapabilityFlags::CLIENT_PLUGIN_AUTH) {
        if rest.is_empty() {
            return Err(Malformed);
        }
        Some(rest.eat_null_str())
    } else {
        None
    };
    attributes(&mut rest, capabilities)?;
    Ok(Login {
        capabilities,
        collation,
        user: user_name(user),
        reply,
        native: is_native(plugin, reply, capabilities),
        database: Some(String::from_utf8_lossy(database)).filter(|name| !name.is_empty()),
    })
}

/// The client's capabilities; those beyond the first two bytes exist since 4.1.
fn client_capabilities(packet: &[u8]) -> Result<CapabilityFlags, Malformed> {
    let low = ParseBuf(packet).checked_eat_u16_le().ok_or(Malformed)?;
    let low = CapabilityFlags::from_bits_retain(low.into());
    if !low.contains(CapabilityFlags::CLIENT_PROTOCOL_41) {
        return Ok(low);
    }
    if packet.len() < 32 {
        return Err(Malformed);
    }
    ParseBuf(packet).checked_eat_u32_le().map(CapabilityFlags::from_bits_retain).ok_or(Malformed)
}

/// A string up to its terminating zero, which is required.
fn null_terminated<'a>(rest: &mut ParseBuf<'a>) -> Option<&'a [u8]> {
    rest.0.contains(&0).then(|| rest.eat_null_str())
}

/// A string after its length, which must be a number: neither NULL (0xfb) nor an error (0xff).
fn length_encoded<'a>(rest: &mut ParseBuf<'a>) -> Option<&'a [u8]> {
    match rest.0.first() {
        Some(0xfb | 0xff) => None,
        _ => rest.checked_eat_lenenc_str(),
    }
}

/// Skips the connect attributes, which must be complete.
fn attributes(rest: &mut ParseBuf<'_>, capabilities: CapabilityFlags) -> Result<(), Malformed> {
    if capabilities.contains(CapabilityFlags::CLIENT_CONNECT_ATTRS) {
        length_encoded(rest).ok_or(Malformed)?;
    }
    Ok(())
}

/// Whether the reply is that of [`NATIVE_PASSWORD`], which clients without plugin support use too. This server cannot check
/// the reply of a client older than 4.1, but an empty password is the same in all versions.
fn is_native(plugin: Option<&[u8]>, reply: &[u8], capabilities: CapabilityFlags) -> bool {
    if capabilities.contains(CapabilityFlags::CLIENT_SECURE_CONNECTION) {
        plugin.is_none_or(|plugin| plugin.eq_ignore_ascii_case(NATIVE_PASSWORD))
    } else {
        reply.is_empty() && !capabilities.contains(CapabilityFlags::CLIENT_PLUGIN_AUTH)
    }
}

/// The user name as mariadbd takes it: without the quotes around it, and truncated.
fn user_name(bytes: &[u8]) -> Cow<'_, str> {
    let bytes = match bytes {
        [b'\'', inner @ .., b'\''] => inner,
        bytes => bytes,
    };
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(name) => Cow::Borrowed(clipped(name)),
        Cow::Owned(name) => Cow::Owned(clipped(&name).to_owned()),
    }
}

fn clipped(name: &str) -> &str {
    name.char_indices().nth(MAX_USER).map_or(name, |(end, _)| &name[..end])
}

#[cfg(test)]
mod tests {
    use super::{CapabilityFlags as C, First, Login, Malformed, change_user, first};

    const SERVER: C = C::all().difference(C::CLIENT_SSL);
    const MODERN: C = C::CLIENT_PROTOCOL_41.union(C::CLIENT_SECURE_CONNECTION).union(C::CLIENT_PLUGIN_AUTH);

    fn packet(capabilities: C, rest: &[u8]) -> Vec<u8> {
        [&capabilities.bits().to_le_bytes()[..], &[0, 0, 0, 1, 45], &[0; 23], rest].concat()
    }

    fn login(packet: &[u8]) -> Result<Login<'_>, Malformed> {
        match first(packet, SERVER, None)? {
            First::Login(login) => Ok(login),
            First::Tls(_) => panic!("asks for TLS"),
        }
    }

    /// Each as observed with mariadbd 10.11.
    #[test]
    fn flavours() {
        let lenenc = C::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA;
        let without_plugin = MODERN - C::CLIENT_PLUGIN_AUTH;
        let old_password = MODERN - C::CLIENT_SECURE_CONNECTION;
        for (capabilities, rest, expected) in [
            (MODERN, &b"app\0\x03abcmysql_native_password\0"[..], Some(("app", &b"abc"[..], true, None))),
            (MODERN, b"app\0\x03abcMYSQL_NATIVE_PASSWORD", Some(("app", b"abc", true, None))),
            (MODERN, b"app\0\x03abccaching_sha2_password\0", Some(("app", b"abc", false, None))),
            (MODERN, b"app\0\x03abc", Some(("app", b"abc", true, None))),
            (MODERN, b"app\0\x03abcmysql_native_password\0junk", Some(("app", b"abc", true, None))),
            (MODERN, b"\0\0", Some(("", b"", true, None))),
            (MODERN, b"'app'\0\0", Some(("app", b"", true, None))),
            (MODERN, b"'\0\0", Some(("'", b"", true, None))),
            (MODERN, b"app", None),
            (MODERN, b"app\0", None),
            (MODERN, b"app\0\x04abc", None),
            (MODERN | C::CLIENT_CONNECT_WITH_DB, b"app\0\0db\0", Some(("app", b"", true, Some("db")))),
            (MODERN | C::CLIENT_CONNECT_WITH_DB, b"app\0\0\0", Some(("app", b"", true, None))),
            (MODERN | C::CLIENT_CONNECT_WITH_DB, b"app\0\0", None),
            (MODERN | lenenc, b"app\0\xfc\x03\0abcmysql_native_password\0", Some(("app", b"abc", true, None))),
            (MODERN | lenenc, b"app\0\xfb", None),
            (MODERN | lenenc, b"app\0\xff", None),
            (MODERN | lenenc, b"app\0\xfe\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (MODERN | C::CLIENT_CONNECT_ATTRS, b"app\0\0x\0\x03\x01a", None),
            (MODERN | C::CLIENT_CONNECT_ATTRS, b"app\0\0x\0", None),
            (MODERN | C::CLIENT_CONNECT_ATTRS, b"app\0\0x\0\x04\x01a\x01b", Some(("app", b"", false, None))),
            (without_plugin, b"app\0\x03abc", Some(("app", b"abc", true, None))),
            (old_password, b"app\0abc\0", Some(("app", b"abc", false, None))),
            (old_password - C::CLIENT_PLUGIN_AUTH, b"app\0abc\0", Some(("app", b"abc", false, None))),
            (old_password - C::CLIENT_PLUGIN_AUTH, b"app\0", Some(("app", b"", true, None))),
        ] {
            let packet = packet(capabilities, rest);
            let read = login(&packet);
            let read = read.as_ref().ok().map(|l| (&*l.user, l.reply, l.native, l.database.as_deref()));
            assert_eq!(read, expected, "{capabilities:?} {}", rest.escape_ascii());
        }
    }

    #[test]
    fn clients_of_before_4_1() {
        let with_password = login(b"\x05\0\xff\xff\xffapp\0abcdefgh").unwrap();
        assert_eq!((&*with_password.user, with_password.reply, with_password.native), ("app", &b"abcdefgh"[..], false));
        let without = login(b"\x05\0\xff\xff\xffapp\0").unwrap();
        assert_eq!((&*without.user, without.reply, without.native), ("app", &b""[..], true));
        assert!(!without.capabilities.contains(C::CLIENT_PROTOCOL_41));
        for short in [&b""[..], b"\x05", b"\x05\0\xff\xff", b"\x05\0\xff\xff\xff", b"\x05\0\xff\xff\xffapp"] {
            assert_eq!(login(short), Err(Malformed), "{short:?}");
        }
    }

    #[test]
    fn tls_is_asked_for_once_and_decides_what_the_client_can_do() {
        let request = packet(MODERN | C::CLIENT_SSL, b"");
        let Ok(First::Tls(capabilities)) = first(&request, C::all(), None) else { panic!("no TLS") };
        assert_eq!(capabilities, MODERN | C::CLIENT_SSL);
        assert_eq!(first(&request[..31], C::all(), None), Err(Malformed));
        let response = packet(C::empty(), b"app\0\0mysql_native_password\0");
        let Ok(First::Login(login)) = first(&response, C::all(), Some(capabilities)) else { panic!("no login") };
        assert_eq!((&*login.user, login.capabilities), ("app", capabilities));
        // A server without TLS takes it for a login without a user.
        assert_eq!(first(&request, SERVER, None), Err(Malformed));
    }

    #[test]
    fn names_are_cut_as_mariadb_cuts_them() {
        let long = packet(MODERN, &["é".repeat(129).as_bytes(), b"\0\0"].concat());
        assert_eq!(login(&long).unwrap().user, "é".repeat(128));
        let latin1 = packet(MODERN, b"caf\xe9\0\0");
        assert_eq!(login(&latin1).unwrap().user, "caf\u{fffd}");
    }

    #[test]
    fn changing_the_user() {
        for (packet, expected) in [
            (&b"app\0\x02abdb\0-\0mysql_native_password\0"[..], Some(("app", &b"ab"[..], true, Some("db")))),
            (b"app\0\0\0-\0other\0", Some(("app", b"", false, None))),
            (b"app\0\0\0-\0", None),
            (b"app\0\0", None),
            (b"app\0\x09abc", None),
            (b"app", None),
            (b"", None),
        ] {
            let read = change_user(packet, MODERN);
            let read = read.as_ref().ok().map(|l| (&*l.user, l.reply, l.native, l.database.as_deref()));
            assert_eq!(read, expected, "{}", packet.escape_ascii());
        }
    }
}
