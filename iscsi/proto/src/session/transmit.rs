//! What waits to be sent on one connection: headers in one growing run of bytes, data in the buffers it came in.
//!
//! Two stages. A finished read waits as a *stream*; its Data-In PDUs are built a little ahead of what the socket takes,
//! so that sequence numbers are fresh and digests are computed on warm data. What is built is a list of
//! *segments* in wire order. Most of what has no payload (responses, R2Ts, NOP-In) becomes a segment at once and thereby
//! overtakes streams, which the protocol allows: only the order of StatSN matters, and that is given on building.
//! Answers to task management and logout do not overtake: no response of a task may follow them.

use std::collections::VecDeque;
use std::io::IoSlice;

use super::host::Payload;
use super::limits::{TX_AHEAD_BYTES, TX_AHEAD_SEGMENTS};
use crate::digest::{Crc32c, digest};
use crate::pdu::{BHS_BYTES, DIGEST_BYTES, pad_bytes};

/// The sent prefix of the header run is cut off when it is this long and nothing else freed it.
const RUN_COMPACT_BYTES: usize = 64 * 1024;

#[derive(Debug)]
enum Segment {
    /// Bytes of the header run.
    Run { length_bytes: usize },
    /// Bytes of a payload; the last segment of a payload frees it.
    Payload { slot: u32, offset_bytes: usize, length_bytes: usize, last: bool },
}

impl Segment {
    const fn length_bytes(&self) -> usize {
        match self {
            Self::Run { length_bytes } | Self::Payload { length_bytes, .. } => *length_bytes,
        }
    }
}

/// The Data-In of one task on its way.
#[derive(Debug)]
pub(crate) struct DataInStream {
    pub(crate) slot: u32,
    pub(crate) itt: u32,
    pub(crate) offset_bytes: usize,
    pub(crate) length_bytes: usize,
    pub(crate) data_sn: u32,
    /// Status GOOD rides on the last PDU, with these residual bits and count. Without it a [`StatusPdu`] follows.
    pub(crate) status: Option<(u8, u32)>,
}

/// A PDU that gets its sequence numbers when it is built.
#[derive(Debug)]
pub(crate) struct StatusPdu {
    pub(crate) header: [u8; BHS_BYTES],
    pub(crate) data: Vec<u8>,
}

/// What waits to be built, in order.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// Data of a read.
    Read(DataInStream),
    /// Something that must come behind the reads before it.
    Status(Box<StatusPdu>),
}

impl Waiting {
    fn bytes(&self) -> usize {
        match self {
            Self::Read(stream) => stream.length_bytes - stream.offset_bytes,
            Self::Status(pdu) => BHS_BYTES + pdu.data.len(),
        }
    }
}

/// The sending side of one connection.
#[derive(Debug)]
pub(crate) struct Transmit<P> {
    header_digest: bool,
    data_digest: bool,
    run: Vec<u8>,
    /// Bytes of `run` that were taken.
    run_taken_bytes: usize,
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that were taken.
    front_taken_bytes: usize,
    built_bytes: usize,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    payloads: Vec<Option<P>>,
    payloads_free: Vec<u32>,
    /// Bytes were taken since this was last cleared, or the queue was empty then.
    pub(crate) progressed: bool,
}

impl<P: Payload> Transmit<P> {
    pub(crate) fn new(header_digest: bool, data_digest: bool) -> Self {
        Self {
            header_digest,
            data_digest,
            run: Vec::new(),
            run_taken_bytes: 0,
            segments: VecDeque::new(),
            front_taken_bytes: 0,
            built_bytes: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            payloads: Vec::new(),
            payloads_free: Vec::new(),
            progressed: false,
        }
    }

    /// Bytes that wait, built or not (headers of unbuilt PDUs are not counted).
    #[inline]
    pub(crate) fn queued_bytes(&self) -> usize {
        self.built_bytes + self.waiting_bytes
    }

