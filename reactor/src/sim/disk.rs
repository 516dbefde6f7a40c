//! A simulated disk with a volatile cache: what a power cut may leave of it is decided by the seed.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use super::file::SimFile;
use super::image::{Change, Content, Image};
use super::{DiskFaults, SimWorld};
use crate::buffer::Sgl;
use crate::file::{FileDone, FileOp};
use crate::time::Time;

const SECTOR: u64 = super::SECTOR_BYTES as u64;
/// Sectors of a page of the system's memory.
const PAGE_SECTORS: u64 = 4096 / SECTOR;

pub(super) struct Pending {
    pub(super) handle: u64,
    pub(super) due: Time,
    pub(super) order: u64,
    pub(super) tag: u64,
    pub(super) op: FileOp,
    /// For a sync: changes up to this one had completed when it was submitted.
    completed_before: u64,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) faults: DiskFaults,
    pub(super) length_bytes: u64,
    /// What a read sees.
    current: Image,
    /// What is on the medium for sure.
    stable: Image,
    /// Completed, not synced; in order.
    unsynced: Vec<Change>,
    sequence: u64,
    pub(super) pending: Vec<Pending>,
    pub(super) done: VecDeque<(u64, FileDone)>,
    /// The handles of the open files, and how many there ever were.
    open: Vec<u64>,
    opened: u64,
    submitted: u64,
    /// The machine it was in is no more: nothing completes.
    gone: bool,
}

impl State {
    pub(super) fn next_due(&self) -> Time {
        if self.gone {
            return Time::NEVER;
        }
        self.pending.iter().map(|pending| pending.due).min().unwrap_or(Time::NEVER)
    }

    pub(super) fn next_due_of(&self, handle: u64) -> Time {
        if self.gone {
            return Time::NEVER;
        }
        let mine = self.pending.iter().filter(|pending| pending.handle == handle);
        mine.map(|pending| pending.due).min().unwrap_or(Time::NEVER)
    }

    pub(super) fn open(&mut self) -> u64 {
        self.opened += 1;
        self.open.push(self.opened);
        self.opened
    }

    pub(super) fn close(&mut self, handle: u64) {
        self.open.retain(|&open| open != handle);
        self.done.retain(|(other, _)| *other != handle);
    }

    pub(super) fn begin(&mut self, handle: u64, due: Time, tag: u64, op: FileOp) {
        self.submitted += 1;
        let (order, completed_before) = (self.submitted, self.sequence);
        self.pending.push(Pending { handle, due, order, tag, op, completed_before });
    }

    /// Completes what is due, in the order of the due times.
    pub(super) fn run(&mut self, world: &SimWorld) {
        if self.gone {
            return;
        }
        let now = world.now();
        while let Some(at) = (0..self.pending.len())
            .filter(|&at| self.pending[at].due <= now)
            .min_by_key(|&at| (self.pending[at].due, self.pending[at].order))
        {
            let pending = self.pending.swap_remove(at);
            let (result, sgl) = self.finish(world, pending.op, pending.completed_before);
            if self.open.contains(&pending.handle) {
                self.done.push_back((pending.handle, FileDone { tag: pending.tag, result, sgl }));
            }
        }
    }

    fn finish(&mut self, world: &SimWorld, op: FileOp, completed_before: u64) -> (Result<(), i32>, Sgl) {
        match op {
            FileOp::Read { offset_bytes, mut sgl } => {
                let result = self.read(world, offset_bytes, &mut sgl);
                (result, sgl)
            }
            FileOp::Write { offset_bytes, sgl, durable } => {
                let content = Content::Bytes(sgl.to_vec());
                (self.write(world, offset_bytes, sgl.len() as u64, content, durable), sgl)
            }
            FileOp::Sync => (self.sync(world, completed_before), Sgl::empty()),
            FileOp::PunchHole { .. } if self.faults.no_holes => (Err(libc::EOPNOTSUPP), Sgl::empty()),
            FileOp::PunchHole { offset_bytes, length_bytes } => {
                // Past the end there is nothing to free, and the file does not grow.
                let length = length_bytes.min(self.length_bytes.saturating_sub(offset_bytes));
                (self.write(world, offset_bytes, length, Content::Hole, false), Sgl::empty())
            }
            FileOp::Allocate { offset_bytes, length_bytes } => {
                (self.allocate(world, offset_bytes, length_bytes), Sgl::empty())
            }
            FileOp::ZeroRange { offset_bytes, length_bytes } => {
                (self.write(world, offset_bytes, length_bytes, Content::Zeros, false), Sgl::empty())
            }
        }
    }

