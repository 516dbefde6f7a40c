//! Creation and deletion of I/O queues (Base 5.2.1 to 5.2.4).

use nvme_spec::queue::{CreateCompletionQueue, CreateSubmissionQueue};
use nvme_spec::{Sqe, Status};

use crate::controller::Controller;
use crate::iommu::Iommu;
use crate::limits::QUEUE_ENTRIES_MIN;
use crate::queue::{CompletionQueue, SubmissionQueue};

const INVALID_IDENTIFIER: Status = Status::INVALID_QUEUE_IDENTIFIER.with_dnr();

impl Controller {
    /// Checks what both creations have in common.
    fn check_creation(
        &self,
        entries: u32,
        entry_size_bits: [u32; 2],
        address: u64,
        contiguous: bool,
    ) -> Result<(), Status> {
        let [wanted, needed] = entry_size_bits;
        let sizes = QUEUE_ENTRIES_MIN..=self.config.queue_entries_max;
        if !sizes.contains(&entries) || wanted != needed {
            return Err(Status::INVALID_QUEUE_SIZE.with_dnr());
        }
        // CAP.CQR is 1: queues are contiguous.
        if !contiguous {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        if !address.is_multiple_of(self.registers.page_bytes()) {
            return Err(Status::PRP_OFFSET_INVALID.with_dnr());
        }
        Ok(())
    }

    pub(super) fn create_completion_queue(&mut self, sqe: &Sqe) -> Result<u32, Status> {
        let command = CreateCompletionQueue::of(sqe);
        let in_range = (1..=self.features.queues[1]).contains(&command.qid);
        if !in_range || self.queues.cq(command.qid).is_some() {
            return Err(INVALID_IDENTIFIER);
        }
        let sizes = [self.registers.configuration().iocqes(), 4];
        self.check_creation(command.entries, sizes, command.address, command.contiguous)?;
        if command.interrupts && command.vector >= self.config.interrupt_vectors.max(1) {
            return Err(Status::INVALID_INTERRUPT_VECTOR.with_dnr());
        }
        let vector = command.interrupts.then_some(command.vector);
        let queue = CompletionQueue::new(command.address, command.entries, vector);
        self.queues.completion[usize::from(command.qid)] = Some(queue);
        Ok(0)
    }

    pub(super) fn create_submission_queue(&mut self, sqe: &Sqe) -> Result<u32, Status> {
        let command = CreateSubmissionQueue::of(sqe);
        let in_range = (1..=self.features.queues[0]).contains(&command.qid);
        if !in_range || self.queues.sq(command.qid).is_some() {
            return Err(INVALID_IDENTIFIER);
        }
        if !(1..=self.features.queues[1]).contains(&command.cqid) {
            return Err(INVALID_IDENTIFIER);
        }
        if self.queues.cq(command.cqid).is_none() {
            return Err(Status::COMPLETION_QUEUE_INVALID.with_dnr());
        }
        let sizes = [self.registers.configuration().iosqes(), 6];
        self.check_creation(command.entries, sizes, command.address, command.contiguous)?;
        let queue = SubmissionQueue::new(command.address, command.entries, command.cqid);
        self.queues.add_submission(command.qid, queue);
        Ok(0)
    }

    pub(super) fn delete_submission_queue(&mut self, sqe: &Sqe, dma: &mut Iommu) -> Result<u32, Status> {
        let qid = sqe.queue_id();
        if qid == 0 || self.queues.sq(qid).is_none() {
            return Err(INVALID_IDENTIFIER);
        }
        // What was fetched ends before the deletion is answered; what was not is forgotten with the queue.
        for flight in self.flights.take_all(|flight| flight.sqid == qid) {
            self.complete(qid, &flight.sqe, Err(Status::ABORTED_SQ_DELETION), None, dma);
        }
        self.queues.remove_submission(qid);
        Ok(0)
    }

    pub(super) fn delete_completion_queue(&mut self, sqe: &Sqe) -> Result<u32, Status> {
        let qid = sqe.queue_id();
        if qid == 0 || self.queues.cq(qid).is_none() {
            return Err(INVALID_IDENTIFIER);
        }
        if self.queues.is_bound(qid) {
            return Err(Status::INVALID_QUEUE_DELETION.with_dnr());
        }
        self.queues.completion[usize::from(qid)] = None;
        Ok(0)
    }
}
