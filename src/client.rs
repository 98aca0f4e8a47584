//! Inside Connector/C: the connection plugin that follows redirects.
//!
//! A program uses it by writing the host as `instant_failover://db1` or `instant_failover://db1:3307`; everything else
//! stays as it is. Connector/C then calls [`connect`] instead of its own function, which we call for each server on the way.
//! Or its environment has `LIBMYSQL_PLUGINS=instant_failover`: then all its connections come to us ([`by_default`]).
//!
//! - [`declaration`]: what Connector/C looks up in the library;
//! - [`handle`]: safe wrappers around a connection handle;
//! - [`url`]: the host as the program wrote it;
//! - [`connect`]: connecting, reconnecting and closing;
//! - [`by_default`]: the same for hosts without a prefix;
//! - [`table`]: recognising where to hook into Connector/C for that;
//! - [`plaintext`]: keeping apart what comes before TLS and inside it;
//! - [`packet`]: how much of a packet is still to come;
//! - [`socket`]: recognising where to hook into Connector/C for that;
//! - [`originals`]: what stood in the place of our functions.
//!
//! # Threads
//!
//! A handle belongs to one thread at a time, and so does all we keep with it. With the non-blocking API Connector/C may
//! suspend [`connect`] in the middle and resume it in another thread, so nothing there is kept in thread-local variables.

mod by_default;
mod connect;
mod declaration;
mod handle;
mod originals;
mod packet;
mod plaintext;
mod socket;
mod table;
mod url;
