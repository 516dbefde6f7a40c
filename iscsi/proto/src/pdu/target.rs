//! Basic header segments that a target sends (RFC 7143 section 11).
//!
//! `new()` of each sets opcode, F where it is always one, and the reserved tags; the rest is zero.

use zerocopy::big_endian::{U16, U32, U64};

use super::codes::{AsyncEvent, LogoutResponseCode, RejectReason, ScsiResponseCode, TmfResponse};
use super::{FLAG_FINAL, Opcode, RESERVED_TAG, U24, bhs};

bhs! {
    /// NOP-In (section 11.19).
    pub struct NopIn {
        /// 0x20.
        pub opcode: Opcode,
        /// 0x80.
        pub flags: u8,
        /// Reserved.
        pub reserved_2: [u8; 2],
        /// Zero.
        pub total_ahs_length_words: u8,
        /// Echoed ping data in bytes.
        pub data_segment_length: U24,
        /// LUN that goes with the target transfer tag, or zero.
        pub lun: U64,
        /// Tag of the NOP-Out this answers, else 0xffffffff.
        pub itt: U32,
        /// Tag that asks for an answer, else 0xffffffff.
        pub ttt: U32,
        /// StatSN; not advanced when the initiator task tag is 0xffffffff.
        pub stat_sn: U32,
        /// ExpCmdSN.
        pub exp_cmd_sn: U32,
        /// MaxCmdSN.
        pub max_cmd_sn: U32,
        /// Reserved.
        pub reserved_36: [u8; 12],
    }
}

impl NopIn {
    /// A NOP-In that neither answers nor asks.
    pub fn new() -> Self {
        Self {
            opcode: Opcode::NOP_IN,
            flags: FLAG_FINAL,
            itt: RESERVED_TAG.into(),
            ttt: RESERVED_TAG.into(),
            ..Self::default()
        }
    }
}

bhs! {
    /// SCSI Response (section 11.4).
    pub struct ScsiResponse {
        /// 0x21.
        pub opcode: Opcode,
        /// 0x80 with the residual bits.
        pub flags: u8,
        /// Whether the command reached the device server.
        pub response: ScsiResponseCode,
        /// SCSI status, valid with response 0.
        pub status: u8,
        /// Zero.
        pub total_ahs_length_words: u8,
        /// Sense data with its two-byte length, in bytes.
        pub data_segment_length: U24,
        /// Reserved.
        pub reserved_8: [u8; 8],
        /// Tag of the command.
        pub itt: U32,
        /// SNACK tag, or reserved.
        pub snack_tag: U32,
        /// StatSN.
        pub stat_sn: U32,
        /// ExpCmdSN.
        pub exp_cmd_sn: U32,
        /// MaxCmdSN.
        pub max_cmd_sn: U32,
        /// Number of Data-In and R2T PDUs of the command.
        pub exp_data_sn: U32,
        /// Residual of the read half of a bidirectional command.
        pub bidirectional_read_residual: U32,
        /// Residual count in bytes, valid with O or U.
        pub residual: U32,
    }
}

impl ScsiResponse {
    /// o: overflow of the bidirectional read.
    pub const BIDIRECTIONAL_READ_OVERFLOW: u8 = 0x10;
    /// u: underflow of the bidirectional read.
    pub const BIDIRECTIONAL_READ_UNDERFLOW: u8 = 0x08;
    /// O: more data was there than expected.
    pub const RESIDUAL_OVERFLOW: u8 = 0x04;
    /// U: less data moved than expected.
    pub const RESIDUAL_UNDERFLOW: u8 = 0x02;

    /// A response for the command `itt`.
    pub fn new(itt: u32, response: ScsiResponseCode, status: u8) -> Self {
        Self {
            opcode: Opcode::SCSI_RESPONSE,
            flags: FLAG_FINAL,
            response,
            status,
            itt: itt.into(),
            ..Self::default()
        }
    }
}

