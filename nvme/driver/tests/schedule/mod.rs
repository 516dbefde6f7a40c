//! One seeded schedule: a driver, a controller with faults on, a workload, and a model of what every block may hold.

#![allow(dead_code, reason = "shared by several test binaries, none of which uses all of it")]

mod faults;
mod model;

use std::sync::Arc;
use std::time::Duration;

use nvme::planted::Planted;
use nvme::{Config, Controller, IoDone, IoOp, Outcome, QueuePair, Readiness, Request, Timeouts};
use nvme_emulated::{ControllerConfig, Delays, EmulatedController, EmulatedDevice, Format, NamespaceConfig};
use reactor::buffer::{BufferPool, Sgl, SizeClass};
use reactor::random::Random;
use reactor::sim::SimRandom;
use reactor::time::Time;

pub use model::Model;

/// Blocks that the workload touches: few, so that much of it meets.
const BLOCKS: u64 = 48;
/// The longest time that all of it may take: far more than every ladder together.
const PATIENCE: Duration = Duration::from_secs(120);

/// What one schedule has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub ios: u64,
    pub good: u64,
    pub resets: u64,
    pub function_resets: u64,
    pub aborts: u64,
    pub spurious: u64,
    pub ended: u64,
}

impl Report {
    pub fn add(&mut self, other: &Self) {
        self.ios += other.ios;
        self.good += other.good;
        self.resets += other.resets;
        self.function_resets += other.function_resets;
        self.aborts += other.aborts;
        self.spurious += other.spurious;
        self.ended += other.ended;
    }
}

/// An I/O that is not answered.
struct Open {
    tag: u64,
    op: IoOp,
    lba: u64,
    blocks: u64,
    value: u32,
    submitted: u64,
}

struct Schedule {
    random: SimRandom,
    emulated: EmulatedController,
    controller: Controller<EmulatedDevice>,
    queue: Option<QueuePair<EmulatedDevice>>,
    pool: BufferPool,
    now: Time,
    block_bytes: usize,
    open: Vec<Open>,
    model: Model,
    done: Vec<IoDone>,
    tag: u64,
    value: u32,
    /// Submissions and completions in their order.
    sequence: u64,
    /// The controller stopped by itself at some instant, so it may have been written to while it did not listen.
    stopped: bool,
    report: Report,
}

fn below(random: &mut SimRandom, bound: u64) -> u64 {
    random.next_u64() % bound
}

/// Runs the schedule of a seed; what is wrong, if anything is.
pub fn run(seed: u64, planted: Option<Planted>) -> Result<Report, String> {
    let mut schedule = Schedule::new(seed, planted);
    schedule.start()?;
    schedule.work()?;
    schedule.finish()?;
    Ok(schedule.report)
}

impl Schedule {
    fn new(seed: u64, planted: Option<Planted>) -> Self {
        let mut random = SimRandom::new(seed);
        let format = if below(&mut random, 2) == 0 { Format::Block512 } else { Format::Block4096 };
        let us = Duration::from_micros;
        let command = us([0, 20, 200, 3000][below(&mut random, 4) as usize]);
        let slow = us(below(&mut random, 3) * 2000);
        let delays = Delays { enable: slow, disable: slow, shutdown: slow, function_reset: slow, command };
        let device = ControllerConfig {
            seed,
            delays,
            mdts: [0, 1, 2, 5][below(&mut random, 4) as usize],
            sgl: below(&mut random, 2) == 0,
            volatile_write_cache: below(&mut random, 4) > 0,
            write_zeroes: below(&mut random, 4) > 0,
            queue_entries_max: [3, 5, 16, 64][below(&mut random, 4) as usize],
            namespaces: vec![NamespaceConfig::new(1, BLOCKS, format)],
            ..ControllerConfig::default()
        };
        let ms = Duration::from_millis;
        let config = Config {
            io_queue_entries: 64,
            timeouts: Timeouts { io: ms(300), abort: ms(200), admin: ms(400) },
            shadow_doorbells: below(&mut random, 4) == 0,
            planted,
            ..Config::default()
        };
        let emulated = EmulatedController::new(device).expect("a possible controller");
        let controller = Controller::new(emulated.device(), config, None).expect("memory");
        let pool =
            BufferPool::heap(&[SizeClass { bytes: 4096, count: 96 }, SizeClass { bytes: 65536, count: 16 }]);
        let block_bytes = if format == Format::Block512 { 512 } else { 4096 };
        Self {
            random,
            emulated,
            controller,
            queue: None,
            pool,
            now: Time::ZERO,
            block_bytes,
            open: Vec::new(),
            model: Model::new(BLOCKS as usize),
            done: Vec::new(),
            tag: 0,
            value: 0,
            sequence: 0,
            stopped: false,
            report: Report::default(),
        }
    }

