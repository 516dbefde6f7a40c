//! Everything a controller can lie about, and how it is told.

use nvme_spec::tcp::{FLAG_LAST_PDU, FLAG_SUCCESS, FatalErrorStatus, PduType};
use nvme_spec::{Cqe, Sqe, Status};
use zerocopy::IntoBytes;

use super::bench::*;
use crate::connection;
use crate::error::{CloseCause, TermReqCause};
use crate::host::*;
use crate::testing::Chunks;
use crate::testing::wire::Pdu;
use crate::{HostConfig, TargetConfig, Violation};

const HEADER: FatalErrorStatus = FatalErrorStatus::INVALID_PDU_HEADER_FIELD;
const SEQUENCE: FatalErrorStatus = FatalErrorStatus::PDU_SEQUENCE_ERROR;
const RANGE: FatalErrorStatus = FatalErrorStatus::DATA_TRANSFER_OUT_OF_RANGE;

/// The queue refuses `wire` with this report and ends; its commands come back.
fn refused(bench: &mut Bench, wire: &[u8], fes: FatalErrorStatus, fei: u32) {
    bench.sent();
    let in_flight = bench.queue.in_flight();
    let violation = bench.feed(wire).expect_err("it is refused");
    let expected = TermReqCause { fes, fei };
    assert_eq!(violation.report(), Some(expected), "{violation}");
    let sent = bench.sent();
    let Some(Pdu::TermReq { pdu_type, cause, header }) = sent.last() else { panic!("{sent:?}") };
    assert_eq!((*pdu_type, *cause), (PduType::H2C_TERM_REQ, expected));
    assert!(header.len() >= 8, "the header comes back");
    assert!(
        matches!(bench.queue.next_event(), Some(HostEvent::Close(CloseCause::Violation(v))) if v == violation)
    );
    bench.feed(&[0xff; 4096]).unwrap();
    bench.no_event();
    assert_eq!(std::iter::from_fn(|| bench.queue.take_unfinished()).count(), in_flight);
}

