//! From a byte stream to headers, data and digests, whatever the cuts.
//!
//! Beyond the common header, which frames it, no field of a header is looked at before its digest was checked.

use nvme_spec::tcp::{COMMON_HEADER_BYTES, CommonHeader, DIGEST_BYTES, HEADER_BYTES_MAX};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::digest::{Crc32c, digest};
use crate::error::Violation;
pub(crate) use crate::frame::Rules;
use crate::frame::{self, Frame};
use crate::payload::{Payload, for_each_chunk, store};

/// Where in a PDU the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Header and its digest.
    Header,
    /// The header is there and waits for memory.
    Parked,
    /// Between header and data.
    Padding,
    Data,
    /// Data digest.
    Digest,
    /// The PDU is complete.
    Done,
}

/// The receiving side of one connection.
#[derive(Debug)]
pub(crate) struct Receive {
    rules: Rules,
    pub(crate) phase: Phase,
    pub(crate) frame: Frame,
    /// The header with its digest, as far as it came. Stays until the next one begins.
    header: [u8; HEADER_BYTES_MAX],
    header_filled: usize,
    padding_left_bytes: usize,
    data_left_bytes: usize,
    /// Offset of the next data byte in the command's buffer.
    offset_bytes: usize,
    /// Data from this offset on is read and forgotten.
    store_end_bytes: usize,
    digest: [u8; DIGEST_BYTES],
    digest_filled: usize,
    crc: Crc32c,
}