    /// Without faults.
    fn start(&mut self) -> Result<(), String> {
        self.controller.start(self.now);
        self.run_until("ready", |this| this.controller.is_ready())?;
        let ticket = self.controller.claim_queue().map_err(|error| error.to_string())?;
        let mut queue =
            QueuePair::new(self.emulated.device(), ticket, &self.pool).map_err(|error| error.to_string())?;
        if let Some(shadow) = self.controller.shadow() {
            queue.set_shadow(shadow);
        }
        queue.attach(Arc::clone(self.controller.namespace(1).ok_or("no namespace")?));
        self.queue = Some(queue);
        self.run_until("live", |this| this.queue.as_ref().is_some_and(QueuePair::is_live))
    }

    fn run_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<(), String> {
        let begun = self.now;
        while !is_so(self) {
            if self.now.since(begun) > PATIENCE {
                return Err(format!("never {what}: {:?} {:?}", self.controller, self.queue));
            }
            self.turn()?;
        }
        Ok(())
    }

    /// One turn; when nothing happens in it, time goes on to when something will.
    fn turn(&mut self) -> Result<(), String> {
        let step = self.emulated.step(self.now, 1 + below(&mut self.random, 16) as u32);
        let polled = self.controller.poll(self.now);
        while self.controller.next_event().is_some() {}
        let mut progress = step.or(polled);
        let mut deadline = self.controller.deadline().min(self.emulated.deadline());
        if let Some(queue) = &mut self.queue {
            progress =
                progress.or(queue.poll(self.now, 1 + below(&mut self.random, 16) as usize, &mut self.done));
            queue.ring();
            deadline = deadline.min(queue.deadline());
        }
        self.take_done()?;
        let least = self.now.after(Duration::from_micros(5));
        self.now = if progress == reactor::poller::Progress::Busy {
            least
        } else {
            // Not past it, and never so far that a bound could hide.
            deadline.min(self.now.after(Duration::from_millis(50))).max(least)
        };
        Ok(())
    }

    fn work(&mut self) -> Result<(), String> {
        let ops = 20 + below(&mut self.random, 30);
        for fault in faults::choose(&mut self.random) {
            self.stopped |= matches!(fault.action, nvme_emulated::Action::Fatal(_));
            self.emulated.inject(fault).map_err(|error| error.to_string())?;
        }
        for _ in 0..ops {
            if below(&mut self.random, 3) == 0 {
                for _ in 0..below(&mut self.random, 6) {
                    self.turn()?;
                }
            }
            self.stopped |= faults::disturb(&mut self.random, &self.emulated);
            if self.controller.ended().is_some() {
                break;
            }
            self.submit_one();
        }
        self.run_until("answered", |this| this.open.is_empty())
    }

    /// The blocks of a new I/O that nothing in flight touches: overlaps are ordered above the driver.
    fn place(&mut self) -> Option<(u64, u64)> {
        let longest = if below(&mut self.random, 6) == 0 { 32 } else { 6 };
        let blocks = 1 + below(&mut self.random, longest);
        let lba = below(&mut self.random, BLOCKS - blocks + 1);
        let is_free = |open: &Open| lba + blocks <= open.lba || open.lba + open.blocks <= lba;
        self.open.iter().all(is_free).then_some((lba, blocks))
    }

    fn submit_one(&mut self) {
        let Some((lba, blocks)) = self.place() else { return };
        let Some(queue) = &self.queue else { return };
        if queue.readiness(0) != Readiness::Ready {
            return;
        }
        let fua = below(&mut self.random, 5) == 0;
        let op = match below(&mut self.random, 12) {
            0..4 => IoOp::Read,
            4..9 => IoOp::Write { fua },
            9 => IoOp::WriteZeroes { deallocate: fua, fua: false },
            10 => IoOp::Flush,
            _ => IoOp::Verify,
        };
        self.submit(op, lba, blocks);
    }

