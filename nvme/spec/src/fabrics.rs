//! Fabrics commands: views of a [`Sqe`] whose opcode is 7Fh, and their data and results (Base 6).

use zerocopy::little_endian::{U16, U32, U64};

use crate::{Cqe, NQN_BYTES_MAX, NQN_FIELD_BYTES, SglDescriptor, Sqe, opcode};

open_enum! {
    /// Fabrics Command Type: byte 4 of the command. Its low two bits say which way the data goes.
    #[derive(zerocopy::Unaligned)]
    pub enum FabricsType(u8) {
        /// Property Set.
        PROPERTY_SET = 0x00,
        /// Connect.
        CONNECT = 0x01,
        /// Property Get.
        PROPERTY_GET = 0x04,
        /// Authentication Send.
        AUTHENTICATION_SEND = 0x05,
        /// Authentication Receive.
        AUTHENTICATION_RECEIVE = 0x06,
        /// Disconnect.
        DISCONNECT = 0x08,
    }
}

/// Declares a Fabrics command as a view of a submission queue entry.
macro_rules! fabrics_command {
    ($(#[$meta:meta])* pub struct $name:ident: $fctype:ident {
        $($(#[$field_meta:meta])* pub $field:ident: $kind:ty,)*
    }) => {
        wire! {
            $(#[$meta])*
            pub struct $name[64] {
                /// 7Fh.
                pub opcode: u8,
                /// Reserved, but for PSDT in bits 7:6.
                pub flags: u8,
                /// Command Identifier.
                pub cid: U16,
                /// Fabrics Command Type.
                pub fctype: FabricsType,
                /// Reserved.
                pub reserved5: [u8; 19],
                /// Data pointer.
                pub sgl: SglDescriptor,
                $($(#[$field_meta])* pub $field: $kind,)*
            }
        }

        impl $name {
            /// The command with opcode and type set, PSDT as Fabrics wants it, and the rest zero.
            pub fn command() -> Self {
                Self { opcode: opcode::FABRICS, flags: 0x40, fctype: FabricsType::$fctype, ..Self::default() }
            }

            /// A command seen as this one; whether opcode and type fit is the caller's to check.
            pub fn view(sqe: &Sqe) -> &Self {
                zerocopy::transmute_ref!(sqe)
            }

            /// This command as the general form.
            pub fn as_sqe(&self) -> &Sqe {
                zerocopy::transmute_ref!(self)
            }
        }
    };
}

impl Sqe {
    /// The Fabrics Command Type, if the opcode is that of Fabrics commands.
    pub fn fabrics_type(&self) -> Option<FabricsType> {
        (self.opcode == opcode::FABRICS).then(|| FabricsType(self.nsid.get() as u8))
    }
}

fabrics_command! {
    /// Connect (Base 6.3).
    pub struct Connect: CONNECT {
        /// Record Format: 0.
        pub recfmt: U16,
        /// Queue Identifier; 0 is the admin queue.
        pub qid: U16,
        /// Submission Queue Size, less one. 0 is invalid.
        pub sqsize: U16,
        /// Connect Attributes: [`CATTR_DISABLE_SQ_FLOW_CONTROL`] and others.
        pub cattr: u8,
        /// Reserved.
        pub reserved47: u8,
        /// Keep Alive Timeout in milliseconds (admin queue only); 0 is none.
        pub kato_ms: U32,
        /// Reserved.
        pub reserved52: [u8; 12],
    }
}

/// Connect attribute: priority class, bits 1:0.
pub const CATTR_PRIORITY_CLASS: u8 = 0b11;
/// Connect attribute: the host asks to disable flow control of the submission queue.
pub const CATTR_DISABLE_SQ_FLOW_CONTROL: u8 = 1 << 2;
/// Connect attribute: the host supports deletion of individual I/O queues (Disconnect).
pub const CATTR_INDIVIDUAL_IO_QUEUE_DELETION: u8 = 1 << 3;

/// CNTLID of Connect that asks for a controller in the dynamic controller model.
pub const CNTLID_DYNAMIC: u16 = 0xffff;
/// CNTLID of Connect that asks for any controller in the static controller model.
pub const CNTLID_STATIC: u16 = 0xfffe;
/// The largest CNTLID that a controller may have (Base 3.1.3).
pub const CNTLID_MAX: u16 = 0xffef;

wire! {
    /// Data of Connect (Base 6.3).
    pub struct ConnectData[1024] {
        /// Host Identifier.
        pub hostid: [u8; 16],
        /// Controller Identifier: on the admin queue [`CNTLID_DYNAMIC`] or the one that is wanted, else the one that is meant.
        pub cntlid: U16,
        /// Reserved.
        pub reserved18: [u8; 238],
        /// NQN of the subsystem.
        pub subnqn: [u8; NQN_FIELD_BYTES],
        /// NQN of the host.
        pub hostnqn: [u8; NQN_FIELD_BYTES],
        /// Reserved.
        pub reserved768: [u8; 256],
    }
}

/// The name in an NQN field: NUL-terminated, not empty, no longer than an NQN may be, and UTF-8; else `None`.
pub fn nqn(field: &[u8; NQN_FIELD_BYTES]) -> Option<&str> {
    let length = field.iter().position(|byte| *byte == 0)?;
    if length == 0 || length > NQN_BYTES_MAX {
        return None;
    }
    core::str::from_utf8(&field[..length]).ok()
}

/// Fills an NQN field, NUL-padded; `None` when the name is empty or longer than an NQN may be.
pub fn nqn_field(name: &str) -> Option<[u8; NQN_FIELD_BYTES]> {
    if name.is_empty() || name.len() > NQN_BYTES_MAX {
        return None;
    }
    let mut field = [0; NQN_FIELD_BYTES];
    field[..name.len()].copy_from_slice(name.as_bytes());
    Some(field)
}

/// Dword 0 of the completion of a Connect that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectResult {
    /// Controller Identifier.
    pub cntlid: u16,
    /// Authentication Requirements: [`AUTHREQ_TRANSACTION`], [`AUTHREQ_SECURE_CHANNEL`].
    pub authreq: u16,
}

/// Authentication requirement: an authentication transaction (ATR).
pub const AUTHREQ_TRANSACTION: u16 = 1 << 1;
/// Authentication requirement: authentication and a secure channel (ASCR).
pub const AUTHREQ_SECURE_CHANNEL: u16 = 1 << 2;

impl ConnectResult {
    /// From a completion.
    pub fn of(cqe: &Cqe) -> Self {
        let dw0 = cqe.dw0.get();
        Self { cntlid: dw0 as u16, authreq: (dw0 >> 16) as u16 }
    }

    /// As dword 0.
    pub const fn dword(self) -> u32 {
        self.cntlid as u32 | (self.authreq as u32) << 16
    }
}

/// Dword 0 of the completion of a Connect with status Connect Invalid Parameters: where the first wrong field begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidParameter {
    /// Invalid Parameter Offset in bytes.
    pub ipo: u16,
    /// In the data; else in the command.
    pub in_data: bool,
}

impl InvalidParameter {
    /// A field of the command, by its offset in bytes.
    pub const fn command(offset_bytes: usize) -> Self {
        Self { ipo: offset_bytes as u16, in_data: false }
    }

    /// A field of the data, by its offset in bytes.
    pub const fn data(offset_bytes: usize) -> Self {
        Self { ipo: offset_bytes as u16, in_data: true }
    }

    /// From a completion.
    pub fn of(cqe: &Cqe) -> Self {
        let dw0 = cqe.dw0.get();
        Self { ipo: dw0 as u16, in_data: dw0 & 1 << 16 != 0 }
    }

    /// As dword 0: IPO in bits 15:0, IATTR in bits 23:16.
    pub const fn dword(self) -> u32 {
        self.ipo as u32 | (self.in_data as u32) << 16
    }
}

fabrics_command! {
    /// Property Get (Base 6.4); the completion's dwords 0 and 1 are the value ([`Cqe::result64`]).
    pub struct PropertyGet: PROPERTY_GET {
        /// Attributes: bits 2:0 are the size, [`PROPERTY_4_BYTES`] or [`PROPERTY_8_BYTES`].
        pub attrib: u8,
        /// Reserved.
        pub reserved41: [u8; 3],
        /// Offset of the property ([`crate::register`]).
        pub offset: U32,
        /// Reserved.
        pub reserved48: [u8; 16],
    }
}

fabrics_command! {
    /// Property Set (Base 6.6).
    pub struct PropertySet: PROPERTY_SET {
        /// Attributes: bits 2:0 are the size, [`PROPERTY_4_BYTES`] or [`PROPERTY_8_BYTES`].
        pub attrib: u8,
        /// Reserved.
        pub reserved41: [u8; 3],
        /// Offset of the property ([`crate::register`]).
        pub offset: U32,
        /// Value; for a property of 4 bytes the upper half is reserved.
        pub value: U64,
        /// Reserved.
        pub reserved56: [u8; 8],
    }
}

/// Attribute of Property Get and Set: the property has 4 bytes.
pub const PROPERTY_4_BYTES: u8 = 0;
/// Attribute of Property Get and Set: the property has 8 bytes.
pub const PROPERTY_8_BYTES: u8 = 1;

fabrics_command! {
    /// Disconnect of an I/O queue (Base 6.5).
    pub struct Disconnect: DISCONNECT {
        /// Record Format: 0.
        pub recfmt: U16,
        /// Reserved.
        pub reserved42: [u8; 22],
    }
}

fabrics_command! {
    /// Authentication Send (Base 6.2).
    pub struct AuthenticationSend: AUTHENTICATION_SEND {
        /// Reserved.
        pub reserved40: u8,
        /// SP Specific 0: 01h.
        pub spsp0: u8,
        /// SP Specific 1: 01h.
        pub spsp1: u8,
        /// Security Protocol: E9h.
        pub secp: u8,
        /// Transfer Length in bytes.
        pub length_bytes: U32,
        /// Reserved.
        pub reserved48: [u8; 16],
    }
}

fabrics_command! {
    /// Authentication Receive (Base 6.1).
    pub struct AuthenticationReceive: AUTHENTICATION_RECEIVE {
        /// Reserved.
        pub reserved40: u8,
        /// SP Specific 0: 01h.
        pub spsp0: u8,
        /// SP Specific 1: 01h.
        pub spsp1: u8,
        /// Security Protocol: E9h.
        pub secp: u8,
        /// Allocation Length in bytes.
        pub length_bytes: U32,
        /// Reserved.
        pub reserved48: [u8; 16],
    }
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;
    use crate::Status;

    #[test]
    fn fields_stand_where_the_specification_puts_them() {
        assert_eq!((offset_of!(Connect, fctype), offset_of!(Connect, sgl)), (4, 24));
        assert_eq!((offset_of!(Connect, qid), offset_of!(Connect, sqsize)), (42, 44));
        assert_eq!((offset_of!(Connect, cattr), offset_of!(Connect, kato_ms)), (46, 48));
        assert_eq!((offset_of!(PropertyGet, offset), offset_of!(PropertySet, value)), (44, 48));
        assert_eq!(
            (offset_of!(AuthenticationSend, secp), offset_of!(AuthenticationSend, length_bytes)),
            (43, 44)
        );
        assert_eq!(offset_of!(ConnectData, cntlid), 16);
        assert_eq!((offset_of!(ConnectData, subnqn), offset_of!(ConnectData, hostnqn)), (256, 512));
    }

    #[test]
    fn a_command_is_seen_through_its_general_form() {
        let mut connect = Connect { qid: U16::new(3), ..Connect::command() };
        connect.cid = U16::new(9);
        let sqe = *connect.as_sqe();
        assert_eq!((sqe.cid.get(), sqe.fabrics_type()), (9, Some(FabricsType::CONNECT)));
        assert_eq!(sqe.psdt(), crate::sqe::Psdt::SGL);
        assert_eq!(Connect::view(&sqe), &connect);
        assert_eq!(Sqe::flush(1).fabrics_type(), None);
    }

    #[test]
    fn results_of_connect_pack_into_dword_0() {
        let result = ConnectResult { cntlid: 0x1234, authreq: AUTHREQ_TRANSACTION };
        let mut cqe = Cqe::new(0, Status::SUCCESS);
        cqe.dw0 = U32::new(result.dword());
        assert_eq!((result.dword(), ConnectResult::of(&cqe)), (0x0002_1234, result));
        let wrong = InvalidParameter::data(offset_of!(ConnectData, subnqn));
        cqe.dw0 = U32::new(wrong.dword());
        assert_eq!((wrong.dword(), InvalidParameter::of(&cqe)), (0x0001_0100, wrong));
    }

    #[test]
    fn a_name_ends_within_its_field() {
        assert_eq!(
            nqn(&nqn_field("nqn.2014-08.org.nvmexpress:a").unwrap()),
            Some("nqn.2014-08.org.nvmexpress:a")
        );
        let mut field = [b'a'; NQN_FIELD_BYTES];
        assert_eq!(nqn(&field), None);
        field[NQN_BYTES_MAX + 1] = 0;
        assert_eq!(nqn(&field), None);
        field[NQN_BYTES_MAX] = 0;
        assert_eq!(nqn(&field).map(str::len), Some(NQN_BYTES_MAX));
        field[0] = 0xff;
        assert_eq!(nqn(&field), None);
        assert_eq!(nqn(&[0; NQN_FIELD_BYTES]), None);
        assert!(nqn_field("").is_none());
    }
}
