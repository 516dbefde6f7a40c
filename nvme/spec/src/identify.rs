//! Data of Identify (Base 5.1.13): which structures there are, and the lists; [`controller`] and [`namespace`] hold the rest.

pub mod controller;
pub mod namespace;

pub use controller::{IdentifyController, IdentifyControllerNvm};
pub use namespace::{IdentifyNamespace, IdentifyNamespaceIndependent, IdentifyNamespaceNvm, LbaFormat};

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

open_enum! {
    /// Controller or Namespace Structure.
    pub enum Cns(u8) {
        /// Identify Namespace of the NVM Command Set, for an active namespace.
        NAMESPACE = 0x00,
        /// Identify Controller.
        CONTROLLER = 0x01,
        /// Active Namespace ID list.
        ACTIVE_NAMESPACE_LIST = 0x02,
        /// Namespace Identification Descriptor list.
        NAMESPACE_DESCRIPTOR_LIST = 0x03,
        /// NVM Set List.
        NVM_SET_LIST = 0x04,
        /// I/O Command Set specific Identify Namespace.
        COMMAND_SET_NAMESPACE = 0x05,
        /// I/O Command Set specific Identify Controller.
        COMMAND_SET_CONTROLLER = 0x06,
        /// I/O Command Set specific Active Namespace ID list.
        COMMAND_SET_ACTIVE_NAMESPACE_LIST = 0x07,
        /// I/O Command Set Independent Identify Namespace.
        INDEPENDENT_NAMESPACE = 0x08,
        /// Identify Namespace by user data format.
        NAMESPACE_USER_DATA_FORMAT = 0x09,
        /// I/O Command Set specific Identify Namespace by user data format.
        COMMAND_SET_NAMESPACE_USER_DATA_FORMAT = 0x0a,
        /// Allocated Namespace ID list.
        ALLOCATED_NAMESPACE_LIST = 0x10,
        /// Identify Namespace, for an allocated namespace.
        ALLOCATED_NAMESPACE = 0x11,
        /// Controller list of a namespace.
        NAMESPACE_CONTROLLER_LIST = 0x12,
        /// Controller list of the subsystem.
        CONTROLLER_LIST = 0x13,
        /// Primary Controller Capabilities.
        PRIMARY_CONTROLLER_CAPABILITIES = 0x14,
        /// Secondary Controller list.
        SECONDARY_CONTROLLER_LIST = 0x15,
        /// Namespace Granularity List.
        NAMESPACE_GRANULARITY_LIST = 0x16,
        /// UUID List.
        UUID_LIST = 0x17,
        /// Domain List.
        DOMAIN_LIST = 0x18,
        /// Endurance Group List.
        ENDURANCE_GROUP_LIST = 0x19,
        /// I/O Command Set specific Allocated Namespace ID list.
        COMMAND_SET_ALLOCATED_NAMESPACE_LIST = 0x1a,
        /// I/O Command Set specific Identify Namespace, for an allocated namespace.
        COMMAND_SET_ALLOCATED_NAMESPACE = 0x1b,
        /// Identify I/O Command Set: [`CommandSetVectors`].
        COMMAND_SETS = 0x1c,
        /// Underlying Namespace List.
        UNDERLYING_NAMESPACE_LIST = 0x1d,
        /// Ports List.
        PORTS_LIST = 0x1e,
        /// I/O Command Set Independent Identify Namespace, for an allocated namespace.
        INDEPENDENT_ALLOCATED_NAMESPACE = 0x1f,
        /// Supported Controller State Formats.
        SUPPORTED_CONTROLLER_STATE_FORMATS = 0x20,
    }
}

open_enum! {
    /// Command Set Identifier.
    #[derive(zerocopy::Unaligned)]
    pub enum CommandSet(u8) {
        /// NVM Command Set.
        NVM = 0,
        /// Key Value Command Set.
        KEY_VALUE = 1,
        /// Zoned Namespace Command Set.
        ZNS = 2,
        /// Subsystem Local Memory Command Set.
        SUBSYSTEM_LOCAL_MEMORY = 3,
        /// Computational Programs Command Set.
        COMPUTATIONAL_PROGRAMS = 4,
    }
}

/// Identifiers in a namespace list: ascending, and 0 after the last.
pub const NAMESPACE_LIST_MAX: usize = 1024;

wire! {
    /// Namespace list (Base 4.4.2).
    pub struct NamespaceList[4096] {
        /// Identifiers in ascending order; 0 after the last.
        pub nsid: [U32; NAMESPACE_LIST_MAX],
    }
}

impl NamespaceList {
    /// The identifiers before the first 0.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.nsid.iter().map(|nsid| nsid.get()).take_while(|nsid| *nsid != 0)
    }
}

