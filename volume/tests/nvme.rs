//! NVMe namespaces on the emulated controller: the list of every back end, and what is special to this one.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use nvme::{Config, Controller, Namespace, QueuePair};
use nvme_emulated::{
    Action, CommandMatch, ControllerConfig, EmulatedController, EmulatedDevice, Fault, Format,
    NamespaceConfig,
};
use nvme_spec::{NvmOpcode, Status};
use reactor::buffer::{BufferPool, Sgl, SizeClass};
use reactor::poller::{Poller, Progress};
use reactor::time::{Clock, Time};
use volume::bdev::{Done, Extent, Io, IoChannel, IoStatus, Op};
use volume::conformance::{self, Subject};
use volume::geometry::Geometry;
use volume::limits::COPY_WAIT_MS;
use volume::nvme::{NvmeChannel, NvmeCore, NvmePoller};
use volume::volume::Volume;

#[derive(Clone, Default)]
struct ManualClock(Rc<Cell<u64>>);

impl Clock for ManualClock {
    fn now(&self) -> Time {
        Time::from_ns(self.0.get())
    }
}

impl ManualClock {
    fn advance(&self, by: Duration) -> Time {
        self.0.set(self.0.get() + by.as_nanos() as u64);
        self.now()
    }
}

/// A controller that is ready, with a channel over its first namespace.
struct Machine {
    emulated: EmulatedController,
    controller: Controller<EmulatedDevice>,
    core: NvmeCore<EmulatedDevice>,
    clock: ManualClock,
    buffers: BufferPool,
}

impl Machine {
    fn new(device: ControllerConfig, config: Config, buffers: &BufferPool) -> Self {
        let emulated = EmulatedController::new(device).expect("a possible controller");
        let clock = ManualClock::default();
        let mut controller = Controller::new(emulated.device(), config, None).expect("memory");
        controller.start(clock.now());
        for _ in 0..10_000 {
            let now = clock.advance(Duration::from_micros(100));
            emulated.step(now, 64);
            controller.poll(now);
        }
        assert!(controller.is_ready(), "{controller:?}");
        let ticket = controller.claim_queue().expect("one is free");
        let queue = QueuePair::new(emulated.device(), ticket, buffers).expect("memory");
        let core = NvmeCore::new(queue, Rc::new(clock.clone()), buffers);
        Self { emulated, controller, core, clock, buffers: buffers.clone() }
    }

    fn namespace(&self) -> std::sync::Arc<Namespace> {
        self.controller.namespace(1).expect("served").clone()
    }

    fn turn(&mut self) {
        let now = self.clock.advance(Duration::from_micros(50));
        self.emulated.step(now, 64);
        self.controller.poll(now);
    }

    fn io(&mut self, channel: &mut NvmeChannel<EmulatedDevice>, op: Op, sgl: Sgl) -> Done {
        let mut done: Vec<Done> = channel.submit(Io { tag: 1, op, sgl }).into_iter().collect();
        for _ in 0..1_000_000 {
            if let Some(done) = done.pop() {
                assert_eq!(channel.in_flight(), 0);
                return done;
            }
            self.turn();
            channel.poll(&mut done, 32);
        }
        panic!("{op:?} was never answered");
    }
}

fn pool() -> BufferPool {
    BufferPool::heap(&SizeClass::for_budget(8 << 20))
}

fn device(format: Format, geometry: Geometry) -> ControllerConfig {
    let namespaces = vec![NamespaceConfig::new(1, geometry.length_blocks, format)];
    ControllerConfig { namespaces, ..ControllerConfig::default() }
}

