//! The table of commands: one contiguous slot each. What is in flight is owned by its slot, and only its completion, or the
//! proof that the controller is quiet, takes it out.
//!
//! A command identifier is the slot's number with a generation above it, so that a completion that comes twice, or long after
//! its command was given up, is told from one of the slot's present command.

use nvme_spec::NvmOpcode;
use nvme_spec::nvm::IoControl;
use reactor::buffer::LentSgl;
use reactor::time::Time;

use crate::limits::LONG_REQUESTS_MAX;
use crate::request::{Payload, Plan};

/// No long request: the command is a whole I/O.
pub(super) const WHOLE: u16 = u16::MAX;

const _: () = assert!(LONG_REQUESTS_MAX < WHOLE as usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Free,
    /// The controller has it.
    InFlight,
    /// It has it still, and its abort was asked for.
    Aborting,
    /// It waits for the queue to be created anew.
    Pending,
}

impl State {
    /// The controller has it.
    #[inline]
    pub(super) fn is_in_flight(self) -> bool {
        matches!(self, Self::InFlight | Self::Aborting)
    }
}

/// Two lines of the cache, so that a command costs few of them.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Slot {
    pub(super) state: State,
    /// The identifier under which its command went out last.
    cid: u16,
    /// Which namespace, in the queue pair's own table.
    pub(super) namespace: u16,
    /// The long request that it is a piece of, or [`WHOLE`].
    pub(super) long: u16,
    /// Times that it was sent again because the controller asked for it or aborted it.
    pub(super) attempts: u8,
    /// Times that it was sent to find an unreadable block.
    pub(super) probes: u8,
    /// It was sent again after a reset.
    pub(super) resent: bool,
    pub(super) payload: Payload,
    pub(super) opcode: NvmOpcode,
    pub(super) control: IoControl,
    pub(super) tag: u64,
    /// The run of blocks that is asked of this command in the end.
    pub(super) lba: u64,
    pub(super) blocks: u32,
    /// Of these, so many are done, and so many are being tried now; all at once unless a read failed.
    pub(super) good_blocks: u32,
    pub(super) window_blocks: u32,
    /// Blocks from `good_blocks` on among which one is unreadable; 0 when nothing is known.
    pub(super) suspect_blocks: u32,
    /// When it was written to the ring.
    pub(super) issued_at: Time,
    /// The data, unless a long request has it.
    pub(super) lent: Option<LentSgl>,
}

const _: () = assert!(size_of::<Slot>() == 128);

impl Slot {
    fn free(index: u16) -> Self {
        Self {
            state: State::Free,
            cid: index,
            namespace: 0,
            long: WHOLE,
            attempts: 0,
            probes: 0,
            resent: false,
            payload: Payload::None,
            opcode: NvmOpcode::FLUSH,
            control: IoControl::NONE,
            tag: 0,
            lba: 0,
            blocks: 0,
            good_blocks: 0,
            window_blocks: 0,
            suspect_blocks: 0,
            issued_at: Time::ZERO,
            lent: None,
        }
    }

    /// What is asked of its command, as `plan` says: a run of blocks of which nothing has been done.
    #[inline]
    pub(super) fn set_run(&mut self, plan: &Plan, lba: u64, blocks: u32) {
        (self.opcode, self.payload, self.control) = (plan.opcode, plan.payload, plan.control);
        (self.attempts, self.probes, self.resent) = (0, 0, false);
        (self.lba, self.blocks) = (lba, blocks);
        (self.good_blocks, self.window_blocks, self.suspect_blocks) = (0, blocks, 0);
    }

    /// The first of the blocks that are being tried now.
    #[inline]
    pub(super) fn window_lba(&self) -> u64 {
        self.lba + u64::from(self.good_blocks)
    }
}

/// What a command identifier of a completion stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The command in this slot.
    Command(u16),
    /// A command that has ended already.
    Duplicate,
    /// An earlier command of a slot.
    Stale,
    /// No slot.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Slots {
    slots: Box<[Slot]>,
    free: Vec<u16>,
    /// The bits of an identifier that are the slot's number.
    index_mask: u16,
    /// What is added to an identifier for the next one of the same slot.
    generation_step: u16,
}

