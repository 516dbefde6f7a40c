//! I/O commands from end to end.

use super::*;
use nvme_spec::nvm::{Copy, CopyFormat, CopyRange, DatasetManagement, DsmRange, IoControl};
use nvme_spec::sqe::Fuse;
use nvme_spec::{NSID_ALL, NvmOpcode, SglDescriptor};

const NONE: IoControl = IoControl::NONE;

fn io(opcode: NvmOpcode, lba: u64, blocks: usize) -> Sqe {
    Sqe::io(opcode, 1, lba, blocks as u32, NONE)
}

/// Bytes that tell their place.
fn pattern(length: usize, salt: u8) -> Vec<u8> {
    (0..length).map(|at| (at / 7) as u8 ^ salt).collect()
}

fn ready(world: &World) -> (Queue<'_>, Queue<'_>) {
    let admin = world.admin(&host(1));
    let io = world.io(&host(1), &admin, 1);
    (admin, io)
}

fn check(queue: &mut Queue<'_>, lba: u64, expected: &[u8]) {
    let got = queue.exec(io(NvmOpcode::READ, lba, expected.len() / BLOCK), read(expected.len()));
    assert_eq!(got.cqe.status(), Status::SUCCESS);
    assert!(got.data.unwrap().0 == expected, "other bytes at {lba}");
}

#[test]
fn what_was_written_is_read_in_every_size() {
    for (seed, header_digest, data_digest) in
        [(1, false, false), (2, true, false), (3, false, true), (4, true, true)]
    {
        let world = World::served(seed);
        let admin = world.admin(&host(1));
        let config =
            HostConfig { in_capsule_bytes: 16384, header_digest, data_digest, ..HostConfig::default() };
        let mut queue = world.io_with(&host(1), &admin, 1, config);
        assert_eq!(queue.queue.negotiated().unwrap().data_digest, data_digest);
        for (salt, blocks) in [1, 8, 32, 33, 64, 256, 2048].into_iter().enumerate() {
            let bytes = pattern(blocks * BLOCK, salt as u8);
            let control = if blocks == 8 { IoControl::FORCE_UNIT_ACCESS } else { NONE };
            let sqe = Sqe::io(NvmOpcode::WRITE, 1, 100, blocks as u32, control);
            assert_eq!(queue.exec(sqe, write(&bytes)).cqe.status(), Status::SUCCESS);
            check(&mut queue, 100, &bytes);
            let verify = queue.status(io(NvmOpcode::VERIFY, 100, blocks));
            assert_eq!(verify, Status::SUCCESS);
        }
        let fua = Sqe::io(NvmOpcode::READ, 1, 100, 8, IoControl::FORCE_UNIT_ACCESS);
        assert_eq!(queue.exec(fua, read(4096)).data.unwrap().0, pattern(2048 * BLOCK, 6)[..4096]);
    }
}

#[test]
fn a_digest_is_that_of_the_blocks_however_often_they_were_read_and_written() {
    let world = World::served(5);
    let admin = world.admin(&host(1));
    let config = HostConfig { data_digest: true, ..HostConfig::default() };
    let mut queue = world.io_with(&host(1), &admin, 1, config);
    let mut model = vec![0; 2048 * BLOCK];
    // Whole pages, which a volume in memory remembers the checksums of, and others; shown where they lie, and copied.
    let places = [(0, 8), (8, 32), (0, 256), (3, 5), (2, 40), (16, 2032)];
    for salt in 0..4 {
        for (lba, blocks) in places {
            for (lba, blocks) in places {
                check(&mut queue, lba, &model[lba as usize * BLOCK..][..blocks * BLOCK]);
            }
            let bytes = pattern(blocks * BLOCK, salt);
            assert_eq!(
                queue.exec(io(NvmOpcode::WRITE, lba, blocks), write(&bytes)).cqe.status(),
                Status::SUCCESS
            );
            model[lba as usize * BLOCK..][..bytes.len()].copy_from_slice(&bytes);
        }
        queue.status(Sqe::io(NvmOpcode::WRITE_ZEROES, 1, 8, 16, IoControl::DEALLOCATE));
        model[8 * BLOCK..][..16 * BLOCK].fill(0);
    }
}

#[test]
fn in_capsule_writes_need_no_r2t_and_larger_ones_do() {
    let world = World::served(11);
    let admin = world.admin(&host(1));
    let config = HostConfig { in_capsule_bytes: 16384, ..HostConfig::default() };
    let mut queue = world.io_with(&host(1), &admin, 1, config);
    assert_eq!(queue.exec(io(NvmOpcode::WRITE, 0, 32), write(&[1; 16384])).cqe.status(), Status::SUCCESS);
    assert_eq!(queue.queue.counters().r2ts, 0);
    assert_eq!(queue.exec(io(NvmOpcode::WRITE, 0, 33), write(&[1; 16896])).cqe.status(), Status::SUCCESS);
    assert_eq!(queue.queue.counters().r2ts, 1);
}