    /// Queues a PDU whose data, if any, is short enough to be copied.
    #[inline]
    pub(crate) fn push_pdu(&mut self, header: &[u8; BHS_BYTES], data: &[u8]) {
        let before = self.run.len();
        self.push_header(header);
        if !data.is_empty() {
            self.run.extend_from_slice(data);
            self.run.extend_from_slice(&[0; 3][..pad_bytes(data.len())]);
            if self.data_digest {
                let padded = data.len() + pad_bytes(data.len());
                let wire = digest(&self.run[self.run.len() - padded..]);
                self.run.extend_from_slice(&wire);
            }
        }
        self.built_run(before);
    }

    #[inline]
    fn push_header(&mut self, header: &[u8; BHS_BYTES]) {
        self.run.extend_from_slice(header);
        if self.header_digest {
            self.run.extend_from_slice(&digest(header));
        }
    }

    /// Accounts for what the run grew by since it was `before` long.
    #[inline]
    fn built_run(&mut self, before: usize) {
        let grown_bytes = self.run.len() - before;
        self.grow(grown_bytes);
        match self.segments.back_mut() {
            Some(Segment::Run { length_bytes }) => *length_bytes += grown_bytes,
            _ if grown_bytes == 0 => {}
            _ => self.segments.push_back(Segment::Run { length_bytes: grown_bytes }),
        }
    }

    #[inline]
    fn grow(&mut self, bytes: usize) {
        // A queue that was empty did not stand still.
        self.progressed |= self.built_bytes == 0;
        self.built_bytes += bytes;
    }

    /// Keeps a payload until its last byte was taken.
    pub(crate) fn keep(&mut self, payload: P) -> u32 {
        let slot = self.payloads_free.pop().unwrap_or_else(|| {
            self.payloads.push(None);
            self.payloads.len() as u32 - 1
        });
        self.payloads[slot as usize] = Some(payload);
        slot
    }

    /// Queues a read, whose payload is kept, or what must not overtake reads.
    pub(crate) fn push_waiting(&mut self, waiting: Waiting) {
        self.progressed |= self.queued_bytes() == 0;
        self.waiting_bytes += waiting.bytes();
        self.waiting.push_back(waiting);
    }

    /// True while something waits to be built.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What should be built now, if anything.
    #[inline]
    pub(crate) fn to_build(&self) -> Option<&Waiting> {
        if self.built_bytes >= TX_AHEAD_BYTES || self.segments.len() >= TX_AHEAD_SEGMENTS {
            return None;
        }
        self.waiting.front()
    }

    /// Takes the PDU that [`Transmit::to_build`] showed.
    pub(crate) fn take_status(&mut self) -> Box<StatusPdu> {
        let front = self.waiting.pop_front().expect("the caller looked at it");
        self.waiting_bytes -= front.bytes();
        match front {
            Waiting::Status(pdu) => pdu,
            Waiting::Read(_) => unreachable!("the caller looked at it"),
        }
    }

    /// Builds one PDU of the read that [`Transmit::to_build`] showed: its next `length_bytes` behind `header`.
    pub(crate) fn build_data_in(&mut self, header: &[u8; BHS_BYTES], length_bytes: usize) {
        let before = self.run.len();
        self.push_header(header);
        self.built_run(before);
        let Some(Waiting::Read(stream)) = self.waiting.front_mut() else {
            unreachable!("the caller looked at it")
        };
        let (slot, offset_bytes) = (stream.slot, stream.offset_bytes);
        stream.offset_bytes += length_bytes;
        stream.data_sn = stream.data_sn.wrapping_add(1);
        let last = stream.offset_bytes == stream.length_bytes;
        self.waiting_bytes -= length_bytes;
        if last {
            self.waiting.pop_front();
        }
        self.segments.push_back(Segment::Payload { slot, offset_bytes, length_bytes, last });
        self.grow(length_bytes);
        let before = self.run.len();
        self.run.extend_from_slice(&[0; 3][..pad_bytes(length_bytes)]);
        if self.data_digest {
            let wire = self.payload_digest(slot, offset_bytes, length_bytes);
            self.run.extend_from_slice(&wire);
        }
        self.built_run(before);
    }