/// The list, on a device like this.
fn conforms(change: impl Fn(&mut ControllerConfig), config: Config, with_poller: bool) {
    conformance::run_on_pool(|geometry, buffers| {
        let format = if geometry.logical_block_bytes == 512 { Format::Block512 } else { Format::Block4096 };
        let mut device = device(format, geometry);
        change(&mut device);
        let mut machine = Machine::new(device, config, buffers);
        let channel =
            NvmeChannel::with_geometry(&machine.core, machine.namespace(), geometry).expect("it fits");
        let volume = Volume::new(Box::new(channel), buffers).expect("a fresh pool has the reserve");
        let mut poller = with_poller.then(|| NvmePoller::new(machine.core.clone()));
        let turn = move || {
            machine.turn();
            if let Some(poller) = &mut poller {
                poller.poll(machine.clock.now(), 32);
            }
        };
        Subject { channel: Box::new(volume), turn: Box::new(turn) }
    });
}

#[test]
fn everything_offered() {
    conforms(|_| {}, Config::default(), false);
}

#[test]
fn with_the_poller_of_a_core() {
    conforms(|_| {}, Config::default(), true);
}

#[test]
fn prp_only_with_tiny_transfers() {
    conforms(|device| (device.sgl, device.mdts) = (false, 1), Config::default(), false);
}

#[test]
fn a_small_queue() {
    conforms(|_| {}, Config { io_queue_entries: 4, ..Config::default() }, true);
}

#[test]
fn without_a_volatile_cache() {
    conforms(|device| device.volatile_write_cache = false, Config::default(), false);
}

#[test]
fn without_write_zeroes() {
    conforms(|device| device.write_zeroes = false, Config::default(), false);
}

fn geometry(format: Format) -> Geometry {
    Geometry::new(uuid::Uuid::from_u128(7), if format == Format::Block512 { 512 } else { 4096 }, 4 << 20)
        .expect("a possible device")
}

fn machine(change: impl Fn(&mut ControllerConfig)) -> Machine {
    let mut device = device(Format::Block512, geometry(Format::Block512));
    change(&mut device);
    Machine::new(device, Config::default(), &pool())
}

fn list(machine: &Machine, bytes: &[u8]) -> Sgl {
    let mut sgl = machine.buffers.alloc(bytes.len()).expect("room");
    sgl.copy_in(0, bytes);
    sgl
}

const EXTENT: Extent = Extent { lba: 8, length_blocks: 16 };

#[test]
fn it_describes_itself_truthfully() {
    let with_cache = machine(|_| {});
    let channel = NvmeChannel::new(&with_cache.core, with_cache.namespace());
    let info = channel.info();
    assert!(info.volatile_write_cache && info.thin && !info.uuid.is_nil());
    assert_eq!((info.logical_block_bytes, info.length_blocks), (512, 8192));
    assert_eq!(info.atomic_write_blocks, 1);
    let again = machine(|_| {});
    assert_eq!(NvmeChannel::new(&again.core, again.namespace()).info().uuid, info.uuid, "the same for ever");
    let plain = machine(|device| {
        (device.volatile_write_cache, device.write_zeroes, device.dataset_management) = (false, false, false);
        (device.atomic_blocks, device.atomic_power_fail_blocks) = (16, 8);
    });
    let info = NvmeChannel::new(&plain.core, plain.namespace()).info();
    assert!(!info.volatile_write_cache && !info.thin);
    assert_eq!(info.atomic_write_blocks, 8);
    let wrong = Geometry::new(uuid::Uuid::nil(), 4096, 1 << 20).expect("a possible device");
    assert!(NvmeChannel::with_geometry(&plain.core, plain.namespace(), wrong).is_none());
}

