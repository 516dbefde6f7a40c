//! Reads, writes, compares: ranges, protection bits, residuals, errors of the device.

use reactor::buffer::{BufferPool, Sgl, SizeClass};
use smallvec::SmallVec;
use volume::bdev::{IoStatus, Op};

use super::*;
use crate::{Command, Context, NexusId, Step};

/// Every command that moves blocks: opcode, and the form of its CDB.
const READS: [u8; 4] = [0x08, 0x28, 0xa8, 0x88];
const WRITES: [u8; 7] = [0x2a, 0xaa, 0x8a, 0x2e, 0xae, 0x8e, 0x8b];
const VERIFIES: [u8; 3] = [0x2f, 0xaf, 0x8f];

/// A CDB of whatever length the opcode has.
fn cdb(opcode: u8, flags: u8, lba: u64, blocks: u32) -> Vec<u8> {
    match opcode >> 5 {
        0 => {
            let [_, a, b, c] = (lba as u32).to_be_bytes();
            vec![opcode, a & 0x1f, b, c, blocks as u8, 0]
        }
        1 => {
            let mut cdb = write_10(lba as u32, blocks as u16).to_vec();
            cdb[0] = opcode;
            cdb[1] = flags;
            cdb
        }
        5 => {
            let mut cdb = vec![opcode, flags];
            cdb.extend_from_slice(&(lba as u32).to_be_bytes());
            cdb.extend_from_slice(&blocks.to_be_bytes());
            cdb.extend_from_slice(&[0, 0]);
            cdb
        }
        _ => long(opcode, flags, lba, blocks).to_vec(),
    }
}

#[test]
fn what_is_written_is_read() {
    let mut bench = bench();
    for (index, opcode) in WRITES.into_iter().enumerate() {
        let payload = vec![index as u8 + 1; 1024];
        bench.disk.bytes.fill(0);
        good(&bench.run(1, &cdb(opcode, 0, 5, 2), &payload));
        for opcode in READS {
            assert_eq!(data(&bench.run(2, &cdb(opcode, 0, 5, 2), &[])), payload);
        }
    }
    good(&bench.run(1, &[0x0a, 0, 0, 9, 0, 0], &vec![9; 256 * 512]));
    assert_eq!(data(&bench.run(1, &[0x08, 0, 0, 9, 0, 0], &[])), vec![9; 256 * 512]);
}

#[test]
fn a_range_past_the_end_is_refused_whatever_its_length() {
    let mut bench = bench();
    let block = [0; 512];
    for opcode in READS.into_iter().chain(WRITES).chain(VERIFIES).chain([0x34, 0x90, 0x35, 0x91]) {
        for (lba, blocks) in [(2048, 1), (2047, 2), (2049, 0)] {
            if matches!(opcode, 0x08) && blocks == 0 {
                continue; // READ(6) has no zero length
            }
            let response = bench.run(
                1,
                &cdb(opcode, 0, lba, blocks),
                if WRITES.contains(&opcode) { &block } else { &[] },
            );
            refused(&response, OUT_OF_RANGE);
        }
        if opcode != 0x08 {
            good(&bench.run(1, &cdb(opcode, 0, 2048, 0), &[]));
        }
        if opcode >> 5 == 4 {
            for lba in [u64::MAX, 1 << 63] {
                refused(&bench.run(1, &cdb(opcode, 0, lba, 2), &[]), OUT_OF_RANGE);
            }
        }
    }
    // READ(6) and WRITE(6) reach no farther than 21 bits, and no byte moves for a refused range.
    assert!(bench.disk.log.iter().all(|op| matches!(op, Op::Flush)));
}

#[test]
fn protection_information_is_not_supported() {
    let mut bench = bench();
    for opcode in READS[1..].iter().chain(&WRITES).chain(&VERIFIES) {
        for protect in 1..8 {
            refused(&bench.run(1, &cdb(*opcode, protect << 5, 0, 1), &[0; 512]), INVALID_FIELD);
        }
    }
    for flags in [0x10, 0x08, 0x18] {
        good(&bench.run(1, &cdb(0x28, flags, 0, 1), &[]));
    }
}

#[test]
fn fua_reaches_the_device() {
    let mut bench = bench();
    for (flags, expected) in [(0x08, true), (0, false)] {
        good(&bench.run(1, &cdb(0x2a, flags, 0, 1), &[1; 512]));
        assert!(matches!(bench.disk.log.last(), Some(Op::Write { fua, .. }) if *fua == expected));
    }
}

#[test]
fn a_transfer_longer_than_the_limit_is_refused_and_takes_no_data() {
    let mut bench = Bench::new(info(512, 1 << 16));
    for opcode in [0x28, 0x88, 0x2a, 0x8a, 0x8b, 0x2e] {
        refused(&bench.run(1, &cdb(opcode, 0, 0, 16385), &[]), INVALID_FIELD);
    }
    assert_eq!(bench.unit.data_out_length(&cdb(0x8a, 0, 0, u32::MAX)), 0);
    assert_eq!(bench.unit.data_out_length(&cdb(0x8a, 0, 0, 16384)), 8 << 20);
}

