//! What is left after a power cut and after a kill, and what a failing disk is told apart from.

mod file_volume;

use std::collections::HashMap;

use reactor::core::Core;
use reactor::sim::{DiskFaults, SimDisk, SimWorld};
use volume::allocation::AllocationMap;
use volume::bdev::{Done, Extent, Io, IoChannel, IoStatus, Op};
use volume::file::FileChannel;
use volume::io_mode::IoMode;
use volume::volume::Volume;

use file_volume::{BLOCK, BLOCKS, BUFFERED, DIRECT, info};

struct Rig {
    core: Core,
    disk: SimDisk,
    volume: Volume,
    tag: u64,
    /// Answered, not yet asked for.
    answered: Vec<Done>,
}

impl Rig {
    fn new(seed: u64, mode: IoMode) -> Self {
        let core = SimWorld::new(seed).core("c");
        Self::over(core, None, mode, seed)
    }

    fn over(core: Core, disk: Option<SimDisk>, mode: IoMode, seed: u64) -> Self {
        let disk = disk.unwrap_or_else(|| SimWorld::new(seed).disk(BLOCKS * BLOCK));
        // As after an open that found no hole: everything may be data.
        let mut map = AllocationMap::empty(BLOCKS * BLOCK);
        map.mark(0, BLOCKS * BLOCK);
        let channel = FileChannel::over(Box::new(disk.open()), info(), mode, Some(map), &core.buffers);
        let volume = Volume::new(Box::new(channel), &core.buffers).expect("a fresh pool has the reserve");
        Self { core, disk, volume, tag: 0, answered: Vec::new() }
    }

    fn submit(&mut self, op: Op, byte: u8) -> (u64, Option<Done>) {
        self.tag += 1;
        let bytes = op.payload_bytes(BLOCK as u32) as usize;
        let mut sgl = self.core.buffers.alloc(bytes).expect("memory for a check");
        sgl.fill(0, bytes, byte);
        (self.tag, self.volume.submit(Io { tag: self.tag, op, sgl }))
    }

    fn poll_until(&mut self, tag: u64) -> Done {
        for _ in 0..100_000 {
            self.volume.poll(&mut self.answered, 32);
            if let Some(index) = self.answered.iter().position(|done| done.tag == tag) {
                return self.answered.swap_remove(index);
            }
        }
        panic!("never answered");
    }

    fn io(&mut self, op: Op, byte: u8) -> Done {
        let (tag, done) = self.submit(op, byte);
        done.unwrap_or_else(|| self.poll_until(tag))
    }

    fn status(&mut self, op: Op, byte: u8) -> IoStatus {
        self.io(op, byte).status
    }
}

fn extent(lba: u64, length_blocks: u64) -> Extent {
    Extent { lba, length_blocks }
}

fn write(lba: u64, length: u64, fua: bool) -> Op {
    Op::Write { extent: extent(lba, length), fua }
}

fn peek(disk: &SimDisk, lba: u64) -> u8 {
    let block = disk.peek(lba * BLOCK, BLOCK as usize);
    assert!(block.iter().all(|&byte| byte == block[0]), "block {lba} is torn inside");
    block[0]
}

/// Numbers that look random; the same for the same seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What each block may hold after a crash: the last value known to be safe, and all since.
#[derive(Default)]
struct Oracle {
    durable: HashMap<u64, u8>,
    /// Written since, in order; with whether it was acknowledged.
    since: Vec<(u64, u64, u8, bool)>,
}

impl Oracle {
    fn flushed(&mut self) {
        // Everything acknowledged is safe; what was under way may or may not be.
        for &(lba, length, byte, acknowledged) in &self.since {
            for lba in (lba..lba + length).filter(|_| acknowledged) {
                self.durable.insert(lba, byte);
            }
        }
        self.since.retain(|&(.., acknowledged)| !acknowledged);
    }

    fn allows(&self, lba: u64, byte: u8) -> bool {
        let durable = self.durable.get(&lba).copied().unwrap_or(0);
        let mut later =
            self.since.iter().filter(|&&(start, length, ..)| (start..start + length).contains(&lba));
        byte == durable || later.any(|&(_, _, written, _)| written == byte)
    }
}

