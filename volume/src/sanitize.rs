//! Sanitizing a device: what it holds is written over, in many I/Os of bounded size, one at a time.
//!
//! [`Sanitize`] is sans-IO: it says which I/O comes next and is told how it ended. Its owner keeps
//! every other I/O away from the device until it is over.
//!
//! - *Overwrite*: every block is written with a pattern, in one or more passes. Each pass is flushed
//!   before the next begins, or a cache would merge them and the medium would see the last one only.
//! - *Erase*: every block that is allocated is written with zeros and flushed, and only then all
//!   blocks are unmapped and that is flushed. Freeing alone would leave the old bytes where they are.
//!
//! **What that is worth.** Afterwards nothing that is read through the volume is old, and the places
//! that the volume occupied when it began have been written over through the system: memory chunks are
//! given back as zeros, a file is written in place. What lies below, out of the system's reach, is not
//! touched: blocks that the volume had freed earlier, older copies kept by a file system that never
//! writes in place or by a disk's own wear levelling. Who must be rid of those sanitizes the disk.
//!
//! **Failure.** Any I/O that does not end well ends the operation; the blocks are then old, new or
//! between, and the owner must not serve them as if nothing had happened.

use reactor::buffer::{BufferPool, Sgl};

use crate::bdev::{BdevInfo, Extent, IoStatus, Op};
use crate::limits::{SANITIZE_STEP_BYTES, SANITIZE_TILE_BYTES, SANITIZE_UNMAP_STEP_BYTES};

/// How a device is sanitized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// Write a pattern over every block.
    Overwrite {
        /// The content of one logical block after the last pass, exactly as long as a block.
        block: Vec<u8>,
        /// How often everything is written, at least once.
        passes: u8,
        /// Every pass writes the complement of what the next one writes.
        invert: bool,
    },
    /// Write zeros over what is allocated, then unmap everything.
    Erase,
}

/// What the operation needs next.
#[derive(Debug)]
pub enum Next {
    /// This I/O; its end is told by [`Sanitize::on_done`].
    Io(Op, Sgl),
    /// A buffer: ask again later.
    Memory,
    /// Nothing: it is done, and on the medium.
    Finished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Write,
    Unmap,
    Finished,
}

/// The I/O that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Look,
    Write(u64),
    Unmap(u64),
    Flush,
}

/// One sanitize operation.
#[derive(Debug)]
pub struct Sanitize {
    length_blocks: u64,
    block_bytes: u64,
    /// The content of the pass, repeated to a comfortable length.
    tile: Vec<u8>,
    invert: bool,
    erase: bool,
    passes: u8,
    pass: u8,
    stage: Stage,
    /// The first block of the pass that is not done.
    lba: u64,
    /// So many blocks from `lba` on are known to be allocated (erase only).
    allocated_blocks: u64,
    asked: Option<Asked>,
}

impl Sanitize {
    /// The operation on a device as it is now; blocks that it gains later never held anything.
    ///
    /// # Panics
    /// When the pattern is not one block long, or there is no pass: the caller checks both.
    pub fn new(method: Method, info: &BdevInfo) -> Self {
        let block_bytes = u64::from(info.logical_block_bytes);
        let (block, passes, invert, erase) = match method {
            Method::Overwrite { block, passes, invert } => (block, passes, invert, false),
            // The second pass is the one that unmaps.
            Method::Erase => (vec![0; block_bytes as usize], 2, false, true),
        };
        assert_eq!(block.len() as u64, block_bytes, "a pattern fills one block");
        assert!(passes > 0, "an operation without a pass would leave everything as it is");
        let mut tile = block.repeat((SANITIZE_TILE_BYTES / block_bytes) as usize);
        if invert && passes.is_multiple_of(2) {
            // The last pass writes the pattern as it was given (SBC-4, the INVERT bit).
            complement(&mut tile);
        }
        Self {
            length_blocks: info.length_blocks,
            block_bytes,
            tile,
            invert,
            erase,
            passes,
            pass: 0,
            stage: Stage::Write,
            lba: 0,
            allocated_blocks: 0,
            asked: None,
        }
    }

