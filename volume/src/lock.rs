//! One opener at a time, and the name of the one who was first. Blocking: control calls it.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::open_error::{Holder, OpenError};

/// Locks `file` for as long as its description is open, wherever that goes.
pub(crate) fn lock(file: &File, path: &Path) -> Result<(), OpenError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(OpenError::InUse { path: path.to_owned(), holder: holder(file) })
        }
        Err(TryLockError::Error(source)) => Err(OpenError::io(path, "lock")(source)),
    }
}

/// Who has `file` locked, from the system's list of locks.
pub(crate) fn holder(file: &File) -> Option<Holder> {
    let metadata = file.metadata().ok()?;
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let device = metadata.dev();
    let wanted = format!(
        "{:02x}:{:02x}:{}",
        nix::sys::stat::major(device),
        nix::sys::stat::minor(device),
        metadata.ino()
    );
    let pid = holder_pid(&locks, &wanted)?;
    let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(Holder { pid, command: command.trim_end().to_owned() })
}

/// The process in the line of `/proc/locks` that is a whole-file lock on `wanted` and not a waiter.
fn holder_pid(locks: &str, wanted: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (_number, kind) = (words.next()?, words.next()?);
        let (_advisory, _access, pid, place) = (words.next()?, words.next()?, words.next()?, words.next()?);
        (kind == "FLOCK" && place == wanted).then(|| pid.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_read_from_the_list_of_locks() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 fe:00:5 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 22 fe:00:5 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 33 fe:00:6 0 EOF\n";
        assert_eq!(holder_pid(locks, "fe:00:5"), Some(22));
        assert_eq!(holder_pid(locks, "fe:00:6"), None);
        assert_eq!(holder_pid("", "fe:00:5"), None);
    }
}
