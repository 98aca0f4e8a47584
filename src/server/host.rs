//! What the server offers us, as safe functions.
//!
//! `lifecycle` refuses to start on a server that lacks one of the functions below, so from then on each may be called.

use std::ffi::{CStr, CString, c_char, c_int};
use std::net::IpAddr;
use std::os::fd::RawFd;

use super::extra_ports;
use crate::sys;
use failover::{Connection, ThisServer, Transport, WayIn, client_address};

pub(super) use crate::sys::ifo_feature as Feature;
pub(super) use crate::sys::ifo_severity as Severity;

/// `ER_WRONG_VALUE_FOR_VAR`: SET GLOBAL was given a value the variable cannot have.
pub(super) const ER_WRONG_VALUE_FOR_VAR: u32 = 1231;
/// `ER_UNKNOWN_ERROR`: what MariaDB uses for a warning without a number.
pub(super) const ER_UNKNOWN_ERROR: u32 = 1105;

/// Raises an error in the current session. The first one wins.
pub(super) fn error(code: u32, text: &CStr) {
    // SAFETY: text ends with NUL and is copied during the call.
    unsafe { sys::ifo_c_error(code, text.as_ptr()) }
}

/// Adds a warning to those of the current statement.
pub(super) fn warning(text: &str) {
    // SAFETY: as for error().
    unsafe { sys::ifo_c_warning(Severity::IFO_WARNING, ER_UNKNOWN_ERROR, c_string(text).as_ptr()) }
}

/// Adds a note to the warnings of the current statement.
pub(super) fn note(text: &str) {
    // SAFETY: as for error().
    unsafe { sys::ifo_c_warning(Severity::IFO_NOTE, ER_UNKNOWN_ERROR, c_string(text).as_ptr()) }
}

/// Writes a line to the error log.
pub(super) fn log(severity: Severity, text: &str) {
    // SAFETY: as for error().
    unsafe { sys::ifo_c_log(severity, c_string(text).as_ptr()) }
}

/// Whether this server lacks a function that we cannot do without, or there is no server around us.
pub(super) fn is_anything_missing() -> bool {
    // SAFETY: may be called in any process.
    !unsafe { sys::ifo_c_missing_export() }.is_null()
}

/// Writes an error to the error log; does nothing where there is no server around us.
pub(crate) fn log_if_server(text: &str) {
    if !is_anything_missing() {
        log(Severity::IFO_ERROR, text);
    }
}

/// Writes a line to the error log, and adds it to the warnings of the session that is installing the plugin.
pub(super) fn report(severity: Severity, text: &str) {
    log(severity, text);
    if has_session() {
        warning(text);
    }
}

