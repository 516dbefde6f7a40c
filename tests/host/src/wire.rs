//! A TCP socket that carries PDUs, and every way to use it badly: a byte at a time, half a PDU, a reset.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use crate::limits;
use crate::pdu::{COMMON_BYTES, DDGST, Digests, HDGST, Pdu, crc32c, kind};

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
    /// The peer answered, but not what the standard asks for.
    #[error("the peer breaks the protocol: {0}")]
    Protocol(&'static str),
    /// The peer terminated the connection (C2HTermReq): fatal error status and information.
    #[error("the peer terminated the connection: status {0:#x}, information {1:#x}")]
    Terminated(u16, u32),
    /// A command that had to succeed did not; its status.
    #[error("a command ended with status {0:#05x}")]
    Status(u16),
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
    /// The digests in force; ICResp sets them.
    pub digests: Digests,
    /// Where data that we send begins: a multiple of this (CPDA).
    pub alignment_bytes: usize,
}

impl Wire {
    /// Connects within [`limits::PATIENCE`].
    pub fn connect(address: SocketAddr) -> Result<Self, WireError> {
        let stream = TcpStream::connect_timeout(&address, limits::PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limits::PATIENCE))?;
        stream.set_write_timeout(Some(limits::PATIENCE))?;
        let (received, digests) = (Vec::new(), Digests::default());
        Ok(Self { stream, received, taken: 0, digests, alignment_bytes: 4 })
    }

    /// How long a read or write may stand still.
    pub fn set_patience(&self, patience: Duration) -> Result<(), WireError> {
        self.stream.set_read_timeout(Some(patience))?;
        self.stream.set_write_timeout(Some(patience))?;
        Ok(())
    }

    /// Makes the kernel keep as little as it can for this end, so that a slow reader shows early.
    pub fn shrink_receive_buffer(&self) -> Result<(), WireError> {
        setsockopt(&self.stream, sockopt::RcvBuf, &4096).map_err(|errno| WireError::Io(errno.into()))
    }

    /// The bytes of a PDU on this wire.
    pub fn encode(&self, pdu: &Pdu) -> Vec<u8> {
        pdu.encode(self.digests, self.alignment_bytes)
    }

    /// Sends a PDU.
    pub fn send(&mut self, pdu: &Pdu) -> Result<(), WireError> {
        let bytes = self.encode(pdu);
        self.send_bytes(&bytes)
    }

    /// Sends any bytes.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Sends what fits now; 0 when the peer takes nothing within the patience.
    pub fn send_some(&mut self, bytes: &[u8]) -> Result<usize, WireError> {
        match self.stream.write(bytes).map_err(WireError::from) {
            Err(WireError::TimedOut) => Ok(0),
            sent => sent,
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

    /// The next PDU, checked for everything that frames it.
    pub fn recv(&mut self) -> Result<Pdu, WireError> {
        self.fill(COMMON_BYTES)?;
        let head = self.peek(0, COMMON_BYTES).to_vec();
        let [pdu_type, flags, hlen, pdo, ..] = head[..] else { unreachable!("eight bytes were read") };
        let plen = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (hlen, pdo) = (usize::from(hlen), usize::from(pdo));
        if hlen < COMMON_BYTES || plen < hlen || plen > limits::PDU_BYTES_MAX {
            return Err(WireError::Protocol("header and PDU length"));
        }
        self.fill(plen)?;
        let plain = pdu_type <= kind::C2H_TERM_REQ;
        let digests = if plain { Digests::default() } else { self.digests };
        if (flags & HDGST != 0) != digests.header {
            return Err(WireError::Protocol("header digest flag"));
        }
        let header = self.peek(0, hlen).to_vec();
        let mut data_at = hlen;
        if digests.header {
            data_at += 4;
            if plen < data_at || self.peek(hlen, 4) != crc32c(&header) {
                return Err(WireError::Digest("header"));
            }
        }
        let data = if plen == data_at {
            Vec::new()
        } else if plain {
            self.peek(hlen, plen - hlen).to_vec()
        } else {
            self.data(data_at..plen, pdo, flags, digests)?
        };
        self.taken += plen;
        Ok(Pdu { header, data })
    }

    fn data(
        &self,
        range: std::ops::Range<usize>,
        pdo: usize,
        flags: u8,
        digests: Digests,
    ) -> Result<Vec<u8>, WireError> {
        if !range.contains(&pdo) || !pdo.is_multiple_of(4) || (flags & DDGST != 0) != digests.data {
            return Err(WireError::Protocol("data offset or data digest flag"));
        }
        let end = if digests.data { range.end - 4 } else { range.end };
        if end <= pdo {
            return Err(WireError::Protocol("a PDU with data that has none"));
        }
        let data = self.peek(pdo, end - pdo);
        if digests.data && self.peek(end, 4) != crc32c(data) {
            return Err(WireError::Digest("data"));
        }
        Ok(data.to_vec())
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
