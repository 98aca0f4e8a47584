//! The decision: which clients are redirected, where to, and with which message.
//!
//! Everything here is a plain value or a pure function. It does not depend on MariaDB, does no I/O and has no
//! `unsafe`, so that the server plugin, the client plugin and any other program can share it.
//!
//! - [`Mode`], [`Target`], [`Text`], [`ExemptUsers`], [`ExemptHosts`]: the settings, each parsed once and valid from
//!   then on;
//! - [`Settings`]: all of them together, with the rules between them ([`Settings::set`] is `SET GLOBAL`);
//! - [`Policy`]: settings prepared for use: given a [`Connection`], it returns a [`Verdict`];
//! - [`Lease`]: how long HOLD lasts;
//! - [`drain`]: which open sessions are ended, and when;
//! - [`message`]: writing and parsing the text of the error packet;
//! - [`Follow`]: how a client follows it;
//! - [`Trust`]: which servers it follows;
//! - [`Program`]: which programs follow without being told to by the host.
#![forbid(unsafe_code)]

mod connection;
pub mod drain;
mod exemptions;
mod follow;
mod lease;
pub mod message;
mod mode;
mod note;
mod policy;
mod program;
mod settings;
mod shown;
mod switch;
mod target;
mod trust;

pub use connection::{Connection, Transport, WayIn, client_address};
pub use exemptions::{ExemptHosts, ExemptHostsError, ExemptUsers, ExemptUsersError};
pub use follow::{Follow, FollowError, MAX_HOPS, Next};
pub use lease::{HoldTimeout, HoldTimeoutError, Lease};
pub use message::{Message, Text, TextError};
pub use mode::{Mode, ModeError};
pub use note::{MAX_NOTE, Note, NoteError};
pub use policy::{Exemption, Policy, Redirect, Verdict};
pub use program::{Program, ProgramRule};
pub use settings::{Caution, SettingError, Settings, ThisServer, Variable};
pub use switch::{Switch, SwitchError};
pub use target::{DEFAULT_PORT, Host, Target, TargetError};
pub use trust::{Distrust, Peer, Trust, TrustError};

/// The error code of a redirect, `ER_INSTANT_FAILOVER`.
///
/// MariaDB 11.8 and later use the same number for an unrelated error of a statement, so the code alone means nothing: a
/// client tests it together with the form of the message ([`message::parse`]) and with being in the connection phase.
pub const ER_INSTANT_FAILOVER: u16 = 4196;
