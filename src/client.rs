//! Inside Connector/C: the connection plugin that follows redirects.
//!
//! A program uses it by writing the host as `instant_failover://db1` or `instant_failover://db1:3307`; everything else it
//! asks for stays as it is. Connector/C then calls [`connect`] in the place of its own function, which we call in turn for
//! each server on the way.
//!
//! - [`declaration`]: what Connector/C looks up in the library;
//! - [`handle`]: safe functions over a connection handle;
//! - [`url`]: the host as the program wrote it;
//! - [`connect`]: connecting, reconnecting and closing.
//!
//! # Threads
//!
//! A handle belongs to one thread at a time, and so does all we keep with it. With the non-blocking API Connector/C may
//! leave [`connect`] in the middle and come back in another thread, so nothing there is kept in thread-local variables.

mod connect;
mod declaration;
mod handle;
mod url;
