//! The seam between the driver and a device: registers, memory both sides see, resets, interrupts.
//!
//! `vfio` implements it over a real PCI function, `nvme_emulated` in this process. A handle is cheap to clone; each core
//! that has a queue pair holds one. Nothing here blocks: what takes long is begun, and asked about.

use std::any::Any;
use std::os::fd::RawFd;

use reactor::buffer::BufferPool;
use reactor::memory::SharedMemory;

/// Why a device did not do what the driver asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The device is gone: pulled out, or its function no longer answers.
    #[error("the device has been removed")]
    Removed,
    /// The system gave no memory of the kind a device can use.
    #[error(
        "no {length_bytes} bytes of memory for the device (errno {errno}); free huge pages or raise the locked-memory limit (ulimit -l)"
    )]
    NoMemory {
        /// What was asked for.
        length_bytes: usize,
        /// The system's error number.
        errno: i32,
    },
    /// The IOMMU's address space has no room for this.
    #[error("the IOMMU has no {length_bytes} bytes of address space left; lower reactor.buffer_bytes")]
    NoAddressSpace {
        /// What was asked for.
        length_bytes: usize,
    },
    /// The IOMMU refused to map memory.
    #[error(
        "the IOMMU refused to map {length_bytes} bytes (errno {errno}); raise the locked-memory limit (ulimit -l unlimited)"
    )]
    NotMapped {
        /// What was asked for.
        length_bytes: usize,
        /// The system's error number.
        errno: i32,
    },
    /// Without an IOMMU, memory that is in pieces cannot be shown to a device as a whole.
    #[error(
        "without an IOMMU, {length_bytes} bytes must be in one piece of memory and are not; give this core huge pages of 1 GiB, \
         or switch the IOMMU on"
    )]
    NotContiguous {
        /// What was asked for.
        length_bytes: usize,
    },
    /// The function cannot be reset, or the system refused to.
    #[error("the function was not reset: {}", std::io::Error::from_raw_os_error(*errno))]
    NotReset {
        /// The system's error number.
        errno: i32,
    },
    /// Bus mastering or interrupts could not be switched.
    #[error("the function's configuration was not changed: {}", std::io::Error::from_raw_os_error(*errno))]
    NotConfigured {
        /// The system's error number.
        errno: i32,
    },
}

/// Memory that the device reaches: zeroed, page-aligned, contiguous for both sides. Dropping it unmaps it first, so whoever
/// drops it knows that the device will not touch it any more.
#[derive(Debug)]
pub struct DmaMemory {
    // Order matters: fields are dropped in it, and memory must not be freed while the device can still reach it.
    _mapping: Box<dyn Any>,
    memory: SharedMemory,
    iova: u64,
}

impl DmaMemory {
    /// `mapping` is what unmaps when it is dropped; a device without an IOMMU gives `()`.
    pub fn new(memory: SharedMemory, iova: u64, mapping: Box<dyn Any>) -> Self {
        Self { _mapping: mapping, memory, iova }
    }

    /// How this side reaches it.
    pub fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    /// Where the device finds it.
    pub fn iova(&self) -> u64 {
        self.iova
    }
}

/// A core's buffer pool as the device sees it. Dropping it unmaps the pool.
#[derive(Debug)]
pub struct PoolMapping {
    _mapping: Box<dyn Any>,
    address: usize,
    length_bytes: usize,
    iova: u64,
}

impl PoolMapping {
    /// The pool at `address`, `length_bytes` long, is at `iova` for the device.
    pub fn new(address: usize, length_bytes: usize, iova: u64, mapping: Box<dyn Any>) -> Self {
        Self { _mapping: mapping, address, length_bytes, iova }
    }

