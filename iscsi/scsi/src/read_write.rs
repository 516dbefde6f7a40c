//! READ and WRITE: the fast path, and the other commands that carry whole blocks.

use volume::bdev::{Extent, Io, Op};

use crate::cdb::{Cdb, opcode};
use crate::command::Command;
use crate::limits::{COMPARE_AND_WRITE_BLOCKS_MAX, TRANSFER_BYTES_MAX};
use crate::partial::PartialWrite;
use crate::plan::{Pending, Plan, Work};
use crate::response::{Response, Step};
use crate::sense::{Sense, SenseKey};
use crate::start::{Outcome, good};
use crate::unit::{Context, LogicalUnit};

/// 0E/03 invalid field in command information unit: the transport moved another length than the
/// command needs.
pub(crate) const WRONG_DATA_LENGTH: Sense = Sense::new(SenseKey::IllegalRequest, 0x0e, 0x03);

/// First block, number of blocks, and where the number stands (for the field pointer).
#[inline]
pub(crate) fn lba_and_blocks(cdb: &Cdb) -> (u64, u64, u16) {
    match cdb.length() {
        10 => (u64::from(cdb.u32(2)), u64::from(cdb.u16(7)), 7),
        16 => (cdb.u64(2), u64::from(cdb.u32(10)), 10),
        12 => (u64::from(cdb.u32(2)), u64::from(cdb.u32(6)), 6),
        _ => {
            let lba = u64::from(cdb.u32(0) & 0x001f_ffff);
            let blocks = if cdb.u8(4) == 0 { 256 } else { u64::from(cdb.u8(4)) };
            (lba, blocks, 4)
        }
    }
}

impl LogicalUnit {
    /// Blocks of the longest transfer.
    #[inline]
    pub(crate) fn transfer_blocks_max(&self) -> u64 {
        TRANSFER_BYTES_MAX >> self.block_shift
    }

    /// The longest WRITE ATOMIC; 0 when the device cannot do more than what every write does.
    pub(crate) fn atomic_blocks_max(&self) -> u64 {
        match u64::from(self.info.atomic_write_blocks) {
            0 | 1 => 0,
            blocks => blocks.min(self.transfer_blocks_max()),
        }
    }

    /// The blocks that a READ or WRITE names, if they are on the unit: for a look ahead, before anything is checked.
    #[inline]
    pub fn transfer_extent(&self, cdb: &[u8]) -> Option<Extent> {
        let cdb = Cdb::new(cdb);
        let moves_blocks =
            matches!(cdb.opcode(), opcode::READ_10 | opcode::READ_16 | opcode::WRITE_10 | opcode::WRITE_16);
        let (lba, blocks, _) = moves_blocks.then(|| lba_and_blocks(&cdb))?;
        (blocks > 0).then(|| self.extent(lba, blocks).ok())?
    }

    /// Checks the bits that all of these commands share, and gives the extent.
    #[inline]
    pub(crate) fn medium_access(&self, cdb: &Cdb) -> Result<Extent, Sense> {
        // No protection information: RDPROTECT, WRPROTECT and VRPROTECT must be 0. READ(6) and WRITE(6)
        // have a part of the LBA there.
        if cdb.length() != 6 && cdb.u8(1) & 0xe0 != 0 {
            return Err(Sense::cdb_bit(1, 7));
        }
        let (lba, blocks, field) = lba_and_blocks(cdb);
        let extent = self.extent(lba, blocks)?;
        if blocks > self.transfer_blocks_max() {
            return Err(Sense::cdb_byte(field));
        }
        Ok(extent)
    }

    /// FUA of a command; writes of a unit whose cache is off are always on the medium at once.
    #[inline]
    pub(crate) fn fua(&self, cdb: &Cdb) -> bool {
        (cdb.length() != 6 && cdb.bit(1, 3)) || self.mode.write_through
    }

