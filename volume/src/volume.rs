//! A volume on its owner core: one device, all its I/O, overlaps in order.
//!
//! Every I/O of a volume goes through one [`Volume`]. It lets I/Os that do not overlap run at once
//! and the others in the order in which they came, and it builds compare, compare-and-write and
//! or-write from reads and writes for back ends that have none. Of a back end that has them and says
//! no more than that there is a difference, it reads the blocks to find where.
//!
//! ```text
//!           nothing else in flight, answered on the spot
//! submit ───────────────────────────────────────────────▶ answer
//!   │ overlaps an earlier one        ┌──────────────┐
//!   ├──────▶ Waiting ──released──┬──▶│   Running    │──▶ poll
//!   └────────────────────────────┤   └──────────────┘
//!                                └──▶ Starved (no scratch) ──scratch──▶ Composite ──▶ poll
//! ```
//!
//! A flush waits for nothing: it covers what was acknowledged before it came, as the back end
//! promises. A block status is a snapshot and waits for nothing either.

mod composite;

use std::collections::VecDeque;

use reactor::buffer::{BufferPool, Sgl};

use crate::bdev::{BdevInfo, Comparing, Done, Extent, Io, IoChannel, IoStatus, Op};
use crate::limits::{
    IN_FLIGHT_EXPECTED, MAX_TRANSFER_BYTES, MAX_UNMAP_BYTES, SCRATCH_BYTES, SCRATCH_RESERVE_BYTES,
};
use crate::range::{Access, RangeTable};
use composite::{Composite, Step};

/// Why a volume could not be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// The scratch that each volume reserves was not to be had.
    #[error("the buffer pool has no {bytes} bytes left to reserve for a volume")]
    NoMemory {
        /// What it takes.
        bytes: u64,
    },
}

#[derive(Debug)]
enum State {
    /// An earlier I/O overlaps.
    Waiting,
    /// It has its blocks but no scratch.
    Starved,
    /// With the back end as it came.
    Running,
    /// Being built from reads and writes.
    Composite(Composite),
}

#[derive(Debug)]
struct Slot {
    tag: u64,
    op: Op,
    /// The payload, unless the back end has it.
    sgl: Sgl,
    state: State,
    /// It is in the range table.
    ranged: bool,
    /// The back end found a difference; what remains is to find where.
    differs: bool,
}

/// One volume's way in, on its owner core.
pub struct Volume {
    inner: Box<dyn IoChannel>,
    info: BdevInfo,
    answers_compare: bool,
    buffers: BufferPool,
    /// Scratch for one composite I/O, so that one always gets on.
    reserve: Option<Sgl>,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    ranges: RangeTable,
    ready: Vec<u32>,
    starved: VecDeque<u32>,
    inner_done: Vec<Done>,
    /// Finished outside of a poll, to be given back by the next one.
    done: VecDeque<Done>,
}

impl Volume {
    /// Takes over `inner`. Scratch for composite I/O comes from `buffers`.
    pub fn new(inner: Box<dyn IoChannel>, buffers: &BufferPool) -> Result<Self, VolumeError> {
        let answers_compare = inner.answers_compare();
        let reserve = if answers_compare {
            None
        } else {
            let bytes = SCRATCH_RESERVE_BYTES;
            Some(buffers.alloc(bytes as usize).ok_or(VolumeError::NoMemory { bytes })?)
        };
        Ok(Self {
            info: inner.info(),
            answers_compare,
            inner,
            buffers: buffers.clone(),
            reserve,
            slots: Vec::with_capacity(IN_FLIGHT_EXPECTED),
            free: Vec::with_capacity(IN_FLIGHT_EXPECTED),
            ranges: RangeTable::with_capacity(IN_FLIGHT_EXPECTED),
            ready: Vec::new(),
            starved: VecDeque::new(),
            inner_done: Vec::new(),
            done: VecDeque::new(),
        })
    }

