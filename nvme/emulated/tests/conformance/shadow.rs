//! Shadow doorbells (Base 5.2.5, annex B.5) and interrupts (Base 3.1.4, 3.3.1).

use nvme::device::{Device, DmaMemory};
use nvme_emulated::ControllerConfig;
use nvme_spec::queue::{
    CreateCompletionQueue, DoorbellBufferConfig, completion_shadow, doorbell_is_due, submission_shadow,
};
use nvme_spec::register::{CC, INTMC, INTMS, submission_doorbell};
use nvme_spec::{Sqe, Status};

use crate::rig::{Pair, Rig, completion_queue, config, submission_queue};

struct Shadows {
    doorbells: DmaMemory,
    indexes: DmaMemory,
}

impl Shadows {
    fn set_up(rig: &mut Rig) -> Self {
        let doorbells = rig.device.allocate(4096).expect("memory is there");
        let indexes = rig.device.allocate(4096).expect("memory is there");
        rig.admin(DoorbellBufferConfig { shadow: doorbells.iova(), event_index: indexes.iova() }.sqe());
        Self { doorbells, indexes }
    }

    /// Leaves the new tail in memory; whether the register must be written.
    fn leave_tail(&self, qid: u16, old: u32, new: u32) -> bool {
        let at = submission_shadow(qid, 0);
        self.doorbells.memory().store_u32_release(at, new);
        doorbell_is_due(self.indexes.memory().load_u32_acquire(at) as u16, new as u16, old as u16)
    }

    fn leave_head(&self, qid: u16, head: u32) {
        self.doorbells.memory().store_u32_release(completion_shadow(qid, 0), head);
    }
}

#[test]
fn the_register_is_written_only_when_the_event_index_asks_for_it() {
    let mut rig = Rig::with_io(config(), 8);
    let shadows = Shadows::set_up(&mut rig);
    let before = rig.controller.counters().doorbells;
    let mut rings = 0;
    for round in 0..200 {
        let old = rig.pair(1).tail;
        // Bursts, and between some of them a pause in which the controller finds nothing.
        for _ in 0..=round % 3 {
            rig.pair(1).put(Sqe::flush(1));
        }
        let new = rig.pair(1).tail;
        if shadows.leave_tail(1, old, new) {
            rig.device.write_u32(submission_doorbell(1, 0), new);
            rings += 1;
        }
        // One step at a time: the queue is not yet known to be empty, so the next round needs no register.
        rig.controller.step(rig.now, 1 + round % 3);
        if round % 4 == 3 {
            rig.step();
        }
        while rig.pair(1).take().is_some_and(|cqe| cqe.status() == Status::SUCCESS) {}
        let head = rig.pair(1).head;
        shadows.leave_head(1, head);
    }
    rig.step();
    while rig.pair(1).take().is_some() {}
    let pair = rig.pair(1);
    assert_eq!(pair.head, pair.tail, "every command was found");
    assert_eq!(rig.controller.counters().doorbells - before, rings);
    assert!(rings > 10 && rings < 100, "{rings}");
    assert_eq!(rig.controller.counters().doorbell_errors, 0);
}

#[test]
fn a_tail_that_is_only_left_is_not_found_after_the_queue_fell_asleep() {
    let mut rig = Rig::with_io(config(), 8);
    let shadows = Shadows::set_up(&mut rig);
    rig.step();
    assert_eq!(rig.controller.deadline(), reactor::time::Time::NEVER);
    rig.pair(1).put(Sqe::flush(1));
    assert!(shadows.leave_tail(1, 0, 1), "the event index asks for the register");
    rig.step();
    assert!(rig.pair(1).peek().is_none(), "a host that does not listen is not served");
    rig.device.write_u32(submission_doorbell(1, 0), 1);
    rig.step();
    assert!(rig.pair(1).peek().is_some());
}

fn has_room(pair: &Pair) -> bool {
    (pair.tail + 1) % pair.entries != u32::from(pair.sqhd)
}

