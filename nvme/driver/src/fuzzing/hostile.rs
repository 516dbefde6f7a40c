//! A device that answers what an input says, and remembers which buffers it may still use.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::RawFd;
use std::rc::Rc;

use nvme_spec::register::{CC, CSTS, Configuration, submission_doorbell};
use nvme_spec::{Cqe, Status};
use reactor::buffer::BufferPool;
use zerocopy::little_endian::{U16, U32};

use super::Input;
use crate::device::{Device, DeviceError, DmaMemory, PoolMapping};
use crate::testing::NullDevice;

#[derive(Debug, Default)]
struct Mood {
    /// What CSTS reads, if not the truth.
    status: Cell<Option<u32>>,
    /// Bits: 0 and 1 how a function reset goes, 2 and 3 how bus mastering is switched.
    answers: Cell<u8>,
    /// Commands that it has: identifier, and where their data begins.
    held: RefCell<BTreeMap<u16, u64>>,
    /// Commands that it has completed before it was told of them. A driver cannot tell: it sees the completion of a command that
    /// it has written.
    foretold: RefCell<BTreeSet<u16>>,
    enabled: Cell<bool>,
    /// The tail of the I/O queue that it knows.
    tail: Cell<u16>,
}

#[derive(Clone, Debug)]
pub(super) struct HostileDevice {
    pub(super) null: NullDevice,
    mood: Rc<Mood>,
}

impl HostileDevice {
    pub(super) fn new(block_bits: u8) -> Self {
        Self { null: NullDevice::new(block_bits), mood: Rc::default() }
    }

    pub(super) fn complete_all(&self) {
        if !self.mood.enabled.get() {
            return;
        }
        for sqe in self.null.waiting() {
            self.mood.held.borrow_mut().remove(&sqe.cid.get());
        }
        self.null.step();
    }

    /// A completion of any content.
    pub(super) fn post_any(&self, input: &mut Input<'_>) {
        let qid = usize::from(input.byte() & 1);
        let cqe = Cqe {
            dw0: U32::new(input.u32()),
            dw1: U32::ZERO,
            sqhd: U16::new(input.u16()),
            sqid: U16::new(input.u16()),
            cid: U16::new(input.u16()),
            status_and_phase: U16::new(input.u16()),
        };
        self.post(qid, cqe);
    }

    /// A completion of a command that it has, of one that it had, or of one nearby.
    pub(super) fn post_likely(&self, input: &mut Input<'_>) {
        let cid = {
            let held = self.mood.held.borrow();
            let at = usize::from(input.byte()) % held.len().max(1);
            held.keys().nth(at).copied().unwrap_or(0)
        };
        let near = u16::from(input.byte());
        let cid = if near < 200 { cid } else { cid ^ (near - 200) };
        let status = match input.byte() % 4 {
            0 | 1 => Status::SUCCESS,
            2 => Status::UNRECOVERED_READ_ERROR,
            _ => Status::from_bits(input.u16()),
        };
        let mut cqe = Cqe::new(cid, status);
        cqe.sqid = U16::new(1);
        self.post(1, cqe);
    }

    fn post(&self, qid: usize, cqe: Cqe) {
        if !self.mood.enabled.get() {
            return;
        }
        if qid == 1 {
            // Whatever else is wrong with it: it has said that it is done with this one.
            let cid = cqe.cid.get();
            if self.mood.held.borrow_mut().remove(&cid).is_none() {
                self.mood.foretold.borrow_mut().insert(cid);
            }
        }
        self.null.post(qid, cqe);
    }

    pub(super) fn set_status(&self, input: &mut Input<'_>) {
        self.mood.status.set(match input.byte() % 8 {
            0 => Some(u32::MAX),
            1 => Some(input.u32()),
            2 => Some(0b10),
            3 => Some(0),
            4 => Some(1),
            _ => None,
        });
    }

    pub(super) fn set_answers(&self, answers: u8) {
        self.mood.answers.set(answers);
    }

