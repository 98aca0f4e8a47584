//! The point at which a session waits for its client.
//!
//! `vio_set_wait_callback()` has the server call us in a session's own thread, when it has found nothing to read and is about
//! to wait, and after it has waited. If the session's command is `COM_SLEEP` then, every answer has been sent and nothing is
//! under way: not between the statements of one packet, not in a procedure, not in LOAD DATA. This is where a drain ends it.
//!
//! The callbacks stay installed once they are, even after UNINSTALL: they use nothing but statics of this library, which is
//! never unmapped, and functions of the server.

use std::cell::RefCell;
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
    static OWN: RefCell<Option<Arc<Session>>> = const { RefCell::new(None) };
}

/// This thread serves that session from now on. It gives up the one before first, whose memory can serve again then.
pub(super) fn set_own(session: impl FnOnce() -> Option<Arc<Session>>) {
    OWN.with(|own| {
        if let Ok(mut own) = own.try_borrow_mut() {
            *own = None;
            *own = session();
        }
    });
}

fn with_own(act: impl FnOnce(&Session)) {
    // Nothing happens while the thread ends.
    let _ = OWN.try_with(|own| {
        if let Ok(own) = own.try_borrow()
            && let Some(session) = &*own
        {
            act(session);
        }
    });
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
                // A session that cannot be looked at goes on.
                let _ = catch("drain", || look(session, wait));
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
        // SAFETY: what the server's own callback does.
        unsafe { sys::ifo_c_wait_end() };
        with_own(Session::end_wait);
    } on_panic {}
}

/// Finds out what this thread's session is doing, and ends it if it is to be ended now.
fn look(session: &Session, wait: u32) {
    let now = host::activity();
    if now.thread_id != session.id {
        // The session that we know has ended, and the thread serves another one.
        return;
    }
    let doing = Doing::of(now.is_idle != 0, now.has_transaction != 0);
    session.saw(wait, doing);
    host::with_user(|user| session.set_user(user));
    let quiet_for = if session.was_quiet(wait) { drain::QUIET } else { Duration::ZERO };
    if session.is_due(&state::policy(), doing, quiet_for) && !session.is_ended() {
        session.end();
    }
}
