//! A queue pair: commands in, completions out, on one core.
//!
//! ```text
//! submit ─▶ slot ─▶ ring ┈┈doorbell, once a turn┈┈▶ controller ─▶ completion ring ─▶ poll ─▶ answer
//!    │       ▲                                                        │
//!    ▼       │ a piece at a time                                      ├─ asked to retry, unreadable block: again
//!   long requests                                                     └─ late: abort ─▶ late again: complaint
//! ```
//!
//! The controller may be reset at any time. Then nothing is submitted until it is quiet, what was not answered goes out again
//! once, and buffers that the controller may still touch are never taken back ([`crate::link`]).
//!
//! Reading order: this file, `slots`, `complete`, `long`, `epoch`.

mod complete;
mod epoch;
mod long;
mod slots;

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use nvme_spec::nvm::{DatasetManagement, DsmRange};
use nvme_spec::register::{completion_doorbell, submission_doorbell};
use nvme_spec::{NvmOpcode, Sqe};
use reactor::buffer::{BufferPool, Sgl};
use reactor::poller::Progress;
use reactor::time::Time;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use crate::config::Timeouts;
use crate::device::{Device, DeviceError, DmaMemory, PoolMapping};
use crate::limits::{ATTACHMENTS_MAX, DEADLINE_SCAN_MS, LIST_BYTES, LONG_REQUESTS_MAX, PAGE_BYTES};
use crate::link::{Link, Word};
use crate::namespace::Namespace;
use crate::planted::Bugs;
use crate::request::{IoDone, IoOp, Payload, Plan, Request};
use crate::ring::{CompletionRing, Entry, SubmissionRing, completion_bytes, entry_of, submission_bytes};
use crate::shadow::Shadow;
use crate::stats::QueueStats;
use crate::transfer::{List, Part, fits_prp, set_prp, set_sgl, set_zeros, short_prp};
use epoch::Stage;
use long::Long;
use slots::{Slot, Slots, WHOLE};

/// The right to one queue pair, to be taken to the core that will have it. Plain data.
#[derive(Clone, Debug)]
pub struct QueueTicket {
    pub(crate) link: Arc<Link>,
    pub(crate) index: u16,
    pub(crate) entries: u16,
    pub(crate) doorbell_stride: u32,
    pub(crate) sgl: bool,
    pub(crate) vector: Option<u16>,
    pub(crate) timeouts: Timeouts,
    pub(crate) bugs: Bugs,
}

impl QueueTicket {
    /// Commands that the queue pair can have in flight.
    pub fn commands_max(&self) -> u16 {
        self.entries - 1
    }
}

/// Does a queue pair take an I/O now?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Yes.
    Ready,
    /// Not now: it is full, or the controller is being set up. Ask again after the next poll.
    Later,
    /// Never: the namespace or the controller is gone.
    Gone,
}

/// A namespace of this queue pair.
#[derive(Debug)]
struct Attached {
    namespace: Arc<Namespace>,
    format: Format,
}

/// What a command says of its namespace, and how long its blocks are.
#[derive(Clone, Copy, Debug)]
struct Format {
    nsid: u32,
    block_shift: u8,
}

/// The memory that the controller reaches, in the order in which it may go.
#[derive(Debug)]
struct Memory {
    lists: DmaMemory,
    zeros: DmaMemory,
    pool: PoolMapping,
    _sq: DmaMemory,
    _cq: DmaMemory,
}

/// A queue pair on its core. See the module's documentation.
pub struct QueuePair<D: Device> {
    device: D,
    ticket: QueueTicket,
    qid: u16,
    /// Taken out only to be leaked, when the controller may still touch it.
    memory: Option<Memory>,
    sq: SubmissionRing,
    cq: CompletionRing,
    sq_iova: u64,
    cq_iova: u64,
    shadow: Option<Shadow>,
    slots: Slots,
    attached: Vec<Attached>,
    /// Numbers of namespaces that were detached, to be given again.
    detached: Vec<u16>,
    longs: Box<[Option<Long>]>,
    free_longs: Vec<u16>,
    /// Long requests with blocks left to ask for.
    long_queue: VecDeque<u16>,
    /// Slots that pieces of long requests have, over all of them.
    pieces: u16,
    /// Commands that wait for the queue to be created anew.
    pending: Vec<u16>,
    stage: Stage,
    word: Word,
    spurious: u32,
    scan_at: Time,
    stats: Arc<QueueStats>,
    /// Entries that are written after their doorbell, by a bug made on purpose.
    #[cfg(feature = "planted")]
    unwritten: Vec<(u16, Entry)>,
}

