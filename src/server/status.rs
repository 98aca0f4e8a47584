//! The counters of SHOW STATUS.

use std::cell::Cell;
use std::ffi::{CString, c_char};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::host::{self, Statement};
use crate::boundary::callback;
use crate::sys;
use failover::{Exemption, WayIn};

/// When the last redirect was sent, in seconds since 1970; 0 if there was none.
static LAST_REDIRECT: AtomicU64 = AtomicU64::new(0);

macro_rules! counter {
    ($name:ident) => {
        // SAFETY: the counters live as long as the library, are aligned, and while it runs only Rust writes them,
        // always through this; the server reads them whole, being 8 bytes and aligned.
        unsafe { AtomicU64::from_ptr(&raw mut sys::ifo_c_counters.$name) }
    };
}

thread_local! {
    /// The login that this thread redirected last. An account with several methods (`VIA a OR b`) brings the same login
    /// to us once for each of them; it counts once.
    static LAST_COUNTED: Cell<Option<Statement>> = const { Cell::new(None) };
}

/// Why a login is redirected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The mode requires it.
    Mode,
    /// The account is `IDENTIFIED VIA instant_failover`.
    Account,
}

/// Counts a redirected login, once however often it comes.
pub(super) fn count_redirect(way_in: WayIn, change_user: bool, reason: Reason) {
    let login = Some(host::statement());
    if LAST_COUNTED.replace(login) == login {
        return;
    }
    let add = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
    add(counter!(redirects));
    add(match way_in {
        WayIn::Tcp => counter!(redirects_tcp),
        WayIn::Socket => counter!(redirects_socket),
        WayIn::ExtraPort => counter!(redirects_extra_port),
    });
    if change_user {
        add(counter!(change_user_redirects));
    }
    if reason == Reason::Account {
        add(counter!(account_redirects));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    LAST_REDIRECT.store(now.as_secs(), Ordering::Relaxed);
}

/// Counts a login that succeeded because it is exempt.
pub(super) fn count_exemption(exemption: Exemption) {
    match exemption {
        Exemption::User => counter!(exempted_users).fetch_add(1, Ordering::Relaxed),
        Exemption::Host => counter!(exempted_hosts).fetch_add(1, Ordering::Relaxed),
    };
}

/// A login that is held, for as long as this value lives.
pub(super) struct HeldLogin(());

impl HeldLogin {
    /// Counts it; `None` if so many are held already.
    pub(super) fn count(at_most: u64) -> Option<Self> {
        let held = counter!(held);
        if held.fetch_add(1, Ordering::Relaxed) >= at_most {
            held.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        counter!(holds).fetch_add(1, Ordering::Relaxed);
        Some(Self(()))
    }
}

impl Drop for HeldLogin {
    fn drop(&mut self) {
        counter!(held).fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a HOLD that ended by its timeout.
pub(super) fn count_hold_timeout() {
    counter!(hold_timeouts).fetch_add(1, Ordering::Relaxed);
}

/// Counts a session that a drain ended.
pub(super) fn count_drained() {
    counter!(drained).fetch_add(1, Ordering::Relaxed);
}

/// Sets the number of hooked authentication plugins.
pub(super) fn set_hooked_plugins(number: usize) {
    counter!(hooked_plugins).store(number as u64, Ordering::Relaxed);
}

/// Resets all counters: a plugin that has just been installed counts from zero. Logins may still be held since an earlier
/// installation, so `held` is not one of them.
pub(super) fn reset() {
    for counter in [
        counter!(redirects),
        counter!(redirects_tcp),
        counter!(redirects_socket),
        counter!(redirects_extra_port),
        counter!(change_user_redirects),
        counter!(account_redirects),
        counter!(exempted_users),
        counter!(exempted_hosts),
        counter!(hooked_plugins),
        counter!(drained),
        counter!(holds),
        counter!(hold_timeouts),
        &LAST_REDIRECT,
    ] {
        counter.store(0, Ordering::Relaxed);
    }
}

callback! {
    /// Writes `2026-11-22T03:04:05Z`, or nothing before the first redirect.
    export fn ifo_rs_last_redirect(buffer: *mut c_char, size: usize) {
        let text = match LAST_REDIRECT.load(Ordering::Relaxed) {
            0 => CString::default(),
            seconds => {
                let time = UNIX_EPOCH + Duration::from_secs(seconds);
                host::c_string(&humantime::format_rfc3339_seconds(time).to_string())
            }
        };
        let bytes = text.as_bytes_with_nul();
        if bytes.len() <= size {
            // SAFETY: the server gives a buffer of `size` bytes, which no string of ours overlaps.
            unsafe { buffer.copy_from_nonoverlapping(bytes.as_ptr().cast(), bytes.len()) };
        }
    } on_panic {
        if size > 0 {
            // SAFETY: as above.
            unsafe { buffer.write(0) };
        }
    }
}
