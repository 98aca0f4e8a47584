//! The command with real servers.

mod application;
mod faults;
mod pair;
mod whole;