/// Identifiers in a controller list.
pub const CONTROLLER_LIST_MAX: usize = 2047;

wire! {
    /// Controller list (Base 4.4.1).
    pub struct ControllerList[4096] {
        /// Number of identifiers.
        pub count: U16,
        /// Identifiers in ascending order.
        pub cntlid: [U16; CONTROLLER_LIST_MAX],
    }
}

impl ControllerList {
    /// The identifiers that the count covers; a count beyond the list is cut.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.cntlid.iter().take(self.count.get().into()).map(|cntlid| cntlid.get())
    }
}

wire! {
    /// Identify I/O Command Set: combinations of command sets that can be used together (Base 5.1.13.2.21).
    pub struct CommandSetVectors[4096] {
        /// Bit n of a vector is command set n.
        pub vector: [U64; 512],
    }
}

open_enum! {
    /// Namespace Identifier Type of a descriptor.
    #[derive(zerocopy::Unaligned)]
    pub enum NamespaceIdType(u8) {
        /// IEEE Extended Unique Identifier, 8 bytes, big-endian.
        EUI64 = 1,
        /// Namespace Globally Unique Identifier, 16 bytes, big-endian.
        NGUID = 2,
        /// UUID, 16 bytes, in the byte order of RFC 9562.
        UUID = 3,
        /// Command Set Identifier, 1 byte.
        COMMAND_SET = 4,
    }
}

wire! {
    /// Head of a Namespace Identification Descriptor; `length_bytes` bytes follow. A length of 0 ends the list.
    pub struct NamespaceDescriptor[4] {
        /// What follows.
        pub id_type: NamespaceIdType,
        /// Bytes of the identifier.
        pub length_bytes: u8,
        /// Reserved.
        pub reserved2: [u8; 2],
    }
}

/// Reads a Namespace Identification Descriptor list; a descriptor that does not fit ends it.
pub fn namespace_descriptors(mut list: &[u8]) -> impl Iterator<Item = (NamespaceIdType, &[u8])> {
    core::iter::from_fn(move || {
        let (head, rest) = list.split_at_checked(size_of::<NamespaceDescriptor>())?;
        let (id, rest) = rest.split_at_checked(head[1].into()).filter(|(id, _)| !id.is_empty())?;
        list = rest;
        Some((NamespaceIdType(head[0]), id))
    })
}

/// Appends a descriptor to a list at `offset_bytes` and returns where the next one goes; `None` when it does not fit.
pub fn put_namespace_descriptor(
    list: &mut [u8],
    offset_bytes: usize,
    id_type: NamespaceIdType,
    id: &[u8],
) -> Option<usize> {
    let head = NamespaceDescriptor { id_type, length_bytes: u8::try_from(id.len()).ok()?, reserved2: [0; 2] };
    let id_start = offset_bytes.checked_add(size_of::<NamespaceDescriptor>())?;
    let end = id_start.checked_add(id.len())?;
    list.get_mut(offset_bytes..id_start)?.copy_from_slice(head.as_bytes());
    list.get_mut(id_start..end)?.copy_from_slice(id);
    Some(end)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn descriptors_round_trip_and_end_at_what_does_not_fit() {
        let mut list = [0; 64];
        let next = put_namespace_descriptor(&mut list, 0, NamespaceIdType::UUID, &[7; 16]).unwrap();
        let next = put_namespace_descriptor(&mut list, next, NamespaceIdType::COMMAND_SET, &[0]).unwrap();
        assert_eq!(next, 25);
        let found: Vec<_> = namespace_descriptors(&list).collect();
        assert_eq!(found, [(NamespaceIdType::UUID, &[7; 16][..]), (NamespaceIdType::COMMAND_SET, &[0][..])]);
        assert_eq!(namespace_descriptors(&list[..12]).count(), 0);
        assert_eq!(put_namespace_descriptor(&mut list, 60, NamespaceIdType::COMMAND_SET, &[0]), None);
    }

    #[test]
    fn lists_end_where_they_say() {
        let mut namespaces = NamespaceList::default();
        (namespaces.nsid[0], namespaces.nsid[1]) = (U32::new(1), U32::new(9));
        assert_eq!(namespaces.iter().collect::<Vec<_>>(), [1, 9]);
        let mut controllers = ControllerList { count: U16::new(0xffff), ..ControllerList::default() };
        assert_eq!(controllers.iter().count(), CONTROLLER_LIST_MAX);
        (controllers.count, controllers.cntlid[0]) = (U16::new(1), U16::new(3));
        assert_eq!(controllers.iter().collect::<Vec<_>>(), [3]);
    }
}
