//! Following without a changed host: the environment of a program asks for it.
//!
//! `LIBMYSQL_PLUGINS=instant_failover` has Connector/C load us as it starts, before there is any handle, and call
//! [`ifo_rs_client_init`]. That exchanges the function by which all handles connect, in the one place where Connector/C keeps
//! it. Every copy of Connector/C in a process has its own place, and calls us itself.
//!
//! Nothing is ever put back: a thread may be in our function at any time, and the library is never unmapped.

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulong, c_void};
use std::ptr::{self, NonNull};

use super::connect::{self, Way};
use super::handle::{Address, CR_UNKNOWN_ERROR, Handle, Login, Outcome};
use super::originals::Originals;
use super::{plaintext, table};
use crate::boundary::{self, callback};
use crate::loaded::{Module, Slot};
use crate::sys::{self, ifo_client_address, ifo_client_begin, ifo_client_connect_fn, ifo_client_login, st_mysql};
use failover::Trust;

/// Connector/C's function that connects a handle.
pub(super) type Connect = unsafe extern "C" fn(
    *mut st_mysql,
    *const c_char,
    *const c_char,
    *const c_char,
    *const c_char,
    c_uint,
    *const c_char,
    c_ulong,
) -> *mut st_mysql;

const _: () = assert!(size_of::<ifo_client_connect_fn>() == size_of::<Connect>());

/// Names the plugins that Connector/C loads as it starts.
const PLUGINS: &str = "LIBMYSQL_PLUGINS";

const NAME: &str = "instant_failover";

/// Exported where Connector/C is a shared library.
const REAL_CONNECT: &CStr = c"mysql_real_connect";

callback! {
    /// Connector/C has loaded the plugin; `caller` is in its code. Nothing here may call it: it holds its locks.
    export fn ifo_rs_client_init(caller: *const c_void) {
        boundary::install_panic_hook();
        let is_named = std::env::var_os(PLUGINS).is_some_and(|names| is_named_in(&names.to_string_lossy()));
        if connect::trust() != Ok(Trust::Never)
            // SAFETY: the module that is calling us stays loaded meanwhile.
            && let Some(module) = unsafe { Module::at(caller) }
        {
            let _ = plaintext::install(&module);
            if is_named {
                let _ = install(&module);
            }
        }
    } on_panic {}
}

/// Whether we are one of the plugins in this list.
fn is_named_in(plugins: &str) -> bool {
    plugins.split(';').any(|name| name == NAME)
}

/// Puts our function into the table of the Connector/C in `module`. If there is any doubt about the table, nothing changes.
fn install(module: &Module<'_>) -> Option<()> {
    // A table that has our function already has one that is not the module's own, and is not found.
    let table = table::find(&module.data, &module.code, &module.all_code)?;
    if module.symbol(REAL_CONNECT).is_some_and(|exported| exported.addr().get() != table.real_connect) {
        return None;
    }
    let place = NonNull::new(ptr::with_exposed_provenance_mut(table.address))?;
    // SAFETY: an aligned word of a module that is loaded; Connector/C writes it nowhere.
    let slot = unsafe { Slot::new(place) };
    // SAFETY: recognised as Connector/C's function that connects.
    let original = unsafe { std::mem::transmute::<*mut (), Option<Connect>>(slot.load()) }?;
    ORIGINALS.remember(table.api, original);
    slot.store(hook() as *mut ()).then_some(())
}

fn hook() -> Connect {
    sys::ifo_c_client_connect_by_default
}

/// By the address of the table of the API.
static ORIGINALS: Originals<Connect> = Originals::new();

/// Connector/C's own function behind `connect`, for a handle with this API.
pub(super) fn original(connect: Connect, api: *const c_void) -> Option<Connect> {
    if !ptr::eq(connect as *const (), hook() as *const ()) {
        return Some(connect);
    }
    ORIGINALS.of(api.addr())
}

callback! {
    /// A handle is to be connected: `mysql_real_connect()` for any host.
    export fn ifo_rs_client_begin(mysql: *mut st_mysql, place: *const ifo_client_address) -> ifo_client_begin {
        // SAFETY: Connector/C passes the handle, which this thread may use.
        let Some(handle) = (unsafe { Handle::new(mysql) }) else { return untouched(None) };
        let original = handle.original();
        // Connected twice: an error of the program, and no reason to touch the connection.
        let is_untouched = handle.is_connected();
        if !is_untouched && handle.is_ours() {
            // It was redirected before, and the program connects it again, perhaps to another server.
            // SAFETY: the strings of the program, which last as long as this call.
            handle.keep(unsafe { Address::of(&*place) }, Way::ByDefault);
        }
        ifo_client_begin { original, is_untouched: is_untouched.into() }
    } on_panic {
        // SAFETY: as above.
        untouched(unsafe { Handle::new(mysql) }.and_then(Handle::original))
    }
}

/// As without us.
const fn untouched(original: Option<Connect>) -> ifo_client_begin {
    ifo_client_begin { original, is_untouched: 1 }
}

callback! {
    /// It could not be connected as Connector/C would without us: follows if that was a redirect.
    export fn ifo_rs_client_refused(
        mysql: *mut st_mysql,
        place: *const ifo_client_address,
        login: *const ifo_client_login
    ) -> c_int {
        // SAFETY: as above; place and login are valid during the call, and so are the strings of the program.
        let (handle, place, login) = unsafe { (Handle::new(mysql), &*place, Login::new(*login)) };
        c_int::from(handle.is_some_and(|handle| follow(handle, place, &login)))
    } on_panic {
        // SAFETY: as above.
        if let Some(handle) = unsafe { Handle::new(mysql) } {
            handle.set_error(CR_UNKNOWN_ERROR, c"HY000", b"Internal error in the instant_failover client plugin");
        }
        0
    }
}

/// Whether the client is in, on another server.
fn follow(handle: Handle, place: &ifo_client_address, login: &Login) -> bool {
    let asked = handle.protocol();
    let outcome = connect::refused(handle, place, login, Way::ByDefault);
    // The next connection begins at the origin again.
    handle.set_protocol(asked);
    match outcome {
        // So that reconnecting begins there, too. Where another plugin has the handle, reconnecting is its business.
        Outcome::Redirected(origin) if !handle.has_plugin() => {
            if handle.keep(origin, Way::ByDefault) {
                handle.attach();
            }
        }
        Outcome::Failed => {
            handle.drop_options(login);
            return false;
        }
        Outcome::Redirected(_) | Outcome::Direct => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use super::is_named_in;

    #[test]
    fn lists_of_plugins() {
        for (list, expected) in [
            ("instant_failover", true),
            ("dialog;instant_failover", true),
            ("instant_failover;dialog", true),
            ("", false),
            ("dialog", false),
            ("instant_failover2;xinstant_failover", false),
            ("INSTANT_FAILOVER", false),
            ("instant_failover,dialog", false),
        ] {
            assert_eq!(is_named_in(list), expected, "{list}");
        }
    }
}
