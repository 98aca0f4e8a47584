//! One command for the DBA: switches the roles of a MariaDB primary and its replica, without a write that is lost.
#![forbid(unsafe_code)]

pub mod plan;
pub mod servers;
