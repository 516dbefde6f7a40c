//! Completions in, Data-In and responses out.

use super::bench::*;
use crate::pdu::*;
use crate::session::testing::Chunks;
use crate::session::*;

fn complete_read(bench: &mut Bench, task: TaskId, data: &[u8], status: u8, sense: &[u8]) {
    let completion = Completion {
        status,
        target_failure: false,
        sense,
        data_in: Some(Chunks::of(data, 700)),
        data_in_length: data.len() as u64,
        data_out_length: 0,
    };
    assert!(bench.session.complete(task, completion));
}

/// Sends a read for `edtl` bytes, answers with `data`, returns what was sent.
fn read_back(bench: &mut Bench, edtl: u32, data: &[u8]) -> Vec<Pdu> {
    let pdu = bench.read(7, edtl);
    bench.ok(&pdu);
    let task = bench.expect_command().task;
    complete_read(bench, task, data, 0, &[]);
    bench.sent()
}

#[test]
fn data_in_is_cut_to_segments_and_bursts() {
    let mut bench = Bench::new();
    let data = pattern(40_001);
    let sent = read_back(&mut bench, 40_001, &data);
    let mut joined: Vec<u8> = Vec::new();
    for (n, pdu) in sent.iter().enumerate() {
        let header: DataIn = pdu.header();
        assert_eq!(header.data_sn.get() as usize, n);
        assert_eq!(header.buffer_offset_bytes.get() as usize, joined.len());
        assert!(pdu.data.len() <= 4096);
        joined.extend(&pdu.data);
        let last = n + 1 == sent.len();
        let end_of_burst = joined.len().is_multiple_of(16384);
        assert_eq!(header.flags & F != 0, last || end_of_burst, "F at the end of a sequence");
        assert_eq!(header.flags & DataIn::STATUS != 0, last, "status on the last");
    }
    assert_eq!(joined, data);
    let last: DataIn = sent.last().expect("data").header();
    assert_eq!((last.status, last.stat_sn.get()), (0, FIRST_STAT_SN));
    assert_eq!(last.exp_cmd_sn.get(), FIRST_CMD_SN.wrapping_add(1));
    assert_eq!(last.max_cmd_sn.get(), FIRST_CMD_SN.wrapping_add(128));
}

#[test]
fn residuals_ride_on_the_last_data_in() {
    let mut bench = Bench::new();
    let sent = read_back(&mut bench, 8192, &pattern(512));
    let header: DataIn = sent[0].header();
    assert_eq!((header.flags, header.residual.get()), (F | 0x01 | 0x02, 8192 - 512));
    let sent = read_back(&mut bench, 200, &pattern(512));
    let header: DataIn = sent[0].header();
    assert_eq!((header.flags, header.residual.get()), (F | 0x01 | 0x04, 312));
    assert_eq!(sent[0].data, pattern(200));
}

#[test]
fn a_read_of_nothing_is_a_plain_response() {
    let mut bench = Bench::new();
    let sent = read_back(&mut bench, 0, &pattern(512));
    assert_eq!(sent.len(), 1);
    let header: ScsiResponse = sent[0].header();
    assert_eq!((header.opcode, header.flags, header.residual.get()), (Opcode::SCSI_RESPONSE, F | 0x04, 512));
    assert_eq!(header.exp_data_sn.get(), 0);
}

#[test]
fn sense_goes_into_a_response_behind_the_data() {
    let mut bench = Bench::new();
    let pdu = bench.read(7, 5000);
    bench.ok(&pdu);
    let task = bench.expect_command().task;
    complete_read(&mut bench, task, &pattern(4500), 2, &[0x70, 0, 3]);
    let sent = bench.sent();
    assert_eq!(sent.len(), 3);
    let last_data: DataIn = sent[1].header();
    assert_eq!(last_data.flags, F, "no status on the data");
    let response: ScsiResponse = sent[2].header();
    assert_eq!((response.status, response.exp_data_sn.get(), response.stat_sn.get()), (2, 2, FIRST_STAT_SN));
    assert_eq!((response.flags, response.residual.get()), (F | 0x02, 500));
    assert_eq!(sent[2].data, [0, 3, 0x70, 0, 3]);
}

#[test]
fn stat_sn_counts_statuses_in_wire_order_over_the_wrap() {
    let mut bench = Bench::new();
    let mut expected = FIRST_STAT_SN;
    for n in 0..40u32 {
        let pdu = bench.read(n, 6000);
        bench.ok(&pdu);
        let task = bench.expect_command().task;
        match n % 3 {
            0 => complete_read(&mut bench, task, &pattern(6000), 0, &[]),
            1 => complete_read(&mut bench, task, &pattern(6000), 2, &[1]),
            _ => bench.good(task),
        }
        for pdu in bench.sent() {
            let header: DataIn = pdu.header();
            let has_status = pdu.opcode() != Opcode::DATA_IN || header.flags & DataIn::STATUS != 0;
            if has_status {
                assert_eq!(header.stat_sn.get(), expected);
                expected = expected.wrapping_add(1);
            }
        }
    }
    assert_eq!(expected, FIRST_STAT_SN.wrapping_add(40));
    assert_eq!(bench.session.unacknowledged_statuses(C0), 40);
    let mut nop = immediate(request(Opcode::NOP_OUT, F, RESERVED_TAG, RESERVED_TAG, 0, &[]));
    nop.bhs[28..32].copy_from_slice(&expected.to_be_bytes());
    bench.ok(&nop);
    assert_eq!(bench.session.unacknowledged_statuses(C0), 0);
    // An acknowledgement of what was never sent is not believed.
    nop.bhs[28..32].copy_from_slice(&expected.wrapping_add(5).to_be_bytes());
    bench.ok(&nop);
    assert_eq!(bench.session.unacknowledged_statuses(C0), 0);
}

