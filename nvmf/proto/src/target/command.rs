//! The commands of a target queue: a table sized once, found by slot, and by CID through chains of slots.

use nvme_spec::{Sqe, Status};

use super::event::CommandId;
use crate::limits::{COMMANDS_MAX, R2TS_PER_COMMAND_MAX, SLOT_BITS};

/// The end of a chain.
const NONE: u16 = u16::MAX;
const R2T_BITS: u32 = R2TS_PER_COMMAND_MAX.trailing_zeros();
const GENERATION_SHIFT: u32 = SLOT_BITS + R2T_BITS;

/// How far a command has come. Only [`State::Collecting`] and [`State::Soliciting`] hold a buffer that the stream fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Free,
    /// Its capsule is in progress.
    Collecting,
    /// Waits for memory before its data is asked for.
    Waiting,
    /// R2Ts are out.
    Soliciting,
    /// Complete, to be given out.
    Ready,
    /// The layer above has it.
    Executing,
    /// Completed; its data is not sent yet.
    Sending,
}

/// One R2T: which bytes are still to come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Solicited {
    pub(super) live: bool,
    pub(super) next_bytes: u32,
    pub(super) end_bytes: u32,
}

#[derive(Debug)]
pub(super) struct Slot<P> {
    pub(super) state: State,
    generation: u16,
    next: u16,
    pub(super) sqe: Sqe,
    pub(super) sequence: u32,
    pub(super) sgl_bytes: u32,
    /// Data from the host while it is collected, data to the host while it is sent.
    pub(super) payload: Option<P>,
    /// Bytes that the command takes from the host.
    pub(super) wanted_bytes: u32,
    /// Bytes of these that R2Ts have asked for.
    pub(super) solicited_bytes: u32,
    pub(super) r2ts: [Solicited; R2TS_PER_COMMAND_MAX],
    pub(super) r2ts_live: u8,
    pub(super) fault: Option<Status>,
}

impl<P> Slot<P> {
    fn new() -> Self {
        Self {
            state: State::Free,
            generation: 0,
            next: NONE,
            sqe: Sqe::default(),
            sequence: 0,
            sgl_bytes: 0,
            payload: None,
            wanted_bytes: 0,
            solicited_bytes: 0,
            r2ts: [Solicited::default(); R2TS_PER_COMMAND_MAX],
            r2ts_live: 0,
            fault: None,
        }
    }

    /// Transfer tag of an R2T of the command in this slot: slot, index of the R2T, and the low bits of the generation.
    pub(super) fn ttag(&self, slot: u16, r2t: usize) -> u16 {
        slot | (r2t as u16) << SLOT_BITS | self.generation << GENERATION_SHIFT
    }

    /// Marks the command as failed; the first fault stays. Its buffer is given back, so what still comes is stored nowhere.
    pub(super) fn set_fault(&mut self, status: Status) {
        self.fault.get_or_insert(status);
        self.payload = None;
    }

    /// All data that was asked for is there, and no more will be asked for.
    pub(super) fn is_collected(&self) -> bool {
        self.r2ts_live == 0 && (self.fault.is_some() || self.solicited_bytes == self.wanted_bytes)
    }
}

#[derive(Debug)]
pub(super) struct CommandTable<P> {
    slots: Vec<Slot<P>>,
    free: Vec<u16>,
    /// First slot of the chain of each bucket; a CID belongs to the bucket of its low bits, which hosts count up.
    heads: Vec<u16>,
}

impl<P> CommandTable<P> {
    pub(super) fn new(entries: usize) -> Self {
        let mut table = Self { slots: Vec::new(), free: Vec::new(), heads: Vec::new() };
        table.grow(entries);
        table
    }

    /// Makes room for `entries` commands in all.
    pub(super) fn grow(&mut self, entries: usize) {
        assert!(entries <= COMMANDS_MAX);
        let before = self.slots.len();
        self.slots.reserve_exact(entries.saturating_sub(before));
        self.free.reserve_exact(entries.saturating_sub(self.free.len()));
        for slot in (before..entries).rev() {
            self.free.push(slot as u16);
        }
        self.slots.resize_with(entries.max(before), Slot::new);
        self.heads = vec![NONE; self.slots.len().next_power_of_two()];
        for slot in 0..before {
            if self.slots[slot].state != State::Free {
                self.chain(slot as u16);
            }
        }
    }

    fn bucket(&self, cid: u16) -> usize {
        usize::from(cid) & (self.heads.len() - 1)
    }

    fn chain(&mut self, slot: u16) {
        let bucket = self.bucket(self.slots[usize::from(slot)].sqe.cid.get());
        self.slots[usize::from(slot)].next = self.heads[bucket];
        self.heads[bucket] = slot;
    }

    fn unchain(&mut self, slot: u16) {
        let bucket = self.bucket(self.slots[usize::from(slot)].sqe.cid.get());
        let next = self.slots[usize::from(slot)].next;
        if self.heads[bucket] == slot {
            self.heads[bucket] = next;
            return;
        }
        let mut at = self.heads[bucket];
        while self.slots[usize::from(at)].next != slot {
            at = self.slots[usize::from(at)].next;
        }
        self.slots[usize::from(at)].next = next;
    }

