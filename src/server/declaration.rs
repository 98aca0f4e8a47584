//! What the server looks up in the library.
//!
//! These are Rust statics because rustc exports no symbol that a C object defines. A test compares the list of exported
//! symbols with what is meant to be there.

use std::ffi::{CStr, c_int, c_uint, c_void};
use std::ptr;

use super::lifecycle::{ifo_rs_deinit, ifo_rs_init};
use super::sessions::{ifo_rs_audit_deinit, ifo_rs_audit_init};
use crate::sys::{
    MARIA_PLUGIN_INTERFACE_VERSION, MYSQL_AUDIT_PLUGIN, MYSQL_AUTHENTICATION_PLUGIN, MariaDB_PLUGIN_MATURITY_GAMMA,
    PLUGIN_LICENSE_BSD, ifo_c_audit, ifo_c_auth, ifo_c_status_vars, ifo_c_system_vars, st_maria_plugin,
};

/// What the plugin is called in SQL.
pub(super) const NAME: &CStr = c"instant_failover";

/// What its other half is called, which gets events of sessions.
pub(super) const SESSIONS: &CStr = c"instant_failover_sessions";

/// The plugins in this library, and the one without info that ends the list.
///
/// First the one whose removal may be put off. INSTALL SONAME skips a plugin that is still being removed, and then uses it as if it
/// had installed it: the server crashes if that ends while another plugin of the library is being initialized.
#[repr(transparent)]
pub(super) struct Declarations([st_maria_plugin; 3]);

// SAFETY: never written; the server reads it under its own lock.
unsafe impl Sync for Declarations {}

#[unsafe(no_mangle)]
pub(super) static _maria_plugin_interface_version_: c_int = MARIA_PLUGIN_INTERFACE_VERSION;

#[unsafe(no_mangle)]
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "a size of about 100")]
pub(super) static _maria_sizeof_struct_st_plugin_: c_int = size_of::<st_maria_plugin>() as c_int;

#[unsafe(no_mangle)]
pub(super) static _maria_plugin_declarations_: Declarations = Declarations([
    st_maria_plugin {
        type_: MYSQL_AUDIT_PLUGIN,
        info: (&raw const ifo_c_audit).cast_mut().cast::<c_void>(),
        name: SESSIONS.as_ptr(),
        author: c"The Instant Failover authors".as_ptr(),
        descr: c"Lets instant_failover drain sessions in a pool of threads".as_ptr(),
        license: PLUGIN_LICENSE_BSD,
        init: Some(ifo_rs_audit_init),
        deinit: Some(ifo_rs_audit_deinit),
        version: VERSION,
        status_vars: ptr::null_mut(),
        system_vars: ptr::null_mut(),
        version_info: concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast(),
        maturity: MariaDB_PLUGIN_MATURITY_GAMMA as c_uint,
    },
    st_maria_plugin {
        type_: MYSQL_AUTHENTICATION_PLUGIN,
        info: (&raw const ifo_c_auth).cast_mut().cast::<c_void>(),
        name: NAME.as_ptr(),
        author: c"The Instant Failover authors".as_ptr(),
        descr: c"Redirects new clients to another server".as_ptr(),
        license: PLUGIN_LICENSE_BSD,
        init: Some(ifo_rs_init),
        deinit: Some(ifo_rs_deinit),
        version: VERSION,
        status_vars: (&raw const ifo_c_status_vars).cast_mut().cast(),
        system_vars: (&raw const ifo_c_system_vars).cast_mut().cast(),
        version_info: concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast(),
        maturity: MariaDB_PLUGIN_MATURITY_GAMMA as c_uint,
    },
    END,
]);

const END: st_maria_plugin = st_maria_plugin {
    type_: 0,
    info: ptr::null_mut(),
    name: ptr::null(),
    author: ptr::null(),
    descr: ptr::null(),
    license: 0,
    init: None,
    deinit: None,
    version: 0,
    status_vars: ptr::null_mut(),
    system_vars: ptr::null_mut(),
    version_info: ptr::null(),
    maturity: 0,
};

/// What SHOW PLUGINS has room for: major and minor version, a byte each.
const VERSION: c_uint = {
    let [major, minor, _] = crate::VERSION;
    assert!(major < 256 && minor < 256, "each fits a byte");
    major << 8 | minor
};
