//! What happens to atomic writes of a file when a disk fails or is full, and what they leave behind. What a crash leaves is the
//! simulator's to find out.

mod file_volume;

use reactor::core::Core;
use reactor::sim::{DiskFaults, SimDisk, SimWorld};
use reactor::time::Time;
use volume::allocation::AllocationMap;
use volume::bdev::{Done, Extent, Io, IoChannel, IoStatus, Op};
use volume::file::FileChannel;
use volume::io_mode::IoMode;
use volume::journal::{DATA_OFFSET_BYTES, ENTRY_OFFSET_BYTES, length_bytes};
use volume::sanitize::{Method, Next, Sanitize};
use volume::volume::Volume;

use file_volume::{BLOCK, BLOCKS, BUFFERED, DIRECT, info};

struct Rig {
    world: SimWorld,
    core: Core,
    data: SimDisk,
    journal: SimDisk,
    volume: Volume,
    tag: u64,
    answered: Vec<Done>,
}

impl Rig {
    /// With a journal as it is made: its space is taken.
    fn new(mode: IoMode) -> Self {
        Self::seeded(mode, 7)
    }

    fn seeded(mode: IoMode, seed: u64) -> Self {
        let rig = Self::over(SimWorld::new(seed), mode);
        rig.journal.poke(0, &vec![0; rig.journal.len() as usize]);
        rig
    }

    /// With a journal that is a hole.
    fn over(world: SimWorld, mode: IoMode) -> Self {
        let core = world.core("c");
        let (data, journal) = (world.disk(BLOCKS * BLOCK), world.disk(length_bytes(BLOCK as u32)));
        let map = AllocationMap::empty(BLOCKS * BLOCK);
        let channel = FileChannel::over(Box::new(data.open()), info(), mode, Some(map), &core.buffers);
        let channel = channel.with_journal(Box::new(journal.open()));
        let volume = Volume::new(Box::new(channel), &core.buffers).expect("a fresh pool has the reserve");
        world.set_auto_advance(false);
        Self { world, core, data, journal, volume, tag: 0, answered: Vec::new() }
    }

    fn submit(&mut self, op: Op, byte: u8) -> u64 {
        self.tag += 1;
        let bytes = op.payload_bytes(BLOCK as u32) as usize;
        let mut sgl = self.core.buffers.alloc(bytes).expect("memory for a check");
        sgl.fill(0, bytes, byte);
        self.answered.extend(self.volume.submit(Io { tag: self.tag, op, sgl }));
        self.tag
    }

    fn step(&mut self) {
        self.world.advance_to_next(Time::NEVER);
        self.volume.poll(&mut self.answered, 32);
    }

    fn wait(&mut self, tag: u64) -> Done {
        for _ in 0..10_000 {
            if let Some(index) = self.answered.iter().position(|done| done.tag == tag) {
                return self.answered.swap_remove(index);
            }
            self.step();
        }
        panic!("never answered");
    }

    fn status(&mut self, op: Op, byte: u8) -> IoStatus {
        let tag = self.submit(op, byte);
        self.wait(tag).status
    }

    fn expect(&mut self, lba: u64, length_blocks: u64, byte: u8) {
        let tag = self.submit(Op::Read(extent(lba, length_blocks)), 0xEE);
        let done = self.wait(tag);
        assert_eq!(done.status, IoStatus::Good);
        assert!(done.sgl.to_vec().iter().all(|&found| found == byte), "not all {byte} from block {lba}");
    }

    fn entry(&self) -> Vec<u8> {
        self.journal.peek(ENTRY_OFFSET_BYTES, (self.journal.len() - ENTRY_OFFSET_BYTES) as usize)
    }

    fn is_empty(&self) -> bool {
        self.entry().iter().all(|&byte| byte == 0)
    }

    /// Goes on until the entry of the write under way has been written.
    fn step_until_entered(&mut self, byte: u8) {
        let at = (DATA_OFFSET_BYTES - ENTRY_OFFSET_BYTES) as usize;
        for _ in 0..10_000 {
            if self.entry()[at] == byte {
                return;
            }
            self.step();
        }
        panic!("no entry was written");
    }
}

fn extent(lba: u64, length_blocks: u64) -> Extent {
    Extent { lba, length_blocks }
}

fn atomic(lba: u64, length_blocks: u64) -> Op {
    Op::AtomicWrite { extent: extent(lba, length_blocks), fua: false }
}

fn write(lba: u64, length_blocks: u64) -> Op {
    Op::Write { extent: extent(lba, length_blocks), fua: false }
}

fn change(disk: &SimDisk, change: impl FnOnce(&mut DiskFaults)) {
    let mut faults = disk.faults();
    change(&mut faults);
    disk.set_faults(faults);
}

