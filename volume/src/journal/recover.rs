//! Completing what a crash cut short, before the volume is served. Blocking: control calls it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{ENTRY_OFFSET_BYTES, Entry, JournalError, RECORD_BYTES, check_label, length_bytes};
use crate::bdev::Extent;
use crate::geometry::Geometry;

/// A file as recovery uses it.
pub trait BlockingFile {
    /// Fills `bytes` from `offset_bytes` on.
    fn read(&mut self, bytes: &mut [u8], offset_bytes: u64) -> io::Result<()>;
    /// Writes all of `bytes`.
    fn write(&mut self, bytes: &[u8], offset_bytes: u64) -> io::Result<()>;
    /// Makes everything written durable.
    fn sync(&mut self) -> io::Result<()>;
}

impl BlockingFile for File {
    fn read(&mut self, bytes: &mut [u8], offset_bytes: u64) -> io::Result<()> {
        self.read_exact_at(bytes, offset_bytes)
    }

    fn write(&mut self, bytes: &[u8], offset_bytes: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset_bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// What to do with a write that was cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// Complete it.
    Complete,
    /// Forget it: the data file is another than the one it was begun on.
    Forget,
}

/// Why recovery did not end.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The journal is not this volume's, or makes no sense.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal cannot be read or written.
    #[error("its journal: {0}")]
    JournalIo(io::Error),
    /// The data cannot be written. The entry is still there.
    #[error("its data: {0}")]
    DataIo(io::Error),
}

/// Leaves a journal without an entry, after the write that it holds, if it holds a whole one, was completed in `data`; says which
/// blocks that wrote. Cut short itself, it is simply done again.
pub fn recover(
    data: &mut dyn BlockingFile,
    journal: &mut dyn BlockingFile,
    geometry: &Geometry,
    pending: Pending,
) -> Result<Option<Extent>, RecoverError> {
    let mut label = [0; RECORD_BYTES];
    read(journal, &mut label, 0)?;
    check_label(&label, geometry)?;
    let mut bytes = vec![0; (length_bytes(geometry.logical_block_bytes) - ENTRY_OFFSET_BYTES) as usize];
    read(journal, &mut bytes, ENTRY_OFFSET_BYTES)?;
    let entry = Entry::decode(&bytes, geometry)?.filter(|_| pending == Pending::Complete);
    let completed = entry.map(|(entry, content)| (entry.extent, content));
    if let Some((extent, content)) = completed {
        // A killed process may have left the entry in the page cache only: it must outlive the power before its blocks are written.
        journal.sync().map_err(RecoverError::JournalIo)?;
        let offset_bytes = extent.lba * u64::from(geometry.logical_block_bytes);
        data.write(content, offset_bytes).map_err(RecoverError::DataIo)?;
        // Durable in place before the entry is touched.
        data.sync().map_err(RecoverError::DataIo)?;
    }
    let completed = completed.map(|(extent, _)| extent);
    if bytes.iter().any(|&byte| byte != 0) {
        bytes.fill(0);
        journal.write(&bytes, ENTRY_OFFSET_BYTES).map_err(RecoverError::JournalIo)?;
    }
    // Also when it reads zeros: what an earlier process wrote may be in the page cache only, and an entry under it.
    journal.sync().map_err(RecoverError::JournalIo)?;
    Ok(completed)
}

fn read(journal: &mut dyn BlockingFile, bytes: &mut [u8], offset_bytes: u64) -> Result<(), RecoverError> {
    journal.read(bytes, offset_bytes).map_err(|error| match error.kind() {
        // Shorter than a journal is ever made.
        io::ErrorKind::UnexpectedEof => JournalError::Foreign.into(),
        _ => RecoverError::JournalIo(error),
    })
}
