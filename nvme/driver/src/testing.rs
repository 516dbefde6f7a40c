//! A device with as little in it as a driver needs: for tests and for counting what the driver itself costs.
//!
//! It answers the admin commands of a start-up, completes I/O without moving data, and charges a fixed small cost for each. It
//! sees this process's own addresses. Whoever needs a controller that keeps data, or one that errs, takes `nvme_emulated`.

use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::rc::Rc;

use nvme_spec::admin::Identify;
use nvme_spec::feature::NumberOfQueues;
use nvme_spec::identify::{Cns, IdentifyController, IdentifyNamespace, NamespaceList};
use nvme_spec::register::{ASQ, CAP, CC, CSS_NVM, CSTS, Capabilities, Configuration};
use nvme_spec::{AdminOpcode, Cqe, Sqe, Status};
use reactor::buffer::BufferPool;
use reactor::memory::{MemoryRegion, SharedMemory};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use crate::device::{Device, DeviceError, DmaMemory, PoolMapping};

/// Doorbells as they lie with CAP.DSTRD = 0.
const DOORBELLS: u32 = nvme_spec::register::DOORBELLS;
const QUEUES: usize = 3;

#[derive(Debug, Default)]
struct Queue {
    sq: Option<SharedMemory>,
    cq: Option<SharedMemory>,
    entries: u16,
    head: u16,
    tail: u16,
    cq_tail: u16,
    phase: bool,
}

#[derive(Debug, Default)]
struct Inner {
    memory: Vec<SharedMemory>,
    queues: [Queue; QUEUES],
    cc: u32,
    aqa: u32,
    addresses: [u64; 2],
    /// Turned into every answer to Identify and the like: where, and which bits.
    spoiled: Vec<(usize, u8)>,
}

/// The device. A clone is another handle to it.
#[derive(Clone, Debug, Default)]
pub struct NullDevice {
    inner: Rc<RefCell<Inner>>,
    doorbells: Rc<Cell<u64>>,
    block_bits: u8,
}

impl NullDevice {
    /// A controller with one namespace of 2^20 blocks of 2^`block_bits` bytes.
    pub fn new(block_bits: u8) -> Self {
        Self { block_bits, ..Self::default() }
    }

    /// Doorbells that were written.
    pub fn doorbells(&self) -> u64 {
        self.doorbells.get()
    }

    /// Turns bits of a byte in every answer to Identify from now on.
    pub fn spoil(&self, at: usize, bits: u8) {
        self.inner.borrow_mut().spoiled.push((at % Identify::DATA_BYTES as usize, bits));
    }

    /// The commands of the I/O queue that lie between these places of its ring.
    pub fn commands(&self, from: u16, to: u16) -> Vec<Sqe> {
        let inner = self.inner.borrow();
        let queue = &inner.queues[1];
        let Some(sq) = &queue.sq else { return Vec::new() };
        let mut commands = Vec::new();
        let mut at = from;
        while at != to && at < queue.entries {
            let mut bytes = [0; 64];
            sq.read(usize::from(at) * 64, &mut bytes);
            commands.push(Sqe::read_from_bytes(&bytes).expect("64 bytes"));
            at = if at + 1 == queue.entries { 0 } else { at + 1 };
        }
        commands
    }

    /// Those that were submitted and that [`NullDevice::step`] will complete.
    pub fn waiting(&self) -> Vec<Sqe> {
        let (head, tail) = {
            let queue = &self.inner.borrow().queues[1];
            (queue.head, queue.tail)
        };
        self.commands(head, tail)
    }

    /// Puts any completion into the ring of the admin queue (0) or the I/O queue (1), as the next entry.
    pub fn post(&self, qid: usize, mut cqe: Cqe) {
        let inner = &mut *self.inner.borrow_mut();
        let queue = &mut inner.queues[qid.min(1)];
        let Some(cq) = &queue.cq else { return };
        cqe.set_phase(queue.phase);
        cq.write(usize::from(queue.cq_tail) * 16, cqe.as_bytes());
        queue.cq_tail += 1;
        if queue.cq_tail == queue.entries {
            (queue.cq_tail, queue.phase) = (0, !queue.phase);
        }
    }

    /// Writes anything anywhere into the memory that was given to the device.
    pub fn scribble(&self, memory: usize, at: usize, byte: u8) {
        let inner = self.inner.borrow();
        if let Some(memory) = inner.memory.get(memory % inner.memory.len().max(1)) {
            memory.write(at % memory.len(), &[byte]);
        }
    }

