//! The tasks of a session: a table with generations, found by slot or by initiator task tag.

use smallvec::SmallVec;

use super::event::{Cdb, TaskId};
use super::limits::{TASK_SLOT_BITS, TASKS_MAX};
use super::transfer::Transfer;
use crate::lun;
use crate::pdu::TaskAttribute;

/// Where a task stands.
///
/// ```text
/// Arriving ──PDU complete──> Held ──in order──> Waiting ──memory──> Collecting ──data──> Ready ──> Executing
///                             └──────────────────────────────────────^            (skipped when not needed)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum TaskState {
    /// Not in use.
    #[default]
    Free,
    /// Its command PDU is not complete, so its CmdSN does not count as received.
    Arriving,
    /// Received ahead of a hole in the command sequence.
    Held,
    /// In order, but there is no memory for its data.
    Waiting,
    /// In order, data is on its way.
    Collecting,
    /// Complete; given out when everything before it was.
    Ready,
    /// Given to the layer above.
    Executing,
}

/// One task.
#[derive(Debug)]
pub(crate) struct Task<P> {
    pub(crate) state: TaskState,
    pub(crate) connection: u8,
    pub(crate) immediate: bool,
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) attribute: TaskAttribute,
    pub(crate) itt: u32,
    pub(crate) cmd_sn: u32,
    pub(crate) lun: u64,
    pub(crate) expected_bytes: u32,
    pub(crate) bidirectional_read_bytes: u32,
    pub(crate) data_out_wanted: u64,
    pub(crate) cdb: Cdb,
    pub(crate) payload: Option<P>,
    pub(crate) transfer: Transfer,
    /// How much of its data was there at the last look at which that had changed, and when that was.
    pub(crate) heard: Option<(u32, u64)>,
    generation: u32,
}

impl<P> Default for Task<P> {
    fn default() -> Self {
        Self {
            state: TaskState::Free,
            connection: 0,
            immediate: false,
            read: false,
            write: false,
            attribute: TaskAttribute::UNTAGGED,
            itt: 0,
            cmd_sn: 0,
            lun: 0,
            expected_bytes: 0,
            bidirectional_read_bytes: 0,
            data_out_wanted: 0,
            cdb: SmallVec::new(),
            payload: None,
            transfer: Transfer::default(),
            heard: None,
            generation: 0,
        }
    }
}

impl<P> Task<P> {
    /// True when `lun` names its logical unit, however it is written.
    pub(crate) const fn is_for(&self, lun: u64) -> bool {
        lun::canonical(self.lun) == lun::canonical(lun)
    }

    /// True when its data has not moved for `timeout_ns`; to be asked now and then.
    pub(crate) fn is_overdue(&mut self, now_ns: u64, timeout_ns: u64) -> bool {
        if self.state != TaskState::Collecting && !self.holds_memory_for_input() {
            return false;
        }
        let bytes = self.transfer.received_bytes();
        match self.heard {
            Some((heard_bytes, since_ns)) if heard_bytes == bytes => {
                now_ns.saturating_sub(since_ns) >= timeout_ns
            }
            _ => {
                self.heard = Some((bytes, now_ns));
                false
            }
        }
    }

    /// True while it holds memory for data that is not complete: such a task needs its connection's input.
    pub(crate) fn holds_memory_for_input(&self) -> bool {
        let incomplete = matches!(self.state, TaskState::Arriving | TaskState::Held | TaskState::Collecting);
        incomplete && self.payload.is_some()
    }
}

const SLOT_MASK: u32 = (1 << TASK_SLOT_BITS) - 1;

/// All tasks of a session.
#[derive(Debug)]
pub(crate) struct TaskTable<P> {
    slots: Vec<Task<P>>,
    free: Vec<u16>,
    by_itt: IttIndex,
    limit: usize,
}

impl<P> TaskTable<P> {
    /// Room for `limit` tasks; the slots are made as they are first needed.
    pub(crate) fn new(limit: usize) -> Self {
        assert!(limit <= TASKS_MAX);
        Self { slots: Vec::new(), free: Vec::new(), by_itt: IttIndex::new(limit), limit }
    }

    /// Tasks in use.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes a slot for the tag `itt`, which must not be in use.
    #[inline]
    pub(crate) fn insert(&mut self, itt: u32) -> TaskId {
        let slot = self.free.pop().unwrap_or_else(|| {
            assert!(
                self.slots.len() < self.limit,
                "window and immediate limit keep the table from overflowing"
            );
            self.slots.push(Task::default());
            self.slots.len() as u16 - 1
        });
        self.by_itt.insert(itt, slot);
        let task = &mut self.slots[usize::from(slot)];
        task.itt = itt;
        task.state = TaskState::Arriving;
        task.heard = None;
        TaskId(task.generation << TASK_SLOT_BITS | u32::from(slot))
    }

    /// The task of `id`, if it still lives.
    #[inline]
    pub(crate) fn get(&self, id: TaskId) -> Option<&Task<P>> {
        let task = self.slots.get((id.0 & SLOT_MASK) as usize)?;
        (task.state != TaskState::Free && task.generation == id.0 >> TASK_SLOT_BITS).then_some(task)
    }

