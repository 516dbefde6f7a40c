//! Blocks in a file or on a block device, through the core's asynchronous files.
//!
//! ```text
//! Read ─▶ hole? zeros on the spot : file read
//! Write ─▶ file write ──fua, page cache──▶ sync group ─▶ answer
//! Unmap, WriteZeroes ─▶ punch hole ─▶ else zero range ─▶ else zeros written piece by piece
//! Flush ─▶ nothing written since the last sync? answer : sync group
//! AtomicWrite ─▶ one sector? as a write : journal ─▶ in place, durable ─▶ answer (see `atomic` and [`crate::journal`])
//! ```
//!
//! Overlapping I/O is ordered by the caller ([`crate::volume::Volume`] does).
//!
//! **A failed sync is final.** After it the system may have dropped the very data that could not be
//! written, and the next sync would succeed without it. So the first failure is answered as a write
//! error, and from then on every flush and every write is answered [`IoStatus::Gone`]; reads go on.
//! A durable write that fails for another reason than space counts as a failed sync.

mod atomic;
mod sync;
mod zero;

use std::collections::VecDeque;
use std::io;

use nix::errno::Errno;
use reactor::buffer::{BufferPool, Sgl};
use reactor::file::{File, FileDone, FileOp, FileSystem};

use crate::allocation::AllocationMap;
use crate::bdev::{BdevInfo, Done, Extent, Io, IoChannel, IoStatus, Op};
use crate::file_open::OpenedFile;
use crate::io_mode::IoMode;
use crate::limits::{IN_FLIGHT_EXPECTED, PAGE_BYTES};
use atomic::Atomic;
use sync::SyncGroups;
use zero::{ZeroMeans, ZeroMethod};

/// The tag of a sync, which belongs to a group of I/Os and not to one.
const SYNC_TAG: u64 = u64::MAX;

#[derive(Debug)]
struct Slot {
    tag: u64,
    op: Op,
    /// The payload, unless the file has it.
    sgl: Sgl,
    /// Something was written into the range of this hole punch while it ran.
    tainted: bool,
    /// How far zeros have been written, in bytes of the extent.
    zeroed_bytes: u64,
    /// How this I/O zeroes its range.
    method: ZeroMethod,
}

/// One file or block device on one core.
pub struct FileChannel {
    file: Box<dyn File>,
    info: BdevInfo,
    mode: IoMode,
    allocation: Option<AllocationMap>,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    /// Operations that the file had no room for, oldest first.
    backlog: VecDeque<(u64, FileOp)>,
    sync: SyncGroups,
    /// Hole punches under way.
    punches: Vec<u32>,
    zero_means: ZeroMeans,
    /// Zeros to write, kept for the next time.
    zeros: Option<Sgl>,
    /// I/Os for whose zeros the pool had no room.
    zero_waiting: VecDeque<u32>,
    /// Blocks that recovery would write again after a crash: they do not change until that is over.
    guarded: Option<Extent>,
    /// How it writes atomically, where it can.
    atomic: Option<Box<Atomic>>,
    buffers: BufferPool,
    file_done: Vec<FileDone>,
    done: VecDeque<Done>,
}

impl FileChannel {
    /// Takes over an opened file on the core of `files`. Errors: the system's.
    pub fn new(opened: OpenedFile, files: &dyn FileSystem, buffers: &BufferPool) -> io::Result<Self> {
        let block_bytes = opened.geometry.logical_block_bytes;
        let unmap_bytes = opened.allocation.as_ref().map_or(PAGE_BYTES, AllocationMap::granule_bytes);
        let info = BdevInfo {
            logical_block_bytes: block_bytes,
            physical_block_bytes: opened.physical_block_bytes,
            length_blocks: opened.geometry.length_blocks,
            volatile_write_cache: opened.volatile_write_cache,
            thin: opened.thin,
            unmap_granularity_blocks: (unmap_bytes / u64::from(block_bytes)) as u32,
            // A disk promises its own sector and the filesystem nothing more.
            write_unit_blocks: 1,
            // More with a journal.
            atomic_write_blocks: 1,
            uuid: opened.geometry.uuid,
        };
        let channel = Self::over(files.adopt(opened.fd)?, info, opened.mode, opened.allocation, buffers);
        match opened.journal {
            Some(journal) => Ok(channel.with_journal(files.adopt(journal.fd)?)),
            None => Ok(channel),
        }
    }

    /// A channel over a file that is already on this core; simulations start here.
    pub fn over(
        file: Box<dyn File>,
        info: BdevInfo,
        mode: IoMode,
        allocation: Option<AllocationMap>,
        buffers: &BufferPool,
    ) -> Self {
        Self {
            file,
            info,
            mode,
            allocation,
            slots: Vec::with_capacity(IN_FLIGHT_EXPECTED),
            free: Vec::with_capacity(IN_FLIGHT_EXPECTED),
            backlog: VecDeque::new(),
            sync: SyncGroups::new(),
            punches: Vec::new(),
            zero_means: ZeroMeans { punch_hole: true, zero_range: true },
            zeros: None,
            zero_waiting: VecDeque::new(),
            guarded: None,
            atomic: None,
            buffers: buffers.clone(),
            file_done: Vec::new(),
            done: VecDeque::new(),
        }
    }

