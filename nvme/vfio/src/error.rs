//! Why a function could not be taken over: each says which one, what is in the way, and what to do about it.

use std::fmt;

use nvme_pci::PciAddress;

/// A function of a group, and the driver it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it is.
    pub address: PciAddress,
    /// Its driver.
    pub driver: String,
}

/// A process that has a device open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name, as `ps` shows it.
    pub name: String,
}

/// One request to the kernel, as its errors call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Opening a file of VFIO or of iommufd.
    Open,
    /// VFIO_GET_API_VERSION.
    ApiVersion,
    /// VFIO_GROUP_GET_STATUS.
    GroupStatus,
    /// VFIO_GROUP_SET_CONTAINER.
    SetContainer,
    /// VFIO_SET_IOMMU.
    SetIommu,
    /// VFIO_IOMMU_GET_INFO, or IOMMU_IOAS_IOVA_RANGES.
    IommuInfo,
    /// VFIO_GROUP_GET_DEVICE_FD.
    DeviceFile,
    /// VFIO_DEVICE_BIND_IOMMUFD.
    BindIommufd,
    /// IOMMU_IOAS_ALLOC.
    AllocateSpace,
    /// VFIO_DEVICE_ATTACH_IOMMUFD_PT.
    AttachSpace,
    /// VFIO_DEVICE_GET_INFO.
    DeviceInfo,
    /// VFIO_DEVICE_GET_REGION_INFO.
    RegionInfo,
    /// VFIO_DEVICE_GET_IRQ_INFO.
    InterruptInfo,
    /// VFIO_DEVICE_SET_IRQS.
    SetInterrupts,
    /// Mapping the registers.
    MapRegisters,
    /// Reading or writing the configuration space.
    Configuration,
    /// Making an eventfd or the thread that attends to the function.
    Attendant,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::ApiVersion => "VFIO_GET_API_VERSION",
            Self::GroupStatus => "VFIO_GROUP_GET_STATUS",
            Self::SetContainer => "VFIO_GROUP_SET_CONTAINER",
            Self::SetIommu => "VFIO_SET_IOMMU",
            Self::IommuInfo => "the query of the IOMMU's ranges",
            Self::DeviceFile => "VFIO_GROUP_GET_DEVICE_FD",
            Self::BindIommufd => "VFIO_DEVICE_BIND_IOMMUFD",
            Self::AllocateSpace => "IOMMU_IOAS_ALLOC",
            Self::AttachSpace => "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
            Self::DeviceInfo => "VFIO_DEVICE_GET_INFO",
            Self::RegionInfo => "VFIO_DEVICE_GET_REGION_INFO",
            Self::InterruptInfo => "VFIO_DEVICE_GET_IRQ_INFO",
            Self::SetInterrupts => "VFIO_DEVICE_SET_IRQS",
            Self::MapRegisters => "the mapping of the registers",
            Self::Configuration => "the access to the configuration space",
            Self::Attendant => "starting the function's attendant",
        })
    }
}

