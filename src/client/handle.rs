//! A connection handle of Connector/C, as safe functions.

use std::ffi::{CStr, CString, c_char, c_uint};
use std::ptr::{self, NonNull};

use super::by_default::{self, Connect};
use super::connect::Way;
use super::declaration::declaration;
use crate::sys::{self, ifo_client_address, ifo_client_login, ifo_client_tls, st_mysql};
use failover::Peer;

pub(super) use crate::sys::ifo_client_phase as Phase;

/// `CR_UNKNOWN_ERROR`.
pub(super) const CR_UNKNOWN_ERROR: u32 = 2000;
/// `CR_UNKNOWN_MYSQL_HOST`.
pub(super) const CR_UNKNOWN_HOST: u32 = 2005;
/// `CR_CONN_UNKNOW_PROTOCOL`.
const CR_UNKNOWN_PROTOCOL: u16 = 2047;
/// `CR_SSL_CONNECTION_ERROR`.
pub(super) const CR_SSL_CONNECTION_ERROR: u32 = 2026;
/// `CR_OUT_OF_MEMORY`.
const CR_OUT_OF_MEMORY: u32 = 2008;

/// `MARIADB_TLS_VERIFY_FINGERPRINT`, a bit of a certificate's status.
const VERIFY_FINGERPRINT: c_uint = 4;

/// The handle of a call that Connector/C makes to us.
#[derive(Clone, Copy)]
pub(super) struct Handle(NonNull<st_mysql>);

/// Where to connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Address {
    /// A name, an address without brackets, or a list of hosts; none for the default.
    pub(super) host: Option<CString>,
    /// The Unix socket to use if the host is none or `localhost`.
    pub(super) unix_socket: Option<CString>,
    /// 0 for the default.
    pub(super) port: c_uint,
}

impl Address {
    /// A copy.
    ///
    /// # Safety
    /// The strings are NULL or end with NUL, and live as long as the call.
    pub(super) unsafe fn of(place: &ifo_client_address) -> Self {
        // SAFETY: the caller's promise.
        let copy = |text: *const c_char| (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_owned());
        Self { host: copy(place.host), unix_socket: copy(place.unix_socket), port: place.port }
    }

    /// Borrowed from self, for the length of a call.
    pub(super) fn raw(&self) -> ifo_client_address {
        let pointer = |string: &Option<CString>| string.as_deref().map_or(ptr::null(), CStr::as_ptr);
        ifo_client_address { host: pointer(&self.host), unix_socket: pointer(&self.unix_socket), port: self.port }
    }
}

/// The user, the password and so on, as the program passed them.
pub(super) struct Login(ifo_client_login);

impl Login {
    /// # Safety
    /// The strings are NULL or end with NUL, and live as long as the value.
    pub(super) const unsafe fn new(login: ifo_client_login) -> Self {
        Self(login)
    }
}

/// What came of an attempt to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The handle has the error.
    Failed,
    /// The client is in, on the server that it named.
    Direct,
    /// The client is in, on another server than this one, which it named.
    Redirected(Address),
}

/// What came of an attempt to connect that must be under TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnderTls {
    /// The handle has the error.
    Failed,
    /// The login was over, and TLS had not begun. The handle is not connected.
    InClear,
    Connected,
}

/// What [`Handle::keep`] stores.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) origin: Address,
    pub(super) way: Way,
}

/// Why a connection failed.
pub(super) struct ClientError {
    pub(super) code: u16,
    pub(super) text: Vec<u8>,
    pub(super) sqlstate: CString,
    /// How far the connection had come.
    pub(super) phase: Phase,
}

/// The value of `MYSQL_OPT_PROTOCOL`.
#[derive(Clone, Copy)]
pub(super) struct Protocol(c_uint);

impl Protocol {
    pub(super) fn tcp() -> Self {
        // SAFETY: a constant of Connector/C.
        Self(unsafe { sys::ifo_c_client_tcp() })
    }
}

impl Handle {
    /// # Safety
    /// `mysql` is a handle that this thread may use as long as the value lives.
    pub(super) const unsafe fn new(mysql: *mut st_mysql) -> Option<Self> {
        match NonNull::new(mysql) {
            Some(mysql) => Some(Self(mysql)),
            None => None,
        }
    }

