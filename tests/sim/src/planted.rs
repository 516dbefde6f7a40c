//! Bugs made on purpose, between the volume and its back end: each must be found.

use std::collections::VecDeque;

use reactor::buffer::Sgl;
use reactor::random::Random;
use reactor::sim::SimRandom;
use volume::bdev::{BdevInfo, Done, Extent, Io, IoChannel, IoStatus, Op};

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Some writes are acknowledged and never done.
    LostWrite,
    /// Some writes are acknowledged at once and done much later.
    EarlyAcknowledgement,
    /// Some writes are done again, much later.
    GhostWrite,
    /// Flushes are answered and not done.
    LostFlush,
    /// Force unit access is ignored.
    LostFua,
    /// Some writes land on the neighbouring block.
    MisdirectedWrite,
    /// Some reads give what was there some time before.
    StaleRead,
    /// Some writes of several blocks stop half way.
    ShortWrite,
    /// Some unmaps are answered and not done.
    LostUnmap,
    /// Compare-and-write does not compare.
    NoCompare,
    /// A read that failed is answered as good.
    HiddenReadError,
    /// Some completions never come.
    LostCompletion,
}

/// All of them.
pub const BUGS: [Bug; 12] = [
    Bug::LostWrite,
    Bug::EarlyAcknowledgement,
    Bug::GhostWrite,
    Bug::LostFlush,
    Bug::LostFua,
    Bug::MisdirectedWrite,
    Bug::StaleRead,
    Bug::ShortWrite,
    Bug::LostUnmap,
    Bug::NoCompare,
    Bug::HiddenReadError,
    Bug::LostCompletion,
];

/// How often a bug of the "some" kind shows, per mille.
const SOME_PERMILLE: u64 = 60;
/// Polls after which "much later" is.
const LATER_POLLS: u64 = 40;
/// Tags of the I/Os that nobody asked for.
const OWN_TAGS: u64 = 1 << 62;

/// A channel with a bug over a good one.
pub struct Planted {
    inner: Box<dyn IoChannel>,
    bug: Bug,
    random: SimRandom,
    polls: u64,
    /// I/Os that are done again (or at last), and when.
    later: VecDeque<(u64, Op, Vec<u8>)>,
    own: u64,
    /// What some blocks held at some time.
    remembered: Vec<(Extent, Vec<u8>)>,
    scratch: Vec<Done>,
}

impl Planted {
    /// Puts `bug` above `inner`; `seed` decides when it shows.
    pub fn new(inner: Box<dyn IoChannel>, bug: Bug, seed: u64) -> Self {
        let random = SimRandom::new(seed);
        let (later, remembered) = (VecDeque::new(), Vec::new());
        Self { inner, bug, random, polls: 0, later, own: 0, remembered, scratch: Vec::new() }
    }

    fn shows(&mut self) -> bool {
        self.random.below(1000) < SOME_PERMILLE
    }

    fn submit_write(&mut self, io: Io, extent: Extent, fua: bool) -> Option<Done> {
        let good = |io: Io| Some(Done { tag: io.tag, status: IoStatus::Good, sgl: io.sgl });
        let bug = self.bug;
        match bug {
            Bug::LostWrite if self.shows() => good(io),
            Bug::EarlyAcknowledgement if self.shows() => {
                self.later.push_back((self.polls + LATER_POLLS, io.op, io.sgl.to_vec()));
                good(io)
            }
            Bug::GhostWrite if self.shows() => {
                self.later.push_back((self.polls + LATER_POLLS, io.op, io.sgl.to_vec()));
                self.inner.submit(io)
            }
            Bug::LostFua if fua => self.inner.submit(Io { op: Op::Write { extent, fua: false }, ..io }),
            Bug::MisdirectedWrite if self.shows() => {
                let lba = if extent.lba == 0 { 1 } else { extent.lba - 1 };
                let op = Op::Write { extent: Extent { lba, ..extent }, fua };
                self.inner.submit(Io { op, ..io })
            }
            Bug::ShortWrite if extent.length_blocks > 1 && self.shows() => {
                let bytes = io.sgl.len() / extent.length_blocks as usize;
                let half = extent.length_blocks / 2;
                let head = io.sgl.to_vec()[..half as usize * bytes].to_vec();
                let extent = Extent { lba: extent.lba, length_blocks: half };
                self.later.push_back((self.polls, Op::Write { extent, fua }, head));
                good(io)
            }
            _ => self.inner.submit(io),
        }
    }

    /// Gives back `done`, unless the bug has something to say about it.
    fn pass(&mut self, mut done: Done) -> Option<Done> {
        if done.tag >= OWN_TAGS {
            return None;
        }
        if self.bug == Bug::HiddenReadError && matches!(done.status, IoStatus::ReadError { .. }) {
            done.status = IoStatus::Good;
        }
        if self.bug == Bug::LostCompletion && self.random.below(1000) < SOME_PERMILLE / 6 {
            return None;
        }
        Some(done)
    }

    fn remember(&mut self, io: &Io) {
        let extent = match io.op {
            Op::Write { extent, .. } if self.bug == Bug::StaleRead => extent,
            _ => return,
        };
        self.remembered.push((extent, io.sgl.to_vec()));
    }

    fn stale(&mut self, io: &mut Io) -> bool {
        let Op::Read(extent) = io.op else { return false };
        if self.bug != Bug::StaleRead || !self.shows() {
            return false;
        }
        let found = self.remembered.iter().find(|(other, _)| *other == extent);
        found.inspect(|(_, bytes)| io.sgl.copy_in(0, bytes)).is_some()
    }
}

impl IoChannel for Planted {
    fn info(&self) -> BdevInfo {
        self.inner.info()
    }

    fn submit(&mut self, mut io: Io) -> Option<Done> {
        self.remember(&io);
        let good = |io: Io| Some(Done { tag: io.tag, status: IoStatus::Good, sgl: io.sgl });
        if self.stale(&mut io) {
            return good(io);
        }
        let done = match io.op {
            Op::Write { extent, fua } => self.submit_write(io, extent, fua),
            Op::Flush if self.bug == Bug::LostFlush => good(io),
            Op::Unmap(_) | Op::WriteZeroes { .. } if self.bug == Bug::LostUnmap && self.shows() => good(io),
            Op::CompareAndWrite { extent, fua } => {
                let mut bytes = io.sgl.to_vec();
                let new = bytes.split_off(bytes.len() / 2);
                self.later.push_back((self.polls, Op::Write { extent, fua }, new));
                good(io)
            }
            _ => self.inner.submit(io),
        };
        done.and_then(|done| self.pass(done))
    }

    fn poll(&mut self, out: &mut Vec<Done>, budget: usize) {
        self.polls += 1;
        while self.later.front().is_some_and(|(at, ..)| *at <= self.polls) {
            let (_, op, bytes) = self.later.pop_front().expect("looked at above");
            self.own += 1;
            let sgl = if bytes.is_empty() { Sgl::empty() } else { Sgl::from_slice_heap(&bytes) };
            let _ = self.inner.submit(Io { tag: OWN_TAGS + self.own, op, sgl });
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        self.inner.poll(&mut scratch, budget);
        for done in scratch.drain(..) {
            out.extend(self.pass(done));
        }
        self.scratch = scratch;
        // Keeps the stream of chance going, so that two bugs never see the same one.
        let _ = self.random.next_u64();
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight() + self.later.len()
    }

    fn answers_compare(&self) -> bool {
        self.bug == Bug::NoCompare
    }
}
