//! What a load has written, such that a process that was killed, or a machine without power, cannot hide what is lost.
//!
//! Write `n` goes to a cell that follows from `n`, and fills each block of it with its number and place. After a flush has
//! returned, the journal says up to which number; nobody writes far past that before the next flush. So a block may hold
//! the last flushed write of its cell, or one that came after it, and nothing else.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use harness::failure::{Context, Failure, Outcome, ensure};

/// Cells that a load writes to.
pub const CELLS: u64 = 512;
/// Length of a cell.
pub const CELL_BYTES: usize = 8192;
/// Writes between two flushes; so many may have happened beyond what the journal says.
pub const FLUSH_EVERY: u64 = 64;

/// The journal is one block of its file or disk.
const JOURNAL_BYTES: usize = 512;
const TITLE: u64 = 0x6a6f_7572_6e61_6c31;

/// The journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// The first write of the load.
    pub first: u64,
    /// The last write that was flushed; 0 until every cell was.
    pub flushed: u64,
}

impl Journal {
    /// Reads it; the one of a disk that was never written to knows of nothing.
    pub fn load(path: &Path) -> Outcome<Self> {
        let mut bytes = [0; JOURNAL_BYTES];
        File::open(path)
            .and_then(|file| file.read_exact_at(&mut bytes, 0))
            .context(&format!("reading {}", path.display()))?;
        let word = |index: usize| {
            let bytes = bytes[index * 8..][..8].try_into().expect("eight bytes");
            u64::from_le_bytes(bytes)
        };
        match word(0) {
            0 => Ok(Self::default()),
            TITLE => {
                ensure(word(3) == word(1) ^ word(2) ^ TITLE, || "the journal is torn".to_owned())?;
                Ok(Self { first: word(1), flushed: word(2) })
            }
            _ => Err(Failure::new(format!("{} is no journal", path.display()))),
        }
    }

    /// Writes it, past all caches of this machine.
    pub fn store(self, file: &File) -> io::Result<()> {
        let mut bytes = [0; JOURNAL_BYTES];
        for (index, word) in
            [TITLE, self.first, self.flushed, self.first ^ self.flushed ^ TITLE].into_iter().enumerate()
        {
            bytes[index * 8..][..8].copy_from_slice(&word.to_le_bytes());
        }
        file.write_all_at(&bytes, 0)?;
        file.sync_data()
    }

    /// The cell of write `number`: every cell once in each turn over all of them, so that no two writes that are in flight
    /// together have the same, but in another order each time.
    pub fn cell(self, number: u64) -> u64 {
        let index = number - self.first;
        (index * 37 + index / CELLS * 11) % CELLS
    }

    /// For each cell, the last flushed write. Nothing is known before every cell was written.
    fn last_flushed(self) -> Option<Vec<u64>> {
        if self.flushed < self.first + CELLS - 1 {
            return None;
        }
        let mut last = vec![0; CELLS as usize];
        for number in self.first..=self.flushed {
            last[self.cell(number) as usize] = number;
        }
        Some(last)
    }

    /// Checks every cell that `read` gives. Answers how many there were; 0 when nothing is known.
    pub fn verify(self, block_bytes: usize, mut read: impl FnMut(u64) -> Outcome<Vec<u8>>) -> Outcome<u64> {
        let Some(last) = self.last_flushed() else { return Ok(0) };
        for (cell, last) in (0..).zip(last) {
            let content = read(cell)?;
            ensure(content.len() == CELL_BYTES, || format!("cell {cell} is {} bytes", content.len()))?;
            for (index, block) in content.chunks_exact(block_bytes).enumerate() {
                self.check_block(cell, block, last).context(&format!("cell {cell}, block {index}"))?;
            }
        }
        Ok(CELLS)
    }

    fn check_block(self, cell: u64, block: &[u8], last: u64) -> Outcome {
        let number = u64::from_le_bytes(block[..8].try_into().expect("eight bytes"));
        ensure(block == &stamp(number, cell, block.len())[..], || "its content is mixed".to_owned())?;
        let newest = self.flushed + FLUSH_EVERY;
        ensure((last..=newest).contains(&number), || {
            format!("it holds write {number}, but {last} was flushed and {newest} never sent")
        })?;
        ensure(self.cell(number) == cell, || format!("it holds write {number}, which went elsewhere"))
    }

