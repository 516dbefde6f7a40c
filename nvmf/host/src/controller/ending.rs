//! The end of an association, and from when on nothing of it goes on.
//!
//! Commands that got no completion may still be executed by the controller. Whoever sends a write again elsewhere must know that the
//! first one has no more effect, or it could overwrite what came after the second. There are two proofs: the controller was reset
//! through its admin queue and reports RDY = 0; or enough time has passed: its keep alive timer has expired, and then its Command
//! Quiesce Time (Base 3.9, 9.6).

use nvme_spec::Cqe;
use nvme_spec::fabrics::PROPERTY_4_BYTES;
use nvme_spec::register::{CSTS, Configuration, ControllerStatus, SHN_NORMAL, SHST_COMPLETE};
use reactor::time::Time;

use super::admin::Purpose;
use super::startup::{after_ms, enabled, property_get, set_configuration};
use super::{Controller, ControllerEvent, Phase};
use crate::error::EndCause;
use crate::limits::{READY_POLL_MS, RESET_TIMEOUT_MS};
use crate::turn::Turn;

impl Controller {
    /// Ends the association: by a reset if the admin queue still works, else at once.
    pub(super) fn fail(&mut self, cause: EndCause, turn: &mut Turn<'_>) {
        if matches!(self.phase, Phase::Resetting { .. } | Phase::Ended(_)) {
            return;
        }
        for queue in &mut self.io {
            queue.end(cause, turn);
        }
        if !self.served || !self.admin.is_live() {
            return self.finish(cause, None, turn);
        }
        self.waiting.clear();
        let deadline = after_ms(turn.now, RESET_TIMEOUT_MS);
        self.phase = Phase::Resetting { cause, deadline, look_at: Time::NEVER };
        // A shutdown in good order where it was asked for, else a reset. The proof is the same.
        let configuration = match cause {
            EndCause::Requested => enabled().with_shn(SHN_NORMAL),
            _ => Configuration::default(),
        };
        self.send_plain(Purpose::Disable, set_configuration(configuration), turn);
    }

    /// Ends the association because the owner wants it. [`ControllerEvent::Ended`] follows.
    pub fn shutdown(&mut self, turn: &mut Turn<'_>) {
        self.fail(EndCause::Requested, turn);
    }

    /// Closes everything. `quiesced_at` is known or follows from the timers.
    pub(super) fn finish(&mut self, cause: EndCause, quiesced_at: Option<Time>, turn: &mut Turn<'_>) {
        if self.ended().is_some() {
            return;
        }
        for queue in &mut self.io {
            queue.end(cause, turn);
        }
        self.admin.end(cause, turn);
        while self.admin.take_unfinished().is_some() {}
        self.purposes.fill(None);
        self.waiting.clear();
        self.inquiries.clear();
        self.phase = Phase::Ended(cause);
        let quiesced_at = quiesced_at.unwrap_or_else(|| self.quiesced_by_time(turn.now));
        self.events.push_back(ControllerEvent::Ended { cause, quiesced_at });
    }

    fn quiesced_by_time(&self, now: Time) -> Time {
        if !self.served {
            return now;
        }
        let reported = self.info.as_ref().and_then(|info| info.command_quiesce_time);
        let quiesce = reported.unwrap_or(self.config.timeouts.quiesce_unreported);
        now.after(self.keep_alive.expiry()).after(quiesce)
    }

    pub(super) fn on_disable(&mut self, cqe: &Cqe, turn: &mut Turn<'_>) {
        let Phase::Resetting { cause, look_at, .. } = &mut self.phase else { return };
        if cqe.status().is_success() {
            *look_at = turn.now;
        } else {
            let cause = *cause;
            self.finish(cause, None, turn);
        }
    }

    pub(super) fn on_disabled(&mut self, cqe: &Cqe, turn: &mut Turn<'_>) {
        let Phase::Resetting { cause, look_at, .. } = &mut self.phase else { return };
        let (cause, status) = (*cause, ControllerStatus(cqe.dw0.get()));
        if !cqe.status().is_success() || status.cfs() == 1 {
            return self.finish(cause, None, turn);
        }
        if status.rdy() == 0 || status.shst() == SHST_COMPLETE {
            self.finish(cause, Some(turn.now), turn);
        } else {
            *look_at = after_ms(turn.now, READY_POLL_MS);
        }
    }

    pub(super) fn poll_reset(&mut self, turn: &mut Turn<'_>) {
        let Phase::Resetting { cause, deadline, look_at } = self.phase else { return };
        if turn.now >= deadline {
            self.finish(cause, None, turn);
        } else if turn.now >= look_at {
            self.phase = Phase::Resetting { cause, deadline, look_at: Time::NEVER };
            self.send_plain(Purpose::Disabled, property_get(CSTS, PROPERTY_4_BYTES), turn);
        }
    }

    /// Ends the association when one of its queues has ended.
    pub(super) fn check_queues(&mut self, turn: &mut Turn<'_>) {
        if let Some(cause) = self.admin.ended() {
            // While it resets the first cause is the one to tell.
            let cause = if let Phase::Resetting { cause, .. } = self.phase { cause } else { cause };
            return self.finish(cause, None, turn);
        }
        if let Some(cause) = self.io.iter().find_map(|queue| queue.ended()) {
            self.fail(cause, turn);
        }
    }
}
