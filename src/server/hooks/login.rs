//! A login, from the moment at which the server calls an authentication plugin.
//!
//! A new connection first meets the default plugin, before the client has said anything. That plugin greets the client
//! and reads its reply; the TLS handshake happens inside that read, and after it the account is known. Every other plugin
//! is called with the account known: for a new connection whose account needs it, or for an open session that
//! changes its user.
//!
//! So there is one rule. Once the account is known, the verdict is taken at once, without I/O. Before that, the original
//! runs with our [gate](Gate) in front of what it reads, and the verdict is taken there.
//!
//! A client can make the original wait as long as it likes. So a login that the original accepts is judged again if the
//! policy has changed since its verdict ([`conclude`]): it gets in only if the policy in force at that moment lets it in.
//!
//! A login that is to be held goes on as if the mode were OFF, and waits once the original has accepted it.
//!
//! An outcome is only ever turned into a refusal: this module returns success where the original returned it, and
//! nowhere else. (Success is `CR_OK`, or `CR_OK_HANDSHAKE_COMPLETE`, which is less.) A redirect is always `CR_ERROR`; the
//! other refusals count against the client's host or account until the server blocks it.

use std::cell::Cell;

use super::scan::Authenticate;
use super::slots;
use crate::boundary::{callback, catch};
use crate::server::hold::{self, Held};
use crate::server::host::{self, Login};
use crate::server::status::{self, HeldLogin, Reason};
use crate::server::{redirect, sessions, state};
use crate::sys::{
    self, CR_AUTH_USER_CREDENTIALS, CR_ERROR, CR_OK, MYSQL_PLUGIN_VIO, MYSQL_SERVER_AUTH_INFO, ifo_read_packet_fn,
};
use failover::{Exemption, Verdict};

callback! {
    /// The function in front of the plugin of slot `N`.
    pointer fn hook<const N: usize>(vio: *mut MYSQL_PLUGIN_VIO, info: *mut MYSQL_SERVER_AUTH_INFO) -> i32 {
        // SAFETY: called by the server with what it would have passed to the original.
        slots::original(N).map_or(CR_ERROR, |original| unsafe { authenticate(original, vio, info) })
    } on_panic {
        // Nothing outside decide() can panic; if it could, we would not know whether the original has spoken.
        CR_ERROR
    }
}

/// # Safety
/// The arguments are those of a call that the server makes to the plugin whose function is `original`.
#[inline]
unsafe fn authenticate(original: Authenticate, vio: *mut MYSQL_PLUGIN_VIO, info: *mut MYSQL_SERVER_AUTH_INFO) -> i32 {
    // SAFETY: passed on as it came.
    let original = || unsafe { original(vio, info) };
    if !state::is_on() {
        let outcome = original();
        if outcome <= CR_OK {
            // Before the look at the mode: whoever has set it sees this session, or is seen here.
            // SAFETY: the caller's promise.
            unsafe { register(vio) };
        }
        if !state::is_on() {
            return outcome;
        }
        // The mode was set while we waited for the client.
        search();
        // SAFETY: the caller's promise.
        return unsafe { conclude(vio, outcome, None) };
    }
    if host::account_is_known() {
        search();
        // SAFETY: the caller's promise.
        match unsafe { decide(vio, "login") } {
            Judged { decision: Decision::Refused, .. } => CR_ERROR,
            // SAFETY: the caller's promise.
            judged => unsafe { conclude(vio, original(), Some(judged)) },
        }
    } else {
        // SAFETY: the caller's promise.
        let gate = unsafe { Gate::close(vio) };
        let outcome = original();
        let judged = gate.open();
        // SAFETY: the caller's promise.
        unsafe { conclude(vio, outcome, judged) }
    }
}

/// Hooks any plugin that may be called next for this login, even one that was installed while we waited for the client.
fn search() {
    // A failure is reported; the login continues.
    let _ = catch("search", super::refresh_if_libraries_came);
}

/// The decision about a login.
#[derive(Clone, Copy)]
enum Decision {
    /// The original's outcome stands.
    Stands,
    /// It stands, though the login would have been redirected.
    Exempt(Exemption),
    /// The client has been told where to go.
    Refused,
    /// It waits, if the original accepts it.
    Held,
    /// There was a panic: the original's outcome stands, as without us.
    Failed,
}

/// A number that no policy has.
const NO_POLICY: u64 = u64::MAX;

/// A decision, and the number of the policy behind it.
#[derive(Clone, Copy)]
struct Judged {
    decision: Decision,
    policy: u64,
}

impl Judged {
    /// Whether the policy behind it is still in force.
    fn is_current(&self) -> bool {
        self.policy == state::policy().number
    }
}

