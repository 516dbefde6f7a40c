//! Pings, dead peers, and readers that do not read.

use std::io::IoSlice;

use super::bench::*;
use crate::pdu::*;
use crate::session::testing::Chunks;
use crate::session::*;

const INTERVAL_NS: u64 = limits::PING_INTERVAL_NS_DEFAULT;
const TIMEOUT_NS: u64 = limits::PING_TIMEOUT_NS_DEFAULT;

fn advance(bench: &mut Bench, to_ns: u64) {
    bench.now_ns = to_ns;
    bench.session.handle_timeout(to_ns);
}

fn assert_dead(bench: &mut Bench) {
    let close = bench.event();
    assert!(matches!(close, Event::CloseConnection { connection: C0, cause: CloseCause::Unresponsive }));
    bench.session.remove_connection(C0);
    assert_eq!(bench.session.next_deadline(), None);
}

#[test]
fn a_silent_connection_is_pinged_and_an_answer_keeps_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.session.next_deadline(), Some(INTERVAL_NS));
    advance(&mut bench, INTERVAL_NS - 1);
    assert!(bench.sent().is_empty());
    advance(&mut bench, INTERVAL_NS);
    let nop: NopIn = bench.reply().header();
    assert_eq!((nop.itt.get(), nop.stat_sn.get()), (RESERVED_TAG, FIRST_STAT_SN), "no status of its own");
    assert_ne!(nop.ttt.get(), RESERVED_TAG);
    assert_eq!(bench.session.next_deadline(), Some(INTERVAL_NS + TIMEOUT_NS));
    bench.now_ns += 5;
    bench.ok(&immediate(request(Opcode::NOP_OUT, F, RESERVED_TAG, nop.ttt.get(), bench.cmd_sn, &[])));
    assert_eq!(bench.session.next_deadline(), Some(2 * INTERVAL_NS + 5));
    assert!(bench.sent().is_empty());
}

#[test]
fn a_ping_without_an_answer_ends_the_connection() {
    let mut bench = Bench::new();
    let pdu = bench.read(1, 0);
    bench.ok(&pdu);
    let task = bench.expect_command().task;
    advance(&mut bench, INTERVAL_NS);
    bench.sent();
    advance(&mut bench, INTERVAL_NS + TIMEOUT_NS - 1);
    assert!(bench.events().is_empty());
    advance(&mut bench, INTERVAL_NS + TIMEOUT_NS);
    assert!(matches!(bench.event(), Event::CloseConnection { cause: CloseCause::Unresponsive, .. }));
    bench.session.remove_connection(C0);
    assert!(matches!(bench.event(), Event::TaskAborted { task: aborted } if aborted == task));
}

#[test]
fn deadlines_are_always_in_the_future_after_a_call() {
    let mut bench = Bench::new();
    for _ in 0..50 {
        let Some(deadline_ns) = bench.session.next_deadline() else { return };
        assert!(deadline_ns > bench.now_ns);
        advance(&mut bench, deadline_ns);
    }
    panic!("a connection that answers nothing must end");
}

/// Reads until the connection takes no more input; nothing of the answers is taken.
fn fill(bench: &mut Bench) -> usize {
    for n in 0..10_000 {
        if bench.session.blocked(C0) == Some(Blocked::Backlog) {
            return n;
        }
        let pdu = bench.read(n as u32, 60_000);
        bench.ok(&pdu);
        let task = bench.expect_command().task;
        let completion = Completion {
            data_in: Some(Chunks::of(&[7; 60_000], 60_000)),
            data_in_length: 60_000,
            ..Completion::good(0)
        };
        assert!(bench.session.complete(task, completion));
    }
    panic!("the backlog has no bound");
}

#[test]
fn a_reader_that_never_reads_stops_being_served_and_is_dropped() {
    let mut bench = Bench::new();
    let served = fill(&mut bench);
    assert!(served * 60_000 <= limits::TX_BACKLOG_BYTES_DEFAULT + 60_000);
    let ping = immediate(request(Opcode::NOP_OUT, F, 99_999, RESERVED_TAG, bench.cmd_sn, &[]));
    bench.ok(&ping);
    assert_eq!(bench.unconsumed(C0), BHS_BYTES, "input waits");
    advance(&mut bench, 1);
    advance(&mut bench, TIMEOUT_NS + 1);
    assert_dead(&mut bench);
}

