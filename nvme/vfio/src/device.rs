//! A real PCI function as the driver of an NVMe controller sees it.

use std::num::NonZeroUsize;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use nvme::device::{Device, DeviceError, DmaMemory, PoolMapping};
use nvme_pci::PciAddress;
use reactor::buffer::BufferPool;
use reactor::memory::{MemoryError, MemoryKind, MemoryRegion, SharedMemory};

use crate::attendant::{Attendant, Closed};
use crate::error::{Request, VfioError, Way};
use crate::function::{Function, Reset};
use crate::open::{self, Refusals};
use crate::pci::System;
use crate::registers::Registers;
use crate::report::Report;
use crate::sys::{Errno, Mappable};

const PAGE_BYTES: usize = 4096;
/// From here on memory comes in huge pages, where there are any; below, one would be mostly empty.
const HUGE_FROM_BYTES: usize = 1 << 20;

/// A PCI function that belongs to this process. A clone is another handle to it, for another core.
///
/// When the last handle goes, its bus mastering is switched off at once, and another thread closes it: the kernel then
/// resets it. The same happens, done by the kernel, when the process ends without a word, `kill -9` included: the pages that
/// were mapped stay the device's until it has been reset, whatever became of the process's memory, and the next process can
/// open it at once. Only without an IOMMU nothing keeps those pages, and a device that is at work then writes into memory
/// that is somebody else's: never kill such a process.
#[derive(Clone, Debug)]
pub struct VfioDevice {
    handle: Arc<Handle>,
}

/// Knows what became of a function without holding it: for whoever gives it back.
#[derive(Clone, Debug)]
pub struct Tether {
    handle: Weak<Handle>,
    closed: Arc<Closed>,
}

impl Tether {
    /// True while somebody has a handle.
    pub fn is_held(&self) -> bool {
        self.handle.strong_count() > 0
    }

    /// True once the last handle is gone and the kernel has the function back.
    pub fn is_over(&self) -> bool {
        self.closed.is_closed()
    }

    /// Waits at most so long until the kernel has the function back. For threads that may wait.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.closed.wait(timeout)
    }
}

// Fields are dropped in this order. The mapping of the registers keeps the function open as its file does, so it goes before
// the attendant is told to close that.
#[derive(Debug)]
struct Handle {
    function: Running,
    registers: Registers,
    attendant: Attendant,
    name: String,
}

/// A function that may be at work; dropping it stops it.
#[derive(Debug)]
struct Running(Arc<Function>);

impl Drop for Running {
    fn drop(&mut self) {
        // One that cannot be stopped any more is stopped by the kernel when it is closed.
        if !self.0.is_resetting() {
            let _ = self.0.set_bus_master(false);
        }
    }
}

impl VfioDevice {
    /// Takes over the function at `address`, which belongs to vfio-pci, in the way that is named or the best there is. Never
    /// without an IOMMU unless that is named, and then [`Report`] warns of it.
    pub fn open(address: PciAddress, way: Option<Way>) -> Result<Self, VfioError> {
        let opened = open::open(&System::new(Path::new("/")), address, way)?;
        let function = Function::new(address, opened.device, opened.space)?;
        let size_bytes = function.registers.size_bytes;
        let mappable_bytes = function.registers.mappable_bytes(PAGE_BYTES as u64);
        let length = usize::try_from(mappable_bytes).ok().and_then(NonZeroUsize::new);
        let not_mappable = VfioError::RegistersNotMappable { address, size_bytes, mappable_bytes };
        let offset_bytes = function.registers.offset_bytes;
        let registers = Registers::map(function.file(), offset_bytes, length.ok_or(not_mappable)?);
        let registers = registers.map_err(Refusals { address }.of(Request::MapRegisters))?;
        let function = Arc::new(function);
        let attendant = Attendant::start(Arc::clone(&function))?;
        let handle = Handle { function: Running(function), registers, attendant, name: address.to_string() };
        Ok(Self { handle: Arc::new(handle) })
    }

    /// What was opened, and how; for the log.
    pub fn report(&self) -> Report {
        let function = self.function();
        Report {
            address: function.address,
            way: function.space().way(),
            registers_bytes: self.handle.registers.len(),
            interrupt_vectors: function.vectors as u16,
            reset: function.reset,
        }
    }

    /// What is kept to learn when the function is free, and keeps it from nobody.
    pub fn tether(&self) -> Tether {
        Tether { handle: Arc::downgrade(&self.handle), closed: self.handle.attendant.closed() }
    }

    /// Lets go of this handle. With the last one, waits until the kernel has stopped the function and has it back, and
    /// answers true: then it can be given to another driver. For threads that may wait.
    pub fn release(self) -> bool {
        let Some(Handle { function, registers, attendant, .. }) = Arc::into_inner(self.handle) else {
            return false;
        };
        drop((function, registers));
        attendant.join();
        true
    }

    #[inline]
    fn function(&self) -> &Function {
        &self.handle.function.0
    }

    fn still_here(&self) -> Result<(), DeviceError> {
        if self.function().is_withdrawn() { Err(DeviceError::Removed) } else { Ok(()) }
    }

    /// What the kernel's refusal to configure the function means.
    fn configured<T>(&self, outcome: Result<T, Errno>) -> Result<T, DeviceError> {
        outcome.map_err(|errno| match errno {
            libc::ENODEV => DeviceError::Removed,
            errno => DeviceError::NotConfigured { errno },
        })
    }

