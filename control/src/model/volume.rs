//! What a volume is meant to be.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{DeviceName, ModelError, VolumeName};
use crate::limits::{DEVICE_NSID_MAX, VOLUME_BYTES_MAX, VOLUME_BYTES_MIN};

/// Where the blocks of a volume are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Backing {
    /// A sparse file under the data directory.
    #[default]
    File,
    /// Memory of this process: empty again after every start.
    Memory,
    /// A whole block device or partition.
    Device {
        /// Absolute path, best one that survives a restart (`/dev/disk/by-id/…`).
        #[schema(value_type = String)]
        path: PathBuf,
        /// Serial number or UUID of the device. Without it a device that holds anything is refused; with it
        /// the operator says "this very device may be overwritten".
        #[serde(default, skip_serializing_if = "Option::is_none")]
        confirm_serial: Option<String>,
    },
    /// A namespace of an NVMe device that the node drives itself.
    Nvme {
        /// Name of the device in the configuration.
        device: DeviceName,
        /// Namespace identifier.
        #[serde(default = "first_namespace")]
        #[schema(minimum = 1)]
        namespace: u32,
    },
}

fn first_namespace() -> u32 {
    1
}

impl Backing {
    /// One word for tables and labels.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Memory => "memory",
            Self::Device { .. } => "device",
            Self::Nvme { .. } => "nvme",
        }
    }

    /// The device and the namespace, for a volume on a device that the node drives.
    pub fn namespace(&self) -> Option<(&DeviceName, u32)> {
        match self {
            Self::Nvme { device, namespace } => Some((device, *namespace)),
            _ => None,
        }
    }
}

/// A volume as it is desired. `uuid` is its identity: a data file that carries another one is not it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VolumeSpec {
    /// Unique on the node.
    pub name: VolumeName,
    /// Identity; also the designator that initiators see (NAA and UUID of VPD page 83h derive from it).
    pub uuid: Uuid,
    /// Size in bytes, a multiple of the block size.
    pub size_bytes: u64,
    /// Logical block size in bytes: 512 or 4096.
    pub block_size: u32,
    /// Where the blocks are.
    pub backing: Backing,
    /// The reactor that must own it, by index into the configured cores; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core: Option<u32>,
}

impl VolumeSpec {
    /// Checks what the types cannot: block size, size, device path.
    pub fn validate(&self) -> Result<(), ModelError> {
        check_block_size(self.block_size)?;
        check_size(self.size_bytes, self.block_size)?;
        match &self.backing {
            Backing::Device { path, .. } if !path.is_absolute() => {
                Err(ModelError::DevicePath { path: path.clone() })
            }
            Backing::Nvme { namespace, .. } if !(1..=DEVICE_NSID_MAX).contains(namespace) => {
                Err(ModelError::DeviceNsid { nsid: *namespace, max: DEVICE_NSID_MAX })
            }
            _ => Ok(()),
        }
    }
}

fn check_block_size(block_size: u32) -> Result<(), ModelError> {
    match block_size {
        512 | 4096 => Ok(()),
        _ => Err(ModelError::BlockSize { block_size }),
    }
}

/// Checks a size against its block size; also used when a volume grows.
pub(crate) fn check_size(size_bytes: u64, block_size: u32) -> Result<(), ModelError> {
    let reason = if !size_bytes.is_multiple_of(u64::from(block_size)) {
        "it is not a whole number of blocks"
    } else if size_bytes < VOLUME_BYTES_MIN {
        "it is too small"
    } else if size_bytes > VOLUME_BYTES_MAX {
        "it is too large"
    } else {
        return Ok(());
    };
    let (min_bytes, max_bytes) = (VOLUME_BYTES_MIN, VOLUME_BYTES_MAX);
    Err(ModelError::VolumeSize { size_bytes, reason, block_size, min_bytes, max_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(size_bytes: u64, block_size: u32) -> VolumeSpec {
        let name = "v".parse().unwrap();
        VolumeSpec { name, uuid: Uuid::nil(), size_bytes, block_size, backing: Backing::File, core: None }
    }

    #[test]
    fn sizes_are_whole_blocks_within_limits() {
        assert_eq!(spec(1 << 20, 512).validate(), Ok(()));
        assert_eq!(spec(VOLUME_BYTES_MAX, 4096).validate(), Ok(()));
        assert!(spec((1 << 20) + 512, 512).validate().is_ok());
        assert!(spec((1 << 20) + 512, 4096).validate().is_err());
        assert!(spec(VOLUME_BYTES_MIN - 4096, 4096).validate().is_err());
        assert!(spec(VOLUME_BYTES_MAX + 4096, 4096).validate().is_err());
        assert!(spec(0, 512).validate().is_err());
        assert_eq!(spec(1 << 20, 1024).validate(), Err(ModelError::BlockSize { block_size: 1024 }));
    }

    #[test]
    fn backing_is_written_in_one_word_or_one_object() {
        let read = |text: &str| serde_json::from_str::<Backing>(text);
        assert_eq!(read("\"memory\"").unwrap(), Backing::Memory);
        let device = read(r#"{"device":{"path":"/dev/sdb"}}"#).unwrap();
        assert_eq!(device, Backing::Device { path: "/dev/sdb".into(), confirm_serial: None });
        assert!(read(r#"{"device":{"path":"/dev/sdb","serail":"1"}}"#).is_err());
        let nvme = read(r#"{"nvme":{"device":"fast-1"}}"#).unwrap();
        let device: DeviceName = "fast-1".parse().unwrap();
        assert_eq!(nvme, Backing::Nvme { device: device.clone(), namespace: 1 });
        assert_eq!((nvme.namespace(), nvme.kind()), (Some((&device, 1)), "nvme"));
        assert!(read(r#"{"nvme":{"device":"fast-1","nsid":1}}"#).is_err());
        let mut on_device = spec(1 << 20, 512);
        for (namespace, good) in [(0, false), (1, true), (u32::MAX - 1, true), (u32::MAX, false)] {
            on_device.backing = Backing::Nvme { device: device.clone(), namespace };
            assert_eq!(on_device.validate().is_ok(), good, "{namespace}");
        }
        let mut relative = spec(1 << 20, 512);
        relative.backing = Backing::Device { path: "sdb".into(), confirm_serial: None };
        assert!(relative.validate().is_err());
    }
}
