//! What lies on a namespace, before it is written to: both of its ends are read, where everything leaves its mark that leaves
//! one. A controller that the kernel does not drive has no disk that could be looked at in another way.

use disk_signature::{HEAD_BYTES, TAIL_BYTES, recognise};
use nvme::NamespaceInfo;
use reactor::buffer::Sgl;

use crate::driver::Payload;
use crate::error::{BenchError, LocalCause};
use crate::limits::LOOK_BYTES;
use crate::local::LocalTarget;
use crate::stamp;

/// The ends of a namespace, read piece by piece.
#[derive(Debug)]
pub struct Look {
    block_bytes: u64,
    length_bytes: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
    head_bytes: u64,
    tail_bytes: u64,
}

/// A run of blocks to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// First block.
    pub lba: u64,
    /// How many.
    pub length_blocks: u64,
}

impl Look {
    pub fn new(info: &NamespaceInfo) -> Self {
        let block_bytes = u64::from(info.block_bytes);
        let length_bytes = info.length_blocks * block_bytes;
        Self {
            block_bytes,
            length_bytes,
            head: Vec::new(),
            tail: Vec::new(),
            head_bytes: HEAD_BYTES.min(length_bytes),
            tail_bytes: TAIL_BYTES.min(length_bytes),
        }
    }

    /// What to read next; `None` when both ends are there.
    pub fn step(&self) -> Option<Step> {
        let (head, tail) = (self.head.len() as u64, self.tail.len() as u64);
        let (at, left) = if head < self.head_bytes {
            (head, self.head_bytes - head)
        } else {
            (self.length_bytes - self.tail_bytes + tail, self.tail_bytes - tail)
        };
        let bytes = left.min(LOOK_BYTES as u64);
        (bytes > 0).then(|| Step { lba: at / self.block_bytes, length_blocks: bytes / self.block_bytes })
    }

    /// Takes what was read.
    pub fn take(&mut self, data: &Sgl) {
        let end = if (self.head.len() as u64) < self.head_bytes { &mut self.head } else { &mut self.tail };
        data.runs().for_each(|run| end.extend_from_slice(run));
    }

    /// What they say: nothing that is known, and nothing that is somebody's.
    pub fn judge(&self, target: &LocalTarget, serial: &str) -> Result<(), BenchError> {
        if let Some(found) = recognise(&self.head, &self.tail, self.length_bytes) {
            return Err(target.refused(LocalCause::Labelled {
                nsid: target.nsid,
                what: found.what,
                offset_bytes: found.offset_bytes,
                serial: serial.to_owned(),
            }));
        }
        if target.overwrite_data {
            return Ok(());
        }
        let block_bytes = self.block_bytes as usize;
        let foreign = |end: &[u8]| stamp::first_foreign(std::iter::once(end), block_bytes);
        let tail_starts = (self.length_bytes - self.tail_bytes) / self.block_bytes;
        let lba = foreign(&self.head).or_else(|| foreign(&self.tail).map(|at| tail_starts + at));
        lba.map_or(Ok(()), |lba| Err(BenchError::HoldsData { target: target.shown.clone(), lba }))
    }
}
