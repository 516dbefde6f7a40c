//! All devices of a core: the last of its pollers, so that what a turn submitted goes out by one doorbell each.

use std::os::fd::RawFd;

use control::bridge::{DeviceReport, PlaneError};
use nvme::Remembered;
use nvme::device::DeviceError;
use nvme_emulated::{ConfigError, EmulatedController};
use reactor::core::Core;
use reactor::mesh::Endpoint;
use reactor::poller::{Poller, Progress};
use reactor::time::Time;
use volume::limits::LABEL_AREA_BYTES;
use volume::shared::{Answer, Registry};

use super::away::{Away, Reopenings};
use super::drive::{Drive, Driven};
use super::growth::Growths;
use super::message::{DeviceMessage, OpenNamespace, OpenedNamespace};
use super::plane::absent;
use super::take::{Facts, Source};

/// Messages of one turn.
const MESSAGES_PER_TURN: usize = 16;

type OpenAnswer = Answer<Result<OpenedNamespace, PlaneError>>;

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
    core: Core,
    /// The volumes of this core, those on its devices among them.
    registry: Registry,
    endpoint: Endpoint<DeviceMessage>,
    messages: Vec<DeviceMessage>,
    pub(super) drives: Vec<Box<dyn Driven>>,
    /// Devices that were pulled out.
    pub(super) away: Vec<Away>,
    reopenings: Reopenings,
    growths: Growths,
    /// Devices that this core could not begin to drive.
    lost: Vec<DeviceReport>,
    draining: Option<Answer<()>>,
}

impl DeviceCore {
    /// Begins to bring devices up on this core, whose volumes are in `registry`.
    pub(crate) fn new(
        core: &Core,
        registry: Registry,
        sources: Vec<(Facts, Source)>,
        endpoint: Endpoint<DeviceMessage>,
    ) -> Self {
        let mut this = Self {
            core: core.clone(),
            registry,
            endpoint,
            messages: Vec::new(),
            drives: Vec::new(),
            away: Vec::new(),
            reopenings: Reopenings::default(),
            growths: Growths::default(),
            lost: Vec::new(),
            draining: None,
        };
        for (facts, source) in sources {
            match drive(core, facts.clone(), source, None) {
                Ok(drive) => this.drives.push(drive),
                Err(error) => this.lost.push(absent(&facts, error.to_string())),
            }
        }
        this
    }

    /// How all of them are.
    pub(super) fn reports(&self) -> Vec<DeviceReport> {
        let driven = self.drives.iter().map(|drive| {
            let mut report = drive.report();
            self.reopenings.complete(&mut report);
            report
        });
        driven.chain(self.away.iter().map(Away::report)).chain(self.lost.iter().cloned()).collect()
    }

    /// What was pulled out is let go as soon as its volumes hold nothing of it.
    fn let_go(&mut self) -> bool {
        let mut busy = false;
        let mut index = 0;
        while let Some(drive) = self.drives.get(index) {
            if !drive.is_gone() {
                index += 1;
                continue;
            }
            busy = true;
            let volumes = drive.volumes().values();
            let held = volumes.filter(|open| {
                super::open::forget(&open.volume);
                !self.registry.lose(&open.volume, open.request.uuid)
            });
            if held.count() > 0 {
                index += 1;
                continue;
            }
            let mut away = self.drives.remove(index).depart();
            away.volumes.extend(self.reopenings.end(away.facts.name.as_str()));
            away.facts.presence.leave(away.is_stranger);
            self.away.push(away);
        }
        busy
    }

    fn on_grow(
        &mut self,
        volume: &str,
        device: &str,
        size_bytes: u64,
        answer: Answer<Result<u64, PlaneError>>,
    ) {
        let refused =
            |reason: &str| PlaneError::Device { device: device.to_owned(), reason: reason.to_owned() };
        let drive = self.drives.iter().find(|drive| drive.facts().name.as_str() == device);
        let Some(drive) = drive.filter(|_| self.draining.is_none()) else {
            return answer(Err(refused("it is not driven now")));
        };
        let Some(open) = drive.volumes().values().find(|open| open.volume == volume) else {
            return answer(Err(refused("the volume was not opened on it")));
        };
        let namespace = drive.report().namespaces.into_iter().find(|namespace| namespace.nsid == open.nsid);
        let length_bytes = namespace.map_or(0, |namespace| namespace.size_bytes);
        let usable_bytes = length_bytes.saturating_sub(LABEL_AREA_BYTES);
        if size_bytes > usable_bytes {
            let reason = format!(
                "namespace {} has room for a volume of {usable_bytes} bytes, not of {size_bytes}; let it grow first",
                open.nsid
            );
            return answer(Err(refused(&reason)));
        }
        // What it is now, which may be more than it was opened as.
        let Ok(now) = self.registry.get(volume).map(|volume| volume.info()) else {
            return answer(Err(refused("the volume is not open")));
        };
        let mut open = open.clone();
        open.request.size_bytes = now.length_blocks * u64::from(now.logical_block_bytes);
        self.growths.begin(open, size_bytes, answer);
    }

