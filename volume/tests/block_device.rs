//! Formatting and opening block devices: on a loop device, where this machine lets us make one.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use reactor::buffer::{BufferPool, SizeClass};
use reactor::uring::Uring;
use reactor::wake::Waker;
use uuid::Uuid;
use volume::block_device::{self, FormatOptions};
use volume::conformance::{self, Subject};
use volume::file::FileChannel;
use volume::file_open::FileOptions;
use volume::limits::LABEL_AREA_BYTES;
use volume::metadata::{MetadataStore, SlotStore};
use volume::open_error::OpenError;
use volume::volume::Volume;

/// A loop device over a file of its own; detached when dropped.
struct Loop {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Loop {
    /// `None` where loop devices cannot be made (no privilege, no driver).
    fn new(length_bytes: u64) -> Option<Self> {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).ok()?;
        let backing = directory.path().join("backing");
        File::create(&backing).and_then(|file| file.set_len(length_bytes)).ok()?;
        let output = Command::new("losetup").arg("--find").arg("--show").arg(&backing).output().ok()?;
        let path = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| Self { path: path.trim().into(), _directory: directory })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

const UUID: Uuid = Uuid::from_u128(0xB10C);
const MIB: u64 = 1 << 20;

fn format(path: &Path, confirm: Option<&str>) -> Result<volume::file_open::OpenedFile, OpenError> {
    let confirm_destroy = confirm.map(str::to_owned);
    block_device::format(path, UUID, 512, &FormatOptions { confirm_destroy, buffered: false })
}

#[test]
fn the_conformance_list() {
    let Some(probe) = Loop::new(2 * MIB) else { return };
    drop(probe);
    conformance::run(|geometry| {
        let device = Loop::new(geometry.length_bytes() + LABEL_AREA_BYTES).expect("another loop device");
        let options = FormatOptions::default();
        let opened =
            block_device::format(&device.path, geometry.uuid, geometry.logical_block_bytes, &options);
        let opened = opened.expect("a blank device");
        assert_eq!(opened.geometry, geometry);
        let uring = Rc::new(Uring::new(Waker::new().expect("a free descriptor")).expect("io_uring"));
        let buffers = BufferPool::heap(&SizeClass::for_budget(8 << 20));
        let channel = FileChannel::new(opened, &*uring, &buffers).expect("an open device is adopted");
        let volume = Volume::new(Box::new(channel), &buffers).expect("a fresh pool has the reserve");
        let turn = move || {
            let _alive = &device;
            uring.submit();
            std::thread::yield_now();
            uring.reap();
        };
        Subject { channel: Box::new(volume), turn: Box::new(turn) }
    });
}

#[test]
fn a_device_with_data_is_refused_until_it_is_named() {
    let Some(device) = Loop::new(16 * MIB) else { return };
    let raw = File::options().write(true).open(&device.path).expect("it was made");
    raw.write_all_at(b"XFSB", 0).expect("room");
    raw.sync_all().expect("a disk that works");
    let refused = format(&device.path, None).expect_err("somebody's filesystem");
    let OpenError::Occupied { found, confirmation, .. } = &refused else { panic!("{refused}") };
    assert!(found.what.contains("XFS"), "{refused}");
    assert!(format(&device.path, Some("yes")).is_err(), "any word will not do");
    let confirmation = confirmation.clone();
    drop(format(&device.path, Some(&confirmation)).expect("it was named"));

    let opened = block_device::open(&device.path, FileOptions::default()).expect("it is a volume now");
    assert_eq!((opened.geometry.uuid, opened.geometry.length_bytes()), (UUID, 15 * MIB));
    let busy = block_device::open(&device.path, FileOptions::default());
    assert!(matches!(busy, Err(OpenError::InUse { .. })));
    drop(opened);
    let again = format(&device.path, None).expect_err("a volume is data too");
    assert!(again.to_string().contains(&UUID.to_string()), "{again}");
    let other = FileOptions { expected: Some(Uuid::from_u128(1)), ..FileOptions::default() };
    assert!(matches!(block_device::open(&device.path, other), Err(OpenError::OtherVolume { .. })));
    drop(format(&device.path, Some(&UUID.to_string())).expect("it was named"));
}

#[test]
fn metadata_lives_beside_the_blocks() {
    let Some(device) = Loop::new(4 * MIB) else { return };
    let opened = format(&device.path, None).expect("a blank device");
    let metadata = block_device::open_metadata(&opened).expect("blank slots");
    assert_eq!(metadata.loaded.blob, None);
    let uring = Uring::new(Waker::new().expect("a free descriptor")).expect("io_uring");
    let buffers = BufferPool::heap(&SizeClass::for_budget(8 << 20));
    let mut store = SlotStore::new(metadata, &uring, &buffers).expect("it is adopted");
    store.submit(1, b"reserved".to_vec());
    let mut out = Vec::new();
    while store.in_flight() > 0 {
        uring.submit();
        uring.reap();
        store.poll(&mut out);
        std::thread::yield_now();
    }
    assert_eq!(out[0].result, Ok(()));
    drop((store, opened));
    let opened = block_device::open(&device.path, FileOptions::default()).expect("its label is whole");
    let loaded = block_device::open_metadata(&opened).expect("one slot is whole").loaded;
    assert_eq!(loaded.blob.as_deref(), Some(&b"reserved"[..]));
}

#[test]
fn a_file_is_not_a_device() {
    let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).expect("room");
    assert!(matches!(format(file.path(), None), Err(OpenError::Kind { .. })));
}
