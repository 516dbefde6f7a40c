//! Text: SendTargets in both kinds of session, continuation both ways, everything that may be wrong.

use super::bench::*;
use crate::discovery::TargetRecords;
use crate::params::{Negotiated, SessionType};
use crate::pdu::*;
use crate::session::*;

const C: u8 = FLAG_CONTINUE;

fn text(flags: u8, ttt: u32, cmd_sn: u32, data: &[u8]) -> Pdu {
    immediate(request(Opcode::TEXT_REQUEST, flags, 5, ttt, cmd_sn, data))
}

fn discovery() -> Bench {
    Bench::of_type(SessionType::Discovery, negotiated(), SessionConfig::default())
}

fn ask(bench: &mut Bench, data: &[u8]) {
    bench.ok(&text(F, RESERVED_TAG, bench.cmd_sn, data));
}

fn expect_query(bench: &mut Bench) -> TextQuery {
    match bench.event() {
        Event::Text(query) => query,
        other => panic!("a question, not {other:?}"),
    }
}

fn records(count: usize) -> TargetRecords {
    let mut records = TargetRecords::new();
    for n in 0..count {
        let portal = "10.1.2.3:3260".parse().expect("an address");
        records.target(&format!("iqn.2026-01.io.example:volume-{n:05}")).address(portal, 1);
    }
    records
}

fn assert_text(reply: &Pdu, flags: u8, data: &[u8]) -> u32 {
    assert_eq!(reply.opcode(), Opcode::TEXT_RESPONSE);
    let header: TextResponse = reply.header();
    assert_eq!((header.flags, header.itt.get()), (flags, 5));
    assert_eq!(header.ttt.get() == RESERVED_TAG, flags & F != 0, "a tag while it goes on");
    assert_eq!(String::from_utf8_lossy(&reply.data), String::from_utf8_lossy(data));
    header.ttt.get()
}

#[test]
fn send_targets_in_a_discovery_session() {
    let mut bench = discovery();
    ask(&mut bench, b"SendTargets=All\0");
    let query = expect_query(&mut bench);
    assert_eq!(query.targets, SendTargets::All);
    assert!(bench.sent().is_empty());
    assert!(bench.session.complete_text(query.id, &records(2)));
    assert!(!bench.session.complete_text(query.id, &records(2)));
    assert_text(&bench.reply(), F, records(2).as_bytes());
    bench.assert_idle();
}

#[test]
fn send_targets_all_outside_of_discovery_is_refused() {
    let mut bench = Bench::new();
    ask(&mut bench, b"SendTargets=All\0");
    assert_text(&bench.reply(), F, b"SendTargets=Reject\0");
    ask(&mut bench, b"SendTargets=\0");
    assert_eq!(expect_query(&mut bench).targets, SendTargets::Current);
}

#[test]
fn send_targets_by_name_in_both_kinds_of_session() {
    for mut bench in [Bench::new(), discovery()] {
        ask(&mut bench, b"SendTargets=iqn.2026-01.io.example:a\0");
        let query = expect_query(&mut bench);
        assert_eq!(query.targets, SendTargets::Named("iqn.2026-01.io.example:a".into()));
        bench.session.complete_text(query.id, &TargetRecords::new());
        assert_text(&bench.reply(), F, b"");
    }
    let mut bench = discovery();
    ask(&mut bench, b"SendTargets=\0");
    assert_text(&bench.reply(), F, b"SendTargets=Reject\0");
}

#[test]
fn a_long_answer_is_fetched_in_pieces() {
    let values = Negotiated { their_max_recv_data_segment_length: 512, ..negotiated() };
    let mut bench = Bench::of_type(SessionType::Discovery, values, SessionConfig::default());
    ask(&mut bench, b"SendTargets=All\0");
    let query = expect_query(&mut bench);
    let all = records(200);
    bench.session.complete_text(query.id, &all);
    let mut joined: Vec<u8> = Vec::new();
    let mut pieces = 0;
    loop {
        let reply = bench.reply();
        let header: TextResponse = reply.header();
        joined.extend(&reply.data);
        pieces += 1;
        if header.flags == F {
            break;
        }
        assert_eq!((header.flags, reply.data.len()), (C, 512));
        bench.ok(&text(F, header.ttt.get(), bench.cmd_sn, b""));
    }
    assert_eq!(joined, all.as_bytes());
    assert_eq!(pieces, all.as_bytes().len().div_ceil(512));
}

