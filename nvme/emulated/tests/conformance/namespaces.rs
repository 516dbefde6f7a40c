//! Formats, fused commands, media errors, and namespaces that come and go.

use nvme_emulated::{ConfigError, ControllerConfig, Format, NamespaceConfig, NamespaceError};
use nvme_spec::admin::{FormatNvm, Identify};
use nvme_spec::identify::{Cns, IdentifyNamespace};
use nvme_spec::nvm::IoControl;
use nvme_spec::sqe::Fuse;
use nvme_spec::{NSID_ALL, NvmOpcode, Sqe, Status};
use zerocopy::FromBytes;

use crate::nvm::io;
use crate::rig::{Rig, config, pattern};

fn describe(rig: &mut Rig, nsid: u32) -> IdentifyNamespace {
    let command = Identify { cns: Cns::NAMESPACE, nsid, ..Identify::default() };
    let sqe = rig.with_data(command.sqe(), 0);
    rig.admin(sqe);
    IdentifyNamespace::read_from_bytes(&rig.seen(0, 4096)).expect("4096 bytes")
}

#[test]
fn a_format_changes_the_blocks_and_clears_them() {
    let mut rig = Rig::with_io(config(), 8);
    rig.controller.poke(1, 0, &[7; 512]);
    let format = FormatNvm { lbaf: 1, nsid: 1, ..FormatNvm::default() };
    rig.admin(format.sqe());
    let data = describe(&mut rig, 1);
    assert_eq!((data.block_bytes(), data.nsze_blocks.get(), data.nuse_blocks.get()), (Some(4096), 4096, 0));
    let read = rig.with_data(io(NvmOpcode::READ, 1, 4095, 1), 0);
    assert!(rig.status_of(1, read).is_success());
    let refused = [
        (FormatNvm { lbaf: 4, ..format }, Status::INVALID_FORMAT),
        (FormatNvm { lbaf: 0x31, ..format }, Status::INVALID_FORMAT),
        (FormatNvm { protection: 1, ..format }, Status::INVALID_FORMAT),
        (FormatNvm { secure_erase: 2, ..format }, Status::INVALID_FORMAT),
        (FormatNvm { nsid: 9, ..format }, Status::INVALID_NAMESPACE_OR_FORMAT),
    ];
    for (command, status) in refused {
        assert_eq!(rig.status_of(0, command.sqe()), status, "{command:?}");
    }
    rig.admin(FormatNvm { lbaf: 0, nsid: NSID_ALL, ..format }.sqe());
    assert_eq!(describe(&mut rig, 2).block_bytes(), Some(512));
}

#[test]
fn a_format_with_metadata_is_described_and_not_served() {
    let mut rig = Rig::with_io(config(), 8);
    for (lbaf, extended, flbas, metadata) in [(2, false, 0x02, 8), (3, true, 0x13, 64)] {
        rig.admin(FormatNvm { lbaf, extended, nsid: 2, ..FormatNvm::default() }.sqe());
        let data = describe(&mut rig, 2);
        assert_eq!((data.flbas, data.lbaf[usize::from(lbaf)].metadata_bytes.get()), (flbas, metadata));
        for opcode in [NvmOpcode::READ, NvmOpcode::WRITE, NvmOpcode::COMPARE, NvmOpcode::VERIFY] {
            let sqe = rig.with_data(io(opcode, 2, 0, 1), 0);
            assert_eq!(rig.status_of(1, sqe), Status::INVALID_NAMESPACE_OR_FORMAT);
        }
    }
}

/// Both commands of a fused operation over `blocks` blocks from block 0 of namespace 1; the data to compare with is at 0,
/// that to write at 64 KiB.
fn fused(rig: &Rig, blocks: u32) -> [Sqe; 2] {
    let mut compare = rig.with_data(io(NvmOpcode::COMPARE, 1, 0, blocks), 0);
    let mut write = rig.with_data(io(NvmOpcode::WRITE, 1, 0, blocks), 0x1_0000);
    compare.set_fuse(Fuse::FIRST);
    write.set_fuse(Fuse::SECOND);
    [compare, write]
}

fn submit_all(rig: &mut Rig, commands: &[Sqe]) -> Vec<Status> {
    for sqe in commands {
        rig.pair(1).put(*sqe);
    }
    rig.ring_tail(1);
    rig.step();
    commands.iter().map(|_| rig.take(1).expect("completed").status().code()).collect()
}

#[test]
fn compare_and_write_writes_only_what_compared_equal() {
    let mut rig = Rig::with_io(config(), 8);
    let (old, new) = (pattern(1, 1024), pattern(2, 1024));
    rig.controller.poke(1, 0, &old);
    rig.fill(0, &old);
    rig.fill(0x1_0000, &new);
    let commands = fused(&rig, 2);
    assert_eq!(submit_all(&mut rig, &commands), [Status::SUCCESS, Status::SUCCESS]);
    assert_eq!(rig.controller.peek(1, 0, 2), new);
    let again = submit_all(&mut rig, &commands);
    assert_eq!(again, [Status::COMPARE_FAILURE, Status::ABORTED_FAILED_FUSED]);
    let too_long = fused(&rig, 9);
    let refused = submit_all(&mut rig, &too_long);
    assert_eq!(refused, [Status::ATOMIC_WRITE_UNIT_EXCEEDED, Status::ABORTED_FAILED_FUSED]);
    let [compare, mut write] = commands;
    write.set_slba(1);
    let apart = submit_all(&mut rig, &[compare, write]);
    assert_eq!(apart, [Status::INVALID_FIELD, Status::ABORTED_FAILED_FUSED]);
}

