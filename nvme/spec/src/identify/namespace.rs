//! Identify Namespace (NVM 4.1.5.1 to 4.1.5.3, Base 5.1.13.2.8).

use core::mem::offset_of;

use zerocopy::little_endian::{U16, U32, U64, U128};

wire! {
    /// An LBA format.
    pub struct LbaFormat[4] {
        /// Metadata Size in bytes.
        pub metadata_bytes: U16,
        /// LBA Data Size as a power of two; less than 9 says that the format is not there.
        pub lbads: u8,
        /// Relative Performance in bits 1:0: 0 is best.
        pub relative_performance: u8,
    }
}

wire! {
    /// Identify Namespace of the NVM Command Set (CNS 00h).
    pub struct IdentifyNamespace[4096] {
        /// Namespace Size in blocks.
        pub nsze_blocks: U64,
        /// Namespace Capacity in blocks.
        pub ncap_blocks: U64,
        /// Namespace Utilization in blocks.
        pub nuse_blocks: U64,
        /// Namespace Features: `NSFEAT_` bits.
        pub nsfeat: u8,
        /// Number of LBA Formats, less one.
        pub nlbaf: u8,
        /// Formatted LBA Size: index of the format in bits 3:0 (and 6:5 as its bits 5:4).
        pub flbas: u8,
        /// Metadata Capabilities.
        pub mc: u8,
        /// End-to-end Data Protection Capabilities.
        pub dpc: u8,
        /// End-to-end Data Protection Type Settings.
        pub dps: u8,
        /// Namespace Multi-path I/O and Namespace Sharing Capabilities: [`NMIC_SHARED`].
        pub nmic: u8,
        /// Reservation Capabilities: `RESCAP_` bits.
        pub rescap: u8,
        /// Format Progress Indicator.
        pub fpi: u8,
        /// Deallocate Logical Block Features: `DLFEAT_` bits.
        pub dlfeat: u8,
        /// Namespace Atomic Write Unit Normal in blocks, less one.
        pub nawun: U16,
        /// Namespace Atomic Write Unit Power Fail in blocks, less one.
        pub nawupf: U16,
        /// Namespace Atomic Compare & Write Unit in blocks, less one.
        pub nacwu: U16,
        /// Namespace Atomic Boundary Size Normal in blocks, less one; 0 is no boundary.
        pub nabsn: U16,
        /// Namespace Atomic Boundary Offset.
        pub nabo: U16,
        /// Namespace Atomic Boundary Size Power Fail in blocks, less one; 0 is no boundary.
        pub nabspf: U16,
        /// Namespace Optimal I/O Boundary in blocks; 0 is none.
        pub noiob_blocks: U16,
        /// NVM Capacity in bytes.
        pub nvmcap_bytes: U128,
        /// Namespace Preferred Write Granularity in blocks, less one.
        pub npwg: U16,
        /// Namespace Preferred Write Alignment in blocks, less one.
        pub npwa: U16,
        /// Namespace Preferred Deallocate Granularity in blocks, less one.
        pub npdg: U16,
        /// Namespace Preferred Deallocate Alignment in blocks, less one.
        pub npda: U16,
        /// Namespace Optimal Write Size in blocks, less one.
        pub nows: U16,
        /// Maximum Single Source Range Length of Copy in blocks.
        pub mssrl_blocks: U16,
        /// Maximum Copy Length in blocks.
        pub mcl_blocks: U32,
        /// Maximum Source Range Count of Copy, less one.
        pub msrc: u8,
        /// Key Per I/O Status.
        pub kpios: u8,
        /// Number of Unique Attribute LBA Formats.
        pub nulbaf: u8,
        /// Reserved.
        pub reserved83: u8,
        /// Key Per I/O Data Access Alignment and Granularity.
        pub kpiodaag: U32,
        /// Reserved.
        pub reserved88: [u8; 4],
        /// ANA Group Identifier; 0 is none.
        pub anagrpid: U32,
        /// Reserved.
        pub reserved96: [u8; 3],
        /// Namespace Attributes: [`NSATTR_WRITE_PROTECTED`].
        pub nsattr: u8,
        /// NVM Set Identifier.
        pub nvmsetid: U16,
        /// Endurance Group Identifier.
        pub endgid: U16,
        /// Namespace Globally Unique Identifier, big-endian; 0 is none.
        pub nguid: [u8; 16],
        /// IEEE Extended Unique Identifier, big-endian; 0 is none.
        pub eui64: [u8; 8],
        /// LBA formats.
        pub lbaf: [LbaFormat; 64],
        /// Vendor specific.
        pub vendor: [u8; 3712],
    }
}

