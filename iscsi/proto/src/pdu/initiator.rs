//! Basic header segments that an initiator sends (RFC 7143 section 11).

use zerocopy::big_endian::{U16, U32, U64};

use super::codes::{LogoutReason, SnackType, TaskAttribute, TmfFunction};
use super::{FLAG_CONTINUE, FLAG_FINAL, OPCODE_IMMEDIATE, U24, bhs};

bhs! {
    /// NOP-Out (section 11.18).
    pub struct NopOut {
        /// 0x00, with or without the immediate bit.
        pub opcode_and_immediate: u8,
        /// 0x80.
        pub flags: u8,
        /// Reserved.
        pub reserved_2: [u8; 2],
        /// AHS length in four-byte words.
        pub total_ahs_length_words: u8,
        /// Ping data length in bytes.
        pub data_segment_length: U24,
        /// LUN of the NOP-In this answers, else reserved.
        pub lun: U64,
        /// 0xffffffff when no answer is wanted.
        pub itt: U32,
        /// Tag of the NOP-In this answers, else 0xffffffff.
        pub ttt: U32,
        /// CmdSN; consumed unless immediate.
        pub cmd_sn: U32,
        /// ExpStatSN.
        pub exp_stat_sn: U32,
        /// Reserved.
        pub reserved_32: [u8; 16],
    }
}

bhs! {
    /// SCSI Command (section 11.3).
    pub struct ScsiCommand {
        /// 0x01, with or without the immediate bit.
        pub opcode_and_immediate: u8,
        /// F 0x80, R 0x40, W 0x20, task attribute in the low three bits.
        pub flags: u8,
        /// Reserved.
        pub reserved_2: [u8; 2],
        /// AHS length in four-byte words.
        pub total_ahs_length_words: u8,
        /// Immediate data length in bytes.
        pub data_segment_length: U24,
        /// LUN.
        pub lun: U64,
        /// Initiator task tag.
        pub itt: U32,
        /// Expected data transfer length in bytes (of the write, when bidirectional).
        pub expected_data_transfer_length: U32,
        /// CmdSN.
        pub cmd_sn: U32,
        /// ExpStatSN.
        pub exp_stat_sn: U32,
        /// First sixteen bytes of the CDB.
        pub cdb: [u8; 16],
    }
}

impl ScsiCommand {
    /// R bit: the command may read.
    pub const READ: u8 = 0x40;
    /// W bit: the command may write.
    pub const WRITE: u8 = 0x20;
    /// Mask of the task attribute.
    pub const ATTRIBUTE_MASK: u8 = 0x07;

    /// Data flows to the initiator.
    pub const fn is_read(&self) -> bool {
        self.flags & Self::READ != 0
    }

    /// Data flows to the target.
    pub const fn is_write(&self) -> bool {
        self.flags & Self::WRITE != 0
    }

    /// No unsolicited Data-Out follows this PDU.
    pub const fn is_final(&self) -> bool {
        self.flags & FLAG_FINAL != 0
    }

    /// The immediate-delivery bit.
    pub const fn is_immediate(&self) -> bool {
        self.opcode_and_immediate & OPCODE_IMMEDIATE != 0
    }

    /// The task attribute.
    pub const fn attribute(&self) -> TaskAttribute {
        TaskAttribute(self.flags & Self::ATTRIBUTE_MASK)
    }
}

bhs! {
    /// Task Management Function Request (section 11.5).
    pub struct TmfRequest {
        /// 0x02, with or without the immediate bit.
        pub opcode_and_immediate: u8,
        /// 0x80 and the function in the low seven bits.
        pub flags: u8,
        /// Reserved.
        pub reserved_2: [u8; 2],
        /// Zero.
        pub total_ahs_length_words: u8,
        /// Zero.
        pub data_segment_length: U24,
        /// LUN, where the function has one.
        pub lun: U64,
        /// Initiator task tag of this request.
        pub itt: U32,
        /// Tag of the task it is about, else 0xffffffff.
        pub referenced_task_tag: U32,
        /// CmdSN.
        pub cmd_sn: U32,
        /// ExpStatSN.
        pub exp_stat_sn: U32,
        /// CmdSN of the task it is about.
        pub ref_cmd_sn: U32,
        /// TASK REASSIGN only.
        pub exp_data_sn: U32,
        /// Reserved.
        pub reserved_40: [u8; 8],
    }
}