#[test]
fn half_a_fused_operation_is_missing_the_other() {
    let mut rig = Rig::with_io(config(), 8);
    let [compare, write] = fused(&rig, 1);
    assert_eq!(submit_all(&mut rig, &[compare]), [Status::ABORTED_MISSING_FUSED]);
    assert_eq!(submit_all(&mut rig, &[write]), [Status::ABORTED_MISSING_FUSED]);
    let other = submit_all(&mut rig, &[compare, Sqe::flush(1)]);
    assert_eq!(other, [Status::ABORTED_MISSING_FUSED, Status::SUCCESS]);
    let twice = submit_all(&mut rig, &[compare, compare, write]);
    assert_eq!(twice[0], Status::ABORTED_MISSING_FUSED);
    let mut neither = compare;
    neither.set_fuse(Fuse(0b11));
    assert_eq!(submit_all(&mut rig, &[neither]), [Status::INVALID_FIELD]);
    let mut rig = Rig::with_io(ControllerConfig { fused: false, ..config() }, 8);
    assert_eq!(submit_all(&mut rig, &[compare, write]), [Status::INVALID_FIELD; 2]);
}

#[test]
fn spoiled_blocks_fail_until_they_are_written_or_mended() {
    let mut rig = Rig::with_io(config(), 8);
    rig.controller.spoil_reads(1, 4..6).expect("it is there");
    rig.controller.spoil_writes(1, 100..101).expect("it is there");
    let status = |rig: &mut Rig, opcode, first, count| {
        let sqe = rig.with_data(io(opcode, 1, first, count), 0);
        rig.status_of(1, sqe)
    };
    for opcode in [NvmOpcode::READ, NvmOpcode::COMPARE, NvmOpcode::VERIFY] {
        assert_eq!(status(&mut rig, opcode, 0, 8), Status::UNRECOVERED_READ_ERROR);
        assert_eq!(status(&mut rig, opcode, 0, 4), Status::SUCCESS);
    }
    for opcode in [NvmOpcode::WRITE, NvmOpcode::WRITE_ZEROES] {
        assert_eq!(status(&mut rig, opcode, 99, 2), Status::WRITE_FAULT);
    }
    assert_eq!(status(&mut rig, NvmOpcode::WRITE, 4, 1), Status::SUCCESS);
    assert_eq!(status(&mut rig, NvmOpcode::READ, 4, 1), Status::SUCCESS);
    assert_eq!(status(&mut rig, NvmOpcode::READ, 5, 1), Status::UNRECOVERED_READ_ERROR);
    rig.controller.mend(1).expect("it is there");
    assert_eq!(status(&mut rig, NvmOpcode::READ, 0, 8), Status::SUCCESS);
    assert_eq!(status(&mut rig, NvmOpcode::WRITE, 99, 2), Status::SUCCESS);
}

#[test]
fn a_read_with_fua_comes_from_the_medium() {
    let mut rig = Rig::with_io(config(), 8);
    let write = rig.with_data(io(NvmOpcode::WRITE, 1, 0, 1), 0);
    assert!(rig.status_of(1, write).is_success());
    let read = Sqe::io(NvmOpcode::READ, 1, 0, 1, IoControl::FORCE_UNIT_ACCESS);
    let read = rig.with_data(read, 0);
    assert!(rig.status_of(1, read).is_success());
    assert_eq!(rig.controller.unflushed(1), Ok(0));
}

#[test]
fn namespaces_come_grow_shrink_and_go() {
    let mut rig = Rig::with_io(config(), 8);
    let third = NamespaceConfig::new(3, 8, Format::Block4096);
    rig.controller.create_namespace(&third).expect("3 is free");
    let twice = rig.controller.create_namespace(&third);
    assert_eq!(twice, Err(NamespaceError::Config(ConfigError::NamespaceIdentifier { nsid: 3 })));
    let far = rig.controller.create_namespace(&NamespaceConfig { nsid: 17, ..third });
    assert_eq!(far, Err(NamespaceError::Config(ConfigError::NamespaceIdentifier { nsid: 17 })));
    let write = rig.with_data(io(NvmOpcode::WRITE, 3, 7, 1), 0);
    assert!(rig.status_of(1, write).is_success());
    rig.controller.resize_namespace(3, 4).expect("it is there");
    assert_eq!(rig.status_of(1, write), Status::LBA_OUT_OF_RANGE);
    assert_eq!(rig.controller.allocated_bytes(3), Ok(0), "what is cut off is gone");
    rig.controller.resize_namespace(3, 8).expect("it is there");
    assert!(rig.status_of(1, write).is_success());
    let empty = rig.controller.resize_namespace(3, 0);
    assert_eq!(empty, Err(NamespaceError::Config(ConfigError::NamespaceLength { nsid: 3 })));
    rig.controller.delete_namespace(3).expect("it is there");
    assert_eq!(rig.controller.delete_namespace(3), Err(NamespaceError::Unknown { nsid: 3 }));
    assert_eq!(rig.status_of(1, write), Status::INVALID_NAMESPACE_OR_FORMAT);
}
