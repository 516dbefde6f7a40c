//! Compare, and compare and write, by the controllers.

use volume::bdev::Comparing;

use super::*;
use crate::{Compare, Unsuitable};

const DIFFERS: IoStatus = IoStatus::Miscompare { offset_bytes: 0 };

fn one(lba: u64) -> Extent {
    Extent { lba, length_blocks: 1 }
}

impl Rig {
    fn compare(&mut self, lba: u64, byte: u8) -> u64 {
        self.submit(Op::Compare(one(lba)), &[byte; 4096])
    }

    fn compare_and_write(&mut self, lba: u64, old: u8, new: u8) -> u64 {
        let payload = [[old; 4096], [new; 4096]].concat();
        self.submit(Op::CompareAndWrite { extent: one(lba), fua: false }, &payload)
    }

    fn status(&mut self, tag: u64) -> IoStatus {
        self.wait(tag).status
    }
}

#[test]
fn the_controller_compares_and_the_data_comes_back() {
    let mut rig = Rig::new(1);
    let write = rig.write(5, 1);
    rig.wait_good(write);
    let equal = rig.compare(5, 1);
    assert_eq!(rig.wait_good(equal).to_vec(), [1; 4096]);
    let other = rig.compare(5, 2);
    assert_eq!(rig.status(other), DIFFERS);
    let fused = rig.compare_and_write(5, 2, 3);
    assert_eq!(rig.status(fused), DIFFERS);
    assert_eq!(rig.first_byte(5), 1);
    let fused = rig.compare_and_write(5, 1, 3);
    assert_eq!(rig.wait_good(fused).to_vec(), [[1; 4096], [3; 4096]].concat());
    assert_eq!(rig.first_byte(5), 3);
    let seen: Vec<u8> = rig.target.script(0).seen.iter().copied().filter(|opcode| *opcode != 2).collect();
    assert_eq!(seen, [1, 5, 5, 5, 1, 5, 1], "a compare and write is a pair");
}

#[test]
fn pairs_stay_together_among_other_commands_and_on_one_queue() {
    // Two queues of three commands each: room for one pair and one more.
    let mut rig = Rig::begin(1, |_, config| (config.io_queues, config.io_queue_entries) = (2, 4));
    rig.until("it is live", |rig| rig.namespace.is_known());
    let mut tags = Vec::new();
    for round in 0..40 {
        tags.push((rig.write(100 + round, 9), IoStatus::Good));
        tags.push((rig.compare_and_write(round, 0, 7), IoStatus::Good));
        tags.push((rig.read(200), IoStatus::Good));
    }
    for (tag, status) in tags {
        assert_eq!(rig.status(tag), status);
    }
    assert_eq!((rig.first_byte(39), rig.first_byte(139)), (7, 9));
}

#[test]
fn what_is_offered_is_what_every_path_offers() {
    let caw = |length_blocks| Op::CompareAndWrite { extent: Extent { lba: 0, length_blocks }, fua: false };
    let rig = Rig::new(2);
    let answers = |rig: &Rig, op| rig.namespace.comparing(&op);
    assert_eq!(answers(&rig, caw(16)), Comparing::ChannelWithoutPlace);
    assert_eq!(answers(&rig, caw(17)), Comparing::Volume, "longer than ACWU");
    assert_eq!(answers(&rig, Op::OrWrite { extent: one(0), fua: false }), Comparing::Volume);
    assert_eq!(answers(&rig, Op::Compare(one(0))), Comparing::ChannelWithoutPlace);
    let mut rig = Rig::begin(2, |target, _| target.script(1).no_compare = true);
    rig.until("both are live", |rig| rig.namespace.paths().iter().all(|path| path.access.is_some()));
    assert_eq!(answers(&rig, Op::Compare(one(0))), Comparing::Volume);
    assert_eq!(answers(&rig, caw(1)), Comparing::Volume);
    // A queue of one command has no room for two.
    let mut rig = Rig::begin(1, |_, config| config.io_queue_entries = 2);
    rig.until("it is live", |rig| rig.namespace.is_known());
    assert_eq!(answers(&rig, caw(1)), Comparing::Volume);
    let read = rig.read(0);
    rig.wait_good(read);
}

#[test]
fn a_controller_that_offers_less_than_is_required_is_refused_by_name() {
    let refused = |blocks, no_compare| {
        let mut rig = Rig::begin(2, |target, config| {
            config.compare = Compare::Required { blocks };
            target.script(1).no_compare = no_compare;
        });
        rig.turns(500);
        let paths = rig.namespace.paths();
        assert!(paths.iter().all(|path| path.access.is_some() == path.refused.is_none()));
        assert_eq!(rig.namespace.is_known(), paths.iter().any(|path| path.access.is_some()));
        paths.iter().map(|path| path.refused).collect::<Vec<_>>()
    };
    assert_eq!(refused(16, false), [None, None]);
    assert_eq!(refused(16, true), [None, Some(Unsuitable::Compare)]);
    let short = Some(Unsuitable::CompareAndWrite { offered_blocks: 16, needed_blocks: 17 });
    assert_eq!(refused(17, false), [short, short]);
}

#[test]
fn a_pair_that_was_not_carried_out_is_tried_again() {
    use nvme_spec::Status;
    let mut rig = Rig::new(1);
    for status in [Status::COMMAND_INTERRUPTED, Status::ABORTED_MISSING_FUSED] {
        rig.target.script(0).fail_next = Some(status);
        let tag = rig.compare_and_write(3, 0, 0);
        rig.wait_good(tag);
    }
    assert_eq!(rig.namespace.counters().retries, 2);
    rig.target.script(0).fail_next = Some(Status::UNRECOVERED_READ_ERROR);
    let tag = rig.compare_and_write(3, 0, 1);
    assert_eq!(rig.status(tag), IoStatus::ReadError { lba: 3 });
    assert_eq!(rig.first_byte(3), 0);
}

#[test]
fn a_pair_in_doubt_waits_until_it_is_over_and_then_fails() {
    for holds_second in [false, true] {
        let mut rig = Rig::new(1);
        let script = rig.target.script(0);
        (script.hold_writes, script.holds_second) = (!holds_second, holds_second);
        let tag = rig.compare_and_write(4, 0, 1);
        rig.turns(10);
        let lost = rig.now();
        rig.target.cut(0, None);
        let script = rig.target.script(0);
        (script.hold_writes, script.holds_second) = (false, false);
        rig.until("it is back", |rig| rig.namespace.paths()[0].access.is_some());
        rig.turns(500);
        assert!(rig.take(tag).is_none(), "it may still be carried out");
        rig.target.release(0);
        assert_eq!(rig.status(tag), IoStatus::WriteError { lba: 4 });
        assert!(rig.now().since(lost) >= Duration::from_secs(6), "quiesced by then");
        assert_eq!(rig.first_byte(4), 1, "it was carried out, late or unheard, and not twice");
        assert_eq!(rig.namespace.counters().fenced, 1);
    }
}

#[test]
fn a_pair_that_nobody_saw_is_sent_again_at_once() {
    let mut rig = Rig::new(1);
    rig.target.set_listening(0, false);
    rig.target.cut(0, None);
    rig.until("it is lost", |rig| rig.namespace.paths()[0].access.is_none());
    let tag = rig.compare_and_write(4, 0, 1);
    rig.target.set_listening(0, true);
    rig.wait_good(tag);
    assert_eq!((rig.first_byte(4), rig.namespace.counters().fenced), (1, 0));
}
