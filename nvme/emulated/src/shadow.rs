//! Shadow doorbells: the host leaves its doorbells in a page of memory and writes the register only when the controller has
//! said, in another page, that it will not look by itself (Base 5.2.5 and annex B.5).
//!
//! A queue is looked at until it is found empty. Then its event index is set to the tail, so that the host writes the
//! register for the next command, and the page is read once more for what came in between.

use nvme_spec::queue::{completion_shadow, submission_shadow};

use crate::controller::Controller;
use crate::iommu::{Iommu, Stopped};
use crate::registers::FatalUntil;

/// Where the two pages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shadow {
    pub(crate) doorbells: u64,
    pub(crate) event_indexes: u64,
}

impl Controller {
    /// Looks for commands that the shadow of a queue's tail tells of. True when there are any.
    pub(crate) fn follow_shadow_tail(&mut self, qid: u16, dma: &mut Iommu) -> bool {
        // Drivers leave the admin queue's shadow alone, so its register counts.
        let (Some(shadow), 1..) = (self.shadow, qid) else { return false };
        let offset = submission_shadow(qid, self.config.doorbell_stride.into()) as u64;
        match self.look_at_tail(qid, shadow.doorbells + offset, shadow.event_indexes + offset, dma) {
            Ok(any) => any,
            Err(Stopped) => {
                self.registers.fail(FatalUntil::ControllerReset);
                false
            }
        }
    }

    fn look_at_tail(&mut self, qid: u16, at: u64, index_at: u64, dma: &mut Iommu) -> Result<bool, Stopped> {
        let Some(queue) = self.queues.sq(qid).filter(|queue| queue.awake) else { return Ok(false) };
        let mut tail = dma.read_u32(at)?;
        if tail == queue.tail {
            dma.write_u32(index_at, tail)?;
            tail = dma.read_u32(at)?;
        }
        // With nothing new, or with what cannot be, the queue sleeps until the host writes its register.
        let is_new = tail != queue.tail;
        let is_valid = is_new && queue.set_tail(tail).is_ok();
        queue.awake = is_valid;
        if is_new {
            self.judge_shadow(is_valid);
        }
        Ok(is_valid)
    }

    /// Looks for room that the shadow of a completion queue's head tells of. True when there is room and nothing waits.
    pub(crate) fn follow_shadow_head(&mut self, cqid: u16, dma: &mut Iommu) -> bool {
        let (Some(shadow), 1..) = (self.shadow, cqid) else { return false };
        let offset = completion_shadow(cqid, self.config.doorbell_stride.into()) as u64;
        let Ok(head) = dma.read_u32(shadow.doorbells + offset) else {
            self.registers.fail(FatalUntil::ControllerReset);
            return false;
        };
        let Some(queue) = self.queues.cq(cqid) else { return false };
        if head == queue.head {
            // The host is asked to say so when it has taken something.
            if dma.write_u32(shadow.event_indexes + offset, head).is_err() {
                self.registers.fail(FatalUntil::ControllerReset);
            }
            return false;
        }
        let valid = queue.set_head(head).is_ok();
        let is_open = valid && !queue.is_full();
        self.judge_shadow(valid);
        is_open
    }

    fn judge_shadow(&mut self, valid: bool) {
        if !valid {
            self.doorbell_error(crate::queue::DoorbellError::Value);
        }
    }
}
