//! What a device can see of memory: mappings in its IOMMU, made and taken away one by one.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nvme::device::DeviceError;

use crate::error::Way;
use crate::iova::Iovas;
use crate::physical;
use crate::sys::{self, Errno, Mappable};

/// Whose tables translate.
#[derive(Debug)]
pub(crate) enum Tables {
    /// Those of a container; the group is in it as long as its file is open.
    Group { container: OwnedFd, group: OwnedFd },
    /// Those of an address space of iommufd.
    Iommufd { iommufd: OwnedFd, space: u32 },
    /// Nobody's. The files keep the function's group to this process.
    None { _container: OwnedFd, group: OwnedFd },
}

#[derive(Debug)]
struct State {
    iovas: Iovas,
    entries_left: u32,
}

/// The address space of one function. Mappings hold it, so it ends after the last of them.
#[derive(Debug)]
pub(crate) struct Space {
    tables: Tables,
    state: Mutex<State>,
}

impl Space {
    pub(crate) fn new(tables: Tables, iovas: Iovas, entries_left: u32) -> Self {
        Self { tables, state: Mutex::new(State { iovas, entries_left }) }
    }

    pub(crate) fn way(&self) -> Way {
        match self.tables {
            Tables::Group { .. } => Way::Group,
            Tables::Iommufd { .. } => Way::Iommufd,
            Tables::None { .. } => Way::NoIommu,
        }
    }

    /// The file of the function's group, where there are groups.
    pub(crate) fn group(&self) -> Option<&OwnedFd> {
        match &self.tables {
            Tables::Group { group, .. } | Tables::None { group, .. } => Some(group),
            Tables::Iommufd { .. } => None,
        }
    }

    // Never held on the way of an I/O: mappings are made when queues and pools are.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `memory` visible to the device: where it finds it, and what takes it away again.
    pub(crate) fn map(self: &Arc<Self>, memory: Mappable) -> Result<(u64, Mapping), DeviceError> {
        let length_bytes = memory.len();
        if let Tables::None { .. } = self.tables {
            let iova =
                physical::address_of(memory.address(), length_bytes).map_err(|reason| match reason {
                    physical::NotFound::Scattered => DeviceError::NotContiguous { length_bytes },
                    physical::NotFound::Refused(errno) => DeviceError::NotMapped { length_bytes, errno },
                })?;
            return Ok((iova, Mapping { space: Arc::clone(self), iova, size: 0 }));
        }
        let mut state = self.state();
        let size = (length_bytes as u64).next_multiple_of(state.iovas.page_bytes());
        if size != length_bytes as u64 {
            // Pages of the IOMMU are larger than those of this memory, so it would show more than it should.
            return Err(DeviceError::NotMapped { length_bytes, errno: libc::EINVAL });
        }
        if state.entries_left == 0 {
            return Err(DeviceError::NotMapped { length_bytes, errno: libc::ENOSPC });
        }
        let iova = state.iovas.take(size).ok_or(DeviceError::NoAddressSpace { length_bytes })?;
        let outcome = match &self.tables {
            Tables::Group { container, .. } => sys::map_dma(container.as_fd(), memory, iova, size),
            Tables::Iommufd { iommufd, space } => sys::map_space(iommufd.as_fd(), *space, memory, iova, size),
            Tables::None { .. } => Ok(()),
        };
        if let Err(errno) = outcome {
            state.iovas.give(iova, size);
            return Err(DeviceError::NotMapped { length_bytes, errno });
        }
        state.entries_left -= 1;
        drop(state);
        Ok((iova, Mapping { space: Arc::clone(self), iova, size }))
    }

    fn unmap(&self, iova: u64, size: u64) -> Result<u64, Errno> {
        match &self.tables {
            Tables::Group { container, .. } => sys::unmap_dma(container.as_fd(), iova, size),
            Tables::Iommufd { iommufd, space } => sys::unmap_space(iommufd.as_fd(), *space, iova, size),
            Tables::None { .. } => Ok(0),
        }
    }
}

/// Memory that the device sees, until this is dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    space: Arc<Space>,
    iova: u64,
    /// 0 without an IOMMU: there is nothing to take away.
    size: u64,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.size == 0 {
            return;
        }
        // Without its mapping the kernel has no reason to refuse. Should it, then the device may still see these pages, which
        // the kernel keeps for it; so nothing else may ever be mapped at these addresses.
        if self.space.unmap(self.iova, self.size) == Ok(self.size) {
            let mut state = self.space.state();
            state.iovas.give(self.iova, self.size);
            state.entries_left += 1;
        }
    }
}
