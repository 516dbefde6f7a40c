//! From a function in its slot to a controller that takes I/O, and back.

mod rig;

use std::time::Duration;

use nvme::device::Device;
use nvme::error::{Change, ClaimError};
use nvme::{
    Config, ControllerEvent, End, Fault, IoOp, Outcome, QueuePair, Readiness, Refusal, ResetCause, Unsuitable,
};
use nvme_emulated::{Action, AfterReset, CommandMatch, ControllerConfig, Format, Health, NamespaceConfig};
use nvme_spec::ae::AsynchronousEvent;
use nvme_spec::feature::FeatureId;
use nvme_spec::log::CRITICAL_WARNING_TEMPERATURE;
use nvme_spec::{AdminOpcode, Status};
use reactor::time::Time;
use rig::{BLOCKS, Rig, device_config, quick, slow};

#[test]
fn a_controller_comes_up_and_says_who_it_is() {
    let device = ControllerConfig { delays: slow(30), ..device_config(Format::Block4096) };
    let mut rig = Rig::cold(device, Config::default());
    assert_eq!(rig.controller.claim_queue().err(), Some(ClaimError::NotReady));
    rig.start();
    let info = rig.controller.info().expect("identified").clone();
    assert_eq!(info.identity.serial, "VEGA0000000000000001");
    assert!(info.volatile_write_cache && info.write_zeroes && info.sgl);
    let namespace = rig.controller.namespace(1).expect("it has one");
    let own = namespace.info();
    assert_eq!((own.block_bytes, namespace.length_blocks()), (4096, BLOCKS));
    assert_eq!(own.atomic_write_blocks, 1, "AWUPF of this device");
    let pages = rig.controller.pages();
    assert!(pages.controller.is_some() && pages.smart.is_some() && pages.firmware.is_some());
    assert!(rig.controller.stats().temperature_kelvins.get() > 273);
    assert_eq!(rig.controller.queues(), 1);
    rig.open_queue();
    assert_eq!(rig.controller.claim_queue().err(), Some(ClaimError::NoneLeft { queues: 1 }));
    assert_eq!(rig.events, [ControllerEvent::NamespaceAdded { nsid: 1 }, ControllerEvent::Ready]);
    rig.assert_clean();
}

#[test]
fn a_controller_that_somebody_left_enabled_is_disabled_first() {
    let mut rig = Rig::new(device_config(Format::Block512), quick());
    rig.queue = None;
    let emulated = rig.emulated.clone();
    // Without a word, as a process that was killed.
    std::mem::forget(rig);
    let mut again = Rig::over(emulated, quick());
    again.now = Time::from_ns(10_000_000_000);
    again.start();
    again.open_queue();
    assert_eq!(again.flush(), Outcome::Success);
}

