//! Shadow doorbells (Doorbell Buffer Config, Base 5.2.5): the doorbell's value goes to memory, and the register is written only
//! when the controller said that it does not look there by itself.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{Ordering, fence};

use nvme_spec::queue::{completion_shadow, doorbell_is_due, submission_shadow};
use reactor::memory::SharedMemory;

/// The two pages that driver and controller share, for all queues of a controller.
#[derive(Clone, Debug)]
pub struct Shadow {
    values: SharedMemory,
    events: SharedMemory,
    stride: u32,
    /// The controller uses them: after a reset it must be asked again.
    on: Rc<Cell<bool>>,
}

impl Shadow {
    pub(crate) fn new(values: SharedMemory, events: SharedMemory, stride: u32, on: Rc<Cell<bool>>) -> Self {
        Self { values, events, stride, on }
    }

    /// True when the register must be written as well.
    #[inline]
    pub(crate) fn publish_tail(&self, qid: u16, tail: u16, before: u16) -> bool {
        self.publish(submission_shadow(qid, self.stride), tail, before)
    }

    /// True when the register must be written as well.
    #[inline]
    pub(crate) fn publish_head(&self, qid: u16, head: u16, before: u16) -> bool {
        self.publish(completion_shadow(qid, self.stride), head, before)
    }

    #[inline]
    fn publish(&self, offset_bytes: usize, value: u16, before: u16) -> bool {
        if !self.on.get() {
            return true;
        }
        self.values.store_u32_release(offset_bytes, value.into());
        // The controller writes how far it looks and then reads the value; we do it the other way round. Without a full fence
        // both could miss what the other wrote.
        fence(Ordering::SeqCst);
        let event = self.events.load_u32_acquire(offset_bytes) as u16;
        doorbell_is_due(event, value, before)
    }
}

#[cfg(test)]
mod tests {
    use reactor::memory::MemoryRegion;

    use super::*;

    #[test]
    fn a_controller_is_told_when_its_event_is_passed() {
        let memory = || SharedMemory::new(MemoryRegion::heap(4096));
        let (values, events) = (memory(), memory());
        let shadow = Shadow::new(values.clone(), events.clone(), 0, Rc::new(Cell::new(true)));
        assert!(shadow.publish_tail(1, 1, 0), "the controller waits for anything beyond 0");
        assert_eq!(values.load_u32_acquire(8), 1);
        events.store_u32_release(8, 5);
        assert!(!shadow.publish_tail(1, 3, 1), "it looks by itself as far as 5");
        assert!(shadow.publish_tail(1, 6, 3));
        assert!(!shadow.publish_head(1, 0, 0));
    }
}
