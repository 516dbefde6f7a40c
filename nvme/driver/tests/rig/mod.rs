//! A controller, a queue pair and the emulated device below them, in one time.

// Each test binary uses a part of it.
#![allow(dead_code, reason = "shared by several test binaries, none of which uses all of it")]

use std::sync::Arc;
use std::time::Duration;

use nvme::stats::QueueStats;
use nvme::{
    Config, Controller, ControllerEvent, IoDone, IoOp, Outcome, QueuePair, Readiness, Request, Timeouts,
};
use nvme_emulated::{ControllerConfig, Delays, EmulatedController, EmulatedDevice, Format, NamespaceConfig};
use reactor::buffer::{BufferPool, Sgl, SizeClass};
use reactor::time::Time;

/// How far time goes on in a turn.
pub const TURN: Duration = Duration::from_micros(200);

/// The longest that anything may take here: every wait of the driver has a smaller bound.
pub const PATIENCE: Duration = Duration::from_secs(300);

pub struct Rig {
    pub emulated: EmulatedController,
    pub controller: Controller<EmulatedDevice>,
    pub queue: Option<QueuePair<EmulatedDevice>>,
    pub pool: BufferPool,
    pub now: Time,
    pub done: Vec<IoDone>,
    pub events: Vec<ControllerEvent>,
    pub turn: Duration,
    /// The device works on what it is given.
    pub stepping: bool,
    tag: u64,
}

/// A small namespace.
pub const BLOCKS: u64 = 4096;

pub fn device_config(format: Format) -> ControllerConfig {
    ControllerConfig {
        namespaces: vec![NamespaceConfig::new(1, BLOCKS, format)],
        ..ControllerConfig::default()
    }
}

/// Short timeouts, so that tests of the ladder take few turns.
pub fn quick() -> Config {
    let ms = Duration::from_millis;
    Config {
        io_queue_entries: 32,
        timeouts: Timeouts { io: ms(400), abort: ms(200), admin: ms(500) },
        ..Config::default()
    }
}

pub fn pool() -> BufferPool {
    BufferPool::heap(&[
        SizeClass { bytes: 4096, count: 256 },
        SizeClass { bytes: 16384, count: 32 },
        SizeClass { bytes: 1 << 20, count: 4 },
    ])
}

impl Rig {
    /// A controller that is not started.
    pub fn cold(device: ControllerConfig, config: Config) -> Self {
        let emulated = EmulatedController::new(device).expect("a possible controller");
        Self::over(emulated, config)
    }

    /// A driver over a controller that is there.
    pub fn over(emulated: EmulatedController, config: Config) -> Self {
        let controller = Controller::new(emulated.device(), config, None).expect("there is memory");
        Self {
            emulated,
            controller,
            queue: None,
            pool: pool(),
            now: Time::ZERO,
            done: Vec::new(),
            events: Vec::new(),
            turn: TURN,
            stepping: true,
            tag: 0,
        }
    }

    /// A controller that is ready, with a queue pair over its namespaces in order.
    pub fn new(device: ControllerConfig, config: Config) -> Self {
        let mut rig = Self::cold(device, config);
        rig.start();
        rig.open_queue();
        rig
    }

    pub fn start(&mut self) {
        self.controller.start(self.now);
        self.run_until("ready", |rig| rig.controller.is_ready());
    }

    pub fn open_queue(&mut self) {
        let ticket = self.controller.claim_queue().expect("a queue is free");
        let mut queue = QueuePair::new(self.controller.device().clone(), ticket, &self.pool).expect("memory");
        if let Some(shadow) = self.controller.shadow() {
            queue.set_shadow(shadow);
        }
        for namespace in self.controller.namespaces() {
            queue.attach(Arc::clone(namespace));
        }
        self.queue = Some(queue);
        self.run_until("live", |rig| rig.queue().is_live());
    }

    pub fn queue(&self) -> &QueuePair<EmulatedDevice> {
        self.queue.as_ref().expect("opened before")
    }

    pub fn queue_mut(&mut self) -> &mut QueuePair<EmulatedDevice> {
        self.queue.as_mut().expect("opened before")
    }

    pub fn stats(&self) -> Arc<QueueStats> {
        self.queue().stats()
    }

    pub fn turn(&mut self) {
        self.now = self.now.after(self.turn);
        if self.stepping {
            self.emulated.step(self.now, 64);
        }
        self.controller.poll(self.now);
        while let Some(event) = self.controller.next_event() {
            self.events.push(event);
        }
        if let Some(queue) = &mut self.queue {
            queue.poll(self.now, 64, &mut self.done);
            queue.ring();
        }
    }

