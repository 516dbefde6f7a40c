//! The Discovery log page (Base 5.1.12.3.1).

use zerocopy::little_endian::{U16, U64};

use crate::NQN_FIELD_BYTES;

open_enum! {
    /// Transport Type (TRTYPE).
    #[derive(zerocopy::Unaligned)]
    pub enum TransportType(u8) {
        /// PCI Express.
        PCIE = 0,
        /// RDMA.
        RDMA = 1,
        /// Fibre Channel.
        FIBRE_CHANNEL = 2,
        /// TCP.
        TCP = 3,
        /// Intra-host (loopback).
        INTRA_HOST = 254,
    }
}

open_enum! {
    /// Address Family (ADRFAM).
    #[derive(zerocopy::Unaligned)]
    pub enum AddressFamily(u8) {
        /// IPv4.
        IPV4 = 1,
        /// IPv6.
        IPV6 = 2,
        /// InfiniBand.
        INFINIBAND = 3,
        /// Fibre Channel.
        FIBRE_CHANNEL = 4,
        /// Intra-host (loopback).
        INTRA_HOST = 254,
    }
}

open_enum! {
    /// Subsystem Type (SUBTYPE).
    #[derive(zerocopy::Unaligned)]
    pub enum SubsystemType(u8) {
        /// A referral to another discovery service.
        REFERRAL = 1,
        /// A subsystem with namespaces.
        NVM = 2,
        /// The discovery subsystem that is being asked.
        CURRENT_DISCOVERY = 3,
    }
}

open_enum! {
    /// Security Type of the TCP transport: byte 0 of TSAS (TCP 3.1.1).
    #[derive(zerocopy::Unaligned)]
    pub enum TcpSecurity(u8) {
        /// No security.
        NONE = 0,
        /// TLS 1.2.
        TLS_1_2 = 1,
        /// TLS 1.3.
        TLS_1_3 = 2,
    }
}

/// Transport requirement (TREQ bits 1:0): a secure channel is required.
pub const TREQ_SECURE_CHANNEL_REQUIRED: u8 = 0b01;
/// Transport requirement (TREQ bits 1:0): a secure channel is not required.
pub const TREQ_SECURE_CHANNEL_NOT_REQUIRED: u8 = 0b10;
/// Transport requirement: the controller can disable flow control of submission queues.
pub const TREQ_DISABLE_SQ_FLOW_CONTROL: u8 = 1 << 2;

/// Entry flag: the same information is returned on all ports of the subsystem.
pub const EFLAGS_DUPLICATE_RETURNED_INFORMATION: u16 = 1 << 0;
/// Entry flag: connections to this discovery controller may stay, for events (explicit persistent connection).
pub const EFLAGS_EXPLICIT_PERSISTENT_CONNECTION: u16 = 1 << 1;
/// Entry flag: no connectivity to the centralised discovery controller.
pub const EFLAGS_NO_CDC_CONNECTIVITY: u16 = 1 << 2;

wire! {
    /// Head of the log page; [`DiscoveryEntry`] records follow.
    pub struct DiscoveryHeader[1024] {
        /// Generation Counter: raised whenever the content changes.
        pub genctr: U64,
        /// Number of Records.
        pub numrec: U64,
        /// Record Format: 0.
        pub recfmt: U16,
        /// Reserved.
        pub reserved18: [u8; 1006],
    }
}

/// Bytes of the Transport Service Identifier field.
pub const TRSVCID_BYTES: usize = 32;

/// Bytes of the Transport Address field.
pub const TRADDR_BYTES: usize = 256;

wire! {
    /// One record: a way to reach a subsystem.
    pub struct DiscoveryEntry[1024] {
        /// Transport Type.
        pub trtype: TransportType,
        /// Address Family.
        pub adrfam: AddressFamily,
        /// Subsystem Type.
        pub subtype: SubsystemType,
        /// Transport Requirements.
        pub treq: u8,
        /// Port ID.
        pub portid: U16,
        /// Controller ID: FFFFh in the dynamic controller model.
        pub cntlid: U16,
        /// Admin Max SQ Size; at least 32.
        pub asqsz: U16,
        /// Entry Flags.
        pub eflags: U16,
        /// Reserved.
        pub reserved12: [u8; 20],
        /// Transport Service Identifier: ASCII, space-padded. For TCP the port in decimal.
        pub trsvcid: [u8; TRSVCID_BYTES],
        /// Reserved.
        pub reserved64: [u8; 192],
        /// NQN of the subsystem.
        pub subnqn: [u8; NQN_FIELD_BYTES],
        /// Transport Address: ASCII, space-padded.
        pub traddr: [u8; TRADDR_BYTES],
        /// Transport Specific Address Subtype; for TCP byte 0 is a [`TcpSecurity`].
        pub tsas: [u8; 256],
    }
}

/// Text in a field padded with spaces (or, as some write it, NULs); `None` if it is not ASCII.
pub fn padded_text(field: &[u8]) -> Option<&str> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let text = core::str::from_utf8(&field[..end]).ok().filter(|text| text.is_ascii())?;
    Some(text.trim_end_matches(' '))
}

/// Fills a field with ASCII text and spaces; `None` when it does not fit or is not ASCII.
pub fn pad_text<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let mut field = [b' '; BYTES];
    if !text.is_ascii() {
        return None;
    }
    field.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    Some(field)
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    #[test]
    fn fields_stand_where_the_specification_puts_them() {
        assert_eq!((offset_of!(DiscoveryHeader, numrec), offset_of!(DiscoveryHeader, recfmt)), (8, 16));
        assert_eq!((offset_of!(DiscoveryEntry, asqsz), offset_of!(DiscoveryEntry, eflags)), (8, 10));
        assert_eq!((offset_of!(DiscoveryEntry, trsvcid), offset_of!(DiscoveryEntry, subnqn)), (32, 256));
        assert_eq!((offset_of!(DiscoveryEntry, traddr), offset_of!(DiscoveryEntry, tsas)), (512, 768));
    }

    #[test]
    fn text_is_padded_with_spaces() {
        let field: [u8; TRSVCID_BYTES] = pad_text("4420").unwrap();
        assert_eq!((field[3], field[4], padded_text(&field)), (b'0', b' ', Some("4420")));
        assert_eq!(padded_text(b"10.0.0.1\0\0"), Some("10.0.0.1"));
        assert_eq!(padded_text(&[0xff]), None);
        assert_eq!(pad_text::<2>("abc"), None);
    }
}
