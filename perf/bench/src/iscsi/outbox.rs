//! PDUs that wait to be sent, many per system call; their data lies where the command keeps it.

use std::collections::VecDeque;
use std::io::IoSlice;

use super::wire::{HEADER_BYTES, Header};

/// Vectors of one send: 32 PDUs with their data.
pub const VECTORS: usize = 64;

/// Where the data of a PDU lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// There is none.
    Nothing,
    /// The buffer of a command of the session, by its slot.
    Slot { slot: u32, offset: u32, length: u32 },
    /// The keys of the login.
    Keys { length: u32 },
}

impl Source {
    fn length(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Slot { length, .. } | Self::Keys { length } => length as usize,
        }
    }

    fn padded(self) -> usize {
        self.length().next_multiple_of(4)
    }
}

#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<(Header, Source)>,
    /// Bytes of the first PDU that have left.
    sent_of_first: usize,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Queues a PDU; DataSegmentLength is filled in here.
    pub fn push(&mut self, mut header: Header, source: Source) {
        header.set_word(4, source.length() as u32);
        self.waiting.push_back((header, source));
    }

    /// Fills `out` with what to send next; how many were filled. `data` gives the buffer of a slot (padding included), `keys`
    /// are those of the login.
    pub fn chunks<'a>(
        &'a self,
        data: impl Fn(u32) -> &'a [u8],
        keys: &'a [u8],
        out: &mut [IoSlice<'a>],
    ) -> usize {
        let (mut filled, mut skip) = (0, self.sent_of_first);
        for (header, source) in &self.waiting {
            if filled + 2 > out.len() {
                break;
            }
            let in_header = skip.min(HEADER_BYTES);
            if in_header < HEADER_BYTES {
                out[filled] = IoSlice::new(&header.0[in_header..]);
                filled += 1;
            }
            let body = match *source {
                Source::Nothing => &[][..],
                Source::Slot { slot, offset, length } => &data(slot)[offset as usize..][..length as usize],
                Source::Keys { .. } => &keys[..source.padded()],
            };
            if body.len() > skip - in_header {
                out[filled] = IoSlice::new(&body[skip - in_header..]);
                filled += 1;
            }
            skip = 0;
        }
        filled
    }

    /// So many bytes have left. `sent` hears the slot of each PDU that is through.
    pub fn advance(&mut self, bytes: usize, mut sent: impl FnMut(u32)) {
        self.sent_of_first += bytes;
        while let Some((_, source)) = self.waiting.front() {
            let total = HEADER_BYTES + source.padded();
            if self.sent_of_first < total {
                return;
            }
            self.sent_of_first -= total;
            if let Source::Slot { slot, .. } = *source {
                sent(slot);
            }
            self.waiting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::wire::SCSI_COMMAND;

    #[test]
    fn every_byte_goes_out_once_whatever_is_taken() {
        let data: Vec<u8> = (0..=255).cycle().take(1024).collect();
        let keys = [7; 8];
        for taken in [1, 7, 47, 48, 49, 100, 4096] {
            let mut outbox = Outbox::default();
            outbox.push(Header::new(SCSI_COMMAND, 1, 5), Source::Slot { slot: 3, offset: 512, length: 512 });
            outbox.push(Header::new(SCSI_COMMAND, 2, 6), Source::Nothing);
            outbox.push(Header::new(SCSI_COMMAND, 3, 7), Source::Keys { length: 5 });
            let (mut stream, mut through) = (Vec::new(), Vec::new());
            while !outbox.is_empty() {
                let mut vectors = [IoSlice::new(&[]); VECTORS];
                let count = outbox.chunks(|_| &data, &keys, &mut vectors);
                let all: Vec<u8> = vectors[..count].iter().flat_map(|chunk| chunk.to_vec()).collect();
                let sent = all.len().min(taken);
                stream.extend_from_slice(&all[..sent]);
                outbox.advance(sent, |slot| through.push(slot));
            }
            assert_eq!(stream.len(), 3 * HEADER_BYTES + 512 + 8);
            assert_eq!(&stream[48..560], &data[512..]);
            assert_eq!((stream[4 + 560 + 48 + 3], through), (5, vec![3]));
        }
    }
}
