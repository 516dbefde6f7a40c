//! Wire types of RFC 7143 section 11: every basic header segment is a view onto 48 bytes.
//!
//! All fields are big-endian and unaligned, so any 48 bytes are a valid header of every kind; what a peer
//! sent is checked by whoever reads the field. Enumerations are open: an unknown value round-trips.
//!
//! Reading order: this file (generic header, opcodes, lengths), then [`initiator`] and [`target`]
//! (one struct per opcode), [`codes`] (reasons, responses, status codes), [`ahs`].

pub mod ahs;
pub mod codes;
pub mod initiator;
pub mod target;

pub use ahs::{Ahs, AhsError, AhsWalk};
pub use codes::{
    AsyncEvent, LoginStatus, LogoutReason, LogoutResponseCode, RejectReason, ScsiResponseCode, SnackType,
    TaskAttribute, TmfFunction, TmfResponse,
};
pub use initiator::{
    DataOut, LoginRequest, LogoutRequest, NopOut, ScsiCommand, SnackRequest, TextRequest, TmfRequest,
};
pub use target::{
    AsyncMessage, DataIn, LoginResponse, LogoutResponse, NopIn, R2t, Reject, ScsiResponse, TextResponse,
    TmfResponsePdu,
};

use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of a basic header segment, in bytes.
pub const BHS_BYTES: usize = 48;
/// Length of a header or data digest, in bytes.
pub const DIGEST_BYTES: usize = 4;
/// The reserved value of an initiator or target task tag: "no task" (section 11.2.1.8, 11.18.1).
pub const RESERVED_TAG: u32 = 0xffff_ffff;
/// Bit of byte 0: immediate delivery (section 11.2.1.1).
pub const OPCODE_IMMEDIATE: u8 = 0x40;
/// Mask of the opcode in byte 0.
pub const OPCODE_MASK: u8 = 0x3f;
/// Bit of byte 1 in most PDUs: final (section 11.2.1.3).
pub const FLAG_FINAL: u8 = 0x80;
/// Bit of byte 1 in login and text PDUs: the key=value pairs go on in the next PDU (section 11.10.2).
pub const FLAG_CONTINUE: u8 = 0x40;
/// Largest value of the 24-bit DataSegmentLength.
pub const DATA_SEGMENT_BYTES_MAX: usize = 0x00ff_ffff;

/// Derives what every wire struct needs and fixes its size.
macro_rules! bhs {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $kind:ty,)* }) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout, zerocopy::Unaligned,
        )]
        #[repr(C)]
        pub struct $name { $($(#[$field_meta])* pub $field: $kind,)* }
        const _: () = assert!(size_of::<$name>() == $crate::pdu::BHS_BYTES);
        impl $name {
            /// This header as the generic one.
            pub fn as_bhs(&self) -> &$crate::pdu::Bhs {
                zerocopy::transmute_ref!(self)
            }

            /// The generic header seen as this one; whether the opcode fits is the caller's to check.
            pub fn view(bhs: &$crate::pdu::Bhs) -> &Self {
                zerocopy::transmute_ref!(bhs)
            }
        }
    };
}
pub(crate) use bhs;

/// Declares an open enumeration of one byte: known values are constants, unknown ones survive.
macro_rules! open_enum {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$value_meta:meta])* $value:ident = $number:expr,)* }) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout, zerocopy::Unaligned,
        )]
        #[repr(transparent)]
        pub struct $name(pub u8);
        impl $name {
            $($(#[$value_meta])* pub const $value: Self = Self($number);)*
        }
    };
}
pub(crate) use open_enum;

open_enum! {
    /// The six opcode bits of byte 0 (section 11.2.1.2), without the immediate bit.
    pub enum Opcode {
        /// Initiator: NOP-Out.
        NOP_OUT = 0x00,
        /// Initiator: SCSI Command.
        SCSI_COMMAND = 0x01,
        /// Initiator: Task Management Function Request.
        TMF_REQUEST = 0x02,
        /// Initiator: Login Request.
        LOGIN_REQUEST = 0x03,
        /// Initiator: Text Request.
        TEXT_REQUEST = 0x04,
        /// Initiator: SCSI Data-Out.
        DATA_OUT = 0x05,
        /// Initiator: Logout Request.
        LOGOUT_REQUEST = 0x06,
        /// Initiator: SNACK Request.
        SNACK_REQUEST = 0x10,
        /// Target: NOP-In.
        NOP_IN = 0x20,
        /// Target: SCSI Response.
        SCSI_RESPONSE = 0x21,
        /// Target: Task Management Function Response.
        TMF_RESPONSE = 0x22,
        /// Target: Login Response.
        LOGIN_RESPONSE = 0x23,
        /// Target: Text Response.
        TEXT_RESPONSE = 0x24,
        /// Target: SCSI Data-In.
        DATA_IN = 0x25,
        /// Target: Logout Response.
        LOGOUT_RESPONSE = 0x26,
        /// Target: Ready To Transfer.
        R2T = 0x31,
        /// Target: Asynchronous Message.
        ASYNC_MESSAGE = 0x32,
        /// Target: Reject.
        REJECT = 0x3f,
    }
}

impl Opcode {
    /// True for the opcodes that an initiator may send, vendor-specific ones (0x1c..=0x1e) included.
    pub const fn is_from_initiator(self) -> bool {
        matches!(self.0, 0x00..=0x06 | 0x10 | 0x1c..=0x1e)
    }
}

/// A 24-bit big-endian number: DataSegmentLength, in bytes, without padding.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct U24(pub [u8; 3]);

