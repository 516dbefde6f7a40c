//! What a written block says about itself: whose it is, where it belongs, and whether it is whole.
//!
//! ```text
//!  0      8      16     24     28     32
//!  │ mark │ run  │ lba  │ seq  │ crc  │ filler …
//! ```
//!
//! All little-endian. The CRC-32C covers the whole logical block but its own four bytes. Every block that a run writes bears
//! the mark; the other fields are set when the run verifies.

use crc_fast::{CrcAlgorithm, Digest};

use crate::places::Sequence;

/// "vegabnch".
const MARK: [u8; 8] = *b"vegabnch";
const RUN: usize = 8;
const LBA: usize = 16;
const SEQ: usize = 24;
const CRC: usize = 28;
const END: usize = 32;

/// What stands in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The run that wrote it.
    pub run: u64,
    /// Where it was written to.
    pub lba: u64,
    /// The how-manieth write of its place in that run, from 1 on.
    pub seq: u32,
}

/// Fills a buffer with bytes that nothing can leave out or pack, each block with the mark.
pub fn fill(buffer: &mut [u8], logical_block_bytes: usize, sequence: &mut Sequence) {
    for chunk in buffer.chunks_mut(8) {
        let bytes = sequence.next().to_le_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
    for block in buffer.chunks_mut(logical_block_bytes) {
        block[..END].fill(0);
        block[..RUN].copy_from_slice(&MARK);
    }
}

fn crc(block: &[u8]) -> [u8; 4] {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&block[..CRC]);
    digest.update(&block[END..]);
    (digest.finalize() as u32).to_le_bytes()
}

/// Stamps a block that bears the mark.
pub fn stamp(block: &mut [u8], stamp: Stamp) {
    block[RUN..LBA].copy_from_slice(&stamp.run.to_le_bytes());
    block[LBA..SEQ].copy_from_slice(&stamp.lba.to_le_bytes());
    block[SEQ..CRC].copy_from_slice(&stamp.seq.to_le_bytes());
    let crc = crc(block);
    block[CRC..END].copy_from_slice(&crc);
}

/// What a block turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No mark: of somebody else, or never written.
    Unmarked,
    /// Marked by a run that did not verify.
    Unstamped,
    /// Stamped, and not what was stamped.
    Broken,
    /// Whole.
    Stamped(Stamp),
}

/// Reads the stamp of a block.
pub fn read(block: &[u8]) -> Found {
    if !is_marked(block) {
        return Found::Unmarked;
    }
    let word = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"));
    let seq = u32::from_le_bytes(block[SEQ..CRC].try_into().expect("four bytes"));
    if block[RUN..END].iter().all(|byte| *byte == 0) {
        return Found::Unstamped;
    }
    if crc(block) != block[CRC..END] {
        return Found::Broken;
    }
    Found::Stamped(Stamp { run: word(RUN), lba: word(LBA), seq })
}

/// True when a run wrote it.
pub fn is_marked(block: &[u8]) -> bool {
    block[..RUN] == MARK
}

/// The first block of some runs that no run of a generator wrote, and that is not empty: somebody's data.
pub fn first_foreign<'a>(runs: impl Iterator<Item = &'a [u8]>, logical_block_bytes: usize) -> Option<u64> {
    let blocks = runs.flat_map(|run| run.chunks_exact(logical_block_bytes));
    let is_foreign = |block: &[u8]| !is_marked(block) && !is_zero(block);
    (0..).zip(blocks).find(|(_, block)| is_foreign(block)).map(|(index, _)| index)
}

/// True when it was never written, or holds nothing.
pub fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_again_and_any_changed_bit_is_seen() {
        let mut buffer = vec![0; 1024];
        assert_eq!(read(&buffer), Found::Unmarked);
        fill(&mut buffer, 512, &mut Sequence::new(1));
        assert_eq!(read(&buffer[512..]), Found::Unstamped);
        let given = Stamp { run: 7, lba: 1 << 40, seq: 3 };
        stamp(&mut buffer[512..], given);
        assert_eq!(read(&buffer[512..]), Found::Stamped(given));
        assert_eq!(read(&buffer[..512]), Found::Unstamped);
        for bit in 0..512 * 8 {
            let mut block = buffer[512..].to_vec();
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read(&block), Found::Broken | Found::Unmarked), "bit {bit}");
        }
    }
}