    fn read(&self, world: &SimWorld, offset_bytes: u64, sgl: &mut Sgl) -> Result<(), i32> {
        let end = offset_bytes + sgl.len() as u64;
        let is_bad = |bad: &std::ops::Range<u64>| bad.start < end && offset_bytes < bad.end;
        if end > self.length_bytes
            || self.faults.bad_ranges.iter().any(is_bad)
            || world.chance(self.faults.read_error_permille)
        {
            return Err(libc::EIO);
        }
        let mut at = offset_bytes;
        for piece in sgl.segments_mut() {
            self.current.read(at, piece);
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn write(
        &mut self,
        world: &SimWorld,
        offset_bytes: u64,
        length_bytes: u64,
        content: Content,
        durable: bool,
    ) -> Result<(), i32> {
        if length_bytes == 0 {
            return Ok(());
        }
        self.sequence += 1;
        let mut change = Change { sequence: self.sequence, offset_bytes, length_bytes, content };
        let needs = if change.content == Content::Hole { 0 } else { self.current.missing_bytes(&change) };
        if self.current.allocated_bytes().saturating_add(needs) > self.faults.space_bytes {
            return Err(libc::ENOSPC);
        }
        if world.chance(self.faults.write_error_permille) {
            // It may have got anywhere before it failed.
            cut(world, &mut change);
            self.take(change);
            return Err(libc::EIO);
        }
        if let Content::Bytes(_) | Content::Zeros = change.content {
            self.heal(offset_bytes, offset_bytes + length_bytes);
        }
        if durable {
            self.stable.apply(&change);
        }
        self.take(change);
        Ok(())
    }

    /// Sectors that were holes read zeros as before, and writing them needs no space any more.
    fn allocate(&mut self, world: &SimWorld, offset_bytes: u64, length_bytes: u64) -> Result<(), i32> {
        let missing = self.current.missing_sectors(offset_bytes, length_bytes);
        let needs = missing.len() as u64 * SECTOR;
        if self.current.allocated_bytes().saturating_add(needs) > self.faults.space_bytes {
            return Err(libc::ENOSPC);
        }
        if world.chance(self.faults.write_error_permille) {
            return Err(libc::EIO);
        }
        for number in missing {
            self.sequence += 1;
            let (offset_bytes, content) = (number * SECTOR, Content::Zeros);
            self.take(Change { sequence: self.sequence, offset_bytes, length_bytes: SECTOR, content });
        }
        Ok(())
    }

    fn take(&mut self, change: Change) {
        if change.content != Content::Hole {
            self.length_bytes = self.length_bytes.max(change.offset_bytes + change.length_bytes);
        }
        self.current.apply(&change);
        self.unsynced.push(change);
    }

    /// A rewritten range can be read again.
    fn heal(&mut self, start: u64, end: u64) {
        let parts = |bad: std::ops::Range<u64>| {
            [bad.start..bad.end.min(start), bad.start.max(end)..bad.end].into_iter().filter(|r| !r.is_empty())
        };
        let bad = std::mem::take(&mut self.faults.bad_ranges);
        self.faults.bad_ranges = bad.into_iter().flat_map(parts).collect();
    }

    fn sync(&mut self, world: &SimWorld, completed_before: u64) -> Result<(), i32> {
        let covered = self.unsynced.partition_point(|change| change.sequence <= completed_before);
        let failed = world.chance(self.faults.sync_error_permille);
        for change in self.unsynced.drain(..covered) {
            // A failed sync forgets what was dirty: a later one has nothing to write.
            if !failed || world.chance(500) {
                self.stable.apply(&change);
            }
        }
        if failed { Err(libc::EIO) } else { Ok(()) }
    }

    /// What may be found after the power has come back.
    fn after_power_loss(&mut self, world: &SimWorld) -> Self {
        // One style for all changes finds bugs that independent coin flips for each would hide.
        let style = world.below(4);
        self.abandon_pending(world, 1);
        for mut change in std::mem::take(&mut self.unsynced) {
            match style {
                0 => continue,
                1 => self.stable.apply(&change),
                2 if world.chance(500) => {
                    cut(world, &mut change);
                    self.stable.apply(&change);
                }
                2 => {}
                _ => {
                    for number in change.sectors() {
                        if world.chance(500) {
                            self.stable.apply_sector(&change, number);
                        }
                    }
                }
            }
        }
        let image = std::mem::take(&mut self.stable);
        Self {
            faults: self.faults.clone(),
            length_bytes: self.length_bytes,
            current: image.clone(),
            stable: image,
            sequence: self.sequence,
            ..Self::default()
        }
    }

    /// What the next process finds after this one was killed: the system still has everything that
    /// completed, and does with what was in flight what it likes.
    fn after_kill(&mut self, world: &SimWorld) -> Self {
        // What has reached the disk it finishes; the system hands over whole pages.
        self.abandon_pending(world, PAGE_SECTORS);
        Self {
            faults: self.faults.clone(),
            length_bytes: self.length_bytes,
            current: std::mem::take(&mut self.current),
            stable: std::mem::take(&mut self.stable),
            unsynced: std::mem::take(&mut self.unsynced),
            sequence: self.sequence,
            ..Self::default()
        }
    }

    /// Ends what is in flight. A write may end in part, in units of so many sectors.
    fn abandon_pending(&mut self, world: &SimWorld, unit_sectors: u64) {
        for pending in std::mem::take(&mut self.pending) {
            if world.chance(500) {
                continue;
            }
            match pending.op {
                FileOp::Write { offset_bytes, sgl, .. } if world.chance(500) => {
                    self.write_in_part(world, offset_bytes, &sgl, unit_sectors);
                }
                // All of it may be in the system's memory and nothing on the medium: nobody heard that it was durable.
                FileOp::Write { offset_bytes, sgl, .. } => {
                    let op = FileOp::Write { offset_bytes, sgl, durable: false };
                    drop(self.finish(world, op, pending.completed_before));
                }
                op => drop(self.finish(world, op, pending.completed_before)),
            }
        }
        self.gone = true;
    }

    /// A write that was cut short, durable or not: any unit of it may have got there, and none for sure.
    fn write_in_part(&mut self, world: &SimWorld, offset_bytes: u64, sgl: &Sgl, unit_sectors: u64) {
        self.sequence += 1;
        let whole = Change {
            sequence: self.sequence,
            offset_bytes,
            length_bytes: sgl.len() as u64,
            content: Content::Bytes(sgl.to_vec()),
        };
        let (mut unit, mut is_there) = (u64::MAX, false);
        for number in whole.sectors() {
            if number / unit_sectors != unit {
                (unit, is_there) = (number / unit_sectors, world.chance(500));
            }
            if is_there {
                self.take(whole.in_sector(number));
            }
        }
    }
}

/// Shortens a change to a number of whole sectors, at random: a torn write.
fn cut(world: &SimWorld, change: &mut Change) {
    let sectors = change.sectors();
    let keep = world.below(sectors.end - sectors.start + 1);
    let end = (sectors.start + keep) * SECTOR;
    let length = end.saturating_sub(change.offset_bytes).min(change.length_bytes);
    change.length_bytes = length;
    if let Content::Bytes(bytes) = &mut change.content {
        bytes.truncate(length as usize);
    }
}

/// A disk of a simulated world.
#[derive(Clone, Debug)]
pub struct SimDisk {
    pub(super) world: SimWorld,
    pub(super) number: usize,
}

impl SimDisk {
    pub(super) fn new(world: &SimWorld, length_bytes: u64) -> Self {
        Self::add(world, State { length_bytes, ..State::default() })
    }

    fn add(world: &SimWorld, state: State) -> Self {
        let mut disks = world.inner.disks.borrow_mut();
        disks.push(state);
        Self { world: world.clone(), number: disks.len() - 1 }
    }

    pub(super) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.world.inner.disks.borrow_mut()[self.number])
    }

