//! The standalone server: it answers new connections as a mariadbd with the plugin would, without a mariadbd.
//!
//! - [`main`]: from the command line to the end of the process;
//! - `options`: command line, options file;
//! - `listeners`, `event_loop`: sockets and their bytes; `tls`: certificates; `metrics`: for Prometheus; `log`, `files`;
//! - [`Connection`]: one connection without its I/O, made of `proxy` (what a proxy says about the client), `packet` (what is
//!   sent, in which `character_set`), `login` (what clients say about themselves), `accounts` (who gets in) and `session` (commands of those who are in);
//! - [`Shared`]: what all connections share, with its `counters`.
//!
//! The verdict and its words come from [`failover`].
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