    fn submit(&mut self, op: IoOp, lba: u64, blocks: u64) {
        let (lba, blocks) = if op == IoOp::Flush { (0, 0) } else { (lba, blocks) };
        self.tag += 1;
        self.sequence += 1;
        let bytes = blocks as usize * self.block_bytes;
        let mut value = 0;
        let sgl = match op {
            IoOp::Read => {
                let Some(mut sgl) = self.pool.alloc(bytes) else { return };
                sgl.fill(0, bytes, 0xee);
                sgl
            }
            IoOp::Write { .. } => {
                self.value += 1;
                value = self.value;
                let Some(mut sgl) = self.pool.alloc(bytes) else { return };
                for block in 0..blocks {
                    model::fill(
                        &mut sgl,
                        block as usize * self.block_bytes,
                        self.block_bytes,
                        value,
                        lba + block,
                    );
                }
                sgl
            }
            _ => Sgl::empty(),
        };
        if matches!(op, IoOp::Write { .. } | IoOp::WriteZeroes { .. }) {
            self.model.begin_write(lba, blocks, value);
        }
        let (tag, submitted) = (self.tag, self.sequence);
        self.open.push(Open { tag, op, lba, blocks, value, submitted });
        let queue = self.queue.as_mut().expect("looked at by the caller");
        queue.submit(self.now, Request { tag, namespace: 0, op, lba, blocks, sgl });
        self.report.ios += 1;
    }

    fn take_done(&mut self) -> Result<(), String> {
        for done in std::mem::take(&mut self.done) {
            self.sequence += 1;
            let position = self.open.iter().position(|open| open.tag == done.tag);
            let position = position.ok_or_else(|| format!("tag {} was answered twice", done.tag))?;
            let open = self.open.swap_remove(position);
            self.report.good += u64::from(done.outcome == Outcome::Success);
            let is_good = done.outcome == Outcome::Success;
            match open.op {
                IoOp::Read if is_good => {
                    self.model.check_read(open.lba, &done.sgl, self.block_bytes)?;
                }
                IoOp::Write { fua } | IoOp::WriteZeroes { fua, .. } => {
                    let durable = fua && is_good && matches!(open.op, IoOp::Write { .. });
                    self.model.end_write(open.lba, open.blocks, open.value, is_good, self.sequence, durable);
                }
                IoOp::Flush if is_good => self.model.flushed(open.submitted),
                _ => {}
            }
        }
        Ok(())
    }

    /// Without faults everything works again, or the controller has said that it is over.
    fn finish(&mut self) -> Result<(), String> {
        self.emulated.clear_faults();
        self.run_until("settled", |this| {
            this.controller.ended().is_some()
                || this.queue.as_ref().is_some_and(|queue| queue.readiness(0) != Readiness::Later)
        })?;
        for lba in (0..BLOCKS).step_by(8) {
            self.io(IoOp::Read, lba, 8)?;
        }
        let good = self.report.good;
        let flushed = self.io(IoOp::Flush, 0, 0)?;
        let is_served = self.controller.namespaces().next().is_some();
        if flushed && is_served && self.report.good == good {
            return Err("a flush without faults failed".into());
        }
        self.check_end()
    }

    /// One I/O to its end; false when the namespace is gone.
    fn io(&mut self, op: IoOp, lba: u64, blocks: u64) -> Result<bool, String> {
        let readiness = |this: &Self| this.queue.as_ref().map_or(Readiness::Gone, |queue| queue.readiness(0));
        self.run_until("room", |this| readiness(this) != Readiness::Later)?;
        if readiness(self) == Readiness::Gone {
            return Ok(false);
        }
        self.submit(op, lba, blocks);
        self.run_until("answered", |this| this.open.is_empty())?;
        Ok(true)
    }

    fn check_end(&mut self) -> Result<(), String> {
        if self.controller.ended().is_some() {
            self.report.ended = 1;
            self.emulated.insert();
            self.emulated.power_on();
            self.model.check_media(&self.emulated, self.block_bytes)?;
        }
        let stats = self.queue.as_ref().ok_or("no queue")?.stats();
        self.report.spurious = stats.stale.get() + stats.duplicate.get() + stats.unknown.get();
        let controller = self.controller.stats();
        self.report.resets = controller.resets.get();
        self.report.function_resets = controller.function_resets.get();
        self.report.aborts = controller.aborts.get();
        if self.pool.in_use() != 0 {
            return Err(format!("{} buffers were kept", self.pool.in_use()));
        }
        if self.emulated.iommu_fault_count() != 0 {
            return Err(format!(
                "the device reached for what is not its: {:?}",
                self.emulated.iommu_faults()
            ));
        }
        let counters = self.emulated.counters();
        if counters.violations + counters.doorbell_errors != 0 && !self.stopped {
            return Err(format!("the driver did what the standard forbids: {counters:?}"));
        }
        Ok(())
    }
}
