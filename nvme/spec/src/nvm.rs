//! Fields of the I/O commands of the NVM Command Set (NVM 3.3).
//!
//! The commands are plain [`Sqe`]s; this module reads and builds them. Lengths are true counts here, while the wire has counts
//! less one.

use zerocopy::little_endian::{U16, U32, U64};

use crate::{NvmOpcode, Sqe};

/// Bits of command dword 12 above the number of logical blocks, as Read, Write, Compare, Verify, Write Zeroes and Copy have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoControl(pub u32);

impl IoControl {
    /// Namespace Zeroes (Write Zeroes, NVM 3.3.8).
    pub const NAMESPACE_ZEROES: Self = Self(1 << 23);
    /// Storage Tag Check.
    pub const STORAGE_TAG_CHECK: Self = Self(1 << 24);
    /// Deallocate (Write Zeroes).
    pub const DEALLOCATE: Self = Self(1 << 25);
    /// Protection information: all four bits of PRINFO.
    pub const PROTECTION_INFORMATION: Self = Self(0b1111 << 26);
    /// Force Unit Access.
    pub const FORCE_UNIT_ACCESS: Self = Self(1 << 30);
    /// Limited Retry.
    pub const LIMITED_RETRY: Self = Self(1 << 31);

    /// No bit.
    pub const NONE: Self = Self(0);

    /// Is any of these bits set?
    pub const fn has(self, bits: Self) -> bool {
        self.0 & bits.0 != 0
    }

    /// Both together.
    #[must_use]
    pub const fn with(self, bits: Self) -> Self {
        Self(self.0 | bits.0)
    }

    /// Directive Type (bits 23:20 of Write and Copy).
    pub const fn directive_type(self) -> u8 {
        (self.0 >> 20) as u8 & 0x0f
    }
}

/// Number of logical blocks that one command can name: a 0's based 16-bit field.
pub const COMMAND_BLOCKS_MAX: u32 = 0x1_0000;

impl Sqe {
    /// Starting LBA: dwords 10 and 11 of Read, Write, Compare, Verify, Write Zeroes, Write Uncorrectable; the destination of Copy.
    pub fn slba(&self) -> u64 {
        u64::from(self.cdw10.get()) | u64::from(self.cdw11.get()) << 32
    }

    /// Sets the starting LBA.
    pub fn set_slba(&mut self, slba: u64) {
        let [low, high]: [U32; 2] = zerocopy::transmute!(U64::new(slba));
        (self.cdw10, self.cdw11) = (low, high);
    }

    /// Number of logical blocks, from 1 to [`COMMAND_BLOCKS_MAX`]: NLB plus one.
    pub fn length_blocks(&self) -> u32 {
        (self.cdw12.get() & 0xffff) + 1
    }

    /// The control bits of dword 12.
    pub fn io_control(&self) -> IoControl {
        IoControl(self.cdw12.get() & 0xffff_0000)
    }

    /// A command over a range of blocks, without data pointer.
    ///
    /// # Panics
    /// When `length_blocks` is 0 or more than [`COMMAND_BLOCKS_MAX`].
    pub fn io(opcode: NvmOpcode, nsid: u32, slba: u64, length_blocks: u32, control: IoControl) -> Self {
        assert!(
            (1..=COMMAND_BLOCKS_MAX).contains(&length_blocks),
            "a command names from 1 to 65536 blocks, not {length_blocks}"
        );
        let mut sqe = Self { opcode: opcode.0, nsid: U32::new(nsid), ..Self::default() };
        sqe.set_slba(slba);
        sqe.cdw12 = U32::new(control.0 & 0xffff_0000 | (length_blocks - 1));
        sqe
    }

    /// Flush of a namespace, or of all with [`crate::NSID_ALL`] (Base 7.2).
    pub fn flush(nsid: u32) -> Self {
        Self { opcode: NvmOpcode::FLUSH.0, nsid: U32::new(nsid), ..Self::default() }
    }
}

/// Fields of Dataset Management (NVM 3.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatasetManagement {
    /// Ranges in the data, from 1 to [`DSM_RANGES_MAX`].
    pub ranges: u16,
    /// Bits of dword 11: [`DatasetManagement::DEALLOCATE`] and others.
    pub attributes: u32,
}

/// Ranges that one Dataset Management command can have.
pub const DSM_RANGES_MAX: u16 = 256;

impl DatasetManagement {
    /// Attribute: Integral Dataset for Read.
    pub const INTEGRAL_READ: u32 = 1 << 0;
    /// Attribute: Integral Dataset for Write.
    pub const INTEGRAL_WRITE: u32 = 1 << 1;
    /// Attribute: Deallocate.
    pub const DEALLOCATE: u32 = 1 << 2;

    /// Reads the fields.
    pub fn of(sqe: &Sqe) -> Self {
        Self { ranges: (sqe.cdw10.get() & 0xff) as u16 + 1, attributes: sqe.cdw11.get() }
    }

    /// Deallocate?
    pub const fn deallocates(&self) -> bool {
        self.attributes & Self::DEALLOCATE != 0
    }

    /// Bytes of the range list.
    pub const fn data_bytes(&self) -> u32 {
        self.ranges as u32 * size_of::<DsmRange>() as u32
    }

    /// The command without data pointer.
    ///
    /// # Panics
    /// When there is no range, or more than [`DSM_RANGES_MAX`].
    pub fn sqe(&self, nsid: u32) -> Sqe {
        assert!(
            (1..=DSM_RANGES_MAX).contains(&self.ranges),
            "a command has from 1 to 256 ranges, not {}",
            self.ranges
        );
        Sqe {
            opcode: NvmOpcode::DATASET_MANAGEMENT.0,
            nsid: U32::new(nsid),
            cdw10: U32::new(u32::from(self.ranges) - 1),
            cdw11: U32::new(self.attributes),
            ..Sqe::default()
        }
    }
}

