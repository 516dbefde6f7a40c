//! Blocks in a namespace of an NVMe controller that this process drives itself.
//!
//! ```text
//! NvmeChannel ─┐                                    ┌─ one for each namespace, on this core
//! NvmeChannel ─┴─▶ NvmeCore: one queue pair ─▶ controller
//! NvmePoller  ───▶    └─ one doorbell and one look at the completions in a turn
//! ```
//!
//! **Unmap** must leave zeros behind. Dataset Management is advice that a controller may ignore, so blocks are freed by Write
//! Zeroes where that frees them and still promises zeros, else they are zeroed first and then freed, if freed blocks are known
//! to read zeros; else they are zeroed and no more.
//!
//! **A failed flush is final**, as for files: what the controller could not write out it may have dropped, and the next flush
//! would succeed without it. From then on writes and flushes are answered [`IoStatus::Gone`]; reads go on.
//!
//! Overlapping I/O is ordered by the caller ([`crate::volume::Volume`] does).

mod core;
mod identity;
mod poller;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use nvme::device::Device;
use nvme::{IoDone, IoOp, Namespace, Outcome, Readiness};
use nvme_spec::{NvmOpcode, Status};
use reactor::buffer::Sgl;
use reactor::time::Time;

pub use self::core::NvmeCore;
pub use identity::namespace_uuid;
pub use poller::{NvmeAdminPoller, NvmePoller};

use crate::bdev::{BdevInfo, Done, Io, IoChannel, IoStatus, Op};
use crate::geometry::Geometry;
use crate::limits::{COPY_WAIT_MS, IN_FLIGHT_EXPECTED};

/// A namespace on one core.
pub struct NvmeChannel<D: Device> {
    core: NvmeCore<D>,
    namespace: Arc<Namespace>,
    /// Which namespace, for the queue pair.
    number: u16,
    info: BdevInfo,
    /// I/Os that the queue pair had no room for, oldest first.
    backlog: VecDeque<Io>,
    /// Lists that the controller cannot be given, while a copy is on its way: the tag, and the list.
    copied: Vec<(u64, Sgl)>,
    /// Since when the core has had no buffers for a copy, while the oldest of the backlog waits for some.
    dry_since: Option<Time>,
    /// Writes without FUA that were begun, and how many of them a flush is known to have covered.
    written: u64,
    flushed: u64,
    /// What the flush under way covers for sure: it was begun when nothing else was open.
    flush_covers: Option<u64>,
}

impl<D: Device> Drop for NvmeChannel<D> {
    fn drop(&mut self) {
        self.core.detach(self.number);
    }
}

impl<D: Device> NvmeChannel<D> {
    /// The whole namespace, under an identity that is made from its own.
    pub fn new(core: &NvmeCore<D>, namespace: Arc<Namespace>) -> Self {
        let length_blocks = namespace.length_blocks();
        let uuid = namespace_uuid(&namespace);
        Self::over(core, namespace, length_blocks, uuid)
    }

    /// The first blocks of the namespace, as `geometry` says; `None` when it has another block size or fewer blocks.
    pub fn with_geometry(core: &NvmeCore<D>, namespace: Arc<Namespace>, geometry: Geometry) -> Option<Self> {
        let fits = namespace.info().block_bytes == geometry.logical_block_bytes
            && namespace.length_blocks() >= geometry.length_blocks;
        fits.then(|| Self::over(core, namespace, geometry.length_blocks, geometry.uuid))
    }

    fn over(core: &NvmeCore<D>, namespace: Arc<Namespace>, length_blocks: u64, uuid: uuid::Uuid) -> Self {
        let own = namespace.info();
        let info = BdevInfo {
            logical_block_bytes: own.block_bytes,
            physical_block_bytes: own.physical_block_bytes,
            length_blocks,
            volatile_write_cache: own.volatile_write_cache,
            thin: own.zero.deallocates || own.zero.dsm,
            unmap_granularity_blocks: own.deallocate_blocks,
            // The namespace's own units hold for its every write.
            write_unit_blocks: own.atomic_write_blocks,
            atomic_write_blocks: own.atomic_write_blocks,
            uuid,
        };
        let number = core.attach(Arc::clone(&namespace));
        Self {
            core: core.clone(),
            namespace,
            number,
            info,
            backlog: VecDeque::with_capacity(IN_FLIGHT_EXPECTED),
            copied: Vec::new(),
            dry_since: None,
            written: 0,
            flushed: 0,
            flush_covers: None,
        }
    }

