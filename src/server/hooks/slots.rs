//! Which plugins are hooked, and what was there before.

use std::sync::atomic::{AtomicPtr, Ordering, fence};
use std::{mem, ptr};

use super::login;
use super::scan::{Authenticate, Plugin};
use crate::loaded::Library;
use crate::sys::ifo_authenticate_fn;

/// How many authentication plugins can be hooked in the lifetime of a server. MariaDB ships about ten, but one that
/// is uninstalled and loaded again at another address counts again.
pub(super) const SLOTS: usize = 256;

/// The original function of each slot. Written once, before the slot's hook is installed, and never again: a thread may
/// be in a hook at any time, even long after the plugin's function was restored.
static ORIGINALS: [AtomicPtr<()>; SLOTS] = [const { AtomicPtr::new(ptr::null_mut()) }; SLOTS];

/// The hooks, one for each slot: nothing that the server passes tells a hook which plugin it replaces.
static HOOKS: [Authenticate; SLOTS] = hooks();

const fn hooks() -> [Authenticate; SLOTS] {
    macro_rules! array {
        ($($tens:literal)*) => { [$(
            login::hook::<{ $tens * 8 }>, login::hook::<{ $tens * 8 + 1 }>, login::hook::<{ $tens * 8 + 2 }>,
            login::hook::<{ $tens * 8 + 3 }>, login::hook::<{ $tens * 8 + 4 }>, login::hook::<{ $tens * 8 + 5 }>,
            login::hook::<{ $tens * 8 + 6 }>, login::hook::<{ $tens * 8 + 7 }>,
        )*] };
    }
    array!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31)
}

/// The function that the hook of a slot replaces.
#[inline]
pub(super) fn original(slot: usize) -> Option<Authenticate> {
    // The server has read the hook's address with an ordinary load. On a processor that may read ahead, this is what keeps the
    // next load behind that one.
    fence(Ordering::Acquire);
    let original = ORIGINALS[slot].load(Ordering::Relaxed);
    // SAFETY: null, or what was an ifo_authenticate_fn when hook() stored it; the two have the same layout.
    unsafe { mem::transmute::<*mut (), ifo_authenticate_fn>(original) }
}

/// The plugins that are or were hooked.
pub(super) struct Table {
    used: [Option<Slot>; SLOTS],
    /// Lines for the log, written once the lock is released.
    complaints: Vec<String>,
    full: bool,
}

struct Slot {
    /// The pointer in the plugin's descriptor.
    place: Plugin,
    /// Keeps the plugin's library mapped while our pointer is in it. None for a builtin plugin, and once restored.
    library: Option<Library>,
    hooked: bool,
}

impl Table {
    pub(super) const fn new() -> Self {
        Self { used: [const { None }; SLOTS], complaints: Vec::new(), full: false }
    }

    /// Whether a library stays in memory because of a hook. Then nothing is gained by leaving its other plugins alone.
    pub(super) fn keeps(&self, library: &Library) -> bool {
        self.used.iter().flatten().any(|slot| slot.library.as_ref().is_some_and(|kept| kept.is(library)))
    }

    /// How many plugins are hooked.
    pub(super) fn hooked(&self) -> usize {
        self.used.iter().flatten().filter(|slot| slot.hooked).count()
    }

    /// Puts a hook in front of `place`, unless one is there.
    pub(super) fn hook(&mut self, place: Plugin, library: Option<&Library>) {
        let Some(original) = place.current() else { return };
        if HOOKS.iter().any(|&hook| ptr::fn_addr_eq(hook, original)) {
            return;
        }
        // A slot that was restored fits again if the same function is in the same place: after UNINSTALL and INSTALL.
        let same = |slot: &Slot| slot.place == place;
        let known = (0..SLOTS).find(|&n| {
            self.used[n].as_ref().is_some_and(same)
                && self::original(n).is_some_and(|function| ptr::fn_addr_eq(function, original))
        });
        let Some(n) = known.or_else(|| (0..SLOTS).find(|&n| self.used[n].is_none())) else {
            return self.refuse(&place);
        };
        ORIGINALS[n].store(original as *mut (), Ordering::Relaxed);
        if place.put(HOOKS[n]) {
            self.used[n] = Some(Slot { place, library: library.cloned(), hooked: true });
        } else {
            self.complaints.push(format!(
                "cannot hook plugin '{}': its memory is not writable; logins through it are not redirected",
                place.name().to_string_lossy()
            ));
        }
    }

    /// Reported once: every later search finds the plugin again.
    fn refuse(&mut self, place: &Plugin) {
        if !mem::replace(&mut self.full, true) {
            self.complaints.push(format!(
                "cannot hook plugin '{}': at most {SLOTS} authentication plugins can be hooked until the server restarts; \
                 logins through it are not redirected",
                place.name().to_string_lossy()
            ));
        }
    }

    /// What went wrong since the last call.
    pub(super) fn take_complaints(&mut self) -> Vec<String> {
        mem::take(&mut self.complaints)
    }

    /// Restores every plugin's own function where ours is still in place. Returns the libraries, which are no longer needed:
    /// dropping the last handle of a library runs code of the library, and no lock should be held then.
    pub(super) fn restore(&mut self) -> Vec<Library> {
        let mut libraries = Vec::new();
        for (n, slot) in self.used.iter_mut().enumerate() {
            let Some(slot) = slot.as_mut().filter(|slot| slot.hooked) else { continue };
            let ours = slot.place.current().is_some_and(|function| ptr::fn_addr_eq(function, HOOKS[n]));
            if let Some(original) = original(n).filter(|_| ours) {
                slot.place.put(original);
            }
            slot.hooked = false;
            libraries.extend(slot.library.take());
        }
        libraries
    }
}
