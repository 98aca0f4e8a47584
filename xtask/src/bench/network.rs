//! Network functions that the standard library lacks: connections from a given address, many open files, the ends of many
//! connections, and a slow resolver.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Connects from that address. The timeout applies to connecting and to each read.
pub(super) fn connect(source: Ipv4Addr, server: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let SocketAddr::V4(server) = server else { return Err(io::ErrorKind::Unsupported.into()) };
    // SAFETY: no pointers; nothing else owns the returned descriptor.
    let socket = unsafe {
        let socket = checked(libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))?;
        TcpStream::from(OwnedFd::from_raw_fd(socket))
    };
    // Linux applies it to connect() as well.
    socket.set_write_timeout(Some(timeout))?;
    socket.set_read_timeout(Some(timeout))?;
    socket.set_nodelay(true)?;
    let late_port: libc::c_int = 1;
    let (source, server) = (address(SocketAddrV4::new(source, 0)), address(server));
    let length = |size: usize| libc::socklen_t::try_from(size).unwrap_or_default();
    let size = length(size_of::<libc::sockaddr_in>());
    // SAFETY: an open socket, and values that live during the calls, each with its size.
    unsafe {
        // connect() chooses the port, per destination: connections from other addresses can use the same one.
        let option = (&raw const late_port).cast();
        let option_size = length(size_of_val(&late_port));
        checked(libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            option,
            option_size,
        ))?;
        checked(libc::bind(socket.as_raw_fd(), (&raw const source).cast(), size))?;
        checked(libc::connect(socket.as_raw_fd(), (&raw const server).cast(), size))?;
    }
    Ok(socket)
}

fn address(address: SocketAddrV4) -> libc::sockaddr_in {
    // SAFETY: all-zero bytes are a valid sockaddr_in.
    let mut raw: libc::sockaddr_in = unsafe { mem::zeroed() };
    raw.sin_family = libc::sa_family_t::try_from(libc::AF_INET).unwrap_or_default();
    raw.sin_port = address.port().to_be();
    raw.sin_addr.s_addr = address.ip().to_bits().to_be();
    raw
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Raises the limit of open files to the maximum, for this process and its children.
pub(super) fn allow_many_files() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid rlimit to fill in, and to read.
    unsafe {
        checked(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))?;
        limit.rlim_cur = limit.rlim_max;
        checked(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)).map(drop)
    }
}

/// Connections that the other side will close.
#[derive(Debug)]
pub(super) struct Endings {
    epoll: OwnedFd,
    connections: usize,
}

impl Endings {
    pub(super) fn of(streams: &[TcpStream]) -> io::Result<Self> {
        // SAFETY: no pointers; nothing else owns the returned descriptor.
        let epoll = unsafe { OwnedFd::from_raw_fd(checked(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        for stream in streams {
            let mut event = libc::epoll_event { events: ENDED, u64: 0 };
            // SAFETY: two open descriptors, and a value to read.
            unsafe {
                let epoll = epoll.as_raw_fd();
                checked(libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, stream.as_raw_fd(), &raw mut event))?;
            }
        }
        Ok(Self { epoll, connections: streams.len() })
    }

    /// Waits until all have been closed, and returns when the last one was.
    pub(super) fn wait(self, limit: Duration) -> Result<Instant> {
        let began = Instant::now();
        let mut left = self.connections;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
        while left > 0 {
            ensure!(began.elapsed() < limit, "{left} of {} are open after {limit:?}", self.connections);
            // SAFETY: room for so many events.
            let ended = unsafe { checked(libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), 256, 1000))? };
            left -= usize::try_from(ended)?;
        }
        Ok(Instant::now())
    }
}

/// Each connection is reported once.
const ENDED: u32 = (libc::EPOLLRDHUP | libc::EPOLLET | libc::EPOLLONESHOT).cast_unsigned();

/// A name server that answers every query with "no such name" after a delay. It ends with the program.
#[derive(Debug)]
pub(super) struct Resolver(SocketAddr);

impl Resolver {
    pub(super) fn start(delay: Duration) -> Result<Self> {
        // The port is fixed, so find a loopback address where it is free.
        let mut hosts = (1..=254).map(|n| SocketAddr::from(([127, 53, 0, n], 53)));
        let socket = hosts.find_map(|address| UdpSocket::bind(address).ok());
        let socket = socket.context("port 53 is not free on any of 127.53.0.1 to 127.53.0.254")?;
        let address = socket.local_addr()?;
        let answers = socket.try_clone()?;
        let (send, receive) = mpsc::channel::<(Instant, Vec<u8>, SocketAddr)>();
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                let mut answer = buffer[..length].to_vec();
                // Turn the query into an answer: no such name.
                if let Some(flags) = answer.get_mut(2..4) {
                    flags.copy_from_slice(&[0x81, 0x83]);
                }
                if send.send((Instant::now() + delay, answer, client)).is_err() {
                    break;
                }
            }
        });
        thread::spawn(move || {
            for (when, answer, client) in receive {
                sleep(when.saturating_duration_since(Instant::now()));
                let _ = answers.send_to(&answer, client);
            }
        });
        Ok(Self(address))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.0
    }
}
