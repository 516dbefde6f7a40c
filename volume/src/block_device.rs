//! Formatting and opening a block device under a volume. Everything here may block: the control
//! plane calls it and hands the result to the volume's core, where [`crate::file::FileChannel`]
//! serves it.
//!
//! The last mebibyte of the device is Vega's: the identity (two copies) and the metadata slots. The
//! blocks before it are the volume's, from byte 0 on.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};
use reactor::file_probe::{self, BlockSizes};
use uuid::Uuid;

use crate::file_open::{FileOptions, OpenedFile};
use crate::geometry::Geometry;
use crate::identity::{COPY_OFFSETS_BYTES, Identity, IdentityError};
use crate::io_mode::{IoMode, choose};
use crate::limits::{
    LABEL_AREA_BYTES, LABEL_METADATA_OFFSET_BYTES, LOCK_PAUSE, LOCK_TRIES, METADATA_SLOT_BYTES, PAGE_BYTES,
};
use crate::lock::{holder, lock};
use crate::metadata::{self, MetadataError, OpenedMetadata};
use crate::open_error::OpenError;
use crate::signature::{HEAD_BYTES, TAIL_BYTES, recognise_any};

/// A page of the label area that holds nothing; used to ask whether the device frees blocks.
const SPARE_OFFSET_BYTES: u64 = LABEL_AREA_BYTES - PAGE_BYTES;

/// How to format a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FormatOptions {
    /// Destroy what the device holds: its serial number, or the identity of the volume on it, or
    /// (without a serial number) its path.
    pub confirm_destroy: Option<String>,
    /// Use the page cache even where direct I/O is possible.
    pub buffered: bool,
}

/// What a device is, before it is a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Device {
    length_bytes: u64,
    sizes: BlockSizes,
    serial: Option<String>,
    volatile_write_cache: bool,
}

/// Makes a volume of the whole device at `path`, minus the label area. Refuses a device that is in
/// use or holds anything recognisable, unless its destruction was confirmed.
pub fn format(
    path: &Path,
    uuid: Uuid,
    logical_block_bytes: u32,
    options: &FormatOptions,
) -> Result<OpenedFile, OpenError> {
    let (file, device) = open_device(path)?;
    refuse_occupied(&file, path, &device, options)?;
    let usable = device.length_bytes.saturating_sub(LABEL_AREA_BYTES) / PAGE_BYTES * PAGE_BYTES;
    let geometry = Geometry::new(uuid, logical_block_bytes, usable)
        .map_err(|source| OpenError::Geometry { path: path.to_owned(), source })?;
    check_block_size(path, &device, logical_block_bytes)?;
    erase_marks(&file, usable).map_err(OpenError::io(path, "erase the marks on"))?;
    let identity = Identity { geometry, sequence: 1, growing_to_blocks: 0, marked: false, inode: 0 };
    write_label(&file, usable, &identity).map_err(OpenError::io(path, "label"))?;
    finish(path, file, geometry, &device, options.buffered)
}

/// Opens a device that [`format`] made into a volume.
pub fn open(path: &Path, options: FileOptions) -> Result<OpenedFile, OpenError> {
    let (file, device) = open_device(path)?;
    let usable = device.length_bytes.saturating_sub(LABEL_AREA_BYTES) / PAGE_BYTES * PAGE_BYTES;
    let mut label = vec![0; 2 * PAGE_BYTES as usize];
    file.read_exact_at(&mut label, usable).map_err(OpenError::io(path, "read the label of"))?;
    let decoded = Identity::decode(&label);
    let identity =
        decoded.map_err(|source: IdentityError| OpenError::Identity { path: path.to_owned(), source })?;
    let (found, expected_bytes) = (identity.geometry.uuid, identity.geometry.length_bytes());
    if let Some(expected) = options.expected.filter(|expected| *expected != found) {
        return Err(OpenError::OtherVolume { path: path.to_owned(), found, expected });
    }
    if expected_bytes > usable {
        return Err(OpenError::Truncated { path: path.to_owned(), found_bytes: usable, expected_bytes });
    }
    check_block_size(path, &device, identity.geometry.logical_block_bytes)?;
    finish(path, file, identity.geometry, &device, options.buffered)
}

