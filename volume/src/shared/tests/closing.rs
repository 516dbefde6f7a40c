//! How a volume ends, grows, and is refused.

use super::*;
use reactor::mesh::Mesh;
use reactor::poller::Poller;

#[test]
fn a_volume_in_use_stays_and_one_whose_port_leaves_is_waited_for() {
    let bench = Bench::new();
    let port = bench.port(0);
    let refused = bench.remove().try_recv();
    assert_eq!(refused, Ok(Err(VolumeError::InUse { name: "held".into() })));
    assert!(port.submit(flush(1)).is_none());
    assert!(port.set_in_use(false) && port.set_in_use(true) && port.set_in_use(false));
    let answer = bench.remove();
    assert!(!port.set_in_use(true), "too late");
    assert!(bench.registry.get("held").expect("still there").open_port(&bench.bell, 1).is_none());
    let again = bench.remove().try_recv();
    assert_eq!(again, Ok(Err(VolumeError::Closing { name: "held".into() })));
    bench.registry.poll();
    bench.desk.borrow_mut().release = 1;
    assert_eq!(polled(&port), [1]);
    bench.registry.poll();
    assert!(bench.desk.borrow().held.is_empty(), "no flush before the port has gone");
    drop(port);
    assert!(!bench.registry.may_sleep());
    bench.registry.poll();
    assert_eq!(bench.desk.borrow().held.len(), 1, "its own flush");
    assert!(answer.try_recv().is_err());
    bench.desk.borrow_mut().release = 1;
    bench.registry.poll();
    assert_eq!(answer.try_recv(), Ok(Ok(())));
    assert!(bench.desk.borrow().closed && bench.registry.is_empty());
}

#[test]
fn a_handle_that_outlives_its_volume_keeps_nothing_open() {
    let bench = Bench::new();
    let handle = bench.registry.get("held").expect("it is there");
    let answer = bench.remove();
    bench.desk.borrow_mut().release = 1;
    bench.registry.poll();
    bench.registry.poll();
    assert_eq!(answer.try_recv(), Ok(Ok(())));
    assert!(bench.desk.borrow().closed);
    assert!(handle.open_port(&bench.bell, 0).is_none());
    assert_eq!(handle.info().length_blocks, 2048);
    // The name is free at once.
    bench.registry.add(&bench.core, bench.setup("held")).map(drop).expect("it opens again");
}

#[test]
fn an_abandoned_io_is_waited_for_before_the_end() {
    let bench = Bench::new();
    let port = bench.port(0);
    assert!(port.submit(flush(1)).is_none());
    drop(port);
    let answer = bench.remove();
    bench.registry.poll();
    assert!(answer.try_recv().is_err());
    bench.desk.borrow_mut().release = 2;
    for _ in 0..3 {
        bench.registry.poll();
    }
    assert_eq!(answer.try_recv(), Ok(Ok(())));
}

#[test]
fn growth_is_told_once_and_shrinking_is_refused() {
    let core = reactor::sim::core(1);
    let registry = Registry::new();
    let geometry = Geometry::new(uuid::Uuid::from_u128(1), 512, 1 << 20).expect("a valid geometry");
    let setup = VolumeSetup {
        name: "m".into(),
        serial: "1".into(),
        channel: Box::new(move |_| Ok(Box::new(MemoryDevice::new(geometry)))),
        metadata: Box::new(|_| Ok(Box::<MemoryStore>::default())),
        reservations: Vec::new(),
    };
    let bell = Bell::default();
    let port = registry.add(&core, setup).expect("it opens").open_port(&bell, 3).expect("it is open");
    assert_eq!((registry.resize("m", 4096), registry.resize("m", 6144)), (Ok(()), Ok(())));
    assert_eq!((bell.take(), port.next_event(), port.next_event()), (Some(3), Some(Event::Resized), None));
    assert_eq!(port.info().length_blocks, 6144);
    let shrinks = VolumeError::Shrinks { name: "m".into(), current: 6144, asked: 2048 };
    assert_eq!(registry.resize("m", 2048), Err(shrinks));
    assert_eq!(registry.resize("x", 1), Err(VolumeError::NoSuchVolume { name: "x".into() }));
}

fn drain(core: &mut VolumeCore, control: &reactor::mesh::ControlSender<VolumeMessage>) -> mpsc::Receiver<()> {
    let (told, drained) = mpsc::channel();
    assert!(
        control
            .send(VolumeMessage::Drain(Box::new(move |()| told.send(()).expect("the test listens"))))
            .is_ok()
    );
    core.poll(reactor::time::Time::ZERO, 32);
    drained
}

#[test]
fn draining_flushes_every_volume_and_waits_only_so_long_for_ports() {
    for leaves in [true, false] {
        let bench = Bench::new();
        let endpoint = Mesh::<VolumeMessage>::new(1, 4).pop().expect("one core");
        let control = endpoint.control_sender();
        let mut core = VolumeCore::new(&bench.core, bench.registry.clone(), endpoint);
        let port = bench.port(0);
        let drained = drain(&mut core, &control);
        assert!(drained.try_recv().is_err() && !core.may_sleep());
        let late = core.deadline();
        assert!(bench.desk.borrow().held.is_empty());
        let port = if leaves { None } else { Some(port) };
        core.poll(late, 32);
        assert_eq!(bench.desk.borrow().held.len(), 1, "flushed, port or no port");
        bench.desk.borrow_mut().release = 1;
        core.poll(late, 32);
        assert_eq!(drained.try_recv(), Ok(()));
        let (told, refused) = mpsc::channel();
        let setup = Box::new(bench.setup("late"));
        let answer = Box::new(move |added: Result<_, VolumeError>| drop(told.send(added.err())));
        assert!(control.send(VolumeMessage::Add { setup, answer }).is_ok());
        core.poll(late, 32);
        assert_eq!(refused.try_recv(), Ok(Some(VolumeError::Draining)));
        drop(port);
    }
}
