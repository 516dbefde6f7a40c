//! One opener at a time, and the name of the one who was first. Blocking: control calls it.
//!
//! A process that was killed may hold its files for some milliseconds longer than it lives: the kernel takes its io_uring,
//! and what was in flight there, apart in the background. So a file whose holder is gone is waited for, within a bound.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::limits::{LOCK_PAUSE, LOCK_TRIES};
use crate::open_error::{Holder, OpenError};

/// Locks `file` for as long as its description is open, wherever that goes.
pub(crate) fn lock(file: &File, path: &Path) -> Result<(), OpenError> {
    lock_within(file, path, || std::thread::sleep(LOCK_PAUSE))
}

/// As [`lock`], with `pause` between two tries.
fn lock_within(file: &File, path: &Path, mut pause: impl FnMut()) -> Result<(), OpenError> {
    let mut tries = 0;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {
                let holder = holder(file);
                tries += 1;
                if holder.is_some() || tries == LOCK_TRIES {
                    return Err(OpenError::InUse { path: path.to_owned(), holder });
                }
                pause();
            }
            Err(TryLockError::Error(source)) => return Err(OpenError::io(path, "lock")(source)),
        }
    }
}

/// Who has `file` locked, from the system's list of locks; nobody if that process has ended.
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
    let pid = holder_pid(&locks, &wanted).filter(|pid| lives(*pid))?;
    let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(Holder { pid, command: command.trim_end().to_owned() })
}

/// One that has ended, and waits only to be asked how, has no program any more.
fn lives(pid: u32) -> bool {
    let program = std::fs::read_link(format!("/proc/{pid}/exe"));
    !matches!(program, Err(error) if error.kind() == std::io::ErrorKind::NotFound)
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

    #[test]
    fn a_file_of_a_living_process_is_refused_at_once() {
        let held = tempfile::NamedTempFile::new().expect("a temporary file");
        held.as_file().try_lock().expect("nobody has it");
        let second = File::open(held.path()).expect("it is there");
        let refused = lock_within(&second, held.path(), || panic!("nothing to wait for"));
        let error = refused.expect_err("it is locked");
        assert!(
            matches!(error, OpenError::InUse { holder: Some(holder), .. } if holder.pid == std::process::id())
        );
    }

    /// A process that keeps a lock for one that has ended.
    struct Keeper(std::process::Child);

    impl Keeper {
        /// Has `path` locked by a process that ends; its description, and with it the lock, lives on in this one.
        fn of(path: &Path) -> Self {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", "exec 9<>\"$0\"; flock 9; echo locked; exec sleep 600"]).arg(path);
            let mut keeper = Self(shell.stdout(std::process::Stdio::piped()).spawn().expect("a shell"));
            let mut word = [0; 7];
            std::io::Read::read_exact(keeper.0.stdout.as_mut().expect("piped"), &mut word).expect("it locks");
            keeper
        }
    }

    impl Drop for Keeper {
        fn drop(&mut self) {
            self.0.kill().expect("it sleeps");
            self.0.wait().expect("a child");
        }
    }

    #[test]
    fn a_file_that_a_process_left_behind_is_waited_for() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut keeper = Some(Keeper::of(file.path()));
        let mut pauses = 0;
        let locked = lock_within(file.as_file(), file.path(), || {
            pauses += 1;
            if pauses == 3 {
                drop(keeper.take());
            }
        });
        assert!(locked.is_ok() && pauses == 3);
    }

    #[test]
    fn the_wait_has_a_bound() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let keeper = Keeper::of(file.path());
        let mut pauses = 0;
        let refused = lock_within(file.as_file(), file.path(), || pauses += 1);
        drop(keeper);
        assert!(matches!(refused, Err(OpenError::InUse { holder: None, .. })));
        assert_eq!(pauses, LOCK_TRIES - 1);
    }
}
