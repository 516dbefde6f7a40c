//! An outgoing connection that is being made: armed with the ring, so waiting for it costs nothing.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use super::socket;
use crate::net::{Connector, StreamError, StreamParcel};
use crate::uring::{PollKey, PollQueue, Uring};

pub(super) struct TcpConnector {
    /// Gone once the answer was given.
    fd: Option<OwnedFd>,
    uring: Uring,
    events: PollQueue,
    poll: PollKey,
}

impl TcpConnector {
    pub(super) fn new(uring: &Uring, to: SocketAddr) -> io::Result<Self> {
        let fd = socket::connecting(to)?;
        let events = PollQueue::default();
        let poll = uring.register_poll(&events, 0);
        uring.arm_poll(poll, fd.as_raw_fd(), true);
        Ok(Self { fd: Some(fd), uring: uring.clone(), events, poll })
    }
}

impl Connector for TcpConnector {
    fn try_finish(&mut self) -> Result<StreamParcel, StreamError> {
        if self.events.borrow().is_empty() {
            return Err(StreamError::WouldBlock);
        }
        let fd = self.fd.take().ok_or(StreamError::Broken(libc::ENOTCONN))?;
        match socket::take_error(&fd) {
            0 => Ok(StreamParcel::Socket(fd)),
            errno => Err(StreamError::Broken(errno)),
        }
    }
}

impl Drop for TcpConnector {
    fn drop(&mut self) {
        self.uring.unregister_poll(self.poll);
    }
}
