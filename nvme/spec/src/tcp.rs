//! PDU headers of the TCP transport (TCP 3.6).
//!
//! Every header begins with the [`CommonHeader`]. Lengths of a PDU: `hlen` bytes of header, then a header digest if enabled, then
//! padding up to `pdo`, then data, then a data digest if enabled; `plen` is the sum.

use zerocopy::little_endian::{U16, U32};

use crate::{Cqe, Sqe};

open_enum! {
    /// PDU type: byte 0.
    #[derive(zerocopy::Unaligned)]
    pub enum PduType(u8) {
        /// Initialize Connection Request.
        IC_REQ = 0x00,
        /// Initialize Connection Response.
        IC_RESP = 0x01,
        /// Host to Controller Terminate Connection Request.
        H2C_TERM_REQ = 0x02,
        /// Controller to Host Terminate Connection Request.
        C2H_TERM_REQ = 0x03,
        /// Command Capsule.
        CAPSULE_CMD = 0x04,
        /// Response Capsule.
        CAPSULE_RESP = 0x05,
        /// Host to Controller Data Transfer.
        H2C_DATA = 0x06,
        /// Controller to Host Data Transfer.
        C2H_DATA = 0x07,
        /// Ready to Transfer.
        R2T = 0x09,
        /// Kickstart Discovery Request.
        KD_REQ = 0x0a,
        /// Kickstart Discovery Response.
        KD_RESP = 0x0b,
    }
}

/// Flag: a header digest follows the header.
pub const FLAG_HDGST: u8 = 1 << 0;
/// Flag: a data digest follows the data.
pub const FLAG_DDGST: u8 = 1 << 1;
/// Flag of H2CData and C2HData: the last data of its R2T, or of the command.
pub const FLAG_LAST_PDU: u8 = 1 << 2;
/// Flag of C2HData: the command succeeded and no response capsule follows.
pub const FLAG_SUCCESS: u8 = 1 << 3;

/// Bytes of a header digest and of a data digest (CRC-32C).
pub const DIGEST_BYTES: usize = 4;

/// Bytes of the common header.
pub const COMMON_HEADER_BYTES: usize = size_of::<CommonHeader>();

/// The longest header of any PDU.
pub const HEADER_BYTES_MAX: usize = size_of::<IcReq>();

wire! {
    /// Common Header (TCP 3.6.1).
    pub struct CommonHeader[8] {
        /// PDU type.
        pub pdu_type: PduType,
        /// Flags.
        pub flags: u8,
        /// Header length in bytes, common header included, digest not.
        pub hlen: u8,
        /// PDU Data Offset: from the start of the PDU to its data, a multiple of 4; reserved when there is no data.
        pub pdo: u8,
        /// PDU length in bytes, with header, digests, padding and data.
        pub plen: U32,
    }
}

/// The only PDU format version there is (PFV of ICReq and ICResp).
pub const PDU_FORMAT_VERSION: u16 = 0;

/// Bit of DGST: header digest.
pub const DGST_HEADER: u8 = 1 << 0;
/// Bit of DGST: data digest.
pub const DGST_DATA: u8 = 1 << 1;

/// The largest value of HPDA and CPDA; the alignment in bytes is 4 times (value + 1).
pub const PDA_MAX: u8 = 31;

/// The smallest MAXH2CDATA that a controller may announce, in bytes.
pub const MAXH2CDATA_MIN: u32 = 4096;

/// In-capsule data that the admin queue of a TCP controller takes, in bytes (TCP 3.3.1.2, Connect and other admin commands).
pub const ADMIN_IN_CAPSULE_BYTES: u32 = 8192;

wire! {
    /// ICReq (TCP 3.6.2.2).
    pub struct IcReq[128] {
        /// Common header.
        pub ch: CommonHeader,
        /// PDU Format Version.
        pub pfv: U16,
        /// Host PDU Data Alignment: the alignment that the host wants of data in C2HData.
        pub hpda: u8,
        /// Digests that the host asks for.
        pub dgst: u8,
        /// Maximum Number of Outstanding R2T of one command, less one.
        pub maxr2t: U32,
        /// Reserved.
        pub reserved16: [u8; 112],
    }
}

wire! {
    /// ICResp (TCP 3.6.2.3).
    pub struct IcResp[128] {
        /// Common header.
        pub ch: CommonHeader,
        /// PDU Format Version.
        pub pfv: U16,
        /// Controller PDU Data Alignment: the alignment that the controller wants of data in H2CData and command capsules.
        pub cpda: u8,
        /// Digests that are used.
        pub dgst: u8,
        /// Maximum Host to Controller Data length: most bytes of data in one H2CData.
        pub maxh2cdata: U32,
        /// Reserved.
        pub reserved16: [u8; 112],
    }
}

