//! What the decision needs to know of a new connection.

use std::net::IpAddr;

/// A connection that wants to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection<'a> {
    /// How it came.
    pub transport: Transport,
    /// The user name as the client gave it.
    pub user: &'a [u8],
    /// The client's address; none for a Unix socket.
    pub address: Option<IpAddr>,
}

/// How a connection reached the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Over TCP, with or without TLS.
    Tcp {
        /// Whether it came to a port that the server keeps for emergencies.
        extra: bool,
    },
    /// Through a Unix socket, or anything else that is not the network.
    Local,
}

/// The three ways in that a mode tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayIn {
    /// Over the network, to the standard port.
    Tcp,
    /// Over the network, to the extra port.
    ExtraPort,
    /// Through the Unix socket.
    Socket,
}

impl Transport {
    /// Which of the three ways in it is.
    #[must_use]
    pub const fn way_in(self) -> WayIn {
        match self {
            Self::Local => WayIn::Socket,
            Self::Tcp { extra: true } => WayIn::ExtraPort,
            Self::Tcp { extra: false } => WayIn::Tcp,
        }
    }
}