#[test]
fn compare_says_whether_the_bytes_are_the_same() {
    let world = World::served(12);
    let (_admin, mut queue) = ready(&world);
    let bytes = pattern(2 * BLOCK, 9);
    queue.exec(io(NvmOpcode::WRITE, 4, 2), write(&bytes));
    assert_eq!(queue.exec(io(NvmOpcode::COMPARE, 4, 2), write(&bytes)).cqe.status(), Status::SUCCESS);
    let other = pattern(2 * BLOCK, 8);
    let failure = Status::COMPARE_FAILURE.with_dnr();
    assert_eq!(queue.exec(io(NvmOpcode::COMPARE, 4, 2), write(&other)).cqe.status(), failure);
}

fn fused(queue: &mut Queue<'_>, lba: u64, old: &[u8], new: &[u8]) -> (Status, Status) {
    let blocks = old.len() / BLOCK;
    let mut compare = io(NvmOpcode::COMPARE, lba, blocks);
    compare.set_fuse(Fuse::FIRST);
    let mut second = io(NvmOpcode::WRITE, lba, blocks);
    second.set_fuse(Fuse::SECOND);
    let first = queue.submit(compare, write(old));
    let second = queue.submit(second, write(new));
    (queue.wait(first).cqe.status(), queue.wait(second).cqe.status())
}

#[test]
fn a_fused_compare_and_write_writes_only_on_a_match() {
    let world = World::served(13);
    let (_admin, mut queue) = ready(&world);
    // In the capsule, and asked for by R2T.
    for length in [BLOCK, 64 * BLOCK] {
        let (zeros, one, two) = (vec![0; length], pattern(length, 1), pattern(length, 2));
        assert_eq!(fused(&mut queue, 1000, &zeros, &one), (Status::SUCCESS, Status::SUCCESS));
        check(&mut queue, 1000, &one);
        let lost = (Status::COMPARE_FAILURE.with_dnr(), Status::ABORTED_FAILED_FUSED);
        assert_eq!(fused(&mut queue, 1000, &zeros, &two), lost);
        check(&mut queue, 1000, &one);
        queue.status(Sqe::io(NvmOpcode::WRITE_ZEROES, 1, 1000, 64, IoControl::DEALLOCATE));
    }
    let long = vec![0; 512 * BLOCK];
    let exceeded = (Status::ABORTED_FAILED_FUSED, Status::ATOMIC_WRITE_UNIT_EXCEEDED.with_dnr());
    assert_eq!(fused(&mut queue, 0, &long, &long), exceeded);
    let mut alone = io(NvmOpcode::COMPARE, 0, 1);
    alone.set_fuse(Fuse::FIRST);
    let alone = queue.submit(alone, write(&[0; BLOCK]));
    assert!(!queue.is_done(alone));
    assert_eq!(queue.status(Sqe::flush(1)), Status::SUCCESS);
    assert_eq!(queue.wait(alone).cqe.status(), Status::ABORTED_MISSING_FUSED);
    let mut orphan = io(NvmOpcode::WRITE, 0, 1);
    orphan.set_fuse(Fuse::SECOND);
    assert_eq!(queue.exec(orphan, write(&[1; BLOCK])).cqe.status(), Status::ABORTED_MISSING_FUSED);
    check(&mut queue, 0, &[0; BLOCK]);
}

#[test]
fn deallocated_and_zeroed_blocks_read_zeros() {
    let world = World::served(14);
    let (_admin, mut queue) = ready(&world);
    queue.exec(io(NvmOpcode::WRITE, 0, 128), write(&pattern(128 * BLOCK, 3)));
    let range = |slba, blocks| DsmRange {
        context_attributes: U32::ZERO,
        length_blocks: U32::new(blocks),
        slba: U64::new(slba),
    };
    let dsm = |ranges: u16| DatasetManagement { ranges, attributes: DatasetManagement::DEALLOCATE }.sqe(1);
    let list = [range(0, 8), range(16, 8)];
    assert_eq!(queue.exec(dsm(2), write(list.as_bytes())).cqe.status(), Status::SUCCESS);
    // A host may describe a whole page although it has one range.
    let mut page = vec![0; 4096];
    page[..16].copy_from_slice(range(32, 8).as_bytes());
    assert_eq!(queue.exec(dsm(1), write(&page)).cqe.status(), Status::SUCCESS);
    let mut expected = pattern(128 * BLOCK, 3);
    for at in [0, 16, 32] {
        expected[at * BLOCK..(at + 8) * BLOCK].fill(0);
    }
    check(&mut queue, 0, &expected);
    for control in [NONE, IoControl::DEALLOCATE] {
        let zeroes = Sqe::io(NvmOpcode::WRITE_ZEROES, 1, 64, 64, control);
        assert_eq!(queue.status(zeroes), Status::SUCCESS);
    }
    expected[64 * BLOCK..].fill(0);
    check(&mut queue, 0, &expected);
    let beyond = [range(0, 1), range(8192, 1)];
    assert_eq!(
        queue.exec(dsm(2), write(beyond.as_bytes())).cqe.status(),
        Status::LBA_OUT_OF_RANGE.with_dnr()
    );
    // Fewer bytes than ranges.
    let short = queue.exec(dsm(3), write(list.as_bytes())).cqe.status();
    assert_eq!(short, Status::DATA_SGL_LENGTH_INVALID.with_dnr());
}

