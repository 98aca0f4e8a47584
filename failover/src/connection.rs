//! What the decision needs to know of a new connection.

use std::net::IpAddr;

/// A connection that wants to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection<'a> {
    /// How it reached the server.
    pub transport: Transport,
    /// The user name as the client gave it.
    pub user: &'a [u8],
    /// The client's address; `None` for a Unix socket.
    pub address: Option<IpAddr>,
}

/// Parses a client's address as a server writes it. A link-local address may have a zone (`fe80::1%eth0`), which says
/// nothing about the client and is dropped. `None` if it is not an address.
#[must_use]
pub fn client_address(text: &str) -> Option<IpAddr> {
    text.split('%').next()?.parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// How a connection reached the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Over TCP, with or without TLS.
    Tcp {
        /// Whether it came to a port that the server reserves for emergencies.
        extra: bool,
    },
    /// Through a Unix socket, or any other transport that is not TCP.
    Local,
}

/// The three ways in that a mode distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayIn {
    /// TCP, to the standard port.
    Tcp,
    /// TCP, to the extra port.
    ExtraPort,
    /// The Unix socket.
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

#[cfg(test)]
mod tests {
    use super::client_address;

    #[test]
    fn addresses_of_clients_have_one_form_and_no_zone() {
        for (text, address) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::FFFF:C000:201", "192.0.2.1"),
            ("2001:DB8:0::1", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("fe80::1%2", "fe80::1"),
        ] {
            assert_eq!(client_address(text), Some(address.parse().unwrap()), "{text}");
        }
        for text in ["", "%eth0", "localhost", "192.0.2.1:3306", "[::1]"] {
            assert_eq!(client_address(text), None, "{text}");
        }
    }
}