    /// Takes back the I/O `tag` if it has had no effect yet: it waits for an earlier one or for
    /// scratch. True: `poll` gives it back as [`IoStatus::Aborted`]. False: it runs, or is not
    /// here; a running one ends by itself and must be waited for.
    pub fn abort(&mut self, tag: u64) -> bool {
        let found = self.slots.iter().position(|slot| {
            slot.as_ref()
                .is_some_and(|slot| slot.tag == tag && matches!(slot.state, State::Waiting | State::Starved))
        });
        let Some(index) = found else { return false };
        let id = index as u32;
        self.starved.retain(|&other| other != id);
        let done = self.finish(id, IoStatus::Aborted);
        self.done.push_back(done);
        self.start_ready();
        true
    }

    /// True when every I/O has been given back: the device may be closed.
    pub fn is_drained(&self) -> bool {
        self.in_flight() == 0
    }

    /// Goes on with another device, of the same shape, and gives the one before back.
    ///
    /// # Panics
    /// When an I/O is in flight: its buffers would be lost.
    pub fn replace(&mut self, inner: Box<dyn IoChannel>) -> Box<dyn IoChannel> {
        assert!(self.is_drained(), "a device goes only after its last I/O");
        assert!(
            inner.answers_compare() || self.reserve.is_some(),
            "scratch was reserved for the first device"
        );
        (self.info, self.answers_compare) = (inner.info(), inner.answers_compare());
        std::mem::replace(&mut self.inner, inner)
    }

    /// Closes the volume and gives the device back.
    ///
    /// # Panics
    /// When an I/O is in flight: its buffers would be lost.
    pub fn into_inner(self) -> Box<dyn IoChannel> {
        assert!(self.is_drained(), "a volume is closed only after its last I/O");
        self.inner
    }

    fn check(&self, op: &Op, sgl: &Sgl) {
        let payload_bytes = op.payload_bytes(self.info.logical_block_bytes);
        assert_eq!(sgl.len() as u64, payload_bytes, "the payload has another length than the extent says");
        assert!(payload_bytes <= MAX_TRANSFER_BYTES, "a payload longer than any protocol may offer");
        let Some(extent) = op.extent() else { return };
        assert!(extent.end() <= self.info.length_blocks, "an extent past the end of the device");
        if matches!(op, Op::AtomicWrite { .. }) {
            let longest = u64::from(self.info.atomic_write_blocks);
            assert!(extent.length_blocks <= longest, "a longer atomic write than the device offers");
        }
        if matches!(op, Op::Unmap(_) | Op::WriteZeroes { .. }) {
            let bytes = extent.length_blocks * u64::from(self.info.logical_block_bytes);
            assert!(bytes <= MAX_UNMAP_BYTES, "a longer run than one I/O may unmap");
        }
    }

    #[inline]
    fn comparing(&self, op: &Op) -> Comparing {
        if self.answers_compare || !op.compares() { Comparing::Channel } else { self.inner.comparing(op) }
    }

