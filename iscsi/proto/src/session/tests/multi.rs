//! Several connections in one session: order of commands, allegiance, loss of one.

use super::bench::*;
use crate::params::Negotiated;
use crate::pdu::*;
use crate::session::testing::TestHost;
use crate::session::*;

#[test]
fn every_interleaving_of_two_connections_gives_cmd_sn_order() {
    // Six commands, each on one of two connections, each connection in order: 2^6 splits times their interleavings.
    let mut checked = 0;
    for split in 0..64u32 {
        let mut schedule = Vec::new();
        interleavings(6 - split.count_ones(), split.count_ones(), &mut Vec::new(), &mut schedule);
        for order in schedule {
            let mut bench = Bench::new();
            bench.connect(11);
            let pdus: Vec<Pdu> = (0..6).map(|itt| bench.write(itt, 64, &[itt as u8; 64])).collect();
            let mut lanes: [Vec<&Pdu>; 2] = [Vec::new(), Vec::new()];
            for (n, pdu) in pdus.iter().enumerate() {
                lanes[(split >> n & 1) as usize].push(pdu);
            }
            for lane in order {
                let pdu = lanes[lane].remove(0);
                bench.send(ConnectionIndex(lane as u8), pdu).expect("sound");
            }
            let commands = bench.commands();
            let marks: Vec<u8> =
                commands.iter().map(|c| c.data_out.as_ref().expect("data").bytes()[0]).collect();
            assert_eq!(marks, [0, 1, 2, 3, 4, 5]);
            for (n, command) in commands.iter().enumerate() {
                assert_eq!(u32::from(command.connection.0), split >> n & 1);
            }
            checked += 1;
        }
    }
    assert_eq!(checked, 924, "the sum of squares of binomials");
}

fn interleavings(zeros: u32, ones: u32, prefix: &mut Vec<usize>, out: &mut Vec<Vec<usize>>) {
    if zeros + ones == 0 {
        return out.push(prefix.clone());
    }
    for (lane, left) in [(0, zeros), (1, ones)] {
        if left > 0 {
            prefix.push(lane);
            interleavings(zeros - u32::from(lane == 0), ones - u32::from(lane == 1), prefix, out);
            prefix.pop();
        }
    }
}

#[test]
fn responses_go_where_their_commands_came_from_with_a_stat_sn_each() {
    let mut bench = Bench::new();
    bench.connect(11);
    for (itt, connection) in [(1, C1), (2, C0), (3, C1)] {
        let pdu = bench.read(itt, 0);
        bench.send(connection, &pdu).expect("sound");
    }
    for command in bench.commands() {
        bench.good(command.task);
    }
    let of = |pdus: Vec<Pdu>| -> Vec<(u32, u32)> {
        pdus.iter()
            .map(|pdu| (pdu.header::<ScsiResponse>().itt.get(), pdu.header::<ScsiResponse>().stat_sn.get()))
            .collect()
    };
    assert_eq!(of(bench.sent_on(C0)), [(2, FIRST_STAT_SN)]);
    assert_eq!(of(bench.sent_on(C1)), [(1, FIRST_STAT_SN), (3, FIRST_STAT_SN + 1)]);
}

#[test]
fn connections_are_bounded_by_what_was_negotiated() {
    let mut bench = Bench::with(Negotiated { max_connections: 2, ..negotiated() }, SessionConfig::default());
    bench.connect(11);
    let params = ConnectionParams { cid: 12, stat_sn: 0, negotiated: negotiated() };
    assert_eq!(bench.session.add_connection(&params, 0), None);
    bench.session.remove_connection(C0);
    assert_eq!(bench.session.add_connection(&params, 0), Some(C0));
    assert_eq!(bench.session.connections().collect::<Vec<_>>(), [(C0, 12), (C1, 11)]);
}

