//! NOP, logout, SNACK, asynchronous messages.

use super::bench::*;
use crate::params::Negotiated;
use crate::pdu::*;
use crate::session::*;

fn ping(itt: u32, ttt: u32, cmd_sn: u32, data: &[u8]) -> Pdu {
    request(Opcode::NOP_OUT, F, itt, ttt, cmd_sn, data)
}

#[test]
fn a_ping_is_echoed_with_its_data() {
    let mut bench = Bench::new();
    for (n, length) in [0, 1, 8, 513, 4096].into_iter().enumerate() {
        bench.ok(&immediate(ping(5, RESERVED_TAG, bench.cmd_sn, &pattern(length))));
        let reply = bench.reply();
        let nop: NopIn = reply.header();
        assert_eq!((nop.itt.get(), nop.ttt.get()), (5, RESERVED_TAG));
        assert_eq!(nop.stat_sn.get(), FIRST_STAT_SN + n as u32);
        assert_eq!(reply.data, pattern(length));
    }
}

#[test]
fn an_echo_is_cut_to_what_the_initiator_takes() {
    let values = Negotiated { their_max_recv_data_segment_length: 512, ..negotiated() };
    let mut bench = Bench::with(values, SessionConfig::default());
    bench.ok(&immediate(ping(5, RESERVED_TAG, bench.cmd_sn, &pattern(8192))));
    assert_eq!(bench.reply().data, pattern(512));
}

#[test]
fn a_ping_with_a_number_takes_its_turn() {
    let mut bench = Bench::new();
    let command = bench.read(1, 0);
    let cmd_sn = bench.next_cmd_sn();
    bench.ok(&ping(5, RESERVED_TAG, cmd_sn, b"x"));
    assert!(bench.sent().is_empty(), "a command before it is missing");
    bench.ok(&command);
    let nop: NopIn = bench.reply().header();
    assert_eq!(nop.exp_cmd_sn.get(), FIRST_CMD_SN.wrapping_add(2));
    assert_eq!(nop.max_cmd_sn.get(), nop.exp_cmd_sn.get().wrapping_add(126), "its place is free again");
}

#[test]
fn a_ping_without_task_tag_gets_no_answer() {
    let mut bench = Bench::new();
    bench.ok(&immediate(ping(RESERVED_TAG, RESERVED_TAG, bench.cmd_sn, b"")));
    bench.ok(&immediate(ping(RESERVED_TAG, 77, bench.cmd_sn, b"")));
    assert!(bench.sent().is_empty());
    bench.ok(&ping(RESERVED_TAG, RESERVED_TAG, bench.cmd_sn, b""));
    bench.expect_reject(RejectReason::INVALID_PDU_FIELD);
}

fn logout(itt: u32, reason: LogoutReason, cid: u16, cmd_sn: u32) -> Pdu {
    immediate(request(Opcode::LOGOUT_REQUEST, F | reason.0, itt, u32::from(cid) << 16, cmd_sn, &[]))
}

fn expect_logout(bench: &mut Bench) -> Logout {
    match bench.events().pop() {
        Some(Event::Logout(logout)) => logout,
        other => panic!("a logout last, not {other:?}"),
    }
}

fn expect_closed(bench: &mut Bench, connections: &[ConnectionIndex]) {
    let closed: Vec<ConnectionIndex> = bench
        .events()
        .into_iter()
        .map(|event| match event {
            Event::CloseConnection { connection, cause: CloseCause::LoggedOut } => connection,
            other => panic!("closed, not {other:?}"),
        })
        .collect();
    assert_eq!(closed, connections);
}

#[test]
fn closing_the_session_ends_its_tasks_first_and_its_connections_last() {
    let mut bench = Bench::new();
    bench.connect(11);
    let pdu = bench.read(1, 4096);
    bench.ok(&pdu);
    let task = bench.expect_command().task;
    let pdu = bench.write(2, 100, &[]);
    bench.send(C1, &pdu).expect("sound");
    bench.ok(&logout(9, LogoutReason::CLOSE_SESSION, 0, bench.cmd_sn));
    let events = bench.events();
    assert!(matches!(events[0], Event::TaskAborted { task: aborted } if aborted == task));
    let Event::Logout(request) = &events[1] else { panic!("a logout, not {events:?}") };
    assert_eq!((request.reason, request.leaving), (LogoutReason::CLOSE_SESSION, None));
    assert_eq!(bench.session.task_count(), 0, "the one that collected data is gone too");
    assert!(!bench.session.complete(task, Completion::good(0)));
    assert_eq!(bench.session.blocked(C0), Some(Blocked::Closing));
    let late = bench.read(3, 0);
    bench.ok(&late);
    assert!(bench.events().is_empty(), "nothing more is taken");
    assert!(bench.session.complete_logout(request.id));
    assert!(!bench.session.complete_logout(request.id));
    // The second connection had an R2T to send, so it closes once that is out.
    expect_closed(&mut bench, &[]);
    bench.sent_on(C1);
    expect_closed(&mut bench, &[C1]);
    let response: LogoutResponse = bench.reply().header();
    assert_eq!((response.itt.get(), response.response), (9, LogoutResponseCode::CLOSED));
    expect_closed(&mut bench, &[C0]);
}