    /// Takes a slot for a command that came; `None` when all are in use.
    #[inline]
    pub(super) fn take(&mut self, sqe: &Sqe, sequence: u32) -> Option<u16> {
        let slot = self.free.pop()?;
        let command = &mut self.slots[usize::from(slot)];
        command.state = State::Collecting;
        command.sqe = *sqe;
        command.sequence = sequence;
        (command.sgl_bytes, command.wanted_bytes, command.solicited_bytes) = (0, 0, 0);
        command.fault = None;
        self.chain(slot);
        Some(slot)
    }

    /// Forgets a command; its buffer goes back.
    #[inline]
    pub(super) fn release(&mut self, slot: u16) {
        self.unchain(slot);
        let command = &mut self.slots[usize::from(slot)];
        assert!(
            command.state != State::Free && command.r2ts_live == 0,
            "a command ends once, behind its data"
        );
        command.state = State::Free;
        command.generation = command.generation.wrapping_add(1);
        command.payload = None;
        self.free.push(slot);
    }

    /// The slot of a command with this CID.
    #[inline]
    pub(super) fn find(&self, cid: u16) -> Option<u16> {
        let mut at = self.heads[self.bucket(cid)];
        while at != NONE {
            let command = &self.slots[usize::from(at)];
            if command.sqe.cid.get() == cid {
                return Some(at);
            }
            at = command.next;
        }
        None
    }

    /// The command and R2T that a transfer tag names, if that R2T is out.
    #[inline]
    pub(super) fn find_r2t(&mut self, ttag: u16) -> Option<(u16, u8, &mut Slot<P>)> {
        let slot = ttag & (COMMANDS_MAX as u16 - 1);
        let r2t = usize::from(ttag >> SLOT_BITS) & (R2TS_PER_COMMAND_MAX - 1);
        let command = self.slots.get_mut(usize::from(slot))?;
        let live =
            command.state == State::Soliciting && command.r2ts[r2t].live && command.ttag(slot, r2t) == ttag;
        live.then_some((slot, r2t as u8, command))
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u16) -> &mut Slot<P> {
        &mut self.slots[usize::from(slot)]
    }

    /// The buffer of a command that sends it.
    #[inline]
    pub(super) fn payload(&self, slot: u16) -> &P {
        self.slots[usize::from(slot)].payload.as_ref().expect("kept until its last byte is taken")
    }

    pub(super) fn id(&self, slot: u16) -> CommandId {
        CommandId::new(slot, self.slots[usize::from(slot)].generation)
    }

    /// The slot of an executing command; `None` for a stale id.
    #[inline]
    pub(super) fn executing_slot(&self, id: CommandId) -> Option<u16> {
        let command = self.slots.get(id.slot())?;
        let live = command.state == State::Executing && command.generation == id.generation();
        live.then_some(id.slot() as u16)
    }

    pub(super) fn executing(&self) -> impl Iterator<Item = CommandId> + '_ {
        let slots = self.slots.iter().enumerate();
        slots.filter(|(_, command)| command.state == State::Executing).map(|(slot, _)| self.id(slot as u16))
    }

    pub(super) fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Forgets every command that was not given out.
    pub(super) fn drop_unborn(&mut self) {
        for slot in 0..self.slots.len() {
            let command = &mut self.slots[slot];
            if matches!(command.state, State::Collecting | State::Waiting | State::Soliciting | State::Ready)
            {
                command.r2ts = [Solicited::default(); R2TS_PER_COMMAND_MAX];
                command.r2ts_live = 0;
                self.release(slot as u16);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::little_endian::U16;

    use super::*;

    fn sqe(cid: u16) -> Sqe {
        Sqe { cid: U16::new(cid), ..Sqe::default() }
    }

    #[test]
    fn commands_are_found_by_cid_through_every_chain() {
        let mut table = CommandTable::<()>::new(4);
        // All of one bucket.
        let slots: Vec<u16> = (0..4).map(|n| table.take(&sqe(n * 256 + 3), 0).unwrap()).collect();
        assert_eq!(table.take(&sqe(9), 0), None);
        assert_eq!(table.find(3 + 4 * 256), None);
        table.grow(64);
        for order in [[0usize, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
            let mut left: Vec<u16> = (0..4).map(|n| n * 256 + 3).collect();
            for at in order {
                let cid = at as u16 * 256 + 3;
                let slot = table.find(cid).unwrap();
                table.release(slot);
                left.retain(|other| *other != cid);
                assert_eq!(table.find(cid), None);
                assert!(left.iter().all(|cid| table.find(*cid).is_some()));
            }
            assert_eq!(table.in_use(), 0);
            for n in 0..4 {
                table.take(&sqe(n * 256 + 3), 0).unwrap();
            }
        }
        assert_eq!(slots.len(), 4);
    }

    #[test]
    fn an_id_goes_stale_with_its_command() {
        let mut table = CommandTable::<()>::new(2);
        let slot = table.take(&sqe(1), 0).unwrap();
        table.get_mut(slot).state = State::Executing;
        let id = table.id(slot);
        assert_eq!((table.executing_slot(id), CommandId::from_u32(id.to_u32())), (Some(slot), id));
        table.release(slot);
        assert_eq!(table.executing_slot(id), None);
        assert_eq!(table.take(&sqe(1), 0), Some(slot));
        table.get_mut(slot).state = State::Executing;
        assert_eq!(table.executing_slot(id), None);
        assert_eq!(table.executing_slot(CommandId::from_u32(u32::MAX)), None);
    }
}
