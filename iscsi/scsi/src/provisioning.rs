//! Thin provisioning: WRITE SAME, UNMAP, GET LBA STATUS (SBC-4 section 4.7).

use reactor::buffer::{BufferPool, Sgl};
use volume::bdev::Extent;

use crate::cdb::{Cdb, opcode};
use crate::command::Command;
use crate::limits::{
    LBA_STATUS_DESCRIPTORS_MAX, PARAMETER_LIST_BYTES_MAX, STEP_BYTES, UNMAP_BLOCKS_MAX,
    UNMAP_DESCRIPTORS_MAX, WRITE_SAME_BLOCKS_MAX,
};
use crate::plan::Work;
use crate::read_write::{WRONG_DATA_LENGTH, lba_and_blocks};
use crate::response::Step;
use crate::sense::Sense;
use crate::start::{Outcome, good};
use crate::unit::{Context, LogicalUnit};

/// 1A/00 parameter list length error.
const LIST_LENGTH: Sense = Sense::PARAMETER_LIST_LENGTH;

impl LogicalUnit {
    /// The extent of a WRITE SAME: 0 blocks mean "to the end" (WSNZ is 0).
    fn write_same_extent(&self, cdb: &Cdb) -> Result<Extent, Sense> {
        let (lba, blocks, field) = lba_and_blocks(cdb);
        let blocks = match blocks {
            0 if lba < self.info.length_blocks => self.info.length_blocks - lba,
            0 => return Err(Sense::LBA_OUT_OF_RANGE),
            _ => blocks,
        };
        let extent = self.extent(lba, blocks)?;
        if blocks > WRITE_SAME_BLOCKS_MAX { Err(Sense::cdb_byte(field)) } else { Ok(extent) }
    }

    /// WRITE SAME(10) and (16) (SBC-4 sections 5.50 and 5.51).
    pub(crate) fn write_same(
        &mut self,
        command: Command,
        cdb: &Cdb,
        data_out_len: u64,
        context: &Context<'_>,
    ) -> Outcome {
        let no_data_out = cdb.opcode() == opcode::WRITE_SAME_16 && cdb.bit(1, 0);
        let unmap = cdb.bit(1, 3);
        if cdb.u8(1) & 0xe0 != 0 {
            return Err(Sense::cdb_bit(1, 7).into());
        }
        // ANCHOR: blocks cannot be anchored here (ANC_SUP is 0), with UNMAP or without.
        if cdb.bit(1, 4) {
            return Err(Sense::cdb_bit(1, 4).into());
        }
        if unmap && !self.info.thin {
            return Err(Sense::cdb_bit(1, 3).into());
        }
        let left = self.write_same_extent(cdb)?;
        self.arrived_exactly(&command, data_out_len)?;
        let fua = self.mode.write_through;
        if no_data_out || command.data_out.is_zero() {
            // With UNMAP whole granules are freed and the rest is zeroed; either way all of it reads
            // zeros afterwards, which is what LBPRZ promises.
            let work = Work::WriteZeroes { left, unmap, fua };
            return Ok(self.start_writing_steps(command.task, data_out_len, work, fua, context.buffers));
        }
        let payload = left.length_blocks.min(STEP_BYTES >> self.block_shift) << self.block_shift;
        let Some(sgl) = replicate(&command.data_out, payload as usize, context.buffers) else {
            return Ok(Step::Retry(command));
        };
        let work = Work::WriteSame { left, fua, sgl };
        Ok(self.start_writing_steps(command.task, data_out_len, work, fua, context.buffers))
    }

    /// UNMAP (SBC-4 section 5.32).
    pub(crate) fn unmap(
        &mut self,
        command: &Command,
        cdb: &Cdb,
        data_out_len: u64,
        context: &Context<'_>,
    ) -> Outcome {
        if cdb.bit(1, 0) {
            return Err(Sense::cdb_bit(1, 0).into());
        }
        let length = usize::from(cdb.u16(7));
        if length == 0 {
            return good();
        }
        if length as u64 > PARAMETER_LIST_BYTES_MAX || length < 8 {
            return Err(LIST_LENGTH.into());
        }
        if command.data_out.len() != length {
            return Err(WRONG_DATA_LENGTH.into());
        }
        let mut list = vec![0; length];
        command.data_out.copy_out(0, &mut list);
        let extents = self.unmap_extents(&list)?;
        let work = Work::UnmapList { extents };
        Ok(self.start_steps(command.task, data_out_len, work, context.buffers))
    }

    /// The extents of an UNMAP parameter list, last first; all of them are checked before any is freed.
    fn unmap_extents(&self, list: &[u8]) -> Result<Vec<Extent>, Sense> {
        let count_bytes = usize::from(u16::from_be_bytes([list[2], list[3]]));
        // A list cut before its descriptors end is an error; a partial last descriptor is ignored.
        let descriptors = list[8..].get(..count_bytes).ok_or(LIST_LENGTH)?;
        let (descriptors, _) = descriptors.as_chunks::<16>();
        if descriptors.len() > UNMAP_DESCRIPTORS_MAX as usize {
            return Err(Sense::parameter_byte(2));
        }
        let mut extents = Vec::with_capacity(descriptors.len());
        let mut total = 0_u64;
        for (index, descriptor) in descriptors.iter().enumerate() {
            let [l0, l1, l2, l3, l4, l5, l6, l7, b0, b1, b2, b3, ..] = *descriptor;
            let lba = u64::from_be_bytes([l0, l1, l2, l3, l4, l5, l6, l7]);
            let blocks = u64::from(u32::from_be_bytes([b0, b1, b2, b3]));
            let extent = self.extent(lba, blocks)?;
            total += blocks;
            if total > UNMAP_BLOCKS_MAX {
                return Err(Sense::parameter_byte((8 + 16 * index + 8) as u16));
            }
            if blocks > 0 {
                extents.push(extent);
            }
        }
        extents.reverse();
        Ok(extents)
    }

    /// GET LBA STATUS (SBC-4 section 5.7).
    pub(crate) fn get_lba_status(&mut self, command: &Command, cdb: &Cdb, context: &Context<'_>) -> Outcome {
        let lba = cdb.u64(2);
        if lba >= self.info.length_blocks {
            return Err(Sense::LBA_OUT_OF_RANGE.into());
        }
        let allocation_length = cdb.u32(10);
        let room = (allocation_length as usize).saturating_sub(8) / 16;
        // At least one is looked up, so that the length says that there is more.
        let descriptors = room.clamp(1, LBA_STATUS_DESCRIPTORS_MAX);
        let work = Work::LbaStatus {
            left: Extent { lba, length_blocks: self.info.length_blocks - lba },
            descriptors,
            reply: vec![0; 8],
            allocation_length: u64::from(allocation_length),
        };
        Ok(self.start_steps(command.task, 0, work, context.buffers))
    }
}

/// `length_bytes` of `block` again and again.
fn replicate(block: &Sgl, length_bytes: usize, buffers: &BufferPool) -> Option<Sgl> {
    let mut sgl = buffers.alloc(length_bytes)?;
    let mut one = vec![0; block.len()];
    block.copy_out(0, &mut one);
    for at in (0..length_bytes).step_by(one.len()) {
        sgl.copy_in(at, &one);
    }
    Some(sgl)
}