/// Opens the metadata slots of an opened device.
pub fn open_metadata(opened: &OpenedFile) -> Result<OpenedMetadata, MetadataError> {
    let base_bytes = opened.geometry.length_bytes() + LABEL_METADATA_OFFSET_BYTES;
    // A second description, through the page cache: reading needs no aligned memory, and each slot
    // is written with its own sync. The volume's own blocks are never touched through it.
    let file = OpenOptions::new().read(true).write(true).open(&opened.path);
    let file =
        file.map_err(|source| MetadataError::Io { path: opened.path.clone(), action: "open", source })?;
    metadata::open_at(file, &opened.path, base_bytes)
}

/// `O_EXCL` on a device fails while a filesystem, a volume manager or another volume has it; a process that was killed lets
/// it go soon (see `lock`).
fn open_exclusively(path: &Path) -> Result<File, OpenError> {
    let mut tries = 0;
    loop {
        let opened = OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_EXCL.bits()).open(path);
        match opened {
            Ok(file) => return Ok(file),
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {
                let holder = File::open(path).ok().and_then(|file| holder(&file));
                tries += 1;
                if holder.is_some() || tries == LOCK_TRIES {
                    return Err(OpenError::InUse { path: path.to_owned(), holder });
                }
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(error) => return Err(OpenError::io(path, "open")(error)),
        }
    }
}

fn open_device(path: &Path) -> Result<(File, Device), OpenError> {
    let mut file = open_exclusively(path)?;
    let metadata = file.metadata().map_err(OpenError::io(path, "inspect"))?;
    if !metadata.file_type().is_block_device() {
        return Err(OpenError::Kind { path: path.to_owned(), expected: "block device" });
    }
    lock(&file, path)?;
    let length_bytes = file.seek(SeekFrom::End(0)).map_err(OpenError::io(path, "measure"))?;
    let sizes = file_probe::block_sizes(file.as_fd()).map_err(OpenError::io(path, "inspect"))?;
    let (serial, volatile_write_cache) = (serial(metadata.rdev()), has_write_cache(metadata.rdev()));
    Ok((file, Device { length_bytes, sizes, serial, volatile_write_cache }))
}

fn sysfs(rdev: u64) -> PathBuf {
    let (major, minor) = (nix::sys::stat::major(rdev), nix::sys::stat::minor(rdev));
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}"))
}

fn serial(rdev: u64) -> Option<String> {
    let places = ["serial", "device/serial", "device/wwid", "wwid"];
    let read = |place: &str| std::fs::read_to_string(sysfs(rdev).join(place)).ok();
    let serials = places.iter().filter_map(|place| read(place)).map(|serial| serial.trim().to_owned());
    serials.into_iter().find(|serial| !serial.is_empty())
}

/// False only where the kernel says that the device has none. A partition asks its disk.
fn has_write_cache(rdev: u64) -> bool {
    let places = ["queue/write_cache", "../queue/write_cache"];
    let cache = places.iter().find_map(|place| std::fs::read_to_string(sysfs(rdev).join(place)).ok());
    cache.is_none_or(|cache| cache.trim() != "write through")
}

/// True for a disk that the kernel has cut into partitions.
fn has_partitions(rdev: u64) -> bool {
    let Ok(entries) = std::fs::read_dir(sysfs(rdev)) else { return false };
    entries.flatten().any(|entry| entry.path().join("partition").exists())
}