#[test]
fn each_failure_has_its_status() {
    let mut machine = machine(|_| {});
    let mut channel = NvmeChannel::new(&machine.core, machine.namespace());
    let read = Op::Read(EXTENT);
    let write = Op::Write { extent: EXTENT, fua: false };
    let bytes = vec![7; 16 * 512];
    let fill = list(&machine, &bytes);
    assert_eq!(machine.io(&mut channel, write, fill).status, IoStatus::Good);
    assert_eq!(machine.io(&mut channel, Op::Flush, Sgl::empty()).status, IoStatus::Good);
    machine.emulated.spoil_reads(1, 13..14).expect("it is there");
    let sgl = list(&machine, &bytes);
    let done = machine.io(&mut channel, read, sgl);
    assert_eq!((done.status, done.sgl.len()), (IoStatus::ReadError { lba: 13 }, 16 * 512));
    drop(done);
    for (status, expected) in [
        (Status::WRITE_FAULT, IoStatus::WriteError { lba: 8 }),
        (Status::CAPACITY_EXCEEDED, IoStatus::NoSpace),
        (Status::NAMESPACE_WRITE_PROTECTED, IoStatus::WriteError { lba: 8 }),
        (Status::INTERNAL_ERROR, IoStatus::WriteError { lba: 8 }),
    ] {
        let fault = Fault::once(CommandMatch::nvm(NvmOpcode::WRITE), Action::Fail(status));
        machine.emulated.inject(fault).expect("room");
        let sgl = list(&machine, &bytes);
        assert_eq!(machine.io(&mut channel, write, sgl).status, expected);
    }
    machine.emulated.remove();
    let sgl = list(&machine, &bytes);
    assert_eq!(machine.io(&mut channel, write, sgl).status, IoStatus::Gone);
    let sgl = list(&machine, &bytes);
    assert_eq!(machine.io(&mut channel, read, sgl).status, IoStatus::Gone);
    assert_eq!(machine.io(&mut channel, Op::Flush, Sgl::empty()).status, IoStatus::Gone);
    assert_eq!(machine.buffers.in_use(), 0);
}

#[test]
fn a_flush_that_failed_is_final_and_reads_go_on() {
    let mut machine = machine(|_| {});
    let mut channel = NvmeChannel::new(&machine.core, machine.namespace());
    let fault = Fault::once(CommandMatch::nvm(NvmOpcode::FLUSH), Action::Fail(Status::INTERNAL_ERROR));
    machine.emulated.inject(fault).expect("room");
    assert!(matches!(machine.io(&mut channel, Op::Flush, Sgl::empty()).status, IoStatus::WriteError { .. }));
    assert!(channel.has_failed());
    assert_eq!(machine.io(&mut channel, Op::Flush, Sgl::empty()).status, IoStatus::Gone);
    let sgl = list(&machine, &[1; 16 * 512]);
    assert_eq!(machine.io(&mut channel, Op::Write { extent: EXTENT, fua: true }, sgl).status, IoStatus::Gone);
    let sgl = list(&machine, &[1; 16 * 512]);
    assert_eq!(machine.io(&mut channel, Op::Read(EXTENT), sgl).status, IoStatus::Good);
}

#[test]
fn a_list_that_the_controller_cannot_be_given_is_copied() {
    let mut machine = machine(|device| device.sgl = false);
    let mut channel = NvmeChannel::new(&machine.core, machine.namespace());
    let ragged = |machine: &Machine, byte: u8| {
        let mut sgl = list(machine, &vec![byte; 512]);
        sgl.append(list(machine, &vec![byte + 1; 15 * 512]));
        sgl
    };
    let sgl = ragged(&machine, 1);
    let expected = sgl.to_vec();
    let done = machine.io(&mut channel, Op::Write { extent: EXTENT, fua: false }, sgl);
    assert_eq!((done.status, done.sgl.segment_count()), (IoStatus::Good, 2));
    drop(done);
    assert_eq!(machine.emulated.peek(1, 8, 16), expected);
    let sgl = ragged(&machine, 9);
    let done = machine.io(&mut channel, Op::Read(EXTENT), sgl);
    assert_eq!((done.status, done.sgl.segment_count(), done.sgl.to_vec()), (IoStatus::Good, 2, expected));
    drop(done);
    assert_eq!(machine.buffers.in_use(), 0);
}

