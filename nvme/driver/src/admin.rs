//! The admin queue: what each command is for, a page for its data, and a deadline.

use nvme_spec::{Cqe, Sqe};
use reactor::memory::SharedMemory;
use reactor::time::Time;
use zerocopy::FromBytes;
use zerocopy::little_endian::U16;

use crate::device::{Device, DeviceError, DmaMemory};
use crate::limits::{ADMIN_QUEUE_ENTRIES, ADMIN_SLOTS, PAGE_BYTES};
use crate::ring::{CompletionRing, SubmissionRing, completion_bytes, entry_of, submission_bytes};

/// Bits of a command identifier that are the slot's number; the others are a generation.
const INDEX_BITS: u32 = ADMIN_SLOTS.trailing_zeros();
const _: () = assert!(ADMIN_SLOTS.is_power_of_two());

#[derive(Clone, Copy, Debug)]
struct AdminSlot<P> {
    purpose: Option<P>,
    generation: u16,
    deadline: Time,
}

/// The answer to a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<P> {
    pub(crate) purpose: P,
    pub(crate) cqe: Cqe,
    /// Whose page holds the data, until the next command is sent.
    slot: u16,
}

/// What the next completion was.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next<P> {
    Answer(Answer<P>),
    /// A completion that no command waits for.
    Spurious,
}

/// The admin queue of a controller; `P` is what a command can be for.
#[derive(Debug)]
pub(crate) struct AdminQueue<P> {
    sq: SubmissionRing,
    cq: CompletionRing,
    sq_memory: DmaMemory,
    cq_memory: DmaMemory,
    pages: DmaMemory,
    slots: [AdminSlot<P>; ADMIN_SLOTS as usize],
}

impl<P: Copy> AdminQueue<P> {
    pub(crate) fn new<D: Device>(device: &D) -> Result<Self, DeviceError> {
        let sq_memory = device.allocate(submission_bytes(ADMIN_QUEUE_ENTRIES))?;
        let cq_memory = device.allocate(completion_bytes(ADMIN_QUEUE_ENTRIES))?;
        let pages = device.allocate(usize::from(ADMIN_SLOTS) * PAGE_BYTES)?;
        Ok(Self {
            sq: SubmissionRing::new(sq_memory.memory().clone(), ADMIN_QUEUE_ENTRIES),
            cq: CompletionRing::new(cq_memory.memory().clone(), ADMIN_QUEUE_ENTRIES),
            sq_memory,
            cq_memory,
            pages,
            slots: [AdminSlot { purpose: None, generation: 0, deadline: Time::NEVER }; ADMIN_SLOTS as usize],
        })
    }

    /// ASQ and ACQ.
    pub(crate) fn addresses(&self) -> (u64, u64) {
        (self.sq_memory.iova(), self.cq_memory.iova())
    }

    /// Forgets every command: the controller was disabled.
    pub(crate) fn reset(&mut self) {
        self.sq.reset();
        self.cq.reset();
        for slot in &mut self.slots {
            (slot.purpose, slot.deadline) = (None, Time::NEVER);
        }
    }

    /// Sends a command, with a page for its data if `has_data`. False when all slots are taken.
    pub(crate) fn send(&mut self, purpose: P, mut sqe: Sqe, has_data: bool, deadline: Time) -> bool {
        let Some(index) = self.slots.iter().position(|slot| slot.purpose.is_none()) else { return false };
        let slot = &mut self.slots[index];
        slot.generation = slot.generation.wrapping_add(1) & (u16::MAX >> INDEX_BITS >> 1);
        (slot.purpose, slot.deadline) = (Some(purpose), deadline);
        sqe.cid = U16::new(index as u16 | slot.generation << INDEX_BITS);
        if has_data {
            // What an earlier answer left must not be taken for this one's.
            self.pages.memory().zero(index * PAGE_BYTES, PAGE_BYTES);
            sqe.set_prp(self.pages.iova() + (index * PAGE_BYTES) as u64, 0);
        }
        self.sq.push(&entry_of(&sqe));
        true
    }

    /// The tail to tell the controller of, if it has to be.
    pub(crate) fn take_tail(&mut self) -> Option<u16> {
        self.sq.take_tail().map(|(tail, _)| tail)
    }

    /// The head to tell the controller of, if it has to be.
    pub(crate) fn take_head(&mut self) -> Option<u16> {
        self.cq.take_head()
    }

    /// The next completion.
    pub(crate) fn next(&mut self) -> Option<Next<P>> {
        let cqe = self.cq.pop()?;
        let cid = cqe.cid.get();
        let index = cid & ((1 << INDEX_BITS) - 1);
        let slot = &mut self.slots[usize::from(index)];
        if cqe.sqid.get() != 0 || cid >> INDEX_BITS != slot.generation {
            return Some(Next::Spurious);
        }
        let Some(purpose) = slot.purpose.take() else { return Some(Next::Spurious) };
        slot.deadline = Time::NEVER;
        Some(Next::Answer(Answer { purpose, cqe, slot: index }))
    }

    /// A copy of the data that came with an answer.
    pub(crate) fn data<T: FromBytes>(&self, answer: &Answer<P>) -> Box<T> {
        let mut bytes = vec![0; size_of::<T>()];
        self.page(answer).read(0, &mut bytes);
        Box::new(T::read_from_bytes(&bytes).expect("as many bytes as the structure has"))
    }

    /// The bytes that came with an answer.
    pub(crate) fn bytes(&self, answer: &Answer<P>) -> Vec<u8> {
        let mut bytes = vec![0; PAGE_BYTES];
        self.page(answer).read(0, &mut bytes);
        bytes
    }

    fn page(&self, answer: &Answer<P>) -> SharedMemory {
        self.pages.memory().part(usize::from(answer.slot) * PAGE_BYTES, PAGE_BYTES)
    }

    /// The earliest deadline of a command in flight.
    pub(crate) fn deadline(&self) -> Time {
        self.slots.iter().map(|slot| slot.deadline).min().unwrap_or(Time::NEVER)
    }
}
