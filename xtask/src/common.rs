//! Code shared by several commands.

pub(crate) mod git;
pub(crate) mod nightly;
pub(crate) mod plot;
pub(crate) mod results;
pub(crate) mod sample;
pub(crate) mod script;
pub(crate) mod tls;
pub(crate) mod tools;