impl<D: Device> std::fmt::Debug for QueuePair<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "QueuePair({}, {}, {:?}, {} in flight)",
            self.device.name(),
            self.qid,
            self.stage,
            self.in_flight()
        )
    }
}

impl<D: Device> QueuePair<D> {
    /// Takes the memory of a queue pair on this core, whose buffers are `pool`, and asks the controller for it.
    pub fn new(device: D, ticket: QueueTicket, pool: &BufferPool) -> Result<Self, DeviceError> {
        let entries = ticket.entries;
        let sq_memory = device.allocate(submission_bytes(entries))?;
        let cq_memory = device.allocate(completion_bytes(entries))?;
        let lists = device.allocate(usize::from(entries) * LIST_BYTES)?;
        let zeros = device.allocate(PAGE_BYTES)?;
        let pool = device.map_pool(pool)?;
        let sq = SubmissionRing::new(sq_memory.memory().clone(), entries);
        #[cfg_attr(not(feature = "planted"), expect(unused_mut))]
        let mut cq = CompletionRing::new(cq_memory.memory().clone(), entries);
        #[cfg(feature = "planted")]
        {
            cq.ignores_phase = ticket.bugs.accepts_stale_phase();
        }
        let (sq_iova, cq_iova) = (sq_memory.iova(), cq_memory.iova());
        let slots = Slots::new(entries, ticket.bugs);
        let word = ticket.link.word();
        let mut this = Self {
            device,
            qid: ticket.index + 1,
            ticket,
            memory: Some(Memory { lists, zeros, pool, _sq: sq_memory, _cq: cq_memory }),
            sq,
            cq,
            sq_iova,
            cq_iova,
            shadow: None,
            pending: Vec::with_capacity(usize::from(slots.count())),
            slots,
            attached: Vec::new(),
            detached: Vec::new(),
            longs: (0..LONG_REQUESTS_MAX).map(|_| None).collect(),
            free_longs: (0..LONG_REQUESTS_MAX as u16).rev().collect(),
            long_queue: VecDeque::with_capacity(LONG_REQUESTS_MAX),
            pieces: 0,
            stage: Stage::Stopped,
            word,
            spurious: 0,
            scan_at: Time::ZERO,
            stats: Arc::default(),
            #[cfg(feature = "planted")]
            unwritten: Vec::new(),
        };
        this.request_queue();
        Ok(this)
    }

    /// Its counters.
    pub fn stats(&self) -> Arc<QueueStats> {
        Arc::clone(&self.stats)
    }

    /// The queue's number.
    pub fn qid(&self) -> u16 {
        self.qid
    }

    /// I/Os that were taken and not answered.
    pub fn open_requests(&self) -> usize {
        // A slot has a whole one or a piece of a long one.
        self.slots.taken() - usize::from(self.pieces) + self.longs.len() - self.free_longs.len()
    }

    /// Commands that the controller has.
    pub fn in_flight(&self) -> usize {
        self.slots.taken() - self.pending.len()
    }

    /// True when commands are taken.
    pub fn is_live(&self) -> bool {
        self.stage == Stage::Live
    }

    /// Wakes this core when the controller is reset or lost.
    pub fn set_waker(&self, waker: reactor::wake::Waker) {
        self.ticket.link.cell(self.ticket.index).set_waker(waker);
    }

    /// Doorbells go through memory from now on. On the controller's own core only, before the first I/O.
    pub fn set_shadow(&mut self, shadow: Shadow) {
        self.shadow = Some(shadow);
    }