/// NSFEAT: thin provisioning; NUSE may be less than NCAP.
pub const NSFEAT_THIN: u8 = 1 << 0;
/// NSFEAT: the atomic write units of the namespace hold, not those of the controller.
pub const NSFEAT_ATOMIC: u8 = 1 << 1;
/// NSFEAT: Deallocated or Unwritten Logical Block error.
pub const NSFEAT_DULBE: u8 = 1 << 2;
/// NSFEAT: identifiers are never used again.
pub const NSFEAT_UNIQUE_IDS_NOT_REUSED: u8 = 1 << 3;
/// NSFEAT: preferred write and deallocate sizes hold (NPWG, NPWA, NPDG, NPDA, NOWS).
pub const NSFEAT_OPTIMAL_PERFORMANCE: u8 = 1 << 4;

/// FLBAS: metadata is transferred at the end of each block, as an extended LBA; else in a buffer of its own.
pub const FLBAS_EXTENDED: u8 = 1 << 4;
/// MC: metadata as a part of an extended LBA.
pub const MC_EXTENDED: u8 = 1 << 0;
/// MC: metadata in a buffer of its own.
pub const MC_SEPARATE: u8 = 1 << 1;

/// NMIC: the namespace may be attached to more than one controller at the same time.
pub const NMIC_SHARED: u8 = 1 << 0;

/// RESCAP: persist through power loss.
pub const RESCAP_PERSIST_THROUGH_POWER_LOSS: u8 = 1 << 0;
/// RESCAP: all six reservation types.
pub const RESCAP_ALL_TYPES: u8 = 0x7e;
/// RESCAP: Ignore Existing Key as revision 1.3 and later define it.
pub const RESCAP_IGNORE_EXISTING_KEY: u8 = 1 << 7;

/// DLFEAT, bits 2:0 = 1: deallocated blocks read as zeroes.
pub const DLFEAT_READS_ZEROES: u8 = 0b001;
/// DLFEAT, bits 2:0 = 2: deallocated blocks read as FFh.
pub const DLFEAT_READS_ONES: u8 = 0b010;
/// DLFEAT: Write Zeroes deallocates when told to.
pub const DLFEAT_WRITE_ZEROES_DEALLOCATES: u8 = 1 << 3;

/// NSATTR: write protected.
pub const NSATTR_WRITE_PROTECTED: u8 = 1 << 0;

impl IdentifyNamespace {
    /// The index of the LBA format in use: bits 3:0 of FLBAS, and with more than 16 formats bits 6:5 above them.
    pub const fn format_index(&self) -> usize {
        let low = self.flbas & 0x0f;
        let high = if self.nlbaf >= 16 { self.flbas >> 5 & 0b11 } else { 0 };
        (high << 4 | low) as usize
    }

    /// Bytes of a block, from the format in use; `None` when it is less than 512 or does not fit.
    pub fn block_bytes(&self) -> Option<u32> {
        let lbads = self.lbaf[self.format_index()].lbads;
        (9..32).contains(&lbads).then(|| 1 << lbads)
    }
}

