//! The list of behaviours that every volume shows, whatever holds its blocks. Back ends in this
//! crate and elsewhere run it in their tests; it panics at the first deviation, naming the check.
//!
//! The subject is what protocols talk to: usually a [`crate::volume::Volume`] over a back end.
//!
//! Reading order: [`Subject`], [`run`], then `checks` (one behaviour each) and `model` (all of them
//! at once against an array of bytes).

mod checks;
pub(crate) mod model;

use std::collections::HashMap;

use reactor::buffer::{BufferPool, Sgl, SizeClass};
use uuid::Uuid;

use crate::bdev::{Done, Extent, Io, IoChannel, IoStatus, Op};
use crate::geometry::Geometry;
use crate::limits::{MAX_TRANSFER_BYTES, PAGE_BYTES};

/// The device under test.
pub struct Subject {
    /// Where I/O is submitted.
    pub channel: Box<dyn IoChannel>,
    /// Lets what is under it get on (a turn of the core); called between polls.
    pub turn: Box<dyn FnMut()>,
}

/// The length of the devices that are asked for: not a multiple of anything but pages.
pub const LENGTH_BYTES: u64 = MAX_TRANSFER_BYTES + 1024 * 1024 + 3 * PAGE_BYTES;

/// Polls without any answer after which the device is called stuck. Real disks need many.
const POLLS_MAX: u64 = 400_000_000;

/// Runs every check, each on a fresh device of `make`, with both block sizes.
pub fn run(mut make: impl FnMut(Geometry) -> Subject) {
    run_on_pool(|geometry, _| make(geometry));
}

/// As [`run`], for devices that take only buffers of a pool they know: the pool that every payload will come from.
pub fn run_on_pool(mut make: impl FnMut(Geometry, &BufferPool) -> Subject) {
    for logical_block_bytes in [512, 4096] {
        run_size(logical_block_bytes, &mut own_pool, &mut make);
    }
}

/// Buffers that the checks need.
pub const PAYLOAD_CLASSES: [SizeClass; 3] = [
    SizeClass { bytes: 8 << 10, count: 256 },
    SizeClass { bytes: 64 << 10, count: 32 },
    SizeClass { bytes: 1 << 20, count: 20 },
];

/// As [`run_with`], with payloads from `pool`, which has at least [`PAYLOAD_CLASSES`] and is known to the device.
pub fn run_with_pool(logical_block_bytes: u32, pool: &BufferPool, make: &mut dyn FnMut(Geometry) -> Subject) {
    run_size(logical_block_bytes, &mut || pool.clone(), &mut |geometry, _| make(geometry));
}

/// Runs every check with one block size.
pub fn run_with(logical_block_bytes: u32, make: &mut dyn FnMut(Geometry) -> Subject) {
    run_size(logical_block_bytes, &mut own_pool, &mut |geometry, _| make(geometry));
}

fn own_pool() -> BufferPool {
    BufferPool::heap(&PAYLOAD_CLASSES)
}

fn run_size(
    logical_block_bytes: u32,
    pool: &mut dyn FnMut() -> BufferPool,
    make: &mut dyn FnMut(Geometry, &BufferPool) -> Subject,
) {
    let geometry = Geometry::new(Uuid::from_u128(0x5EED), logical_block_bytes, LENGTH_BYTES);
    let geometry = geometry.expect("a possible device");
    for &(name, check) in checks::ALL {
        let mut rig = Rig::new(geometry, pool(), make, name);
        check(&mut rig);
        rig.end();
    }
    for seed in 1..=3 {
        let mut rig = Rig::new(geometry, pool(), make, "random I/O against an array");
        model::random_io(&mut rig, seed);
        rig.end();
    }
}

/// A device under test with hands.
struct Rig {
    subject: Subject,
    name: &'static str,
    buffers: BufferPool,
    /// Buffers that the device holds for itself.
    reserved: usize,
    block_bytes: u64,
    length_blocks: u64,
    next_tag: u64,
    /// Answered and not yet taken.
    answered: HashMap<u64, Done>,
    outstanding: usize,
    polled: Vec<Done>,
}

impl Rig {
    fn new(
        geometry: Geometry,
        buffers: BufferPool,
        make: &mut dyn FnMut(Geometry, &BufferPool) -> Subject,
        name: &'static str,
    ) -> Self {
        let subject = make(geometry, &buffers);
        let info = subject.channel.info();
        Self {
            subject,
            name,
            reserved: buffers.in_use(),
            buffers,
            block_bytes: u64::from(info.logical_block_bytes),
            length_blocks: info.length_blocks,
            next_tag: 1,
            answered: HashMap::new(),
            outstanding: 0,
            polled: Vec::new(),
        }
    }