open_enum! {
    /// Fatal Error Status of H2CTermReq and C2HTermReq (TCP 3.6.2.4, 3.6.2.5).
    pub enum FatalErrorStatus(u16) {
        /// Invalid PDU Header Field; FEI is the byte offset of the field.
        INVALID_PDU_HEADER_FIELD = 0x01,
        /// PDU Sequence Error.
        PDU_SEQUENCE_ERROR = 0x02,
        /// Header Digest Error; FEI is the digest that was received.
        HEADER_DIGEST_ERROR = 0x03,
        /// Data Transfer Out of Range.
        DATA_TRANSFER_OUT_OF_RANGE = 0x04,
        /// C2HTermReq: Data Transfer Limit Exceeded.
        DATA_TRANSFER_LIMIT_EXCEEDED = 0x05,
        /// H2CTermReq: R2T Limit Exceeded.
        R2T_LIMIT_EXCEEDED = 0x05,
        /// Unsupported Parameter; FEI is the byte offset of the field.
        UNSUPPORTED_PARAMETER = 0x06,
    }
}

wire! {
    /// H2CTermReq and C2HTermReq; up to [`TERM_REQ_DATA_BYTES_MAX`] bytes of the offending PDU's header follow.
    pub struct TermReq[24] {
        /// Common header.
        pub ch: CommonHeader,
        /// Fatal Error Status ([`FatalErrorStatus`]).
        pub fes: U16,
        /// Fatal Error Information.
        pub fei: U32,
        /// Reserved.
        pub reserved14: [u8; 10],
    }
}

/// Most bytes of data in a terminate connection request.
pub const TERM_REQ_DATA_BYTES_MAX: usize = 128;

wire! {
    /// CapsuleCmd (TCP 3.6.2.6).
    pub struct CapsuleCmd[72] {
        /// Common header.
        pub ch: CommonHeader,
        /// The command.
        pub sqe: Sqe,
    }
}

wire! {
    /// CapsuleResp (TCP 3.6.2.7).
    pub struct CapsuleResp[24] {
        /// Common header.
        pub ch: CommonHeader,
        /// The completion.
        pub cqe: Cqe,
    }
}

wire! {
    /// H2CData (TCP 3.6.2.8).
    pub struct H2cData[24] {
        /// Common header.
        pub ch: CommonHeader,
        /// Command Capsule CID.
        pub cccid: U16,
        /// Transfer Tag of the R2T that this answers.
        pub ttag: U16,
        /// Offset of the data in the command's data, in bytes.
        pub datao: U32,
        /// Bytes of data in this PDU.
        pub datal: U32,
        /// Reserved.
        pub reserved20: [u8; 4],
    }
}

wire! {
    /// C2HData (TCP 3.6.2.9).
    pub struct C2hData[24] {
        /// Common header.
        pub ch: CommonHeader,
        /// Command Capsule CID.
        pub cccid: U16,
        /// Reserved.
        pub reserved10: [u8; 2],
        /// Offset of the data in the command's data, in bytes.
        pub datao: U32,
        /// Bytes of data in this PDU.
        pub datal: U32,
        /// Reserved.
        pub reserved20: [u8; 4],
    }
}

wire! {
    /// R2T (TCP 3.6.2.10).
    pub struct R2t[24] {
        /// Common header.
        pub ch: CommonHeader,
        /// Command Capsule CID.
        pub cccid: U16,
        /// Transfer Tag.
        pub ttag: U16,
        /// Offset of the data that is asked for in the command's data, in bytes.
        pub r2to: U32,
        /// Bytes that are asked for.
        pub r2tl: U32,
        /// Reserved.
        pub reserved20: [u8; 4],
    }
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use zerocopy::FromBytes;

    use super::*;

    #[test]
    fn fields_stand_where_the_specification_puts_them() {
        assert_eq!((offset_of!(CommonHeader, hlen), offset_of!(CommonHeader, plen)), (2, 4));
        assert_eq!((offset_of!(IcReq, hpda), offset_of!(IcReq, maxr2t)), (10, 12));
        assert_eq!((offset_of!(IcResp, dgst), offset_of!(IcResp, maxh2cdata)), (11, 12));
        assert_eq!((offset_of!(TermReq, fes), offset_of!(TermReq, fei)), (8, 10));
        assert_eq!((offset_of!(H2cData, ttag), offset_of!(H2cData, datao)), (10, 12));
        assert_eq!((offset_of!(C2hData, datao), offset_of!(C2hData, datal)), (12, 16));
        assert_eq!((offset_of!(R2t, r2to), offset_of!(R2t, r2tl)), (12, 16));
    }

    #[test]
    fn a_header_is_a_view_and_an_unknown_type_survives() {
        let wire = [0x44, 0xf0, 24, 24, 0x18, 0x10, 0, 0, 0xff];
        let (header, rest) = CommonHeader::ref_from_prefix(&wire).unwrap();
        assert_eq!((header.pdu_type, header.plen.get()), (PduType(0x44), 0x1018));
        assert_eq!(rest, [0xff]);
    }
}
