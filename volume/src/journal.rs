//! The journal of a file's atomic writes: what makes many blocks change all or nothing although the disk writes them one by one.
//!
//! Beside the data file `<name>` lies `<name>.atomic`, with room for one write ([`FILE_ATOMIC_WRITE_BLOCKS`]). The write goes there
//! first, and only when it is on the medium there does it go to its place. A crash on the way leaves either no whole entry, and then
//! nothing was written in place, or a whole one, and then opening the file completes the write before anything is served.
//!
//! ```text
//! take space in the data file ─▶ entry, durable ─▶ in place, durable ─▶ answered
//!                                                                          ┊ the entry stays until it is in the way:
//!      the next atomic write puts its own over it ◀────────────────────────┤
//!      a later change of one of its blocks, or a flush ─▶ zeros, durable ◀─┘
//! ```
//!
//! **Why it is all or nothing.** Until the entry is durable nothing is written in place: a crash leaves the old blocks. From then on
//! until the blocks are durable in place the entry is whole: a crash leaves the new blocks, by way of recovery. The entry has checksums
//! over itself and over its data, so one that was cut short is known. Space is taken first, so that running out of it, the one failure
//! that is nobody's fault, happens before anything is written. A part of a single sector of [`SECTOR_BYTES`] is what the disk itself
//! never leaves behind, so a write of one block of that size needs no journal.
//!
//! **Why nothing is lost.** An atomic write is answered when its blocks are durable in place, whether or not that was asked for. From
//! then on the entry is of no use and may be torn, overwritten or lost.
//!
//! **Why recovery undoes nothing.** As long as the entry may be found, recovery writes its blocks again. That changes nothing while they
//! hold what it says. So whoever wants to change one of them (a write, an unmap, zeros) waits until the entry is durably gone;
//! this is one comparison for an I/O that has nothing to do with it. The entry's own successor is such a change as well, but it becomes
//! durable in the entry's place before it is written in its own.
//!
//! **Why a flush removes it.** A volume that was closed in order leaves a journal without an entry, so a data file that is replaced
//! while nobody serves it (restored from a backup) is not written to by the next open. After a crash that promise cannot be given:
//! who restores a data file then deletes the journal with it. A file that has to be adopted is never written to by its journal.
//!
//! **Why the entry is zeroed and not only marked.** Sanitizing a volume changes every block, so it meets whatever entry there is, and
//! afterwards the journal holds none of its data either.
//!
//! **What fails.** An entry that cannot be written leaves the blocks as they were. A write that fails in place may have torn them: the
//! channel writes nothing any more, does not read them, and the next open completes them from the entry. An entry that cannot be zeroed
//! counts as a failed sync, which is final as well.
//!
//! The label is written once, when the journal is made, and says whose it is: no torn write can damage that.
//!
//! ```text
//! byte    0  label  magic "VEGAatom" · version (4) · logical block (4) · uuid (16) · zeros … CRC-32C in the last 4 of 512
//! byte 4096  entry  magic "VEGAentr" · sequence (8) · LBA (8) · blocks (4) · CRC-32C of the data (4) · uuid (16) · zeros … CRC-32C
//! byte 8192  data of the entry
//! ```
//! Numbers are little-endian. Everything from byte 4096 on is zeros when there is no entry.

mod recover;

use reactor::buffer::Sgl;
use uuid::Uuid;

use crate::bdev::Extent;
use crate::geometry::Geometry;
use crate::limits::{FILE_ATOMIC_WRITE_BLOCKS, PAGE_BYTES};
pub use recover::{BlockingFile, Pending, RecoverError, recover};

#[cfg(doc)]
use crate::limits::SECTOR_BYTES;

/// Where the entry lies.
pub const ENTRY_OFFSET_BYTES: u64 = PAGE_BYTES;
/// Where its data lies.
pub const DATA_OFFSET_BYTES: u64 = 2 * PAGE_BYTES;
/// The length of an encoded label or entry.
pub const RECORD_BYTES: usize = 512;
/// The format this build writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

const LABEL_MAGIC: [u8; 8] = *b"VEGAatom";
const ENTRY_MAGIC: [u8; 8] = *b"VEGAentr";

/// Why bytes are not this volume's journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// It does not start like one.
    #[error("not a journal of atomic writes")]
    Foreign,
    /// It starts like one and its checksum is wrong.
    #[error("the label of the journal of atomic writes is damaged")]
    Damaged,
    /// Written by a later release.
    #[error("journal format {found}, and this release knows formats up to {FORMAT_VERSION}")]
    Version {
        /// The format found.
        found: u32,
    },
    /// It is another volume's.
    #[error("the journal of atomic writes of volume {found}, not of {expected}")]
    OtherVolume {
        /// Whose it is.
        found: Uuid,
        /// Whose it should be.
        expected: Uuid,
    },
    /// The label is this volume's and the rest is not.
    #[error("the journal holds an atomic write that does not fit the volume")]
    Impossible,
}