bhs! {
    /// Task Management Function Response (section 11.6).
    pub struct TmfResponsePdu {
        /// 0x22.
        pub opcode: Opcode,
        /// 0x80.
        pub flags: u8,
        /// The outcome.
        pub response: TmfResponse,
        /// Reserved.
        pub reserved_3: u8,
        /// Zero.
        pub total_ahs_length_words: u8,
        /// Zero.
        pub data_segment_length: U24,
        /// Reserved.
        pub reserved_8: [u8; 8],
        /// Tag of the request.
        pub itt: U32,
        /// Reserved.
        pub reserved_20: [u8; 4],
        /// StatSN.
        pub stat_sn: U32,
        /// ExpCmdSN.
        pub exp_cmd_sn: U32,
        /// MaxCmdSN.
        pub max_cmd_sn: U32,
        /// Reserved.
        pub reserved_36: [u8; 12],
    }
}

impl TmfResponsePdu {
    /// An answer to the request `itt`.
    pub fn new(itt: u32, response: TmfResponse) -> Self {
        Self { opcode: Opcode::TMF_RESPONSE, flags: FLAG_FINAL, response, itt: itt.into(), ..Self::default() }
    }
}

bhs! {
    /// SCSI Data-In (section 11.7).
    pub struct DataIn {
        /// 0x25.
        pub opcode: Opcode,
        /// F 0x80, A 0x40, O 0x04, U 0x02, S 0x01.
        pub flags: u8,
        /// Reserved.
        pub reserved_2: u8,
        /// SCSI status, valid with S.
        pub status: u8,
        /// Zero.
        pub total_ahs_length_words: u8,
        /// Data in bytes.
        pub data_segment_length: U24,
        /// LUN, valid with A.
        pub lun: U64,
        /// Tag of the command.
        pub itt: U32,
        /// Tag for the data acknowledgement, valid with A, else 0xffffffff.
        pub ttt: U32,
        /// StatSN, valid with S.
        pub stat_sn: U32,
        /// ExpCmdSN.
        pub exp_cmd_sn: U32,
        /// MaxCmdSN.
        pub max_cmd_sn: U32,
        /// Number of this PDU in the command, from 0.
        pub data_sn: U32,
        /// Offset of the first byte in the command's buffer.
        pub buffer_offset_bytes: U32,
        /// Residual count in bytes, valid with S and O or U.
        pub residual: U32,
    }
}

impl DataIn {
    /// A: asks for an acknowledgement (never at error recovery level 0).
    pub const ACKNOWLEDGE: u8 = 0x40;
    /// O: more data was there than expected.
    pub const RESIDUAL_OVERFLOW: u8 = 0x04;
    /// U: less data moved than expected.
    pub const RESIDUAL_UNDERFLOW: u8 = 0x02;
    /// S: this PDU carries the status.
    pub const STATUS: u8 = 0x01;

    /// A data PDU of the command `itt`, neither final nor with status.
    pub fn new(itt: u32) -> Self {
        Self { opcode: Opcode::DATA_IN, itt: itt.into(), ttt: RESERVED_TAG.into(), ..Self::default() }
    }
}

bhs! {
    /// Login Response (section 11.13).
    pub struct LoginResponse {
        /// 0x23.
        pub opcode: Opcode,
        /// T 0x80, C 0x40, CSG in bits 3..2, NSG in bits 1..0.
        pub flags: u8,
        /// Highest version supported: 0.
        pub version_max: u8,
        /// Version in use: 0.
        pub version_active: u8,
        /// Zero.
        pub total_ahs_length_words: u8,
        /// Key text in bytes.
        pub data_segment_length: U24,
        /// Initiator session id, as sent.
        pub isid: [u8; 6],
        /// Target session identifying handle; of a new session only in the final response.
        pub tsih: U16,
        /// Tag of the login.
        pub itt: U32,
        /// Reserved.
        pub reserved_20: [u8; 4],
        /// StatSN.
        pub stat_sn: U32,
        /// ExpCmdSN.
        pub exp_cmd_sn: U32,
        /// MaxCmdSN.
        pub max_cmd_sn: U32,
        /// 0 success, 1 redirection, 2 initiator error, 3 target error.
        pub status_class: u8,
        /// Detail of the class.
        pub status_detail: u8,
        /// Reserved.
        pub reserved_38: [u8; 10],
    }
}

