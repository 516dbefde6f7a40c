//! Files and block devices as a poller sees them: submit with owned buffers, collect completions.

use std::os::fd::OwnedFd;

use crate::buffer::Sgl;

/// What to do with a file. Offsets and lengths are bytes and, for a file opened with `O_DIRECT`,
/// multiples of its alignment.
#[derive(Debug)]
pub enum FileOp {
    /// Fill the list from `offset_bytes` on.
    Read {
        /// Where in the file.
        offset_bytes: u64,
        /// What to fill.
        sgl: Sgl,
    },
    /// Write the list at `offset_bytes`; with `durable`, complete only when it is on the medium.
    Write {
        /// Where in the file.
        offset_bytes: u64,
        /// What to write.
        sgl: Sgl,
        /// Complete only when these bytes are on the medium.
        durable: bool,
    },
    /// Make everything that completed before durable (`fdatasync`).
    Sync,
    /// Free the range; it reads zeros afterwards. `EOPNOTSUPP` where the file system cannot.
    PunchHole {
        /// Where in the file.
        offset_bytes: u64,
        /// How much.
        length_bytes: u64,
    },
    /// Take the space of a range inside the file, so that writing there does not run out of it; what it reads stays as it is.
    /// `EOPNOTSUPP` where the file system cannot.
    Allocate {
        /// Where in the file.
        offset_bytes: u64,
        /// How much.
        length_bytes: u64,
    },
    /// Zero the range and keep it allocated. `EOPNOTSUPP` where the file system cannot.
    ZeroRange {
        /// Where in the file.
        offset_bytes: u64,
        /// How much.
        length_bytes: u64,
    },
}

/// The end of a [`FileOp`]; the buffers are home again.
#[derive(Debug)]
pub struct FileDone {
    /// The tag given at submission.
    pub tag: u64,
    /// `Ok` only when the whole operation was done (short reads and writes are continued inside);
    /// else the operating system's error number. A read past the end of the file fails with `EIO`.
    pub result: Result<(), i32>,
    /// The list of a read or write; empty otherwise.
    pub sgl: Sgl,
}

/// One open file on one core.
pub trait File {
    /// Starts `op`. `Err` gives it back when the queue is full: try again at the next turn.
    fn submit(&mut self, tag: u64, op: FileOp) -> Result<(), FileOp>;

    /// Appends what has completed to `out`.
    fn poll(&mut self, out: &mut Vec<FileDone>);

    /// Operations submitted and not yet returned by `poll`.
    fn in_flight(&self) -> usize;
}

/// The files of one core.
pub trait FileSystem {
    /// Takes over an open descriptor. All blocking work (open, create, stat, lock) was done by the
    /// caller, off the reactor.
    fn adopt(&self, fd: OwnedFd) -> std::io::Result<Box<dyn File>>;
}
