//! NVMe controllers that the node drives itself, as they are named and shown.

use serde::{Deserialize, Serialize};

use super::name::{dns_label, shortened, text_newtype};
use super::{ModelError, VolumeName};

/// Name of a device of the configuration: a DNS label, like the name of a volume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "fast-1", min_length = 1, max_length = 63)]
pub struct DeviceName(String);

impl DeviceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DeviceName {
    type Error = ModelError;

    fn try_from(input: String) -> Result<Self, ModelError> {
        match dns_label(&input) {
            Ok(()) => Ok(Self(input)),
            Err(reason) => Err(ModelError::DeviceName { input: shortened(input), reason }),
        }
    }
}

text_newtype!(DeviceName);

/// What a device is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// A PCI function, reached through VFIO.
    Pci,
    /// A controller in the memory of the node: its blocks are empty again after every start.
    Emulated,
}

impl DeviceKind {
    /// One word for tables and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pci => "pci",
            Self::Emulated => "emulated",
        }
    }
}

/// How a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeviceState {
    /// Being brought up.
    Starting,
    /// It takes I/O.
    Ready,
    /// Being reset; I/O waits.
    Resetting,
    /// Given up; `problem` says why.
    Faulted,
    /// Pulled out, or its function no longer answers.
    Removed,
    /// Being shut down, or shut down.
    Stopped,
}

impl DeviceState {
    /// All of them, for metrics.
    pub const ALL: [Self; 6] =
        [Self::Starting, Self::Ready, Self::Resetting, Self::Faulted, Self::Removed, Self::Stopped];

    /// One word for tables and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Resetting => "resetting",
            Self::Faulted => "faulted",
            Self::Removed => "removed",
            Self::Stopped => "stopped",
        }
    }
}

/// A namespace of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeviceNamespace {
    /// Namespace identifier.
    pub nsid: u32,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Logical block size in bytes.
    pub block_size: u32,
    /// The volume that lives on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeName>,
    /// Why it cannot be served, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The I/O queue pair that a core has with a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeviceQueuePair {
    /// The core.
    pub core: u32,
    /// Queue identifier.
    pub queue_id: u16,
    /// Commands that it can hold.
    pub entries: u32,
    /// Commands in flight now.
    pub in_flight: u64,
    /// Commands that ended, well or not.
    pub commands: u64,
    /// I/Os that ended without success.
    pub errors: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        assert_eq!("fast-1".parse::<DeviceName>().unwrap().as_str(), "fast-1");
        for bad in ["", "Fast", "-a", "a/b", "0000:01:00.0"] {
            let error = bad.parse::<DeviceName>().unwrap_err().to_string();
            assert!(error.starts_with("device name") && error.contains("fast-1"), "{error}");
        }
    }
}