#[test]
fn the_initiators_length_decides_what_moves_and_the_cdb_what_is_counted() {
    let mut bench = bench();
    // Reads: more room than data, less, a part of a block, none, and the wrong direction.
    for (expected, moved) in [(10_000, 512), (200, 512), (0, 0)] {
        let response = bench.run_expecting(1, &read_10(0, 1), &[], expected, true);
        assert_eq!((response.status, response.data_in_len), (Status::Good, 512));
        assert_eq!(response.data_in.len(), moved);
    }
    let response = bench.run_expecting(1, &read_10(0, 2), &[], 512, true);
    assert_eq!((response.data_in.len(), response.data_in_len), (512, 1024));
    let response = bench.run_expecting(1, &read_10(0, 1), &[7; 512], 512, false);
    assert_eq!((response.status, response.data_in.len()), (Status::Good, 0));
    // Writes: only what was announced is written, and no part of a block.
    let response = bench.run_expecting(1, &write_10(0, 2), &[1; 512], 512, false);
    assert_eq!((response.status, response.data_out_len), (Status::Good, 1024));
    assert_eq!(bench.disk.bytes[..1024], [[1; 512], [0; 512]].concat());
    sense(&bench.run_expecting(1, &long(0x8b, 0, 0, 1), &[2; 200], 200, false), 5, 0x0e, 3);
    good(&bench.run_expecting(1, &write_10(0, 1), &[], 0, false));
    good(&bench.run_expecting(1, &write_10(0, 1), &[3; 10_000], 10_000, false));
    assert_eq!(bench.disk.bytes[..1024], [[3; 512], [0; 512]].concat());
}

#[test]
fn a_write_that_ends_inside_a_block_leaves_the_rest_of_it_alone() {
    let mut bench = bench();
    bench.disk.bytes.fill(9);
    for (length, blocks) in [(200, 1), (512 + 7, 3), (1023, 2)] {
        let response = bench.run_expecting(1, &write_10(0, blocks), &vec![1; length], length as u32, false);
        assert_eq!((response.status, response.data_out_len), (Status::Good, u64::from(blocks) * 512));
        assert!(bench.disk.bytes[..length].iter().all(|byte| *byte == 1));
        assert!(bench.disk.bytes[length..].iter().all(|byte| *byte == 9));
    }
    // Somebody else was faster once: it is read again. Somebody else is always faster: it is given up.
    bench.disk.lose_swaps = 1;
    good(&bench.run_expecting(1, &write_10(8, 1), &[1; 5], 5, false));
    assert_eq!(bench.disk.bytes[8 * 512..8 * 512 + 6], [1, 1, 1, 1, 1, 9]);
    bench.disk.lose_swaps = u32::MAX;
    sense(&bench.run_expecting(1, &write_10(9, 1), &[1; 5], 5, false), 0xb, 0, 0);
    assert_eq!(bench.disk.bytes[9 * 512..9 * 512 + 6], [9; 6]);
}

#[test]
fn verify_compares_or_reads() {
    let mut bench = bench();
    bench.disk.bytes[512 * 3 + 77] = 5;
    for opcode in VERIFIES {
        let mut expected = vec![0; 1024];
        expected[77] = 5;
        good(&bench.run(1, &cdb(opcode, 0x02, 3, 2), &expected));
        expected[600] = 1;
        let response = bench.run(1, &cdb(opcode, 0x02, 3, 2), &expected);
        sense(&response, 0x0e, 0x1d, 0);
        assert_eq!(
            response.sense[..7],
            [0xf0, 0, 0x0e, 0, 0, 600_u16.to_be_bytes()[0], 600_u16.to_be_bytes()[1]]
        );
        good(&bench.run(1, &cdb(opcode, 0, 3, 2), &[]));
        for reserved in [0x04, 0x06] {
            refused(&bench.run(1, &cdb(opcode, reserved, 3, 2), &[]), INVALID_FIELD);
        }
    }
}

#[test]
fn a_long_verify_lets_the_core_go_now_and_then() {
    let mut bench = Bench::new(info(4096, 4096));
    good(&bench.run(1, &long(0x8f, 0, 0, 4096), &[]));
    assert_eq!(bench.disk.log.len(), 16, "16 MiB in steps of 1 MiB");
    assert_eq!(bench.retries, 4);
}

#[test]
fn write_and_verify_writes_through_and_then_looks() {
    let mut bench = bench();
    for (flags, last) in [(0x02, true), (0, false)] {
        good(&bench.run(1, &cdb(0x2e, flags, 1, 1), &[8; 512]));
        let [.., write, check] = bench.disk.log[..] else { panic!("two operations") };
        assert!(matches!(write, Op::Write { fua: true, .. }));
        assert_eq!(matches!(check, Op::Compare(_)), last);
    }
    assert_eq!(bench.disk.bytes[512..1024], [8; 512]);
}

