//! A channel as a file: for a metadata store beside the blocks of a device that only a channel reaches.

use reactor::buffer::Sgl;
use reactor::file::{File, FileDone, FileOp};

use crate::bdev::{Done, Extent, Io, IoChannel, IoStatus, Op};

/// Completions taken in one turn.
const COMPLETIONS_PER_POLL: usize = 32;

/// Error numbers of Linux, which is what completions of files carry.
const EIO: i32 = 5;
const ENODEV: i32 = 19;
const ENOSPC: i32 = 28;
const EOPNOTSUPP: i32 = 95;

/// A file that is the whole of a device. Offsets and lengths are whole blocks.
pub struct ChannelFile {
    channel: Box<dyn IoChannel>,
    answered: Vec<Done>,
    refused: Vec<u64>,
}

impl ChannelFile {
    /// The device behind `channel`, which nobody else uses.
    pub fn new(channel: Box<dyn IoChannel>) -> Self {
        Self { channel, answered: Vec::new(), refused: Vec::new() }
    }

    fn extent(&self, offset_bytes: u64, length_bytes: usize) -> Extent {
        let info = self.channel.info();
        let block_bytes = u64::from(info.logical_block_bytes);
        let length_bytes = length_bytes as u64;
        let whole = offset_bytes.is_multiple_of(block_bytes) && length_bytes.is_multiple_of(block_bytes);
        assert!(whole, "a part of a block of a device");
        Extent::new(offset_bytes / block_bytes, length_bytes / block_bytes, info.length_blocks)
            .expect("an offset on the device")
    }
}

fn result_of(status: IoStatus) -> Result<(), i32> {
    match status {
        status if status.is_good() => Ok(()),
        IoStatus::Gone => Err(ENODEV),
        IoStatus::NoSpace => Err(ENOSPC),
        _ => Err(EIO),
    }
}

impl File for ChannelFile {
    fn submit(&mut self, tag: u64, op: FileOp) -> Result<(), FileOp> {
        let io = match op {
            FileOp::Read { offset_bytes, sgl } => {
                Io { tag, op: Op::Read(self.extent(offset_bytes, sgl.len())), sgl }
            }
            FileOp::Write { offset_bytes, sgl, durable } => {
                let extent = self.extent(offset_bytes, sgl.len());
                Io { tag, op: Op::Write { extent, fua: durable }, sgl }
            }
            FileOp::Sync => Io { tag, op: Op::Flush, sgl: Sgl::empty() },
            FileOp::PunchHole { .. } | FileOp::Allocate { .. } | FileOp::ZeroRange { .. } => {
                self.refused.push(tag);
                return Ok(());
            }
        };
        self.answered.extend(self.channel.submit(io));
        Ok(())
    }

    fn poll(&mut self, out: &mut Vec<FileDone>) {
        if self.channel.in_flight() > 0 {
            self.channel.poll(&mut self.answered, COMPLETIONS_PER_POLL);
        }
        out.extend(self.answered.drain(..).map(|Done { tag, status, sgl }| FileDone {
            tag,
            result: result_of(status),
            sgl,
        }));
        let refused = self.refused.drain(..);
        out.extend(refused.map(|tag| FileDone { tag, result: Err(EOPNOTSUPP), sgl: Sgl::empty() }));
    }

    fn in_flight(&self) -> usize {
        self.channel.in_flight() + self.answered.len() + self.refused.len()
    }
}
