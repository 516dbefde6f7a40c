//! Pooled buffers and scatter-gather lists. No allocation after start; a full pool is back-pressure.
//!
//! A pool cuts one memory region into size classes. Each class keeps its free slots on a stack, so
//! the buffer that was used last, and is still in the cache, is the next to be handed out. A list may also show
//! memory that is kept elsewhere ([`crate::memory::PageBlock`]): then it can only be read.

// The island: a `Buffer` is the only owner of its slot of the region, so it may lend references.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::rc::Rc;

use smallvec::SmallVec;

use crate::limits::{BUFFER_ALIGN_BYTES, BUFFER_BUDGET_BYTES_MIN, CLASS_BYTES, SEGMENTS_MAX};
use crate::memory::{MemoryKind, MemoryRegion, MemoryReport, ShownBlock};

mod lent;

pub use lent::{LentSgl, NotLent};

/// How many buffers of which size a pool is cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeClass {
    /// The size of one buffer: a multiple of 4 KiB.
    pub bytes: usize,
    /// How many of them.
    pub count: usize,
}

impl SizeClass {
    /// The default classes, which together take no more than `budget_bytes`: a quarter of the
    /// budget each. Budgets below 8 MiB are treated as 8 MiB.
    pub fn for_budget(budget_bytes: usize) -> Vec<Self> {
        let share = budget_bytes.max(BUFFER_BUDGET_BYTES_MIN) / CLASS_BYTES.len();
        CLASS_BYTES.iter().map(|&bytes| Self { bytes, count: share / bytes }).collect()
    }

    /// The bytes that `classes` take together.
    pub fn total_bytes(classes: &[Self]) -> usize {
        classes.iter().map(|class| class.bytes * class.count).sum()
    }
}

struct Class {
    bytes: usize,
    count: usize,
    free: RefCell<Vec<NonNull<u8>>>,
}

struct PoolInner {
    region: MemoryRegion,
    /// Smallest first.
    classes: Vec<Class>,
    /// Whether the slot that starts on this page is lent to a device; indexed by the page's number in the region.
    lent: Box<[Cell<bool>]>,
}

/// A pool of page-aligned memory, shared by everything on one core; a clone is another handle to it.
#[derive(Clone)]
pub struct BufferPool {
    inner: Rc<PoolInner>,
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool")
            .field("total_bytes", &self.total_bytes())
            .field("available_bytes", &self.available_bytes())
            .finish()
    }
}

impl BufferPool {
    /// Cuts `region` into `classes` (in order of size). The region must be large enough.
    pub fn new(region: MemoryRegion, classes: &[SizeClass]) -> Self {
        let mut sorted = classes.to_vec();
        sorted.sort_by_key(|class| class.bytes);
        assert!(SizeClass::total_bytes(&sorted) <= region.len(), "the classes fit the region");
        let mut offset_bytes = 0;
        let mut cut = |class: &SizeClass| {
            assert!(class.bytes > 0 && class.bytes.is_multiple_of(BUFFER_ALIGN_BYTES));
            assert!(u32::try_from(class.bytes).is_ok(), "a segment's length is kept in 32 bits");
            let slot = |index: usize| {
                // SAFETY: offset and slot end lie inside the region by the assertion above.
                unsafe { region.base().add(offset_bytes + index * class.bytes) }
            };
            let free = (0..class.count).rev().map(slot).collect();
            offset_bytes += class.bytes * class.count;
            Class { bytes: class.bytes, count: class.count, free: RefCell::new(free) }
        };
        let classes = sorted.iter().map(&mut cut).collect();
        let lent = vec![Cell::new(false); region.len() / BUFFER_ALIGN_BYTES].into_boxed_slice();
        Self { inner: Rc::new(PoolInner { region, classes, lent }) }
    }

    /// A pool on the heap, page-aligned as well: tests and the simulator.
    pub fn heap(classes: &[SizeClass]) -> Self {
        let bytes = SizeClass::total_bytes(classes).max(BUFFER_ALIGN_BYTES);
        Self::new(MemoryRegion::heap(bytes), classes)
    }

