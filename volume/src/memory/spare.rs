//! Where a page goes that is written while somebody is being shown what it holds.
//!
//! What is shown stays as it is, so the new content is put into a spare page, which stands for the page until it can move home: when
//! nobody looks at its own place any more. No more pages are shown at a time than there are spare ones, and each of those that are in use
//! keeps one away from home: so there is always a spare page for the next one.

use std::collections::BTreeMap;

use reactor::memory::{Block, PageBlock, ShownCount};

use super::PAGE;
use crate::limits::MEMORY_SHOWN_BYTES;

pub(super) struct Spare {
    /// Address space; only pages that were needed take memory. `None` until something is shown for the first time.
    block: Option<PageBlock>,
    free: Vec<u32>,
    /// Left by what they stood for, while somebody was looking.
    left: Vec<u32>,
    /// Which spare page stands for which page of the device.
    moved: BTreeMap<u64, u32>,
}

impl Spare {
    pub(super) fn new() -> Self {
        Self { block: None, free: Vec::new(), left: Vec::new(), moved: BTreeMap::new() }
    }

    /// True when there are spare pages, made with the first question. The system may have no address space to give.
    #[inline]
    pub(super) fn is_ready(&mut self, shown: &ShownCount) -> bool {
        self.block.is_some() || self.make(shown)
    }

    #[cold]
    fn make(&mut self, shown: &ShownCount) -> bool {
        let Ok(block) = Block::small_pages(MEMORY_SHOWN_BYTES) else { return false };
        self.block = Some(PageBlock::new(block, shown));
        self.free = (0..(MEMORY_SHOWN_BYTES / PAGE) as u32).rev().collect();
        true
    }

    /// True when every page is at home.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.moved.is_empty()
    }

    /// The first page from `from` on that is not at home, and what stands for it.
    pub(super) fn next(&self, from: u64) -> Option<(u64, u32)> {
        self.moved.range(from..).next().map(|(page, spare)| (*page, *spare))
    }

    pub(super) fn memory(&self) -> &PageBlock {
        self.block.as_ref().expect("made before a page moved")
    }

    pub(super) fn memory_mut(&mut self) -> &mut PageBlock {
        self.block.as_mut().expect("made before a page moved")
    }

    /// A page that nobody uses. `None`: those that nobody needs away from home must go home first.
    pub(super) fn take(&mut self) -> Option<u32> {
        if self.free.is_empty() {
            let block = self.block.as_ref()?;
            let free = &mut self.free;
            self.left.retain(|spare| {
                let is_shown = block.is_shown(*spare as usize * PAGE, PAGE);
                if !is_shown {
                    free.push(*spare);
                }
                is_shown
            });
        }
        self.free.pop()
    }

    /// From now on `spare` stands for the page.
    pub(super) fn set(&mut self, page: u64, spare: u32) {
        if let Some(before) = self.moved.insert(page, spare) {
            self.leave(before);
        }
    }

    /// From now on the page is at home.
    pub(super) fn clear(&mut self, page: u64) {
        if let Some(spare) = self.moved.remove(&page) {
            self.leave(spare);
        }
    }

    /// Nothing of these pages is left.
    pub(super) fn clear_range(&mut self, pages: std::ops::Range<u64>) {
        while let Some((page, _)) = self.next(pages.start).filter(|(page, _)| *page < pages.end) {
            self.clear(page);
        }
    }

    fn leave(&mut self, spare: u32) {
        if self.memory().is_shown(spare as usize * PAGE, PAGE) {
            self.left.push(spare);
        } else {
            self.free.push(spare);
        }
    }
}