wire! {
    /// One range of Dataset Management (NVM 3.3.3).
    pub struct DsmRange[16] {
        /// Context attributes (hints).
        pub context_attributes: U32,
        /// Length in logical blocks; a true count, and 0 is allowed.
        pub length_blocks: U32,
        /// Starting LBA.
        pub slba: U64,
    }
}

open_enum! {
    /// Format of the source ranges of Copy (NVM 3.3.2).
    pub enum CopyFormat(u8) {
        /// 32-byte ranges of the same namespace, 16-bit guard.
        FORMAT_0 = 0,
        /// 40-byte ranges of the same namespace, 32- or 64-bit guard.
        FORMAT_1 = 1,
        /// As format 0, with a namespace for each range.
        FORMAT_2 = 2,
        /// As format 1, with a namespace for each range.
        FORMAT_3 = 3,
    }
}

/// Fields of Copy; its destination is [`Sqe::slba`], FUA and the like are [`Sqe::io_control`] (NVM 3.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Source ranges in the data, from 1 to 256.
    pub ranges: u16,
    /// Format of the ranges.
    pub format: CopyFormat,
}

impl Copy {
    /// Reads the fields.
    pub fn of(sqe: &Sqe) -> Self {
        let cdw12 = sqe.cdw12.get();
        Self { ranges: (cdw12 & 0xff) as u16 + 1, format: CopyFormat((cdw12 >> 8) as u8 & 0x0f) }
    }

    /// Bytes of the range list, for a known format.
    pub const fn data_bytes(&self) -> Option<u32> {
        match self.format {
            CopyFormat::FORMAT_0 | CopyFormat::FORMAT_2 => {
                Some(self.ranges as u32 * size_of::<CopyRange>() as u32)
            }
            CopyFormat::FORMAT_1 | CopyFormat::FORMAT_3 => Some(self.ranges as u32 * 40),
            _ => None,
        }
    }

    /// The command without data pointer.
    ///
    /// # Panics
    /// When there is no range, or more than 256.
    pub fn sqe(&self, nsid: u32, destination_lba: u64, control: IoControl) -> Sqe {
        assert!((1..=256).contains(&self.ranges), "a command has from 1 to 256 ranges, not {}", self.ranges);
        let mut sqe = Sqe { opcode: NvmOpcode::COPY.0, nsid: U32::new(nsid), ..Sqe::default() };
        sqe.set_slba(destination_lba);
        sqe.cdw12 = U32::new(
            control.0 & 0xffff_0000 | u32::from(self.format.0 & 0x0f) << 8 | (u32::from(self.ranges) - 1),
        );
        sqe
    }
}

wire! {
    /// One source range of Copy in format 0, and in format 2 with `snsid` (NVM 3.3.2).
    pub struct CopyRange[32] {
        /// Source Namespace Identifier (format 2).
        pub snsid: U32,
        /// Reserved.
        pub reserved4: [u8; 4],
        /// Starting LBA.
        pub slba: U64,
        /// Number of logical blocks, less one.
        pub nlb: U16,
        /// Reserved.
        pub reserved18: [u8; 4],
        /// Source options (format 2).
        pub sopt: U16,
        /// Expected Initial Logical Block Reference Tag.
        pub eilbrt: U32,
        /// Expected Logical Block Application Tag.
        pub elbat: U16,
        /// Expected Logical Block Application Tag Mask.
        pub elbatm: U16,
    }
}

impl CopyRange {
    /// Number of logical blocks, from 1 to [`COMMAND_BLOCKS_MAX`].
    pub fn length_blocks(&self) -> u32 {
        u32::from(self.nlb.get()) + 1
    }
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    #[test]
    fn a_range_command_keeps_its_fields_apart() {
        let control = IoControl::FORCE_UNIT_ACCESS.with(IoControl::DEALLOCATE);
        let sqe = Sqe::io(NvmOpcode::WRITE_ZEROES, 3, 0x1_2345_6789, COMMAND_BLOCKS_MAX, control);
        assert_eq!((sqe.slba(), sqe.length_blocks(), sqe.io_control()), (0x1_2345_6789, 65536, control));
        assert_eq!(sqe.cdw12.get(), 0x4200_ffff);
        assert_eq!((sqe.cdw10.get(), sqe.cdw11.get()), (0x2345_6789, 1));
        assert!(!sqe.io_control().has(IoControl::LIMITED_RETRY));
    }

    #[test]
    fn ranges_are_counted_less_one() {
        let dsm = DatasetManagement { ranges: 256, attributes: DatasetManagement::DEALLOCATE };
        let sqe = dsm.sqe(1);
        assert_eq!((sqe.cdw10.get(), sqe.cdw11.get()), (255, 4));
        assert_eq!((DatasetManagement::of(&sqe), dsm.data_bytes()), (dsm, 4096));
        let copy = Copy { ranges: 2, format: CopyFormat::FORMAT_0 };
        let sqe = copy.sqe(1, 9, IoControl::NONE);
        assert_eq!((Copy::of(&sqe), copy.data_bytes(), sqe.slba()), (copy, Some(64), 9));
        assert_eq!(Copy { ranges: 2, format: CopyFormat(9) }.data_bytes(), None);
    }

    #[test]
    fn fields_stand_where_the_specification_puts_them() {
        assert_eq!(offset_of!(DsmRange, slba), 8);
        assert_eq!((offset_of!(CopyRange, slba), offset_of!(CopyRange, nlb)), (8, 16));
        assert_eq!((offset_of!(CopyRange, eilbrt), offset_of!(CopyRange, elbatm)), (24, 30));
    }
}
