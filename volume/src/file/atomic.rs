//! Atomic writes, one at a time, by way of the journal. What is promised, and why it holds, is told in [`crate::journal`].
//!
//! ```text
//!           ┌──────────────────────────────────────────────────────────────┐
//! Idle ─▶ Allocating ─▶ Entering ──durable──▶ InPlace ──durable──▶ Idle, guarded
//!                          └─no space─┐           └─failed─▶ torn: nothing is written any more
//! Idle, guarded ──in the way──▶ Zeroing ─▶ Syncing ──durable──▶ Idle
//! ```
//!
//! *Guarded* are the blocks that recovery would write again. Who wants to change one of them, or flushes, is held back, which has the
//! entry zeroed as soon as no atomic write is under way; the next entry that becomes durable ends the guard as well.

use std::collections::VecDeque;

use nix::errno::Errno;
use reactor::buffer::Sgl;
use reactor::file::{File, FileDone, FileOp};

use super::{FileChannel, write_status};
use crate::bdev::{Done, Extent, Io, IoStatus, Op};
use crate::journal::{ENTRY_OFFSET_BYTES, Entry, RECORD_BYTES, crc_of};
use crate::limits::{FILE_ATOMIC_WRITE_BLOCKS, PAGE_BYTES, SECTOR_BYTES};

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing.
    Idle,
    /// The space of this write is being taken.
    Allocating(u32),
    /// The entry of this write is on its way to the medium.
    Entering(u32),
    /// This write is on its way to its place.
    InPlace(u32),
    /// Zeros are written over the entry.
    Zeroing {
        /// So far.
        done_bytes: u64,
        /// A piece is with the file; else there was no buffer of zeros.
        is_out: bool,
    },
    /// The zeros are on their way to the medium.
    Syncing,
}

/// The journal of a file on its core.
pub(super) struct Atomic {
    file: Box<dyn File>,
    stage: Stage,
    /// The page before the data; empty while the file has it.
    header: Sgl,
    sequence: u64,
    /// Bytes from the entry on that may not be zeros.
    used_bytes: u64,
    /// Writes that wait for the journal, oldest first.
    waiting: VecDeque<u32>,
    /// I/Os that wait for the end of the guard, oldest first.
    held: VecDeque<Io>,
    /// The write whose entry had no space: answered when what there is of the entry is gone.
    refused: Option<u32>,
    /// An operation that the file had no room for.
    unsent: Option<FileOp>,
    /// The file system can take space.
    allocates: bool,
    /// Blocks of a write that failed in place.
    torn: Option<Extent>,
    file_done: Vec<FileDone>,
}

impl Atomic {
    /// Gives the file an operation now or at a later turn; there is never more than one.
    fn send(&mut self, op: FileOp) {
        self.unsent = self.file.submit(0, op).err();
    }
}

/// True for an I/O that may not pass while `guarded` is in the journal, or that looks at blocks which may be torn.
pub(super) fn concerns(op: &Op, guarded: Extent) -> bool {
    match op {
        Op::Flush => true,
        Op::BlockStatus(_) => false,
        op => op.extent().is_some_and(|extent| extent.overlaps(guarded)),
    }
}

/// The shortest run that covers both.
fn hull(guarded: Option<Extent>, extent: Extent) -> Extent {
    let Some(guarded) = guarded else { return extent };
    let lba = guarded.lba.min(extent.lba);
    Extent { lba, length_blocks: guarded.end().max(extent.end()) - lba }
}

impl FileChannel {
    /// The channel with atomic writes, by way of a journal without an entry.
    #[must_use]
    pub fn with_journal(mut self, journal: Box<dyn File>) -> Self {
        self.info.atomic_write_blocks = FILE_ATOMIC_WRITE_BLOCKS;
        self.atomic = Some(Box::new(Atomic {
            file: journal,
            stage: Stage::Idle,
            // Through the page cache it needs no aligned memory.
            header: Sgl::from_slice_heap(&[0; PAGE_BYTES as usize]),
            sequence: 0,
            used_bytes: 0,
            waiting: VecDeque::new(),
            held: VecDeque::new(),
            refused: None,
            unsent: None,
            allocates: true,
            torn: None,
            file_done: Vec::new(),
        }));
        self
    }

    fn atomic(&mut self) -> &mut Atomic {
        self.atomic.as_mut().expect("only a file with a journal writes atomically")
    }

    /// I/Os that were submitted and have no slot yet.
    pub(super) fn held_back(&self) -> usize {
        self.atomic.as_ref().map_or(0, |atomic| atomic.held.len())
    }

