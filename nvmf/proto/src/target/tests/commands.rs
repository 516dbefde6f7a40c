//! Commands that go well, one way and the other.

use nvme_spec::tcp::{FLAG_LAST_PDU, FLAG_SUCCESS};
use nvme_spec::{Cqe, SglDescriptor, Status};
use zerocopy::little_endian::{U16, U32};

use super::bench::*;
use crate::connection::TargetConfig;
use crate::target::*;
use crate::testing::Chunks;
use crate::testing::wire::Pdu;

fn r2t(pdu: &Pdu) -> (u16, u16, u32, u32) {
    match pdu {
        Pdu::R2t { cccid, ttag, r2to, r2tl } => (*cccid, *ttag, *r2to, *r2tl),
        other => panic!("an R2T is expected, not {other:?}"),
    }
}

#[test]
fn a_command_without_data_is_given_out_and_answered() {
    let mut bench = Bench::connected(Options::default());
    bench.capsule(&sqe(7, 0, SglDescriptor::transport(0)), &[]).unwrap();
    let command = bench.command();
    assert_eq!((command.sqe.cid.get(), command.sequence, command.sgl_bytes), (7, 0, 0));
    assert!(command.data.is_none() && command.fault.is_none());
    bench.no_event();
    assert_eq!(bench.queue.executing().collect::<Vec<_>>(), [command.id]);
    bench.complete(command.id);
    assert_eq!(bench.sent(), [answered(7, Status::SUCCESS)]);
    assert!(!bench.queue.complete(command.id, cqe(Status::SUCCESS)), "the id is stale");
    assert_eq!((bench.sent(), bench.queue.command_count()), (vec![], 0));
}

#[test]
fn data_in_the_capsule_arrives_with_and_without_digests_and_padding() {
    for cpda in [0, 1, 7, 31] {
        for mut options in [Options::default(), Options::with_digests()] {
            options.target.cpda = cpda;
            let mut bench = Bench::connected(options);
            for (cid, length) in [(0, 1), (1, 4), (2, 512), (3, 4096), (4, 16384)] {
                let data = pattern(length, cid as u8);
                let sgl = SglDescriptor::in_capsule(0, length as u32);
                bench.capsule(&sqe(cid, WRITE, sgl), &data).unwrap();
                let command = bench.command();
                assert_eq!(command.data.expect("it was collected").bytes(), data);
                bench.complete(command.id);
                assert_eq!(bench.sent(), [answered(cid, Status::SUCCESS)]);
            }
        }
    }
}

#[test]
fn a_command_may_take_less_than_its_capsule_brings() {
    let mut bench = Bench::connected(Options::default());
    let data = pattern(4096, 1);
    let command = sqe(1, WRITE, SglDescriptor::in_capsule(0, 4096));
    bench.capsule(&with_length(command, 48), &data).unwrap();
    assert_eq!(bench.command().data.unwrap().bytes(), &data[..48]);
    // A command that takes none at all has its data dropped.
    bench.capsule(&sqe(2, 0, SglDescriptor::in_capsule(0, 4096)), &data).unwrap();
    let command = bench.command();
    assert!(command.data.is_none() && command.fault.is_none());
    bench.capsule(&sqe(3, WRITE, SglDescriptor::in_capsule(0, 4096)), &data).unwrap();
    assert_eq!(bench.command().data.unwrap().bytes(), data);
}

