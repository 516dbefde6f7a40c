//! Memory that is shown: its pages go into lists of buffers as they are, without a copy, and are not written while they do.

use std::cell::Cell;
use std::fmt;
use std::ptr::NonNull;
use std::rc::Rc;

use super::{Block, Upcoming};
use crate::buffer::Sgl;
use crate::limits::BUFFER_ALIGN_BYTES;

/// How many pages are shown at the moment, over all the blocks that count with it. A page that is in two lists counts twice.
#[derive(Clone, Debug, Default)]
pub struct ShownCount(Rc<Cell<usize>>);

impl ShownCount {
    /// The number.
    #[inline]
    pub fn pages(&self) -> usize {
        self.0.get()
    }
}

/// What a list keeps alive while it shows a part of it.
pub(crate) struct ShownBlock {
    block: Block,
    base: NonNull<u8>,
    /// In how many lists each page is.
    lists: Box<[Cell<u32>]>,
    count: ShownCount,
}

impl ShownBlock {
    fn pages(&self, start: NonNull<u8>, length_bytes: usize) -> &[Cell<u32>] {
        let offset_bytes = start.as_ptr() as usize - self.base.as_ptr() as usize;
        &self.lists[pages(offset_bytes, length_bytes)]
    }

    /// A list that holds these bytes has been made.
    #[inline]
    fn show(&self, start: NonNull<u8>, length_bytes: usize) {
        let pages = self.pages(start, length_bytes);
        for lists in pages {
            lists.set(lists.get().checked_add(1).expect("fewer lists than 32 bits count"));
        }
        self.count.0.set(self.count.0.get() + pages.len());
    }

    /// It is gone, or has been cut from `length_bytes` to `kept_bytes`.
    #[inline]
    pub(crate) fn hide(&self, start: NonNull<u8>, length_bytes: usize, kept_bytes: usize) {
        let pages = &self.pages(start, length_bytes)[self.pages(start, kept_bytes).len()..];
        for lists in pages {
            lists.set(lists.get() - 1);
        }
        self.count.0.set(self.count.0.get() - pages.len());
    }
}

/// The pages that hold any of the bytes.
#[inline]
fn pages(offset_bytes: usize, length_bytes: usize) -> std::ops::Range<usize> {
    let first = offset_bytes / BUFFER_ALIGN_BYTES;
    if length_bytes == 0 {
        first..first
    } else {
        first..(offset_bytes + length_bytes - 1) / BUFFER_ALIGN_BYTES + 1
    }
}

/// A block with one owner, who may show its pages to others. What is shown stays as it is until the last list that holds it is gone,
/// also when the owner is gone before.
pub struct PageBlock {
    inner: Rc<ShownBlock>,
}

impl fmt::Debug for PageBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageBlock({:?})", self.inner.block)
    }
}

impl PageBlock {
    /// Over `block`; what it shows is counted in `count`.
    pub fn new(mut block: Block, count: &ShownCount) -> Self {
        let bytes = block.bytes_mut();
        let lists = vec![Cell::new(0); bytes.len() / BUFFER_ALIGN_BYTES].into_boxed_slice();
        let base = NonNull::new(bytes.as_mut_ptr()).expect("memory is not at zero");
        Self { inner: Rc::new(ShownBlock { block, base, lists, count: count.clone() }) }
    }

    /// True when a list holds one of these pages.
    #[inline]
    pub fn is_shown(&self, offset_bytes: usize, length_bytes: usize) -> bool {
        self.inner.count.pages() > 0
            && self.inner.lists[pages(offset_bytes, length_bytes)].iter().any(|lists| lists.get() > 0)
    }

    /// These bytes.
    ///
    /// # Panics
    /// When they end past the block.
    #[inline]
    pub fn bytes(&self, offset_bytes: usize, length_bytes: usize) -> &[u8] {
        let start = self.start(offset_bytes, length_bytes);
        // SAFETY: inside the block, which is initialised and lives as long as `self`. Written through `bytes_mut` only, which takes
        // `self` exclusively.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), length_bytes) }
    }

    /// Asks for the count of the first page of these bytes, which showing them will change.
    #[inline]
    pub fn prefetch_count(&self, offset_bytes: usize) {
        if let Some(lists) = self.inner.lists.get(offset_bytes / BUFFER_ALIGN_BYTES) {
            Upcoming::value(lists).prefetch_first();
        }
    }

