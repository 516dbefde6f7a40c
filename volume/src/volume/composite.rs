//! Compare, compare-and-write and or-write out of reads and writes, piece by piece, under the
//! volume's range lock.
//!
//! ```text
//! Compare          read ⇄ compare … end
//! CompareAndWrite  read ⇄ compare … then write … end      (nothing is written before all matched)
//! OrWrite          read → write → read → write … end
//! ```

use reactor::buffer::Sgl;

use crate::bdev::{Extent, IoStatus, Op};

/// What a composite wants next.
pub(super) enum Step {
    /// This of the back end; its answer goes to [`Composite::on_done`].
    Io {
        /// A read or a write.
        op: Op,
        /// The scratch.
        sgl: Sgl,
    },
    /// Nothing more.
    End(IoStatus),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Reading,
    Writing,
    Ended(IoStatus),
}

/// One composite I/O on its way.
#[derive(Debug)]
pub(super) struct Composite {
    op: Op,
    extent: Extent,
    block_bytes: u32,
    phase: Phase,
    /// Blocks of the extent that this phase is through with.
    done_blocks: u64,
    /// Blocks of one piece.
    piece_blocks: u64,
    /// Empty while the back end has it.
    scratch: Sgl,
    reserved: bool,
}

impl Composite {
    /// `scratch` is one buffer of at least one block; `reserved` comes back with it.
    pub(super) fn new(op: Op, block_bytes: u32, scratch: Sgl, reserved: bool) -> Self {
        let extent = op.extent().expect("a composite names blocks");
        let piece_blocks = scratch.len() as u64 / u64::from(block_bytes);
        assert!(piece_blocks > 0 && scratch.segment_count() == 1, "scratch holds whole blocks in one buffer");
        Self {
            op,
            extent,
            block_bytes,
            phase: Phase::Reading,
            done_blocks: 0,
            piece_blocks,
            scratch,
            reserved,
        }
    }

    /// The scratch, and whether it is the volume's reserve.
    pub(super) fn into_scratch(self) -> (Sgl, bool) {
        let bytes = self.piece_bytes_max();
        (if self.scratch.is_empty() { self.scratch } else { self.scratch.with_len(bytes) }, self.reserved)
    }

    fn piece_bytes_max(&self) -> usize {
        self.piece_blocks as usize * self.block_bytes as usize
    }

    fn piece(&self) -> Extent {
        let left = self.extent.length_blocks - self.done_blocks;
        Extent { lba: self.extent.lba + self.done_blocks, length_blocks: left.min(self.piece_blocks) }
    }

    /// Where the piece's bytes are in the first (or only) half of the payload.
    fn payload_offset(&self) -> usize {
        self.done_blocks as usize * self.block_bytes as usize
    }

    fn fua(&self) -> bool {
        matches!(self.op, Op::CompareAndWrite { fua: true, .. } | Op::OrWrite { fua: true, .. })
    }

    /// The next I/O, or the end. `payload` is what came with the composite.
    pub(super) fn next(&mut self, payload: &Sgl) -> Step {
        let piece = self.piece();
        let bytes = piece.length_blocks as usize * self.block_bytes as usize;
        match self.phase {
            Phase::Ended(status) => return Step::End(status),
            Phase::Reading | Phase::Writing => {}
        }
        let mut sgl = std::mem::take(&mut self.scratch).with_len(bytes);
        if self.phase == Phase::Reading {
            return Step::Io { op: Op::Read(piece), sgl };
        }
        if let Op::CompareAndWrite { .. } = self.op {
            let half = payload.len() / 2;
            sgl.copy_from(0, payload, half + self.payload_offset(), bytes);
        }
        Step::Io { op: Op::Write { extent: piece, fua: self.fua() }, sgl }
    }

    /// Takes the answer to the I/O that `next` asked for.
    pub(super) fn on_done(&mut self, status: IoStatus, sgl: Sgl, payload: &Sgl) {
        self.scratch = sgl;
        if status != IoStatus::Good {
            self.phase = Phase::Ended(status);
            return;
        }
        let piece = self.piece();
        match (self.phase, self.op) {
            (Phase::Ended(_), _) => unreachable!("an ended composite asks for nothing"),
            (Phase::Reading, Op::OrWrite { .. }) => {
                let at = self.payload_offset();
                or_into(&mut self.scratch, payload, at);
                self.phase = Phase::Writing;
            }
            (Phase::Reading, _) => {
                if let Some(offset) = difference(&self.scratch, payload, self.payload_offset()) {
                    let offset_bytes = (self.payload_offset() + offset) as u64;
                    self.phase = Phase::Ended(IoStatus::Miscompare { offset_bytes });
                    return;
                }
                self.pass(piece, Phase::Reading);
                if self.phase == Phase::Ended(IoStatus::Good) && matches!(self.op, Op::CompareAndWrite { .. })
                {
                    self.done_blocks = 0;
                    self.phase = Phase::Writing;
                }
            }
            (Phase::Writing, Op::OrWrite { .. }) => self.pass(piece, Phase::Reading),
            (Phase::Writing, _) => self.pass(piece, Phase::Writing),
        }
    }

    /// Steps over `piece`: to `phase`, or to the end after the last.
    fn pass(&mut self, piece: Extent, phase: Phase) {
        self.done_blocks += piece.length_blocks;
        let ended = self.done_blocks == self.extent.length_blocks;
        self.phase = if ended { Phase::Ended(IoStatus::Good) } else { phase };
    }
}

/// The first byte at which all of `scratch` and the payload from `at` on differ.
fn difference(scratch: &Sgl, payload: &Sgl, at: usize) -> Option<usize> {
    crate::memory::first_difference(scratch.chunk(0), payload.range(at, scratch.len()))
}

fn or_into(scratch: &mut Sgl, payload: &Sgl, at: usize) {
    let mut done = 0;
    for from in payload.range(at, scratch.len()) {
        let to = &mut scratch.chunk_mut(done)[..from.len()];
        to.iter_mut().zip(from).for_each(|(to, from)| *to |= from);
        done += from.len();
    }
}