#[test]
fn a_target_failure_has_no_residual_and_no_data() {
    let mut bench = Bench::new();
    let pdu = bench.read(7, 512);
    bench.ok(&pdu);
    let task = bench.expect_command().task;
    let completion = Completion { target_failure: true, status: 2, ..Completion::good(0) };
    assert!(bench.session.complete(task, completion));
    let response: ScsiResponse = bench.reply().header();
    assert_eq!((response.response, response.status), (ScsiResponseCode::TARGET_FAILURE, 0));
    assert_eq!((response.flags, response.residual.get()), (F, 0));
}

#[test]
fn a_bidirectional_command_gets_data_and_two_residuals() {
    let mut bench = Bench::new();
    let cdb = crate::session::testing::TestHost::write_cdb(100);
    let mut pdu = bench.command(1, R | W | F, 110, cdb, &[]);
    pdu.ahs = vec![0, 5, 2, 0, 0, 0, 0, 50];
    bench.ok(&pdu);
    let r2t = r2ts(&bench.sent())[0];
    for pdu in answer(&r2t, &pattern(110), 8192) {
        bench.ok(&pdu);
    }
    let command = bench.expect_command();
    let completion = Completion {
        data_in: Some(Chunks::of(&pattern(60), 7)),
        data_in_length: 60,
        ..Completion::good(100)
    };
    assert!(bench.session.complete(command.task, completion));
    let sent = bench.sent();
    let data: DataIn = sent[0].header();
    assert_eq!(data.flags, F, "the status has its own PDU");
    assert_eq!(data.data_sn.get(), 1, "numbered behind the R2T");
    let response: ScsiResponse = sent[1].header();
    assert_eq!(response.flags, F | 0x02 | 0x10);
    assert_eq!((response.residual.get(), response.bidirectional_read_residual.get()), (10, 10));
    assert_eq!(response.exp_data_sn.get(), 2);
}

#[test]
fn digests_are_on_everything_sent() {
    let mut bench = Bench::with(with_digests(negotiated()), SessionConfig::default());
    // `sent` checks them.
    let sent = read_back(&mut bench, 10_007, &pattern(10_007));
    assert_eq!(sent.iter().flat_map(|pdu| pdu.data.clone()).collect::<Vec<_>>(), pattern(10_007));
    let pdu = bench.read(8, 512);
    bench.ok(&pdu);
    let task = bench.expect_command().task;
    complete_read(&mut bench, task, &pattern(5), 2, &[1, 2, 3]);
    assert_eq!(bench.sent().len(), 2);
}

#[test]
fn responses_overtake_reads_that_are_not_built() {
    let negotiated = crate::params::Negotiated {
        max_burst_length: 1 << 20,
        their_max_recv_data_segment_length: 65536,
        ..negotiated()
    };
    let mut bench = Bench::with(negotiated, SessionConfig::default());
    let long = limits::TX_AHEAD_BYTES * 2;
    for itt in [1, 2] {
        let pdu = bench.read(itt, long as u32);
        bench.ok(&pdu);
        let task = bench.expect_command().task;
        complete_read(&mut bench, task, &vec![itt as u8; long], 0, &[]);
    }
    let pdu = bench.read(3, 0);
    bench.ok(&pdu);
    let task = bench.expect_command().task;
    bench.good(task);
    let sent = bench.sent();
    let position = sent.iter().position(|pdu| pdu.opcode() == Opcode::SCSI_RESPONSE).expect("sent");
    assert!(position < sent.len() / 2);
    let data: usize = sent.iter().map(|pdu| pdu.data.len()).sum();
    assert_eq!(data, 2 * long);
    let with_status = |pdu: &&Pdu| pdu.opcode() != Opcode::DATA_IN || pdu.header::<DataIn>().flags & 1 != 0;
    let stat_sns: Vec<u32> =
        sent.iter().filter(with_status).map(|pdu| pdu.header::<DataIn>().stat_sn.get()).collect();
    assert_eq!(stat_sns, [FIRST_STAT_SN, FIRST_STAT_SN + 1, FIRST_STAT_SN + 2]);
}

#[test]
fn a_stale_completion_is_dropped() {
    let mut bench = Bench::new();
    let pdu = bench.read(7, 4096);
    bench.ok(&pdu);
    let task = bench.expect_command().task;
    assert!(bench.session.abort_task(task));
    assert!(!bench.session.abort_task(task));
    let completion = Completion {
        data_in: Some(Chunks::of(&[0; 4096], 512)),
        data_in_length: 4096,
        ..Completion::good(0)
    };
    assert!(!bench.session.complete(task, completion));
    assert!(bench.sent().is_empty());
    bench.assert_idle();
}
