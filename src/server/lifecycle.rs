//! INSTALL and start-up, UNINSTALL and shutdown.

use std::ffi::{CStr, c_int, c_void};

use super::host::{self, Severity};
use super::{extra_ports, hooks, keeper, sessions, state, status, variables};
use crate::boundary::{self, callback};
use crate::sys;
use failover::{SettingError, Settings, Variable};

callback! {
    export fn ifo_rs_init(_plugin: *mut c_void) -> c_int {
        // SAFETY: may be called on any server.
        let missing = unsafe { sys::ifo_c_missing_export() };
        if !missing.is_null() {
            // SAFETY: a constant of the shim.
            let missing = unsafe { CStr::from_ptr(missing) }.to_string_lossy();
            // Not through the server's log: its function may be the one that is missing. stderr is the error log.
            eprintln!("instant_failover: this server does not export {missing}; the plugin needs MariaDB 10.5 or later");
            return 1;
        }
        boundary::install_panic_hook();
        status::reset();
        start();
        boundary::inject_panic("end of init");
        0
    } on_panic {
        // The server refuses to install us, and keeps running.
        leave();
        1
    }
}

/// Puts the values of option files and the command line in force.
///
/// They have not been checked: the server does that only for SET GLOBAL. A bad value does not stop the server, and does not
/// redirect any client: it is reported, the default applies, and the mode is OFF.
fn start() {
    extra_ports::find();
    sessions::find_unknown();
    let mut settings = Settings::default();
    let mut good = true;
    // The mode last: it is in force only if everything else is right.
    for variable in Variable::ALL.into_iter().filter(|&variable| variable != Variable::Mode).chain([Variable::Mode]) {
        match settings.set_at_start(variable, &variables::given(variable)) {
            Ok(_) if variable == Variable::Mode && !good => {}
            Ok(new) => settings = new,
            // What it is without has been reported.
            Err(SettingError::NoTarget(_)) if !good => {}
            Err(error) => {
                good = false;
                host::report(Severity::IFO_ERROR, &format!("{error}. Starting with instant_failover_mode OFF"));
            }
        }
    }
    for caution in settings.cautions(&Variable::ALL, &host::this_server()) {
        host::report(Severity::IFO_WARNING, &caution.to_string());
    }
    let mode = settings.mode();
    let target = settings.value(Variable::Target);
    variables::begin(settings);
    hooks::refresh();
    host::log(
        Severity::IFO_NOTE,
        &format!("version {} started, instant_failover_mode {mode}, target '{target}'", env!("CARGO_PKG_VERSION")),
    );
}

/// Redirects, holds and ends nobody any more, and restores every plugin's own function. Threads may still be inside a hook: what they use stays.
fn leave() {
    state::disarm();
    let _ = boundary::catch("leave", || {
        variables::end();
        keeper::stop();
        hooks::remove();
    });
}

callback! {
    export fn ifo_rs_deinit(_plugin: *mut c_void) -> c_int {
        if host::is_anything_missing() {
            // After an init that was refused: nothing was started, and there may be no way to log.
            return 0;
        }
        leave();
        host::log(Severity::IFO_NOTE, "stopped; new connections are no longer redirected");
        0
    } on_panic {
        leave();
        0
    }
}
