//! Every back end against the list in `volume::conformance`.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use reactor::buffer::{BufferPool, SizeClass};
use reactor::sim::{DiskFaults, SimWorld};
use reactor::uring::Uring;
use reactor::wake::Waker;
use volume::allocation::AllocationMap;
use volume::bdev::{BdevInfo, Extent, Io, IoChannel, IoStatus, Op};
use volume::conformance::{self, Subject};
use volume::file::FileChannel;
use volume::file_open::{self, FileOptions};
use volume::geometry::Geometry;
use volume::io_mode::{BufferedReason, IoMode};
use volume::journal;
use volume::memory::MemoryDevice;
use volume::memory_budget::MemoryBudget;
use volume::volume::Volume;

fn pool() -> BufferPool {
    BufferPool::heap(&SizeClass::for_budget(8 << 20))
}

fn subject(channel: impl IoChannel + 'static, buffers: &BufferPool, turn: impl FnMut() + 'static) -> Subject {
    let volume = Volume::new(Box::new(channel), buffers).expect("a fresh pool has the reserve");
    Subject { channel: Box::new(volume), turn: Box::new(turn) }
}

#[test]
fn memory() {
    conformance::run(|geometry| subject(MemoryDevice::new(geometry), &pool(), || {}));
}

#[test]
fn memory_in_small_pages() {
    let small = |geometry| MemoryDevice::within(geometry, MemoryBudget::default(), true);
    conformance::run(|geometry| subject(small(geometry), &pool(), || {}));
}

/// Writes that are far from each other: a budget is spent by the page, or by 2 MiB, and then there is no space.
#[test]
fn memory_takes_no_more_than_its_budget() {
    let geometry = Geometry::new(uuid::Uuid::nil(), 4096, 1 << 30).expect("a good shape");
    for (small_pages, writes) in [(true, 3 * 256), (false, 1)] {
        let budget = MemoryBudget::default();
        budget.set(3 << 20);
        let mut device = MemoryDevice::within(geometry, budget.clone(), small_pages);
        let pool = pool();
        let write = |device: &mut MemoryDevice, lba| {
            let sgl = pool.alloc(4096).expect("a fresh pool");
            let op = Op::Write { extent: Extent { lba, length_blocks: 1 }, fua: false };
            device.submit(Io { tag: 1, op, sgl }).expect("memory answers at once").status
        };
        // Two pages of every chunk in turn.
        let places = (0..2).flat_map(|page| (0..512).map(move |chunk| chunk * 512 + page * 7));
        let good = places.clone().take_while(|&lba| write(&mut device, lba) == IoStatus::Good).count();
        assert_eq!(good, writes, "small pages: {small_pages}");
        assert_eq!(device.allocated_bytes(), Some(writes as u64 * 4096));
        let next = places.clone().nth(writes).expect("more places than room");
        assert_eq!(write(&mut device, next), IoStatus::NoSpace);
        assert_eq!(write(&mut device, 0), IoStatus::Good, "what is there is written again");
        budget.set(2 << 20);
        assert_eq!(write(&mut device, next), IoStatus::Good, "there is room again");
    }
}

/// The memory device as back ends are that answer later and have no compare.
#[test]
fn memory_without_compare_answering_late_and_out_of_order() {
    conformance::run(|geometry| {
        let late = late::Late::new(MemoryDevice::new(geometry));
        subject(late, &pool(), || {})
    });
}

/// A pool so small that composite I/O lives on the volume's reserve and waits for it.
#[test]
fn starved_of_scratch() {
    conformance::run(|geometry| {
        let buffers = BufferPool::heap(&[SizeClass { bytes: 4096, count: 1 }]);
        let late = late::Late::new(MemoryDevice::new(geometry));
        subject(late, &buffers, || {})
    });
}

fn sim_info(geometry: Geometry, thin: bool) -> BdevInfo {
    BdevInfo {
        logical_block_bytes: geometry.logical_block_bytes,
        physical_block_bytes: 4096,
        length_blocks: geometry.length_blocks,
        volatile_write_cache: true,
        thin,
        unmap_granularity_blocks: 4096 / geometry.logical_block_bytes,
        write_unit_blocks: 1,
        atomic_write_blocks: 1,
        uuid: geometry.uuid,
    }
}

