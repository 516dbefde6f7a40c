//! Devices and volumes that grow: the label goes along, whatever cuts it short.

use super::tests::{DEVICE_BYTES, Failing, SIZE_BYTES, device, pool, read, request, run, write};
use super::*;
use crate::memory::MemoryDevice;

const LARGER_BYTES: u64 = 12 << 20;
const FULL_BYTES: u64 = DEVICE_BYTES - LABEL_AREA_BYTES;

fn again(size_bytes: u64) -> LabelRequest {
    LabelRequest { create: false, size_bytes, ..request(7) }
}

fn growth(from_bytes: u64, to_bytes: u64) -> LabelRequest {
    let growth = Growth { size_bytes: to_bytes, reservations: b"known".to_vec() };
    LabelRequest { growth: Some(growth), ..again(from_bytes) }
}

fn put(device: &mut dyn IoChannel, offset_bytes: u64, bytes: &[u8]) {
    let mut sgl = pool().alloc(bytes.len()).expect("a fresh pool");
    sgl.copy_in(0, bytes);
    let extent = Extent { lba: offset_bytes / 512, length_blocks: bytes.len() as u64 / 512 };
    let done = device.submit(Io { tag: 1, op: Op::Write { extent, fua: true }, sgl });
    assert_eq!(done.expect("memory answers at once").status, IoStatus::Good);
}

/// A volume of that size with reservations, and a mark in its last block.
fn volume(size_bytes: u64) -> MemoryDevice {
    let mut device = device(512);
    let made = run(&mut device, LabelRequest { size_bytes, ..request(7) }).expect("it is blank");
    assert!(made.is_new && !made.moved);
    put(&mut device, made.metadata_base_bytes, &encode_slot(5, b"stored"));
    write(&mut device, size_bytes / 512 - 1, 0x5A);
    device
}

fn check(device: &mut dyn IoChannel, found: &Labelled, was_bytes: u64, is_bytes: u64, blob: &[u8]) {
    assert!(!found.is_new);
    assert_eq!((found.geometry.uuid.as_u128(), found.geometry.length_bytes()), (7, is_bytes));
    assert_eq!(found.metadata.blob.as_deref(), Some(blob));
    assert_eq!(read(device, was_bytes / 512 - 1)[0], 0x5A, "a block of the volume");
}

/// A device that stops to write after `left` of its writes, as its machine does.
fn cut(below: MemoryDevice, mut left: usize) -> Failing<impl FnMut(&Op) -> bool> {
    let fails = move |op: &Op| {
        let changes = op.changes_blocks();
        let is_over = changes && left == 0;
        left = left.saturating_sub(usize::from(changes));
        is_over
    };
    Failing { below, fails }
}

#[test]
fn a_volume_is_found_on_a_device_that_has_grown() {
    // Right before its label, and with room between.
    for size_bytes in [FULL_BYTES, FULL_BYTES - PAGE_BYTES, SIZE_BYTES] {
        let mut device = volume(size_bytes);
        assert!(device.grow(LARGER_BYTES / 512));
        let moved = run(&mut device, again(size_bytes)).expect("it is behind the volume");
        assert!(moved.moved);
        check(&mut device, &moved, size_bytes, size_bytes, b"stored");
        assert_eq!(moved.metadata_base_bytes, LARGER_BYTES - LABEL_AREA_BYTES + LABEL_METADATA_OFFSET_BYTES);
        let old = (FULL_BYTES + PAGE_BYTES) / 512;
        assert_eq!(read(&mut device, old), vec![0; 512], "the old place is blank");
        let found = run(&mut device, again(size_bytes)).expect("at the end");
        assert!(!found.moved);
        check(&mut device, &found, size_bytes, size_bytes, b"stored");
        // It may grow again.
        assert!(device.grow(2 * LARGER_BYTES / 512));
        assert!(run(&mut device, LabelRequest { create: true, ..again(size_bytes) }).expect("again").moved);
    }
    let mut device = volume(FULL_BYTES);
    assert!(device.grow((DEVICE_BYTES + LABEL_AREA_BYTES / 2) / 512));
    assert_eq!(run(&mut device, again(FULL_BYTES)), Err(LabelError::GrownTooLittle));
    let other = run(&mut device, LabelRequest { uuid: Uuid::from_u128(8), ..again(FULL_BYTES) });
    assert_eq!(other, Err(LabelError::Identity(IdentityError::Foreign)));
}

#[test]
fn a_volume_grows_where_there_is_room() {
    // In the room that its device had: the label stays.
    let mut device = volume(SIZE_BYTES);
    let grown = run(&mut device, growth(SIZE_BYTES, FULL_BYTES)).expect("there is room");
    assert!(!grown.moved);
    check(&mut device, &grown, SIZE_BYTES, FULL_BYTES, b"stored");
    check(&mut device, &grown, SIZE_BYTES, FULL_BYTES, b"stored");
    // On a device that has grown: the label goes along, with the reservations that the volume knows.
    let wanted_bytes = LARGER_BYTES;
    assert!(device.grow(LARGER_BYTES / 512));
    let usable_bytes = LARGER_BYTES - LABEL_AREA_BYTES;
    let refused = run(&mut device, growth(FULL_BYTES, wanted_bytes));
    assert_eq!(refused, Err(LabelError::TooSmall { usable_bytes, wanted_bytes }));
    let grown = run(&mut device, growth(FULL_BYTES, usable_bytes)).expect("there is room");
    assert!(grown.moved);
    check(&mut device, &grown, SIZE_BYTES, usable_bytes, b"known");
    let found = run(&mut device, again(FULL_BYTES)).expect("its label knows better than the catalog");
    check(&mut device, &found, SIZE_BYTES, usable_bytes, b"known");
}

#[test]
fn growth_that_is_cut_short_leaves_the_volume_before_or_after_it() {
    for (from_bytes, to_bytes) in [(FULL_BYTES, LARGER_BYTES - LABEL_AREA_BYTES), (SIZE_BYTES, FULL_BYTES)] {
        let mut outcomes = [0, 0];
        for left in 0.. {
            let mut cut = cut(volume(from_bytes), left);
            if to_bytes > FULL_BYTES {
                assert!(cut.below.grow(LARGER_BYTES / 512));
            }
            let ended = run(&mut cut, growth(from_bytes, to_bytes));
            let mut device = cut.below;
            let found = run(&mut device, again(from_bytes)).expect("the volume is there after every cut");
            let is_bytes = found.geometry.length_bytes();
            assert!(is_bytes == from_bytes || is_bytes == to_bytes, "{is_bytes} after {left} writes");
            outcomes[usize::from(is_bytes == to_bytes)] += 1;
            let blob = if is_bytes == to_bytes && to_bytes > FULL_BYTES { &b"known"[..] } else { b"stored" };
            check(&mut device, &found, from_bytes, is_bytes, blob);
            if ended.is_ok() {
                assert_eq!(is_bytes, to_bytes);
                break;
            }
        }
        assert!(outcomes[0] > 0 && outcomes[1] > 1, "{outcomes:?}");
    }
}
