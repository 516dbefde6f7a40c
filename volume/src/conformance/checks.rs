//! One behaviour each.

use super::Rig;
use crate::bdev::{IoStatus, Op};
use crate::limits::{MAX_COMPARE_AND_WRITE_BYTES, MAX_TRANSFER_BYTES, MEMORY_CHUNK_BYTES};

type Check = (&'static str, fn(&mut Rig));

pub(super) const ALL: &[Check] = &[
    ("the device describes itself", describes_itself),
    ("a fresh device reads zeros", fresh_reads_zeros),
    ("writes at the edges", edges),
    ("the longest transfer", longest_transfer),
    ("operations on nothing", nothing),
    ("unmap", unmap),
    ("write zeroes", write_zeroes),
    ("compare", compare),
    ("compare and write", compare_and_write),
    ("compare and write: races", compare_and_write_races),
    ("or write", or_write),
    ("overlapping writes keep their order", overlapping_writes),
    ("readers behind a writer", readers_behind_a_writer),
    ("what is shown stays", what_is_shown_stays),
    ("a checksum is that of the blocks", a_checksum_is_that_of_the_blocks),
    ("atomic write", atomic_write),
    ("atomic writes among others", atomic_writes_among_others),
    ("flush", flush),
    ("many at once", many_at_once),
    ("block status", block_status),
];

fn describes_itself(rig: &mut Rig) {
    let info = rig.subject.channel.info();
    assert!(matches!(info.logical_block_bytes, 512 | 4096));
    assert!(info.physical_block_bytes.is_multiple_of(info.logical_block_bytes));
    assert!(info.unmap_granularity_blocks >= 1 && info.write_unit_blocks >= 1);
    assert!(info.atomic_write_blocks >= info.write_unit_blocks);
    assert!(!info.uuid.is_nil());
    assert!(rig.subject.channel.answers_compare(), "what protocols talk to answers every operation");
}

fn fresh_reads_zeros(rig: &mut Rig) {
    let zeros = vec![0; 3 * rig.block_bytes as usize];
    for lba in [0, 1, rig.length_blocks / 2, rig.length_blocks - 3] {
        rig.expect(lba, &zeros);
    }
}

fn edges(rig: &mut Rig) {
    let boundary = rig.blocks(MEMORY_CHUNK_BYTES as u64);
    let cases = [(0, 1), (rig.length_blocks - 1, 1), (boundary - 1, 2), (boundary - 3, 7), (17, 19)];
    for (salt, (lba, length)) in (1..).zip(cases) {
        let data = rig.pattern(lba, length, salt);
        rig.write(lba, &data);
        rig.expect(lba, &data);
    }
    // The neighbours of each are still zeros.
    let zeros = vec![0; rig.block_bytes as usize];
    for lba in [1, rig.length_blocks - 2, boundary - 4, boundary + 4, 16, 36] {
        rig.expect(lba, &zeros);
    }
    let first = rig.pattern(0, 1, 1);
    rig.expect(0, &first);
}

fn longest_transfer(rig: &mut Rig) {
    let length = rig.blocks(MAX_TRANSFER_BYTES);
    let data = rig.pattern(5, length, 1);
    rig.write(5, &data);
    rig.expect(5, &data);
    let extent = rig.extent(5, length);
    rig.good(Op::Compare(extent), &data);
}

fn nothing(rig: &mut Rig) {
    for lba in [0, rig.length_blocks] {
        let extent = rig.extent(lba, 0);
        for op in [
            Op::Read(extent),
            Op::Write { extent, fua: true },
            Op::AtomicWrite { extent, fua: true },
            Op::Unmap(extent),
            Op::WriteZeroes { extent, unmap: true, fua: true },
            Op::Compare(extent),
            Op::CompareAndWrite { extent, fua: false },
            Op::OrWrite { extent, fua: false },
        ] {
            rig.good(op, &[]);
        }
    }
}

fn unmap(rig: &mut Rig) {
    let granule = u64::from(rig.subject.channel.info().unmap_granularity_blocks);
    let span = 40 * granule;
    // Whole granules, parts of one, parts of two, and many with ragged ends.
    let cuts =
        [(granule, granule), (0, 1), (granule - 1, 2), (1, 3 * granule), (granule + 1, 30 * granule - 3)];
    for (lba, length) in cuts {
        let mut expected = rig.pattern(0, span, lba);
        rig.write(0, &expected);
        let extent = rig.extent(lba, length);
        rig.good(Op::Unmap(extent), &[]);
        let bytes = |blocks: u64| (blocks * rig.block_bytes) as usize;
        expected[bytes(lba)..bytes(lba + length)].fill(0);
        rig.expect(0, &expected);
    }
    // What was unmapped takes data again.
    let data = rig.pattern(0, span, 99);
    rig.write(0, &data);
    rig.expect(0, &data);
    let whole = rig.extent(0, rig.length_blocks);
    rig.good(Op::Unmap(whole), &[]);
    rig.expect(0, &vec![0; data.len()]);
}

fn write_zeroes(rig: &mut Rig) {
    for (unmap, fua) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut expected = rig.pattern(0, 600, 3);
        rig.write(0, &expected);
        let extent = rig.extent(3, 590);
        rig.good(Op::WriteZeroes { extent, unmap, fua }, &[]);
        let bytes = |blocks: u64| (blocks * rig.block_bytes) as usize;
        expected[bytes(3)..bytes(593)].fill(0);
        rig.expect(0, &expected);
    }
}

