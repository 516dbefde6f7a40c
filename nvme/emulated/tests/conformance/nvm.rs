//! The I/O commands (NVM 3.3).

use nvme_spec::nvm::{DatasetManagement, DsmRange, IoControl};
use nvme_spec::{NSID_ALL, NvmOpcode, Sqe, Status};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use crate::rig::{Rig, config, pattern};

pub fn io(opcode: NvmOpcode, nsid: u32, first: u64, count: u32) -> Sqe {
    Sqe::io(opcode, nsid, first, count, IoControl::NONE)
}

#[test]
fn what_is_written_is_read_back_in_both_block_sizes() {
    let mut rig = Rig::with_io(config(), 8);
    for (nsid, block_bytes) in [(1, 512), (2, 4096)] {
        for (first, count) in [(0, 1), (7, 8192 / block_bytes as u32), (100, 1)] {
            let length = count as usize * block_bytes;
            let bytes = pattern(first + nsid, length);
            rig.fill(0, &bytes);
            let write = rig.with_data(io(NvmOpcode::WRITE, nsid as u32, first, count), 0);
            assert_eq!(rig.command(1, write).status(), Status::SUCCESS);
            let read = rig.with_data(io(NvmOpcode::READ, nsid as u32, first, count), 0x4000);
            assert_eq!(rig.command(1, read).status(), Status::SUCCESS);
            assert_eq!(rig.seen(0x4000, length), bytes);
            assert_eq!(rig.controller.peek(nsid as u32, first, count.into()), bytes);
        }
    }
    assert_eq!(rig.controller.iommu_fault_count(), 0);
}

#[test]
fn blocks_that_were_never_written_read_zeros() {
    let mut rig = Rig::with_io(config(), 8);
    rig.fill(0, &[0xff; 8192]);
    let read = rig.with_data(io(NvmOpcode::READ, 2, 9, 2), 0);
    assert!(rig.status_of(1, read).is_success());
    assert_eq!(rig.seen(0, 8192), [0; 8192]);
    assert_eq!(rig.controller.allocated_bytes(2), Ok(0));
}

#[test]
fn a_range_ends_in_the_namespace() {
    let mut rig = Rig::with_io(config(), 8);
    for opcode in
        [NvmOpcode::READ, NvmOpcode::WRITE, NvmOpcode::COMPARE, NvmOpcode::WRITE_ZEROES, NvmOpcode::VERIFY]
    {
        let last = rig.with_data(io(opcode, 2, 4095, 1), 0);
        assert!(rig.status_of(1, last).is_success());
        for (first, count) in [(4095, 2), (4096, 1), (u64::MAX, 1), (u64::MAX - 1, 65536)] {
            let outside = rig.with_data(io(opcode, 2, first, count), 0);
            let status = rig.command(1, outside).status();
            assert_eq!(status.code(), Status::LBA_OUT_OF_RANGE);
            assert!(status.dnr());
        }
    }
}

#[test]
fn a_namespace_must_be_there_and_attached() {
    let mut rig = Rig::with_io(config(), 8);
    for nsid in [0, 3, 16, 17, NSID_ALL] {
        let read = rig.with_data(io(NvmOpcode::READ, nsid, 0, 1), 0);
        assert_eq!(rig.status_of(1, read), Status::INVALID_NAMESPACE_OR_FORMAT);
    }
    rig.controller.set_attached(2, false).expect("it is there");
    let read = rig.with_data(io(NvmOpcode::READ, 2, 0, 1), 0);
    assert_eq!(rig.status_of(1, read), Status::INVALID_NAMESPACE_OR_FORMAT);
    assert_eq!(rig.status_of(1, Sqe::flush(2)), Status::INVALID_NAMESPACE_OR_FORMAT);
    assert_eq!(rig.status_of(1, Sqe::flush(NSID_ALL)), Status::SUCCESS);
}

#[test]
fn a_transfer_is_at_most_what_mdts_says() {
    let mut rig = Rig::with_io(nvme_emulated::ControllerConfig { mdts: 1, ..config() }, 8);
    for opcode in [NvmOpcode::READ, NvmOpcode::WRITE, NvmOpcode::COMPARE] {
        let fits = rig.with_data(io(opcode, 1, 0, 16), 0);
        assert!(rig.status_of(1, fits).is_success());
        let more = rig.with_data(io(opcode, 1, 0, 17), 0);
        assert_eq!(rig.status_of(1, more), Status::INVALID_FIELD);
    }
    // Commands without data have no such limit.
    assert!(rig.status_of(1, io(NvmOpcode::VERIFY, 1, 0, 1000)).is_success());
    assert!(rig.status_of(1, io(NvmOpcode::WRITE_ZEROES, 1, 0, 1000)).is_success());
}

