//! Every field of every header at its edges: a bad PDU costs at most its own connection, and nothing stays behind.

use super::bench::*;
use super::model::Random;
use crate::params::{Negotiated, SessionType};
use crate::pdu::*;
use crate::session::testing::TestHost;
use crate::session::*;

/// Two connections; the first is the hostile one.
fn bench_with_neighbour(values: Negotiated) -> Bench {
    let mut bench = Bench::with(values, SessionConfig::default());
    bench.connect(11);
    bench
}

/// The neighbour is served, then everything goes and nothing stays.
fn assert_unharmed(bench: &mut Bench) {
    for event in bench.events() {
        match event {
            Event::Command(command) => {
                bench.session.complete(command.task, Completion::good(command.data_out_wanted));
            }
            Event::TaskManagement(request) => {
                bench.session.complete_task_management(request.id, TmfResponse::COMPLETE);
            }
            Event::Logout(request) => {
                bench.session.complete_logout(request.id);
            }
            Event::Text(query) => {
                bench.session.complete_text(query.id, &crate::discovery::TargetRecords::new());
            }
            Event::TaskAborted { .. } | Event::CloseConnection { .. } => {}
        }
    }
    let _ = bench.sent_on(C0);
    let alive = bench.session.blocked(C1).is_none();
    if alive {
        let ping = immediate(request(Opcode::NOP_OUT, F, 0x5555_0001, RESERVED_TAG, 0, b"still here"));
        bench.send(C1, &ping).expect("the neighbour is served");
        let sent = bench.sent_on(C1);
        assert_eq!(sent.last().map(|pdu| pdu.data.as_slice()), Some(&b"still here"[..]));
    }
    bench.session.remove_connection(C0);
    bench.session.remove_connection(C1);
    bench.events();
    assert_eq!(bench.session.task_count(), 0);
    assert!(
        bench.session.requests.is_empty()
            && bench.session.waiters.is_empty()
            && bench.session.order.is_empty()
    );
    assert!(bench.session.barriers.is_empty() && bench.session.immediate_tasks == 0);
}

#[test]
fn every_opcode_with_and_without_the_immediate_bit() {
    for discovery in [false, true] {
        for byte in 0..=255u8 {
            let session_type = if discovery { SessionType::Discovery } else { SessionType::Normal };
            let mut bench = Bench::of_type(session_type, negotiated(), SessionConfig::default());
            bench.connect(11);
            let mut pdu = request(Opcode(0), F, 7, RESERVED_TAG, FIRST_CMD_SN, b"data");
            pdu.bhs[0] = byte;
            let _ = bench.send(C0, &pdu);
            assert_unharmed(&mut bench);
        }
    }
}

#[test]
fn unknown_opcodes_are_rejected_and_the_connection_goes_on() {
    for opcode in 0..64u8 {
        let known = matches!(opcode, 0..=6 | 0x10);
        if known {
            continue;
        }
        let mut bench = Bench::new();
        bench.ok(&request(Opcode(opcode), F, 7, RESERVED_TAG, FIRST_CMD_SN, &pattern(777)));
        let vendor = matches!(opcode, 0x1c..=0x1e);
        bench.expect_reject(match vendor {
            true => RejectReason::COMMAND_NOT_SUPPORTED,
            false => RejectReason::PROTOCOL_ERROR,
        });
        let read = bench.read(1, 0);
        bench.ok(&read);
        bench.expect_command();
    }
}

#[test]
fn a_login_request_after_login_ends_the_connection() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.send(C0, &request(Opcode::LOGIN_REQUEST, F, 7, 0, 0, b"InitiatorName=x\0")),
        Err(Fatal::UnexpectedLogin)
    );
    bench.expect_reject(RejectReason::PROTOCOL_ERROR);
}

#[test]
fn every_field_of_every_header_at_its_edges() {
    let edges = [
        0u32,
        1,
        2,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_fffe,
        0xffff_ffff,
        FIRST_CMD_SN,
        FIRST_CMD_SN.wrapping_add(127),
        FIRST_CMD_SN.wrapping_add(128),
        FIRST_CMD_SN.wrapping_sub(1),
    ];
    for opcode in [0x00u8, 0x01, 0x02, 0x04, 0x05, 0x06, 0x10, 0x40, 0x41, 0x42, 0x44, 0x46] {
        for flags in [0u8, 0x20, 0x40, 0x60, 0x80, 0xa0, 0xc0, 0xe0, 0xff, 0x85, 0x87] {
            for field in (16..48).step_by(4) {
                for edge in edges {
                    let mut bench = bench_with_neighbour(negotiated());
                    let open = bench.command(1, W | F, 500, TestHost::write_cdb(500), &[]);
                    bench.ok(&open);
                    bench.sent();
                    let cdb = TestHost::write_cdb(100);
                    let mut pdu = command(2, bench.cmd_sn, flags, 100, cdb, &pattern(100));
                    pdu.bhs[0] = opcode;
                    pdu.bhs[1] = flags;
                    pdu.bhs[field..field + 4].copy_from_slice(&edge.to_be_bytes());
                    let _ = bench.send(C0, &pdu);
                    assert_unharmed(&mut bench);
                }
            }
        }
    }
}

