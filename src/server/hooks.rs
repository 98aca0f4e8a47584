//! Hooks in front of every authentication plugin.
//!
//! The server reads the pointer in a plugin's descriptor for every login. [`slots`] puts our own
//! function into that pointer and remembers the original; [`scan`] finds the plugins; [`login`] is what the hook does.
//!
//! Plugins may be installed at any time, so the search is repeated when the mode changes, and, while clients are being
//! redirected, by the first login after the process has loaded another library.

mod login;
mod scan;
mod slots;

use std::ffi::c_ulong;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::host::{self, Severity};
use super::{state, status};
use crate::loaded;

/// How many libraries the process had loaded at the last search; [`NEVER`] if another search is needed.
static SEARCHED_AT: AtomicU64 = AtomicU64::new(NEVER);
const NEVER: u64 = 0;

/// Held while pointers are replaced, by one thread at a time.
static TABLE: Mutex<slots::Table> = Mutex::new(slots::Table::new());

fn table() -> MutexGuard<'static, slots::Table> {
    // The table is consistent after every step, so a panic cannot leave it half changed.
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hooks every authentication plugin that is not hooked yet.
pub(super) fn refresh() {
    search(table());
}

/// Hooks what has been loaded since the last search, if anything. Returns once that is done, in whichever thread.
fn refresh_if_libraries_came() {
    let is_due = || loaded::count() != SEARCHED_AT.load(Ordering::Acquire);
    if is_due() {
        let table = table();
        // While we waited, another login may have searched, or the plugin was uninstalled: then nothing is hooked again.
        if is_due() && state::is_on() {
            search(table);
        }
    }
}

fn search(mut table: MutexGuard<'static, slots::Table>) {
    // Counted before the search: the next one finds what is loaded meanwhile. Stored after it: until then others wait.
    let loaded = loaded::count();
    let mut skipped = false;
    scan::for_each_plugin(|plugin, library| {
        // The server briefly loads each library of its directory to list its plugins.
        if library.is_none_or(|library| table.keeps(library)) || host::is_installed(plugin.name()) {
            table.hook(plugin, library);
        } else {
            skipped = true;
        }
    });
    // What was skipped may be installed while its library is still loaded: the next login searches again.
    SEARCHED_AT.store(if skipped { NEVER } else { loaded }, Ordering::Release);
    status::set_hooked_plugins(table.hooked());
    let complaints = table.take_complaints();
    drop(table);
    for complaint in complaints {
        host::log(Severity::IFO_ERROR, &complaint);
    }
}

/// Which classes of events other audit plugins of this process want.
pub(super) fn audit_classes() -> c_ulong {
    scan::audit_classes()
}

/// Restores every plugin's own function.
pub(super) fn remove() {
    let libraries = table().restore();
    drop(libraries);
    status::set_hooked_plugins(0);
}
