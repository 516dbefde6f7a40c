//! One region of memory per core: huge pages where there are any, else ordinary pages, locked when
//! the system allows it. Taken whole at start; what came out of it is a value that the caller logs.

// The island: maps, locks and unmaps raw memory. References into it are made in `buffer`, `block` and `shown` only.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::fmt;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags};

use crate::limits::BUFFER_ALIGN_BYTES;

mod block;
mod entries;
mod shared;
mod shown;
mod upcoming;

pub use block::Block;
pub use entries::SharedEntries;
pub use shared::SharedMemory;
pub(crate) use shown::ShownBlock;
pub use shown::{PageBlock, ShownCount};
pub use upcoming::Upcoming;

const HUGE_2M_BYTES: usize = 2 << 20;
const HUGE_1G_BYTES: usize = 1 << 30;

/// Why there is no region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The system refused even ordinary pages.
    #[error("the system has no {bytes} bytes of memory for buffers (errno {errno}): lower buffer_bytes")]
    Refused {
        /// What was asked for.
        bytes: usize,
        /// The system's error number.
        errno: i32,
    },
}

/// What kind of pages a region is made of, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// Huge pages of 1 GiB.
    Huge1G,
    /// Huge pages of 2 MiB.
    Huge2M,
    /// Ordinary pages that cannot be swapped out.
    Locked,
    /// Ordinary pages; the locked-memory limit is too low to pin them.
    Plain,
    /// From the heap: tests and the simulator.
    Heap,
}

/// What was taken, what it costs and how to get better; printed as one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryReport {
    /// The kind of pages.
    pub kind: MemoryKind,
    /// The size of the region.
    pub bytes: usize,
}

impl MemoryReport {
    /// What this kind of memory costs, or `None` when it is the best there is.
    pub fn cost(&self) -> Option<&'static str> {
        match self.kind {
            MemoryKind::Huge1G | MemoryKind::Huge2M | MemoryKind::Heap => None,
            MemoryKind::Locked => Some("more TLB misses on large transfers, a few percent of throughput"),
            MemoryKind::Plain => {
                Some("more TLB misses, and latency spikes should the system swap buffers out")
            }
        }
    }

    /// The command that changes it.
    pub fn remedy(&self) -> Option<String> {
        let pages = self.bytes.div_ceil(HUGE_2M_BYTES);
        match self.kind {
            MemoryKind::Huge1G | MemoryKind::Huge2M | MemoryKind::Heap => None,
            MemoryKind::Locked => Some(format!("sysctl -w vm.nr_hugepages={pages}  (per core)")),
            MemoryKind::Plain => Some(format!(
                "sysctl -w vm.nr_hugepages={pages}  (per core), or raise the limit: ulimit -l unlimited \
                 (systemd: LimitMEMLOCK=infinity)"
            )),
        }
    }
}

impl fmt::Display for MemoryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            MemoryKind::Huge1G => "1 GiB huge pages",
            MemoryKind::Huge2M => "2 MiB huge pages",
            MemoryKind::Locked => "locked ordinary pages",
            MemoryKind::Plain => "ordinary pages",
            MemoryKind::Heap => "heap memory",
        };
        write!(f, "{} MiB of buffers in {kind}", self.bytes >> 20)?;
        if let (Some(cost), Some(remedy)) = (self.cost(), self.remedy()) {
            write!(f, "; cost: {cost}; to change it: {remedy}")?;
        }
        Ok(())
    }
}

/// A run of page-aligned, initialised memory that stays where it is until dropped. Belongs to the
/// thread that made it, so that its pages come from that core's memory node.
#[derive(Debug)]
pub struct MemoryRegion {
    base: NonNull<u8>,
    mapped_bytes: NonZeroUsize,
    kind: MemoryKind,
    /// From the heap: what lies between the allocation and `base`.
    skipped_bytes: usize,
}

impl MemoryRegion {
    /// Takes at least `bytes` from the best kind of pages there is.
    pub fn new(bytes: usize) -> Result<Self, MemoryError> {
        assert!(bytes > 0, "an empty region is a wiring bug");
        // A 1 GiB page for a small region would waste most of it.
        let huge = [
            (MemoryKind::Huge1G, HUGE_1G_BYTES, MapFlags::MAP_HUGE_1GB, bytes >= HUGE_1G_BYTES / 2),
            (MemoryKind::Huge2M, HUGE_2M_BYTES, MapFlags::MAP_HUGE_2MB, true),
        ];
        for (kind, page_bytes, flag, sensible) in huge {
            let flags = MapFlags::MAP_HUGETLB | MapFlags::MAP_POPULATE | flag;
            if sensible && let Ok(region) = Self::map(bytes, page_bytes, flags, kind) {
                return Ok(region);
            }
        }
        let mut region = Self::map(bytes, HUGE_2M_BYTES, MapFlags::empty(), MemoryKind::Plain)
            .map_err(|errno| MemoryError::Refused { bytes, errno: errno as i32 })?;
        region.advise_and_lock();
        Ok(region)
    }

    /// Takes `bytes` in ordinary pages, as many as it needs and no more, touched and not locked: a few pages for a device,
    /// which are pinned when they are mapped for it.
    pub fn pages(bytes: usize) -> Result<Self, MemoryError> {
        assert!(bytes > 0, "an empty region is a wiring bug");
        Self::map(bytes, BUFFER_ALIGN_BYTES, MapFlags::MAP_POPULATE, MemoryKind::Plain)
            .map_err(|errno| MemoryError::Refused { bytes, errno: errno as i32 })
    }