#[test]
fn copy_gathers_its_sources() {
    let world = World::served(15);
    let (_admin, mut queue) = ready(&world);
    let bytes = pattern(64 * BLOCK, 5);
    queue.exec(io(NvmOpcode::WRITE, 0, 64), write(&bytes));
    let range = |slba, nlb| CopyRange { slba: U64::new(slba), nlb: U16::new(nlb), ..CopyRange::default() };
    let list = [range(32, 31), range(0, 7)];
    let copy = Copy { ranges: 2, format: CopyFormat::FORMAT_0 }.sqe(1, 500, NONE);
    assert_eq!(queue.exec(copy, write(list.as_bytes())).cqe.status(), Status::SUCCESS);
    check(&mut queue, 500, &[&bytes[32 * BLOCK..], &bytes[..8 * BLOCK]].concat());
    let format = Copy { ranges: 2, format: CopyFormat::FORMAT_2 }.sqe(1, 500, NONE);
    assert_eq!(queue.exec(format, write(list.as_bytes())).cqe.status(), Status::INVALID_FIELD.with_dnr());
}

/// Reliability list, scenarios 99 and 101.
#[test]
fn wrong_lengths_ranges_and_namespaces_are_refused_one_by_one() {
    let world = World::served(16);
    let (_admin, mut queue) = ready(&world);
    let dnr = Status::with_dnr;
    let mut status = |sqe: Sqe, data| queue.exec(sqe, data).cqe.status();
    assert_eq!(status(io(NvmOpcode::READ, 8191, 2), read(1024)), dnr(Status::LBA_OUT_OF_RANGE));
    assert_eq!(status(io(NvmOpcode::READ, u64::MAX, 2), read(1024)), dnr(Status::LBA_OUT_OF_RANGE));
    assert_eq!(status(io(NvmOpcode::WRITE, 8192, 1), write(&[0; BLOCK])), dnr(Status::LBA_OUT_OF_RANGE));
    assert_eq!(status(io(NvmOpcode::READ, 0, 2), read(512)), dnr(Status::DATA_SGL_LENGTH_INVALID));
    assert_eq!(status(io(NvmOpcode::READ, 0, 2), none()), dnr(Status::DATA_SGL_LENGTH_INVALID));
    assert_eq!(status(io(NvmOpcode::WRITE, 0, 2), write(&[0; 512])), dnr(Status::DATA_SGL_LENGTH_INVALID));
    assert_eq!(status(io(NvmOpcode::WRITE, 0, 1), write(&[0; 1024])), dnr(Status::DATA_SGL_LENGTH_INVALID));
    assert_eq!(status(io(NvmOpcode::READ, 0, 2049), read(2049 * BLOCK)), dnr(Status::INVALID_FIELD));
    for nsid in [0, 2, 257, 0x8000_0000, u32::MAX - 1, NSID_ALL] {
        let sqe = Sqe::io(NvmOpcode::READ, nsid, 0, 1, NONE);
        assert_eq!(status(sqe, read(512)), dnr(Status::INVALID_NAMESPACE_OR_FORMAT), "{nsid:x}");
    }
    assert_eq!(status(io(NvmOpcode::WRITE_UNCORRECTABLE, 0, 1), none()), dnr(Status::INVALID_OPCODE));
    assert_eq!(status(Sqe { opcode: 0x7e, ..Sqe::flush(1) }, none()), dnr(Status::INVALID_OPCODE));
    assert_eq!(status(Sqe::flush(NSID_ALL), none()), Status::SUCCESS);
    assert_eq!(status(Sqe::flush(9), none()), dnr(Status::INVALID_NAMESPACE_OR_FORMAT));
    assert_eq!(SglDescriptor::transport(0).length_bytes.get(), 0);
}

