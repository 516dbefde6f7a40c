//! The user-space NVMe driver over an emulated controller, as `vega bench` drives one; and the copy of the data, which no
//! emulation can save.

use std::hint::black_box;
use std::time::Duration;

use nvme::{Controller, IoDone, IoOp, QueuePair, Request};
use nvme_emulated::{ControllerConfig, EmulatedController, EmulatedDevice, Format, NamespaceConfig};
use reactor::buffer::{BufferPool, LentSgl, Sgl, SizeClass};
use reactor::time::Time;

use crate::bring_up::{ENTRIES, bring_up};

const BLOCK_BYTES: usize = 4096;
const LOGICAL_BLOCKS: u64 = 8;
/// Places that are visited one after the other; all are written before anything is counted.
const PLACES: u64 = 256;
const STEP_COMMANDS: u32 = 256;

struct Machine {
    emulated: EmulatedController,
    controller: Controller<EmulatedDevice>,
    queue: QueuePair<EmulatedDevice>,
    lists: Vec<Sgl>,
    done: Vec<IoDone>,
    now: Time,
}

fn pool(depth: u64) -> BufferPool {
    BufferPool::heap(&[SizeClass { bytes: BLOCK_BYTES, count: depth as usize }])
}

impl Machine {
    fn new(depth: u64) -> Self {
        let config = ControllerConfig {
            namespaces: vec![NamespaceConfig::new(1, PLACES * LOGICAL_BLOCKS, Format::Block512)],
            cache_bytes: 0,
            ..ControllerConfig::default()
        };
        let emulated = EmulatedController::new(config).expect("a configuration of a controller");
        let pool = pool(depth);
        let step = |now| {
            emulated.step(now, STEP_COMMANDS);
        };
        let (controller, queue, now) = bring_up(&emulated.device(), &pool, step);
        let done = Vec::with_capacity(ENTRIES.into());
        let lists = (0..depth).map(|_| pool.alloc(BLOCK_BYTES).expect("room")).collect();
        let mut this = Self { emulated, controller, queue, lists, done, now };
        // The first pass takes the memory of the medium.
        this.run(depth, PLACES, IoOp::Write { fua: false });
        this
    }

    fn run(&mut self, depth: u64, iterations: u64, op: IoOp) {
        for round in 0..iterations.div_ceil(depth) {
            self.now = self.now.after(Duration::from_micros(10));
            self.controller.poll(self.now);
            for tag in 0..depth {
                let sgl = self.lists.pop().expect("as many as are in flight");
                let lba = (round * depth + tag) % PLACES * LOGICAL_BLOCKS;
                let request = Request { tag, namespace: 0, op, lba, blocks: LOGICAL_BLOCKS, sgl };
                self.queue.submit(self.now, black_box(request));
            }
            self.queue.ring();
            self.emulated.step(self.now, STEP_COMMANDS);
            self.queue.poll(self.now, depth as usize, &mut self.done);
            self.lists.extend(black_box(&mut self.done).drain(..).map(|done| done.sgl));
        }
    }
}

pub fn read_1(iterations: u64) {
    Machine::new(1).run(1, iterations, IoOp::Read);
}

pub fn read_32(iterations: u64) {
    Machine::new(32).run(32, iterations, IoOp::Read);
}

pub fn write_32(iterations: u64) {
    Machine::new(32).run(32, iterations, IoOp::Write { fua: false });
}

/// 4 KiB from a medium into a lent buffer, by the call that the controller makes.
pub fn copy(iterations: u64) {
    let pool = pool(32);
    let lent: Vec<LentSgl> = (0..32).map(|_| pool.alloc(BLOCK_BYTES).expect("room").lend()).collect();
    let places: Vec<usize> = lent.iter().map(|lent| lent.segments().next().expect("one segment").0).collect();
    let medium = vec![1_u8; PLACES as usize * BLOCK_BYTES];
    for number in 0..iterations {
        let start = (number % PLACES) as usize * BLOCK_BYTES;
        let bytes = black_box(&medium[start..start + BLOCK_BYTES]);
        pool.device_write(places[number as usize % places.len()], bytes).expect("it is lent");
    }
    lent.into_iter().for_each(|lent| drop(lent.reclaim()));
}
