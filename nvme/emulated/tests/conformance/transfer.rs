//! Where data is: PRP entries and lists (Base 4.3.1), SGLs (Base 4.3.2), and what the IOMMU stops.

use nvme::device::Device;
use nvme_emulated::{AccessFault, ControllerConfig};
use nvme_spec::register::CC;
use nvme_spec::sgl::{SglDescriptor, SglIdentifier};
use nvme_spec::{NvmOpcode, Sqe, Status};
use reactor::buffer::{BufferPool, SizeClass};
use zerocopy::IntoBytes;

use crate::nvm::io;
use crate::rig::{Rig, completion_queue, config, pattern};

/// The data of namespace 1 as it was prepared: 512 KiB from block 0.
const BYTES: usize = 512 << 10;

fn prepared() -> (Rig, Vec<u8>) {
    let rig = Rig::with_io(ControllerConfig { mdts: 7, ..config() }, 8);
    let bytes = pattern(5, BYTES);
    rig.controller.poke(1, 0, &bytes);
    (rig, bytes)
}

/// A read of so many bytes from block 0 with these PRP entries.
fn read(length: usize, prp1: u64, prp2: u64) -> Sqe {
    let mut sqe = io(NvmOpcode::READ, 1, 0, (length / 512) as u32);
    sqe.set_prp(prp1, prp2);
    sqe
}

/// Writes a PRP list at `offset` of the data memory.
fn put_list(rig: &Rig, offset: usize, entries: &[u64]) {
    let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    rig.fill(offset, &bytes);
}

#[test]
fn one_and_two_entries_at_every_offset() {
    let (mut rig, bytes) = prepared();
    let base = rig.data.iova();
    for offset in [0_usize, 4, 8, 512, 3584, 4092] {
        for length in [512, 1024, 4096] {
            rig.fill(0, &[0; 16384]);
            // The second page is not the next one.
            let sqe = read(length, base + offset as u64, base + 0x2000);
            assert!(rig.status_of(1, sqe).is_success());
            let first = length.min(4096 - offset);
            assert_eq!(rig.seen(offset, first), bytes[..first]);
            assert_eq!(rig.seen(0x2000, length - first), bytes[first..length]);
            assert_eq!(rig.seen(0x2000 + length - first, 16), [0; 16], "nothing past the end");
        }
    }
}

#[test]
fn entries_with_wrong_offsets_are_refused() {
    let (mut rig, _) = prepared();
    let base = rig.data.iova();
    let wrong = [
        (read(512, base + 1, 0), "not of dwords"),
        (read(512, base + 2, 0), "not of dwords"),
        (read(8192, base, base + 0x1004), "the second of two has an offset"),
        (read(4096, base + 512, base + 0x1200), "the second of two has an offset"),
        (read(16384, base, base + 0x8004), "a list not of quadwords"),
    ];
    for (sqe, why) in wrong {
        assert_eq!(rig.status_of(1, sqe), Status::PRP_OFFSET_INVALID, "{why}");
    }
    put_list(&rig, 0x8000, &[base + 0x1000, base + 0x2008, base + 0x3000]);
    let sqe = read(16384, base, base + 0x8000);
    assert_eq!(rig.status_of(1, sqe), Status::PRP_OFFSET_INVALID, "an entry of a list has an offset");
    assert_eq!(rig.controller.iommu_fault_count(), 0);
}

#[test]
fn a_list_may_begin_anywhere_in_its_page_and_goes_on_in_others() {
    let (mut rig, bytes) = prepared();
    let base = rig.data.iova();
    // Data goes to pages 128 and up of the memory, in descending order; lists are in pages 0 to 3.
    let data_page = |index: usize| base + ((255 - index) * 4096) as u64;
    // Where the list begins: at the start, in the middle, with only the pointer to the next list in its page.
    for start in [0_usize, 8, 2048, 4080, 4088] {
        for pages in [2_usize, 3, 17, 128] {
            for first_offset in [0_usize, 512] {
                rig.fill(0, &[0; 16384]);
                let length = pages * 4096 - first_offset;
                let needed: Vec<u64> = (1..pages).map(data_page).collect();
                let list_start = place_lists(&rig, start, &needed);
                let prp1 = data_page(0) + first_offset as u64;
                let sqe = match needed[..] {
                    [second] => read(length, prp1, second),
                    _ => read(length, prp1, list_start),
                };
                assert!(rig.status_of(1, sqe).is_success());
                let mut seen = rig.seen(255 * 4096 + first_offset, 4096 - first_offset);
                (1..pages).for_each(|index| seen.extend(rig.seen((255 - index) * 4096, 4096)));
                assert!(seen == bytes[..length], "{start} {pages} {first_offset}");
            }
        }
    }
}

