//! The commands of a host queue: a table sized once. A CID is the slot, with a generation above it that changes with every use, so
//! that an answer to an earlier command in the same slot is recognized as what it is.

use nvme_spec::Cqe;

use super::event::{Completion, Unfinished};
use crate::limits::{COMMANDS_MAX, SLOT_BITS};

/// Generations of a slot; the last one is left out so that no CID is FFFFh (Base 3.3.3.1 keeps that one for errors that belong to
/// no command).
const GENERATIONS: u16 = (1 << (16 - SLOT_BITS)) - 1;

/// Slot of a CID.
pub(super) const fn slot_of(cid: u16) -> u16 {
    cid & (COMMANDS_MAX as u16 - 1)
}

/// How the data of a command moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transfer {
    /// Not at all, or with the capsule.
    None,
    /// The controller asks for it with R2Ts.
    Solicited,
    /// The controller sends it: all of it before it reports success when `exact`.
    Read { exact: bool },
}

#[derive(Debug)]
pub(super) struct Slot<P> {
    in_flight: bool,
    generation: u16,
    pub(super) transfer: Transfer,
    pub(super) payload: Option<P>,
    pub(super) length_bytes: u32,
    /// Bytes of a read that came, or bytes of a write that were asked for.
    pub(super) moved_bytes: u32,
    /// LAST_PDU came.
    pub(super) data_ended: bool,
    pub(super) digest_error: bool,
    /// R2Ts whose data was not taken by the stream yet.
    pub(super) r2ts_live: u32,
    /// Segments of the payload that wait in the transmit queue.
    pub(super) segments_left: u32,
    /// Where the capsule begins in the stream.
    pub(super) begins_at: u64,
    completion: Option<Cqe>,
}

impl<P> Slot<P> {
    fn new() -> Self {
        Self {
            in_flight: false,
            generation: 0,
            transfer: Transfer::None,
            payload: None,
            length_bytes: 0,
            moved_bytes: 0,
            data_ended: false,
            digest_error: false,
            r2ts_live: 0,
            segments_left: 0,
            begins_at: 0,
            completion: None,
        }
    }

    /// The completion came. True when the command is done; else its buffer is still being sent.
    pub(super) fn set_completion(&mut self, cqe: Cqe) -> bool {
        self.completion = Some(cqe);
        self.segments_left == 0
    }
}

#[derive(Debug)]
pub(super) struct CommandTable<P> {
    slots: Vec<Slot<P>>,
    free: Vec<u16>,
}

impl<P> CommandTable<P> {
    pub(super) fn new(entries: usize) -> Self {
        assert!(entries <= COMMANDS_MAX);
        let mut slots = Vec::new();
        slots.resize_with(entries, Slot::new);
        Self { slots, free: (0..entries as u16).rev().collect() }
    }

    pub(super) fn room(&self) -> usize {
        self.free.len()
    }

    pub(super) fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes a slot.
    #[inline]
    pub(super) fn take(&mut self) -> Option<u16> {
        let slot = self.free.pop()?;
        let command = &mut self.slots[usize::from(slot)];
        *command = Slot { in_flight: true, generation: command.generation, ..Slot::new() };
        Some(slot)
    }

    pub(super) fn cid(&self, slot: u16) -> u16 {
        slot | self.slots[usize::from(slot)].generation << SLOT_BITS
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

    /// The command that the controller speaks of: in flight, without a completion, and seen by the stream, which took all bytes
    /// before `taken`.
    #[inline]
    pub(super) fn find(&mut self, cid: u16, taken: u64) -> Option<(u16, &mut Slot<P>)> {
        let slot = slot_of(cid);
        let command = self.slots.get_mut(usize::from(slot))?;
        let known = command.in_flight
            && command.generation == cid >> SLOT_BITS
            && command.completion.is_none()
            && command.begins_at < taken;
        known.then_some((slot, command))
    }

    /// A segment of the payload was taken by the stream. True when that was all that a completed command waited for.
    #[inline]
    pub(super) fn sent(&mut self, slot: u16, ends_transfer: bool) -> bool {
        let command = &mut self.slots[usize::from(slot)];
        command.segments_left -= 1;
        command.r2ts_live -= u32::from(ends_transfer);
        command.segments_left == 0 && command.completion.is_some()
    }

    /// Ends a completed command.
    #[inline]
    pub(super) fn complete(&mut self, slot: u16) -> Completion<P> {
        let cid = self.cid(slot);
        let command = &mut self.slots[usize::from(slot)];
        let cqe = command.completion.take().expect("the caller knows that it is completed");
        let is_read = matches!(command.transfer, Transfer::Read { .. });
        let received_bytes = if is_read { command.moved_bytes } else { 0 };
        let data = command.payload.take();
        self.release(slot);
        Completion { cid, cqe, data, received_bytes }
    }

    fn release(&mut self, slot: u16) {
        let command = &mut self.slots[usize::from(slot)];
        command.in_flight = false;
        command.generation = (command.generation + 1) % GENERATIONS;
        self.free.push(slot);
    }

    /// Completed commands whose buffers were still being sent, when nothing will be sent any more.
    pub(super) fn lingering(&mut self) -> impl Iterator<Item = u16> + '_ {
        let slots = self.slots.iter_mut().enumerate();
        slots.filter(|(_, command)| command.completion.is_some() && command.segments_left > 0).map(
            |(slot, command)| {
                command.segments_left = 0;
                slot as u16
            },
        )
    }

    /// Takes back a command without a completion, when nothing will be sent any more.
    pub(super) fn take_unfinished(&mut self, taken: u64) -> Option<Unfinished<P>> {
        let unfinished = |command: &Slot<P>| command.in_flight && command.completion.is_none();
        let slot = self.slots.iter().position(unfinished)? as u16;
        let cid = self.cid(slot);
        let command = &mut self.slots[usize::from(slot)];
        let (data, sent) = (command.payload.take(), command.begins_at < taken);
        self.release(slot);
        Some(Unfinished { cid, data, sent })
    }
}

#[cfg(test)]
mod tests {
    use nvme_spec::Status;

    use super::*;

    #[test]
    fn a_cid_is_not_used_twice_in_a_row_and_never_is_ffffh() {
        let mut table = CommandTable::<()>::new(COMMANDS_MAX);
        while table.take().is_some() {}
        let mut before = None;
        for _ in 0..200 {
            let slot = COMMANDS_MAX as u16 - 1;
            let cid = table.cid(slot);
            assert!(cid != u16::MAX && Some(cid) != before && slot_of(cid) == slot);
            before = Some(cid);
            assert!(table.find(cid, 1).is_some() && table.find(cid, 0).is_none());
            assert!(table.get_mut(slot).set_completion(Cqe::new(cid, Status::SUCCESS)));
            assert!(table.find(cid, 1).is_none());
            assert_eq!(table.complete(slot).cid, cid);
            assert!(table.find(cid, 1).is_none());
            assert_eq!(table.take(), Some(slot));
        }
    }
}
