//! The system variables: SET GLOBAL, option files, SHOW VARIABLES.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_uint};
use std::slice;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::host::{self, Feature, Severity, Statement};
use super::state::{Drain, InForce};
use super::{hooks, keeper, sessions, state, status};
use crate::boundary::callback;
use crate::sys;
use failover::{Caution, Lease, Mode, Policy, SettingError, Settings, Variable};

thread_local! {
    /// The settings as they will be once the statement that is being checked has been executed: one SET may name
    /// several variables, each of which is checked before the first is updated. A value of another statement, or of one
    /// that failed, means nothing. Each thread has its own: several sessions may be checking at once.
    static CHECKED: Cell<Option<(Statement, Settings)>> = const { Cell::new(None) };

    /// The cautions that the current statement has given so far. Those of another statement mean nothing.
    static WARNED: Cell<Option<(Statement, Vec<Caution>)>> = const { Cell::new(None) };
}

const _: () = assert!(sys::ifo_variable::IFO_VARIABLES as usize == Variable::ALL.len());

/// How many of them are strings.
const STRINGS: usize = sys::IFO_STRINGS as usize;

/// The strings that `ifo_c_value` points to, and the right to change the policy. The server itself never runs two updates
/// at once, and shows no variable while one is updated (`LOCK_global_system_variables`). The [keeper] does not have that lock.
static SHOWN: Mutex<[Option<CString>; STRINGS]> = Mutex::new([const { None }; STRINGS]);

type Shown = MutexGuard<'static, [Option<CString>; STRINGS]>;

fn shown() -> Shown {
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
        sys::ifo_variable::IFO_NOTE_TEXT => Some(Variable::Note),
        sys::ifo_variable::IFO_HOLD_TIMEOUT => Some(Variable::HoldTimeout),
        sys::ifo_variable::IFO_DRAIN => Some(Variable::Drain),
        sys::ifo_variable::IFO_VARIABLES => None,
    }
}

/// Where the server finds a value.
enum Place {
    /// A string, at this index.
    Text(usize),
    HoldTimeout,
    Drain,
}

const fn place(variable: Variable) -> Place {
    Place::Text(match variable {
        Variable::Mode => sys::ifo_variable::IFO_MODE,
        Variable::Target => sys::ifo_variable::IFO_TARGET,
        Variable::Message => sys::ifo_variable::IFO_MESSAGE,
        Variable::ExemptUsers => sys::ifo_variable::IFO_EXEMPT_USERS,
        Variable::ExemptHosts => sys::ifo_variable::IFO_EXEMPT_HOSTS,
        Variable::Note => sys::ifo_variable::IFO_NOTE_TEXT,
        Variable::HoldTimeout => return Place::HoldTimeout,
        Variable::Drain => return Place::Drain,
    } as usize)
}

/// The string that the server shows.
fn text_place(index: usize) -> &'static AtomicPtr<c_char> {
    // SAFETY: it lives as long as the library and is aligned; from init on, only this module writes it, always through this.
    unsafe { AtomicPtr::from_ptr(&raw mut sys::ifo_c_value[index]) }
}

fn hold_timeout_place() -> &'static AtomicU32 {
    // SAFETY: as for text_place().
    unsafe { AtomicU32::from_ptr(&raw mut sys::ifo_c_hold_timeout) }
}

fn drain_place() -> &'static AtomicU8 {
    // SAFETY: as for text_place(); a char has the size of a byte.
    unsafe { AtomicU8::from_ptr((&raw mut sys::ifo_c_drain).cast()) }
}

/// The name of a mode, for C.
const fn mode_text(mode: Mode) -> &'static CStr {
    match mode {
        Mode::Off => c"OFF",
        Mode::On => c"ON",
        Mode::All => c"ALL",
        Mode::Hold => c"HOLD",
    }
}

callback! {
    export fn ifo_rs_check(
        which: sys::ifo_variable,
        value: *const c_char,
        length: usize,
        encoding: sys::ifo_encoding,
        number: *mut c_uint
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
            refuse(&SettingError::NotUtf8(variable, String::from_utf8_lossy(value).into_owned()).to_string());
            return 1;
        }
        let Some(settings) = check(variable, value) else { return 1 };
        // SAFETY: the shim gives a place for it.
        unsafe { number.write(numeric(&settings, variable)) };
        0
    } on_panic {
        // Nothing is changed by a plugin that cannot even check; the server reports a wrong value.
        1
    }
}

/// The settings as they will be; `None` if the client has been told why not.
fn check(variable: Variable, value: &[u8]) -> Option<Settings> {
    let statement = host::statement();
    let before = match CHECKED.take() {
        Some((checked, settings)) if checked == statement => settings,
        _ => state::policy().settings().clone(),
    };
    let checked = before.set(variable, value).map_err(|error| error.to_string());
    let after = checked.and_then(|after| prepare(variable, &after).map(|()| after)).map_err(|why| refuse(&why)).ok()?;
    CHECKED.set(Some((statement, after.clone())));
    Some(after)
}

/// Gets what the settings need of the server, before they are in force.
///
/// # Errors
/// What is missing, and what to do.
fn prepare(variable: Variable, after: &Settings) -> Result<(), String> {
    let name = variable.name();
    if variable == Variable::Mode && after.mode() == Mode::Hold {
        if let Some(missing) = host::missing_for(Feature::IFO_FEATURE_HOLD) {
            return Err(format!("{name} cannot be HOLD: this server does not export {missing}; set it to ON instead"));
        }
        keeper::start().map_err(|why| format!("{name} cannot be HOLD: {why}"))?;
    }
    if variable == Variable::Drain && after.drains() {
        sessions::prepare().and_then(|()| keeper::start()).map_err(|why| format!("{name} cannot be ON: {why}"))?;
    }
    Ok(())
}