    /// An I/O that [`concerns`] the guarded blocks.
    #[cold]
    pub(super) fn submit_guarded(&mut self, io: Io) -> Option<Done> {
        let torn = self.atomic().torn.filter(|torn| concerns(&io.op, *torn));
        let is_journaled = matches!(io.op, Op::AtomicWrite { extent, .. } if !self.is_one_sector(extent));
        match io.op {
            Op::Read(extent) => match torn {
                Some(torn) => {
                    let lba = torn.lba.max(extent.lba);
                    Some(Done { tag: io.tag, status: IoStatus::ReadError { lba }, sgl: io.sgl })
                }
                None => self.submit_unguarded(io),
            },
            // Its own entry takes the place of the one that guards.
            _ if is_journaled || self.sync.has_failed() => self.submit_unguarded(io),
            op if op.extent().is_some_and(|extent| extent.length_blocks == 0) => self.submit_unguarded(io),
            _ => {
                self.atomic().held.push_back(io);
                self.drive_atomic();
                None
            }
        }
    }

    /// What a disk writes whole in any case.
    fn is_one_sector(&self, extent: Extent) -> bool {
        self.bytes_of(extent).1 <= SECTOR_BYTES
    }

    pub(super) fn submit_atomic(&mut self, tag: u64, extent: Extent, fua: bool, sgl: Sgl) -> Option<Done> {
        let longest = u64::from(self.info.atomic_write_blocks);
        assert!(extent.length_blocks <= longest, "a longer atomic write than was offered");
        // Without a journal no more was offered than what every write does.
        if self.is_one_sector(extent) || self.atomic.is_none() {
            return self.submit_write(tag, extent, fua, sgl);
        }
        if self.sync.has_failed() {
            return Some(Done { tag, status: IoStatus::Gone, sgl });
        }
        let id = self.hold(tag, Op::AtomicWrite { extent, fua });
        self.slot(id).sgl = sgl;
        self.atomic().waiting.push_back(id);
        self.drive_atomic();
        None
    }

    pub(super) fn poll_atomic(&mut self) {
        let Some(atomic) = &mut self.atomic else { return };
        if let Some(op) = atomic.unsent.take() {
            atomic.send(op);
        }
        if atomic.file.in_flight() > 0 {
            let mut file_done = std::mem::take(&mut atomic.file_done);
            atomic.file.poll(&mut file_done);
            for done in file_done.drain(..) {
                self.on_journal_done(done);
            }
            self.atomic().file_done = file_done;
        }
        self.drive_atomic();
    }

    /// Starts what comes next: an entry that is in the way goes before another one comes.
    fn drive_atomic(&mut self) {
        loop {
            let guarded = self.guarded.is_some();
            let has_failed = self.sync.has_failed();
            let atomic = self.atomic();
            match atomic.stage {
                Stage::Zeroing { done_bytes, is_out: false } => return self.write_zeros(done_bytes),
                Stage::Idle if !atomic.held.is_empty() && guarded && !has_failed => {
                    atomic.stage = Stage::Zeroing { done_bytes: 0, is_out: false };
                }
                // Nothing is written any more, so there is nothing to wait for.
                Stage::Idle if !atomic.held.is_empty() => self.release_held(),
                Stage::Idle => {
                    let Some(id) = atomic.waiting.pop_front() else { return };
                    self.begin_atomic(id);
                }
                _ => return,
            }
        }
    }

    fn begin_atomic(&mut self, id: u32) {
        if self.sync.has_failed() {
            return self.finish(id, IoStatus::Gone);
        }
        let extent = self.slot(id).op.extent().expect("a write names blocks");
        let (offset_bytes, length_bytes) = self.bytes_of(extent);
        self.note_written(offset_bytes, length_bytes);
        if !self.atomic().allocates {
            return self.enter(id, extent);
        }
        self.atomic().stage = Stage::Allocating(id);
        self.send(u64::from(id), FileOp::Allocate { offset_bytes, length_bytes });
    }

    /// Writes the entry.
    fn enter(&mut self, id: u32, extent: Extent) {
        let uuid = self.info.uuid;
        let data = std::mem::take(&mut self.slot(id).sgl);
        let atomic = self.atomic();
        atomic.stage = Stage::Entering(id);
        atomic.sequence += 1;
        let entry = Entry { sequence: atomic.sequence, extent, data_crc: crc_of(&data) };
        let mut sgl = std::mem::take(&mut atomic.header);
        debug_assert!(sgl.len() as u64 == PAGE_BYTES && entry.encode(uuid).len() == RECORD_BYTES);
        sgl.copy_in(0, &entry.encode(uuid));
        sgl.append(data);
        atomic.used_bytes = atomic.used_bytes.max(sgl.len() as u64);
        atomic.send(FileOp::Write { offset_bytes: ENTRY_OFFSET_BYTES, sgl, durable: true });
    }

    fn on_journal_done(&mut self, done: FileDone) {
        match self.atomic().stage {
            Stage::Entering(id) => self.on_entered(id, done),
            Stage::Zeroing { done_bytes, .. } => {
                let done_bytes = done_bytes + done.sgl.len() as u64;
                self.keep_zeros(done.sgl);
                match done.result {
                    Ok(()) => self.atomic().stage = Stage::Zeroing { done_bytes, is_out: false },
                    Err(errno) => self.end_zeroing(Err(errno)),
                }
            }
            Stage::Syncing => self.end_zeroing(done.result),
            Stage::Idle | Stage::Allocating(_) | Stage::InPlace(_) => {
                unreachable!("nothing is under way in the journal")
            }
        }
    }