fn run_until_power_cut(seed: u64, mode: IoMode) {
    let mut rig = Rig::new(seed, mode);
    let mut numbers = Numbers(seed);
    let mut oracle = Oracle::default();
    for step in 0..40 {
        let (lba, length) = (numbers.below(100), 1 + numbers.below(12));
        let byte = step as u8 + 1;
        match numbers.below(6) {
            0 => {
                assert_eq!(rig.status(Op::Flush, 0), IoStatus::Good);
                oracle.flushed();
            }
            1 => {
                assert_eq!(rig.status(write(lba, length, true), byte), IoStatus::Good);
                // Durable by itself: no earlier value of these blocks may come back.
                oracle.since.iter_mut().for_each(|write| write.3 = true);
                let covered = lba..lba + length;
                let mut rest = Vec::new();
                for &(start, count, old, acknowledged) in &oracle.since {
                    let outside = (start..start + count).filter(|lba| !covered.contains(lba));
                    rest.extend(outside.map(|lba| (lba, 1, old, acknowledged)));
                }
                oracle.since = rest;
                oracle.durable.extend(covered.map(|lba| (lba, byte)));
            }
            2 => {
                assert_eq!(rig.status(Op::Unmap(extent(lba, length)), 0), IoStatus::Good);
                oracle.since.push((lba, length, 0, true));
            }
            _ => {
                assert_eq!(rig.status(write(lba, length, false), byte), IoStatus::Good);
                oracle.since.push((lba, length, byte, true));
            }
        }
    }
    // A last write that nobody waits for.
    let _ = rig.submit(write(3, 40, false), 200);
    oracle.since.push((3, 40, 200, false));
    let survivor = rig.disk.crash();
    for lba in 0..112 {
        let byte = peek(&survivor, lba);
        assert!(oracle.allows(lba, byte), "seed {seed}: block {lba} holds {byte}");
    }
}

#[test]
fn after_a_power_cut_what_was_flushed_or_forced_is_there() {
    for seed in 0..150 {
        run_until_power_cut(seed, DIRECT);
        run_until_power_cut(seed, BUFFERED);
    }
}

#[test]
fn after_a_kill_everything_acknowledged_is_there_and_a_new_process_serves_it() {
    for seed in 0..100 {
        let mut rig = Rig::new(seed, DIRECT);
        let mut numbers = Numbers(seed);
        let mut expected = [0; 128];
        for step in 0..30 {
            let (lba, length) = (numbers.below(100), 1 + numbers.below(12));
            assert_eq!(rig.status(write(lba, length, false), step + 1), IoStatus::Good);
            expected[lba as usize..(lba + length) as usize].fill(step + 1);
        }
        let survivor = rig.disk.kill();
        let mut rig = Rig::over(rig.core, Some(survivor), DIRECT, seed);
        for (lba, &byte) in expected.iter().enumerate() {
            let done = rig.io(Op::Read(extent(lba as u64, 1)), 0xEE);
            assert_eq!(done.status, IoStatus::Good);
            assert_eq!(done.sgl.to_vec(), vec![byte; BLOCK as usize], "seed {seed}");
        }
        // The first flush of the new process covers what the old one acknowledged.
        assert_eq!(rig.status(Op::Flush, 0), IoStatus::Good);
        let survivor = rig.disk.crash();
        for (lba, &byte) in expected.iter().enumerate() {
            assert_eq!(peek(&survivor, lba as u64), byte, "seed {seed}: not durable after the flush");
        }
    }
}

fn with_faults(rig: &Rig, change: impl FnOnce(&mut DiskFaults)) {
    let mut faults = rig.disk.faults();
    change(&mut faults);
    rig.disk.set_faults(faults);
}

#[test]
fn a_failed_flush_is_never_followed_by_a_good_one() {
    for mode in [DIRECT, BUFFERED] {
        let mut rig = Rig::new(1, mode);
        assert_eq!(rig.status(write(0, 8, false), 1), IoStatus::Good);
        with_faults(&rig, |faults| faults.sync_error_permille = 1000);
        let (first, none) = rig.submit(Op::Flush, 0);
        assert!(none.is_none());
        let (joined, none) = rig.submit(Op::Flush, 0);
        assert!(none.is_none());
        for tag in [first, joined] {
            assert!(matches!(rig.poll_until(tag).status, IoStatus::WriteError { .. } | IoStatus::Gone));
        }
        with_faults(&rig, |faults| faults.sync_error_permille = 0);
        assert_eq!(rig.status(Op::Flush, 0), IoStatus::Gone);
        assert_eq!(rig.status(write(0, 8, false), 2), IoStatus::Gone);
        assert_eq!(rig.status(Op::Unmap(extent(0, 8)), 0), IoStatus::Gone);
        let read = rig.io(Op::Read(extent(0, 8)), 0xEE);
        assert_eq!(read.status, IoStatus::Good, "reads go on");
        assert_eq!(read.sgl.to_vec(), vec![1; 8 * BLOCK as usize]);
    }
}

