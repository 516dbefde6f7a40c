//! Commands that go well, and the ways in which a queue ends.

use nvme_spec::tcp::{FLAG_LAST_PDU, FLAG_SUCCESS};
use nvme_spec::{Cqe, SglDescriptor, Sqe, Status};

use super::bench::*;
use crate::error::{CloseCause, TermReqCause};
use crate::host::*;
use crate::testing::Chunks;
use crate::testing::wire::Pdu;
use crate::{HostConfig, TargetConfig};

#[test]
fn writes_go_in_the_capsule_as_far_as_they_fit() {
    for config in [HostConfig::default(), with_digests()] {
        let mut bench = Bench::open(config, TargetConfig { cpda: 9, ..TargetConfig::default() });
        bench.queue.set_in_capsule_bytes(4096);
        for length in [4, 512, 513, 4096] {
            let data = pattern(length, 1);
            let (cid, sent) = bench.submit(HostData::Write(Chunks::of(&data, 100)));
            let [Pdu::CapsuleCmd { sqe, data: capsule }] = &sent[..] else { panic!("{sent:?}") };
            assert_eq!((sqe.cid.get(), capsule), (cid, &data));
            assert_eq!(sqe.dptr, SglDescriptor::in_capsule(0, length as u32));
            bench.respond(cid, Status::SUCCESS).unwrap();
            let completion = bench.completed();
            assert_eq!((completion.cid, completion.data.unwrap().bytes()), (cid, &data[..]));
        }
        let (cid, sent) = bench.submit(HostData::Write(Chunks::of(&pattern(4097, 1), 100)));
        let [Pdu::CapsuleCmd { sqe, data }] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!((sqe.dptr, data.len()), (SglDescriptor::transport(4097), 0));
        bench.respond(cid, Status::LBA_OUT_OF_RANGE).unwrap();
        assert_eq!(bench.completed().cqe.status(), Status::LBA_OUT_OF_RANGE);
    }
}

#[test]
fn r2ts_are_answered_in_pieces_of_maxh2cdata() {
    let target = TargetConfig { h2c_data_bytes_max: 4096, ..TargetConfig::default() };
    for config in [HostConfig::default(), with_digests()] {
        let config = HostConfig { r2ts_max: 2, ..config };
        let mut bench = Bench::open(config, target);
        let data = pattern(20_000, 2);
        let (cid, _) = bench.submit(HostData::Write(Chunks::of(&data, 3000)));
        let mut wire = bench.target.r2t(cid, 0xabcd, 0, 10_000);
        wire.extend(bench.target.r2t(cid, 0xffff, 10_000, 10_000));
        bench.feed(&wire).unwrap();
        let piece = |ttag, from: usize, to: usize| Pdu::H2cData {
            cccid: cid,
            ttag,
            datao: from as u32,
            last: to.is_multiple_of(10_000),
            data: data[from..to].to_vec(),
        };
        let expected = [
            piece(0xabcd, 0, 4096),
            piece(0xabcd, 4096, 8192),
            piece(0xabcd, 8192, 10_000),
            piece(0xffff, 10_000, 14_096),
            piece(0xffff, 14_096, 18_192),
            piece(0xffff, 18_192, 20_000),
        ];
        assert_eq!(bench.sent(), expected);
        bench.respond(cid, Status::SUCCESS).unwrap();
        assert_eq!(bench.completed().data.unwrap().bytes(), data);
    }
}

