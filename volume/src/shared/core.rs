//! The poller that opens, changes and closes the volumes of a core as control says.

use reactor::core::Core;
use reactor::mesh::Endpoint;
use reactor::poller::{Poller, Progress};
use reactor::time::Time;

use super::error::VolumeError;
use super::limits::{DRAIN_LINGER, MESSAGES_PER_TURN};
use super::message::{Answer, VolumeMessage};
use super::registry::Registry;

/// The volumes of a core. It stands before the front ends in the list of pollers, so that what has become durable is
/// answered in the same turn.
pub struct VolumeCore {
    core: Core,
    registry: Registry,
    endpoint: Endpoint<VolumeMessage>,
    messages: Vec<VolumeMessage>,
    draining: Option<Draining>,
    drained: bool,
}

struct Draining {
    answer: Answer<()>,
    /// Volumes whose ports are still open then are flushed all the same.
    deadline: Time,
    /// The answer is given then at the latest.
    end: Time,
}

impl VolumeCore {
    /// The poller of a core's volumes. Front ends of the same core hold clones of `registry`.
    pub fn new(core: &Core, registry: Registry, endpoint: Endpoint<VolumeMessage>) -> Self {
        Self { core: core.clone(), registry, endpoint, messages: Vec::new(), draining: None, drained: false }
    }

    fn is_draining(&self) -> bool {
        self.draining.is_some() || self.drained
    }

    fn on_message(&mut self, message: VolumeMessage, now: Time) {
        match message {
            VolumeMessage::Add { answer, .. } if self.is_draining() => answer(Err(VolumeError::Draining)),
            VolumeMessage::Add { setup, answer } => {
                let added = self.registry.add(&self.core, *setup);
                answer(added.map(|volume| (volume.info(), volume.stats())));
            }
            VolumeMessage::Remove { name, answer } => self.registry.remove(&name, answer),
            VolumeMessage::Resize { name, length_blocks, answer } => {
                answer(self.registry.resize(&name, length_blocks));
            }
            VolumeMessage::AllocatedBytes { name, answer } => {
                answer(self.registry.get(&name).map(|volume| volume.allocated_bytes()));
            }
            VolumeMessage::Drain(answer) => self.begin_draining(answer, now),
        }
    }

    fn begin_draining(&mut self, answer: Answer<()>, now: Time) {
        let deadline = now.after(DRAIN_LINGER);
        let end = deadline.after(DRAIN_LINGER);
        for volume in self.registry.volumes() {
            let mut state = volume.shared().state.borrow_mut();
            if !state.closing.is_closing() {
                state.closing.begin(Box::new(|_| ()));
            }
            drop(state);
            volume.shared().list();
        }
        self.draining = Some(Draining { answer, deadline, end });
    }

    fn go_on_draining(&mut self, now: Time) {
        let Some(draining) = &self.draining else { return };
        let late = now >= draining.deadline;
        let mut flushed = late;
        if late {
            for volume in self.registry.volumes() {
                flushed &= volume.shared().flush_anyway();
            }
        }
        if (self.registry.is_empty() || flushed || now >= draining.end)
            && let Some(draining) = self.draining.take()
        {
            self.drained = true;
            (draining.answer)(());
        }
    }
}

impl Poller for VolumeCore {
    fn name(&self) -> &'static str {
        "volumes"
    }

    fn poll(&mut self, now: Time, _: u32) -> Progress {
        let mut messages = std::mem::take(&mut self.messages);
        self.endpoint.recv(&mut messages, MESSAGES_PER_TURN);
        let progress = if messages.is_empty() { Progress::Idle } else { Progress::Busy };
        for message in messages.drain(..) {
            self.on_message(message, now);
        }
        self.messages = messages;
        let progress = progress.or(self.registry.poll());
        self.go_on_draining(now);
        progress
    }

    fn deadline(&self) -> Time {
        let Some(draining) = &self.draining else { return Time::NEVER };
        // Between the two, completions are looked for in every turn.
        draining.deadline
    }

    fn may_sleep(&self) -> bool {
        self.registry.may_sleep() && self.draining.is_none()
    }
}
