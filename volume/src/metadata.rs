//! A small durable blob beside a volume, replaced as a whole: its reservations.
//!
//! Two slots; a new blob goes to the one that does not hold the newest. A write that is cut short
//! therefore leaves the older blob, and one that was answered as durable is what the next load
//! finds.
//!
//! ```text
//! slot: magic "VEGAmeta" · sequence (8) · length (4) · CRC-32C of all but itself (4) · zeros (8) · blob
//! ```
//! Numbers are little-endian. Writes are whole pages, so the slots may lie on a block device.

use std::fs::{File as StdFile, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use reactor::buffer::BufferPool;
use reactor::file::{File, FileDone, FileOp, FileSystem};

use crate::limits::{METADATA_BLOB_BYTES, METADATA_SLOT_BYTES, PAGE_BYTES};

const MAGIC: [u8; 8] = *b"VEGAmeta";
const HEADER_BYTES: usize = 32;

/// Why a metadata store was not opened.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// A system call failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Both slots hold something and neither is whole. A write that was cut short damages one.
    #[error(
        "{}: both copies of the volume's reservations are damaged; delete the file to serve the volume \
         without them, after every host that reserved it was stopped",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// One answered blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataDone {
    /// The caller's number.
    pub tag: u64,
    /// `Ok`: this blob, or a later one, is what the next load finds. Else the system's error
    /// number, and the next load finds this blob or an earlier one.
    pub result: Result<(), i32>,
}

/// Keeps the newest of the blobs given to it.
pub trait MetadataStore {
    /// Replaces the blob (at most [`METADATA_BLOB_BYTES`]); `poll` says when it is durable.
    fn submit(&mut self, tag: u64, blob: Vec<u8>);

    /// Appends what has been answered.
    fn poll(&mut self, out: &mut Vec<MetadataDone>);

    /// Blobs submitted and not yet answered.
    fn in_flight(&self) -> usize;
}

/// For volumes that end with the process: answers at the next poll and forgets.
#[derive(Debug, Default)]
pub struct MemoryStore {
    blob: Vec<u8>,
    answered: Vec<MetadataDone>,
}

impl MemoryStore {
    /// The newest blob.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }
}

impl MetadataStore for MemoryStore {
    fn submit(&mut self, tag: u64, blob: Vec<u8>) {
        assert!(blob.len() <= METADATA_BLOB_BYTES, "a blob longer than a slot");
        self.blob = blob;
        self.answered.push(MetadataDone { tag, result: Ok(()) });
    }

    fn poll(&mut self, out: &mut Vec<MetadataDone>) {
        out.append(&mut self.answered);
    }

    fn in_flight(&self) -> usize {
        self.answered.len()
    }
}

/// What the slots of a store hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The newest whole blob; `None` when none was ever finished.
    pub blob: Option<Vec<u8>>,
    /// The highest sequence number seen.
    sequence: u64,
    /// The slot that must not be overwritten next.
    newest: usize,
}

impl Loaded {
    /// What slots hold of which the first was written for the first time.
    pub(crate) fn first(blob: Option<Vec<u8>>) -> Self {
        let sequence = u64::from(blob.is_some());
        Self { blob, sequence, newest: 0 }
    }

    /// Reads the slots from their bytes; `None` when both are damaged.
    pub fn decode(slots: [&[u8]; 2]) -> Option<Self> {
        let decoded = slots.map(decode_slot);
        let blank = |slot: &[u8]| slot.iter().all(|&byte| byte == 0);
        let (newest, (sequence, blob)) = match decoded {
            [Some(a), Some(b)] if b.0 > a.0 => (1, b),
            [Some(a), _] => (0, a),
            [None, Some(b)] => (1, b),
            [None, None] if slots.map(blank).contains(&true) => return Some(Self::default()),
            [None, None] => return None,
        };
        Some(Self { blob: Some(blob), sequence, newest })
    }
}

fn crc_of(slot: &[u8], end: usize) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&slot[..20]);
    digest.update(&slot[24..end]);
    digest.finalize() as u32
}

fn decode_slot(slot: &[u8]) -> Option<(u64, Vec<u8>)> {
    let header = slot.first_chunk::<HEADER_BYTES>()?;
    let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let length = usize::try_from(u32_at(16)).ok().filter(|length| *length <= METADATA_BLOB_BYTES)?;
    let end = HEADER_BYTES + length;
    if header[..8] != MAGIC || slot.len() < end || u32_at(20) != crc_of(slot, end) {
        return None;
    }
    let sequence = u64::from_le_bytes(header[8..16].try_into().expect("eight bytes"));
    Some((sequence, slot[HEADER_BYTES..end].to_vec()))
}

/// The bytes to write for `blob`: whole pages.
pub(crate) fn encode_slot(sequence: u64, blob: &[u8]) -> Vec<u8> {
    let end = HEADER_BYTES + blob.len();
    let mut slot = vec![0; end.next_multiple_of(PAGE_BYTES as usize)];
    slot[..8].copy_from_slice(&MAGIC);
    slot[8..16].copy_from_slice(&sequence.to_le_bytes());
    slot[16..20].copy_from_slice(&(blob.len() as u32).to_le_bytes());
    slot[HEADER_BYTES..end].copy_from_slice(blob);
    let crc = crc_of(&slot, end);
    slot[20..24].copy_from_slice(&crc.to_le_bytes());
    slot
}

