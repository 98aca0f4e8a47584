//! Inside mariadbd.
//!
//! A login reaches us through [`hooks`] in front of every authentication plugin's `authenticate_user`. They ask the
//! [policy in force](state) for a verdict and either send the redirect or call the original. Changes to the policy come
//! through [`variables`]; [`status`] counts what has been done.
//!
//! - [`host`]: safe wrappers around the server's functions;
//! - [`declaration`]: what the server looks up in the library;
//! - [`lifecycle`]: INSTALL, start-up and UNINSTALL;
//! - [`extra_ports`]: whether a connection came to a port reserved for emergencies;
//! - [`redirect`]: the error that sends a client elsewhere;
//! - [`account`]: accounts `IDENTIFIED VIA instant_failover`;
//! - [`hold`]: logins that wait until the mode changes;
//! - [`sessions`]: the open sessions, and how a drain ends them;
//! - [`keeper`]: the thread that ends a HOLD in time, and drives a drain.
//!
//! # Threads
//!
//! Any thread of the server may be in any of these functions at any time, even after UNINSTALL: the library is linked
//! `nodelete` and never unmapped. Logins only read atomics and the policy, and never wait for it to change.

mod account;
mod declaration;
mod extra_ports;
mod hold;
mod hooks;
pub(crate) mod host;
mod keeper;
mod lifecycle;
mod redirect;
mod sessions;
mod state;
mod status;
mod variables;
