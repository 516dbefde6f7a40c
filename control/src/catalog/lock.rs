//! One process at a time on a data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::CatalogError;

/// Held for the life of the process; the kernel lets go of it however the process ends.
pub(super) struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Takes the lock at once or says who has it.
    pub(super) fn take(data_dir: &Path) -> Result<Self, CatalogError> {
        let path = data_dir.join("lock");
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = opened.map_err(CatalogError::file("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message; a lock without a readable holder is as locked.
                let _ = (&file).take(32).read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process".to_owned(),
                    pid => format!("process {pid}"),
                };
                return Err(CatalogError::Locked { path: data_dir.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(CatalogError::file("lock", &path)(error)),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(CatalogError::file("write", &path))?;
        Ok(Self { _file: file })
    }
}
