//! What queue pairs ask of their controller: to be created, aborts, and resets.

use nvme_spec::queue::{CreateCompletionQueue, CreateSubmissionQueue};
use nvme_spec::{Cqe, Sqe};
use reactor::time::Time;

use super::jobs::Job;
use super::{Controller, Phase};
use crate::device::Device;
use crate::error::ResetCause;
use crate::limits::IO_QUEUES_MAX;
use crate::link::{Complaint, QueueRequest};

/// A queue that is being created.
#[derive(Clone, Copy, Debug)]
pub(super) struct Creating {
    index: u16,
    request: QueueRequest,
}

fn create_completion_queue(qid: u16, request: &QueueRequest) -> Sqe {
    let create = CreateCompletionQueue {
        qid,
        entries: request.entries.into(),
        address: request.cq_iova,
        contiguous: true,
        interrupts: request.vector.is_some(),
        vector: request.vector.unwrap_or(0),
    };
    create.sqe()
}

/// A submission queue completes to the completion queue of its own number.
fn create_submission_queue(qid: u16, request: &QueueRequest) -> Sqe {
    let create = CreateSubmissionQueue {
        qid,
        entries: request.entries.into(),
        address: request.sq_iova,
        contiguous: true,
        priority: 0,
        cqid: qid,
        nvm_set: 0,
    };
    create.sqe()
}

impl<D: Device> Controller<D> {
    /// Reads what queue pairs wrote, if any wrote something.
    pub(super) fn poll_queues(&mut self, now: Time) {
        let calls = self.link.calls();
        if self.seen_calls == Some(calls) {
            return;
        }
        self.seen_calls = Some(calls);
        for index in 0..self.queues_granted.min(IO_QUEUES_MAX) {
            if let Some(complaint) = self.link.cell(index).complaint(self.epoch) {
                let cause = match complaint {
                    Complaint::AbortTimeout => ResetCause::AbortTimeout,
                    Complaint::Spurious => ResetCause::Spurious,
                    Complaint::InvalidCompletion => ResetCause::InvalidCompletion,
                };
                return self.begin_reset(now, cause);
            }
            self.send_abort(now, index);
            if self.creating.is_none()
                && let Some(request) = self.link.cell(index).open_request(self.epoch)
            {
                self.begin_creating(now, index, request);
            }
        }
        // A queue that was granted before and is not now: its queue pair must not wait for ever.
        for index in self.queues_granted..IO_QUEUES_MAX {
            if self.link.cell(index).open_request(self.epoch).is_some() {
                self.link.cell(index).refuse(self.epoch);
            }
        }
    }

    fn send_abort(&mut self, now: Time, index: u16) {
        let limit = self.info.as_ref().map_or(1, |info| info.aborts);
        if self.aborts_open >= limit {
            return;
        }
        if let Some(cid) = self.link.cell(index).take_abort()
            && self.send(now, Job::Abort, Sqe::abort(index + 1, cid))
        {
            self.stats.aborts.add(1);
            self.aborts_open += 1;
        }
    }

    /// Whatever it says: the command itself tells how it ended, or its queue pair complains.
    pub(super) fn on_abort_answer(&mut self) {
        self.aborts_open = self.aborts_open.saturating_sub(1);
        self.seen_calls = None;
    }

    fn begin_creating(&mut self, now: Time, index: u16, request: QueueRequest) {
        let sqe = create_completion_queue(index + 1, &request);
        if self.send(now, Job::CreateCompletionQueue(index), sqe) {
            self.creating = Some(Creating { index, request });
        } else {
            self.seen_calls = None;
        }
    }

    pub(super) fn on_completion_queue(&mut self, now: Time, index: u16, cqe: &Cqe) {
        let Some(creating) = self.creating.filter(|creating| creating.index == index) else { return };
        let sqe = create_submission_queue(index + 1, &creating.request);
        let created = cqe.status().is_success();
        if !created || !self.send(now, Job::CreateSubmissionQueue(index), sqe) {
            self.finish_creating(index, false);
        }
    }

    pub(super) fn on_submission_queue(&mut self, index: u16, cqe: &Cqe) {
        self.finish_creating(index, cqe.status().is_success());
    }

    fn finish_creating(&mut self, index: u16, created: bool) {
        debug_assert!(matches!(self.phase, Phase::Ready));
        self.creating = None;
        self.seen_calls = None;
        if created {
            self.link.cell(index).grant(self.epoch);
        } else {
            self.link.cell(index).refuse(self.epoch);
        }
    }
}
