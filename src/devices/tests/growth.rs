//! Namespaces and the volumes on them change their size while they are served.

use std::sync::mpsc;

use control::bridge::PlaneError;
use reactor::buffer::Sgl;
use volume::bdev::{Extent, Io, IoStatus, Op};
use volume::reservation::{Change, Path};
use volume::shared::{Bell, Changing, Event, Port};

use super::away::{Bench, EXTENT};
use crate::devices::message::DeviceMessage;

const MIB: u64 = 1 << 20;

fn grow(bench: &mut Bench, size_bytes: u64) -> Result<u64, PlaneError> {
    let (sender, receiver) = mpsc::channel();
    let answer = Box::new(move |result| drop(sender.send(result)));
    let (volume, device) = ("hot".to_owned(), "loose".to_owned());
    assert!(bench.control.send(DeviceMessage::Grow { volume, device, size_bytes, answer }).is_ok());
    let mut result = None;
    bench.until("answered", |_| {
        result = receiver.try_recv().ok();
        result.is_some()
    });
    result.unwrap()
}

fn write_last_block(bench: &mut Bench, port: &Port, byte: u8) {
    let extent = Extent { lba: port.info().length_blocks - 8, length_blocks: 8 };
    let mut sgl = bench.core.buffers.alloc(4096).unwrap();
    sgl.fill(0, 4096, byte);
    assert_eq!(bench.io(port, Op::Write { extent, fua: true }, sgl).status, IoStatus::Good);
    let sgl = bench.core.buffers.alloc(4096).unwrap();
    assert_eq!(bench.io(port, Op::Read(extent), sgl).sgl.to_vec(), vec![byte; 4096]);
}

fn register(bench: &mut Bench, port: &Port, host: u8) {
    let change = Change::RegisterHost { new_key: host.into(), survives_power_loss: Some(true) };
    assert_eq!(port.change_reservations(&Path::of_host([host; 16]), &change), Changing::Pending);
    let mut stored = false;
    bench.until("stored", |_| {
        stored = matches!(port.next_event(), Some(Event::ReservationsChanged(Some(_))));
        stored
    });
}

#[test]
fn a_volume_grows_in_its_namespace_and_with_it() {
    let mut bench = Bench::new();
    let bell = Bell::default();
    let port = bench.serve(&bell);
    register(&mut bench, &port, 1);
    assert_eq!(bench.write(&port, 7, true), IoStatus::Good);
    let refused = grow(&mut bench, 32 * MIB).unwrap_err().to_string();
    assert!(
        refused.contains("has room for a volume of 32505856 bytes") && refused.contains("let it grow"),
        "{refused}"
    );

    // There was room; the hosts hear of it.
    assert_eq!(grow(&mut bench, 24 * MIB), Ok(24 * MIB / 512));
    assert_eq!((port.next_event(), port.info().length_blocks), (Some(Event::Resized), 24 * MIB / 512));
    write_last_block(&mut bench, &port, 1);
    // The namespace grows: its event is enough to see that.
    bench.emulated.resize_namespace(1, 64 * MIB / 512).unwrap();
    bench.until("seen", |bench| bench.report().namespaces[0].size_bytes == 64 * MIB);
    assert_eq!(grow(&mut bench, 60 * MIB), Ok(60 * MIB / 512));
    assert_eq!(port.next_event(), Some(Event::Resized));
    write_last_block(&mut bench, &port, 2);
    // What is kept beside the blocks has moved with the label.
    register(&mut bench, &port, 2);

    // Both are found again, in the places that the label has now.
    bench.pull_out();
    bench.emulated.insert();
    bench.bring_back();
    bench.until("served again", |bench| !bench.registry.is_lost("hot"));
    assert_eq!(port.info().length_blocks, 60 * MIB / 512);
    let sgl = bench.core.buffers.alloc(4096).unwrap();
    assert_eq!(bench.io(&port, Op::Read(EXTENT), sgl).sgl.to_vec(), vec![7; 4096]);
    write_last_block(&mut bench, &port, 3);
    let opened = bench.open(false).unwrap();
    let stored = volume::reservation::Reservations::decode(&opened.reservations).unwrap();
    assert_eq!(stored.encode(), port.reservations().encode(), "both hosts are on the medium");
}

#[test]
fn reservations_stay_as_they_are_while_their_place_is_moved() {
    let mut bench = Bench::new();
    let bell = Bell::default();
    let port = bench.serve(&bell);
    bench.emulated.resize_namespace(1, 64 * MIB / 512).unwrap();
    bench.until("seen", |bench| bench.report().namespaces[0].size_bytes == 64 * MIB);
    let (sender, receiver) = mpsc::channel();
    let answer = Box::new(move |result: Result<u64, PlaneError>| drop(sender.send(result)));
    let (volume, device) = ("hot".to_owned(), "loose".to_owned());
    let message = DeviceMessage::Grow { volume, device, size_bytes: 40 * MIB, answer };
    assert!(bench.control.send(message).is_ok());
    let change = Change::RegisterHost { new_key: 1, survives_power_loss: Some(true) };
    let mut busy = 0;
    bench.until("grown", |_| {
        let asked = port.change_reservations(&Path::of_host([1; 16]), &change);
        busy += usize::from(asked == Changing::Busy);
        receiver.try_recv().is_ok()
    });
    assert!(busy > 0, "it was never frozen");
    bench.until("stored", |_| matches!(port.next_event(), Some(Event::ReservationsChanged(Some(_)))));
}

#[test]
fn a_namespace_that_shrinks_is_faulted_and_says_so() {
    let mut bench = Bench::new();
    let bell = Bell::default();
    let port = bench.serve(&bell);
    assert_eq!(bench.write(&port, 7, true), IoStatus::Good);
    bench.emulated.resize_namespace(1, 8 * MIB / 512).unwrap();
    bench.until("refused", |bench| bench.report().namespaces[0].problem.is_some());
    let problem = bench.report().namespaces[0].problem.clone().unwrap();
    assert!(problem.contains("65536") && problem.contains("16384"), "{problem}");
    assert_eq!(bench.write(&port, 8, true), IoStatus::Gone);
    let flush = Io { tag: 1, op: Op::Flush, sgl: Sgl::empty() };
    assert_eq!(bench.io(&port, flush.op, flush.sgl).status, IoStatus::Gone);
    assert!(grow(&mut bench, 24 * MIB).is_err());
}
