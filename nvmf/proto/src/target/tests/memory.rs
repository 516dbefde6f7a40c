//! Too little memory, and a host that does not read.

use nvme_spec::tcp::FLAG_LAST_PDU;
use nvme_spec::{SglDescriptor, Status};

use super::bench::*;
use crate::target::*;
use crate::testing::Chunks;
use crate::testing::wire::Pdu;

#[test]
fn data_in_a_capsule_stops_the_stream_until_there_is_memory() {
    let mut bench = Bench::connected(Options::default());
    bench.admission.set_budget(100);
    let data = pattern(512, 3);
    bench.capsule(&sqe(1, WRITE, SglDescriptor::in_capsule(0, 512)), &data).unwrap();
    bench.capsule(&sqe(2, 0, SglDescriptor::transport(0)), &[]).unwrap();
    assert_eq!(bench.queue.blocked(), Some(Blocked::Memory));
    assert!(bench.queue.wants_memory());
    bench.queue.retry(&mut bench.admission);
    bench.no_event();
    bench.admission.set_budget(512);
    bench.queue.retry(&mut bench.admission);
    assert_eq!((bench.queue.blocked(), bench.queue.wants_memory()), (None, false));
    bench.feed(&[]).unwrap();
    assert_eq!(bench.command().data.unwrap().bytes(), data);
    assert_eq!(bench.command().sqe.cid.get(), 2);
}

#[test]
fn a_command_whose_data_is_at_the_host_waits_aside() {
    let mut bench = Bench::connected(Options::default());
    bench.admission.set_budget(0);
    bench.capsule(&sqe(1, WRITE, SglDescriptor::transport(512)), &[]).unwrap();
    bench.capsule(&sqe(2, WRITE, SglDescriptor::transport(64)), &[]).unwrap();
    bench.capsule(&sqe(3, 0, SglDescriptor::transport(0)), &[]).unwrap();
    assert_eq!((bench.queue.blocked(), bench.queue.wants_memory()), (None, true));
    assert_eq!(bench.command().sqe.cid.get(), 3);
    // In order: the short one does not overtake.
    bench.admission.set_budget(100);
    bench.queue.retry(&mut bench.admission);
    assert_eq!(bench.sent(), []);
    bench.admission.set_budget(1000);
    bench.queue.retry(&mut bench.admission);
    assert!(matches!(bench.sent()[..], [Pdu::R2t { cccid: 1, .. }, Pdu::R2t { cccid: 2, .. }]));
    // A waiter can be aborted.
    bench.admission.set_budget(0);
    bench.capsule(&sqe(4, WRITE, SglDescriptor::transport(64)), &[]).unwrap();
    assert_eq!(bench.queue.abort(4), Aborted::Marked);
    assert_eq!(bench.command().fault, Some(Status::ABORT_REQUESTED));
    assert!(!bench.queue.wants_memory());
}

#[test]
fn what_was_asked_for_leaves_memory_to_what_is_at_hand() {
    let mut bench = Bench::connected(Options::default());
    bench.admission.reserve_bytes = 512;
    bench.admission.set_budget(600);
    bench.capsule(&sqe(1, WRITE, SglDescriptor::transport(64)), &[]).unwrap();
    let Some(Pdu::R2t { cccid: 1, ttag, .. }) = bench.sent().pop() else { panic!() };
    bench.capsule(&sqe(2, WRITE, SglDescriptor::transport(64)), &[]).unwrap();
    assert_eq!((bench.sent(), bench.queue.wants_memory()), (vec![], true));
    bench.capsule(&sqe(3, WRITE, SglDescriptor::in_capsule(0, 512)), &[7; 512]).unwrap();
    bench.feed(&bench.host.h2c_data(1, ttag, 0, FLAG_LAST_PDU, &[1; 64])).unwrap();
    assert_eq!(bench.command().data.unwrap().bytes(), [7; 512]);
    assert_eq!(bench.command().data.unwrap().bytes(), [1; 64]);
    bench.queue.retry(&mut bench.admission);
    assert!(matches!(bench.sent()[..], [Pdu::R2t { cccid: 2, .. }]));
}