    /// Memory that the device can be shown: in huge pages when there is much of it, or when no IOMMU joins smaller ones.
    fn memory(&self, length_bytes: usize) -> Result<SharedMemory, MemoryError> {
        let bare = self.function().space().way() == Way::NoIommu;
        let region = if length_bytes >= HUGE_FROM_BYTES || bare {
            MemoryRegion::new(length_bytes)
        } else {
            MemoryRegion::pages(length_bytes)
        }?;
        // Nothing pins memory for a device without an IOMMU, and the kernel may move ordinary pages, locked ones as well.
        if bare && !matches!(region.report().kind, MemoryKind::Huge1G | MemoryKind::Huge2M) {
            return Err(MemoryError::Refused { bytes: length_bytes, errno: libc::ENOMEM });
        }
        Ok(SharedMemory::new(region))
    }
}

impl Device for VfioDevice {
    fn name(&self) -> &str {
        &self.handle.name
    }

    fn registers_bytes(&self) -> u32 {
        self.handle.registers.len()
    }

    /// Reads zero while the function is reset: it is not ready then.
    #[inline]
    fn read_u32(&self, offset_bytes: u32) -> u32 {
        let function = self.function();
        if function.is_open() {
            self.handle.registers.read(offset_bytes)
        } else if function.is_withdrawn() {
            u32::MAX
        } else {
            0
        }
    }

    /// As two reads of 32 bits, the lower first: there are controllers that do not know wider ones, and Base 3.1.4 allows this.
    fn read_u64(&self, offset_bytes: u32) -> u64 {
        let low = self.read_u32(offset_bytes);
        u64::from(low) | u64::from(self.read_u32(offset_bytes + 4)) << 32
    }

    /// Writes nothing while the function is reset.
    #[inline]
    fn write_u32(&self, offset_bytes: u32, value: u32) {
        if self.function().is_open() {
            self.handle.registers.write(offset_bytes, value);
        }
    }

    /// As two writes of 32 bits, the lower first.
    fn write_u64(&self, offset_bytes: u32, value: u64) {
        self.write_u32(offset_bytes, value as u32);
        self.write_u32(offset_bytes + 4, (value >> 32) as u32);
    }

    fn allocate(&self, length_bytes: usize) -> Result<DmaMemory, DeviceError> {
        let no_memory = |error| match error {
            MemoryError::Refused { errno, .. } => DeviceError::NoMemory { length_bytes, errno },
        };
        let memory = self.memory(length_bytes.next_multiple_of(PAGE_BYTES)).map_err(no_memory)?;
        let (iova, mapping) = self.function().space().map(Mappable::shared(&memory))?;
        Ok(DmaMemory::new(memory, iova, Box::new(mapping)))
    }

    fn map_pool(&self, pool: &BufferPool) -> Result<PoolMapping, DeviceError> {
        let kind = pool.report().kind;
        if self.function().space().way() == Way::NoIommu
            && !matches!(kind, MemoryKind::Huge1G | MemoryKind::Huge2M)
        {
            return Err(DeviceError::NotContiguous { length_bytes: pool.total_bytes() });
        }
        let mappable = Mappable::pool(pool);
        let (iova, mapping) = self.function().space().map(mappable)?;
        // The pool stays as long as the mapping, which goes first.
        let kept = Box::new((mapping, pool.clone()));
        Ok(PoolMapping::new(mappable.address(), mappable.len(), iova, kept))
    }

    fn set_bus_master(&self, enabled: bool) -> Result<(), DeviceError> {
        self.still_here()?;
        // The kernel would hold this core until a reset that is under way has ended, for as long as a minute.
        if self.function().is_resetting() {
            return Err(DeviceError::NotConfigured { errno: libc::EBUSY });
        }
        self.configured(self.function().set_bus_master(enabled))
    }

    fn begin_function_reset(&self) -> Result<(), DeviceError> {
        self.still_here()?;
        if self.function().reset == Reset::None {
            return Err(DeviceError::NotReset { errno: libc::EOPNOTSUPP });
        }
        self.handle.attendant.begin_reset(self.function());
        Ok(())
    }

    fn poll_function_reset(&self) -> Option<Result<(), DeviceError>> {
        let outcome = self.handle.attendant.poll_reset()?;
        Some(self.still_here().and_then(|()| outcome.map_err(|errno| DeviceError::NotReset { errno })))
    }

    fn is_removed(&self) -> bool {
        self.function().is_withdrawn()
    }

    fn interrupt_vectors(&self) -> u16 {
        self.function().vectors as u16
    }

    fn interrupt(&self, vector: u16) -> Result<Option<RawFd>, DeviceError> {
        self.still_here()?;
        self.configured(self.function().interrupt(vector.into()))
    }

    /// Two system calls for each sleep of a core, instead of an interrupt for each of its completions.
    fn arm_interrupt(&self, vector: u16, armed: bool) {
        // As for bus mastering; a reset leaves no interrupt armed, and the driver arms anew what it set up anew.
        if !self.function().is_withdrawn() && !self.function().is_resetting() {
            self.function().arm(vector.into(), armed);
        }
    }
}

const _: () = {
    const fn goes_to_other_cores<T: Send + Sync>() {}
    goes_to_other_cores::<VfioDevice>();
};