#[test]
fn data_is_asked_for_with_as_many_r2ts_as_both_ends_take() {
    for (host_takes, target_sends) in [(1u32, 1u8), (1, 4), (2, 4), (4, 4), (u32::MAX, 3), (4, 1)] {
        let mut options = Options::default();
        options.host.r2ts_max = host_takes;
        options.target = TargetConfig { r2ts_max: target_sends, r2t_bytes_max: 4096, ..options.target };
        let mut bench = Bench::connected(options);
        let data = pattern(10 * 4096 + 100, 5);
        bench.capsule(&sqe(9, WRITE, SglDescriptor::transport(data.len() as u32)), &[]).unwrap();
        let most = host_takes.min(u32::from(target_sends)) as usize;
        let mut out = bench.sent();
        let mut asked = 0;
        let mut tags = Vec::new();
        while !out.is_empty() {
            assert!(out.len() <= most);
            // The last R2T that is out is answered first: R2Ts of one command may be served in any order.
            let (cccid, ttag, r2to, r2tl) = r2t(&out.pop().unwrap());
            assert_eq!(cccid, 9);
            assert!(!out.iter().any(|other| r2t(other).1 == ttag));
            asked += r2tl;
            tags.push(ttag);
            let piece = &data[r2to as usize..(r2to + r2tl) as usize];
            let (first, second) = piece.split_at(piece.len() / 2);
            let halfway = r2to + first.len() as u32;
            bench.feed(&bench.host.h2c_data(9, ttag, r2to, 0, first)).unwrap();
            bench.feed(&bench.host.h2c_data(9, ttag, halfway, FLAG_LAST_PDU, second)).unwrap();
            out.extend(bench.sent());
            if asked < data.len() as u32 {
                assert!(!out.is_empty());
                bench.no_event();
            }
        }
        assert_eq!(asked as usize, data.len());
        assert_eq!(bench.command().data.unwrap().bytes(), data);
    }
}

#[test]
fn a_read_is_one_pdu_with_its_status_when_nothing_else_is_to_be_said() {
    for options in [Options::default(), Options::with_digests()] {
        let mut bench = Bench::connected(options);
        for (cid, length) in [(1, 4), (2, 512), (3, 513), (4, 4096), (5, 128 * 1024)] {
            bench.capsule(&sqe(cid, READ, SglDescriptor::transport(length)), &[]).unwrap();
            let command = bench.command();
            assert_eq!(command.sgl_bytes, length);
            let data = pattern(length as usize, cid as u8);
            assert!(bench.queue.complete_read(command.id, cqe(Status::SUCCESS), Chunks::of(&data, 700)));
            let flags = FLAG_LAST_PDU | FLAG_SUCCESS;
            assert_eq!(bench.sent(), [Pdu::C2hData { cccid: cid, datao: 0, flags, data }]);
            assert_eq!(bench.queue.command_count(), 0);
        }
        assert_eq!(bench.queue.counters().success_flags, 5);
    }
}

#[test]
fn a_read_has_a_response_when_there_is_more_to_say() {
    let mut result = cqe(Status::SUCCESS);
    result.dw0 = U32::new(5);
    let cases = [
        (false, result),
        (false, cqe(Status::LBA_OUT_OF_RANGE)),
        (false, cqe(Status::SUCCESS.with_more())),
        (true, cqe(Status::SUCCESS)),
    ];
    for (sq_flow_control, answer) in cases {
        let mut bench = Bench::connected(Options { sq_flow_control, ..Options::default() });
        for length in [8, 4096] {
            bench.capsule(&sqe(3, READ, SglDescriptor::transport(8192)), &[]).unwrap();
            let command = bench.command();
            let data = pattern(length, 1);
            assert!(bench.queue.complete_read(command.id, answer, Chunks::of(&data, 512)));
            let sqhd = if sq_flow_control { command.sequence as u16 + 1 } else { 0 };
            let expected = Cqe { cid: U16::new(3), sqhd: U16::new(sqhd), ..answer };
            let data = Pdu::C2hData { cccid: 3, datao: 0, flags: FLAG_LAST_PDU, data };
            assert_eq!(bench.sent(), [data, Pdu::CapsuleResp(expected)]);
        }
    }
}

#[test]
fn a_long_read_is_cut_into_pdus_and_aligned_as_the_host_wants() {
    for hpda in [0, 3, 31] {
        let mut options = Options::with_digests();
        options.host.hpda = hpda;
        options.target.c2h_data_bytes_max = 8192;
        let mut bench = Bench::connected(options);
        bench.capsule(&sqe(3, READ, SglDescriptor::transport(20_000)), &[]).unwrap();
        let command = bench.command();
        let data = pattern(20_000, 9);
        assert!(bench.queue.complete_read(command.id, cqe(Status::SUCCESS), Chunks::of(&data, 5000)));
        let piece = |from: usize, to: usize, flags| Pdu::C2hData {
            cccid: 3,
            datao: from as u32,
            flags,
            data: data[from..to].to_vec(),
        };
        let last = FLAG_LAST_PDU | FLAG_SUCCESS;
        assert_eq!(bench.sent(), [piece(0, 8192, 0), piece(8192, 16384, 0), piece(16384, 20_000, last)]);
        assert_eq!(bench.queue.command_count(), 0);
    }
}