    fn take_id(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer I/Os in flight than 32 bits count")
        })
    }

    fn slot(&mut self, id: u32) -> &mut Slot {
        self.slots[id as usize].as_mut().expect("an id in flight has its slot")
    }

    /// Hands the op of a fresh slot to the back end or begins to build it. An answer on the spot is
    /// returned; its slot and its range are still held.
    fn start(&mut self, id: u32) -> Option<IoStatus> {
        let op = self.slot(id).op;
        if !self.slot(id).differs && self.comparing(&op) != Comparing::Volume {
            self.slot(id).state = State::Running;
            let sgl = std::mem::take(&mut self.slot(id).sgl);
            let done = self.inner.submit(Io { tag: u64::from(id), op, sgl })?;
            self.slot(id).sgl = done.sgl;
            return self.take_answer(id, done.status);
        }
        self.start_composite(id)
    }

    /// The back end has answered an I/O as it came: the answer, unless there is more to find out.
    fn take_answer(&mut self, id: u32, status: IoStatus) -> Option<IoStatus> {
        let op = self.slot(id).op;
        let lacks_place = matches!(status, IoStatus::Miscompare { .. })
            && self.comparing(&op) == Comparing::ChannelWithoutPlace;
        if !lacks_place {
            return Some(status);
        }
        self.slot(id).differs = true;
        self.start_composite(id)
    }

    fn start_composite(&mut self, id: u32) -> Option<IoStatus> {
        let Slot { op, differs, .. } = *self.slot(id);
        let Some((scratch, reserved)) = self.take_scratch(&op) else {
            self.slot(id).state = State::Starved;
            self.starved.push_back(id);
            return None;
        };
        let op = match op.extent() {
            Some(extent) if differs => Op::Compare(extent),
            _ => op,
        };
        let composite = Composite::new(op, self.info.logical_block_bytes, scratch, reserved);
        self.slot(id).state = State::Composite(composite);
        self.advance(id)
    }

    /// Scratch from the pool, else the reserve if it is here; true with the reserve.
    fn take_scratch(&mut self, op: &Op) -> Option<(Sgl, bool)> {
        let extent = op.extent().expect("a composite names blocks");
        let bytes = (extent.length_blocks * u64::from(self.info.logical_block_bytes)).min(SCRATCH_BYTES);
        let pooled = self.buffers.alloc(bytes as usize).filter(|sgl| sgl.segment_count() == 1);
        match pooled {
            Some(sgl) => Some((sgl, false)),
            None => self.reserve.take().map(|sgl| (sgl, true)),
        }
    }

    /// Drives a composite until the back end keeps one of its I/Os or it has ended.
    fn advance(&mut self, id: u32) -> Option<IoStatus> {
        loop {
            let slot = self.slots[id as usize].as_mut().expect("an id in flight has its slot");
            let State::Composite(composite) = &mut slot.state else {
                unreachable!("only composites advance")
            };
            match composite.next(&slot.sgl) {
                Step::End(status) => {
                    let is_found = !slot.differs || matches!(status, IoStatus::Miscompare { .. });
                    // Somebody else has changed the blocks since, or they cannot be read: they did differ.
                    return Some(if is_found { status } else { IoStatus::Miscompare { offset_bytes: 0 } });
                }
                Step::Io { op, sgl } => {
                    let done = self.inner.submit(Io { tag: u64::from(id), op, sgl })?;
                    composite.on_done(done.status, done.sgl, &slot.sgl);
                }
            }
        }
    }

    /// Frees the slot and its blocks; those that waited for them are then in `ready`.
    fn finish(&mut self, id: u32, status: IoStatus) -> Done {
        let slot = self.slots[id as usize].take().expect("an I/O finishes once");
        self.free.push(id);
        if slot.ranged {
            self.ranges.release(id, &mut self.ready);
        }
        if let State::Composite(composite) = slot.state {
            let (scratch, reserved) = composite.into_scratch();
            if reserved {
                self.reserve = Some(scratch);
            }
        }
        Done { tag: slot.tag, status, sgl: slot.sgl }
    }

    /// Starts what has become free to run; what ends on the spot goes to `done`.
    fn start_ready(&mut self) {
        while !self.ready.is_empty() {
            let mut ready = std::mem::take(&mut self.ready);
            for id in ready.drain(..) {
                if let Some(status) = self.start(id) {
                    let done = self.finish(id, status);
                    self.done.push_back(done);
                }
            }
            if self.ready.is_empty() {
                self.ready = ready;
            }
        }
    }

    /// Tries again those that had no scratch, until one still has none.
    fn feed_starved(&mut self) {
        for _ in 0..self.starved.len() {
            let id = self.starved.pop_front().expect("as many as were counted");
            if let Some(status) = self.start(id) {
                let done = self.finish(id, status);
                self.done.push_back(done);
                self.start_ready();
            } else if self.starved.back() == Some(&id) {
                self.starved.rotate_right(1);
                return;
            }
        }
    }

    fn on_inner_done(&mut self, done: Done) -> Option<Done> {
        let id = u32::try_from(done.tag).expect("the back end returns the tag it was given");
        let slot = self.slot(id);
        let status = match &mut slot.state {
            State::Running => {
                slot.sgl = done.sgl;
                self.take_answer(id, done.status)
            }
            State::Composite(composite) => {
                composite.on_done(done.status, done.sgl, &slot.sgl);
                self.advance(id)
            }
            State::Waiting | State::Starved => unreachable!("the back end answers what it was given"),
        };
        status.map(|status| self.finish(id, status))
    }
}

