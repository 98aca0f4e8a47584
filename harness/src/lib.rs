//! The stand-in: it answers new connections as a mariadbd with the plugin would, without a mariadbd.
//!
//! - [`main`]: from the command line to the end of the process;
//! - `options`: command line, options file;
//! - `listeners`, `event_loop`: sockets and I/O; `tls`: certificates; `metrics`: counters for Prometheus; `log`, `files`;
//! - [`Connection`]: one connection without its I/O, made of `proxy` (what a proxy says about the client), `packet` (what is
//!   sent, in which `character_set`), `login` (what a client sends to log in), `accounts` (authentication) and `session`
//!   (commands after the login);
//! - [`Shared`]: what all connections share, with what is in force, the `counters` and the `open_sessions`.
//!
//! The verdict and the text of error 4196 come from [`failover`].
#![forbid(unsafe_code)]

mod accounts;
mod character_set;
mod connection;
mod counters;
mod event_loop;
mod files;
mod listeners;
mod log;
mod login;
mod metrics;
mod open_sessions;
mod options;
mod packet;
mod proxy;
mod run;
mod session;
mod shared;
mod tls;

pub use accounts::{Accounts, Authenticated, Peer, Scramble};
pub use connection::Connection;
pub use files::When;
pub use metrics::Exchange;
pub use packet::{MAX_LOGIN, MAX_PACKET, Next};
pub use proxy::{Header, MAX_HEADER, ProxyNetworks, Source, read as read_proxy_header};
pub use run::main;
pub use shared::{Configuration, Identity, Shared, Version};