#[test]
fn failures_of_the_device_have_their_status() {
    let world = World::served(17);
    let (_admin, mut queue) = ready(&world);
    let cases = [
        (IoStatus::ReadError { lba: 0 }, Status::UNRECOVERED_READ_ERROR),
        (IoStatus::WriteError { lba: 0 }, Status::WRITE_FAULT),
        (IoStatus::NoSpace, Status::CAPACITY_EXCEEDED.with_dnr()),
        (IoStatus::Gone, Status::INTERNAL_PATH_ERROR),
    ];
    for (fail, expected) in cases {
        world.desk("v0").fail.set(Some(fail));
        let got = queue.exec(io(NvmOpcode::READ, 0, 1), read(512));
        assert_eq!(got.cqe.status(), expected);
        assert_eq!(got.received_bytes, 0, "never zeros, never stale");
    }
    world.desk("v0").fail.set(None);
    check(&mut queue, 0, &[0; BLOCK]);
}

#[test]
fn slow_devices_answer_in_their_own_order() {
    let world = World::served(18);
    let (_admin, mut queue) = ready(&world);
    world.desk("v0").hold.set(true);
    let cids: Vec<u16> = (0..100)
        .map(|at| queue.submit(io(NvmOpcode::WRITE, at * 4, 4), write(&pattern(4 * BLOCK, at as u8))))
        .collect();
    let flush = queue.submit(Sqe::flush(NSID_ALL), none());
    for _ in 0..TURNS_MAX {
        if world.desk("v0").held() == 101 {
            break;
        }
        queue.pump();
    }
    assert_eq!(world.desk("v0").held(), 101);
    assert_eq!(world.controllers()[0].commands, 101);
    world.desk("v0").release_all();
    for cid in cids {
        assert_eq!(queue.wait(cid).cqe.status(), Status::SUCCESS);
    }
    assert_eq!(queue.wait(flush).cqe.status(), Status::SUCCESS);
    for at in 0..100 {
        check(&mut queue, at * 4, &pattern(4 * BLOCK, at as u8));
    }
    assert_eq!(world.controllers()[0].commands, 0);
}

/// Reliability list, scenario 106: more than the pool holds, from several queues at once.
#[test]
fn a_pool_that_is_too_small_slows_down_and_locks_nobody_up() {
    for seed in 0..2 {
        let world = World::served(20 + seed);
        world.sim.set_net_faults(quiet_network());
        let admin = world.admin(&host(1));
        let mut queues: Vec<Queue<'_>> = (1..=4).map(|qid| world.io(&host(1), &admin, qid)).collect();
        let mut open: Vec<(usize, u16)> = Vec::new();
        for round in 0..4 {
            for (at, queue) in queues.iter_mut().enumerate() {
                let lba = (at as u64 * 16 + round) % 3 * 2048;
                let long = io(NvmOpcode::READ, lba, 2048);
                open.push((at, queue.submit(long, read(2048 * BLOCK))));
                let bytes = pattern(2048 * BLOCK, round as u8);
                open.push((at, queue.submit(io(NvmOpcode::WRITE, lba, 2048), write(&bytes))));
                open.push((at, queue.submit(io(NvmOpcode::WRITE, 8000, 8), write(&[1; 8 * BLOCK]))));
            }
        }
        for _ in 0..TURNS_MAX {
            queues.iter_mut().for_each(Queue::pump);
            open.retain(|(at, cid)| !queues[*at].done.contains_key(cid));
            if open.is_empty() {
                break;
            }
        }
        assert!(open.is_empty(), "{} commands hang", open.len());
        for queue in &mut queues {
            for (_, completion) in std::mem::take(&mut queue.done) {
                let status = completion.cqe.status();
                assert!(matches!(status, Status::SUCCESS | Status::COMMAND_INTERRUPTED), "{status}");
            }
        }
        drop(queues);
        world.turns(100);
        let cores = world.cores.borrow();
        let core = &cores[0];
        let reserve = core.core.buffers.in_use();
        assert!(reserve <= 2, "{reserve} buffers stay in use");
        assert!(core.tasks.is_empty() && core.hungry.is_empty());
    }
}

#[test]
fn several_namespaces_and_queues_work_side_by_side() {
    let world = World::new(30);
    let mut setup = world.subsystem();
    setup.namespaces.insert(7, NamespaceSetup::new("v1"));
    world.set(setup).unwrap();
    let admin = world.admin(&host(1));
    let mut one = world.io(&host(1), &admin, 1);
    let mut two = world.io(&host(1), &admin, 2);
    let other = |opcode| Sqe::io(opcode, 7, 3, 1, NONE);
    two.exec(other(NvmOpcode::WRITE), write(&[9; BLOCK]));
    check(&mut one, 3, &[0; BLOCK]);
    assert_eq!(one.exec(other(NvmOpcode::READ), read(BLOCK)).data.unwrap().0, [9; BLOCK]);
    assert_eq!(one.status(Sqe::flush(NSID_ALL)), Status::SUCCESS);
}
