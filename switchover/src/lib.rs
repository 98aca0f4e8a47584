//! One command for the DBA: switches the roles of a MariaDB primary and its replica, without a write that is lost.
//!
//! # Layout
//! - [`plan`]: what is done, and when; no I/O
//! - [`servers`]: the option file with the servers
//! - [`database`], [`link`], [`look`]: sessions, and what servers show
//! - [`facts`]: everything that the check judges
//! - [`dead`], [`probe`], [`stand_in`]: what is left of a primary that is dead, and what is around it
//! - [`beside`]: whether another server has become the primary
//! - [`live`]: the steps, on servers
//! - [`rolling`]: nodes that are restarted one after the other
//! - [`store`], [`signals`]: the file with the record, and signals
//! - `threads`: work in other threads
//! - [`command`]: the command line
#![forbid(unsafe_code)]

pub mod beside;
pub mod command;
pub mod database;
pub mod dead;
pub mod facts;
pub mod link;
pub mod live;
pub mod look;
pub mod plan;
pub mod probe;
pub mod rolling;
pub mod servers;
pub mod signals;
pub mod stand_in;
pub mod store;
mod threads;
