//! The sockets that clients connect to.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use listenfd::ListenFd;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tracing::{info, warn};

/// The time between attempts to listen on a port or socket that is still in use.
const RETRY: Duration = Duration::from_millis(10);
/// At most so long is waited for the port of the metrics, with clients in the queue. A program that is stopping closes it
/// together with the others.
const METRICS_PATIENCE: Duration = Duration::from_secs(1);

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// Names and addresses; `*` means all addresses.
    pub(super) bind_addresses: Vec<String>,
    /// None if clients use only the Unix socket. 0 picks a free port.
    pub(super) port: Option<u16>,
    pub(super) extra_port: Option<u16>,
    pub(super) socket: Option<PathBuf>,
    pub(super) metrics: Option<SocketAddr>,
    /// How many clients can wait to be accepted; the system may allow fewer.
    pub(super) back_log: u32,
    /// How long to wait for a port or socket that is still in use.
    pub(super) patience: Duration,
}

impl Places {
    fn back_log(&self) -> i32 {
        self.back_log.try_into().unwrap_or(i32::MAX)
    }
}

/// All sockets.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    pub(super) tcp: Vec<TcpListener>,
    pub(super) extra: Vec<TcpListener>,
    pub(super) unix: Vec<UnixListener>,
    pub(super) metrics: Option<TcpListener>,
    /// Files to remove at the end.
    pub(super) made: Vec<SocketFile>,
}

/// A socket's file, removed when this value is dropped.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listeners {
    /// Opens all sockets. Sockets that systemd passes are used instead of the ports and the socket of `places`:
    /// a TCP socket that is named `extra`, as in mariadbd, or is on the port of `--extra-port`, is an extra port; all
    /// others are the standard one. Without a place for the metrics it goes on, with a warning.
    ///
    /// # Errors
    /// Which socket cannot be opened, and why.
    pub(super) fn open(places: &Places) -> Result<Self, String> {
        let deadline = Instant::now() + places.patience;
        let mut listeners = Self::inherited(places.extra_port)?;
        let are_passed = !(listeners.tcp.is_empty() && listeners.extra.is_empty() && listeners.unix.is_empty());
        if !are_passed {
            listeners.bind_ports(places, deadline)?;
        }
        listeners.bind_metrics(places, deadline);
        if !are_passed {
            listeners.bind_socket(places, deadline)?;
        }
        for listener in listeners.tcp.iter().chain(&listeners.extra) {
            // On Linux, accepted connections inherit it. Without it, data often waits 40 ms until the client has
            // acknowledged the data before it.
            let set = SockRef::from(listener).set_tcp_nodelay(true);
            set.map_err(|error| format!("TCP_NODELAY: {error}"))?;
        }
        Ok(listeners)
    }

    fn inherited(extra_port: Option<u16>) -> Result<Self, String> {
        let mut listeners = Self::default();
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let is_named_extra = |index| names.split(':').nth(index) == Some("extra");
        let mut passed = ListenFd::from_env();
        for index in 0..passed.len() {
            let wrong = |error: io::Error| format!("socket {index} passed by systemd: {error}");
            if let Ok(Some(listener)) = passed.take_tcp_listener(index) {
                let port = listener.local_addr().map_err(wrong)?.port();
                listener.set_nonblocking(true).map_err(wrong)?;
                let is_extra = Some(port) == extra_port || is_named_extra(index);
                if is_extra { &mut listeners.extra } else { &mut listeners.tcp }.push(listener);
            } else if let Some(listener) = passed.take_unix_listener(index).map_err(wrong)? {
                listener.set_nonblocking(true).map_err(wrong)?;
                listeners.unix.push(listener);
            }
        }
        Ok(listeners)
    }

    fn bind_ports(&mut self, places: &Places, deadline: Instant) -> Result<(), String> {
        if let Some(port) = places.port {
            self.tcp = bind_all(places, port, deadline)?;
        }
        if let Some(port) = places.extra_port {
            self.extra = bind_all(places, port, deadline)?;
        }
        Ok(())
    }

    /// Clients can do without the metrics.
    fn bind_metrics(&mut self, places: &Places, deadline: Instant) {
        let Some(address) = places.metrics else { return };
        match bind_tcp(address, places, deadline.min(Instant::now() + METRICS_PATIENCE)) {
            Ok(listener) => self.metrics = Some(listener),
            Err(why) => warn!("{why}; going on without --metrics: give it another port, and restart"),
        }
    }

    /// Last: after that there is a file that must be removed at the end, so nothing may block any more.
    fn bind_socket(&mut self, places: &Places, deadline: Instant) -> Result<(), String> {
        if let Some(path) = &places.socket {
            self.unix.push(bind_unix(path, places, deadline)?);
            self.made.push(SocketFile(path.clone()));
        }
        if self.tcp.is_empty() && self.unix.is_empty() {
            return Err("nothing to listen on: give --port, --socket, or both".to_owned());
        }
        Ok(())
    }

    /// Whether only programs on this machine can connect.
    pub(super) fn are_local(&self) -> bool {
        let mut addresses = self.tcp.iter().chain(&self.extra).map(TcpListener::local_addr);
        addresses.all(|address| address.is_ok_and(|address| address.ip().is_loopback()))
    }

    /// The standard port and the extra port that are open.
    pub(super) fn ports(&self) -> (u16, Option<u16>) {
        let port = |listeners: &[TcpListener]| listeners.first()?.local_addr().ok().map(|address| address.port());
        (port(&self.tcp).unwrap_or_default(), port(&self.extra))
    }

    /// The path of the Unix socket, or an empty string.
    pub(super) fn socket_path(&self) -> String {
        let path =
            |listener: &UnixListener| listener.local_addr().ok()?.as_pathname().map(|path| path.display().to_string());
        self.unix.first().and_then(path).unwrap_or_default()
    }
}

