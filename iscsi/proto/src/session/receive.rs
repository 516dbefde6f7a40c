//! Framing: from a byte stream to headers, data and digests, whatever the cuts.
//!
//! Beyond the lengths that frame it, no field of a header is looked at before its digest was checked.

use super::event::{Fatal, TaskId};
use crate::digest::{Crc32c, digest};
use crate::pdu::{BHS_BYTES, Bhs, DIGEST_BYTES, pad_bytes};

/// Text and ping data buffers larger than this are given back after use.
const SCRATCH_KEEP_BYTES: usize = 16 * 1024;

/// Where in a PDU the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// BHS, AHS or header digest.
    Header,
    /// The header is there and waits for memory.
    Parked,
    /// Data segment.
    Data,
    /// Padding and data digest.
    Trailer,
}

/// What the PDU in progress is, decided at its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Read and forget it.
    Ignore,
    /// A SCSI command; immediate data goes to its task.
    Command(TaskId),
    /// Data-Out for a task.
    DataOut(TaskId),
    /// Anything else; data is collected aside.
    Control,
}

/// The receiving side of one connection.
#[derive(Debug)]
pub(crate) struct Receive {
    header_digest: bool,
    data_digest: bool,
    limit_bytes: usize,
    pub(crate) phase: Phase,
    pub(crate) action: Action,
    pub(crate) bhs: Bhs,
    /// BHS, AHS and digest while they come in pieces, and the AHS until the PDU ends.
    header: Vec<u8>,
    /// Offset of the next data byte in the task's buffer.
    pub(crate) offset_bytes: usize,
    pub(crate) data_left_bytes: usize,
    /// Data of a control PDU.
    pub(crate) scratch: Vec<u8>,
    trailer: [u8; 3 + DIGEST_BYTES],
    trailer_filled: usize,
    crc: Crc32c,
}

impl Receive {
    pub(crate) fn new(header_digest: bool, data_digest: bool, limit_bytes: usize) -> Self {
        Self {
            header_digest,
            data_digest,
            limit_bytes,
            phase: Phase::Header,
            action: Action::Ignore,
            bhs: Bhs::default(),
            header: Vec::new(),
            offset_bytes: 0,
            data_left_bytes: 0,
            scratch: Vec::new(),
            trailer: [0; 3 + DIGEST_BYTES],
            trailer_filled: 0,
            crc: Crc32c::new(),
        }
    }

    /// The additional header segments of the PDU in progress.
    pub(crate) fn ahs(&self) -> &[u8] {
        self.header.get(BHS_BYTES..BHS_BYTES + self.bhs.ahs_bytes()).unwrap_or(&[])
    }

    /// Takes header bytes off `input`; true when the header is complete and sound.
    #[inline]
    pub(crate) fn collect_header(&mut self, input: &mut &[u8]) -> Result<bool, Fatal> {
        let digest_bytes = if self.header_digest { DIGEST_BYTES } else { 0 };
        if self.header.is_empty()
            && input.len() >= BHS_BYTES + digest_bytes
            && let Some((bhs, _)) = Bhs::from_prefix(input)
            && bhs.ahs_bytes() == 0
        {
            self.bhs = *bhs;
            let (header, rest) = input.split_at(BHS_BYTES + digest_bytes);
            *input = rest;
            self.check_header(header)?;
            return Ok(true);
        }
        self.collect_pieces(digest_bytes, input)
    }

    fn collect_pieces(&mut self, digest_bytes: usize, input: &mut &[u8]) -> Result<bool, Fatal> {
        loop {
            let wanted = match Bhs::from_prefix(&self.header) {
                None => BHS_BYTES,
                Some((bhs, _)) => BHS_BYTES + bhs.ahs_bytes() + digest_bytes,
            };
            if self.header.len() >= BHS_BYTES && self.header.len() == wanted {
                break;
            }
            if input.is_empty() {
                return Ok(false);
            }
            let (piece, rest) = input.split_at(input.len().min(wanted - self.header.len()));
            self.header.extend_from_slice(piece);
            *input = rest;
        }
        self.bhs = *Bhs::from_prefix(&self.header).expect("48 bytes and more").0;
        self.check_header(&self.header)?;
        Ok(true)
    }

    fn check_header(&self, header: &[u8]) -> Result<(), Fatal> {
        let digest_bytes = if self.header_digest { DIGEST_BYTES } else { 0 };
        let (covered, sent) = header.split_at(header.len() - digest_bytes);
        if self.header_digest && digest(covered) != sent {
            return Err(Fatal::HeaderDigest);
        }
        if self.bhs.data_bytes() > self.limit_bytes {
            return Err(Fatal::DataSegmentTooLong {
                length_bytes: self.bhs.data_bytes() as u32,
                limit_bytes: self.limit_bytes as u32,
            });
        }
        Ok(())
    }

