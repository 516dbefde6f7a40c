//! A host that runs out of memory: who waits, who is refused, and that nobody waits for ever.

use super::bench::*;
use crate::pdu::*;
use crate::session::testing::TestHost;
use crate::session::*;

fn bare_write(bench: &mut Bench, itt: u32, take: u32) -> Pdu {
    bench.command(itt, W | F, take, TestHost::write_cdb(take), &[])
}

#[test]
fn a_command_with_data_stops_its_connection_until_memory_comes_back() {
    let mut bench = Bench::new();
    bench.host.budget_bytes = 100;
    let data = pattern(4000);
    let pdu = bench.write(1, 4000, &data);
    bench.ok(&pdu);
    assert_eq!(bench.session.blocked(C0), Some(Blocked::Memory));
    assert_eq!(bench.unconsumed(C0), 4000, "only the header was taken");
    assert!(bench.session.wants_memory() && bench.session.payload_destination(C0).is_none());
    bench.retry();
    assert_eq!(bench.session.blocked(C0), Some(Blocked::Memory));
    bench.host.budget_bytes = 4000;
    bench.retry();
    assert_eq!(bench.expect_command().data_out.expect("data").bytes(), data);
    assert!(bench.session.blocked(C0).is_none());
}

#[test]
fn a_parked_command_without_data_of_its_own_goes_on_with_its_unsolicited_data() {
    let mut bench = Bench::new();
    bench.host.budget_bytes = 0;
    let pdu = bench.command(1, W, 100, TestHost::write_cdb(100), &[]);
    bench.ok(&pdu);
    bench.ok(&data_out(1, RESERVED_TAG, 0, 0, &pattern(100), true));
    assert_eq!(bench.session.blocked(C0), Some(Blocked::Memory));
    bench.host.budget_bytes = 100;
    bench.retry();
    assert_eq!(bench.expect_command().data_out.expect("data").bytes(), pattern(100));
}

#[test]
fn a_command_without_data_waits_in_order_and_blocks_nobody() {
    let mut bench = Bench::new();
    bench.host.budget_bytes = 150;
    for itt in 1..=3 {
        let pdu = bare_write(&mut bench, itt, 100);
        bench.ok(&pdu);
    }
    let first = r2ts(&bench.sent());
    assert_eq!(first.len(), 1, "the second must wait, and the third behind it");
    assert!(bench.session.blocked(C0).is_none());
    bench.ok(&answer(&first[0], &pattern(100), 100)[0]);
    let task = bench.expect_command().task;
    bench.good(task);
    bench.host.budget_bytes += 100;
    bench.retry();
    let itts: Vec<u32> = r2ts(&bench.sent()).iter().map(|r2t| r2t.itt.get()).collect();
    assert_eq!(itts, [2]);
}

#[test]
fn the_window_closes_while_memory_is_short_and_reopens_with_a_word() {
    let config = SessionConfig { window_commands: 2, ..SessionConfig::default() };
    let mut bench = Bench::with(negotiated(), config);
    bench.host.budget_bytes = 0;
    let read = bench.read(1, 0);
    let write = bare_write(&mut bench, 2, 100);
    bench.ok(&read);
    bench.ok(&write);
    let task = bench.expect_command().task;
    bench.good(task);
    let response: ScsiResponse = bench.reply().header();
    assert_eq!(response.max_cmd_sn.get().wrapping_add(1), response.exp_cmd_sn.get(), "closed");
    bench.ok(&management(TmfFunction::ABORT_TASK, 9, 2, bench.cmd_sn, 0));
    let response: TmfResponsePdu = bench.reply().header();
    assert_eq!(response.max_cmd_sn.get().wrapping_sub(response.exp_cmd_sn.get()), 1, "open for two");
    bench.assert_idle();
}

#[test]
fn a_reopened_window_is_announced_when_nothing_else_says_it() {
    let config = SessionConfig { window_commands: 1, ..SessionConfig::default() };
    let mut bench = Bench::with(negotiated(), config);
    bench.connect(11);
    let read = bench.read(1, 0);
    bench.send(C1, &read).expect("sound");
    bench.events();
    bench.session.remove_connection(C1);
    let nop: NopIn = bench.reply().header();
    assert_eq!(
        (nop.itt.get(), nop.ttt.get(), nop.stat_sn.get()),
        (RESERVED_TAG, RESERVED_TAG, FIRST_STAT_SN)
    );
    assert_eq!(nop.max_cmd_sn, nop.exp_cmd_sn, "open for one");
}