    /// Where the device finds `length_bytes` at `address` of this process.
    ///
    /// # Panics
    /// When they are not all in the pool: a buffer of another core's pool was submitted here.
    #[inline]
    pub fn iova_of(&self, address: usize, length_bytes: usize) -> u64 {
        let offset = address.wrapping_sub(self.address);
        let inside = offset < self.length_bytes && length_bytes <= self.length_bytes - offset;
        assert!(inside, "a buffer that is not of the pool that is mapped for this queue pair");
        self.iova + offset as u64
    }
}

/// One PCI function with an NVMe controller, as its driver sees it.
///
/// Registers are those of Base 3.1.4, by their byte offset. A function that has been removed reads all ones and ignores
/// writes; neither is an error here, because a driver must look at what it read in any case.
pub trait Device {
    /// What a person calls it: a PCI address, or the name of an emulated controller.
    fn name(&self) -> &str;

    /// Length of the register space in bytes: no access reaches past it.
    fn registers_bytes(&self) -> u32;

    /// Reads a register of 32 bits.
    fn read_u32(&self, offset_bytes: u32) -> u32;

    /// Reads a register of 64 bits.
    fn read_u64(&self, offset_bytes: u32) -> u64;

    /// Writes a register of 32 bits. Everything written to shared memory before is visible to the device when it sees this:
    /// a doorbell needs no fence of its own.
    fn write_u32(&self, offset_bytes: u32, value: u32);

    /// Writes a register of 64 bits, ordered like [`Device::write_u32`].
    fn write_u64(&self, offset_bytes: u32, value: u64);

    /// Takes memory for queues and lists; `length_bytes` is rounded up to whole pages of 4 KiB.
    fn allocate(&self, length_bytes: usize) -> Result<DmaMemory, DeviceError>;

    /// Makes the buffers of a core's pool reachable. Once for each pool; the mapping is kept as long as I/O may go to it.
    fn map_pool(&self, pool: &BufferPool) -> Result<PoolMapping, DeviceError>;

    /// Lets the function read and write memory, or stops it: off before mapped memory goes away.
    fn set_bus_master(&self, enabled: bool) -> Result<(), DeviceError>;

    /// Starts a function-level reset: the ladder's last step. [`Device::poll_function_reset`] says when it has ended.
    fn begin_function_reset(&self) -> Result<(), DeviceError>;

    /// How the reset that was begun has ended; `None` while it goes on.
    fn poll_function_reset(&self) -> Option<Result<(), DeviceError>>;

    /// True once the function was pulled out, or the system wants it back: nothing reaches it any more, and whoever holds it is
    /// to let go. A device that only its registers tell of says false.
    fn is_removed(&self) -> bool {
        false
    }

    /// How many interrupt vectors there are; 0 where there are none, and then a core never sleeps while I/O is in flight.
    fn interrupt_vectors(&self) -> u16;

    /// The event that interrupt `vector` raises, to be watched while the core sleeps; made at the first call.
    fn interrupt(&self, vector: u16) -> Result<Option<RawFd>, DeviceError>;

    /// A core that polls needs no interrupts, and each costs the machine: `vector` raises its event from now on, or not any
    /// more. A device that cannot tell raises it always, which is right as well.
    fn arm_interrupt(&self, vector: u16, armed: bool) {
        let _ = (vector, armed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_translated_by_its_offset() {
        let mapping = PoolMapping::new(0x10_0000, 0x4000, 0x7000_0000, Box::new(()));
        assert_eq!(mapping.iova_of(0x10_1000, 0x3000), 0x7000_1000);
    }

    #[test]
    #[should_panic(expected = "not of the pool")]
    fn a_buffer_that_ends_past_the_pool_is_our_bug() {
        PoolMapping::new(0x10_0000, 0x4000, 0, Box::new(())).iova_of(0x10_3000, 0x2000);
    }

    #[test]
    #[should_panic(expected = "not of the pool")]
    fn a_buffer_before_the_pool_is_our_bug() {
        PoolMapping::new(0x10_0000, 0x4000, 0, Box::new(())).iova_of(0xf_f000, 0x1000);
    }
}
