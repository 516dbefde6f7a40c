//! Devices in memory that are blank, used, foreign and broken.

use reactor::buffer::{Sgl, SizeClass};

use super::*;
use crate::channel_file::ChannelFile;
use crate::memory::MemoryDevice;
use crate::metadata::{MetadataStore, SlotStore};

pub(super) const DEVICE_BYTES: u64 = 8 << 20;
pub(super) const SIZE_BYTES: u64 = 5 << 20;

pub(super) fn pool() -> BufferPool {
    BufferPool::heap(&SizeClass::for_budget(8 << 20))
}

pub(super) fn device(block_bytes: u32) -> MemoryDevice {
    MemoryDevice::new(Geometry::new(Uuid::nil(), block_bytes, DEVICE_BYTES).expect("a good shape"))
}

pub(super) fn request(uuid: u128) -> LabelRequest {
    LabelRequest {
        uuid: Uuid::from_u128(uuid),
        logical_block_bytes: 512,
        size_bytes: SIZE_BYTES,
        create: true,
        confirmed: Confirmed::Nothing,
        growth: None,
    }
}

pub(super) fn run(device: &mut dyn IoChannel, request: LabelRequest) -> End {
    let buffers = pool();
    let mut work = LabelWork::new(request, &device.info())?;
    let end = (0..10_000).find_map(|_| work.poll(device, &buffers)).expect("it ends");
    assert_eq!(device.in_flight(), 0);
    end
}

pub(super) fn write(device: &mut dyn IoChannel, lba: u64, byte: u8) {
    let mut sgl = pool().alloc(512).expect("a fresh pool");
    sgl.fill(0, 512, byte);
    let op = Op::Write { extent: Extent { lba, length_blocks: 1 }, fua: false };
    let done = device.submit(Io { tag: 1, op, sgl }).expect("memory answers at once");
    assert_eq!(done.status, IoStatus::Good);
}

pub(super) fn read(device: &mut dyn IoChannel, lba: u64) -> Vec<u8> {
    let sgl = pool().alloc(512).expect("a fresh pool");
    let op = Op::Read(Extent { lba, length_blocks: 1 });
    device.submit(Io { tag: 1, op, sgl }).expect("memory answers at once").sgl.to_vec()
}

#[test]
fn a_blank_device_becomes_the_volume_and_is_found_again() {
    for block_bytes in [512, 4096] {
        let mut device = device(block_bytes);
        let wanted = LabelRequest { logical_block_bytes: block_bytes, ..request(7) };
        let made = run(&mut device, wanted.clone()).expect("it is blank");
        assert!(made.is_new);
        assert_eq!((made.geometry.uuid, made.geometry.length_bytes()), (wanted.uuid, SIZE_BYTES));
        for create in [true, false] {
            let found = run(&mut device, LabelRequest { create, ..wanted.clone() }).expect("it is there");
            assert_eq!(found, Labelled { is_new: false, ..made.clone() });
        }
    }
}

#[test]
fn what_is_on_a_device_survives_unless_its_end_was_confirmed() {
    let mut device = device(512);
    let mut sgl = pool().alloc(512).expect("a fresh pool");
    sgl.fill(0, 512, 0);
    sgl.copy_in(0, b"XFSB");
    let op = Op::Write { extent: Extent { lba: 0, length_blocks: 1 }, fua: false };
    device.submit(Io { tag: 1, op, sgl }).expect("memory answers at once");
    write(&mut device, 8192, 0x5A);
    let refused = run(&mut device, request(7)).expect_err("an XFS filesystem is there");
    assert_eq!(refused.to_string(), "it holds an XFS filesystem (its mark is at byte 0)");
    let opened = run(&mut device, LabelRequest { create: false, ..request(7) });
    assert_eq!(opened, Err(LabelError::Identity(IdentityError::Foreign)));
    assert!(read(&mut device, 0).starts_with(b"XFSB") && read(&mut device, 8192)[0] == 0x5A);
    run(&mut device, LabelRequest { confirmed: Confirmed::Anything, ..request(7) })
        .expect("it was confirmed");
    assert_eq!(read(&mut device, 0), vec![0; 512]);
    // What lies between the ends is not touched: nothing there names an owner.
    assert_eq!(read(&mut device, 8192)[0], 0x5A);
}

