//! The two rings of a queue pair (Base 3.3.1): where entries are written and read. What they mean is the business of others.
//!
//! A ring never overflows: fewer commands are in flight than it has entries, and a command in flight holds at most one entry
//! of each. So the head that the controller reports is not needed to know that there is room, and a controller that reports it
//! late costs nothing.

use nvme_spec::{Cqe, Sqe, Status};
use reactor::memory::{SharedEntries, SharedMemory};
use zerocopy::little_endian::{U16, U32, U64};

const SQE_BYTES: usize = size_of::<Sqe>();
const CQE_BYTES: usize = size_of::<Cqe>();
const SQE_WORDS: usize = SQE_BYTES / 8;
const CQE_WORDS: usize = CQE_BYTES / 8;

/// A submission queue entry as words, so that writing it is eight stores.
pub(crate) type Entry = [u64; SQE_WORDS];

/// The words of an entry.
pub(crate) fn entry_of(sqe: &Sqe) -> Entry {
    let words: [U64; SQE_WORDS] = zerocopy::transmute!(*sqe);
    words.map(U64::get)
}

/// Bytes of a submission ring.
pub(crate) const fn submission_bytes(entries: u16) -> usize {
    entries as usize * SQE_BYTES
}

/// Bytes of a completion ring.
pub(crate) const fn completion_bytes(entries: u16) -> usize {
    entries as usize * CQE_BYTES
}

/// The place after `place` in a ring of `entries`. It wraps long before its type does.
#[inline]
fn following(place: u16, entries: u16) -> u16 {
    let next = place.wrapping_add(1);
    if next == entries { 0 } else { next }
}

/// A submission ring: entries are written at the tail, and the controller is told once for all of a turn.
#[derive(Debug)]
pub(crate) struct SubmissionRing {
    ring: SharedEntries<SQE_WORDS>,
    entries: u16,
    tail: u16,
    /// The tail that the controller knows.
    rung: u16,
}

impl SubmissionRing {
    pub(crate) fn new(memory: SharedMemory, entries: u16) -> Self {
        assert!(entries >= 2, "a ring that can hold an entry");
        Self { ring: SharedEntries::new(memory, entries.into()), entries, tail: 0, rung: 0 }
    }

    /// Writes an entry; the controller does not know of it yet.
    #[inline]
    pub(crate) fn push(&mut self, entry: &Entry) {
        self.ring.store(self.tail.into(), entry);
        self.advance();
    }

    /// True when one more entry would make the controller's view wrap: it has to be told first.
    #[inline]
    pub(crate) fn is_full_unrung(&self) -> bool {
        following(self.tail, self.entries) == self.rung
    }

    #[inline]
    fn advance(&mut self) {
        self.tail = following(self.tail, self.entries);
        debug_assert!(self.tail != self.rung, "more commands than entries");
    }

    /// The tail and the one known so far, when the controller has to be told.
    #[inline]
    pub(crate) fn take_tail(&mut self) -> Option<(u16, u16)> {
        let before = self.rung;
        self.rung = self.tail;
        (before != self.tail).then_some((self.tail, before))
    }

    /// Empty again, for a queue that is created anew.
    pub(crate) fn reset(&mut self) {
        (self.tail, self.rung) = (0, 0);
        self.ring.memory().zero(0, submission_bytes(self.entries));
    }

    /// Where the next entry goes; for a bug made on purpose.
    #[cfg(feature = "planted")]
    pub(crate) fn skip(&mut self) -> u16 {
        let at = self.tail;
        self.advance();
        at
    }

    /// Writes an entry that was skipped.
    #[cfg(feature = "planted")]
    pub(crate) fn write_at(&mut self, at: u16, entry: &Entry) {
        self.ring.store(at.into(), entry);
    }
}

/// What every completion says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) sqhd: u16,
    pub(crate) sqid: u16,
    pub(crate) cid: u16,
    status_and_phase: u16,
}

impl Answered {
    #[inline]
    pub(crate) fn status(self) -> Status {
        Status::from_bits(self.status_and_phase >> 1)
    }
}

/// A completion ring: an entry is there when its phase says so.
#[derive(Debug)]
pub(crate) struct CompletionRing {
    ring: SharedEntries<CQE_WORDS>,
    entries: u16,
    head: u16,
    /// The Phase Tag of entries that are new in this round.
    phase: bool,
    /// Entries were taken that the controller does not know of.
    taken: bool,
    #[cfg(feature = "planted")]
    pub(crate) ignores_phase: bool,
}

impl CompletionRing {
    pub(crate) fn new(memory: SharedMemory, entries: u16) -> Self {
        assert!(entries >= 2, "a ring that can hold an entry");
        Self {
            ring: SharedEntries::new(memory, entries.into()),
            entries,
            head: 0,
            phase: true,
            taken: false,
            #[cfg(feature = "planted")]
            ignores_phase: false,
        }
    }

    /// Takes the next entry, if it is there.
    pub(crate) fn pop(&mut self) -> Option<Cqe> {
        let at = self.head;
        let Answered { sqhd, sqid, cid, status_and_phase } = self.pop_answer()?;
        let dw01 = self.ring.load(at.into(), 0);
        Some(Cqe {
            dw0: U32::new(dw01 as u32),
            dw1: U32::new((dw01 >> 32) as u32),
            sqhd: U16::new(sqhd),
            sqid: U16::new(sqid),
            cid: U16::new(cid),
            status_and_phase: U16::new(status_and_phase),
        })
    }

