//! What each block may hold: the last acknowledged write, or one whose end is unknown.
//!
//! Every block carries its own address and the number of the write that put it there. After its target was killed
//! a block must hold the last acknowledged content, or that of a later write of the same block that was in flight;
//! whichever is read then stays. Nothing else: no older content, no other block's, no mixture.

use std::fmt::Write;

use crate::failure::{Context, Failure, Outcome, ensure, fail};
use crate::seed::Seed;

/// The number of a write that leaves zeros: an unmap, or nothing at all.
pub const ZEROS: u64 = 0;

/// The first words of a ledger that was written down.
const TITLE: &str = "ledger 1";
/// How often a place is drawn before the ledger says that there is none.
const DRAWS: u32 = 64;

/// What is known about one block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    /// Number of the last acknowledged write.
    acked: u64,
    /// A write in flight, or one whose end is unknown since its target was killed.
    pending: Option<u64>,
}

/// Neighbouring blocks that one command touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first.
    pub lba: u64,
    /// How many.
    pub blocks: u64,
}

impl Extent {
    /// The whole of a device or unit: a flush belongs to no block.
    pub const NONE: Self = Self { lba: 0, blocks: 0 };

    fn range(self) -> std::ops::Range<usize> {
        self.lba as usize..(self.lba + self.blocks) as usize
    }
}

/// The memory of a verifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    block_bytes: usize,
    blocks: Vec<Known>,
}

impl Ledger {
    /// Nothing was written to any of `blocks` blocks.
    pub fn new(blocks: u64, block_bytes: usize) -> Self {
        assert!(block_bytes > 0 && block_bytes.is_multiple_of(16), "a stamp of 16 bytes fills a block");
        Self { block_bytes, blocks: vec![Known::default(); blocks as usize] }
    }