/// Writes a list that begins at `start` of page 0 and goes on in pages 1 and 2, and so on; where it begins.
fn place_lists(rig: &Rig, start: usize, entries: &[u64]) -> u64 {
    let base = rig.data.iova();
    let mut left = entries;
    let mut at = start;
    let mut page = 0;
    loop {
        let room = (4096 - at) / 8;
        if left.len() <= room {
            put_list(rig, page * 4096 + at, left);
            return base + start as u64;
        }
        let (here, rest) = left.split_at(room - 1);
        put_list(rig, page * 4096 + at, here);
        put_list(rig, page * 4096 + 4088, &[base + ((page + 1) * 4096) as u64]);
        (left, at, page) = (rest, 0, page + 1);
    }
}

#[test]
fn larger_memory_pages_are_as_large_as_they_say() {
    let (mut rig, bytes) = prepared();
    rig.device.write_u32(CC, 0);
    rig.step();
    let aligned = rig.data.iova().next_multiple_of(8192);
    // Queues lie on pages too.
    rig.set_up_admin_at(8, aligned + 0x8000, aligned + 0x9000);
    rig.device.write_u32(CC, Rig::configuration().with_mps(1).0);
    rig.step();
    assert_eq!((rig.status().rdy(), rig.status().cfs()), (0, 1));
    rig.device.write_u32(CC, 0);
    rig.step();
    rig.set_up_admin_at(8, aligned + 0x8000, aligned + 0xa000);
    rig.device.write_u32(CC, Rig::configuration().with_mps(1).0);
    rig.step();
    assert_eq!(rig.status().0, 1);
    let wrong = completion_queue(1, 8, aligned + 0x1000).sqe();
    assert_eq!(rig.status_of(0, wrong), Status::PRP_OFFSET_INVALID);
    rig.create_pair_at(1, 8, aligned + 0xc000, aligned + 0xe000);
    let sqe = read(16384, aligned, aligned + 0x2000);
    assert!(rig.status_of(1, sqe).is_success(), "two entries reach 16 KiB");
    let skip = (aligned - rig.data.iova()) as usize;
    assert_eq!(rig.seen(skip, 16384), bytes[..16384]);
    let sqe = read(8192 + 512, aligned, aligned + 0x1000);
    assert_eq!(rig.status_of(1, sqe), Status::PRP_OFFSET_INVALID, "4 KiB is an offset in such a page");
}

#[test]
fn what_is_not_mapped_is_not_touched_and_fails_the_command() {
    let (mut rig, _) = prepared();
    let base = rig.data.iova();
    let end = base + crate::rig::DATA_BYTES as u64;
    rig.fill(0, &[0x55; 16384]);
    let outside = [
        read(512, 0, 0),
        read(512, rig.data.memory().address() as u64, 0),
        read(512, end, 0),
        read(512, u64::MAX - 3, 0),
        read(8192, base, end),
        read(8192, base, 0),
        read(16384, base, 0x1000),
        read(16384, base, u64::MAX - 7),
    ];
    for (count, sqe) in outside.into_iter().enumerate() {
        assert_eq!(rig.status_of(1, sqe), Status::DATA_TRANSFER_ERROR, "{count}");
        assert_eq!(rig.controller.iommu_fault_count(), count as u64 + 1);
    }
    assert_eq!(rig.seen(0, 16384), [0x55; 16384], "not even the part that is mapped");
    // A write that cannot read all of its data writes none of it.
    let mut write = io(NvmOpcode::WRITE, 2, 0, 2);
    write.set_prp(base, end);
    assert_eq!(rig.status_of(1, write), Status::DATA_TRANSFER_ERROR);
    assert_eq!(rig.controller.allocated_bytes(2), Ok(0));
    assert!(!rig.controller.is_fatal());
}