/// Why a function was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VfioError {
    /// There is no such function.
    #[error("{address}: there is no such PCI function; `vega disk list` shows those with an NVMe controller")]
    NoSuchFunction {
        /// Where it would be.
        address: PciAddress,
    },
    /// It belongs to another driver.
    #[error(
        "{address}: it belongs to {}, not to vfio-pci; give it over with: vega disk bind {address}",
        driver_or_none(driver)
    )]
    NotBound {
        /// Where it is.
        address: PciAddress,
        /// Its driver, if it has one.
        driver: Option<String>,
    },
    /// The kernel has no VFIO, or it is not loaded.
    #[error("{address}: {path} is missing, so the kernel has no VFIO loaded; run: modprobe vfio-pci")]
    NoVfio {
        /// The function that was wanted.
        address: PciAddress,
        /// What is missing.
        path: String,
    },
    /// No IOMMU stands before the function.
    #[error(
        "{address}: no IOMMU stands before it; switch it on in the firmware (VT-d, AMD-Vi) and boot with intel_iommu=on or \
         amd_iommu=on"
    )]
    NoIommu {
        /// The function that was wanted.
        address: PciAddress,
    },
    /// This process may not.
    #[error("{address}: {path} may not be opened (errno {errno}); run as root, or: chown $(id -u) {path}")]
    NotPermitted {
        /// The function that was wanted.
        address: PciAddress,
        /// What may not be opened.
        path: String,
        /// The system's error number.
        errno: i32,
    },
    /// Somebody else has it.
    #[error("{address}: {path} is in use by {}; end that first", Holders(holders))]
    Busy {
        /// The function that was wanted.
        address: PciAddress,
        /// What is in use.
        path: String,
        /// By whom, as far as this process may see.
        holders: Vec<Holder>,
    },
    /// Other functions of the group belong to drivers that would share its view of memory.
    #[error(
        "{address}: its IOMMU group {group} also has {}; hand those to vfio-pci as well, or unbind them",
        Members(held_back_by)
    )]
    GroupNotViable {
        /// The function that was wanted.
        address: PciAddress,
        /// Its group.
        group: u32,
        /// Which ones.
        held_back_by: Vec<Member>,
    },
    /// The platform cannot keep a device from faking interrupts, and the kernel insists.
    #[error(
        "{address}: the kernel refuses its group (no interrupt remapping); switch it on (intremap), or accept the risk with: \
         modprobe vfio_iommu_type1 allow_unsafe_interrupts=1"
    )]
    UnsafeInterrupts {
        /// The function that was wanted.
        address: PciAddress,
    },
    /// A way that was asked for by name is not there.
    #[error("{address}: this kernel does not offer {way} for it; leave the choice open to use what there is")]
    WayNotOffered {
        /// The function that was wanted.
        address: PciAddress,
        /// Which way.
        way: Way,
    },
    /// The registers cannot be mapped from their start.
    #[error(
        "{address}: its registers cannot be mapped ({mappable_bytes} of {size_bytes} bytes); it is no NVMe controller, or the \
         kernel is older than 4.16"
    )]
    RegistersNotMappable {
        /// The function that was wanted.
        address: PciAddress,
        /// Length of BAR 0.
        size_bytes: u64,
        /// How much of it can be mapped.
        mappable_bytes: u64,
    },
    /// It went away while it was opened.
    #[error("{address}: it went away while it was opened")]
    Removed {
        /// The function that was wanted.
        address: PciAddress,
    },
    /// The kernel refused a request that it should not refuse.
    #[error(
        "{address}: the kernel refused {request} (errno {errno}); its own words are in: dmesg | grep {address}"
    )]
    Refused {
        /// The function that was wanted.
        address: PciAddress,
        /// What was refused.
        request: Request,
        /// The system's error number.
        errno: i32,
    },
}

/// How a function is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A group of functions in a container, with tables of type 1.
    Group,
    /// The function's own file, and iommufd.
    Iommufd,
    /// No IOMMU: the device sees physical memory, and nothing stops it from touching all of it.
    NoIommu,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Group => "VFIO group and container (type 1)",
            Self::Iommufd => "VFIO device file with iommufd",
            Self::NoIommu => "VFIO without an IOMMU",
        })
    }
}

fn driver_or_none(driver: &Option<String>) -> &str {
    driver.as_deref().unwrap_or("no driver")
}

struct Holders<'a>(&'a [Holder]);

impl fmt::Display for Holders<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("a process that cannot be seen from here");
        }
        for (index, holder) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{} (process {})", holder.name, holder.pid)?;
        }
        Ok(())
    }
}

struct Members<'a>(&'a [Member]);

impl fmt::Display for Members<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("functions that cannot be seen from here");
        }
        for (index, member) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{} (driver {})", member.address, member.driver)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_names_the_function_the_reason_and_the_remedy() {
        let address: PciAddress = "0000:00:04.0".parse().expect("an address");
        let path = "/dev/vfio/7".to_owned();
        let member =
            Member { address: "0000:00:05.0".parse().expect("an address"), driver: "ahci".to_owned() };
        let holder = Holder { pid: 77, name: "qemu".to_owned() };
        let table: [(VfioError, &[&str]); 8] = [
            (
                VfioError::NotBound { address, driver: Some("nvme".to_owned()) },
                &["nvme", "vega disk bind 0000:00:04.0"],
            ),
            (VfioError::NotBound { address, driver: None }, &["no driver"]),
            (VfioError::NoVfio { address, path: path.clone() }, &["/dev/vfio/7", "modprobe vfio-pci"]),
            (VfioError::NoIommu { address }, &["intel_iommu=on"]),
            (VfioError::NotPermitted { address, path: path.clone(), errno: 13 }, &["errno 13", "chown"]),
            (VfioError::Busy { address, path: path.clone(), holders: vec![holder] }, &["qemu (process 77)"]),
            (VfioError::Busy { address, path, holders: Vec::new() }, &["cannot be seen"]),
            (
                VfioError::GroupNotViable { address, group: 7, held_back_by: vec![member] },
                &["group 7", "0000:00:05.0 (driver ahci)", "vfio-pci"],
            ),
        ];
        for (error, wanted) in table {
            let text = error.to_string();
            assert!(text.starts_with("0000:00:04.0: "), "{text}");
            for word in wanted {
                assert!(text.contains(word), "{text}: {word}");
            }
        }
    }
}