    /// Goes on to the data segment, which `action` is about.
    #[inline]
    pub(crate) fn begin_data(&mut self, action: Action, offset_bytes: usize) {
        self.action = action;
        self.offset_bytes = offset_bytes;
        self.data_left_bytes = self.bhs.data_bytes();
        self.phase = Phase::Data;
        self.scratch.clear();
        self.trailer_filled = 0;
        if self.data_digest {
            self.crc.reset();
        }
    }

    /// Counts data bytes that were stored (or dropped).
    #[inline]
    pub(crate) fn took_data(&mut self, bytes: &[u8]) {
        if self.data_digest {
            self.crc.update(bytes);
        }
        self.offset_bytes += bytes.len();
        self.data_left_bytes -= bytes.len();
    }

    /// Takes padding and digest off `input`; true when the PDU is complete.
    #[inline]
    pub(crate) fn collect_trailer(&mut self, input: &mut &[u8]) -> bool {
        let wanted = self.trailer_bytes();
        let (piece, rest) = input.split_at(input.len().min(wanted - self.trailer_filled));
        self.trailer[self.trailer_filled..self.trailer_filled + piece.len()].copy_from_slice(piece);
        self.trailer_filled += piece.len();
        *input = rest;
        self.trailer_filled == wanted
    }

    fn trailer_bytes(&self) -> usize {
        let data_bytes = self.bhs.data_bytes();
        pad_bytes(data_bytes) + if self.data_digest && data_bytes > 0 { DIGEST_BYTES } else { 0 }
    }

    /// True when there is no data digest or it is right. The padding counts, whatever its value.
    pub(crate) fn data_is_sound(&mut self) -> bool {
        let data_bytes = self.bhs.data_bytes();
        if !self.data_digest || data_bytes == 0 {
            return true;
        }
        let (padding, sent) = self.trailer[..self.trailer_filled].split_at(pad_bytes(data_bytes));
        self.crc.update(padding);
        self.crc.to_wire() == sent
    }

    /// Ready for the next header.
    #[inline]
    pub(crate) fn finish(&mut self) {
        self.phase = Phase::Header;
        self.action = Action::Ignore;
        self.header.clear();
        if self.scratch.capacity() > SCRATCH_KEEP_BYTES {
            self.scratch = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(header_digest: bool, ahs_words: u8) -> Vec<u8> {
        let mut header = vec![0x41; BHS_BYTES];
        header[4] = ahs_words;
        header[5..8].copy_from_slice(&[0, 0, 0]);
        header.extend((0..usize::from(ahs_words) * 4).map(|n| n as u8));
        if header_digest {
            let sent = digest(&header);
            header.extend(sent);
        }
        header
    }

    #[test]
    fn headers_of_every_size_at_every_cut() {
        for (header_digest, ahs_words) in [(false, 0), (true, 0), (false, 1), (true, 3), (true, 255)] {
            let bytes = wire(header_digest, ahs_words);
            for cut in 0..=bytes.len() {
                let mut rx = Receive::new(header_digest, false, 8192);
                let (mut first, mut second) = bytes.split_at(cut);
                let done = rx.collect_header(&mut first).expect("sound");
                assert_eq!(done, cut == bytes.len());
                assert!(first.is_empty());
                assert!(done || rx.collect_header(&mut second).expect("sound"));
                assert_eq!(rx.ahs().len(), usize::from(ahs_words) * 4);
            }
        }
    }

    #[test]
    fn each_flipped_bit_of_a_protected_header_is_seen() {
        for ahs_words in [0, 2] {
            let good = wire(true, ahs_words);
            for bit in 0..good.len() * 8 {
                // Changing the AHS length moves the frame: the digest is then elsewhere, which is seen as well.
                let mut bytes = good.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes.extend([0; 1024]);
                let mut rx = Receive::new(true, false, 1 << 24);
                assert_eq!(rx.collect_header(&mut &bytes[..]), Err(Fatal::HeaderDigest), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_data_segment_over_the_limit_is_refused_before_its_data() {
        let mut bytes = wire(false, 0);
        bytes[5..8].copy_from_slice(&[0, 0x20, 0]);
        let mut rx = Receive::new(false, false, 8192);
        assert_eq!(rx.collect_header(&mut &bytes[..]), Ok(true));
        bytes[5..8].copy_from_slice(&[0, 0x20, 1]);
        let mut rx = Receive::new(false, false, 8192);
        assert_eq!(
            rx.collect_header(&mut &bytes[..]),
            Err(Fatal::DataSegmentTooLong { length_bytes: 8193, limit_bytes: 8192 })
        );
    }
}