    /// Adds a namespace; the number that requests name it by.
    ///
    /// # Panics
    /// When [`QueuePair::attachments_left`] says that there is no room.
    pub fn attach(&mut self, namespace: Arc<Namespace>) -> u16 {
        let info = namespace.info();
        let format = Format { nsid: info.nsid, block_shift: info.block_bytes.trailing_zeros() as u8 };
        let attached = Attached { namespace, format };
        if let Some(number) = self.detached.pop() {
            self.attached[usize::from(number)] = attached;
            return number;
        }
        assert!(self.attached.len() < ATTACHMENTS_MAX, "the caller has looked for room");
        self.attached.push(attached);
        (self.attached.len() - 1) as u16
    }

    /// Takes a namespace's number back, to be given to another. The caller has seen the end of every I/O that named it.
    pub fn detach(&mut self, number: u16) {
        let is_attached = usize::from(number) < self.attached.len() && !self.detached.contains(&number);
        assert!(is_attached, "a namespace is detached once");
        self.detached.push(number);
    }

    /// How many more namespaces can be attached.
    pub fn attachments_left(&self) -> usize {
        ATTACHMENTS_MAX - self.attached.len() + self.detached.len()
    }

    /// True when the list can be given to the controller as it is; else it must be copied into another one before.
    #[inline]
    pub fn describes(&self, sgl: &Sgl) -> bool {
        sgl.segment_count() <= 1 || self.ticket.sgl || fits_prp(sgl)
    }

    /// Will an I/O for this namespace be taken now?
    #[inline]
    pub fn readiness(&self, namespace: u16) -> Readiness {
        if self.stage == Stage::Dead || !self.attached[usize::from(namespace)].namespace.is_live() {
            Readiness::Gone
        } else if self.stage == Stage::Live && self.slots.room() > 0 && !self.free_longs.is_empty() {
            Readiness::Ready
        } else {
            Readiness::Later
        }
    }

    /// Takes an I/O. The controller hears of it when [`QueuePair::ring`] is called.
    ///
    /// # Panics
    /// When [`QueuePair::readiness`] did not say `Ready`, the data has another length than the blocks, or the list cannot be
    /// described.
    #[inline]
    pub fn submit(&mut self, now: Time, request: Request) {
        let is_ready = self.stage == Stage::Live && self.slots.room() > 0 && !self.free_longs.is_empty();
        assert!(is_ready && self.describes(&request.sgl), "the caller has asked before");
        let Request { tag, namespace, op, lba, blocks, sgl } = request;
        // Before anything is looked up: what marks the buffers could be a store to any of it, for all that the compiler knows.
        let lent = sgl.lend();
        let attached = &self.attached[usize::from(namespace)];
        let (info, format) = (attached.namespace.info(), attached.format);
        let plan = Plan::new(op, info);
        let data_blocks = if plan.payload == Payload::Lent { blocks } else { 0 };
        assert!(lent.len() as u64 == data_blocks << format.block_shift, "data of another length");
        assert!((blocks == 0) == (op == IoOp::Flush), "only a flush names no block");
        let first = plan.first_blocks(lba, blocks, info.atomic_write_blocks);
        if u64::from(first) < blocks || plan.then_deallocate {
            return self.submit_long(now, Long::new(tag, namespace, plan, lent, lba, blocks));
        }
        let index = self.slots.take();
        let slot = self.slots.get(index);
        (slot.tag, slot.namespace, slot.long) = (tag, namespace, WHOLE);
        slot.set_run(&plan, lba, first);
        slot.lent = Some(lent);
        self.issue_as(now, index, format);
    }

    /// Writes the command of a slot to the ring, under a new identifier.
    #[inline(never)]
    fn issue(&mut self, now: Time, index: u16) {
        let format = self.format_of(index);
        self.issue_as(now, index, format);
    }

    fn format_of(&mut self, index: u16) -> Format {
        self.attached[usize::from(self.slots.get(index).namespace)].format
    }

