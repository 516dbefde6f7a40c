//! Data-Out: unsolicited, solicited, in order and not; digests; what ends a task and what ends a connection.

use super::bench::*;
use crate::params::{DigestType, Negotiated};
use crate::pdu::*;
use crate::session::testing::TestHost;
use crate::session::*;

/// A write of `take` bytes with nothing along, F as given.
fn bare_write(bench: &mut Bench, itt: u32, take: u32, flags: u8) {
    let pdu = bench.command(itt, W | flags, take, TestHost::write_cdb(take), &[]);
    bench.ok(&pdu);
}

#[test]
fn unsolicited_data_arrives_whole() {
    let mut bench = Bench::new();
    let data = pattern(7000);
    let pdu = bench.command(1, W, 7000, TestHost::write_cdb(7000), &data[..1000]);
    bench.ok(&pdu);
    bench.ok(&data_out(1, RESERVED_TAG, 0, 1000, &data[1000..4001], false));
    bench.ok(&data_out(1, RESERVED_TAG, 1, 4001, &data[4001..], true));
    assert_eq!(bench.expect_command().data_out.expect("data").bytes(), data);
    assert!(bench.sent().is_empty(), "no R2T");
}

#[test]
fn the_rest_is_asked_for_in_bursts_within_the_limit_in_flight() {
    let mut bench = Bench::new();
    let data = pattern(50_000);
    let pdu = bench.write(1, 50_000, &data[..100]);
    bench.ok(&pdu);
    let mut asked = Vec::new();
    let mut open = r2ts(&bench.sent());
    assert_eq!(open.len(), 2, "MaxOutstandingR2T");
    while !open.is_empty() {
        let r2t = open.remove(0);
        assert_eq!(r2t.lun.get(), LUN);
        assert_eq!((r2t.stat_sn.get(), r2t.r2t_sn.get() as usize), (FIRST_STAT_SN, asked.len()));
        asked.push((r2t.buffer_offset_bytes.get(), r2t.desired_length_bytes.get()));
        for pdu in answer(&r2t, &data, 8192) {
            bench.ok(&pdu);
        }
        open.extend(r2ts(&bench.sent()));
    }
    assert_eq!(asked, [(100, 16384), (16484, 16384), (32868, 16384), (49252, 748)]);
    assert_eq!(bench.expect_command().data_out.expect("data").bytes(), data);
}

#[test]
fn sequences_may_be_answered_in_any_order_and_interleaved() {
    let negotiated = Negotiated { max_outstanding_r2t: 16, max_burst_length: 1000, ..negotiated() };
    let data = pattern(4000);
    let mut orders = Vec::new();
    permutations(&mut vec![0, 1, 2, 3], 0, &mut orders);
    for order in orders {
        let mut bench = Bench::with(negotiated.clone(), SessionConfig::default());
        bare_write(&mut bench, 1, 4000, F);
        let r2ts = r2ts(&bench.sent());
        assert_eq!(r2ts.len(), 4);
        let mut sequences: Vec<Vec<Pdu>> = r2ts.iter().map(|r2t| answer(r2t, &data, 600)).collect();
        // First halves in this order, second halves in the reverse one.
        for &n in &order {
            let pdu = sequences[n].remove(0);
            bench.ok(&pdu);
        }
        for &n in order.iter().rev() {
            assert!(bench.events().is_empty());
            let pdu = sequences[n].remove(0);
            bench.ok(&pdu);
        }
        assert_eq!(bench.expect_command().data_out.expect("data").bytes(), data);
    }
}

fn permutations(items: &mut Vec<usize>, from: usize, out: &mut Vec<Vec<usize>>) {
    if from == items.len() {
        return out.push(items.clone());
    }
    for other in from..items.len() {
        items.swap(from, other);
        permutations(items, from + 1, out);
        items.swap(from, other);
    }
}