#[test]
fn compare_and_write_decides_once() {
    // Reliability row G10: a mismatch writes nothing and says where.
    let mut bench = bench();
    let caw = |blocks: u8| {
        let mut cdb = long(0x89, 0, 0, 0);
        cdb[13] = blocks;
        cdb
    };
    let payload = [[0_u8; 512], [1; 512]].concat();
    good(&bench.run(1, &caw(1), &payload));
    assert_eq!(bench.disk.bytes[..512], [1; 512]);
    let response = bench.run(1, &caw(1), &payload);
    sense(&response, 0x0e, 0x1d, 0);
    assert_eq!(response.sense[3..7], [0; 4]);
    assert_eq!(bench.disk.bytes[..512], [1; 512]);
    good(&bench.run_expecting(1, &caw(0), &[], 0, false));
    // Too many blocks, and data of another length than the command's.
    refused(&bench.run(1, &caw(129), &[0; 129 * 1024]), INVALID_FIELD);
    for blocks in [0, 1, 3] {
        refused(&bench.run(1, &caw(blocks), &[0; 4 * 512]), INVALID_FIELD);
    }
}

#[test]
fn orwrite_sets_bits() {
    let mut bench = bench();
    bench.disk.bytes[..512].fill(0xa0);
    good(&bench.run(1, &long(0x8b, 0, 0, 1), &[0x0a; 512]));
    assert_eq!(bench.disk.bytes[..512], [0xaa; 512]);
}

#[test]
fn atomic_writes_are_as_long_as_the_device_says_or_do_not_exist() {
    let mut bench = bench();
    let atomic = |blocks: u16, boundary: u16| {
        let mut cdb = long(0x9c, 0, 0, 0);
        cdb[10..12].copy_from_slice(&boundary.to_be_bytes());
        cdb[12..14].copy_from_slice(&blocks.to_be_bytes());
        cdb
    };
    good(&bench.run(1, &atomic(256, 0), &vec![1; 256 * 512]));
    let extent = volume::bdev::Extent { lba: 0, length_blocks: 256 };
    assert_eq!(bench.disk.log.last(), Some(&Op::AtomicWrite { extent, fua: false }));
    good(&bench.run(1, &atomic(0, 0), &[]));
    refused(&bench.run(1, &atomic(257, 0), &vec![1; 257 * 512]), INVALID_FIELD);
    refused(&bench.run(1, &atomic(8, 4), &[1; 8 * 512]), INVALID_FIELD);
    sense(&bench.run(1, &atomic(8, 0), &[1; 4 * 512]), 5, 0x0e, 3);
    let mut plain = info(512, 2048);
    plain.atomic_write_blocks = 1;
    sense(&Bench::new(plain).run(1, &atomic(1, 0), &[1; 512]), 5, 0x20, 0);
}

#[test]
fn failures_of_the_device_say_what_and_where() {
    let mut bench = bench();
    let table = [
        (IoStatus::ReadError { lba: 9 }, (3, 0x11, 0)),
        (IoStatus::WriteError { lba: 9 }, (3, 0x0c, 0)),
        (IoStatus::NoSpace, (7, 0x27, 7)),
        (IoStatus::Aborted, (0xb, 0, 0)),
        (IoStatus::Gone, (4, 0x3e, 1)),
    ];
    for (status, expected) in table {
        for cdb in [read_10(9, 1), write_10(9, 1)] {
            bench.disk.fail_next = Some(status);
            let response = bench.run(1, &cdb, if cdb[0] == 0x2a { &[1; 512] } else { &[] });
            refused(&response, expected);
            assert!(response.data_in.is_empty(), "a failed read gives no bytes");
            if matches!(status, IoStatus::ReadError { .. } | IoStatus::WriteError { .. }) {
                assert_eq!(response.sense[..7], [0xf0, 0, 3, 0, 0, 0, 9]);
            }
        }
    }
}

#[test]
fn without_memory_the_command_comes_back_whole() {
    let mut bench = bench();
    let empty = BufferPool::heap(&[SizeClass { bytes: 4096, count: 0 }]);
    let context = Context { buffers: &empty, luns: &[] };
    let command = Command {
        task: 3,
        nexus: NexusId(1),
        cdb: SmallVec::from_slice(&long(0x88, 0, 0, 1)),
        data_out: Sgl::empty(),
        expected_data_transfer_length: 512,
        read: true,
        write: false,
    };
    let Step::Retry(command) = bench.unit.start(command, &context) else { panic!("there is no memory") };
    let context = Context { buffers: &bench.pool, luns: &[] };
    assert!(matches!(bench.unit.start(command, &context), Step::Io(io, _) if io.sgl.len() == 512));
}

#[test]
fn caches_are_flushed_whole_and_prefetching_does_nothing() {
    let mut bench = bench();
    for cdb in [cdb(0x35, 0, 0, 0), cdb(0x35, 2, 7, 9), cdb(0x91, 0, 0, 0)] {
        good(&bench.run(1, &cdb, &[]));
        assert_eq!(bench.disk.log.pop(), Some(Op::Flush));
    }
    bench.disk.fail_next = Some(IoStatus::WriteError { lba: 0 });
    sense(&bench.run(1, &cdb(0x35, 0, 0, 0), &[]), 3, 0x0c, 0);
    good(&bench.run(1, &cdb(0x34, 2, 0, 0), &[]));
    assert_eq!(bench.disk.log, [Op::Flush]);
}
