//! Why a file or a block device was not opened: always the path, what was found, what was
//! expected, and what a person can do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::geometry::GeometryError;
use crate::identity::IdentityError;
use crate::journal::JournalError;
use crate::signature::Found;

/// The process that has a file open, as far as the system tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its name, or empty.
    pub command: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "process {} ({})",
            self.pid,
            if self.command.is_empty() { "unknown" } else { &self.command }
        )
    }
}

fn by(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "another process".to_owned(), Holder::to_string)
}

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
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
    /// Creation never overwrites.
    #[error("{} already exists; open it, or choose another name", path.display())]
    AlreadyExists {
        /// The file in the way.
        path: PathBuf,
    },
    /// No data file.
    #[error("{} does not exist; restore it beside its identity, or delete the volume", path.display())]
    MissingData {
        /// The data file.
        path: PathBuf,
    },
    /// A data file without its identity file.
    #[error(
        "{} has no identity file {}; it is not known whose data it is: restore that file from a backup, \
         or import the data as a new volume",
        path.display(), identity_path.display()
    )]
    MissingIdentity {
        /// The data file.
        path: PathBuf,
        /// Where its identity should be.
        identity_path: PathBuf,
    },
    /// The identity is unreadable.
    #[error("{}: {source}; restore it from a backup, or use the release that wrote it", path.display())]
    Identity {
        /// The identity file or the device.
        path: PathBuf,
        /// What is wrong with it.
        source: IdentityError,
    },
    /// The journal of atomic writes is not the volume's, or unreadable.
    #[error(
        "{}: {source}; put the volume's own file back, or move this one away: the volume is then served without it, and a write \
         that a crash cut short stays as it is",
        path.display()
    )]
    Journal {
        /// The journal.
        path: PathBuf,
        /// What is wrong with it.
        source: JournalError,
    },
    /// The shape asked for is impossible.
    #[error("{}: {source}", path.display())]
    Geometry {
        /// The file or the device.
        path: PathBuf,
        /// What is wrong with it.
        source: GeometryError,
    },
    /// Somebody else has it.
    #[error("{} is in use by {}; stop that process first", path.display(), by(holder.as_ref()))]
    InUse {
        /// The file or the device.
        path: PathBuf,
        /// Who, if the system tells.
        holder: Option<Holder>,
    },
    /// Shorter than it was.
    #[error(
        "{} holds {found_bytes} bytes and its identity says {expected_bytes}: it was truncated, data is lost; \
         restore it from a backup",
        path.display()
    )]
    Truncated {
        /// The data file or the device.
        path: PathBuf,
        /// Its size.
        found_bytes: u64,
        /// The size in its identity.
        expected_bytes: u64,
    },
    /// Longer than it was.
    #[error(
        "{} holds {found_bytes} bytes and its identity says {expected_bytes}: something else made it longer; \
         cut it back to {expected_bytes} bytes and grow the volume instead",
        path.display()
    )]
    Grown {
        /// The data file.
        path: PathBuf,
        /// Its size.
        found_bytes: u64,
        /// The size in its identity.
        expected_bytes: u64,
    },
    /// Another file lies under the name.
    #[error(
        "{} is another file than its identity was written for (found {}, expected volume {expected}): \
         put the right file back, or, if this is a restored copy of it, open it once with adoption",
        path.display(), found.map_or_else(|| "a file without a mark".to_owned(), |uuid| format!("volume {uuid}"))
    )]
    OtherFile {
        /// The data file.
        path: PathBuf,
        /// The volume whose mark it carries, if any.
        found: Option<Uuid>,
        /// The volume in the identity.
        expected: Uuid,
    },
    /// The volume is not the one that was asked for.
    #[error("{} holds volume {found}, not {expected}; check which path belongs to which volume", path.display())]
    OtherVolume {
        /// The file or the device.
        path: PathBuf,
        /// Whose data it holds.
        found: Uuid,
        /// Whose was wanted.
        expected: Uuid,
    },
    /// Not the kind of file that the back end works on.
    #[error("{} is not a {expected}", path.display())]
    Kind {
        /// The path.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// Data of somebody else on a device that was to be formatted.
    #[error(
        "{} holds {found}; to destroy it and use the device, confirm with its serial number or identity ({})",
        path.display(), confirmation
    )]
    Occupied {
        /// The device.
        path: PathBuf,
        /// What was recognised, and where.
        found: Found,
        /// What the confirmation must be.
        confirmation: String,
    },
    /// The device cannot address blocks that small.
    #[error(
        "{} addresses {device_bytes}-byte blocks and the volume {volume_bytes}-byte blocks; \
         use a block size of {device_bytes}",
        path.display()
    )]
    BlockSize {
        /// The device.
        path: PathBuf,
        /// Its logical block.
        device_bytes: u32,
        /// The volume's.
        volume_bytes: u32,
    },
    /// A growth to less.
    #[error("{} holds {found_bytes} bytes and was to grow to {asked_bytes}; a volume never shrinks", path.display())]
    Shrink {
        /// The file.
        path: PathBuf,
        /// Its size.
        found_bytes: u64,
        /// The size asked for.
        asked_bytes: u64,
    },
}

impl OpenError {
    /// Wraps what the system said about `action` on `path`.
    pub(crate) fn io<'a>(path: &'a Path, action: &'static str) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |source| Self::Io { path: path.to_owned(), action, source }
    }

    pub(crate) fn errno<'a>(
        path: &'a Path,
        action: &'static str,
    ) -> impl FnOnce(nix::errno::Errno) -> Self + use<'a> {
        move |errno| Self::Io { path: path.to_owned(), action, source: errno.into() }
    }
}