#[test]
fn closing_one_connection_leaves_the_other() {
    let mut bench = Bench::new();
    bench.connect(11);
    for (itt, connection) in [(1, C0), (2, C1)] {
        let pdu = bench.read(itt, 0);
        bench.send(connection, &pdu).expect("sound");
    }
    let tasks = bench.commands();
    bench.ok(&logout(9, LogoutReason::CLOSE_CONNECTION, 11, bench.cmd_sn));
    let events = bench.events();
    assert!(matches!(events[0], Event::TaskAborted { task } if task == tasks[1].task));
    let Event::Logout(request) = &events[1] else { panic!("a logout, not {events:?}") };
    assert_eq!(request.leaving, Some(C1));
    bench.session.complete_logout(request.id);
    expect_closed(&mut bench, &[C1]);
    bench.session.remove_connection(C1);
    assert_eq!(bench.reply().header::<LogoutResponse>().response, LogoutResponseCode::CLOSED);
    bench.good(tasks[0].task);
    assert_eq!(bench.reply().opcode(), Opcode::SCSI_RESPONSE);
}

#[test]
fn a_connection_that_took_the_place_of_one_that_was_leaving_stays() {
    let mut bench = Bench::new();
    bench.connect(11);
    bench.ok(&logout(9, LogoutReason::CLOSE_CONNECTION, 11, bench.cmd_sn));
    let request = expect_logout(&mut bench);
    bench.session.remove_connection(C1);
    assert_eq!(bench.connect(11), C1);
    assert!(bench.session.complete_logout(request.id));
    let response: LogoutResponse = bench.reply().header();
    assert_eq!((response.itt.get(), response.response), (9, LogoutResponseCode::CLOSED));
    assert_eq!((bench.session.blocked(C1), bench.events().len()), (None, 0));
    let read = bench.read(1, 0);
    bench.send(C1, &read).expect("sound");
    bench.expect_command();
}

#[test]
fn logouts_that_change_nothing() {
    let mut bench = Bench::new();
    let table = [
        (LogoutReason::CLOSE_CONNECTION, 99, LogoutResponseCode::CID_NOT_FOUND),
        (LogoutReason::REMOVE_FOR_RECOVERY, 10, LogoutResponseCode::RECOVERY_NOT_SUPPORTED),
        (LogoutReason(0x55), 10, LogoutResponseCode::CLEANUP_FAILED),
    ];
    for (reason, cid, answer) in table {
        bench.ok(&logout(9, reason, cid, bench.cmd_sn));
        assert_eq!(bench.reply().header::<LogoutResponse>().response, answer);
    }
    let pdu = bench.read(1, 0);
    bench.ok(&pdu);
    bench.expect_command();
}

#[test]
fn a_logout_with_a_number_waits_for_its_turn() {
    let mut bench = Bench::new();
    let first = bench.read(1, 0);
    let cmd_sn = bench.next_cmd_sn();
    bench.ok(&request(Opcode::LOGOUT_REQUEST, F, 9, 0, cmd_sn, &[]));
    assert!(bench.events().is_empty());
    bench.ok(&first);
    expect_logout(&mut bench);
}

#[test]
fn a_logout_survives_its_connections_loss_harmlessly() {
    let mut bench = Bench::new();
    bench.ok(&logout(9, LogoutReason::CLOSE_SESSION, 0, bench.cmd_sn));
    let request = expect_logout(&mut bench);
    bench.session.remove_connection(C0);
    bench.session.remove_connection(C0);
    assert!(!bench.session.complete_logout(request.id));
    bench.assert_idle();
}

#[test]
fn snack_is_rejected_at_level_zero() {
    let mut bench = Bench::new();
    for kind in 0..16 {
        bench.ok(&request(Opcode::SNACK_REQUEST, F | kind, 1, 2, 0, &[]));
        bench.expect_reject(RejectReason::SNACK_REJECT);
    }
}

#[test]
fn asynchronous_messages() {
    let mut bench = Bench::new();
    bench.session.notify(C0, AsyncNotice::LogoutRequest { within_s: 30 });
    let message: AsyncMessage = bench.reply().header();
    assert_eq!((message.event, message.parameter3.get()), (AsyncEvent::REQUEST_LOGOUT, 30));
    bench.session.notify(C0, AsyncNotice::Scsi { lun: LUN, sense: &[0x70, 0, 6] });
    let reply = bench.reply();
    assert_eq!(reply.header::<AsyncMessage>().stat_sn.get(), FIRST_STAT_SN + 1);
    assert_eq!(reply.data, [0, 3, 0x70, 0, 6]);
    bench.session.notify(C0, AsyncNotice::DropConnection);
    assert_eq!(bench.reply().header::<AsyncMessage>().parameter1.get(), 10);
    bench.session.notify(C0, AsyncNotice::DropSession);
    bench.session.close(C0);
    assert_eq!(bench.reply().header::<AsyncMessage>().event, AsyncEvent::DROP_SESSION);
    assert!(matches!(bench.event(), Event::CloseConnection { cause: CloseCause::Requested, .. }));
    bench.session.notify(C0, AsyncNotice::DropSession);
    bench.session.notify(C1, AsyncNotice::DropSession);
    assert!(bench.sent().is_empty(), "nothing on a connection that is closed or not there");
}