fn compare(rig: &mut Rig) {
    let length = 30;
    let data = rig.pattern(9, length, 1);
    rig.write(9, &data);
    let extent = rig.extent(9, length);
    let done = rig.good(Op::Compare(extent), &data);
    assert_eq!(done.sgl.to_vec(), data, "a compare leaves its payload alone");
    for offset in [0, 1, 511, 512, 4095, 4096, data.len() / 2 + 1, data.len() - 1] {
        let mut other = data.clone();
        other[offset] ^= 0x80;
        // A later difference does not hide the first.
        let last = other.len() - 1;
        other[last] ^= if offset == last { 0 } else { 1 };
        let status = rig.io(Op::Compare(extent), &other).status;
        assert_eq!(status, IoStatus::Miscompare { offset_bytes: offset as u64 });
    }
    // Blocks that were never written compare as zeros.
    let hole = rig.extent(rig.length_blocks - 2, 2);
    let mut zeros = vec![0; 2 * rig.block_bytes as usize];
    rig.good(Op::Compare(hole), &zeros);
    zeros[rig.block_bytes as usize + 3] = 1;
    let status = rig.io(Op::Compare(hole), &zeros).status;
    assert_eq!(status, IoStatus::Miscompare { offset_bytes: rig.block_bytes + 3 });
}

fn compare_and_write(rig: &mut Rig) {
    let longest = rig.blocks(MAX_COMPARE_AND_WRITE_BYTES);
    for length in [1, 7, 100, longest] {
        let extent = rig.extent(11, length);
        let old = rig.pattern(11, length, 1);
        let new = rig.pattern(11, length, 2);
        rig.write(11, &old);
        let op = Op::CompareAndWrite { extent, fua: length == 7 };
        for offset in [0, old.len() / 2, old.len() - 1] {
            let mut payload = [&old[..], &new[..]].concat();
            payload[offset] ^= 1;
            let status = rig.io(op, &payload).status;
            assert_eq!(status, IoStatus::Miscompare { offset_bytes: offset as u64 });
            rig.expect(11, &old);
        }
        let payload = [&old[..], &new[..]].concat();
        rig.good(op, &payload);
        rig.expect(11, &new);
        let status = rig.io(op, &payload).status;
        let offset = old.iter().zip(&new).position(|(old, new)| old != new).expect("they differ");
        assert_eq!(status, IoStatus::Miscompare { offset_bytes: offset as u64 }, "it has been changed");
    }
}

/// Many try to take each step of a counter at once: exactly one gets each.
fn compare_and_write_races(rig: &mut Rig) {
    let extent = rig.extent(4, 2);
    let bytes = 2 * rig.block_bytes as usize;
    let value = |step: u8| vec![step; bytes];
    for step in 0..6 {
        let payload = [value(step), value(step + 1)].concat();
        let op = Op::CompareAndWrite { extent, fua: false };
        let tags: Vec<u64> = (0..16).map(|_| rig.submit(op, &payload)).collect();
        let mut won = 0;
        for tag in tags {
            match rig.wait(tag).status {
                IoStatus::Good => won += 1,
                IoStatus::Miscompare { offset_bytes: 0 } => {}
                other => panic!("{}: {other:?}", rig.name),
            }
        }
        assert_eq!(won, 1, "step {step}");
    }
    let end = value(6);
    rig.expect(4, &end);
}

fn or_write(rig: &mut Rig) {
    for length in [1, 9, 700] {
        let old = rig.pattern(20, length, 1);
        let mask = rig.pattern(20, length, 2);
        rig.write(20, &old);
        let extent = rig.extent(20, length);
        rig.good(Op::OrWrite { extent, fua: length == 9 }, &mask);
        let expected: Vec<u8> = old.iter().zip(&mask).map(|(old, mask)| old | mask).collect();
        rig.expect(20, &expected);
    }
}

