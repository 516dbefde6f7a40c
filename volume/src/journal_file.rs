//! The file of a journal of atomic writes: made, opened, and what it holds completed. Blocking: control calls it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::bdev::Extent;
use crate::file_open::replace;
use crate::geometry::Geometry;
use crate::journal::{Pending, RecoverError, encode_label, length_bytes, recover};
use crate::lock::lock;
use crate::open_error::OpenError;

/// A journal without an entry; it may travel to the core that will use it.
#[derive(Debug)]
pub struct OpenedJournal {
    /// Open for reading and writing through the page cache, so that a payload goes there in whatever pieces it lies.
    pub fd: OwnedFd,
    /// The blocks of a write that a crash had cut short and that opening completed.
    pub completed: Option<Extent>,
}

/// Makes an empty journal. Its space is taken, so that an atomic write does not fail for want of it.
pub(crate) fn create(path: &Path, geometry: &Geometry) -> Result<OpenedJournal, OpenError> {
    let mut bytes = vec![0; length_bytes(geometry.logical_block_bytes) as usize];
    let label = encode_label(geometry);
    bytes[..label.len()].copy_from_slice(&label);
    let file = replace(path, &bytes)?;
    lock(&file, path)?;
    Ok(OpenedJournal { fd: file.into(), completed: None })
}

/// Opens the journal at `path` and completes in `data` what it holds. A volume without one gets one; `None` when there is no room for it,
/// for a volume that cannot write atomically is worth more than none.
pub(crate) fn open(
    path: &Path,
    data: &mut File,
    data_path: &Path,
    geometry: &Geometry,
    pending: Pending,
) -> Result<Option<OpenedJournal>, OpenError> {
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return create_where_there_is_room(path, geometry);
        }
        Err(error) => return Err(OpenError::io(path, "open")(error)),
    };
    // What a killed process had in flight may still be on its way to this file: its lock goes with the last of it.
    lock(&file, path)?;
    let completed = recover(data, &mut file, geometry, pending).map_err(|error| match error {
        RecoverError::Journal(source) => OpenError::Journal { path: path.to_owned(), source },
        RecoverError::JournalIo(source) => OpenError::io(path, "complete the atomic write in")(source),
        RecoverError::DataIo(source) => OpenError::io(data_path, "complete an atomic write in")(source),
    })?;
    Ok(Some(OpenedJournal { fd: file.into(), completed }))
}

fn create_where_there_is_room(path: &Path, geometry: &Geometry) -> Result<Option<OpenedJournal>, OpenError> {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    match create(path, geometry) {
        Ok(journal) => Ok(Some(journal)),
        Err(OpenError::Io { source, .. }) if full.contains(&source.kind()) => Ok(None),
        Err(error) => Err(error),
    }
}
