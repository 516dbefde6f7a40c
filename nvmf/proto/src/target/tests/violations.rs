//! Everything a host can do wrong, and how it is told.

use nvme_spec::tcp::{FLAG_LAST_PDU, FatalErrorStatus, PduType};
use nvme_spec::{SglDescriptor, Status};
use zerocopy::IntoBytes;

use super::bench::*;
use crate::connection;
use crate::error::TermReqCause;
use crate::target::*;
use crate::testing::wire::{PLAIN, Pdu};
use crate::testing::{Chunks, TestAdmission};
use crate::{HostConfig, Violation};

const HEADER: FatalErrorStatus = FatalErrorStatus::INVALID_PDU_HEADER_FIELD;
const SEQUENCE: FatalErrorStatus = FatalErrorStatus::PDU_SEQUENCE_ERROR;
const RANGE: FatalErrorStatus = FatalErrorStatus::DATA_TRANSFER_OUT_OF_RANGE;
const LIMIT: FatalErrorStatus = FatalErrorStatus::DATA_TRANSFER_LIMIT_EXCEEDED;

/// The queue refuses `wire` with this report, which carries the header back, and ends.
fn refused(bench: &mut Bench, wire: &[u8], fes: FatalErrorStatus, fei: u32) {
    bench.sent();
    let violation = bench.feed(wire).expect_err("it is refused");
    let expected = TermReqCause { fes, fei };
    assert_eq!(violation.report(), Some(expected), "{violation}");
    let sent = bench.sent();
    let Some(Pdu::TermReq { pdu_type, cause, header }) = sent.last() else { panic!("{sent:?}") };
    assert_eq!((*pdu_type, *cause), (PduType::C2H_TERM_REQ, expected));
    assert!(header.len() >= 8 && wire.starts_with(header), "the header comes back");
    assert!(
        matches!(bench.queue.next_event(), Some(Event::Close(CloseCause::Violation(v))) if v == violation)
    );
    bench.no_event();
    bench.unread.clear();
    bench.feed(&[0xff; 4096]).unwrap();
    assert_eq!((bench.sent(), bench.queue.command_count()), (vec![], 0));
}

fn icreq() -> Vec<u8> {
    connection::request(&HostConfig::default()).as_bytes().to_vec()
}

fn fresh() -> Bench {
    Bench {
        queue: TargetQueue::new(TargetConfig::default()),
        admission: TestAdmission::default(),
        host: PLAIN,
        target: PLAIN,
        unread: Vec::new(),
        cut: usize::MAX,
        in_place: false,
    }
}