#[test]
fn sqhd_counts_the_entries_that_were_taken_and_wraps() {
    let mut bench = Bench::connected(Options { sq_flow_control: true, ..Options::default() });
    for n in 1..40u16 {
        bench.capsule(&sqe(n, 0, SglDescriptor::transport(0)), &[]).unwrap();
        let command = bench.command();
        bench.complete(command.id);
        let Pdu::CapsuleResp(cqe) = bench.sent()[0] else { panic!() };
        assert_eq!((cqe.cid.get(), cqe.sqhd.get()), (n, n % 16));
    }
}

#[test]
fn commands_are_given_out_as_their_data_arrives_and_keep_their_place() {
    let mut bench = Bench::connected(Options::default());
    bench.capsule(&sqe(1, WRITE, SglDescriptor::transport(8)), &[]).unwrap();
    bench.capsule(&sqe(2, 0, SglDescriptor::transport(0)), &[]).unwrap();
    let second = bench.command();
    assert_eq!((second.sqe.cid.get(), second.sequence), (2, 1));
    let (_, ttag, _, _) = r2t(&bench.sent()[0]);
    bench.feed(&bench.host.h2c_data(1, ttag, 0, FLAG_LAST_PDU, &[3; 8])).unwrap();
    let first = bench.command();
    assert_eq!((first.sqe.cid.get(), first.sequence), (1, 0));
}

#[test]
fn a_cid_is_free_when_its_answer_was_sent_and_refused_before() {
    let mut bench = Bench::connected(Options::default());
    let command = sqe(5, 0, SglDescriptor::transport(0));
    bench.capsule(&command, &[]).unwrap();
    bench.capsule(&command, &[]).unwrap();
    let (first, second) = (bench.command(), bench.command());
    assert_eq!((first.fault, second.fault), (None, Some(Status::COMMAND_ID_CONFLICT.with_dnr())));
    bench.complete(first.id);
    bench.complete(second.id);
    for _ in 0..100 {
        bench.capsule(&command, &[]).unwrap();
        let again = bench.command();
        assert_eq!(again.fault, None);
        bench.complete(again.id);
    }
}

#[test]
fn a_wrong_data_digest_fails_its_command_and_no_other() {
    let mut bench = Bench::connected(Options::with_digests());
    let data = pattern(4096, 1);
    let mut wire = bench.host.capsule(&sqe(1, WRITE, SglDescriptor::in_capsule(0, 4096)), &data);
    let at = wire.len() - 100;
    wire[at] ^= 0x10;
    bench.feed(&wire).unwrap();
    let command = bench.command();
    assert_eq!(command.fault, Some(Status::TRANSIENT_TRANSPORT_ERROR));
    assert!(command.data.is_none());
    bench.complete(command.id);

    // In the first of two H2CData: the second is still read, then the command fails and no more is asked for.
    bench.capsule(&sqe(2, WRITE, SglDescriptor::transport(4096)), &[]).unwrap();
    let Some(Pdu::R2t { ttag, .. }) = bench.sent().pop() else { panic!() };
    let mut wire = bench.host.h2c_data(2, ttag, 0, 0, &data[..1024]);
    *wire.last_mut().unwrap() ^= 1;
    bench.feed(&wire).unwrap();
    bench.no_event();
    bench.feed(&bench.host.h2c_data(2, ttag, 1024, FLAG_LAST_PDU, &data[1024..])).unwrap();
    assert_eq!(bench.command().fault, Some(Status::TRANSIENT_TRANSPORT_ERROR));

    bench.capsule(&sqe(3, WRITE, SglDescriptor::in_capsule(0, 4096)), &data).unwrap();
    assert_eq!(bench.command().data.unwrap().bytes(), data);
    assert_eq!(bench.queue.counters().data_digest_errors, 2);
}