fn changed(mut bytes: Vec<u8>, at: usize, new: &[u8]) -> Vec<u8> {
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

#[test]
fn only_a_sound_icresp_may_come_first() {
    let config = HostConfig::default();
    let response = connection::answer(&connection::request(&config), &TargetConfig::default()).unwrap().1;
    let good = response.as_bytes().to_vec();
    let fresh = || {
        let mut bench = Bench::new(config);
        bench.queue = HostQueue::new(config);
        bench
    };
    for (at, new, fes, fei) in [
        (2, &[0][..], HEADER, 2),
        (4, &[127], HEADER, 4),
        (8, &[1], FatalErrorStatus::UNSUPPORTED_PARAMETER, 8),
        (10, &[32], HEADER, 10),
        (11, &[1], HEADER, 11),
        (12, &[0xff, 0x0f, 0, 0], HEADER, 12),
    ] {
        refused(&mut fresh(), &changed(good.clone(), at, new), fes, fei);
    }
    for pdu_type in [PduType::CAPSULE_RESP, PduType::C2H_DATA, PduType::R2T] {
        refused(&mut fresh(), &changed(good.clone(), 0, &[pdu_type.0]), SEQUENCE, 0);
    }
    for pdu_type in [0, 2, 4, 6, 8, 10, 11, 255] {
        refused(&mut fresh(), &changed(good.clone(), 0, &[pdu_type]), HEADER, 0);
    }
    refused(&mut Bench::new(config), &good, SEQUENCE, 0);
}

#[test]
fn every_header_length_but_one_is_refused() {
    for config in [HostConfig::default(), with_digests()] {
        for hlen in (0..=255).filter(|hlen| *hlen != 24) {
            let mut bench = Bench::new(config);
            let (cid, _) = bench.submit(HostData::None);
            let wire = bench.target.response(Cqe::new(cid, Status::SUCCESS));
            refused(&mut bench, &changed(wire, 2, &[hlen]), HEADER, 2);
        }
        let mut bench = Bench::new(config);
        let (cid, _) = bench.submit(HostData::None);
        let wire = bench.target.response(Cqe::new(cid, Status::SUCCESS));
        refused(&mut bench, &changed(wire.clone(), 1, &[wire[1] ^ 1]), HEADER, 1);
        let mut bench = Bench::new(config);
        bench.submit(HostData::None);
        refused(&mut bench, &changed(wire.clone(), 4, &[wire[4] + 4]), HEADER, 4);
    }
}

#[test]
fn a_response_must_be_to_a_command_in_flight() {
    let mut bench = Bench::new(HostConfig::default());
    let wire = bench.target.response(Cqe::new(0, Status::SUCCESS));
    refused(&mut bench, &wire, HEADER, 20);
    for wrong in [1, 1 << 10, 0xffff, 0x8000] {
        let mut bench = Bench::new(HostConfig::default());
        let (cid, _) = bench.submit(HostData::None);
        let wire = bench.target.response(Cqe::new(cid ^ wrong, Status::SUCCESS));
        refused(&mut bench, &wire, HEADER, 20);
    }
    // Twice.
    let mut bench = Bench::new(HostConfig::default());
    let (cid, _) = bench.submit(HostData::None);
    bench.respond(cid, Status::SUCCESS).unwrap();
    let twice = bench.target.response(Cqe::new(cid, Status::SUCCESS));
    let violation = bench.feed(&twice).unwrap_err();
    assert_eq!(violation, Violation::Field(20));
    assert_eq!(bench.completed().cid, cid, "the first one counts");
    // To a command that was not sent yet.
    let mut bench = Bench::new(HostConfig::default());
    let cid = bench.queue.submit(Sqe::default(), HostData::None).unwrap();
    assert_eq!(bench.respond(cid, Status::SUCCESS), Err(Violation::Field(20)));
}

#[test]
fn data_must_be_what_was_asked_for_in_order() {
    let data = [1; 1024];
    let success = FLAG_LAST_PDU | FLAG_SUCCESS;
    let cases: &[(u16, u32, u8, usize, FatalErrorStatus, u32)] = &[
        // change of cccid, datao, flags, length
        (1, 0, 0, 512, HEADER, 8),
        (1 << 10, 0, 0, 512, HEADER, 8),
        (0, 0, FLAG_SUCCESS, 512, HEADER, 1),
        (0, 0, success, 512, SEQUENCE, 0),
        (0, 512, FLAG_LAST_PDU, 512, SEQUENCE, 0),
        (0, 4, 0, 512, SEQUENCE, 0),
        (0, 0, 0, 1024, SEQUENCE, 0),
        (0, 513, 0, 512, RANGE, 0),
        (0, 1024, 0, 4, RANGE, 0),
        (0, u32::MAX, 0, 512, RANGE, 0),
        (0, u32::MAX - 511, 0, 512, RANGE, 0),
    ];
    for config in [HostConfig::default(), with_digests()] {
        for &(cid_change, datao, flags, length, fes, fei) in cases {
            let mut bench = Bench::new(config);
            let (cid, _) = bench.submit(HostData::Read(Chunks::blank(1024, 100)));
            let wire = bench.target.c2h_data(cid ^ cid_change, datao, flags, &data[..length]);
            refused(&mut bench, &wire, fes, fei);
        }
    }
    for datal in [0u32, 511, 513, u32::MAX] {
        let mut bench = Bench::new(HostConfig::default());
        let (cid, _) = bench.submit(HostData::Read(Chunks::blank(1024, 100)));
        let wire = bench.target.c2h_data(cid, 0, 0, &data[..512]);
        refused(&mut bench, &changed(wire, 16, &datal.to_le_bytes()), HEADER, 16);
    }
}

#[test]
fn data_comes_once_and_for_reads_only() {
    let mut bench = Bench::new(HostConfig::default());
    let (cid, _) = bench.submit(HostData::Read(Chunks::blank(1024, 100)));
    let wire = bench.target.c2h_data(cid, 0, FLAG_LAST_PDU, &[1; 512]);
    bench.feed(&wire).unwrap();
    let more = bench.target.c2h_data(cid, 512, FLAG_LAST_PDU, &[1; 512]);
    refused(&mut bench, &more, SEQUENCE, 0);
    for data in [HostData::None, HostData::Write(Chunks::of(&[1; 512], 64))] {
        let mut bench = Bench::new(HostConfig::default());
        let (cid, _) = bench.submit(data);
        let wire = bench.target.c2h_data(cid, 0, FLAG_LAST_PDU, &[1; 512]);
        refused(&mut bench, &wire, SEQUENCE, 0);
    }
}

#[test]
fn success_without_all_of_the_data_is_a_lie() {
    // A read of which nothing, or a part, came.
    for came in [0, 512] {
        let mut bench = Bench::new(HostConfig::default());
        let (cid, _) = bench.submit(HostData::Read(Chunks::blank(1024, 100)));
        if came > 0 {
            bench.feed(&bench.target.c2h_data(cid, 0, FLAG_LAST_PDU, &[1; 512])).unwrap();
        }
        let wire = bench.target.response(Cqe::new(cid, Status::SUCCESS));
        refused(&mut bench, &wire, SEQUENCE, 0);
    }
    // A write whose data was not asked for, not all, or not sent.
    for asked in [0, 8192, 16384] {
        let mut bench = Bench::new(HostConfig::default());
        let (cid, _) = bench.submit(HostData::Write(Chunks::of(&[1; 16384], 1000)));
        if asked > 0 {
            bench.feed(&bench.target.r2t(cid, 0, 0, asked)).unwrap();
        }
        if asked < 16384 {
            bench.sent();
        }
        assert_eq!(bench.respond(cid, Status::SUCCESS), Err(Violation::DataMissing), "{asked}");
    }
}

#[test]
fn an_r2t_must_ask_for_what_is_next_and_there() {
    let cases: &[(u16, u32, u32, FatalErrorStatus, u32)] = &[
        // change of cccid, r2to, r2tl
        (1, 0, 4096, HEADER, 8),
        (0, 0, 0, HEADER, 16),
        (0, 0, 20_001, RANGE, 0),
        (0, 20_000, 4, RANGE, 0),
        (0, 4, u32::MAX, RANGE, 0),
        (0, u32::MAX, 1, RANGE, 0),
        (0, 4096, 4096, SEQUENCE, 0),
    ];
    for &(cid_change, r2to, r2tl, fes, fei) in cases {
        let mut bench = Bench::new(with_digests());
        let (cid, _) = bench.submit(HostData::Write(Chunks::of(&[1; 20_000], 1000)));
        let wire = bench.target.r2t(cid ^ cid_change, 7, r2to, r2tl);
        refused(&mut bench, &wire, fes, fei);
    }
    // The same bytes again, and again when all were asked for.
    for (first, second) in [((0, 4096), (0, 4096)), ((0, 4096), (2048, 4096)), ((0, 20_000), (0, 1))] {
        let mut bench = Bench::new(HostConfig { r2ts_max: 9, ..HostConfig::default() });
        let (cid, _) = bench.submit(HostData::Write(Chunks::of(&[1; 20_000], 1000)));
        bench.feed(&bench.target.r2t(cid, 7, first.0, first.1)).unwrap();
        let wire = bench.target.r2t(cid, 7, second.0, second.1);
        refused(&mut bench, &wire, SEQUENCE, 0);
    }
    // For data that went with the capsule, for a read, for no data, behind the response.
    for data in
        [HostData::Write(Chunks::of(&[1; 512], 64)), HostData::Read(Chunks::blank(512, 64)), HostData::None]
    {
        let mut bench = Bench::new(HostConfig::default());
        let (cid, _) = bench.submit(data);
        let wire = bench.target.r2t(cid, 7, 0, 512);
        refused(&mut bench, &wire, SEQUENCE, 0);
    }
    let mut bench = Bench::new(HostConfig::default());
    let (cid, _) = bench.submit(HostData::Write(Chunks::of(&[1; 20_000], 1000)));
    bench.respond(cid, Status::INTERNAL_ERROR).unwrap();
    bench.completed();
    let wire = bench.target.r2t(cid, 7, 0, 512);
    refused(&mut bench, &wire, HEADER, 8);
}

#[test]
fn more_r2ts_than_agreed_are_refused() {
    for r2ts_max in [1u32, 2, 5] {
        let mut bench = Bench::new(HostConfig { r2ts_max, ..HostConfig::default() });
        let (cid, _) = bench.submit(HostData::Write(Chunks::of(&[1; 20_000], 1000)));
        for round in 0..2 {
            for n in 0..r2ts_max {
                let r2to = (round * r2ts_max + n) * 512;
                bench.feed(&bench.target.r2t(cid, 7, r2to, 512)).unwrap();
            }
            if round == 0 {
                // What was sent counts no more.
                bench.sent();
            }
        }
        let violation = bench.feed(&bench.target.r2t(cid, 7, 2 * r2ts_max * 512, 512)).unwrap_err();
        assert_eq!(violation, Violation::R2tLimit);
    }
}

#[test]
fn every_bit_of_a_header_is_protected_by_its_digest() {
    for bit in 64..28 * 8 {
        let mut bench = Bench::new(with_digests());
        let (cid, _) = bench.submit(HostData::None);
        let mut wire = bench.target.response(Cqe::new(cid, Status::SUCCESS));
        wire[bit / 8] ^= 1 << (bit % 8);
        let received = u32::from_le_bytes(wire[24..28].try_into().unwrap());
        refused(&mut bench, &wire, FatalErrorStatus::HEADER_DIGEST_ERROR, received);
    }
}
