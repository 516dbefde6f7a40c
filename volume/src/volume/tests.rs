use std::cell::RefCell;
use std::rc::Rc;

use reactor::buffer::SizeClass;
use uuid::Uuid;

use super::*;
use crate::bdev::Extent;
use crate::geometry::Geometry;
use crate::memory::MemoryDevice;

/// A back end that keeps every I/O until the test lets it go.
#[derive(Clone)]
struct Held {
    memory: Rc<RefCell<MemoryDevice>>,
    held: Rc<RefCell<Vec<Io>>>,
    released: Rc<RefCell<Vec<Done>>>,
}

impl Held {
    fn new() -> Self {
        let geometry = Geometry::new(Uuid::from_u128(1), 512, 4 << 20).expect("a possible device");
        let memory = Rc::new(RefCell::new(MemoryDevice::new(geometry)));
        Self { memory, held: Rc::default(), released: Rc::default() }
    }

    /// The first blocks of what the back end holds.
    fn holds(&self) -> Vec<u64> {
        self.held.borrow().iter().map(|io| io.op.extent().map_or(u64::MAX, |extent| extent.lba)).collect()
    }

    fn release(&self, index: usize) {
        let io = self.held.borrow_mut().remove(index);
        let done = self.memory.borrow_mut().submit(io).expect("memory answers on the spot");
        self.released.borrow_mut().push(done);
    }

    fn release_all(&self) {
        while !self.held.borrow().is_empty() {
            self.release(0);
        }
    }
}

impl IoChannel for Held {
    fn info(&self) -> BdevInfo {
        self.memory.borrow().info()
    }

    fn submit(&mut self, io: Io) -> Option<Done> {
        self.held.borrow_mut().push(io);
        None
    }

    fn poll(&mut self, out: &mut Vec<Done>, _budget: usize) {
        out.append(&mut self.released.borrow_mut());
    }

    fn in_flight(&self) -> usize {
        self.held.borrow().len() + self.released.borrow().len()
    }

    fn grow(&mut self, length_blocks: u64) -> bool {
        self.memory.borrow_mut().grow(length_blocks)
    }
}

fn pool(count: usize) -> BufferPool {
    BufferPool::heap(&[SizeClass { bytes: 8192, count }])
}

fn volume(held: &Held, buffers: &BufferPool) -> Volume {
    Volume::new(Box::new(held.clone()), buffers).expect("the pool has the reserve")
}

fn extent(lba: u64, length_blocks: u64) -> Extent {
    Extent { lba, length_blocks }
}

fn submit(volume: &mut Volume, tag: u64, op: Op) -> Option<Done> {
    let sgl = Sgl::from_slice_heap(&vec![tag as u8; op.payload_bytes(512) as usize]);
    volume.submit(Io { tag, op, sgl })
}

fn poll(volume: &mut Volume) -> Vec<(u64, IoStatus)> {
    let mut out = Vec::new();
    volume.poll(&mut out, 32);
    out.iter().map(|done| (done.tag, done.status)).collect()
}

fn write(lba: u64, length: u64) -> Op {
    Op::Write { extent: extent(lba, length), fua: false }
}

#[test]
fn what_overlaps_waits_and_what_does_not_runs() {
    let (held, buffers) = (Held::new(), pool(4));
    let mut volume = volume(&held, &buffers);
    for (tag, op) in [(1, write(0, 8)), (2, write(4, 8)), (3, write(20, 1)), (4, Op::Read(extent(11, 2)))] {
        assert!(submit(&mut volume, tag, op).is_none());
    }
    assert!(submit(&mut volume, 5, Op::Flush).is_none());
    assert_eq!(held.holds(), [0, 20, u64::MAX], "a flush waits for nothing");
    assert_eq!(volume.in_flight(), 5);
    held.release(0);
    assert_eq!(poll(&mut volume), [(1, IoStatus::Good)]);
    assert_eq!(held.holds(), [20, u64::MAX, 4]);
    held.release_all();
    assert_eq!(poll(&mut volume), [(3, IoStatus::Good), (5, IoStatus::Good), (2, IoStatus::Good)]);
    assert_eq!(held.holds(), [11]);
    held.release_all();
    assert_eq!(poll(&mut volume), [(4, IoStatus::Good)]);
    assert!(volume.is_drained());
}