impl IoChannel for Volume {
    fn info(&self) -> BdevInfo {
        self.info
    }

    #[inline]
    fn prefetch(&self, op: Op) {
        self.inner.prefetch(op);
    }

    #[inline]
    fn show(&mut self, extent: Extent) -> Option<Sgl> {
        assert!(extent.end() <= self.info.length_blocks, "an extent past the end of the device");
        // What is in flight may be about to change the blocks: a read would wait for it.
        if self.ranges.is_empty() && extent.length_blocks > 0 { self.inner.show(extent) } else { None }
    }

    #[inline]
    fn crc32c(&self, extent: Extent) -> Option<u32> {
        assert!(extent.end() <= self.info.length_blocks, "an extent past the end of the device");
        self.inner.crc32c(extent)
    }

    fn submit(&mut self, io: Io) -> Option<Done> {
        let Io { tag, op, sgl } = io;
        self.check(&op, &sgl);
        let extent = op.extent();
        if extent.is_some_and(|extent| extent.length_blocks == 0) {
            return Some(Done { tag, status: status_of_nothing(&op), sgl });
        }
        let id = self.take_id();
        if self.ranges.is_empty() && self.comparing(&op) == Comparing::Channel {
            // The common case: nothing to wait for, and a back end that answers on the spot never
            // makes an entry anywhere.
            if let Some(done) = self.inner.submit(Io { tag: u64::from(id), op, sgl }) {
                self.free.push(id);
                return Some(Done { tag, ..done });
            }
            let ranged = self.admit(id, &op).is_some();
            let sgl = Sgl::empty();
            self.slots[id as usize] =
                Some(Slot { tag, op, sgl, state: State::Running, ranged, differs: false });
            return None;
        }
        let admitted = self.admit(id, &op);
        let ranged = admitted.is_some();
        self.slots[id as usize] = Some(Slot { tag, op, sgl, state: State::Waiting, ranged, differs: false });
        if admitted == Some(false) {
            return None;
        }
        let status = self.start(id)?;
        let done = self.finish(id, status);
        debug_assert!(self.ready.is_empty(), "nothing came after an I/O that ended at once");
        Some(done)
    }

    fn poll(&mut self, out: &mut Vec<Done>, budget: usize) {
        let mut inner_done = std::mem::take(&mut self.inner_done);
        self.inner.poll(&mut inner_done, budget);
        for done in inner_done.drain(..) {
            let done = self.on_inner_done(done);
            out.extend(done);
            self.start_ready();
        }
        self.inner_done = inner_done;
        if !self.starved.is_empty() {
            self.feed_starved();
        }
        out.extend(self.done.drain(..));
    }

    fn allocated_bytes(&self) -> Option<u64> {
        self.inner.allocated_bytes()
    }

    fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len() + self.done.len()
    }

    fn has_unflushed(&self) -> bool {
        self.inner.has_unflushed()
    }

    fn answers_compare(&self) -> bool {
        true
    }

    fn grow(&mut self, length_blocks: u64) -> bool {
        let grown = self.inner.grow(length_blocks);
        self.info = self.inner.info();
        grown
    }
}

impl Volume {
    /// Enters the blocks of `op`, if it has any to protect: true when it may start.
    #[inline]
    fn admit(&mut self, id: u32, op: &Op) -> Option<bool> {
        let extent = op.extent().filter(|_| !matches!(op, Op::BlockStatus(_)))?;
        let access = if op.changes_blocks() { Access::Write } else { Access::Read };
        Some(self.ranges.admit(id, extent, access))
    }
}

fn status_of_nothing(op: &Op) -> IoStatus {
    match op {
        Op::BlockStatus(_) => IoStatus::Mapped { mapped: false, length_blocks: 0 },
        _ => IoStatus::Good,
    }
}

#[cfg(test)]
mod tests;
