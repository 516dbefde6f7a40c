//! What the user-space NVMe driver costs for an I/O: submit and complete, over a device without media.
//!
//! The device costs something as well, and so does whoever hands lists in and out: cases of their own count that alone, and what
//! is left is the driver's.

use std::hint::black_box;
use std::time::Duration;

use nvme::device::Device;
use nvme::testing::NullDevice;
use nvme::{Controller, IoDone, IoOp, Outcome, QueuePair, Request};
use nvme_spec::NvmOpcode;
use nvme_spec::register::{completion_doorbell, submission_doorbell};
use reactor::buffer::{BufferPool, Sgl, SizeClass};
use reactor::time::Time;

use crate::blocks::{BLOCK_BYTES, LOGICAL_BLOCKS};
use crate::bring_up::{ENTRIES, bring_up};

struct Machine {
    device: NullDevice,
    _controller: Controller<NullDevice>,
    queue: QueuePair<NullDevice>,
    lists: Vec<Sgl>,
    done: Vec<IoDone>,
    now: Time,
}

impl Machine {
    fn new(depth: u64) -> Self {
        let device = NullDevice::new(9);
        let pool = BufferPool::heap(&SizeClass::for_budget(8 << 20));
        let (controller, queue, now) = bring_up(&device, &pool, |_| {});
        let done = Vec::with_capacity(ENTRIES.into());
        let lists = (0..depth).map(|_| pool.alloc(BLOCK_BYTES).expect("room")).collect();
        Self { device, _controller: controller, queue, lists, done, now }
    }

    fn run(&mut self, depth: u64, iterations: u64) {
        for round in 0..iterations.div_ceil(depth) {
            self.now = self.now.after(Duration::from_micros(10));
            for tag in 0..depth {
                let sgl = self.lists.pop().expect("as many as are in flight");
                let lba = (round * depth + tag) % 1_000 * LOGICAL_BLOCKS;
                let request = Request { tag, namespace: 0, op: IoOp::Read, lba, blocks: LOGICAL_BLOCKS, sgl };
                self.queue.submit(self.now, black_box(request));
            }
            self.queue.ring();
            self.device.step();
            self.queue.poll(self.now, depth as usize, &mut self.done);
            self.lists.extend(black_box(&mut self.done).drain(..).map(|done| done.sgl));
        }
    }
}

pub fn driver_32(iterations: u64) {
    Machine::new(32).run(32, iterations);
}

pub fn driver_1(iterations: u64) {
    Machine::new(1).run(1, iterations);
}

/// The device's part of the same: doorbells as the driver writes them, commands as they lie in the ring.
pub fn device_32(iterations: u64) {
    let machine = Machine::new(32);
    let mut tail = 0;
    for _ in 0..iterations.div_ceil(32) {
        tail = (tail + 32) % u32::from(ENTRIES);
        machine.device.write_u32(submission_doorbell(1, 0), tail);
        machine.device.step();
        machine.device.write_u32(completion_doorbell(1, 0), tail);
    }
}

/// The caller's part of the same: lists into requests, and out of answers.
pub fn shell_32(iterations: u64) {
    let mut machine = Machine::new(32);
    for round in 0..iterations.div_ceil(32) {
        for tag in 0..32 {
            let sgl = machine.lists.pop().expect("as many as are in flight");
            let lba = (round * 32 + tag) % 1_000 * LOGICAL_BLOCKS;
            let request =
                black_box(Request { tag, namespace: 0, op: IoOp::Read, lba, blocks: LOGICAL_BLOCKS, sgl });
            machine.done.push(IoDone {
                tag: request.tag,
                namespace: request.namespace,
                opcode: NvmOpcode::READ,
                outcome: Outcome::Success,
                sgl: request.sgl,
            });
        }
        machine.lists.extend(black_box(&mut machine.done).drain(..).map(|done| done.sgl));
    }
}