    /// As [`CompletionRing::pop`], without the command specific result, which I/O commands do not have.
    #[inline]
    pub(crate) fn pop_answer(&mut self) -> Option<Answered> {
        let at = self.head;
        // The controller writes the upper half last, and one load gives both halves as they are at one instant: when the
        // upper one is new, the lower one is as well, and so is what the controller wrote before.
        let dw23 = self.ring.load_acquire(at.into(), 1);
        let (dw2, dw3) = (dw23 as u32, (dw23 >> 32) as u32);
        if (dw3 >> 16 & 1 != 0) != self.phase && !self.accepts_stale(dw3) {
            return None;
        }
        self.head = following(at, self.entries);
        self.phase ^= self.head == 0;
        self.taken = true;
        Some(Answered {
            sqhd: dw2 as u16,
            sqid: (dw2 >> 16) as u16,
            cid: dw3 as u16,
            status_and_phase: (dw3 >> 16) as u16,
        })
    }

    #[cfg(feature = "planted")]
    fn accepts_stale(&self, dw3: u32) -> bool {
        self.ignores_phase && dw3 != 0
    }

    #[cfg(not(feature = "planted"))]
    #[inline]
    fn accepts_stale(&self, _dw3: u32) -> bool {
        false
    }

    /// True when an entry waits.
    pub(crate) fn has_entry(&self) -> bool {
        let dw23 = self.ring.load_acquire(self.head.into(), 1);
        (dw23 >> 48 & 1 != 0) == self.phase
    }

    /// The next entry to be taken.
    #[inline]
    pub(crate) fn head(&self) -> u16 {
        self.head
    }

    /// The head, when the controller has to be told.
    #[inline]
    pub(crate) fn take_head(&mut self) -> Option<u16> {
        std::mem::take(&mut self.taken).then_some(self.head)
    }

    /// Empty again, for a queue that is created anew: what an earlier round left must not look like an entry.
    pub(crate) fn reset(&mut self) {
        (self.head, self.phase, self.taken) = (0, true, false);
        self.ring.memory().zero(0, completion_bytes(self.entries));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use reactor::memory::MemoryRegion;
    use zerocopy::IntoBytes;

    use super::*;

    fn memory() -> SharedMemory {
        SharedMemory::new(MemoryRegion::heap(4096))
    }

    #[test]
    fn every_depth_agrees_with_a_queue_over_many_rounds() {
        for entries in 2..=64_u16 {
            let shared = memory();
            let mut ring = SubmissionRing::new(shared.clone(), entries);
            let (mut head, mut model, mut cid) = (0_u16, VecDeque::new(), 0_u16);
            for step in 0..400_u16 {
                for _ in 0..step % entries {
                    if model.len() + 1 < usize::from(entries) {
                        ring.push(&entry_of(&Sqe { cid: U16::new(cid), ..Sqe::default() }));
                        model.push_back(cid);
                        cid = cid.wrapping_add(1);
                    }
                }
                let told = ring.take_tail();
                assert_eq!(ring.take_tail(), None, "told once");
                if let Some((tail, before)) = told {
                    assert_ne!(tail, before);
                }
                // The device takes some of them.
                for _ in 0..(step / 3) % entries {
                    let Some(expected) = model.pop_front() else { break };
                    let mut bytes = [0; SQE_BYTES];
                    shared.read(usize::from(head) * SQE_BYTES, &mut bytes);
                    assert_eq!(u16::from_le_bytes([bytes[2], bytes[3]]), expected);
                    head = (head + 1) % entries;
                }
            }
        }
    }

    #[test]
    fn entries_are_taken_by_phase_at_every_depth() {
        for entries in 2..=64_u16 {
            let shared = memory();
            let mut ring = CompletionRing::new(shared.clone(), entries);
            let (mut tail, mut phase, mut sent, mut seen) = (0_u16, true, 0_u16, 0_u16);
            for step in 0..500_u16 {
                // As many as the ring holds without running over its head.
                for _ in 0..(step % entries).min(entries - 1) {
                    let mut cqe = Cqe::new(sent, Status::from_bits(sent & 0x7fff));
                    cqe.set_phase(phase);
                    shared.write(usize::from(tail) * CQE_BYTES, cqe.as_bytes());
                    sent = sent.wrapping_add(1);
                    tail += 1;
                    if tail == entries {
                        (tail, phase) = (0, !phase);
                    }
                }
                while ring.has_entry() {
                    let cqe = ring.pop().expect("it was there");
                    assert_eq!((cqe.cid.get(), cqe.status().bits()), (seen, seen & 0x7fff));
                    seen = seen.wrapping_add(1);
                }
                assert_eq!(seen, sent);
                assert_eq!(ring.pop(), None);
                assert_eq!(ring.take_head().is_some(), step % entries > 0);
                assert_eq!(ring.take_head(), None, "told once");
            }
        }
    }

    #[test]
    fn a_ring_that_is_reset_shows_nothing_of_its_past() {
        let shared = memory();
        let mut ring = CompletionRing::new(shared.clone(), 4);
        for slot in 0..4 {
            let mut cqe = Cqe::new(slot, Status::SUCCESS);
            cqe.set_phase(true);
            shared.write(usize::from(slot) * CQE_BYTES, cqe.as_bytes());
        }
        assert!(ring.pop().is_some());
        ring.reset();
        assert_eq!((ring.pop(), ring.take_head()), (None, None));
    }
}
