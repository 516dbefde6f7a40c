//! Following the controller through resets: when to stop, when to take buffers back, when to go on.
//!
//! ```text
//! Asked ──granted, Running──▶ Live ──Stopping──▶ Stopping ──Quiet──▶ Asked …
//!   └──────refused──────▶ Dead ◀──Gone, Lost── (any)        Dead ──a later Quiet──▶ Asked
//! ```

use std::time::Duration;

use reactor::buffer::{LentSgl, Sgl};
use reactor::poller::Progress;
use reactor::time::Time;

use super::QueuePair;
use super::slots::State;
use crate::device::Device;
use crate::error::Outcome;
use crate::limits::DEADLINE_SCAN_MS;
use crate::link::{QueueRequest, Standing, Word};
use crate::request::IoDone;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not asked for yet.
    Stopped,
    /// The controller was asked to create the queue.
    Asked,
    Live,
    /// The controller is about to be disabled. What still completes is taken; nothing is submitted.
    Stopping,
    /// The controller is gone, or gave no queue.
    Dead,
}

impl Stage {
    #[inline]
    pub(super) fn may_reap(self) -> bool {
        matches!(self, Self::Live | Self::Stopping)
    }
}

/// Never hands the buffers out again.
fn leak(lent: LentSgl) -> Sgl {
    drop(lent);
    Sgl::empty()
}

impl<D: Device> QueuePair<D> {
    /// Empties the rings and asks for the queue in the present epoch.
    pub(super) fn request_queue(&mut self) {
        self.sq.reset();
        self.cq.reset();
        self.spurious = 0;
        self.stage = Stage::Asked;
        self.ticket.link.cell(self.ticket.index).request(QueueRequest {
            epoch: self.word.epoch,
            sq_iova: self.sq_iova,
            cq_iova: self.cq_iova,
            entries: self.ticket.entries,
            vector: self.ticket.vector,
        });
        self.ticket.link.call();
    }

    /// The end of this queue pair: it asks for nothing any more. True when the controller touches no memory of it, and will not.
    pub(super) fn withdraw(&mut self) -> bool {
        let word = self.ticket.link.withdraw(self.ticket.index);
        match word.standing {
            Standing::Quiet | Standing::Gone => true,
            Standing::Running => word.epoch != self.word.epoch,
            Standing::Stopping | Standing::Lost => false,
        }
    }

    #[cold]
    pub(super) fn follow(&mut self, now: Time, word: Word, out: &mut Vec<IoDone>) -> Progress {
        if word == self.word {
            return self.await_grant(now, word, out);
        }
        let is_later = word.epoch != self.word.epoch;
        match word.standing {
            Standing::Stopping => {
                if self.stage.may_reap() {
                    self.stage = Stage::Stopping;
                }
                self.ticket.link.cell(self.ticket.index).let_go(word.epoch);
                // Which epoch our rings belong to is still to be remembered: it ends when the controller is quiet.
                return Progress::Busy;
            }
            // Disabled in between, whether we saw it or not.
            Standing::Quiet | Standing::Running if is_later || self.stage == Stage::Dead => {
                self.on_quiet(now, word, out);
            }
            Standing::Gone => self.on_gone(now, word, LentSgl::reclaim, out),
            Standing::Lost => self.on_gone(now, word, leak, out),
            Standing::Quiet | Standing::Running => {}
        }
        self.word = word;
        if self.stage == Stage::Asked {
            self.await_grant(now, word, out);
        }
        Progress::Busy
    }

    /// The controller touches nothing: takes the last completions, keeps what goes out again, answers the rest.
    fn on_quiet(&mut self, now: Time, word: Word, out: &mut Vec<IoDone>) {
        if self.stage.may_reap() {
            self.stage = Stage::Stopping;
            self.reap(now, usize::from(self.ticket.entries), out);
        }
        for index in 0..self.slots.count() {
            let slot = self.slots.get(index);
            if !slot.state.is_in_flight() {
                continue;
            }
            let lba = slot.lba;
            let (namespace, resent) = (slot.namespace, slot.resent);
            self.stats.unanswered.add(1);
            if resent || !self.is_served(namespace) {
                let outcome = if resent { Outcome::Unanswered { lba } } else { Outcome::Gone };
                self.finish(index, outcome, out);
                continue;
            }
            let slot = self.slots.get(index);
            (slot.resent, slot.state) = (true, State::Pending);
            self.pending.push(index);
        }
        self.word = word;
        self.request_queue();
    }

    /// Nothing will be answered any more.
    fn on_gone(&mut self, now: Time, word: Word, take_back: fn(LentSgl) -> Sgl, out: &mut Vec<IoDone>) {
        if self.stage.may_reap() {
            self.stage = Stage::Stopping;
            self.reap(now, usize::from(self.ticket.entries), out);
        }
        self.ticket.link.cell(self.ticket.index).let_go(word.epoch);
        self.stage = Stage::Dead;
        for index in 0..self.slots.count() {
            let state = self.slots.get(index).state;
            if state.is_in_flight() {
                self.stats.unanswered.add(1);
            }
            if state != State::Free {
                self.finish_with(index, Outcome::Gone, take_back, out);
            }
        }
        self.pending.clear();
        self.end_longs(|_, _| true, take_back, out);
        self.stats.in_flight.set(0);
    }

    fn is_served(&self, namespace: u16) -> bool {
        self.attached[usize::from(namespace)].namespace.is_live()
    }

    /// Goes on as soon as the queue is there.
    fn await_grant(&mut self, now: Time, word: Word, out: &mut Vec<IoDone>) -> Progress {
        let cell = self.ticket.link.cell(self.ticket.index);
        if cell.is_refused(word.epoch) {
            self.on_gone(now, word, LentSgl::reclaim, out);
            return Progress::Busy;
        }
        if word.standing != Standing::Running || !cell.is_granted(word.epoch) {
            return Progress::Idle;
        }
        self.stage = Stage::Live;
        self.scan_at = now.after(Duration::from_millis(DEADLINE_SCAN_MS));
        let mut pending = std::mem::take(&mut self.pending);
        for index in pending.drain(..) {
            let namespace = self.slots.get(index).namespace;
            if self.is_served(namespace) {
                self.stats.retries.add(1);
                self.issue(now, index);
            } else {
                self.finish(index, Outcome::Gone, out);
            }
        }
        self.pending = pending;
        self.end_longs(|this, namespace| !this.is_served(namespace), LentSgl::reclaim, out);
        self.pump_longs(now);
        Progress::Busy
    }
}
