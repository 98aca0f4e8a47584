//! What a switchover does, and when: plain values and pure functions, no I/O.
//!
//! - [`facts`]: what is read for the check;
//! - [`gtid`]: positions, and which transactions one server has and another one lacks;
//! - [`seen`]: what was read from the servers;
//! - [`record`]: what is written down, so that another run can continue or go back;
//! - [`state`]: how far a switchover has come, judged by what the servers show;
//! - [`step`]: the steps, each with its undo;
//! - [`next`]: the next step, decided anew after each step from what the servers show;
//! - [`drive`]: the loop of looking, deciding and doing, over a [`drive::World`];
//! - [`check`]: what must be right before anything changes;
//! - [`failover`]: the same where the old primary is dead;
//! - [`rolling`]: one node after the other;
//! - [`unfinished`]: where an interrupted operation stands.

pub mod check;
pub mod drive;
pub mod facts;
pub mod failover;
pub mod gtid;
pub mod next;
pub mod record;
pub mod rolling;
pub mod seen;
pub mod state;
pub mod step;
pub mod unfinished;

#[cfg(test)]
mod simulation;