#[test]
fn no_more_is_asked_for_when_a_command_has_failed() {
    let mut options = Options::with_digests();
    options.target.r2t_bytes_max = 512;
    let mut bench = Bench::connected(options);
    bench.capsule(&sqe(2, WRITE, SglDescriptor::transport(4096)), &[]).unwrap();
    let Some(Pdu::R2t { ttag, .. }) = bench.sent().pop() else { panic!() };
    let mut wire = bench.host.h2c_data(2, ttag, 0, FLAG_LAST_PDU, &[1; 512]);
    *wire.last_mut().unwrap() ^= 1;
    bench.feed(&wire).unwrap();
    assert_eq!(bench.sent(), []);
    let command = bench.command();
    assert_eq!(command.fault, Some(Status::TRANSIENT_TRANSPORT_ERROR));
    bench.complete(command.id);
}

#[test]
fn what_the_admission_says_is_checked_and_passed_on() {
    let mut bench = Bench::connected(Options::default());
    let command = with_length(sqe(1, WRITE, SglDescriptor::transport(512)), 513);
    bench.capsule(&command, &[]).unwrap();
    assert_eq!(bench.command().fault, Some(Status::DATA_SGL_LENGTH_INVALID.with_dnr()));
    bench.capsule(&sqe(2, 0x03, SglDescriptor::transport(512)), &[]).unwrap();
    assert_eq!(bench.command().fault, Some(Status::INVALID_OPCODE));
    bench.capsule(&sqe(3, WRITE, SglDescriptor::transport(u32::MAX)), &[]).unwrap();
    assert_eq!(bench.command().fault, Some(Status::INVALID_FIELD.with_dnr()));
    assert_eq!(bench.sent(), []);
}

#[test]
fn an_abort_finds_a_command_wherever_it_is() {
    let mut bench = Bench::connected(Options::default());
    assert_eq!(bench.queue.abort(1), Aborted::NotFound);
    bench.capsule(&sqe(1, WRITE, SglDescriptor::transport(64)), &[]).unwrap();
    assert_eq!(bench.queue.abort(1), Aborted::Marked);
    bench.no_event();
    let Some(Pdu::R2t { ttag, .. }) = bench.sent().pop() else { panic!() };
    bench.feed(&bench.host.h2c_data(1, ttag, 0, FLAG_LAST_PDU, &[1; 64])).unwrap();
    let command = bench.command();
    assert_eq!(command.fault, Some(Status::ABORT_REQUESTED));
    assert!(command.data.is_none());
    assert_eq!(bench.queue.abort(1), Aborted::Executing(command.id));
    bench.complete(command.id);

    bench.capsule(&sqe(2, READ, SglDescriptor::transport(1024)), &[]).unwrap();
    let command = bench.command();
    assert!(bench.queue.complete_read(command.id, cqe(Status::SUCCESS), Chunks::blank(1024, 64)));
    assert_eq!(bench.queue.abort(2), Aborted::Completed);
}

#[test]
fn a_queue_that_closes_forgets_what_was_not_given_out_and_ignores_late_answers() {
    let mut bench = Bench::connected(Options::default());
    for cid in 0..3 {
        bench.capsule(&sqe(cid, 0, SglDescriptor::transport(0)), &[]).unwrap();
    }
    bench.capsule(&sqe(3, WRITE, SglDescriptor::transport(64)), &[]).unwrap();
    let command = bench.command();
    bench.queue.close();
    assert_eq!(bench.queue.blocked(), Some(Blocked::Closing));
    bench.no_event();
    assert!(matches!(bench.sent()[..], [Pdu::R2t { .. }]));
    assert!(matches!(bench.queue.next_event(), Some(Event::Close(CloseCause::Requested))));
    bench.no_event();
    assert!(!bench.queue.complete(command.id, cqe(Status::SUCCESS)));
    bench.capsule(&sqe(9, 0, SglDescriptor::transport(0)), &[]).unwrap();
    bench.no_event();
    assert_eq!(bench.sent(), []);
}
