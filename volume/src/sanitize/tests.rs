//! Over a memory device: what is on it afterwards, in which order, and what a failure leaves.

use reactor::buffer::SizeClass;
use uuid::Uuid;

use super::*;
use crate::bdev::{Io, IoChannel};
use crate::geometry::Geometry;
use crate::memory::MemoryDevice;

const MIB: u64 = 1 << 20;

fn pool() -> BufferPool {
    BufferPool::heap(&[SizeClass { bytes: 1 << 20, count: 2 }])
}

fn device(length_bytes: u64) -> MemoryDevice {
    MemoryDevice::new(Geometry::new(Uuid::from_u128(1), 512, length_bytes).expect("a possible device"))
}

fn execute(device: &mut MemoryDevice, op: Op, sgl: Sgl) -> (IoStatus, Sgl) {
    let done = device.submit(Io { tag: 1, op, sgl }).expect("memory answers on the spot");
    (done.status, done.sgl)
}

fn write(device: &mut MemoryDevice, pool: &BufferPool, lba: u64, length_blocks: u64, value: u8) {
    let bytes = (length_blocks * 512) as usize;
    let mut sgl = pool.alloc(bytes).expect("room");
    sgl.fill(0, bytes, value);
    let op = Op::Write { extent: Extent { lba, length_blocks }, fua: false };
    assert_eq!(execute(device, op, sgl).0, IoStatus::Good);
}

fn read(device: &mut MemoryDevice, pool: &BufferPool, lba: u64) -> Vec<u8> {
    let sgl = pool.alloc(512).expect("room");
    execute(device, Op::Read(Extent { lba, length_blocks: 1 }), sgl).1.to_vec()
}

/// Runs the operation to its end; every I/O and what it wrote first.
fn run(sanitize: &mut Sanitize, device: &mut MemoryDevice, pool: &BufferPool) -> Vec<(Op, Option<u8>)> {
    let (mut log, mut before) = (Vec::new(), 0);
    loop {
        assert!(sanitize.progress() >= before, "progress goes one way");
        before = sanitize.progress();
        match sanitize.next(pool) {
            Next::Finished => return log,
            Next::Memory => panic!("the pool has room"),
            Next::Io(op, sgl) => {
                log.push((op, sgl.to_vec().first().copied()));
                let (status, _) = execute(device, op, sgl);
                sanitize.on_done(status).expect("memory does not fail");
            }
        }
    }
}

#[test]
fn overwriting_leaves_the_pattern_and_flushes_each_pass() {
    let (pool, mut device) = (pool(), device(3 * MIB + 4096));
    write(&mut device, &pool, 0, 8, 0xee);
    for (passes, first) in [(1, [0x5a_u8].as_slice()), (2, &[0xa5, 0x5a]), (3, &[0x5a, 0xa5, 0x5a])] {
        let mut block = vec![0x5a; 512];
        block[511] = 7;
        let method = Method::Overwrite { block: block.clone(), passes, invert: true };
        let mut sanitize = Sanitize::new(method, &device.info());
        let log = run(&mut sanitize, &mut device, &pool);
        let mut expected = Vec::new();
        for value in first {
            for step in 0..4 {
                let length_blocks = if step < 3 { 2048 } else { 8 };
                let extent = Extent { lba: step * 2048, length_blocks };
                expected.push((Op::Write { extent, fua: false }, Some(*value)));
            }
            expected.push((Op::Flush, None));
        }
        assert_eq!(log, expected);
        for lba in [0, 1, 7, 2047, 2048, 6151] {
            assert_eq!(read(&mut device, &pool, lba), block, "block {lba}");
        }
        assert!(matches!(sanitize.next(&pool), Next::Finished));
    }
}

#[test]
fn erasing_writes_over_what_is_allocated_before_it_is_freed() {
    let (pool, mut device) = (pool(), device(64 * MIB));
    write(&mut device, &pool, 16, 8, 0xee);
    write(&mut device, &pool, 100_000, 2000, 0xee);
    let mut sanitize = Sanitize::new(Method::Erase, &device.info());
    let log = run(&mut sanitize, &mut device, &pool);
    let written: Vec<Extent> = log
        .iter()
        .filter_map(|(op, first)| match op {
            Op::Write { extent, .. } => {
                assert_eq!(*first, Some(0));
                Some(*extent)
            }
            _ => None,
        })
        .collect();
    let covers = |lba| written.iter().any(|extent| extent.lba <= lba && lba < extent.end());
    assert!(covers(16) && covers(23) && covers(100_000) && covers(101_999));
    assert!(written.iter().map(|extent| extent.length_blocks).sum::<u64>() <= 8 + 2000 + 2 * 8, "holes stay");
    let tail: Vec<Op> = log.iter().rev().take(3).map(|(op, _)| *op).collect();
    let all = Extent { lba: 0, length_blocks: device.info().length_blocks };
    assert_eq!(tail, [Op::Flush, Op::Unmap(all), Op::Flush]);
    assert_eq!(device.mapped_bytes(), 0);
    assert_eq!(read(&mut device, &pool, 16), [0; 512]);
}

#[test]
fn a_failed_io_ends_it_and_an_empty_pool_only_delays_it() {
    let (full, device) = (pool(), device(4 * MIB));
    let method = Method::Overwrite { block: vec![0; 512], passes: 1, invert: false };
    let mut sanitize = Sanitize::new(method.clone(), &device.info());
    let held = [full.alloc(1 << 20), full.alloc(1 << 20)];
    assert!(matches!(sanitize.next(&full), Next::Memory));
    drop(held);
    assert!(matches!(sanitize.next(&full), Next::Io(Op::Write { .. }, _)));
    assert_eq!(sanitize.on_done(IoStatus::NoSpace), Err(IoStatus::NoSpace));

    let mut sanitize = Sanitize::new(method, &device.info());
    for _ in 0..4 {
        assert!(matches!(sanitize.next(&full), Next::Io(Op::Write { .. }, _)));
        sanitize.on_done(IoStatus::Good).expect("a good write");
    }
    assert!(matches!(sanitize.next(&full), Next::Io(Op::Flush, _)));
    assert_eq!(sanitize.on_done(IoStatus::Gone), Err(IoStatus::Gone), "a flush that fails is a failure");
}

#[test]
fn progress_is_a_part_of_65536() {
    let method = Method::Overwrite { block: vec![0; 512], passes: 2, invert: false };
    let (pool, device) = (pool(), device(4 * MIB));
    let mut sanitize = Sanitize::new(method, &device.info());
    let mut seen = Vec::new();
    while let Next::Io(op, _) = sanitize.next(&pool) {
        sanitize.on_done(IoStatus::Good).expect("a good end");
        if op == Op::Flush || sanitize.lba == 2048 {
            seen.push(sanitize.progress());
        }
    }
    assert_eq!(seen, [0x2000, 0x8000, 0xa000, 0xffff]);
}