#[test]
fn r2ts_of_several_commands_are_in_flight_together() {
    let mut bench = Bench::new();
    for itt in 0..5 {
        bare_write(&mut bench, itt, 5000, F);
    }
    let r2ts = r2ts(&bench.sent());
    assert_eq!(r2ts.iter().map(|r2t| r2t.itt.get()).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    for r2t in r2ts.iter().rev() {
        for pdu in answer(r2t, &pattern(5000), 8192) {
            bench.ok(&pdu);
        }
    }
    let ids: Vec<usize> = bench.commands().iter().map(|command| command.task.slot()).collect();
    assert_eq!(ids, [0, 1, 2, 3, 4], "given out in CmdSN order");
}

#[test]
fn no_two_target_transfer_tags_are_alike() {
    let mut bench = Bench::new();
    let mut seen = std::collections::BTreeSet::new();
    for itt in 0..300 {
        bare_write(&mut bench, itt, 10, F);
        let r2t = r2ts(&bench.sent())[0];
        assert_ne!(r2t.ttt.get(), RESERVED_TAG);
        assert!(seen.insert(r2t.ttt.get()));
        bench.ok(&answer(&r2t, &pattern(10), 10)[0]);
        let task = bench.expect_command().task;
        bench.good(task);
        bench.sent();
    }
}

/// Whatever the violation, the task's data is not written: no command comes out, the connection ends.
fn assert_fatal(bench: &mut Bench, pdu: &Pdu, fatal: Fatal) {
    assert_eq!(bench.send(C0, pdu), Err(fatal));
    bench.expect_reject(RejectReason::PROTOCOL_ERROR);
    let close = bench.event();
    assert!(
        matches!(close, Event::CloseConnection { connection: C0, cause: CloseCause::Fatal(cause) } if cause == fatal)
    );
    bench.session.remove_connection(C0);
    bench.assert_idle();
}

#[test]
fn immediate_data_that_was_not_negotiated() {
    let values = Negotiated { immediate_data: false, ..negotiated() };
    let mut bench = Bench::with(values, SessionConfig::default());
    let pdu = bench.write(1, 100, &pattern(100));
    assert_fatal(&mut bench, &pdu, Fatal::UnsolicitedData);
}

#[test]
fn unsolicited_data_that_was_not_negotiated() {
    let values = Negotiated { initial_r2t: true, ..negotiated() };
    let mut bench = Bench::with(values.clone(), SessionConfig::default());
    let pdu = bench.command(1, W, 100, TestHost::write_cdb(100), &pattern(10));
    assert_fatal(&mut bench, &pdu, Fatal::UnsolicitedData);
    let mut bench = Bench::with(values, SessionConfig::default());
    bare_write(&mut bench, 1, 100, F);
    assert_eq!(r2ts(&bench.sent()).len(), 1);
    assert_fatal(&mut bench, &data_out(1, RESERVED_TAG, 0, 0, &pattern(100), true), Fatal::UnsolicitedData);
}

#[test]
fn immediate_data_over_first_burst_or_over_expectation() {
    let values = Negotiated { first_burst_length: 512, ..negotiated() };
    let mut bench = Bench::with(values, SessionConfig::default());
    let pdu = bench.write(1, 4000, &pattern(513));
    assert_fatal(&mut bench, &pdu, Fatal::UnsolicitedData);
    let mut bench = Bench::new();
    let pdu = bench.command(1, W | F, 99, TestHost::write_cdb(99), &pattern(100));
    assert_fatal(&mut bench, &pdu, Fatal::Format { opcode: 1 });
}

#[test]
fn unsolicited_data_over_first_burst() {
    let values = Negotiated { first_burst_length: 512, ..negotiated() };
    let mut bench = Bench::with(values, SessionConfig::default());
    let pdu = bench.command(1, W, 4000, TestHost::write_cdb(4000), &pattern(500));
    bench.ok(&pdu);
    assert_fatal(&mut bench, &data_out(1, RESERVED_TAG, 0, 500, &pattern(13), true), Fatal::UnsolicitedData);
}

#[test]
fn solicited_data_with_a_wrong_field() {
    let wrong: [fn(&mut DataOut); 8] = [
        |header| header.ttt = 0x1234.into(),
        |header| header.ttt = RESERVED_TAG.into(),
        |header| header.lun = (LUN + 1).into(),
        |header| header.buffer_offset_bytes = 1.into(),
        |header| header.buffer_offset_bytes = 0x8000_0000.into(),
        |header| header.buffer_offset_bytes = u32::MAX.into(),
        // The end of the R2T without F.
        |header| header.flags = 0,
        // The tag of another task's R2T.
        |header| header.itt = 2.into(),
    ];
    for edit in wrong {
        let mut bench = Bench::new();
        bare_write(&mut bench, 1, 100, F);
        bare_write(&mut bench, 2, 100, F);
        let r2t = r2ts(&bench.sent())[0];
        let good = answer(&r2t, &pattern(100), 8192).remove(0);
        let mut header: DataOut = good.header();
        edit(&mut header);
        let fatal = if header.ttt.get() == RESERVED_TAG { Fatal::UnsolicitedData } else { Fatal::DataOut };
        assert_fatal(&mut bench, &Pdu::new(header, &good.data), fatal);
    }
}

#[test]
fn more_than_was_asked_for() {
    let mut bench = Bench::new();
    bare_write(&mut bench, 1, 100, F);
    let ttt = r2ts(&bench.sent())[0].ttt.get();
    assert_fatal(&mut bench, &data_out(1, ttt, 0, 0, &pattern(101), true), Fatal::DataOut);
}

#[test]
fn data_on_another_connection_than_the_commands() {
    let mut bench = Bench::new();
    let other = bench.connect(11);
    bare_write(&mut bench, 1, 100, F);
    let pdu = answer(&r2ts(&bench.sent())[0], &pattern(100), 8192).remove(0);
    assert_eq!(bench.send(other, &pdu), Err(Fatal::DataOut));
    assert!(bench.session.blocked(C0).is_none(), "the other connection lives on");
    bench.ok(&pdu);
    let events = bench.events();
    assert!(events.iter().any(|event| matches!(event, Event::Command(_))));
}

#[test]
fn late_data_of_a_task_that_is_gone_is_dropped_in_silence() {
    let mut bench = Bench::new();
    bare_write(&mut bench, 1, 100, F);
    let pdu = answer(&r2ts(&bench.sent())[0], &pattern(100), 8192).remove(0);
    bench.ok(&management(TmfFunction::ABORT_TASK, 9, 1, bench.cmd_sn, FIRST_CMD_SN));
    assert_eq!(bench.reply().header::<TmfResponsePdu>().response, TmfResponse::COMPLETE);
    bench.ok(&pdu);
    assert!(bench.sent().is_empty());
    assert_eq!(bench.session.counters().data_out_discarded, 1);
    bench.assert_idle();
}

#[test]
fn late_data_never_reaches_a_later_task_with_the_same_tag() {
    let mut bench = Bench::new();
    bare_write(&mut bench, 1, 100, F);
    let late = answer(&r2ts(&bench.sent())[0], &[0xbd; 100], 8192).remove(0);
    bench.ok(&management(TmfFunction::ABORT_TASK, 9, 1, bench.cmd_sn, FIRST_CMD_SN));
    bench.sent();
    // Same initiator task tag, same slot, same length.
    bare_write(&mut bench, 1, 100, F);
    bench.sent();
    assert_fatal(&mut bench, &late, Fatal::DataOut);
}

fn assert_condition(reply: &Pdu, code: [u8; 2]) {
    let response: ScsiResponse = reply.header();
    assert_eq!((reply.opcode(), response.status), (Opcode::SCSI_RESPONSE, 0x02));
    assert_eq!((reply.data[2 + 2], &reply.data[2 + 12..2 + 14]), (0x0b, &code[..]), "ABORTED COMMAND");
}

#[test]
fn a_wrong_data_sn_ends_the_task_with_protocol_service_crc_error() {
    // As an initiator might do it: twice 0, 27, -1, in reverse.
    for wrong in [[0, 0], [27, 1], [u32::MAX, 1], [1, 0]] {
        let mut bench = Bench::new();
        let pdu = bench.command(1, W, 1000, TestHost::write_cdb(1000), &[]);
        bench.ok(&pdu);
        bench.ok(&data_out(1, RESERVED_TAG, wrong[0], 0, &pattern(500), false));
        assert!(bench.sent().is_empty(), "not before the last of its data");
        bench.ok(&data_out(1, RESERVED_TAG, wrong[1], 500, &pattern(500), true));
        assert_condition(&bench.reply(), [0x47, 0x05]);
        bench.assert_idle();
        let pdu = bench.read(2, 0);
        bench.ok(&pdu);
        bench.expect_command();
    }
}

#[test]
fn an_r2t_that_is_answered_short_ends_the_task() {
    let mut bench = Bench::new();
    bare_write(&mut bench, 1, 100, F);
    let ttt = r2ts(&bench.sent())[0].ttt.get();
    bench.ok(&data_out(1, ttt, 0, 0, &pattern(99), true));
    assert_condition(&bench.reply(), [0x0c, 0x0d]);
    bench.assert_idle();
}

/// The wire bytes of `pdu` with a broken data digest.
fn damaged(bench: &Bench, pdu: &Pdu) -> Vec<u8> {
    let (header_digest, data_digest) = bench.digests();
    let mut bytes = pdu.wire(header_digest, data_digest);
    *bytes.last_mut().expect("bytes") ^= 1;
    bytes
}

#[test]
fn a_damaged_data_out_is_rejected_and_its_task_ends_behind_all_of_its_data() {
    let mut bench = Bench::with(with_digests(negotiated()), SessionConfig::default());
    let pdu = bench.command(1, W, 3000, TestHost::write_cdb(3000), &pattern(1000));
    bench.ok(&pdu);
    let bytes = damaged(&bench, &data_out(1, RESERVED_TAG, 0, 1000, &pattern(1000), false));
    bench.feed(C0, &bytes).expect("the connection lives on");
    bench.expect_reject(RejectReason::DATA_DIGEST_ERROR);
    bench.ok(&data_out(1, RESERVED_TAG, 1, 2000, &pattern(1000), true));
    assert_condition(&bench.reply(), [0x47, 0x05]);
    assert_eq!(bench.session.counters().digest_errors, 1);
    bench.assert_idle();
}

#[test]
fn a_damaged_last_data_out_of_an_r2t_ends_the_task_at_once() {
    let mut bench = Bench::with(with_digests(negotiated()), SessionConfig::default());
    bare_write(&mut bench, 1, 100, F);
    let pdu = answer(&r2ts(&bench.sent())[0], &pattern(100), 8192).remove(0);
    let bytes = damaged(&bench, &pdu);
    bench.feed(C0, &bytes).expect("the connection lives on");
    let sent = bench.sent();
    assert_eq!(sent[0].opcode(), Opcode::REJECT);
    assert_condition(&sent[1], [0x47, 0x05]);
    bench.assert_idle();
}

#[test]
fn a_command_with_damaged_immediate_data_was_never_received() {
    let mut bench = Bench::with(with_digests(negotiated()), SessionConfig::default());
    let first = bench.write(1, 100, &pattern(100));
    let second = bench.read(2, 0);
    let bytes = damaged(&bench, &first);
    bench.feed(C0, &bytes).expect("the connection lives on");
    bench.expect_reject(RejectReason::DATA_DIGEST_ERROR);
    bench.ok(&second);
    assert!(bench.events().is_empty(), "its number is missing");
    bench.ok(&first);
    assert_eq!(bench.commands().len(), 2, "plugged by the retry");
}

#[test]
fn a_wrong_header_digest_ends_the_connection_without_a_word() {
    let mut bench = Bench::with(with_digests(negotiated()), SessionConfig::default());
    let mut bytes = bench.write(1, 100, &pattern(100)).wire(true, true);
    bytes[20] ^= 0x40;
    assert_eq!(bench.feed(C0, &bytes), Err(Fatal::HeaderDigest));
    assert!(bench.sent().is_empty());
    assert!(matches!(bench.event(), Event::CloseConnection { .. }));
}

#[test]
fn digests_one_by_one() {
    for (header, data) in [(true, false), (false, true), (true, true)] {
        let on = |on| if on { DigestType::Crc32c } else { DigestType::None };
        let values = Negotiated { header_digest: on(header), data_digest: on(data), ..negotiated() };
        let mut bench = Bench::with(values, SessionConfig::default());
        for length in [0, 1, 2, 3, 4, 5, 511, 5000] {
            let pdu = bench.write(1, 9000, &pattern(length));
            bench.ok(&pdu);
            for r2t in r2ts(&bench.sent()) {
                for pdu in answer(&r2t, &pattern(9000), 777) {
                    bench.ok(&pdu);
                }
            }
            let command = bench.expect_command();
            assert_eq!(command.data_out.expect("data").bytes(), pattern(9000));
            bench.good(command.task);
            bench.sent();
        }
    }
}

#[test]
fn non_zero_padding_is_covered_by_the_digest_and_otherwise_ignored() {
    let mut bench = Bench::with(with_digests(negotiated()), SessionConfig::default());
    let pdu = bench.write(1, 5, &pattern(5));
    let mut bytes = pdu.wire(true, true);
    let end = bytes.len();
    bytes[end - 5] = 0x77;
    let sum = crate::digest::digest(&bytes[52..end - 4]);
    bytes[end - 4..].copy_from_slice(&sum);
    bench.feed(C0, &bytes).expect("sound");
    assert_eq!(bench.expect_command().data_out.expect("data").bytes(), pattern(5));
}
