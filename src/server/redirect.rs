//! Telling a client where to go.

use super::host::{self, Login};
use super::status::{self, Reason};
use failover::{ER_INSTANT_FAILOVER, Message, WayIn};

/// Gives the current login the error that sends its client elsewhere. The caller refuses the login.
pub(super) fn send(message: &Message, way_in: WayIn, login: &Login, reason: Reason) {
    host::error(ER_INSTANT_FAILOVER.into(), message.as_c_str());
    status::count_redirect(way_in, login.is_change_user(), reason);
}