    /// True after a sync or a durable write has failed: nothing is written any more.
    pub fn has_failed(&self) -> bool {
        self.sync.has_failed()
    }

    /// Bytes that may hold data; the whole length on a device.
    pub fn mapped_bytes(&self) -> u64 {
        let length = self.info.length_blocks * u64::from(self.info.logical_block_bytes);
        self.allocation.as_ref().map_or(length, AllocationMap::mapped_bytes)
    }

    fn bytes_of(&self, extent: Extent) -> (u64, u64) {
        let block_bytes = u64::from(self.info.logical_block_bytes);
        (extent.lba * block_bytes, extent.length_blocks * block_bytes)
    }

    fn is_direct(&self) -> bool {
        matches!(self.mode, IoMode::Direct { .. })
    }

    fn hold(&mut self, tag: u64, op: Op) -> u32 {
        let slot =
            Slot { tag, op, sgl: Sgl::empty(), tainted: false, zeroed_bytes: 0, method: ZeroMethod::Write };
        match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = Some(slot);
                id
            }
            None => {
                self.slots.push(Some(slot));
                u32::try_from(self.slots.len() - 1).expect("fewer I/Os in flight than 32 bits count")
            }
        }
    }

    fn slot(&mut self, id: u32) -> &mut Slot {
        self.slots[id as usize].as_mut().expect("an id in flight has its slot")
    }

    fn finish(&mut self, id: u32, status: IoStatus) {
        let slot = self.slots[id as usize].take().expect("an I/O finishes once");
        self.free.push(id);
        self.done.push_back(Done { tag: slot.tag, status, sgl: slot.sgl });
    }

    /// Gives the file an operation now, or when it has room: never out of order.
    fn send(&mut self, tag: u64, op: FileOp) {
        if self.backlog.is_empty() {
            if let Err(op) = self.file.submit(tag, op) {
                self.backlog.push_back((tag, op));
            }
        } else {
            self.backlog.push_back((tag, op));
        }
    }

    fn feed_backlog(&mut self) {
        while let Some((tag, op)) = self.backlog.pop_front() {
            if let Err(op) = self.file.submit(tag, op) {
                self.backlog.push_front((tag, op));
                return;
            }
        }
    }

    fn submit_read(&mut self, tag: u64, extent: Extent, mut sgl: Sgl) -> Option<Done> {
        let (offset_bytes, length_bytes) = self.bytes_of(extent);
        // A clear bit proves a hole at this very moment, so there is nothing to ask the system.
        if self.allocation.as_ref().is_some_and(|map| map.is_hole(offset_bytes, length_bytes)) {
            sgl.fill(0, length_bytes as usize, 0);
            return Some(Done { tag, status: IoStatus::Good, sgl });
        }
        let id = self.hold(tag, Op::Read(extent));
        self.send(u64::from(id), FileOp::Read { offset_bytes, sgl });
        None
    }

    fn submit_write(&mut self, tag: u64, extent: Extent, fua: bool, sgl: Sgl) -> Option<Done> {
        if self.sync.has_failed() {
            return Some(Done { tag, status: IoStatus::Gone, sgl });
        }
        let (offset_bytes, length_bytes) = self.bytes_of(extent);
        self.note_written(offset_bytes, length_bytes);
        let id = self.hold(tag, Op::Write { extent, fua });
        // Through the page cache a durable write is a write and a sync: only then is it known
        // whether running out of space met the write, which is harmless, or the sync.
        let durable = fua && self.is_direct();
        self.send(u64::from(id), FileOp::Write { offset_bytes, sgl, durable });
        None
    }

    /// Before anything is written: the map must never call a hole what may hold data.
    fn note_written(&mut self, offset_bytes: u64, length_bytes: u64) {
        let Some(map) = &mut self.allocation else { return };
        map.mark(offset_bytes, length_bytes);
        let granule = map.granule_bytes();
        let (from, to) = (offset_bytes / granule, (offset_bytes + length_bytes).div_ceil(granule));
        let block_bytes = u64::from(self.info.logical_block_bytes);
        for &id in &self.punches {
            let slot = self.slots[id as usize].as_mut().expect("a punch under way has its slot");
            let extent = slot.op.extent().expect("a punch names blocks");
            slot.tainted |= extent.lba * block_bytes / granule < to
                && from < (extent.end() * block_bytes).div_ceil(granule);
        }
    }

    fn block_status(&self, extent: Extent) -> IoStatus {
        let (offset_bytes, length_bytes) = self.bytes_of(extent);
        let (mapped, run_bytes) =
            self.allocation.as_ref().map_or((true, length_bytes), |map| map.run(offset_bytes, length_bytes));
        IoStatus::Mapped { mapped, length_blocks: run_bytes / u64::from(self.info.logical_block_bytes) }
    }

    fn on_file_done(&mut self, done: FileDone) {
        if done.tag == SYNC_TAG {
            self.on_sync_done(done.result);
            return;
        }
        let id = u32::try_from(done.tag).expect("the file returns the tag it was given");
        match self.slot(id).op {
            Op::Read(extent) => {
                self.slot(id).sgl = done.sgl;
                let status = match done.result {
                    Ok(()) => IoStatus::Good,
                    Err(errno) if is_gone(errno) => IoStatus::Gone,
                    Err(_) => IoStatus::ReadError { lba: extent.lba },
                };
                self.finish(id, status);
            }
            Op::Write { extent, fua } => {
                self.slot(id).sgl = done.sgl;
                self.on_written(id, extent, fua, done.result);
            }
            Op::Unmap(_) | Op::WriteZeroes { .. } => self.on_zeroed(id, done.sgl, done.result),
            Op::AtomicWrite { extent, .. } => self.on_atomic_done(id, extent, done),
            Op::Flush
            | Op::BlockStatus(_)
            | Op::Compare(_)
            | Op::CompareAndWrite { .. }
            | Op::OrWrite { .. } => {
                unreachable!("only reads, writes and zeroing are given to the file under an id")
            }
        }
    }

    fn on_written(&mut self, id: u32, extent: Extent, fua: bool, result: Result<(), i32>) {
        let durable = fua && self.is_direct();
        if !durable {
            self.sync.note_dirty();
        }
        match result {
            Ok(()) if fua && !durable => self.join_sync(id),
            Ok(()) => self.finish(id, IoStatus::Good),
            Err(errno) => {
                let status = write_status(errno, extent);
                if durable && status != IoStatus::NoSpace {
                    self.sync.fail();
                }
                self.finish(id, status);
            }
        }
    }
}

