//! A listening socket, armed with the ring: without a connection a call costs nothing.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::errno::Errno;

use super::socket;
use crate::net::{Listener, StreamError, StreamParcel};
use crate::stats::CoreStats;
use crate::uring::{PollKey, PollQueue, Uring};

pub(super) struct TcpListener {
    socket: std::net::TcpListener,
    local: SocketAddr,
    uring: Uring,
    stats: Arc<CoreStats>,
    events: PollQueue,
    poll: PollKey,
}

impl TcpListener {
    pub(super) fn new(uring: &Uring, stats: Arc<CoreStats>, address: SocketAddr) -> io::Result<Self> {
        let socket = std::net::TcpListener::from(socket::listening(address)?);
        let local = socket.local_addr()?;
        let events = PollQueue::default();
        let poll = uring.register_poll(&events, 0);
        uring.arm_poll(poll, socket.as_raw_fd(), false);
        Ok(Self { socket, local, uring: uring.clone(), stats, events, poll })
    }
}

/// The peer gave up before it was accepted (accept(2) passes such errors on); the next may be fine.
fn is_about_one_connection(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ECONNABORTED
            | Errno::EINTR
            | Errno::ENETDOWN
            | Errno::EPROTO
            | Errno::ENOPROTOOPT
            | Errno::EHOSTDOWN
            | Errno::ENONET
            | Errno::EHOSTUNREACH
            | Errno::EOPNOTSUPP
            | Errno::ENETUNREACH
            | Errno::EPERM
            | Errno::ETIMEDOUT
    )
}

impl Listener for TcpListener {
    fn local(&self) -> SocketAddr {
        self.local
    }

    fn try_accept(&mut self) -> Result<(StreamParcel, SocketAddr), StreamError> {
        if self.events.borrow().is_empty() {
            return Err(StreamError::WouldBlock);
        }
        loop {
            let error = match self.socket.accept() {
                Ok((stream, peer)) => return Ok((StreamParcel::Socket(stream.into()), peer)),
                Err(error) => error,
            };
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
            if errno == Errno::EAGAIN {
                self.events.borrow_mut().clear();
                self.uring.arm_poll(self.poll, self.socket.as_raw_fd(), false);
                return Err(StreamError::WouldBlock);
            }
            if !is_about_one_connection(errno) {
                // Out of descriptors or memory. The connection stays in the backlog, so asking at
                // once would ask for ever: the listener rests a moment.
                self.events.borrow_mut().clear();
                self.uring.arm_pause(self.poll);
                self.stats.accept_failures.add(1);
                return Err(StreamError::Broken(errno as i32));
            }
        }
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.uring.unregister_poll(self.poll);
    }
}