#[test]
fn a_question_cut_anywhere_is_put_together() {
    let question = b"SendTargets=iqn.2026-01.io.example:a\0X-unknown=1\0";
    for cut in 0..=question.len() {
        let mut bench = Bench::new();
        bench.ok(&text(C, RESERVED_TAG, bench.cmd_sn, &question[..cut]));
        let ttt = assert_text(&bench.reply(), 0, b"");
        bench.ok(&text(F, ttt, bench.cmd_sn, &question[cut..]));
        let query = expect_query(&mut bench);
        assert_eq!(query.targets, SendTargets::Named("iqn.2026-01.io.example:a".into()));
        bench.session.complete_text(query.id, &records(1));
        let mut expected = b"X-unknown=NotUnderstood\0".to_vec();
        expected.extend(records(1).as_bytes());
        assert_text(&bench.reply(), F, &expected);
    }
}

#[test]
fn zero_length_with_every_combination_of_flags() {
    // A target once dereferenced nothing here: a text request without data but with C.
    for (flags, expected) in [(F, Some(F)), (C, Some(0)), (0, Some(0)), (F | C, None)] {
        for tag_in_use in [false, true] {
            let mut bench = Bench::new();
            let mut ttt = RESERVED_TAG;
            if tag_in_use {
                bench.ok(&text(C, RESERVED_TAG, bench.cmd_sn, b""));
                ttt = assert_text(&bench.reply(), 0, b"");
            }
            bench.ok(&text(flags, ttt, bench.cmd_sn, b""));
            match expected {
                Some(answer) => {
                    assert_text(&bench.reply(), answer, b"");
                }
                None => bench.expect_reject(RejectReason::PROTOCOL_ERROR),
            }
            ask(&mut bench, b"X=1\0");
            assert_text(&bench.reply(), F, b"X=NotUnderstood\0");
        }
    }
}

#[test]
fn a_wrong_tag_ends_the_exchange() {
    let mut bench = Bench::new();
    bench.ok(&text(F, 77, bench.cmd_sn, b"X=1\0"));
    bench.expect_reject(RejectReason::INVALID_PDU_FIELD);
    bench.ok(&text(C, RESERVED_TAG, bench.cmd_sn, b"X=1"));
    let ttt = assert_text(&bench.reply(), 0, b"");
    bench.ok(&text(F, ttt ^ 0x1000, bench.cmd_sn, b"\0"));
    bench.expect_reject(RejectReason::INVALID_PDU_FIELD);
    bench.ok(&text(F, ttt, bench.cmd_sn, b"\0"));
    bench.expect_reject(RejectReason::INVALID_PDU_FIELD);
}

#[test]
fn another_task_tag_in_an_exchange_is_refused() {
    let mut bench = Bench::new();
    bench.ok(&text(C, RESERVED_TAG, bench.cmd_sn, b"X=1"));
    let ttt = assert_text(&bench.reply(), 0, b"");
    bench.ok(&immediate(request(Opcode::TEXT_REQUEST, F, 6, ttt, bench.cmd_sn, b"\0")));
    bench.expect_reject(RejectReason::INVALID_PDU_FIELD);
}

#[test]
fn a_new_exchange_forgets_the_old_one() {
    let mut bench = Bench::new();
    bench.ok(&text(C, RESERVED_TAG, bench.cmd_sn, b"SendTargets=iqn.2026-01.io.exa"));
    bench.sent();
    ask(&mut bench, b"X=1\0");
    assert_text(&bench.reply(), F, b"X=NotUnderstood\0");
}

#[test]
fn continuation_that_never_ends_is_bounded() {
    let mut bench = Bench::new();
    let mut ttt = RESERVED_TAG;
    for _ in 0..limits::TEXT_REQUEST_BYTES_MAX / 8192 {
        bench.ok(&text(C, ttt, bench.cmd_sn, &[b'x'; 8192]));
        ttt = assert_text(&bench.reply(), 0, b"");
    }
    bench.ok(&text(C, ttt, bench.cmd_sn, b"x"));
    bench.expect_reject(RejectReason::LONG_OPERATION_REJECT);
}