/// A string for C. None of ours has a NUL in it; if one had, it would end there.
pub(super) fn c_string(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

/// The statement that the current session is executing, unique in the lifetime of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Statement(u64, i64);

impl Statement {
    /// The session that executes it: its connection id, which no other has in the lifetime of this server.
    pub(super) const fn session(self) -> u64 {
        self.0
    }
}

/// The current session's statement. For a login it is the same as long as that one attempt lasts.
pub(super) fn statement() -> Statement {
    // SAFETY: called from callbacks that the server makes for a session only.
    let statement = unsafe { sys::ifo_c_statement() };
    Statement(statement.thread_id, statement.query_id)
}

/// Whether this thread serves a session; at start-up and shutdown it does not.
pub(super) fn has_session() -> bool {
    // SAFETY: no arguments.
    unsafe { sys::ifo_c_has_session() != 0 }
}

/// The current session, for the log: `'user'@'host' (connection 5)`; nothing at start-up.
pub(super) fn session() -> Option<String> {
    if !has_session() {
        return None;
    }
    // SAFETY: there is a session; its strings live at least as long as the statement, and are copied here.
    let (user, host) = unsafe { (text(sys::ifo_c_session_user()), text(sys::ifo_c_session_host())) };
    Some(format!("'{user}'@'{host}' (connection {})", statement().0))
}

/// # Safety
/// `string` is NULL, or ends with NUL and stays as it is during the call.
unsafe fn text(string: *const c_char) -> String {
    // SAFETY: the caller's promise.
    if string.is_null() { String::new() } else { unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned() }
}

/// Calls `act` with the user of the current session.
pub(super) fn with_user(act: impl FnOnce(&[u8])) {
    // SAFETY: called for a session only; the string lives as long as its user stays the same, which this thread would change.
    act(unsafe { bytes(sys::ifo_c_session_user()) });
}

/// Whether the client that is logging in has sent its user name. From then on TLS is in place, too.
pub(super) fn account_is_known() -> bool {
    // SAFETY: called from a login only, where there is a session.
    !unsafe { sys::ifo_c_session_user() }.is_null()
}

/// A login, as the server knows it.
pub(super) struct Login {
    raw: sys::ifo_connection,
}

impl Login {
    /// # Safety
    /// `vio` is the channel of the login that the current session is making. The value must not outlive the call of
    /// the plugin that it was made in: it points to strings of the session.
    pub(super) unsafe fn of(vio: *mut sys::MYSQL_PLUGIN_VIO) -> Self {
        // SAFETY: the caller's promise.
        Self { raw: unsafe { sys::ifo_c_connection(vio) } }
    }

    /// Whether an open session changes its user.
    pub(super) fn is_change_user(&self) -> bool {
        self.raw.is_change_user != 0
    }

    /// What the policy needs to know.
    pub(super) fn connection(&self) -> Connection<'_> {
        let transport = transport(self.is_tcp(), self.socket());
        Connection { transport, user: self.user(), address: address(self.ip()) }
    }

    pub(super) const fn is_tcp(&self) -> bool {
        self.raw.is_tcp != 0
    }

    /// The user that the client has named.
    pub(super) fn user(&self) -> &[u8] {
        // SAFETY: of() was promised that the string lives as long as self.
        unsafe { bytes(self.raw.user) }
    }

    /// The client's address as text; empty for a Unix socket.
    pub(super) fn ip(&self) -> &[u8] {
        // SAFETY: as for user().
        unsafe { bytes(self.raw.ip) }
    }

    /// The connection id of its session.
    pub(super) const fn session_id(&self) -> u64 {
        self.raw.session_id
    }

    /// Its session.
    pub(super) const fn session(&self) -> Thd {
        self.raw.session
    }

    /// The descriptor of the connection. It is open as long as the session lasts.
    pub(super) const fn socket(&self) -> RawFd {
        self.raw.socket
    }
}

/// # Safety
/// `string` is NULL, or ends with NUL and stays as it is while the result is used.
unsafe fn bytes<'a>(string: *const c_char) -> &'a [u8] {
    // SAFETY: the caller's promise.
    if string.is_null() { &[] } else { unsafe { CStr::from_ptr(string) }.to_bytes() }
}

/// How a connection reached the server.
pub(super) fn transport(is_tcp: bool, socket: RawFd) -> Transport {
    if is_tcp { Transport::Tcp { extra: extra_ports::is_extra(socket) } } else { Transport::Local }
}

/// The address of a client, from the text that the server has.
pub(super) fn address(ip: &[u8]) -> Option<IpAddr> {
    client_address(str::from_utf8(ip).ok()?)
}

/// The name of a function or variable that a feature needs and this server does not export.
pub(super) fn missing_for(feature: Feature) -> Option<&'static str> {
    // SAFETY: may be called on any server; the result is a constant of the shim.
    unsafe {
        let missing = sys::ifo_c_missing_for(feature);
        (!missing.is_null()).then(|| CStr::from_ptr(missing).to_str().unwrap_or_default())
    }
}

/// A wait of the current session, for which a pool of threads starts another thread. Only where [`missing_for`] any feature is
/// `None`.
pub(super) struct Wait(());

impl Wait {
    pub(super) fn begin() -> Self {
        // SAFETY: called for a session, on a server that has the function.
        unsafe { sys::ifo_c_wait_begin() };
        Self(())
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        // SAFETY: as in begin().
        unsafe { sys::ifo_c_wait_end() };
    }
}

/// What stands for the current session in the State column of the processlist. Only where [`missing_for`] HOLD is `None`.
pub(super) struct Shown {
    before: *const c_char,
}

impl Shown {
    pub(super) fn as_state(state: &'static CStr) -> Self {
        // SAFETY: called for a session, on a server that has the function.
        Self { before: unsafe { sys::ifo_c_set_state(state.as_ptr()) } }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        // SAFETY: as in as_state().
        unsafe { sys::ifo_c_set_state(self.before) };
    }
}

/// Whether the current session has been killed. Only where [`missing_for`] HOLD is `None`, as for the next two.
pub(super) fn is_killed() -> bool {
    // SAFETY: called for a session, on a server that has this.
    unsafe { sys::ifo_c_is_killed() != 0 }
}

/// Whether the server is shutting down.
pub(super) fn is_shutting_down() -> bool {
    // SAFETY: on a server that has this.
    unsafe { sys::ifo_c_is_shutting_down() != 0 }
}