    /// Opens the disk for one core.
    pub fn open(&self) -> SimFile {
        SimFile::new(self.clone())
    }

    /// A descriptor that stands for this disk: `SimFiles::adopt` opens the disk it names, so code
    /// that passes descriptors around runs unchanged.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        let fd = nix::sys::memfd::memfd_create(c"simulated-disk", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
        let mut file = std::fs::File::from(fd);
        file.write_all(&(self.number as u64).to_le_bytes())?;
        Ok(file.into())
    }

    /// What it does wrong from now on.
    pub fn set_faults(&self, faults: DiskFaults) {
        self.with(|state| state.faults = faults);
    }

    /// What it does wrong now.
    pub fn faults(&self) -> DiskFaults {
        self.with(|state| state.faults.clone())
    }

    /// Its length.
    pub fn len(&self) -> u64 {
        self.with(|state| state.length_bytes)
    }

    /// True for a disk of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes it longer.
    pub fn grow(&self, length_bytes: u64) {
        self.with(|state| state.length_bytes = state.length_bytes.max(length_bytes));
    }

    /// Bytes that are allocated, as a read would see it.
    pub fn allocated_bytes(&self) -> u64 {
        self.with(|state| state.current.allocated_bytes())
    }

    /// What a read would give now, without a fault.
    pub fn peek(&self, offset_bytes: u64, length_bytes: usize) -> Vec<u8> {
        let mut out = vec![0; length_bytes];
        self.with(|state| state.current.read(offset_bytes, &mut out));
        out
    }

    /// Puts bytes on the medium, past all caches: to prepare a test or to corrupt a sector.
    pub fn poke(&self, offset_bytes: u64, bytes: &[u8]) {
        self.with(|state| {
            state.sequence += 1;
            let content = Content::Bytes(bytes.to_vec());
            let length_bytes = bytes.len() as u64;
            let change = Change { sequence: state.sequence, offset_bytes, length_bytes, content };
            state.current.apply(&change);
            state.stable.apply(&change);
        });
    }

    /// The power fails: the disk as it is found afterwards. What was not synced (or written
    /// durably) is kept, dropped or torn at sectors, by the seed. Files opened on this disk never
    /// complete anything again.
    #[must_use]
    pub fn crash(&self) -> Self {
        let state = self.with(|state| state.after_power_loss(&self.world));
        Self::add(&self.world, state)
    }

    /// The process is killed, the machine goes on: the disk as the next process finds it, with
    /// everything that completed; what was in flight is done, done in part or not done.
    #[must_use]
    pub fn kill(&self) -> Self {
        let state = self.with(|state| state.after_kill(&self.world));
        Self::add(&self.world, state)
    }
}