    #[inline]
    pub(crate) fn read(&mut self, command: Command, cdb: &Cdb, context: &Context<'_>) -> Outcome {
        let extent = self.medium_access(cdb)?;
        let data_in_len = extent.length_blocks << self.block_shift;
        // Blocks that the initiator has no room for are not read; the residual counts them.
        let expected = if command.read { u64::from(command.expected_data_transfer_length) } else { 0 };
        let wanted = data_in_len.min(expected.next_multiple_of(1 << self.block_shift));
        if wanted == 0 {
            return Ok(Step::Respond(Response { data_in_len, ..Response::good() }));
        }
        let Some(sgl) = context.buffers.alloc(wanted as usize) else { return Ok(Step::Retry(command)) };
        let extent = Extent { lba: extent.lba, length_blocks: wanted >> self.block_shift };
        let io = Io { tag: command.task, op: Op::Read(extent), sgl };
        Ok(Step::Io(io, Pending(Plan::Read { data_in_len })))
    }

    /// The part of an extent whose data has arrived: the initiator may have announced less than the
    /// command says, and then only that is written (RFC 7143 section 11.4.5.1 counts the rest).
    #[inline]
    pub(crate) fn arrived(&self, command: &Command, extent: Extent) -> Result<Extent, Sense> {
        let length = command.data_out.len() as u64;
        let whole = extent.length_blocks << self.block_shift;
        if length == whole {
            return Ok(extent);
        }
        assert!(length < whole, "the session hands over no more than the command takes");
        let length_blocks = length >> self.block_shift;
        // Only WRITE itself takes a part of a block.
        if length_blocks << self.block_shift != length {
            return Err(WRONG_DATA_LENGTH);
        }
        Ok(Extent { lba: extent.lba, length_blocks })
    }

    /// Exactly the data that the command needs has arrived and was announced.
    pub(crate) fn arrived_exactly(&self, command: &Command, data_out_len: u64) -> Result<(), Sense> {
        let announced = if command.write { u64::from(command.expected_data_transfer_length) } else { 0 };
        if announced == data_out_len && command.data_out.len() as u64 == data_out_len {
            Ok(())
        } else {
            Err(WRONG_DATA_LENGTH)
        }
    }

    #[inline]
    fn payload_io(&self, command: Command, op: Op, fua: bool, data_out_len: u64) -> Outcome {
        let io = Io { tag: command.task, op, sgl: command.data_out };
        let cached = self.goes_to_cache(fua);
        Ok(Step::Io(io, Pending(Plan::Simple { data_out_len, cached })))
    }

    #[inline]
    pub(crate) fn write(
        &mut self,
        command: Command,
        cdb: &Cdb,
        data_out_len: u64,
        context: &Context<'_>,
    ) -> Outcome {
        let extent = self.medium_access(cdb)?;
        let length = command.data_out.len() as u64;
        if length & ((1 << self.block_shift) - 1) != 0 {
            let whole = Extent { lba: extent.lba, length_blocks: length >> self.block_shift };
            let fua = self.fua(cdb);
            let work = Work::Partial(PartialWrite::new(whole, command.data_out, fua));
            return Ok(self.start_writing_steps(command.task, data_out_len, work, fua, context.buffers));
        }
        let extent = self.arrived(&command, extent)?;
        if extent.length_blocks == 0 {
            return good();
        }
        let fua = self.fua(cdb);
        self.payload_io(command, Op::Write { extent, fua }, fua, data_out_len)
    }

    /// ORWRITE(16) (SBC-4 section 5.13).
    pub(crate) fn or_write(&mut self, command: Command, cdb: &Cdb, data_out_len: u64) -> Outcome {
        let extent = self.medium_access(cdb)?;
        let extent = self.arrived(&command, extent)?;
        if extent.length_blocks == 0 {
            return good();
        }
        let fua = self.fua(cdb);
        self.payload_io(command, Op::OrWrite { extent, fua }, fua, data_out_len)
    }

    /// WRITE ATOMIC(16) (SBC-4 section 5.43).
    pub(crate) fn write_atomic(&mut self, command: Command, cdb: &Cdb, data_out_len: u64) -> Outcome {
        if cdb.u8(1) & 0xe0 != 0 {
            return Err(Sense::cdb_bit(1, 7).into());
        }
        let extent = self.extent(cdb.u64(2), u64::from(cdb.u16(12)))?;
        // ATOMIC BOUNDARY: no boundary inside the transfer is supported.
        if cdb.u16(10) != 0 {
            return Err(Sense::cdb_byte(10).into());
        }
        if extent.length_blocks > self.atomic_blocks_max() {
            return Err(Sense::cdb_byte(12).into());
        }
        // A part of an atomic write would not be what was asked for.
        if command.data_out.len() as u64 != data_out_len {
            return Err(WRONG_DATA_LENGTH.into());
        }
        if extent.length_blocks == 0 {
            return good();
        }
        let fua = self.fua(cdb);
        self.payload_io(command, Op::AtomicWrite { extent, fua }, fua, data_out_len)
    }

