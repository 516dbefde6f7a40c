//! Task management: who is meant, who answers, and races with completion.

use super::bench::*;
use crate::pdu::*;
use crate::session::testing::{Chunks, TestHost};
use crate::session::*;

fn expect_response(bench: &mut Bench, itt: u32, response: TmfResponse) {
    let reply = bench.reply();
    assert_eq!(reply.opcode(), Opcode::TMF_RESPONSE);
    let header: TmfResponsePdu = reply.header();
    assert_eq!((header.itt.get(), header.response), (itt, response));
}

fn expect_management(bench: &mut Bench) -> TaskManagement {
    match bench.event() {
        Event::TaskManagement(management) => management,
        other => panic!("task management, not {other:?}"),
    }
}

fn abort(bench: &mut Bench, tag: u32, ref_cmd_sn: u32) {
    let cmd_sn = bench.cmd_sn;
    bench.ok(&management(TmfFunction::ABORT_TASK, 9, tag, cmd_sn, ref_cmd_sn));
}

#[test]
fn abort_of_an_executing_task_is_the_layer_aboves_to_answer() {
    let mut bench = Bench::new();
    let pdu = bench.read(1, 512);
    bench.ok(&pdu);
    let task = bench.expect_command().task;
    abort(&mut bench, 1, FIRST_CMD_SN);
    let management = expect_management(&mut bench);
    assert_eq!(
        (management.function, management.lun, management.referenced),
        (TmfFunction::ABORT_TASK, LUN, Some(task))
    );
    assert!(bench.sent().is_empty(), "not before the layer above says so");
    assert!(bench.session.abort_task(task));
    assert!(!bench.session.complete(task, Completion::good(0)), "too late: no response");
    assert!(bench.session.complete_task_management(management.id, TmfResponse::COMPLETE));
    assert!(!bench.session.complete_task_management(management.id, TmfResponse::COMPLETE), "once");
    expect_response(&mut bench, 9, TmfResponse::COMPLETE);
    bench.assert_idle();
}

#[test]
fn completion_that_wins_the_race_is_sent_once_and_before_the_answer() {
    let mut bench = Bench::new();
    let pdu = bench.read(1, 0);
    bench.ok(&pdu);
    let task = bench.expect_command().task;
    abort(&mut bench, 1, FIRST_CMD_SN);
    bench.good(task);
    // The event says that there is nothing left to abort.
    let management = expect_management(&mut bench);
    assert_eq!(management.referenced, None);
    bench.session.complete_task_management(management.id, TmfResponse::TASK_DOES_NOT_EXIST);
    let opcodes: Vec<Opcode> = bench.sent().iter().map(Pdu::opcode).collect();
    assert_eq!(opcodes, [Opcode::SCSI_RESPONSE, Opcode::TMF_RESPONSE]);
    bench.assert_idle();
}

#[test]
fn every_order_of_abort_and_completion_ends_in_exactly_one_way() {
    // Steps: 0 TMF arrives, 1 events are drained, 2 completion, 3 abort by the layer above, 4 TMF answered.
    for order in
        [[0, 1, 2, 3, 4], [0, 1, 3, 2, 4], [2, 0, 1, 3, 4], [0, 2, 1, 3, 4], [0, 1, 4, 2, 3], [0, 1, 3, 4, 2]]
    {
        let mut bench = Bench::new();
        let pdu = bench.read(1, 0);
        bench.ok(&pdu);
        let task = bench.expect_command().task;
        let (mut id, mut completed, mut aborted) = (None, false, false);
        for step in order {
            match step {
                0 => abort(&mut bench, 1, FIRST_CMD_SN),
                1 => {
                    id = bench.events().iter().find_map(|event| match event {
                        Event::TaskManagement(management) => Some(management.id),
                        _ => None,
                    })
                }
                2 => completed = bench.session.complete(task, Completion::good(0)),
                3 => aborted = bench.session.abort_task(task),
                _ => {
                    id.map(|id| bench.session.complete_task_management(id, TmfResponse::COMPLETE));
                }
            }
        }
        assert!(completed != aborted, "{order:?}: one of the two");
        let sent = bench.sent();
        let responses = sent.iter().filter(|pdu| pdu.opcode() == Opcode::SCSI_RESPONSE).count();
        assert_eq!(responses, usize::from(completed), "{order:?}");
        assert_eq!(sent.iter().filter(|pdu| pdu.opcode() == Opcode::TMF_RESPONSE).count(), 1, "{order:?}");
        bench.assert_idle();
    }
}

