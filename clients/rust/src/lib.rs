//! Connections that follow instant failover for MariaDB.
//!
//! A server in instant failover answers a login with error 4196: *not here, go there*. Connect by this crate, and your
//! program goes there, with all of its options:
//!
//! - [`mysql::connect`] instead of `mysql::Conn::new`, and [`mysql::Manager`] for r2d2;
//! - [`mysql_async::connect`] instead of `mysql_async::Conn::new`, and [`mysql_async::Manager`] for deadpool.
//!
//! Each is there with the feature of the same name: `mysql`, `mysql_async`, `r2d2`, `deadpool`. For another driver,
//! [`Follow`] says where to go, and you connect.
//!
//! Redirects are followed only while connecting, at most [`MAX_HOPS`] in a row, and never remembered: the next
//! connection begins at the server that you named. [`Trust`] says which servers may redirect.
#![forbid(unsafe_code)]

#[cfg(any(feature = "mysql", feature = "mysql_async"))]
mod attempt;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "mysql_async")]
pub mod mysql_async;
#[cfg(any(feature = "mysql", feature = "mysql_async"))]
mod witness;

pub use failover::{Follow, FollowError, Host, MAX_HOPS, Next, Target, Trust, TrustError};