#[test]
fn a_wait_for_memory_can_be_ended() {
    let mut bench = Bench::connected(Options::default());
    assert!(!bench.queue.interrupt(Status::NAMESPACE_NOT_READY));
    bench.admission.set_budget(64);
    bench.capsule(&sqe(1, WRITE, SglDescriptor::transport(64)), &[]).unwrap();
    let Some(Pdu::R2t { ttag, .. }) = bench.sent().pop() else { panic!() };
    bench.capsule(&sqe(2, WRITE, SglDescriptor::in_capsule(0, 512)), &[7; 512]).unwrap();
    bench.feed(&bench.host.h2c_data(1, ttag, 0, FLAG_LAST_PDU, &[1; 64])).unwrap();
    assert_eq!(bench.queue.blocked(), Some(Blocked::Memory));
    assert!(bench.queue.interrupt(Status::NAMESPACE_NOT_READY));
    bench.feed(&[]).unwrap();
    let interrupted = bench.command();
    assert_eq!((interrupted.sqe.cid.get(), interrupted.fault), (2, Some(Status::NAMESPACE_NOT_READY)));
    assert_eq!(bench.command().data.unwrap().bytes(), [1; 64]);
    assert_eq!(bench.queue.counters().interrupted, 1);
}

#[test]
fn no_data_is_asked_for_while_the_stream_is_stopped() {
    let mut bench = Bench::connected(Options::default());
    bench.admission.set_budget(0);
    bench.capsule(&sqe(1, WRITE, SglDescriptor::transport(64)), &[]).unwrap();
    bench.capsule(&sqe(2, WRITE, SglDescriptor::in_capsule(0, 512)), &[7; 512]).unwrap();
    assert_eq!(bench.queue.blocked(), Some(Blocked::Memory));
    bench.admission.set_budget(100);
    bench.queue.retry(&mut bench.admission);
    assert_eq!(bench.sent(), [], "the capsule comes first");
    bench.admission.set_budget(576);
    bench.queue.retry(&mut bench.admission);
    assert!(matches!(bench.sent()[..], [Pdu::R2t { cccid: 1, .. }]));
    bench.feed(&[]).unwrap();
    assert_eq!(bench.command().data.unwrap().bytes(), [7; 512]);
}

#[test]
fn an_aborted_capsule_does_not_stop_the_stream_any_more() {
    let mut bench = Bench::connected(Options::default());
    bench.admission.set_budget(0);
    bench.capsule(&sqe(2, WRITE, SglDescriptor::in_capsule(0, 512)), &[7; 512]).unwrap();
    assert_eq!(bench.queue.abort(2), Aborted::Marked);
    assert_eq!(bench.queue.blocked(), None);
    bench.feed(&[]).unwrap();
    assert_eq!(bench.command().fault, Some(Status::ABORT_REQUESTED));
}

#[test]
fn a_host_that_does_not_read_is_not_read_from() {
    let mut options = Options::default();
    options.target.tx_backlog_bytes = 8000;
    let mut bench = Bench::connected(options);
    for cid in 0..5 {
        bench.capsule(&sqe(cid, READ, SglDescriptor::transport(4096)), &[]).unwrap();
        if cid < 2 {
            assert_eq!(bench.queue.blocked(), None);
            let command = bench.command();
            let data = Chunks::blank(4096, 4096);
            assert!(bench.queue.complete_read(command.id, cqe(Status::SUCCESS), data));
        } else {
            assert_eq!(bench.queue.blocked(), Some(Blocked::Backlog));
            bench.no_event();
        }
    }
    assert_eq!(bench.sent().len(), 2);
    assert_eq!(bench.queue.blocked(), None);
    bench.feed(&[]).unwrap();
    for cid in 2..5 {
        assert_eq!(bench.command().sqe.cid.get(), cid);
    }
}

#[test]
fn a_dropped_queue_gives_every_buffer_back() {
    let mut bench = Bench::connected(Options::default());
    bench.capsule(&sqe(1, WRITE, SglDescriptor::transport(64)), &[]).unwrap();
    bench.capsule(&sqe(2, READ, SglDescriptor::transport(4096)), &[]).unwrap();
    let command = bench.command();
    assert!(bench.queue.complete_read(command.id, cqe(Status::SUCCESS), Chunks::blank(4096, 4096)));
    assert_eq!(bench.queue.command_count(), 2);
    bench.queue.close();
    assert_eq!(bench.queue.command_count(), 1, "the one that is being sent");
    bench.sent_bytes();
    assert_eq!(bench.queue.command_count(), 0);
}
