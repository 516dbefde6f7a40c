//! Bounds of a queue pair, with their relations checked by the compiler.

use nvme_spec::tcp::{
    ADMIN_IN_CAPSULE_BYTES, CapsuleCmd, DIGEST_BYTES, HEADER_BYTES_MAX, MAXH2CDATA_MIN, PDA_MAX,
    TERM_REQ_DATA_BYTES_MAX, TermReq,
};

/// Commands of one queue pair in flight, either end: the largest SQSIZE + 1.
pub const COMMANDS_MAX: usize = 1024;
/// Bits of a command's slot in an R2T's TTAG and in the CIDs that a host queue gives.
pub const SLOT_BITS: u32 = 10;
/// Commands that a target queue takes before [`crate::TargetQueue::connected`]: Connect, and a little more so that a host
/// that is too early gets a status.
pub const COMMANDS_BEFORE_CONNECT: usize = 4;
/// R2Ts of one command in flight, whatever was negotiated.
pub const R2TS_PER_COMMAND_MAX: usize = 4;
/// In-capsule data of I/O commands in bytes (default offer).
pub const IO_IN_CAPSULE_BYTES_DEFAULT: u32 = 16 * 1024;
/// Most in-capsule data that may be offered, in bytes.
pub const IN_CAPSULE_BYTES_MAX: u32 = 1 << 20;
/// Largest alignment of data in a PDU in bytes: 32 dwords (HPDA and CPDA).
pub const ALIGNMENT_BYTES_MAX: u8 = 128;
/// MAXH2CDATA that a target offers by default.
pub const H2C_DATA_BYTES_DEFAULT: u32 = 1 << 20;
/// Data of one C2HData PDU by default: small enough that a digest is computed on data that is still in the cache.
pub const C2H_DATA_BYTES_DEFAULT: u32 = 128 * 1024;
/// Most bytes of one command's data, either way; longer ones are refused with a status.
pub const TRANSFER_BYTES_MAX: u32 = 32 << 20;
/// Bytes that wait to be sent before a queue takes no new command (default).
pub const TX_BACKLOG_BYTES_DEFAULT: usize = 4 << 20;
/// Payloads up to so many bytes are copied behind their header: cheaper than a vector of their own.
pub const TX_COPY_BYTES_MAX: usize = 512;
/// Vectors worth giving to one call of `tx_chunks`.
pub const TX_CHUNKS_MAX: usize = 64;
/// The largest terminate connection request: header and the header that it complains about.
pub const TERM_REQ_BYTES_MAX: usize = size_of::<TermReq>() + TERM_REQ_DATA_BYTES_MAX;

const _: () = {
    assert!(COMMANDS_MAX == 1 << SLOT_BITS);
    assert!(COMMANDS_BEFORE_CONNECT <= COMMANDS_MAX);
    // A TTAG is slot, R2T index and a generation of at least four bits.
    assert!(R2TS_PER_COMMAND_MAX.is_power_of_two());
    assert!(SLOT_BITS + R2TS_PER_COMMAND_MAX.trailing_zeros() + 4 <= 16);
    assert!(ALIGNMENT_BYTES_MAX as u32 == (PDA_MAX as u32 + 1) * 4);
    // The longest header with its digest, padded to the largest alignment, still fits PDO.
    let longest_bytes = size_of::<CapsuleCmd>() + DIGEST_BYTES;
    assert!(longest_bytes.next_multiple_of(ALIGNMENT_BYTES_MAX as usize) <= u8::MAX as usize);
    assert!(ADMIN_IN_CAPSULE_BYTES <= IN_CAPSULE_BYTES_MAX);
    assert!(IO_IN_CAPSULE_BYTES_DEFAULT <= IN_CAPSULE_BYTES_MAX);
    assert!(IN_CAPSULE_BYTES_MAX <= TRANSFER_BYTES_MAX);
    assert!(H2C_DATA_BYTES_DEFAULT >= MAXH2CDATA_MIN && H2C_DATA_BYTES_DEFAULT.is_multiple_of(4));
    assert!(C2H_DATA_BYTES_DEFAULT.is_multiple_of(4));
    // PLEN counts header, padding, data and digests in 32 bits.
    assert!(TRANSFER_BYTES_MAX as u64 + u8::MAX as u64 + 4 <= u32::MAX as u64);
    assert!((TX_COPY_BYTES_MAX as u32) < C2H_DATA_BYTES_DEFAULT);
    assert!(TERM_REQ_DATA_BYTES_MAX <= HEADER_BYTES_MAX);
};