#[test]
fn only_what_has_had_no_effect_is_taken_back() {
    let (held, buffers) = (Held::new(), pool(4));
    let mut volume = volume(&held, &buffers);
    for (tag, op) in [(1, write(0, 8)), (2, write(0, 8)), (3, Op::Read(extent(0, 1)))] {
        assert!(submit(&mut volume, tag, op).is_none());
    }
    assert!(!volume.abort(1), "it runs");
    assert!(!volume.abort(9), "it is not here");
    assert!(volume.abort(2));
    assert!(!volume.abort(2), "once");
    assert_eq!(volume.in_flight(), 3, "until it is given back");
    assert_eq!(poll(&mut volume), [(2, IoStatus::Aborted)]);
    held.release_all();
    assert_eq!(poll(&mut volume), [(1, IoStatus::Good)]);
    held.release_all();
    let mut out = Vec::new();
    volume.poll(&mut out, 32);
    assert_eq!(out[0].sgl.to_vec(), vec![1; 512], "the aborted write left nothing");
    assert!(volume.is_drained());
}

#[test]
fn aborting_the_one_in_the_middle_lets_the_next_run() {
    let (held, buffers) = (Held::new(), pool(4));
    let mut volume = volume(&held, &buffers);
    let ops = [(1, Op::Read(extent(0, 8))), (2, write(0, 8)), (3, Op::Read(extent(0, 8)))];
    for (tag, op) in ops {
        assert!(submit(&mut volume, tag, op).is_none());
    }
    assert_eq!(held.holds().len(), 1);
    assert!(volume.abort(2));
    assert_eq!(held.holds().len(), 2, "two readers share");
    held.release_all();
    assert_eq!(poll(&mut volume).len(), 3);
}

#[test]
fn composites_share_the_reserve_one_after_the_other_and_can_be_aborted_before() {
    let (held, buffers) = (Held::new(), pool(1));
    let mut volume = volume(&held, &buffers);
    assert!(Volume::new(Box::new(held.clone()), &buffers).is_err(), "the pool is empty");
    for tag in 1..=3 {
        assert!(submit(&mut volume, tag, Op::Compare(extent(tag * 10, 1))).is_none());
    }
    assert_eq!(held.holds(), [10]);
    assert!(volume.abort(2));
    assert_eq!(poll(&mut volume), [(2, IoStatus::Aborted)]);
    held.release_all();
    assert_eq!(poll(&mut volume), [(1, IoStatus::Miscompare { offset_bytes: 0 })]);
    assert_eq!(held.holds(), [30]);
    held.release_all();
    assert_eq!(poll(&mut volume), [(3, IoStatus::Miscompare { offset_bytes: 0 })]);
    assert!(volume.is_drained());
    assert_eq!(buffers.in_use(), 1, "the reserve");
    drop(volume.into_inner());
    assert_eq!(buffers.in_use(), 0);
}

#[test]
fn a_grown_device_serves_its_new_blocks() {
    let (held, buffers) = (Held::new(), pool(1));
    let mut volume = volume(&held, &buffers);
    let blocks = volume.info().length_blocks;
    assert!(!volume.grow(blocks - 1));
    assert!(volume.grow(2 * blocks));
    assert_eq!(volume.info().length_blocks, 2 * blocks);
    assert!(submit(&mut volume, 1, write(2 * blocks - 1, 1)).is_none());
    held.release_all();
    assert_eq!(poll(&mut volume), [(1, IoStatus::Good)]);
}

#[test]
#[should_panic(expected = "past the end")]
fn an_extent_past_the_end_is_our_own_bug() {
    let (held, buffers) = (Held::new(), pool(1));
    let mut volume = volume(&held, &buffers);
    let blocks = volume.info().length_blocks;
    submit(&mut volume, 1, write(blocks, 1));
}