impl U24 {
    /// Encodes a length that this side chose.
    ///
    /// # Panics
    /// When it does not fit 24 bits: every length we send is bounded far below that.
    pub const fn new(length_bytes: usize) -> Self {
        assert!(length_bytes <= DATA_SEGMENT_BYTES_MAX, "a data segment we build fits 24 bits");
        let [_, high, middle, low] = (length_bytes as u32).to_be_bytes();
        Self([high, middle, low])
    }

    /// The number.
    pub const fn get(self) -> usize {
        let [high, middle, low] = self.0;
        u32::from_be_bytes([0, high, middle, low]) as usize
    }
}

bhs! {
    /// The part that all basic header segments share (section 11.2.1); read this to learn the opcode and the lengths.
    pub struct Bhs {
        /// Opcode in the low six bits, immediate bit 0x40; see [`Bhs::opcode`].
        pub opcode_and_immediate: u8,
        /// Opcode-specific flags; 0x80 is F (or T in login).
        pub flags: u8,
        /// Opcode-specific.
        pub specific: [u8; 2],
        /// Length of all additional header segments in four-byte words, padding included.
        pub total_ahs_length_words: u8,
        /// Length of the data segment in bytes, without padding and digest.
        pub data_segment_length: U24,
        /// LUN, or opcode-specific.
        pub lun: U64,
        /// Initiator task tag.
        pub itt: U32,
        /// Opcode-specific.
        pub rest: [u8; 28],
    }
}

impl Bhs {
    /// The header at the start of `bytes`, or nothing when there are fewer than 48.
    pub fn from_prefix(bytes: &[u8]) -> Option<(&Bhs, &[u8])> {
        Bhs::ref_from_prefix(bytes).ok()
    }

    /// The opcode without the immediate bit.
    pub const fn opcode(&self) -> Opcode {
        Opcode(self.opcode_and_immediate & OPCODE_MASK)
    }

    /// The immediate bit.
    pub const fn is_immediate(&self) -> bool {
        self.opcode_and_immediate & OPCODE_IMMEDIATE != 0
    }

    /// The final bit (T in login PDUs).
    pub const fn is_final(&self) -> bool {
        self.flags & FLAG_FINAL != 0
    }

    /// Additional header segments in bytes: 0..=1020.
    pub const fn ahs_bytes(&self) -> usize {
        self.total_ahs_length_words as usize * 4
    }

    /// Data segment in bytes without padding.
    pub const fn data_bytes(&self) -> usize {
        self.data_segment_length.get()
    }

    /// Where the parts of this PDU lie on the wire, counted from the start of the BHS.
    /// Digests are sent only when negotiated; a data digest only when there is data.
    pub const fn layout(&self, header_digest: bool, data_digest: bool) -> PduLayout {
        let header_bytes = BHS_BYTES + self.ahs_bytes();
        let data_start = header_bytes + if header_digest { DIGEST_BYTES } else { 0 };
        let data_bytes = self.data_bytes();
        let data_end = data_start + data_bytes + pad_bytes(data_bytes);
        let digest = if data_digest && data_bytes > 0 { DIGEST_BYTES } else { 0 };
        PduLayout { header_bytes, data_start, data_bytes, data_end, total_bytes: data_end + digest }
    }
}

/// Offsets of a PDU's parts; see [`Bhs::layout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PduLayout {
    /// BHS and AHS, what the header digest covers.
    pub header_bytes: usize,
    /// Where the data segment starts, behind the header digest.
    pub data_start: usize,
    /// The data segment without padding.
    pub data_bytes: usize,
    /// End of the data segment with padding: where the data digest starts.
    pub data_end: usize,
    /// The whole PDU.
    pub total_bytes: usize,
}

/// Padding that brings `length_bytes` to a multiple of four (section 11.1): 0..=3.
pub const fn pad_bytes(length_bytes: usize) -> usize {
    length_bytes.wrapping_neg() & 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_brings_every_length_to_four() {
        for length in 0..64 {
            assert!((length + pad_bytes(length)).is_multiple_of(4));
            assert!(pad_bytes(length) < 4);
        }
    }

    #[test]
    fn data_segment_length_round_trips_at_its_edges() {
        for value in [0, 1, 255, 256, 65535, 65536, DATA_SEGMENT_BYTES_MAX] {
            assert_eq!(U24::new(value).get(), value);
        }
        assert_eq!(U24::new(0x01_02_03).0, [1, 2, 3]);
    }

    #[test]
    fn opcode_and_immediate_are_separate() {
        for byte in 0..=255u8 {
            let bhs = Bhs { opcode_and_immediate: byte, ..Bhs::default() };
            assert_eq!(bhs.opcode().0, byte & 0x3f);
            assert_eq!(bhs.is_immediate(), byte & 0x40 != 0);
        }
    }

    #[test]
    fn layout_counts_every_part() {
        let bhs = Bhs { total_ahs_length_words: 2, data_segment_length: U24::new(5), ..Bhs::default() };
        assert_eq!(
            bhs.layout(true, true),
            PduLayout { header_bytes: 56, data_start: 60, data_bytes: 5, data_end: 68, total_bytes: 72 }
        );
        assert_eq!(bhs.layout(false, false).total_bytes, 64);
        assert_eq!(Bhs::default().layout(true, true).total_bytes, 52, "no data, no data digest");
        let largest =
            Bhs { total_ahs_length_words: 255, data_segment_length: U24([0xff; 3]), ..Bhs::default() };
        assert_eq!(largest.layout(true, true).total_bytes, 48 + 1020 + 4 + 0x100_0000 + 4);
    }

    #[test]
    fn a_short_header_is_no_header() {
        assert!(Bhs::from_prefix(&[0; 47]).is_none());
        let (bhs, rest) = Bhs::from_prefix(&[0x43; 50]).expect("48 bytes are a header");
        assert_eq!(bhs.opcode(), Opcode::LOGIN_REQUEST);
        assert_eq!(rest.len(), 2);
    }
}