#[test]
fn reads_arrive_with_and_without_a_response_whatever_the_cuts() {
    for mut config in [HostConfig::default(), with_digests()] {
        config.hpda = 5;
        for cut in (1..120).chain([usize::MAX]) {
            for in_place in [false, true] {
                let mut bench = Bench::new(config);
                (bench.cut, bench.in_place) = (cut, in_place);
                let data = pattern(300, 3);
                let (cid, _) = bench.submit(HostData::Read(Chunks::blank(300, 77)));
                let mut wire = bench.target.c2h_data(cid, 0, 0, &data[..100]);
                wire.extend(bench.target.c2h_data(cid, 100, FLAG_LAST_PDU | FLAG_SUCCESS, &data[100..]));
                bench.feed(&wire).unwrap();
                let completion = bench.completed();
                assert_eq!((completion.cid, completion.cqe), (cid, Cqe::new(cid, Status::SUCCESS)));
                assert_eq!((completion.received_bytes, completion.data.unwrap().bytes()), (300, &data[..]));

                let (cid, _) = bench.submit(HostData::Read(Chunks::blank(300, 77)));
                let mut wire = bench.target.c2h_data(cid, 0, FLAG_LAST_PDU, &data);
                wire.extend(bench.target.response(Cqe::new(cid, Status::SUCCESS)));
                bench.feed(&wire).unwrap();
                assert_eq!(bench.completed().data.unwrap().bytes(), data);
                bench.no_event();
            }
        }
    }
}

#[test]
fn a_short_read_is_for_those_who_take_it_and_for_failures() {
    let mut bench = Bench::new(HostConfig::default());
    let (cid, _) = bench.submit(HostData::ReadAtMost(Chunks::blank(300, 77)));
    bench.feed(&bench.target.c2h_data(cid, 0, FLAG_LAST_PDU | FLAG_SUCCESS, &[1; 100])).unwrap();
    let completion = bench.completed();
    assert_eq!((completion.received_bytes, completion.cqe.status()), (100, Status::SUCCESS));
    let (cid, _) = bench.submit(HostData::Read(Chunks::blank(300, 77)));
    bench.feed(&bench.target.c2h_data(cid, 0, 0, &[1; 100])).unwrap();
    bench.respond(cid, Status::INTERNAL_ERROR).unwrap();
    let completion = bench.completed();
    assert_eq!((completion.received_bytes, completion.cqe.status()), (100, Status::INTERNAL_ERROR));
}

#[test]
fn a_wrong_data_digest_fails_its_command_and_no_other() {
    for success in [FLAG_SUCCESS, 0] {
        let mut bench = Bench::new(with_digests());
        let (cid, _) = bench.submit(HostData::Read(Chunks::blank(300, 77)));
        let mut wire = bench.target.c2h_data(cid, 0, FLAG_LAST_PDU | success, &[1; 300]);
        *wire.last_mut().unwrap() ^= 1;
        bench.feed(&wire).unwrap();
        if success == 0 {
            bench.respond(cid, Status::SUCCESS).unwrap();
        }
        assert_eq!(bench.completed().cqe.status(), Status::TRANSIENT_TRANSPORT_ERROR);
        assert_eq!(bench.queue.counters().data_digest_errors, 1);
        let (cid, _) = bench.submit(HostData::None);
        bench.respond(cid, Status::SUCCESS).unwrap();
        assert!(bench.completed().cqe.status().is_success());
    }
}

#[test]
fn a_full_queue_gives_the_data_back() {
    let mut bench = Bench::new(HostConfig { commands_max: 2, ..HostConfig::default() });
    let first = bench.submit(HostData::None).0;
    let second = bench.submit(HostData::None).0;
    assert_ne!(HostQueue::<Chunks>::slot_of(first), HostQueue::<Chunks>::slot_of(second));
    assert!(!bench.queue.can_submit());
    let refused = bench.queue.submit(Sqe::default(), HostData::Write(Chunks::of(&[5], 1)));
    assert!(matches!(refused, Err(HostData::Write(data)) if data.bytes() == [5]));
    bench.respond(first, Status::SUCCESS).unwrap();
    assert_eq!((bench.completed().cid, bench.queue.in_flight()), (first, 1));
    let third = bench.submit(HostData::None).0;
    assert!(third != first && HostQueue::<Chunks>::slot_of(third) == HostQueue::<Chunks>::slot_of(first));
}