#[test]
fn abort_of_a_task_that_collects_data_is_answered_at_once() {
    let mut bench = Bench::new();
    let write = bench.command(1, W | F, 100, TestHost::write_cdb(100), &[]);
    let read = bench.read(2, 0);
    bench.ok(&write);
    bench.ok(&read);
    bench.sent();
    abort(&mut bench, 1, FIRST_CMD_SN);
    expect_response(&mut bench, 9, TmfResponse::COMPLETE);
    let command = bench.expect_command();
    assert!(command.read, "what waited behind it goes on");
    bench.good(command.task);
    let response: ScsiResponse = bench.reply().header();
    assert_eq!(response.max_cmd_sn.get(), response.exp_cmd_sn.get().wrapping_add(127), "all places are free");
}

#[test]
fn abort_of_a_task_that_was_not_given_out_yet() {
    let mut bench = Bench::new();
    let pdu = bench.read(1, 0);
    bench.ok(&pdu);
    abort(&mut bench, 1, FIRST_CMD_SN);
    expect_response(&mut bench, 9, TmfResponse::COMPLETE);
    bench.assert_idle();
}

#[test]
fn abort_while_the_immediate_data_is_still_coming() {
    let mut bench = Bench::new();
    bench.connect(11);
    let write = bench.write(1, 100, &pattern(100)).wire(false, false);
    bench.feed(C0, &write[..80]).expect("half of it");
    let cmd_sn = bench.cmd_sn;
    bench.send(C1, &management(TmfFunction::ABORT_TASK, 9, 1, cmd_sn, FIRST_CMD_SN)).expect("sound");
    assert_eq!(bench.sent_on(C1)[0].header::<TmfResponsePdu>().response, TmfResponse::COMPLETE);
    bench.feed(C0, &write[80..]).expect("the rest is read over");
    assert!(bench.events().is_empty());
    let read = bench.read(2, 0);
    bench.ok(&read);
    bench.expect_command();
}

#[test]
fn a_task_of_another_logical_unit_does_not_exist() {
    let mut bench = Bench::new();
    let pdu = bench.read(1, 0);
    bench.ok(&pdu);
    let task = bench.expect_command().task;
    let mut pdu = management(TmfFunction::ABORT_TASK, 9, 1, bench.cmd_sn, FIRST_CMD_SN);
    pdu.bhs[9] ^= 2;
    bench.ok(&pdu);
    expect_response(&mut bench, 9, TmfResponse::TASK_DOES_NOT_EXIST);
    bench.good(task);
}

#[test]
fn an_unknown_task_inside_the_window_counts_as_received() {
    let mut bench = Bench::new();
    let lost = bench.read(1, 0);
    let next = bench.read(2, 0);
    bench.ok(&next);
    assert!(bench.events().is_empty());
    abort(&mut bench, 1, FIRST_CMD_SN);
    expect_response(&mut bench, 9, TmfResponse::COMPLETE);
    assert_eq!(bench.commands().len(), 1, "the hole is plugged");
    bench.ok(&lost);
    assert!(bench.events().is_empty(), "and the command itself is a duplicate");
}

#[test]
fn an_unknown_task_outside_of_the_window_does_not_exist() {
    let mut bench = Bench::new();
    for ref_cmd_sn in [FIRST_CMD_SN - 1, FIRST_CMD_SN.wrapping_add(128), FIRST_CMD_SN ^ 0x8000_0000] {
        abort(&mut bench, 77, ref_cmd_sn);
        expect_response(&mut bench, 9, TmfResponse::TASK_DOES_NOT_EXIST);
    }
}

