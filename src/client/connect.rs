//! Connecting, reconnecting and closing.

use std::ffi::{CStr, CString, OsString, c_char, c_int, c_uint, c_ulong, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::handle::{
    Address, CR_SSL_CONNECTION_ERROR, CR_UNKNOWN_ERROR, CR_UNKNOWN_HOST, ClientError, Handle, Kept, Login, Outcome,
    Phase, Protocol, UnderTls,
};
use super::url::Location;
use crate::boundary::{self, callback};
use crate::sys::{ifo_client_address, ifo_client_login, st_mysql};
use failover::{ER_INSTANT_FAILOVER, Follow, Host, Next, Peer, Program, Target, Trust, TrustError};

/// Whether redirects may be followed at all: the option `follow`.
static FOLLOW: AtomicBool = AtomicBool::new(true);

/// The environment variable that says whose redirects are followed. Empty is as not set.
const ENVIRONMENT: &str = "INSTANT_FAILOVER_FOLLOW";

/// Why a connection comes to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The host begins with `instant_failover://`.
    Url,
    /// The environment of the program says so for all its connections.
    ByDefault,
}

/// What Connector/C keeps of an error that a plugin sets.
const MAX_ERROR: usize = 510;

/// In the place of what does not fit.
const CUT: &[u8] = b"...";

callback! {
    /// `mysql_real_connect()` for a host that begins with `instant_failover://`; `host` is what follows.
    export fn ifo_rs_client_connect(
        mysql: *mut st_mysql,
        host: *const c_char,
        user: *const c_char,
        password: *const c_char,
        database: *const c_char,
        port: c_uint,
        unix_socket: *const c_char,
        flags: c_ulong
    ) -> *mut st_mysql {
        boundary::install_panic_hook();
        // SAFETY: Connector/C passes the handle and the strings of the program on, which last as long as this call.
        let (handle, login, host, unix_socket) = unsafe {
            let login = Login::new(ifo_client_login { user, password, database, flags });
            (Handle::new(mysql), login, string(host), string(unix_socket))
        };
        let Some(handle) = handle else { return ptr::null_mut() };
        let url = host.as_ref().map_or("", |host| host.to_str().unwrap_or("\u{fffd}"));
        match Location::parse(url) {
            Ok(location) => {
                let host = location.host.map(|host| CString::new(host).unwrap_or_default());
                let origin = Address { host, unix_socket, port: location.port.map_or(port, c_uint::from) };
                if connect(handle, &origin, &login) {
                    return mysql;
                }
            }
            Err(error) => handle.set_error(CR_UNKNOWN_HOST, c"HY000", error.to_string().as_bytes()),
        }
        ptr::null_mut()
    } on_panic {
        // SAFETY: as above.
        if let Some(handle) = unsafe { Handle::new(mysql) } {
            handle.set_error(CR_UNKNOWN_ERROR, c"HY000", b"Internal error in the instant_failover client plugin");
        }
        ptr::null_mut()
    }
}

/// # Safety
/// `text` is NULL, or ends with NUL and stays as it is during the call.
pub(super) unsafe fn string(text: *const c_char) -> Option<CString> {
    // SAFETY: the caller's promise.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_owned())
}

/// Connects to `origin`, and to where it sends us; whether the client is in. If not, the handle has the error.
fn connect(handle: Handle, origin: &Address, login: &Login) -> bool {
    if handle.is_connected() {
        // An error of the program, and no reason to touch the connection.
        return handle.connect_untouched(&origin.raw(), login);
    }
    let asked = handle.protocol();
    let connected = follow(handle, &origin.raw(), login, Way::Url) != Outcome::Failed;
    // The next connection begins at the origin again.
    handle.set_protocol(asked);
    if connected && !handle.keep(origin.clone(), Way::Url) {
        handle.set_out_of_memory();
    }
    connected
}

/// Connects to the place where the program begins, and to where it sends us. The caller restores the protocol that the program
/// asked for.
///
/// Nothing is allocated unless a server refuses the login: where there is no memory, Rust ends the process, and the memory would be
/// lost if the handle does not block, and is closed while it waits.
fn follow(handle: Handle, place: &ifo_client_address, login: &Login, way: Way) -> Outcome {
    if handle.connect_at(place, login) { Outcome::Direct } else { refused(handle, place, login, way) }
}

