//! The bounds of this initiator, and what it offers at login.

use std::time::Duration;

/// The longest data segment this end accepts, offered as MaxRecvDataSegmentLength.
pub const RECV_DATA_SEGMENT_BYTES_MAX: u32 = 256 * 1024;
/// Offered as MaxBurstLength.
pub const BURST_BYTES_MAX: u32 = 1024 * 1024;
/// Offered as FirstBurstLength.
pub const FIRST_BURST_BYTES_MAX: u32 = 64 * 1024;
/// The longest header the peer may send: AHS length is a byte that counts words.
pub const AHS_BYTES_MAX: usize = 255 * 4;
/// How long a read or a write may stand still before the test fails. A bound, not an expectation.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// PDUs that one login may take.
pub const LOGIN_STEPS_MAX: u32 = 16;

const _: () = {
    assert!(FIRST_BURST_BYTES_MAX <= BURST_BYTES_MAX);
    // A data segment length has 24 bits.
    assert!(RECV_DATA_SEGMENT_BYTES_MAX < 1 << 24);
    assert!(BURST_BYTES_MAX < 1 << 24);
};