#[test]
fn functions_that_are_not_supported_say_so() {
    let mut bench = Bench::new();
    for (function, response) in [
        (TmfFunction::CLEAR_ACA, TmfResponse::NOT_SUPPORTED),
        (TmfFunction::TASK_REASSIGN, TmfResponse::REASSIGN_NOT_SUPPORTED),
        (TmfFunction::QUERY_TASK, TmfResponse::NOT_SUPPORTED),
        (TmfFunction(0), TmfResponse::NOT_SUPPORTED),
        (TmfFunction(127), TmfResponse::NOT_SUPPORTED),
    ] {
        bench.ok(&management(function, 9, RESERVED_TAG, bench.cmd_sn, 0));
        expect_response(&mut bench, 9, response);
    }
}

#[test]
fn resets_drop_what_collects_and_leave_what_executes_to_the_layer_above() {
    for function in [
        TmfFunction::ABORT_TASK_SET,
        TmfFunction::CLEAR_TASK_SET,
        TmfFunction::LOGICAL_UNIT_RESET,
        TmfFunction::TARGET_WARM_RESET,
        TmfFunction::TARGET_COLD_RESET,
    ] {
        let mut bench = Bench::new();
        let running = bench.read(1, 0);
        bench.ok(&running);
        let task = bench.expect_command().task;
        let collecting = bench.command(2, W | F, 100, TestHost::write_cdb(100), &[]);
        bench.ok(&collecting);
        let mut elsewhere = bench.command(3, W | F, 100, TestHost::write_cdb(100), &[]);
        elsewhere.bhs[9] ^= 2;
        bench.ok(&elsewhere);
        let r2t = r2ts(&bench.sent())[1];
        bench.ok(&management(function, 9, RESERVED_TAG, bench.cmd_sn, 0));
        let request = expect_management(&mut bench);
        assert_eq!((request.function, request.referenced), (function, None));
        assert_eq!(bench.session.executing_tasks(Some(LUN)).collect::<Vec<_>>(), [task]);
        bench.session.abort_task(task);
        bench.session.complete_task_management(request.id, TmfResponse::COMPLETE);
        expect_response(&mut bench, 9, TmfResponse::COMPLETE);
        let whole_target =
            matches!(function, TmfFunction::TARGET_WARM_RESET | TmfFunction::TARGET_COLD_RESET);
        assert_eq!(bench.session.task_count(), usize::from(!whole_target), "{function:?}");
        let mut data = answer(&r2t, &pattern(100), 100).remove(0);
        data.bhs[9] ^= 2;
        bench.ok(&data);
        assert_eq!(bench.events().len(), usize::from(!whole_target));
    }
}

#[test]
fn a_reset_waits_for_the_commands_before_it() {
    let mut bench = Bench::new();
    let first = bench.write(1, 100, &[]);
    let second = bench.read(2, 0);
    bench.ok(&management(TmfFunction::LOGICAL_UNIT_RESET, 9, RESERVED_TAG, bench.cmd_sn, 0));
    bench.ok(&second);
    assert!(bench.events().is_empty());
    bench.ok(&first);
    expect_management(&mut bench);
    assert_eq!(bench.session.task_count(), 0, "both came before it and are gone");
}

#[test]
fn a_target_reset_does_not_wait_but_plugs() {
    let mut bench = Bench::new();
    let lost = bench.read(1, 0);
    let held = bench.read(2, 0);
    bench.ok(&held);
    bench.ok(&management(TmfFunction::TARGET_WARM_RESET, 9, RESERVED_TAG, bench.cmd_sn, 0));
    let request = expect_management(&mut bench);
    bench.session.complete_task_management(request.id, TmfResponse::COMPLETE);
    let response: TmfResponsePdu = bench.reply().header();
    assert_eq!(response.exp_cmd_sn.get(), FIRST_CMD_SN.wrapping_add(2));
    assert_eq!(response.max_cmd_sn.get(), FIRST_CMD_SN.wrapping_add(129));
    bench.ok(&lost);
    bench.assert_idle();
}

#[test]
fn a_reset_spares_commands_behind_it() {
    let mut bench = Bench::new();
    let before = bench.write(1, 100, &[]);
    let cmd_sn = bench.cmd_sn;
    let behind = bench.write(2, 100, &[]);
    bench.ok(&before);
    bench.ok(&behind);
    bench.ok(&management(TmfFunction::LOGICAL_UNIT_RESET, 9, RESERVED_TAG, cmd_sn, 0));
    expect_management(&mut bench);
    assert_eq!(bench.session.task_count(), 1);
}