    /// COMPARE AND WRITE (SBC-4 section 5.3).
    pub(crate) fn compare_and_write(&mut self, command: Command, cdb: &Cdb, data_out_len: u64) -> Outcome {
        if cdb.u8(1) & 0xe0 != 0 {
            return Err(Sense::cdb_bit(1, 7).into());
        }
        let extent = self.extent(cdb.u64(2), u64::from(cdb.u8(13)))?;
        if cdb.u8(13) > COMPARE_AND_WRITE_BLOCKS_MAX {
            return Err(Sense::cdb_byte(13).into());
        }
        // The number of blocks is at odds with the data: it is the field that is wrong.
        self.arrived_exactly(&command, data_out_len).map_err(|_| Sense::cdb_byte(13))?;
        if extent.length_blocks == 0 {
            return good();
        }
        let fua = self.fua(cdb);
        self.payload_io(command, Op::CompareAndWrite { extent, fua }, fua, data_out_len)
    }

    /// BYTCHK: false only reads back, true compares; 10b is reserved and 11b (one block compared with
    /// all) is not supported.
    fn byte_check(cdb: &Cdb) -> Result<bool, Sense> {
        match cdb.u8(1) >> 1 & 0x03 {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Sense::cdb_bit(1, 2)),
        }
    }

    /// WRITE AND VERIFY (SBC-4 section 5.44): both halves are about the medium.
    pub(crate) fn write_and_verify(
        &mut self,
        command: Command,
        cdb: &Cdb,
        data_out_len: u64,
        context: &Context<'_>,
    ) -> Outcome {
        let compare = Self::byte_check(cdb)?;
        let extent = self.medium_access(cdb)?;
        let extent = self.arrived(&command, extent)?;
        if extent.length_blocks == 0 {
            return good();
        }
        let sgl = command.data_out;
        let work = Work::WriteAndVerify { extent, compare, written: false, sgl };
        Ok(self.start_steps(command.task, data_out_len, work, context.buffers))
    }

    /// VERIFY (SBC-4 section 5.34).
    pub(crate) fn verify(
        &mut self,
        command: Command,
        cdb: &Cdb,
        data_out_len: u64,
        context: &Context<'_>,
    ) -> Outcome {
        if Self::byte_check(cdb)? {
            let extent = self.medium_access(cdb)?;
            let extent = self.arrived(&command, extent)?;
            if extent.length_blocks == 0 {
                return good();
            }
            return self.payload_io(command, Op::Compare(extent), true, data_out_len);
        }
        if cdb.u8(1) & 0xe0 != 0 {
            return Err(Sense::cdb_bit(1, 7).into());
        }
        // Nothing is transferred, so any length will do.
        let (lba, blocks, _) = lba_and_blocks(cdb);
        let left = self.extent(lba, blocks)?;
        let work = Work::Verify { left, sgl: reactor::buffer::Sgl::empty() };
        Ok(self.start_steps(command.task, 0, work, context.buffers))
    }

    /// PRE-FETCH: there is no cache of ours to fill, so the range is checked and that is all.
    pub(crate) fn pre_fetch(&mut self, cdb: &Cdb) -> Outcome {
        self.range_to_end(cdb)?;
        good()
    }

    /// SYNCHRONIZE CACHE: the whole cache, whatever the range; with IMMED also only when it is done.
    pub(crate) fn synchronize_cache(&mut self, command: &Command, cdb: &Cdb) -> Outcome {
        self.range_to_end(cdb)?;
        self.simple_io(command, Op::Flush)
    }

    /// The range of a command that transfers nothing; 0 blocks mean "to the end".
    fn range_to_end(&self, cdb: &Cdb) -> Result<Extent, Sense> {
        let (lba, blocks, _) = lba_and_blocks(cdb);
        self.extent(lba, blocks)
    }
}
