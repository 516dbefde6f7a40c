//! The controller's only way to memory: a table of what the host has mapped. Whatever lies outside is never touched, and said.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use nvme::device::DeviceError;
use reactor::buffer::BufferPool;
use reactor::limits::BUFFER_ALIGN_BYTES;
use reactor::memory::SharedMemory;

use crate::limits::{IOMMU_FAULTS_KEPT, IOVA_END, IOVA_FIRST, IOVA_GUARD_BYTES, MAPPINGS_MAX};

/// Pieces of memory are looked up page by page: a page lies in one buffer of a pool or in none.
pub(crate) const PAGE_BYTES: u64 = BUFFER_ALIGN_BYTES as u64;

/// What was wrong with an access to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFault {
    /// Nothing is mapped there.
    NotMapped,
    /// A buffer of a pool that is not lent to the device.
    NotLent,
    /// Bus mastering is off.
    BusMasterOff,
}

/// An access that the IOMMU stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IommuFault {
    /// Where.
    pub iova: u64,
    /// How many bytes.
    pub length_bytes: u64,
    /// What was wrong.
    pub reason: AccessFault,
}

/// An access was stopped; the table has recorded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopped;

enum Target {
    Shared(SharedMemory),
    Pool(BufferPool, usize),
}

struct Mapping {
    iova: u64,
    length_bytes: u64,
    target: Target,
}

/// Where an address leads: valid until something is unmapped, which no code of the controller does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    mapping: u32,
    offset_bytes: u64,
}

/// The table.
pub(crate) struct Iommu {
    /// Ascending.
    mappings: Vec<Mapping>,
    next_iova: u64,
    bus_master: bool,
    faults: VecDeque<IommuFault>,
    fault_count: u64,
}

impl Iommu {
    pub(crate) fn new() -> Self {
        Self {
            mappings: Vec::new(),
            next_iova: IOVA_FIRST,
            bus_master: false,
            faults: VecDeque::with_capacity(IOMMU_FAULTS_KEPT),
            fault_count: 0,
        }
    }

    pub(crate) fn is_bus_master(&self) -> bool {
        self.bus_master
    }

    pub(crate) fn set_bus_master(&mut self, enabled: bool) {
        self.bus_master = enabled;
    }

    pub(crate) fn fault_count(&self) -> u64 {
        self.fault_count
    }