fn simulated(seed: u64, mode: IoMode, journal: bool, faults: fn(DiskFaults) -> DiskFaults) {
    let seeds = Rc::new(Cell::new(seed * 1000));
    conformance::run(|geometry| {
        seeds.set(seeds.get() + 1);
        let world = SimWorld::new(seeds.get());
        let core = world.core("c");
        let disk = world.disk(geometry.length_bytes());
        disk.set_faults(faults(disk.faults()));
        let map = AllocationMap::empty(geometry.length_bytes());
        let file = Box::new(disk.open());
        let channel = FileChannel::over(
            file,
            sim_info(geometry, !disk.faults().no_holes),
            mode,
            Some(map),
            &core.buffers,
        );
        if !journal {
            return subject(channel, &core.buffers, || {});
        }
        let own = world.disk(journal::length_bytes(geometry.logical_block_bytes));
        own.set_faults(DiskFaults { queue_depth: 1, ..own.faults() });
        let channel = channel.with_journal(Box::new(own.open()));
        assert_eq!(channel.info().atomic_write_blocks, 256);
        subject(channel, &core.buffers, || {})
    });
}

#[test]
fn simulated_file_direct() {
    simulated(1, IoMode::Direct { align_bytes: 512 }, false, |faults| faults);
}

#[test]
fn simulated_file_direct_with_a_journal() {
    simulated(4, IoMode::Direct { align_bytes: 512 }, true, |faults| faults);
}

#[test]
fn simulated_file_buffered_with_a_journal_and_a_short_queue() {
    let faults = |faults| DiskFaults { queue_depth: 3, ..faults };
    simulated(5, IoMode::Buffered(BufferedReason::Asked), true, faults);
}

#[test]
fn simulated_file_buffered_with_a_short_queue() {
    let faults = |faults| DiskFaults { queue_depth: 3, ..faults };
    simulated(2, IoMode::Buffered(BufferedReason::Asked), false, faults);
}

#[test]
fn simulated_file_without_holes() {
    simulated(3, IoMode::Direct { align_bytes: 512 }, false, |faults| DiskFaults {
        no_holes: true,
        ..faults
    });
}

fn real_files(directory: &Path, options: FileOptions) {
    let mut number = 0;
    conformance::run(|geometry| {
        number += 1;
        let path = directory.join(format!("v{number}"));
        let opened = file_open::create(&path, geometry, options).expect("room for a small file");
        let uring = Rc::new(Uring::new(Waker::new().expect("a free descriptor")).expect("io_uring"));
        let buffers = pool();
        let channel = FileChannel::new(opened, &*uring, &buffers).expect("an open file is adopted");
        assert_eq!(channel.info().atomic_write_blocks, 256);
        subject(channel, &buffers, move || {
            uring.submit();
            std::thread::yield_now();
            uring.reap();
        })
    });
}

#[test]
fn real_file_direct_where_it_can_be() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a place for files");
    real_files(directory.path(), FileOptions::default());
}

#[test]
fn real_file_through_the_page_cache() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a place for files");
    real_files(directory.path(), FileOptions { buffered: true, ..FileOptions::default() });
}

#[test]
fn real_file_in_shared_memory() {
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else { return };
    real_files(directory.path(), FileOptions::default());
}

mod late {
    //! Holds I/Os back and answers them in another order; refuses to compare.

    use reactor::buffer::Sgl;
    use volume::bdev::{BdevInfo, Done, Io, IoChannel, Op};

    pub struct Late<C> {
        inner: C,
        held: Vec<Io>,
        turn: usize,
    }

    impl<C> Late<C> {
        pub fn new(inner: C) -> Self {
            Self { inner, held: Vec::new(), turn: 0 }
        }
    }

    impl<C: IoChannel> IoChannel for Late<C> {
        fn info(&self) -> BdevInfo {
            self.inner.info()
        }

        fn submit(&mut self, io: Io) -> Option<Done> {
            assert!(!matches!(io.op, Op::Compare(_) | Op::CompareAndWrite { .. } | Op::OrWrite { .. }));
            if matches!(io.op, Op::BlockStatus(_)) {
                return self.inner.submit(io);
            }
            self.held.push(io);
            None
        }

        fn poll(&mut self, out: &mut Vec<Done>, budget: usize) {
            self.turn += 1;
            // Nothing this turn or next, then the middle ones first.
            if self.turn.is_multiple_of(3) {
                for _ in 0..budget.min(self.held.len()).min(5) {
                    let io = self.held.swap_remove(self.turn % self.held.len());
                    out.extend(self.inner.submit(io));
                }
            }
        }

        fn in_flight(&self) -> usize {
            self.held.len()
        }
    }

    const _: fn() -> Sgl = Sgl::empty;
}