#[test]
fn a_function_with_a_number_takes_its_turn() {
    let mut bench = Bench::new();
    let first = bench.read(1, 0);
    let cmd_sn = bench.next_cmd_sn();
    let mut pdu = management(TmfFunction::LOGICAL_UNIT_RESET, 9, RESERVED_TAG, cmd_sn, 0);
    pdu.bhs[0] &= !IMMEDIATE;
    bench.ok(&pdu);
    assert!(bench.events().is_empty());
    bench.ok(&first);
    expect_management(&mut bench);
}

#[test]
fn functions_in_progress_are_bounded() {
    let mut bench = Bench::new();
    for itt in 0..limits::REQUESTS_MAX as u32 {
        bench.ok(&management(TmfFunction::LOGICAL_UNIT_RESET, itt, RESERVED_TAG, bench.cmd_sn, 0));
    }
    assert!(bench.sent().is_empty());
    bench.ok(&management(TmfFunction::LOGICAL_UNIT_RESET, 999, RESERVED_TAG, bench.cmd_sn, 0));
    bench.expect_reject(RejectReason::IMMEDIATE_COMMAND_REJECT);
    let events = bench.events();
    assert_eq!(events.len(), limits::REQUESTS_MAX);
    for event in events {
        let Event::TaskManagement(request) = event else { panic!("task management, not {event:?}") };
        assert!(bench.session.complete_task_management(request.id, TmfResponse::COMPLETE));
    }
    assert_eq!(bench.sent().len(), limits::REQUESTS_MAX);
}

#[test]
fn the_tag_of_a_function_in_progress_is_taken() {
    let mut bench = Bench::new();
    bench.ok(&management(TmfFunction::LOGICAL_UNIT_RESET, 9, RESERVED_TAG, bench.cmd_sn, 0));
    let pdu = bench.read(9, 0);
    bench.ok(&pdu);
    bench.expect_reject(RejectReason::TASK_IN_PROGRESS);
}

#[test]
fn abort_of_a_logical_unit_from_outside() {
    let mut bench = Bench::new();
    let running = bench.read(1, 0);
    bench.ok(&running);
    let task = bench.expect_command().task;
    let collecting = bench.write(2, 100, &[]);
    bench.ok(&collecting);
    bench.session.abort_logical_unit(Some(LUN + 1));
    assert_eq!(bench.session.task_count(), 2);
    bench.session.abort_logical_unit(Some(LUN));
    assert!(matches!(bench.event(), Event::TaskAborted { task: aborted } if aborted == task));
    bench.assert_idle();
}

#[test]
fn no_ghost_write_after_abort_whatever_arrives_later() {
    // The abort is answered, then the rest of the data comes: the payload must be gone, and the task never comes out.
    let mut bench = Bench::new();
    let data = pattern(6000);
    let pdu = bench.command(1, W, 6000, TestHost::write_cdb(6000), &data[..1000]);
    bench.ok(&pdu);
    let rest = data_out(1, RESERVED_TAG, 0, 1000, &data[1000..], true).wire(false, false);
    bench.feed(C0, &rest[..2000]).expect("part of it");
    bench.connect(11);
    let cmd_sn = bench.cmd_sn;
    bench.send(C1, &management(TmfFunction::ABORT_TASK, 9, 1, cmd_sn, FIRST_CMD_SN)).expect("sound");
    assert_eq!(bench.sent_on(C1).len(), 1);
    assert!(bench.session.payload_destination(C0).is_none(), "no buffer to receive into");
    bench.feed(C0, &rest[2000..]).expect("read over");
    bench.assert_idle();
}

#[test]
fn a_completed_read_is_sent_although_its_task_is_gone() {
    let mut bench = Bench::new();
    let pdu = bench.read(1, 512);
    bench.ok(&pdu);
    let task = bench.expect_command().task;
    let completion = Completion {
        data_in: Some(Chunks::of(&pattern(512), 100)),
        data_in_length: 512,
        ..Completion::good(0)
    };
    assert!(bench.session.complete(task, completion));
    bench.session.abort_logical_unit(None);
    assert_eq!(bench.reply().data, pattern(512));
}

