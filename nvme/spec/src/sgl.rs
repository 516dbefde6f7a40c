//! Scatter Gather List descriptors (Base 4.3.2).

use zerocopy::little_endian::{U32, U64};

open_enum! {
    /// Byte 15 of a descriptor: type in bits 7:4, subtype in bits 3:0.
    #[derive(zerocopy::Unaligned)]
    pub enum SglIdentifier(u8) {
        /// Data Block, address. On Fabrics this is not an address of the host's memory and is refused.
        DATA_BLOCK_ADDRESS = 0x00,
        /// Data Block, offset: data inside the capsule.
        DATA_BLOCK_OFFSET = 0x01,
        /// Bit Bucket.
        BIT_BUCKET = 0x10,
        /// Segment.
        SEGMENT = 0x20,
        /// Last Segment.
        LAST_SEGMENT = 0x30,
        /// Keyed Data Block.
        KEYED_DATA_BLOCK = 0x40,
        /// Keyed Data Block, invalidate the key.
        KEYED_DATA_BLOCK_INVALIDATE = 0x4f,
        /// Transport Data Block: the transport moves the data with its own PDUs (TCP 3.2).
        TRANSPORT_DATA_BLOCK = 0x5a,
    }
}

impl SglIdentifier {
    /// The descriptor type (bits 7:4).
    pub const fn descriptor_type(self) -> u8 {
        self.0 >> 4
    }

    /// The descriptor subtype (bits 3:0).
    pub const fn subtype(self) -> u8 {
        self.0 & 0x0f
    }
}

wire! {
    /// One SGL descriptor (Base figure "Generic SGL Descriptor Format").
    ///
    /// For a keyed descriptor bytes 8 to 14 hold a 3-byte length and a 4-byte key instead of `length_bytes` and `reserved`.
    pub struct SglDescriptor[16] {
        /// Address, or offset in the capsule.
        pub address: U64,
        /// Bytes of data.
        pub length_bytes: U32,
        /// Reserved.
        pub reserved: [u8; 3],
        /// Type and subtype.
        pub identifier: SglIdentifier,
    }
}

impl SglDescriptor {
    /// A descriptor of this kind; only the fields that every kind but the keyed ones has.
    pub fn new(identifier: SglIdentifier, address: u64, length_bytes: u32) -> Self {
        Self {
            address: U64::new(address),
            length_bytes: U32::new(length_bytes),
            reserved: [0; 3],
            identifier,
        }
    }

    /// Data of this many bytes inside the capsule, at `offset_bytes` from the start of its data.
    pub fn in_capsule(offset_bytes: u64, length_bytes: u32) -> Self {
        Self {
            address: U64::new(offset_bytes),
            length_bytes: U32::new(length_bytes),
            reserved: [0; 3],
            identifier: SglIdentifier::DATA_BLOCK_OFFSET,
        }
    }

    /// Data of this many bytes moved by the transport (R2T and H2CData, or C2HData).
    pub fn transport(length_bytes: u32) -> Self {
        Self {
            address: U64::ZERO,
            length_bytes: U32::new(length_bytes),
            reserved: [0; 3],
            identifier: SglIdentifier::TRANSPORT_DATA_BLOCK,
        }
    }
}
