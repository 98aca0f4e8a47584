//! A descriptor that may have been closed, and given to something else, at any moment.
//!
//! A socket has an inode number that no other socket gets while it is open. A descriptor that has another inode is not ours
//! any more.

use std::os::fd::RawFd;

/// The inode of the socket behind a descriptor; `None` if it is not a socket, or closed.
pub(super) fn inode(socket: RawFd) -> Option<u64> {
    // SAFETY: all zeros are a value of this struct, into which the system writes. A bad descriptor is an error.
    unsafe {
        let mut status: libc::stat64 = std::mem::zeroed();
        let failed = libc::fstat64(socket, &raw mut status) != 0;
        (!failed && status.st_mode & libc::S_IFMT == libc::S_IFSOCK).then_some(status.st_ino)
    }
}

/// Ends the connection of the session whose thread this is: nothing that the client has sent is read by the server any more.
///
/// What arrives after the shutdown is refused by the system; what has arrived before it is read away here. So no statement is
/// executed whose answer could not be sent.
pub(super) fn end(socket: RawFd) {
    let mut buffer = [0_u8; 4096];
    // SAFETY: the descriptor belongs to this thread's session, which is alive; the buffer is as long as is said.
    unsafe {
        libc::shutdown(socket, libc::SHUT_RDWR);
        while libc::recv(socket, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) > 0 {}
    }
}

/// How many bytes have arrived and not been read; `None` if that cannot be told.
pub(super) fn unread(socket: RawFd) -> Option<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: an int, which is written. A descriptor that is no socket is an error, or tells something else.
    let failed = unsafe { libc::ioctl(socket, libc::FIONREAD, &raw mut bytes) != 0 };
    usize::try_from(bytes).ok().filter(|_| !failed)
}

/// Calls `act` with a descriptor that is that socket whatever happens meanwhile, and stays open as long as the call. `None` if it
/// is not that socket any more.
fn with_copy<T>(socket: RawFd, inode_number: u64, act: impl FnOnce(RawFd) -> T) -> Option<T> {
    if inode(socket) != Some(inode_number) {
        return None;
    }
    // SAFETY: no pointers. A copy of the descriptor stays what it is, whatever happens to the original.
    let copy = unsafe { libc::fcntl(socket, libc::F_DUPFD_CLOEXEC, 0) };
    // If it is a file by now, the copy must stay: closing any copy of it would drop the locks that the server has on it.
    let copied = inode(copy)?;
    let result = (copied == inode_number).then(|| act(copy));
    // SAFETY: made above, and a socket.
    unsafe { libc::close(copy) };
    result
}

/// Lets the server find the end of a connection over TCP when it has read what there is. What still arrives is read, too:
/// Linux goes on taking it. May be called in any thread: it does nothing if the descriptor is not that socket any more.
pub(super) fn end_reading(socket: RawFd, inode: u64) {
    // SAFETY: no pointers.
    let _ = with_copy(socket, inode, |socket| unsafe { libc::shutdown(socket, libc::SHUT_RD) });
}

/// Has the system drop what the client of a connection over TCP sends, as if it had been lost on the way. The client's system
/// sends it again, so nothing is lost for good if that is undone. False if the system does not do it. May be called in any thread.
pub(super) fn mute(socket: RawFd, inode: u64) -> bool {
    let program = libc::sock_fprog { len: STEPS, filter: WITHOUT_DATA.as_ptr().cast_mut() };
    with_copy(socket, inode, |socket| set(socket, libc::SO_ATTACH_FILTER, &program)).unwrap_or(false)
}

/// Undoes [`mute`]. May be called in any thread.
pub(super) fn unmute(socket: RawFd, inode: u64) {
    let _ = with_copy(socket, inode, |socket| set::<libc::c_int>(socket, libc::SO_DETACH_FILTER, &0));
}

/// Sets an option of a socket. False if the system refuses it.
fn set<T>(socket: RawFd, option: libc::c_int, value: &T) -> bool {
    let Ok(length) = libc::socklen_t::try_from(size_of::<T>()) else { return false };
    // SAFETY: a value of that size. A filter's program is read during the call.
    unsafe { libc::setsockopt(socket, libc::SOL_SOCKET, option, (&raw const *value).cast(), length) == 0 }
}

const STEPS: u16 = 9;

/// A program for the system's filter that takes packets of TCP without data, such as the end of a connection, and drops those
/// with data. A packet begins with the header of TCP, the length of which stands in the upper half of byte 12, in words.
static WITHOUT_DATA: [libc::sock_filter; STEPS as usize] = {
    #[expect(clippy::cast_possible_truncation, reason = "the system's codes have 16 bits")]
    const fn step(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
        libc::sock_filter { code: code as u16, jt, jf, k }
    }
    use libc::{
        BPF_ALU, BPF_AND, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_LEN, BPF_MISC, BPF_RET, BPF_RSH, BPF_SUB, BPF_TAX,
    };
    [
        step(BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 12),
        step(BPF_ALU | BPF_AND | BPF_K, 0, 0, 0xf0),
        step(BPF_ALU | BPF_RSH | BPF_K, 0, 0, 2),
        step(BPF_MISC | BPF_TAX, 0, 0, 0),
        step(BPF_LD | libc::BPF_W | BPF_LEN, 0, 0, 0),
        step(BPF_ALU | BPF_SUB | libc::BPF_X, 0, 0, 0),
        step(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
        step(BPF_RET | BPF_K, 0, 0, u32::MAX),
        step(BPF_RET | BPF_K, 0, 0, 0),
    ]
};

/// Whether the client of a connection over TCP has closed its end.
pub(super) fn has_peer_closed(socket: RawFd) -> bool {
    /// `TCP_ESTABLISHED` in the system's headers.
    const ESTABLISHED: u8 = 1;
    // SAFETY: all zeros are a value of this struct, whose size is given.
    unsafe {
        let mut info: libc::tcp_info = std::mem::zeroed();
        let mut length = libc::socklen_t::try_from(size_of_val(&info)).unwrap_or_default();
        let failed =
            libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut length) != 0;
        failed || info.tcpi_state != ESTABLISHED
    }
}

