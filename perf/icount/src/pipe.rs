//! A network of connections that are two byte buffers each: what is left of an I/O's cost when the kernel's
//! share is taken away.

use std::cell::{RefCell, RefMut};
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use reactor::net::{Listener, Network, Ready, Stream, StreamError, StreamGroup, StreamParcel};

/// Answers are kept up to here (the login is looked at), later ones are only counted.
const KEPT_BYTES: usize = 4096;

#[derive(Debug, Default)]
struct Line {
    input: Vec<u8>,
    taken: usize,
    accepted: bool,
    token: Option<u32>,
    output: Vec<u8>,
    sent_bytes: u64,
}

/// A network, and a hand on one of its connections; a clone is another hand on the same one.
#[derive(Clone, Debug)]
pub struct Pipe {
    lines: Rc<RefCell<Vec<Line>>>,
    which: usize,
}

impl Default for Pipe {
    /// A network with one connection that waits to be accepted.
    fn default() -> Self {
        Self { lines: Rc::new(RefCell::new(vec![Line::default()])), which: 0 }
    }
}

impl Pipe {
    /// One more connection of the same network that waits to be accepted.
    pub fn dial(&self) -> Self {
        let mut lines = self.lines.borrow_mut();
        lines.push(Line::default());
        Self { lines: self.lines.clone(), which: lines.len() - 1 }
    }

    fn line(&self) -> RefMut<'_, Line> {
        RefMut::map(self.lines.borrow_mut(), |lines| &mut lines[self.which])
    }

    /// Gives bytes to the target.
    pub fn feed(&self, bytes: &[u8]) {
        let mut line = self.line();
        if line.taken == line.input.len() {
            line.input.clear();
            line.taken = 0;
        }
        line.input.extend_from_slice(bytes);
    }

    /// How many bytes the target has sent so far.
    pub fn sent_bytes(&self) -> u64 {
        self.line().sent_bytes
    }

    /// The first bytes that the target has sent.
    pub fn first_output(&self) -> Vec<u8> {
        self.line().output.clone()
    }
}

fn address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 3260))
}

impl Network for Pipe {
    fn listen(&self, _address: SocketAddr) -> std::io::Result<Box<dyn Listener>> {
        Ok(Box::new(self.clone()))
    }

    fn group(&self) -> Box<dyn StreamGroup> {
        Box::new(self.clone())
    }
}

impl Listener for Pipe {
    fn local(&self) -> SocketAddr {
        address()
    }

    fn try_accept(&mut self) -> Result<(StreamParcel, SocketAddr), StreamError> {
        let mut lines = self.lines.borrow_mut();
        let which = lines.iter().position(|line| !line.accepted).ok_or(StreamError::WouldBlock)?;
        lines[which].accepted = true;
        Ok((StreamParcel::Simulated(which as u64), address()))
    }
}

impl StreamGroup for Pipe {
    fn adopt(&mut self, parcel: StreamParcel, token: u32) -> std::io::Result<Box<dyn Stream>> {
        let StreamParcel::Simulated(which) = parcel else { panic!("every parcel comes from here") };
        let stream = Self { lines: self.lines.clone(), which: which as usize };
        stream.line().token = Some(token);
        Ok(Box::new(stream))
    }

    fn want_send(&mut self, _token: u32) {}

    fn pause_recv(&mut self, _token: u32, _paused: bool) {}

    fn note_drained(&mut self, _token: u32, _drained: bool) {}

    fn remove(&mut self, token: u32) {
        for line in self.lines.borrow_mut().iter_mut().filter(|line| line.token == Some(token)) {
            line.token = None;
        }
    }

    fn take_ready(&mut self, out: &mut Vec<Ready>, _max: usize) {
        for line in self.lines.borrow().iter() {
            if let Some(token) = line.token
                && line.taken < line.input.len()
            {
                out.push(Ready { token, send: false });
            }
        }
    }
}

impl Stream for Pipe {
    fn try_recv(&mut self, into: &mut [IoSliceMut<'_>]) -> Result<usize, StreamError> {
        let mut line = self.line();
        let line = &mut *line;
        let mut left = &line.input[line.taken..];
        if left.is_empty() {
            return Err(StreamError::WouldBlock);
        }
        let before = left.len();
        for slice in into {
            let count = slice.len().min(left.len());
            slice[..count].copy_from_slice(&left[..count]);
            left = &left[count..];
        }
        let received = before - left.len();
        line.taken += received;
        Ok(received)
    }

    fn try_send(&mut self, from: &[IoSlice<'_>]) -> Result<usize, StreamError> {
        let mut line = self.line();
        let mut sent = 0;
        for slice in from {
            if line.output.len() < KEPT_BYTES {
                let room = KEPT_BYTES - line.output.len();
                line.output.extend_from_slice(&slice[..slice.len().min(room)]);
            }
            sent += slice.len();
        }
        line.sent_bytes += sent as u64;
        Ok(sent)
    }

    fn peer(&self) -> SocketAddr {
        address()
    }

    fn local(&self) -> SocketAddr {
        address()
    }

    fn into_parcel(self: Box<Self>) -> StreamParcel {
        StreamParcel::Simulated(self.which as u64)
    }
}