    /// A list of `len_bytes` valid bytes, or `None` when the pool cannot give them now.
    ///
    /// **The contents are not zeroed**: they are whatever an earlier user left. The smallest class
    /// that fits is taken; when it is empty a larger one, and else several smaller buffers.
    pub fn alloc(&self, len_bytes: usize) -> Option<Sgl> {
        let mut sgl = Sgl::empty();
        let mut missing = len_bytes;
        while missing > 0 {
            if sgl.segments.len() == SEGMENTS_MAX {
                return None;
            }
            let buffer = self.take(missing)?;
            let length = buffer.length_bytes as usize;
            missing -= length;
            sgl.push(buffer);
        }
        Some(sgl)
    }

    /// A buffer that holds `wanted_bytes`, or as many of them as fit.
    fn take(&self, wanted_bytes: usize) -> Option<Buffer> {
        let classes = &self.inner.classes;
        let fitting = classes.partition_point(|class| class.bytes < wanted_bytes);
        (fitting..classes.len()).chain((0..fitting).rev()).find_map(|index| {
            let start = classes[index].free.borrow_mut().pop()?;
            let length_bytes = wanted_bytes.min(classes[index].bytes) as u32;
            let owner = Owner { pool: ManuallyDrop::new(Rc::clone(&self.inner)) };
            Some(Buffer { owner, start, class: index as u32, length_bytes })
        })
    }

    /// The free bytes, over all classes.
    pub fn available_bytes(&self) -> usize {
        self.inner.classes.iter().map(|class| class.bytes * class.free.borrow().len()).sum()
    }

    /// The bytes of all buffers, free or not.
    pub fn total_bytes(&self) -> usize {
        self.inner.classes.iter().map(|class| class.bytes * class.count).sum()
    }

    /// How many buffers are out.
    pub fn in_use(&self) -> usize {
        self.inner.classes.iter().map(|class| class.count - class.free.borrow().len()).sum()
    }

    /// What memory the pool is made of.
    pub fn report(&self) -> MemoryReport {
        let report = self.inner.region.report();
        debug_assert!(report.kind == MemoryKind::Heap || report.bytes >= self.total_bytes());
        report
    }

    /// The region as one run, for registration with a device or the kernel: address and length.
    pub fn region_range(&self) -> (NonNull<u8>, usize) {
        (self.inner.region.base(), self.inner.region.len())
    }
}

/// Whom the memory of a [`Buffer`] belongs to.
union Owner {
    pool: ManuallyDrop<Rc<PoolInner>>,
    shown: ManuallyDrop<Rc<ShownBlock>>,
}

/// Stands for the class of what is no slot of a pool.
const SHOWN: u32 = u32::MAX;

/// One slot of a pool, owned, and how much of it is valid; it goes home when dropped. Or a part of a block that is shown, which nobody
/// writes meanwhile. Stays on its core. Lists of them are moved with every I/O, so it has no word more than it must: the class says
/// which of the two it is.
struct Buffer {
    owner: Owner,
    start: NonNull<u8>,
    class: u32,
    /// Valid bytes, from the start; never more than the class has.
    length_bytes: u32,
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({:p}, {} of {} bytes)", self.start, self.length_bytes, self.capacity_bytes())
    }
}

impl Buffer {
    /// The pool of a slot; `None` of what is shown.
    #[inline]
    fn pool(&self) -> Option<&PoolInner> {
        // SAFETY: with any class but that of what is shown it was made of a pool.
        (self.class != SHOWN).then(|| unsafe { &**self.owner.pool })
    }

    #[inline]
    fn capacity_bytes(&self) -> usize {
        self.pool().map_or(self.length_bytes as usize, |pool| pool.classes[self.class as usize].bytes)
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        debug_assert!(self.length_bytes as usize <= self.capacity_bytes());
        // SAFETY: the memory is at least `length_bytes` long, initialised, and lives as long as its owner, which this buffer holds. A
        // slot has only this buffer as its owner; what is shown is not written.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length_bytes as usize) }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        assert!(self.class != SHOWN, "what is shown is not written");
        debug_assert!(self.length_bytes as usize <= self.capacity_bytes());
        // SAFETY: as for `bytes`: it is a slot, and the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length_bytes as usize) }
    }