    fn payload_digest(&self, slot: u32, offset_bytes: usize, length_bytes: usize) -> [u8; DIGEST_BYTES] {
        let payload = self.payloads[slot as usize].as_ref().expect("kept until its last byte is taken");
        let mut crc = Crc32c::new();
        let end = offset_bytes + length_bytes;
        let mut at = offset_bytes;
        while at < end {
            let chunk = payload.chunk(at);
            let taken = chunk.len().min(end - at);
            crc.update(&chunk[..taken]);
            at += taken;
        }
        crc.update_padding(length_bytes);
        crc.to_wire()
    }

    /// Forgets what is not built yet. What is built are whole PDUs.
    pub(crate) fn drop_unbuilt(&mut self) {
        self.waiting_bytes = 0;
        while let Some(waiting) = self.waiting.pop_front() {
            let Waiting::Read(stream) = waiting else { continue };
            if stream.offset_bytes == 0 {
                self.release(stream.slot);
            } else {
                // Only the mark of the last segment is missing.
                let slot = stream.slot;
                let mine = |segment: &&mut Segment| matches!(segment, Segment::Payload { slot: s, .. } if *s == slot);
                match self.segments.iter_mut().rev().find(mine) {
                    Some(Segment::Payload { last, .. }) => *last = true,
                    _ => self.release(slot),
                }
            }
        }
    }

    fn release(&mut self, slot: u32) {
        self.payloads[slot as usize] = None;
        self.payloads_free.push(slot);
    }

