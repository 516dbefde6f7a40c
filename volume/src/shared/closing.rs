//! The end of a volume: ports gone, flushed, closed, answered.

use super::error::VolumeError;
use super::limits::OWN_PORT;
use super::lost::Gone;
use super::message::Answer;
use super::state::{Shared, State, tag_of};
use crate::bdev::{Io, IoChannel, Op};
use crate::metadata::MemoryStore;
use crate::volume::Volume;
use reactor::buffer::{BufferPool, Sgl};

type Closed = Answer<Result<(), VolumeError>>;

/// How far a volume is on its way out.
pub(super) enum Closing {
    /// It serves.
    No,
    /// Waits for its ports.
    Ports(Closed),
    /// Its own flush is under way.
    Flushing(Closed),
    /// Everything is on the medium; waits for what is still in flight.
    Flushed(Closed),
    /// Nothing is left.
    Closed,
}

impl Closing {
    pub fn is_closing(&self) -> bool {
        !matches!(self, Self::No)
    }

    pub fn begin(&mut self, answer: Closed) {
        assert!(!self.is_closing(), "a volume closes once");
        *self = Self::Ports(answer);
    }
}

impl Shared {
    /// Goes on closing: whether to come back, and the answer when the volume is closed.
    pub(super) fn poll_closing(&self) -> (bool, Option<Closed>) {
        let mut state = self.state.borrow_mut();
        if !state.closing.is_closing() {
            return (false, None);
        }
        if !state.has_ports() && state.is_idle() {
            state.flush();
        }
        // The front ends that would poll may be gone already.
        state.poll_volume(OWN_PORT, &mut Vec::new(), usize::MAX);
        let over = matches!(state.closing, Closing::Flushed(_)) && !state.has_ports() && state.is_idle();
        if !over {
            // The last port lists the volume again when it is dropped.
            return (!state.has_ports(), None);
        }
        let Closing::Flushed(answer) = std::mem::replace(&mut state.closing, Closing::Closed) else {
            unreachable!("looked at above");
        };
        state.close();
        (false, Some(answer))
    }

    /// The time is up: flushes although ports are open. True when that has been done.
    pub(super) fn flush_anyway(&self) -> bool {
        let mut state = self.state.borrow_mut();
        state.flush();
        state.poll_volume(OWN_PORT, &mut Vec::new(), usize::MAX);
        matches!(state.closing, Closing::Flushed(_) | Closing::Closed)
    }
}

impl State {
    /// Starts the last flush, once.
    fn flush(&mut self) {
        if !matches!(self.closing, Closing::Ports(_)) {
            return;
        }
        let Closing::Ports(answer) = std::mem::replace(&mut self.closing, Closing::No) else {
            unreachable!("looked at above");
        };
        let io = Io { tag: tag_of(OWN_PORT, 0), op: Op::Flush, sgl: Sgl::empty() };
        self.closing = match self.volume.submit(io) {
            Some(_) => Closing::Flushed(answer),
            None => Closing::Flushing(answer),
        };
    }

    /// Gives the device and the store back to the system, although somebody may still have a handle.
    fn close(&mut self) {
        let info = self.volume.info();
        let gone = Volume::new(Box::new(Gone(info)), &BufferPool::heap(&[])).expect("it needs no memory");
        self.volume = gone;
        self.metadata = Box::<MemoryStore>::default();
    }
}
