//! Bounds of the full-feature phase, with their relations checked by the compiler.

/// Connections of one session.
pub const CONNECTIONS_MAX: usize = 8;
/// Default of [`crate::session::SessionConfig::window_commands`].
pub const WINDOW_COMMANDS_DEFAULT: u32 = 128;
/// Largest command window.
pub const WINDOW_COMMANDS_MAX: u32 = 1024;
/// SCSI commands for immediate delivery that may be in progress beside the window.
pub const IMMEDIATE_TASKS_MAX: usize = 32;
/// Task management, text and logout requests in progress in one session.
pub const REQUESTS_MAX: usize = 64;
/// Tasks in one session.
pub const TASKS_MAX: usize = WINDOW_COMMANDS_MAX as usize + IMMEDIATE_TASKS_MAX;
/// Bits of a task's slot in a [`crate::session::TaskId`] and in a target transfer tag.
pub const TASK_SLOT_BITS: u32 = 12;
/// R2Ts of one task in flight, whatever was negotiated.
pub const OUTSTANDING_R2T_MAX: u16 = 16;
/// Longest CDB: the variable length CDB of SPC.
pub const CDB_BYTES_MAX: usize = 260;
/// Sense data in a response.
pub const SENSE_BYTES_MAX: usize = 252;
/// Text of one request, collected over continuations.
pub const TEXT_REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Answer to one SendTargets, sent over continuations.
pub const TEXT_RESPONSE_BYTES_MAX: usize = 1 << 20;
/// Bytes that wait to be sent on one connection before it stops taking input (default).
pub const TX_BACKLOG_BYTES_DEFAULT: usize = 4 << 20;
/// How far Data-In PDUs are built ahead of what the stream takes: this is kept small so that sequence numbers
/// are fresh and digests are computed while the data is in the cache.
pub const TX_AHEAD_BYTES: usize = 512 * 1024;
/// Segments built ahead; one PDU takes up to three.
pub const TX_AHEAD_SEGMENTS: usize = 192;
/// Vectors in one call of `tx_slices`.
pub const TX_SLICES: usize = 64;
/// Idle time before a ping (default).
pub const PING_INTERVAL_NS_DEFAULT: u64 = 15_000_000_000;
/// Time for its answer, and for a stream that takes nothing (default).
pub const PING_TIMEOUT_NS_DEFAULT: u64 = 30_000_000_000;

/// Time in which the data of a command must get on (default).
pub const DATA_OUT_TIMEOUT_NS_DEFAULT: u64 = 60_000_000_000;

const _: () = {
    assert!(WINDOW_COMMANDS_DEFAULT <= WINDOW_COMMANDS_MAX);
    // The reorder ring is indexed with a mask.
    assert!(WINDOW_COMMANDS_MAX.is_power_of_two());
    // All-ones slot bits never occur, so no tag of ours is the reserved 0xffffffff.
    assert!(TASKS_MAX < (1 << TASK_SLOT_BITS) - 1);
    assert!(TX_AHEAD_SEGMENTS >= 2 * TX_SLICES);
    assert!(SENSE_BYTES_MAX + 2 <= u8::MAX as usize);
    assert!(CONNECTIONS_MAX <= u8::MAX as usize);
    // A PDU that fits nobody's receive buffer would never be built.
    assert!(TX_AHEAD_BYTES <= TX_BACKLOG_BYTES_DEFAULT);
};
