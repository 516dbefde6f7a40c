//! The controller as its driver sees it: one function's registers and memory.

use std::cell::RefCell;
use std::os::fd::RawFd;
use std::rc::Rc;

use nix::errno::Errno;
use nvme::device::{Device, DeviceError, DmaMemory, PoolMapping};
use nvme_spec::register::{ASQ, DOORBELLS};
use reactor::buffer::BufferPool;
use reactor::memory::{MemoryRegion, SharedMemory};
use reactor::time::Time;

use crate::controller::{Controller, Presence};
use crate::iommu::{Iommu, map_pool, map_shared};
use crate::limits::{ALLOCATION_BYTES_MAX, EAGER_COMMANDS_MAX};
use crate::registers::Effect;

/// A handle of the function as it was when the handle was made: after the function was pulled out it finds nobody, even
/// when another one is put in. A clone is another handle to the same.
#[derive(Clone)]
pub struct EmulatedDevice {
    controller: Rc<RefCell<Controller>>,
    table: Rc<RefCell<Iommu>>,
    name: Rc<str>,
    registers_bytes: u32,
    insertion: u64,
}

impl std::fmt::Debug for EmulatedDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EmulatedDevice({})", self.name)
    }
}

impl EmulatedDevice {
    pub(crate) fn new(controller: &Rc<RefCell<Controller>>) -> Self {
        let inner = controller.borrow();
        let doorbells = (u32::from(inner.config.io_queues) + 1) * 2 * (4 << inner.config.doorbell_stride);
        Self {
            controller: Rc::clone(controller),
            table: Rc::clone(&inner.dma),
            name: Rc::from(inner.config.name.as_str()),
            registers_bytes: (DOORBELLS + doorbells).next_multiple_of(4096),
            insertion: inner.insertion,
        }
    }

    fn is_there(&self, controller: &Controller) -> bool {
        controller.presence == Presence::On && controller.insertion == self.insertion
    }

    fn check_presence(&self) -> Result<(), DeviceError> {
        if self.is_there(&self.controller.borrow()) { Ok(()) } else { Err(DeviceError::Removed) }
    }

    fn is_register(&self, offset_bytes: u32, length_bytes: u32) -> bool {
        offset_bytes.is_multiple_of(length_bytes)
            && offset_bytes.checked_add(length_bytes).is_some_and(|end| end <= self.registers_bytes)
    }
}

impl Controller {
    fn write_register(&mut self, offset_bytes: u32, value: u32) {
        let delays = self.config.delays;
        match self.registers.write(offset_bytes, value, self.now, &delays) {
            Effect::None => {}
            Effect::ControllerReset => self.controller_reset(),
            Effect::SubsystemReset => self.subsystem_reset(),
            Effect::Unmasked => self.interrupts.signal(self.registers.interrupt_mask()),
            Effect::Refused => self.counters.violations += 1,
        }
    }
}

impl Device for EmulatedDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn registers_bytes(&self) -> u32 {
        self.registers_bytes
    }

    fn read_u32(&self, offset_bytes: u32) -> u32 {
        let controller = self.controller.borrow();
        if !self.is_there(&controller) || !self.is_register(offset_bytes, 4) {
            return u32::MAX;
        }
        // Doorbells are for writing.
        if offset_bytes >= DOORBELLS { 0 } else { controller.registers.read(offset_bytes) }
    }

    fn read_u64(&self, offset_bytes: u32) -> u64 {
        if !self.is_register(offset_bytes, 8) {
            return u64::MAX;
        }
        u64::from(self.read_u32(offset_bytes)) | u64::from(self.read_u32(offset_bytes + 4)) << 32
    }

    #[inline]
    fn write_u32(&self, offset_bytes: u32, value: u32) {
        let mut controller = self.controller.borrow_mut();
        if !self.is_there(&controller) {
            return;
        }
        if !self.is_register(offset_bytes, 4) {
            controller.counters.violations += 1;
        } else if offset_bytes >= DOORBELLS {
            controller.ring(offset_bytes, value);
            if controller.config.eager {
                let now = controller.now;
                controller.step(now, EAGER_COMMANDS_MAX);
            }
        } else {
            controller.write_register(offset_bytes, value);
        }
    }

    fn write_u64(&self, offset_bytes: u32, value: u64) {
        let is_pair = self.is_register(offset_bytes, 8) && (offset_bytes < ASQ + 16);
        if !is_pair {
            // A doorbell has 32 bits.
            let mut controller = self.controller.borrow_mut();
            if self.is_there(&controller) {
                controller.counters.violations += 1;
            }
            return;
        }
        self.write_u32(offset_bytes, value as u32);
        self.write_u32(offset_bytes + 4, (value >> 32) as u32);
    }

    fn allocate(&self, length_bytes: usize) -> Result<DmaMemory, DeviceError> {
        self.check_presence()?;
        let no_memory = DeviceError::NoMemory { length_bytes, errno: Errno::ENOMEM as i32 };
        if length_bytes == 0 || length_bytes > ALLOCATION_BYTES_MAX {
            return Err(no_memory);
        }
        let memory = SharedMemory::new(MemoryRegion::heap(length_bytes));
        let (iova, unmap) = map_shared(&self.table, &memory)?;
        Ok(DmaMemory::new(memory, iova, unmap))
    }

    fn map_pool(&self, pool: &BufferPool) -> Result<PoolMapping, DeviceError> {
        self.check_presence()?;
        let (address, length_bytes, iova, unmap) = map_pool(&self.table, pool)?;
        Ok(PoolMapping::new(address, length_bytes, iova, unmap))
    }

    fn set_bus_master(&self, enabled: bool) -> Result<(), DeviceError> {
        self.check_presence()?;
        self.table.borrow_mut().set_bus_master(enabled);
        Ok(())
    }

    fn begin_function_reset(&self) -> Result<(), DeviceError> {
        self.check_presence()?;
        let mut controller = self.controller.borrow_mut();
        let delay = controller.config.delays.function_reset;
        let due = controller.now.after(delay);
        // It stops at once; what takes time is to come back.
        controller.function_level_reset();
        controller.function_reset = Some(due);
        Ok(())
    }

    fn poll_function_reset(&self) -> Option<Result<(), DeviceError>> {
        let mut controller = self.controller.borrow_mut();
        if !self.is_there(&controller) {
            return Some(Err(DeviceError::Removed));
        }
        let due = controller.function_reset?;
        if due > controller.now || due == Time::NEVER {
            return None;
        }
        controller.function_reset = None;
        Some(Ok(()))
    }

    fn is_removed(&self) -> bool {
        self.check_presence().is_err()
    }

    fn interrupt_vectors(&self) -> u16 {
        self.controller.borrow().interrupts.count()
    }

    fn interrupt(&self, vector: u16) -> Result<Option<RawFd>, DeviceError> {
        self.check_presence()?;
        self.controller.borrow_mut().interrupts.event(vector)
    }
}
