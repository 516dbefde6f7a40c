//! How a file is read and written: past the page cache where that is safe, else through it.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use reactor::file_probe;

use crate::limits::PAGE_BYTES;

/// Why a file is read and written through the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferedReason {
    /// The caller wanted it.
    Asked,
    /// The filesystem does no direct I/O on this file.
    Filesystem,
    /// It does, in larger units than the volume's blocks. Reading, changing and writing back a
    /// unit could undo a write to its other blocks.
    Alignment {
        /// Its unit.
        direct_bytes: u32,
        /// The volume's logical block.
        logical_block_bytes: u32,
    },
}

/// How a file is read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoMode {
    /// `O_DIRECT`, in multiples of this.
    Direct {
        /// The unit of offsets and lengths.
        align_bytes: u32,
    },
    /// Through the page cache.
    Buffered(BufferedReason),
}

/// The one line for the log.
impl fmt::Display for IoMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cost = "each I/O is copied once more and takes page cache";
        match self {
            Self::Direct { align_bytes } => write!(f, "direct I/O in units of {align_bytes} bytes"),
            Self::Buffered(BufferedReason::Asked) => write!(f, "buffered I/O as configured: {cost}"),
            Self::Buffered(BufferedReason::Filesystem) => {
                write!(f, "buffered I/O, the filesystem does no direct I/O: {cost}; ext4 and xfs do")
            }
            Self::Buffered(BufferedReason::Alignment { direct_bytes, logical_block_bytes }) => write!(
                f,
                "buffered I/O, direct I/O needs {direct_bytes}-byte units and the volume has \
                 {logical_block_bytes}-byte blocks: {cost}; a volume with {direct_bytes}-byte blocks would not"
            ),
        }
    }
}

/// Switches `file` to direct I/O where that is safe for blocks of `logical_block_bytes`.
pub(crate) fn choose(file: &File, logical_block_bytes: u32, buffered: bool) -> io::Result<IoMode> {
    if buffered {
        return Ok(IoMode::Buffered(BufferedReason::Asked));
    }
    let align_bytes = match file_probe::direct_io(file.as_fd()) {
        Ok(Some(direct)) if u64::from(direct.memory_align_bytes) <= PAGE_BYTES => direct.offset_align_bytes,
        Ok(Some(_) | None) => return Ok(IoMode::Buffered(BufferedReason::Filesystem)),
        // It does not say: try the volume's block.
        Err(_) => logical_block_bytes,
    };
    if align_bytes > logical_block_bytes {
        let reason = BufferedReason::Alignment { direct_bytes: align_bytes, logical_block_bytes };
        return Ok(IoMode::Buffered(reason));
    }
    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    if fcntl(file, FcntlArg::F_SETFL(flags | OFlag::O_DIRECT)).is_err() {
        return Ok(IoMode::Buffered(BufferedReason::Filesystem));
    }
    if try_direct_read(file, logical_block_bytes).is_err() {
        fcntl(file, FcntlArg::F_SETFL(flags))?;
        return Ok(IoMode::Buffered(BufferedReason::Filesystem));
    }
    Ok(IoMode::Direct { align_bytes })
}

/// Reads the second block into an aligned buffer: fails where blocks are too small for direct I/O.
fn try_direct_read(file: &File, block_bytes: u32) -> io::Result<()> {
    let (page, block) = (PAGE_BYTES as usize, block_bytes as usize);
    let mut memory = vec![0_u8; 2 * page];
    let start = memory.as_ptr().align_offset(page);
    file.read_exact_at(&mut memory[start..start + block], u64::from(block_bytes))
}
