//! `[[device]]`: NVMe controllers that the node drives itself.

use std::collections::BTreeSet;
use std::path::PathBuf;

use nvme_pci::PciAddress;
use serde::Deserialize;

use super::{Config, ConfigError};
use crate::limits::{DEVICES_MAX, EMULATED_BYTES_MAX, EMULATED_BYTES_MIN};
use crate::model::{ByteSize, DeviceName};

/// `[[device]]`: one of `pci_address`, `path` and `emulated_size` says what it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceConfig {
    /// Its name; volumes refer to it.
    pub name: DeviceName,
    /// A controller by its place on the PCI buses.
    #[serde(default)]
    pub pci_address: Option<PciAddress>,
    /// The controller behind a disk of the kernel's driver.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// A controller in the memory of the node, with one namespace of this size.
    #[serde(default)]
    pub emulated_size: Option<ByteSize>,
    /// Logical block size of an emulated one; 512 when absent.
    #[serde(default)]
    pub block_size: Option<u32>,
    /// Serial number of a controller that may be taken from whoever uses it.
    #[serde(default)]
    pub confirm_serial: Option<String>,
    /// Drive it even where there is no IOMMU.
    #[serde(default)]
    pub no_iommu: bool,
}

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DevicePlace {
    /// A function on a PCI bus.
    Pci(PciAddress),
    /// The function behind a disk of the kernel's driver.
    Disk(PathBuf),
    /// A controller in memory.
    Emulated {
        /// Size of its namespace.
        size_bytes: u64,
        /// Logical block size.
        block_size: u32,
    },
}

impl DeviceConfig {
    /// What it is.
    ///
    /// # Panics
    /// When the configuration was not checked.
    pub fn place(&self) -> DevicePlace {
        match (self.pci_address, &self.path, self.emulated_size) {
            (Some(address), None, None) => DevicePlace::Pci(address),
            (None, Some(path), None) => DevicePlace::Disk(path.clone()),
            (None, None, Some(ByteSize(size_bytes))) => {
                DevicePlace::Emulated { size_bytes, block_size: self.block_size.unwrap_or(512) }
            }
            _ => unreachable!("a device is checked to have one place"),
        }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let key = |key: &str| format!("device {}: {key}", self.name);
        let places =
            [self.pci_address.is_some(), self.path.is_some(), self.emulated_size.is_some()].map(usize::from);
        ConfigError::check(format!("device {}", self.name), places.iter().sum::<usize>() == 1, || {
            "it needs exactly one of pci_address = \"0000:01:00.0\", path = \"/dev/nvme0n1\" and emulated_size = \"1GiB\""
                .to_owned()
        })?;
        if let Some(path) = &self.path {
            ConfigError::check(key("path"), path.is_absolute(), || {
                format!("{} is not absolute, for example /dev/disk/by-id/nvme-EXAMPLE", path.display())
            })?;
        }
        let ByteSize(size) = self.emulated_size.unwrap_or(ByteSize(EMULATED_BYTES_MIN));
        let block_size = self.block_size.unwrap_or(512);
        ConfigError::check(key("block_size"), matches!(block_size, 512 | 4096), || {
            format!("{block_size} is not supported; use 512 or 4096")
        })?;
        let whole = size.is_multiple_of(4096) && (EMULATED_BYTES_MIN..=EMULATED_BYTES_MAX).contains(&size);
        ConfigError::check(key("emulated_size"), whole, || {
            format!(
                "{size} bytes: use a multiple of 4096 from {} to {}",
                ByteSize(EMULATED_BYTES_MIN),
                ByteSize(EMULATED_BYTES_MAX)
            )
        })?;
        self.validate_options()
    }

    /// Options that would say nothing are slips.
    fn validate_options(&self) -> Result<(), ConfigError> {
        let emulated = self.emulated_size.is_some();
        let refused = |key: &str, why: &str| ConfigError::Refused {
            path: format!("device {}: {key}", self.name),
            detail: why.to_owned(),
        };
        if self.block_size.is_some() && !emulated {
            return Err(refused("block_size", "a real controller has formats of its own; leave it out"));
        }
        if emulated && self.confirm_serial.is_some() {
            return Err(refused(
                "confirm_serial",
                "an emulated controller is taken from nobody; leave it out",
            ));
        }
        if emulated && self.no_iommu {
            return Err(refused("no_iommu", "an emulated controller needs no IOMMU; leave it out"));
        }
        match self.confirm_serial.as_deref() {
            Some(serial) if serial.trim().is_empty() => {
                Err(refused("confirm_serial", "it is empty; \"vega disk list\" shows the serial numbers"))
            }
            _ => Ok(()),
        }
    }
}

