//! What a verifying run knows about each place: what was written there last, and whether a request is there now.

use crate::driver::Payload;
use crate::stamp::{self, Found, Stamp};

/// The place was not written by this run.
const NEVER: u32 = 0;
/// Set beside the number of a write that failed: the place holds the one before, or that one, or a mixture.
const IN_DOUBT: u32 = 1 << 31;

/// What was wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mismatch {
    /// Stamped, and its checksum does not fit.
    Broken,
    /// It was written, and now it is not there.
    Missing,
    /// It belongs elsewhere.
    Misplaced {
        /// Where it was written to.
        belongs_to_lba: u64,
    },
    /// An earlier or later state than the last one that was acknowledged.
    Stale {
        /// What it holds.
        found: u32,
        /// What it must hold.
        expected: u32,
    },
}

/// What reading a place has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Blocks whose content was proven right.
    pub checked_blocks: u64,
    /// Blocks of which nothing is known.
    pub unknown_blocks: u64,
    /// Blocks that are wrong.
    pub wrong_blocks: u64,
    /// The first of them.
    pub first: Option<(u64, Mismatch)>,
}

/// Every place of a verifying run.
#[derive(Debug)]
pub struct Ledger {
    run: u64,
    logical_block_bytes: usize,
    /// The first block of the first place.
    first_block: u64,
    blocks_per_place: u64,
    last: Vec<u32>,
    /// One bit per place: a request is there.
    busy: Vec<u64>,
}

impl Ledger {
    pub fn new(
        run: u64,
        places: u64,
        (first_block, blocks_per_place): (u64, u64),
        logical_block_bytes: u32,
    ) -> Self {
        let count = usize::try_from(places).expect("the number of places is bounded");
        Self {
            run,
            logical_block_bytes: logical_block_bytes as usize,
            first_block,
            blocks_per_place,
            last: vec![NEVER; count],
            busy: vec![0; count.div_ceil(64)],
        }
    }

    /// Takes a place for a request; false when there is one already: the outcome of both would be open.
    pub fn claim(&mut self, place: u64) -> bool {
        let (word, bit) = (place as usize / 64, 1 << (place % 64));
        let is_free = self.busy[word] & bit == 0;
        self.busy[word] |= bit;
        is_free
    }

    fn release(&mut self, place: u64) {
        self.busy[place as usize / 64] &= !(1 << (place % 64));
    }

    /// Stamps what is about to be written.
    pub fn stamp(&self, place: u64, data: &mut impl Payload) {
        let seq = self.following(place);
        let blocks = data.runs_mut().flat_map(|run| run.chunks_exact_mut(self.logical_block_bytes));
        for (lba, block) in (self.first_of(place)..).zip(blocks) {
            stamp::stamp(block, Stamp { run: self.run, lba, seq });
        }
    }

    /// The first block of a place.
    fn first_of(&self, place: u64) -> u64 {
        self.first_block + place * self.blocks_per_place
    }

    fn following(&self, place: u64) -> u32 {
        let last = self.last[place as usize] & !IN_DOUBT;
        // The numbers begin again after two thousand million writes of one place.
        if last + 1 == IN_DOUBT { 1 } else { last + 1 }
    }

    /// A write is over.
    pub fn wrote(&mut self, place: u64, succeeded: bool) {
        let doubt = if succeeded { 0 } else { IN_DOUBT };
        self.last[place as usize] = self.following(place) | doubt;
        self.release(place);
    }

    /// A read failed.
    pub fn gave_up(&mut self, place: u64) {
        self.release(place);
    }

    /// Checks what was read.
    pub fn check(&mut self, place: u64, data: &impl Payload) -> Findings {
        self.release(place);
        let expected = self.last[place as usize];
        let mut findings = Findings::default();
        let blocks = data.runs().flat_map(|run| run.chunks_exact(self.logical_block_bytes));
        for (lba, block) in (self.first_of(place)..).zip(blocks) {
            match self.judge(lba, expected, block) {
                Ok(true) => findings.checked_blocks += 1,
                Ok(false) => findings.unknown_blocks += 1,
                Err(mismatch) => {
                    findings.wrong_blocks += 1;
                    findings.first.get_or_insert((lba, mismatch));
                }
            }
        }
        findings
    }

    /// True when the block is proven right, false when nothing is known about it.
    fn judge(&self, lba: u64, expected: u32, block: &[u8]) -> Result<bool, Mismatch> {
        let is_known = expected != NEVER && expected & IN_DOUBT == 0;
        match stamp::read(block) {
            Found::Broken => Err(Mismatch::Broken),
            Found::Unmarked | Found::Unstamped if is_known => Err(Mismatch::Missing),
            Found::Unmarked | Found::Unstamped => Ok(false),
            Found::Stamped(found) if found.lba != lba => {
                Err(Mismatch::Misplaced { belongs_to_lba: found.lba })
            }
            Found::Stamped(found) if is_known && (found.run, found.seq) != (self.run, expected) => {
                Err(Mismatch::Stale { found: found.seq, expected })
            }
            Found::Stamped(_) => Ok(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::Sequence;

    fn buffer() -> Vec<u8> {
        let mut buffer = vec![0; 1024];
        stamp::fill(&mut buffer, 512, &mut Sequence::new(3));
        buffer
    }

    #[test]
    fn what_was_written_is_proven_and_what_was_not_is_unknown() {
        let mut ledger = Ledger::new(9, 4, (0, 2), 512);
        let mut data = buffer();
        assert!(ledger.claim(1) && !ledger.claim(1) && ledger.claim(2));
        ledger.stamp(1, &mut data);
        ledger.wrote(1, true);
        assert!(ledger.claim(1));
        assert_eq!(ledger.check(1, &data).checked_blocks, 2);
        assert_eq!(ledger.check(3, &vec![0; 1024]).unknown_blocks, 2);
    }

    #[test]
    fn lost_stale_misplaced_and_torn_blocks_are_told_apart() {
        let mut ledger = Ledger::new(9, 4, (0, 2), 512);
        let mut old = buffer();
        ledger.stamp(1, &mut old);
        ledger.wrote(1, true);
        let mut new = buffer();
        ledger.stamp(1, &mut new);
        ledger.wrote(1, true);
        let first = |findings: Findings| findings.first.expect("something is wrong");
        assert_eq!(first(ledger.check(1, &vec![0; 1024])), (2, Mismatch::Missing));
        assert_eq!(first(ledger.check(1, &old)), (2, Mismatch::Stale { found: 1, expected: 2 }));
        let torn: Vec<u8> = [&new[..512], &old[512..]].concat();
        assert_eq!(first(ledger.check(1, &torn)), (3, Mismatch::Stale { found: 1, expected: 2 }));
        assert_eq!(first(ledger.check(2, &new)), (4, Mismatch::Misplaced { belongs_to_lba: 2 }));
        new[100] ^= 1;
        assert_eq!(first(ledger.check(1, &new)), (2, Mismatch::Broken));
    }

    #[test]
    fn after_a_failed_write_either_state_is_right() {
        let mut ledger = Ledger::new(9, 4, (0, 2), 512);
        let mut data = buffer();
        ledger.stamp(0, &mut data);
        ledger.wrote(0, false);
        assert_eq!(ledger.check(0, &data).wrong_blocks, 0);
        assert_eq!(ledger.check(0, &vec![0; 1024]).wrong_blocks, 0);
    }
}
