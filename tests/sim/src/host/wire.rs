//! PDUs over one end of a simulated stream.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};

use initiator::pdu::{BHS_BYTES, Digests, Pdu, crc32c};
use reactor::net::{Stream, StreamError};
use reactor::sim::SimEnd;

use crate::Violation;

/// Calls of the stream in one step.
const CALLS: usize = 4;

/// One connection as bytes.
#[derive(Debug)]
pub struct Wire {
    end: SimEnd,
    tx: VecDeque<u8>,
    rx: Vec<u8>,
    taken: usize,
    /// The digests in force.
    pub digests: Digests,
    broken: bool,
}

impl Wire {
    /// Over `end`.
    pub fn new(end: SimEnd) -> Self {
        Self {
            end,
            tx: VecDeque::new(),
            rx: Vec::new(),
            taken: 0,
            digests: Digests::default(),
            broken: false,
        }
    }

    /// Queues a PDU.
    pub fn send(&mut self, pdu: &Pdu) {
        if !self.broken {
            self.tx.extend(pdu.encode(self.digests));
        }
    }

    /// Bytes that wait to be sent.
    pub fn queued_bytes(&self) -> usize {
        self.tx.len()
    }

    /// The peer has closed or broken the connection, and everything it sent was taken.
    pub fn is_over(&self) -> bool {
        self.broken
    }

    /// Breaks the connection, at once and for both sides.
    pub fn reset(&mut self) {
        self.end.reset();
        self.broken = true;
    }

    /// Says that it sends no more, and forgets the connection.
    pub fn close(&mut self) {
        if !self.broken {
            self.end.close_send();
            self.broken = true;
        }
    }

    /// Moves bytes both ways; true when any moved.
    pub fn pump(&mut self) -> bool {
        let mut moved = false;
        for _ in 0..CALLS {
            if self.tx.is_empty() || self.broken {
                break;
            }
            let (front, back) = self.tx.as_slices();
            match self.end.try_send(&[IoSlice::new(front), IoSlice::new(back)]) {
                Ok(sent) => {
                    self.tx.drain(..sent);
                    moved = true;
                }
                Err(StreamError::WouldBlock) => break,
                // What it sent before may still be there to be received.
                Err(StreamError::Broken(_)) => self.tx.clear(),
            }
        }
        let mut window = [0; 16 << 10];
        for _ in 0..CALLS {
            if self.broken {
                break;
            }
            match self.end.try_recv(&mut [IoSliceMut::new(&mut window)]) {
                Ok(0) | Err(StreamError::Broken(_)) => {
                    self.broken = true;
                    moved = true;
                }
                Ok(received) => {
                    self.rx.extend_from_slice(&window[..received]);
                    moved = true;
                }
                Err(StreamError::WouldBlock) => break,
            }
        }
        moved
    }

    /// Takes everything that is on its way, stalled or not.
    pub fn pump_all(&mut self) {
        if !self.broken {
            let bytes = self.end.recv_now();
            self.rx.extend_from_slice(&bytes);
        }
    }

    /// The next whole PDU.
    pub fn take(&mut self) -> Result<Option<Pdu>, Violation> {
        let bytes = &self.rx[self.taken..];
        if bytes.len() < BHS_BYTES {
            return Ok(None);
        }
        let mut bhs = [0; BHS_BYTES];
        bhs.copy_from_slice(&bytes[..BHS_BYTES]);
        let ahs_end = BHS_BYTES + usize::from(bhs[4]) * 4;
        let data_start = ahs_end + if self.digests.header { 4 } else { 0 };
        let data_bytes = u32::from_be_bytes([0, bhs[5], bhs[6], bhs[7]]) as usize;
        let data_end = data_start + data_bytes.next_multiple_of(4);
        let end = data_end + if self.digests.data && data_bytes > 0 { 4 } else { 0 };
        if bytes.len() < end {
            return Ok(None);
        }
        if self.digests.header && bytes[ahs_end..data_start] != crc32c(&bytes[..ahs_end]) {
            return Err(Violation::new("header digests are right", format!("{bhs:02x?}")));
        }
        if end > data_end && bytes[data_end..end] != crc32c(&bytes[data_start..data_end]) {
            return Err(Violation::new("data digests are right", format!("{bhs:02x?}")));
        }
        let ahs = bytes[BHS_BYTES..ahs_end].to_vec();
        let data = bytes[data_start..data_start + data_bytes].to_vec();
        self.taken += end;
        if self.taken == self.rx.len() || self.taken > 1 << 20 {
            self.rx.drain(..self.taken);
            self.taken = 0;
        }
        Ok(Some(Pdu { bhs, ahs, data }))
    }
}
