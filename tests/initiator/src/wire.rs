//! A TCP socket that carries PDUs, and every way to use it badly: a byte at a time, half a PDU, a reset.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};

use crate::limits;
use crate::pdu::{BHS_BYTES, Digests, Pdu, crc32c};

/// Why the wire gave no PDU.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The peer closed or reset the connection.
    #[error("the peer closed the connection")]
    Closed,
    /// Nothing came for the whole time that was allowed.
    #[error("nothing arrived within the time allowed")]
    TimedOut,
    /// The peer's digest does not fit the bytes.
    #[error("wrong {0} digest from the peer")]
    Digest(&'static str),
    /// The peer sent a data segment longer than was offered.
    #[error("a data segment of {0} bytes is longer than was offered")]
    TooLong(usize),
    /// The peer answered, but not what the standard asks for.
    #[error("unexpected answer: {0}")]
    Protocol(&'static str),
    /// The peer rejected a PDU (RFC 7143, 11.17); the reason code.
    #[error("rejected, reason {0:#04x}")]
    Rejected(u8),
    /// The operating system's error.
    #[error("socket error: {0}")]
    Io(std::io::Error),
}

impl From<std::io::Error> for WireError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::TimedOut,
            ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            | ErrorKind::ConnectionAborted => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
    taken: usize,
    /// The digests in force; a login sets them.
    pub digests: Digests,
}

impl Wire {
    /// Connects to `portal` within [`limits::PATIENCE`].
    pub fn connect(portal: SocketAddr) -> Result<Self, WireError> {
        Self::of(TcpStream::connect_timeout(&portal, limits::PATIENCE)?)
    }

    /// As [`Wire::connect`], from this address of ours: another peer, as the target sees it.
    pub fn connect_from(source: Ipv4Addr, portal: SocketAddr) -> Result<Self, WireError> {
        let io = |errno: Errno| WireError::Io(errno.into());
        let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).map_err(io)?;
        bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((source, 0)))).map_err(io)?;
        connect(fd.as_raw_fd(), &SockaddrStorage::from(portal)).map_err(io)?;
        Self::of(TcpStream::from(fd))
    }

    fn of(stream: TcpStream) -> Result<Self, WireError> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limits::PATIENCE))?;
        stream.set_write_timeout(Some(limits::PATIENCE))?;
        Ok(Self { stream, received: Vec::new(), taken: 0, digests: Digests::default() })
    }

    /// How long a read or write may stand still.
    pub fn set_patience(&self, patience: Duration) -> Result<(), WireError> {
        self.stream.set_read_timeout(Some(patience))?;
        self.stream.set_write_timeout(Some(patience))?;
        Ok(())
    }

    /// Makes the kernel keep as little as it can for this end, so that a slow reader shows early.
    pub fn shrink_receive_buffer(&self) -> Result<(), WireError> {
        setsockopt(&self.stream, sockopt::RcvBuf, &4096)
            .map_err(|errno| WireError::Io(std::io::Error::from(errno)))
    }

    /// Sends a PDU.
    pub fn send(&mut self, pdu: &Pdu) -> Result<(), WireError> {
        let bytes = pdu.encode(self.digests);
        self.send_bytes(&bytes)
    }

    /// Sends any bytes.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Sends what fits now; 0 when the peer takes nothing within the patience.
    pub fn send_some(&mut self, bytes: &[u8]) -> Result<usize, WireError> {
        match self.stream.write(bytes) {
            Ok(count) => Ok(count),
            Err(error) => match WireError::from(error) {
                WireError::TimedOut => Ok(0),
                other => Err(other),
            },
        }
    }

    /// Sends one byte per segment, `pause` between them.
    pub fn send_slowly(&mut self, bytes: &[u8], pause: Duration) -> Result<(), WireError> {
        for byte in bytes {
            self.stream.write_all(std::slice::from_ref(byte))?;
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
        Ok(())
    }

    /// The next PDU. The header's own lengths decide how much is read, within what was offered.
    pub fn recv(&mut self) -> Result<Pdu, WireError> {
        self.fill(BHS_BYTES)?;
        let mut bhs = [0; BHS_BYTES];
        bhs.copy_from_slice(self.peek(0, BHS_BYTES));
        let ahs_bytes = usize::from(bhs[4]) * 4;
        let data_bytes = u32::from_be_bytes([0, bhs[5], bhs[6], bhs[7]]) as usize;
        if data_bytes > limits::RECV_DATA_SEGMENT_BYTES_MAX as usize {
            return Err(WireError::TooLong(data_bytes));
        }
        let header_bytes = BHS_BYTES + ahs_bytes;
        let digest_bytes = if self.digests.header { 4 } else { 0 };
        self.fill(header_bytes + digest_bytes)?;
        if self.digests.header && self.peek(header_bytes, 4) != crc32c(self.peek(0, header_bytes)) {
            return Err(WireError::Digest("header"));
        }
        let ahs = self.peek(BHS_BYTES, ahs_bytes).to_vec();
        self.taken += header_bytes + digest_bytes;
        let data = self.recv_data(data_bytes)?;
        Ok(Pdu { bhs, ahs, data })
    }

    fn recv_data(&mut self, data_bytes: usize) -> Result<Vec<u8>, WireError> {
        if data_bytes == 0 {
            return Ok(Vec::new());
        }
        let padded_bytes = data_bytes.next_multiple_of(4);
        let digest_bytes = if self.digests.data { 4 } else { 0 };
        self.fill(padded_bytes + digest_bytes)?;
        if self.digests.data && self.peek(padded_bytes, 4) != crc32c(self.peek(0, padded_bytes)) {
            return Err(WireError::Digest("data"));
        }
        let data = self.peek(0, data_bytes).to_vec();
        self.taken += padded_bytes + digest_bytes;
        Ok(data)
    }

    /// Reads whatever comes until the peer closes; `Ok` carries the PDUs that came before.
    pub fn drain_until_closed(&mut self) -> Result<Vec<Pdu>, WireError> {
        let mut pdus = Vec::new();
        loop {
            match self.recv() {
                Ok(pdu) => pdus.push(pdu),
                Err(WireError::Closed) => return Ok(pdus),
                Err(error) => return Err(error),
            }
        }
    }

    /// Closes this end's sending half.
    pub fn finish_sending(&self) -> Result<(), WireError> {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }

    /// Closes with a TCP reset instead of a FIN.
    pub fn reset(self) {
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        // A socket that is already broken cannot be reset any more; either way it is gone.
        let _ = setsockopt(&self.stream, sockopt::Linger, &linger);
    }

    fn peek(&self, offset: usize, length: usize) -> &[u8] {
        &self.received[self.taken + offset..self.taken + offset + length]
    }

    fn fill(&mut self, wanted: usize) -> Result<(), WireError> {
        if self.taken > 0 && self.taken == self.received.len() {
            self.received.clear();
            self.taken = 0;
        } else if self.taken > 1 << 20 {
            self.received.drain(..self.taken);
            self.taken = 0;
        }
        let mut chunk = [0; 64 * 1024];
        while self.received.len() - self.taken < wanted {
            let count = self.stream.read(&mut chunk)?;
            if count == 0 {
                return Err(WireError::Closed);
            }
            self.received.extend_from_slice(&chunk[..count]);
        }
        Ok(())
    }
}