    /// Shows what to send next.
    pub(crate) fn slices<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let mut run_at = self.run_taken_bytes;
        let mut skip = self.front_taken_bytes;
        for segment in &self.segments {
            if filled == out.len() {
                break;
            }
            match *segment {
                Segment::Run { length_bytes } => {
                    // `run_taken_bytes` has counted the taken part of the first segment already.
                    let left = length_bytes - skip;
                    out[filled] = IoSlice::new(&self.run[run_at..run_at + left]);
                    filled += 1;
                    run_at += left;
                }
                Segment::Payload { slot, offset_bytes, length_bytes, .. } => {
                    let payload =
                        self.payloads[slot as usize].as_ref().expect("kept until its last byte is taken");
                    let end = offset_bytes + length_bytes;
                    let mut at = offset_bytes + skip;
                    while at < end && filled < out.len() {
                        let chunk = payload.chunk(at);
                        let taken = chunk.len().min(end - at);
                        out[filled] = IoSlice::new(&chunk[..taken]);
                        filled += 1;
                        at += taken;
                    }
                }
            }
            skip = 0;
        }
        filled
    }

    /// The stream took that many bytes.
    pub(crate) fn advance(&mut self, length_bytes: usize) {
        assert!(length_bytes <= self.built_bytes, "no more was shown");
        self.progressed |= length_bytes > 0;
        self.built_bytes -= length_bytes;
        let mut left = length_bytes;
        while left > 0 {
            let front = self.segments.front().expect("built bytes lie in segments");
            let taken = left.min(front.length_bytes() - self.front_taken_bytes);
            left -= taken;
            self.front_taken_bytes += taken;
            if matches!(front, Segment::Run { .. }) {
                self.run_taken_bytes += taken;
            }
            if self.front_taken_bytes == front.length_bytes() {
                self.front_taken_bytes = 0;
                if let Some(Segment::Payload { slot, last: true, .. }) = self.segments.pop_front() {
                    self.release(slot);
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

    /// Payloads that are held for sending.
    #[cfg(test)]
    pub(crate) fn payloads_held(&self) -> usize {
        self.payloads.len() - self.payloads_free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::Chunks;

    fn take(tx: &mut Transmit<Chunks>, at_most: usize) -> Vec<u8> {
        let mut out = [IoSlice::new(&[]); 4];
        let filled = tx.slices(&mut out);
        let bytes: Vec<u8> =
            out[..filled].iter().flat_map(|slice| slice.iter().copied()).take(at_most).collect();
        tx.advance(bytes.len());
        bytes
    }

    fn stream(tx: &mut Transmit<Chunks>, bytes: &[u8]) {
        let slot = tx.keep(Chunks::of(bytes, 3));
        tx.push_waiting(Waiting::Read(DataInStream {
            slot,
            itt: 1,
            offset_bytes: 0,
            length_bytes: bytes.len(),
            data_sn: 0,
            status: Some((0, 0)),
        }));
    }

    #[test]
    fn any_taking_pattern_gives_the_same_bytes() {
        for step in 1..80 {
            let mut tx = Transmit::new(true, true);
            tx.push_pdu(&[1; BHS_BYTES], b"sense");
            stream(&mut tx, &[7, 8, 9, 10, 11, 12, 13]);
            tx.build_data_in(&[2; BHS_BYTES], 4);
            tx.build_data_in(&[3; BHS_BYTES], 3);
            assert!(!tx.is_waiting());
            tx.push_pdu(&[4; BHS_BYTES], b"");
            let mut wire = Vec::new();
            while tx.queued_bytes() > 0 {
                let bytes = take(&mut tx, step);
                assert!(!bytes.is_empty());
                wire.extend(bytes);
            }
            let mut expected = vec![1; BHS_BYTES];
            expected.extend(digest(&[1; BHS_BYTES]));
            expected.extend(b"sense\0\0\0");
            expected.extend(digest(b"sense\0\0\0"));
            for (mark, data) in [(2, &[7, 8, 9, 10][..]), (3, &[11, 12, 13, 0])] {
                expected.extend([mark; BHS_BYTES]);
                expected.extend(digest(&[mark; BHS_BYTES]));
                expected.extend(data);
                expected.extend(digest(data));
            }
            expected.extend([4; BHS_BYTES]);
            expected.extend(digest(&[4; BHS_BYTES]));
            assert_eq!(wire, expected, "step {step}");
            assert_eq!(tx.payloads_held(), 0);
        }
    }

    #[test]
    fn headers_in_a_row_are_one_slice() {
        let mut tx = Transmit::<Chunks>::new(false, false);
        for n in 0..10 {
            tx.push_pdu(&[n; BHS_BYTES], &[]);
        }
        assert_eq!(tx.slices(&mut [IoSlice::new(&[]); 8]), 1);
        assert_eq!(tx.queued_bytes(), 480);
    }

    #[test]
    fn a_reader_that_never_catches_up_does_not_grow_the_run() {
        let mut tx = Transmit::<Chunks>::new(false, false);
        tx.push_pdu(&[0; BHS_BYTES], &[]);
        for _ in 0..20_000 {
            tx.push_pdu(&[0; BHS_BYTES], &[]);
            tx.advance(BHS_BYTES);
        }
        assert!(tx.run.len() < 2 * RUN_COMPACT_BYTES + 2 * BHS_BYTES, "{}", tx.run.len());
    }

    #[test]
    fn dropping_unbuilt_reads_leaves_whole_pdus_and_frees_all() {
        let mut tx = Transmit::new(false, false);
        stream(&mut tx, &[1; 8]);
        stream(&mut tx, &[2; 8]);
        tx.build_data_in(&[9; BHS_BYTES], 4);
        tx.drop_unbuilt();
        assert_eq!(tx.queued_bytes(), BHS_BYTES + 4);
        assert_eq!(tx.payloads_held(), 1);
        take(&mut tx, usize::MAX);
        assert_eq!((tx.queued_bytes(), tx.payloads_held()), (0, 0));
    }
}