/// Buffers that never come back: I/O that needs a copy is turned away after a while, and I/O behind it goes on.
#[test]
fn a_copy_is_not_waited_for_without_end() {
    let mut machine = machine(|device| device.sgl = false);
    let mut channel = NvmeChannel::new(&machine.core, machine.namespace());
    let first = list(&machine, &[0; 16 * 512]);
    assert_eq!(machine.io(&mut channel, Op::Read(EXTENT), first).status, IoStatus::Good);
    let mut poller = NvmePoller::new(machine.core.clone());
    let mut ragged: Vec<Sgl> = (0..3).map(|_| list(&machine, &[1; 512])).collect();
    ragged.iter_mut().for_each(|sgl| sgl.append(list(&machine, &[2; 15 * 512])));
    let plain = list(&machine, &[3; 16 * 512]);
    let mut held = Vec::new();
    while let Some(sgl) = machine.buffers.alloc(1) {
        held.push(sgl);
    }
    let write = |lba| Op::Write { extent: Extent { lba, length_blocks: 16 }, fua: false };
    for (tag, sgl) in ragged.drain(..).enumerate() {
        assert!(channel.submit(Io { tag: tag as u64, op: write(16 * tag as u64), sgl }).is_none());
    }
    assert!(channel.submit(Io { tag: 9, op: write(160), sgl: plain }).is_none());
    let begun = machine.clock.now();
    let (mut done, mut first_at) = (Vec::new(), None);
    while done.len() < 4 {
        let now = machine.clock.advance(Duration::from_millis(1));
        assert!(now.since(begun) < Duration::from_secs(5), "{done:?}");
        machine.emulated.step(now, 64);
        machine.controller.poll(now);
        channel.poll(&mut done, 32);
        let progress = poller.poll(now, 32);
        if done.is_empty() {
            let is_awake = progress == Progress::Busy || poller.deadline() < Time::NEVER;
            assert!(is_awake, "a core that sleeps is woken for it");
        } else {
            first_at.get_or_insert(now);
        }
    }
    let waited = first_at.expect("answered").since(begun).as_millis() as u64;
    assert!((COPY_WAIT_MS..COPY_WAIT_MS + 10).contains(&waited), "{waited}");
    let ends: Vec<_> = done.iter().map(|done| (done.tag, done.status)).collect();
    let aborted = |tag| (tag, IoStatus::Aborted);
    assert_eq!(ends, [aborted(0), aborted(1), aborted(2), (9, IoStatus::Good)]);
    assert_eq!(machine.emulated.peek(1, 0, 48), vec![0; 48 * 512], "before it had any effect");
    // And as soon as there are buffers again, copies are made again.
    let sgl = done.swap_remove(0).sgl;
    held.clear();
    drop(done);
    drop(poller);
    let expected = sgl.to_vec();
    assert_eq!(machine.io(&mut channel, write(0), sgl).status, IoStatus::Good);
    assert_eq!(machine.emulated.peek(1, 0, 16), expected);
    assert_eq!(machine.buffers.in_use(), 0);
}

#[test]
fn a_namespace_that_grows_is_grown_when_its_owner_says_so() {
    let mut machine = machine(|_| {});
    let mut channel = NvmeChannel::new(&machine.core, machine.namespace());
    assert!(!channel.grow(10_000), "it is not that long");
    machine.emulated.resize_namespace(1, 10_000).expect("it is there");
    for _ in 0..10_000 {
        machine.turn();
    }
    assert!(channel.grow(10_000) && channel.info().length_blocks == 10_000 && !channel.grow(9_000));
    let extent = Extent { lba: 9_984, length_blocks: 16 };
    let sgl = list(&machine, &[3; 16 * 512]);
    assert_eq!(machine.io(&mut channel, Op::Write { extent, fua: true }, sgl).status, IoStatus::Good);
}

