//! The NVMe devices that the node drives: how they are, and who lives on them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Service, ServiceError};
use crate::bridge::{DeviceReport, ObjectKind};
use crate::catalog::State;
use crate::model::{DeviceKind, DeviceName, DeviceNamespace, DeviceQueuePair, DeviceState, VolumeSpec};
use crate::nvme_cli::{self, critical_warnings, kelvins_to_celsius, padded_text};

/// Health of a device as it last told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeviceHealth {
    /// Composite temperature in degrees Celsius.
    pub temperature_celsius: i32,
    /// Spare that is left, in percent.
    pub available_spare_percent: u8,
    /// Below this the device warns, in percent.
    pub available_spare_threshold_percent: u8,
    /// Estimate of the life that is used, in percent; may exceed 100.
    pub percentage_used: u8,
    /// Errors of data or media that were not corrected; counts end at 2^64 - 1.
    pub media_errors: u64,
    /// Times the power was lost without a shutdown.
    pub unsafe_shutdowns: u64,
    /// Hours with power.
    pub power_on_hours: u64,
    /// Warnings that are given: `spare`, `temperature`, `reliability`, `read-only`, `volatile-backup`,
    /// `persistent-memory`.
    pub critical_warnings: Vec<String>,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeviceView {
    /// Its name in the configuration.
    pub name: DeviceName,
    /// What it is made of.
    pub kind: DeviceKind,
    /// Where it is on the PCI buses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_address: Option<String>,
    /// The core that drives its admin queue.
    pub core: u32,
    /// How it is.
    pub state: DeviceState,
    /// What is wrong with it, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Model number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Firmware revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
    /// Its namespaces and the volumes on them.
    pub namespaces: Vec<DeviceNamespace>,
    /// Its health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<DeviceHealth>,
    /// Its I/O queue pairs.
    pub queue_pairs: Vec<DeviceQueuePair>,
}

/// A device with all that it says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeviceDetails {
    /// The device.
    #[serde(flatten)]
    pub device: DeviceView,
    /// Identify Controller, as `nvme id-ctrl -o json` writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub id_ctrl: Option<Value>,
    /// The same as lines, as `nvme id-ctrl` writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_ctrl_text: Option<String>,
    /// The health log page, as `nvme smart-log -o json` writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub smart_log: Option<Value>,
    /// The same as lines, as `nvme smart-log` writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smart_log_text: Option<String>,
}

impl Service {
    /// Every device, in the order of the configuration.
    pub async fn devices(&self) -> Result<Vec<DeviceView>, ServiceError> {
        let (report, error) = self.stats_report().await;
        match error {
            Some(error) => Err(error.into()),
            None => Ok(report.devices.iter().map(|device| view_of(device, &self.state())).collect()),
        }
    }

    /// One device with all that it says of itself.
    pub async fn device(&self, name: &DeviceName) -> Result<DeviceDetails, ServiceError> {
        let (report, error) = self.stats_report().await;
        if let Some(error) = error {
            return Err(error.into());
        }
        let missing = || ServiceError::NotFound { kind: ObjectKind::Device, name: name.to_string() };
        let device = report.devices.iter().find(|device| device.name == *name).ok_or_else(missing)?;
        Ok(DeviceDetails {
            device: view_of(device, &self.state()),
            id_ctrl: device.identify.as_deref().map(nvme_cli::id_ctrl),
            id_ctrl_text: device.identify.as_deref().map(nvme_cli::id_ctrl_text),
            smart_log: device.health.as_deref().map(nvme_cli::smart_log),
            smart_log_text: device.health.as_deref().map(nvme_cli::smart_log_text),
        })
    }
}

/// What keeps a device from serving, for readiness: a reset is over in a moment, or becomes a fault.
pub(super) fn problem_of(device: &DeviceReport) -> Option<String> {
    let serves = matches!(device.state, DeviceState::Ready | DeviceState::Resetting);
    (!serves).then(|| device.problem.clone().unwrap_or_else(|| format!("it is {}", device.state.as_str())))
}

/// What keeps a volume on a device from serving, though it is open.
pub(super) fn problem_of_volume(devices: &[DeviceReport], spec: &VolumeSpec) -> Option<String> {
    let (name, nsid) = spec.backing.namespace()?;
    let device = devices.iter().find(|device| device.name == *name)?;
    if let Some(problem) = problem_of(device) {
        return Some(format!("device {name}: {problem}"));
    }
    let namespace = device.namespaces.iter().find(|namespace| namespace.nsid == nsid)?;
    let problem = namespace.problem.as_ref()?;
    Some(format!("device {name}, namespace {nsid}: {problem}"))
}

fn view_of(device: &DeviceReport, state: &State) -> DeviceView {
    let text = |bytes: &[u8]| padded_text(bytes).trim().to_owned();
    let identify = device.identify.as_deref();
    let mut namespaces = device.namespaces.clone();
    for namespace in &mut namespaces {
        namespace.volume = state.volume_on(&device.name, namespace.nsid).cloned();
    }
    DeviceView {
        name: device.name.clone(),
        kind: device.kind,
        pci_address: device.pci_address.map(|address| address.to_string()),
        core: device.core,
        state: device.state,
        problem: device.problem.clone(),
        serial: identify.map(|identify| text(&identify.sn)),
        model: identify.map(|identify| text(&identify.mn)),
        firmware: identify.map(|identify| text(&identify.fr)),
        namespaces,
        health: device.health.as_deref().map(health_of),
        queue_pairs: device.queue_pairs.iter().map(|(pair, _)| pair.clone()).collect(),
    }
}

fn health_of(health: &nvme_spec::log::SmartHealth) -> DeviceHealth {
    let count = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
    let given = critical_warnings(health).filter(|(_, given)| *given);
    DeviceHealth {
        temperature_celsius: kelvins_to_celsius(health.composite_temperature_kelvins.get()),
        available_spare_percent: health.available_spare,
        available_spare_threshold_percent: health.available_spare_threshold,
        percentage_used: health.percentage_used,
        media_errors: count(health.media_errors.get()),
        unsafe_shutdowns: count(health.unsafe_shutdowns.get()),
        power_on_hours: count(health.power_on_hours.get()),
        critical_warnings: given.map(|(name, _)| name.to_owned()).collect(),
    }
}