#[test]
fn a_pool_is_reached_only_where_it_is_lent() {
    let (mut rig, bytes) = prepared();
    let pool = BufferPool::heap(&[SizeClass { bytes: 8192, count: 4 }]);
    let mapping = rig.device.map_pool(&pool).expect("the table has room");
    let lent = pool.alloc(8192).expect("room").lend();
    let (address, length) = lent.segments().next().expect("one segment");
    let iova = mapping.iova_of(address, length);
    let sqe = read(8192, iova, iova + 4096);
    assert!(rig.status_of(1, sqe).is_success());
    let back = lent.reclaim();
    assert_eq!(back.chunk(0), &bytes[..8192]);
    assert_eq!(rig.status_of(1, sqe), Status::DATA_TRANSFER_ERROR, "it is ours again");
    assert_eq!(rig.controller.iommu_faults()[0].reason, AccessFault::NotLent);
    drop(back);
    drop(mapping);
    assert_eq!(rig.status_of(1, sqe), Status::DATA_TRANSFER_ERROR, "it is not mapped any more");
    assert_eq!(rig.controller.iommu_faults()[1].reason, AccessFault::NotMapped);
}

#[test]
fn memory_that_was_given_back_is_out_of_reach() {
    let (mut rig, _) = prepared();
    let before = rig.controller.mappings();
    let other = rig.device.allocate(4096).expect("memory is there");
    let iova = other.iova();
    assert_eq!(rig.controller.mappings(), before + 1);
    assert!(rig.status_of(1, read(512, iova, 0)).is_success());
    drop(other);
    assert_eq!(rig.controller.mappings(), before);
    assert_eq!(rig.status_of(1, read(512, iova, 0)), Status::DATA_TRANSFER_ERROR);
}

fn block(address: u64, length_bytes: u32) -> SglDescriptor {
    SglDescriptor::new(SglIdentifier::DATA_BLOCK_ADDRESS, address, length_bytes)
}

fn bucket(length_bytes: u32) -> SglDescriptor {
    SglDescriptor::new(SglIdentifier::BIT_BUCKET, 0, length_bytes)
}

fn segment(is_last: bool, address: u64, descriptors: u32) -> SglDescriptor {
    let kind = if is_last { SglIdentifier::LAST_SEGMENT } else { SglIdentifier::SEGMENT };
    SglDescriptor::new(kind, address, descriptors * 16)
}

fn sgl(opcode: NvmOpcode, blocks: u32, descriptor: SglDescriptor) -> Sqe {
    let mut sqe = io(opcode, 1, 0, blocks);
    sqe.set_sgl(descriptor);
    sqe
}

#[test]
fn sgls_describe_data_piece_by_piece() {
    let (mut rig, bytes) = prepared();
    let base = rig.data.iova();
    // One block, at any byte.
    assert!(rig.status_of(1, sgl(NvmOpcode::READ, 4, block(base + 0x10_001, 2048))).is_success());
    assert_eq!(rig.seen(0x10_001, 2048), bytes[..2048]);
    // A segment that leads to a last one, with holes.
    rig.fill(0, [block(base + 0x20_003, 100), bucket(412), segment(true, base + 0x1000, 3)].as_bytes());
    rig.fill(0x1000, [block(base + 0x21_000, 0), bucket(1000), block(base + 0x22_000, 536)].as_bytes());
    let sqe = sgl(NvmOpcode::READ, 4, segment(false, base, 3));
    assert!(rig.status_of(1, sqe).is_success());
    assert_eq!(rig.seen(0x20_003, 100), bytes[..100]);
    assert_eq!(rig.seen(0x22_000, 536), bytes[1512..2048]);
    // In a write a bit bucket stands for no data.
    let new = pattern(9, 1024);
    rig.fill(0x30_000, &new);
    rig.fill(0, [block(base + 0x30_000, 512), bucket(77), block(base + 0x30_200, 512)].as_bytes());
    let sqe = sgl(NvmOpcode::WRITE, 2, segment(true, base, 3));
    assert!(rig.status_of(1, sqe).is_success());
    assert_eq!(rig.controller.peek(1, 0, 2), new);
}

