//! Submission and completion queues as the controller keeps them (Base 3.3).

use std::collections::VecDeque;

use nvme_spec::Cqe;

use crate::iommu::{Iommu, Stopped};

pub(crate) const SQE_BYTES: u64 = 64;
pub(crate) const CQE_BYTES: u64 = 16;

/// What was wrong with a doorbell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DoorbellError {
    /// There is no such queue.
    NoQueue,
    /// The value is past the end, is the old one, or takes more than there is.
    Value,
}

pub(crate) struct SubmissionQueue {
    pub(crate) iova: u64,
    pub(crate) entries: u32,
    pub(crate) head: u32,
    pub(crate) tail: u32,
    pub(crate) cqid: u16,
    /// The tail is to be looked for in the page of shadow doorbells: the host was not told to write the register.
    pub(crate) awake: bool,
}

impl SubmissionQueue {
    pub(crate) fn new(iova: u64, entries: u32, cqid: u16) -> Self {
        Self { iova, entries, head: 0, tail: 0, cqid, awake: true }
    }

    pub(crate) fn available(&self) -> u32 {
        (self.tail + self.entries - self.head) % self.entries
    }

    /// Takes a new tail: it adds at least one command and does not overrun the head.
    pub(crate) fn set_tail(&mut self, tail: u32) -> Result<(), DoorbellError> {
        if tail >= self.entries {
            return Err(DoorbellError::Value);
        }
        let added = (tail + self.entries - self.tail) % self.entries;
        if added == 0 || self.available() + added >= self.entries {
            return Err(DoorbellError::Value);
        }
        self.tail = tail;
        Ok(())
    }

    /// Where the next command is; it counts as taken.
    #[inline]
    pub(crate) fn take(&mut self) -> u64 {
        let iova = self.iova.wrapping_add(u64::from(self.head) * SQE_BYTES);
        self.head = if self.head + 1 == self.entries { 0 } else { self.head + 1 };
        iova
    }
}

pub(crate) struct CompletionQueue {
    pub(crate) iova: u64,
    pub(crate) entries: u32,
    pub(crate) head: u32,
    pub(crate) tail: u32,
    phase: bool,
    /// The vector, where interrupts are enabled.
    pub(crate) vector: Option<u16>,
    /// Completions for which there is no room.
    pub(crate) waiting: VecDeque<Cqe>,
    /// Slots whose Phase Tag is still to be turned, with the dword that does it.
    glitches: Vec<(u32, u32)>,
}

impl CompletionQueue {
    pub(crate) fn new(iova: u64, entries: u32, vector: Option<u16>) -> Self {
        let (waiting, glitches) = (VecDeque::new(), Vec::new());
        Self { iova, entries, head: 0, tail: 0, phase: true, vector, waiting, glitches }
    }

    pub(crate) fn is_full(&self) -> bool {
        let next = if self.tail + 1 == self.entries { 0 } else { self.tail + 1 };
        next == self.head
    }

    /// Takes a new head: it takes at least one completion and none that is not there.
    pub(crate) fn set_head(&mut self, head: u32) -> Result<(), DoorbellError> {
        if head >= self.entries {
            return Err(DoorbellError::Value);
        }
        let taken = (head + self.entries - self.head) % self.entries;
        let there = (self.tail + self.entries - self.head) % self.entries;
        if taken == 0 || taken > there {
            return Err(DoorbellError::Value);
        }
        self.head = head;
        Ok(())
    }

    /// Writes a completion into the next slot, the dword with the Phase Tag last. `late`: the Phase Tag stays as it was until
    /// [`CompletionQueue::mend`].
    #[inline]
    pub(crate) fn write(&mut self, mut cqe: Cqe, late: bool, dma: &mut Iommu) -> Result<(), Stopped> {
        debug_assert!(!self.is_full());
        cqe.set_phase(self.phase);
        if late {
            let last = u32::from(cqe.cid.get()) | u32::from(cqe.status_and_phase.get()) << 16;
            self.glitches.push((self.tail, last));
            cqe.set_phase(!self.phase);
        }
        let iova = self.iova.wrapping_add(u64::from(self.tail) * CQE_BYTES);
        dma.write_ordered(iova, zerocopy::transmute_ref!(&cqe))?;
        self.tail += 1;
        if self.tail == self.entries {
            self.tail = 0;
            self.phase = !self.phase;
        }
        Ok(())
    }

    /// Turns the Phase Tags that were late.
    pub(crate) fn mend(&mut self, dma: &mut Iommu) -> Result<bool, Stopped> {
        let any = !self.glitches.is_empty();
        for (slot, last) in std::mem::take(&mut self.glitches) {
            dma.write_u32(self.iova.wrapping_add(u64::from(slot) * CQE_BYTES + 12), last)?;
        }
        Ok(any)
    }

    pub(crate) fn has_glitches(&self) -> bool {
        !self.glitches.is_empty()
    }
}