impl TmfRequest {
    /// The function.
    pub const fn function(&self) -> TmfFunction {
        TmfFunction(self.flags & 0x7f)
    }
}

bhs! {
    /// SCSI Data-Out (section 11.7).
    pub struct DataOut {
        /// 0x05.
        pub opcode: u8,
        /// F 0x80.
        pub flags: u8,
        /// Reserved.
        pub reserved_2: [u8; 2],
        /// Zero.
        pub total_ahs_length_words: u8,
        /// Data length in bytes.
        pub data_segment_length: U24,
        /// LUN of the R2T when the tag is not 0xffffffff, else reserved.
        pub lun: U64,
        /// Tag of the command.
        pub itt: U32,
        /// Tag of the R2T that this answers; 0xffffffff when unsolicited.
        pub ttt: U32,
        /// Reserved.
        pub reserved_24: [u8; 4],
        /// ExpStatSN.
        pub exp_stat_sn: U32,
        /// Reserved.
        pub reserved_32: [u8; 4],
        /// Number of this PDU in its sequence, from 0.
        pub data_sn: U32,
        /// Offset of the first byte in the command's buffer.
        pub buffer_offset_bytes: U32,
        /// Reserved.
        pub reserved_44: [u8; 4],
    }
}

impl DataOut {
    /// Last PDU of its sequence.
    pub const fn is_final(&self) -> bool {
        self.flags & FLAG_FINAL != 0
    }
}

bhs! {
    /// Login Request (section 11.12).
    pub struct LoginRequest {
        /// 0x43: the immediate bit is required.
        pub opcode_and_immediate: u8,
        /// T 0x80, C 0x40, CSG in bits 3..2, NSG in bits 1..0.
        pub flags: u8,
        /// Highest version supported.
        pub version_max: u8,
        /// Lowest version supported.
        pub version_min: u8,
        /// Zero.
        pub total_ahs_length_words: u8,
        /// Key text in bytes.
        pub data_segment_length: U24,
        /// Initiator session id.
        pub isid: [u8; 6],
        /// Target session identifying handle; 0 asks for a new session.
        pub tsih: U16,
        /// Initiator task tag, the same in the whole login.
        pub itt: U32,
        /// Connection id.
        pub cid: U16,
        /// Reserved.
        pub reserved_22: [u8; 2],
        /// CmdSN, constant in the leading login.
        pub cmd_sn: U32,
        /// ExpStatSN; a restart hint in the first PDU, else an acknowledgement.
        pub exp_stat_sn: U32,
        /// Reserved.
        pub reserved_32: [u8; 16],
    }
}

impl LoginRequest {
    /// T: the initiator is ready to leave the stage.
    pub const fn is_transit(&self) -> bool {
        self.flags & FLAG_FINAL != 0
    }

    /// C: the text goes on in the next PDU.
    pub const fn is_continued(&self) -> bool {
        self.flags & FLAG_CONTINUE != 0
    }

    /// Current stage: 0 security, 1 operational, 3 full feature.
    pub const fn csg(&self) -> u8 {
        (self.flags >> 2) & 3
    }

    /// Next stage, meaningful with T.
    pub const fn nsg(&self) -> u8 {
        self.flags & 3
    }
}

bhs! {
    /// Text Request (section 11.10).
    pub struct TextRequest {
        /// 0x04, with or without the immediate bit.
        pub opcode_and_immediate: u8,
        /// F 0x80, C 0x40.
        pub flags: u8,
        /// Reserved.
        pub reserved_2: [u8; 2],
        /// Zero.
        pub total_ahs_length_words: u8,
        /// Key text in bytes.
        pub data_segment_length: U24,
        /// LUN that came with the tag, else reserved.
        pub lun: U64,
        /// Initiator task tag.
        pub itt: U32,
        /// Tag of the text response that this goes on from, else 0xffffffff.
        pub ttt: U32,
        /// CmdSN.
        pub cmd_sn: U32,
        /// ExpStatSN.
        pub exp_stat_sn: U32,
        /// Reserved.
        pub reserved_32: [u8; 16],
    }
}

