//! The requests of VFIO and of iommufd, one function each. Errors are the system's numbers; what they mean is said above.

// The island: each function hands the kernel a pointer that is right for its request.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use iommufd_bindings::iommufd;
use reactor::buffer::BufferPool;
use reactor::memory::SharedMemory;
use vfio_bindings::bindings::vfio;

use crate::limits::ANSWER_BYTES_MAX;

/// The system's error number.
pub(crate) type Errno = i32;

/// A request's number: `_IO(';', BASE + offset)`, which has neither direction nor size, whatever it carries.
const fn number(base: u32, offset: u32) -> libc::Ioctl {
    ((vfio::VFIO_TYPE as u32) << vfio::_IOC_TYPESHIFT | (base + offset)) as libc::Ioctl
}

const fn vfio_number(offset: u32) -> libc::Ioctl {
    number(vfio::VFIO_BASE, offset)
}

const GET_API_VERSION: libc::Ioctl = vfio_number(0);
const CHECK_EXTENSION: libc::Ioctl = vfio_number(1);
const SET_IOMMU: libc::Ioctl = vfio_number(2);
const GROUP_GET_STATUS: libc::Ioctl = vfio_number(3);
const GROUP_SET_CONTAINER: libc::Ioctl = vfio_number(4);
const GROUP_GET_DEVICE_FD: libc::Ioctl = vfio_number(6);
const DEVICE_GET_INFO: libc::Ioctl = vfio_number(7);
const DEVICE_GET_REGION_INFO: libc::Ioctl = vfio_number(8);
const DEVICE_GET_IRQ_INFO: libc::Ioctl = vfio_number(9);
const DEVICE_SET_IRQS: libc::Ioctl = vfio_number(10);
const DEVICE_RESET: libc::Ioctl = vfio_number(11);
const DEVICE_GET_PCI_HOT_RESET_INFO: libc::Ioctl = vfio_number(12);
const DEVICE_PCI_HOT_RESET: libc::Ioctl = vfio_number(13);
const IOMMU_GET_INFO: libc::Ioctl = vfio_number(12);
const IOMMU_MAP_DMA: libc::Ioctl = vfio_number(13);
const IOMMU_UNMAP_DMA: libc::Ioctl = vfio_number(14);
const DEVICE_BIND_IOMMUFD: libc::Ioctl = vfio_number(18);
const DEVICE_ATTACH_IOMMUFD_PT: libc::Ioctl = vfio_number(19);
const IOAS_ALLOC: libc::Ioctl = number(iommufd::IOMMUFD_CMD_IOAS_ALLOC, 0);
const IOAS_IOVA_RANGES: libc::Ioctl = number(iommufd::IOMMUFD_CMD_IOAS_IOVA_RANGES, 0);
const IOAS_MAP: libc::Ioctl = number(iommufd::IOMMUFD_CMD_IOAS_MAP, 0);
const IOAS_UNMAP: libc::Ioctl = number(iommufd::IOMMUFD_CMD_IOAS_UNMAP, 0);

/// Both kinds of requests say how long their argument is in its first word.
fn first_word<T>() -> u32 {
    size_of::<T>() as u32
}

fn result(value: libc::c_int) -> Result<libc::c_int, Errno> {
    if value < 0 { Err(nix::errno::Errno::last_raw()) } else { Ok(value) }
}

/// A request whose argument is a number.
fn with_number(
    fd: BorrowedFd<'_>,
    request: libc::Ioctl,
    argument: libc::c_ulong,
) -> Result<libc::c_int, Errno> {
    // SAFETY: the requests that are made here take a number, not a pointer: the kernel touches no memory of ours.
    result(unsafe { libc::ioctl(fd.as_raw_fd(), request, argument) })
}

/// A request whose argument is a structure of fixed length without pointers in it.
fn with_structure<T>(
    fd: BorrowedFd<'_>,
    request: libc::Ioctl,
    argument: &mut T,
) -> Result<libc::c_int, Errno> {
    // SAFETY: every caller pairs the request with its own structure, of which the kernel reads and writes no more than
    // its length, and every content of which is valid.
    result(unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(argument)) })
}