impl Receive {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            phase: Phase::Header,
            frame: Frame::EMPTY,
            header: [0; HEADER_BYTES_MAX],
            header_filled: 0,
            padding_left_bytes: 0,
            data_left_bytes: 0,
            offset_bytes: 0,
            store_end_bytes: 0,
            digest: [0; DIGEST_BYTES],
            digest_filled: 0,
            crc: Crc32c::new(),
        }
    }

    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// The header of the PDU in progress, as far as it came, without its digest.
    pub(crate) fn header_so_far(&self) -> &[u8] {
        let came_bytes =
            if self.phase == Phase::Header { self.header_filled } else { self.frame.header_bytes };
        let is_checked = came_bytes > COMMON_HEADER_BYTES;
        &self.header[..if is_checked { came_bytes.min(self.frame.header_bytes) } else { came_bytes }]
    }

    /// The header as the type that `frame` says it is.
    pub(crate) fn view<T: FromBytes + KnownLayout + Immutable + Unaligned>(&self) -> &T {
        T::ref_from_prefix(&self.header).expect("no header is longer than the longest").0
    }

    /// Takes header bytes off `input`; true when the header is complete and sound.
    #[inline]
    pub(crate) fn collect_header(&mut self, input: &mut &[u8]) -> Result<bool, Violation> {
        while !input.is_empty() {
            if self.header_filled < COMMON_HEADER_BYTES {
                self.fill_header(COMMON_HEADER_BYTES, input);
                if self.header_filled == COMMON_HEADER_BYTES {
                    self.frame = frame::check(self.view::<CommonHeader>(), &self.rules)?;
                }
                continue;
            }
            let digest_bytes = if self.frame.header_digest { DIGEST_BYTES } else { 0 };
            let wanted_bytes = self.frame.header_bytes + digest_bytes;
            self.fill_header(wanted_bytes, input);
            if self.header_filled == wanted_bytes {
                self.check_digest()?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    #[inline]
    fn fill_header(&mut self, wanted_bytes: usize, input: &mut &[u8]) {
        let taken = input.len().min(wanted_bytes - self.header_filled);
        let (piece, rest) = input.split_at(taken);
        self.header[self.header_filled..self.header_filled + taken].copy_from_slice(piece);
        self.header_filled += taken;
        *input = rest;
    }

    fn check_digest(&self) -> Result<(), Violation> {
        if !self.frame.header_digest {
            return Ok(());
        }
        let (covered, rest) = self.header.split_at(self.frame.header_bytes);
        let (sent, _) = rest
            .split_first_chunk::<DIGEST_BYTES>()
            .expect("room for the digest of every header that has one");
        if digest(covered) == *sent {
            Ok(())
        } else {
            Err(Violation::HeaderDigest(u32::from_le_bytes(*sent)))
        }
    }

    /// Goes on behind the header. Data belongs at `offset_bytes` of a buffer, up to `store_end_bytes`; what lies behind is
    /// read and forgotten.
    #[inline]
    pub(crate) fn begin_data(&mut self, offset_bytes: usize, store_end_bytes: usize) {
        self.padding_left_bytes = self.frame.padding_bytes;
        self.data_left_bytes = self.frame.data_bytes;
        self.offset_bytes = offset_bytes;
        self.store_end_bytes = store_end_bytes;
        self.header_filled = 0;
        self.digest_filled = 0;
        if self.frame.data_digest {
            self.crc.reset();
        }
        self.phase = match () {
            () if self.padding_left_bytes > 0 => Phase::Padding,
            () if self.data_left_bytes > 0 => Phase::Data,
            () => Phase::Done,
        };
    }

    /// The PDU had no data and is acted on.
    #[inline]
    pub(crate) fn skip_to_next(&mut self) {
        self.header_filled = 0;
        self.phase = Phase::Header;
    }

    /// True when the padding is past.
    pub(crate) fn skip_padding(&mut self, input: &mut &[u8]) -> bool {
        let taken = input.len().min(self.padding_left_bytes);
        *input = &input[taken..];
        self.padding_left_bytes -= taken;
        if self.padding_left_bytes == 0 {
            self.phase = Phase::Data;
        }
        self.padding_left_bytes == 0
    }

    /// Takes data off `input`, into `payload` if there is one; true when all data is there.
    #[inline]
    pub(crate) fn take_data<P: Payload>(&mut self, input: &mut &[u8], payload: Option<&mut P>) -> bool {
        let (piece, rest) = input.split_at(input.len().min(self.data_left_bytes));
        *input = rest;
        if let Some(payload) = payload {
            let room_bytes = self.store_end_bytes.saturating_sub(self.offset_bytes);
            store(payload, self.offset_bytes, &piece[..piece.len().min(room_bytes)]);
        }
        self.took(piece);
        if self.data_left_bytes == 0 {
            self.phase = if self.frame.data_digest { Phase::Digest } else { Phase::Done };
        }
        self.data_left_bytes == 0
    }

    fn took(&mut self, piece: &[u8]) {
        if self.frame.data_digest {
            self.crc.update(piece);
        }
        self.offset_bytes += piece.len();
        self.data_left_bytes -= piece.len();
    }

    /// Where in `payload` the next data bytes belong; `None` when they belong nowhere.
    pub(crate) fn wanted<'a, P: Payload>(&self, payload: &'a mut P) -> Option<&'a mut [u8]> {
        let room_bytes = self.store_end_bytes.saturating_sub(self.offset_bytes).min(self.data_left_bytes);
        if room_bytes == 0 {
            return None;
        }
        let chunk = payload.chunk_mut(self.offset_bytes);
        let shown_bytes = chunk.len().min(room_bytes);
        Some(&mut chunk[..shown_bytes])
    }

    /// Counts data that was stored in `payload` already.
    pub(crate) fn received_in_place<P: Payload>(&mut self, payload: &P, length_bytes: usize) {
        let room_bytes = self.store_end_bytes.saturating_sub(self.offset_bytes).min(self.data_left_bytes);
        assert!(self.phase == Phase::Data && length_bytes <= room_bytes, "no more room was shown");
        if self.frame.data_digest {
            let crc = &mut self.crc;
            for_each_chunk(payload, self.offset_bytes, length_bytes, |chunk| crc.update(chunk));
        }
        self.offset_bytes += length_bytes;
        self.data_left_bytes -= length_bytes;
    }

    /// Takes the data digest off `input`; true when it is complete.
    pub(crate) fn collect_digest(&mut self, input: &mut &[u8]) -> bool {
        let taken = input.len().min(DIGEST_BYTES - self.digest_filled);
        let (piece, rest) = input.split_at(taken);
        self.digest[self.digest_filled..self.digest_filled + taken].copy_from_slice(piece);
        self.digest_filled += taken;
        *input = rest;
        if self.digest_filled == DIGEST_BYTES {
            self.phase = Phase::Done;
        }
        self.digest_filled == DIGEST_BYTES
    }

    /// True when there is no data digest or it is right.
    pub(crate) fn data_is_sound(&self) -> bool {
        !self.frame.data_digest || self.crc.to_wire() == self.digest
    }
}
