//! Taking a function over: which way there is, and what may stand in it.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nvme_pci::PciAddress;
use vfio_bindings::bindings::vfio;

use crate::chain::SpaceInfo;
use crate::error::{Request, VfioError, Way};
use crate::iova::Iovas;
use crate::limits::DMA_ENTRIES_DEFAULT;
use crate::pci::System;
use crate::space::{Space, Tables};
use crate::sys::{self, Errno};

const CONTAINER: &str = "/dev/vfio/vfio";
const IOMMUFD: &str = "/dev/iommu";

/// The errors of one function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusals {
    pub(crate) address: PciAddress,
}

impl Refusals {
    /// The kernel refused `request`.
    pub(crate) fn of(self, request: Request) -> impl Fn(Errno) -> VfioError {
        let address = self.address;
        move |errno| match errno {
            libc::ENODEV => VfioError::Removed { address },
            errno => VfioError::Refused { address, request, errno },
        }
    }
}

/// A function that was taken over.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) device: File,
    pub(crate) space: Space,
}

struct Opening<'a> {
    system: &'a System,
    address: PciAddress,
}

/// Takes a function over, in the way that is named, or the best there is. Never without an IOMMU unless that is named.
pub(crate) fn open(system: &System, address: PciAddress, way: Option<Way>) -> Result<Opened, VfioError> {
    let opening = Opening { system, address };
    if !system.exists(address) {
        return Err(VfioError::NoSuchFunction { address });
    }
    let driver = system.driver(address);
    // Variants for single devices are called after what they add: nvgrace-gpu-vfio-pci.
    if !driver.as_deref().is_some_and(|driver| driver.ends_with("vfio-pci")) {
        return Err(VfioError::NotBound { address, driver });
    }
    match way {
        Some(Way::Group) => opening.by_group(),
        Some(Way::Iommufd) => opening.by_iommufd(),
        Some(Way::NoIommu) => opening.without_iommu(),
        // A kernel can be built without groups; then functions have only files of their own.
        None if opening.has_own_file() && !system.path(CONTAINER).exists() => opening.by_iommufd(),
        None => opening.by_group(),
    }
}

