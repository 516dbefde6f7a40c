//! One sync for many: flushes, and writes that must be durable, ask for a sync together.
//!
//! ```text
//!            ┌── nothing dirty, no sync ──▶ answered
//! a flush ───┼── nothing dirty, a sync runs ──▶ the running group: it began after all that was written
//!            └── dirty ──▶ the waiting group: the next sync, begun when the running one ends
//! ```

use super::{FileChannel, FileOp, SYNC_TAG};
use crate::bdev::{Done, IoStatus, Op};
use reactor::buffer::Sgl;

/// Who waits for which sync, and whether there is anything to sync.
#[derive(Debug)]
pub(super) struct SyncGroups {
    /// Something completed that no sync begun later covers. True at first: an earlier process may
    /// have left data in the page cache that it acknowledged.
    dirty: bool,
    /// A sync or a durable write failed. For good.
    failed: bool,
    is_running: bool,
    running: Vec<u32>,
    waiting: Vec<u32>,
}

impl SyncGroups {
    pub(super) fn new() -> Self {
        Self { dirty: true, failed: false, is_running: false, running: Vec::new(), waiting: Vec::new() }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    pub(super) fn fail(&mut self) {
        self.failed = true;
    }

    /// Something reached the file without being durable.
    pub(super) fn note_dirty(&mut self) {
        self.dirty = true;
    }
}

impl FileChannel {
    pub(super) fn submit_flush(&mut self, tag: u64) -> Option<Done> {
        let answer = |status| Some(Done { tag, status, sgl: Sgl::empty() });
        if self.sync.failed {
            return answer(IoStatus::Gone);
        }
        if !self.sync.dirty && !self.sync.is_running {
            return answer(IoStatus::Good);
        }
        let id = self.hold(tag, Op::Flush);
        if self.sync.dirty {
            self.join_sync(id);
        } else {
            self.sync.running.push(id);
        }
        None
    }

    /// Answers `id` after a sync that begins from now on.
    pub(super) fn join_sync(&mut self, id: u32) {
        self.sync.waiting.push(id);
        if !self.sync.is_running {
            self.begin_sync();
        }
    }

    fn begin_sync(&mut self) {
        let sync = &mut self.sync;
        debug_assert!(sync.running.is_empty(), "a sync ended with everyone answered");
        std::mem::swap(&mut sync.running, &mut sync.waiting);
        sync.is_running = true;
        sync.dirty = false;
        self.send(SYNC_TAG, FileOp::Sync);
    }

    pub(super) fn on_sync_done(&mut self, result: Result<(), i32>) {
        self.sync.is_running = false;
        let status = if result.is_err() {
            self.sync.failed = true;
            IoStatus::WriteError { lba: 0 }
        } else if self.sync.failed {
            // A durable write failed while this sync ran; what it says cannot be believed.
            IoStatus::Gone
        } else {
            IoStatus::Good
        };
        self.answer_group(status, false);
        if self.sync.failed {
            self.answer_group(IoStatus::Gone, true);
        } else if !self.sync.waiting.is_empty() {
            self.begin_sync();
        }
    }

    fn answer_group(&mut self, status: IoStatus, waiting: bool) {
        let group = if waiting { &mut self.sync.waiting } else { &mut self.sync.running };
        let mut ids = std::mem::take(group);
        for id in ids.drain(..) {
            let op = self.slot(id).op;
            let extent = op.extent();
            let status = match (status, extent) {
                (IoStatus::WriteError { .. }, Some(extent)) => IoStatus::WriteError { lba: extent.lba },
                (status, _) => status,
            };
            match (op, extent) {
                (Op::AtomicWrite { .. }, Some(extent)) => self.end_in_place(id, extent, status),
                _ => self.finish(id, status),
            }
        }
        *(if waiting { &mut self.sync.waiting } else { &mut self.sync.running }) = ids;
    }
}