#[test]
fn data_while_the_answer_is_fetched_is_refused() {
    let values = Negotiated { their_max_recv_data_segment_length: 512, ..negotiated() };
    let mut bench = Bench::of_type(SessionType::Discovery, values, SessionConfig::default());
    ask(&mut bench, b"SendTargets=All\0");
    let query = expect_query(&mut bench);
    bench.session.complete_text(query.id, &records(50));
    let ttt = bench.reply().header::<TextResponse>().ttt.get();
    bench.ok(&text(F, ttt, bench.cmd_sn, b"X=1\0"));
    bench.expect_reject(RejectReason::PROTOCOL_ERROR);
}

#[test]
fn text_that_is_no_text() {
    let long_key = [&[b'k'; 64][..], b"=1\0"].concat();
    let long_value = [b"X=", &[b'v'; 256][..], b"\0"].concat();
    let bad: [&[u8]; 9] = [
        b"SendTargets",
        b"SendTargets=All",
        b"SendTargets\0",
        b"=All\0",
        b"\xff\xfe=1\0",
        b"SendTargets=All\0SendTargets=All\0",
        b"MaxRecvDataSegmentLength=512\0MaxRecvDataSegmentLength=512\0",
        &long_key,
        &long_value,
    ];
    for data in bad {
        let mut bench = discovery();
        ask(&mut bench, data);
        bench.expect_reject(RejectReason::PROTOCOL_ERROR);
        bench.assert_idle();
    }
}

#[test]
fn login_keys_are_refused_and_the_segment_length_is_taken() {
    let mut bench = Bench::new();
    ask(&mut bench, b"MaxConnections=4\0MaxRecvDataSegmentLength=512\0InitiatorAlias=x\0");
    assert_text(&bench.reply(), F, b"MaxConnections=Reject\0");
    bench.ok(&immediate(request(Opcode::NOP_OUT, F, 6, RESERVED_TAG, bench.cmd_sn, &pattern(2000))));
    assert_eq!(bench.reply().data.len(), 512);
    for bad in [&b"MaxRecvDataSegmentLength=511\0"[..], b"MaxRecvDataSegmentLength=16777216\0"] {
        ask(&mut bench, bad);
        assert_text(&bench.reply(), F, b"MaxRecvDataSegmentLength=Reject\0");
    }
}

#[test]
fn a_second_question_while_the_first_is_open_is_refused() {
    let mut bench = discovery();
    ask(&mut bench, b"SendTargets=All\0");
    let cmd_sn = bench.cmd_sn;
    bench.ok(&immediate(request(Opcode::TEXT_REQUEST, F, 6, RESERVED_TAG, cmd_sn, b"SendTargets=All\0")));
    bench.expect_reject(RejectReason::PROTOCOL_ERROR);
    // The exchange is gone with it: the layer above is told that its answer comes too late.
    assert!(bench.events().is_empty());
    bench.ok(&immediate(request(Opcode::TEXT_REQUEST, F, 7, RESERVED_TAG, cmd_sn, b"X=1\0")));
    assert_eq!(bench.reply().data, b"X=NotUnderstood\0");
}

#[test]
fn a_very_long_list_ends_with_a_whole_record() {
    let mut bench = discovery();
    ask(&mut bench, b"SendTargets=All\0");
    let query = expect_query(&mut bench);
    bench.session.complete_text(query.id, &records(20_000));
    let mut joined: Vec<u8> = Vec::new();
    loop {
        let reply = bench.reply();
        joined.extend(&reply.data);
        let header: TextResponse = reply.header();
        if header.flags == F {
            break;
        }
        bench.ok(&text(F, header.ttt.get(), bench.cmd_sn, b""));
    }
    assert!(joined.len() <= limits::TEXT_RESPONSE_BYTES_MAX);
    assert_eq!(joined.last(), Some(&0));
    assert_eq!(joined, records(20_000).as_bytes()[..joined.len()]);
}

#[test]
fn a_text_request_with_a_number_takes_its_turn() {
    let mut bench = discovery();
    let hole = bench.next_cmd_sn();
    let cmd_sn = bench.next_cmd_sn();
    bench.ok(&request(Opcode::TEXT_REQUEST, F, 5, RESERVED_TAG, cmd_sn, b"X=1\0"));
    assert!(bench.sent().is_empty());
    bench.ok(&request(Opcode::NOP_OUT, F, 6, RESERVED_TAG, hole, b""));
    assert_eq!(bench.sent().len(), 2);
}