/// The sockets of this process that clients have connected to: (descriptor, inode). Their own address is that of a socket
/// that listens.
pub(super) fn connections() -> Vec<(RawFd, u64)> {
    let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let sockets = descriptors.filter_map(|entry| {
        let socket: RawFd = entry.ok()?.file_name().to_str()?.parse().ok()?;
        Some((socket, inode(socket)?, listens(socket)?, Address::of(socket)?))
    });
    let (listening, others): (Vec<_>, Vec<_>) = sockets.partition(|&(_, _, listens, _)| listens);
    let is_client = |address: &Address| listening.iter().any(|(.., place)| place == address);
    others.into_iter().filter(|(.., address)| is_client(address)).map(|(socket, inode, ..)| (socket, inode)).collect()
}

/// Whether a socket listens; `None` if it is not a stream.
fn listens(socket: RawFd) -> Option<bool> {
    let option = |name| {
        let (mut value, mut length): (libc::c_int, libc::socklen_t) = (0, 4);
        // SAFETY: an int, whose size is given. A descriptor that is no socket is an error.
        let failed =
            unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut length) != 0 };
        (!failed).then_some(value)
    };
    (option(libc::SO_TYPE)? == libc::SOCK_STREAM).then_some(option(libc::SO_ACCEPTCONN)? != 0)
}

/// A socket's own address: the port, or the path.
#[derive(Debug, PartialEq, Eq)]
enum Address {
    Port(u16),
    Path(Vec<u8>),
}

impl Address {
    fn of(socket: RawFd) -> Option<Self> {
        // SAFETY: all zeros are an address; its size is given, and the system writes no more.
        let (address, length) = unsafe {
            let mut address: libc::sockaddr_storage = std::mem::zeroed();
            let mut length = libc::socklen_t::try_from(size_of_val(&address)).ok()?;
            if libc::getsockname(socket, (&raw mut address).cast(), &raw mut length) != 0 {
                return None;
            }
            (address, usize::try_from(length).ok()?.min(size_of_val(&address)))
        };
        let start = (&raw const address).cast::<u8>();
        // SAFETY: within the struct, every byte of which has a value.
        let bytes = unsafe { std::slice::from_raw_parts(start, length) };
        match i32::from(address.ss_family) {
            // The port stands at the same place in both families.
            libc::AF_INET | libc::AF_INET6 => Some(Self::Port(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
            libc::AF_UNIX => Some(Self::Path(bytes.get(2..)?.split(|&byte| byte == 0).next()?.to_vec())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::time::Duration;

    use super::{connections, end_reading, has_peer_closed, inode, mute, unmute, unread};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, client)
    }

    #[test]
    fn what_is_sent_to_a_muted_socket_comes_later() {
        let (mut server, mut client) = pair();
        let (socket, number) = (server.as_raw_fd(), inode(server.as_raw_fd()).unwrap());
        assert!(mute(socket, number));
        client.write_all(b"select").unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(unread(socket), Some(0));
        unmute(socket, number);
        server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut read = [0; 6];
        server.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"select");
        // The end of the connection has no data.
        assert!(mute(socket, number) && !has_peer_closed(socket));
        drop(client);
        assert_eq!(server.read(&mut read).unwrap(), 0);
        assert!(has_peer_closed(socket));
    }

    #[test]
    fn the_end_of_reading_leaves_what_has_arrived() {
        let (mut server, mut client) = pair();
        client.write_all(b"begin").unwrap();
        let mut read = [0; 5];
        server.peek(&mut read).unwrap();
        end_reading(server.as_raw_fd(), inode(server.as_raw_fd()).unwrap());
        server.read_exact(&mut read).unwrap();
        assert_eq!(server.read(&mut read).unwrap(), 0);
        client.write_all(b"later").unwrap();
        while unread(server.as_raw_fd()) == Some(0) {}
        assert_eq!(server.read(&mut read).unwrap(), 5);
        server.write_all(b"answer").unwrap();
        client.read_exact(&mut read).unwrap();
        // It is another socket by that number.
        assert!(!mute(server.as_raw_fd(), 1));
    }

    #[test]
    fn connections_are_those_that_were_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let (tcp, unix) = (TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), UnixListener::bind(&path).unwrap());
        let client = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let local = UnixStream::connect(&path).unwrap();
        let (one, _) = tcp.accept().unwrap();
        let (other, _) = unix.accept().unwrap();
        let all = connections();
        let has = |socket| all.contains(&(socket, inode(socket).unwrap()));
        assert!(has(one.as_raw_fd()) && has(other.as_raw_fd()));
        assert!(![client.as_raw_fd(), local.as_raw_fd(), tcp.as_raw_fd(), unix.as_raw_fd()].into_iter().any(has));
        let (descriptor, number) = (one.as_raw_fd(), inode(one.as_raw_fd()));
        drop(one);
        assert_ne!(inode(descriptor), number);
    }
}
