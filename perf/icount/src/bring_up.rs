//! The user-space NVMe driver from a device to a queue pair that takes I/O, for both programs.

use std::time::Duration;

use nvme::device::Device;
use nvme::{Config, Controller, QueuePair};
use reactor::buffer::BufferPool;
use reactor::time::Time;

/// Entries of the queues.
pub const ENTRIES: u16 = 256;

/// A controller that is ready, a queue pair over its first namespace, and what time it is then. `step` lets the device work.
pub fn bring_up<D: Device + Clone>(
    device: &D,
    pool: &BufferPool,
    step: impl Fn(Time),
) -> (Controller<D>, QueuePair<D>, Time) {
    let config = Config { io_queue_entries: ENTRIES, ..Config::default() };
    let mut controller = Controller::new(device.clone(), config, None).expect("memory");
    let mut now = Time::ZERO;
    controller.start(now);
    let mut turn = |controller: &mut Controller<D>| {
        now = now.after(Duration::from_millis(1));
        controller.poll(now);
        step(now);
        now
    };
    while controller.namespace(1).is_none() {
        turn(&mut controller);
    }
    let ticket = controller.claim_queue().expect("one is free");
    let mut queue = QueuePair::new(device.clone(), ticket, pool).expect("memory");
    queue.attach(controller.namespace(1).expect("it has one").clone());
    while !queue.is_live() {
        let now = turn(&mut controller);
        queue.poll(now, 32, &mut Vec::new());
    }
    (controller, queue, now)
}