    fn blocks(&self, bytes: u64) -> u64 {
        bytes / self.block_bytes
    }

    fn extent(&self, lba: u64, length_blocks: u64) -> Extent {
        Extent::new(lba, length_blocks, self.length_blocks).expect("a check stays on the device")
    }

    /// A payload of `op` that holds `bytes`, or (for a read) rubbish that must be overwritten.
    fn payload(&self, op: &Op, bytes: &[u8]) -> Sgl {
        let length = op.payload_bytes(self.block_bytes as u32) as usize;
        let mut sgl = self.buffers.alloc(length).expect("the rig has memory for its checks");
        if matches!(op, Op::Read(_)) {
            sgl.fill(0, length, 0xEE);
        } else {
            assert_eq!(bytes.len(), length, "{}: a check built a wrong payload", self.name);
            sgl.copy_in(0, bytes);
        }
        sgl
    }

    /// Submits and returns the tag; the answer is waited for with [`Rig::wait`].
    fn submit(&mut self, op: Op, bytes: &[u8]) -> u64 {
        let tag = self.next_tag.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.next_tag += 1;
        let sgl = self.payload(&op, bytes);
        match self.subject.channel.submit(Io { tag, op, sgl }) {
            Some(done) => {
                assert_eq!(done.tag, tag, "{}: the answer on the spot has another tag", self.name);
                self.answered.insert(tag, done);
            }
            None => self.outstanding += 1,
        }
        assert_eq!(self.subject.channel.in_flight(), self.outstanding, "{}: in flight", self.name);
        tag
    }

    fn turn(&mut self) {
        (self.subject.turn)();
        let mut polled = std::mem::take(&mut self.polled);
        self.subject.channel.poll(&mut polled, 32);
        for done in polled.drain(..) {
            self.outstanding = self.outstanding.checked_sub(1).expect("an answer nobody waits for");
            let twice = self.answered.insert(done.tag, done);
            assert!(twice.is_none(), "{}: answered twice", self.name);
        }
        assert_eq!(self.subject.channel.in_flight(), self.outstanding, "{}: in flight", self.name);
        self.polled = polled;
    }

    fn wait(&mut self, tag: u64) -> Done {
        for _ in 0..POLLS_MAX {
            if let Some(done) = self.answered.remove(&tag) {
                return done;
            }
            self.turn();
        }
        panic!("{}: never answered", self.name);
    }

    fn io(&mut self, op: Op, bytes: &[u8]) -> Done {
        let tag = self.submit(op, bytes);
        self.wait(tag)
    }

    fn good(&mut self, op: Op, bytes: &[u8]) -> Done {
        let done = self.io(op, bytes);
        assert_eq!(done.status, IoStatus::Good, "{}: {op:?}", self.name);
        done
    }

    fn write(&mut self, lba: u64, bytes: &[u8]) {
        let extent = self.extent(lba, bytes.len() as u64 / self.block_bytes);
        self.good(Op::Write { extent, fua: false }, bytes);
    }

    fn read(&mut self, lba: u64, length_blocks: u64) -> Vec<u8> {
        let extent = self.extent(lba, length_blocks);
        self.good(Op::Read(extent), &[]).sgl.to_vec()
    }

    fn expect(&mut self, lba: u64, bytes: &[u8]) {
        let found = self.read(lba, bytes.len() as u64 / self.block_bytes);
        if found != bytes {
            let differs = found.iter().zip(bytes).position(|(found, expected)| found != expected);
            panic!("{}: wrong from byte {differs:?} after block {lba}", self.name);
        }
    }

    /// `length_blocks` blocks that differ from each other and from those of another place or `salt`.
    fn pattern(&self, lba: u64, length_blocks: u64, salt: u64) -> Vec<u8> {
        let mut bytes = vec![0xA5; (length_blocks * self.block_bytes) as usize];
        let mut mixed = (lba << 32) ^ (salt << 8) ^ 1;
        // A word in each cache line is enough to tell every place, and cheap in a debug build.
        for line in bytes.chunks_exact_mut(64) {
            mixed = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
            line[..8].copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
        }
        bytes
    }

    fn end(mut self) {
        for _ in 0..3 {
            self.turn();
        }
        assert!(self.answered.is_empty(), "{}: an answer nobody waited for", self.name);
        assert_eq!(self.subject.channel.in_flight(), 0, "{}: still in flight at the end", self.name);
        assert_eq!(self.buffers.in_use(), self.reserved, "{}: buffers were kept", self.name);
    }
}