impl TextRequest {
    /// F: the initiator has nothing more to say.
    pub const fn is_final(&self) -> bool {
        self.flags & FLAG_FINAL != 0
    }

    /// C: the text goes on in the next PDU.
    pub const fn is_continued(&self) -> bool {
        self.flags & FLAG_CONTINUE != 0
    }
}

bhs! {
    /// Logout Request (section 11.14).
    pub struct LogoutRequest {
        /// 0x06, with or without the immediate bit.
        pub opcode_and_immediate: u8,
        /// 0x80 and the reason in the low seven bits.
        pub flags: u8,
        /// Reserved.
        pub reserved_2: [u8; 2],
        /// Zero.
        pub total_ahs_length_words: u8,
        /// Zero.
        pub data_segment_length: U24,
        /// Reserved.
        pub reserved_8: [u8; 8],
        /// Initiator task tag.
        pub itt: U32,
        /// Connection it is about, unless the reason is "close the session".
        pub cid: U16,
        /// Reserved.
        pub reserved_22: [u8; 2],
        /// CmdSN.
        pub cmd_sn: U32,
        /// ExpStatSN.
        pub exp_stat_sn: U32,
        /// Reserved.
        pub reserved_32: [u8; 16],
    }
}

impl LogoutRequest {
    /// The reason.
    pub const fn reason(&self) -> LogoutReason {
        LogoutReason(self.flags & 0x7f)
    }
}

bhs! {
    /// SNACK Request (section 11.16); refused at error recovery level 0.
    pub struct SnackRequest {
        /// 0x10.
        pub opcode: u8,
        /// 0x80 and the type in the low four bits.
        pub flags: u8,
        /// Reserved.
        pub reserved_2: [u8; 2],
        /// Zero.
        pub total_ahs_length_words: u8,
        /// Zero.
        pub data_segment_length: U24,
        /// LUN, or reserved.
        pub lun: U64,
        /// Tag of the task, or 0xffffffff.
        pub itt: U32,
        /// Target transfer tag or SNACK tag.
        pub ttt: U32,
        /// Reserved.
        pub reserved_24: [u8; 4],
        /// ExpStatSN.
        pub exp_stat_sn: U32,
        /// Reserved.
        pub reserved_32: [u8; 8],
        /// First missing number.
        pub beg_run: U32,
        /// How many; 0 means all from there.
        pub run_length: U32,
    }
}

impl SnackRequest {
    /// What is asked for.
    pub const fn snack_type(&self) -> SnackType {
        SnackType(self.flags & 0x0f)
    }
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    #[test]
    fn fields_lie_where_the_standard_puts_them() {
        assert_eq!(offset_of!(ScsiCommand, expected_data_transfer_length), 20);
        assert_eq!(offset_of!(ScsiCommand, cdb), 32);
        assert_eq!(offset_of!(TmfRequest, ref_cmd_sn), 32);
        assert_eq!(offset_of!(DataOut, exp_stat_sn), 28);
        assert_eq!(offset_of!(DataOut, data_sn), 36);
        assert_eq!(offset_of!(DataOut, buffer_offset_bytes), 40);
        assert_eq!(offset_of!(LoginRequest, isid), 8);
        assert_eq!(offset_of!(LoginRequest, tsih), 14);
        assert_eq!(offset_of!(LoginRequest, cid), 20);
        assert_eq!(offset_of!(LoginRequest, cmd_sn), 24);
        assert_eq!(offset_of!(TextRequest, ttt), 20);
        assert_eq!(offset_of!(LogoutRequest, cid), 20);
        assert_eq!(offset_of!(SnackRequest, beg_run), 40);
        assert_eq!(offset_of!(NopOut, exp_stat_sn), 28);
    }

    #[test]
    fn login_flags_are_split_into_stages() {
        let request = LoginRequest { flags: 0b1100_0111, ..LoginRequest::default() };
        assert!(request.is_transit() && request.is_continued());
        assert_eq!((request.csg(), request.nsg()), (1, 3));
    }
}
