//! Why a controller was not looked at or not moved.

use std::io;
use std::path::PathBuf;

use crate::address::PciAddress;
use crate::function::Member;
use crate::process::Process;
use crate::usage::Use;

/// What is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PciError {
    /// Nothing is at that address.
    #[error("there is no PCI function {address}; \"vega disk list\" shows the NVMe controllers")]
    NotThere {
        /// The address.
        address: PciAddress,
    },
    /// Something else is at that address.
    #[error(
        "{address} is no NVMe controller (its class is {class:06x}, not 010802); \"vega disk list\" shows those that are"
    )]
    NotNvme {
        /// The address.
        address: PciAddress,
        /// Its class code.
        class: u32,
    },
    /// The path leads to nothing.
    #[error(
        "{path}: {source}; a controller that vfio-pci has shows no disk: name it by its PCI address (\"vega disk list\")"
    )]
    NoDisk {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The path is no disk of an NVMe controller on a PCI bus.
    #[error(
        "{path} is no whole disk of an NVMe controller on a PCI bus; \"vega disk list\" shows those that are"
    )]
    NotAnNvmeDisk {
        /// The path.
        path: PathBuf,
    },
    /// Somebody uses its disks.
    #[error(
        "{address} (serial number {serial}) is in use: {}; if you are sure, repeat with --confirm-serial {serial}",
        list(.uses)
    )]
    InUse {
        /// The address.
        address: PciAddress,
        /// Its serial number, which confirms.
        serial: String,
        /// By whom.
        uses: Vec<Use>,
    },
    /// A serial number was typed that none of the named controllers has.
    #[error("no controller that was named has the serial number {given:?}; theirs: {}", list(.known))]
    SerialUnknown {
        /// What was typed.
        given: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No driver has it, so its disks cannot be looked at.
    #[error(
        "no driver has {address}, so nobody can say what its disks hold; give it to the kernel first \
         (vega disk unbind {address}), then bind it"
    )]
    Undriven {
        /// The address.
        address: PciAddress,
    },
    /// A driver has it that this program does not take devices from.
    #[error("{address} is driven by {driver}, not by the kernel's nvme; take it from there first")]
    OtherDriver {
        /// The address.
        address: PciAddress,
        /// The driver.
        driver: String,
    },
    /// The kernel's driver has it, but says nothing about it.
    #[error("the kernel's driver shows no controller at {address} ({state}); see its messages (dmesg)")]
    NoController {
        /// The address.
        address: PciAddress,
        /// What it says of the state.
        state: &'static str,
    },
    /// Its virtual functions would go with it.
    #[error(
        "{address} has given out {count} virtual functions, which would go with it; take them back first \
         (echo 0 > /sys/bus/pci/devices/{address}/sriov_numvfs)"
    )]
    VirtualFunctions {
        /// The address.
        address: PciAddress,
        /// How many.
        count: u32,
    },
    /// The IOMMU cannot keep it apart from functions that the kernel drives.
    #[error(
        "{address} shares IOMMU group {group} with {}, which the kernel drives; name them as well if they are yours to give \
         away, or put the controller into another slot",
        list(.members)
    )]
    GroupShared {
        /// The address.
        address: PciAddress,
        /// The group.
        group: u32,
        /// Who is in the way.
        members: Vec<Member>,
    },
    /// There is no IOMMU.
    #[error(
        "{address} is in no IOMMU group: the machine has no IOMMU, or it is off (\"vega doctor\" says which); without one a \
         device can write to any memory, so it has to be asked for with --no-iommu"
    )]
    NoIommu {
        /// The address.
        address: PciAddress,
    },
    /// The kernel does not allow work without an IOMMU.
    #[error(
        "the kernel does not let user space drive devices without an IOMMU; allow it with \
         \"modprobe vfio enable_unsafe_noiommu_mode=1\" or \
         \"echo 1 > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode\""
    )]
    NoIommuForbidden,
    /// The driver is not there.
    #[error("the kernel has no driver {driver}; load it with \"modprobe {driver}\"")]
    NoDriver {
        /// The driver.
        driver: &'static str,
    },
    /// A process drives it.
    #[error("{address} is driven by {}; stop that first", list(.holders))]
    Held {
        /// The address.
        address: PciAddress,
        /// By whom.
        holders: Vec<Process>,
    },
    /// The driver did not take it; everything is as it was.
    #[error("{driver} did not take {address} ({}); see the kernel's messages (dmesg)", now_with(.found.as_deref()))]
    NotTaken {
        /// The address.
        address: PciAddress,
        /// The driver that should have.
        driver: &'static str,
        /// The driver that has it now.
        found: Option<String>,
    },
    /// An attribute could not be written.
    #[error("cannot write {value:?} to {attribute}: {source}{}", hint(.source))]
    Write {
        /// The attribute.
        attribute: PathBuf,
        /// What should have been written.
        value: String,
        /// Why.
        source: io::Error,
    },
}

impl PciError {
    /// True when the command was wrong, not the machine.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::SerialUnknown { .. } | Self::NotNvme { .. })
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn now_with(driver: Option<&str>) -> String {
    driver.map_or_else(|| "no driver has it".to_owned(), |driver| format!("{driver} has it"))
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; run this as root",
        io::ErrorKind::ReadOnlyFilesystem => {
            "; /sys is mounted read-only here: run this on the machine, not in a container"
        }
        _ => "",
    }
}

impl std::fmt::Display for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let driver = self.driver.as_deref().unwrap_or("no driver");
        write!(f, "{} (class {:06x}, {driver})", self.address, self.class)
    }
}