fn overlapping_writes(rig: &mut Rig) {
    let mut expected = vec![0; 64 * rig.block_bytes as usize];
    let mut tags = Vec::new();
    for salt in 0..40 {
        let (lba, length) = (salt * 7 % 50, 1 + salt * 5 % 14);
        let data = rig.pattern(lba, length, salt);
        expected[(lba * rig.block_bytes) as usize..][..data.len()].copy_from_slice(&data);
        let extent = rig.extent(lba, length);
        tags.push(rig.submit(Op::Write { extent, fua: salt % 5 == 0 }, &data));
    }
    for tag in tags {
        assert_eq!(rig.wait(tag).status, IoStatus::Good);
    }
    rig.expect(0, &expected);
}

fn readers_behind_a_writer(rig: &mut Rig) {
    let extent = rig.extent(8, 8);
    for salt in 1..12 {
        let before = rig.pattern(8, 8, salt - 1);
        let after = rig.pattern(8, 8, salt);
        if salt == 1 {
            rig.write(8, &before);
        }
        let earlier = rig.submit(Op::Read(extent), &[]);
        let write = rig.submit(Op::Write { extent, fua: false }, &after);
        let later = rig.submit(Op::Read(extent), &[]);
        assert_eq!(rig.wait(later).sgl.to_vec(), after, "a read after a write");
        assert_eq!(rig.wait(earlier).sgl.to_vec(), before, "a read before a write");
        assert_eq!(rig.wait(write).status, IoStatus::Good);
    }
}

fn a_checksum_is_that_of_the_blocks(rig: &mut Rig) {
    for (lba, length, salt) in [(0, 16, 1), (8, 8, 2), (3, 1, 3), (0, 64, 4), (16, 24, 4)] {
        let data = rig.pattern(lba, length, salt);
        rig.write(lba, &data);
        for (lba, length) in [(lba, length), (0, 64), (8, 16)] {
            let expected = rig.good(Op::Read(rig.extent(lba, length)), &[]).sgl.to_vec();
            let known = rig.subject.channel.crc32c(rig.extent(lba, length));
            assert!(known.is_none_or(|crc32c| crc32c == crc_fast::crc32_iscsi(&expected)), "{lba}, {length}");
        }
    }
}

fn what_is_shown_stays(rig: &mut Rig) {
    let (before, after) = (rig.pattern(64, 16, 1), rig.pattern(64, 16, 2));
    rig.write(64, &before);
    let shows = [(64, 16), (64, 1), (67, 9)].map(|(lba, length)| {
        let shown = rig.subject.channel.show(rig.extent(lba, length));
        let from = ((lba - 64) * rig.block_bytes) as usize;
        (shown, from..from + (length * rig.block_bytes) as usize)
    });
    rig.write(64, &after);
    rig.expect(64, &after);
    rig.good(Op::Unmap(rig.extent(64, 8)), &[]);
    let again = rig.subject.channel.show(rig.extent(72, 8));
    rig.good(Op::WriteZeroes { extent: rig.extent(64, 16), unmap: false, fua: false }, &[]);
    for (shown, range) in shows {
        assert!(shown.is_none_or(|sgl| sgl.to_vec() == before[range]), "a list that shows has changed");
    }
    let half = after.len() / 2;
    assert!(again.is_none_or(|sgl| sgl.to_vec() == after[half..]), "a list that shows has changed");
    rig.expect(64, &vec![0; before.len()]);
}

fn atomic_write(rig: &mut Rig) {
    let longest = u64::from(rig.subject.channel.info().atomic_write_blocks);
    for (salt, length) in (1..).zip([1, 2, 7, longest / 2 + 1, longest]) {
        let length = length.min(longest);
        for lba in [0, 11, rig.length_blocks - length] {
            let extent = rig.extent(lba, length);
            let data = rig.pattern(lba, length, salt);
            let done = rig.good(Op::AtomicWrite { extent, fua: salt % 2 == 0 }, &data);
            assert_eq!(done.sgl.to_vec(), data, "a write leaves its payload alone");
            rig.expect(lba, &data);
            // Again, over itself, and then by what is no atomic write.
            rig.good(Op::AtomicWrite { extent, fua: false }, &data);
            let part = rig.pattern(lba, 1, salt + 100);
            rig.write(lba, &part);
            rig.expect(lba, &part);
            let after = extent.end() - 1;
            let rest = rig.extent(after, 1);
            rig.good(Op::Unmap(rest), &[]);
            rig.expect(after, &vec![0; rig.block_bytes as usize]);
        }
    }
    rig.good(Op::Flush, &[]);
}