#[test]
fn another_volume_is_never_opened_and_only_destroyed_when_that_was_confirmed() {
    let mut device = device(512);
    run(&mut device, request(7)).expect("it is blank");
    let refused = run(&mut device, request(8)).expect_err("volume 7 is there");
    assert!(matches!(refused, LabelError::Occupied { found } if found.what == "a Vega volume"), "{refused}");
    let other =
        run(&mut device, LabelRequest { create: false, confirmed: Confirmed::Anything, ..request(8) });
    let (found, expected) = (Uuid::from_u128(7), Uuid::from_u128(8));
    assert_eq!(other, Err(LabelError::OtherVolume { found, expected }));
    run(&mut device, LabelRequest { create: false, ..request(7) }).expect("volume 7 is still there");
    // Consent to lose one volume is none to lose another.
    let not_that = LabelRequest { confirmed: Confirmed::Volume(Uuid::from_u128(9)), ..request(8) };
    assert!(matches!(run(&mut device, not_that), Err(LabelError::Occupied { .. })));
    let that = LabelRequest { confirmed: Confirmed::Volume(Uuid::from_u128(7)), ..request(8) };
    let made = run(&mut device, that).expect("it was confirmed");
    assert_eq!(made.destroyed.map(|found| found.what), Some("a Vega volume"));
    assert!(run(&mut device, LabelRequest { create: false, ..request(7) }).is_err());
}

#[test]
fn shapes_that_do_not_fit_are_refused_before_anything_is_read() {
    let mut device = device(4096);
    let (found, wanted) = (4096, 512);
    assert_eq!(run(&mut device, request(7)), Err(LabelError::BlockSize { found, wanted }));
    let request = LabelRequest { logical_block_bytes: 4096, ..request(7) };
    let usable_bytes = DEVICE_BYTES - LABEL_AREA_BYTES;
    let exactly = LabelRequest { size_bytes: usable_bytes, ..request.clone() };
    let wanted_bytes = usable_bytes + 4096;
    let larger = LabelRequest { size_bytes: wanted_bytes, ..request };
    assert_eq!(run(&mut device, larger), Err(LabelError::TooSmall { usable_bytes, wanted_bytes }));
    let made = run(&mut device, exactly).expect("it fits to the block");
    assert_eq!(made.geometry.length_bytes(), usable_bytes);
}

/// The label is the block device's own: a namespace that was formatted through a kernel's disk is the same volume here.
#[test]
fn reservations_are_kept_in_the_label_area() {
    let mut device = device(512);
    let made = run(&mut device, request(7)).expect("it is blank");
    let buffers = pool();
    let file = ChannelFile::new(Box::new(device));
    let base_bytes = made.metadata_base_bytes;
    let mut store = SlotStore::over(Box::new(file), base_bytes, &made.metadata, &buffers);
    for blob in [b"first".to_vec(), b"second".to_vec()] {
        store.submit(1, blob);
        let mut done = Vec::new();
        (0..10).for_each(|_| store.poll(&mut done));
        assert_eq!(done.iter().map(|done| done.result).collect::<Vec<_>>(), [Ok(())]);
    }
    assert_eq!(base_bytes, DEVICE_BYTES - LABEL_AREA_BYTES + LABEL_METADATA_OFFSET_BYTES);
    assert_eq!(store.in_flight(), 0);
}

/// A device of which some I/Os fail: those that `fails` says it of.
pub(super) struct Failing<F> {
    pub below: MemoryDevice,
    pub fails: F,
}

impl<F: FnMut(&Op) -> bool> IoChannel for Failing<F> {
    fn info(&self) -> BdevInfo {
        self.below.info()
    }

    fn submit(&mut self, io: Io) -> Option<Done> {
        if (self.fails)(&io.op) {
            let status = IoStatus::WriteError { lba: 0 };
            return Some(Done { tag: io.tag, status, sgl: Sgl::empty() });
        }
        self.below.submit(io)
    }

    fn poll(&mut self, out: &mut Vec<Done>, budget: usize) {
        self.below.poll(out, budget);
    }

    fn in_flight(&self) -> usize {
        self.below.in_flight()
    }
}

#[test]
fn a_device_that_fails_at_any_step_is_not_opened() {
    let steps: [fn(&Op) -> bool; 4] = [
        |op| matches!(op, Op::Read(_)),
        |op| matches!(op, Op::WriteZeroes { .. }),
        |op| matches!(op, Op::Write { .. }),
        |op| matches!(op, Op::Flush),
    ];
    for (at, fails) in steps.into_iter().enumerate() {
        let mut broken = Failing { below: device(512), fails };
        let error = run(&mut broken, request(7)).expect_err("a step fails");
        assert!(matches!(error, LabelError::Io { writing, .. } if writing == (at > 0)), "{error}");
        if at <= 2 {
            // Nothing there yet calls itself the volume.
            let mut below = broken.below;
            assert!(run(&mut below, LabelRequest { create: false, ..request(7) }).is_err());
        }
    }
}