    /// Takes `bytes` from the heap, zeroed and page-aligned: tests and the simulator. It is found within an allocation that asks for
    /// no alignment, which comes with the zeros of fresh pages where the allocator has them; one that asks for some is written over
    /// as a whole, and a simulated world is made thousands of times and uses little of it.
    pub fn heap(bytes: usize) -> Self {
        let mapped_bytes = NonZeroUsize::new(bytes.next_multiple_of(BUFFER_ALIGN_BYTES))
            .expect("an empty region is a wiring bug");
        let layout = Self::heap_layout(mapped_bytes);
        // SAFETY: the layout has a size above zero.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { std::alloc::handle_alloc_error(layout) };
        let skipped_bytes = base.addr().get().next_multiple_of(BUFFER_ALIGN_BYTES) - base.addr().get();
        // SAFETY: fewer bytes are skipped than an alignment has, and the allocation is longer by one.
        let base = unsafe { base.add(skipped_bytes) };
        Self { base, mapped_bytes, kind: MemoryKind::Heap, skipped_bytes }
    }

    /// What was taken.
    pub fn report(&self) -> MemoryReport {
        MemoryReport { kind: self.kind, bytes: self.mapped_bytes.get() }
    }

    /// The size in bytes, a multiple of [`BUFFER_ALIGN_BYTES`].
    pub fn len(&self) -> usize {
        self.mapped_bytes.get()
    }

    /// Never: a region has at least one page.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The first byte; aligned to [`BUFFER_ALIGN_BYTES`]. All bytes are initialised.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    fn map(bytes: usize, page_bytes: usize, flags: MapFlags, kind: MemoryKind) -> nix::Result<Self> {
        let rounded = bytes.checked_next_multiple_of(page_bytes).ok_or(nix::Error::ENOMEM)?;
        let mapped_bytes = NonZeroUsize::new(rounded).expect("at least one page");
        let flags = flags | MapFlags::MAP_PRIVATE;
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice replaces nothing.
        let base = unsafe { nix::sys::mman::mmap_anonymous(None, mapped_bytes, prot, flags) }?;
        Ok(Self { base: base.cast(), mapped_bytes, kind, skipped_bytes: 0 })
    }

    fn advise_and_lock(&mut self) {
        let (addr, len) = (self.base.cast(), self.mapped_bytes.get());
        // Transparent huge pages are a gift where the system gives them; a refusal costs nothing.
        // SAFETY: the range is this region's own mapping; the advice changes no content.
        let _ = unsafe { nix::sys::mman::madvise(addr, len, MmapAdvise::MADV_HUGEPAGE) };
        // SAFETY: the range is this region's own mapping.
        if unsafe { nix::sys::mman::mlock(addr, len) }.is_ok() {
            self.kind = MemoryKind::Locked;
            return;
        }
        // Not locked, but touched now instead of at the first I/O.
        // SAFETY: the range is this region's own mapping; populating changes no content.
        let _ = unsafe { libc::madvise(addr.as_ptr(), len, libc::MADV_POPULATE_WRITE) };
    }

    fn heap_layout(bytes: NonZeroUsize) -> Layout {
        let padded_bytes = bytes.get().saturating_add(BUFFER_ALIGN_BYTES);
        Layout::from_size_align(padded_bytes, 1).expect("a region is below isize::MAX")
    }
}

impl Drop for MemoryRegion {
    fn drop(&mut self) {
        if self.kind == MemoryKind::Heap {
            // SAFETY: so many bytes were skipped in `heap`.
            let base = unsafe { self.base.sub(self.skipped_bytes) };
            // SAFETY: allocated in `heap` with this layout, freed once.
            unsafe { std::alloc::dealloc(base.as_ptr(), Self::heap_layout(self.mapped_bytes)) };
        } else {
            // SAFETY: mapped in `map` with this length, unmapped once; buffers hold the pool that
            // holds this region, so none is left.
            let unmapped = unsafe { nix::sys::mman::munmap(self.base.cast(), self.mapped_bytes.get()) };
            if unmapped.is_err() {
                // Cutting it out of its neighbours would have made one mapping too many for the kernel: the address space stays
                // taken, the memory goes back all the same.
                let (base, length) = (self.base.cast(), self.mapped_bytes.get());
                // SAFETY: as above; nobody reads it any more.
                let _ = unsafe { nix::sys::mman::madvise(base, length, MmapAdvise::MADV_DONTNEED) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_aligned_and_large_enough() {
        for bytes in [1, 4096, 4097, 3 << 20] {
            let system = [MemoryRegion::new(bytes), MemoryRegion::pages(bytes)];
            let system = system.map(|region| region.expect("a few MiB are there"));
            assert!(system[1].len() < bytes + BUFFER_ALIGN_BYTES, "whole pages and no more");
            for region in system.into_iter().chain([MemoryRegion::heap(bytes)]) {
                assert!(region.len() >= bytes);
                assert_eq!(region.base().as_ptr() as usize % BUFFER_ALIGN_BYTES, 0);
                assert!(!region.is_empty());
            }
        }
    }

    #[test]
    fn the_report_says_what_to_do_unless_there_is_nothing_to_do() {
        let report = |kind| MemoryReport { kind, bytes: 64 << 20 };
        assert!(report(MemoryKind::Plain).to_string().contains("LimitMEMLOCK=infinity"));
        assert!(report(MemoryKind::Locked).to_string().contains("vm.nr_hugepages=32"));
        assert!(!report(MemoryKind::Huge2M).to_string().contains("cost"));
    }

    #[test]
    fn an_impossible_size_is_an_error_that_names_it() {
        let error = MemoryRegion::new(1 << 60).expect_err("no machine has an exbibyte");
        assert!(error.to_string().contains("1152921504606846976"));
    }
}
