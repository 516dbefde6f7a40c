//! A network of one connection that is two byte buffers: what is left of an I/O's cost when the kernel's
//! share is taken away.

use std::cell::RefCell;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use reactor::net::{Listener, Network, Ready, Stream, StreamError, StreamGroup, StreamParcel};

/// Answers are kept up to here (the login is looked at), later ones are only counted.
const KEPT_BYTES: usize = 4096;

#[derive(Debug, Default)]
struct State {
    input: Vec<u8>,
    taken: usize,
    accepted: bool,
    token: Option<u32>,
    output: Vec<u8>,
    sent_bytes: u64,
}

/// Both ends; a clone is another handle.
#[derive(Clone, Debug, Default)]
pub struct Pipe {
    state: Rc<RefCell<State>>,
}

impl Pipe {
    /// Gives bytes to the target.
    pub fn feed(&self, bytes: &[u8]) {
        let mut state = self.state.borrow_mut();
        if state.taken == state.input.len() {
            state.input.clear();
            state.taken = 0;
        }
        state.input.extend_from_slice(bytes);
    }

    /// How many bytes the target has sent so far.
    pub fn sent_bytes(&self) -> u64 {
        self.state.borrow().sent_bytes
    }

    /// The first bytes that the target has sent.
    pub fn first_output(&self) -> Vec<u8> {
        self.state.borrow().output.clone()
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
        let mut state = self.state.borrow_mut();
        if std::mem::replace(&mut state.accepted, true) {
            return Err(StreamError::WouldBlock);
        }
        Ok((StreamParcel::Simulated(0), address()))
    }
}

impl StreamGroup for Pipe {
    fn adopt(&mut self, _parcel: StreamParcel, token: u32) -> std::io::Result<Box<dyn Stream>> {
        self.state.borrow_mut().token = Some(token);
        Ok(Box::new(self.clone()))
    }

    fn want_send(&mut self, _token: u32) {}

    fn pause_recv(&mut self, _token: u32, _paused: bool) {}

    fn note_drained(&mut self, _token: u32, _drained: bool) {}

    fn remove(&mut self, _token: u32) {
        self.state.borrow_mut().token = None;
    }

    fn take_ready(&mut self, out: &mut Vec<Ready>, _max: usize) {
        let state = self.state.borrow();
        if let Some(token) = state.token
            && state.taken < state.input.len()
        {
            out.push(Ready { token, send: false });
        }
    }
}

impl Stream for Pipe {
    fn try_recv(&mut self, into: &mut [IoSliceMut<'_>]) -> Result<usize, StreamError> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let mut left = &state.input[state.taken..];
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
        state.taken += received;
        Ok(received)
    }

    fn try_send(&mut self, from: &[IoSlice<'_>]) -> Result<usize, StreamError> {
        let mut state = self.state.borrow_mut();
        let mut sent = 0;
        for slice in from {
            if state.output.len() < KEPT_BYTES {
                let room = KEPT_BYTES - state.output.len();
                state.output.extend_from_slice(&slice[..slice.len().min(room)]);
            }
            sent += slice.len();
        }
        state.sent_bytes += sent as u64;
        Ok(sent)
    }

    fn peer(&self) -> SocketAddr {
        address()
    }

    fn local(&self) -> SocketAddr {
        address()
    }

    fn into_parcel(self: Box<Self>) -> StreamParcel {
        StreamParcel::Simulated(0)
    }
}
