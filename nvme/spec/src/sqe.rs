//! Submission Queue Entry (Base 3.3.3.1).

use zerocopy::little_endian::{U16, U32, U64};

use crate::{AdminOpcode, NvmOpcode, SglDescriptor};

open_enum! {
    /// How a command is part of a fused operation: bits 1:0 of byte 1.
    #[derive(zerocopy::Unaligned)]
    pub enum Fuse(u8) {
        /// Not fused.
        NORMAL = 0b00,
        /// First command of a fused operation.
        FIRST = 0b01,
        /// Second command of a fused operation.
        SECOND = 0b10,
    }
}

open_enum! {
    /// What the data pointer holds: bits 7:6 of byte 1. Fabrics knows only [`Psdt::SGL`] (Base 3.3.3.1.1).
    #[derive(zerocopy::Unaligned)]
    pub enum Psdt(u8) {
        /// PRP entries.
        PRP = 0b00,
        /// An SGL descriptor; metadata, if any, is one contiguous buffer.
        SGL = 0b01,
        /// An SGL descriptor; metadata by an SGL too.
        SGL_WITH_METADATA_SGL = 0b10,
    }
}

wire! {
    /// A Submission Queue Entry. Fabrics commands have their own views of it in [`crate::fabrics`].
    pub struct Sqe[64] {
        /// Opcode; its meaning depends on the queue.
        pub opcode: u8,
        /// FUSE in bits 1:0, PSDT in bits 7:6.
        pub flags: u8,
        /// Command Identifier.
        pub cid: U16,
        /// Namespace Identifier.
        pub nsid: U32,
        /// Command Dword 2.
        pub cdw2: U32,
        /// Command Dword 3.
        pub cdw3: U32,
        /// Metadata Pointer.
        pub mptr: U64,
        /// Data Pointer: an SGL descriptor, or PRP entries ([`Sqe::prp`]).
        pub dptr: SglDescriptor,
        /// Command Dword 10.
        pub cdw10: U32,
        /// Command Dword 11.
        pub cdw11: U32,
        /// Command Dword 12.
        pub cdw12: U32,
        /// Command Dword 13.
        pub cdw13: U32,
        /// Command Dword 14.
        pub cdw14: U32,
        /// Command Dword 15.
        pub cdw15: U32,
    }
}

impl Sqe {
    /// The opcode as one of the admin queue.
    pub const fn admin_opcode(&self) -> AdminOpcode {
        AdminOpcode(self.opcode)
    }

    /// The opcode as one of the NVM Command Set.
    pub const fn nvm_opcode(&self) -> NvmOpcode {
        NvmOpcode(self.opcode)
    }

    /// Part of a fused operation?
    pub const fn fuse(&self) -> Fuse {
        Fuse(self.flags & 0b11)
    }

    /// Makes the command part of a fused operation.
    pub fn set_fuse(&mut self, fuse: Fuse) {
        self.flags = (self.flags & !0b11) | (fuse.0 & 0b11);
    }

    /// What the data pointer holds.
    pub const fn psdt(&self) -> Psdt {
        Psdt(self.flags >> 6)
    }

    /// Says what the data pointer holds.
    pub fn set_psdt(&mut self, psdt: Psdt) {
        self.flags = (self.flags & 0x3f) | (psdt.0 << 6);
    }

    /// Puts an SGL descriptor in the data pointer and says so in PSDT.
    pub fn set_sgl(&mut self, descriptor: SglDescriptor) {
        self.set_psdt(Psdt::SGL);
        self.dptr = descriptor;
    }

    /// The data pointer as PRP entries 1 and 2 (Base 4.3.1).
    pub fn prp(&self) -> [U64; 2] {
        zerocopy::transmute!(self.dptr)
    }

    /// Puts PRP entries in the data pointer and says so in PSDT.
    pub fn set_prp(&mut self, prp1: u64, prp2: u64) {
        self.set_psdt(Psdt::PRP);
        self.dptr = zerocopy::transmute!([U64::new(prp1), U64::new(prp2)]);
    }
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use zerocopy::{FromBytes, IntoBytes};

    use super::*;

    #[test]
    fn fields_stand_where_the_specification_puts_them() {
        assert_eq!(offset_of!(Sqe, cid), 2);
        assert_eq!(offset_of!(Sqe, nsid), 4);
        assert_eq!(offset_of!(Sqe, mptr), 16);
        assert_eq!(offset_of!(Sqe, dptr), 24);
        assert_eq!(offset_of!(Sqe, cdw10), 40);
        assert_eq!(offset_of!(Sqe, cdw15), 60);
    }

    #[test]
    fn any_64_bytes_round_trip() {
        let bytes: [u8; 64] = core::array::from_fn(|i| 0xff - i as u8);
        let sqe = Sqe::read_from_bytes(&bytes).unwrap();
        assert_eq!(sqe.as_bytes(), bytes);
        assert_eq!(sqe.psdt().0, 0b11);
    }

    #[test]
    fn fuse_and_psdt_share_a_byte() {
        let mut sqe = Sqe::default();
        sqe.set_sgl(SglDescriptor::transport(4096));
        sqe.set_fuse(Fuse::SECOND);
        assert_eq!((sqe.flags, sqe.fuse(), sqe.psdt()), (0x42, Fuse::SECOND, Psdt::SGL));
        assert_eq!(sqe.dptr.as_bytes()[15], 0x5a);
        sqe.set_prp(0x1000, 0x2000);
        assert_eq!((sqe.flags, sqe.prp()[1].get()), (0x02, 0x2000));
    }
}