impl Config {
    pub(super) fn validate_devices(&self) -> Result<(), ConfigError> {
        ConfigError::check("device", self.devices.len() <= DEVICES_MAX, || {
            format!("{} devices are too many; the limit is {DEVICES_MAX}", self.devices.len())
        })?;
        let (mut names, mut places) = (BTreeSet::new(), BTreeSet::new());
        for device in &self.devices {
            device.validate()?;
            ConfigError::check(format!("device {}", device.name), names.insert(&device.name), || {
                "there are two of that name".to_owned()
            })?;
            let place = device.pci_address.map(|at| at.to_string());
            let place = place.or_else(|| device.path.as_ref().map(|path| path.display().to_string()));
            let once = place.is_none_or(|place| places.insert(place));
            ConfigError::check(format!("device {}", device.name), once, || {
                "another device is the same controller; a controller is one device".to_owned()
            })?;
        }
        let mut taken = BTreeSet::new();
        for volume in &self.volumes {
            let Some((device, nsid)) = volume.backing.namespace() else { continue };
            let path = || format!("volume {}: backing", volume.name);
            ConfigError::check(path(), names.contains(device), || {
                format!("there is no [[device]] called {device}")
            })?;
            ConfigError::check(path(), taken.insert((device, nsid)), || {
                format!("another volume lives on namespace {nsid} of device {device}")
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Environment, load_text};
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        load_text(text, "test.toml", &Environment::default())
    }

    fn device(rest: &str) -> String {
        format!("[[device]]\nname = 'fast-1'\n{rest}\n")
    }

    #[test]
    fn a_device_is_one_of_three_things() {
        let place = |rest: &str| read(&device(rest)).unwrap().devices[0].place();
        let address = "0000:01:00.0".parse().unwrap();
        assert_eq!(place("pci_address = '01:00.0'\nno_iommu = true"), DevicePlace::Pci(address));
        assert_eq!(
            place("path = '/dev/nvme0n1'\nconfirm_serial = 'S1'"),
            DevicePlace::Disk("/dev/nvme0n1".into())
        );
        let (size_bytes, block_size) = (1 << 30, 512);
        assert_eq!(place("emulated_size = '1GiB'"), DevicePlace::Emulated { size_bytes, block_size });
        let block_size = 4096;
        assert_eq!(
            place("emulated_size = '1GiB'\nblock_size = 4096"),
            DevicePlace::Emulated { size_bytes, block_size }
        );
    }

    #[test]
    fn what_says_nothing_or_too_much_is_refused() {
        for (rest, why) in [
            ("", "exactly one of"),
            ("pci_address = '0000:01:00.0'\nemulated_size = '1GiB'", "exactly one of"),
            ("pci_address = '0000:01:00.0'\npath = '/dev/nvme0n1'", "exactly one of"),
            ("pci_address = 'nvme0'", "no PCI address"),
            ("path = 'nvme0n1'", "not absolute"),
            ("emulated_size = 8388609", "multiple of 4096"),
            ("emulated_size = '1MiB'", "8MiB"),
            ("emulated_size = '1GiB'\nblock_size = 1024", "512 or 4096"),
            ("emulated_size = '1GiB'\nno_iommu = true", "needs no IOMMU"),
            ("emulated_size = '1GiB'\nconfirm_serial = 'S1'", "taken from nobody"),
            ("path = '/dev/nvme0n1'\nblock_size = 512", "formats of its own"),
            ("path = '/dev/nvme0n1'\nconfirm_serial = ' '", "it is empty"),
            ("path = '/dev/nvme0n1'\nconfirm_seriel = 'S1'", "did you mean device[0].confirm_serial?"),
        ] {
            let text = read(&device(rest)).unwrap_err().to_string();
            assert!(text.contains(why), "{rest}: {text}");
        }
        let two = device("emulated_size = '1GiB'") + &device("emulated_size = '2GiB'");
        assert!(read(&two).unwrap_err().to_string().contains("two of that name"));
        let same =
            device("pci_address = '0000:01:00.0'") + "[[device]]\nname = 'b'\npci_address = '01:00.0'\n";
        assert!(read(&same).unwrap_err().to_string().contains("the same controller"));
    }

    #[test]
    fn volumes_live_on_devices_that_there_are_and_alone() {
        let volume = |name: &str, backing: &str| {
            format!("[[volume]]\nname = '{name}'\nsize = '1GiB'\nbacking = {{ nvme = {{ {backing} }} }}\n")
        };
        let fast = device("emulated_size = '1GiB'");
        let config = read(&(fast.clone() + &volume("a", "device = 'fast-1', namespace = 1"))).unwrap();
        assert_eq!(config.volumes[0].backing.namespace(), Some((&config.devices[0].name, 1)));
        let refusal = |text: String| read(&(fast.clone() + &text)).unwrap_err().to_string();
        assert!(refusal(volume("a", "device = 'fast-2'")).contains("no [[device]] called fast-2"));
        let twice = volume("a", "device = 'fast-1'") + &volume("b", "device = 'fast-1', namespace = 1");
        assert!(refusal(twice).contains("another volume lives on namespace 1"));
        assert!(refusal(volume("a", "device = 'fast-1', namespace = 0")).contains("out of range"));
        assert!(refusal(volume("a", "device = 'fast-1', nsid = 1")).contains("unknown key"));
    }
}