impl IoChannel for FileChannel {
    fn info(&self) -> BdevInfo {
        self.info
    }

    fn submit(&mut self, io: Io) -> Option<Done> {
        if let Some(guarded) = self.guarded
            && atomic::concerns(&io.op, guarded)
        {
            return self.submit_guarded(io);
        }
        self.submit_unguarded(io)
    }

    fn poll(&mut self, out: &mut Vec<Done>, _budget: usize) {
        if self.file.in_flight() > 0 {
            let mut file_done = std::mem::take(&mut self.file_done);
            self.file.poll(&mut file_done);
            for done in file_done.drain(..) {
                self.on_file_done(done);
            }
            self.file_done = file_done;
        }
        self.feed_zero_waiting();
        self.feed_backlog();
        self.poll_atomic();
        out.extend(self.done.drain(..));
    }

    fn allocated_bytes(&self) -> Option<u64> {
        Some(self.mapped_bytes())
    }

    fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len() + self.done.len() + self.held_back()
    }

    fn grow(&mut self, length_blocks: u64) -> bool {
        if length_blocks < self.info.length_blocks {
            return false;
        }
        self.info.length_blocks = length_blocks;
        if let Some(map) = &mut self.allocation {
            map.grow(length_blocks * u64::from(self.info.logical_block_bytes));
        }
        true
    }
}

impl FileChannel {
    /// Starts an I/O of which no atomic write has to know.
    fn submit_unguarded(&mut self, io: Io) -> Option<Done> {
        let Io { tag, op, sgl } = io;
        assert_eq!(
            sgl.len() as u64,
            op.payload_bytes(self.info.logical_block_bytes),
            "the payload has another length than the extent says"
        );
        if let Some(extent) = op.extent() {
            assert!(extent.end() <= self.info.length_blocks, "an extent past the end of the device");
            if extent.length_blocks == 0 {
                return Some(Done { tag, status: IoStatus::Good, sgl });
            }
        }
        if let IoMode::Direct { align_bytes } = self.mode {
            let whole = |piece: &[u8]| piece.len().is_multiple_of(align_bytes as usize);
            debug_assert!(sgl.segments().all(whole), "direct I/O takes buffers of whole blocks");
        }
        match op {
            Op::Read(extent) => self.submit_read(tag, extent, sgl),
            Op::Write { extent, fua } => self.submit_write(tag, extent, fua, sgl),
            Op::AtomicWrite { extent, fua } => self.submit_atomic(tag, extent, fua, sgl),
            Op::Flush => self.submit_flush(tag),
            Op::Unmap(extent) => self.submit_zero(tag, op, extent),
            Op::WriteZeroes { extent, .. } => self.submit_zero(tag, op, extent),
            Op::BlockStatus(extent) => Some(Done { tag, status: self.block_status(extent), sgl }),
            Op::Compare(_) | Op::CompareAndWrite { .. } | Op::OrWrite { .. } => {
                unreachable!("the volume builds these from reads and writes")
            }
        }
    }
}

/// The device under the file went away.
fn is_gone(errno: i32) -> bool {
    [Errno::ENODEV, Errno::ENXIO, Errno::ESHUTDOWN, Errno::EBADF].map(|gone| gone as i32).contains(&errno)
}

fn write_status(errno: i32, extent: Extent) -> IoStatus {
    if errno == Errno::ENOSPC as i32 || errno == Errno::EDQUOT as i32 {
        IoStatus::NoSpace
    } else if is_gone(errno) {
        IoStatus::Gone
    } else {
        IoStatus::WriteError { lba: extent.lba }
    }
}