    /// Completes everything that was submitted on the I/O queue.
    pub fn step(&self) {
        let inner = &mut *self.inner.borrow_mut();
        let queue = &mut inner.queues[1];
        while queue.head != queue.tail {
            let sqe_at = usize::from(queue.head) * 64;
            let sq = queue.sq.as_ref().expect("a queue that was rung");
            let cid = (sq.load_u64(sqe_at) >> 16) as u16;
            queue.head = if queue.head + 1 == queue.entries { 0 } else { queue.head + 1 };
            let cq = queue.cq.as_ref().expect("created before its submission queue");
            let cqe_at = usize::from(queue.cq_tail) * 16;
            cq.store_u64(cqe_at, 0);
            let dw2 = u64::from(queue.head) | 1 << 16;
            let dw3 = u64::from(cid) | u64::from(queue.phase) << 16;
            cq.store_u64(cqe_at + 8, dw2 | dw3 << 32);
            queue.cq_tail += 1;
            if queue.cq_tail == queue.entries {
                (queue.cq_tail, queue.phase) = (0, !queue.phase);
            }
        }
    }
}

impl Inner {
    fn at(&self, address: u64, length_bytes: usize) -> SharedMemory {
        let found = self
            .memory
            .iter()
            .find(|memory| (memory.address()..memory.address() + memory.len()).contains(&(address as usize)));
        let memory = found.expect("the driver gives addresses that it was given");
        memory.part(address as usize - memory.address(), length_bytes)
    }

    fn enable(&mut self) {
        let [asq, acq] = self.addresses;
        let entries = (self.aqa & 0xfff) as u16 + 1;
        self.queues = Default::default();
        self.queues[0] = Queue {
            sq: Some(self.at(asq, usize::from(entries) * 64)),
            cq: Some(self.at(acq, usize::from(entries) * 16)),
            entries,
            phase: true,
            ..Queue::default()
        };
    }

    fn ring_admin(&mut self, tail: u16, block_bits: u8) {
        while self.queues[0].head != tail {
            let mut bytes = [0; 64];
            let queue = &self.queues[0];
            let sq = queue.sq.clone().expect("enabled");
            sq.read(usize::from(queue.head) * 64, &mut bytes);
            let sqe = Sqe::read_from_bytes(&bytes).expect("64 bytes");
            self.queues[0].head = (queue.head + 1) % queue.entries;
            if let Some(mut cqe) = self.admin(&sqe, block_bits) {
                let queue = &mut self.queues[0];
                cqe.sqhd = U16::new(queue.head);
                cqe.set_phase(queue.phase);
                let cq = queue.cq.clone().expect("enabled");
                cq.write(usize::from(queue.cq_tail) * 16, &cqe.as_bytes()[..12]);
                let dw3 = u32::from(cqe.cid.get()) | u32::from(cqe.status_and_phase.get()) << 16;
                cq.store_u32_release(usize::from(queue.cq_tail) * 16 + 12, dw3);
                queue.cq_tail = (queue.cq_tail + 1) % queue.entries;
                queue.phase ^= queue.cq_tail == 0;
            }
        }
    }

    fn admin(&mut self, sqe: &Sqe, block_bits: u8) -> Option<Cqe> {
        let mut cqe = Cqe::new(sqe.cid.get(), Status::SUCCESS);
        let address = sqe.prp()[0].get();
        let (low, high) = (sqe.cdw10.get() as u16, (sqe.cdw10.get() >> 16) as u16);
        match sqe.admin_opcode() {
            AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST => return None,
            AdminOpcode::IDENTIFY => match identify(&Identify::of(sqe), block_bits) {
                Some(mut data) => {
                    self.spoiled.iter().for_each(|(at, bits)| data[*at] ^= bits);
                    self.at(address, data.len()).write(0, &data);
                }
                None => cqe.set_status(Status::INVALID_FIELD),
            },
            AdminOpcode::SET_FEATURES => {
                cqe.dw0 = U32::new(NumberOfQueues { submission: 1, completion: 1 }.dword());
            }
            AdminOpcode::CREATE_IO_COMPLETION_QUEUE => {
                let entries = high + 1;
                let cq = Some(self.at(address, usize::from(entries) * 16));
                self.queues[usize::from(low)] = Queue { cq, entries, phase: true, ..Queue::default() };
            }
            AdminOpcode::CREATE_IO_SUBMISSION_QUEUE => {
                let sq = self.at(address, (usize::from(high) + 1) * 64);
                self.queues[usize::from(low)].sq = Some(sq);
            }
            _ => cqe.set_status(Status::INVALID_OPCODE),
        }
        Some(cqe)
    }
}