    #[inline]
    fn mark_lent(&self, lent: bool) {
        let pool = self.pool().expect("what is shown is not lent: a device could write it");
        let offset_bytes = self.start.as_ptr() as usize - pool.region.base().as_ptr() as usize;
        pool.lent[offset_bytes / BUFFER_ALIGN_BYTES].set(lent);
    }

    /// Keeps the first `kept_bytes`.
    #[inline]
    fn shorten(&mut self, kept_bytes: u32) {
        if self.class == SHOWN {
            // SAFETY: this class was made of a block.
            let block = unsafe { &self.owner.shown };
            block.hide(self.start, self.length_bytes as usize, kept_bytes as usize);
        }
        self.length_bytes = kept_bytes;
    }
}

impl Drop for Buffer {
    #[inline]
    fn drop(&mut self) {
        if self.class == SHOWN {
            // SAFETY: this class was made of a block.
            let owner = unsafe { &mut self.owner.shown };
            // SAFETY: a buffer is dropped once, and nothing looks at it afterwards.
            let block = unsafe { ManuallyDrop::take(owner) };
            return block.hide(self.start, self.length_bytes as usize, 0);
        }
        // SAFETY: any other class was made of a pool.
        let owner = unsafe { &mut self.owner.pool };
        // SAFETY: a buffer is dropped once, and nothing looks at it afterwards.
        let pool = unsafe { ManuallyDrop::take(owner) };
        // The stack has room for every slot of its class, so this never allocates.
        pool.classes[self.class as usize].free.borrow_mut().push(self.start);
    }
}

/// An ordered list of buffers that holds `len()` valid bytes.
#[derive(Debug, Default)]
pub struct Sgl {
    segments: SmallVec<[Buffer; 2]>,
    length_bytes: usize,
}

impl Sgl {
    /// A list of no bytes.
    pub fn empty() -> Self {
        Self { segments: SmallVec::new(), length_bytes: 0 }
    }

    /// A copy of `bytes` in a buffer of its own, from the heap: tests.
    pub fn from_slice_heap(bytes: &[u8]) -> Self {
        let class = SizeClass { bytes: bytes.len().next_multiple_of(BUFFER_ALIGN_BYTES), count: 1 };
        let classes = if bytes.is_empty() { Vec::new() } else { vec![class] };
        let mut sgl = BufferPool::heap(&classes).alloc(bytes.len()).expect("the pool was made to fit");
        sgl.copy_in(0, bytes);
        sgl
    }

    /// A list of a part of `block` that the block has counted as shown.
    #[inline]
    pub(crate) fn showing(block: Rc<ShownBlock>, start: NonNull<u8>, length_bytes: usize) -> Self {
        assert!(length_bytes > 0, "nothing cannot be shown");
        let owner = Owner { shown: ManuallyDrop::new(block) };
        let length_bytes = u32::try_from(length_bytes).expect("a segment's length is kept in 32 bits");
        let mut sgl = Self::empty();
        sgl.push(Buffer { owner, start, class: SHOWN, length_bytes });
        sgl
    }

    /// The number of valid bytes.
    pub fn len(&self) -> usize {
        self.length_bytes
    }

    /// True without valid bytes.
    pub fn is_empty(&self) -> bool {
        self.length_bytes == 0
    }

    /// The bytes the buffers could hold; at least `len()`.
    pub fn capacity_bytes(&self) -> usize {
        self.segments.iter().map(Buffer::capacity_bytes).sum()
    }

