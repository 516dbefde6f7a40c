//! Taking devices over before the cores start, and giving them back when everything has ended. Blocking.

use std::sync::Arc;
use std::time::Duration;

use control::config::{Config, DeviceConfig, DevicePlace};
use control::model::{DeviceKind, DeviceName};
use nvme_emulated::{ControllerConfig, Format, NamespaceConfig};
use nvme_pci::{BindOptions, Host, PciAddress, PciError};
use vfio::{Tether, VfioDevice, VfioError, Way};

use super::away::Presence;
use super::licence::{Licence, LicenceError, Licences};

/// The kernel resets a function that is closed, which takes as long as a minute with one that does not come back.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(90);
/// Serial numbers have 20 characters.
const SERIAL_CHARACTERS: usize = 20;

/// Why a device is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    #[error(transparent)]
    Pci(#[from] PciError),
    #[error(transparent)]
    Vfio(#[from] VfioError),
    #[error(transparent)]
    Licence(#[from] LicenceError),
}

/// What all of a device's messages need.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub name: DeviceName,
    pub kind: DeviceKind,
    pub pci_address: Option<PciAddress>,
    /// Index of the core that drives it.
    pub core: usize,
    /// What somebody agreed to lose on it, by typing its serial number.
    pub licence: Licence,
    /// Whether it is there.
    pub presence: Arc<Presence>,
}

/// What a core drives. Each travels to its core before it is brought up.
pub(crate) enum Source {
    Emulated(Box<ControllerConfig>),
    Pci(VfioDevice),
}

/// A device of the configuration: its source, or why there is none.
pub(crate) struct Taken {
    pub facts: Facts,
    pub source: Result<Source, TakeError>,
}

/// A function that goes back when the node ends.
pub(super) struct Lent {
    pub(super) facts: Facts,
    pub(super) config: DeviceConfig,
    pub(super) address: PciAddress,
    pub(super) tether: Tether,
    /// The kernel had it before, and gets it back.
    pub(super) was_bound: bool,
    /// Which device it was in this place.
    pub(super) instance: Option<u64>,
}

/// Everything that was taken from the kernel. Dropped last: after the cores, which hold the devices.
pub(crate) struct Loans {
    pub(super) host: Host,
    pub(super) lent: Vec<Lent>,
}

/// Takes over what the configuration names, and nothing else. A device that cannot be had does not keep the node from
/// starting: what lives elsewhere is served, and the device says why it is not there.
pub(crate) fn take_all(config: &Config, cores: usize, host: Host) -> (Vec<Taken>, Loans) {
    let licences = Licences::new(&config.node.data_dir);
    let mut loans = Loans { host, lent: Vec::new() };
    let taken = config.devices.iter().enumerate().map(|(index, device)| {
        let place = device.place();
        let kind = match place {
            DevicePlace::Emulated { .. } => DeviceKind::Emulated,
            DevicePlace::Pci(_) | DevicePlace::Disk(_) => DeviceKind::Pci,
        };
        let mut facts = Facts {
            name: device.name.clone(),
            kind,
            pci_address: device.pci_address,
            core: index % cores,
            licence: Licence::new(Arc::clone(&licences), device.confirm_serial.as_deref()),
            presence: Arc::default(),
        };
        let source = match place {
            DevicePlace::Emulated { size_bytes, block_size } => {
                Ok(Source::Emulated(Box::new(emulated(&device.name, size_bytes, block_size))))
            }
            DevicePlace::Pci(address) => loans.take_first(&facts, address, device),
            DevicePlace::Disk(path) => match loans.host.function_of_disk(&path) {
                Ok(function) => {
                    facts.pci_address = Some(function.address);
                    loans.take_first(&facts, function.address, device)
                }
                Err(error) => Err(error.into()),
            },
        };
        match &source {
            Ok(_) => {
                tracing::info!(device = %device.name, core = facts.core, "device {} is there", device.name)
            }
            Err(error) => {
                tracing::error!(device = %device.name, "device {} is not there: {error}", device.name)
            }
        }
        Taken { facts, source }
    });
    (taken.collect(), loans)
}

fn emulated(name: &DeviceName, size_bytes: u64, block_size: u32) -> ControllerConfig {
    let format = if block_size == 4096 { Format::Block4096 } else { Format::Block512 };
    let length_blocks = size_bytes / u64::from(block_size);
    ControllerConfig {
        name: name.to_string(),
        serial: format!("VEGA-{name}").chars().take(SERIAL_CHARACTERS).collect(),
        namespaces: vec![NamespaceConfig::new(1, length_blocks, format)],
        ..ControllerConfig::default()
    }
}

impl Loans {
    fn take_first(
        &mut self,
        facts: &Facts,
        address: PciAddress,
        device: &DeviceConfig,
    ) -> Result<Source, TakeError> {
        let confirmed_serials = device.confirm_serial.iter().cloned().collect();
        let options = BindOptions { confirmed_serials, own_volumes: true, ..BindOptions::default() };
        let (opened, was_bound) = self.take(address, device, options, Some(&facts.licence))?;
        self.lent.push(Lent {
            facts: facts.clone(),
            config: device.clone(),
            address,
            tether: opened.tether(),
            was_bound,
            instance: self.host.instance(address),
        });
        Ok(Source::Pci(opened))
    }

    /// The function, and whether the kernel's driver had it before.
    pub(super) fn take(
        &self,
        address: PciAddress,
        device: &DeviceConfig,
        options: BindOptions,
        licence: Option<&Licence>,
    ) -> Result<(VfioDevice, bool), TakeError> {
        let options = BindOptions { no_iommu: device.no_iommu, ..options };
        let plan = self.host.plan_bind(&[address], &options)?;
        if let Some(licence) = licence {
            let function = self.host.function(address)?;
            licence
                .take(&plan.overridden().map(|from| from.without_instance(&function)).collect::<Vec<_>>())?;
        }
        for warning in plan.warnings() {
            tracing::warn!(device = %device.name, "{warning}");
        }
        let was_bound = plan.already().is_empty();
        plan.execute()?;
        let way = device.no_iommu.then_some(Way::NoIommu);
        match VfioDevice::open(address, way) {
            Ok(opened) => {
                tracing::info!(device = %device.name, "{}", opened.report());
                Ok((opened, was_bound))
            }
            Err(error) => {
                if was_bound {
                    self.give_back(address);
                }
                Err(error.into())
            }
        }
    }

    pub(super) fn give_back(&self, address: PciAddress) {
        match self.host.plan_unbind(&[address]).and_then(nvme_pci::Plan::execute) {
            Ok(()) => tracing::info!("{address} was given back to the kernel"),
            Err(error) => tracing::error!("{address} was not given back to the kernel: {error}"),
        }
    }
}

impl Drop for Loans {
    fn drop(&mut self) {
        for Lent { facts, tether, address, was_bound, .. } in std::mem::take(&mut self.lent) {
            if facts.presence.is_away() {
                continue;
            }
            // The kernel stops the function when the last handle has gone.
            if tether.is_held() || !tether.wait(CLOSE_TIMEOUT) {
                tracing::error!(
                    "{address} is still held by a core; \"vega disk unbind {address}\" gives it back later"
                );
            } else if was_bound {
                self.give_back(address);
            }
        }
    }
}
