//! A controller and a queue pair over the device without media.

use reactor::buffer::SizeClass;

use super::*;
use crate::config::Config;
use crate::controller::Controller;
use crate::error::Outcome;
use crate::testing::NullDevice;

struct Rig {
    device: NullDevice,
    controller: Controller<NullDevice>,
    queue: QueuePair<NullDevice>,
    pool: BufferPool,
    now: Time,
    out: Vec<IoDone>,
}

fn rig(entries: u16) -> Rig {
    let device = NullDevice::new(9);
    let config = Config { io_queue_entries: entries, ..Config::default() };
    let mut controller = Controller::new(device.clone(), config, None).expect("memory");
    let mut now = Time::ZERO;
    controller.start(now);
    for _ in 0..1000 {
        now = now.after(Duration::from_millis(1));
        controller.poll(now);
    }
    assert!(controller.is_ready(), "{controller:?}");
    let pool =
        BufferPool::heap(&[SizeClass { bytes: 8192, count: 64 }, SizeClass { bytes: 1 << 20, count: 3 }]);
    let mut queue = QueuePair::new(device.clone(), controller.claim_queue().expect("one is free"), &pool)
        .expect("memory");
    let namespace = controller.namespace(1).expect("it has one").clone();
    assert_eq!(queue.attach(namespace), 0);
    assert_eq!(queue.readiness(0), Readiness::Later);
    let mut out = Vec::new();
    for _ in 0..10 {
        controller.poll(now);
        queue.poll(now, 32, &mut out);
    }
    assert_eq!(queue.readiness(0), Readiness::Ready);
    Rig { device, controller, queue, pool, now, out }
}

impl Rig {
    fn read(&mut self, tag: u64, lba: u64, blocks: u64) {
        let sgl = self.pool.alloc((blocks * 512) as usize).expect("room");
        self.queue.submit(self.now, Request { tag, namespace: 0, op: IoOp::Read, lba, blocks, sgl });
    }

    fn turn(&mut self) {
        self.controller.poll(self.now);
        self.queue.poll(self.now, 1000, &mut self.out);
        self.queue.ring();
        self.device.step();
    }
}

#[test]
fn commands_of_a_turn_are_told_by_one_doorbell() {
    let mut rig = rig(64);
    for round in 0..10 {
        let before = rig.device.doorbells();
        for tag in 0..32 {
            rig.read(tag, tag * 8, 8);
        }
        assert_eq!(rig.device.doorbells(), before);
        rig.queue.ring();
        rig.device.step();
        rig.queue.poll(rig.now, 1000, &mut rig.out);
        rig.queue.ring();
        assert_eq!(rig.device.doorbells(), before + 2, "one for the commands, one for their completions");
        let tags: Vec<u64> = rig.out.drain(..).map(|done| done.tag).collect();
        assert_eq!(tags, (0..32).collect::<Vec<_>>(), "round {round}");
        assert_eq!((rig.pool.in_use(), rig.queue.in_flight(), rig.queue.open_requests()), (0, 0, 0));
    }
    let stats = rig.queue.stats();
    assert_eq!(
        (stats.submitted.get(), stats.completed.get(), stats.submission_doorbells.get()),
        (320, 320, 10)
    );
}

#[test]
fn each_command_is_counted_with_its_own_latency() {
    let mut rig = rig(64);
    let begun = rig.now;
    // Two turns of commands, and a flush between them, that all end in one.
    for tag in 0..3 {
        rig.read(tag, 0, 8);
    }
    rig.now = begun.after(Duration::from_micros(300));
    let flush = Request { tag: 3, namespace: 0, op: IoOp::Flush, lba: 0, blocks: 0, sgl: Sgl::empty() };
    rig.queue.submit(rig.now, flush);
    rig.now = begun.after(Duration::from_micros(500));
    for tag in 4..9 {
        rig.read(tag, 0, 8);
    }
    rig.queue.ring();
    rig.device.step();
    rig.now = begun.after(Duration::from_micros(1000));
    rig.queue.poll(rig.now, 1000, &mut rig.out);
    let ends: Vec<_> = rig.out.iter().map(|done| (done.tag, done.outcome, done.sgl.len())).collect();
    let expected = |tag| (tag, Outcome::Success, if tag == 3 { 0 } else { 4096 });
    assert_eq!(ends, (0..9).map(expected).collect::<Vec<_>>());
    let stats = rig.queue.stats();
    let latency = stats.latency.snapshot();
    assert_eq!((stats.submitted.get(), stats.completed.get(), latency.count()), (9, 9, 9));
    assert_eq!(latency.sum_ns(), 3 * 1_000_000 + 700_000 + 5 * 500_000);
    let at_most = [499_000, 520_000, 720_000, 1_100_000].map(|bound| latency.count_at_most(bound));
    assert_eq!(at_most, [0, 5, 6, 9]);
}

#[test]
fn every_depth_wraps_without_a_loss() {
    for entries in [2, 3, 4, 5, 16, 33, 256, 1024] {
        let mut rig = rig(entries);
        let depth = u64::from(entries - 1).min(60);
        let (mut tag, mut tags) = (0, Vec::new());
        for _ in 0..(3 * u64::from(entries)).div_ceil(depth).max(20) {
            for _ in 0..depth {
                assert_eq!(rig.queue.readiness(0), Readiness::Ready);
                rig.read(tag, tag % 1000, 1);
                tag += 1;
            }
            if depth == u64::from(entries - 1) {
                assert_eq!(rig.queue.readiness(0), Readiness::Later, "it is full");
            }
            rig.turn();
            rig.turn();
            tags.extend(rig.out.drain(..).map(|done| done.tag));
        }
        rig.turn();
        tags.extend(rig.out.drain(..).map(|done| done.tag));
        tags.sort_unstable();
        assert_eq!(tags, (0..tag).collect::<Vec<_>>());
        assert!(rig.queue.stats().duplicate.get() + rig.queue.stats().unknown.get() == 0);
    }
}

#[test]
fn a_long_read_is_one_answer_with_its_one_list() {
    let mut rig = rig(4);
    rig.read(7, 3, 5000);
    for _ in 0..20 {
        rig.turn();
    }
    let done = rig.out.pop().expect("answered");
    assert_eq!((done.tag, done.outcome, done.sgl.len()), (7, Outcome::Success, 5000 * 512));
    assert_eq!(rig.queue.stats().submitted.get(), 3, "a mebibyte each");
    assert!(rig.out.is_empty());
}

#[test]
fn what_is_in_flight_goes_out_again_once_after_a_reset() {
    let mut rig = rig(16);
    rig.read(1, 0, 8);
    rig.queue.ring();
    rig.controller.reset(rig.now);
    // The device does nothing more before it is disabled.
    for _ in 0..100 {
        rig.now = rig.now.after(Duration::from_millis(1));
        rig.controller.poll(rig.now);
        rig.queue.poll(rig.now, 1000, &mut rig.out);
        rig.queue.ring();
    }
    assert!(rig.queue.is_live() && rig.out.is_empty());
    rig.turn();
    rig.turn();
    let done = rig.out.pop().expect("answered");
    assert_eq!((done.tag, done.outcome), (1, Outcome::Success));
    assert_eq!((rig.queue.stats().retries.get(), rig.queue.stats().unanswered.get()), (1, 1));
    assert_eq!(rig.controller.stats().resets.get(), 1);
}
