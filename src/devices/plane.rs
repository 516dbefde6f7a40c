//! What requests of control do with devices.

use control::bridge::{DeviceReport, ObjectKind, PlaneError};
use control::model::{DeviceKind, DeviceName, DeviceState, VolumeSpec};
use volume::label::LabelRequest;
use volume::shared::{Answer, VolumeSetup};

use super::licence::LicenceError;
use super::message::{DeviceMessage, OpenNamespace};
use super::take::{Facts, Taken};
use super::{open, take};
use crate::files::{self, Prepared};
use crate::plane::{ANSWER_TIMEOUT, QUESTION_TIMEOUT, Worker, wait_for};

/// A device, as the plane remembers it.
#[derive(Clone)]
pub(crate) struct Home {
    pub facts: Facts,
    /// What is said of one that was never there.
    pub absent: Option<DeviceReport>,
}

/// The devices of the configuration, and what goes to each core.
pub(crate) fn homes(taken: Vec<Taken>, cores: usize) -> (Vec<Home>, Vec<Vec<(Facts, take::Source)>>) {
    let mut by_core: Vec<Vec<_>> = (0..cores).map(|_| Vec::new()).collect();
    let mut homes = Vec::new();
    for Taken { facts, source } in taken {
        let absent = match source {
            Ok(source) => {
                by_core[facts.core].push((facts.clone(), source));
                None
            }
            Err(error) => Some(absent(&facts, error.to_string())),
        };
        homes.push(Home { facts, absent });
    }
    (homes, by_core)
}

/// The report of a device that is not driven.
pub(crate) fn absent(facts: &Facts, problem: String) -> DeviceReport {
    DeviceReport {
        name: facts.name.clone(),
        kind: facts.kind,
        pci_address: facts.pci_address,
        core: facts.core as u32,
        state: DeviceState::Faulted,
        problem: Some(problem),
        identify: None,
        health: None,
        namespaces: Vec::new(),
        queue_pairs: Vec::new(),
        events: Vec::new(),
    }
}

impl Worker {
    fn tell_devices(&self, core: usize, message: DeviceMessage) -> Result<(), PlaneError> {
        self.with_core(core, |handle| handle.devices.send(message).is_ok())
    }

    /// Every device, in the order of the configuration.
    pub(crate) fn device_reports(&self) -> Result<Vec<DeviceReport>, PlaneError> {
        let mut driven = Vec::new();
        for core in 0..self.core_count() {
            if self.devices.iter().any(|home| home.absent.is_none() && home.facts.core == core) {
                driven.extend(wait_for(QUESTION_TIMEOUT, |answer| {
                    self.tell_devices(core, DeviceMessage::Report(answer))
                })?);
            }
        }
        let report = |home: &Home| {
            let by_core = driven.iter().find(|report| report.name == home.facts.name);
            by_core.or(home.absent.as_ref()).cloned()
        };
        Ok(self.devices.iter().filter_map(report).collect())
    }

    pub(crate) fn drain_devices(&self, core: usize, answer: Answer<()>) -> Result<(), PlaneError> {
        self.tell_devices(core, DeviceMessage::Drain(answer))
    }

    fn home(&self, name: &DeviceName) -> Result<&Home, PlaneError> {
        let missing = || PlaneError::NotFound { kind: ObjectKind::Device, name: name.to_string() };
        self.devices.iter().find(|home| home.facts.name == *name).ok_or_else(missing)
    }

    /// The core on which a volume on a device lives; `None` for volumes elsewhere.
    pub(crate) fn device_core(&self, spec: &VolumeSpec) -> Result<Option<usize>, PlaneError> {
        let Some((device, _)) = spec.backing.namespace() else { return Ok(None) };
        let core = self.home(device)?.facts.core;
        match spec.core {
            Some(asked) if asked as usize != core => {
                let reason = format!("device {device} is driven by core {core}, and its volumes live there");
                Err(PlaneError::Unsupported { field: "core", reason })
            }
            _ => Ok(Some(core)),
        }
    }

    /// Makes a volume larger on the namespace that it is on; its new length in blocks.
    pub(crate) fn grow_namespace(&self, spec: &VolumeSpec, size_bytes: u64) -> Result<u64, PlaneError> {
        let (device, _) = spec.backing.namespace().expect("asked only for volumes on devices");
        let core = self.home(device)?.facts.core;
        let (volume, device) = (spec.name.to_string(), device.to_string());
        wait_for(ANSWER_TIMEOUT, |answer| {
            self.tell_devices(core, DeviceMessage::Grow { volume, device, size_bytes, answer })
        })?
    }

    /// Opens or formats the namespace of a volume on the core that drives it.
    pub(crate) fn prepare_namespace(&self, spec: &VolumeSpec, create: bool) -> Result<Prepared, PlaneError> {
        let (device, nsid) = spec.backing.namespace().expect("asked only for volumes on devices");
        let Home { facts, absent } = self.home(device)?;
        if let Some(report) = absent {
            let reason = report.problem.clone().unwrap_or_default();
            return Err(PlaneError::Device { device: device.to_string(), reason });
        }
        let is_emulated = facts.kind == DeviceKind::Emulated;
        let licence = &facts.licence;
        let refused = |error: &LicenceError| PlaneError::Device {
            device: device.to_string(),
            reason: error.to_string(),
        };
        let request = LabelRequest {
            uuid: spec.uuid,
            logical_block_bytes: spec.block_size,
            size_bytes: spec.size_bytes,
            // Its blocks ended with the process that had them.
            create: create || is_emulated,
            confirmed: licence.of_namespace(nsid).map_err(|error| refused(&error))?,
            growth: None,
        };
        let volume = spec.name.to_string();
        let asked = OpenNamespace { device: device.to_string(), nsid, volume: volume.clone(), request };
        let opened = wait_for(ANSWER_TIMEOUT, |answer| {
            self.tell_devices(facts.core, DeviceMessage::Open { open: asked, answer })
        })??;
        if opened.is_new {
            licence.made(nsid, spec.uuid).map_err(|error| refused(&error))?;
        }
        if let Some(destroyed) = opened.destroyed {
            let serial = licence.serial().unwrap_or_default();
            tracing::warn!(
                volume = %spec.name,
                "namespace {nsid} of device {device} held {destroyed}, which was destroyed, as confirm_serial = {serial:?} allowed"
            );
        }
        let for_metadata = volume.clone();
        let setup = VolumeSetup {
            name: spec.name.to_string(),
            serial: files::serial(spec),
            channel: Box::new(move |_| open::take_channel(&volume)),
            metadata: Box::new(move |_| open::take_metadata(&for_metadata)),
            reservations: opened.reservations,
        };
        let state = if opened.is_new { "formatted" } else { "opened" };
        let mut notes = vec![format!("{state} {} blocks of the namespace", opened.geometry.length_blocks)];
        if is_emulated {
            notes.push("on an emulated device: empty again after every start of the node".to_owned());
        }
        Ok(Prepared { setup, notes })
    }
}
