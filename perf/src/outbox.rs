//! PDUs that wait to be sent, many per system call, payload from memory that is shared by all of them.

use std::collections::VecDeque;
use std::io::{IoSlice, Result};
use std::net::TcpStream;

use crate::spin;

/// Bytes of a basic header segment (RFC 7143, 11.2).
pub const HEADER_BYTES: usize = 48;
/// The longest data segment that either side of this crate announces and sends.
pub const DATA_SEGMENT_MAX_BYTES: usize = 256 << 10;
/// Vectors of one send: 32 PDUs with their data.
const VECTORS: usize = 64;

const _: () = assert!(DATA_SEGMENT_MAX_BYTES.is_multiple_of(4), "the longest segment needs no padding");

/// What follows a header.
#[derive(Clone, Copy, Debug)]
pub enum Payload {
    /// So many bytes of the shared filler; at most [`DATA_SEGMENT_MAX_BYTES`].
    Filler(usize),
    /// A key list whose length is a multiple of four.
    Keys(&'static [u8]),
    /// A few bytes of their own, and how many.
    Small([u8; 36], usize),
}

/// One PDU that waits.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// The basic header segment.
    pub header: [u8; HEADER_BYTES],
    /// The data segment.
    pub payload: Payload,
}

/// The queue of one connection.
#[derive(Debug)]
pub struct Outbox {
    waiting: VecDeque<Waiting>,
    /// Bytes of the first PDU that have left.
    sent_of_first: usize,
    filler: Vec<u8>,
}

impl Payload {
    /// Length without padding.
    pub fn length_bytes(&self) -> usize {
        match self {
            Self::Filler(length) | Self::Small(_, length) => *length,
            Self::Keys(keys) => keys.len(),
        }
    }

    fn padded<'a>(&'a self, filler: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Filler(length) => &filler[..length.next_multiple_of(4)],
            Self::Keys(keys) => keys,
            Self::Small(bytes, length) => &bytes[..length.next_multiple_of(4)],
        }
    }
}

impl Outbox {
    /// An empty queue. The filler is `byte(index)` repeated over the longest segment.
    pub fn new(byte: impl Fn(usize) -> u8) -> Self {
        let filler = (0..DATA_SEGMENT_MAX_BYTES).map(byte).collect();
        Self { waiting: VecDeque::with_capacity(1024), sent_of_first: 0, filler }
    }

    /// Queues a PDU; its DataSegmentLength is filled in here.
    pub fn push(&mut self, mut header: [u8; HEADER_BYTES], payload: Payload) {
        header[4..8].copy_from_slice(&(payload.length_bytes() as u32).to_be_bytes());
        self.waiting.push_back(Waiting { header, payload });
    }

    /// True when everything has left.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What waits, oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter()
    }

    /// Sends as much as the socket takes now.
    pub fn flush(&mut self, stream: &mut TcpStream) -> Result<()> {
        while !self.waiting.is_empty() {
            let mut vectors = [IoSlice::new(&[]); VECTORS];
            let mut skip = self.sent_of_first;
            for (pair, pdu) in vectors.chunks_exact_mut(2).zip(&self.waiting) {
                let in_header = skip.min(HEADER_BYTES);
                pair[0] = IoSlice::new(&pdu.header[in_header..]);
                pair[1] = IoSlice::new(&pdu.payload.padded(&self.filler)[skip - in_header..]);
                skip = 0;
            }
            let sent = spin::try_write(stream, &vectors)?;
            if sent == 0 {
                return Ok(());
            }
            self.drop_sent(sent);
        }
        Ok(())
    }

    fn drop_sent(&mut self, sent: usize) {
        self.sent_of_first += sent;
        while let Some(first) = self.waiting.front() {
            let total = HEADER_BYTES + first.payload.padded(&self.filler).len();
            if self.sent_of_first < total {
                return;
            }
            self.sent_of_first -= total;
            self.waiting.pop_front();
        }
    }
}

/// The 32-bit big-endian field at `at` of a header.
pub fn word(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

/// Length of a whole PDU without digests: header, additional header segments, data, padding.
pub fn pdu_bytes(header: &[u8; HEADER_BYTES]) -> usize {
    let data = (word(header, 4) & 0x00ff_ffff) as usize;
    HEADER_BYTES + usize::from(header[4]) * 4 + data.next_multiple_of(4)
}

/// Bytes received and not yet understood: whole PDUs are taken from the front.
#[derive(Debug)]
pub struct Inbox {
    bytes: Vec<u8>,
    filled: usize,
    taken: usize,
}

/// Room for what the longest burst of one receive can bring.
const INBOX_BYTES: usize = 4 << 20;
const _: () = assert!(INBOX_BYTES > 2 * (DATA_SEGMENT_MAX_BYTES + 2048));

impl Default for Inbox {
    fn default() -> Self {
        Self { bytes: vec![0; INBOX_BYTES], filled: 0, taken: 0 }
    }
}

impl Inbox {
    /// Receives once; false when nothing was there.
    pub fn receive(&mut self, stream: &mut TcpStream) -> Result<bool> {
        self.bytes.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        self.taken = 0;
        let received = spin::try_read(stream, &mut self.bytes[self.filled..])?;
        self.filled += received.unwrap_or(0);
        Ok(received.is_some())
    }

    /// The next whole PDU: its header and its data segment. An error for one that could never fit.
    pub fn next_pdu(&mut self) -> Result<Option<([u8; HEADER_BYTES], &[u8])>> {
        let Some(header) = self.bytes[self.taken..self.filled].first_chunk::<HEADER_BYTES>().copied() else {
            return Ok(None);
        };
        let total = pdu_bytes(&header);
        if total > INBOX_BYTES {
            return Err(std::io::Error::from(std::io::ErrorKind::InvalidData));
        }
        if self.filled - self.taken < total {
            return Ok(None);
        }
        let data = self.taken + HEADER_BYTES + usize::from(header[4]) * 4;
        let length = (word(&header, 4) & 0x00ff_ffff) as usize;
        self.taken += total;
        Ok(Some((header, &self.bytes[data..data + length])))
    }

    #[cfg(test)]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_send_continues_where_it_stopped() {
        let mut outbox = Outbox::new(|_| 0);
        outbox.push([0; HEADER_BYTES], Payload::Filler(4096));
        outbox.push([0; HEADER_BYTES], Payload::Filler(509));
        outbox.drop_sent(HEADER_BYTES + 4095);
        assert_eq!((outbox.waiting.len(), outbox.sent_of_first), (2, HEADER_BYTES + 4095));
        outbox.drop_sent(1 + HEADER_BYTES + 512);
        assert_eq!((outbox.waiting.len(), outbox.sent_of_first), (0, 0));
    }

    #[test]
    fn pdus_are_found_whatever_the_cut() {
        let mut header = [0; HEADER_BYTES];
        header[4..8].copy_from_slice(&5_u32.to_be_bytes());
        let mut bytes = header.to_vec();
        bytes.extend([1, 2, 3, 4, 5, 0, 0, 0]);
        bytes.extend([0; HEADER_BYTES]);
        for cut in 0..bytes.len() {
            let mut inbox = Inbox::default();
            let mut found = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                inbox.put(part);
                while let Some((_, data)) = inbox.next_pdu().expect("no PDU is too long") {
                    found.push(data.to_vec());
                }
            }
            assert_eq!(found, [vec![1, 2, 3, 4, 5], vec![]], "cut at {cut}");
        }
    }
}