fn identify(identify: &Identify, block_bits: u8) -> Option<Vec<u8>> {
    match identify.cns {
        Cns::CONTROLLER => {
            let mut data =
                IdentifyController { sqes: 0x66, cqes: 0x44, mdts: 8, ..IdentifyController::default() };
            data.sn = *b"NULL0000000000000001";
            Some(data.as_bytes().to_vec())
        }
        Cns::ACTIVE_NAMESPACE_LIST => {
            let mut data = NamespaceList::default();
            data.nsid[0] = U32::new(1);
            Some(data.as_bytes().to_vec())
        }
        Cns::NAMESPACE => {
            let mut data =
                IdentifyNamespace { nsze_blocks: U64::new(1 << 20), ..IdentifyNamespace::default() };
            data.lbaf[0].lbads = block_bits;
            Some(data.as_bytes().to_vec())
        }
        _ => None,
    }
}

impl Device for NullDevice {
    fn name(&self) -> &str {
        "null"
    }

    fn registers_bytes(&self) -> u32 {
        DOORBELLS + 8 * QUEUES as u32
    }

    fn read_u32(&self, offset_bytes: u32) -> u32 {
        let cc = self.inner.borrow().cc;
        match offset_bytes {
            CC => cc,
            CSTS => Configuration(cc).en(),
            _ => 0,
        }
    }

    fn read_u64(&self, offset_bytes: u32) -> u64 {
        let cap = Capabilities::default().with_mqes(1023).with_css(CSS_NVM).with_timeout_500ms(1);
        match offset_bytes {
            CAP => cap.0,
            ASQ => self.inner.borrow().addresses[0],
            _ => 0,
        }
    }

    #[inline]
    fn write_u32(&self, offset_bytes: u32, value: u32) {
        let inner = &mut *self.inner.borrow_mut();
        if offset_bytes >= DOORBELLS {
            self.doorbells.set(self.doorbells.get() + 1);
            match (offset_bytes - DOORBELLS) / 4 {
                0 => inner.ring_admin(value as u16, self.block_bits),
                2 => inner.queues[1].tail = value as u16,
                _ => {}
            }
            return;
        }
        match offset_bytes {
            nvme_spec::register::AQA => inner.aqa = value,
            CC => {
                let was = Configuration(inner.cc).en();
                inner.cc = value;
                if was == 0 && Configuration(value).en() == 1 {
                    inner.enable();
                }
            }
            _ => {}
        }
    }

    fn write_u64(&self, offset_bytes: u32, value: u64) {
        let at = if offset_bytes == ASQ { 0 } else { 1 };
        self.inner.borrow_mut().addresses[at] = value;
    }

    fn allocate(&self, length_bytes: usize) -> Result<DmaMemory, DeviceError> {
        let memory = SharedMemory::new(MemoryRegion::heap(length_bytes));
        self.inner.borrow_mut().memory.push(memory.clone());
        let iova = memory.address() as u64;
        Ok(DmaMemory::new(memory, iova, Box::new(())))
    }

    fn map_pool(&self, pool: &BufferPool) -> Result<PoolMapping, DeviceError> {
        let (base, length_bytes) = pool.region_range();
        let address = base.as_ptr() as usize;
        Ok(PoolMapping::new(address, length_bytes, address as u64, Box::new(())))
    }

    fn set_bus_master(&self, _enabled: bool) -> Result<(), DeviceError> {
        Ok(())
    }

    fn begin_function_reset(&self) -> Result<(), DeviceError> {
        self.inner.borrow_mut().cc = 0;
        Ok(())
    }

    fn poll_function_reset(&self) -> Option<Result<(), DeviceError>> {
        Some(Ok(()))
    }

    fn interrupt_vectors(&self) -> u16 {
        0
    }

    fn interrupt(&self, _vector: u16) -> Result<Option<RawFd>, DeviceError> {
        Ok(None)
    }
}
