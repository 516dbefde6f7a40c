//! Sockets without readiness: fio's thread spins, so every stream is simply tried in every turn.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, sendmsg, setsockopt, sockopt};
use nix::sys::uio::readv;
use reactor::net::{Connector, Listener, Network, Ready, Stream, StreamError, StreamGroup, StreamParcel};

/// Time for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What a socket asks for in each direction; the system may give less.
const SOCKET_BUFFER_BYTES: usize = 2 << 20;

/// The network of fio's thread. Connecting waits; nothing else does.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpinNetwork;

struct Connected(Option<Result<OwnedFd, i32>>);

impl Connector for Connected {
    fn try_finish(&mut self) -> Result<StreamParcel, StreamError> {
        match self.0.take() {
            Some(Ok(fd)) => Ok(StreamParcel::Socket(fd)),
            Some(Err(errno)) => Err(StreamError::Broken(errno)),
            None => Err(StreamError::Broken(Errno::ENOTCONN as i32)),
        }
    }
}

fn connect(to: SocketAddr) -> io::Result<OwnedFd> {
    let stream = TcpStream::connect_timeout(&to, CONNECT_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let fd = OwnedFd::from(stream);
    // A smaller buffer works as well.
    let _ = setsockopt(&fd, sockopt::RcvBufForce, &SOCKET_BUFFER_BYTES);
    let _ = setsockopt(&fd, sockopt::SndBufForce, &SOCKET_BUFFER_BYTES);
    Ok(fd)
}

impl Network for SpinNetwork {
    fn listen(&self, _address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect(&self, to: SocketAddr) -> io::Result<Box<dyn Connector>> {
        let connected = connect(to).map_err(|error| error.raw_os_error().unwrap_or(Errno::ETIMEDOUT as i32));
        Ok(Box::new(Connected(Some(connected))))
    }

    fn group(&self) -> Box<dyn StreamGroup> {
        Box::new(SpinGroup::default())
    }
}

#[derive(Debug, Default)]
struct Entry {
    token: u32,
    wants_send: bool,
    paused: bool,
}

/// Names every stream, every time.
#[derive(Debug, Default)]
struct SpinGroup {
    entries: Vec<Entry>,
}

impl SpinGroup {
    fn change(&mut self, token: u32, change: impl FnOnce(&mut Entry)) {
        let entry = self.entries.iter_mut().find(|entry| entry.token == token);
        change(entry.expect("a token names a stream of the group"));
    }
}

impl StreamGroup for SpinGroup {
    fn adopt(&mut self, parcel: StreamParcel, token: u32) -> io::Result<Box<dyn Stream>> {
        let StreamParcel::Socket(fd) = parcel else { return Err(io::ErrorKind::InvalidInput.into()) };
        let socket = TcpStream::from(fd);
        let (peer, local) = (socket.peer_addr()?, socket.local_addr()?);
        self.entries.push(Entry { token, ..Entry::default() });
        Ok(Box::new(SpinStream { fd: socket.into(), peer, local }))
    }

    fn want_send(&mut self, token: u32) {
        self.change(token, |entry| entry.wants_send = true);
    }

    fn pause_recv(&mut self, token: u32, paused: bool) {
        self.change(token, |entry| entry.paused = paused);
    }

    fn note_drained(&mut self, _token: u32, _drained: bool) {}

    fn remove(&mut self, token: u32) {
        self.entries.retain(|entry| entry.token != token);
    }

    fn take_ready(&mut self, out: &mut Vec<Ready>, max: usize) {
        let limit = out.len() + max;
        for entry in &mut self.entries {
            if std::mem::take(&mut entry.wants_send) && out.len() < limit {
                out.push(Ready { token: entry.token, send: true });
            }
            if !entry.paused && out.len() < limit {
                out.push(Ready { token: entry.token, send: false });
            }
        }
    }
}

#[derive(Debug)]
struct SpinStream {
    fd: OwnedFd,
    peer: SocketAddr,
    local: SocketAddr,
}

fn outcome(result: nix::Result<usize>) -> Result<usize, StreamError> {
    match result {
        Ok(bytes) => Ok(bytes),
        Err(Errno::EAGAIN | Errno::EINTR) => Err(StreamError::WouldBlock),
        Err(errno) => Err(StreamError::Broken(errno as i32)),
    }
}

impl Stream for SpinStream {
    fn try_recv(&mut self, into: &mut [IoSliceMut<'_>]) -> Result<usize, StreamError> {
        outcome(readv(&self.fd, into))
    }

    fn try_send(&mut self, from: &[IoSlice<'_>]) -> Result<usize, StreamError> {
        // A peer that is gone is an error value, not a signal.
        outcome(sendmsg::<()>(self.fd.as_raw_fd(), from, &[], MsgFlags::MSG_NOSIGNAL, None))
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