#[test]
fn a_reader_that_nibbles_is_dropped_as_well() {
    let mut bench = Bench::new();
    fill(&mut bench);
    let mut now_ns = 1;
    advance(&mut bench, now_ns);
    while bench.events().is_empty() {
        let mut slices = [IoSlice::new(&[]); 1];
        assert_eq!(bench.session.tx_slices(C0, &mut slices), 1);
        bench.session.tx_advance(C0, 1);
        now_ns += TIMEOUT_NS / 10;
        advance(&mut bench, now_ns);
        assert!(now_ns < 2 * TIMEOUT_NS, "dropped in time");
    }
}

#[test]
fn a_reader_that_catches_up_is_served_again() {
    let mut bench = Bench::new();
    fill(&mut bench);
    let ping = immediate(request(Opcode::NOP_OUT, F, 99_999, RESERVED_TAG, bench.cmd_sn, &[]));
    bench.ok(&ping);
    bench.sent();
    assert!(bench.session.blocked(C0).is_none());
    bench.feed(C0, &[]).expect("sound");
    assert_eq!(bench.reply().header::<NopIn>().itt.get(), 99_999);
}

#[test]
fn a_queue_that_fills_late_is_not_stalled_since_for_ever() {
    let mut bench = Bench::new();
    advance(&mut bench, 1);
    let late_ns = 10 * TIMEOUT_NS;
    bench.now_ns = late_ns;
    let pdu = bench.read(1, 0);
    bench.ok(&pdu);
    let task = bench.expect_command().task;
    bench.good(task);
    advance(&mut bench, late_ns + 1);
    assert!(bench.events().is_empty(), "it waits for a nanosecond only");
    assert_eq!(bench.reply().opcode(), Opcode::SCSI_RESPONSE);
}

#[test]
fn a_connection_that_waits_for_memory_is_not_blamed() {
    let mut bench = Bench::new();
    bench.host.budget_bytes = 0;
    let pdu = bench.write(1, 100, &pattern(100));
    bench.ok(&pdu);
    for n in 1..20 {
        advance(&mut bench, n * TIMEOUT_NS);
    }
    assert!(bench.events().is_empty());
}

/// Lets time pass in steps that a live connection sees, with a ping of the initiator in each, until something happens.
fn live_until_event(bench: &mut Bench, end_ns: u64) -> bool {
    while bench.now_ns < end_ns {
        bench.now_ns += INTERVAL_NS / 2;
        let ping = immediate(request(Opcode::NOP_OUT, F, 99_999, RESERVED_TAG, bench.cmd_sn, &[]));
        bench.ok(&ping);
        bench.sent();
        let now_ns = bench.now_ns;
        advance(bench, now_ns);
        if let Some(event) = bench.session.poll_event() {
            assert!(
                matches!(event, Event::CloseConnection { cause: CloseCause::Unresponsive, .. }),
                "{event:?}"
            );
            return true;
        }
    }
    false
}

#[test]
fn data_that_never_comes_ends_its_connection_although_it_is_alive() {
    let mut bench = Bench::new();
    let limit_ns = limits::DATA_OUT_TIMEOUT_NS_DEFAULT;
    let pdu = bench.write(1, 8000, &[]);
    bench.ok(&pdu);
    assert_eq!(r2ts(&bench.sent()).len(), 1);
    assert!(live_until_event(&mut bench, limit_ns + 2 * INTERVAL_NS));
    assert!(bench.now_ns >= limit_ns, "not before its time");
    bench.session.remove_connection(C0);
    bench.assert_idle();
}

#[test]
fn data_that_comes_slowly_is_waited_for() {
    let mut bench = Bench::new();
    let limit_ns = limits::DATA_OUT_TIMEOUT_NS_DEFAULT;
    let pdu = bench.write(1, 8000, &[]);
    bench.ok(&pdu);
    let r2t = r2ts(&bench.sent())[0];
    for pdu in answer(&r2t, &pattern(8000), 1000) {
        let patient_ns = bench.now_ns + limit_ns - INTERVAL_NS;
        assert!(!live_until_event(&mut bench, patient_ns));
        bench.ok(&pdu);
    }
    bench.expect_command();
    // One that executes is nobody's fault but ours.
    let end_ns = bench.now_ns + 3 * limit_ns;
    assert!(!live_until_event(&mut bench, end_ns));
}
