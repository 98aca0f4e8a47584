//! The thread that ends a HOLD in time, and drives a drain.
//!
//! It is started by the first HOLD or drain, and ends when the plugin is uninstalled. It never waits for a lock that the server
//! holds while it waits for us.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::sessions::{self, Drainer};
use super::{state, variables};
use crate::boundary;

/// How long it waits where there is nothing to do; it is woken before.
const NOTHING_TO_DO: Duration = Duration::from_hours(1);

/// How long it waits after a failure.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

static THREAD: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);
static STOPS: AtomicBool = AtomicBool::new(false);

fn keeper() -> MutexGuard<'static, Option<JoinHandle<()>>> {
    THREAD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread, if it does not run.
///
/// # Errors
/// Why the system does not start one, for the DBA.
pub(super) fn start() -> Result<(), String> {
    let mut keeper = keeper();
    if keeper.is_none() {
        STOPS.store(false, Ordering::SeqCst);
        let started = thread::Builder::new().name("ifo_keeper".to_owned()).spawn(run);
        *keeper = Some(started.map_err(|error| format!("the system does not start a thread ({error})"))?);
    }
    Ok(())
}

/// Ends the thread and waits for that; it takes no longer than one look at the sessions.
pub(super) fn stop() {
    STOPS.store(true, Ordering::SeqCst);
    let thread = keeper().take();
    state::wake();
    // A panic was caught inside.
    let _ = thread.map(JoinHandle::join);
}

fn run() {
    let mut drainer = None;
    while !STOPS.load(Ordering::SeqCst) {
        let (number, pause) =
            boundary::catch("keeper", || step(&mut drainer)).unwrap_or((state::policy().number, AFTER_FAILURE));
        state::wait_for_change(number, pause, || STOPS.load(Ordering::SeqCst));
    }
    // Whatever was begun and can be undone.
    let _ = boundary::catch("keeper", sessions::rest);
    let _ = boundary::catch("keeper", || drainer.map(Drainer::finish));
}

/// Does what is due. Returns how long there is nothing to do, while the policy with that number is in force.
fn step(drainer: &mut Option<Drainer>) -> (u64, Duration) {
    variables::end_hold_if_over();
    let policy = state::policy();
    let hold = policy.hold_left(Instant::now()).unwrap_or(NOTHING_TO_DO);
    if let Some(over) = drainer.take_if(|drainer| !drainer.is_of(&policy)) {
        over.finish();
    }
    let Some(drain) = policy.drain else {
        return (policy.number, sessions::rest().map_or(hold, |pause| hold.min(pause)));
    };
    let drainer = drainer.get_or_insert_with(|| Drainer::new(drain.began));
    (policy.number, drainer.look(&policy).min(hold))
}