#[test]
fn an_entry_stays_until_it_is_in_the_way_and_leaves_nothing_behind() {
    for mode in [DIRECT, BUFFERED] {
        let mut rig = Rig::new(mode);
        assert_eq!(rig.status(atomic(100, 256), 5), IoStatus::Good);
        assert!(!rig.is_empty());
        // A neighbour is not in its way, nor are reads; a successor takes its place.
        assert_eq!(rig.status(write(356, 4), 9), IoStatus::Good);
        rig.expect(100, 256, 5);
        assert_eq!(rig.status(atomic(110, 3), 6), IoStatus::Good);
        assert_eq!(rig.status(write(100, 4), 7), IoStatus::Good);
        assert!(!rig.is_empty(), "the entry is of other blocks by now");
        for in_the_way in [write(112, 1), Op::Unmap(extent(0, 111)), Op::Flush] {
            assert_eq!(rig.status(atomic(110, 3), 8), IoStatus::Good);
            assert!(!rig.is_empty());
            assert_eq!(rig.status(in_the_way, 1), IoStatus::Good);
            assert!(rig.is_empty(), "{in_the_way:?}: zeros, also where the longer one was");
        }
        rig.expect(110, 3, 8);
        // A single sector needs no journal.
        assert_eq!(rig.status(atomic(110, 1), 3), IoStatus::Good);
        assert!(rig.is_empty());
        rig.expect(110, 1, 3);
    }
}

#[test]
fn sanitizing_leaves_nothing_in_the_journal() {
    let mut rig = Rig::new(DIRECT);
    let overwrite = Method::Overwrite { block: vec![0x55; BLOCK as usize], passes: 1, invert: false };
    for method in [overwrite, Method::Erase] {
        assert_eq!(rig.status(atomic(300, 40), 5), IoStatus::Good);
        let mut sanitize = Sanitize::new(method, &rig.volume.info());
        loop {
            let (op, sgl) = match sanitize.next(&rig.core.buffers) {
                Next::Io(op, sgl) => (op, sgl),
                Next::Memory => panic!("there is memory"),
                Next::Finished => break,
            };
            rig.tag += 1;
            let done = rig.volume.submit(Io { tag: rig.tag, op, sgl });
            rig.answered.extend(done);
            let done = rig.wait(rig.tag);
            sanitize.on_done(done.status).expect("the disks are good");
        }
        assert!(rig.is_empty());
    }
}

#[test]
fn a_full_disk_is_found_out_before_anything_is_written() {
    for mode in [DIRECT, BUFFERED] {
        let mut rig = Rig::new(mode);
        assert_eq!(rig.status(write(0, 16), 1), IoStatus::Good);
        change(&rig.data, |faults| faults.space_bytes = 20 * BLOCK);
        assert_eq!(rig.status(atomic(10, 16), 2), IoStatus::NoSpace);
        rig.expect(0, 16, 1);
        rig.expect(16, 10, 0);
        assert!(rig.is_empty());
        assert_eq!(rig.status(atomic(0, 16), 3), IoStatus::Good, "what is allocated may be overwritten");
        assert_eq!(rig.status(Op::Unmap(extent(0, 8)), 0), IoStatus::Good);
        assert_eq!(rig.status(atomic(16, 8), 4), IoStatus::Good);
        rig.expect(16, 8, 4);
    }
}

/// As on a file system that never writes in place.
#[test]
fn a_journal_without_space_writes_nothing_and_works_again() {
    for stays_full in [false, true] {
        let mut rig = Rig::over(SimWorld::new(7), DIRECT);
        assert_eq!(rig.status(write(0, 16), 1), IoStatus::Good);
        change(&rig.journal, |faults| faults.space_bytes = 0);
        let tag = rig.submit(atomic(0, 16), 2);
        // The space of the data was taken, and the entry was refused.
        (0..2).for_each(|_| rig.step());
        if !stays_full {
            change(&rig.journal, |faults| faults.space_bytes = u64::MAX);
        }
        let status = rig.wait(tag).status;
        rig.expect(0, 16, 1);
        if stays_full {
            assert_eq!(status, IoStatus::WriteError { lba: 0 }, "nobody knows what there is of its entry");
            assert_eq!(rig.status(write(0, 1), 3), IoStatus::Gone);
        } else {
            assert_eq!(status, IoStatus::NoSpace);
            assert_eq!(rig.status(atomic(0, 16), 3), IoStatus::Good);
            rig.expect(0, 16, 3);
        }
    }
}

#[test]
fn an_entry_that_cannot_be_written_leaves_the_blocks_and_ends_writing() {
    let mut rig = Rig::new(DIRECT);
    assert_eq!(rig.status(atomic(0, 16), 1), IoStatus::Good);
    change(&rig.journal, |faults| faults.write_error_permille = 1000);
    let (first, second) = (rig.submit(atomic(0, 16), 2), rig.submit(atomic(40, 2), 2));
    assert_eq!(rig.wait(first).status, IoStatus::WriteError { lba: 0 });
    assert_eq!(rig.wait(second).status, IoStatus::Gone);
    change(&rig.journal, |faults| faults.write_error_permille = 0);
    rig.expect(0, 16, 1);
    for op in [atomic(0, 2), write(0, 2), write(90, 1), Op::Unmap(extent(3, 1)), Op::Flush] {
        assert_eq!(rig.status(op, 3), IoStatus::Gone, "{op:?}");
    }
    rig.expect(0, 16, 1);
}

