//! The point at which a session waits for its client.
//!
//! `vio_set_wait_callback()` has the server call us in a session's own thread, when it has found nothing to read and is about
//! to wait, and after it has waited. If the session's command is `COM_SLEEP` then, every answer has been sent and nothing is
//! under way: not between the statements of one packet, not in a procedure, not in LOAD DATA. This is where a drain ends it.
//!
//! The callbacks stay installed once they are, even after UNINSTALL: they use nothing but statics of this library, which is
//! never unmapped, and functions of the server.

use std::cell::{Cell, RefCell};
use std::ptr;
use std::sync::{Arc, Once};
use std::time::Duration;

use super::session::Session;
use crate::boundary::{callback, catch};
use crate::server::{host, state};
use crate::sys;
use failover::drain::{self, Doing};

thread_local! {
    /// The session that this thread serves, if its login came by us. It may be one that has ended: the server keeps threads for
    /// later sessions, and not all of those are known.
    static OWN: RefCell<Own> = const { RefCell::new(Own(None)) };

    /// The same, or NULL, for the callbacks: what a wait costs counts, in every statement.
    static POINTER: Cell<*const Session> = const { Cell::new(ptr::null()) };
}

/// Keeps the session in memory to which [`POINTER`] leads.
struct Own(Option<Arc<Session>>);

impl Own {
    fn replace(&mut self, session: Option<Arc<Session>>) {
        POINTER.set(session.as_ref().map_or(ptr::null(), Arc::as_ptr));
        self.0 = session;
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // The thread ends.
        self.replace(None);
    }
}

/// This thread serves that session from now on. It gives up the one before first, whose memory can serve again then.
pub(super) fn set_own(session: impl FnOnce() -> Option<Arc<Session>>) {
    OWN.with(|own| {
        if let Ok(mut own) = own.try_borrow_mut() {
            own.replace(None);
            own.replace(session());
        }
    });
}

/// Calls `act` with the session of this thread, and with nothing that replaces it.
#[inline]
fn with_own(act: impl FnOnce(&Session)) {
    // SAFETY: Own keeps what the pointer leads to, and only this thread changes both together, in set_own(), which the callers'
    // `act` does not call.
    if let Some(session) = unsafe { POINTER.get().as_ref() } {
        act(session);
    }
}

/// Has the server call us from now on.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    // SAFETY: the server has the function. It replaces two pointers that every session reads; a session that is waiting now
    // finds our second callback without the first, which end_wait() knows.
    ONCE.call_once(|| unsafe { sys::ifo_c_install_wait_callbacks() });
}

callback! {
    export fn ifo_rs_before_wait() {
        with_own(|session| {
            let wait = session.begin_wait();
            if state::is_draining() {
                look(session, wait);
            }
        });
        // SAFETY: what the server's own callback does.
        unsafe { sys::ifo_c_wait_begin() };
    } on_panic {
        // SAFETY: as above.
        unsafe { sys::ifo_c_wait_begin() };
    }
}

callback! {
    export fn ifo_rs_after_wait() {
        if state::is_draining() {
            with_own(|session| {
                if session.end_wait() {
                    session.set_last_command(host::last_command());
                }
            });
        }
        // SAFETY: what the server's own callback does.
        unsafe { sys::ifo_c_wait_end() };
    } on_panic {
        // SAFETY: as above.
        unsafe { sys::ifo_c_wait_end() };
    }
}

/// Finds out what this thread's session is doing, and ends it if it is to be ended now. One that cannot be looked at goes on.
#[cold]
fn look(session: &Session, wait: u32) {
    let _ = catch("drain", || look_at(session, wait));
}

fn look_at(session: &Session, wait: u32) {
    let now = host::activity();
    if now.thread_id != session.id {
        // The session that we know has ended, and the thread serves another one.
        return;
    }
    let doing = Doing::of(now.is_idle != 0, now.has_transaction != 0, now.has_locked_tables != 0);
    session.saw(wait, doing);
    host::with_user(|user| session.set_user(user));
    let was_quiet = session.was_quiet(wait, host::last_command());
    let quiet_for = if was_quiet { drain::QUIET } else { Duration::ZERO };
    if session.is_due(&state::policy(), doing, quiet_for) && !session.is_ended() {
        session.end();
    }
}