    /// How much is done, in parts of 65536; never all of it.
    pub fn progress(&self) -> u16 {
        let all = u128::from(self.length_blocks) * u128::from(self.passes);
        let done = u128::from(self.length_blocks) * u128::from(self.pass) + u128::from(self.lba);
        u16::try_from((done << 16) / all.max(1)).unwrap_or(u16::MAX)
    }

    /// What comes next.
    ///
    /// # Panics
    /// While an I/O is out.
    pub fn next(&mut self, buffers: &BufferPool) -> Next {
        assert!(self.asked.is_none(), "one I/O at a time");
        let left = Extent { lba: self.lba, length_blocks: self.length_blocks - self.lba };
        match self.stage {
            Stage::Finished => Next::Finished,
            Stage::Write | Stage::Unmap if left.length_blocks == 0 => self.ask(Asked::Flush, Op::Flush),
            Stage::Write if self.erase && self.allocated_blocks == 0 => {
                self.ask(Asked::Look, Op::BlockStatus(left))
            }
            Stage::Write => self.write(left, buffers),
            Stage::Unmap => {
                let length_blocks = left.length_blocks.min(SANITIZE_UNMAP_STEP_BYTES / self.block_bytes);
                self.ask(Asked::Unmap(length_blocks), Op::Unmap(Extent { length_blocks, ..left }))
            }
        }
    }

    fn ask(&mut self, asked: Asked, op: Op) -> Next {
        self.asked = Some(asked);
        Next::Io(op, Sgl::empty())
    }

    fn write(&mut self, left: Extent, buffers: &BufferPool) -> Next {
        let known = if self.erase { self.allocated_blocks } else { left.length_blocks };
        let length_blocks = known.min(SANITIZE_STEP_BYTES / self.block_bytes);
        let length_bytes = (length_blocks * self.block_bytes) as usize;
        let Some(mut sgl) = buffers.alloc(length_bytes) else { return Next::Memory };
        for at in (0..length_bytes).step_by(self.tile.len()) {
            sgl.copy_in(at, &self.tile[..self.tile.len().min(length_bytes - at)]);
        }
        self.asked = Some(Asked::Write(length_blocks));
        Next::Io(Op::Write { extent: Extent { length_blocks, ..left }, fua: false }, sgl)
    }

    /// Takes the end of the I/O that was out. `Err` with its status: the operation has failed with it.
    ///
    /// # Panics
    /// When no I/O is out.
    pub fn on_done(&mut self, status: IoStatus) -> Result<(), IoStatus> {
        let asked = self.asked.take().expect("only an I/O that was asked for ends");
        match (asked, status) {
            (Asked::Look, IoStatus::Mapped { mapped, length_blocks }) => {
                let run = length_blocks.clamp(1, self.length_blocks - self.lba);
                if mapped {
                    self.allocated_blocks = run;
                } else {
                    self.lba += run;
                }
            }
            (Asked::Write(blocks), IoStatus::Good) => {
                self.lba += blocks;
                self.allocated_blocks = self.allocated_blocks.saturating_sub(blocks);
            }
            (Asked::Unmap(blocks), IoStatus::Good) => self.lba += blocks,
            (Asked::Flush, IoStatus::Good) => self.end_pass(),
            (_, status) => return Err(status),
        }
        Ok(())
    }

    fn end_pass(&mut self) {
        self.pass += 1;
        self.lba = 0;
        self.stage = match (self.pass < self.passes, self.erase) {
            (false, _) => Stage::Finished,
            (true, true) => Stage::Unmap,
            (true, false) => Stage::Write,
        };
        if self.invert {
            complement(&mut self.tile);
        }
    }
}

fn complement(bytes: &mut [u8]) {
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
}

#[cfg(test)]
mod tests;