    /// Turns until something is so; how long that took.
    #[track_caller]
    pub fn run_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Duration {
        let begun = self.now;
        while !is_so(self) {
            assert!(self.now.since(begun) < PATIENCE, "never {what}: {:?} {:?}", self.controller, self.queue);
            self.turn();
        }
        self.now.since(begun)
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now.after(time);
        while self.now < end {
            self.turn();
        }
    }

    pub fn block_bytes(&self) -> u64 {
        self.controller.namespaces().next().map_or(512, |namespace| u64::from(namespace.info().block_bytes))
    }

    pub fn alloc(&self, blocks: u64) -> Sgl {
        self.pool.alloc((blocks * self.block_bytes()) as usize).expect("the pool has room")
    }

    /// A list that holds a pattern of its own.
    pub fn pattern(&self, lba: u64, blocks: u64, salt: u8) -> Vec<u8> {
        let block_bytes = self.block_bytes();
        (0..blocks * block_bytes)
            .map(|at| {
                let block = lba + at / block_bytes;
                (block as u8).wrapping_mul(31) ^ (at % 251) as u8 ^ salt.wrapping_mul(17)
            })
            .collect()
    }

    pub fn list(&self, bytes: &[u8]) -> Sgl {
        let mut sgl = self.pool.alloc(bytes.len()).expect("the pool has room");
        sgl.copy_in(0, bytes);
        sgl
    }

    /// Submits to namespace `number` and tells the controller; the tag.
    pub fn submit_to(&mut self, namespace: u16, op: IoOp, lba: u64, blocks: u64, sgl: Sgl) -> u64 {
        self.tag += 1;
        let (now, tag) = (self.now, self.tag);
        self.run_until("ready for it", |rig| rig.queue().readiness(namespace) == Readiness::Ready);
        self.queue_mut().submit(now, Request { tag, namespace, op, lba, blocks, sgl });
        self.queue_mut().ring();
        tag
    }

    pub fn submit(&mut self, op: IoOp, lba: u64, blocks: u64, sgl: Sgl) -> u64 {
        self.submit_to(0, op, lba, blocks, sgl)
    }

    #[track_caller]
    pub fn wait(&mut self, tag: u64) -> IoDone {
        self.run_until("answered", |rig| rig.done.iter().any(|done| done.tag == tag));
        let position = self.done.iter().position(|done| done.tag == tag).expect("seen just now");
        self.done.swap_remove(position)
    }

    #[track_caller]
    pub fn io(&mut self, op: IoOp, lba: u64, blocks: u64, sgl: Sgl) -> IoDone {
        let tag = self.submit(op, lba, blocks, sgl);
        self.wait(tag)
    }

    #[track_caller]
    pub fn write(&mut self, lba: u64, bytes: &[u8]) -> Outcome {
        let (blocks, sgl) = (bytes.len() as u64 / self.block_bytes(), self.list(bytes));
        self.io(IoOp::Write { fua: false }, lba, blocks, sgl).outcome
    }

    #[track_caller]
    pub fn read(&mut self, lba: u64, blocks: u64) -> Result<Vec<u8>, Outcome> {
        let mut sgl = self.alloc(blocks);
        sgl.fill(0, sgl.len(), 0xee);
        let done = self.io(IoOp::Read, lba, blocks, sgl);
        if done.outcome == Outcome::Success { Ok(done.sgl.to_vec()) } else { Err(done.outcome) }
    }

    #[track_caller]
    pub fn flush(&mut self) -> Outcome {
        self.io(IoOp::Flush, 0, 0, Sgl::empty()).outcome
    }

    /// Nothing is in flight, every buffer is home, and the device never reached for what was not lent to it.
    #[track_caller]
    pub fn assert_clean(&self) {
        if let Some(queue) = &self.queue {
            assert_eq!((queue.in_flight(), queue.open_requests()), (0, 0));
        }
        assert!(self.done.is_empty(), "answers that nobody waited for: {:?}", self.done);
        assert_eq!(self.pool.in_use(), 0, "buffers were kept");
        assert_eq!(self.emulated.iommu_fault_count(), 0, "{:?}", self.emulated.iommu_faults());
        let counters = self.emulated.counters();
        assert_eq!((counters.violations, counters.doorbell_errors), (0, 0), "{counters:?}");
    }
}

/// What takes a moment, as in a device.
pub fn slow(ms: u64) -> Delays {
    let time = Duration::from_millis(ms);
    Delays {
        enable: time,
        disable: time,
        shutdown: time,
        function_reset: time,
        command: Duration::from_micros(80),
    }
}