#[test]
fn every_ahs_length_with_every_kind_of_content() {
    for words in 0..=255u8 {
        for kind in [0u8, 1, 2, 3, 63, 64, 255] {
            for inner in [0u16, 1, 2, 5, 17, 247, 248, 1017, 0xffff] {
                let mut bench = bench_with_neighbour(negotiated());
                let mut pdu = bench.read(1, 0);
                pdu.ahs = vec![0; usize::from(words) * 4];
                if words > 0 {
                    pdu.ahs[..2].copy_from_slice(&inner.to_be_bytes());
                    pdu.ahs[2] = kind;
                }
                let _ = bench.send(C0, &pdu);
                for event in bench.events() {
                    let Event::Command(command) = event else { continue };
                    assert!(command.cdb.len() <= limits::CDB_BYTES_MAX);
                }
                assert_unharmed(&mut bench);
            }
        }
    }
}

#[test]
fn an_ahs_of_an_unknown_type_is_rejected() {
    let mut bench = Bench::new();
    let mut pdu = bench.read(1, 0);
    pdu.ahs = vec![0, 1, 63, 9];
    bench.ok(&pdu);
    bench.expect_reject(RejectReason::INVALID_PDU_FIELD);
    assert!(bench.events().is_empty());
}

#[test]
fn data_segment_lengths_at_their_edges() {
    for opcode in [0x40u8, 0x41, 0x42, 0x44, 0x05, 0x46, 0x10, 0x1c] {
        for length in [0u32, 1, 3, 4, 8191, 8192, 8193, 0x7f_ffff, 0x80_0000, 0xff_ffff] {
            let mut bench = bench_with_neighbour(negotiated());
            let mut pdu = request(Opcode(opcode), F | W, 7, 1, FIRST_CMD_SN, &[]);
            pdu.bhs[5..8].copy_from_slice(&length.to_be_bytes()[1..]);
            // Fewer bytes than announced come, then nothing.
            let mut bytes = pdu.wire(false, false);
            bytes.extend([0; 100]);
            let fed = bench.feed(C0, &bytes);
            if length > 8192 {
                assert_eq!(fed, Err(Fatal::DataSegmentTooLong { length_bytes: length, limit_bytes: 8192 }));
            }
            assert_unharmed(&mut bench);
        }
    }
}

#[test]
fn a_duplicate_task_tag_is_rejected_and_the_first_task_lives() {
    let mut bench = Bench::new();
    let first = bench.write(1, 100, &[]);
    bench.ok(&first);
    let r2t = r2ts(&bench.sent())[0];
    let again = bench.write(1, 100, &pattern(100));
    bench.ok(&again);
    bench.expect_reject(RejectReason::TASK_IN_PROGRESS);
    bench.ok(&answer(&r2t, &pattern(100), 100)[0]);
    bench.expect_command();
}

#[test]
fn the_reserved_task_tag_is_rejected() {
    let mut bench = Bench::new();
    let pdu = bench.write(RESERVED_TAG, 100, &pattern(100));
    bench.ok(&pdu);
    bench.expect_reject(RejectReason::INVALID_PDU_FIELD);
    for opcode in [Opcode::TMF_REQUEST, Opcode::TEXT_REQUEST, Opcode::LOGOUT_REQUEST] {
        bench.ok(&immediate(request(opcode, F, RESERVED_TAG, RESERVED_TAG, 0, &[])));
        bench.expect_reject(RejectReason::INVALID_PDU_FIELD);
    }
}

#[test]
fn command_numbers_outside_of_the_window_are_ignored_in_silence() {
    let mut bench = Bench::new();
    let outside = [
        FIRST_CMD_SN.wrapping_sub(1),
        FIRST_CMD_SN.wrapping_add(128),
        FIRST_CMD_SN ^ 0x8000_0000,
        FIRST_CMD_SN.wrapping_sub(1000),
    ];
    for (n, cmd_sn) in outside.into_iter().enumerate() {
        bench.ok(&command(1, cmd_sn, W | F, 100, TestHost::write_cdb(100), &pattern(100)));
        bench.ok(&request(Opcode::NOP_OUT, F, 2, RESERVED_TAG, cmd_sn, b"x"));
        assert!(bench.sent().is_empty() && bench.events().is_empty());
        assert_eq!(bench.session.counters().commands_ignored, 2 * (n as u64 + 1));
    }
    let edge = bench.cmd_sn.wrapping_add(127);
    bench.ok(&command(3, edge, R | F, 0, [0; 16], &[]));
    assert_eq!(bench.session.task_count(), 1, "the last of the window is held");
}

#[test]
fn a_replayed_command_is_executed_once() {
    let mut bench = Bench::new();
    let pdu = bench.write(1, 100, &pattern(100));
    bench.ok(&pdu);
    let task = bench.expect_command().task;
    bench.ok(&pdu);
    bench.good(task);
    bench.ok(&pdu);
    assert!(bench.events().is_empty());
}

