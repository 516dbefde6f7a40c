//! Asynchronous events: requests kept with the controller, and a bound on how much it can make us do.

use nvme_spec::Cqe;
use nvme_spec::ae::AsynchronousEvent;
use reactor::time::Time;

use super::jobs::Job;
use super::{Controller, after_ms};
use crate::device::Device;
use crate::limits::EVENTS_PER_SECOND_MAX;

#[derive(Debug, Default)]
pub(super) struct Events {
    /// Requests to keep with the controller.
    wanted: u8,
    /// Requests that it has.
    armed: u8,
    /// The second that is counted, and the events in it.
    second_ends_at: Time,
    in_second: u32,
    /// Completions that no command waits for, since the last reset.
    pub(super) spurious: u32,
}

impl Events {
    pub(super) fn begin(&mut self, wanted: u8, now: Time) {
        *self = Self { wanted, second_ends_at: after_ms(now, 1000), ..Self::default() };
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// When requests are sent again that had to wait.
    pub(super) fn armed_again_at(&self) -> Time {
        if self.armed < self.wanted { self.second_ends_at } else { Time::NEVER }
    }
}

impl<D: Device> Controller<D> {
    pub(super) fn poll_events(&mut self, now: Time) {
        if now >= self.events.second_ends_at {
            self.events.second_ends_at = after_ms(now, 1000);
            self.events.in_second = 0;
        }
        while self.events.armed < self.events.wanted && self.events.in_second < EVENTS_PER_SECOND_MAX {
            let sqe = nvme_spec::Sqe::admin(nvme_spec::AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST);
            if !self.send(now, Job::Event, sqe) {
                return;
            }
            self.events.armed += 1;
        }
    }

    pub(super) fn on_event(&mut self, _now: Time, cqe: &Cqe) {
        self.events.armed = self.events.armed.saturating_sub(1);
        if !cqe.status().is_success() {
            // It keeps fewer than it said, or none.
            self.events.wanted = self.events.armed;
            return;
        }
        self.stats.events.add(1);
        self.events.in_second += 1;
        if self.events.in_second == EVENTS_PER_SECOND_MAX {
            self.stats.events_delayed.add(1);
        }
        self.on_event_kind(AsynchronousEvent::of(cqe.dw0.get()));
    }
}