/// The value of a variable that is a number.
const fn numeric(settings: &Settings, variable: Variable) -> c_uint {
    match variable {
        Variable::HoldTimeout => settings.hold_timeout().seconds() as c_uint,
        Variable::Drain => settings.drains() as c_uint,
        _ => 0,
    }
}

/// Tells the client why its value was refused.
fn refuse(why: &str) {
    host::error(host::ER_WRONG_VALUE_FOR_VAR, &host::c_string(why));
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

callback! {
    export fn ifo_rs_update_number(which: sys::ifo_variable, value: c_uint) {
        let Some(variable) = variable(which) else { return };
        update(variable, value.to_string().as_bytes());
    } on_panic {
        host::error(host::ER_WRONG_VALUE_FOR_VAR, c"instant_failover: nothing was changed; see the error log");
    }
}

/// Checks once more: the server does not check `SET GLOBAL ... = DEFAULT`, and since the check another session may have
/// changed a setting that this value depends on.
fn update(variable: Variable, value: &[u8]) {
    let this_server = host::this_server();
    let by = host::session();
    let mut shown = shown();
    let policy = state::policy();
    let before = policy.settings();
    let after = match before.set(variable, value) {
        Ok(after) => after,
        Err(error) => {
            drop(shown);
            return refuse(&error.to_string());
        }
    };
    let cautions = after.cautions(&[variable], &this_server);
    let changes = before.changes(&after, by.as_deref());
    let has_ended_drain = after.has_ended_drain(before, variable);
    let now = Instant::now();
    let lease = match after.mode() {
        Mode::Hold if variable == Variable::Mode => Some(Lease::new(now)),
        Mode::Hold => policy.lease(),
        _ => None,
    };
    let drain = match variable {
        _ if !after.drains() => None,
        Variable::Drain => Some(Drain { began: now, by: host::statement().session() }),
        _ => policy.drain,
    };
    show(&mut shown, &after);
    state::put_in_force(Policy::new(after), lease, drain);
    drop(shown);
    if variable == Variable::Mode {
        hooks::refresh();
    }
    for change in changes {
        host::log(Severity::IFO_NOTE, &change);
    }
    if has_ended_drain {
        host::note("instant_failover_drain is OFF too: nothing is drained in mode OFF");
    }
    warn(cautions);
}

/// Puts the mode OFF in force if a HOLD has lasted as long as it may. May be called in any thread.
pub(super) fn end_hold_if_over() {
    let is_over = |policy: &InForce| policy.hold_left(Instant::now()).is_some_and(|left| left.is_zero());
    if !is_over(&state::policy()) {
        return;
    }
    let shown = shown();
    let policy = state::policy();
    if !is_over(&policy) {
        // Somebody was faster.
        return;
    }
    let before = policy.settings();
    let after = before.switched_off();
    let timeout = before.hold_timeout();
    let changes = before.changes(&after, None);
    // Only what a thread may show that has no lock of the server: nothing that is freed.
    show_numbers(&after);
    state::put_in_force(Policy::new(after), None, None);
    drop(shown);
    status::count_hold_timeout();
    for change in changes {
        host::log(Severity::IFO_WARNING, &format!("{change}: HOLD has ended by its timeout, after {timeout} s"));
    }
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

/// Shows settings in SHOW VARIABLES. The server reads no variable meanwhile: it holds a lock for us during an update, and shows
/// none yet during init.
fn show(shown: &mut Shown, settings: &Settings) {
    for variable in Variable::ALL {
        if let (Place::Text(index), true) = (place(variable), variable != Variable::Mode) {
            let value = host::c_string(&settings.value(variable));
            text_place(index).store(value.as_ptr().cast_mut(), Ordering::Relaxed);
            shown[index] = Some(value);
        }
    }
    show_numbers(settings);
}

/// Shows what the server may read at any time.
fn show_numbers(settings: &Settings) {
    if let Place::Text(index) = place(Variable::Mode) {
        text_place(index).store(mode_text(settings.mode()).as_ptr().cast_mut(), Ordering::Relaxed);
    }
    hold_timeout_place().store(settings.hold_timeout().seconds().into(), Ordering::Relaxed);
    drain_place().store(settings.drains().into(), Ordering::Relaxed);
}

/// Puts the settings of start-up in force.
pub(super) fn begin(settings: Settings) {
    show(&mut shown(), &settings);
    state::put_in_force(Policy::new(settings), None, None);
}

/// Redirects, holds and ends nobody any more. The values in SHOW VARIABLES stay until the server removes them.
pub(super) fn end() {
    let _shown = shown();
    state::put_in_force(Policy::default(), None, None);
}

/// The value that an option file, the command line or the default has given a variable before start-up.
pub(super) fn given(variable: Variable) -> Vec<u8> {
    match place(variable) {
        Place::Text(index) => {
            let value = text_place(index).load(Ordering::Relaxed);
            // SAFETY: the server has stored NULL or a string that ends with NUL, and nothing changes it during init.
            if value.is_null() { Vec::new() } else { unsafe { CStr::from_ptr(value) }.to_bytes().to_vec() }
        }
        Place::HoldTimeout => hold_timeout_place().load(Ordering::Relaxed).to_string().into_bytes(),
        Place::Drain => drain_place().load(Ordering::Relaxed).to_string().into_bytes(),
    }
}