/// The length of the journal of a volume with blocks of that size.
pub fn length_bytes(logical_block_bytes: u32) -> u64 {
    DATA_OFFSET_BYTES + u64::from(FILE_ATOMIC_WRITE_BLOCKS) * u64::from(logical_block_bytes)
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// CRC-32C of a payload.
pub(crate) fn crc_of(sgl: &Sgl) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    sgl.segments().for_each(|piece| digest.update(piece));
    digest.finalize() as u32
}

fn sealed(fields: &[(usize, &[u8])]) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    for (at, bytes) in fields {
        record[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    let crc = crc32c(&record[..RECORD_BYTES - 4]);
    record[RECORD_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    record
}

/// The fields of a record.
struct Fields<'a>(&'a [u8; RECORD_BYTES]);

impl Fields<'_> {
    fn is_whole(&self) -> bool {
        self.u32(RECORD_BYTES - 4) == crc32c(&self.0[..RECORD_BYTES - 4])
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }

    fn uuid(&self, at: usize) -> Uuid {
        Uuid::from_slice(&self.0[at..at + 16]).expect("sixteen bytes")
    }
}

/// The label of the journal of a volume.
pub fn encode_label(geometry: &Geometry) -> [u8; RECORD_BYTES] {
    sealed(&[
        (0, &LABEL_MAGIC),
        (8, &FORMAT_VERSION.to_le_bytes()),
        (12, &geometry.logical_block_bytes.to_le_bytes()),
        (16, geometry.uuid.as_bytes()),
    ])
}

/// Whether `bytes` begin with the label of this volume's journal.
pub fn check_label(bytes: &[u8], geometry: &Geometry) -> Result<(), JournalError> {
    let record = bytes.first_chunk::<RECORD_BYTES>().ok_or(JournalError::Foreign)?;
    if record[..8] != LABEL_MAGIC {
        return Err(JournalError::Foreign);
    }
    let label = Fields(record);
    if !label.is_whole() {
        return Err(JournalError::Damaged);
    }
    if label.u32(8) > FORMAT_VERSION {
        return Err(JournalError::Version { found: label.u32(8) });
    }
    let (found, expected) = (label.uuid(16), geometry.uuid);
    if found != expected {
        return Err(JournalError::OtherVolume { found, expected });
    }
    if label.u32(12) == geometry.logical_block_bytes { Ok(()) } else { Err(JournalError::Impossible) }
}

/// One atomic write as the journal describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Counts the atomic writes since the file was opened.
    pub sequence: u64,
    /// Its blocks.
    pub extent: Extent,
    /// CRC-32C of its data.
    pub data_crc: u32,
}

impl Entry {
    /// Its record.
    pub fn encode(&self, uuid: Uuid) -> [u8; RECORD_BYTES] {
        sealed(&[
            (0, &ENTRY_MAGIC),
            (8, &self.sequence.to_le_bytes()),
            (16, &self.extent.lba.to_le_bytes()),
            (24, &(self.extent.length_blocks as u32).to_le_bytes()),
            (28, &self.data_crc.to_le_bytes()),
            (32, uuid.as_bytes()),
        ])
    }

    /// The entry in the bytes of a journal from [`ENTRY_OFFSET_BYTES`] on, with its data; `None` when there is none, or one that
    /// was cut short: then nothing of it was written in place.
    pub fn decode<'a>(
        bytes: &'a [u8],
        geometry: &Geometry,
    ) -> Result<Option<(Self, &'a [u8])>, JournalError> {
        let Some(record) = bytes.first_chunk::<RECORD_BYTES>() else { return Ok(None) };
        let fields = Fields(record);
        if record[..8] != ENTRY_MAGIC || !fields.is_whole() {
            return Ok(None);
        }
        let (lba, length_blocks) = (fields.u64(16), u64::from(fields.u32(24)));
        let extent =
            Extent::new(lba, length_blocks, geometry.length_blocks).ok_or(JournalError::Impossible)?;
        let fits = (1..=u64::from(FILE_ATOMIC_WRITE_BLOCKS)).contains(&length_blocks);
        if !fits || fields.uuid(32) != geometry.uuid {
            return Err(JournalError::Impossible);
        }
        let entry = Self { sequence: fields.u64(8), extent, data_crc: fields.u32(28) };
        let from = (DATA_OFFSET_BYTES - ENTRY_OFFSET_BYTES) as usize;
        let length_bytes = (length_blocks * u64::from(geometry.logical_block_bytes)) as usize;
        let data = bytes.get(from..from + length_bytes);
        Ok(data.filter(|data| crc32c(data) == entry.data_crc).map(|data| (entry, data)))
    }
}

#[cfg(test)]
mod tests;