#[test]
fn sgls_that_describe_nothing_sensible_are_refused() {
    let (mut rig, _) = prepared();
    let base = rig.data.iova();
    let good = block(base + 0x8000, 512);
    rig.fill(0x1000, [good, segment(true, base + 0x2000, 1), good].as_bytes());
    rig.fill(0x2000, [segment(true, base + 0x3000, 1)].as_bytes());
    rig.fill(0x3000, [good].as_bytes());
    rig.fill(0x4000, [segment(false, base + 0x4000, 1)].as_bytes());
    let keyed = SglDescriptor::new(SglIdentifier::KEYED_DATA_BLOCK, base, 512);
    let transport = SglDescriptor::transport(512);
    let offset = SglDescriptor::in_capsule(0, 512);
    let odd = SglDescriptor::new(SglIdentifier::LAST_SEGMENT, base + 0x3000, 24);
    let wrong = [
        (block(base, 511), Status::DATA_SGL_LENGTH_INVALID, "shorter than the data"),
        (block(base, 513), Status::DATA_SGL_LENGTH_INVALID, "longer than the data"),
        (bucket(1024), Status::DATA_SGL_LENGTH_INVALID, "longer than the data"),
        (keyed, Status::SGL_DESCRIPTOR_TYPE_INVALID, "keyed"),
        (transport, Status::SGL_DESCRIPTOR_TYPE_INVALID, "of another transport"),
        (offset, Status::SGL_DESCRIPTOR_TYPE_INVALID, "an offset in a capsule"),
        (segment(true, base, 0), Status::INVALID_SGL_SEGMENT_DESCRIPTOR, "an empty segment"),
        (odd, Status::INVALID_SGL_SEGMENT_DESCRIPTOR, "half a descriptor"),
        (segment(false, base + 0x1000, 3), Status::INVALID_SGL_SEGMENT_DESCRIPTOR, "one in the middle"),
        (segment(true, base + 0x2000, 1), Status::INVALID_SGL_SEGMENT_DESCRIPTOR, "one after the last"),
        (segment(false, base + 0x3000, 1), Status::INVALID_SGL_SEGMENT_DESCRIPTOR, "an end without last"),
        (segment(false, base + 0x4000, 1), Status::INVALID_NUMBER_OF_SGL_DESCRIPTORS, "a ring"),
        (segment(true, 0x1000, 1), Status::DATA_TRANSFER_ERROR, "a segment nowhere"),
        (block(0x1000, 512), Status::DATA_TRANSFER_ERROR, "data nowhere"),
    ];
    for (descriptor, status, why) in wrong {
        assert_eq!(rig.status_of(1, sgl(NvmOpcode::READ, 1, descriptor)), status, "{why}");
    }
    let mut reserved = sgl(NvmOpcode::READ, 1, good);
    reserved.flags |= 0b1100_0000;
    assert_eq!(rig.status_of(1, reserved), Status::INVALID_FIELD);
}

#[test]
fn sgls_are_for_io_commands_of_controllers_that_offer_them() {
    let mut rig = Rig::with_io(ControllerConfig { sgl: false, ..config() }, 8);
    let base = rig.data.iova();
    assert_eq!(rig.status_of(1, sgl(NvmOpcode::READ, 1, block(base, 512))), Status::INVALID_FIELD);
    let mut rig = Rig::with_io(config(), 8);
    let mut sqe = nvme_spec::admin::Identify {
        cns: nvme_spec::identify::Cns::CONTROLLER,
        ..nvme_spec::admin::Identify::default()
    }
    .sqe();
    sqe.set_sgl(block(base, 4096));
    assert_eq!(rig.status_of(0, sqe), Status::INVALID_FIELD);
}
