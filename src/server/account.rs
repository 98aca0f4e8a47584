//! Accounts `IDENTIFIED VIA instant_failover USING 'host:port'`: one tenant moved, the rest stay.
//!
//! They are redirected in every mode but for HOLD, in which those without a target of their own wait. No login through them ever succeeds: the shim refuses every login that comes here,
//! and this code only decides which error the client gets.

use std::ffi::{CStr, c_char, c_int};
use std::ptr::NonNull;
use std::slice;

use super::hold::{self, Held};
use super::host::{self, Login};
use super::status::Reason;
use super::{redirect, state};
use crate::boundary::callback;
use crate::sys::MYSQL_PLUGIN_VIO;
use failover::{Target, TargetError, Verdict};

/// The text after USING.
///
/// # Safety
/// `text` is NULL or points to `length` bytes that stay as they are while the result is used.
unsafe fn bytes<'a>(text: *const c_char, length: usize) -> &'a [u8] {
    // SAFETY: the caller's promise.
    NonNull::new(text.cast_mut()).map_or(&[], |text| unsafe { slice::from_raw_parts(text.as_ptr().cast(), length) })
}

/// Whether the account that the server has chosen is the client's.
///
/// For a user that does not exist, the server goes through the login with another user's account, so that a client cannot
/// tell the difference, and refuses it afterwards. The client must not learn where that other user is sent. The name of an
/// anonymous account is empty; it applies to every user.
fn is_own_account(account: &[u8], user: &[u8]) -> bool {
    account.is_empty() || account == user
}

/// The account's own target; `None` if it uses the server's.
fn own_target(text: &[u8]) -> Result<Option<Target>, TargetError> {
    if text.is_empty() { Ok(None) } else { String::from_utf8_lossy(text).parse().map(Some) }
}

callback! {
    export fn ifo_rs_account_login(
        vio: *mut MYSQL_PLUGIN_VIO,
        account: *const c_char,
        target: *const c_char,
        length: usize
    ) {
        // SAFETY: what the server has for this account, which lasts as long as the login.
        let text = unsafe { bytes(target, length) };
        // SAFETY: the shim passes the channel on that the server gave it; `login` ends here.
        let login = unsafe { Login::of(vio) };
        // SAFETY: a buffer of the server that ends with NUL.
        let account = unsafe { CStr::from_ptr(account) }.to_bytes();
        let connection = login.connection();
        // An invalid target is ignored: an account copied from another server may have one.
        let own = own_target(text).ok().filter(|_| is_own_account(account, connection.user));
        let mut place = None;
        loop {
            let policy = state::policy();
            if let Some(target) = &own {
                if policy.holds_account(target.as_ref(), &connection) && !login.is_change_user() {
                    let number = policy.number;
                    drop(policy);
                    if hold::wait(login.socket(), number, &mut place) == Held::Refused {
                        return;
                    }
                    continue;
                }
                if let Some(message) = policy.account_message(target.as_ref()) {
                    return redirect::send(&message, connection.transport.way_in(), &login, Reason::Account);
                }
            }
            return match policy.verdict(&connection) {
                Verdict::Redirect(found) => redirect::send(found.message, found.way_in, &login, Reason::Mode),
                // The server says "access denied".
                Verdict::Serve | Verdict::Exempt(_) | Verdict::Hold => {}
            };
        }
    } on_panic {
        // The server says "access denied".
    }
}

callback! {
    export fn ifo_rs_account_check(target: *const c_char, length: usize) -> c_int {
        // SAFETY: the text after USING, which lasts as long as the statement.
        match own_target(unsafe { bytes(target, length) }) {
            Ok(_) => 0,
            Err(error) => {
                let text = format!("IDENTIFIED VIA instant_failover: {error}");
                host::error(host::ER_WRONG_VALUE_FOR_VAR, &host::c_string(&text));
                1
            }
        }
    } on_panic {
        1
    }
}
