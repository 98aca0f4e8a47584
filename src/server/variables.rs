//! The system variables: SET GLOBAL, option files, SHOW VARIABLES.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{ptr, slice};

use super::host::{self, Severity, Statement};
use super::{hooks, state};
use crate::boundary::callback;
use crate::sys;
use failover::{Caution, Policy, SettingError, Settings, Variable};

thread_local! {
    /// The settings as they will be once the statement that is being checked has been executed: one SET may name
    /// several variables, each of which is checked before the first is updated. A value of another statement, or of one
    /// that failed, means nothing. Each thread has its own: several sessions may be checking at once.
    static CHECKED: Cell<Option<(Statement, Settings)>> = const { Cell::new(None) };

    /// The cautions that the current statement has given so far. Those of another statement mean nothing.
    static WARNED: Cell<Option<(Statement, Vec<Caution>)>> = const { Cell::new(None) };
}

/// How many there are.
const VARIABLES: usize = sys::ifo_variable::IFO_VARIABLES as usize;
const _: () = assert!(VARIABLES == Variable::ALL.len());

/// The strings that `ifo_c_value` points to, and the right to change the policy. The server itself never runs two updates
/// at once, and shows no variable while one is updated (`LOCK_global_system_variables`).
static SHOWN: Mutex<[Option<CString>; VARIABLES]> = Mutex::new([const { None }; VARIABLES]);

fn shown() -> MutexGuard<'static, [Option<CString>; VARIABLES]> {
    // A panic cannot leave it half done: each string is replaced as a whole.
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

const fn variable(variable: sys::ifo_variable) -> Option<Variable> {
    match variable {
        sys::ifo_variable::IFO_MODE => Some(Variable::Mode),
        sys::ifo_variable::IFO_TARGET => Some(Variable::Target),
        sys::ifo_variable::IFO_MESSAGE => Some(Variable::Message),
        sys::ifo_variable::IFO_EXEMPT_USERS => Some(Variable::ExemptUsers),
        sys::ifo_variable::IFO_EXEMPT_HOSTS => Some(Variable::ExemptHosts),
        sys::ifo_variable::IFO_VARIABLES => None,
    }
}

const fn index(variable: Variable) -> usize {
    (match variable {
        Variable::Mode => sys::ifo_variable::IFO_MODE,
        Variable::Target => sys::ifo_variable::IFO_TARGET,
        Variable::Message => sys::ifo_variable::IFO_MESSAGE,
        Variable::ExemptUsers => sys::ifo_variable::IFO_EXEMPT_USERS,
        Variable::ExemptHosts => sys::ifo_variable::IFO_EXEMPT_HOSTS,
    }) as usize
}

callback! {
    export fn ifo_rs_check(
        which: sys::ifo_variable,
        value: *const c_char,
        length: usize,
        encoding: sys::ifo_encoding
    ) -> c_int {
        let Some(variable) = variable(which) else { return 1 };
        // SAFETY: the shim gives a value that is not NULL and has that many bytes.
        let value: &[u8] = unsafe { slice::from_raw_parts(value.cast(), length) };
        let is_utf8 = match encoding {
            sys::ifo_encoding::IFO_UTF8 => true,
            sys::ifo_encoding::IFO_NOT_UTF8 => false,
            sys::ifo_encoding::IFO_UNKNOWN => value.is_ascii(),
        };
        if !is_utf8 {
            refuse(&SettingError::NotUtf8(variable, String::from_utf8_lossy(value).into_owned()));
        }
        c_int::from(!is_utf8 || !check(variable, value))
    } on_panic {
        // Nothing is changed by a plugin that cannot even check; the server reports a wrong value.
        1
    }
}

fn check(variable: Variable, value: &[u8]) -> bool {
    let statement = host::statement();
    let before = match CHECKED.take() {
        Some((checked, settings)) if checked == statement => settings,
        _ => state::policy().settings().clone(),
    };
    match before.set(variable, value) {
        Ok(after) => {
            CHECKED.set(Some((statement, after)));
            true
        }
        Err(error) => {
            refuse(&error);
            false
        }
    }
}

/// Tells the client why its value was refused.
fn refuse(error: &SettingError) {
    host::error(host::ER_WRONG_VALUE_FOR_VAR, &host::c_string(&error.to_string()));
}

callback! {
    export fn ifo_rs_update(which: sys::ifo_variable, value: *const c_char) {
        let Some(variable) = variable(which) else { return };
        // SAFETY: either a value that was checked and copied, or the default; both end with NUL.
        let value = unsafe { CStr::from_ptr(value) };
        update(variable, value.to_bytes());
    } on_panic {
        // What was in force stays in force. The client must not believe otherwise.
        host::error(host::ER_WRONG_VALUE_FOR_VAR, c"instant_failover: nothing was changed; see the error log");
    }
}

/// Checks once more: the server does not check `SET GLOBAL ... = DEFAULT`, and since the check another session may have
/// changed a setting that this value depends on.
fn update(variable: Variable, value: &[u8]) {
    let before = state::policy().settings().clone();
    let after = match before.set(variable, value) {
        Ok(after) => after,
        Err(error) => return refuse(&error),
    };
    let cautions = after.cautions(&[variable], &host::this_server());
    let changes = before.changes(&after, host::session().as_deref());
    put_in_force(after);
    if variable == Variable::Mode {
        hooks::refresh();
    }
    for change in changes {
        host::log(Severity::IFO_NOTE, &change);
    }
    warn(cautions);
}

/// Gives each caution once for a statement, even if two of its variables cause it.
fn warn(cautions: Vec<Caution>) {
    let statement = host::statement();
    let mut given = match WARNED.take() {
        Some((warned, given)) if warned == statement => given,
        _ => Vec::new(),
    };
    for caution in cautions {
        if !given.contains(&caution) {
            host::warning(&caution.to_string());
            given.push(caution);
        }
    }
    WARNED.set(Some((statement, given)));
}

/// Puts settings in force, for logins and for SHOW VARIABLES.
pub(super) fn put_in_force(settings: Settings) {
    let mut shown = shown();
    for variable in Variable::ALL {
        let value = host::c_string(&settings.value(variable));
        let old = shown[index(variable)].replace(value);
        let new = shown[index(variable)].as_deref().map_or(ptr::null(), CStr::as_ptr);
        // SAFETY: the server reads this pointer under a lock that it holds for us during an update, and does not use it
        // yet during init. Nothing else writes it then.
        unsafe { sys::ifo_c_value[index(variable)] = new.cast_mut() };
        drop(old);
    }
    state::put_in_force(Policy::new(settings));
}

/// Stops redirecting. The values in SHOW VARIABLES stay until the server removes them.
pub(super) fn stop_redirecting() {
    state::put_in_force(Policy::default());
}

/// The value that an option file, the command line or the default has given a variable before start-up.
pub(super) fn given(variable: Variable) -> Vec<u8> {
    // SAFETY: the server has stored NULL or a string that ends with NUL, and nothing changes it during init.
    let value = unsafe { sys::ifo_c_value[index(variable)] };
    // SAFETY: as above.
    if value.is_null() { Vec::new() } else { unsafe { CStr::from_ptr(value) }.to_bytes().to_vec() }
}
