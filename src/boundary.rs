//! Where C calls Rust.
//!
//! No panic may leave Rust: it would end the server. [`callback!`](callback) defines every function that C may call, by
//! name or through a pointer, and is the only place that does; each says what holds if its body panics, which always is
//! what the server would have done without us.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::server::host;

/// Defines functions that C may call.
///
/// The body after the signature runs where panics are caught; the one after `on_panic` runs if it panicked, and must not
/// panic itself. Functions named `ifo_rs_*` are exported under that name; others are reached through pointers.
macro_rules! callback {
    ($(#[$meta:meta])* export fn $name:ident($($arg:ident: $type:ty),*) $(-> $ret:ty)? $body:block on_panic $fallback:block) => {
        $(#[$meta])*
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name($($arg: $type),*) $(-> $ret)? {
            $crate::boundary::catch(stringify!($name), || $body).unwrap_or_else(|| $fallback)
        }
    };
    ($(#[$meta:meta])* pointer fn $name:ident $(<const $n:ident: $nt:ty>)? ($($arg:ident: $type:ty),*) $(-> $ret:ty)? $body:block on_panic $fallback:block) => {
        $(#[$meta])*
        pub(crate) unsafe extern "C" fn $name $(<const $n: $nt>)? ($($arg: $type),*) $(-> $ret)? {
            $crate::boundary::catch(stringify!($name), || $body).unwrap_or_else(|| $fallback)
        }
    };
}
pub(crate) use callback;

/// Runs the body of a callback: its result, or nothing if it panicked.
#[inline]
pub(crate) fn catch<R>(callback: &'static str, body: impl FnOnce() -> R) -> Option<R> {
    // AssertUnwindSafe: all shared state is atomics, immutable snapshots, and mutexes that are replaced as a whole.
    let body = || {
        inject_panic(callback);
        body()
    };
    panic::catch_unwind(AssertUnwindSafe(body)).map_err(|_| report(callback)).ok()
}

thread_local! {
    /// Where the last panic of this thread happened. Allocates only once there is one.
    static LAST_PANIC: Cell<Option<String>> = const { Cell::new(None) };
}

/// Keeps panics off stderr, which belongs to the program we are in, and notes where they happened for [`catch`] to report.
/// Only our own code is concerned: other libraries in Rust have a standard library of their own.
pub(crate) fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| panic::set_hook(Box::new(|panic| LAST_PANIC.set(Some(panic.to_string())))));
}

/// Says once in the server's error log that something is wrong with us, and what follows.
#[cold]
fn report(callback: &'static str) {
    static REPORTED: AtomicBool = AtomicBool::new(false);
    let what = LAST_PANIC.take().unwrap_or_default();
    if !REPORTED.swap(true, Ordering::Relaxed) {
        // A panic while we report one: let it be.
        let _ = panic::catch_unwind(|| {
            host::log_if_server(&format!(
                "a defect in the plugin was caught in {callback} ({}); the server goes on as without the plugin. Later \
                 ones are not logged. Please report this line",
                what.replace('\n', " ")
            ));
        });
    }
}

/// Panics where a test asked for it: the file that `INSTANT_FAILOVER_PANIC` names holds the name of this place.
#[cfg(feature = "panic-injection")]
pub(crate) fn inject_panic(place: &str) {
    let file = std::env::var_os("INSTANT_FAILOVER_PANIC");
    let wanted = file.and_then(|file| std::fs::read_to_string(file).ok());
    assert!(wanted.is_none_or(|wanted| wanted.trim() != place), "injected into {place}");
}

/// Does nothing: only a library that is built for the tests panics on demand.
#[cfg(not(feature = "panic-injection"))]
pub(crate) const fn inject_panic(_place: &str) {}