    /// As [`QueuePair::issue`], for a namespace that was looked up.
    #[inline(always)]
    fn issue_as(&mut self, now: Time, index: u16, format: Format) {
        let cid = self.slots.begin(index, now);
        if self.slots.taken() == 1 {
            self.scan_at = now.after(Duration::from_millis(DEADLINE_SCAN_MS));
        }
        let memory = self.memory.as_ref().expect("taken out only by Drop");
        match short_entry(self.slots.get(index), cid, format, &memory.pool) {
            Some(entry) => self.push(&entry),
            None => self.push_long(index, cid, format),
        }
        self.stats.submitted.add(1);
    }

    #[inline(never)]
    fn push_long(&mut self, index: u16, cid: u16, Format { nsid, block_shift }: Format) {
        let slot = self.slots.get(index);
        let mut sqe = match slot.opcode {
            NvmOpcode::FLUSH => Sqe::flush(nsid),
            NvmOpcode::DATASET_MANAGEMENT => {
                DatasetManagement { ranges: 1, attributes: DatasetManagement::DEALLOCATE }.sqe(nsid)
            }
            opcode => Sqe::io(opcode, nsid, slot.window_lba(), slot.window_blocks, slot.control),
        };
        sqe.cid = U16::new(cid);
        if slot.payload != Payload::None {
            self.set_data(&mut sqe, index, block_shift);
        }
        self.push(&entry_of(&sqe));
    }

    #[inline(always)]
    fn push(&mut self, entry: &Entry) {
        // Only a device that completes what it was not told of lets this happen.
        if self.sq.is_full_unrung() {
            self.ring();
        }
        #[cfg(feature = "planted")]
        if self.ticket.bugs.has_no_fence() {
            let at = self.sq.skip();
            return self.unwritten.push((at, *entry));
        }
        self.sq.push(entry);
    }

    fn set_data(&mut self, sqe: &mut Sqe, index: u16, block_shift: u8) {
        let memory = self.memory.as_ref().expect("taken out only by Drop");
        let offset_bytes = usize::from(index) * LIST_BYTES;
        let iova = memory.lists.iova() + offset_bytes as u64;
        let list = List { memory: memory.lists.memory(), offset_bytes, iova };
        let slot = self.slots.get(index);
        let window_bytes = (slot.window_blocks as usize) << block_shift;
        match slot.payload {
            Payload::None => {}
            Payload::Lent => {
                let (lent, list_lba) = match slot.long {
                    WHOLE => (slot.lent.as_ref(), slot.lba),
                    long => {
                        let long =
                            self.longs[usize::from(long)].as_ref().expect("it lives as long as its pieces");
                        (long.lent.as_ref(), long.lba())
                    }
                };
                let lent = lent.expect("a command with data has lent it");
                let offset_bytes = ((slot.window_lba() - list_lba) as usize) << block_shift;
                let part = Part { lent, offset_bytes, length_bytes: window_bytes };
                if !set_prp(sqe, part, &memory.pool, list) {
                    set_sgl(sqe, part, &memory.pool, list);
                    self.stats.sgl.add(1);
                }
            }
            Payload::Zeros => set_zeros(sqe, memory.zeros.iova(), window_bytes as u64, list),
            Payload::Ranges => {
                let range = DsmRange {
                    context_attributes: U32::ZERO,
                    length_blocks: U32::new(slot.blocks),
                    slba: U64::new(slot.lba),
                };
                list.memory.write(list.offset_bytes, range.as_bytes());
                sqe.set_prp(list.iova, 0);
            }
        }
    }

    /// Tells the controller of everything that was submitted since the last call: one doorbell. Once at the end of a turn.
    #[inline(never)]
    pub fn ring(&mut self) {
        if self.stage != Stage::Live {
            return;
        }
        if let Some((tail, before)) = self.sq.take_tail() {
            let offset = submission_doorbell(self.qid, self.ticket.doorbell_stride);
            let must_tell =
                self.shadow.as_ref().is_none_or(|shadow| shadow.publish_tail(self.qid, tail, before));
            if must_tell {
                self.device.write_u32(offset, tail.into());
                self.stats.submission_doorbells.add(1);
            } else {
                self.stats.doorbells_saved.add(1);
            }
        }
        self.stats.in_flight.set(self.in_flight() as u64);
    }

