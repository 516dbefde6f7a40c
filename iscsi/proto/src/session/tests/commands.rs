//! Commands in, events out: order, window, fields.

use super::bench::*;
use crate::pdu::*;
use crate::session::testing::TestHost;
use crate::session::*;

#[test]
fn a_read_comes_out_with_all_its_fields() {
    let mut bench = Bench::new();
    let mut pdu = bench.read(7, 4096);
    pdu.bhs[32] = 0x28;
    bench.ok(&pdu);
    let command = bench.expect_command();
    assert_eq!((command.lun, command.connection, command.attribute), (LUN, C0, TaskAttribute::SIMPLE));
    assert_eq!(command.cdb.as_slice(), [0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((command.read, command.write, command.immediate), (true, false, false));
    assert_eq!((command.expected_data_transfer_length, command.data_out_wanted), (4096, 0));
    assert!(command.data_out.is_none());
}

#[test]
fn a_write_with_immediate_data_comes_out_whole() {
    let mut bench = Bench::new();
    let data = pattern(5001);
    let pdu = bench.write(7, 5001, &data);
    bench.ok(&pdu);
    let command = bench.expect_command();
    assert_eq!(command.data_out.expect("data").bytes(), data);
    assert_eq!(command.data_out_wanted, 5001);
    assert!(bench.sent().is_empty());
}

#[test]
fn data_beyond_what_scsi_wants_is_read_over() {
    let mut bench = Bench::new();
    let data = pattern(5000);
    let pdu = bench.command(1, W | F, 5000, TestHost::write_cdb(512), &data);
    bench.ok(&pdu);
    let pdu = bench.read(2, 0);
    bench.ok(&pdu);
    let commands = bench.commands();
    assert_eq!(commands[0].data_out.as_ref().expect("data").bytes(), &data[..512]);
    assert_eq!(commands.len(), 2, "the stream stayed in step");
}

#[test]
fn data_for_a_command_that_wants_none_is_read_over() {
    let mut bench = Bench::new();
    let pdu = bench.command(1, W | F, 512, [0; 16], &pattern(512));
    bench.ok(&pdu);
    let command = bench.expect_command();
    assert!(command.data_out.is_none());
    bench.good(command.task);
    let response: ScsiResponse = bench.reply().header();
    assert_eq!((response.flags, response.residual.get()), (F | 0x02, 512));
}

#[test]
fn scsi_wants_more_than_is_expected() {
    let mut bench = Bench::new();
    let pdu = bench.command(1, W | F, 200, TestHost::write_cdb(512), &pattern(200));
    bench.ok(&pdu);
    let command = bench.expect_command();
    assert_eq!(command.data_out.expect("data").bytes(), pattern(200));
    assert_eq!(command.data_out_wanted, 512);
    assert!(bench.session.complete(command.task, Completion::good(512)));
    let response: ScsiResponse = bench.reply().header();
    assert_eq!((response.flags, response.residual.get()), (F | 0x04, 312));
}

#[test]
fn expected_length_of_zero_brings_no_data() {
    let mut bench = Bench::new();
    let pdu = bench.command(1, W | F, 0, TestHost::write_cdb(512), &[]);
    bench.ok(&pdu);
    let command = bench.expect_command();
    assert!(command.data_out.is_none());
    assert_eq!(command.data_out_wanted, 512);
}

#[test]
fn extended_cdb_and_bidirectional_length_are_read() {
    let mut bench = Bench::new();
    let mut pdu = bench.command(1, R | W | F, 4, [0x7f; 16], &[]);
    pdu.ahs = vec![0, 17, 1, 0];
    pdu.ahs.extend(16..32u8);
    pdu.ahs.extend([0, 5, 2, 0, 0, 0, 0x10, 0]);
    bench.ok(&pdu);
    let command = bench.expect_command();
    assert_eq!(command.cdb.len(), 32);
    assert_eq!(command.cdb[16..], (16..32).collect::<Vec<u8>>());
    assert_eq!(command.bidirectional_read_length, 4096);
}

#[test]
fn the_window_closes_when_full_and_wraps() {
    let config = SessionConfig { window_commands: 4, ..SessionConfig::default() };
    let mut bench = Bench::with(negotiated(), config);
    for itt in 0..4 {
        let pdu = bench.read(itt, 0);
        bench.ok(&pdu);
    }
    let extra = bench.read(99, 0);
    bench.ok(&extra);
    let commands = bench.commands();
    assert_eq!(commands.len(), 4);
    assert_eq!(bench.session.counters().commands_ignored, 1);
    bench.good(commands[1].task);
    let response: ScsiResponse = bench.reply().header();
    assert_eq!(response.exp_cmd_sn.get(), FIRST_CMD_SN.wrapping_add(4), "beyond the wrap");
    assert_eq!(response.max_cmd_sn.get(), FIRST_CMD_SN.wrapping_add(4), "open for one");
    bench.ok(&extra);
    assert_eq!(bench.expect_command().task.slot(), commands[1].task.slot());
}

#[test]
fn a_closed_window_says_max_is_exp_minus_one() {
    let config = SessionConfig { window_commands: 1, ..SessionConfig::default() };
    let mut bench = Bench::with(negotiated(), config);
    let pdu = bench.read(1, 0);
    bench.ok(&pdu);
    bench.ok(&immediate(request(Opcode::NOP_OUT, F, 50, RESERVED_TAG, 0, &[])));
    let nop: NopIn = bench.reply().header();
    assert_eq!(nop.max_cmd_sn.get().wrapping_add(1), nop.exp_cmd_sn.get());
}

#[test]
fn many_commands_keep_their_places_without_growing() {
    let config = SessionConfig { window_commands: 32, ..SessionConfig::default() };
    let mut bench = Bench::with(negotiated(), config);
    let mut running = std::collections::VecDeque::new();
    for itt in 0..5000u32 {
        let pdu = bench.write(itt, 64, &pattern(64));
        bench.ok(&pdu);
        let command = bench.expect_command();
        assert!(command.task.slot() < 32);
        running.push_back((itt, command.task));
        if running.len() == 32 {
            let (itt, task) = running.pop_front().expect("32 of them");
            assert!(bench.session.complete(task, Completion::good(64)));
            let response: ScsiResponse = bench.reply().header();
            assert_eq!((response.itt.get(), response.flags), (itt, F));
        }
    }
}

#[test]
fn immediate_commands_overtake_and_are_bounded() {
    let mut bench = Bench::new();
    let waiting = bench.command(1, W | F, 100, TestHost::write_cdb(100), &[]);
    bench.ok(&waiting);
    let cmd_sn = bench.cmd_sn;
    bench.ok(&immediate(command(2, cmd_sn, R | F, 0, [0; 16], &[])));
    let urgent = bench.expect_command();
    assert!(urgent.immediate);
    for itt in 100..100 + limits::IMMEDIATE_TASKS_MAX as u32 - 1 {
        bench.ok(&immediate(command(itt, cmd_sn, R | F, 0, [0; 16], &[])));
    }
    bench.sent();
    bench.ok(&immediate(command(999, cmd_sn, R | F, 0, [0; 16], &[])));
    bench.expect_reject(RejectReason::IMMEDIATE_COMMAND_REJECT);
    assert_eq!(bench.commands().len(), limits::IMMEDIATE_TASKS_MAX - 1);
    bench.good(urgent.task);
    bench.sent();
    bench.ok(&immediate(command(999, cmd_sn, R | F, 0, [0; 16], &[])));
    assert_eq!(bench.commands().len(), 1);
}

#[test]
fn a_command_behind_a_write_waits_for_its_data() {
    let mut bench = Bench::new();
    let write = bench.command(1, W | F, 100, TestHost::write_cdb(100), &[]);
    let read = bench.read(2, 0);
    bench.ok(&write);
    bench.ok(&read);
    assert!(bench.events().is_empty());
    let r2t = r2ts(&bench.sent())[0];
    for pdu in answer(&r2t, &pattern(100), 8192) {
        bench.ok(&pdu);
    }
    let order: Vec<bool> = bench.commands().iter().map(|command| command.write).collect();
    assert_eq!(order, [true, false]);
}

#[test]
fn a_discovery_session_has_no_commands() {
    let config = SessionConfig::default();
    let mut bench = Bench::of_type(crate::params::SessionType::Discovery, negotiated(), config);
    let pdu = bench.read(1, 0);
    bench.ok(&pdu);
    bench.expect_reject(RejectReason::PROTOCOL_ERROR);
    bench.ok(&management(TmfFunction::LOGICAL_UNIT_RESET, 5, RESERVED_TAG, FIRST_CMD_SN, 0));
    bench.expect_reject(RejectReason::PROTOCOL_ERROR);
    bench.assert_idle();
}
