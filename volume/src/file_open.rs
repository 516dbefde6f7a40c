//! Creating, opening and growing the sparse file behind a volume. Everything here may block: the
//! control plane calls it and hands the result, which can travel, to the volume's core.
//!
//! Beside the data file `<name>` lies its identity `<name>.meta` (see [`crate::identity`]), the journal of
//! its atomic writes `<name>.atomic` (see [`crate::journal`]) and, once a reservation was made,
//! `<name>.state` (see [`crate::metadata`]). The data file holds the volume's blocks and nothing else. It carries the volume's uuid as an extended attribute where
//! the filesystem has those, so that a file put under another's name is noticed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, lseek64};
use reactor::file_probe;
use uuid::Uuid;

use crate::allocation::AllocationMap;
use crate::geometry::{Geometry, GeometryError};
use crate::identity::{Identity, IdentityError};
use crate::io_mode::{IoMode, choose};
use crate::journal::Pending;
use crate::journal_file::{self, OpenedJournal};
use crate::limits::PAGE_BYTES;
use crate::lock::lock;
use crate::open_error::OpenError;

const MARK: &std::ffi::CStr = c"user.vega.uuid";

/// A volume's bytes are its initiators' business: nobody but the owner reads its files.
pub(crate) const FILE_MODE: u32 = 0o600;

/// A file or device, open, locked and checked; it may travel to the core that will serve it.
#[derive(Debug)]
pub struct OpenedFile {
    /// Open for reading and writing, `O_DIRECT` as `mode` says, locked while any copy is open.
    pub fd: OwnedFd,
    /// Its path, for messages.
    pub path: PathBuf,
    /// Identity, block size and length.
    pub geometry: Geometry,
    /// How it is read and written; prints as the one line for the log.
    pub mode: IoMode,
    /// The unit below which a write costs a read.
    pub physical_block_bytes: u32,
    /// Holes can be punched in it, so unmap frees space.
    pub thin: bool,
    /// Acknowledged writes may be lost with the power until a sync.
    pub volatile_write_cache: bool,
    /// Where it holds data; `None` on a device, where everything does.
    pub allocation: Option<AllocationMap>,
    /// The journal of its atomic writes; `None` on a device, and where there was no room for one.
    pub journal: Option<OpenedJournal>,
}

/// How to open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileOptions {
    /// Use the page cache even where direct I/O is possible.
    pub buffered: bool,
    /// Refuse any volume but this.
    pub expected: Option<Uuid>,
    /// Accept a file that is not the one its identity was written for (a restored copy) and write
    /// a new identity for it. Its size must still be right.
    pub adopt: bool,
}

/// The identity file of the data file `path`.
pub fn identity_path(path: &Path) -> PathBuf {
    with_suffix(path, ".meta")
}

/// The metadata store of the data file `path`.
pub fn state_path(path: &Path) -> PathBuf {
    with_suffix(path, ".state")
}

/// The journal of atomic writes of the data file `path`.
pub fn journal_path(path: &Path) -> PathBuf {
    with_suffix(path, ".atomic")
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Creates a sparse file and its identity. Nothing that exists is overwritten; what was created is
/// removed again when a later step fails.
pub fn create(path: &Path, geometry: Geometry, options: FileOptions) -> Result<OpenedFile, OpenError> {
    refuse_existing(&[identity_path(path), state_path(path), journal_path(path)])?;
    let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path);
    let file = opened.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => OpenError::AlreadyExists { path: path.to_owned() },
        _ => OpenError::io(path, "create")(source),
    })?;
    create_in(path, file, geometry, options).inspect_err(|_| {
        // Both were made a moment ago by this call; a failure to remove them adds nothing.
        let _ = std::fs::remove_file(path);
        let _ = std::fs::remove_file(identity_path(path));
        let _ = std::fs::remove_file(journal_path(path));
    })
}

fn refuse_existing(paths: &[PathBuf]) -> Result<(), OpenError> {
    match paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(OpenError::AlreadyExists { path: path.clone() }),
        None => Ok(()),
    }
}

