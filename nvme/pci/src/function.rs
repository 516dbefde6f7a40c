//! What is known of one PCI function with an NVMe controller.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::attribute;
use crate::block::{BlockDevice, disk_name};
use crate::{Host, PciAddress, PciError};

/// Class code of an I/O controller with an NVM Express interface (NVMe over PCIe Transport, section 3.1.1.6).
const CLASS_NVME: u32 = 0x01_08_02;
/// Base class 06h, subclass 04h: a bridge between buses; it takes no part in the isolation of a group.
const CLASS_BRIDGE: u32 = 0x06_04;

/// A controller as the machine shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Function {
    /// Where it is.
    pub address: PciAddress,
    /// Vendor ID.
    pub vendor_id: u32,
    /// Device ID.
    pub device_id: u32,
    /// Subsystem vendor ID.
    pub subsystem_vendor_id: Option<u32>,
    /// Subsystem ID.
    pub subsystem_device_id: Option<u32>,
    /// The memory node that is nearest; `None` where the machine has one only, or does not say.
    pub numa_node: Option<u32>,
    /// What the IOMMU can keep apart from the rest; `None` without an IOMMU.
    pub iommu_group: Option<IommuGroup>,
    /// The driver that has it.
    pub driver: Option<String>,
    /// The only driver that may take it, where that was restricted.
    pub driver_override: Option<String>,
    /// Its link.
    pub link: Option<Link>,
    /// Virtual functions that it has given out.
    pub virtual_functions: u32,
    /// What the kernel's driver says of the controller, while that has it.
    pub controller: Option<KernelController>,
}

/// Functions that the IOMMU cannot keep apart from each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IommuGroup {
    /// Its number; `/dev/vfio/NUMBER` is its door.
    pub number: u32,
    /// True for a group that stands for "no IOMMU at all".
    pub no_iommu: bool,
    /// Everything in it, this function as well.
    pub members: Vec<Member>,
}

/// A function in a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Where it is.
    pub address: PciAddress,
    /// Class code.
    pub class: u32,
    /// The driver that has it.
    pub driver: Option<String>,
}

impl Member {
    /// True when it keeps the group from being given to user space: a kernel driver could let it write to memory.
    pub fn is_in_the_way(&self) -> bool {
        let harmless = ["vfio-pci", "pci-stub", "pcieport", "shpchp"];
        let bridge = self.class >> 8 == CLASS_BRIDGE;
        !bridge && self.driver.as_deref().is_some_and(|driver| !harmless.contains(&driver))
    }
}

/// A PCI Express link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// For example `8.0 GT/s PCIe`.
    pub speed: String,
    /// Lanes.
    pub width: u32,
    /// What the function could do.
    pub max_speed: String,
    /// Lanes that the function has.
    pub max_width: u32,
}

impl Link {
    /// True when the function could do more than its slot lets it.
    pub fn is_reduced(&self) -> bool {
        self.width < self.max_width || self.speed != self.max_speed
    }
}

/// A controller while the kernel's driver has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelController {
    /// Its name, for example `nvme0`.
    pub name: String,
    /// Serial number.
    pub serial: String,
    /// Model number.
    pub model: String,
    /// Firmware revision.
    pub firmware: String,
    /// `live`, `resetting`, `dead`, …
    pub state: String,
    /// The disks that its namespaces are.
    pub disks: Vec<BlockDevice>,
}

impl Function {
    /// Its serial number, as far as the kernel's driver has told it.
    pub fn serial(&self) -> Option<&str> {
        self.controller.as_ref().map(|controller| controller.serial.as_str())
    }
}

impl Host {
    /// Every NVMe controller on a PCI bus, by address.
    pub fn functions(&self) -> Vec<Function> {
        let devices = self.pci().join("devices");
        let mut found: Vec<Function> = attribute::names(&devices)
            .iter()
            .filter_map(|name| name.parse().ok())
            .filter(|address| {
                attribute::hexadecimal(&self.function_folder(*address).join("class")) == Some(CLASS_NVME)
            })
            .map(|address| self.read_function(address))
            .collect();
        found.sort_by_key(|function| function.address);
        found
    }

    /// The controller at `address`.
    pub fn function(&self, address: PciAddress) -> Result<Function, PciError> {
        let folder = self.function_folder(address);
        match attribute::hexadecimal(&folder.join("class")) {
            None => Err(PciError::NotThere { address }),
            Some(CLASS_NVME) => Ok(self.read_function(address)),
            Some(class) => Err(PciError::NotNvme { address, class }),
        }
    }