    /// A device is there again.
    fn on_return(&mut self, now: Time, facts: Facts, source: Source) {
        let Some(at) = self.away.iter().position(|away| away.facts.name == facts.name) else { return };
        let remembered = self.away[at].remembered.clone();
        match drive(&self.core, facts, source, remembered) {
            Ok(drive) => self.drive_again(now, drive),
            Err(error) => {
                self.away[at].is_not_back(error.to_string());
                self.away[at].facts.presence.leave(false);
            }
        }
    }

    /// Drives a device that was away, and opens its volumes.
    pub(super) fn drive_again(&mut self, now: Time, drive: Box<dyn Driven>) {
        let name = &drive.facts().name;
        if let Some(at) = self.away.iter().position(|away| away.facts.name == *name) {
            self.reopenings.begin(now, self.away.swap_remove(at).volumes);
        }
        self.drives.push(drive);
    }

    fn on_open(&mut self, now: Time, open: OpenNamespace, answer: OpenAnswer) {
        if self.draining.is_some() {
            return answer(Err(PlaneError::ShuttingDown));
        }
        let device = open.device.as_str();
        if let Some(drive) = self.drives.iter_mut().find(|drive| drive.facts().name.as_str() == device) {
            return drive.open(now, open, answer);
        }
        if let Some(away) = self.away.iter().find(|away| away.facts.name.as_str() == device) {
            return answer(Err(away.refusal()));
        }
        let lost = self.lost.iter().find(|lost| lost.name.as_str() == device);
        let reason = lost.and_then(|lost| lost.problem.clone()).unwrap_or_default();
        answer(Err(PlaneError::Device { device: open.device, reason }));
    }

    fn on_message(&mut self, now: Time, message: DeviceMessage) {
        match message {
            DeviceMessage::Report(answer) => answer(self.reports()),
            DeviceMessage::Open { open, answer } => self.on_open(now, open, answer),
            DeviceMessage::Grow { volume, device, size_bytes, answer } => {
                self.on_grow(&volume, &device, size_bytes, answer);
            }
            // It goes back to where it was when the node ends.
            DeviceMessage::Return { .. } if self.draining.is_some() => {}
            DeviceMessage::Return { facts, source } => self.on_return(now, facts, source),
            DeviceMessage::Away { device, problem } => {
                if let Some(away) = self.away.iter_mut().find(|away| away.facts.name == device) {
                    away.is_not_back(problem);
                }
            }
            DeviceMessage::Drain(answer) => {
                self.drives.iter_mut().for_each(|drive| drive.shut_down(now));
                self.draining = Some(answer);
            }
        }
    }
}

fn drive(
    core: &Core,
    facts: Facts,
    source: Source,
    remembered: Option<Remembered>,
) -> Result<Box<dyn Driven>, DriveError> {
    match source {
        Source::Emulated(config) => {
            let controller = EmulatedController::new(*config)?;
            let device = controller.device();
            Ok(Box::new(Drive::new(core, facts, device, Some(controller), remembered)?))
        }
        Source::Pci(device) => Ok(Box::new(Drive::new(core, facts, device, None, remembered)?)),
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
        let mut busy = self.let_go();
        busy |= self.reopenings.poll(now, &mut self.drives, &self.registry);
        busy |= self.growths.poll(now, &mut self.drives, &self.registry);
        progress = if busy { Progress::Busy } else { progress };
        if self.drives.iter().all(|drive| drive.has_ended())
            && let Some(answer) = self.draining.take()
        {
            answer(());
        }
        progress
    }

    fn deadline(&self) -> Time {
        let drives = self.drives.iter().map(|drive| drive.deadline());
        drives.min().unwrap_or(Time::NEVER).min(self.reopenings.deadline())
    }

    fn may_sleep(&self) -> bool {
        self.draining.is_none()
            && self.growths.is_empty()
            && self.drives.iter().all(|drive| drive.may_sleep())
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
