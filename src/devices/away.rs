//! A device that was pulled out, and its volumes until it is there again.
//!
//! ```text
//! driven ──Removed──▶ volumes let go of it ──▶ Away: nothing of it is held, its volumes answer errors
//!    ▲                                           │ the keeper finds it, and its core drives it
//!    └── volumes opened by their labels ◀────────┘
//! ```

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use control::bridge::{DeviceReport, PlaneError};
use control::model::{DeviceNamespace, DeviceState};
use nvme::{NamespaceInfo, Remembered};
use reactor::time::Time;
use volume::label::Confirmed;
use volume::shared::Registry;

use super::drive::Driven;
use super::inbox::Inbox;
use super::message::{OpenNamespace, OpenedNamespace};
use super::open;
use super::take::Facts;

/// The volumes that were opened on a device, by namespace.
pub(crate) type Volumes = BTreeMap<u32, OpenNamespace>;

/// Pause before a volume is tried again that did not open on a device that has come back.
const REOPEN_PAUSE: Duration = Duration::from_secs(10);

/// What a device's core and the keeper know of each other: each word has one writer at a time.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    away: AtomicBool,
    stranger: AtomicBool,
    serial: OnceLock<String>,
}

impl Presence {
    /// The core has let go of it; `is_stranger` when what came back was another one.
    pub(crate) fn leave(&self, is_stranger: bool) {
        self.stranger.store(is_stranger, Ordering::Relaxed);
        self.away.store(true, Ordering::Release);
    }

    /// The keeper gives it to the core.
    pub(crate) fn come(&self) {
        self.away.store(false, Ordering::Release);
    }

    pub(crate) fn is_away(&self) -> bool {
        self.away.load(Ordering::Acquire)
    }

    pub(crate) fn is_stranger(&self) -> bool {
        self.stranger.load(Ordering::Relaxed)
    }

    /// Its serial number, as it said itself when it was first ready.
    pub(crate) fn is_called(&self, serial: &str) {
        self.serial.get_or_init(|| serial.to_owned());
    }

    pub(crate) fn serial(&self) -> Option<&str> {
        self.serial.get().map(String::as_str)
    }
}

/// A device that its core has let go of.
pub(crate) struct Away {
    pub(crate) facts: Facts,
    last: DeviceReport,
    /// Who it was; `None` for one that was never ready.
    pub(crate) remembered: Option<Remembered>,
    pub(crate) volumes: Volumes,
    /// What was in its place was another one.
    pub(crate) is_stranger: bool,
}

impl Away {
    pub(crate) fn new(
        facts: Facts,
        mut last: DeviceReport,
        remembered: Option<Remembered>,
        volumes: Volumes,
    ) -> Self {
        let ended = last.problem.take().unwrap_or_else(|| "it has been removed".to_owned());
        last.state = DeviceState::Removed;
        let namespace = |info: &NamespaceInfo| DeviceNamespace {
            nsid: info.nsid,
            size_bytes: info.length_blocks * u64::from(info.block_bytes),
            block_size: info.block_bytes,
            volume: None,
            problem: Some("its device has been removed".to_owned()),
        };
        last.namespaces = remembered.iter().flat_map(Remembered::namespaces).map(namespace).collect();
        last.problem = Some(format!("{ended}; it is taken again when it is back in its place"));
        Self { facts, last, remembered, volumes, is_stranger: false }
    }

    /// What the keeper says of it.
    pub(crate) fn is_not_back(&mut self, problem: String) {
        self.last.problem = Some(problem);
    }

    pub(crate) fn report(&self) -> DeviceReport {
        self.last.clone()
    }

    pub(crate) fn refusal(&self) -> PlaneError {
        let reason = self.last.problem.clone().unwrap_or_default();
        PlaneError::Device { device: self.facts.name.to_string(), reason }
    }
}

/// A volume on its way back.
struct Reopening {
    number: u64,
    open: OpenNamespace,
    /// When it is tried again; `None` while it is being opened.
    again_at: Option<Time>,
    problem: Option<String>,
}

/// The volumes of devices that have come back, until they are served again.
#[derive(Default)]
pub(crate) struct Reopenings {
    all: Vec<Reopening>,
    inbox: Inbox,
}

impl Reopenings {
    /// The device has come back.
    pub(crate) fn begin(&mut self, now: Time, volumes: Volumes) {
        for mut open in volumes.into_values() {
            // What was there is looked for, and nothing else is made of it.
            (open.request.create, open.request.confirmed) = (false, Confirmed::Nothing);
            let number = self.inbox.number();
            self.all.push(Reopening { number, open, again_at: Some(now), problem: None });
        }
    }

    /// The device has gone again: its volumes that were not opened yet wait for it once more.
    pub(crate) fn end(&mut self, device: &str) -> Volumes {
        let gone = self.all.extract_if(.., |reopening| reopening.open.device == device);
        gone.map(|reopening| (reopening.open.nsid, reopening.open)).collect()
    }

    /// Opens what is due, and gives what was opened to its volume. True when something has happened.
    pub(crate) fn poll(&mut self, now: Time, drives: &mut [Box<dyn Driven>], registry: &Registry) -> bool {
        if self.all.is_empty() {
            return false;
        }
        let mut busy = false;
        while let Some((number, result)) = self.inbox.take() {
            busy = true;
            self.on_opened(now, number, result, registry);
        }
        // A volume that was closed meanwhile, or opened anew by its name, is not waited for.
        self.all.retain(|reopening| registry.is_lost(&reopening.open.volume));
        for reopening in &mut self.all {
            if reopening.again_at.is_none_or(|at| now < at) {
                continue;
            }
            let device = reopening.open.device.as_str();
            let Some(drive) = drives.iter_mut().find(|drive| drive.facts().name.as_str() == device) else {
                continue;
            };
            drive.open(now, reopening.open.clone(), self.inbox.answer(reopening.number));
            reopening.again_at = None;
            busy = true;
        }
        busy
    }

    fn on_opened(
        &mut self,
        now: Time,
        number: u64,
        result: Result<OpenedNamespace, PlaneError>,
        registry: &Registry,
    ) {
        let Some(at) = self.all.iter().position(|reopening| reopening.number == number) else { return };
        let reopening = &mut self.all[at];
        let volume = reopening.open.volume.as_str();
        let restored = result.map_err(|error| error.to_string()).and_then(|_| {
            let ways =
                open::take_channel(volume).and_then(|channel| Ok((channel, open::take_metadata(volume)?)));
            let (channel, metadata) = ways.map_err(|error| error.to_string())?;
            registry.restore(volume, channel, metadata).map_err(|error| error.to_string())
        });
        match restored {
            Ok(()) => drop(self.all.swap_remove(at)),
            Err(problem) => {
                open::forget(volume);
                (reopening.problem, reopening.again_at) = (Some(problem), Some(now.after(REOPEN_PAUSE)));
            }
        }
    }

    /// Adds to the report of a device what is wrong with volumes on it.
    pub(crate) fn complete(&self, report: &mut DeviceReport) {
        for reopening in self.all.iter().filter(|one| one.open.device == report.name.as_str()) {
            let namespace = report.namespaces.iter_mut().find(|one| one.nsid == reopening.open.nsid);
            if let Some(namespace) = namespace.filter(|namespace| namespace.problem.is_none()) {
                let problem = reopening.problem.clone();
                namespace.problem =
                    Some(problem.unwrap_or_else(|| "it is being opened after its return".to_owned()));
            }
        }
    }

    pub(crate) fn deadline(&self) -> Time {
        self.all.iter().filter_map(|reopening| reopening.again_at).min().unwrap_or(Time::NEVER)
    }
}