#[test]
fn a_failed_durable_write_ends_writing_and_a_failed_plain_one_does_not() {
    let mut rig = Rig::new(1, DIRECT);
    with_faults(&rig, |faults| faults.write_error_permille = 1000);
    assert_eq!(rig.status(write(7, 2, false), 1), IoStatus::WriteError { lba: 7 });
    with_faults(&rig, |faults| faults.write_error_permille = 0);
    assert_eq!(rig.status(write(7, 2, false), 1), IoStatus::Good);
    assert_eq!(rig.status(Op::Flush, 0), IoStatus::Good);
    with_faults(&rig, |faults| faults.write_error_permille = 1000);
    assert_eq!(rig.status(write(9, 2, true), 1), IoStatus::WriteError { lba: 9 });
    with_faults(&rig, |faults| faults.write_error_permille = 0);
    assert_eq!(rig.status(Op::Flush, 0), IoStatus::Gone);
}

#[test]
fn a_bad_block_is_a_read_error_until_it_is_written_again() {
    let mut rig = Rig::new(1, DIRECT);
    assert_eq!(rig.status(write(0, 64, false), 1), IoStatus::Good);
    with_faults(&rig, |faults| faults.bad_ranges.push(20 * BLOCK..21 * BLOCK));
    assert_eq!(rig.status(Op::Read(extent(20, 1)), 0), IoStatus::ReadError { lba: 20 });
    assert_eq!(rig.status(Op::Read(extent(19, 1)), 0), IoStatus::Good);
    assert_eq!(rig.status(Op::Compare(extent(20, 1)), 1), IoStatus::ReadError { lba: 20 });
    let payload = Op::CompareAndWrite { extent: extent(20, 1), fua: false };
    assert_eq!(rig.status(payload, 1), IoStatus::ReadError { lba: 20 });
    assert_eq!(rig.status(write(20, 1, false), 3), IoStatus::Good);
    assert_eq!(rig.status(Op::Compare(extent(20, 1)), 3), IoStatus::Good);
}

#[test]
fn a_full_disk_refuses_writes_and_works_again_after_an_unmap() {
    for mode in [DIRECT, BUFFERED] {
        let mut rig = Rig::new(1, mode);
        with_faults(&rig, |faults| faults.space_bytes = 64 * BLOCK);
        assert_eq!(rig.status(write(0, 64, false), 1), IoStatus::Good);
        assert_eq!(rig.status(write(512, 8, false), 1), IoStatus::NoSpace);
        assert_eq!(rig.status(write(512, 8, true), 1), IoStatus::NoSpace);
        assert_eq!(rig.status(write(0, 8, true), 2), IoStatus::Good, "what is allocated may be overwritten");
        assert_eq!(rig.status(Op::Unmap(extent(0, 16)), 0), IoStatus::Good);
        assert_eq!(rig.status(write(512, 8, true), 1), IoStatus::Good);
        assert_eq!(rig.status(Op::Flush, 0), IoStatus::Good);
    }
}

#[test]
fn buffers_come_home_whatever_happens() {
    let mut rig = Rig::new(3, DIRECT);
    let reserved = rig.core.buffers.in_use();
    with_faults(&rig, |faults| {
        faults.write_error_permille = 300;
        faults.read_error_permille = 300;
        faults.queue_depth = 4;
    });
    let mut numbers = Numbers(3);
    for _ in 0..300 {
        let at = extent(numbers.below(64), 1 + numbers.below(16));
        let op = match numbers.below(5) {
            0 => Op::Read(at),
            1 => Op::CompareAndWrite { extent: at, fua: false },
            2 => Op::OrWrite { extent: at, fua: false },
            3 => Op::Unmap(at),
            _ => Op::Write { extent: at, fua: false },
        };
        let _ = rig.submit(op, 1);
        rig.volume.poll(&mut Vec::new(), 4);
    }
    let mut out = Vec::new();
    while !rig.volume.is_drained() {
        rig.volume.poll(&mut out, 32);
        out.clear();
    }
    assert_eq!(rig.core.buffers.in_use(), reserved);
}
