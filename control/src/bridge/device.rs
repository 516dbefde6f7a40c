//! What the data plane says of an NVMe device that it drives.

use std::sync::Arc;

use nvme_pci::PciAddress;
use nvme_spec::identify::IdentifyController;
use nvme_spec::log::SmartHealth;
use reactor::stats::HistogramSnapshot;

use crate::model::{DeviceKind, DeviceName, DeviceNamespace, DeviceQueuePair, DeviceState};

/// A device of the configuration, as it is. One that could not be brought up is reported as well, with its problem.
#[derive(Clone)]
pub struct DeviceReport {
    /// Its name.
    pub name: DeviceName,
    /// What it is made of.
    pub kind: DeviceKind,
    /// Where it is on the PCI buses.
    pub pci_address: Option<PciAddress>,
    /// The core that drives its admin queue.
    pub core: u32,
    /// How it is.
    pub state: DeviceState,
    /// What is wrong with it, and what to do.
    pub problem: Option<String>,
    /// What it says of itself, once it was asked.
    pub identify: Option<Arc<IdentifyController>>,
    /// Its health as it was last read.
    pub health: Option<Arc<SmartHealth>>,
    /// Its active namespaces; whose they are is not said here.
    pub namespaces: Vec<DeviceNamespace>,
    /// Its I/O queue pairs, and how long their commands took.
    pub queue_pairs: Vec<(DeviceQueuePair, HistogramSnapshot)>,
    /// What went wrong and was mended: name of the event, and how often since the node was started.
    pub events: Vec<(&'static str, u64)>,
}