    /// The controller behind a block device of the kernel's driver: `/dev/nvme0n1`, or a link to it.
    pub fn function_of_disk(&self, path: &Path) -> Result<Function, PciError> {
        let resolved = std::fs::canonicalize(path);
        let resolved = resolved.map_err(|source| PciError::NoDisk { path: path.to_owned(), source })?;
        // A file or a mount point may have the name of a disk, too.
        let devices = std::fs::canonicalize(&self.roots.dev).ok();
        if resolved.parent() != devices.as_deref() {
            return Err(PciError::NotAnNvmeDisk { path: path.to_owned() });
        }
        let name = resolved.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let has_it = |function: &Function| {
            let controller = function.controller.as_ref();
            controller.is_some_and(|controller| controller.disks.iter().any(|disk| disk.name == name))
        };
        self.functions().into_iter().find(has_it).ok_or(PciError::NotAnNvmeDisk { path: path.to_owned() })
    }

    /// Which of the functions it is that have been at `address` one after the other; `None` while there is none. The kernel makes
    /// a folder for each, with a number of its own.
    pub fn instance(&self, address: PciAddress) -> Option<u64> {
        std::fs::metadata(self.function_folder(address)).ok().map(|folder| folder.ino())
    }

    pub(crate) fn function_folder(&self, address: PciAddress) -> PathBuf {
        self.pci().join("devices").join(address.to_string())
    }

    pub(crate) fn driver_of(&self, address: PciAddress) -> Option<String> {
        attribute::link_name(&self.function_folder(address).join("driver"))
    }

    fn read_function(&self, address: PciAddress) -> Function {
        let folder = self.function_folder(address);
        let id = |name: &str| attribute::hexadecimal(&folder.join(name));
        let written = attribute::text(&folder.join("driver_override"));
        Function {
            address,
            vendor_id: id("vendor").unwrap_or(0),
            device_id: id("device").unwrap_or(0),
            subsystem_vendor_id: id("subsystem_vendor"),
            subsystem_device_id: id("subsystem_device"),
            // -1 where there is nothing to choose.
            numa_node: attribute::number(&folder.join("numa_node")),
            iommu_group: self.iommu_group(&folder),
            driver: self.driver_of(address),
            driver_override: written.filter(|name| name != "(null)"),
            link: link(&folder),
            virtual_functions: attribute::number(&folder.join("sriov_numvfs")).unwrap_or(0),
            controller: self.kernel_controller(&folder),
        }
    }

    fn iommu_group(&self, folder: &Path) -> Option<IommuGroup> {
        let group = folder.join("iommu_group");
        let number = attribute::link_name(&group)?.parse().ok()?;
        let no_iommu = attribute::text(&group.join("name")).as_deref() == Some("vfio-noiommu");
        let addresses =
            attribute::names(&group.join("devices")).into_iter().filter_map(|name| name.parse().ok());
        let members = addresses.map(|address: PciAddress| Member {
            address,
            class: attribute::hexadecimal(&self.function_folder(address).join("class")).unwrap_or(0),
            driver: self.driver_of(address),
        });
        Some(IommuGroup { number, no_iommu, members: members.collect() })
    }

    fn kernel_controller(&self, folder: &Path) -> Option<KernelController> {
        let controllers = folder.join("nvme");
        let name = attribute::names(&controllers).into_iter().find(|name| name.starts_with("nvme"))?;
        let own = controllers.join(&name);
        let text = |attribute: &str| attribute::text(&own.join(attribute)).unwrap_or_default();
        let mut disks: Vec<String> =
            attribute::names(&own).iter().filter_map(|entry| disk_name(entry)).collect();
        disks.sort();
        disks.dedup();
        Some(KernelController {
            serial: text("serial"),
            model: text("model"),
            firmware: text("firmware_rev"),
            state: text("state"),
            disks: disks.iter().map(|disk| BlockDevice::read(self, disk)).collect(),
            name,
        })
    }
}

fn link(folder: &Path) -> Option<Link> {
    let text = |name: &str| attribute::text(&folder.join(name));
    Some(Link {
        speed: text("current_link_speed")?,
        width: attribute::number(&folder.join("current_link_width"))?,
        max_speed: text("max_link_speed")?,
        max_width: attribute::number(&folder.join("max_link_width"))?,
    })
}