#[test]
fn memory_is_freed_by_unmap_and_grows() {
    let geometry = Geometry::new(Uuid::from_u128(1), 4096, 64 << 20).expect("a possible device");
    let mut memory = MemoryDevice::new(geometry);
    let mut io = |op: Op| {
        let sgl = Sgl::from_slice_heap(&vec![1; op.payload_bytes(4096) as usize]);
        memory.submit(Io { tag: 1, op, sgl }).expect("on the spot").status
    };
    assert_eq!(io(write(0, 3)), IoStatus::Good);
    assert_eq!(io(write(1000, 1)), IoStatus::Good);
    assert_eq!(io(Op::Unmap(extent(1, 1))), IoStatus::Good);
    let status = io(Op::BlockStatus(extent(0, 3)));
    assert_eq!(status, IoStatus::Mapped { mapped: true, length_blocks: 1 });
    assert_eq!(memory.mapped_bytes(), 3 * 4096);
    assert!(memory.grow(1 << 20));
    let end = extent((1 << 20) - 1, 1);
    let op = Op::Write { extent: end, fua: true };
    let sgl = Sgl::from_slice_heap(&[1; 4096]);
    assert_eq!(memory.submit(Io { tag: 1, op, sgl }).map(|done| done.status), Some(IoStatus::Good));
    let sgl = Sgl::empty();
    memory.submit(Io { tag: 1, op: Op::Unmap(extent(0, 1 << 18)), sgl });
    assert_eq!(memory.mapped_bytes(), 4096);
}

/// Compares, and says no more than that there is a difference.
struct Placeless(Held);

impl IoChannel for Placeless {
    fn info(&self) -> BdevInfo {
        self.0.info()
    }

    fn submit(&mut self, io: Io) -> Option<Done> {
        self.0.submit(io)
    }

    fn poll(&mut self, out: &mut Vec<Done>, budget: usize) {
        self.0.poll(out, budget);
        for done in out {
            if let IoStatus::Miscompare { offset_bytes } = &mut done.status {
                *offset_bytes = 0;
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.0.in_flight()
    }

    fn comparing(&self, op: &Op) -> Comparing {
        if matches!(op, Op::OrWrite { .. }) { Comparing::Volume } else { Comparing::ChannelWithoutPlace }
    }
}

#[test]
fn the_place_of_a_difference_is_looked_for_while_nothing_else_changes_the_blocks() {
    let (held, buffers) = (Held::new(), pool(2));
    let mut volume = Volume::new(Box::new(Placeless(held.clone())), &buffers).expect("the reserve");
    let op = Op::CompareAndWrite { extent: extent(4, 2), fua: false };
    let mut payload = vec![0; 2048];
    payload[700] = 1;
    assert!(volume.submit(Io { tag: 1, op, sgl: Sgl::from_slice_heap(&payload) }).is_none());
    assert!(submit(&mut volume, 2, write(5, 1)).is_none());
    held.release_all();
    assert_eq!(poll(&mut volume), []);
    assert_eq!(held.holds(), [4], "it is read before the write that came later");
    held.release_all();
    assert_eq!(poll(&mut volume), [(1, IoStatus::Miscompare { offset_bytes: 700 })]);
    held.release_all();
    assert_eq!(poll(&mut volume), [(2, IoStatus::Good)]);
    assert!(volume.is_drained());
    assert_eq!(buffers.in_use(), 1, "the reserve");
}

#[test]
fn a_difference_that_is_gone_when_it_is_looked_for_was_one() {
    let (held, buffers) = (Held::new(), pool(1));
    let mut volume = Volume::new(Box::new(Placeless(held.clone())), &buffers).expect("the reserve");
    assert!(submit(&mut volume, 7, Op::Compare(extent(4, 2))).is_none());
    held.release_all();
    assert_eq!(poll(&mut volume), []);
    // Another host writes what is compared with.
    let sgl = Sgl::from_slice_heap(&[7; 1024]);
    let other = held.memory.borrow_mut().submit(Io { tag: 0, op: write(4, 2), sgl });
    assert!(other.is_some_and(|done| done.status == IoStatus::Good));
    held.release_all();
    assert_eq!(poll(&mut volume), [(7, IoStatus::Miscompare { offset_bytes: 0 })]);
}
