//! The cuts of a byte stream mean nothing.

use nvme_spec::tcp::FLAG_LAST_PDU;
use nvme_spec::{SglDescriptor, Status};
use zerocopy::IntoBytes;

use super::bench::*;
use crate::connection;
use crate::target::*;
use crate::testing::TestAdmission;
use crate::testing::wire::Pdu;

/// One of each PDU; what came of it.
fn play(options: Options, cut: usize, in_place: bool) -> (Vec<Pdu>, Vec<Vec<u8>>) {
    let mut bench = Bench::connected(options);
    bench.cut = cut;
    bench.in_place = in_place;
    bench.admission.chunk_bytes = 37;
    let mut stream = bench.host.capsule(&sqe(1, WRITE, SglDescriptor::in_capsule(0, 150)), &pattern(150, 1));
    stream.extend(bench.host.capsule(&sqe(2, 0, SglDescriptor::transport(0)), &[]));
    stream.extend(bench.host.capsule(&sqe(3, WRITE, SglDescriptor::transport(200)), &[]));
    bench.feed(&stream).unwrap();
    let mut pdus = bench.sent();
    let [Pdu::R2t { ttag, .. }] = pdus[..] else { panic!("{pdus:?}") };
    let data = pattern(200, 3);
    let mut stream = bench.host.h2c_data(3, ttag, 0, 0, &data[..120]);
    stream.extend(bench.host.h2c_data(3, ttag, 120, FLAG_LAST_PDU, &data[120..]));
    bench.feed(&stream).unwrap();
    let mut collected = Vec::new();
    for _ in 0..3 {
        let command = bench.command();
        collected.push(command.data.map_or(Vec::new(), |data| data.bytes().to_vec()));
        bench.complete(command.id);
    }
    bench.no_event();
    pdus.extend(bench.sent());
    (pdus, collected)
}

#[test]
fn every_cut_gives_the_same() {
    for mut options in [Options::default(), Options::with_digests()] {
        options.target.cpda = 4;
        let expected = play(options, usize::MAX, false);
        assert_eq!(expected.1, [pattern(150, 1), vec![], pattern(200, 3)]);
        assert_eq!(expected.0.last(), Some(&answered(3, Status::SUCCESS)));
        for cut in 1..300 {
            assert_eq!(play(options, cut, false), expected, "in pieces of {cut}");
            assert_eq!(play(options, cut, true), expected, "in place, in pieces of {cut}");
        }
    }
}

#[test]
fn every_cut_of_icreq_gives_the_same() {
    let request = connection::request(&Options::with_digests().host);
    let bytes = request.as_bytes();
    for cut in 0..=bytes.len() {
        let mut queue = TargetQueue::new(TargetConfig::default());
        let mut admission = TestAdmission::default();
        assert_eq!(queue.handle_bytes(&bytes[..cut], &mut admission), Ok(cut));
        assert_eq!(queue.negotiated().is_some(), cut == bytes.len());
        assert_eq!(queue.handle_bytes(&bytes[cut..], &mut admission), Ok(bytes.len() - cut));
        assert!(queue.negotiated().expect("all of it").header_digest);
        assert!(matches!(queue.next_event(), Some(Event::Initialized(_))));
    }
}

#[test]
fn what_is_wanted_is_the_rest_of_the_payload_and_nothing_behind_it() {
    let mut bench = Bench::connected(Options::with_digests());
    bench.admission.chunk_bytes = 1 << 20;
    let data = pattern(4096, 1);
    let command = with_length(sqe(1, WRITE, SglDescriptor::in_capsule(0, 4096)), 1000);
    let wire = bench.host.capsule(&command, &data);
    assert!(bench.queue.wanted().is_none());
    let header = wire.len() - 4096 - 4;
    bench.feed(&wire[..header + 10]).unwrap();
    assert_eq!(bench.queue.wanted().map(|room| room.len()), Some(990), "what is dropped is not wanted");
    bench.queue.wanted().unwrap().copy_from_slice(&data[10..1000]);
    bench.queue.received(990);
    assert!(bench.queue.wanted().is_none());
    bench.feed(&wire[header + 1000..]).unwrap();
    let command = bench.command();
    assert_eq!((command.fault, command.data.unwrap().bytes()), (None, &data[..1000]));
}