#[test]
fn flush_and_fua_empty_the_cache_as_far_as_they_promise() {
    let mut rig = Rig::with_io(config(), 8);
    let write = rig.with_data(io(NvmOpcode::WRITE, 1, 0, 1), 0);
    assert!(rig.status_of(1, write).is_success());
    assert!(rig.status_of(1, rig_write_two(&rig)).is_success());
    assert_eq!((rig.controller.unflushed(1), rig.controller.unflushed(2)), (Ok(1), Ok(1)));
    assert!(rig.status_of(1, Sqe::flush(1)).is_success());
    assert_eq!((rig.controller.unflushed(1), rig.controller.unflushed(2)), (Ok(0), Ok(1)));
    assert!(rig.status_of(1, Sqe::flush(NSID_ALL)).is_success());
    assert_eq!(rig.controller.unflushed(2), Ok(0));
    let durable = Sqe::io(NvmOpcode::WRITE, 1, 0, 1, IoControl::FORCE_UNIT_ACCESS);
    let durable = rig.with_data(durable, 0);
    assert!(rig.status_of(1, durable).is_success());
    assert_eq!(rig.controller.unflushed(1), Ok(0));
}

fn rig_write_two(rig: &Rig) -> Sqe {
    rig.with_data(io(NvmOpcode::WRITE, 2, 0, 1), 0)
}

#[test]
fn write_zeroes_keeps_or_gives_back_space() {
    let mut rig = Rig::with_io(config(), 8);
    rig.fill(0, &[0xaa; 8192]);
    let write = rig.with_data(io(NvmOpcode::WRITE, 1, 0, 16), 0);
    assert!(rig.status_of(1, write).is_success());
    assert!(rig.status_of(1, io(NvmOpcode::WRITE_ZEROES, 1, 2, 3)).is_success());
    assert_eq!(rig.controller.allocated_bytes(1), Ok(8192));
    let deallocate = Sqe::io(NvmOpcode::WRITE_ZEROES, 1, 8, 8, IoControl::DEALLOCATE);
    assert!(rig.status_of(1, deallocate).is_success());
    assert_eq!(rig.controller.allocated_bytes(1), Ok(4096));
    let seen = rig.controller.peek(1, 0, 16);
    let expected: Vec<u8> = (0..16)
        .flat_map(|block| [if (2..5).contains(&block) || block > 7 { 0 } else { 0xaa }; 512])
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn dataset_management_deallocates_all_its_ranges_or_none() {
    let mut rig = Rig::with_io(config(), 8);
    rig.fill(0, &[0xaa; 8192]);
    let write = rig.with_data(io(NvmOpcode::WRITE, 1, 0, 16), 0);
    assert!(rig.status_of(1, write).is_success());
    let range = |slba, blocks| DsmRange {
        length_blocks: U32::new(blocks),
        slba: U64::new(slba),
        ..DsmRange::default()
    };
    let command = |attributes, ranges| DatasetManagement { ranges, attributes }.sqe(1);
    rig.fill(0, [range(1, 2), range(32767, 2)].as_bytes());
    let bad = rig.with_data(command(DatasetManagement::DEALLOCATE, 2), 0);
    assert_eq!(rig.status_of(1, bad), Status::LBA_OUT_OF_RANGE);
    assert_eq!(rig.controller.allocated_bytes(1), Ok(8192));
    rig.fill(0, [range(1, 2), range(5, 0), range(8, 4)].as_bytes());
    let hint = rig.with_data(command(DatasetManagement::INTEGRAL_READ, 3), 0);
    assert!(rig.status_of(1, hint).is_success());
    assert_eq!(rig.controller.allocated_bytes(1), Ok(8192), "a hint changes nothing");
    let good = rig.with_data(command(DatasetManagement::DEALLOCATE, 3), 0);
    assert!(rig.status_of(1, good).is_success());
    assert_eq!(rig.controller.allocated_bytes(1), Ok(10 * 512));
    assert_eq!(rig.controller.peek(1, 1, 2), [0; 1024]);
}

#[test]
fn compare_tells_equal_from_different() {
    let mut rig = Rig::with_io(config(), 8);
    let bytes = pattern(1, 8192);
    rig.fill(0, &bytes);
    rig.controller.poke(2, 3, &bytes);
    let compare = rig.with_data(io(NvmOpcode::COMPARE, 2, 3, 2), 0);
    assert!(rig.status_of(1, compare).is_success());
    rig.fill(8191, &[!bytes[8191]]);
    assert_eq!(rig.status_of(1, compare), Status::COMPARE_FAILURE);
}

#[test]
fn what_is_not_offered_is_an_invalid_opcode() {
    let plain = nvme_emulated::ControllerConfig {
        compare: false,
        write_zeroes: false,
        dataset_management: false,
        verify: false,
        ..config()
    };
    let mut rig = Rig::with_io(plain, 8);
    let offered = [NvmOpcode::FLUSH.0, NvmOpcode::READ.0, NvmOpcode::WRITE.0];
    for opcode in (0..=255).filter(|opcode| !offered.contains(opcode)) {
        let sqe = rig.with_data(Sqe { opcode, ..Sqe::flush(1) }, 0);
        assert_eq!(rig.status_of(1, sqe), Status::INVALID_OPCODE, "{opcode:#x}");
    }
    assert!(rig.status_of(1, Sqe::flush(1)).is_success());
}