/// Atomic writes that wait for each other, with all that may get into their way between them.
fn atomic_writes_among_others(rig: &mut Rig) {
    let longest = u64::from(rig.subject.channel.info().atomic_write_blocks);
    let mut expected = vec![0; 80 * rig.block_bytes as usize];
    let mut tags = Vec::new();
    for salt in 0..60 {
        let (lba, length) = (salt * 7 % 50, (1 + salt * 5 % 14).min(longest));
        let extent = rig.extent(lba, length);
        let now = &mut expected[(lba * rig.block_bytes) as usize..][..(length * rig.block_bytes) as usize];
        let data = rig.pattern(lba, length, salt);
        let (op, payload) = match salt % 6 {
            0 => (Op::Unmap(extent), Vec::new()),
            1 => (Op::Write { extent, fua: salt % 4 == 1 }, data),
            2 => (Op::OrWrite { extent, fua: false }, data),
            _ => (Op::AtomicWrite { extent, fua: salt % 4 == 0 }, data),
        };
        match op {
            Op::Unmap(_) => now.fill(0),
            Op::OrWrite { .. } => now.iter_mut().zip(&payload).for_each(|(now, new)| *now |= new),
            _ => now.copy_from_slice(&payload),
        }
        tags.push(rig.submit(op, &payload));
        if salt % 9 == 0 {
            tags.push(rig.submit(Op::Flush, &[]));
        }
    }
    for tag in tags {
        assert_eq!(rig.wait(tag).status, IoStatus::Good);
    }
    rig.expect(0, &expected);
}

fn flush(rig: &mut Rig) {
    rig.good(Op::Flush, &[]);
    let data = rig.pattern(0, 4, 1);
    rig.write(0, &data);
    rig.good(Op::Flush, &[]);
    rig.good(Op::Flush, &[]);
    let extent = rig.extent(100, 4);
    let mut tags = Vec::new();
    for _ in 0..5 {
        tags.push(rig.submit(Op::Write { extent, fua: false }, &data));
        tags.push(rig.submit(Op::Flush, &[]));
        tags.push(rig.submit(Op::Flush, &[]));
    }
    for tag in tags {
        assert_eq!(rig.wait(tag).status, IoStatus::Good);
    }
    rig.expect(100, &data);
}

fn many_at_once(rig: &mut Rig) {
    let mut waits = Vec::new();
    for slot in 0..200 {
        let lba = slot * 5 % 1000;
        let data = rig.pattern(lba, 1, slot);
        let extent = rig.extent(lba, 1);
        waits.push((rig.submit(Op::Write { extent, fua: false }, &data), lba, data));
    }
    // Answers are taken in another order than the I/Os were given.
    waits.reverse();
    for (tag, ..) in &waits {
        assert_eq!(rig.wait(*tag).status, IoStatus::Good);
    }
    let reads: Vec<_> = waits
        .into_iter()
        .map(|(_, lba, data)| {
            let extent = rig.extent(lba, 1);
            (rig.submit(Op::Read(extent), &[]), data)
        })
        .collect();
    for (tag, data) in reads {
        assert_eq!(rig.wait(tag).sgl.to_vec(), data);
    }
}

fn block_status(rig: &mut Rig) {
    let info = rig.subject.channel.info();
    let granule = u64::from(info.unmap_granularity_blocks);
    let data = rig.pattern(0, 2 * granule, 1);
    rig.write(8 * granule, &data);
    let mut lba = 0;
    let mut mapped_blocks = 0;
    while lba < rig.length_blocks {
        let extent = rig.extent(lba, rig.length_blocks - lba);
        let IoStatus::Mapped { mapped, length_blocks } = rig.io(Op::BlockStatus(extent), &[]).status else {
            panic!("{}: another kind of answer", rig.name);
        };
        assert!(length_blocks >= 1 && length_blocks <= extent.length_blocks, "the answer leads on");
        let data = 8 * granule..10 * granule;
        if !mapped {
            assert!(lba + length_blocks <= data.start || lba >= data.end, "written blocks are mapped");
        }
        mapped_blocks += if mapped { length_blocks } else { 0 };
        lba += length_blocks;
    }
    assert!(mapped_blocks >= 2 * granule);
    let extent = rig.extent(8 * granule, 2 * granule);
    rig.good(Op::Unmap(extent), &[]);
    if info.thin && mapped_blocks < rig.length_blocks {
        let status = rig.io(Op::BlockStatus(extent), &[]).status;
        assert_eq!(status, IoStatus::Mapped { mapped: false, length_blocks: 2 * granule });
    }
}
