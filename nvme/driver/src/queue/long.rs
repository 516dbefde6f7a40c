//! I/Os that are more than one command: longer than a transfer, across a boundary, or of two steps.
//!
//! The list is lent once, and its pieces go out as slots become free. The first failure, by place, is the I/O's; after one
//! nothing more is asked for. Buffers go back when the last piece is over.

use reactor::buffer::{LentSgl, Sgl};
use reactor::time::Time;

use super::{QueuePair, Stage};
use crate::device::Device;
use crate::error::Outcome;
use crate::limits::LONG_PIECES_MAX;
use crate::request::{IoDone, Plan};

#[derive(Debug)]
pub(super) struct Long {
    tag: u64,
    namespace: u16,
    plan: Plan,
    pub(super) lent: Option<LentSgl>,
    lba: u64,
    blocks: u64,
    /// Blocks that were asked for.
    asked_blocks: u64,
    /// Commands that are not over.
    open: u32,
    outcome: Outcome,
    /// It is in the queue of those with blocks left to ask for.
    queued: bool,
}

impl Long {
    #[cold]
    pub(super) fn new(tag: u64, namespace: u16, plan: Plan, lent: LentSgl, lba: u64, blocks: u64) -> Self {
        Self {
            tag,
            namespace,
            plan,
            lent: Some(lent),
            lba,
            blocks,
            asked_blocks: 0,
            open: 0,
            outcome: Outcome::Success,
            queued: true,
        }
    }

    /// The first of its blocks, whose data is the first of its list.
    pub(super) fn lba(&self) -> u64 {
        self.lba
    }

    fn has_more(&self) -> bool {
        self.outcome == Outcome::Success && self.asked_blocks < self.blocks
    }
}

impl<D: Device> QueuePair<D> {
    #[cold]
    #[inline(never)]
    pub(super) fn submit_long(&mut self, now: Time, long: Long) {
        self.stats.long.add(1);
        let key = self.free_longs.pop().expect("the caller has looked for room");
        self.longs[usize::from(key)] = Some(long);
        self.long_queue.push_back(key);
        self.pump_longs(now);
    }

    fn long(&mut self, key: u16) -> &mut Long {
        self.longs[usize::from(key)].as_mut().expect("a long request lives until its last piece is over")
    }

    /// The last quarter of the slots is for reads, writes and flushes, however many long requests there are.
    pub(super) fn has_room_for_pieces(&self) -> bool {
        let count = self.slots.count();
        self.slots.room() > 0 && self.pieces < count - count / 4
    }

    /// Asks for pieces, of each request in turn, as long as there are slots.
    pub(super) fn pump_longs(&mut self, now: Time) {
        let mut full_in_a_row = 0;
        while self.has_room_for_pieces()
            && full_in_a_row < self.long_queue.len()
            && let Some(key) = self.long_queue.pop_front()
        {
            let long = self.long(key);
            if !long.has_more() {
                long.queued = false;
                continue;
            }
            if long.open < LONG_PIECES_MAX {
                self.issue_piece(now, key);
                full_in_a_row = 0;
            } else {
                full_in_a_row += 1;
            }
            self.long_queue.push_back(key);
        }
    }

    fn issue_piece(&mut self, now: Time, key: u16) {
        let index = self.slots.take();
        self.pieces += 1;
        let long = self.longs[usize::from(key)].as_mut().expect("it is in the queue");
        let lba = long.lba + long.asked_blocks;
        let blocks = long.plan.first_blocks(lba, long.blocks - long.asked_blocks, 0);
        let slot = self.slots.get(index);
        (slot.tag, slot.namespace, slot.long) = (long.tag, long.namespace, key);
        slot.set_run(&long.plan, lba, blocks);
        slot.lent = None;
        long.asked_blocks += u64::from(blocks);
        long.open += 1;
        self.issue(now, index);
    }

    #[cold]
    #[inline(never)]
    pub(super) fn finish_piece(
        &mut self,
        key: u16,
        blocks: u32,
        outcome: Outcome,
        take_back: impl FnOnce(LentSgl) -> Sgl,
        out: &mut Vec<IoDone>,
    ) {
        debug_assert!(blocks > 0);
        self.pieces -= 1;
        let long = self.long(key);
        long.open -= 1;
        if comes_before(outcome, long.outcome) {
            long.outcome = outcome;
        }
        self.settle_long(key, take_back, out);
    }

    /// Ends a long request that has nothing open and nothing left to ask for.
    fn settle_long(&mut self, key: u16, take_back: impl FnOnce(LentSgl) -> Sgl, out: &mut Vec<IoDone>) {
        let long = self.long(key);
        if long.open > 0 || long.has_more() {
            return;
        }
        if long.outcome == Outcome::Success && long.plan.then_deallocate {
            let namespace = usize::from(long.namespace);
            let info = *self.attached[namespace].namespace.info();
            let long = self.long(key);
            long.plan = long.plan.deallocation(&info);
            long.asked_blocks = 0;
            if !std::mem::replace(&mut long.queued, true) {
                self.long_queue.push_back(key);
            }
            return;
        }
        let long = self.longs[usize::from(key)].take().expect("looked at above");
        if long.queued {
            self.long_queue.retain(|other| *other != key);
        }
        self.free_longs.push(key);
        let sgl = long.lent.map_or_else(Sgl::empty, take_back);
        let Long { tag, namespace, outcome, plan: Plan { opcode, .. }, .. } = long;
        self.answer(IoDone { tag, namespace, opcode, outcome, sgl }, out);
    }

    /// Ends every long request that waits only for blocks to be asked for: the controller is gone, or its namespace is.
    pub(super) fn end_longs(
        &mut self,
        is_over: impl Fn(&Self, u16) -> bool,
        take_back: fn(LentSgl) -> Sgl,
        out: &mut Vec<IoDone>,
    ) {
        debug_assert!(self.stage != Stage::Live || self.pending.is_empty());
        for key in 0..self.longs.len() as u16 {
            let Some(long) = &self.longs[usize::from(key)] else { continue };
            if !is_over(self, long.namespace) {
                continue;
            }
            let long = self.long(key);
            long.outcome = Outcome::Gone;
            self.settle_long(key, take_back, out);
        }
    }
}

/// Of two ends of pieces the worse is told, and of two failures the one at the lower block.
fn comes_before(outcome: Outcome, other: Outcome) -> bool {
    let rank = |outcome| match outcome {
        Outcome::Gone => (0, 0),
        Outcome::Failed { lba, .. } | Outcome::Unanswered { lba } => (1, lba),
        Outcome::Success => (2, 0),
    };
    rank(outcome) < rank(other)
}
