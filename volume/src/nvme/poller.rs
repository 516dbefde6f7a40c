//! The pollers of NVMe: of a core's queue pair, after everybody who submits, so that all of a turn goes out by one doorbell; and
//! of a controller, on the core that it lives on.

use std::cell::RefCell;
use std::os::fd::RawFd;
use std::rc::Rc;

use nvme::Controller;
use nvme::device::Device;
use reactor::poller::{Poller, Progress};
use reactor::time::Time;

use super::NvmeCore;

/// Polls a queue pair and rings its doorbell. The last poller of its core.
pub struct NvmePoller<D: Device> {
    core: NvmeCore<D>,
}

impl<D: Device> NvmePoller<D> {
    /// From now on the channels of this core leave completions and doorbells to this poller.
    pub fn new(core: NvmeCore<D>) -> Self {
        core.inner.borrow_mut().has_poller = true;
        Self { core }
    }
}

impl<D: Device> Drop for NvmePoller<D> {
    fn drop(&mut self) {
        self.core.inner.borrow_mut().has_poller = false;
    }
}

impl<D: Device> Poller for NvmePoller<D> {
    fn name(&self) -> &'static str {
        "nvme"
    }

    fn poll(&mut self, now: Time, budget: u32) -> Progress {
        let inner = &mut *self.core.inner.borrow_mut();
        // The completions of the turn's commands come later anyway, so the doorbell goes first.
        inner.queue.ring();
        let progress = inner.turn(now, budget as usize);
        // What went out again by itself is told at once as well.
        inner.queue.ring();
        progress
    }

    fn deadline(&self) -> Time {
        let inner = self.core.inner.borrow();
        inner.queue.deadline().min(inner.wake_at)
    }

    fn may_sleep(&self) -> bool {
        let inner = self.core.inner.borrow();
        inner.is_taken() && inner.queue.may_sleep()
    }

    fn before_sleep(&mut self) {
        self.core.inner.borrow().queue.arm(true);
    }

    fn after_sleep(&mut self) {
        self.core.inner.borrow().queue.arm(false);
    }

    fn wake_events(&self, out: &mut Vec<RawFd>) {
        // A device that is gone raises nothing, and its queue pair is told by the controller.
        if let Ok(Some(event)) = self.core.inner.borrow().queue.wake_event() {
            out.push(event);
        }
    }
}

/// Polls a controller: bring-up, resets, health, and what queue pairs ask of it. Before the poller of its core's queue pair.
pub struct NvmeAdminPoller<D: Device> {
    controller: Rc<RefCell<Controller<D>>>,
}

impl<D: Device> NvmeAdminPoller<D> {
    /// The owner keeps a handle too, for events, queues and shutdown.
    pub fn new(controller: Rc<RefCell<Controller<D>>>) -> Self {
        Self { controller }
    }
}

impl<D: Device> Poller for NvmeAdminPoller<D> {
    fn name(&self) -> &'static str {
        "nvme-admin"
    }

    fn poll(&mut self, now: Time, _budget: u32) -> Progress {
        self.controller.borrow_mut().poll(now)
    }

    fn deadline(&self) -> Time {
        self.controller.borrow().deadline()
    }
}