/// Connects to where it was sent when it tried to connect to `place`.
pub(super) fn refused(handle: Handle, place: &ifo_client_address, login: &Login, way: Way) -> Outcome {
    if handle.phase() != Phase::IFO_LOGGING_IN {
        return Outcome::Failed;
    }
    let trust = trust();
    if trust == Ok(Trust::Never) {
        return Outcome::Failed;
    }
    // SAFETY: the place lives as long as this call, also where it is the handle's own: a server has greeted, so its names are
    // others by now, and these were not freed.
    let origin = unsafe { Address::of(place) };
    let mut attempt = Follow::from(name(&handle.with_defaults(&origin)));
    // Whether a server so far was reached under TLS: then the next ones must be, too.
    let mut under_tls = false;
    loop {
        let error = handle.error();
        let peer = handle.peer();
        match error.phase {
            // No greeting: the server does not know yet who is there, and TLS is not in place. This is no redirect.
            Phase::IFO_CONNECTING => {
                add(handle, &error, None, &attempt);
                return Outcome::Failed;
            }
            // The error of a command that the program wanted to be sent at the start.
            Phase::IFO_IN_SESSION => return Outcome::Failed,
            Phase::IFO_LOGGING_IN => {}
        }
        if under_tls && !peer.tls && u32::from(error.code) == CR_SSL_CONNECTION_ERROR {
            refuse_plaintext(handle, &attempt);
            return Outcome::Failed;
        }
        if let Some(objection) = objection(handle, peer, &trust, way) {
            let is_redirect = attempt.clone().refused(error.code, &error.text) != Next::NoRedirect;
            add(handle, &error, is_redirect.then_some(objection), &attempt);
            return Outcome::Failed;
        }
        under_tls |= peer.tls;
        match attempt.refused(error.code, &error.text) {
            Next::GoTo(target) => {
                // `localhost` is a TCP address here, not this machine's Unix socket.
                handle.set_protocol(Protocol::tcp());
                let address = address(&target);
                if under_tls {
                    match handle.connect_under_tls(&address, login) {
                        UnderTls::Connected => return Outcome::Redirected(origin),
                        UnderTls::Failed => {}
                        // Connector/C has seen to it, unless a plugin logs in without a word.
                        UnderTls::InClear => {
                            refuse_plaintext(handle, &attempt);
                            return Outcome::Failed;
                        }
                    }
                } else if handle.connect(&address, login) {
                    return Outcome::Redirected(origin);
                }
            }
            Next::Stop(reason) => {
                handle.set_error(ER_INSTANT_FAILOVER.into(), c"HY000", reason.to_string().as_bytes());
                return Outcome::Failed;
            }
            Next::NoRedirect => {
                add(handle, &error, None, &attempt);
                return Outcome::Failed;
            }
        }
    }
}

/// Why a redirect from this server is not followed.
fn objection(handle: Handle, peer: Peer, trust: &Result<Trust, TrustError>, way: Way) -> Option<String> {
    let program = match way {
        Way::Url => Program::Application,
        Way::ByDefault => Program::of(handle.program().as_deref()),
    };
    if let Some(rule) = program.objection(environment().is_some()) {
        return Some(rule.to_string());
    }
    let trust = match trust {
        Ok(trust) => *trust,
        Err(error) => return Some(error.to_string()),
    };
    if let Some(distrust) = trust.objection(peer) {
        return Some(distrust.to_string());
    }
    // What counts is that it was verified. Does the redirect come from it at all?
    let is_by_proof = trust.objection(Peer { verified: false, ..peer }).is_some();
    (is_by_proof && !handle.was_read_by_packets()).then(|| {
        format!(
            "this Connector/C may have received it before TLS ({ENVIRONMENT}={trust}); connect with functions that block, or \
             {ENVIRONMENT}={}",
            Trust::Always
        )
    })
}

/// Adds to an error why the redirect in it is not followed, and the servers on the way.
fn add(handle: Handle, error: &ClientError, objection: Option<String>, attempt: &Follow) {
    let mut text = match objection {
        Some(objection) => with_note(&error.text, &format!(" (not followed: {objection})")),
        None => error.text.clone(),
    };
    if attempt.was_redirected() {
        text.extend(format!(" (redirected: {attempt})").bytes());
    }
    if text != error.text {
        handle.set_error(error.code.into(), &error.sqlstate, &text);
    }
}

