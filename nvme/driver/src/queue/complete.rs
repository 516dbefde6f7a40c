//! Completions: whose they are, and what becomes of a command that failed or did not end.

use nvme_spec::{NvmOpcode, Status};
use reactor::buffer::{LentSgl, Sgl};
use reactor::time::Time;

use super::slots::{Found, State, WHOLE};
use super::{QueuePair, Stage};
use crate::device::Device;
use crate::error::Outcome;
use crate::limits::{ATTEMPTS_MAX, DEADLINE_SCAN_MS, PROBES_MAX, SPURIOUS_MAX};
use crate::link::Complaint;
use crate::request::IoDone;
use crate::ring::Answered;
use crate::stats::QueueStats;

/// Commands in a row that were issued in the same turn and end in the same turn: they are counted together.
struct Alike {
    issued_at: Time,
    times: u64,
}

impl Alike {
    #[inline]
    fn add(&mut self, now: Time, issued_at: Time, stats: &QueueStats) {
        if issued_at != self.issued_at {
            self.count(now, stats);
            self.issued_at = issued_at;
        }
        self.times += 1;
    }

    fn count(&mut self, now: Time, stats: &QueueStats) {
        let times = std::mem::take(&mut self.times);
        if times > 0 {
            stats.completed.add(times);
            stats.latency.record_many(now.ns_since(self.issued_at), times);
        }
    }
}

impl<D: Device> QueuePair<D> {
    /// Takes what has completed; how much that was.
    #[inline]
    pub(super) fn reap(&mut self, now: Time, budget: usize, out: &mut Vec<IoDone>) -> usize {
        if !self.stage.may_reap() {
            return 0;
        }
        let mut taken = 0;
        let before = self.cq.head();
        let mut alike = Alike { issued_at: now, times: 0 };
        while taken < budget
            && let Some(answer) = self.cq.pop_answer()
        {
            self.on_completion(now, answer, &mut alike, out);
            taken += 1;
        }
        if taken > 0 {
            alike.count(now, &self.stats);
            self.ring_completions(before);
        }
        taken
    }

    #[inline]
    fn on_completion(&mut self, now: Time, answer: Answered, alike: &mut Alike, out: &mut Vec<IoDone>) {
        if answer.sqid != self.qid || answer.sqhd >= self.ticket.entries {
            return self.on_impossible();
        }
        let index = match self.slots.find(answer.cid) {
            Found::Command(index) => index,
            found => return self.on_spurious(found),
        };
        let slot = self.slots.get(index);
        alike.add(now, slot.issued_at, &self.stats);
        // All at once: a whole I/O, and all of its blocks.
        let is_plain = slot.long == WHOLE && slot.window_blocks == slot.blocks && slot.lent.is_some();
        if !is_plain || !answer.status().is_success() {
            return self.on_other(now, index, answer.status(), out);
        }
        let (tag, namespace, opcode) = (slot.tag, slot.namespace, slot.opcode);
        let sgl = LentSgl::reclaim_from(&mut slot.lent).expect("looked at above");
        out.push(IoDone { tag, namespace, opcode, outcome: Outcome::Success, sgl });
        self.slots.release(index);
    }

    /// The end of a command that is no whole read or write, or did not do what it should.
    #[cold]
    #[inline(never)]
    fn on_other(&mut self, now: Time, index: u16, status: Status, out: &mut Vec<IoDone>) {
        let slot = self.slots.get(index);
        if !status.is_success() {
            self.on_failure(now, index, status, out);
        } else if slot.good_blocks + slot.window_blocks != slot.blocks {
            self.on_probe_success(now, index);
        } else {
            self.finish(index, Outcome::Success, out);
        }
    }

    /// A completion that no command of ours can have: the controller's or our memory is not what it should be.
    #[cold]
    fn on_impossible(&mut self) {
        self.stats.unknown.add(1);
        self.complain(Complaint::InvalidCompletion);
    }

    #[cold]
    fn on_spurious(&mut self, found: Found) {
        match found {
            Found::Duplicate => self.stats.duplicate.add(1),
            Found::Stale => self.stats.stale.add(1),
            Found::Unknown | Found::Command(_) => return self.on_impossible(),
        }
        self.spurious += 1;
        if self.spurious >= SPURIOUS_MAX {
            self.complain(Complaint::Spurious);
        }
    }

    pub(super) fn complain(&self, complaint: Complaint) {
        if self.stage == Stage::Live {
            self.ticket.link.cell(self.ticket.index).complain(self.word.epoch, complaint);
            self.ticket.link.call();
        }
    }

    fn on_failure(&mut self, now: Time, index: u16, status: Status, out: &mut Vec<IoDone>) {
        let slot = self.slots.get(index);
        let aborted = slot.state == State::Aborting;
        let again = is_worth_retrying(status) && slot.attempts < ATTEMPTS_MAX && !(aborted && slot.resent);
        slot.resent |= again && aborted;
        if again && self.stage == Stage::Live {
            slot.attempts += 1;
            self.stats.retries.add(1);
            return self.issue(now, index);
        }
        if again && self.stage == Stage::Stopping {
            // It goes out with what is not answered.
            slot.attempts += 1;
            slot.resent = true;
            slot.state = State::Pending;
            return self.pending.push(index);
        }
        if is_unreadable(status) && self.probe(now, index) {
            return;
        }
        let slot = self.slots.get(index);
        let lba = slot.window_lba();
        self.finish(index, Outcome::Failed { status, lba }, out);
    }