    /// The same, to write into.
    ///
    /// # Panics
    /// When they end past the block, and when a page of them is shown.
    #[inline]
    pub fn bytes_mut(&mut self, offset_bytes: usize, length_bytes: usize) -> &mut [u8] {
        assert!(!self.is_shown(offset_bytes, length_bytes), "what is shown is not written");
        let start = self.start(offset_bytes, length_bytes);
        // SAFETY: as for `bytes`; the borrow of `self` is exclusive, and lists, which hold the block as well, refer to pages that are
        // shown, of which these are none.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), length_bytes) }
    }

    /// A list of these bytes where they lie. It cannot be written.
    ///
    /// # Panics
    /// When they end past the block, or are none.
    #[inline]
    pub fn show(&self, offset_bytes: usize, length_bytes: usize) -> Sgl {
        let start = self.start(offset_bytes, length_bytes);
        self.inner.show(start, length_bytes);
        Sgl::showing(Rc::clone(&self.inner), start, length_bytes)
    }

    #[inline]
    fn start(&self, offset_bytes: usize, length_bytes: usize) -> NonNull<u8> {
        let block_bytes = self.inner.lists.len() * BUFFER_ALIGN_BYTES;
        assert!(
            offset_bytes <= block_bytes && length_bytes <= block_bytes - offset_bytes,
            "bytes past the end of the block"
        );
        // SAFETY: checked above.
        unsafe { self.inner.base.add(offset_bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK_BYTES: usize = 2 << 20;

    fn block(count: &ShownCount) -> PageBlock {
        PageBlock::new(Block::new(BLOCK_BYTES).expect("room"), count)
    }

    #[test]
    fn what_is_shown_is_counted_page_by_page() {
        let count = ShownCount::default();
        let mut block = block(&count);
        block.bytes_mut(4000, 200).fill(7);
        let (one, two) = (block.show(4095, 1), block.show(4095, 2));
        assert_eq!((count.pages(), one.to_vec(), two.to_vec()), (3, vec![7], vec![7, 7]));
        assert!(block.is_shown(0, 1) && block.is_shown(8191, 1) && !block.is_shown(8192, 4096));
        block.bytes_mut(8192, 4096).fill(1);
        drop(two);
        assert!(block.is_shown(0, 1) && !block.is_shown(4096, 4096));
        block.bytes_mut(4096, 4096).fill(2);
        drop(one);
        assert_eq!(count.pages(), 0);
        block.bytes_mut(0, BLOCK_BYTES).fill(3);
    }

    #[test]
    fn a_list_that_is_cut_or_divided_gives_back_what_it_does_not_hold() {
        let count = ShownCount::default();
        let mut block = block(&count);
        let mut sgl = block.show(100, 3 * 4096);
        sgl.append(block.show(0x10000, 4096));
        assert_eq!(count.pages(), 5);
        sgl.truncate(4096 - 100 + 1);
        assert_eq!((count.pages(), sgl.segment_count()), (2, 1));
        sgl.truncate(4096 - 100);
        assert_eq!(count.pages(), 1);
        block.bytes_mut(4096, 4096).fill(1);
        sgl.append(block.show(0x10000, 4096));
        let front = sgl.take_front(4096);
        assert_eq!((front.len(), sgl.len(), count.pages()), (4096 - 100, 4096, 2));
        drop(front);
        assert!(!block.is_shown(0, 4096) && block.is_shown(0x10000, 1));
        drop(sgl.with_len(0));
        assert_eq!(count.pages(), 0);
    }

    #[test]
    fn what_is_shown_outlives_its_owner() {
        let count = ShownCount::default();
        let mut block = block(&count);
        block.bytes_mut(0, 4096).fill(9);
        let sgl = block.show(0, 4096);
        drop(block);
        assert_eq!((sgl.to_vec(), count.pages()), (vec![9; 4096], 1));
        drop(sgl);
        assert_eq!(count.pages(), 0);
    }

    #[test]
    #[should_panic(expected = "what is shown is not written")]
    fn a_shown_page_is_not_written() {
        let mut block = block(&ShownCount::default());
        let _sgl = block.show(4096, 1);
        block.bytes_mut(8191, 1).fill(0);
    }

    #[test]
    #[should_panic(expected = "what is shown is not written")]
    fn a_list_that_shows_is_not_written() {
        let block = block(&ShownCount::default());
        block.show(0, 4096).fill(0, 1, 1);
    }

    #[test]
    #[should_panic(expected = "what is shown is not lent")]
    fn a_list_that_shows_is_not_lent() {
        let block = block(&ShownCount::default());
        let _lent = block.show(0, 4096).lend();
    }

    #[test]
    #[should_panic(expected = "no room in the last buffer")]
    fn a_list_that_shows_has_no_room() {
        let block = block(&ShownCount::default());
        let _ = block.show(0, 4096).with_len(4097);
    }
}
