//! Telling a client where to go.

use super::host::{self, Login};
use super::status;
use failover::{ER_INSTANT_FAILOVER, Message, WayIn};

/// Why somebody is redirected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The mode says so.
    Mode,
    /// The account is `IDENTIFIED VIA instant_failover`.
    Account,
}

/// Gives the current login the error that sends its client elsewhere. The caller refuses the login.
pub(super) fn send(message: &Message, way_in: WayIn, login: &Login, reason: Reason) {
    host::error(ER_INSTANT_FAILOVER.into(), message.as_c_str());
    status::count_redirect(way_in, login.is_change_user(), reason);
}
