//! Where C calls Rust.
//!
//! No panic may leave Rust: it would end the server. [`callback!`](callback) defines every function that C may call, by
//! name or through a pointer; nothing else does. Each says what to do if its body panics: always what the server would have
//! done without us.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::server::host;

/// Defines functions that C may call.
///
/// Panics in the body after the signature are caught; the block after `on_panic` runs then, and must not panic itself. Functions named `ifo_rs_*` are exported under that name; others are reached through pointers.
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

/// Runs the body of a callback: its result, or `None` if it panicked.
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
/// This affects our own code only: other Rust libraries have their own copy of the standard library.
pub(crate) fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| panic::set_hook(Box::new(|panic| LAST_PANIC.set(Some(panic.to_string())))));
}

/// Reports the first panic in the server's error log.
#[cold]
fn report(callback: &'static str) {
    static REPORTED: AtomicBool = AtomicBool::new(false);
    let what = LAST_PANIC.take().unwrap_or_default();
    if !REPORTED.swap(true, Ordering::Relaxed) {
        // Ignore a panic while reporting one.
        let _ = panic::catch_unwind(|| {
            host::log_if_server(&format!(
                "internal error in {callback} ({}); the server continues as if the plugin were not installed. Further \
                 internal errors are not logged. Please report this line",
                what.replace('\n', " ")
            ));
        });
    }
}

/// Panics if a test asks for it: the file named by `INSTANT_FAILOVER_PANIC` contains the name of this place.
#[cfg(feature = "panic-injection")]
pub(crate) fn inject_panic(place: &str) {
    let file = std::env::var_os("INSTANT_FAILOVER_PANIC");
    let wanted = file.and_then(|file| std::fs::read_to_string(file).ok());
    assert!(wanted.is_none_or(|wanted| wanted.trim() != place), "injected into {place}");
}

/// Does nothing: only a library that is built for the tests panics on demand.
#[cfg(not(feature = "panic-injection"))]
pub(crate) const fn inject_panic(_place: &str) {}