/// A request whose argument begins with its length and is longer than its structure.
fn with_words(fd: BorrowedFd<'_>, request: libc::Ioctl, argument: &mut [u32]) -> Result<libc::c_int, Errno> {
    let length_bytes = size_of_val(argument);
    assert!(argument.first().is_some_and(|&argsz| argsz as usize <= length_bytes), "argsz is in the buffer");
    // SAFETY: the kernel reads and writes at most as many bytes as the first word says, which are there. Callers make the
    // buffer at least as long as the fixed part of their request.
    result(unsafe { libc::ioctl(fd.as_raw_fd(), request, argument.as_mut_ptr()) })
}

/// Asks for an answer of a length that only the kernel knows: `fixed` is the start of the argument after `argsz`.
fn answer(
    fd: BorrowedFd<'_>,
    request: libc::Ioctl,
    fixed_bytes: usize,
    fixed: &[u32],
) -> Result<Vec<u8>, Errno> {
    let mut words = vec![0; fixed_bytes / 4];
    loop {
        words[0] = size_of_val(&words[..]) as u32;
        words[1..=fixed.len()].copy_from_slice(fixed);
        let given = words.len();
        let outcome = with_words(fd, request, &mut words);
        let wanted = (words[0] as usize).div_ceil(4);
        outcome?;
        if wanted <= given || wanted * 4 > ANSWER_BYTES_MAX {
            return Ok(bytes_of(&words));
        }
        words = vec![0; wanted];
    }
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Memory that may be shown to a device: its owner keeps references away from what the device may touch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mappable {
    address: usize,
    length_bytes: usize,
}

impl Mappable {
    /// Shared memory, into which there is never a reference.
    pub(crate) fn shared(memory: &SharedMemory) -> Self {
        Self { address: memory.address(), length_bytes: memory.len() }
    }

    /// The buffers of a pool, which a driver lends to the device.
    pub(crate) fn pool(pool: &BufferPool) -> Self {
        let (start, length_bytes) = pool.region_range();
        Self { address: start.as_ptr() as usize, length_bytes }
    }

    /// Where it starts in this process.
    pub(crate) fn address(&self) -> usize {
        self.address
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.length_bytes
    }
}

/// VFIO_GET_API_VERSION.
pub(crate) fn api_version(container: BorrowedFd<'_>) -> Result<u32, Errno> {
    with_number(container, GET_API_VERSION, 0).map(libc::c_int::cast_unsigned)
}

/// VFIO_CHECK_EXTENSION.
pub(crate) fn has_extension(container: BorrowedFd<'_>, extension: u32) -> bool {
    with_number(container, CHECK_EXTENSION, extension.into()).is_ok_and(|value| value > 0)
}

/// VFIO_SET_IOMMU.
pub(crate) fn set_iommu(container: BorrowedFd<'_>, kind: u32) -> Result<(), Errno> {
    with_number(container, SET_IOMMU, kind.into()).map(drop)
}

/// VFIO_GROUP_GET_STATUS: whether every function of the group may be handed to user space.
pub(crate) fn group_is_viable(group: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut status = vfio::vfio_group_status { argsz: first_word::<vfio::vfio_group_status>(), flags: 0 };
    with_structure(group, GROUP_GET_STATUS, &mut status)?;
    Ok(status.flags & vfio::VFIO_GROUP_FLAGS_VIABLE != 0)
}

/// VFIO_GROUP_SET_CONTAINER.
pub(crate) fn set_container(group: BorrowedFd<'_>, container: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut descriptor = container.as_raw_fd();
    with_structure(group, GROUP_SET_CONTAINER, &mut descriptor).map(drop)
}

/// VFIO_GROUP_GET_DEVICE_FD.
pub(crate) fn device_file(group: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    // SAFETY: the argument of this request is a string that ends with a zero, which the kernel only reads.
    let fd = result(unsafe { libc::ioctl(group.as_raw_fd(), GROUP_GET_DEVICE_FD, name.as_ptr()) })?;
    // SAFETY: the kernel has just made this descriptor for the caller; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// VFIO_DEVICE_GET_INFO.
pub(crate) fn device_info(device: BorrowedFd<'_>) -> Result<vfio::vfio_device_info, Errno> {
    let argsz = first_word::<vfio::vfio_device_info>();
    let mut info = vfio::vfio_device_info { argsz, ..vfio::vfio_device_info::default() };
    with_structure(device, DEVICE_GET_INFO, &mut info)?;
    Ok(info)
}

/// VFIO_DEVICE_GET_REGION_INFO, with its capabilities.
pub(crate) fn region_info(device: BorrowedFd<'_>, index: u32) -> Result<Vec<u8>, Errno> {
    answer(device, DEVICE_GET_REGION_INFO, size_of::<vfio::vfio_region_info>(), &[0, index])
}

/// VFIO_DEVICE_GET_IRQ_INFO: flags, and how many interrupts.
pub(crate) fn interrupt_info(device: BorrowedFd<'_>, index: u32) -> Result<(u32, u32), Errno> {
    let argsz = first_word::<vfio::vfio_irq_info>();
    let mut info = vfio::vfio_irq_info { argsz, flags: 0, index, count: 0 };
    with_structure(device, DEVICE_GET_IRQ_INFO, &mut info)?;
    Ok((info.flags, info.count))
}

/// VFIO_DEVICE_SET_IRQS: the events that interrupts from `start` on raise; `None` is for one that raises nothing. An answer
/// above zero says how many there could be.
pub(crate) fn set_interrupts(
    device: BorrowedFd<'_>,
    index: u32,
    start: u32,
    events: &[Option<BorrowedFd<'_>>],
) -> Result<u32, Errno> {
    let kind = if events.is_empty() { vfio::VFIO_IRQ_SET_DATA_NONE } else { vfio::VFIO_IRQ_SET_DATA_EVENTFD };
    let flags = kind | vfio::VFIO_IRQ_SET_ACTION_TRIGGER;
    let length_bytes = size_of::<vfio::vfio_irq_set>() + events.len() * 4;
    let mut words = vec![length_bytes as u32, flags, index, start, events.len() as u32];
    words.extend(events.iter().map(|event| event.map_or(-1, |event| event.as_raw_fd()).cast_unsigned()));
    with_words(device, DEVICE_SET_IRQS, &mut words).map(libc::c_int::cast_unsigned)
}

/// VFIO_DEVICE_RESET. Takes 100 ms and more.
pub(crate) fn reset(device: BorrowedFd<'_>) -> Result<(), Errno> {
    with_number(device, DEVICE_RESET, 0).map(drop)
}

/// VFIO_DEVICE_GET_PCI_HOT_RESET_INFO.
pub(crate) fn hot_reset_info(device: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    let fixed_bytes = size_of::<vfio::vfio_pci_hot_reset_info>();
    let mut words = vec![fixed_bytes as u32, 0, 0];
    // This one says how many functions there are, not how long its answer is.
    let outcome = with_words(device, DEVICE_GET_PCI_HOT_RESET_INFO, &mut words);
    let length_bytes = fixed_bytes + words[2] as usize * size_of::<vfio::vfio_pci_dependent_device>();
    if outcome == Err(libc::ENOSPC) && length_bytes <= ANSWER_BYTES_MAX {
        words = vec![0; length_bytes / 4];
        words[0] = length_bytes as u32;
        with_words(device, DEVICE_GET_PCI_HOT_RESET_INFO, &mut words)?;
    } else {
        outcome?;
    }
    Ok(bytes_of(&words))
}

/// VFIO_DEVICE_PCI_HOT_RESET, which shows the kernel every group that it reaches; none for a function with its own file.
pub(crate) fn hot_reset(device: BorrowedFd<'_>, groups: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let length_bytes = size_of::<vfio::vfio_pci_hot_reset>() + groups.len() * 4;
    let mut words = vec![length_bytes as u32, 0, groups.len() as u32];
    words.extend(groups.iter().map(|group| group.as_raw_fd().cast_unsigned()));
    with_words(device, DEVICE_PCI_HOT_RESET, &mut words).map(drop)
}

/// VFIO_IOMMU_GET_INFO, with its capabilities.
pub(crate) fn iommu_info(container: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    answer(container, IOMMU_GET_INFO, size_of::<vfio::vfio_iommu_type1_info>(), &[])
}

/// VFIO_IOMMU_MAP_DMA of the first `size` bytes. The pages are pinned: the device reaches these until they are unmapped, and
/// no others, even when this process has let go of them.
pub(crate) fn map_dma(
    container: BorrowedFd<'_>,
    memory: Mappable,
    iova: u64,
    size: u64,
) -> Result<(), Errno> {
    assert!(size <= memory.length_bytes as u64, "a mapping longer than its memory");
    let argsz = first_word::<vfio::vfio_iommu_type1_dma_map>();
    let flags = vfio::VFIO_DMA_MAP_FLAG_READ | vfio::VFIO_DMA_MAP_FLAG_WRITE;
    let mut map = vfio::vfio_iommu_type1_dma_map { argsz, flags, vaddr: memory.address as u64, iova, size };
    with_structure(container, IOMMU_MAP_DMA, &mut map).map(drop)
}

/// VFIO_IOMMU_UNMAP_DMA. Answers how many bytes were mapped.
pub(crate) fn unmap_dma(container: BorrowedFd<'_>, iova: u64, size: u64) -> Result<u64, Errno> {
    let argsz = first_word::<vfio::vfio_iommu_type1_dma_unmap>();
    let mut unmap = vfio::vfio_iommu_type1_dma_unmap { argsz, flags: 0, iova, size, ..Default::default() };
    with_structure(container, IOMMU_UNMAP_DMA, &mut unmap)?;
    Ok(unmap.size)
}

/// VFIO_DEVICE_BIND_IOMMUFD.
pub(crate) fn bind_iommufd(device: BorrowedFd<'_>, iommufd: BorrowedFd<'_>) -> Result<(), Errno> {
    // Without the token, which only functions of SR-IOV need and older kernels do not know.
    let argsz = std::mem::offset_of!(vfio::vfio_device_bind_iommufd, token_uuid_ptr) as u32;
    let iommufd = iommufd.as_raw_fd();
    let mut bind = vfio::vfio_device_bind_iommufd { argsz, iommufd, ..Default::default() };
    with_structure(device, DEVICE_BIND_IOMMUFD, &mut bind).map(drop)
}

/// IOMMU_IOAS_ALLOC: a new address space.
pub(crate) fn allocate_space(iommufd: BorrowedFd<'_>) -> Result<u32, Errno> {
    let size = first_word::<iommufd::iommu_ioas_alloc>();
    let mut alloc = iommufd::iommu_ioas_alloc { size, ..Default::default() };
    with_structure(iommufd, IOAS_ALLOC, &mut alloc)?;
    Ok(alloc.out_ioas_id)
}

/// VFIO_DEVICE_ATTACH_IOMMUFD_PT.
pub(crate) fn attach_space(device: BorrowedFd<'_>, space: u32) -> Result<(), Errno> {
    // Without the PASID, which older kernels do not know.
    let argsz = std::mem::offset_of!(vfio::vfio_device_attach_iommufd_pt, pasid) as u32;
    let mut attach = vfio::vfio_device_attach_iommufd_pt { argsz, pt_id: space, ..Default::default() };
    with_structure(device, DEVICE_ATTACH_IOMMUFD_PT, &mut attach).map(drop)
}

/// IOMMU_IOAS_IOVA_RANGES: the alignment, and the addresses that may be mapped.
pub(crate) fn space_ranges(iommufd: BorrowedFd<'_>, space: u32) -> Result<(u64, Vec<(u64, u64)>), Errno> {
    let empty = iommufd::iommu_iova_range { start: 0, last: 0 };
    let mut ranges = vec![empty; ANSWER_BYTES_MAX / size_of::<iommufd::iommu_iova_range>()];
    let mut query = iommufd::iommu_ioas_iova_ranges {
        size: first_word::<iommufd::iommu_ioas_iova_ranges>(),
        ioas_id: space,
        num_iovas: ranges.len() as u32,
        allowed_iovas: ranges.as_mut_ptr() as u64,
        ..Default::default()
    };
    // SAFETY: the structure is the request's own, and its pointer is to `num_iovas` ranges that outlive the call.
    result(unsafe { libc::ioctl(iommufd.as_raw_fd(), IOAS_IOVA_RANGES, std::ptr::from_mut(&mut query)) })?;
    ranges.truncate(query.num_iovas as usize);
    Ok((query.out_iova_alignment, ranges.iter().map(|range| (range.start, range.last)).collect()))
}

/// IOMMU_IOAS_MAP; what is said of [`map_dma`] holds here as well.
pub(crate) fn map_space(
    iommufd: BorrowedFd<'_>,
    space: u32,
    memory: Mappable,
    iova: u64,
    length: u64,
) -> Result<(), Errno> {
    assert!(length <= memory.length_bytes as u64, "a mapping longer than its memory");
    let flags = iommufd::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA
        | iommufd::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE
        | iommufd::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE;
    let mut map = iommufd::iommu_ioas_map {
        size: first_word::<iommufd::iommu_ioas_map>(),
        flags,
        ioas_id: space,
        user_va: memory.address as u64,
        length,
        iova,
        ..Default::default()
    };
    with_structure(iommufd, IOAS_MAP, &mut map).map(drop)
}

/// IOMMU_IOAS_UNMAP. Answers how many bytes were mapped.
pub(crate) fn unmap_space(iommufd: BorrowedFd<'_>, space: u32, iova: u64, length: u64) -> Result<u64, Errno> {
    let size = first_word::<iommufd::iommu_ioas_unmap>();
    let mut unmap = iommufd::iommu_ioas_unmap { size, ioas_id: space, iova, length };
    with_structure(iommufd, IOAS_UNMAP, &mut unmap)?;
    Ok(unmap.length)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    // As a C compiler makes them of linux/vfio.h and linux/iommufd.h.
    #[test]
    fn requests_have_the_numbers_of_the_kernel_headers() {
        let table = [
            (GET_API_VERSION, 0x3b64),
            (CHECK_EXTENSION, 0x3b65),
            (SET_IOMMU, 0x3b66),
            (GROUP_GET_STATUS, 0x3b67),
            (GROUP_SET_CONTAINER, 0x3b68),
            (GROUP_GET_DEVICE_FD, 0x3b6a),
            (DEVICE_GET_INFO, 0x3b6b),
            (DEVICE_GET_REGION_INFO, 0x3b6c),
            (DEVICE_GET_IRQ_INFO, 0x3b6d),
            (DEVICE_SET_IRQS, 0x3b6e),
            (DEVICE_RESET, 0x3b6f),
            (DEVICE_GET_PCI_HOT_RESET_INFO, 0x3b70),
            (DEVICE_PCI_HOT_RESET, 0x3b71),
            (IOMMU_GET_INFO, 0x3b70),
            (IOMMU_MAP_DMA, 0x3b71),
            (IOMMU_UNMAP_DMA, 0x3b72),
            (DEVICE_BIND_IOMMUFD, 0x3b76),
            (DEVICE_ATTACH_IOMMUFD_PT, 0x3b77),
            (IOAS_ALLOC, 0x3b81),
            (IOAS_IOVA_RANGES, 0x3b84),
            (IOAS_MAP, 0x3b85),
            (IOAS_UNMAP, 0x3b86),
        ];
        for (number, wanted) in table {
            assert_eq!(number, wanted);
        }
    }

    #[test]
    fn a_file_of_another_kind_refuses_every_request() {
        let file = tempfile::tempfile().expect("a file");
        let fd = file.as_fd();
        let name = c"0000:00:04.0";
        let refusals = [
            api_version(fd).err(),
            set_iommu(fd, vfio::VFIO_TYPE1v2_IOMMU).err(),
            group_is_viable(fd).err(),
            set_container(fd, fd).err(),
            device_file(fd, name).err(),
            device_info(fd).err(),
            region_info(fd, 0).err(),
            interrupt_info(fd, 2).err(),
            set_interrupts(fd, 2, 0, &[Some(fd), None]).err(),
            reset(fd).err(),
            hot_reset_info(fd).err(),
            hot_reset(fd, &[fd]).err(),
            iommu_info(fd).err(),
            unmap_dma(fd, 0x10_0000, 4096).err(),
            bind_iommufd(fd, fd).err(),
            allocate_space(fd).err(),
            attach_space(fd, 1).err(),
            space_ranges(fd, 1).err(),
            unmap_space(fd, 1, 0x10_0000, 4096).err(),
        ];
        assert_eq!(refusals, [Some(libc::ENOTTY); 19]);
        assert!(!has_extension(fd, vfio::VFIO_TYPE1v2_IOMMU));
    }
}
