//! Logins that wait until the mode changes.
//!
//! A held login has authenticated, and waits in the thread in which the server runs it, inside the hook of its
//! authentication plugin. It holds no lock. It ends when the policy changes, its client hangs up, it is killed, or the server
//! shuts down.

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use super::host::{self, Shown, Wait};
use super::status::HeldLogin;
use super::{state, variables};

/// The State column of the processlist.
const STATE: &CStr = c"Waiting for instant_failover_mode to change";

/// How often a held login looks for what nobody tells it: its client has hung up, or it has been killed.
const TICK: Duration = Duration::from_millis(100);

/// How a login stopped waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// There is another policy: judge it anew.
    Released,
    /// It is over: the error has been raised.
    Refused,
}

/// Why a login does not go on waiting.
struct Refusal {
    code: u32,
    text: &'static CStr,
}

const TOO_MANY: Refusal = Refusal { code: 1040, text: c"Too many connections" };
const SHUTDOWN: Refusal = Refusal { code: 1053, text: c"Server shutdown in progress" };
const KILLED: Refusal = Refusal { code: 1927, text: c"Connection was killed" };
const HUNG_UP: Refusal = Refusal { code: 1158, text: c"Got an error reading communication packets" };

/// Holds the current login as long as the policy with this number is in force. It keeps its `place` if it is held again
/// afterwards.
///
/// At most half of `max_connections` wait: the other half is left for those who are not held.
pub(super) fn wait(socket: RawFd, number: u64, place: &mut Option<HeldLogin>) -> Held {
    if place.is_none() {
        *place = HeldLogin::count(host::max_connections() / 2);
    }
    if place.is_none() {
        return refuse(&TOO_MANY);
    }
    let _shown = Shown::as_state(STATE);
    let _wait = Wait::begin();
    loop {
        let policy = state::policy();
        let left = policy.hold_left(Instant::now()).filter(|_| policy.number == number);
        drop(policy);
        let Some(left) = left else { return Held::Released };
        let refusal = if host::is_shutting_down() {
            Some(&SHUTDOWN)
        } else if host::is_killed() {
            Some(&KILLED)
        } else if has_hung_up(socket) {
            Some(&HUNG_UP)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return refuse(refusal);
        }
        if left.is_zero() {
            // Whoever comes first ends it.
            variables::end_hold_if_over();
        } else {
            state::wait_for_change(number, TICK.min(left), || false);
        }
    }
}

fn refuse(refusal: &Refusal) -> Held {
    host::error(refusal.code, refusal.text);
    Held::Refused
}

/// Whether the client has closed its end.
fn has_hung_up(socket: RawFd) -> bool {
    let mut poll = libc::pollfd { fd: socket, events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: one entry; the descriptor is open as long as the login lasts.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready > 0 && poll.revents & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0
}
