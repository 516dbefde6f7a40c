//! Queues: creation and deletion with all their errors (Base 5.2), rings and doorbells (Base 3.3).

use nvme::device::Device;
use nvme_emulated::{ControllerConfig, Delays};
use nvme_spec::ae::AsynchronousEvent;
use nvme_spec::feature::{FeatureId, NumberOfQueues};
use nvme_spec::log::{ErrorInformation, LogPageId};
use nvme_spec::queue::{CreateCompletionQueue, CreateSubmissionQueue};
use nvme_spec::register::{CC, completion_doorbell, submission_doorbell};
use nvme_spec::{AdminOpcode, NvmOpcode, Sqe, Status};
use reactor::time::Time;
use zerocopy::FromBytes;

use crate::admin::log_page;
use crate::nvm::io;
use crate::rig::{Rig, completion_queue, config, submission_queue};

#[test]
fn creation_refuses_what_cannot_be() {
    let mut rig = Rig::ready(config());
    let at = rig.data.iova();
    let cq = completion_queue(1, 8, at);
    let wrong = [
        (CreateCompletionQueue { qid: 0, ..cq }, Status::INVALID_QUEUE_IDENTIFIER),
        (CreateCompletionQueue { qid: 5, ..cq }, Status::INVALID_QUEUE_IDENTIFIER),
        (CreateCompletionQueue { entries: 1, ..cq }, Status::INVALID_QUEUE_SIZE),
        (CreateCompletionQueue { entries: 65, ..cq }, Status::INVALID_QUEUE_SIZE),
        (CreateCompletionQueue { contiguous: false, ..cq }, Status::INVALID_FIELD),
        (CreateCompletionQueue { address: at + 8, ..cq }, Status::PRP_OFFSET_INVALID),
        (CreateCompletionQueue { interrupts: true, vector: 1, ..cq }, Status::INVALID_INTERRUPT_VECTOR),
    ];
    for (command, status) in wrong {
        assert_eq!(rig.status_of(0, command.sqe()), status, "{command:?}");
    }
    assert_eq!(rig.status_of(0, cq.sqe()), Status::SUCCESS);
    assert_eq!(rig.status_of(0, cq.sqe()), Status::INVALID_QUEUE_IDENTIFIER, "it is there already");
    let sq = submission_queue(1, 8, at + 4096, 1);
    let wrong = [
        (CreateSubmissionQueue { qid: 0, ..sq }, Status::INVALID_QUEUE_IDENTIFIER),
        (CreateSubmissionQueue { qid: 5, ..sq }, Status::INVALID_QUEUE_IDENTIFIER),
        (CreateSubmissionQueue { cqid: 0, ..sq }, Status::INVALID_QUEUE_IDENTIFIER),
        (CreateSubmissionQueue { cqid: 5, ..sq }, Status::INVALID_QUEUE_IDENTIFIER),
        (CreateSubmissionQueue { cqid: 2, ..sq }, Status::COMPLETION_QUEUE_INVALID),
        (CreateSubmissionQueue { entries: 1, ..sq }, Status::INVALID_QUEUE_SIZE),
        (CreateSubmissionQueue { entries: 65, ..sq }, Status::INVALID_QUEUE_SIZE),
        (CreateSubmissionQueue { contiguous: false, ..sq }, Status::INVALID_FIELD),
        (CreateSubmissionQueue { address: at + 64, ..sq }, Status::PRP_OFFSET_INVALID),
    ];
    for (command, status) in wrong {
        assert_eq!(rig.status_of(0, command.sqe()), status, "{command:?}");
    }
    assert_eq!(rig.status_of(0, sq.sqe()), Status::SUCCESS);
    assert_eq!(rig.status_of(0, sq.sqe()), Status::INVALID_QUEUE_IDENTIFIER, "it is there already");
}

#[test]
fn queues_need_the_entry_sizes_in_the_configuration() {
    let mut rig = Rig::disabled(config());
    rig.set_up_admin(8);
    rig.device.write_u32(CC, 1);
    rig.step();
    let at = rig.data.iova();
    assert_eq!(rig.status_of(0, completion_queue(1, 8, at).sqe()), Status::INVALID_QUEUE_SIZE);
    // They may be set while the controller is enabled.
    rig.device.write_u32(CC, Rig::configuration().0);
    assert_eq!(rig.status_of(0, completion_queue(1, 8, at).sqe()), Status::SUCCESS);
}

