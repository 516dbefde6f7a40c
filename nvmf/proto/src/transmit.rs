//! What waits to be sent on one connection: headers in one growing run of bytes, data in the buffers of its commands.
//!
//! A list of *segments* in wire order says which bytes come when. Nothing here has a sequence number, so PDUs are built when they are
//! queued, and digests are computed while the data is in the cache. Buffers stay with their commands: the owner of the
//! command table shows them by slot, and hears when a segment was taken.

use std::collections::VecDeque;
use std::io::IoSlice;

use nvme_spec::tcp::{CommonHeader, DIGEST_BYTES, FLAG_DDGST, FLAG_HDGST, PduType, TermReq};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::connection::Negotiated;
use crate::digest::{Crc32c, digest};
use crate::error::TermReqCause;
use crate::limits::{ALIGNMENT_BYTES_MAX, TERM_REQ_BYTES_MAX};
use crate::payload::{Payload, for_each_chunk};

/// The sent prefix of the header run is cut off when it is this long and nothing else freed it.
const RUN_COMPACT_BYTES: usize = 64 * 1024;
/// Marks a segment of the header run.
const RUN: u16 = u16::MAX;

#[derive(Clone, Copy, Debug)]
struct Segment {
    /// Slot of the command whose payload this is, or [`RUN`].
    slot: u16,
    /// The last of a series that the owner of the command wants to know of.
    last: bool,
    offset_bytes: u32,
    length_bytes: u32,
}

/// A stretch of a command's payload that goes into one PDU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    pub(crate) slot: u16,
    pub(crate) offset_bytes: u32,
    pub(crate) length_bytes: u32,
    /// Reported when it was taken.
    pub(crate) last: bool,
}

/// The sending side of one connection.
#[derive(Debug)]
pub(crate) struct Transmit {
    header_digest: bool,
    data_digest: bool,
    alignment_bytes: usize,
    run: Vec<u8>,
    /// Bytes of `run` that were taken.
    run_taken_bytes: usize,
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that were taken.
    front_taken_bytes: usize,
    queued_bytes: usize,
    /// Bytes that were ever taken.
    taken_bytes: u64,
}