#[test]
fn namespaces_are_served_or_refused_by_reason() {
    let namespaces = vec![
        NamespaceConfig::new(1, 1000, Format::Block512),
        NamespaceConfig::new(2, 100, Format::Block4096Metadata64),
        NamespaceConfig::new(3, 200, Format::Block4096),
        NamespaceConfig::new(5, 200, Format::Block512Metadata8),
        NamespaceConfig { attached: false, ..NamespaceConfig::new(7, 10, Format::Block512) },
    ];
    let mut rig = Rig::cold(ControllerConfig { namespaces, ..ControllerConfig::default() }, quick());
    rig.start();
    let served: Vec<_> = rig
        .controller
        .namespaces()
        .map(|namespace| (namespace.info().nsid, namespace.info().block_bytes))
        .collect();
    assert_eq!(served, [(1, 512), (3, 4096)]);
    let refused: Vec<_> = rig.controller.refused().collect();
    assert_eq!(refused, [(2, Refusal::Metadata { bytes: 64 }), (5, Refusal::Metadata { bytes: 8 })]);
    let ids: Vec<_> = rig.controller.namespaces().map(|namespace| namespace.info().ids).collect();
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_namespace_that_grows_comes_or_goes_is_noticed() {
    let mut rig = Rig::new(device_config(Format::Block512), quick());
    let namespace = rig.controller.namespace(1).expect("served").clone();
    rig.events.clear();
    rig.emulated.resize_namespace(1, 2 * BLOCKS).expect("it is there");
    rig.run_until("grown", |_| namespace.length_blocks() == 2 * BLOCKS);
    assert!(rig.events.contains(&ControllerEvent::NamespaceGrown { nsid: 1, length_blocks: 2 * BLOCKS }));
    let data = rig.pattern(2 * BLOCKS - 8, 8, 1);
    assert_eq!(rig.write(2 * BLOCKS - 8, &data), Outcome::Success);
    rig.emulated.create_namespace(&NamespaceConfig::new(4, 50, Format::Block4096)).expect("it is new");
    rig.run_until("served", |rig| rig.controller.namespace(4).is_some());
    rig.emulated.resize_namespace(1, BLOCKS).expect("it is there");
    rig.run_until("refused", |_| !namespace.is_live());
    let refusal = Refusal::SizeChanged { expected: 2 * BLOCKS, found: BLOCKS };
    assert!(rig.controller.refused().any(|refused| refused == (1, refusal)));
    assert_eq!(rig.queue().readiness(0), Readiness::Gone);
    rig.emulated.set_attached(4, false).expect("it is there");
    rig.run_until("gone", |rig| rig.controller.namespace(4).is_none());
    assert!(rig.controller.is_ready(), "the controller itself is fine");
    rig.controller.readmit(1);
    rig.run_until("served again", |rig| rig.controller.namespace(1).is_some());
    assert!(!namespace.is_live(), "what was handed out before stays gone");
    rig.assert_clean();
}

#[test]
fn a_warm_controller_tells_and_its_health_is_read() {
    let mut rig = Rig::new(device_config(Format::Block512), quick());
    rig.events.clear();
    rig.emulated.set_health(Health { temperature_kelvins: 400, spare_percent: 5, ..Health::default() });
    rig.run_until("warned", |rig| {
        rig.events.iter().any(|event| matches!(event, ControllerEvent::CriticalWarning(_)))
    });
    let stats = rig.controller.stats();
    assert_eq!((stats.temperature_kelvins.get(), stats.available_spare.get()), (400, 5));
    assert_ne!(stats.critical_warning.get() as u8 & CRITICAL_WARNING_TEMPERATURE, 0);
    // Temperature goes up and down without an end to the events.
    for round in 0..20 {
        let temperature_kelvins = if round % 2 == 0 { 300 } else { 410 };
        rig.emulated.set_health(Health { temperature_kelvins, ..Health::default() });
        rig.run_for(Duration::from_millis(20));
    }
    assert!(stats.events.get() > 5 && rig.controller.is_ready());
    assert_eq!(rig.flush(), Outcome::Success);
    rig.assert_clean();
}

#[test]
fn a_shutdown_is_clean_when_the_controller_says_so() {
    let device = ControllerConfig { delays: slow(50), ..device_config(Format::Block512) };
    let mut rig = Rig::new(device, quick());
    let data = rig.pattern(0, 8, 3);
    assert_eq!(rig.write(0, &data), Outcome::Success);
    rig.controller.shutdown(rig.now);
    rig.run_until("over", |rig| rig.controller.ended().is_some());
    assert_eq!(rig.controller.ended(), Some(End::ShutDown { clean: true }));
    rig.turn();
    assert_eq!(rig.queue().readiness(0), Readiness::Gone);
    rig.assert_clean();
    // What was written is there after the power went and came, for a shutdown flushes.
    rig.emulated.power_off();
    rig.emulated.power_on();
    assert_eq!(rig.emulated.peek(1, 0, 8), data);
}

#[test]
fn a_shutdown_that_never_ends_is_cut_short_and_not_called_clean() {
    let mut rig = Rig::new(device_config(Format::Block512), quick());
    rig.emulated.set_delays(nvme_emulated::Delays { shutdown: Duration::MAX, ..slow(1) });
    rig.controller.shutdown(rig.now);
    rig.turn = Duration::from_millis(1);
    let took = rig.run_until("over", |rig| rig.controller.ended().is_some());
    assert_eq!(rig.controller.ended(), Some(End::ShutDown { clean: false }));
    assert!(took < Duration::from_secs(70), "{took:?}");
}

#[test]
fn a_controller_that_never_becomes_ready_is_reset_and_then_given_up() {
    let mut rig = Rig::cold(device_config(Format::Block512), quick());
    rig.emulated.set_delays(nvme_emulated::Delays { enable: Duration::MAX, ..slow(1) });
    rig.controller.start(rig.now);
    rig.turn = Duration::from_millis(1);
    rig.run_until("over", |rig| rig.controller.ended().is_some());
    let last = ResetCause::ReadyTimeout;
    assert_eq!(rig.controller.ended(), Some(End::Faulted(Fault::TooManyResets { resets: 4, last })));
    assert!(rig.controller.stats().function_resets.get() >= 1, "the ladder's last step was tried");
}

#[test]
fn a_start_up_command_that_fails_or_hangs_is_not_waited_for() {
    let hang = Action::Hang(nvme_emulated::Hang::UntilReset);
    for (opcode, action) in [
        (AdminOpcode::IDENTIFY, Action::Fail(Status::INTERNAL_ERROR)),
        (AdminOpcode::IDENTIFY, hang),
        (AdminOpcode::SET_FEATURES, hang),
        (AdminOpcode::GET_LOG_PAGE, hang),
        (AdminOpcode::CREATE_IO_SUBMISSION_QUEUE, hang),
    ] {
        let mut rig = Rig::cold(device_config(Format::Block512), quick());
        rig.turn = Duration::from_millis(1);
        rig.emulated.inject(nvme_emulated::Fault::once(CommandMatch::admin(opcode), action)).expect("room");
        rig.start();
        rig.open_queue();
        assert_eq!(rig.controller.stats().resets.get(), 1, "{opcode:?} {action:?}");
        assert_eq!(rig.flush(), Outcome::Success);
    }
}

#[test]
fn a_start_up_without_what_is_optional_goes_on() {
    for feature in [FeatureId::ASYNCHRONOUS_EVENT_CONFIGURATION, FeatureId::VOLATILE_WRITE_CACHE] {
        assert_ne!(feature, FeatureId::NUMBER_OF_QUEUES);
    }
    let mut rig = Rig::cold(device_config(Format::Block512), quick());
    for opcode in
        [AdminOpcode::GET_LOG_PAGE, AdminOpcode::GET_FEATURES, AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST]
    {
        let action = Action::Fail(Status::INVALID_FIELD);
        rig.emulated.inject(nvme_emulated::Fault::always(CommandMatch::admin(opcode), action)).expect("room");
    }
    rig.start();
    rig.open_queue();
    rig.run_for(Duration::from_millis(50));
    assert_eq!((rig.flush(), rig.controller.stats().resets.get()), (Outcome::Success, 0));
    assert!(rig.controller.info().is_some_and(|info| info.volatile_write_cache), "taken to be on");
}

#[test]
fn a_queue_that_is_refused_is_gone_and_nothing_else_is() {
    let mut rig = Rig::cold(device_config(Format::Block512), quick());
    rig.start();
    let on = CommandMatch::admin(AdminOpcode::CREATE_IO_COMPLETION_QUEUE);
    let action = Action::Fail(Status::INVALID_QUEUE_SIZE);
    rig.emulated.inject(nvme_emulated::Fault::once(on, action)).expect("room");
    let ticket = rig.controller.claim_queue().expect("one is free");
    let mut queue = QueuePair::new(rig.controller.device().clone(), ticket, &rig.pool).expect("memory");
    let number = queue.attach(rig.controller.namespace(1).expect("served").clone());
    rig.queue = Some(queue);
    rig.run_until("refused", |rig| rig.queue().readiness(number) == Readiness::Gone);
    assert!(rig.controller.is_ready());
}

#[test]
fn a_page_size_that_does_not_fit_is_named() {
    let device = ControllerConfig { page_size_min: 1, ..device_config(Format::Block512) };
    let mut rig = Rig::cold(device, quick());
    rig.controller.start(rig.now);
    let fault = Fault::Unsuitable(Unsuitable::PageSize { bytes: 8192 });
    assert_eq!(rig.controller.ended(), Some(End::Faulted(fault)));
    assert!(fault.to_string().contains("8192 bytes"));
}

#[test]
fn several_queue_pairs_work_beside_each_other() {
    let mut rig = Rig::cold(device_config(Format::Block512), Config { io_queues: 4, ..quick() });
    rig.start();
    let mut queues = Vec::new();
    for _ in 0..4 {
        let ticket = rig.controller.claim_queue().expect("four were asked for");
        let mut queue = QueuePair::new(rig.controller.device().clone(), ticket, &rig.pool).expect("memory");
        queue.attach(rig.controller.namespace(1).expect("served").clone());
        queues.push(queue);
    }
    let mut done = Vec::new();
    let mut turn = |rig: &mut Rig, queues: &mut Vec<QueuePair<_>>| {
        rig.turn();
        for queue in queues.iter_mut() {
            queue.poll(rig.now, 32, &mut done);
            queue.ring();
        }
        done.drain(..).map(|done| done.tag).collect::<Vec<u64>>()
    };
    for _ in 0..200 {
        turn(&mut rig, &mut queues);
    }
    let mut answered = Vec::new();
    for (tag, queue) in (0..).zip(&mut queues) {
        assert_eq!(queue.readiness(0), Readiness::Ready);
        let sgl = rig.alloc(8);
        queue.submit(
            rig.now,
            nvme::Request { tag, namespace: 0, op: IoOp::Read, lba: 8 * tag, blocks: 8, sgl },
        );
    }
    for round in 0..2000 {
        if round == 3 {
            rig.controller.reset(rig.now);
        }
        answered.extend(turn(&mut rig, &mut queues));
    }
    answered.sort_unstable();
    assert_eq!(answered, [0, 1, 2, 3]);
    assert!(queues.iter().all(QueuePair::is_live), "all follow the controller through a reset");
}

#[test]
fn b10_92_what_changes_at_a_reset_is_refused() {
    let after = |change: AfterReset| {
        let mut rig = Rig::new(device_config(Format::Block512), quick());
        let data = rig.pattern(0, 8, 1);
        assert_eq!(rig.write(0, &data), Outcome::Success);
        let namespace = rig.controller.namespace(1).expect("served").clone();
        rig.emulated.change_at_reset(change);
        rig.controller.reset(rig.now);
        rig.run_until("over or ready", |rig| rig.controller.is_ready() || rig.controller.ended().is_some());
        rig.turn();
        assert!(!namespace.is_live());
        assert_eq!(rig.queue().readiness(0), Readiness::Gone, "no I/O goes to what is there now");
        (rig.controller.ended(), rig.controller.refused().next())
    };
    let changed = |change| (Some(End::Faulted(Fault::Changed(change))), None);
    assert_eq!(after(AfterReset { mdts: Some(2), ..AfterReset::default() }), changed(Change::TransferSize));
    assert_eq!(after(AfterReset { serial: Some(77), ..AfterReset::default() }), changed(Change::Serial));
    let found = Refusal::SizeChanged { expected: BLOCKS, found: 2 * BLOCKS };
    let change = AfterReset { length_blocks: Some((1, 2 * BLOCKS)), ..AfterReset::default() };
    assert_eq!(after(change), (None, Some((1, found))));
    let found = Refusal::BlockSizeChanged { expected: 512, found: 4096 };
    let change = AfterReset { format: Some((1, Format::Block4096)), ..AfterReset::default() };
    assert_eq!(after(change), (None, Some((1, found))));
}

#[test]
fn events_that_nobody_asked_for_are_taken_and_let_go() {
    let mut rig = Rig::new(device_config(Format::Block512), quick());
    for event in [
        AsynchronousEvent::TELEMETRY_LOG_CHANGED,
        AsynchronousEvent::ANA_CHANGE,
        AsynchronousEvent::FIRMWARE_ACTIVATION_STARTING,
        AsynchronousEvent::ERROR_TRANSIENT_INTERNAL,
        AsynchronousEvent::SANITIZE_COMPLETED,
    ] {
        let before = rig.controller.stats().events.get();
        rig.emulated.raise_event(event);
        rig.run_for(Duration::from_millis(20));
        assert!(rig.controller.stats().events.get() >= before);
    }
    assert!(rig.controller.is_ready() && rig.controller.device().read_u32(0x1c) == 1);
    assert_eq!(rig.flush(), Outcome::Success);
}