/// The message of a redirect with a note behind it. If both do not fit, the message is cut, but not its target.
fn with_note(message: &[u8], note: &str) -> Vec<u8> {
    let (text, target) = message.split_at(message.iter().rposition(|&byte| byte == b'|').unwrap_or_default());
    let room = MAX_ERROR.saturating_sub(target.len() + note.len());
    if text.len() <= room {
        return [message, note.as_bytes()].concat();
    }
    let mut end = room.saturating_sub(CUT.len());
    // Not inside a character of UTF-8.
    while end > 0 && text[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    [&text[..end], CUT, target, note.as_bytes()].concat()
}

fn refuse_plaintext(handle: Handle, attempt: &Follow) {
    let text = format!(
        "SSL connection error: redirected from a server with TLS to one without; disable TLS to allow this (redirected: \
         {attempt})"
    );
    handle.set_error(CR_SSL_CONNECTION_ERROR, c"HY000", text.as_bytes());
}

/// Whose redirects this program follows now.
pub(super) fn trust() -> Result<Trust, TrustError> {
    if !FOLLOW.load(Ordering::Relaxed) {
        return Ok(Trust::Never);
    }
    match environment() {
        Some(value) => value.to_string_lossy().parse(),
        None => Ok(Trust::default()),
    }
}

fn environment() -> Option<OsString> {
    std::env::var_os(ENVIRONMENT).filter(|value| !value.is_empty())
}

/// The origin as the target of a redirect back to it would be written.
fn name(origin: &Address) -> String {
    let host = bracketed(origin);
    let port = if origin.port == 0 { u32::from(failover::DEFAULT_PORT) } else { origin.port };
    match host.as_str() {
        "" => format!("localhost:{port}"),
        _ if host.contains(',') => host,
        _ => format!("{host}:{port}"),
    }
}

/// The host as a URL has it; empty for the default.
fn bracketed(origin: &Address) -> String {
    let host = origin.host.as_deref().map(CStr::to_string_lossy).unwrap_or_default();
    if host.contains(':') && !host.contains(',') { format!("[{host}]") } else { host.into_owned() }
}

fn address(target: &Target) -> Address {
    let host = match target.host() {
        Host::Name(name) => name.clone(),
        Host::V4(address) => address.to_string(),
        Host::V6(address) => address.to_string(),
    };
    Address { host: CString::new(host).ok(), unix_socket: None, port: target.port().into() }
}

callback! {
    /// The connection is lost, and the program asked for another in its place: it begins at the origin again.
    export fn ifo_rs_client_reconnect(mysql: *mut st_mysql) -> c_char {
        // SAFETY: Connector/C passes its handle.
        let Some(handle) = (unsafe { Handle::new(mysql) }) else { return 1 };
        let Some(Kept { origin, way }) = handle.kept() else { return 1 };
        let host = match way {
            // The port stays beside the URL: 0 stands for the default of the program's configuration.
            Way::Url => CString::new(format!("instant_failover://{}", bracketed(&origin))).ok(),
            Way::ByDefault => origin.host.clone(),
        };
        let address = Address { host, ..origin };
        c_char::from(!handle.reconnect(&address))
    } on_panic {
        1
    }
}

callback! {
    export fn ifo_rs_client_close(mysql: *mut st_mysql) {
        // SAFETY: Connector/C passes its handle.
        if let Some(handle) = unsafe { Handle::new(mysql) } {
            handle.forget();
        }
    } on_panic {}
}

callback! {
    /// The function `options` of the plugin that `mysql_client_find_plugin()` gives a program: 0 if the option is known. The
    /// one there is is `follow`, for all connections of the process; its value is a `my_bool`.
    export fn ifo_rs_client_options(option: *const c_char, value: *const c_void) -> c_int {
        // SAFETY: the program passes a string that ends with NUL.
        if unsafe { string(option) }.as_deref() != Some(c"follow") || value.is_null() {
            return 1;
        }
        // SAFETY: the value of this option is a my_bool, one byte.
        FOLLOW.store(unsafe { value.cast::<u8>().read() } != 0, Ordering::Relaxed);
        0
    } on_panic {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, CString, MAX_ERROR, bracketed, name, with_note};

    #[test]
    fn a_note_is_read_whole_and_so_is_the_target() {
        assert_eq!(with_note(b"|Go there.|db2", " (why)"), b"|Go there.|db2 (why)");
        for text in ["x".repeat(500), "\u{e9}".repeat(250)] {
            let noted = String::from_utf8(with_note(format!("|{text}|db2").as_bytes(), " (why)")).unwrap();
            assert!((MAX_ERROR - 1..=MAX_ERROR).contains(&noted.len()), "{}", noted.len());
            assert!(noted.starts_with(&format!("|{}", &text[..400])) && noted.ends_with("...|db2 (why)"), "{noted}");
        }
    }

    #[test]
    fn origins() {
        for (host, port, url, shown) in [
            (Some("db1"), 3307, "db1", "db1:3307"),
            (Some("db1"), 0, "db1", "db1:3306"),
            (Some("::1"), 3307, "[::1]", "[::1]:3307"),
            (Some("db1:1,[::1]:2"), 3307, "db1:1,[::1]:2", "db1:1,[::1]:2"),
            (None, 0, "", "localhost:3306"),
        ] {
            let origin = Address { host: host.map(|host| CString::new(host).unwrap()), unix_socket: None, port };
            assert_eq!((bracketed(&origin), name(&origin)), (url.to_owned(), shown.to_owned()));
        }
    }
}