    /// The numbers of the next load: none that this one may have used.
    pub fn next_first(self) -> u64 {
        self.flushed.max(self.first + CELLS) + FLUSH_EVERY + 1
    }
}

/// What write `number` leaves in `length_bytes` of `cell`.
pub fn stamp(number: u64, cell: u64, length_bytes: usize) -> Vec<u8> {
    let line = [number.to_le_bytes(), cell.to_le_bytes()].concat();
    line.into_iter().cycle().take(length_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(journal: Journal, up_to: u64) -> Vec<Vec<u8>> {
        let mut cells = vec![Vec::new(); CELLS as usize];
        for number in journal.first..=up_to {
            let cell = journal.cell(number);
            cells[cell as usize] = stamp(number, cell, CELL_BYTES);
        }
        cells
    }

    fn verify(journal: Journal, cells: &[Vec<u8>]) -> Outcome<u64> {
        journal.verify(512, |cell| Ok(cells[cell as usize].clone()))
    }

    #[test]
    fn writes_between_two_flushes_go_to_different_cells() {
        for turn in 0..3 {
            let cells = (0..CELLS).map(|index| JOURNAL.cell(JOURNAL.first + turn * CELLS + index));
            assert_eq!(cells.collect::<std::collections::BTreeSet<_>>().len(), CELLS as usize);
        }
        assert_ne!(JOURNAL.cell(JOURNAL.first + 1), JOURNAL.cell(JOURNAL.first + CELLS + 1));
        assert!(CELLS.is_multiple_of(FLUSH_EVERY), "a round does not go over the end of a turn");
    }

    const JOURNAL: Journal = Journal { first: 77, flushed: 76 + 3 * CELLS };

    #[test]
    fn what_was_flushed_or_came_later_passes() {
        assert_eq!(verify(JOURNAL, &disk(JOURNAL, JOURNAL.flushed)).expect("all is there"), CELLS);
        assert_eq!(verify(JOURNAL, &disk(JOURNAL, JOURNAL.flushed + FLUSH_EVERY)).expect("and more"), CELLS);
        let young = Journal { first: 77, flushed: 75 + CELLS };
        assert_eq!(verify(young, &[]).expect("nothing is known"), 0);
    }

    #[test]
    fn what_is_lost_mixed_misplaced_or_invented_does_not() {
        let whole = disk(JOURNAL, JOURNAL.flushed);
        let last = JOURNAL.cell(JOURNAL.flushed) as usize;
        let spoil = |spoil: &dyn Fn(&mut Vec<Vec<u8>>)| {
            let mut cells = whole.clone();
            spoil(&mut cells);
            verify(JOURNAL, &cells).expect_err("it was spoiled").to_string()
        };
        let older = disk(JOURNAL, JOURNAL.flushed - 1)[last].clone();
        assert!(spoil(&|cells| cells[last] = older.clone()).contains("was flushed"));
        assert!(spoil(&|cells| cells[3] = vec![0; CELL_BYTES]).contains("mixed"));
        assert!(spoil(&|cells| cells[3][600] ^= 1).contains("mixed"));
        assert!(spoil(&|cells| cells.swap(3, 4)).contains("mixed"));
        let newer = JOURNAL.flushed + FLUSH_EVERY + 1;
        assert!(spoil(&|cells| cells[3] = stamp(newer, 3, CELL_BYTES)).contains("never sent"));
        let elsewhere = (JOURNAL.flushed + 1..newer).find(|number| JOURNAL.cell(*number) != 3);
        let elsewhere = elsewhere.expect("another cell");
        assert!(spoil(&|cells| cells[3] = stamp(elsewhere, 3, CELL_BYTES)).contains("elsewhere"));
    }

    #[test]
    fn a_journal_is_read_as_it_was_written() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(JOURNAL_BYTES as u64).expect("room");
        assert_eq!(Journal::load(file.path()).expect("an empty one"), Journal::default());
        JOURNAL.store(file.as_file()).expect("room");
        assert_eq!(Journal::load(file.path()).expect("it was written"), JOURNAL);
        assert!(JOURNAL.next_first() > JOURNAL.flushed + FLUSH_EVERY);
        file.as_file().write_all_at(&[1], 9).expect("room");
        assert!(Journal::load(file.path()).expect_err("torn").to_string().contains("torn"));
        file.as_file().write_all_at(&[1], 0).expect("room");
        assert!(Journal::load(file.path()).expect_err("another title").to_string().contains("no journal"));
    }
}
