//! Taking devices over before the cores start, and giving them back when everything has ended. Blocking.

use control::config::{Config, DeviceConfig, DevicePlace};
use control::model::{DeviceKind, DeviceName};
use nvme_emulated::{ControllerConfig, Format, NamespaceConfig};
use nvme_pci::{BindOptions, Host, PciAddress, PciError};
use vfio::{VfioDevice, VfioError, Way};

/// Serial numbers have 20 characters.
const SERIAL_CHARACTERS: usize = 20;

/// Why a device is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    #[error(transparent)]
    Pci(#[from] PciError),
    #[error(transparent)]
    Vfio(#[from] VfioError),
}

/// What all of a device's messages need.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub name: DeviceName,
    pub kind: DeviceKind,
    pub pci_address: Option<PciAddress>,
    /// Index of the core that drives it.
    pub core: usize,
    /// Whoever typed this agreed to lose what is on the device with this serial number.
    pub confirmed_serial: Option<String>,
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
struct Lent {
    device: VfioDevice,
    address: PciAddress,
    /// The kernel had it before, and gets it back.
    was_bound: bool,
}

/// Everything that was taken from the kernel. Dropped last: after the cores, which hold handles of the same devices.
pub(crate) struct Loans {
    host: Host,
    lent: Vec<Lent>,
}

/// Takes over what the configuration names, and nothing else. A device that cannot be had does not keep the node from
/// starting: what lives elsewhere is served, and the device says why it is not there.
pub(crate) fn take_all(config: &Config, cores: usize, host: Host) -> (Vec<Taken>, Loans) {
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
            confirmed_serial: device.confirm_serial.clone(),
        };
        let source = match place {
            DevicePlace::Emulated { size_bytes, block_size } => {
                Ok(Source::Emulated(Box::new(emulated(&device.name, size_bytes, block_size))))
            }
            DevicePlace::Pci(address) => loans.take(address, device),
            DevicePlace::Disk(path) => match loans.host.function_of_disk(&path) {
                Ok(function) => {
                    facts.pci_address = Some(function.address);
                    loans.take(function.address, device)
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
    fn take(&mut self, address: PciAddress, device: &DeviceConfig) -> Result<Source, TakeError> {
        let options = BindOptions {
            confirmed_serials: device.confirm_serial.iter().cloned().collect(),
            no_iommu: device.no_iommu,
            own_volumes: true,
        };
        let plan = self.host.plan_bind(&[address], &options)?;
        for warning in plan.warnings() {
            tracing::warn!(device = %device.name, "{warning}");
        }
        let was_bound = plan.already().is_empty();
        plan.execute()?;
        let way = device.no_iommu.then_some(Way::NoIommu);
        // The same text is an address there.
        let there = address.to_string().parse().expect("a PCI address is one in both crates");
        match VfioDevice::open(there, way) {
            Ok(opened) => {
                tracing::info!(device = %device.name, "{}", opened.report());
                self.lent.push(Lent { device: opened.clone(), address, was_bound });
                Ok(Source::Pci(opened))
            }
            Err(error) => {
                if was_bound {
                    self.give_back(address);
                }
                Err(error.into())
            }
        }
    }

    fn give_back(&self, address: PciAddress) {
        match self.host.plan_unbind(&[address]).and_then(nvme_pci::Plan::execute) {
            Ok(()) => tracing::info!("{address} was given back to the kernel"),
            Err(error) => tracing::error!("{address} was not given back to the kernel: {error}"),
        }
    }
}

impl Drop for Loans {
    fn drop(&mut self) {
        for Lent { device, address, was_bound } in std::mem::take(&mut self.lent) {
            // The last handle waits until the kernel has stopped the function.
            if !device.release() {
                tracing::error!(
                    "{address} is still held by a core; \"vega disk unbind {address}\" gives it back later"
                );
            } else if was_bound {
                self.give_back(address);
            }
        }
    }
}