#[test]
fn deletion_goes_from_submission_to_completion() {
    let mut rig = Rig::with_io(config(), 8);
    let delete_sq = Sqe::delete_submission_queue;
    let delete_cq = Sqe::delete_completion_queue;
    for qid in [0, 2, 99, 0xffff] {
        assert_eq!(rig.status_of(0, delete_sq(qid)), Status::INVALID_QUEUE_IDENTIFIER);
        assert_eq!(rig.status_of(0, delete_cq(qid)), Status::INVALID_QUEUE_IDENTIFIER);
    }
    assert_eq!(rig.status_of(0, delete_cq(1)), Status::INVALID_QUEUE_DELETION);
    assert_eq!(rig.status_of(0, delete_sq(1)), Status::SUCCESS);
    assert_eq!(rig.status_of(0, delete_sq(1)), Status::INVALID_QUEUE_IDENTIFIER);
    assert_eq!(rig.status_of(0, delete_cq(1)), Status::SUCCESS);
    rig.pairs.pop();
    rig.create_pair(1, 8);
    assert_eq!(rig.status_of(1, Sqe::flush(1)), Status::SUCCESS);
}

#[test]
fn deletion_ends_the_commands_of_the_queue_first() {
    let mut rig = Rig::with_io(config(), 8);
    let command = std::time::Duration::from_secs(1);
    rig.controller.set_delays(Delays { command, ..Delays::default() });
    let cids = [rig.submit(1, Sqe::flush(1)), rig.submit(1, Sqe::flush(1))];
    rig.step();
    assert_eq!(rig.controller.outstanding(), 2);
    assert_eq!(rig.status_of(0, Sqe::delete_submission_queue(1)), Status::SUCCESS);
    assert_eq!(rig.controller.outstanding(), 0);
    for cid in cids {
        let cqe = rig.take(1).expect("it was ended");
        assert_eq!((cqe.cid.get(), cqe.status().code()), (cid, Status::ABORTED_SQ_DELETION));
    }
}

#[test]
fn the_number_of_queues_is_granted_once_and_then_holds() {
    let mut rig = Rig::ready(config());
    let set = |submission, completion| {
        let value = NumberOfQueues { submission, completion }.dword();
        Sqe::set_features(FeatureId::NUMBER_OF_QUEUES, 0, value)
    };
    assert_eq!(rig.status_of(0, set(0x1_0000, 1)), Status::INVALID_FIELD);
    let granted = rig.admin(set(100, 100));
    assert_eq!(NumberOfQueues::of(granted), NumberOfQueues { submission: 4, completion: 4 });
    assert_eq!(rig.admin(set(2, 3)), 0x0002_0001);
    let at = rig.data.iova();
    assert_eq!(rig.status_of(0, completion_queue(4, 8, at).sqe()), Status::INVALID_QUEUE_IDENTIFIER);
    assert_eq!(rig.status_of(0, completion_queue(3, 8, at).sqe()), Status::SUCCESS);
    assert_eq!(rig.status_of(0, set(4, 4)), Status::COMMAND_SEQUENCE_ERROR);
    let wrong = submission_queue(3, 8, at + 4096, 3).sqe();
    assert_eq!(rig.status_of(0, wrong), Status::INVALID_QUEUE_IDENTIFIER);
    assert_eq!(rig.status_of(0, submission_queue(2, 8, at + 4096, 3).sqe()), Status::SUCCESS);
}

#[test]
fn rings_wrap_at_every_depth() {
    for entries in [2, 3, 4, 5, 8, 63, 64] {
        let mut rig = Rig::with_io(config(), entries);
        let mut cids = std::collections::VecDeque::new();
        for round in 0..3 * entries {
            // As many as fit, all told by one doorbell.
            let count = 1 + round % (entries - 1);
            for _ in 0..count {
                let cid = rig.pair(1).put(Sqe::flush(1));
                cids.push_back(cid);
            }
            rig.ring_tail(1);
            rig.step();
            for taken in 0..count {
                let cqe = rig.pair(1).take().expect("completed");
                assert_eq!(cqe.status(), Status::SUCCESS);
                assert_eq!(Some(cqe.cid.get()), cids.pop_front(), "in order, {taken}");
            }
            rig.ring_head(1);
            let pair = rig.pair(1);
            assert_eq!(u32::from(pair.sqhd), pair.tail, "everything was taken");
            assert!(pair.peek().is_none());
        }
        assert_eq!(rig.controller.counters().doorbell_errors, 0);
    }
}

#[test]
fn an_admin_queue_of_two_entries_wraps() {
    let mut rig = Rig::disabled(config());
    rig.set_up_admin(2);
    rig.enable();
    for _ in 0..20 {
        assert_eq!(rig.status_of(0, Sqe::admin(AdminOpcode::KEEP_ALIVE)), Status::INVALID_OPCODE);
    }
}

