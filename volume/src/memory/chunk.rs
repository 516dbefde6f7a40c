//! One run of a device's memory, and which of its pages hold data.

use reactor::memory::{Block, PageBlock, ShownCount};

use super::checksum::Checksums;
use super::{CHUNK_PAGES, PAGE};
use crate::limits::MEMORY_CHUNK_BYTES;

const MAP_WORDS: usize = CHUNK_PAGES / 64;

pub(super) struct Chunk {
    pub(super) memory: PageBlock,
    /// One bit per page. A page without its bit is all zeros.
    mapped: [u64; MAP_WORDS],
    /// Of the pages as they are, wherever they lie.
    pub(super) checksums: Checksums,
}

impl Chunk {
    /// `None` when the system has no memory to give.
    pub(super) fn new(small_pages: bool, shown: &ShownCount) -> Option<Self> {
        let taken = if small_pages { Block::small_pages } else { Block::new };
        let memory = PageBlock::new(taken(MEMORY_CHUNK_BYTES).ok()?, shown);
        Some(Self { memory, mapped: [0; MAP_WORDS], checksums: Checksums::new() })
    }

    pub(super) fn unmapped_pages(&self, offset: usize, length: usize) -> usize {
        (offset / PAGE..=(offset + length - 1) / PAGE).filter(|page| !self.is_mapped(*page)).count()
    }

    pub(super) fn mapped_pages(&self) -> u64 {
        self.mapped.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    #[inline]
    pub(super) fn is_mapped(&self, page: usize) -> bool {
        self.mapped[page / 64] & (1 << (page % 64)) != 0
    }

    #[inline]
    pub(super) fn map_range(&mut self, offset: usize, length: usize) {
        for page in offset / PAGE..=(offset + length - 1) / PAGE {
            self.mapped[page / 64] |= 1 << (page % 64);
        }
    }

    /// The page is all zeros. True when no page with data is left.
    pub(super) fn unmap(&mut self, page: usize) -> bool {
        self.mapped[page / 64] &= !(1 << (page % 64));
        self.mapped == [0; MAP_WORDS]
    }
}
