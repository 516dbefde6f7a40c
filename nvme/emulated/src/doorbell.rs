//! Doorbell registers: which queue, and is the value one that the queue can take (Base 3.1.4.x, 3.3.1).

use nvme_spec::ae::AsynchronousEvent;
use nvme_spec::register::DOORBELLS;

use crate::controller::Controller;
use crate::queue::DoorbellError;

impl Controller {
    /// The host wrote a doorbell. What is wrong with it is an event, not a failure of a command.
    #[inline]
    pub(crate) fn ring(&mut self, offset_bytes: u32, value: u32) {
        self.counters.doorbells += 1;
        if !self.registers.is_running() {
            // There are no queues to ring for.
            self.counters.violations += 1;
            return;
        }
        if let Err(error) = self.try_ring(offset_bytes, value) {
            self.doorbell_error(error);
        }
    }

    #[inline]
    fn try_ring(&mut self, offset_bytes: u32, value: u32) -> Result<(), DoorbellError> {
        let stride_bits = 2 + u32::from(self.config.doorbell_stride);
        let relative = offset_bytes - DOORBELLS;
        if !relative.is_multiple_of(1 << stride_bits) {
            return Err(DoorbellError::NoQueue);
        }
        let number = relative >> stride_bits;
        let qid = u16::try_from(number / 2).map_err(|_| DoorbellError::NoQueue)?;
        let is_shadowed = self.shadow.is_some() && qid != 0;
        if number.is_multiple_of(2) {
            let queue = self.queues.sq(qid).ok_or(DoorbellError::NoQueue)?;
            queue.awake = true;
            // With shadow doorbells it is the shadow that counts; the register only wakes.
            if is_shadowed { Ok(()) } else { queue.set_tail(value) }
        } else {
            let queue = self.queues.cq(qid).ok_or(DoorbellError::NoQueue)?;
            if is_shadowed { Ok(()) } else { queue.set_head(value) }
        }
    }

    pub(crate) fn doorbell_error(&mut self, error: DoorbellError) {
        self.counters.doorbell_errors += 1;
        self.log.add_error();
        self.raise(match error {
            DoorbellError::NoQueue => AsynchronousEvent::ERROR_INVALID_DOORBELL_REGISTER,
            DoorbellError::Value => AsynchronousEvent::ERROR_INVALID_DOORBELL_VALUE,
        });
    }
}