impl Opening<'_> {
    fn refused(&self, request: Request) -> impl Fn(Errno) -> VfioError {
        Refusals { address: self.address }.of(request)
    }

    fn has_own_file(&self) -> bool {
        self.system.path(IOMMUFD).exists() && self.system.device_file(self.address).is_some()
    }

    fn file(&self, path: &Path) -> Result<File, VfioError> {
        let address = self.address;
        let opened = File::options().read(true).write(true).open(self.system.path(&path.to_string_lossy()));
        opened.map_err(|error| self.not_opened(path, &error, address))
    }

    fn not_opened(&self, path: &Path, error: &io::Error, address: PciAddress) -> VfioError {
        let shown = path.to_string_lossy().into_owned();
        match error.raw_os_error().unwrap_or(libc::EIO) {
            // The file may be there before the module is.
            libc::ENOENT | libc::ENODEV | libc::ENXIO => VfioError::NoVfio { address, path: shown },
            errno @ (libc::EPERM | libc::EACCES) => VfioError::NotPermitted { address, path: shown, errno },
            libc::EBUSY => VfioError::Busy {
                address,
                path: shown,
                holders: self.system.holders(&self.system.path(&path.to_string_lossy())),
            },
            errno => VfioError::Refused { address, request: Request::Open, errno },
        }
    }

    fn container(&self, kind: u32, way: Way) -> Result<OwnedFd, VfioError> {
        let container = OwnedFd::from(self.file(Path::new(CONTAINER))?);
        let version = sys::api_version(container.as_fd()).map_err(self.refused(Request::ApiVersion))?;
        if version != vfio::VFIO_API_VERSION || !sys::has_extension(container.as_fd(), kind) {
            return Err(VfioError::WayNotOffered { address: self.address, way });
        }
        Ok(container)
    }

    /// Opens the group's file, puts it into the container, and gives the container tables of `kind`.
    fn enter(
        &self,
        container: BorrowedFd<'_>,
        path: &Path,
        number: u32,
        kind: u32,
    ) -> Result<OwnedFd, VfioError> {
        let address = self.address;
        let group = OwnedFd::from(self.file(path)?);
        let viable = sys::group_is_viable(group.as_fd()).map_err(self.refused(Request::GroupStatus))?;
        if !viable {
            let held_back_by = self.system.held_back_by(number, address);
            return Err(VfioError::GroupNotViable { address, group: number, held_back_by });
        }
        sys::set_container(group.as_fd(), container).map_err(self.refused(Request::SetContainer))?;
        sys::set_iommu(container, kind).map_err(|errno| match errno {
            libc::EPERM if kind == vfio::VFIO_TYPE1v2_IOMMU => VfioError::UnsafeInterrupts { address },
            errno => self.refused(Request::SetIommu)(errno),
        })?;
        Ok(group)
    }

    fn device_of(&self, group: &OwnedFd) -> Result<File, VfioError> {
        let name = CString::new(self.address.to_string()).expect("an address has no zero in it");
        let device = sys::device_file(group.as_fd(), &name);
        Ok(File::from(device.map_err(self.refused(Request::DeviceFile))?))
    }

    fn by_group(&self) -> Result<Opened, VfioError> {
        let address = self.address;
        let number = self.system.group(address).ok_or(VfioError::NoIommu { address })?;
        let container = self.container(vfio::VFIO_TYPE1v2_IOMMU, Way::Group)?;
        let path = PathBuf::from(format!("/dev/vfio/{number}"));
        if !self.system.path(&path.to_string_lossy()).exists()
            && self.system.path(&format!("/dev/vfio/noiommu-{number}")).exists()
        {
            return Err(VfioError::NoIommu { address });
        }
        let group = self.enter(container.as_fd(), &path, number, vfio::VFIO_TYPE1v2_IOMMU)?;
        let device = self.device_of(&group)?;
        let answer = sys::iommu_info(container.as_fd()).map_err(self.refused(Request::IommuInfo))?;
        let info = SpaceInfo::parse(&answer).unwrap_or_default();
        let iovas = Iovas::new(info.ranges.as_deref(), info.page_sizes);
        let entries = info.entries_left.unwrap_or(DMA_ENTRIES_DEFAULT);
        Ok(Opened { device, space: Space::new(Tables::Group { container, group }, iovas, entries) })
    }

    fn by_iommufd(&self) -> Result<Opened, VfioError> {
        let address = self.address;
        let not_offered = VfioError::WayNotOffered { address, way: Way::Iommufd };
        let name = self.system.device_file(address).filter(|_| self.system.path(IOMMUFD).exists());
        let path = Path::new("/dev/vfio/devices").join(name.ok_or(not_offered)?);
        let device = self.file(&path)?;
        let iommufd = OwnedFd::from(self.file(Path::new(IOMMUFD))?);
        sys::bind_iommufd(device.as_fd(), iommufd.as_fd()).map_err(|errno| match errno {
            libc::EBUSY => self.not_opened(&path, &io::Error::from_raw_os_error(errno), address),
            errno => self.refused(Request::BindIommufd)(errno),
        })?;
        let space = sys::allocate_space(iommufd.as_fd()).map_err(self.refused(Request::AllocateSpace))?;
        sys::attach_space(device.as_fd(), space).map_err(self.refused(Request::AttachSpace))?;
        // Asked for after the function was attached, because its IOMMU narrows them.
        let (alignment, ranges) =
            sys::space_ranges(iommufd.as_fd(), space).map_err(self.refused(Request::IommuInfo))?;
        let ranges: Vec<_> = ranges.into_iter().map(|(start, last)| start..=last).collect();
        let iovas = Iovas::new(Some(&ranges), alignment.max(1).next_power_of_two());
        let tables = Tables::Iommufd { iommufd, space };
        Ok(Opened { device, space: Space::new(tables, iovas, DMA_ENTRIES_DEFAULT) })
    }

    fn without_iommu(&self) -> Result<Opened, VfioError> {
        let address = self.address;
        let not_offered = VfioError::WayNotOffered { address, way: Way::NoIommu };
        let number = self.system.group(address).ok_or(not_offered)?;
        let container = self.container(vfio::VFIO_NOIOMMU_IOMMU, Way::NoIommu)?;
        let path = PathBuf::from(format!("/dev/vfio/noiommu-{number}"));
        let group = self.enter(container.as_fd(), &path, number, vfio::VFIO_NOIOMMU_IOMMU)?;
        let device = self.device_of(&group)?;
        let tables = Tables::None { _container: container, group };
        Ok(Opened { device, space: Space::new(tables, Iovas::new(None, 0), 0) })
    }
}

#[cfg(test)]
mod tests;