    /// How many blocks it knows.
    pub fn blocks(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// Bytes of a block.
    pub fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// The highest number of a write that it knows; 0 when there was none.
    pub fn highest_number(&self) -> u64 {
        self.blocks.iter().map(|known| known.acked.max(known.pending.unwrap_or(ZEROS))).max().unwrap_or(ZEROS)
    }

    /// Draws blocks that no write in flight touches; `None` when none was found.
    pub fn draw_free(&self, chance: &mut Seed, blocks_max: u64) -> Option<Extent> {
        (0..DRAWS).find_map(|_| {
            let blocks = 1 + chance.below(blocks_max);
            let extent = Extent { lba: chance.below(self.blocks() - blocks), blocks };
            self.blocks[extent.range()].iter().all(|block| block.pending.is_none()).then_some(extent)
        })
    }

    /// Write `number` is about to be sent.
    pub fn begin(&mut self, extent: Extent, number: u64) {
        for block in &mut self.blocks[extent.range()] {
            block.pending = Some(number);
        }
    }

    /// Write `number` was acknowledged.
    pub fn acknowledge(&mut self, extent: Extent, number: u64) {
        for block in &mut self.blocks[extent.range()] {
            *block = Known { acked: number, pending: None };
        }
    }

    /// How many blocks of `extent` hold write `number`, as far as it was acknowledged or read.
    pub fn count(&self, extent: Extent, number: u64) -> u64 {
        self.blocks[extent.range()].iter().filter(|block| block.acked == number).count() as u64
    }

    /// Checks what was read from `lba` on, and settles what was unknown.
    pub fn check(&mut self, lba: u64, content: &[u8]) -> Outcome {
        ensure(content.len().is_multiple_of(self.block_bytes), || "a short read".to_owned())?;
        for (lba, content) in (lba..).zip(content.chunks_exact(self.block_bytes)) {
            self.check_block(lba, content)?;
        }
        Ok(())
    }

    fn check_block(&mut self, lba: u64, content: &[u8]) -> Outcome {
        let known = &mut self.blocks[lba as usize];
        let number = read_number(lba, content).context(&format!("LBA {lba}, {known:?}"))?;
        ensure(number == known.acked || Some(number) == known.pending, || {
            format!("LBA {lba} holds write {number}, but {known:?}")
        })?;
        *known = Known { acked: number, pending: None };
        Ok(())
    }

    /// What write `number` puts into `extent`.
    pub fn content(&self, extent: Extent, number: u64) -> Vec<u8> {
        let blocks = extent.lba..extent.lba + extent.blocks;
        blocks.flat_map(|lba| block_content(lba, number, self.block_bytes)).collect()
    }

    /// Writes it down, for a program that is started later.
    pub fn to_text(&self) -> String {
        let mut text = format!("{TITLE} {} {}\n", self.block_bytes, self.blocks());
        for (lba, known) in self.blocks.iter().enumerate().filter(|(_, known)| **known != Known::default()) {
            let pending = known.pending.map_or_else(|| "-".to_owned(), |number| number.to_string());
            writeln!(text, "{lba} {} {pending}", known.acked).expect("a String takes everything");
        }
        text
    }

    /// Reads what `to_text` wrote.
    pub fn from_text(text: &str) -> Outcome<Self> {
        let mut lines = text.lines();
        let sizes = lines.next().and_then(|line| line.strip_prefix(TITLE)).map(numbers).transpose()?;
        let Some([Some(block_bytes), Some(blocks)]) = sizes.as_deref() else {
            return fail("this is no ledger");
        };
        ensure(*block_bytes > 0 && block_bytes.is_multiple_of(16), || "a block of no size".to_owned())?;
        let mut ledger = Self::new(*blocks, *block_bytes as usize);
        for line in lines {
            let numbers = numbers(line)?;
            let [Some(lba), Some(acked), pending] = numbers[..] else {
                return fail(format!("a line of three numbers is wanted: {line:?}"));
            };
            let known = ledger.blocks.get_mut(lba as usize);
            *known.ok_or_else(|| Failure::new(format!("no such block: {line:?}")))? =
                Known { acked, pending };
        }
        Ok(ledger)
    }
}

/// The numbers of a line; `-` is none.
fn numbers(line: &str) -> Outcome<Vec<Option<u64>>> {
    let number = |word: &str| if word == "-" { Ok(None) } else { word.parse().map(Some) };
    Ok(line.split_whitespace().map(number).collect::<Result<_, _>>()?)
}

/// Address and number, again and again, so that every part of the block names them.
fn block_content(lba: u64, number: u64, block_bytes: usize) -> Vec<u8> {
    if number == ZEROS {
        return vec![0; block_bytes];
    }
    [lba.to_be_bytes(), number.to_be_bytes()].concat().repeat(block_bytes / 16)
}

/// The number of the write that a block's content came from.
fn read_number(lba: u64, content: &[u8]) -> Outcome<u64> {
    if content.iter().all(|byte| *byte == 0) {
        return Ok(ZEROS);
    }
    let mut number = [0; 8];
    number.copy_from_slice(&content[8..16]);
    let number = u64::from_be_bytes(number);
    ensure(content == block_content(lba, number, content.len()), || {
        format!("neither one write's content nor zeros: begins with {:02x?}", &content[..16])
    })?;
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(acked: u64, pending: Option<u64>) -> Ledger {
        let mut ledger = Ledger::new(2048, 512);
        ledger.blocks[5] = Known { acked, pending };
        ledger
    }

    #[test]
    fn acknowledged_or_pending_content_is_accepted_and_then_fixed() {
        let mut ledger = ledger(7, Some(9));
        ledger.check(5, &block_content(5, 9, 512)).expect("the pending write");
        assert!(ledger.check(5, &block_content(5, 7, 512)).is_err(), "it was read as 9 before");
        let extent = Extent { lba: 4, blocks: 3 };
        assert_eq!((ledger.count(extent, 9), ledger.count(extent, 7)), (1, 0));
    }

    #[test]
    fn loss_misdirection_and_mixture_are_seen() {
        assert!(ledger(7, None).check(5, &block_content(5, 6, 512)).is_err(), "older");
        assert!(ledger(7, None).check(5, &[0; 512]).is_err(), "lost");
        assert!(ledger(7, None).check(5, &block_content(6, 7, 512)).is_err(), "another block's");
        let mut torn = block_content(5, 7, 512);
        torn[256..].copy_from_slice(&block_content(5, 9, 512)[256..]);
        assert!(ledger(7, Some(9)).check(5, &torn).is_err(), "torn");
        assert!(ledger(7, Some(ZEROS)).check(5, &[0; 512]).is_ok(), "unmapped in flight");
        assert!(ledger(7, None).check(5, &block_content(5, 7, 512)[..100]).is_err(), "short");
    }

    #[test]
    fn blocks_in_flight_are_not_drawn() {
        let mut ledger = Ledger::new(20, 512);
        ledger.begin(Extent { lba: 0, blocks: 20 }, 1);
        assert_eq!(ledger.draw_free(&mut Seed::new(1), 4), None);
        ledger.acknowledge(Extent { lba: 8, blocks: 4 }, 1);
        let extent = ledger.draw_free(&mut Seed::new(1), 4).expect("blocks 8 to 11 are free");
        assert!(extent.lba >= 8 && extent.lba + extent.blocks <= 12, "{extent:?}");
    }

    #[test]
    fn a_ledger_that_was_written_down_is_the_same_when_it_is_read() {
        let mut ledger = ledger(7, Some(9));
        ledger.begin(Extent { lba: 100, blocks: 3 }, 12);
        ledger.acknowledge(Extent { lba: 200, blocks: 3 }, 11);
        assert_eq!(Ledger::from_text(&ledger.to_text()).expect("its own words"), ledger);
        for nonsense in ["", "ledger 1", "ledger 1 512 8\n8 1 -", "ledger 1 0 8", "ledger 1 512 8\n1 -", "x"]
        {
            assert!(Ledger::from_text(nonsense).is_err(), "{nonsense:?}");
        }
    }
}
