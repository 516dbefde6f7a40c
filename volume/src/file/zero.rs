//! Making a range read zeros, by the best means that this file has.
//!
//! The system zeroes the parts of a range that are not whole blocks of the filesystem and frees the
//! rest, so a range is handed over as it came. Where the system cannot (some filesystems, some
//! devices) the next means is tried, and remembered.

use nix::errno::Errno;
use reactor::buffer::Sgl;

use super::{FileChannel, FileOp, write_status};
use crate::bdev::{Done, Extent, IoStatus, Op};
use crate::limits::{PAGE_BYTES, ZERO_PIECE_BYTES};

/// The means, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ZeroMethod {
    /// Free the range.
    PunchHole,
    /// Let the system zero it and keep it.
    ZeroRange,
    /// Write zeros.
    Write,
}

/// Which means this file has not yet been found to lack.
#[derive(Clone, Copy, Debug)]
pub(super) struct ZeroMeans {
    pub(super) punch_hole: bool,
    pub(super) zero_range: bool,
}

impl ZeroMeans {
    fn best(self, op: &Op) -> ZeroMethod {
        if self.punch_hole && may_free(op) { ZeroMethod::PunchHole } else { self.after_punch_hole() }
    }

    fn after_punch_hole(self) -> ZeroMethod {
        if self.zero_range { ZeroMethod::ZeroRange } else { ZeroMethod::Write }
    }

    /// What to try after `method` was refused with `errno`. That a file does not know a means is
    /// remembered; that it refuses one range is not.
    fn after_refusal(&mut self, method: ZeroMethod, errno: i32) -> Option<ZeroMethod> {
        let unknown = [Errno::EOPNOTSUPP, Errno::ENOSYS, Errno::ENOTTY].map(|no| no as i32).contains(&errno);
        if !unknown && errno != Errno::EINVAL as i32 {
            return None;
        }
        match method {
            ZeroMethod::PunchHole => {
                self.punch_hole &= !unknown;
                Some(self.after_punch_hole())
            }
            ZeroMethod::ZeroRange => {
                self.zero_range &= !unknown;
                Some(ZeroMethod::Write)
            }
            ZeroMethod::Write => None,
        }
    }
}

fn may_free(op: &Op) -> bool {
    matches!(op, Op::Unmap(_) | Op::WriteZeroes { unmap: true, .. })
}

impl FileChannel {
    pub(super) fn submit_zero(&mut self, tag: u64, op: Op, extent: Extent) -> Option<Done> {
        let answer = |status| Some(Done { tag, status, sgl: Sgl::empty() });
        if self.sync.has_failed() {
            return answer(IoStatus::Gone);
        }
        let (offset_bytes, length_bytes) = self.bytes_of(extent);
        let fua = matches!(op, Op::WriteZeroes { fua: true, .. });
        let is_hole = self.allocation.as_ref().is_some_and(|map| map.is_hole(offset_bytes, length_bytes));
        if may_free(&op) && is_hole && !fua {
            return answer(IoStatus::Good);
        }
        let id = self.hold(tag, op);
        self.slot(id).method = self.zero_means.best(&op);
        self.send_zero(id);
        None
    }

    /// Starts the slot's present method, from where it stands.
    fn send_zero(&mut self, id: u32) {
        let slot = self.slot(id);
        let (method, done_bytes) = (slot.method, slot.zeroed_bytes);
        let extent = slot.op.extent().expect("zeroing names blocks");
        let (offset_bytes, length_bytes) = self.bytes_of(extent);
        match method {
            ZeroMethod::PunchHole => {
                self.punches.push(id);
                self.send(u64::from(id), FileOp::PunchHole { offset_bytes, length_bytes });
            }
            ZeroMethod::ZeroRange => {
                self.note_written(offset_bytes, length_bytes);
                self.send(u64::from(id), FileOp::ZeroRange { offset_bytes, length_bytes });
            }
            ZeroMethod::Write => {
                let Some(zeros) = self.take_zeros() else {
                    self.zero_waiting.push_back(id);
                    return;
                };
                self.note_written(offset_bytes, length_bytes);
                let bytes = (length_bytes - done_bytes).min(zeros.len() as u64);
                let sgl = zeros.with_len(bytes as usize);
                let offset_bytes = offset_bytes + done_bytes;
                self.send(u64::from(id), FileOp::Write { offset_bytes, sgl, durable: false });
            }
        }
    }

    /// Zeros that came back, for the next time.
    pub(super) fn keep_zeros(&mut self, zeros: Sgl) {
        self.zeros = Some(at_full_length(zeros));
    }

    /// Zeros that were written before, else fresh ones from the pool.
    pub(super) fn take_zeros(&mut self) -> Option<Sgl> {
        if let Some(zeros) = self.zeros.take() {
            return Some(zeros);
        }
        let one_buffer =
            |bytes: u64| self.buffers.alloc(bytes as usize).filter(|sgl| sgl.segment_count() == 1);
        let zeros = one_buffer(ZERO_PIECE_BYTES).or_else(|| one_buffer(PAGE_BYTES))?;
        let mut zeros = at_full_length(zeros);
        zeros.fill(0, zeros.len(), 0);
        Some(zeros)
    }

    pub(super) fn feed_zero_waiting(&mut self) {
        for _ in 0..self.zero_waiting.len() {
            let id = self.zero_waiting.pop_front().expect("as many as were counted");
            self.send_zero(id);
        }
    }

    pub(super) fn on_zeroed(&mut self, id: u32, sgl: Sgl, result: Result<(), i32>) {
        let slot = self.slot(id);
        let (op, method, tainted) = (slot.op, slot.method, slot.tainted);
        let extent = op.extent().expect("zeroing names blocks");
        let (offset_bytes, length_bytes) = self.bytes_of(extent);
        if method == ZeroMethod::PunchHole {
            self.punches.retain(|&punch| punch != id);
        }
        self.sync.note_dirty();
        let written_bytes = sgl.len() as u64;
        if method == ZeroMethod::Write {
            self.keep_zeros(sgl);
        }
        match result {
            Ok(()) if method == ZeroMethod::Write => {
                let slot = self.slot(id);
                slot.zeroed_bytes += written_bytes;
                if slot.zeroed_bytes < length_bytes {
                    self.send_zero(id);
                    return;
                }
            }
            Ok(()) => {
                let punched = method == ZeroMethod::PunchHole && !tainted;
                if let Some(map) = self.allocation.as_mut().filter(|_| punched) {
                    map.clear(offset_bytes, length_bytes);
                }
            }
            Err(errno) => {
                match self.zero_means.after_refusal(method, errno) {
                    Some(method) => {
                        self.slot(id).method = method;
                        self.send_zero(id);
                    }
                    None => self.finish(id, write_status(errno, extent)),
                }
                return;
            }
        }
        if matches!(op, Op::WriteZeroes { fua: true, .. }) {
            self.join_sync(id);
        } else {
            self.finish(id, IoStatus::Good);
        }
    }
}

/// The one buffer of `zeros` in its whole useful length.
fn at_full_length(zeros: Sgl) -> Sgl {
    let bytes = zeros.capacity_bytes().min(ZERO_PIECE_BYTES as usize);
    zeros.with_len(bytes)
}