#[test]
fn room_is_found_in_the_shadow_of_the_head() {
    let mut rig = Rig::with_io(config(), 4);
    let shadows = Shadows::set_up(&mut rig);
    let mut seen = 0;
    for _ in 0..30 {
        while has_room(rig.pair(1)) {
            rig.pair(1).put(Sqe::flush(1));
        }
        let tail = rig.pair(1).tail;
        shadows.leave_tail(1, 0, tail);
        rig.device.write_u32(submission_doorbell(1, 0), tail);
        rig.step();
        while rig.pair(1).take().is_some() {
            seen += 1;
        }
        let head = rig.pair(1).head;
        shadows.leave_head(1, head);
    }
    assert_eq!(seen, 90);
}

#[test]
fn shadows_are_pages_that_can_be_reached_and_end_with_a_reset() {
    let mut rig = Rig::with_io(config(), 8);
    let base = rig.data.iova();
    let set = |shadow, event_index| DoorbellBufferConfig { shadow, event_index }.sqe();
    assert_eq!(rig.status_of(0, set(base + 8, base)), Status::INVALID_FIELD);
    assert_eq!(rig.status_of(0, set(base, base + 8)), Status::INVALID_FIELD);
    assert_eq!(rig.status_of(0, set(base, 0x1000)), Status::DATA_TRANSFER_ERROR);
    let shadows = Shadows::set_up(&mut rig);
    // A tail that cannot be is an error as a doorbell would be.
    shadows.doorbells.memory().store_u32_release(submission_shadow(1, 0), 8);
    rig.device.write_u32(submission_doorbell(1, 0), 8);
    rig.step();
    assert_eq!(rig.controller.counters().doorbell_errors, 1);
    rig.device.write_u32(CC, 0);
    rig.step();
    rig.set_up_admin(8);
    rig.enable();
    rig.create_pair(1, 8);
    assert_eq!(rig.status_of(1, Sqe::flush(1)), Status::SUCCESS, "registers count again");
    // Pages that go away while they are in use are fatal.
    drop(Shadows::set_up(&mut rig));
    rig.submit(1, Sqe::flush(1));
    rig.step();
    assert!(rig.controller.is_fatal());
    let mut plain = Rig::with_io(ControllerConfig { shadow_doorbells: false, ..config() }, 8);
    assert_eq!(plain.status_of(0, set(base, base)), Status::INVALID_OPCODE);
}

/// How often a vector was raised since it was last asked.
fn raised(rig: &Rig, vector: u16) -> bool {
    let fd = rig.device.interrupt(vector).expect("it is there").expect("a vector");
    let path = format!("/proc/self/fdinfo/{fd}");
    let info = std::fs::read_to_string(path).expect("an open descriptor");
    let count = info.lines().find_map(|line| line.strip_prefix("eventfd-count:")).expect("an eventfd");
    count.trim() != "0"
}

#[test]
fn a_completion_raises_the_vector_of_its_queue_unless_it_is_masked() {
    let mut rig = Rig::ready(ControllerConfig { interrupt_vectors: 3, ..config() });
    assert_eq!(rig.device.interrupt_vectors(), 3);
    assert_eq!(rig.device.interrupt(3), Ok(None));
    assert!(!raised(&rig, 0) && !raised(&rig, 2));
    rig.create_pair(1, 8);
    assert!(raised(&rig, 0), "the admin queue has vector 0");
    assert_eq!(rig.status_of(1, Sqe::flush(1)), Status::SUCCESS);
    assert!(!raised(&rig, 1) && !raised(&rig, 2), "queue 1 was made without interrupts");
    let base = rig.data.iova();
    let cq = CreateCompletionQueue { interrupts: true, vector: 2, ..completion_queue(2, 8, base) };
    rig.admin(cq.sqe());
    rig.admin(submission_queue(2, 8, base + 4096, 2).sqe());
    rig.device.write_u32(INTMS, 0b100);
    rig.fill(4096, zerocopy::IntoBytes::as_bytes(&Sqe::flush(1)));
    rig.device.write_u32(submission_doorbell(2, 0), 1);
    rig.step();
    assert!(!raised(&rig, 2), "it is masked");
    rig.device.write_u32(INTMC, 0b100);
    assert!(raised(&rig, 2), "and remembered");
}