/// All queues, by identifier; 0 is the admin queue pair.
#[derive(Default)]
pub(crate) struct Queues {
    pub(crate) submission: Vec<Option<SubmissionQueue>>,
    pub(crate) completion: Vec<Option<CompletionQueue>>,
    /// Identifiers of the I/O submission queues, ascending, and whose turn it is.
    pub(crate) order: Vec<u16>,
    pub(crate) turn: usize,
    /// Some completion queue has completions that wait, or Phase Tags to turn.
    pub(crate) is_unsettled: bool,
}

impl Queues {
    pub(crate) fn new(io_queues: u16) -> Self {
        let count = usize::from(io_queues) + 1;
        Self {
            submission: (0..count).map(|_| None).collect(),
            completion: (0..count).map(|_| None).collect(),
            order: Vec::with_capacity(count),
            turn: 0,
            is_unsettled: false,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.submission.iter_mut().for_each(|queue| *queue = None);
        self.completion.iter_mut().for_each(|queue| *queue = None);
        self.order.clear();
        self.turn = 0;
        self.is_unsettled = false;
    }

    #[inline]
    pub(crate) fn sq(&mut self, qid: u16) -> Option<&mut SubmissionQueue> {
        self.submission.get_mut(usize::from(qid))?.as_mut()
    }

    #[inline]
    pub(crate) fn cq(&mut self, qid: u16) -> Option<&mut CompletionQueue> {
        self.completion.get_mut(usize::from(qid))?.as_mut()
    }

    pub(crate) fn add_submission(&mut self, qid: u16, queue: SubmissionQueue) {
        self.submission[usize::from(qid)] = Some(queue);
        if qid != 0 {
            let at = self.order.partition_point(|other| *other < qid);
            self.order.insert(at, qid);
        }
    }

    pub(crate) fn remove_submission(&mut self, qid: u16) {
        self.submission[usize::from(qid)] = None;
        self.order.retain(|other| *other != qid);
    }

    /// Looks again whether something is unsettled.
    pub(crate) fn review(&mut self) {
        let is_unsettled = |queue: &CompletionQueue| queue.has_glitches() || !queue.waiting.is_empty();
        self.is_unsettled = self.completion.iter().flatten().any(is_unsettled);
    }

    /// Is some submission queue bound to this completion queue?
    pub(crate) fn is_bound(&self, cqid: u16) -> bool {
        self.submission.iter().flatten().any(|queue| queue.cqid == cqid)
    }

    /// A queue whose shadow is to be looked at.
    pub(crate) fn is_awake(&self) -> bool {
        self.submission.iter().skip(1).flatten().any(|queue| queue.awake)
    }

    /// Something can be fetched, posted or mended without anything from outside.
    pub(crate) fn has_work(&self) -> bool {
        let posts =
            |queue: &CompletionQueue| queue.has_glitches() || !queue.waiting.is_empty() && !queue.is_full();
        let fetches = |queue: &SubmissionQueue| {
            let target = self.completion[usize::from(queue.cqid)].as_ref();
            queue.head != queue.tail && target.is_some_and(|cq| cq.waiting.is_empty() && !cq.is_full())
        };
        self.completion.iter().flatten().any(posts) || self.submission.iter().flatten().any(fetches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_adds_commands_and_never_overruns_the_head() {
        for entries in [2, 3, 8] {
            for (head, tail, new) in (0..entries)
                .flat_map(|head| (0..entries).map(move |tail| (head, tail)))
                .flat_map(|(head, tail)| (0..entries + 2).map(move |new| (head, tail, new)))
            {
                let mut queue = SubmissionQueue::new(0, entries, 0);
                (queue.head, queue.tail) = (head, tail);
                // Entry by entry: from the old tail on, until the head or the new tail.
                let mut at = tail;
                let mut reached = false;
                while (at + 1) % entries != head && !reached {
                    at = (at + 1) % entries;
                    reached = at == new;
                }
                assert_eq!(queue.set_tail(new).is_ok(), reached, "{entries} {head} {tail} {new}");
                assert_eq!(queue.tail, if reached { new } else { tail });
            }
        }
    }

    #[test]
    fn a_head_takes_only_what_is_there() {
        for entries in [2, 3, 8] {
            for (head, tail, new) in (0..entries)
                .flat_map(|head| (0..entries).map(move |tail| (head, tail)))
                .flat_map(|(head, tail)| (0..entries + 2).map(move |new| (head, tail, new)))
            {
                let mut queue = CompletionQueue::new(0, entries, None);
                (queue.head, queue.tail) = (head, tail);
                let mut at = head;
                let mut reached = false;
                while at != tail && !reached {
                    at = (at + 1) % entries;
                    reached = at == new;
                }
                assert_eq!(queue.set_head(new).is_ok(), reached, "{entries} {head} {tail} {new}");
            }
        }
    }
}