#[test]
fn a_write_that_fails_in_place_is_not_read_until_it_was_completed() {
    for mode in [DIRECT, BUFFERED] {
        let mut rig = Rig::new(mode);
        assert_eq!(rig.status(write(0, 64), 1), IoStatus::Good);
        let tag = rig.submit(atomic(8, 16), 2);
        rig.step_until_entered(2);
        let held = rig.submit(Op::Flush, 0);
        change(&rig.data, |faults| {
            (faults.write_error_permille, faults.sync_error_permille) =
                if mode == DIRECT { (1000, 0) } else { (0, 1000) };
        });
        assert_eq!(rig.wait(tag).status, IoStatus::WriteError { lba: 8 });
        assert!(rig.wait(held).status != IoStatus::Good);
        change(&rig.data, |faults| (faults.write_error_permille, faults.sync_error_permille) = (0, 0));
        assert_eq!(rig.status(Op::Read(extent(20, 10)), 0), IoStatus::ReadError { lba: 20 });
        assert_eq!(rig.status(Op::Read(extent(0, 10)), 0), IoStatus::ReadError { lba: 8 });
        rig.expect(0, 8, 1);
        rig.expect(24, 8, 1);
        assert_eq!(rig.status(write(8, 16), 3), IoStatus::Gone);
        assert_eq!(rig.status(atomic(8, 16), 3), IoStatus::Gone);
        assert!(!rig.is_empty(), "the next open completes it");
    }
}

#[test]
fn an_entry_that_cannot_be_zeroed_lets_nothing_pass() {
    for sync in [false, true] {
        let mut rig = Rig::new(DIRECT);
        assert_eq!(rig.status(atomic(0, 16), 1), IoStatus::Good);
        change(&rig.journal, |faults| {
            (faults.write_error_permille, faults.sync_error_permille) =
                if sync { (0, 1000) } else { (1000, 0) };
        });
        let held = [write(4, 1), Op::Unmap(extent(0, 2)), Op::Flush].map(|op| rig.submit(op, 9));
        assert_eq!(held.map(|tag| rig.wait(tag).status), [IoStatus::Gone; 3]);
        rig.expect(0, 16, 1);
    }
}

/// Whoever waits is answered when something that is not atomic ends all writing.
#[test]
fn nobody_waits_for_ever_after_another_write_has_failed() {
    for seed in 0..60 {
        let mut rig = Rig::seeded(DIRECT, seed);
        assert_eq!(rig.status(atomic(0, 16), 1), IoStatus::Good);
        let second = rig.submit(atomic(40, 8), 2);
        let held = [write(4, 1), Op::Flush].map(|op| rig.submit(op, 9));
        let fails = rig.submit(Op::Write { extent: extent(90, 1), fua: true }, 3);
        change(&rig.data, |faults| faults.write_error_permille = 1000);
        assert_eq!(rig.wait(fails).status, IoStatus::WriteError { lba: 90 });
        assert_ne!(rig.wait(second).status, IoStatus::Good);
        for tag in held {
            assert_ne!(rig.wait(tag).status, IoStatus::Good, "seed {seed}");
        }
        assert_eq!(rig.volume.in_flight(), 0);
    }
}

#[test]
fn buffers_come_home_whatever_happens() {
    for mode in [DIRECT, BUFFERED] {
        let mut rig = Rig::new(mode);
        rig.world.set_auto_advance(true);
        change(&rig.data, |faults| (faults.read_error_permille, faults.queue_depth) = (300, 4));
        change(&rig.journal, |faults| (faults.write_error_permille, faults.queue_depth) = (20, 1));
        for round in 0..400_u64 {
            let at = extent(round * 7 % 64, 1 + round % 16);
            let op = match round % 5 {
                0 => Op::Read(at),
                1 => Op::CompareAndWrite { extent: at, fua: false },
                2 => Op::Unmap(at),
                3 => Op::Flush,
                _ => Op::AtomicWrite { extent: at, fua: false },
            };
            let _ = rig.submit(op, 1);
            rig.volume.poll(&mut rig.answered, 4);
            rig.answered.clear();
        }
        while !rig.volume.is_drained() {
            rig.volume.poll(&mut rig.answered, 32);
            rig.answered.clear();
        }
        drop(rig.volume);
        assert_eq!(rig.core.buffers.in_use(), 0);
    }
}

#[test]
fn what_a_volume_gains_is_written_atomically_as_well() {
    let mut rig = Rig::new(DIRECT);
    rig.data.grow(2 * BLOCKS * BLOCK);
    assert_eq!(rig.status(atomic(BLOCKS - 4, 4), 1), IoStatus::Good);
    assert!(rig.volume.grow(2 * BLOCKS));
    assert_eq!(rig.status(atomic(BLOCKS - 2, 12), 2), IoStatus::Good);
    rig.expect(BLOCKS - 2, 12, 2);
    rig.expect(BLOCKS - 4, 2, 1);
}
