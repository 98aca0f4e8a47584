//! The ports that the server reserves for emergencies.
//!
//! One is the port of the option `extra_port`. Others are sockets that systemd passes under the name `extra`; the server
//! then ignores the option and listens on what it was passed. It leaves the environment and the sockets unchanged, so we
//! find them as it did.

use std::env;
use std::mem::ManuallyDrop;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{FromRawFd, RawFd};
use std::process;
use std::sync::OnceLock;

use super::host;

/// The first socket that systemd passes.
const FIRST: RawFd = 3;

/// Where the sockets with the systemd name `extra` listen.
static NAMED: OnceLock<Vec<SocketAddr>> = OnceLock::new();

/// Notes where systemd's sockets listen. They stay open as long as the server accepts connections.
pub(super) fn find() {
    NAMED.get_or_init(named);
}

/// Whether this end of a connection is an extra port.
pub(super) fn is_extra(socket: RawFd) -> bool {
    if socket < 0 {
        return false;
    }
    // SAFETY: the descriptor belongs to the login, which lasts longer than this function; ManuallyDrop leaves it open.
    let socket = ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(socket) });
    let Ok(here) = socket.local_addr() else { return false };
    Some(here.port()) == host::extra_port()
        || NAMED.get().is_some_and(|named| named.iter().any(|&place| has_accepted(place, here)))
}

/// Whether a connection to `here` was accepted by the socket that listens at `place`: both then have the same family.
fn has_accepted(place: SocketAddr, here: SocketAddr) -> bool {
    place.port() == here.port()
        && place.is_ipv4() == here.is_ipv4()
        && (place.ip().is_unspecified() || place.ip() == here.ip())
}

fn named() -> Vec<SocketAddr> {
    let variable = |name| env::var(name).unwrap_or_default();
    let (names, number) = (variable("LISTEN_FDNAMES"), variable("LISTEN_FDS"));
    let is_for_us = variable("LISTEN_PID").parse() == Ok(process::id());
    let number: usize = number.parse().ok().filter(|_| is_for_us).unwrap_or_default();
    // Like the server, which compares the whole name.
    let extra = names.split(':').take(number).zip(FIRST..).filter(|&(name, _)| name == "extra");
    extra.filter_map(|(_, socket)| listening(socket)).collect()
}

/// Where a socket listens; `None` if it does not, or not for TCP.
fn listening(socket: RawFd) -> Option<SocketAddr> {
    // SAFETY: only asked for its address; ManuallyDrop leaves it open. A descriptor that is no socket is an error.
    let socket = ManuallyDrop::new(unsafe { TcpListener::from_raw_fd(socket) });
    socket.local_addr().ok()
}

#[cfg(test)]
mod tests {
    use super::has_accepted;

    #[test]
    fn a_connection_belongs_to_the_socket_that_accepted_it() {
        for (place, here, accepted) in [
            ("127.0.0.1:3307", "127.0.0.1:3307", true),
            ("0.0.0.0:3307", "127.0.0.1:3307", true),
            ("[::1]:3307", "[::1]:3307", true),
            ("[::]:3307", "[::1]:3307", true),
            ("[::]:3307", "[::ffff:127.0.0.1]:3307", true),
            ("127.0.0.1:3307", "127.0.0.1:3306", false),
            // The same port for two purposes.
            ("127.0.0.1:3307", "10.0.0.1:3307", false),
            ("[::]:3307", "127.0.0.1:3307", false),
            ("0.0.0.0:3307", "[::1]:3307", false),
        ] {
            assert_eq!(has_accepted(place.parse().unwrap(), here.parse().unwrap()), accepted, "{place} {here}");
        }
    }
}