    pub(super) fn behave(&self) {
        self.mood.status.set(None);
        self.mood.answers.set(0);
    }

    /// No command that it has uses this memory.
    pub(super) fn assert_released(&self, address: usize, length_bytes: usize) {
        let range = address as u64..(address + length_bytes) as u64;
        let held = self.mood.held.borrow();
        let used = held.iter().find(|(_, at)| range.contains(at));
        assert!(used.is_none(), "a buffer was taken back while the device has command {used:?}");
    }

    fn stop(&self) {
        self.mood.held.borrow_mut().clear();
        self.mood.foretold.borrow_mut().clear();
        self.mood.enabled.set(false);
    }
}

impl Device for HostileDevice {
    fn name(&self) -> &str {
        "hostile"
    }

    fn registers_bytes(&self) -> u32 {
        self.null.registers_bytes()
    }

    fn read_u32(&self, offset_bytes: u32) -> u32 {
        if offset_bytes != CSTS {
            return self.null.read_u32(offset_bytes);
        }
        let value = self.mood.status.get().unwrap_or_else(|| self.null.read_u32(CSTS));
        let disabled = Configuration(self.null.read_u32(CC)).en() == 0;
        // A device that says that it is disabled is one: what else could a driver go by?
        if disabled && value != u32::MAX && value & 1 == 0 {
            self.stop();
        }
        value
    }

    fn read_u64(&self, offset_bytes: u32) -> u64 {
        self.null.read_u64(offset_bytes)
    }

    fn write_u32(&self, offset_bytes: u32, value: u32) {
        self.null.write_u32(offset_bytes, value);
        if offset_bytes == submission_doorbell(1, 0) {
            let mut held = self.mood.held.borrow_mut();
            let tail = self.mood.tail.replace(value as u16);
            let mut fresh = self.null.commands(tail, value as u16);
            fresh.retain(|sqe| !self.mood.foretold.borrow_mut().remove(&sqe.cid.get()));
            held.extend(fresh.iter().map(|sqe| (sqe.cid.get(), sqe.prp()[0].get())));
        }
        if offset_bytes == CC && Configuration(value).en() == 1 {
            self.mood.enabled.set(true);
            self.mood.tail.set(0);
        }
    }

    fn write_u64(&self, offset_bytes: u32, value: u64) {
        self.null.write_u64(offset_bytes, value);
    }

    fn allocate(&self, length_bytes: usize) -> Result<DmaMemory, DeviceError> {
        self.null.allocate(length_bytes)
    }

    fn map_pool(&self, pool: &BufferPool) -> Result<PoolMapping, DeviceError> {
        self.null.map_pool(pool)
    }

    fn set_bus_master(&self, enabled: bool) -> Result<(), DeviceError> {
        let answer = match self.mood.answers.get() >> 2 & 0b11 {
            // What such a device was lent is leaked on purpose, which the fuzzer's leak detector must not be shown.
            2 if cfg!(not(fuzzing)) => Err(DeviceError::NotConfigured { errno: 5 }),
            3 => Err(DeviceError::Removed),
            _ => Ok(()),
        };
        if !enabled && answer != Err(DeviceError::NotConfigured { errno: 5 }) {
            self.stop();
        }
        answer
    }

    fn begin_function_reset(&self) -> Result<(), DeviceError> {
        match self.mood.answers.get() & 0b11 {
            1 => Err(DeviceError::NotReset { errno: 25 }),
            3 => Err(DeviceError::Removed),
            _ => self.null.begin_function_reset(),
        }
    }

    fn poll_function_reset(&self) -> Option<Result<(), DeviceError>> {
        if self.mood.answers.get() & 0b11 == 2 {
            return None;
        }
        self.stop();
        Some(Ok(()))
    }

    fn interrupt_vectors(&self) -> u16 {
        0
    }

    fn interrupt(&self, _vector: u16) -> Result<Option<RawFd>, DeviceError> {
        Ok(None)
    }
}