/// An opened store; it may travel to the core that will write it.
#[derive(Debug)]
pub struct OpenedMetadata {
    /// Open for reading and writing.
    pub fd: OwnedFd,
    /// Where the slots begin.
    pub base_bytes: u64,
    /// What they hold.
    pub loaded: Loaded,
}

/// Opens the store at `path`, or makes an empty one. Blocking: control calls it.
pub fn open(path: &Path) -> Result<OpenedMetadata, MetadataError> {
    let io = |action| move |source| MetadataError::Io { path: path.to_owned(), action, source };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(crate::file_open::FILE_MODE);
    let file = options.open(path).map_err(io("open"))?;
    if file.metadata().map_err(io("inspect"))?.len() < 2 * METADATA_SLOT_BYTES {
        // Written, not left sparse, so that keeping a reservation never fails for want of space.
        let zeros = vec![0; 2 * METADATA_SLOT_BYTES as usize];
        file.write_all_at(&zeros, 0).map_err(io("write"))?;
        file.sync_all().map_err(io("sync"))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        StdFile::open(parent)
            .and_then(|directory| directory.sync_all())
            .map_err(io("sync the directory of"))?;
    }
    open_at(file, path, 0)
}

/// Reads the slots of `file` from `base_bytes` on; `path` is for messages.
pub(crate) fn open_at(file: StdFile, path: &Path, base_bytes: u64) -> Result<OpenedMetadata, MetadataError> {
    let mut bytes = vec![0; 2 * METADATA_SLOT_BYTES as usize];
    let read = file.read_exact_at(&mut bytes, base_bytes);
    read.map_err(|source| MetadataError::Io { path: path.to_owned(), action: "read", source })?;
    let (first, second) = bytes.split_at(METADATA_SLOT_BYTES as usize);
    let loaded =
        Loaded::decode([first, second]).ok_or_else(|| MetadataError::Damaged { path: path.to_owned() })?;
    Ok(OpenedMetadata { fd: file.into(), base_bytes, loaded })
}

/// The store in two slots of a file, on one core.
pub struct SlotStore {
    file: Box<dyn File>,
    base_bytes: u64,
    buffers: BufferPool,
    sequence: u64,
    newest: usize,
    /// The blobs that the write under way answers.
    writing: Vec<u64>,
    /// The blobs that the next write answers; only the last of them is written.
    waiting: Vec<u64>,
    next_blob: Vec<u8>,
    file_done: Vec<FileDone>,
}

impl SlotStore {
    /// Takes over an opened store on the core of `files`. Errors: the system's.
    pub fn new(opened: OpenedMetadata, files: &dyn FileSystem, buffers: &BufferPool) -> io::Result<Self> {
        let file = files.adopt(opened.fd)?;
        Ok(Self::over(file, opened.base_bytes, &opened.loaded, buffers))
    }

    /// A store over a file that is already on this core; simulations start here.
    pub fn over(file: Box<dyn File>, base_bytes: u64, loaded: &Loaded, buffers: &BufferPool) -> Self {
        Self {
            file,
            base_bytes,
            buffers: buffers.clone(),
            sequence: loaded.sequence,
            newest: loaded.newest,
            writing: Vec::new(),
            waiting: Vec::new(),
            next_blob: Vec::new(),
            file_done: Vec::new(),
        }
    }

    /// Starts the next write unless one is under way; without memory or room it is tried again at
    /// the next poll.
    fn begin(&mut self) {
        if !self.writing.is_empty() || self.waiting.is_empty() {
            return;
        }
        let slot = encode_slot(self.sequence + 1, &self.next_blob);
        let Some(mut sgl) = self.buffers.alloc(slot.len()) else { return };
        sgl.copy_in(0, &slot);
        let target = 1 - self.newest;
        let offset_bytes = self.base_bytes + target as u64 * METADATA_SLOT_BYTES;
        // A number is used once: were a failed write on the medium after all, a later one is newer.
        if self.file.submit(self.sequence + 1, FileOp::Write { offset_bytes, sgl, durable: true }).is_ok() {
            self.sequence += 1;
            std::mem::swap(&mut self.writing, &mut self.waiting);
        }
    }
}

impl MetadataStore for SlotStore {
    fn submit(&mut self, tag: u64, blob: Vec<u8>) {
        assert!(blob.len() <= METADATA_BLOB_BYTES, "a blob longer than a slot");
        self.next_blob = blob;
        self.waiting.push(tag);
        self.begin();
    }

    fn poll(&mut self, out: &mut Vec<MetadataDone>) {
        if self.file.in_flight() > 0 {
            let mut file_done = std::mem::take(&mut self.file_done);
            self.file.poll(&mut file_done);
            for done in file_done.drain(..) {
                if done.result.is_ok() {
                    self.newest = 1 - self.newest;
                }
                out.extend(self.writing.drain(..).map(|tag| MetadataDone { tag, result: done.result }));
            }
            self.file_done = file_done;
        }
        self.begin();
    }

    fn in_flight(&self) -> usize {
        self.writing.len() + self.waiting.len()
    }
}

#[cfg(test)]
mod tests;