wire! {
    /// Identify Namespace of the NVM Command Set, the part added later (CNS 05h, CSI 00h).
    pub struct IdentifyNamespaceNvm[4096] {
        /// Logical Block Storage Tag Mask.
        pub lbstm: U64,
        /// Protection Information Capabilities.
        pub pic: u8,
        /// Protection Information Format Attribute.
        pub pifa: u8,
        /// Reserved.
        pub reserved10: [u8; 2],
        /// Extended LBA formats.
        pub elbaf: [U32; 64],
        /// Namespace Preferred Deallocate Granularity Large in blocks; 0 is not reported.
        pub npdgl_blocks: U32,
        /// Namespace Preferred Read Granularity.
        pub nprg: U32,
        /// Namespace Preferred Read Alignment.
        pub npra: U32,
        /// Namespace Optimal Read Size.
        pub nors: U32,
        /// Namespace Preferred Deallocate Alignment Large in blocks; 0 is not reported.
        pub npdal_blocks: U32,
        /// Reserved, and fields not used here.
        pub reserved288: [u8; 3808],
    }
}

wire! {
    /// I/O Command Set Independent Identify Namespace (CNS 08h).
    pub struct IdentifyNamespaceIndependent[4096] {
        /// Common Namespace Features: `NSFEAT_UNIQUE_IDS_NOT_REUSED` and others.
        pub nsfeat: u8,
        /// Namespace Multi-path I/O and Namespace Sharing Capabilities.
        pub nmic: u8,
        /// Reservation Capabilities.
        pub rescap: u8,
        /// Format Progress Indicator.
        pub fpi: u8,
        /// ANA Group Identifier.
        pub anagrpid: U32,
        /// Namespace Attributes.
        pub nsattr: u8,
        /// Reserved.
        pub reserved9: u8,
        /// NVM Set Identifier.
        pub nvmsetid: U16,
        /// Endurance Group Identifier.
        pub endgid: U16,
        /// Namespace Status: [`NSTAT_READY`].
        pub nstat: u8,
        /// Key Per I/O Status.
        pub kpios: u8,
        /// Maximum Key Tag.
        pub maxkt: U16,
        /// Reserved.
        pub reserved18: [u8; 2],
        /// Reachability Group Identifier.
        pub rgrpid: U32,
        /// Reserved.
        pub reserved24: [u8; 4072],
    }
}

/// NSTAT: ready for I/O.
pub const NSTAT_READY: u8 = 1 << 0;

const _: () =
    assert!(offset_of!(IdentifyNamespace, dlfeat) == 33 && offset_of!(IdentifyNamespace, nvmcap_bytes) == 48);
const _: () =
    assert!(offset_of!(IdentifyNamespace, mssrl_blocks) == 74 && offset_of!(IdentifyNamespace, msrc) == 80);
const _: () =
    assert!(offset_of!(IdentifyNamespace, anagrpid) == 92 && offset_of!(IdentifyNamespace, nsattr) == 99);
const _: () =
    assert!(offset_of!(IdentifyNamespace, nguid) == 104 && offset_of!(IdentifyNamespace, eui64) == 120);
const _: () =
    assert!(offset_of!(IdentifyNamespace, lbaf) == 128 && offset_of!(IdentifyNamespace, vendor) == 384);
const _: () = assert!(offset_of!(IdentifyNamespaceNvm, elbaf) == 12);
const _: () = assert!(offset_of!(IdentifyNamespaceNvm, npdgl_blocks) == 268);
const _: () = assert!(offset_of!(IdentifyNamespaceIndependent, nstat) == 14);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_in_use_gives_the_block_size() {
        let mut namespace = IdentifyNamespace { nlbaf: 1, flbas: 1, ..IdentifyNamespace::default() };
        assert_eq!(namespace.block_bytes(), None);
        namespace.lbaf[1].lbads = 12;
        assert_eq!(namespace.block_bytes(), Some(4096));
        namespace.flbas = 0x71;
        assert_eq!(namespace.format_index(), 1);
        namespace.nlbaf = 63;
        assert_eq!((namespace.format_index(), namespace.block_bytes()), (49, None));
        namespace.lbaf[49].lbads = 255;
        assert_eq!(namespace.block_bytes(), None);
    }
}
