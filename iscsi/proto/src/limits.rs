//! Bounds of login and text, with their relations checked by the compiler.

/// Largest data segment of a login request in bytes: the default MaxRecvDataSegmentLength.
pub const LOGIN_DATA_SEGMENT_BYTES_MAX: usize = 8192;
/// All key text of one login in bytes, either direction.
pub const LOGIN_TEXT_BYTES_MAX: usize = 64 * 1024;
/// Login requests on one connection. Sixteen full ones carry all the text; the rest is for turns without text.
pub const LOGIN_PDUS_MAX: u32 = 64;
/// Longest key name in bytes (section 6.1).
pub const KEY_BYTES_MAX: usize = 63;
/// Longest value in bytes, unless the key says otherwise (section 6.1).
pub const VALUE_BYTES_MAX: usize = 255;
/// Longest large binary value once decoded, in bytes (section 6.1: CHAP_C, CHAP_R).
pub const LARGE_BINARY_BYTES_MAX: usize = 1024;
/// The same as text: prefix and two hex digits per byte.
pub const LARGE_VALUE_BYTES_MAX: usize = 2 + 2 * LARGE_BINARY_BYTES_MAX;
/// Longest iSCSI name in bytes (section 4.2.7.1).
pub const NAME_BYTES_MAX: usize = 223;
/// Values that are looked at in one list; what lies behind is not considered.
pub const LIST_VALUES_MAX: usize = 16;
/// Shortest CHAP secret in bytes: 96 bits (section 9.2.1).
pub const SECRET_BYTES_MIN: usize = 12;
/// Longest CHAP secret in bytes.
pub const SECRET_BYTES_MAX: usize = 255;
/// Connections of one session.
pub const CONNECTIONS_PER_SESSION_MAX: u16 = 8;
/// R2Ts in flight per task.
pub const OUTSTANDING_R2T_MAX: u16 = 16;

const _: () = {
    assert!(LOGIN_DATA_SEGMENT_BYTES_MAX < LOGIN_TEXT_BYTES_MAX);
    assert!(LOGIN_PDUS_MAX as usize * LOGIN_DATA_SEGMENT_BYTES_MAX >= LOGIN_TEXT_BYTES_MAX);
    assert!(
        KEY_BYTES_MAX + 1 + LARGE_VALUE_BYTES_MAX < LOGIN_DATA_SEGMENT_BYTES_MAX,
        "any pair fits one PDU"
    );
    assert!(NAME_BYTES_MAX <= VALUE_BYTES_MAX);
    assert!(SECRET_BYTES_MIN < SECRET_BYTES_MAX);
};
