//! What may go wrong in a simulated world, and how often. Chances are per mille.

use std::ops::Range;

/// What one disk does wrong from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFaults {
    /// The shortest and longest time an operation takes, in microseconds. A wide range reorders.
    pub latency_us: (u64, u64),
    /// Reads that fail with `EIO`.
    pub read_error_permille: u32,
    /// Writes, holes and zero runs that fail with `EIO`; they may have been done in part.
    pub write_error_permille: u32,
    /// Syncs that fail with `EIO`. As on Linux, what was unsynced by then may never reach the
    /// medium, although a later sync succeeds.
    pub sync_error_permille: u32,
    /// Byte ranges that cannot be read until they are written again.
    pub bad_ranges: Vec<Range<u64>>,
    /// Bytes that can be allocated in all; `ENOSPC` beyond.
    pub space_bytes: u64,
    /// Punching holes is answered with `EOPNOTSUPP`.
    pub no_holes: bool,
    /// Operations in flight before `submit` gives one back.
    pub queue_depth: usize,
}

impl Default for DiskFaults {
    fn default() -> Self {
        Self {
            latency_us: (0, 200),
            read_error_permille: 0,
            write_error_permille: 0,
            sync_error_permille: 0,
            bad_ranges: Vec::new(),
            space_bytes: u64::MAX,
            no_holes: false,
            queue_depth: 128,
        }
    }
}

/// What the network does wrong from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetFaults {
    /// Receives and sends that move fewer bytes than they could, down to one.
    pub cut_permille: u32,
    /// Receives and sends after which the stream stalls for a while.
    pub stall_permille: u32,
    /// The longest stall, in microseconds.
    pub stall_us_max: u64,
    /// Receives and sends at which the connection is reset.
    pub reset_permille: u32,
    /// Turns in which a stream with nothing to say is named all the same.
    pub spurious_permille: u32,
    /// Bytes that one direction holds before a send would block.
    pub window_bytes: usize,
    /// Connections that wait to be accepted before others are refused.
    pub backlog: usize,
    /// Accepts that fail with `EMFILE`.
    pub accept_error_permille: u32,
}

impl Default for NetFaults {
    fn default() -> Self {
        Self {
            cut_permille: 300,
            stall_permille: 20,
            stall_us_max: 500,
            reset_permille: 0,
            spurious_permille: 20,
            window_bytes: 256 << 10,
            backlog: 128,
            accept_error_permille: 0,
        }
    }
}

impl NetFaults {
    /// A network that does everything at once.
    pub const fn none() -> Self {
        Self {
            cut_permille: 0,
            stall_permille: 0,
            stall_us_max: 1,
            reset_permille: 0,
            spurious_permille: 0,
            window_bytes: 4 << 20,
            backlog: 4096,
            accept_error_permille: 0,
        }
    }
}