    /// The namespace that it is.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// True after a flush has failed: nothing is written any more.
    pub fn has_failed(&self) -> bool {
        self.namespace.has_failed_flush()
    }

    /// What needs no command.
    #[inline]
    fn answer_at_once(&self, op: &Op) -> Option<IoStatus> {
        if let Op::BlockStatus(extent) = *op {
            // Which blocks are allocated is not asked of the controller: all are said to be.
            return Some(IoStatus::Mapped { mapped: true, length_blocks: extent.length_blocks });
        }
        if self.namespace.has_failed_flush() && (op.changes_blocks() || *op == Op::Flush) {
            return Some(IoStatus::Gone);
        }
        match op.extent() {
            Some(extent) => (extent.length_blocks == 0).then_some(IoStatus::Good),
            // Without a cache everything that was answered is on the medium.
            None => (!self.info.volatile_write_cache && self.namespace.is_live()).then_some(IoStatus::Good),
        }
    }

    /// Gives the I/O to the queue pair; back when there is no room.
    #[inline]
    fn start(&mut self, io: Io) -> Start {
        match self.core.readiness(self.number) {
            Readiness::Later => return Start::Later(io),
            Readiness::Gone => {
                return Start::Done(Done { tag: io.tag, status: IoStatus::Gone, sgl: io.sgl });
            }
            Readiness::Ready => {}
        }
        let Io { tag, op, sgl } = io;
        match op {
            Op::Read(_) | Op::Write { fua: true, .. } | Op::WriteZeroes { fua: true, .. } => {}
            Op::Flush => self.flush_covers = (self.core.open(self.number) == 0).then_some(self.written),
            _ => self.written += 1,
        }
        let sgl = if self.core.describes(&sgl) {
            sgl
        } else {
            match self.copy_of(&op, &sgl) {
                Some(copy) => {
                    self.copied.push((tag, sgl));
                    copy
                }
                None => return Start::Dry(Io { tag, op, sgl }),
            }
        };
        let (lba, blocks) = op.extent().map_or((0, 0), |extent| (extent.lba, extent.length_blocks));
        self.core.submit(nvme::Request { tag, namespace: self.number, op: io_op(&op), lba, blocks, sgl });
        Start::Taken
    }

    /// A list with the same bytes in whole pages; `None` while the pool has none.
    fn copy_of(&self, op: &Op, sgl: &Sgl) -> Option<Sgl> {
        let mut copy = self.core.buffers().alloc(sgl.len())?;
        if op.changes_blocks() {
            copy.copy_from(0, sgl, 0, sgl.len());
        }
        Some(copy)
    }

    fn on_done(&mut self, done: IoDone) -> Done {
        let IoDone { tag, opcode, outcome, sgl, .. } = done;
        let mut status = status(opcode, outcome);
        if opcode == NvmOpcode::FLUSH {
            let covered = self.flush_covers.take().filter(|_| status == IoStatus::Good);
            self.flushed = covered.unwrap_or(self.flushed);
            if status != IoStatus::Good {
                self.namespace.fail_flush();
            } else if self.namespace.has_failed_flush() {
                // Another one has failed meanwhile, and the device may have dropped what this one was to keep.
                status = IoStatus::Gone;
            }
        }
        let sgl = if self.copied.is_empty() { sgl } else { self.original(tag, opcode, status, sgl) };
        Done { tag, status, sgl }
    }

    /// The list that came with the I/O, with what was read.
    fn original(&mut self, tag: u64, opcode: NvmOpcode, status: IoStatus, copy: Sgl) -> Sgl {
        let Some(position) = self.copied.iter().position(|(other, _)| *other == tag) else { return copy };
        let (_, mut sgl) = self.copied.swap_remove(position);
        if opcode == NvmOpcode::READ && status == IoStatus::Good {
            let length_bytes = sgl.len();
            sgl.copy_from(0, &copy, 0, length_bytes);
        }
        sgl
    }