    fn on_entered(&mut self, id: u32, FileDone { result, mut sgl, .. }: FileDone) {
        self.atomic().header = sgl.take_front(PAGE_BYTES as usize);
        let extent = self.slot(id).op.extent().expect("a write names blocks");
        if let Err(errno) = result {
            self.slot(id).sgl = sgl;
            return self.on_not_entered(id, extent, write_status(errno, extent));
        }
        // It has taken the place of the entry before: whoever waited for the end of that goes on.
        self.guarded = Some(extent);
        self.atomic().stage = Stage::InPlace(id);
        let (offset_bytes, _) = self.bytes_of(extent);
        let durable = self.is_direct();
        self.send(u64::from(id), FileOp::Write { offset_bytes, sgl, durable });
        self.release_held();
    }

    /// Nothing was written in place, but either entry may be found.
    fn on_not_entered(&mut self, id: u32, extent: Extent, status: IoStatus) {
        self.guarded = Some(hull(self.guarded, extent));
        if status == IoStatus::NoSpace && !self.sync.has_failed() {
            self.atomic().refused = Some(id);
            self.atomic().stage = Stage::Zeroing { done_bytes: 0, is_out: false };
            return;
        }
        self.atomic().stage = Stage::Idle;
        self.sync.fail();
        self.finish(id, status);
        self.release_held();
    }

    /// The data file has done its part of an atomic write.
    pub(super) fn on_atomic_done(&mut self, id: u32, extent: Extent, done: FileDone) {
        if self.atomic().stage == Stage::Allocating(id) {
            return self.on_allocated(id, extent, done.result);
        }
        self.slot(id).sgl = done.sgl;
        match done.result {
            Ok(()) if self.is_direct() => self.end_in_place(id, extent, IoStatus::Good),
            Ok(()) => {
                self.sync.note_dirty();
                self.join_sync(id);
            }
            Err(errno) => self.end_in_place(id, extent, write_status(errno, extent)),
        }
    }

    fn on_allocated(&mut self, id: u32, extent: Extent, result: Result<(), i32>) {
        let unknown = [Errno::EOPNOTSUPP, Errno::ENOSYS, Errno::ENOTTY].map(|no| no as i32);
        match result {
            Err(errno) if unknown.contains(&errno) => self.atomic().allocates = false,
            Err(errno) => {
                self.atomic().stage = Stage::Idle;
                return self.finish(id, write_status(errno, extent));
            }
            Ok(()) => {}
        }
        self.enter(id, extent);
    }

    /// The blocks are durable in place, or will not be.
    pub(super) fn end_in_place(&mut self, id: u32, extent: Extent, status: IoStatus) {
        self.atomic().stage = Stage::Idle;
        if status != IoStatus::Good {
            self.atomic().torn = Some(extent);
            self.sync.fail();
            self.release_held();
        }
        // Running out of space here is no answer that leaves the blocks as they were.
        let status =
            if status == IoStatus::NoSpace { IoStatus::WriteError { lba: extent.lba } } else { status };
        self.finish(id, status);
    }

    /// The next zeros over the entry, or the sync after the last.
    fn write_zeros(&mut self, done_bytes: u64) {
        let left = self.atomic().used_bytes - done_bytes;
        if left == 0 {
            self.atomic().stage = Stage::Syncing;
            return self.atomic().send(FileOp::Sync);
        }
        let Some(zeros) = self.take_zeros() else { return };
        let bytes = left.min(zeros.len() as u64);
        self.atomic().stage = Stage::Zeroing { done_bytes, is_out: true };
        let (offset_bytes, sgl) = (ENTRY_OFFSET_BYTES + done_bytes, zeros.with_len(bytes as usize));
        self.atomic().send(FileOp::Write { offset_bytes, sgl, durable: false });
    }

    fn end_zeroing(&mut self, result: Result<(), i32>) {
        let refused = self.atomic().refused.take();
        self.atomic().stage = Stage::Idle;
        if result.is_err() {
            self.sync.fail();
        } else {
            self.guarded = None;
            self.atomic().used_bytes = 0;
        }
        if let Some(id) = refused {
            let lba = self.slot(id).op.extent().map_or(0, |extent| extent.lba);
            // What there is of its entry may be whole, and then the next open completes it.
            let status = if result.is_err() { IoStatus::WriteError { lba } } else { IoStatus::NoSpace };
            self.finish(id, status);
        }
        self.release_held();
    }

    /// Submits again what was held back; what still has to wait is held again.
    fn release_held(&mut self) {
        for io in std::mem::take(&mut self.atomic().held) {
            let done = match self.guarded.filter(|guarded| concerns(&io.op, *guarded)) {
                Some(_) if !self.sync.has_failed() => {
                    self.atomic().held.push_back(io);
                    None
                }
                _ => self.submit_unguarded(io),
            };
            self.done.extend(done);
        }
    }
}
