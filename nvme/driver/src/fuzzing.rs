//! Body of the fuzz target `driver`: what a driver is told to do, against a device that answers whatever it likes.
//!
//! Whatever the device does, the driver does not panic, stays inside its tables, answers each I/O once, and takes back no buffer
//! that the device may still use: one whose command it has neither completed nor been stopped from executing.
//!
//! Not part of the product: compiled for tests, for the fuzz crate and under `cfg(fuzzing)` only.

mod hostile;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reactor::buffer::{BufferPool, Sgl, SizeClass};
use reactor::time::Time;

use crate::config::{Config, Timeouts};
use crate::controller::Controller;
use crate::queue::{QueuePair, Readiness};
use crate::request::{IoDone, IoOp, Request};
use hostile::HostileDevice;

/// Actions of one input: a fuzzer that repeats itself learns nothing.
const ACTIONS_MAX: usize = 2000;

/// Rounds of a device that behaves in which nothing ends: the whole ladder takes fewer.
const SETTLE_IDLE_ROUNDS_MAX: u32 = 200;

/// Rounds of a device that behaves, whatever ends in them.
const SETTLE_ROUNDS_MAX: u32 = 100_000;

/// The bytes of the input, zeros after its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn u32(&mut self) -> u32 {
        u32::from(self.u16()) | u32::from(self.u16()) << 16
    }
}

/// An I/O that is not answered: where its buffer is.
#[derive(Clone, Copy, Debug)]
struct Open {
    address: usize,
    length_bytes: usize,
}

struct World {
    device: HostileDevice,
    controller: Controller<HostileDevice>,
    queue: Option<QueuePair<HostileDevice>>,
    attached: u16,
    pool: BufferPool,
    now: Time,
    open: BTreeMap<u64, Open>,
    tag: u64,
    out: Vec<IoDone>,
}

/// Runs one input.
pub fn driver(data: &[u8]) {
    let mut input = Input(data);
    let device = HostileDevice::new(if input.byte() & 1 == 0 { 9 } else { 12 });
    let ms = Duration::from_millis;
    let config = Config {
        io_queue_entries: u16::from(input.byte() % 32) + 2,
        timeouts: Timeouts { io: ms(300), abort: ms(200), admin: ms(400) },
        ..Config::default()
    };
    for _ in 0..input.byte() % 8 {
        device.null.spoil(input.u16().into(), input.byte());
    }
    let controller = Controller::new(device.clone(), config, None).expect("the device has memory");
    let pool =
        BufferPool::heap(&[SizeClass { bytes: 8192, count: 64 }, SizeClass { bytes: 2 << 20, count: 2 }]);
    let mut world = World {
        device,
        controller,
        queue: None,
        attached: 0,
        pool,
        now: Time::ZERO,
        open: BTreeMap::new(),
        tag: 0,
        out: Vec::new(),
    };
    world.controller.start(world.now);
    for _ in 0..ACTIONS_MAX {
        if input.0.is_empty() {
            break;
        }
        world.act(&mut input);
        world.check();
    }
    world.settle();
}