bhs! {
    /// Text Response (section 11.11).
    pub struct TextResponse {
        /// 0x24.
        pub opcode: Opcode,
        /// F 0x80, C 0x40.
        pub flags: u8,
        /// Reserved.
        pub reserved_2: [u8; 2],
        /// Zero.
        pub total_ahs_length_words: u8,
        /// Key text in bytes.
        pub data_segment_length: U24,
        /// LUN that goes with the tag, or zero.
        pub lun: U64,
        /// Tag of the request.
        pub itt: U32,
        /// Tag that the next request must carry; 0xffffffff when final.
        pub ttt: U32,
        /// StatSN.
        pub stat_sn: U32,
        /// ExpCmdSN.
        pub exp_cmd_sn: U32,
        /// MaxCmdSN.
        pub max_cmd_sn: U32,
        /// Reserved.
        pub reserved_36: [u8; 12],
    }
}

impl TextResponse {
    /// A final answer to the request `itt`.
    pub fn new(itt: u32) -> Self {
        Self {
            opcode: Opcode::TEXT_RESPONSE,
            flags: FLAG_FINAL,
            itt: itt.into(),
            ttt: RESERVED_TAG.into(),
            ..Self::default()
        }
    }
}

bhs! {
    /// Logout Response (section 11.15).
    pub struct LogoutResponse {
        /// 0x26.
        pub opcode: Opcode,
        /// 0x80.
        pub flags: u8,
        /// The outcome.
        pub response: LogoutResponseCode,
        /// Reserved.
        pub reserved_3: u8,
        /// Zero.
        pub total_ahs_length_words: u8,
        /// Zero.
        pub data_segment_length: U24,
        /// Reserved.
        pub reserved_8: [u8; 8],
        /// Tag of the request.
        pub itt: U32,
        /// Reserved.
        pub reserved_20: [u8; 4],
        /// StatSN.
        pub stat_sn: U32,
        /// ExpCmdSN.
        pub exp_cmd_sn: U32,
        /// MaxCmdSN.
        pub max_cmd_sn: U32,
        /// Reserved.
        pub reserved_36: [u8; 4],
        /// Seconds to wait before tasks are reassigned or the connection is made again.
        pub time2wait_s: U16,
        /// Seconds that tasks are kept after `time2wait_s`.
        pub time2retain_s: U16,
        /// Reserved.
        pub reserved_44: [u8; 4],
    }
}

impl LogoutResponse {
    /// An answer to the request `itt`.
    pub fn new(itt: u32, response: LogoutResponseCode) -> Self {
        Self {
            opcode: Opcode::LOGOUT_RESPONSE,
            flags: FLAG_FINAL,
            response,
            itt: itt.into(),
            ..Self::default()
        }
    }
}

bhs! {
    /// Ready To Transfer (section 11.8).
    pub struct R2t {
        /// 0x31.
        pub opcode: Opcode,
        /// 0x80.
        pub flags: u8,
        /// Reserved.
        pub reserved_2: [u8; 2],
        /// Zero.
        pub total_ahs_length_words: u8,
        /// Zero.
        pub data_segment_length: U24,
        /// LUN of the command.
        pub lun: U64,
        /// Tag of the command.
        pub itt: U32,
        /// Tag that the Data-Out PDUs must carry.
        pub ttt: U32,
        /// The next StatSN; not advanced by an R2T.
        pub stat_sn: U32,
        /// ExpCmdSN.
        pub exp_cmd_sn: U32,
        /// MaxCmdSN.
        pub max_cmd_sn: U32,
        /// Number of this R2T in the command, from 0.
        pub r2t_sn: U32,
        /// Where in the command's buffer the wanted bytes start.
        pub buffer_offset_bytes: U32,
        /// How many bytes are wanted; not 0, at most MaxBurstLength.
        pub desired_length_bytes: U32,
    }
}

impl R2t {
    /// An R2T of the command `itt`.
    pub fn new(itt: u32, ttt: u32) -> Self {
        Self { opcode: Opcode::R2T, flags: FLAG_FINAL, itt: itt.into(), ttt: ttt.into(), ..Self::default() }
    }
}