#[test]
fn a_command_is_refused_when_waiting_would_block_data_that_others_need() {
    let mut bench = Bench::new();
    bench.host.budget_bytes = 100;
    let collecting = bare_write(&mut bench, 1, 100);
    bench.ok(&collecting);
    let r2t = r2ts(&bench.sent())[0];
    let refused = bench.write(2, 50, &pattern(50));
    bench.ok(&refused);
    assert!(bench.session.blocked(C0).is_none(), "the data of the first is behind it in the stream");
    bench.ok(&answer(&r2t, &pattern(100), 100)[0]);
    bench.expect_command();
    let response: ScsiResponse = bench.reply().header();
    assert_eq!((response.itt.get(), response.status), (2, 0x28));
    assert_eq!(bench.session.counters().task_set_full, 1);
}

#[test]
fn a_refused_command_still_waits_for_its_unsolicited_data() {
    let mut bench = Bench::new();
    bench.host.budget_bytes = 100;
    let collecting = bare_write(&mut bench, 1, 100);
    bench.ok(&collecting);
    bench.sent();
    let cmd_sn = bench.cmd_sn;
    bench.ok(&immediate(command(2, cmd_sn, W, 300, TestHost::write_cdb(300), &pattern(100))));
    bench.ok(&data_out(2, RESERVED_TAG, 0, 100, &pattern(100), false));
    assert!(bench.sent().is_empty(), "the status comes behind the last of the data");
    bench.ok(&data_out(2, RESERVED_TAG, 1, 200, &pattern(100), true));
    let response: ScsiResponse = bench.reply().header();
    assert_eq!((response.itt.get(), response.status), (2, 0x28));
}

#[test]
fn waiting_commands_of_two_connections_with_a_hole_do_not_lock_up() {
    // The second command came first and holds the memory that the first needs.
    let mut bench = Bench::new();
    bench.connect(11);
    bench.host.budget_bytes = 100;
    let first = bare_write(&mut bench, 1, 100);
    let second = bench.write(2, 100, &pattern(100));
    bench.send(C1, &second).expect("sound");
    bench.ok(&first);
    let response: ScsiResponse = bench.reply().header();
    assert_eq!((response.itt.get(), response.status), (1, 0x28));
    assert_eq!(bench.expect_command().data_out.expect("data").bytes(), pattern(100));
}

#[test]
fn a_parked_command_does_not_survive_a_logout() {
    for own in [false, true] {
        let mut bench = Bench::new();
        bench.connect(11);
        bench.host.budget_bytes = 0;
        let write = bench.write(1, 100, &pattern(100));
        bench.send(C1, &write).expect("sound");
        if own {
            bench.session.close(C1);
        } else {
            bench.ok(&immediate(request(Opcode::LOGOUT_REQUEST, F, 9, 0, bench.cmd_sn, &[])));
        }
        bench.host.budget_bytes = 1000;
        bench.retry();
        assert!(!bench.session.wants_memory());
        assert!(!bench.events().iter().any(|event| matches!(event, Event::Command(_))));
        assert_eq!(bench.session.task_count(), 0);
    }
}

#[test]
fn any_mix_of_writes_ends_with_a_pool_of_any_size() {
    // Seeds of (pool, sizes, order): in the end every command has a status, whatever the memory did.
    for seed in 0..300u64 {
        let mut random = super::model::Random::new(seed);
        let mut bench = Bench::new();
        bench.connect(11);
        // The largest command fits the pool: that is the host's promise.
        let pool = 4000 + random.below(6000) as usize;
        bench.host.budget_bytes = pool;
        let (mut answered, mut pending) = (0, Vec::new());
        let mut held: Vec<Command<crate::session::testing::Chunks>> = Vec::new();
        let total = 24;
        for itt in 0..total {
            let take = 1 + random.below(4000) as u32;
            let along = random.below(3) * u64::from(take) / 2;
            let pdu = bench.write(itt, take, &pattern(along as usize));
            pending.push((if random.below(2) == 0 { C0 } else { C1 }, pdu));
        }
        let mut pending = std::collections::VecDeque::from(pending);
        for _ in 0..2000 {
            match random.below(4) {
                0 => {
                    if let Some((connection, pdu)) = pending.pop_front() {
                        bench.send(connection, &pdu).expect("sound");
                    }
                }
                1 => bench.retry(),
                2 if !held.is_empty() => {
                    let command = held.remove(random.below(held.len() as u64) as usize);
                    bench.host.budget_bytes += command.data_out.as_ref().map_or(0, |data| data.bytes().len());
                    assert!(bench.session.complete(command.task, Completion::good(command.data_out_wanted)));
                }
                _ => held.extend(bench.commands()),
            }
            for connection in [C0, C1] {
                for pdu in bench.sent_on(connection) {
                    match pdu.opcode() {
                        Opcode::R2T => {
                            for data in answer(&pdu.header(), &pattern(4000), 1000) {
                                bench.send(connection, &data).expect("sound");
                            }
                        }
                        Opcode::SCSI_RESPONSE => {
                            answered += 1;
                            // A refused one never had memory, or gave it back when it failed.
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
            if answered == total {
                break;
            }
        }
        assert_eq!(answered, total, "seed {seed}");
        bench.assert_idle();
    }
}
