//! Bounds of the host, none of them an expectation about speed.

use std::time::Duration;

/// How long a read or write may stand still.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The longest PDU that is taken from a target.
pub const PDU_BYTES_MAX: usize = 4 << 20;
/// Entries of an admin queue.
pub const ADMIN_ENTRIES: u16 = 32;
/// Entries of an I/O queue.
pub const IO_ENTRIES: u16 = 128;
/// Times that CSTS is looked at while a controller gets ready.
pub const READY_LOOKS_MAX: u32 = 1000;
/// Time between two of them.
pub const READY_LOOK_EVERY: Duration = Duration::from_millis(5);