impl World {
    fn act(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0..4 => self.turns(input.byte()),
            4 | 5 => self.submit(input),
            6 => self.device.complete_all(),
            7 => self.device.post_any(input),
            8 => self.device.post_likely(input),
            9 => self.device.set_status(input),
            10 => self.now = self.now.after(Duration::from_millis(u64::from(input.byte()) * 20)),
            11 => self.device.null.scribble(input.byte().into(), input.u16().into(), input.byte()),
            12 => self.device.null.spoil(input.u16().into(), input.byte()),
            13 => self.device.set_answers(input.byte()),
            14 => match input.byte() % 8 {
                0 => self.controller.shutdown(self.now),
                1 => self.controller.start(self.now),
                2 => self.controller.readmit(1),
                _ => self.controller.reset(self.now),
            },
            _ => self.open_queue(),
        }
    }

    fn turns(&mut self, count: u8) {
        for _ in 0..=count % 32 {
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.now = self.now.after(Duration::from_millis(1));
        self.controller.poll(self.now);
        while self.controller.next_event().is_some() {}
        if let Some(queue) = &mut self.queue {
            queue.poll(self.now, 16, &mut self.out);
            queue.ring();
        }
        for done in std::mem::take(&mut self.out) {
            let open = self.open.remove(&done.tag).expect("an I/O is answered once");
            if !done.sgl.is_empty() {
                assert_eq!(done.sgl.chunk(0).as_ptr() as usize, open.address, "with its own buffer");
                self.device.assert_released(open.address, open.length_bytes);
            }
        }
    }

    fn open_queue(&mut self) {
        if self.queue.is_none()
            && let Ok(ticket) = self.controller.claim_queue()
        {
            let queue = QueuePair::new(self.device.clone(), ticket, &self.pool);
            self.queue = Some(queue.expect("the device has memory"));
            self.attached = 0;
        }
        // Namespaces that were handed out anew are attached anew.
        if let (Some(queue), Some(namespace)) = (&mut self.queue, self.controller.namespaces().next())
            && self.attached < 64
        {
            queue.attach(Arc::clone(namespace));
            self.attached += 1;
        }
    }

    fn submit(&mut self, input: &mut Input<'_>) {
        let (Some(queue), Some(last)) = (&mut self.queue, self.attached.checked_sub(1)) else { return };
        let namespace = u16::from(input.byte()).min(last);
        let Some(info) = self.controller.namespaces().next().map(|namespace| *namespace.info()) else {
            return;
        };
        if queue.readiness(namespace) != Readiness::Ready {
            return;
        }
        let long = input.byte() & 7 == 0;
        let blocks = 1 + u64::from(if long { input.u16() } else { u16::from(input.byte() % 16) });
        let lba = u64::from(input.u32());
        let op = match input.byte() % 8 {
            0..2 => IoOp::Read,
            2..4 => IoOp::Write { fua: blocks & 1 == 0 },
            4 => IoOp::Flush,
            5 => IoOp::WriteZeroes { deallocate: blocks & 1 == 0, fua: false },
            6 => IoOp::Deallocate,
            _ => IoOp::Verify,
        };
        let blocks = if op == IoOp::Flush { 0 } else { blocks };
        let bytes = match op {
            IoOp::Read | IoOp::Write { .. } => blocks as usize * info.block_bytes as usize,
            _ => 0,
        };
        let Some(sgl) = self.pool.alloc(bytes).filter(|sgl| sgl.segment_count() <= 1) else { return };
        let address = if bytes == 0 { 0 } else { sgl.chunk(0).as_ptr() as usize };
        self.tag += 1;
        self.open.insert(self.tag, Open { address, length_bytes: bytes });
        queue.submit(self.now, Request { tag: self.tag, namespace, op, lba, blocks, sgl });
    }

    /// What is not answered is still lent.
    fn check(&self) {
        for open in self.open.values().filter(|open| open.length_bytes > 0) {
            let lent = self.pool.device_read(open.address, &mut [0]);
            assert!(lent.is_ok(), "a buffer was taken back before its answer");
        }
        if let Some(queue) = &self.queue {
            assert_eq!(queue.open_requests(), self.open.len());
        }
    }

    /// A device that behaves again, or one that is gone: everything is answered, for as long as anything goes on. A long request
    /// that goes out a page at a time, through a queue that holds one command, is thousands of them.
    fn settle(&mut self) {
        self.device.behave();
        let mut idle = 0;
        for _ in 0..SETTLE_ROUNDS_MAX {
            if self.open.is_empty() {
                return;
            }
            let before = self.completed();
            for _ in 0..20 {
                self.turn();
                self.device.complete_all();
            }
            self.now = self.now.after(Duration::from_millis(500));
            idle = if self.completed() == before { idle + 1 } else { 0 };
            if idle == SETTLE_IDLE_ROUNDS_MAX {
                break;
            }
        }
        assert!(
            self.open.is_empty(),
            "{} I/Os are stuck: {:?} {:?}",
            self.open.len(),
            self.controller,
            self.queue
        );
    }

    fn completed(&self) -> u64 {
        self.queue.as_ref().map_or(0, |queue| queue.stats().completed.get())
    }
}

const _: fn() -> Sgl = Sgl::empty;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use reactor::random::Random;
    use reactor::sim::SimRandom;

    #[test]
    fn corpus() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/driver");
        let entries = std::fs::read_dir(folder).expect("the corpus is part of the tree");
        let mut count = 0;
        for entry in entries {
            super::driver(&std::fs::read(entry.expect("a readable folder").path()).expect("a readable seed"));
            count += 1;
        }
        assert!(count > 0, "the corpus is empty");
    }

    /// Some inputs without a fuzzer, so that the body itself is known to hold.
    #[test]
    fn inputs_by_chance() {
        for seed in 0..400 {
            let mut random = SimRandom::new(seed);
            let mut bytes = vec![0; 40 + seed as usize * 3];
            random.fill(&mut bytes);
            // Some that leave the device alone until it is up: the interesting part lies behind that.
            if seed % 2 == 0 {
                bytes[2] = 0;
                for (at, byte) in [0, 31, 0, 31, 0, 31, 15, 0, 31, 15].into_iter().enumerate() {
                    bytes[3 + at] = byte;
                }
            }
            super::driver(&bytes);
        }
    }
}