impl Transmit {
    pub(crate) const fn new() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            alignment_bytes: 4,
            run: Vec::new(),
            run_taken_bytes: 0,
            segments: VecDeque::new(),
            front_taken_bytes: 0,
            queued_bytes: 0,
            taken_bytes: 0,
        }
    }

    pub(crate) fn set_rules(&mut self, negotiated: &Negotiated) {
        self.header_digest = negotiated.header_digest;
        self.data_digest = negotiated.data_digest;
        self.alignment_bytes = usize::from(negotiated.send_alignment_bytes);
    }

    /// Bytes that wait.
    #[inline]
    pub(crate) const fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Place in the stream of what is queued next.
    pub(crate) const fn position(&self) -> u64 {
        self.taken_bytes + self.queued_bytes as u64
    }

    /// Place in the stream up to which all was taken.
    pub(crate) const fn taken_position(&self) -> u64 {
        self.taken_bytes
    }

    /// The common header of a PDU with this specific header type and so much data.
    #[inline]
    pub(crate) fn common_header<T>(&self, pdu_type: PduType, flags: u8, data_bytes: usize) -> CommonHeader {
        let header_digest = if self.header_digest { (FLAG_HDGST, DIGEST_BYTES) } else { (0, 0) };
        let hlen = size_of::<T>();
        let header_bytes = hlen + header_digest.1;
        let mut ch = CommonHeader {
            pdu_type,
            flags: flags | header_digest.0,
            hlen: hlen as u8,
            pdo: 0,
            plen: U32::new(header_bytes as u32),
        };
        if data_bytes > 0 {
            let data_digest = if self.data_digest { (FLAG_DDGST, DIGEST_BYTES) } else { (0, 0) };
            let pdo = header_bytes.next_multiple_of(self.alignment_bytes);
            ch.flags |= data_digest.0;
            ch.pdo = pdo as u8;
            ch.plen = U32::new((pdo + data_bytes + data_digest.1) as u32);
        }
        ch
    }

    /// True when data carries digests.
    pub(crate) fn has_data_digest(&self) -> bool {
        self.data_digest
    }

    /// Queues bytes as they are.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) {
        self.run.extend_from_slice(bytes);
        self.ran(bytes.len());
    }

    /// Queues a header, made with [`Transmit::common_header`], with its digest and padding.
    #[inline]
    pub(crate) fn push_header<T>(&mut self, header: &T)
    where
        T: IntoBytes + FromBytes + KnownLayout + Immutable + Unaligned,
    {
        let bytes = header.as_bytes();
        let before = self.run.len();
        self.run.extend_from_slice(bytes);
        if self.header_digest {
            self.run.extend_from_slice(&digest(bytes));
        }
        let (ch, _) = CommonHeader::ref_from_prefix(bytes).expect("every header begins with the common one");
        let padding_bytes = usize::from(ch.pdo).saturating_sub(self.run.len() - before);
        self.run.extend_from_slice(&[0; ALIGNMENT_BYTES_MAX as usize][..padding_bytes]);
        self.ran(self.run.len() - before);
    }

    /// Queues the data of a PDU behind its header, where it lies, with its digest.
    #[inline]
    pub(crate) fn push_payload<P: Payload>(&mut self, stretch: Stretch, payload: &P) {
        let Stretch { slot, offset_bytes, length_bytes, last } = stretch;
        assert!(length_bytes > 0 && slot != RUN, "a PDU without data has no payload");
        self.segments.push_back(Segment { slot, last, offset_bytes, length_bytes });
        self.queued_bytes += length_bytes as usize;
        if self.data_digest {
            self.push_bytes(&payload_digest(payload, offset_bytes as usize, length_bytes as usize));
        }
    }

    /// Queues all data of a PDU behind its header as a copy, with its digest.
    #[inline]
    pub(crate) fn push_copy<P: Payload>(&mut self, payload: &P) {
        let before = self.run.len();
        for_each_chunk(payload, 0, payload.len(), |chunk| self.run.extend_from_slice(chunk));
        if self.data_digest {
            let wire = digest(&self.run[before..]);
            self.run.extend_from_slice(&wire);
        }
        self.ran(self.run.len() - before);
    }

    /// Queues a terminate connection request about a PDU with this header.
    pub(crate) fn push_term_req(&mut self, pdu_type: PduType, cause: TermReqCause, header: &[u8]) {
        let plen = size_of::<TermReq>() + header.len();
        assert!(
            plen <= TERM_REQ_BYTES_MAX,
            "no header is longer than a terminate connection request may carry"
        );
        let hlen = size_of::<TermReq>() as u8;
        let term_req = TermReq {
            ch: CommonHeader { pdu_type, flags: 0, hlen, pdo: 0, plen: U32::new(plen as u32) },
            fes: U16::new(cause.fes.0),
            fei: U32::new(cause.fei),
            reserved14: [0; 10],
        };
        self.push_bytes(term_req.as_bytes());
        self.push_bytes(header);
    }

    /// Accounts for what was added to the run.
    #[inline]
    fn ran(&mut self, length_bytes: usize) {
        self.queued_bytes += length_bytes;
        match self.segments.back_mut() {
            Some(segment) if segment.slot == RUN => segment.length_bytes += length_bytes as u32,
            _ if length_bytes == 0 => {}
            _ => {
                let length_bytes = length_bytes as u32;
                self.segments.push_back(Segment { slot: RUN, last: false, offset_bytes: 0, length_bytes });
            }
        }
    }

    /// Shows what to send next. `payload` gives the buffer of the command in a slot.
    pub(crate) fn chunks<'a, P: Payload + 'a>(
        &'a self,
        payload: impl Fn(u16) -> &'a P,
        out: &mut [IoSlice<'a>],
    ) -> usize {
        let mut filled = 0;
        let mut run_at = self.run_taken_bytes;
        let mut skip = self.front_taken_bytes;
        for segment in &self.segments {
            if filled == out.len() {
                break;
            }
            if segment.slot == RUN {
                // `run_taken_bytes` has counted the taken part of the first segment already.
                let left = segment.length_bytes as usize - skip;
                out[filled] = IoSlice::new(&self.run[run_at..run_at + left]);
                filled += 1;
                run_at += left;
            } else {
                let payload = payload(segment.slot);
                let end = segment.offset_bytes as usize + segment.length_bytes as usize;
                let mut at = segment.offset_bytes as usize + skip;
                while at < end && filled < out.len() {
                    let chunk = payload.chunk(at);
                    let taken = chunk.len().min(end - at);
                    out[filled] = IoSlice::new(&chunk[..taken]);
                    filled += 1;
                    at += taken;
                }
            }
            skip = 0;
        }
        filled
    }

    /// The stream took that many bytes. `sent` hears the slot of every payload segment whose last byte was taken, and whether
    /// it was marked as the last.
    pub(crate) fn advance(&mut self, length_bytes: usize, mut sent: impl FnMut(u16, bool)) {
        assert!(length_bytes <= self.queued_bytes, "no more was shown");
        self.queued_bytes -= length_bytes;
        self.taken_bytes += length_bytes as u64;
        let mut left = length_bytes;
        while left > 0 {
            let front = *self.segments.front().expect("queued bytes lie in segments");
            let front_bytes = front.length_bytes as usize;
            let taken = left.min(front_bytes - self.front_taken_bytes);
            left -= taken;
            self.front_taken_bytes += taken;
            if front.slot == RUN {
                self.run_taken_bytes += taken;
            }
            if self.front_taken_bytes == front_bytes {
                self.front_taken_bytes = 0;
                self.segments.pop_front();
                if front.slot != RUN {
                    sent(front.slot, front.last);
                }
            }
        }
        self.compact();
    }

    fn compact(&mut self) {
        if self.run_taken_bytes == self.run.len() {
            self.run.clear();
            self.run_taken_bytes = 0;
        } else if self.run_taken_bytes >= RUN_COMPACT_BYTES && self.run_taken_bytes >= self.run.len() / 2 {
            self.run.drain(..self.run_taken_bytes);
            self.run_taken_bytes = 0;
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.run.clear();
        self.segments.clear();
        (self.run_taken_bytes, self.front_taken_bytes, self.queued_bytes) = (0, 0, 0);
    }
}

/// Wire form of the digest of a stretch of a payload, which may know that of all its bytes.
fn payload_digest(payload: &impl Payload, offset_bytes: usize, length_bytes: usize) -> [u8; DIGEST_BYTES] {
    if length_bytes == payload.len()
        && let Some(crc32c) = payload.crc32c()
    {
        return crc32c.to_le_bytes();
    }
    let mut crc = Crc32c::new();
    for_each_chunk(payload, offset_bytes, length_bytes, |chunk| crc.update(chunk));
    crc.to_wire()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Chunks, pattern};

    fn take(tx: &mut Transmit, payload: &Chunks, at_most: usize) -> (Vec<u8>, Vec<(u16, bool)>) {
        let mut out = [IoSlice::new(&[]); 4];
        let filled = tx.chunks(|_| payload, &mut out);
        let slices = out[..filled].iter();
        let bytes: Vec<u8> = slices.flat_map(|slice| slice.iter().copied()).take(at_most).collect();
        let mut sent = Vec::new();
        tx.advance(bytes.len(), |slot, last| sent.push((slot, last)));
        (bytes, sent)
    }

    #[test]
    fn any_taking_pattern_gives_the_same_bytes_and_reports_each_stretch_once() {
        let payload = Chunks::of(&pattern(40, 1), 7);
        for step in 1..120 {
            let mut tx = Transmit::new();
            tx.push_bytes(b"first");
            tx.push_payload(Stretch { slot: 3, offset_bytes: 0, length_bytes: 30, last: false }, &payload);
            tx.push_bytes(b"");
            tx.push_payload(Stretch { slot: 3, offset_bytes: 30, length_bytes: 10, last: true }, &payload);
            tx.push_bytes(b"second");
            tx.push_bytes(b"third");
            let (mut wire, mut reports) = (Vec::new(), Vec::new());
            while tx.queued_bytes() > 0 {
                assert_eq!(tx.taken_position() + tx.queued_bytes() as u64, tx.position());
                let (bytes, sent) = take(&mut tx, &payload, step);
                assert!(!bytes.is_empty());
                wire.extend(bytes);
                reports.extend(sent);
            }
            assert_eq!(wire, [b"first", payload.bytes(), b"second", b"third"].concat(), "step {step}");
            assert_eq!(reports, [(3, false), (3, true)]);
        }
    }

    #[test]
    fn a_reader_that_never_catches_up_does_not_grow_the_run() {
        let payload = Chunks::blank(1, 1);
        let mut tx = Transmit::new();
        let (mut pushed, mut taken) = (0u32, Vec::new());
        for _ in 0..20_000 {
            for _ in 0..6 {
                tx.push_bytes(&pushed.to_le_bytes());
                pushed += 1;
            }
            let at_most = if pushed < 2000 { 0 } else { 24 };
            taken.extend(take(&mut tx, &payload, at_most).0);
            assert!(tx.run.len() < 3 * RUN_COMPACT_BYTES, "{}", tx.run.len());
        }
        let numbers = taken.chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()));
        assert!(numbers.eq(0..taken.len() as u32 / 4));
        tx.clear();
        assert_eq!((tx.queued_bytes(), tx.position()), (0, taken.len() as u64));
    }
}
