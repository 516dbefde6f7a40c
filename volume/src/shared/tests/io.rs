//! I/O of several ports over one volume.

use super::*;

#[test]
fn each_port_gets_its_own_answers_whoever_polls() {
    let bench = Bench::new();
    let (a, b) = (bench.port(7), bench.port(9));
    let last = (1 << limits::TAG_BITS) - 1;
    assert!(a.submit(flush(1)).is_none() && b.submit(flush(1)).is_none() && b.submit(flush(last)).is_none());
    assert_eq!((a.in_flight(), b.in_flight()), (1, 2));
    bench.desk.borrow_mut().release = 3;
    assert_eq!(polled(&a), [1]);
    assert!(!a.has_work() && b.has_work());
    // The other one hears that there is something for it, once.
    assert_eq!((bench.bell.take(), bench.bell.take()), (Some(9), None));
    assert_eq!(polled(&b), [1, last]);
    assert_eq!((a.in_flight(), b.in_flight()), (0, 0));
}

#[test]
#[should_panic(expected = "below 2^56")]
fn a_tag_that_would_name_another_port_is_a_bug() {
    let bench = Bench::new();
    drop(bench.port(0).submit(flush(1 << limits::TAG_BITS)));
}

#[test]
fn overlaps_of_two_ports_are_ordered_and_one_that_waits_can_be_taken_back() {
    let bench = Bench::new();
    let (a, b) = (bench.port(0), bench.port(1));
    let write = |tag| {
        let sgl = bench.core.buffers.alloc(512).expect("the pool is fresh");
        Io { tag, op: Op::Write { extent: Extent { lba: 8, length_blocks: 1 }, fua: false }, sgl }
    };
    assert!(a.submit(write(1)).is_none());
    assert!(b.submit(write(2)).is_none() && b.submit(write(3)).is_none());
    assert_eq!(bench.desk.borrow().held.len(), 1, "the second write waits for the first");
    assert!(b.abort(2) && !a.abort(2), "a tag belongs to its port");
    assert_eq!(polled(&b), [2]);
    bench.desk.borrow_mut().release = 1;
    assert_eq!(polled(&a), [1]);
    bench.desk.borrow_mut().release = 1;
    assert_eq!(polled(&b), [3]);
    drop((a, b));
    assert_eq!(bench.core.buffers.in_use(), 0);
}

#[test]
fn an_answer_on_the_spot_keeps_its_tag() {
    let core = reactor::sim::core(1);
    let registry = Registry::new();
    let geometry = Geometry::new(uuid::Uuid::from_u128(1), 512, 1 << 20).expect("a valid geometry");
    let setup = VolumeSetup {
        name: "memory".into(),
        serial: "1".into(),
        channel: Box::new(move |_| Ok(Box::new(MemoryDevice::new(geometry)))),
        metadata: Box::new(|_| Ok(Box::<MemoryStore>::default())),
        reservations: Vec::new(),
    };
    let volume = registry.add(&core, setup).expect("it opens");
    let bell = Bell::default();
    let _first = volume.open_port(&bell, 0).expect("it is open");
    let second = volume.open_port(&bell, 1).expect("it is open");
    let done = second.submit(flush(5)).expect("memory answers on the spot");
    assert_eq!((done.tag, done.status, second.in_flight()), (5, IoStatus::Good, 0));
}

#[test]
fn what_a_dropped_port_left_in_flight_reaches_no_other() {
    let bench = Bench::new();
    let a = bench.port(0);
    assert!(a.submit(flush(1)).is_none());
    drop(a);
    let b = bench.port(1);
    assert!(b.submit(flush(2)).is_none());
    bench.desk.borrow_mut().release = 2;
    assert_eq!(polled(&b), [2]);
    // Its number is free again now.
    let c = bench.port(2);
    assert!(c.submit(flush(3)).is_none());
    bench.desk.borrow_mut().release = 1;
    assert_eq!(polled(&b), [0; 0]);
    assert_eq!(polled(&c), [3]);
}

#[test]
fn ports_have_a_limit() {
    let bench = Bench::new();
    let ports: Vec<_> = (0..limits::PORTS_PER_VOLUME_MAX as u32).map(|token| bench.port(token)).collect();
    let volume = bench.registry.get("held").expect("it is there");
    assert!(volume.open_port(&bench.bell, 99).is_none());
    drop(ports);
    assert!(volume.open_port(&bench.bell, 99).is_some());
}

#[test]
fn counters_are_one_set() {
    let bench = Bench::new();
    let volume = bench.registry.get("held").expect("it is there");
    assert!(Arc::ptr_eq(&volume.stats(), &bench.port(0).volume().stats()));
    assert_eq!((volume.name(), volume.serial(), bench.registry.names()), ("held", "s", vec!["held".into()]));
}
