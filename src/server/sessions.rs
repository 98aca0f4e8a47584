//! The open sessions, and how a drain ends them.
//!
//! A session is known from the moment at which its login succeeds ([`register`]). In its own thread, at the one point where no
//! answer is due, it is asked what it is doing, and ends itself ([`idle`]). Sessions that wait for their clients already are woken
//! by the [keeper](super::keeper), which sends their threads a [signal]. In a [pool] of threads those have none.
//!
//! - [`table`]: which sessions there are;
//! - [`session`]: what is known of one, and who may write what;
//! - [`idle`]: the point at which a session waits for its client;
//! - [`pool`]: the same in a pool of threads;
//! - [`drainer`]: what the keeper does while sessions are drained;
//! - [`signal`]: waking a thread that waits;
//! - [`socket`]: a descriptor that may have been closed, and given to something else, at any moment.

mod drainer;
mod idle;
mod pool;
mod session;
mod signal;
mod socket;
mod table;

use std::cell::Cell;
use std::ffi::{c_int, c_void};

use super::host::{self, Feature, Login, Statement};
use super::state::{self, InForce};
use crate::boundary::callback;
use crate::sys::ifo_count;
use failover::drain::Doing;

pub(super) use drainer::Drainer;
pub(super) use pool::rest;
use session::Facts;

/// Notes the session whose login succeeds in this thread, or which goes on with another user.
pub(super) fn register(login: &Login) {
    let Some(facts) = Facts::of(login) else { return };
    let put = || table::put(login.socket(), |session| session.begin(login, facts));
    if facts.has_own_thread() {
        idle::set_own(put);
    } else {
        put();
    }
}

/// Forgets the session that a login was about to begin in this thread.
pub(super) fn forget(login: &Login) {
    table::clear(login.socket());
    pool::forget(login.session_id());
}

/// Notes how many sessions there are that cannot be known: they were open before the plugin was loaded.
pub(super) fn find_unknown() {
    table::find_unknown();
}

/// Prepares the server for a drain. It stays prepared.
///
/// # Errors
/// Why nothing can be drained, for the DBA.
pub(super) fn prepare() -> Result<(), String> {
    let has_pool = host::has_thread_pool();
    let feature = if has_pool { Feature::IFO_FEATURE_DRAIN_POOL } else { Feature::IFO_FEATURE_DRAIN };
    if let Some(missing) = host::missing_for(feature) {
        return Err(format!("this server does not export {missing}; end sessions by KILL instead"));
    }
    if has_pool && !pool::is_installed() {
        return Err("with thread_handling=pool-of-threads it needs the other plugin of the library, which is not installed; use \
                    INSTALL PLUGIN instant_failover_sessions SONAME 'instant_failover' first"
            .to_owned());
    }
    signal::prepare()?;
    idle::install();
    Ok(())
}

/// How many sessions there are, of those that a drain by the policy in force concerns.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    sessions: u64,
    busy: u64,
    in_transaction: u64,
}

thread_local! {
    /// What the current statement has counted: its numbers belong together. Those of another statement mean nothing.
    static COUNTED: Cell<Option<(Statement, Count)>> = const { Cell::new(None) };
}

fn counted() -> Count {
    let statement = host::statement();
    match COUNTED.get() {
        Some((counted, count)) if counted == statement => count,
        _ => {
            let count = count(&state::policy());
            COUNTED.set(Some((statement, count)));
            count
        }
    }
}

fn count(policy: &InForce) -> Count {
    let mut count = Count::default();
    if !state::is_on() {
        return count;
    }
    for session in table::open() {
        if session.is_drained_by(policy) {
            count.sessions += 1;
            match session.doing() {
                Doing::Busy => count.busy += 1,
                Doing::InTransaction | Doing::LockingTables => count.in_transaction += 1,
                Doing::Idle => {}
            }
        }
    }
    if policy.drain.is_none() {
        // Only a drain looks at what they are doing.
        (count.busy, count.in_transaction) = (0, 0);
    }
    count
}

callback! {
    export fn ifo_rs_command_done(session: u64, went_well: c_int) {
        pool::command_done(session, went_well != 0);
    } on_panic {
        // The session goes on.
    }
}

callback! {
    export fn ifo_rs_session_begins(session: u64) {
        pool::session_begins(session);
    } on_panic {
        // It is not looked at.
    }
}

callback! {
    export fn ifo_rs_session_ends(session: u64) {
        pool::session_ends(session);
    } on_panic {
        // Not after the session is out of the list: only then is something dropped.
    }
}

callback! {
    export fn ifo_rs_session_goes_on(session: u64) {
        pool::released(session);
    } on_panic {
        // The server goes on reading.
    }
}

callback! {
    export fn ifo_rs_audit_init(_plugin: *mut c_void) -> c_int {
        // The other plugin says what it is.
        let is_missing = host::is_anything_missing();
        if !is_missing {
            pool::install();
        }
        c_int::from(is_missing)
    } on_panic {
        1
    }
}

callback! {
    export fn ifo_rs_audit_deinit(_plugin: *mut c_void) -> c_int {
        pool::uninstall();
        0
    } on_panic {
        0
    }
}

callback! {
    export fn ifo_rs_count_sessions(which: ifo_count) -> u64 {
        match which {
            ifo_count::IFO_SESSIONS => counted().sessions,
            ifo_count::IFO_SESSIONS_BUSY => counted().busy,
            ifo_count::IFO_SESSIONS_IN_TRANSACTION => counted().in_transaction,
            ifo_count::IFO_SESSIONS_UNKNOWN => table::unknown(),
        }
    } on_panic {
        0
    }
}
