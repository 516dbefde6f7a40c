//! All devices of a core: the last of its pollers, so that what a turn submitted goes out by one doorbell each.

use std::os::fd::RawFd;

use control::bridge::{DeviceReport, PlaneError};
use nvme::device::DeviceError;
use nvme_emulated::{ConfigError, EmulatedController};
use reactor::core::Core;
use reactor::mesh::Endpoint;
use reactor::poller::{Poller, Progress};
use reactor::time::Time;
use volume::shared::Answer;

use super::drive::{Drive, Driven};
use super::message::DeviceMessage;
use super::plane::absent;
use super::take::{Facts, Source};

/// Messages of one turn.
const MESSAGES_PER_TURN: usize = 16;

/// Why a core does not drive a device that was taken.
#[derive(Debug, thiserror::Error)]
enum DriveError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("the emulated controller cannot be as it is described: {0}")]
    Emulated(#[from] ConfigError),
}

/// The poller of a core's devices.
pub(crate) struct DeviceCore {
    endpoint: Endpoint<DeviceMessage>,
    messages: Vec<DeviceMessage>,
    drives: Vec<Box<dyn Driven>>,
    /// Devices that this core could not begin to drive.
    lost: Vec<DeviceReport>,
    draining: Option<Answer<()>>,
}

impl DeviceCore {
    /// Begins to bring devices up on this core.
    pub(crate) fn new(core: &Core, sources: Vec<(Facts, Source)>, endpoint: Endpoint<DeviceMessage>) -> Self {
        let mut this =
            Self { endpoint, messages: Vec::new(), drives: Vec::new(), lost: Vec::new(), draining: None };
        for (facts, source) in sources {
            match drive(core, facts.clone(), source) {
                Ok(drive) => this.drives.push(drive),
                Err(error) => this.lost.push(absent(&facts, error.to_string())),
            }
        }
        this
    }

    fn on_message(&mut self, now: Time, message: DeviceMessage) {
        match message {
            DeviceMessage::Report(answer) => {
                let driven = self.drives.iter().map(|drive| drive.report());
                answer(driven.chain(self.lost.iter().cloned()).collect());
            }
            DeviceMessage::Open { answer, .. } if self.draining.is_some() => {
                answer(Err(PlaneError::ShuttingDown));
            }
            DeviceMessage::Open { open, answer } => {
                let drive = self.drives.iter_mut().find(|drive| drive.facts().name.as_str() == open.device);
                match drive {
                    Some(drive) => drive.open(now, open, answer),
                    None => {
                        let lost = self.lost.iter().find(|lost| lost.name.as_str() == open.device);
                        let reason = lost.and_then(|lost| lost.problem.clone()).unwrap_or_default();
                        answer(Err(PlaneError::Device { device: open.device, reason }));
                    }
                }
            }
            DeviceMessage::Drain(answer) => {
                self.drives.iter_mut().for_each(|drive| drive.shut_down(now));
                self.draining = Some(answer);
            }
        }
    }
}

fn drive(core: &Core, facts: Facts, source: Source) -> Result<Box<dyn Driven>, DriveError> {
    match source {
        Source::Emulated(config) => {
            let controller = EmulatedController::new(*config)?;
            let device = controller.device();
            Ok(Box::new(Drive::new(core, facts, device, Some(controller))?))
        }
        Source::Pci(device) => Ok(Box::new(Drive::new(core, facts, device, None)?)),
    }
}

impl Poller for DeviceCore {
    fn name(&self) -> &'static str {
        "devices"
    }

    fn poll(&mut self, now: Time, budget: u32) -> Progress {
        let mut messages = std::mem::take(&mut self.messages);
        self.endpoint.recv(&mut messages, MESSAGES_PER_TURN);
        let mut progress = if messages.is_empty() { Progress::Idle } else { Progress::Busy };
        for message in messages.drain(..) {
            self.on_message(now, message);
        }
        self.messages = messages;
        for drive in &mut self.drives {
            progress = progress.or(drive.poll(now, budget));
        }
        if self.drives.iter().all(|drive| drive.has_ended())
            && let Some(answer) = self.draining.take()
        {
            answer(());
        }
        progress
    }

    fn deadline(&self) -> Time {
        self.drives.iter().map(|drive| drive.deadline()).min().unwrap_or(Time::NEVER)
    }

    fn may_sleep(&self) -> bool {
        self.draining.is_none() && self.drives.iter().all(|drive| drive.may_sleep())
    }

    fn before_sleep(&mut self) {
        self.drives.iter_mut().for_each(|drive| drive.before_sleep());
    }

    fn after_sleep(&mut self) {
        self.drives.iter_mut().for_each(|drive| drive.after_sleep());
    }

    fn wake_events(&self, out: &mut Vec<RawFd>) {
        self.drives.iter().for_each(|drive| drive.wake_events(out));
    }
}