fn refuse_occupied(
    file: &File,
    path: &Path,
    device: &Device,
    options: &FormatOptions,
) -> Result<(), OpenError> {
    let (head, tail) = read_ends(file, device.length_bytes).map_err(OpenError::io(path, "read"))?;
    let rdev = file.metadata().map_err(OpenError::io(path, "inspect"))?.rdev();
    let partitions = crate::signature::Found { what: "partitions", offset_bytes: 0 };
    let found =
        recognise_any(&head, &tail, device.length_bytes).or(has_partitions(rdev).then_some(partitions));
    let Some(found) = found else { return Ok(()) };
    let volume = Identity::decode(label_of(&tail, device.length_bytes)).ok();
    let accepted = [
        volume.map(|identity| identity.geometry.uuid.to_string()),
        Some(device.serial.clone().unwrap_or_else(|| path.display().to_string())),
    ];
    let confirmed = options.confirm_destroy.as_ref();
    if confirmed.is_some_and(|confirmed| accepted.iter().flatten().any(|accepted| accepted == confirmed)) {
        return Ok(());
    }
    let confirmation = accepted.into_iter().flatten().next().expect("the second is always there");
    Err(OpenError::Occupied { path: path.to_owned(), found, confirmation })
}

/// The label area inside the last bytes of a device.
fn label_of(tail: &[u8], length_bytes: u64) -> &[u8] {
    let usable = length_bytes.saturating_sub(LABEL_AREA_BYTES) / PAGE_BYTES * PAGE_BYTES;
    let tail_start = length_bytes - tail.len() as u64;
    let at = usable.checked_sub(tail_start).and_then(|at| usize::try_from(at).ok());
    at.and_then(|at| tail.get(at..)).unwrap_or(&[])
}

fn read_ends(file: &File, length_bytes: u64) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (head_bytes, tail_bytes) = (HEAD_BYTES.min(length_bytes), TAIL_BYTES.min(length_bytes));
    let mut head = vec![0; head_bytes as usize];
    file.read_exact_at(&mut head, 0)?;
    let mut tail = vec![0; tail_bytes as usize];
    file.read_exact_at(&mut tail, length_bytes - tail_bytes)?;
    Ok((head, tail))
}

fn check_block_size(path: &Path, device: &Device, volume_bytes: u32) -> Result<(), OpenError> {
    let device_bytes = device.sizes.logical_bytes;
    if device_bytes > volume_bytes {
        return Err(OpenError::BlockSize { path: path.to_owned(), device_bytes, volume_bytes });
    }
    Ok(())
}

/// Zeros both ends, so that no tool, and no later look of ours, sees what was there before.
fn erase_marks(file: &File, usable_bytes: u64) -> io::Result<()> {
    let zeros = vec![0; HEAD_BYTES.min(usable_bytes) as usize];
    file.write_all_at(&zeros, 0)?;
    file.write_all_at(&zeros, usable_bytes - zeros.len() as u64)?;
    file.write_all_at(&vec![0; LABEL_AREA_BYTES as usize], usable_bytes)?;
    file.sync_all()
}

fn write_label(file: &File, usable_bytes: u64, identity: &Identity) -> io::Result<()> {
    for offset in COPY_OFFSETS_BYTES {
        file.write_all_at(&identity.encode(), usable_bytes + offset)?;
        file.sync_all()?;
    }
    Ok(())
}

fn finish(
    path: &Path,
    file: File,
    geometry: Geometry,
    device: &Device,
    buffered: bool,
) -> Result<OpenedFile, OpenError> {
    let mode = choose(&file, geometry.logical_block_bytes, buffered)
        .map_err(OpenError::io(path, "choose the I/O mode of"))?;
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let spare = i64::try_from(geometry.length_bytes() + SPARE_OFFSET_BYTES);
    let thin = spare.is_ok_and(|spare| fallocate(&file, flags, spare, PAGE_BYTES as i64).is_ok());
    Ok(OpenedFile {
        fd: file.into(),
        path: path.to_owned(),
        geometry,
        mode,
        physical_block_bytes: device.sizes.physical_bytes.max(geometry.logical_block_bytes),
        thin,
        volatile_write_cache: device.volatile_write_cache || matches!(mode, IoMode::Buffered(_)),
        allocation: None,
        journal: None,
    })
}

const _: () = assert!(LABEL_METADATA_OFFSET_BYTES + 2 * METADATA_SLOT_BYTES <= SPARE_OFFSET_BYTES);
