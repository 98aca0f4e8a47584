//! Instant failover for MariaDB: a server that redirects every new client to another server at once.
//!
//! # Layout
//!
//! - [`failover`]: the decision and how to follow it, in a separate crate;
//! - `server`: the plugin inside mariadbd, which takes the decision for each login;
//! - `client`: the plugin inside Connector/C, which follows;
//! - `boundary`: the only way to define a function that C may call; no panic leaves it;
//! - `loaded`: what is loaded into the process, for both;
//! - `sys`: what C offers, generated from `c-shim/shim.h`.
//!
//! Only `server`, `client`, `boundary`, `loaded` and `sys` hold `unsafe` code.

mod boundary;
mod client;
mod loaded;
mod server;
mod sys;

/// The version of this crate: major, minor, patch.
const VERSION: [std::ffi::c_uint; 3] = {
    const fn number(text: &str) -> std::ffi::c_uint {
        match std::ffi::c_uint::from_str_radix(text, 10) {
            Ok(number) => number,
            Err(_) => panic!("cargo gives numbers"),
        }
    }
    [
        number(env!("CARGO_PKG_VERSION_MAJOR")),
        number(env!("CARGO_PKG_VERSION_MINOR")),
        number(env!("CARGO_PKG_VERSION_PATCH")),
    ]
};