impl Slots {
    /// Slots for a queue of `entries`: one fewer, so that the ring never overflows.
    pub(super) fn new(entries: u16, bugs: crate::planted::Bugs) -> Self {
        let count = entries - 1;
        // The number of the last slot is never all ones, so no identifier is FFFFh, which means none (Base 5.1.12.1.2).
        let numbers = entries.next_power_of_two();
        Self {
            slots: (0..count).map(Slot::free).collect(),
            free: (0..count).rev().collect(),
            index_mask: numbers - 1,
            generation_step: if bugs.reuses_cid() { 0 } else { numbers },
        }
    }

    #[inline]
    pub(super) fn room(&self) -> usize {
        self.free.len()
    }

    /// Slots that have a command.
    #[inline]
    pub(super) fn taken(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    #[inline]
    pub(super) fn take(&mut self) -> u16 {
        self.free.pop().expect("the caller has looked for room")
    }

    #[inline]
    pub(super) fn get(&mut self, index: u16) -> &mut Slot {
        &mut self.slots[usize::from(index)]
    }

    pub(super) fn count(&self) -> u16 {
        self.slots.len() as u16
    }

    /// The slot's command goes out now; its identifier, a new one each time.
    #[inline]
    pub(super) fn begin(&mut self, index: u16, now: Time) -> u16 {
        let step = self.generation_step;
        let slot = self.get(index);
        // Past its last bit a generation starts over, and leaves the number below it as it is.
        slot.cid = slot.cid.wrapping_add(step);
        (slot.state, slot.issued_at) = (State::InFlight, now);
        slot.cid
    }

    /// The identifier of the command in the slot.
    pub(super) fn cid(&self, index: u16) -> u16 {
        self.slots[usize::from(index)].cid
    }

    #[inline]
    pub(super) fn find(&self, cid: u16) -> Found {
        let index = cid & self.index_mask;
        match self.slots.get(usize::from(index)) {
            Some(slot) if slot.cid == cid && slot.state.is_in_flight() => Found::Command(index),
            Some(slot) if slot.cid == cid => Found::Duplicate,
            Some(_) => Found::Stale,
            None => Found::Unknown,
        }
    }

    /// The slot may be used again.
    #[inline]
    pub(super) fn release(&mut self, index: u16) {
        self.get(index).state = State::Free;
        self.free.push(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::Bugs;

    #[test]
    fn identifiers_of_every_depth_are_unique_and_never_all_ones() {
        for entries in [2, 3, 16, 17, 255, 256, 1024, 4096] {
            let mut slots = Slots::new(entries, Bugs::default());
            let count = slots.count();
            assert_eq!(count, entries - 1);
            let mut last = std::collections::HashSet::new();
            for _ in 0..20 {
                for index in 0..count {
                    let cid = slots.begin(index, Time::ZERO);
                    assert_ne!(cid, 0xffff);
                    assert_eq!((slots.find(cid), slots.cid(index)), (Found::Command(index), cid));
                    last.insert(cid);
                }
            }
            assert!(last.len() >= usize::from(count) * 15, "generations come round late");
        }
    }

    #[test]
    fn only_the_present_command_of_a_slot_is_found() {
        let mut slots = Slots::new(9, Bugs::default());
        let index = slots.take();
        let first = slots.begin(index, Time::ZERO);
        let second = slots.begin(index, Time::ZERO);
        assert_eq!((slots.find(first), slots.find(second)), (Found::Stale, Found::Command(index)));
        slots.release(index);
        assert_eq!((slots.find(first), slots.find(second)), (Found::Stale, Found::Duplicate));
        // Every identifier there is, without a panic.
        let found = (0..=u16::MAX).filter(|cid| matches!(slots.find(*cid), Found::Command(_))).count();
        assert_eq!(found, 0);
        assert_eq!(slots.find(0x000f), Found::Unknown);
    }
}
