//! The command with real servers.
//!
//! They need the plugin: `cargo build --release --package instant-failover`.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "clippy recognises tests by their attribute, but not their helpers"
)]

mod application;
mod failover;
mod faults;
mod link;
mod overtaken;
mod pair;
mod refusals;
mod rolling;
mod surprises;
mod ways;
mod whole;