fn create_in(
    path: &Path,
    file: File,
    geometry: Geometry,
    options: FileOptions,
) -> Result<OpenedFile, OpenError> {
    lock(&file, path)?;
    file.set_len(geometry.length_bytes()).map_err(OpenError::io(path, "set the size of"))?;
    write_mark(&file, path, geometry.uuid)?;
    file.sync_all().map_err(OpenError::io(path, "sync"))?;
    let journal = journal_file::create(&journal_path(path), &geometry)?;
    let identity = identify(&file, path, geometry, 1)?;
    write_identity(path, &identity)?;
    finish(path, file, geometry, options, Some(journal))
}

/// Opens what [`create`] made, after checking that it is still what its identity says.
pub fn open(path: &Path, options: FileOptions) -> Result<OpenedFile, OpenError> {
    let mut file = open_data(path)?;
    let found_bytes = file.metadata().map_err(OpenError::io(path, "inspect"))?.len();
    lock(&file, path)?;
    let mut identity = read_identity(path)?;
    let found = identity.geometry.uuid;
    if let Some(expected) = options.expected.filter(|expected| *expected != found) {
        return Err(OpenError::OtherVolume { path: path.to_owned(), found, expected });
    }
    let same = check_same(&file, path, &identity);
    if same.is_err() && !options.adopt {
        return Err(same.expect_err("just seen"));
    }
    let settled = settle_length(path, found_bytes, &mut identity)?;
    if same.is_err() {
        write_mark(&file, path, found)?;
    }
    if settled || same.is_err() {
        identity = identify(&file, path, identity.geometry, identity.sequence + 1)?;
        write_identity(path, &identity)?;
    }
    let pending = if same.is_ok() { Pending::Complete } else { Pending::Forget };
    let journal = journal_file::open(&journal_path(path), &mut file, path, &identity.geometry, pending)?;
    finish(path, file, identity.geometry, options, journal)
}

/// Makes a volume of an existing raw image: its bytes stay, its size must be the geometry's.
pub fn import(path: &Path, geometry: Geometry, options: FileOptions) -> Result<OpenedFile, OpenError> {
    refuse_existing(&[identity_path(path), journal_path(path)])?;
    let file = open_data(path)?;
    lock(&file, path)?;
    let mut identity = identify(&file, path, geometry, 1)?;
    let found_bytes = file.metadata().map_err(OpenError::io(path, "inspect"))?.len();
    settle_length(path, found_bytes, &mut identity)?;
    write_mark(&file, path, geometry.uuid)?;
    let journal = journal_file::create(&journal_path(path), &geometry)?;
    let identified = identify(&file, path, geometry, 1).and_then(|identity| write_identity(path, &identity));
    identified.inspect_err(|_| {
        // Made a moment ago by this call; in the way of the next try.
        let _ = std::fs::remove_file(journal_path(path));
    })?;
    finish(path, file, geometry, options, Some(journal))
}

fn open_data(path: &Path) -> Result<File, OpenError> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    let file = opened.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => OpenError::MissingData { path: path.to_owned() },
        _ => OpenError::io(path, "open")(source),
    })?;
    let metadata = file.metadata().map_err(OpenError::io(path, "inspect"))?;
    if metadata.is_file() {
        Ok(file)
    } else {
        Err(OpenError::Kind { path: path.to_owned(), expected: "regular file" })
    }
}