#[test]
fn no_answer_overtakes_the_responses_of_reads_that_were_completed_before() {
    let values = crate::params::Negotiated {
        max_burst_length: 1 << 20,
        their_max_recv_data_segment_length: 65536,
        ..negotiated()
    };
    let mut bench = Bench::with(values, SessionConfig::default());
    let long = 3 * limits::TX_AHEAD_BYTES;
    let pdu = bench.read(1, long as u32);
    bench.ok(&pdu);
    let task = bench.expect_command().task;
    let completion = Completion {
        data_in: Some(Chunks::of(&vec![1; long], 4096)),
        data_in_length: long as u64,
        ..Completion::good(0)
    };
    assert!(bench.session.complete(task, completion));
    abort(&mut bench, 1, FIRST_CMD_SN);
    bench.ok(&management(TmfFunction::LOGICAL_UNIT_RESET, 10, RESERVED_TAG, bench.cmd_sn, 0));
    let request = expect_management(&mut bench);
    bench.session.complete_task_management(request.id, TmfResponse::COMPLETE);
    let sent = bench.sent();
    let last_three: Vec<Opcode> = sent[sent.len() - 3..].iter().map(Pdu::opcode).collect();
    assert_eq!(last_three, [Opcode::DATA_IN, Opcode::TMF_RESPONSE, Opcode::TMF_RESPONSE]);
    let stat_sns: Vec<u32> =
        sent[sent.len() - 3..].iter().map(|pdu| pdu.header::<DataIn>().stat_sn.get()).collect();
    assert_eq!(stat_sns, [FIRST_STAT_SN, FIRST_STAT_SN + 1, FIRST_STAT_SN + 2]);
}

#[test]
fn flat_and_peripheral_spellings_of_a_lun_are_one_unit() {
    const FLAT: u64 = 0x4001_0000_0000_0000;
    for function in [TmfFunction::ABORT_TASK_SET, TmfFunction::LOGICAL_UNIT_RESET] {
        let mut bench = Bench::new();
        // One that still waits for its data, named by the other spelling.
        let mut pdu = bench.write(1, 8000, &[]);
        pdu.bhs[8..16].copy_from_slice(&FLAT.to_be_bytes());
        bench.ok(&pdu);
        let r2t = r2ts(&bench.sent())[0];
        assert_eq!(r2t.lun.get(), FLAT, "an R2T bears the command's own spelling");
        let cmd_sn = bench.cmd_sn;
        bench.ok(&management(function, 9, RESERVED_TAG, cmd_sn, 0));
        let request = expect_management(&mut bench);
        assert_eq!(bench.session.task_count(), 0, "{function:?} drops what it collected");
        bench.session.complete_task_management(request.id, TmfResponse::COMPLETE);
        expect_response(&mut bench, 9, TmfResponse::COMPLETE);
    }
    let mut bench = Bench::new();
    let mut pdu = bench.read(1, 512);
    pdu.bhs[8..16].copy_from_slice(&FLAT.to_be_bytes());
    bench.ok(&pdu);
    let task = bench.expect_command().task;
    abort(&mut bench, 1, FIRST_CMD_SN);
    assert_eq!(expect_management(&mut bench).referenced, Some(task));
    assert_eq!(bench.session.executing_tasks(Some(LUN)).count(), 1);
    bench.session.abort_logical_unit(Some(LUN));
    assert!(matches!(bench.events()[..], [Event::TaskAborted { task: aborted }] if aborted == task));
}

#[test]
fn a_joining_login_is_told_the_window_of_the_session() {
    let mut bench = Bench::new();
    let before = bench.session.command_window();
    assert_eq!(before.0, FIRST_CMD_SN);
    let pdu = bench.read(1, 512);
    bench.ok(&pdu);
    bench.expect_command();
    let after = bench.session.command_window();
    assert_eq!(
        (after.0, after.1),
        (FIRST_CMD_SN.wrapping_add(1), before.1),
        "the place is taken until it is answered"
    );
}
