//! Byte streams as a poller sees them: never waits, vectored both ways, readiness by token.
//!
//! A stream belongs to one core and to one [`StreamGroup`]. `take_ready` names the streams worth a
//! try; a spurious name costs one `WouldBlock`, a missing one would be a bug.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;

/// Why a stream gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// Nothing now; the group will name the stream again.
    #[error("nothing to do now")]
    WouldBlock,
    /// The stream is dead. Carries the operating system's error number.
    #[error("the connection failed: {}", Failed(*.0))]
    Broken(i32),
}

/// Why a connection failed, as a person reads it: the system's words for its error number, and where to look.
struct Failed(i32);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = io::Error::from_raw_os_error(self.0);
        let look = match said.kind() {
            io::ErrorKind::ConnectionRefused => {
                "; nothing listens there: check address and port, and that the other end runs"
            }
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::TimedOut => {
                "; check the address and the network between"
            }
            _ => "",
        };
        write!(f, "{said}{look}")
    }
}

/// A stream that was taken off its core and may travel to another one.
#[derive(Debug)]
pub enum StreamParcel {
    /// A connected TCP socket.
    Socket(std::os::fd::OwnedFd),
    /// A simulated stream, by its number in the simulated network.
    Simulated(u64),
}

/// One end of a connected byte stream.
pub trait Stream {
    /// Receives into `into` in order. `Ok(0)` means that the peer closed its side.
    fn try_recv(&mut self, into: &mut [IoSliceMut<'_>]) -> Result<usize, StreamError>;

    /// Sends from `from` in order; how many bytes were taken, at least one.
    fn try_send(&mut self, from: &[IoSlice<'_>]) -> Result<usize, StreamError>;

    /// The size of the largest piece in which the system hands the stream down: what one piece costs hardly depends on how full it is
    /// ([`crate::gather`]). Without pieces: more than will ever be sent.
    fn segment_bytes(&self) -> usize {
        usize::MAX
    }

    /// The other end.
    fn peer(&self) -> SocketAddr;

    /// This end: for a target, the portal that the peer reached.
    fn local(&self) -> SocketAddr;

    /// Takes the stream off this core, to be adopted by a group of another one.
    fn into_parcel(self: Box<Self>) -> StreamParcel;
}

/// A stream that is worth trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The token given at registration.
    pub token: u32,
    /// It was named because `want_send` was set and there is room again (or it broke).
    pub send: bool,
}

/// The streams of one poller on one core.
pub trait StreamGroup {
    /// Takes over a stream. From now on `take_ready` names `token` when it is worth a `try_recv`
    /// (at least once, right after the adoption). Errors: the operating system's.
    fn adopt(&mut self, parcel: StreamParcel, token: u32) -> std::io::Result<Box<dyn Stream>>;

    /// Asks to be told once when `token` can send again, after a `try_send` that would block.
    fn want_send(&mut self, token: u32);

    /// While paused, `token` is not named for receiving (back-pressure).
    fn pause_recv(&mut self, token: u32, paused: bool);

    /// The stream of `token` was read until `WouldBlock` this turn (true) or may hold more (false);
    /// a stream that may hold more is named again at the next turn.
    fn note_drained(&mut self, token: u32, drained: bool);

    /// Forgets `token`; call it before the stream is dropped or parcelled.
    fn remove(&mut self, token: u32);

    /// Appends at most `max` ready streams to `out`.
    fn take_ready(&mut self, out: &mut Vec<Ready>, max: usize);
}

/// A listening socket.
pub trait Listener {
    /// The address it listens on, with the port the system chose when 0 was asked for.
    fn local(&self) -> SocketAddr;

    /// The next connection, if one waits. `Err(WouldBlock)` when none does; `Err(Broken)` carries
    /// what the system said (out of descriptors, for example) and the listener stays usable.
    fn try_accept(&mut self) -> Result<(StreamParcel, SocketAddr), StreamError>;
}

/// A connection that is being made. Dropping it gives the attempt up. How long to wait is the owner's to bound.
pub trait Connector {
    /// The connection, once it is made. `Err(WouldBlock)` until then; `Err(Broken)` when the attempt has failed, and
    /// after either answer the connector is of no more use.
    fn try_finish(&mut self) -> Result<StreamParcel, StreamError>;
}

/// The network of one core.
pub trait Network {
    /// Listens on `address`. A name clash or a missing permission is the system's error.
    fn listen(&self, address: SocketAddr) -> std::io::Result<Box<dyn Listener>>;

    /// Begins a connection to `to` and waits for nothing. An error of the peer or the path may come here or from the
    /// connector. A network that only listens says `Unsupported`.
    fn connect(&self, to: SocketAddr) -> std::io::Result<Box<dyn Connector>> {
        let _ = to;
        Err(std::io::ErrorKind::Unsupported.into())
    }

    /// A new, empty group of streams.
    fn group(&self) -> Box<dyn StreamGroup>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_connection_says_why_and_where_to_look() {
        let text = |errno| StreamError::Broken(errno).to_string();
        assert!(
            text(libc::ECONNREFUSED).starts_with(
                "the connection failed: Connection refused (os error 111); nothing listens there"
            )
        );
        for errno in [libc::EHOSTUNREACH, libc::ENETUNREACH, libc::ETIMEDOUT] {
            assert!(text(errno).ends_with("check the address and the network between"));
        }
        assert_eq!(text(libc::ECONNRESET), "the connection failed: Connection reset by peer (os error 104)");
    }
}