#[test]
fn nothing_is_taken_before_icresp() {
    let mut queue = HostQueue::<Chunks>::new(HostConfig::default());
    assert!(!queue.can_submit());
    assert!(queue.submit(Sqe::default(), HostData::None).is_err());
}

#[test]
fn a_response_to_data_that_is_still_being_sent_waits_for_it() {
    let mut bench = Bench::new(HostConfig::default());
    let (cid, _) = bench.submit(HostData::Write(Chunks::of(&pattern(20_000, 1), 512)));
    bench.feed(&bench.target.r2t(cid, 1, 0, 20_000)).unwrap();
    bench.take(1000);
    // The controller gives up early.
    bench.respond(cid, Status::INTERNAL_ERROR).unwrap();
    bench.no_event();
    assert_eq!(bench.sent_rest(), 20_024 - 1000);
    assert_eq!(bench.completed().cqe.status(), Status::INTERNAL_ERROR);

    // The same when the stream breaks instead.
    let (cid, _) = bench.submit(HostData::Write(Chunks::of(&pattern(20_000, 1), 512)));
    bench.feed(&bench.target.r2t(cid, 1, 0, 20_000)).unwrap();
    bench.take(1000);
    bench.respond(cid, Status::INTERNAL_ERROR).unwrap();
    bench.queue.disconnected();
    assert_eq!(bench.completed().cid, cid);
    assert!(bench.queue.take_unfinished().is_none());
}

impl Bench {
    /// Takes all that is left, whatever it is.
    fn sent_rest(&mut self) -> usize {
        let mut taken = 0;
        while self.queue.tx_queued_bytes() > 0 {
            taken += self.take(777).len();
        }
        taken
    }
}

#[test]
fn what_is_unfinished_comes_back_and_says_whether_it_was_sent() {
    let mut bench = Bench::new(HostConfig::default());
    let (read, _) = bench.submit(HostData::Read(Chunks::blank(512, 512)));
    let write = bench.queue.submit(Sqe::default(), HostData::Write(Chunks::of(&[3; 64], 64))).unwrap();
    assert!(bench.queue.take_unfinished().is_none(), "not before the end");
    bench.queue.disconnected();
    bench.queue.disconnected();
    let mut unfinished: Vec<_> = std::iter::from_fn(|| bench.queue.take_unfinished())
        .map(|it| (it.cid, it.sent, it.data.unwrap().bytes().len()))
        .collect();
    unfinished.sort_unstable();
    let mut expected = [(read, true, 512), (write, false, 64)];
    expected.sort_unstable();
    assert_eq!(unfinished, expected);
    assert_eq!((bench.queue.in_flight(), bench.queue.tx_queued_bytes()), (0, 0));
    assert!(bench.queue.submit(Sqe::default(), HostData::None).is_err());
}

#[test]
fn a_terminate_connection_request_ends_without_an_answer() {
    let mut bench = Bench::new(HostConfig::default());
    let (cid, _) = bench.submit(HostData::Read(Chunks::blank(512, 512)));
    // PDU type, flags, hlen, pdo, plen, FES, FEI, reserved.
    let wire = [3, 0, 24, 0, 24, 0, 0, 0, 2, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bench.feed(&wire).unwrap();
    let Some(HostEvent::Close(CloseCause::PeerTerminated(TermReqCause { fes, fei }))) =
        bench.queue.next_event()
    else {
        panic!("it ends")
    };
    assert_eq!((fes.0, fei), (2, 9));
    assert_eq!(bench.queue.take_unfinished().unwrap().cid, cid);
    bench.queue.close();
    bench.no_event();
}

#[test]
fn closing_sends_what_is_queued() {
    let mut bench = Bench::new(HostConfig::default());
    bench.queue.submit(Sqe::default(), HostData::None).unwrap();
    bench.queue.close();
    bench.no_event();
    assert_eq!(bench.sent().len(), 1);
    assert!(matches!(bench.queue.next_event(), Some(HostEvent::Close(CloseCause::Requested))));
    bench.no_event();
}