    /// The contiguous bytes from `offset_bytes` to the end of its segment; empty at `len()`.
    ///
    /// # Panics
    /// When `offset_bytes > len()`.
    #[inline]
    pub fn chunk(&self, offset_bytes: usize) -> &[u8] {
        match self.locate(offset_bytes) {
            Some((index, within)) => &self.segments[index].bytes()[within..],
            None => &[],
        }
    }

    /// As [`Sgl::chunk`], to write into.
    #[inline]
    pub fn chunk_mut(&mut self, offset_bytes: usize) -> &mut [u8] {
        match self.locate(offset_bytes) {
            Some((index, within)) => &mut self.segments[index].bytes_mut()[within..],
            None => &mut [],
        }
    }

    #[inline]
    fn locate(&self, offset_bytes: usize) -> Option<(usize, usize)> {
        assert!(offset_bytes <= self.length_bytes, "an offset past the end of the list");
        let mut within = offset_bytes;
        for (index, segment) in self.segments.iter().enumerate() {
            if within < segment.length_bytes as usize {
                return Some((index, within));
            }
            within -= segment.length_bytes as usize;
        }
        None
    }

    /// The valid bytes, segment by segment.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.segments.iter().map(Buffer::bytes)
    }

    /// The valid bytes, segment by segment, to write into.
    pub fn segments_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.segments.iter_mut().map(Buffer::bytes_mut)
    }

    /// The bytes `offset_bytes .. offset_bytes + length_bytes`, piece by piece.
    ///
    /// # Panics
    /// When the range ends past `len()`.
    pub fn range(&self, offset_bytes: usize, length_bytes: usize) -> impl Iterator<Item = &[u8]> {
        self.check_range(offset_bytes, length_bytes);
        let (mut skip, mut left) = (offset_bytes, length_bytes);
        self.segments().filter_map(move |bytes| {
            let from = skip.min(bytes.len());
            skip -= from;
            let to = bytes.len().min(from + left);
            left -= to - from;
            (to > from).then(|| &bytes[from..to])
        })
    }

    /// As [`Sgl::range`], to write into.
    pub fn range_mut(&mut self, offset_bytes: usize, length_bytes: usize) -> impl Iterator<Item = &mut [u8]> {
        self.check_range(offset_bytes, length_bytes);
        let (mut skip, mut left) = (offset_bytes, length_bytes);
        self.segments_mut().filter_map(move |bytes| {
            let from = skip.min(bytes.len());
            skip -= from;
            let to = bytes.len().min(from + left);
            left -= to - from;
            (to > from).then(|| &mut bytes[from..to])
        })
    }

    fn check_range(&self, offset_bytes: usize, length_bytes: usize) {
        let end = offset_bytes.checked_add(length_bytes);
        assert!(end.is_some_and(|end| end <= self.length_bytes), "a range past the end of the list");
    }

    /// Keeps the first `length_bytes` (or all, when there are fewer); buffers that hold none of
    /// them go home at once.
    pub fn truncate(&mut self, length_bytes: usize) {
        let mut left = length_bytes.min(self.length_bytes);
        self.length_bytes = left;
        self.segments.retain(|segment| {
            let keep = left.min(segment.length_bytes as usize);
            segment.shorten(keep as u32);
            left -= keep;
            keep > 0
        });
    }

    /// The list with exactly `length_bytes`: shorter, or longer by room left in its last buffer
    /// (those bytes hold whatever was there).
    ///
    /// # Panics
    /// When the last buffer has no room for that many.
    #[must_use]
    pub fn with_len(mut self, length_bytes: usize) -> Self {
        let Some(more) = length_bytes.checked_sub(self.length_bytes) else {
            self.truncate(length_bytes);
            return self;
        };
        if let Some(last) = self.segments.last_mut() {
            let grown = last.length_bytes as usize + more;
            assert!(grown <= last.capacity_bytes(), "no room in the last buffer");
            last.length_bytes = grown as u32;
            self.length_bytes = length_bytes;
        }
        assert_eq!(self.length_bytes, length_bytes, "an empty list has no room");
        self
    }

    /// Copies `bytes` over the list's bytes from `offset_bytes` on; they must fit `len()`.
    pub fn copy_in(&mut self, offset_bytes: usize, mut bytes: &[u8]) {
        for piece in self.range_mut(offset_bytes, bytes.len()) {
            let (head, tail) = bytes.split_at(piece.len());
            piece.copy_from_slice(head);
            bytes = tail;
        }
    }

    /// Copies the list's bytes from `offset_bytes` on to `out`, all of which must be there.
    pub fn copy_out(&self, offset_bytes: usize, out: &mut [u8]) {
        let mut done = 0;
        for piece in self.range(offset_bytes, out.len()) {
            out[done..done + piece.len()].copy_from_slice(piece);
            done += piece.len();
        }
    }

    /// Copies `length_bytes` from `source` at `source_offset_bytes` to `offset_bytes` of this list.
    pub fn copy_from(
        &mut self,
        offset_bytes: usize,
        source: &Self,
        source_offset_bytes: usize,
        length_bytes: usize,
    ) {
        let mut at = offset_bytes;
        for piece in source.range(source_offset_bytes, length_bytes) {
            self.copy_in(at, piece);
            at += piece.len();
        }
    }

    /// Sets `length_bytes` bytes from `offset_bytes` on to `byte`.
    pub fn fill(&mut self, offset_bytes: usize, length_bytes: usize, byte: u8) {
        self.range_mut(offset_bytes, length_bytes).for_each(|piece| piece.fill(byte));
    }

    /// True when every valid byte is zero.
    pub fn is_zero(&self) -> bool {
        self.segments().all(slice_is_zero)
    }

    /// Adds the bytes of `other` after this list's; nothing is copied.
    pub fn append(&mut self, other: Self) {
        assert!(self.segments.len() + other.segments.len() < crate::limits::IOVECS_MAX);
        self.length_bytes += other.length_bytes;
        self.segments.extend(other.segments);
    }

    /// Takes whole buffers off the front, as many as hold at most `length_bytes_max` bytes together; nothing is copied. The
    /// answer is empty when the first buffer alone holds more.
    #[must_use]
    pub fn take_front(&mut self, length_bytes_max: usize) -> Self {
        let mut front = Self::empty();
        let fits = |front: &Self, segment: &Buffer| {
            front.length_bytes + segment.length_bytes as usize <= length_bytes_max
        };
        while self.segments.first().is_some_and(|segment| fits(&front, segment)) {
            let segment = self.segments.remove(0);
            self.length_bytes -= segment.length_bytes as usize;
            front.length_bytes += segment.length_bytes as usize;
            front.segments.push(segment);
        }
        front
    }

    /// The valid bytes as one vector: tests and cold paths.
    pub fn to_vec(&self) -> Vec<u8> {
        self.segments().flatten().copied().collect()
    }

    /// How many segments there are.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Appends address and length of the bytes from `offset_bytes` on, for the kernel. They stay
    /// valid while the list is owned and untouched.
    pub(crate) fn append_iovecs(&self, offset_bytes: usize, out: &mut SmallVec<[libc::iovec; 4]>) {
        let mut skip = offset_bytes;
        for segment in &self.segments {
            let length = segment.length_bytes as usize;
            let from = skip.min(length);
            skip -= from;
            if from < length {
                // The pointer is made from the buffer's own, not from a shared reference, because
                // a read makes the kernel write through it.
                let base = segment.start.as_ptr().wrapping_add(from).cast();
                out.push(libc::iovec { iov_base: base, iov_len: length - from });
            }
        }
    }

    fn push(&mut self, buffer: Buffer) {
        self.length_bytes += buffer.length_bytes as usize;
        self.segments.push(buffer);
    }
}

fn slice_is_zero(bytes: &[u8]) -> bool {
    // 64 bytes a step without an early exit inside the step: the compiler uses wide registers.
    let (steps, rest) = bytes.as_chunks::<64>();
    steps.iter().all(|step| step.iter().fold(0, |acc, byte| acc | byte) == 0)
        && rest.iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests;
