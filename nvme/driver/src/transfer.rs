//! Data pointers: where the data of a command is, as PRP entries or as an SGL (Base 4.3).
//!
//! Buffers begin on pages, so PRP entries describe a list in which every buffer but the last ends on a page. Others need an
//! SGL, or the caller copies them together before.

use nvme_spec::sgl::SglIdentifier;
use nvme_spec::{SglDescriptor, Sqe};
use reactor::buffer::{LentSgl, Sgl};
use reactor::memory::SharedMemory;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use crate::device::PoolMapping;
use crate::limits::{LIST_BYTES, PAGE_BYTES};

const PAGE: u64 = PAGE_BYTES as u64;
const DESCRIPTOR_BYTES: usize = size_of::<SglDescriptor>();

/// True when PRP entries describe any part of the list that is cut at multiples of `block_bytes`: no buffer but the last ends
/// inside a page. A part that begins inside a page is fine only if it stays in its buffer's run of pages.
pub fn fits_prp(sgl: &Sgl) -> bool {
    let count = sgl.segment_count();
    let whole = |(index, bytes): (usize, &[u8])| index + 1 == count || bytes.len().is_multiple_of(PAGE_BYTES);
    sgl.segments().enumerate().all(whole)
}

/// Memory of one command for its list.
#[derive(Clone, Copy)]
pub(crate) struct List<'a> {
    pub(crate) memory: &'a SharedMemory,
    /// Where in it.
    pub(crate) offset_bytes: usize,
    /// Where the controller finds that place.
    pub(crate) iova: u64,
}

/// What data a command moves.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) lent: &'a LentSgl,
    pub(crate) offset_bytes: usize,
    pub(crate) length_bytes: usize,
}

impl Part<'_> {
    /// The runs of memory that it is, as the controller finds them.
    #[inline]
    fn runs<'a>(&'a self, pool: &'a PoolMapping) -> impl Iterator<Item = (u64, usize)> + 'a {
        let (mut skip, mut left) = (self.offset_bytes, self.length_bytes);
        self.lent.segments().filter_map(move |(address, length_bytes)| {
            let from = skip.min(length_bytes);
            skip -= from;
            let take = (length_bytes - from).min(left);
            left -= take;
            (take > 0).then(|| (pool.iova_of(address + from, take), take))
        })
    }
}

/// PRP entries 1 and 2 of a part that needs no list: one run over at most two pages.
#[inline]
pub(crate) fn short_prp(part: Part<'_>, pool: &PoolMapping) -> Option<(u64, u64)> {
    if part.lent.segment_count() != 1 {
        return None;
    }
    let (address, _) = part.lent.segments().next()?;
    let iova = pool.iova_of(address + part.offset_bytes, part.length_bytes);
    match iova % PAGE + part.length_bytes as u64 {
        end if end <= PAGE => Some((iova, 0)),
        end if end <= 2 * PAGE => Some((iova, (iova | (PAGE - 1)) + 1)),
        _ => None,
    }
}

/// Describes `part` in `sqe` by PRP entries. False when it cannot be.
#[inline]
pub(crate) fn set_prp(sqe: &mut Sqe, part: Part<'_>, pool: &PoolMapping, list: List<'_>) -> bool {
    let mut entries = PrpEntries::new(list);
    for (iova, length_bytes) in part.runs(pool) {
        if !entries.add(iova, length_bytes as u64) {
            return false;
        }
    }
    entries.finish(sqe);
    true
}

/// A command whose data is `length_bytes` of zeros, all of them in the one page at `zeros_iova`.
pub(crate) fn set_zeros(sqe: &mut Sqe, zeros_iova: u64, length_bytes: u64, list: List<'_>) {
    let mut entries = PrpEntries::new(list);
    let mut left = length_bytes;
    while left > 0 {
        let take = left.min(PAGE);
        let described = entries.add(zeros_iova, take);
        assert!(described, "a page of zeros begins on a page");
        left -= take;
    }
    entries.finish(sqe);
}

/// PRP entries as they come: the first two in the command, or the first there and the others in a list.
struct PrpEntries<'a> {
    list: List<'a>,
    count: usize,
    first: u64,
    second: u64,
    /// The last entry ended inside a page: nothing can follow.
    closed: bool,
}

impl<'a> PrpEntries<'a> {
    #[inline]
    fn new(list: List<'a>) -> Self {
        Self { list, count: 0, first: 0, second: 0, closed: false }
    }

    /// Adds a run of memory.
    #[inline]
    fn add(&mut self, mut iova: u64, mut length_bytes: u64) -> bool {
        // Only the very first entry may begin inside a page.
        if self.closed || self.count > 0 && !iova.is_multiple_of(PAGE) {
            return false;
        }
        while length_bytes > 0 {
            self.push(iova);
            let take = (PAGE - iova % PAGE).min(length_bytes);
            length_bytes -= take;
            iova += take;
        }
        self.closed = !iova.is_multiple_of(PAGE);
        true
    }

    #[inline]
    fn push(&mut self, iova: u64) {
        match self.count {
            0 => self.first = iova,
            1 => self.second = iova,
            _ => {
                if self.count == 2 {
                    self.store(0, self.second);
                }
                self.store(self.count - 1, iova);
            }
        }
        self.count += 1;
    }

    fn store(&self, index: usize, iova: u64) {
        assert!(index < LIST_BYTES / 8, "a transfer is cut before its list is full");
        self.list.memory.store_u64(self.list.offset_bytes + index * 8, iova);
    }

    #[inline]
    fn finish(self, sqe: &mut Sqe) {
        let second = if self.count > 2 { self.list.iova } else { self.second };
        sqe.set_prp(self.first, second);
    }
}

/// Describes `part` in `sqe` by an SGL: one data block in the command, or a segment of them.
pub(crate) fn set_sgl(sqe: &mut Sqe, part: Part<'_>, pool: &PoolMapping, list: List<'_>) {
    let mut runs = part.runs(pool).peekable();
    let first = runs.next().expect("a command with data has some");
    if runs.peek().is_none() {
        return sqe.set_sgl(descriptor(first.0, first.1, SglIdentifier::DATA_BLOCK_ADDRESS));
    }
    let mut count = 0;
    for (iova, length_bytes) in std::iter::once(first).chain(runs) {
        assert!((count + 1) * DESCRIPTOR_BYTES <= LIST_BYTES, "a list has no more segments than fit");
        let block = descriptor(iova, length_bytes, SglIdentifier::DATA_BLOCK_ADDRESS);
        list.memory.write(list.offset_bytes + count * DESCRIPTOR_BYTES, block.as_bytes());
        count += 1;
    }
    sqe.set_sgl(descriptor(list.iova, count * DESCRIPTOR_BYTES, SglIdentifier::LAST_SEGMENT));
}

fn descriptor(iova: u64, length_bytes: usize, identifier: SglIdentifier) -> SglDescriptor {
    let length_bytes = u32::try_from(length_bytes).expect("a transfer is short");
    SglDescriptor {
        address: U64::new(iova),
        length_bytes: U32::new(length_bytes),
        reserved: [0; 3],
        identifier,
    }
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
