//! Instant failover for MariaDB: a server that can tell every new client, at once, "not here, go there".
pub mod failover;
mod server;
