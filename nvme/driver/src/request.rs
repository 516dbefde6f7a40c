//! I/O as it comes in and as it goes back, and how one is cut into commands.

use nvme_spec::nvm::IoControl;
use nvme_spec::{NvmOpcode, nvm};
use reactor::buffer::Sgl;

use crate::error::Outcome;
use crate::namespace::NamespaceInfo;

/// What to do with blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoOp {
    /// Fill the list.
    Read,
    /// Write the list.
    Write {
        /// Force unit access.
        fua: bool,
    },
    /// Everything acknowledged before is on the medium when this is answered. Names no block.
    Flush,
    /// The blocks read zeros afterwards. No list.
    WriteZeroes {
        /// They may be freed.
        deallocate: bool,
        /// Force unit access.
        fua: bool,
    },
    /// The blocks may be freed, and what they read afterwards is unknown unless the namespace says more. No list.
    Deallocate,
    /// The list equals the blocks, or the command fails with Compare Failure.
    Compare,
    /// The blocks can be read. No list.
    Verify,
}

/// An I/O on its way down.
#[derive(Debug)]
pub struct Request {
    /// The caller's own number.
    pub tag: u64,
    /// Which namespace: what `attach` gave.
    pub namespace: u16,
    /// What to do.
    pub op: IoOp,
    /// First block.
    pub lba: u64,
    /// How many; 0 for a flush only.
    pub blocks: u64,
    /// The data, or empty. Buffers of the pool that is mapped.
    pub sgl: Sgl,
}

/// An I/O on its way back up, with its buffers.
#[derive(Debug)]
pub struct IoDone {
    /// The caller's number.
    pub tag: u64,
    /// Which namespace.
    pub namespace: u16,
    /// What was asked of the controller, the last thing if it was several.
    pub opcode: NvmOpcode,
    /// How it ended.
    pub outcome: Outcome,
    /// What came with it. Empty, whatever came, if the controller could not be kept from using it.
    pub sgl: Sgl,
}

/// How data of a command reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// None.
    None,
    /// The list that was lent.
    Lent,
    /// A page of zeros, as often as it takes.
    Zeros,
    /// A range list in the memory of the command.
    Ranges,
}

/// What all commands of an I/O have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) opcode: NvmOpcode,
    pub(crate) control: IoControl,
    pub(crate) payload: Payload,
    /// Most blocks of one command.
    pub(crate) blocks_max: u32,
    /// Commands do not cross a multiple of this; 0 is no boundary.
    pub(crate) boundary_blocks: u32,
    /// Free the blocks when all have been zeroed.
    pub(crate) then_deallocate: bool,
}

impl Plan {
    /// How `op` is done on this namespace.
    #[inline]
    pub(crate) fn new(op: IoOp, info: &NamespaceInfo) -> Self {
        let fua_bits = |fua| if fua { IoControl::FORCE_UNIT_ACCESS } else { IoControl::NONE };
        let mut plan = Self {
            opcode: NvmOpcode::READ,
            control: IoControl::NONE,
            payload: Payload::Lent,
            blocks_max: info.transfer_blocks_max,
            boundary_blocks: info.boundary_blocks,
            then_deallocate: false,
        };
        match op {
            IoOp::Read => {}
            IoOp::Write { fua } => (plan.opcode, plan.control) = (NvmOpcode::WRITE, fua_bits(fua)),
            IoOp::Compare => plan.opcode = NvmOpcode::COMPARE,
            IoOp::Flush => (plan.opcode, plan.payload) = (NvmOpcode::FLUSH, Payload::None),
            IoOp::Verify => {
                (plan.opcode, plan.payload) = (NvmOpcode::VERIFY, Payload::None);
                plan.blocks_max = info.verify_blocks_max;
            }
            IoOp::Deallocate => plan = plan.deallocation(info),
            IoOp::WriteZeroes { deallocate, fua } => {
                plan.control = fua_bits(fua);
                plan.then_deallocate = deallocate && info.zero.dsm;
                if !info.zero.write_zeroes {
                    (plan.opcode, plan.payload) = (NvmOpcode::WRITE, Payload::Zeros);
                    return plan;
                }
                (plan.opcode, plan.payload) = (NvmOpcode::WRITE_ZEROES, Payload::None);
                (plan.blocks_max, plan.boundary_blocks) = (info.zero_blocks_max, 0);
                if deallocate && info.zero.deallocates {
                    plan.control = plan.control.with(IoControl::DEALLOCATE);
                }
            }
        }
        plan
    }

    /// The same I/O, freeing its blocks.
    pub(crate) fn deallocation(self, info: &NamespaceInfo) -> Self {
        Self {
            opcode: NvmOpcode::DATASET_MANAGEMENT,
            control: IoControl::NONE,
            payload: Payload::Ranges,
            blocks_max: info.dsm_blocks_max,
            boundary_blocks: 0,
            then_deallocate: false,
        }
    }

    /// How many blocks of a run the first command covers. Runs that are written all or nothing are not cut.
    #[inline]
    pub(crate) fn first_blocks(&self, lba: u64, blocks: u64, atomic_blocks: u32) -> u32 {
        let most = blocks.min(self.blocks_max.into()) as u32;
        if self.boundary_blocks == 0 || blocks <= u64::from(atomic_blocks) {
            return most;
        }
        let boundary = u64::from(self.boundary_blocks);
        let to_boundary = boundary - lba % boundary;
        u64::from(most).min(to_boundary) as u32
    }
}

const _: () = assert!(nvm::COMMAND_BLOCKS_MAX == 1 << 16);

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(blocks_max: u32, boundary_blocks: u32) -> Plan {
        Plan {
            opcode: NvmOpcode::WRITE,
            control: IoControl::NONE,
            payload: Payload::Lent,
            blocks_max,
            boundary_blocks,
            then_deallocate: false,
        }
    }

    fn cut(plan: Plan, mut lba: u64, mut blocks: u64, atomic: u32) -> Vec<(u64, u32)> {
        let mut pieces = Vec::new();
        while blocks > 0 {
            let piece = plan.first_blocks(lba, blocks, atomic);
            assert!(piece > 0, "every command gets on");
            pieces.push((lba, piece));
            lba += u64::from(piece);
            blocks -= u64::from(piece);
        }
        pieces
    }

    #[test]
    fn runs_are_cut_at_limits_and_boundaries() {
        assert_eq!(cut(plan(8, 0), 3, 20, 1), [(3, 8), (11, 8), (19, 4)]);
        assert_eq!(cut(plan(8, 16), 3, 30, 1), [(3, 8), (11, 5), (16, 8), (24, 8), (32, 1)]);
        assert_eq!(cut(plan(100, 16), 15, 2, 1), [(15, 1), (16, 1)]);
        assert_eq!(
            cut(plan(100, 16), 15, 2, 2),
            [(15, 2)],
            "a boundary is advice, an atomic write a promise"
        );
        assert_eq!(cut(plan(1, 1), 0, 3, 1), [(0, 1), (1, 1), (2, 1)]);
        assert_eq!(cut(plan(u32::MAX, 0), 5, 1 << 31, 1), [(5, 1 << 31)]);
    }
}
