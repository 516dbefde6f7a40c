//! Making and tuning sockets.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, getsockopt, listen,
    setsockopt, socket, sockopt,
};

use crate::limits::{LISTEN_BACKLOG, SOCKET_BUFFER_BYTES};

/// What a packet may hold before it is divided, less room for its headers: the kernel's default.
const GSO_BYTES: usize = 65_536 - 321;

/// The kernel's ceilings for buffers that an unprivileged process sets: receive and send, in bytes.
fn buffer_ceilings() -> (usize, usize) {
    static CEILINGS: OnceLock<(usize, usize)> = OnceLock::new();
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/core/{name}")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    *CEILINGS.get_or_init(|| (read("rmem_max"), read("wmem_max")))
}

/// Asks for large buffers. A size that the system would cut is not set at all: a fixed small
/// buffer is worse than the kernel's own tuning, which a fixed size switches off.
pub(super) fn enlarge_buffers(fd: &OwnedFd) {
    let (recv_max, send_max) = buffer_ceilings();
    if setsockopt(fd, sockopt::RcvBufForce, &SOCKET_BUFFER_BYTES).is_err() && recv_max >= SOCKET_BUFFER_BYTES
    {
        let _ = setsockopt(fd, sockopt::RcvBuf, &SOCKET_BUFFER_BYTES);
    }
    if setsockopt(fd, sockopt::SndBufForce, &SOCKET_BUFFER_BYTES).is_err() && send_max >= SOCKET_BUFFER_BYTES
    {
        let _ = setsockopt(fd, sockopt::SndBuf, &SOCKET_BUFFER_BYTES);
    }
}

/// Within one machine nothing gets congested, but an algorithm that paces its packets (BBR) would hold them back all the same.
/// Reno is in every kernel, and every process may choose it; a refusal costs some throughput.
pub(super) fn do_not_pace(fd: &OwnedFd) {
    let _ = setsockopt(fd, sockopt::TcpCongestion, &OsString::from("reno"));
}

/// The size of what the kernel hands to the network's layers at once: as many of the connection's segments as fit into a packet before
/// the device divides it (GSO). The largest value when it does not say.
pub(super) fn segment_bytes(fd: &OwnedFd) -> usize {
    match getsockopt(fd, sockopt::TcpMaxSeg) {
        Ok(mss) if mss > 0 => (GSO_BYTES / mss as usize).max(1) * mss as usize,
        _ => usize::MAX,
    }
}

/// A nonblocking socket of the address's family.
fn nonblocking(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(family, SockType::Stream, flags, None)?)
}

/// A nonblocking socket that has begun to connect: writable once it is connected or has failed.
pub(super) fn connecting(to: SocketAddr) -> io::Result<OwnedFd> {
    let fd = nonblocking(to)?;
    enlarge_buffers(&fd);
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd),
        Err(errno) => Err(errno.into()),
    }
}

/// What became of a connection attempt: 0, or the system's error number. Asking takes the error away.
pub(super) fn take_error(fd: &OwnedFd) -> i32 {
    getsockopt(fd, sockopt::SocketError).unwrap_or_else(|errno| errno as i32)
}

/// A nonblocking listening socket. Accepted connections inherit its buffers.
pub(super) fn listening(address: SocketAddr) -> io::Result<OwnedFd> {
    let fd = nonblocking(address)?;
    // A restart must not wait for connections of the previous run to be forgotten.
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        // The IPv4 wildcard is its own portal.
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    enlarge_buffers(&fd);
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&fd, Backlog::new(LISTEN_BACKLOG).unwrap_or(Backlog::MAXCONN))?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_not_paced_when_asked_so() {
        let socket = nonblocking("127.0.0.1:0".parse().expect("an address")).expect("a descriptor");
        do_not_pace(&socket);
        let algorithm = getsockopt(&socket, sockopt::TcpCongestion).expect("every socket has one");
        assert_eq!(algorithm.to_string_lossy().trim_end_matches('\0'), "reno");
    }

    #[test]
    fn a_taken_port_is_an_error() {
        let first = listening("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let first = std::net::TcpListener::from(first);
        let error = listening(first.local_addr().expect("bound")).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