    /// The task of `id`, if it still lives.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: TaskId) -> Option<&mut Task<P>> {
        let task = self.slots.get_mut((id.0 & SLOT_MASK) as usize)?;
        (task.state != TaskState::Free && task.generation == id.0 >> TASK_SLOT_BITS).then_some(task)
    }

    /// The task with an initiator task tag.
    #[inline]
    pub(crate) fn find(&self, itt: u32) -> Option<TaskId> {
        let slot = self.by_itt.find(itt)?;
        let task = &self.slots[usize::from(slot)];
        Some(TaskId(task.generation << TASK_SLOT_BITS | u32::from(slot)))
    }

    /// Frees the task; its id is stale from now on.
    #[inline]
    pub(crate) fn remove(&mut self, id: TaskId) {
        let slot = (id.0 & SLOT_MASK) as usize;
        let task = &mut self.slots[slot];
        assert!(task.state != TaskState::Free && task.generation == id.0 >> TASK_SLOT_BITS, "a live task");
        task.state = TaskState::Free;
        task.payload = None;
        task.generation = (task.generation + 1) & (u32::MAX >> TASK_SLOT_BITS);
        let itt = task.itt;
        self.by_itt.remove(itt);
        self.free.push(slot as u16);
    }

    /// All live tasks.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TaskId, &Task<P>)> {
        let live = self.slots.iter().enumerate().filter(|(_, task)| task.state != TaskState::Free);
        live.map(|(slot, task)| (TaskId(task.generation << TASK_SLOT_BITS | slot as u32), task))
    }

    /// Every task in use.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Task<P>> {
        self.slots.iter_mut().filter(|task| task.state != TaskState::Free)
    }
}

/// Initiator task tag → slot: open addressing, at most half full, no allocation after it was made.
#[derive(Debug)]
struct IttIndex {
    entries: Box<[Option<(u32, u16)>]>,
}

impl IttIndex {
    fn new(limit: usize) -> Self {
        Self { entries: vec![None; (2 * limit).next_power_of_two()].into_boxed_slice() }
    }

    /// Tags are often small and consecutive; the product spreads them. A peer that makes them collide makes its own
    /// session walk at most the tasks it has.
    #[inline]
    fn home(&self, itt: u32) -> usize {
        let bits = self.entries.len().trailing_zeros();
        (itt.wrapping_mul(0x9e37_79b1) >> (32 - bits)) as usize
    }

    #[inline]
    fn position(&self, itt: u32) -> Result<usize, usize> {
        let mask = self.entries.len() - 1;
        let mut at = self.home(itt);
        while let Some((present, _)) = self.entries[at] {
            if present == itt {
                return Ok(at);
            }
            at = (at + 1) & mask;
        }
        Err(at)
    }

    #[inline]
    fn find(&self, itt: u32) -> Option<u16> {
        let at = self.position(itt).ok()?;
        self.entries[at].map(|(_, slot)| slot)
    }

    #[inline]
    fn insert(&mut self, itt: u32, slot: u16) {
        let at = self.position(itt).expect_err("the tag was looked up before");
        self.entries[at] = Some((itt, slot));
    }

    /// Removes and closes the gap, so that searches never meet a tombstone.
    fn remove(&mut self, itt: u32) {
        let mask = self.entries.len() - 1;
        let mut gap = self.position(itt).expect("a live task's tag is in the index");
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let Some((next, _)) = self.entries[at] else { break };
            // An entry may move back into the gap unless its home lies behind the gap.
            if at.wrapping_sub(self.home(next)) & mask >= at.wrapping_sub(gap) & mask {
                self.entries[gap] = self.entries[at];
                gap = at;
            }
        }
        self.entries[gap] = None;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_stale_id_never_reaches_the_next_user_of_the_slot() {
        let mut table = TaskTable::<()>::new(2);
        let first = table.insert(7);
        table.remove(first);
        let second = table.insert(7);
        assert_eq!(first.slot(), second.slot());
        assert!(table.get(first).is_none());
        assert!(table.get(second).is_some());
        assert_eq!(table.find(7), Some(second));
        assert!(table.get(TaskId(u32::MAX)).is_none());
    }

    #[test]
    fn generations_wrap() {
        let mut table = TaskTable::<()>::new(1);
        let first = table.insert(0);
        table.remove(first);
        for _ in 0..u32::MAX >> TASK_SLOT_BITS {
            let id = table.insert(0);
            table.remove(id);
        }
        assert_eq!(table.insert(0), first);
    }

    #[test]
    fn the_index_agrees_with_a_map_for_colliding_tags() {
        let mut index = IttIndex::new(64);
        let mut model = BTreeMap::new();
        // Multiples of this share few homes, so that long chains form and wrap.
        let tag = |n: u32| n.wrapping_mul(0x2000_0000) ^ (n & 1);
        let mut state = 12345u32;
        for step in 0..20_000u32 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let itt = if state & 0x100 == 0 { tag(state >> 20) } else { (state >> 16) & 0x3f };
            if model.remove(&itt).is_some() {
                index.remove(itt);
            } else if model.len() < 64 {
                model.insert(itt, step as u16);
                index.insert(itt, step as u16);
            }
            assert_eq!(index.find(itt), model.get(&itt).copied());
        }
        for (itt, slot) in &model {
            assert_eq!(index.find(*itt), Some(*slot));
        }
    }
}
