//! Memory for keeping much: zeroed, aligned, taken from the system page by page as it is touched, in huge pages where the
//! system has them to give.

use std::fmt;
use std::num::NonZeroUsize;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

use super::{HUGE_2M_BYTES, MemoryError, MemoryKind, MemoryRegion};

/// A run of memory with one owner; all of it reads zeros until it is written.
///
/// It begins on a boundary of 2 MiB, so that a random access costs one entry of the processor's address cache for each 2 MiB
/// instead of one for each 4 KiB. That is a third of the time of a copy of 4 KiB that is in no cache.
pub struct Block {
    region: MemoryRegion,
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} bytes)", self.region.len())
    }
}

impl Block {
    /// Takes `length_bytes`, a multiple of 2 MiB, of address space; memory follows as it is touched.
    pub fn new(length_bytes: usize) -> Result<Self, MemoryError> {
        Self::advised(length_bytes, MmapAdvise::MADV_HUGEPAGE)
    }

    /// The same in small pages, whatever the system's habit is: only those that are touched take memory.
    pub fn small_pages(length_bytes: usize) -> Result<Self, MemoryError> {
        Self::advised(length_bytes, MmapAdvise::MADV_NOHUGEPAGE)
    }

    fn advised(length_bytes: usize, advice: MmapAdvise) -> Result<Self, MemoryError> {
        assert!(length_bytes > 0 && length_bytes.is_multiple_of(HUGE_2M_BYTES), "whole huge pages");
        let refused = |errno: nix::Error| MemoryError::Refused { bytes: length_bytes, errno: errno as i32 };
        // One huge page more than is wanted holds a boundary; what lies before and behind goes back.
        let mapped_bytes = length_bytes.checked_add(HUGE_2M_BYTES).and_then(NonZeroUsize::new);
        let mapped_bytes = mapped_bytes.ok_or_else(|| refused(nix::Error::ENOMEM))?;
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice replaces nothing.
        let mapped = unsafe { mmap_anonymous(None, mapped_bytes, prot, flags) }.map_err(refused)?;
        // The last boundary that fits: the kernel maps downwards, so that blocks taken one after the other touch and are one
        // mapping to it. It counts mappings, and a process may have no more than some 65,000.
        let end = mapped.as_ptr() as usize + mapped_bytes.get();
        let head_bytes = (end - length_bytes) / HUGE_2M_BYTES * HUGE_2M_BYTES - mapped.as_ptr() as usize;
        assert!(head_bytes <= HUGE_2M_BYTES, "a boundary lies in every run of 2 MiB");
        // SAFETY: `head_bytes + length_bytes` is at most what was mapped.
        let base = unsafe { mapped.cast::<u8>().add(head_bytes) };
        // SAFETY: as above.
        let tail = unsafe { base.add(length_bytes) };
        for (start, bytes) in [(mapped.cast(), head_bytes), (tail, HUGE_2M_BYTES - head_bytes)] {
            if bytes > 0 {
                // SAFETY: a part of the mapping made above that nothing has been told of.
                unsafe { munmap(start.cast(), bytes) }.expect("a part of a mapping unmaps");
            }
        }
        // A refusal costs speed only.
        // SAFETY: the range is the mapping made above; the advice changes no content.
        let _ = unsafe { madvise(base.cast(), length_bytes, advice) };
        let mapped_bytes = NonZeroUsize::new(length_bytes).expect("asserted above");
        Ok(Self { region: MemoryRegion { base, mapped_bytes, kind: MemoryKind::Plain, skipped_bytes: 0 } })
    }

    /// All of it.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the region is that long, reads zeros where nothing was written, and only this block refers to it.
        unsafe { std::slice::from_raw_parts(self.region.base().as_ptr(), self.region.len()) }
    }

    /// All of it, to write into.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`, and the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.region.base().as_ptr(), self.region.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_aligned_zeroed_and_its_own() {
        let mut blocks: Vec<Block> = (0..3).map(|_| Block::new(HUGE_2M_BYTES).expect("room")).collect();
        for (index, block) in blocks.iter_mut().enumerate() {
            assert!((block.bytes().as_ptr() as usize).is_multiple_of(HUGE_2M_BYTES));
            assert_eq!(block.bytes().len(), HUGE_2M_BYTES);
            assert!(block.bytes()[..4096].iter().all(|byte| *byte == 0));
            block.bytes_mut()[4095] = index as u8 + 1;
            *block.bytes_mut().last_mut().expect("not empty") = index as u8 + 1;
        }
        for (index, block) in blocks.iter().enumerate() {
            assert_eq!(block.bytes()[4095], index as u8 + 1);
            assert_eq!(block.bytes().last(), Some(&(index as u8 + 1)));
        }
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        assert!(Block::new(1 << 60).is_err());
    }
}