/// Makes the file of an open volume longer, in a way that a crash at any point leaves either the
/// old or the new length. The channel is told afterwards with [`crate::bdev::IoChannel::grow`].
pub fn grow(path: &Path, length_bytes: u64) -> Result<Geometry, OpenError> {
    let mut identity = read_identity(path)?;
    let old = identity.geometry;
    let geometry = Geometry::new(old.uuid, old.logical_block_bytes, length_bytes)
        .map_err(|source| OpenError::Geometry { path: path.to_owned(), source })?;
    if length_bytes < old.length_bytes() {
        let (found_bytes, asked_bytes) = (old.length_bytes(), length_bytes);
        return Err(OpenError::Shrink { path: path.to_owned(), found_bytes, asked_bytes });
    }
    // First say what will be: then a file of either length explains itself.
    identity.growing_to_blocks = geometry.length_blocks;
    identity.sequence += 1;
    write_identity(path, &identity)?;
    let file = OpenOptions::new().write(true).open(path).map_err(OpenError::io(path, "open"))?;
    file.set_len(length_bytes).map_err(OpenError::io(path, "grow"))?;
    file.sync_all().map_err(OpenError::io(path, "sync"))?;
    identity = Identity { geometry, growing_to_blocks: 0, sequence: identity.sequence + 1, ..identity };
    write_identity(path, &identity)?;
    Ok(geometry)
}

/// Deletes a volume's files, the data last. The volume must not be open.
pub fn delete(path: &Path) -> Result<(), OpenError> {
    let file = match File::open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(OpenError::io(path, "open")(error)),
    };
    if let Some(file) = &file {
        lock(file, path)?;
    }
    for path in [state_path(path), journal_path(path), identity_path(path), path.to_owned()] {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(OpenError::io(&path, "delete")(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    sync_directory(path)
}

fn read_identity(path: &Path) -> Result<Identity, OpenError> {
    let identity_path = identity_path(path);
    let bytes = match std::fs::read(&identity_path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::MissingIdentity { path: path.to_owned(), identity_path });
        }
        Err(error) => return Err(OpenError::io(&identity_path, "read")(error)),
    };
    Identity::decode(&bytes)
        .map_err(|source: IdentityError| OpenError::Identity { path: identity_path, source })
}

/// Replaces the identity file in one step: the new one is durable before it takes the name.
fn write_identity(path: &Path, identity: &Identity) -> Result<(), OpenError> {
    replace(&identity_path(path), &identity.encode_file()).map(drop)
}

/// Puts a file with these bytes under the name `target`, in one step, and returns it open for writing.
pub(crate) fn replace(target: &Path, bytes: &[u8]) -> Result<File, OpenError> {
    let temporary = with_suffix(target, ".new");
    replace_by(&temporary, target, bytes).inspect_err(|_| {
        // It may take the very space that there is not enough of; a failure to remove it adds nothing.
        let _ = std::fs::remove_file(&temporary);
    })
}

fn replace_by(temporary: &Path, target: &Path, bytes: &[u8]) -> Result<File, OpenError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(FILE_MODE);
    let mut file = options.open(temporary).map_err(OpenError::io(temporary, "create"))?;
    file.write_all(bytes).map_err(OpenError::io(temporary, "write"))?;
    file.sync_all().map_err(OpenError::io(temporary, "sync"))?;
    std::fs::rename(temporary, target).map_err(OpenError::io(target, "replace"))?;
    sync_directory(target)?;
    Ok(file)
}

fn sync_directory(path: &Path) -> Result<(), OpenError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = File::open(parent).map_err(OpenError::io(parent, "open"))?;
    directory.sync_all().map_err(OpenError::io(parent, "sync"))
}

fn read_mark(file: &File) -> Option<Uuid> {
    let mut bytes = [0; 16];
    let length = file_probe::attribute(file.as_fd(), MARK, &mut bytes).ok()??;
    (length == bytes.len()).then(|| Uuid::from_bytes(bytes))
}

/// Marks the file where the filesystem has attributes; elsewhere the inode number must do.
fn write_mark(file: &File, path: &Path, uuid: Uuid) -> Result<(), OpenError> {
    match file_probe::set_attribute(file.as_fd(), MARK, uuid.as_bytes()) {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => Ok(()),
        Err(error) => Err(OpenError::io(path, "mark")(error)),
    }
}