fn changed(mut bytes: Vec<u8>, at: usize, new: &[u8]) -> Vec<u8> {
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

#[test]
fn only_a_sound_icreq_may_come_first() {
    for (at, new, fes, fei) in [
        (2, &[127][..], HEADER, 2),
        (4, &[129][..], HEADER, 4),
        (4, &[0, 0, 0, 0xff], HEADER, 4),
        (8, &[1], FatalErrorStatus::UNSUPPORTED_PARAMETER, 8),
        (10, &[32], HEADER, 10),
    ] {
        refused(&mut fresh(), &changed(icreq(), at, new), fes, fei);
    }
    // A capsule or data is too early, anything else is no PDU of a host.
    for pdu_type in 1..=255u8 {
        let wire = changed(icreq(), 0, &[pdu_type]);
        match PduType(pdu_type) {
            PduType::H2C_TERM_REQ => {}
            PduType::CAPSULE_CMD | PduType::H2C_DATA => refused(&mut fresh(), &wire, SEQUENCE, 0),
            _ => refused(&mut fresh(), &wire, HEADER, 0),
        }
    }
    let mut bench = Bench::initialized(Options::default());
    refused(&mut bench, &icreq(), SEQUENCE, 0);
}

#[test]
fn every_type_and_every_header_length_but_one_is_refused() {
    for pdu_type in 0..=255u8 {
        let wire = changed(PLAIN.capsule(&sqe(1, 0, SglDescriptor::transport(0)), &[]), 0, &[pdu_type]);
        match PduType(pdu_type) {
            PduType::IC_REQ => refused(&mut Bench::connected(Options::default()), &wire, SEQUENCE, 0),
            // The lengths are those of a capsule.
            PduType::H2C_DATA => refused(&mut Bench::connected(Options::default()), &wire, HEADER, 2),
            PduType::CAPSULE_CMD | PduType::H2C_TERM_REQ => {}
            _ => refused(&mut Bench::connected(Options::default()), &wire, HEADER, 0),
        }
    }
    for options in [Options::default(), Options::with_digests()] {
        for hlen in (0..=255u8).filter(|hlen| *hlen != 72) {
            let mut bench = Bench::connected(options);
            let wire = bench.host.capsule(&sqe(1, 0, SglDescriptor::transport(0)), &[]);
            refused(&mut bench, &changed(wire, 2, &[hlen]), HEADER, 2);
        }
    }
}

#[test]
fn digest_flags_must_match_what_was_negotiated() {
    for options in [Options::default(), Options::with_digests()] {
        for (flip, data) in [(1, &[][..]), (1, &[5; 8]), (2, &[5; 8]), (3, &[5; 8])] {
            let mut bench = Bench::connected(options);
            let command = sqe(1, WRITE, SglDescriptor::in_capsule(0, data.len() as u32));
            let mut wire = bench.host.capsule(&command, data);
            wire[1] ^= flip;
            refused(&mut bench, &wire, HEADER, 1);
        }
    }
}

#[test]
fn every_data_offset_and_length_of_a_capsule_is_taken_or_refused() {
    for mut options in [Options::default(), Options::with_digests()] {
        options.target.cpda = 1;
        let digest_bytes = if options.host.header_digest { 4 } else { 0 };
        let (base, trailer) = (72 + digest_bytes, digest_bytes);
        for pdo in 0..=255usize {
            let mut bench = Bench::connected(options);
            let data = [6; 300];
            let command = sqe(1, WRITE, SglDescriptor::in_capsule(0, 300));
            let wire = bench.host.capsule(&command, &data);
            let mut wire = changed(wire, 3, &[pdo as u8]);
            if pdo % 8 != 0 || pdo < base {
                refused(&mut bench, &wire, HEADER, 3);
                continue;
            }
            // As much padding as one likes.
            wire.truncate(72);
            wire[4..8].copy_from_slice(&((pdo + 300 + trailer) as u32).to_le_bytes());
            if trailer > 0 {
                let sum = crate::digest::digest(&wire);
                wire.extend(sum);
            }
            wire.resize(pdo, 0x77);
            wire.extend(data);
            if trailer > 0 {
                wire.extend(crate::digest::digest(&data));
            }
            bench.feed(&wire).unwrap();
            let command = bench.command();
            assert_eq!((command.fault, command.data.unwrap().bytes()), (None, &data[..]));
        }
        for plen in [0, 8, 71, base - 1] {
            let mut bench = Bench::connected(options);
            let wire = bench.host.capsule(&sqe(1, 0, SglDescriptor::transport(0)), &[]);
            refused(&mut bench, &changed(wire, 4, &(plen as u32).to_le_bytes()), HEADER, 4);
        }
    }
    // No room for the data behind PDO, or for the digest.
    for (options, plen) in [(Options::default(), 72 + 1), (Options::with_digests(), 76 + 4)] {
        let mut bench = Bench::connected(options);
        let wire = bench.host.capsule(&sqe(1, WRITE, SglDescriptor::in_capsule(0, 8)), &[1; 8]);
        let wire = changed(wire, 4, &(plen as u32).to_le_bytes());
        let fei = if plen == 80 { 4 } else { 3 };
        if fei == 4 {
            refused(&mut bench, &wire, HEADER, 4);
        } else {
            refused(&mut bench, &changed(wire, 3, &[76]), HEADER, 3);
        }
    }
}

#[test]
fn a_capsule_may_hold_what_was_agreed_and_no_byte_more() {
    for (connected, limit) in [(false, 8192), (true, 16384)] {
        let open = |options| if connected { Bench::connected(options) } else { Bench::initialized(options) };
        let mut bench = open(Options::default());
        let command = sqe(1, WRITE, SglDescriptor::in_capsule(0, limit as u32));
        bench.capsule(&command, &pattern(limit, 1)).unwrap();
        let command = bench.command();
        assert!(command.fault.is_none());
        bench.complete(command.id);
        let command = sqe(2, WRITE, SglDescriptor::in_capsule(0, limit as u32 + 4));
        let wire = bench.host.capsule(&command, &pattern(limit + 4, 1));
        refused(&mut bench, &wire, LIMIT, 0);
        let mut bench = open(Options::default());
        let wire = changed(wire, 4, &u32::MAX.to_le_bytes());
        refused(&mut bench, &wire, LIMIT, 0);
    }
}

#[test]
fn sgl_mistakes_are_the_commands_own() {
    let mut bench = Bench::connected(Options::default());
    let mut wrong = |cid, sgl, data: &[u8]| {
        bench.capsule(&sqe(cid, WRITE, sgl), data).unwrap();
        let command = bench.command();
        assert!(command.data.is_none());
        let fault = command.fault.expect("it is wrong");
        assert!(bench.queue.complete(command.id, cqe(fault)));
        assert_eq!(bench.sent(), [answered(cid, fault)]);
        fault.code()
    };
    assert_eq!(wrong(1, SglDescriptor::in_capsule(0, 512), &[0; 256]), Status::DATA_SGL_LENGTH_INVALID);
    assert_eq!(wrong(2, SglDescriptor::in_capsule(0, 512), &[]), Status::DATA_SGL_LENGTH_INVALID);
    assert_eq!(wrong(3, SglDescriptor::transport(256), &[0; 256]), Status::DATA_SGL_LENGTH_INVALID);
    assert_eq!(wrong(4, SglDescriptor::in_capsule(4, 256), &[0; 256]), Status::SGL_OFFSET_INVALID);
    let address = SglDescriptor { identifier: Default::default(), ..SglDescriptor::transport(256) };
    assert_eq!(wrong(5, address, &[]), Status::SGL_DESCRIPTOR_TYPE_INVALID);
}

/// A queue that waits for 8192 bytes of command 6, in R2Ts of 4096, and the tag of the first.
fn soliciting(options: Options) -> (Bench, u16) {
    let mut options = options;
    options.target.r2t_bytes_max = 4096;
    options.target.h2c_data_bytes_max = 4096;
    let mut bench = Bench::connected(options);
    bench.capsule(&sqe(6, WRITE, SglDescriptor::transport(8192)), &[]).unwrap();
    let [Pdu::R2t { ttag, r2to: 0, r2tl: 4096, .. }] = bench.sent()[..] else { panic!() };
    (bench, ttag)
}

#[test]
fn h2c_data_must_answer_its_r2t_to_the_byte() {
    let data = pattern(8192, 1);
    let cases: &[(u16, u16, u32, u8, usize, FatalErrorStatus, u32)] = &[
        // cccid, change of ttag, datao, flags, length
        (7, 0, 0, 0, 512, HEADER, 8),
        (6, 1, 0, 0, 512, HEADER, 10),
        (6, 1 << 10, 0, 0, 512, HEADER, 10),
        (6, 1 << 12, 0, 0, 512, HEADER, 10),
        (6, 0x3ff, 0, 0, 512, HEADER, 10),
        (6, 0, 512, 0, 512, SEQUENCE, 0),
        (6, 0, 4, 0, 512, SEQUENCE, 0),
        (6, 0, 4096, 0, 512, RANGE, 0),
        (6, 0, 3585, 0, 512, RANGE, 0),
        (6, 0, u32::MAX, 0, 512, RANGE, 0),
        (6, 0, u32::MAX - 511, 0, 512, RANGE, 0),
        (6, 0, 0x8000_0000, 0, 512, RANGE, 0),
        (6, 0, 0, 0, 4100, LIMIT, 0),
        // LAST_PDU early, late.
        (6, 0, 0, FLAG_LAST_PDU, 4092, SEQUENCE, 0),
        (6, 0, 0, 0, 4096, SEQUENCE, 0),
    ];
    for options in [Options::default(), Options::with_digests()] {
        for &(cccid, tag, datao, flags, length, fes, fei) in cases {
            let (mut bench, ttag) = soliciting(options);
            let wire = bench.host.h2c_data(cccid, ttag ^ tag, datao, flags, &data[..length]);
            refused(&mut bench, &wire, fes, fei);
        }
    }
    // DATAL against PLEN, and no data at all.
    for datal in [0u32, 1, 511, 513, u32::MAX] {
        let (mut bench, ttag) = soliciting(Options::default());
        let wire = bench.host.h2c_data(6, ttag, 0, 0, &data[..512]);
        refused(&mut bench, &changed(wire, 16, &datal.to_le_bytes()), HEADER, 16);
    }
    let (mut bench, ttag) = soliciting(Options::default());
    let wire = bench.host.h2c_data(6, ttag, 0, 0, &[]);
    refused(&mut bench, &wire, HEADER, 16);
}

#[test]
fn a_transfer_tag_lives_as_long_as_its_r2t() {
    let data = pattern(4096, 1);
    // Of a command that never was, of an R2T that was answered, of a command that is done, of the next one in its slot.
    let mut bench = Bench::connected(Options::default());
    let wire = bench.host.h2c_data(6, 0, 0, 0, &data[..512]);
    refused(&mut bench, &wire, HEADER, 10);

    let answered = |bench: &mut Bench, ttag, datao| {
        bench.feed(&bench.host.h2c_data(6, ttag, datao, FLAG_LAST_PDU, &data)).unwrap();
    };
    let (mut bench, ttag) = soliciting(Options::default());
    answered(&mut bench, ttag, 0);
    let [Pdu::R2t { ttag: second, r2to: 4096, .. }] = bench.sent()[..] else { panic!() };
    answered(&mut bench, second, 4096);
    let command = bench.command();
    let late = bench.host.h2c_data(6, second, 4096, FLAG_LAST_PDU, &data);
    bench.complete(command.id);
    bench.capsule(&sqe(6, WRITE, SglDescriptor::transport(8192)), &[]).unwrap();
    assert!(matches!(bench.sent()[1], Pdu::R2t { ttag: third, .. } if third != second && third != ttag));
    refused(&mut bench, &late, HEADER, 10);
}

/// A command that waits for memory has a transfer tag of nobody's: no guess finds a buffer that is not there.
#[test]
fn data_for_a_command_that_has_no_memory_yet_is_refused() {
    for ttag in (0..64).chain((0..=u16::MAX).step_by(509)) {
        let mut bench = Bench::connected(Options::default());
        bench.admission.set_budget(0);
        bench.capsule(&sqe(6, WRITE, SglDescriptor::transport(512)), &[]).unwrap();
        assert!(bench.queue.wants_memory());
        let wire = bench.host.h2c_data(6, ttag, 0, FLAG_LAST_PDU, &[1; 512]);
        refused(&mut bench, &wire, HEADER, 10);
        // Memory that comes too late changes nothing.
        bench.admission.set_budget(4096);
        bench.queue.retry(&mut bench.admission);
        bench.no_event();
    }
}

#[test]
fn every_bit_of_a_header_is_protected_by_its_digest() {
    for bit in 64..(72 + 4) * 8 {
        let mut bench = Bench::connected(Options::with_digests());
        let wire = bench.host.capsule(&sqe(1, 0, SglDescriptor::transport(0)), &[]);
        let mut wrong = wire.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let received = u32::from_le_bytes(wrong[72..76].try_into().unwrap());
        refused(&mut bench, &wrong, FatalErrorStatus::HEADER_DIGEST_ERROR, received);
        assert_eq!(bench.queue.counters().header_digest_errors, 1);
    }
}

#[test]
fn more_commands_than_entries_end_the_connection() {
    let mut bench = Bench::connected(Options::default());
    for cid in 0..16 {
        bench.capsule(&sqe(cid, 0, SglDescriptor::transport(0)), &[]).unwrap();
    }
    let wire = bench.host.capsule(&sqe(16, 0, SglDescriptor::transport(0)), &[]);
    refused(&mut bench, &wire, SEQUENCE, 0);
}

#[test]
fn commands_that_others_execute_survive_the_end_without_an_answer() {
    let mut bench = Bench::connected(Options::default());
    bench.capsule(&sqe(1, READ, SglDescriptor::transport(4096)), &[]).unwrap();
    let command = bench.command();
    let violation = bench.feed(&[0xff; 8]).unwrap_err();
    assert_eq!(violation, Violation::PduType(0xff));
    assert!(!bench.queue.complete_read(command.id, cqe(Status::SUCCESS), Chunks::blank(4096, 512)));
    assert_eq!(bench.queue.executing().count(), 1);
    assert_eq!(bench.sent().len(), 1, "the terminate connection request alone");
}

#[test]
fn a_terminate_connection_request_ends_without_an_answer() {
    let cause = TermReqCause { fes: SEQUENCE, fei: 0x0102_0304 };
    for data in [0usize, 8, 128] {
        let mut bench = Bench::connected(Options::default());
        let mut tx = crate::transmit::Transmit::new();
        tx.push_term_req(PduType::H2C_TERM_REQ, cause, &vec![0; data]);
        let mut wire = Vec::new();
        let mut out = [std::io::IoSlice::new(&[]); 2];
        let filled = tx.chunks::<Chunks>(|_| unreachable!(), &mut out);
        out[..filled].iter().for_each(|slice| wire.extend_from_slice(slice));
        bench.feed(&wire).unwrap();
        assert!(matches!(
            bench.queue.next_event(),
            Some(Event::Close(CloseCause::PeerTerminated(said))) if said == cause
        ));
        assert_eq!(bench.sent(), []);
        // With a length that none has, likewise.
        for (at, new) in [(4, &[153, 0, 0, 0][..]), (4, &[23, 0, 0, 0]), (4, &[0xff; 4]), (2, &[25])] {
            let mut bench = Bench::connected(Options::default());
            let violation = bench.feed(&changed(wire.clone(), at, new)).unwrap_err();
            assert_eq!((violation, violation.report()), (Violation::TermReqLength, None));
            assert_eq!(bench.sent(), []);
            assert!(matches!(bench.queue.next_event(), Some(Event::Close(_))));
        }
    }
}