    pub(super) const fn as_ptr(self) -> *mut st_mysql {
        self.0.as_ptr()
    }

    /// Connects as Connector/C does without a plugin; whether the client is in. The handle keeps its options.
    pub(super) fn connect(self, address: &Address, login: &Login) -> bool {
        self.connect_at(&address.raw(), login)
    }

    /// The same.
    pub(super) fn connect_at(self, place: &ifo_client_address, login: &Login) -> bool {
        let Some(original) = self.original() else { return false };
        // SAFETY: a handle, its function, and strings that outlive the call.
        unsafe { sys::ifo_c_client_try(self.as_ptr(), place, &raw const login.0, Some(original)) != 0 }
    }

    /// The same, and the handle is in every respect as after a call without us.
    pub(super) fn connect_untouched(self, place: &ifo_client_address, login: &Login) -> bool {
        let Some(original) = self.original() else { return false };
        // SAFETY: as in connect_at().
        unsafe { sys::ifo_c_client_connect(self.as_ptr(), place, &raw const login.0, Some(original)) != 0 }
    }

    /// Connector/C's function that connects it. If it is not known, the handle has an error.
    pub(super) fn original(self) -> Option<Connect> {
        // SAFETY: a handle.
        let (method, api) = unsafe { (sys::ifo_c_client_method(self.as_ptr()), sys::ifo_c_client_api(self.as_ptr())) };
        let original = method.and_then(|method| by_default::original(method, api));
        if original.is_none() {
            let text =
                b"instant_failover: this handle has the functions of an unknown Connector/C; unset LIBMYSQL_PLUGINS";
            self.set_error(CR_UNKNOWN_ERROR, c"HY000", text);
        }
        original
    }

    pub(super) fn is_connected(self) -> bool {
        // SAFETY: a handle.
        unsafe { sys::ifo_c_client_is_connected(self.as_ptr()) != 0 }
    }

    /// Whether TLS has begun on its connection: what counts where a server says that it can do TLS, and the login goes without.
    fn is_under_tls(self) -> bool {
        // SAFETY: a handle.
        unsafe { sys::ifo_c_client_is_under_tls(self.as_ptr()) != 0 }
    }

    /// Does with the options what Connector/C does when a connection fails.
    pub(super) fn drop_options(self, login: &Login) {
        // SAFETY: no arguments but numbers.
        let keeps = unsafe { sys::ifo_c_client_keeps_options(login.0.flags) != 0 };
        // It keeps them, too, where a call does not block, and if there is no such protocol.
        if keeps || self.is_async() || self.error().code == CR_UNKNOWN_PROTOCOL {
            return;
        }
        if self.is_ours() {
            self.forget();
            // SAFETY: a handle; what it had kept for the plugin is gone.
            unsafe { sys::ifo_c_client_detach(self.as_ptr()) };
        }
        // SAFETY: a handle that is not connected.
        unsafe { sys::ifo_c_client_drop_options(self.as_ptr()) }
    }

    /// Whether Connector/C calls a plugin for it.
    pub(super) fn has_plugin(self) -> bool {
        // SAFETY: a handle.
        unsafe { !sys::ifo_c_client_plugin(self.as_ptr()).is_null() }
    }

    /// Whether that plugin is ours.
    pub(super) fn is_ours(self) -> bool {
        // SAFETY: a handle.
        unsafe { ptr::eq(sys::ifo_c_client_plugin(self.as_ptr()), declaration().cast()) }
    }

    /// Makes it ours: we are called when it reconnects, and when it is closed. Without memory it stays as it is.
    pub(super) fn attach(self) {
        // SAFETY: a handle without a plugin.
        unsafe { sys::ifo_c_client_attach(self.as_ptr(), declaration()) };
    }