    fn feed_backlog(&mut self, out: &mut Vec<Done>) {
        while let Some(io) = self.backlog.pop_front() {
            if let Some(status) = self.answer_at_once(&io.op) {
                out.push(Done { tag: io.tag, status, sgl: io.sgl });
                continue;
            }
            match self.start(io) {
                Start::Taken => self.dry_since = None,
                Start::Done(done) => {
                    self.dry_since = None;
                    out.push(done);
                }
                Start::Later(io) => {
                    self.dry_since = None;
                    return self.backlog.push_front(io);
                }
                Start::Dry(io) => {
                    if self.may_wait() {
                        return self.backlog.push_front(io);
                    }
                    out.push(Done { tag: io.tag, status: IoStatus::Aborted, sgl: io.sgl });
                }
            }
        }
        self.dry_since = None;
    }

    /// The core has no buffers for a copy: is there time to wait for some? When there is none left, all that need one are turned
    /// away, which gives back those that came with them.
    fn may_wait(&mut self) -> bool {
        let now = self.core.now();
        let until = self.dry_since.get_or_insert(now).after(Duration::from_millis(COPY_WAIT_MS));
        if now < until {
            self.core.wake_at(until);
        }
        now < until
    }
}

enum Start {
    Taken,
    Done(Done),
    /// The queue pair has no room for it.
    Later(Io),
    /// The core has no buffers to copy its list to.
    Dry(Io),
}

fn io_op(op: &Op) -> IoOp {
    match *op {
        Op::Read(_) => IoOp::Read,
        // A write within the atomic units is not cut.
        Op::Write { fua, .. } | Op::AtomicWrite { fua, .. } => IoOp::Write { fua },
        Op::Flush => IoOp::Flush,
        Op::Unmap(_) => IoOp::WriteZeroes { deallocate: true, fua: false },
        Op::WriteZeroes { unmap, fua, .. } => IoOp::WriteZeroes { deallocate: unmap, fua },
        Op::BlockStatus(_) | Op::Compare(_) | Op::CompareAndWrite { .. } | Op::OrWrite { .. } => {
            unreachable!("answered at once, or built by the volume from reads and writes")
        }
    }
}

fn status(opcode: NvmOpcode, outcome: Outcome) -> IoStatus {
    let is_read = opcode == NvmOpcode::READ;
    match outcome {
        Outcome::Success => IoStatus::Good,
        Outcome::Gone => IoStatus::Gone,
        Outcome::Failed { lba, .. } | Outcome::Unanswered { lba } if is_read => IoStatus::ReadError { lba },
        Outcome::Failed { status, .. } if status.code() == Status::CAPACITY_EXCEEDED => IoStatus::NoSpace,
        Outcome::Failed { lba, .. } | Outcome::Unanswered { lba } => IoStatus::WriteError { lba },
    }
}

impl<D: Device> IoChannel for NvmeChannel<D> {
    fn info(&self) -> BdevInfo {
        self.info
    }

    fn submit(&mut self, io: Io) -> Option<Done> {
        let payload_bytes = io.op.payload_bytes(self.info.logical_block_bytes);
        assert_eq!(io.sgl.len() as u64, payload_bytes, "the payload has another length than the extent says");
        if let Some(extent) = io.op.extent() {
            assert!(extent.end() <= self.info.length_blocks, "an extent past the end of the device");
        }
        if let Some(status) = self.answer_at_once(&io.op) {
            return Some(Done { tag: io.tag, status, sgl: io.sgl });
        }
        if !self.backlog.is_empty() {
            self.backlog.push_back(io);
            return None;
        }
        match self.start(io) {
            Start::Taken => None,
            Start::Done(done) => Some(done),
            Start::Later(io) | Start::Dry(io) => {
                self.backlog.push_back(io);
                None
            }
        }
    }

    fn poll(&mut self, out: &mut Vec<Done>, budget: usize) {
        self.core.reap(budget);
        for _ in 0..budget.max(1) {
            let Some(done) = self.core.take(self.number) else { break };
            let done = self.on_done(done);
            out.push(done);
        }
        self.feed_backlog(out);
        self.core.ring_without_poller();
    }

    fn in_flight(&self) -> usize {
        self.core.open(self.number) + self.backlog.len()
    }

    fn has_unflushed(&self) -> bool {
        self.info.volatile_write_cache && self.written != self.flushed
    }

    fn grow(&mut self, length_blocks: u64) -> bool {
        if length_blocks < self.info.length_blocks || length_blocks > self.namespace.length_blocks() {
            return false;
        }
        self.info.length_blocks = length_blocks;
        true
    }
}