#[test]
fn nothing_joins_a_session_on_its_way_out() {
    let params = ConnectionParams { cid: 12, stat_sn: 0, negotiated: negotiated() };
    let mut bench = Bench::new();
    assert!(!bench.session.is_ending());
    bench.connect(11);
    bench.session.close(C0);
    assert!(!bench.session.is_ending(), "one of two closes");
    bench.session.close(C1);
    assert!(bench.session.is_ending(), "although neither was removed yet");
    assert_eq!(bench.session.add_connection(&params, 0), None);

    // From the logout on, not only from its answer.
    let mut bench = Bench::new();
    bench.connect(11);
    let logout = request(Opcode::LOGOUT_REQUEST, F | LogoutReason::CLOSE_SESSION.0, 9, 0, bench.cmd_sn, &[]);
    bench.ok(&immediate(logout));
    let Some(Event::Logout(logout)) = bench.events().pop() else { panic!("a logout was sent") };
    assert_eq!(bench.session.add_connection(&params, 0), None);
    assert!(bench.session.complete_logout(logout.id));
    assert_eq!(bench.session.add_connection(&params, 0), None);
}

#[test]
fn losing_a_connection_in_mid_burst_ends_its_tasks_and_nothing_else() {
    let mut bench = Bench::new();
    bench.connect(11);
    let here = bench.read(1, 0);
    let there = bench.read(2, 0);
    let burst = bench.command(3, W, 5000, TestHost::write_cdb(5000), &pattern(100));
    bench.ok(&here);
    bench.send(C1, &there).expect("sound");
    bench.send(C1, &burst).expect("sound");
    let tasks: Vec<TaskId> = bench.commands().iter().map(|command| command.task).collect();
    let half = data_out(3, RESERVED_TAG, 0, 100, &pattern(4900), true).wire(false, false);
    bench.feed(C1, &half[..3000]).expect("half of it");
    bench.session.remove_connection(C1);
    assert!(matches!(bench.event(), Event::TaskAborted { task } if task == tasks[1]));
    assert!(!bench.session.complete(tasks[1], Completion::good(0)));
    assert_eq!((bench.session.task_count(), bench.session.connection_task_count(C0)), (1, 1));
    let next = bench.read(4, 0);
    bench.ok(&next);
    bench.expect_command();
}

#[test]
fn commands_of_a_lost_connection_that_were_held_leave_no_hole() {
    let mut bench = Bench::new();
    bench.connect(11);
    let first = bench.read(1, 0);
    let held = bench.write(2, 10, &pattern(10));
    let ping = request(Opcode::NOP_OUT, F, 3, RESERVED_TAG, bench.next_cmd_sn(), &[]);
    let last = bench.read(4, 0);
    bench.send(C1, &held).expect("sound");
    bench.send(C1, &ping).expect("sound");
    bench.session.remove_connection(C1);
    bench.ok(&last);
    assert!(bench.events().is_empty());
    bench.ok(&first);
    let commands = bench.commands();
    assert_eq!(commands.len(), 2);
    bench.good(commands[0].task);
    bench.good(commands[1].task);
    let response: ScsiResponse = bench.sent()[1].header();
    assert_eq!(response.exp_cmd_sn.get(), FIRST_CMD_SN.wrapping_add(4));
    assert_eq!(response.max_cmd_sn.get(), FIRST_CMD_SN.wrapping_add(131), "every place came back");
}

#[test]
fn the_same_number_on_two_connections_is_one_command() {
    let mut bench = Bench::new();
    bench.connect(11);
    let pdu = bench.write(1, 100, &pattern(100));
    let bytes = pdu.wire(false, false);
    bench.feed(C1, &bytes[..100]).expect("half of it");
    let mut again = pdu.clone();
    again.bhs[16..20].copy_from_slice(&2u32.to_be_bytes());
    bench.ok(&again);
    bench.feed(C1, &bytes[100..]).expect("the rest");
    assert_eq!(bench.commands().len(), 1);
    assert_eq!(bench.session.counters().commands_ignored, 1);
    assert_eq!(bench.session.task_count(), 1);
}
