//! A WRITE whose initiator announced less than the command says, ending inside a block: what arrived
//! is written, and the rest of that block stays what it is (FCP-4 section 9.4.2 says it best: "data
//! beyond the count shall not be requested or transferred").
//!
//! The block is read, filled up, and swapped in by compare-and-write, so that a write of somebody else
//! in between is never undone.

use reactor::buffer::{BufferPool, Sgl};
use volume::bdev::{Extent, IoStatus, Op};

/// How often others may be faster before the command is given up.
const ATTEMPTS_MAX: u32 = 8;

/// What comes next.
#[derive(Debug)]
enum Stage {
    /// Read the block that is written in part.
    Read,
    /// Swap it; it held this.
    Swap(Sgl),
    /// Write the blocks before it.
    WriteWhole,
    /// Nothing.
    Finished,
}

/// One such write.
#[derive(Debug)]
pub(crate) struct PartialWrite {
    whole: Extent,
    fua: bool,
    data: Sgl,
    stage: Stage,
    attempts_left: u32,
}

/// What the operation needs, or that it waits, or that it is done.
pub(crate) enum Need {
    Io(Op, Sgl),
    Memory,
    Nothing,
}

impl PartialWrite {
    /// `data` is `whole` and a part of the block after it.
    pub fn new(whole: Extent, data: Sgl, fua: bool) -> Self {
        Self { whole, fua, data, stage: Stage::Read, attempts_left: ATTEMPTS_MAX }
    }

    fn last_block(&self) -> Extent {
        Extent { lba: self.whole.end(), length_blocks: 1 }
    }

    /// The next I/O.
    pub fn next(&mut self, block_bytes: usize, buffers: &BufferPool) -> Need {
        let whole_bytes = self.whole.length_blocks as usize * block_bytes;
        match &self.stage {
            Stage::Read => match buffers.alloc(block_bytes) {
                Some(sgl) => Need::Io(Op::Read(self.last_block()), sgl),
                None => Need::Memory,
            },
            Stage::Swap(before) => {
                let Some(mut payload) = buffers.alloc(2 * block_bytes) else { return Need::Memory };
                payload.copy_from(0, before, 0, block_bytes);
                payload.copy_from(block_bytes, before, 0, block_bytes);
                payload.copy_from(block_bytes, &self.data, whole_bytes, self.data.len() - whole_bytes);
                Need::Io(Op::CompareAndWrite { extent: self.last_block(), fua: self.fua }, payload)
            }
            Stage::WriteWhole if whole_bytes > 0 => {
                let mut payload = std::mem::take(&mut self.data);
                payload.truncate(whole_bytes);
                Need::Io(Op::Write { extent: self.whole, fua: self.fua }, payload)
            }
            Stage::WriteWhole | Stage::Finished => Need::Nothing,
        }
    }

    /// Takes the answer to the last I/O; `Err` when the command has failed with it.
    pub fn advance(&mut self, status: IoStatus, sgl: Sgl) -> Result<(), IoStatus> {
        self.stage = match (std::mem::replace(&mut self.stage, Stage::Finished), status) {
            (Stage::Read, IoStatus::Good) => Stage::Swap(sgl),
            (Stage::Swap(_), IoStatus::Good) => Stage::WriteWhole,
            (Stage::Swap(_), IoStatus::Miscompare { .. }) if self.attempts_left > 0 => {
                self.attempts_left -= 1;
                Stage::Read
            }
            (Stage::Swap(_), IoStatus::Miscompare { .. }) => return Err(IoStatus::Aborted),
            (Stage::WriteWhole, IoStatus::Good) => Stage::Finished,
            (_, status) => return Err(status),
        };
        Ok(())
    }
}