bhs! {
    /// Asynchronous Message (section 11.9).
    pub struct AsyncMessage {
        /// 0x32.
        pub opcode: Opcode,
        /// 0x80.
        pub flags: u8,
        /// Reserved.
        pub reserved_2: [u8; 2],
        /// Zero.
        pub total_ahs_length_words: u8,
        /// Sense data in bytes, or zero.
        pub data_segment_length: U24,
        /// LUN, for SCSI events.
        pub lun: U64,
        /// 0xffffffff.
        pub reserved_tag: U32,
        /// Reserved.
        pub reserved_20: [u8; 4],
        /// StatSN.
        pub stat_sn: U32,
        /// ExpCmdSN.
        pub exp_cmd_sn: U32,
        /// MaxCmdSN.
        pub max_cmd_sn: U32,
        /// The event.
        pub event: AsyncEvent,
        /// Vendor code.
        pub vendor_code: u8,
        /// Meaning by event, e.g. the connection id.
        pub parameter1: U16,
        /// Meaning by event, e.g. Time2Wait in seconds.
        pub parameter2: U16,
        /// Meaning by event, e.g. Time2Retain in seconds.
        pub parameter3: U16,
        /// Reserved.
        pub reserved_44: [u8; 4],
    }
}

impl AsyncMessage {
    /// A message about `event`.
    pub fn new(event: AsyncEvent) -> Self {
        Self {
            opcode: Opcode::ASYNC_MESSAGE,
            flags: FLAG_FINAL,
            reserved_tag: RESERVED_TAG.into(),
            event,
            ..Self::default()
        }
    }
}

bhs! {
    /// Reject (section 11.17); its data segment is the header of the PDU at fault.
    pub struct Reject {
        /// 0x3f.
        pub opcode: Opcode,
        /// 0x80.
        pub flags: u8,
        /// The reason.
        pub reason: RejectReason,
        /// Reserved.
        pub reserved_3: u8,
        /// Zero.
        pub total_ahs_length_words: u8,
        /// Length of the quoted header in bytes.
        pub data_segment_length: U24,
        /// Reserved.
        pub reserved_8: [u8; 8],
        /// 0xffffffff.
        pub reserved_tag: U32,
        /// Reserved.
        pub reserved_20: [u8; 4],
        /// StatSN.
        pub stat_sn: U32,
        /// ExpCmdSN.
        pub exp_cmd_sn: U32,
        /// MaxCmdSN.
        pub max_cmd_sn: U32,
        /// The next DataSN or R2TSN, for a data SNACK, else reserved.
        pub data_sn: U32,
        /// Reserved.
        pub reserved_40: [u8; 8],
    }
}

impl Reject {
    /// A rejection.
    pub fn new(reason: RejectReason) -> Self {
        Self {
            opcode: Opcode::REJECT,
            flags: FLAG_FINAL,
            reason,
            reserved_tag: RESERVED_TAG.into(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use zerocopy::IntoBytes;

    use super::*;

    #[test]
    fn fields_lie_where_the_standard_puts_them() {
        assert_eq!(offset_of!(ScsiResponse, exp_data_sn), 36);
        assert_eq!(offset_of!(ScsiResponse, residual), 44);
        assert_eq!(offset_of!(DataIn, status), 3);
        assert_eq!(offset_of!(DataIn, data_sn), 36);
        assert_eq!(offset_of!(DataIn, residual), 44);
        assert_eq!(offset_of!(LoginResponse, status_class), 36);
        assert_eq!(offset_of!(LogoutResponse, time2wait_s), 40);
        assert_eq!(offset_of!(R2t, desired_length_bytes), 44);
        assert_eq!(offset_of!(AsyncMessage, event), 36);
        assert_eq!(offset_of!(AsyncMessage, parameter1), 38);
        assert_eq!(offset_of!(Reject, reason), 2);
        assert_eq!(offset_of!(Reject, data_sn), 36);
        assert_eq!(offset_of!(NopIn, max_cmd_sn), 32);
    }

    #[test]
    fn a_new_pdu_has_opcode_and_reserved_tags() {
        let nop = NopIn::new();
        assert_eq!(nop.as_bytes()[0], 0x20);
        assert_eq!(nop.as_bytes()[16..24], [0xff; 8]);
        assert_eq!(Reject::new(RejectReason::PROTOCOL_ERROR).as_bytes()[..3], [0x3f, 0x80, 0x04]);
        assert_eq!(nop.as_bhs().opcode(), Opcode::NOP_IN);
    }
}