/// Two namespaces and many I/Os in one turn: one doorbell.
#[test]
fn the_poller_rings_once_for_all_channels_of_a_turn() {
    let mut machine =
        machine(|device| device.namespaces.push(NamespaceConfig::new(2, 100, Format::Block512)));
    let mut poller = NvmePoller::new(machine.core.clone());
    let second = machine.controller.namespace(2).expect("served").clone();
    let mut channels =
        [NvmeChannel::new(&machine.core, machine.namespace()), NvmeChannel::new(&machine.core, second)];
    for _ in 0..100 {
        machine.turn();
        poller.poll(machine.clock.now(), 32);
    }
    assert!(machine.core.is_live() && poller.may_sleep());
    let extent = Extent { lba: 0, length_blocks: 1 };
    for tag in 0..20 {
        for channel in &mut channels {
            let sgl = list(&machine, &[0; 512]);
            assert!(channel.submit(Io { tag, op: Op::Read(extent), sgl }).is_none());
        }
    }
    poller.poll(machine.clock.now(), 32);
    assert!(!poller.may_sleep() && poller.deadline() < Time::NEVER, "a device without interrupts is polled");
    let mut done = Vec::new();
    for _ in 0..20 {
        machine.turn();
        poller.poll(machine.clock.now(), 64);
        channels.iter_mut().for_each(|channel| channel.poll(&mut done, 64));
    }
    assert_eq!(done.len(), 40);
    assert!(done.iter().all(|done| done.status == IoStatus::Good));
    let stats = machine.core.stats();
    assert_eq!((stats.submitted.get(), stats.submission_doorbells.get()), (40, 1));
}

/// Completions wake a sleeping core: the event is raised by them, and everything else that a core asks before it sleeps.
#[test]
fn a_core_may_sleep_while_a_device_with_interrupts_works() {
    let mut machine = machine(|device| device.interrupt_vectors = 4);
    let mut poller = NvmePoller::new(machine.core.clone());
    let mut channel = NvmeChannel::new(&machine.core, machine.namespace());
    for _ in 0..100 {
        machine.turn();
        poller.poll(machine.clock.now(), 32);
    }
    let mut events = Vec::new();
    poller.wake_events(&mut events);
    let [event] = events[..] else { panic!("one event, not {events:?}") };
    let raised = || {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{event}")).expect("the kernel tells");
        let count = info.lines().find_map(|line| line.strip_prefix("eventfd-count:")).expect("an eventfd");
        u64::from_str_radix(count.trim(), 16).expect("a number")
    };
    assert_eq!(raised(), 0);
    let sgl = list(&machine, &[0; 16 * 512]);
    assert!(channel.submit(Io { tag: 1, op: Op::Read(EXTENT), sgl }).is_none());
    poller.before_sleep();
    poller.poll(machine.clock.now(), 32);
    assert!(poller.may_sleep(), "the interrupt announces what is in flight");
    assert!(poller.deadline() < Time::NEVER, "but not a command that is late");
    machine.turn();
    assert!(raised() > 0, "the completion raised it");
    poller.after_sleep();
    let mut done = Vec::new();
    poller.poll(machine.clock.now(), 32);
    assert!(!poller.may_sleep(), "an answer lies here that its channel has not taken");
    channel.poll(&mut done, 32);
    assert_eq!(done.len(), 1);
}

/// A device may drop what a failed flush was to keep, and NVMe flushes whole namespaces: none that ends later says that all is well.
#[test]
fn a_flush_that_failed_fails_the_others_on_every_channel() {
    let mut machine = machine(|_| {});
    let mut channel = NvmeChannel::new(&machine.core, machine.namespace());
    let mut other = NvmeChannel::new(&machine.core, machine.namespace());
    let fault = Fault::once(CommandMatch::nvm(NvmOpcode::FLUSH), Action::Fail(Status::INTERNAL_ERROR));
    machine.emulated.inject(fault).expect("room");
    let sgl = list(&machine, &[1; 16 * 512]);
    assert_eq!(machine.io(&mut other, Op::Write { extent: EXTENT, fua: false }, sgl).status, IoStatus::Good);
    assert!(channel.submit(Io { tag: 901, op: Op::Flush, sgl: Sgl::empty() }).is_none());
    let second = machine.io(&mut channel, Op::Flush, Sgl::empty());
    assert_ne!(second.status, IoStatus::Good, "in flight together with the one that failed");
    assert_ne!(machine.io(&mut other, Op::Flush, Sgl::empty()).status, IoStatus::Good, "on another channel");
    let mut fresh = NvmeChannel::new(&machine.core, machine.namespace());
    assert_ne!(
        machine.io(&mut fresh, Op::Flush, Sgl::empty()).status,
        IoStatus::Good,
        "on a channel made later"
    );
}