    pub(crate) fn faults(&self) -> impl Iterator<Item = IommuFault> + '_ {
        self.faults.iter().copied()
    }

    /// Mappings that are in force.
    pub(crate) fn mapped(&self) -> usize {
        self.mappings.len()
    }

    fn map(&mut self, length_bytes: usize, target: Target) -> Result<u64, DeviceError> {
        let no_space = DeviceError::NoAddressSpace { length_bytes };
        let iova = self.next_iova;
        let bytes = length_bytes as u64;
        let next = bytes.checked_next_multiple_of(PAGE_BYTES).and_then(|bytes| {
            iova.checked_add(bytes)?.checked_add(IOVA_GUARD_BYTES).filter(|next| *next <= IOVA_END)
        });
        let next = next.filter(|_| self.mappings.len() < MAPPINGS_MAX).ok_or(no_space)?;
        // Each address is given out once, so that a stale one faults for ever.
        self.next_iova = next;
        self.mappings.push(Mapping { iova, length_bytes: bytes, target });
        Ok(iova)
    }

    fn unmap(&mut self, iova: u64) {
        self.mappings.retain(|mapping| mapping.iova != iova);
    }

    fn fault(&mut self, iova: u64, length_bytes: u64, reason: AccessFault) -> Stopped {
        self.fault_count += 1;
        if self.faults.len() == IOMMU_FAULTS_KEPT {
            self.faults.pop_front();
        }
        self.faults.push_back(IommuFault { iova, length_bytes, reason });
        Stopped
    }

    /// Where `length_bytes` at `iova` are; they must not go over the end of a page, unless they are in shared memory.
    #[inline]
    pub(crate) fn find(&mut self, iova: u64, length_bytes: u64) -> Result<Place, Stopped> {
        if !self.bus_master {
            return Err(self.fault(iova, length_bytes, AccessFault::BusMasterOff));
        }
        let after = self.mappings.partition_point(|mapping| mapping.iova <= iova);
        let Some(index) = after.checked_sub(1) else {
            return Err(self.fault(iova, length_bytes, AccessFault::NotMapped));
        };
        let mapping = &self.mappings[index];
        let offset_bytes = iova - mapping.iova;
        if offset_bytes >= mapping.length_bytes || length_bytes > mapping.length_bytes - offset_bytes {
            return Err(self.fault(iova, length_bytes, AccessFault::NotMapped));
        }
        if let Target::Pool(pool, address) = &mapping.target {
            // A page lies in one buffer of the pool or in none, so it is enough to ask for the first byte's buffer.
            let one_page = iova % PAGE_BYTES + length_bytes <= PAGE_BYTES;
            if !one_page || pool.device_read(address + offset_bytes as usize, &mut []).is_err() {
                return Err(self.fault(iova, length_bytes, AccessFault::NotLent));
            }
        }
        Ok(Place { mapping: index as u32, offset_bytes })
    }

    /// Copies memory out, from a place that was found for so many bytes.
    #[inline]
    pub(crate) fn load(&self, place: Place, skip_bytes: usize, out: &mut [u8]) {
        let offset_bytes = place.offset_bytes as usize + skip_bytes;
        match &self.mappings[place.mapping as usize].target {
            Target::Shared(memory) => memory.read(offset_bytes, out),
            Target::Pool(pool, address) => {
                pool.device_read(address + offset_bytes, out).expect("the place was found lent");
            }
        }
    }

    /// Copies `bytes` over memory, at a place that was found for so many bytes.
    #[inline]
    pub(crate) fn store(&self, place: Place, skip_bytes: usize, bytes: &[u8]) {
        let offset_bytes = place.offset_bytes as usize + skip_bytes;
        match &self.mappings[place.mapping as usize].target {
            Target::Shared(memory) => memory.write(offset_bytes, bytes),
            Target::Pool(pool, address) => {
                pool.device_write(address + offset_bytes, bytes).expect("the place was found lent");
            }
        }
    }

    /// Reads a structure that lies in one page.
    #[inline]
    pub(crate) fn read(&mut self, iova: u64, out: &mut [u8]) -> Result<(), Stopped> {
        let place = self.find(iova, out.len() as u64)?;
        self.load(place, 0, out);
        Ok(())
    }

    /// Reads an aligned word that the host writes while the controller runs.
    #[inline]
    pub(crate) fn read_u32(&mut self, iova: u64) -> Result<u32, Stopped> {
        let mut bytes = [0; 4];
        self.read(iova, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Writes an aligned word before which everything else is to be seen.
    #[inline]
    pub(crate) fn write_u32(&mut self, iova: u64, value: u32) -> Result<(), Stopped> {
        let place = self.find(iova, 4)?;
        match &self.mappings[place.mapping as usize].target {
            Target::Shared(memory) => memory.store_u32_release(place.offset_bytes as usize, value),
            Target::Pool(..) => self.store(place, 0, &value.to_le_bytes()),
        }
        Ok(())
    }

    /// Writes a structure of 16 bytes, the last dword after everything else.
    #[inline]
    pub(crate) fn write_ordered(&mut self, iova: u64, bytes: &[u8; 16]) -> Result<(), Stopped> {
        let place = self.find(iova, 16)?;
        let offset_bytes = place.offset_bytes as usize;
        let (words, _) = bytes.as_chunks::<4>();
        match &self.mappings[place.mapping as usize].target {
            Target::Shared(memory) => {
                for (number, word) in words.iter().enumerate() {
                    memory.store_u32_release(offset_bytes + number * 4, u32::from_le_bytes(*word));
                }
            }
            Target::Pool(..) => self.store(place, 0, bytes),
        }
        Ok(())
    }
}

/// Unmaps when the memory is given back.
struct Unmap {
    table: Rc<RefCell<Iommu>>,
    iova: u64,
}

impl Drop for Unmap {
    fn drop(&mut self) {
        self.table.borrow_mut().unmap(self.iova);
    }
}

/// Maps memory that both sides share: its address for the device, and what unmaps it.
pub(crate) fn map_shared(
    table: &Rc<RefCell<Iommu>>,
    memory: &SharedMemory,
) -> Result<(u64, Box<dyn Any>), DeviceError> {
    let iova = table.borrow_mut().map(memory.len(), Target::Shared(memory.clone()))?;
    Ok((iova, Box::new(Unmap { table: Rc::clone(table), iova })))
}

/// Maps the buffers of a pool: address and length in this process, address for the device, and what unmaps it.
pub(crate) fn map_pool(
    table: &Rc<RefCell<Iommu>>,
    pool: &BufferPool,
) -> Result<(usize, usize, u64, Box<dyn Any>), DeviceError> {
    let (start, length_bytes) = pool.region_range();
    let address = start.as_ptr() as usize;
    let iova = table.borrow_mut().map(length_bytes, Target::Pool(pool.clone(), address))?;
    Ok((address, length_bytes, iova, Box::new(Unmap { table: Rc::clone(table), iova })))
}

#[cfg(test)]
mod tests {
    use reactor::buffer::SizeClass;
    use reactor::memory::MemoryRegion;

    use super::*;

    impl Iommu {
        fn write(&mut self, iova: u64, bytes: &[u8]) -> Result<(), Stopped> {
            let place = self.find(iova, bytes.len() as u64)?;
            self.store(place, 0, bytes);
            Ok(())
        }
    }

    fn table() -> Rc<RefCell<Iommu>> {
        let table = Rc::new(RefCell::new(Iommu::new()));
        table.borrow_mut().set_bus_master(true);
        table
    }

    #[test]
    fn an_address_is_mapped_from_its_first_byte_to_its_last_and_never_again() {
        let table = table();
        let memory = SharedMemory::new(MemoryRegion::heap(8192));
        let (iova, unmap) = map_shared(&table, &memory).expect("an empty table has room");
        assert_ne!(iova, memory.address() as u64);
        {
            let mut iommu = table.borrow_mut();
            iommu.write(iova + 4000, &[7; 96]).expect("inside");
            let mut out = [0; 2];
            iommu.read(iova + 4095, &mut out).expect("inside");
            assert_eq!(out, [7, 0]);
            for outside in [iova - 1, iova + 8191, iova + 8192, 0, u64::MAX - 1] {
                assert_eq!(iommu.read(outside, &mut out), Err(Stopped));
            }
            let last = IommuFault { iova: u64::MAX - 1, length_bytes: 2, reason: AccessFault::NotMapped };
            assert_eq!((iommu.fault_count(), iommu.faults().last()), (5, Some(last)));
        }
        drop(unmap);
        assert_eq!(table.borrow_mut().read(iova, &mut [0]), Err(Stopped));
        let (again, _unmap) = map_shared(&table, &memory).expect("room");
        assert!(again > iova + 8192, "an address is given out once");
        assert_eq!(table.borrow().mapped(), 1);
    }

    #[test]
    fn a_buffer_is_reached_only_while_it_is_lent() {
        let table = table();
        let pool = BufferPool::heap(&[SizeClass { bytes: 4096, count: 2 }]);
        let (address, length_bytes, iova, _unmap) = map_pool(&table, &pool).expect("room");
        assert_eq!(length_bytes, 8192);
        let lent = pool.alloc(4096).expect("room").lend();
        let (mine, _) = lent.segments().next().expect("one segment");
        let at = iova + (mine - address) as u64;
        let mut iommu = table.borrow_mut();
        iommu.write(at, &[9; 4096]).expect("lent");
        let sgl = lent.reclaim();
        assert_eq!(sgl.chunk(0), [9; 4096]);
        assert_eq!(iommu.write(at, &[1]), Err(Stopped));
        let reasons: Vec<_> = iommu.faults().map(|fault| fault.reason).collect();
        assert_eq!(reasons, [AccessFault::NotLent]);
    }

    #[test]
    fn without_bus_mastering_nothing_is_reached() {
        let table = table();
        let memory = SharedMemory::new(MemoryRegion::heap(4096));
        let (iova, _unmap) = map_shared(&table, &memory).expect("room");
        table.borrow_mut().set_bus_master(false);
        assert_eq!(table.borrow_mut().write(iova, &[1]), Err(Stopped));
        assert_eq!(table.borrow().faults().next().map(|fault| fault.reason), Some(AccessFault::BusMasterOff));
    }
}
