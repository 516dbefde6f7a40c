//! Non-blocking reads and writes that are tried again and again: the cheapest way over a socket when a core
//! is free for it.

use std::io::{Error, ErrorKind, IoSlice, Read, Result, Write};
use std::net::TcpStream;

/// Makes a connection ready for spinning: non-blocking, and small messages leave at once.
pub fn prepare(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)
}

/// Tries one read: `Ok(None)` when nothing is there, an error when the peer closed.
pub fn try_read(stream: &mut TcpStream, into: &mut [u8]) -> Result<Option<usize>> {
    match stream.read(into) {
        Ok(0) => Err(Error::from(ErrorKind::UnexpectedEof)),
        Ok(n) => Ok(Some(n)),
        Err(e) if would_block(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Tries one vectored write: how many bytes were taken, 0 when there is no room.
pub fn try_write(stream: &mut TcpStream, from: &[IoSlice<'_>]) -> Result<usize> {
    match stream.write_vectored(from) {
        Ok(n) => Ok(n),
        Err(e) if would_block(&e) => Ok(0),
        Err(e) => Err(e),
    }
}

/// Writes all of `from`, spinning while there is no room.
pub fn write_all(stream: &mut TcpStream, mut from: &[u8]) -> Result<()> {
    while !from.is_empty() {
        let sent = try_write(stream, &[IoSlice::new(from)])?;
        from = &from[sent..];
        if sent == 0 {
            std::hint::spin_loop();
        }
    }
    Ok(())
}

/// Fills `into`, spinning while nothing is there.
pub fn read_exact(stream: &mut TcpStream, into: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    while filled < into.len() {
        match try_read(stream, &mut into[filled..])? {
            Some(n) => filled += n,
            None => std::hint::spin_loop(),
        }
    }
    Ok(())
}

/// True for the errors that a peer causes by going away.
pub fn is_closed(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

fn would_block(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