/// How many connections the server serves at the same time.
pub(super) fn max_connections() -> u64 {
    // SAFETY: on a server that has this.
    unsafe { sys::ifo_c_max_connections() }
}

/// Whether the server runs sessions in a pool of threads.
pub(super) fn has_thread_pool() -> bool {
    // SAFETY: may be called on any server.
    unsafe { sys::ifo_c_has_thread_pool() != 0 }
}

/// This thread, if it serves the session of this login and nobody else meanwhile. In a pool of threads only sessions of the
/// extra port have a thread of their own.
pub(super) fn own_thread(login: &Login) -> Option<libc::pid_t> {
    if has_thread_pool() && transport(login.is_tcp(), login.socket()).way_in() != WayIn::ExtraPort {
        return None;
    }
    // SAFETY: no arguments. Not gettid(), which is a function since glibc 2.30 only.
    unsafe { libc::syscall(libc::SYS_gettid) }.try_into().ok()
}

/// A session of the server. It may be another thread's, and may have ended: then it must not be looked at.
pub(super) type Thd = sys::MYSQL_THD;

/// What the current session is doing. All zeros if there is none. Only where [`missing_for`] a drain is `None`.
pub(super) fn activity() -> sys::ifo_activity {
    // SAFETY: on a server that has this.
    unsafe { sys::ifo_c_activity() }
}

/// When the current session began its last command: another number after each command. Only where [`missing_for`] a drain is `None`.
pub(super) fn last_command() -> u64 {
    // SAFETY: called for a session, on a server that has this.
    unsafe { sys::ifo_c_last_command() }
}

/// What can be seen of a session in another thread.
///
/// # Safety
/// The session is alive during the call, and [`missing_for`] a drain is `None`.
pub(super) unsafe fn glance(session: Thd) -> sys::ifo_glance {
    // SAFETY: the caller's promise.
    unsafe { sys::ifo_c_glance(session) }
}

/// Whether a session in another thread has a transaction that began by itself.
///
/// # Safety
/// As for [`glance`]; and it executes no command, and begins none during the call.
pub(super) unsafe fn has_implicit_transaction(session: Thd) -> bool {
    // SAFETY: the caller's promise.
    unsafe { sys::ifo_c_has_implicit_transaction(session) != 0 }
}

/// The port of the option `extra_port`, if it is set.
pub(super) fn extra_port() -> Option<u16> {
    // SAFETY: a variable of the server that is set before plugins are loaded and never again.
    u16::try_from(unsafe { sys::ifo_c_extra_port() }).ok().filter(|&port| port != 0)
}

fn presence(plugin: &CStr, kind: c_int) -> sys::ifo_presence {
    // SAFETY: it ends with NUL. The server locks its list of plugins neither while it calls one, nor while a variable is
    // set; it takes the lock of the variables first, as we do.
    unsafe { sys::ifo_c_presence(plugin.as_ptr(), kind) }
}

/// Whether the server has an authentication plugin of this name, working or not. True on a server that does not tell.
pub(super) fn is_installed(name: &CStr) -> bool {
    presence(name, sys::MYSQL_AUTHENTICATION_PLUGIN) != sys::ifo_presence::IFO_ABSENT
}

/// Whether the server is installing or removing this plugin. It may have postponed the removal until the last session that
/// uses the plugin ends, and no variable is left to turn the redirect off. False on a server that does not tell.
pub(super) fn is_between() -> bool {
    presence(super::declaration::NAME, sys::MYSQL_AUTHENTICATION_PLUGIN) != sys::ifo_presence::IFO_READY
}

/// Whether sessions can send events to the other plugin of the library: it is installed, and not being removed.
pub(super) fn sends_events() -> bool {
    presence(super::declaration::SESSIONS, sys::MYSQL_AUDIT_PLUGIN) == sys::ifo_presence::IFO_READY
}

/// What identifies this server.
pub(super) fn this_server() -> ThisServer {
    // SAFETY: as for extra_port(). The server sets its default port only after loading plugins.
    let port = u16::try_from(unsafe { sys::ifo_c_port() }).ok().filter(|&port| port != 0);
    // SAFETY: a buffer of the server that is filled before plugins are loaded and ends with NUL.
    let name = unsafe { text(sys::ifo_c_hostname()) };
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let addresses = interfaces.iter().map(if_addrs::Interface::ip);
    ThisServer::new(port.unwrap_or(failover::DEFAULT_PORT), extra_port(), name, addresses)
}