    /// A read of several blocks met one that cannot be read: tries the first half of those under suspicion. False when there
    /// is nothing left to halve.
    #[inline(never)]
    fn probe(&mut self, now: Time, index: u16) -> bool {
        let slot = self.slots.get(index);
        let reads = matches!(slot.opcode, NvmOpcode::READ | NvmOpcode::VERIFY | NvmOpcode::COMPARE);
        if !reads || slot.window_blocks <= 1 || slot.probes == PROBES_MAX || self.stage != Stage::Live {
            return false;
        }
        slot.probes += 1;
        slot.suspect_blocks = slot.window_blocks;
        slot.window_blocks /= 2;
        self.stats.probes.add(1);
        self.issue(now, index);
        true
    }

    /// The first half can be read, so the block is in the second; and when that can be read after all, so can the rest, perhaps.
    fn on_probe_success(&mut self, now: Time, index: u16) {
        let slot = self.slots.get(index);
        slot.good_blocks += slot.window_blocks;
        slot.suspect_blocks = slot.suspect_blocks.saturating_sub(slot.window_blocks);
        let left = slot.blocks - slot.good_blocks;
        slot.window_blocks = if slot.suspect_blocks == 0 { left } else { slot.suspect_blocks.min(left) };
        if self.stage == Stage::Live {
            self.stats.probes.add(1);
            self.issue(now, index);
        } else {
            self.slots.get(index).state = State::Pending;
            self.pending.push(index);
        }
    }

    /// A command is over: its slot is free, and its buffers are the caller's again.
    pub(super) fn finish(&mut self, index: u16, outcome: Outcome, out: &mut Vec<IoDone>) {
        self.finish_with(index, outcome, LentSgl::reclaim, out);
    }

    /// As [`QueuePair::finish`]; `take_back` says what becomes of its buffers.
    pub(super) fn finish_with(
        &mut self,
        index: u16,
        outcome: Outcome,
        take_back: impl FnOnce(LentSgl) -> Sgl,
        out: &mut Vec<IoDone>,
    ) {
        let slot = self.slots.get(index);
        if slot.long != WHOLE {
            let (long, blocks) = (slot.long, slot.blocks);
            self.slots.release(index);
            return self.finish_piece(long, blocks, outcome, take_back, out);
        }
        let (tag, namespace, opcode) = (slot.tag, slot.namespace, slot.opcode);
        let sgl = slot.lent.take().map_or_else(Sgl::empty, take_back);
        self.slots.release(index);
        self.answer(IoDone { tag, namespace, opcode, outcome, sgl }, out);
    }

    pub(super) fn answer(&mut self, done: IoDone, out: &mut Vec<IoDone>) {
        if done.outcome != Outcome::Success {
            self.stats.failed.add(1);
        }
        out.push(done);
    }

    /// Looks for commands that are late: the abort of the first is asked for, and one that is still here after that is reason
    /// to reset the controller.
    #[cold]
    pub(super) fn scan(&mut self, now: Time, out: &mut Vec<IoDone>) {
        self.scan_at = now.after(std::time::Duration::from_millis(DEADLINE_SCAN_MS));
        if self.stage != Stage::Live {
            return;
        }
        let timeouts = self.ticket.timeouts;
        for index in 0..self.slots.count() {
            let slot = self.slots.get(index);
            let late_at = slot.issued_at.after(timeouts.io);
            if !slot.state.is_in_flight() || now < late_at {
                continue;
            }
            if now >= late_at.after(timeouts.abort) {
                return self.complain(Complaint::AbortTimeout);
            }
            if slot.state == State::InFlight {
                self.ask_abort(index, out);
            }
        }
    }

    fn ask_abort(&mut self, index: u16, out: &mut Vec<IoDone>) {
        let cid = self.slots.cid(index);
        if !self.ticket.link.cell(self.ticket.index).ask_abort(cid) {
            return;
        }
        self.ticket.link.call();
        self.slots.get(index).state = State::Aborting;
        self.stats.timeouts.add(1);
        self.stats.aborts.add(1);
        let bugs = self.ticket.bugs;
        if bugs.reuses_cid() || bugs.reclaims_early() {
            self.give_up_too_early(index, out);
        }
    }

    /// What a driver does that takes an abort for an end. Only with a bug made on purpose.
    fn give_up_too_early(&mut self, index: u16, out: &mut Vec<IoDone>) {
        let slot = self.slots.get(index);
        if slot.long != WHOLE {
            return;
        }
        let (tag, namespace, opcode, lba) = (slot.tag, slot.namespace, slot.opcode, slot.lba);
        let lent = slot.lent.take();
        let outcome = Outcome::Unanswered { lba };
        let sgl = if self.ticket.bugs.reclaims_early() {
            // The slot stays in flight, without an owner.
            lent.map_or_else(Sgl::empty, LentSgl::reclaim)
        } else {
            // Dropped without being taken back: never handed out again.
            let _ = lent;
            self.slots.release(index);
            Sgl::empty()
        };
        self.answer(IoDone { tag, namespace, opcode, outcome, sgl }, out);
    }
}

/// The controller did nothing, and may do it when it is asked again.
fn is_worth_retrying(status: Status) -> bool {
    let again = [
        Status::COMMAND_INTERRUPTED,
        Status::NAMESPACE_NOT_READY,
        Status::TRANSIENT_TRANSPORT_ERROR,
        Status::ABORT_REQUESTED,
        Status::ABORTED_SQ_DELETION,
        Status::ABORTED_BY_HOST,
    ];
    !status.dnr() && again.contains(&status.code())
}

/// One block of those that were named cannot be read.
fn is_unreadable(status: Status) -> bool {
    [Status::UNRECOVERED_READ_ERROR, Status::DEALLOCATED_OR_UNWRITTEN_LOGICAL_BLOCK].contains(&status.code())
}