    /// The connect attribute `program_name`.
    pub(super) fn program(self) -> Option<String> {
        // SAFETY: a handle; NULL, or a string of its options, which is copied.
        unsafe {
            let name = sys::ifo_c_client_program(self.as_ptr());
            (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
        }
    }

    /// `address` with the host and the port of the option files that the program has had read, where it has none itself.
    pub(super) fn with_defaults(self, address: &Address) -> Address {
        // SAFETY: a handle.
        let default = unsafe { sys::ifo_c_client_default(self.as_ptr()) };
        // SAFETY: NULL, or a string of the handle's options, which is copied.
        let host = || (!default.host.is_null()).then(|| unsafe { CStr::from_ptr(default.host) }.to_owned());
        Address {
            host: address.host.clone().filter(|host| !host.is_empty()).or_else(host),
            unix_socket: address.unix_socket.clone(),
            port: if address.port == 0 { default.port } else { address.port },
        }
    }

    /// How far it has come.
    pub(super) fn phase(self) -> Phase {
        // SAFETY: a handle.
        unsafe { sys::ifo_c_client_error(self.as_ptr()) }.phase
    }

    /// The last error.
    pub(super) fn error(self) -> ClientError {
        // SAFETY: a handle; its strings end with NUL, and are copied before it is used again.
        let (error, bytes) = unsafe {
            let error = sys::ifo_c_client_error(self.as_ptr());
            (error, |text: *const c_char| CStr::from_ptr(text).to_owned())
        };
        ClientError {
            code: u16::try_from(error.code).unwrap_or_default(),
            text: bytes(error.text).into_bytes(),
            sqlstate: bytes(error.sqlstate),
            phase: error.phase,
        }
    }

    /// Sets the error that the program will see. Connector/C keeps 511 bytes of the text.
    pub(super) fn set_error(self, code: u32, sqlstate: &CStr, text: &[u8]) {
        let text = CString::new(text).unwrap_or_default();
        // SAFETY: a handle, and strings that are copied.
        unsafe { sys::ifo_c_client_set_error(self.as_ptr(), code, sqlstate.as_ptr(), text.as_ptr()) }
    }

    /// The same, to a server that must have TLS: one that does not offer it, or does not begin it, receives nothing.
    ///
    /// `MYSQL_OPT_SSL_ENFORCE` is not enough. Connector/C (every release since 3.0) logs in without TLS where the server has
    /// none, unless it has a certificate to compare with something. An empty fingerprint is something, and is not compared.
    ///
    /// Where it offers TLS, and has the client log in by a plugin that sends nothing, TLS does not begin. The connection is not
    /// used, and commands that Connector/C would send as part of the login are refused: then, too, it is [`UnderTls::InClear`].
    pub(super) fn connect_under_tls(self, address: &Address, login: &Login) -> UnderTls {
        let tls = self.tls();
        let has_condition = tls.verify != 0 || !tls.fingerprint.is_null() || !tls.fingerprint_list.is_null();
        if !has_condition && !self.set_fingerprint(Some(c"")) {
            self.set_out_of_memory();
            return UnderTls::Failed;
        }
        let came = self.connect_guarded(address, login);
        if !has_condition {
            self.set_fingerprint(None);
        }
        came
    }

    fn connect_guarded(self, address: &Address, login: &Login) -> UnderTls {
        // SAFETY: a handle.
        let plugin = unsafe { sys::ifo_c_client_plugin(self.as_ptr()) };
        // Commands by way of another plugin are its business.
        let is_guarded = plugin.is_null() || self.is_ours();
        // SAFETY: a handle with no plugin, or ours.
        if is_guarded && unsafe { sys::ifo_c_client_guard(self.as_ptr()) } != 0 {
            self.set_out_of_memory();
            return UnderTls::Failed;
        }
        let connected = self.connect(address, login);
        // SAFETY: a handle that is guarded, and the plugin that it had.
        let has_refused = is_guarded && unsafe { sys::ifo_c_client_unguard(self.as_ptr(), plugin) } != 0;
        if connected && !self.is_under_tls() {
            self.disconnect();
            return UnderTls::InClear;
        }
        match (connected, has_refused) {
            (true, _) => UnderTls::Connected,
            (false, true) => UnderTls::InClear,
            (false, false) => UnderTls::Failed,
        }
    }

    /// Whether the handle has a fingerprint then.
    fn set_fingerprint(self, fingerprint: Option<&CStr>) -> bool {
        let fingerprint = fingerprint.map_or(ptr::null(), CStr::as_ptr);
        // SAFETY: a handle, and NULL or a string that is copied.
        unsafe { !sys::ifo_c_client_set_fingerprint(self.as_ptr(), fingerprint).is_null() }
    }

    fn tls(self) -> ifo_client_tls {
        // SAFETY: a handle.
        unsafe { sys::ifo_c_client_tls(self.as_ptr()) }
    }

    /// What is known of the server that was connected to, or tried, last. It has greeted.
    pub(super) fn peer(self) -> Peer {
        let tls = self.tls();
        // SAFETY: NULL, or a string of the handle's options, which nothing changes meanwhile.
        let is_given = |text: *const c_char| !text.is_null() && unsafe { text.read() } != 0;
        let has_fingerprint = is_given(tls.fingerprint) || is_given(tls.fingerprint_list);
        let in_use = tls.in_use != 0;
        let verification_asked = tls.verify != 0 || has_fingerprint;
        Peer {
            tls: in_use,
            verification_asked,
            verified: in_use
                && match (tls.knows_status != 0, has_fingerprint) {
                    // What is asked for is checked before the login.
                    (false, _) => verification_asked,
                    // Without `verify`, nothing is looked at. A self-signed certificate has a status until the login is over,
                    // a certificate that was known by its fingerprint may keep one: nothing else was asked of it.
                    (true, false) => tls.verify != 0 && tls.status == 0,
                    (true, true) => tls.verify != 0 && tls.status & VERIFY_FINGERPRINT == 0,
                },
        }
    }

    /// Whether all that the server said before TLS, when it refused us, was read packet by packet: see [`super::plaintext`].
    pub(super) fn was_read_by_packets(self) -> bool {
        // SAFETY: a handle.
        unsafe { sys::ifo_c_client_has_position(self.as_ptr()) != 0 }
    }

    /// Whether it is used by the functions that do not block.
    fn is_async(self) -> bool {
        // SAFETY: a handle.
        unsafe { sys::ifo_c_client_is_async(self.as_ptr()) != 0 }
    }

    pub(super) fn set_out_of_memory(self) {
        self.set_error(CR_OUT_OF_MEMORY, c"HY000", b"Client run out of memory");
    }

    /// Ends the session that [`connect`](Self::connect) began.
    fn disconnect(self) {
        // SAFETY: a handle that is connected.
        unsafe { sys::ifo_c_client_disconnect(self.as_ptr()) }
    }

    pub(super) fn protocol(self) -> Protocol {
        // SAFETY: a handle.
        Protocol(unsafe { sys::ifo_c_client_protocol(self.as_ptr()) })
    }

    pub(super) fn set_protocol(self, protocol: Protocol) {
        // SAFETY: a handle, and a value that was one of its own.
        unsafe { sys::ifo_c_client_set_protocol(self.as_ptr(), protocol.0) }
    }

    /// Reconnects as Connector/C does without a plugin, but to `address`; whether there is a new session.
    pub(super) fn reconnect(self, address: &Address) -> bool {
        // SAFETY: a handle, and strings that outlive the call.
        unsafe { sys::ifo_c_client_reconnect(self.as_ptr(), &address.raw()) == 0 }
    }

    /// What [`keep`](Self::keep) stored.
    pub(super) fn kept(self) -> Option<Kept> {
        // SAFETY: a handle. What it keeps under our name is what keep() stored, until forget() takes it away.
        unsafe { sys::ifo_c_client_data(self.as_ptr()).cast::<Kept>().as_ref() }.cloned()
    }

    /// Stores with the handle where it was connected to, in the place of what was stored before. Whether there was memory
    /// for it.
    pub(super) fn keep(self, origin: Address, way: Way) -> bool {
        let new = Box::into_raw(Box::new(Kept { origin, way }));
        // SAFETY: a handle; the pointer it had is ours, as in kept(), and it is forgotten before it is freed.
        unsafe {
            let old = sys::ifo_c_client_data(self.as_ptr()).cast::<Kept>();
            let stored = sys::ifo_c_client_set_data(self.as_ptr(), new.cast()) == 0;
            let unused = if stored { old } else { new };
            if !unused.is_null() {
                drop(Box::from_raw(unused));
            }
            stored
        }
    }

    /// Frees what [`keep`](Self::keep) stored. The handle or its options are being closed, so it is not needed again.
    pub(super) fn forget(self) {
        // SAFETY: as in kept(); this is called once, and next the pointer to it is freed.
        unsafe {
            let kept = sys::ifo_c_client_data(self.as_ptr()).cast::<Kept>();
            if !kept.is_null() {
                drop(Box::from_raw(kept));
            }
        }
    }
}