#[test]
fn both_w_and_f_zero_is_a_format_error() {
    for flags in [0, R] {
        let mut bench = Bench::new();
        let pdu = bench.command(1, flags, 100, [0; 16], &[]);
        assert_eq!(bench.send(C0, &pdu), Err(Fatal::Format { opcode: 1 }));
    }
    let mut bench = Bench::new();
    let pdu = bench.command(1, R | F, 100, [0; 16], &pattern(10));
    assert_eq!(bench.send(C0, &pdu), Err(Fatal::Format { opcode: 1 }), "data without W");
}

#[test]
fn a_window_full_of_large_writes_takes_bounded_memory() {
    // As many R2Ts as the window allows, each for the largest size, never answered: the pool's size is the bound.
    let values = Negotiated { max_burst_length: 1 << 20, ..negotiated() };
    let mut bench = bench_with_neighbour(values);
    bench.host.budget_bytes = 10 << 20;
    for itt in 0..200 {
        let pdu = bench.write(itt, 1 << 20, &[]);
        bench.ok(&pdu);
    }
    assert_eq!(r2ts(&bench.sent()).len(), 10);
    assert_eq!(bench.session.task_count(), 128, "what is beyond the window is not even kept");
    assert_unharmed(&mut bench);
}

#[test]
fn a_flood_of_pings_is_bounded_by_the_backlog() {
    let mut bench = Bench::new();
    let ping = immediate(request(Opcode::NOP_OUT, F, 1, RESERVED_TAG, 0, &pattern(4096))).wire(false, false);
    let mut sent = 0;
    while bench.session.blocked(C0).is_none() {
        bench.feed(C0, &ping).expect("sound");
        sent += 1;
    }
    assert!(sent * 4096 < 2 * limits::TX_BACKLOG_BYTES_DEFAULT);
    assert!(bench.session.tx_queued_bytes(C0) < limits::TX_BACKLOG_BYTES_DEFAULT + 2 * 4200);
}

#[test]
fn a_flood_of_bad_pdus_is_bounded_by_the_backlog() {
    let mut bench = Bench::new();
    let bad = request(Opcode(0x1c), F, 1, 0, 0, &[]).wire(false, false);
    for _ in 0..100_000 {
        if bench.session.blocked(C0).is_some() {
            return;
        }
        bench.feed(C0, &bad).expect("sound");
    }
    panic!("rejects are not bounded");
}

#[test]
fn nothing_is_taken_after_a_fatal_error() {
    let mut bench = Bench::new();
    let bad = bench.command(1, 0, 0, [0; 16], &[]);
    assert!(bench.send(C0, &bad).is_err());
    let read = bench.read(2, 0);
    assert_eq!(bench.send(C0, &read), Ok(()));
    assert!(bench.events().is_empty(), "the Reject is still to be sent");
    bench.expect_reject(RejectReason::PROTOCOL_ERROR);
    assert!(matches!(bench.event(), Event::CloseConnection { .. }));
    assert_eq!(bench.session.blocked(C0), Some(Blocked::Closing));
}

#[test]
fn calls_about_connections_that_are_not_there_do_nothing() {
    let mut bench = Bench::new();
    for connection in [C1, ConnectionIndex(7), ConnectionIndex(8), ConnectionIndex(255)] {
        assert_eq!(bench.session.handle_bytes(connection, 0, &[0; 100], &mut bench.host), Ok(100));
        bench.session.payload_received(connection, 0, 5);
        bench.session.tx_advance(connection, 5);
        bench.session.remove_connection(connection);
        bench.session.close(connection);
        assert!(bench.session.payload_destination(connection).is_none());
        assert_eq!(bench.session.tx_slices(connection, &mut [std::io::IoSlice::new(&[])]), 0);
        assert_eq!(bench.session.tx_queued_bytes(connection), 0);
        assert_eq!(bench.session.blocked(connection), None);
    }
    bench.assert_idle();
}

#[test]
fn random_headers_never_harm_the_neighbour() {
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let values = if seed % 2 == 0 { negotiated() } else { with_digests(negotiated()) };
        let mut bench = bench_with_neighbour(values);
        for _ in 0..12 {
            let mut pdu = request(Opcode(0), F, 0, 0, 0, &pattern(random.below(300) as usize));
            pdu.bhs
                .iter_mut()
                .skip(8)
                .for_each(|byte| *byte = if random.below(3) == 0 { random.below(256) as u8 } else { 0 });
            pdu.bhs[0] = [0, 1, 2, 4, 5, 6, 0x10, 0x40, 0x41, 0x42, 0x44, 0x46][random.below(12) as usize];
            pdu.bhs[1] = random.below(256) as u8;
            if random.below(2) == 0 {
                let cmd_sn = bench.next_cmd_sn();
                pdu.bhs[24..28].copy_from_slice(&cmd_sn.to_be_bytes());
            }
            let _ = bench.send(C0, &pdu);
        }
        assert_unharmed(&mut bench);
    }
}