fn identify(file: &File, path: &Path, geometry: Geometry, sequence: u64) -> Result<Identity, OpenError> {
    let inode = file.metadata().map_err(OpenError::io(path, "inspect"))?.ino();
    let marked = read_mark(file) == Some(geometry.uuid);
    Ok(Identity { geometry, sequence, growing_to_blocks: 0, marked, inode })
}

/// Is this the file that the identity was written for?
fn check_same(file: &File, path: &Path, identity: &Identity) -> Result<(), OpenError> {
    let mark = read_mark(file);
    let inode = file.metadata().map_err(OpenError::io(path, "inspect"))?.ino();
    let expected = identity.geometry.uuid;
    let same = if identity.marked { mark == Some(expected) } else { inode == identity.inode };
    if same { Ok(()) } else { Err(OpenError::OtherFile { path: path.to_owned(), found: mark, expected }) }
}

/// Compares the size with the identity; true when a growth that a crash cut short was settled.
fn settle_length(path: &Path, found_bytes: u64, identity: &mut Identity) -> Result<bool, OpenError> {
    let expected_bytes = identity.geometry.length_bytes();
    let block_bytes = u64::from(identity.geometry.logical_block_bytes);
    let growing = identity.growing_to_blocks;
    identity.growing_to_blocks = 0;
    if found_bytes == expected_bytes {
        return Ok(growing != 0);
    }
    if growing != 0 && growing.checked_mul(block_bytes) == Some(found_bytes) {
        identity.geometry.length_blocks = growing;
        return Ok(true);
    }
    let path = path.to_owned();
    Err(if found_bytes < expected_bytes {
        OpenError::Truncated { path, found_bytes, expected_bytes }
    } else {
        OpenError::Grown { path, found_bytes, expected_bytes }
    })
}

fn finish(
    path: &Path,
    file: File,
    geometry: Geometry,
    options: FileOptions,
    journal: Option<OpenedJournal>,
) -> Result<OpenedFile, OpenError> {
    let geometry_error = |source: GeometryError| OpenError::Geometry { path: path.to_owned(), source };
    Geometry::new(geometry.uuid, geometry.logical_block_bytes, geometry.length_bytes())
        .map_err(geometry_error)?;
    let allocation = scan(&file, geometry.length_bytes()).map_err(OpenError::errno(path, "map"))?;
    let thin = punches_holes(&file, geometry.length_bytes());
    let mode = choose(&file, geometry.logical_block_bytes, options.buffered)
        .map_err(OpenError::io(path, "choose the I/O mode of"))?;
    Ok(OpenedFile {
        fd: file.into(),
        path: path.to_owned(),
        geometry,
        mode,
        physical_block_bytes: (PAGE_BYTES as u32).max(geometry.logical_block_bytes),
        thin,
        // The disk below may have a cache, and the filesystem has metadata in memory.
        volatile_write_cache: true,
        allocation: Some(allocation),
        journal,
    })
}

/// Asks past the end, where there is nothing to lose.
fn punches_holes(file: &File, length_bytes: u64) -> bool {
    let Ok(offset) = i64::try_from(length_bytes) else { return false };
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(file, flags, offset, PAGE_BYTES as i64).is_ok()
}

/// Where the file holds data, as the filesystem says.
fn scan(file: &File, length_bytes: u64) -> Result<AllocationMap, Errno> {
    let mut map = AllocationMap::empty(length_bytes);
    let end = i64::try_from(length_bytes).map_err(|_| Errno::EFBIG)?;
    let mut at = 0;
    while at < end {
        let data = match lseek64(file, at, Whence::SeekData) {
            Ok(data) => data.min(end),
            // No data from here on.
            Err(Errno::ENXIO) => break,
            // A filesystem that cannot tell: all may be data.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => {
                map.mark(0, length_bytes);
                break;
            }
            Err(errno) => return Err(errno),
        };
        let hole = lseek64(file, data, Whence::SeekHole).map_or(end, |hole| hole.min(end));
        map.mark(data as u64, (hole - data) as u64);
        // Progress even if the two answers contradict each other.
        at = hole.max(data + 1);
    }
    Ok(map)
}
