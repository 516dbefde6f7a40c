//! Bounds of the reservation state.

/// Registrants of one volume.
pub const REGISTRANTS_MAX: usize = 64;
/// The longest name of an initiator port: an iSCSI name (223 bytes) with its ISID, padded.
pub const INITIATOR_PORT_BYTES_MAX: usize = 256;
/// The longest name of a target port.
pub const TARGET_PORT_BYTES_MAX: usize = 256;
/// The host identifier of NVMe over fabrics.
pub const HOST_IDENTIFIER_BYTES: usize = 16;
/// The largest durable form.
pub const BLOB_BYTES_MAX: usize = 64 * 1024;
/// What one registrant takes at most in the durable form, beside its two names.
pub const REGISTRANT_FIXED_BYTES: usize = 16;
/// Header and checksum of the durable form.
pub const BLOB_FIXED_BYTES: usize = 32;

const _: () = {
    let one = INITIATOR_PORT_BYTES_MAX + TARGET_PORT_BYTES_MAX + REGISTRANT_FIXED_BYTES;
    assert!(REGISTRANTS_MAX * one + BLOB_FIXED_BYTES <= BLOB_BYTES_MAX);
    assert!(HOST_IDENTIFIER_BYTES <= INITIATOR_PORT_BYTES_MAX);
    assert!(INITIATOR_PORT_BYTES_MAX <= u16::MAX as usize);
    assert!(TARGET_PORT_BYTES_MAX <= u16::MAX as usize);
};
