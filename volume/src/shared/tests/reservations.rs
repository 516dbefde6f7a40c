//! One reservation state: changes of one port as the others see them, PREEMPT AND ABORT over both protocols.

use super::*;
use crate::reservation::{Change, Kind, Path, Refused};

fn scsi(name: &str) -> Path {
    Path::new(name.as_bytes(), b"target").expect("a short name")
}

fn host(number: u8) -> Path {
    Path::of_host([number; 16])
}

fn register(key: u64) -> Change {
    Change::RegisterHost { new_key: key, survives_power_loss: None }
}

fn preempt(key: u64, victim_key: u64) -> Change {
    Change::Preempt { key, victim_key, kind: Kind::WriteExclusive, abort: true }
}

fn now(changing: Changing) -> Changed {
    match changing {
        Changing::Now(changed) => changed,
        other => panic!("{other:?}"),
    }
}

/// An iSCSI path "a" that holds the volume, and an NVMe host 1 that is registered.
fn contested(bench: &Bench) -> (Port, Port) {
    let (iscsi, nvme) = (bench.port(0), bench.port(1));
    now(iscsi.change_reservations(&scsi("a"), &register(1)));
    now(iscsi.change_reservations(&scsi("a"), &Change::Reserve { key: 1, kind: Kind::WriteExclusive }));
    now(nvme.change_reservations(&host(1), &register(2)));
    (iscsi, nvme)
}

#[test]
fn a_change_is_obeyed_by_the_other_protocol_at_once() {
    let bench = Bench::new();
    let (iscsi, nvme) = (bench.port(0), bench.port(1));
    let epoch = nvme.reservation_epoch();
    assert!(nvme.access(&host(1)).write);
    now(iscsi.change_reservations(&scsi("a"), &register(1)));
    now(iscsi.change_reservations(&scsi("a"), &Change::Reserve { key: 1, kind: Kind::WriteExclusive }));
    assert!(nvme.reservation_epoch() > epoch);
    assert!(nvme.access(&host(1)).read && !nvme.access(&host(1)).write);
    // It concerned nobody: no event.
    assert_eq!((nvme.next_event(), bench.bell.take()), (None, None));
}

#[test]
fn the_old_reserve_of_one_protocol_keeps_the_other_out() {
    let bench = Bench::new();
    let (iscsi, nvme) = (bench.port(0), bench.port(1));
    let epoch = nvme.reservation_epoch();
    iscsi.reservation_cell().set_exclusive(Some(scsi("a")));
    assert!(!nvme.access(&host(1)).read && iscsi.access(&scsi("a")).write);
    assert!(nvme.reservation_epoch() > epoch);
    assert_eq!(nvme.change_reservations(&host(1), &register(1)), Changing::Refused(Refused::Conflict));
    iscsi.reservation_cell().set_exclusive(None);
    assert!(nvme.access(&host(1)).write);
}

#[test]
fn a_durable_change_is_in_force_only_when_it_is_stored() {
    let bench = Bench::new();
    let (iscsi, nvme) = (bench.port(0), bench.port(1));
    let lasting = Change::RegisterHost { new_key: 3, survives_power_loss: Some(true) };
    assert_eq!(nvme.change_reservations(&host(1), &lasting), Changing::Pending);
    assert_eq!(iscsi.change_reservations(&scsi("a"), &register(1)), Changing::Busy);
    bench.registry.poll();
    assert!(nvme.reservations().registrants().is_empty() && nvme.next_event().is_none());
    bench.store(Ok(()));
    bench.registry.poll();
    assert_eq!(bench.bell.take(), Some(1));
    assert!(matches!(nvme.next_event(), Some(Event::ReservationsChanged(Some(_)))));
    assert_eq!(iscsi.reservations().registrants().len(), 1);
    // The next one cannot be stored: nothing changes.
    assert_eq!(iscsi.change_reservations(&scsi("a"), &register(1)), Changing::Pending);
    bench.store(Err(5));
    bench.registry.poll();
    assert_eq!(iscsi.next_event(), Some(Event::ReservationsChanged(None)));
    assert_eq!(iscsi.reservations().registrants().len(), 1);
    assert_eq!(bench.desk.borrow().stored.len(), 2);
}

#[test]
fn preempt_and_abort_waits_for_the_other_protocol() {
    let bench = Bench::new();
    let (iscsi, nvme) = contested(&bench);
    let changed = now(nvme.change_reservations(&host(1), &preempt(2, 1)));
    assert_eq!(changed.outcome.abort_tasks_of, [scsi("a")]);
    let ticket = changed.aborting.expect("there is another port");
    assert_eq!(bench.bell.take(), Some(0));
    let Some(Event::ReservationsChangedElsewhere { outcome, abort }) = iscsi.next_event() else {
        panic!("the other port hears of it")
    };
    assert_eq!((outcome.registrations_preempted.as_slice(), abort), (&[scsi("a")][..], Some(ticket)));
    assert_eq!(nvme.next_event(), None, "not before its tasks have ended");
    iscsi.aborted(ticket);
    assert_eq!(nvme.next_event(), Some(Event::AbortsDone(ticket)));
    // A ticket that is returned twice means nothing.
    iscsi.aborted(ticket);
    assert_eq!(nvme.next_event(), None);
}

#[test]
fn a_port_that_goes_holds_nobody_up() {
    let bench = Bench::new();
    let (iscsi, nvme) = contested(&bench);
    let third = bench.port(2);
    let ticket = now(nvme.change_reservations(&host(1), &preempt(2, 1))).aborting.expect("others are there");
    third.aborted(ticket);
    assert_eq!(nvme.next_event(), None);
    drop(iscsi);
    assert_eq!(nvme.next_event(), Some(Event::AbortsDone(ticket)));
    // And one that asked and goes is not told.
    let other = host(2);
    now(third.change_reservations(&other, &register(5)));
    let lasting = Change::SetPersistence { survives_power_loss: true };
    assert_eq!(third.change_reservations(&other, &lasting), Changing::Pending);
    drop(third);
    bench.store(Ok(()));
    bench.registry.poll();
    assert!(nvme.reservations().survives_power_loss());
    assert_eq!(nvme.next_event(), None);
}

#[test]
fn a_port_that_does_not_listen_stops_changes_instead_of_losing_them() {
    let bench = Bench::new();
    let (iscsi, nvme) = (bench.port(0), bench.port(1));
    let mut changes = 0;
    loop {
        // Each clear concerns the other registrant.
        if nvme.change_reservations(&host(1), &register(1)) == Changing::Busy {
            break;
        }
        now(nvme.change_reservations(&scsi("a"), &register(2)));
        now(nvme.change_reservations(&host(1), &Change::Clear { key: 1 }));
        changes += 1;
        assert!(changes <= limits::EVENTS_PER_PORT_MAX, "the queue has a bound");
    }
    let mut heard = 0;
    while iscsi.next_event().is_some() {
        heard += 1;
    }
    assert_eq!(heard, changes);
    now(nvme.change_reservations(&host(1), &register(1)));
}
