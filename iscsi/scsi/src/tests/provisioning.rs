//! WRITE SAME, UNMAP, GET LBA STATUS: limits, what is freed, what is zero (reliability row G9).

use volume::bdev::{Extent, IoStatus, Op};

use super::*;
use crate::limits::{UNMAP_BLOCKS_MAX, UNMAP_DESCRIPTORS_MAX, WRITE_SAME_BLOCKS_MAX};

const UNMAP_BIT: u8 = 0x08;
const ANCHOR_BIT: u8 = 0x10;
const NDOB_BIT: u8 = 0x01;

fn unmap_list(descriptors: &[(u64, u32)]) -> Vec<u8> {
    let bytes = descriptors.len() as u16 * 16;
    let mut list = (bytes + 6).to_be_bytes().to_vec();
    list.extend_from_slice(&bytes.to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    for (lba, blocks) in descriptors {
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&blocks.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
    }
    list
}

fn unmap_cdb(length: usize) -> [u8; 10] {
    let [high, low] = (length as u16).to_be_bytes();
    [0x42, 0, 0, 0, 0, 0, 0, high, low, 0]
}

fn unmap(bench: &mut Bench, descriptors: &[(u64, u32)]) -> Response {
    let list = unmap_list(descriptors);
    bench.run(1, &unmap_cdb(list.len()), &list)
}

#[test]
fn write_same_repeats_one_block() {
    let mut bench = Bench::new(info(512, 1 << 16));
    let block: Vec<u8> = (0..512).map(|byte| byte as u8).collect();
    good(&bench.run(1, &long(0x93, 0, 3, 5000), &block));
    assert!(bench.disk.bytes[3 * 512..5003 * 512].chunks(512).all(|written| written == block));
    assert_eq!(bench.disk.bytes[..3 * 512], [0; 3 * 512]);
    assert_eq!(bench.disk.bytes[5003 * 512..5004 * 512], [0; 512]);
    assert_eq!(bench.disk.log.len(), 3, "steps of at most 1 MiB");
    let mut short = write_10(0, 2);
    short[0] = 0x41;
    good(&bench.run(1, &short, &block));
    assert_eq!(bench.disk.bytes[512..1024], block[..]);
}

#[test]
fn write_same_of_zeros_frees_only_when_asked() {
    let mut bench = bench();
    for (flags, payload, freed) in [
        (0, &[0; 512][..], false),
        (UNMAP_BIT, &[0; 512], true),
        (UNMAP_BIT | NDOB_BIT, &[], true),
        (NDOB_BIT, &[], false),
    ] {
        bench.disk.bytes.fill(1);
        bench.disk.mapped.fill(true);
        let cdb = long(0x93, flags, 8, 16);
        let response = bench.run_expecting(1, &cdb, payload, payload.len() as u32, false);
        good(&response);
        assert!(bench.disk.bytes[8 * 512..24 * 512].iter().all(|byte| *byte == 0));
        assert_eq!(bench.disk.mapped[8], !freed);
        assert!(bench.disk.mapped[7] && bench.disk.mapped[24]);
    }
    // Data that is not zero is written, UNMAP or not.
    good(&bench.run(1, &long(0x93, UNMAP_BIT, 8, 1), &[5; 512]));
    assert_eq!(bench.disk.bytes[8 * 512..9 * 512], [5; 512]);
}

#[test]
fn write_same_keeps_its_limits() {
    let mut bench = Bench::new(info(512, 1 << 16));
    let zero = [0; 512];
    // 0 blocks mean "to the end", and the end must be within the limit.
    refused(&bench.run(1, &long(0x93, 0, 0, 0), &zero), INVALID_FIELD);
    let limit = WRITE_SAME_BLOCKS_MAX;
    refused(&bench.run(1, &long(0x93, 0, (1 << 16) - limit - 1, 0), &zero), INVALID_FIELD);
    good(&bench.run(1, &long(0x93, 0, (1 << 16) - limit, 0), &zero));
    refused(&bench.run(1, &long(0x93, 0, 0, limit as u32 + 1), &zero), INVALID_FIELD);
    for lba in [1 << 16, (1 << 16) + 1, 1 << 63, u64::MAX] {
        refused(&bench.run(1, &long(0x93, 0, lba, 0), &zero), OUT_OF_RANGE);
    }
    for flags in [ANCHOR_BIT, ANCHOR_BIT | UNMAP_BIT, 0x20] {
        refused(&bench.run(1, &long(0x93, flags, 0, 1), &zero), INVALID_FIELD);
    }
    for length in [256, 1024] {
        sense(&bench.run(1, &long(0x93, UNMAP_BIT, 0, 1), &zero.repeat(2)[..length]), 5, 0x0e, 3);
    }
}

#[test]
fn unmap_frees_every_descriptor_or_none() {
    let mut bench = bench();
    bench.disk.bytes.fill(1);
    bench.disk.mapped.fill(true);
    good(&unmap(&mut bench, &[(0, 8), (16, 0), (2040, 8)]));
    assert_eq!(bench.disk.log.len(), 2, "a descriptor without blocks does nothing");
    assert!(!bench.disk.mapped[7] && bench.disk.mapped[8] && !bench.disk.mapped[2047]);
    assert_eq!(bench.disk.log[0], Op::Unmap(Extent { lba: 0, length_blocks: 8 }), "in the order of the list");
    bench.disk.log.clear();
    refused(&unmap(&mut bench, &[(100, 1), (2048, 1)]), OUT_OF_RANGE);
    refused(&unmap(&mut bench, &[(u64::MAX, u32::MAX)]), OUT_OF_RANGE);
    assert_eq!(bench.disk.log, [], "the first descriptor was not carried out");
    good(&unmap(&mut bench, &[]));
    good(&unmap(&mut bench, &[(2048, 0)]));
    good(&bench.run_expecting(1, &unmap_cdb(0), &[], 0, false));
}

#[test]
fn unmap_counts_descriptors_and_blocks() {
    let mut bench = Bench::new(info(512, UNMAP_BLOCKS_MAX + 8));
    good(&unmap(&mut bench, &[(0, UNMAP_BLOCKS_MAX as u32)]));
    sense(&unmap(&mut bench, &[(0, UNMAP_BLOCKS_MAX as u32), (0, 1)]), 5, 0x26, 0);
    let many = vec![(0, 1); UNMAP_DESCRIPTORS_MAX as usize + 1];
    good(&unmap(&mut bench, &many[1..]));
    sense(&unmap(&mut bench, &many), 5, 0x26, 0);
    // Lists that are cut, too long, or not there.
    let list = unmap_list(&[(0, 1), (1, 1)]);
    for length in [1, 7, 8, 39] {
        let response = bench.run_expecting(1, &unmap_cdb(length), &list[..length], length as u32, false);
        sense(&response, 5, 0x1a, 0);
    }
    sense(&bench.run_expecting(1, &unmap_cdb(40), &list[..8], 8, false), 5, 0x0e, 3);
    sense(&bench.run(1, &unmap_cdb(0xffff), &vec![0; 0xffff]), 5, 0x1a, 0);
    let mut anchored = unmap_cdb(list.len());
    anchored[1] = 1;
    refused(&bench.run(1, &anchored, &list), INVALID_FIELD);
}

#[test]
fn a_thick_device_has_no_unmap() {
    let mut thick = info(512, 2048);
    thick.thin = false;
    let mut bench = Bench::new(thick);
    sense(&unmap(&mut bench, &[(0, 1)]), 5, 0x20, 0);
    refused(&bench.run(1, &long(0x93, UNMAP_BIT, 0, 1), &[0; 512]), INVALID_FIELD);
    assert_eq!(data(&bench.run(1, &[0x12, 1, 0xb2, 0, 255, 0], &[])), [0, 0xb2, 0, 4, 0, 0, 0, 0]);
    assert_eq!(data(&bench.run(1, &long(0x9e, 0x10, 0, 32), &[]))[14], 0);
}

#[test]
fn lba_status_lists_runs_from_the_block_asked_for() {
    let mut bench = bench();
    bench.disk.mapped[10..20].fill(true);
    let status = |lba: u64, room: u32| long(0x9e, 0x12, lba, room);
    let reply = data(&bench.run(1, &status(5, 8 + 3 * 16), &[]));
    let run = |index: usize| {
        let at = 8 + 16 * index;
        let number = |from: usize, to: usize| {
            reply[from..to].iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte))
        };
        (number(at, at + 8), number(at + 8, at + 12), reply[at + 12])
    };
    assert_eq!([run(0), run(1), run(2)], [(5, 5, 1), (10, 10, 0), (20, 2028, 1)]);
    assert_eq!(reply[..4], (4 + 3 * 16_u32).to_be_bytes());
    for (room, length) in [(0, 0), (4, 4), (24, 24), (40, 40)] {
        assert_eq!(data(&bench.run(1, &status(0, room), &[])).len(), length);
    }
    for lba in [2048, 2049, 1 << 63, u64::MAX] {
        refused(&bench.run(1, &status(lba, 24), &[]), OUT_OF_RANGE);
    }
    bench.disk.fail_next = Some(IoStatus::ReadError { lba: 0 });
    sense(&bench.run(1, &status(0, 24), &[]), 3, 0x11, 0);
}

#[test]
fn a_full_unmap_list_is_one_turns_work() {
    let mut bench = bench();
    let all: Vec<(u64, u32)> = (0..256).map(|lba| (lba, 1)).collect();
    good(&unmap(&mut bench, &all));
    assert_eq!((bench.disk.log.len(), bench.retries), (256, 0));
}