    #[inline]
    fn ring_completions(&mut self, before: u16) {
        let Some(head) = self.cq.take_head() else { return };
        if self.stage != Stage::Live {
            return;
        }
        let offset = completion_doorbell(self.qid, self.ticket.doorbell_stride);
        if self.shadow.as_ref().is_none_or(|shadow| shadow.publish_head(self.qid, head, before)) {
            self.device.write_u32(offset, head.into());
            self.stats.completion_doorbells.add(1);
        } else {
            self.stats.doorbells_saved.add(1);
        }
    }

    /// Takes at most `budget` completions, follows the controller, and looks for commands that are late.
    pub fn poll(&mut self, now: Time, budget: usize, out: &mut Vec<IoDone>) -> Progress {
        #[cfg(feature = "planted")]
        self.write_unwritten();
        let word = self.ticket.link.word();
        let mut progress = Progress::Idle;
        if word != self.word || self.stage == Stage::Asked {
            progress = self.follow(now, word, out);
        }
        let answered = self.reap(now, budget, out);
        if answered > 0 {
            progress = Progress::Busy;
        }
        if !self.long_queue.is_empty() && self.stage == Stage::Live {
            self.pump_longs(now);
        }
        if now >= self.scan_at && self.in_flight() > 0 {
            self.scan(now, out);
        }
        progress
    }

    #[cfg(feature = "planted")]
    fn write_unwritten(&mut self) {
        for (at, entry) in self.unwritten.drain(..) {
            self.sq.write_at(at, &entry);
        }
    }

    /// When [`QueuePair::poll`] must be called although nothing arrives.
    pub fn deadline(&self) -> Time {
        if self.in_flight() > 0 { self.scan_at } else { Time::NEVER }
    }

    /// True when everything that this queue pair waits for wakes a sleeping core: its interrupt, or the controller.
    pub fn may_sleep(&self) -> bool {
        let has_work = !self.long_queue.is_empty() && self.has_room_for_pieces() || self.cq.has_entry();
        self.in_flight() == 0 || self.ticket.vector.is_some() && !has_work
    }

    /// Lets completions wake this core, or stops that again.
    pub fn arm(&self, armed: bool) {
        if let Some(vector) = self.ticket.vector {
            self.device.arm_interrupt(vector, armed);
        }
    }

    /// The event that wakes this core, to be watched while it sleeps.
    pub fn wake_event(&self) -> Result<Option<RawFd>, DeviceError> {
        self.ticket.vector.map_or(Ok(None), |vector| self.device.interrupt(vector))
    }
}

/// The entry of a command that is a run of blocks with its data in at most two pages, which most are. `None` when it is not
/// one.
#[inline(always)]
fn short_entry(slot: &Slot, cid: u16, format: Format, pool: &PoolMapping) -> Option<Entry> {
    let lent = slot.lent.as_ref().filter(|_| slot.payload == Payload::Lent)?;
    let offset_bytes = (slot.good_blocks as usize) << format.block_shift;
    let length_bytes = (slot.window_blocks as usize) << format.block_shift;
    let (prp1, prp2) = short_prp(Part { lent, offset_bytes, length_bytes }, pool)?;
    let dw0 = u64::from(slot.opcode.0) | u64::from(cid) << 16;
    let dw12 = slot.control.0 | (slot.window_blocks - 1);
    Some([dw0 | u64::from(format.nsid) << 32, 0, 0, prp1, prp2, slot.window_lba(), u64::from(dw12), 0])
}

impl<D: Device> Drop for QueuePair<D> {
    fn drop(&mut self) {
        // A controller that was not stopped may still write to this memory: rather leak it than give it to somebody else.
        if !self.withdraw() {
            std::mem::forget(self.memory.take());
        }
    }
}

#[cfg(test)]
#[path = "queue/tests.rs"]
mod tests;
