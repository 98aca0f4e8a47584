//! Inside Connector/C: the connection plugin that follows redirects.
//!
//! A program uses it by writing the host as `instant_failover://db1` or `instant_failover://db1:3307`; everything else
//! stays as it is. Connector/C then calls [`connect`] instead of its own function, which we call for each server on the way.
//!
//! - [`declaration`]: what Connector/C looks up in the library;
//! - [`handle`]: safe wrappers around a connection handle;
//! - [`url`]: the host as the program wrote it;
//! - [`connect`]: connecting, reconnecting and closing.
//!
//! # Threads
//!
//! A handle belongs to one thread at a time, and so does all we keep with it. With the non-blocking API Connector/C may
//! suspend [`connect`] in the middle and resume it in another thread, so nothing there is kept in thread-local variables.

mod connect;
mod declaration;
mod handle;
mod url;