#[test]
fn the_largest_queue_there_can_be_wraps() {
    let mut rig = Rig::with_io(ControllerConfig { queue_entries_max: 65536, ..config() }, 65536);
    for _ in 0..9 {
        rig.pair(1).put_many(Sqe::flush(1), 8000);
        rig.ring_tail(1);
        rig.step();
        for _ in 0..8000 {
            assert!(rig.pair(1).take().is_some_and(|cqe| cqe.status().is_success()));
        }
        rig.ring_head(1);
    }
    assert_eq!((rig.controller.counters().doorbell_errors, rig.pair(1).phase), (0, false));
}

#[test]
fn a_full_completion_queue_stops_the_taking_and_loses_nothing() {
    let mut rig = Rig::ready(config());
    rig.create_pair(1, 4);
    let at = rig.data.iova();
    // A second submission queue, of eight entries, on the same completion queue of four.
    rig.admin(submission_queue(2, 8, at, 1).sqe());
    for cid in 0..7_u16 {
        let sqe = Sqe { cid: cid.into(), ..Sqe::flush(1) };
        rig.fill(usize::from(cid) * 64, zerocopy::IntoBytes::as_bytes(&sqe));
    }
    rig.device.write_u32(submission_doorbell(2, 0), 7);
    let mut seen = Vec::new();
    while seen.len() < 7 {
        rig.step();
        // One entry of a ring stays free.
        let mut found = 0;
        while let Some(cqe) = rig.pair(1).take() {
            assert_eq!((cqe.sqid.get(), u32::from(cqe.sqhd.get())), (2, u32::from(cqe.cid.get()) + 1));
            seen.push(cqe.cid.get());
            found += 1;
        }
        assert!(found <= 3 && found > 0);
        rig.ring_head(1);
    }
    assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn completions_that_come_late_wait_for_room_as_well() {
    let mut rig = Rig::with_io(config(), 4);
    let command = std::time::Duration::from_millis(1);
    rig.controller.set_delays(Delays { command, ..Delays::default() });
    // All three are taken before one is completed; three more follow before the host has looked.
    for _ in 0..2 {
        rig.pair(1).put_many(Sqe::flush(1), 3);
        rig.ring_tail(1);
        rig.step();
    }
    assert_eq!(rig.controller.outstanding(), 6);
    rig.pass(command);
    assert_eq!(rig.controller.outstanding(), 0);
    let mut seen = 0;
    while rig.pair(1).take().is_some() {
        seen += 1;
    }
    assert_eq!(seen, 3);
    rig.ring_head(1);
    rig.step();
    assert_eq!((0..10).filter(|_| rig.take(1).is_some()).count(), 3);
}

#[test]
fn wrong_doorbells_are_events_and_change_nothing() {
    let mut rig = Rig::with_io(config(), 4);
    let (register, value) =
        (AsynchronousEvent::ERROR_INVALID_DOORBELL_REGISTER, AsynchronousEvent::ERROR_INVALID_DOORBELL_VALUE);
    let wrong = [
        (submission_doorbell(1, 0), 4, value),
        (submission_doorbell(1, 0), 0, value),
        (completion_doorbell(1, 0), 1, value),
        (completion_doorbell(1, 0), 0, value),
        (completion_doorbell(1, 0), u32::MAX, value),
        (submission_doorbell(2, 0), 1, register),
        (completion_doorbell(2, 0), 1, register),
        (submission_doorbell(0, 0) + 0xffc, 1, register),
    ];
    for (count, (offset, written, event)) in wrong.into_iter().enumerate() {
        let request = rig.submit(0, Sqe::admin(AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST));
        rig.step();
        rig.device.write_u32(offset, written);
        rig.step();
        let cqe = rig.take(0).expect("the request is completed");
        assert_eq!((cqe.cid.get(), cqe.dw0.get()), (request, event.dword()), "{offset:#x} {written}");
        assert_eq!(rig.controller.counters().doorbell_errors, count as u64 + 1);
        let page = log_page(&mut rig, LogPageId::ERROR, 64, false);
        let entry = ErrorInformation::read_from_bytes(&page).expect("64 bytes");
        assert_eq!((entry.error_count.get(), entry.sqid.get()), (count as u64 + 1, 0xffff));
    }
    assert_eq!(rig.status_of(1, Sqe::flush(1)), Status::SUCCESS);
}

#[test]
fn a_tail_that_overruns_the_head_is_refused() {
    let rig = Rig::with_io(config(), 4);
    // Nothing is stepped, so nothing is taken: there is room for three.
    rig.device.write_u32(submission_doorbell(1, 0), 2);
    rig.device.write_u32(submission_doorbell(1, 0), 0);
    assert_eq!(rig.controller.counters().doorbell_errors, 1);
    rig.device.write_u32(submission_doorbell(1, 0), 3);
    assert_eq!(rig.controller.counters().doorbell_errors, 1);
}

#[test]
fn doorbells_of_a_controller_that_is_not_ready_are_not_heard() {
    let rig = Rig::disabled(config());
    rig.device.write_u32(submission_doorbell(0, 0), 1);
    let counters = rig.controller.counters();
    assert_eq!((counters.violations, counters.doorbell_errors), (1, 0));
}

#[test]
fn the_stride_moves_the_doorbells_apart() {
    for stride in 0..=4 {
        let made = ControllerConfig { doorbell_stride: stride, ..config() };
        let mut rig = Rig::with_io(made, 8);
        for _ in 0..20 {
            assert_eq!(rig.status_of(1, Sqe::flush(1)), Status::SUCCESS);
        }
        assert_eq!(rig.controller.counters().doorbell_errors, 0);
    }
}

#[test]
fn an_identifier_that_is_in_use_is_refused() {
    let mut rig = Rig::with_io(config(), 8);
    let command = std::time::Duration::from_millis(1);
    rig.controller.set_delays(Delays { command, ..Delays::default() });
    let sqe = Sqe { cid: 7.into(), ..Sqe::flush(1) };
    rig.pair(1).put_as_is(&sqe);
    rig.pair(1).put_as_is(&sqe);
    rig.ring_tail(1);
    rig.step();
    let cqe = rig.take(1).expect("the second one is refused");
    assert_eq!((cqe.cid.get(), cqe.status().code()), (7, Status::COMMAND_ID_CONFLICT));
    rig.pass(command);
    assert_eq!(rig.take(1).map(|cqe| cqe.status()), Some(Status::SUCCESS));
    assert_eq!(rig.controller.counters().violations, 1);
}

#[test]
fn queues_take_turns() {
    let mut rig = Rig::ready(config());
    for qid in 1..=4 {
        rig.create_pair(qid, 64);
    }
    for qid in 1..=4 {
        rig.pair(qid).put_many(Sqe::flush(1), 63);
        rig.ring_tail(qid);
    }
    rig.controller.step(Time::ZERO, 128);
    let counts: Vec<usize> = (1..=4).map(|qid| (0..64).map_while(|_| rig.pair(qid).take()).count()).collect();
    assert_eq!(counts, [32; 4]);
}

#[test]
fn queues_in_memory_that_is_not_mapped_are_fatal() {
    let mut rig = Rig::ready(config());
    rig.admin(completion_queue(1, 8, 0x1000).sqe());
    rig.admin(submission_queue(1, 8, rig.data.iova(), 1).sqe());
    let sqe = Sqe { cid: 1.into(), ..io(NvmOpcode::VERIFY, 1, 0, 1) };
    rig.fill(0, zerocopy::IntoBytes::as_bytes(&sqe));
    rig.device.write_u32(submission_doorbell(1, 0), 1);
    rig.step();
    assert_eq!((rig.status().cfs(), rig.controller.iommu_fault_count()), (1, 1));
    assert_eq!(rig.controller.iommu_faults()[0].iova, 0x1000);
    rig.device.write_u32(CC, 0);
    rig.step();
    assert_eq!(rig.status().0, 0);
}

#[test]
fn without_bus_mastering_nothing_is_taken_and_nothing_lost() {
    let mut rig = Rig::with_io(config(), 8);
    rig.device.set_bus_master(false).expect("it is there");
    rig.submit(1, Sqe::flush(1));
    rig.step();
    assert!(rig.take(1).is_none());
    rig.device.set_bus_master(true).expect("it is there");
    rig.step();
    assert!(rig.take(1).is_some());
    assert_eq!(rig.controller.iommu_fault_count(), 0);
}

#[test]
fn an_eager_controller_takes_what_is_in_memory_when_the_doorbell_is_written() {
    let mut rig = Rig::with_io(ControllerConfig { eager: true, ..config() }, 8);
    let cid = rig.submit(1, Sqe::flush(1));
    assert!(rig.pair(1).take().is_some_and(|cqe| cqe.cid.get() == cid), "done without a step");
    rig.ring_head(1);
    // The doorbell first and the command after: what is found is what was there before, zeros.
    rig.device.write_u32(submission_doorbell(1, 0), 2);
    rig.pair(1).put(Sqe::flush(1));
    rig.step();
    let cqe = rig.take(1).expect("completed");
    assert_eq!((cqe.cid.get(), cqe.status().code()), (0, Status::INVALID_NAMESPACE_OR_FORMAT));
}