/// What to return for an outcome of the original: the only place where a login succeeds.
///
/// The client may have kept the original waiting since the login was judged, if it was judged at all. It is judged by the
/// policy in force now, and counted once.
///
/// # Safety
/// `vio` is the channel of the login that the current session is making.
unsafe fn conclude(vio: *mut MYSQL_PLUGIN_VIO, outcome: i32, mut judged: Option<Judged>) -> i32 {
    match judged {
        // The client has been told.
        Some(Judged { decision: Decision::Refused, .. }) => return CR_ERROR,
        // The client is gone, or the account needs another plugin, which is hooked too and called next.
        _ if outcome > CR_OK && outcome != CR_AUTH_USER_CREDENTIALS => return outcome,
        _ => {}
    }
    let is_accepted = outcome <= CR_OK;
    let mut place = None;
    loop {
        let now = match judged.take() {
            Some(judged) if judged.is_current() || matches!(judged.decision, Decision::Failed) => judged,
            // SAFETY: the caller's promise.
            _ => unsafe { decide(vio, "login") },
        };
        match now.decision {
            Decision::Refused => return CR_ERROR,
            Decision::Held if is_accepted => {
                // SAFETY: the caller's promise.
                match unsafe { held(vio, now.policy, &mut place) } {
                    Some(Held::Released) => {}
                    Some(Held::Refused) => return CR_ERROR,
                    None => return outcome,
                }
                continue;
            }
            Decision::Stands | Decision::Exempt(_) | Decision::Held | Decision::Failed => {}
        }
        if is_accepted {
            // SAFETY: the caller's promise.
            unsafe { register(vio) };
            // As above: whoever changes the policy now finds the session.
            if now.policy != NO_POLICY && !now.is_current() {
                continue;
            }
            if let Decision::Exempt(exemption) = now.decision {
                status::count_exemption(exemption);
            }
        }
        return outcome;
    }
}

/// Waits until there is another policy than the one with this number. `None` if there was a panic: the original's outcome
/// stands, as without us.
///
/// # Safety
/// `vio` is the channel of the login that the current session is making.
unsafe fn held(vio: *mut MYSQL_PLUGIN_VIO, policy: u64, place: &mut Option<HeldLogin>) -> Option<Held> {
    catch("hold", || {
        // SAFETY: the caller's promise; `login` ends here.
        let login = unsafe { Login::of(vio) };
        // It may have been let in for a moment.
        sessions::forget(&login);
        hold::wait(login.socket(), policy, place)
    })
}

/// Notes the session that begins, or goes on with another user.
///
/// # Safety
/// `vio` is the channel of the login that the current session is making.
unsafe fn register(vio: *mut MYSQL_PLUGIN_VIO) {
    // A session that is not known is never ended.
    let _ = catch("register", || {
        // SAFETY: the caller's promise; `login` ends here.
        sessions::register(&unsafe { Login::of(vio) });
    });
}

/// Takes the verdict on a login whose account is known, and sends the redirect if there is one.
///
/// # Safety
/// `vio` is the channel of the login that the current session is making.
unsafe fn decide(vio: *mut MYSQL_PLUGIN_VIO, place: &'static str) -> Judged {
    catch(place, || {
        // SAFETY: the caller's promise; `login` ends here.
        let login = unsafe { Login::of(vio) };
        let policy = state::policy();
        let decision = match policy.verdict(&login.connection()) {
            Verdict::Serve => Decision::Stands,
            Verdict::Exempt(exemption) => Decision::Exempt(exemption),
            // The plugin is being installed or removed.
            Verdict::Redirect(_) | Verdict::Hold if host::is_between() => {
                return Judged { decision: Decision::Stands, policy: NO_POLICY };
            }
            Verdict::Hold if login.is_change_user() => Decision::Stands,
            Verdict::Hold => Decision::Held,
            Verdict::Redirect(found) => {
                redirect::send(found.message, found.way_in, &login, Reason::Mode);
                Decision::Refused
            }
        };
        Judged { decision, policy: policy.number }
    })
    .unwrap_or(Judged { decision: Decision::Failed, policy: NO_POLICY })
}

thread_local! {
    /// The gate of the login that this thread is making: the server's own read_packet, and what was decided.
    static GATE: Cell<(ifo_read_packet_fn, Option<Judged>)> = const { Cell::new((None, None)) };
}

/// Our `read_packet` instead of the server's, for as long as this value lives.
struct Gate {
    vio: *mut MYSQL_PLUGIN_VIO,
}

impl Gate {
    /// # Safety
    /// `vio` is the channel of a login that this thread is making, and outlives the value.
    unsafe fn close(vio: *mut MYSQL_PLUGIN_VIO) -> Self {
        // SAFETY: the caller's promise.
        let server = unsafe { sys::ifo_c_swap_read_packet(vio, Some(read_packet)) };
        GATE.set((server, None));
        Self { vio }
    }

    /// Restores the server's function, and returns what was decided meanwhile.
    fn open(self) -> Option<Judged> {
        drop(self);
        GATE.get().1
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // SAFETY: vio is still alive, as close() was promised.
        unsafe { sys::ifo_c_swap_read_packet(self.vio, GATE.get().0) };
    }
}

callback! {
    /// Reads the first packet of a new client for the default plugin, and decides before that plugin sees it.
    ///
    /// A failed read is passed on unchanged. Either it really failed, or the account needs another plugin, which is hooked
    /// too and called next.
    pointer fn read_packet(vio: *mut MYSQL_PLUGIN_VIO, packet: *mut *mut u8) -> i32 {
        let (server, judged) = GATE.get();
        if matches!(judged, Some(Judged { decision: Decision::Refused, .. })) {
            // The client has been redirected: there is nothing to wait for.
            return -1;
        }
        // SAFETY: what the plugin would have called, called as the plugin calls us.
        let length = server.map_or(-1, |read_packet| unsafe { read_packet(vio, packet) });
        search();
        if length < 0 || judged.is_some() {
            return length;
        }
        // SAFETY: the plugin passes on the vio that the server gave it; a packet was read, so the account is known.
        let judged = unsafe { decide(vio, "gate") };
        GATE.set((server, Some(judged)));
        if matches!(judged.decision, Decision::Refused) { -1 } else { length }
    } on_panic {
        // As in hook(): a failed read refuses the login.
        -1
    }
}