impl fmt::Display for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (what, listeners) in [("", &self.tcp), ("extra port ", &self.extra)] {
            for address in listeners.iter().filter_map(|listener| listener.local_addr().ok()) {
                parts.push(format!("{what}{address}"));
            }
        }
        if !self.unix.is_empty() {
            parts.push(format!("socket {}", self.socket_path()));
        }
        if let Some(Ok(address)) = self.metrics.as_ref().map(TcpListener::local_addr) {
            parts.push(format!("metrics http://{address}/metrics"));
        }
        f.write_str(&parts.join(", "))
    }
}

/// Binds one port on all addresses. If the port is 0, the one that the first address gets is used for the others too.
fn bind_all(places: &Places, port: u16, deadline: Instant) -> Result<Vec<TcpListener>, String> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for name in &places.bind_addresses {
        for mut address in addresses(name, port)? {
            if let Some(Ok(first)) = listeners.first().map(TcpListener::local_addr) {
                address.set_port(first.port());
            }
            listeners.push(bind_tcp(address, places, deadline)?);
        }
    }
    Ok(listeners)
}

fn addresses(name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if name == "*" {
        // One socket for both families, if the system has IPv6.
        let any: SocketAddr = (Ipv6Addr::UNSPECIFIED, port).into();
        let has_ipv6 = Socket::new(Domain::IPV6, Type::STREAM, None).is_ok();
        return Ok(vec![if has_ipv6 { any } else { (Ipv4Addr::UNSPECIFIED, port).into() }]);
    }
    let found = (name, port).to_socket_addrs();
    found.map(Iterator::collect).map_err(|error| format!("--bind-address {name}: {error}"))
}

/// Binds; while another server is listening, retries until the deadline.
fn once_free<T>(what: &str, deadline: Instant, bind: impl Fn() -> io::Result<T>) -> Result<T, String> {
    let mut waiting = false;
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                if !waiting {
                    info!("waiting for {what}: another server is listening on it");
                }
                waiting = true;
                sleep(RETRY);
            }
            bound => return bound.map_err(|error| format!("cannot listen on {what}: {error}")),
        }
    }
}

fn bind_tcp(address: SocketAddr, places: &Places, deadline: Instant) -> Result<TcpListener, String> {
    once_free(&address.to_string(), deadline, || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        // Connections that the previous server left behind do not matter.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(places.back_log())?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    })
}

fn bind_unix(path: &Path, places: &Places, deadline: Instant) -> Result<UnixListener, String> {
    once_free(&format!("--socket {}", path.display()), deadline, || {
        let address = SockAddr::unix(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // A server that accepts nothing and whose queue is full must not block us.
        socket.set_nonblocking(true)?;
        let connected = socket.connect(&address);
        match connected {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(taken()),
            Ok(()) => return Err(taken()),
            // Left behind by a server that crashed. No other kind of file is removed.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && is_socket(path) => {
                // Or it is about to remove the file itself, and must not remove ours.
                sleep(RETRY);
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            Err(_) => {}
        }
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        listener.bind(&address)?;
        // Any user may connect, as with mariadbd; authentication comes later.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
        listener.set_nonblocking(true)?;
        listener.listen(places.back_log())?;
        Ok(listener.into())
    })
}

fn taken() -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, "another server is listening on it")
}

fn is_socket(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use mio::net::TcpListener;

    use super::{Listeners, Places};

    #[test]
    fn answers_do_not_wait_for_acknowledgements() {
        let places = Places {
            bind_addresses: vec!["127.0.0.1".to_owned()],
            port: Some(0),
            extra_port: Some(0),
            socket: None,
            metrics: None,
            back_log: 128,
            patience: Duration::ZERO,
        };
        let listeners = Listeners::open(&places).unwrap();
        for listener in [&listeners.tcp[0], &listeners.extra[0]] {
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            listener.set_nonblocking(false).unwrap();
            // As the event loop accepts.
            let (stream, _) = TcpListener::from_std(listener.try_clone().unwrap()).accept().unwrap();
            assert!(stream.nodelay().unwrap());
        }
    }
}
