//! Devices that are pulled out from under a volume, and come again.

use super::*;
use crate::reservation::{Change, Path};

const UUID: uuid::Uuid = uuid::Uuid::from_u128(1);

fn statuses(port: &Port) -> Vec<(u64, IoStatus)> {
    let mut out = Vec::new();
    port.poll(&mut out, 32);
    out.iter().map(|done| (done.tag, done.status)).collect()
}

/// The same device once more, for a volume that lost it.
fn put_in_again(bench: &Bench) -> Result<(), VolumeError> {
    bench.desk.borrow_mut().closed = false;
    let (device, store) = (HeldDevice(Rc::clone(&bench.desk)), HeldStore(Rc::clone(&bench.desk)));
    bench.registry.restore("held", Box::new(device), Box::new(store))
}

#[test]
fn a_device_is_let_go_when_its_last_io_is_home_and_its_hosts_go_on_after_the_return() {
    let bench = Bench::new();
    let port = bench.port(4);
    assert!(port.submit(flush(1)).is_none());
    assert!(
        bench.registry.lose("held", uuid::Uuid::from_u128(2)),
        "another volume of that name holds nothing of it"
    );
    assert!(!bench.registry.is_lost("held") && !bench.registry.lose("held", UUID), "an I/O is out");
    assert!(!bench.desk.borrow().closed);
    bench.desk.borrow_mut().release = 1;
    assert!(bench.registry.lose("held", UUID) && bench.registry.is_lost("held"));
    assert!(bench.desk.borrow().closed, "nothing holds the device");
    assert_eq!(statuses(&port), [(1, IoStatus::Good)], "what had ended is told");
    assert_eq!(port.submit(flush(2)).expect("answered at once").status, IoStatus::Gone);
    assert_eq!(bench.registry.get("held").expect("it stays").info(), info());

    put_in_again(&bench).expect("it is the same device");
    let events: Vec<_> = std::iter::from_fn(|| port.next_event()).collect();
    assert_eq!((bench.bell.take(), events), (Some(4), vec![Event::Returned]));
    assert!(!bench.registry.is_lost("held"));
    let twice = put_in_again(&bench);
    assert_eq!(twice, Err(VolumeError::NotTheSame { name: "held".into() }), "it was not lost");
}

#[test]
fn the_first_flush_of_each_port_after_a_loss_fails_once() {
    let bench = Bench::new();
    let (first, second) = (bench.port(0), bench.port(1));
    assert!(bench.registry.lose("held", UUID), "its cache may have held writes");
    assert_eq!(
        first.submit(flush(1)).expect("at once").status,
        IoStatus::Gone,
        "says nothing of what was lost"
    );
    put_in_again(&bench).expect("it is the same device");
    for port in [&first, &second] {
        assert_eq!(port.submit(flush(2)).expect("at once").status, IoStatus::WriteError { lba: 0 });
        assert!(port.submit(flush(3)).is_none(), "the device has it");
    }
    // Whoever comes later wrote nothing before.
    let later = bench.port(2);
    assert!(later.submit(flush(4)).is_none());
}

#[test]
fn a_reservation_changes_only_while_it_can_be_kept() {
    let bench = Bench::new();
    let port = bench.port(0);
    let path = Path::of_host([1; 16]);
    let register = Change::RegisterHost { new_key: 7, survives_power_loss: Some(true) };
    assert_eq!(port.change_reservations(&path, &register), Changing::Pending);
    assert!(!bench.registry.lose("held", UUID), "a change is on its way to the device");
    bench.store(Err(19));
    assert!(bench.registry.lose("held", UUID));
    assert_eq!(port.next_event(), Some(Event::ReservationsChanged(None)));
    assert_eq!(port.change_reservations(&path, &register), Changing::Pending);
    bench.registry.poll();
    assert_eq!(
        port.next_event(),
        Some(Event::ReservationsChanged(None)),
        "the device is not there to keep it"
    );
}

#[test]
fn another_shape_does_not_take_the_place_of_a_device() {
    struct Longer(Shared, u64);
    impl IoChannel for Longer {
        fn info(&self) -> BdevInfo {
            BdevInfo { length_blocks: self.1, ..info() }
        }
        fn submit(&mut self, io: Io) -> Option<Done> {
            HeldDevice(Rc::clone(&self.0)).submit(io)
        }
        fn poll(&mut self, _: &mut Vec<Done>, _: usize) {}
        fn in_flight(&self) -> usize {
            0
        }
        fn answers_compare(&self) -> bool {
            true
        }
    }
    let bench = Bench::new();
    assert!(bench.registry.lose("held", UUID));
    let restore = |length_blocks| {
        let device = Longer(Rc::clone(&bench.desk), length_blocks);
        bench.registry.restore("held", Box::new(device), Box::<MemoryStore>::default())
    };
    assert!(restore(2047).is_err() && bench.registry.is_lost("held"), "a shorter one");
    restore(2048).expect("of the same length");
}
