//! Bytes between the stream and the protocol: several receive calls a turn at most, one vectored send where it fits.

use std::io::{IoSlice, IoSliceMut};

use nvmf_proto::CloseCause;
use reactor::gather::{Behind, Gather};
use reactor::net::StreamError;

use super::{Link, QueuePair};
use crate::error::EndCause;
use crate::limits::{
    LARGE_PAYLOAD_BYTES, LONG_RECV_BYTES, RECV_CALLS_PER_TURN, SCRATCH_BESIDE_PAYLOAD_BYTES,
    SEND_CALLS_PER_TURN, SEND_VECTORS,
};
use crate::turn::Turn;

pub(super) fn end_cause(cause: CloseCause) -> EndCause {
    match cause {
        CloseCause::Requested => EndCause::Requested,
        CloseCause::Violation(violation) => EndCause::Violation(violation),
        CloseCause::PeerTerminated(cause) => EndCause::PeerTerminated(cause),
    }
}

/// What one receive call gave.
enum Took {
    Nothing,
    /// Everything that was there.
    All,
    /// As much as there was room for, or so much that more may have come meanwhile.
    Part,
    Ended(EndCause),
}

impl QueuePair {
    /// The stream was named as ready: takes what it has, within the turn's bound. True when it had anything. Take the completions
    /// afterwards ([`QueuePair::next_completion`]), also when it has ended.
    pub fn receive(&mut self, turn: &mut Turn<'_>) -> bool {
        let (mut worked, mut drained) = (false, false);
        for _ in 0..RECV_CALLS_PER_TURN {
            match self.receive_once(turn) {
                Took::Nothing => drained = true,
                Took::Part => worked = true,
                Took::All => (worked, drained) = (true, true),
                Took::Ended(cause) => {
                    // What the controller is told about its mistake goes out if the stream takes it at once.
                    self.send_some();
                    self.end(cause, turn);
                    return true;
                }
            }
            if drained {
                break;
            }
        }
        if matches!(self.link, Link::Open(_)) {
            turn.group.note_drained(self.token, drained);
        }
        self.heard |= worked;
        worked
    }

    fn receive_once(&mut self, turn: &mut Turn<'_>) -> Took {
        let Link::Open(stream) = &mut self.link else { return Took::Nothing };
        let (received, in_place_room, room) = match self.queue.wanted() {
            Some(payload) => {
                let in_place = payload.len();
                let is_large = in_place >= LARGE_PAYLOAD_BYTES;
                let window = if is_large { SCRATCH_BESIDE_PAYLOAD_BYTES } else { turn.scratch.len() };
                let mut vectors = [IoSliceMut::new(payload), IoSliceMut::new(&mut turn.scratch[..window])];
                (stream.try_recv(&mut vectors), in_place, in_place + window)
            }
            None => {
                let room = turn.scratch.len();
                (stream.try_recv(&mut [IoSliceMut::new(turn.scratch)]), 0, room)
            }
        };
        let received = match received {
            Ok(0) => return Took::Ended(EndCause::PeerClosed),
            Ok(received) => received,
            Err(StreamError::WouldBlock) => return Took::Nothing,
            Err(StreamError::Broken(errno)) => return Took::Ended(EndCause::Network(errno)),
        };
        let in_place = received.min(in_place_room);
        if in_place > 0 {
            self.queue.received(in_place);
        }
        if let Err(violation) = self.queue.handle_bytes(&turn.scratch[..received - in_place]) {
            return Took::Ended(EndCause::Violation(violation));
        }
        if received < room.min(LONG_RECV_BYTES) { Took::All } else { Took::Part }
    }

    /// Sends what waits and should not wait for the next turn, within the turn's bound.
    pub fn send(&mut self, turn: &mut Turn<'_>) {
        if self.send_blocked {
            return;
        }
        if let Some(errno) = self.send_some() {
            return self.end(EndCause::Network(errno), turn);
        }
        if self.send_blocked {
            turn.group.want_send(self.token);
        }
    }

    /// The error number when the stream is broken.
    fn send_some(&mut self) -> Option<i32> {
        let Link::Open(stream) = &mut self.link else { return None };
        let mut gather = Gather::new(&**stream);
        for _ in 0..SEND_CALLS_PER_TURN {
            let mut vectors = [IoSlice::new(&[]); SEND_VECTORS];
            let count = self.queue.tx_chunks(&mut vectors);
            if count == 0 {
                break;
            }
            match gather.send(&mut **stream, &vectors, count, Behind::Nothing) {
                Ok(0) => break,
                Ok(sent) => self.queue.tx_advance(sent),
                Err(StreamError::WouldBlock) => {
                    self.send_blocked = true;
                    break;
                }
                Err(StreamError::Broken(errno)) => return Some(errno),
            }
        }
        None
    }
}
