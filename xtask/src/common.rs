//! Code shared by several commands.

pub(crate) mod nightly;
pub(crate) mod plot;
pub(crate) mod results;
pub(crate) mod sample;
pub(crate) mod tls;
pub(crate) mod tools;
