//! One connected socket.

use std::cell::Cell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send, sendmsg};

use super::socket::{do_not_pace, segment_bytes};
use crate::limits::IOVECS_MAX;
use crate::net::{Stream, StreamError, StreamParcel};

/// What the stream's calls tell its group.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Bytes arrived since the group looked.
    pub(super) active: Cell<bool>,
    /// The last receive found the socket empty.
    pub(super) drained: Cell<bool>,
    /// The peer closed its side, or the connection broke: nothing more will arrive.
    pub(super) ended: Cell<bool>,
}

#[derive(Debug)]
pub(super) struct TcpEnd {
    fd: OwnedFd,
    peer: SocketAddr,
    local: SocketAddr,
    segment_bytes: usize,
    signals: Rc<Signals>,
}

impl TcpEnd {
    /// Takes over a connected socket. An error when it broke in the meantime.
    pub(super) fn new(fd: OwnedFd, signals: Rc<Signals>) -> io::Result<Self> {
        let socket = TcpStream::from(fd);
        socket.set_nonblocking(true)?;
        // Responses are gathered by the caller; waiting for more would only add latency.
        socket.set_nodelay(true)?;
        let (peer, local) = (socket.peer_addr()?, socket.local_addr()?);
        let fd = OwnedFd::from(socket);
        if peer.ip().is_loopback() {
            do_not_pace(&fd);
        }
        let segment_bytes = segment_bytes(&fd);
        Ok(Self { fd, peer, local, segment_bytes, signals })
    }

    pub(super) fn raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

/// `EINTR` cannot happen on a nonblocking socket, but a retry costs nothing.
fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> Result<T, StreamError> {
    loop {
        match call() {
            Ok(value) => return Ok(value),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(StreamError::WouldBlock),
            Err(errno) => return Err(StreamError::Broken(errno as i32)),
        }
    }
}

impl Stream for TcpEnd {
    fn try_recv(&mut self, into: &mut [IoSliceMut<'_>]) -> Result<usize, StreamError> {
        debug_assert!(into.iter().any(|slice| !slice.is_empty()), "nowhere to receive to");
        // A single run takes the cheaper call.
        let result = match into {
            [one] => retry(|| recv(self.fd.as_raw_fd(), one, MsgFlags::empty())),
            many => {
                let count = many.len().min(IOVECS_MAX);
                retry(|| nix::sys::uio::readv(&self.fd, &mut many[..count]))
            }
        };
        match result {
            Ok(0) => self.signals.ended.set(true),
            Ok(_) => self.signals.active.set(true),
            Err(StreamError::WouldBlock) => self.signals.drained.set(true),
            Err(StreamError::Broken(_)) => self.signals.ended.set(true),
        }
        result
    }

    fn try_send(&mut self, from: &[IoSlice<'_>]) -> Result<usize, StreamError> {
        debug_assert!(from.iter().any(|slice| !slice.is_empty()), "nothing to send");
        // A peer that is gone is an error value, not a signal.
        let flags = MsgFlags::MSG_NOSIGNAL;
        match from {
            [one] => retry(|| send(self.fd.as_raw_fd(), one, flags)),
            many => {
                let many = &many[..many.len().min(IOVECS_MAX)];
                retry(|| sendmsg::<()>(self.fd.as_raw_fd(), many, &[], flags, None))
            }
        }
    }

    fn segment_bytes(&self) -> usize {
        self.segment_bytes
    }

    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn local(&self) -> SocketAddr {
        self.local
    }

    fn into_parcel(self: Box<Self>) -> StreamParcel {
        StreamParcel::Socket(self.fd)
    }
}