#[test]
fn channels_that_come_and_go_leave_room_for_others() {
    let buffers = pool();
    let geometry = Geometry::new(uuid::Uuid::from_u128(1), 512, 4 << 20).expect("a valid geometry");
    let mut machine = Machine::new(device(Format::Block512, geometry), Config::default(), &buffers);
    let mut kept = NvmeChannel::new(&machine.core, machine.namespace());
    machine.io(&mut kept, Op::Flush, Sgl::empty());
    let room = machine.core.channels_left();
    for round in 0..2000_u64 {
        let mut channel = NvmeChannel::new(&machine.core, machine.namespace());
        // Every third goes while the device has its I/O.
        if round.is_multiple_of(3) {
            let sgl = buffers.alloc(4096).expect("what came home is free");
            let extent = Extent { lba: round, length_blocks: 8 };
            assert!(channel.submit(Io { tag: round, op: Op::Write { extent, fua: false }, sgl }).is_none());
            drop(channel);
            assert_eq!(machine.core.channels_left(), room - 1, "its number is not given to another yet");
            let mut other = NvmeChannel::new(&machine.core, machine.namespace());
            let done = machine.io(&mut other, Op::Flush, Sgl::empty());
            assert_eq!(done.status, IoStatus::Good, "round {round}");
        } else {
            assert_eq!(machine.core.channels_left(), room - 1, "round {round}");
            drop(channel);
        }
        assert_eq!(machine.core.channels_left(), room, "round {round}");
    }
    assert_eq!(kept.in_flight(), 0);
}

#[test]
fn what_no_flush_has_covered_is_known() {
    let buffers = pool();
    let geometry = Geometry::new(uuid::Uuid::from_u128(1), 512, 4 << 20).expect("a valid geometry");
    let mut machine = Machine::new(device(Format::Block512, geometry), Config::default(), &buffers);
    let mut channel = NvmeChannel::new(&machine.core, machine.namespace());
    let extent = Extent { lba: 8, length_blocks: 8 };
    let data = || buffers.alloc(4096).expect("a page");
    assert!(!channel.has_unflushed(), "nothing was written");
    machine.io(&mut channel, Op::Read(extent), data());
    machine.io(&mut channel, Op::Write { extent, fua: true }, data());
    assert!(!channel.has_unflushed(), "it is on the medium");
    for op in [Op::Write { extent, fua: false }, Op::Unmap(extent)] {
        let sgl = if matches!(op, Op::Write { .. }) { data() } else { Sgl::empty() };
        machine.io(&mut channel, op, sgl);
        assert!(channel.has_unflushed(), "{op:?}");
        machine.io(&mut channel, Op::Flush, Sgl::empty());
        assert!(!channel.has_unflushed(), "{op:?}, flushed");
    }
    // A flush beside a write covers it or not; nobody can say.
    let write = Io { tag: 7, op: Op::Write { extent, fua: false }, sgl: data() };
    assert!(channel.submit(write).is_none());
    assert!(channel.submit(Io { tag: 8, op: Op::Flush, sgl: Sgl::empty() }).is_none());
    let mut done = Vec::new();
    while done.len() < 2 {
        machine.turn();
        channel.poll(&mut done, 32);
    }
    assert!(channel.has_unflushed());
}
