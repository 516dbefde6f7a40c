//! What happens to commands when their path is lost, and which path the next ones take.

use nvme_spec::log::AnaState;

use super::*;
use crate::error::EndCause;

/// Keep Alive Timeout twice (traffic counts), then the Command Quiesce Time.
const QUIESCE: Duration = Duration::from_secs(2 * 5 + 1);

fn access(rig: &Rig, path: usize) -> Option<AnaState> {
    rig.namespace.paths()[path].access
}

#[test]
fn reads_and_flushes_of_a_lost_path_go_on_at_once() {
    let mut rig = Rig::begin(2, |target, _| target.set_ana(1, AnaState::NON_OPTIMIZED, false));
    rig.until("both are live", |rig| access(rig, 0).is_some() && access(rig, 1).is_some());
    let tag = rig.write(4, 9);
    rig.wait_good(tag);
    rig.target.script(0).silent = true;
    let tags = [rig.read(4), rig.read(4), rig.submit(Op::Flush, &[])];
    rig.turns(10);
    rig.target.set_listening(0, false);
    rig.target.cut(0, None);
    let begun = rig.now();
    for tag in tags {
        rig.wait_good(tag);
    }
    assert!(rig.now().since(begun) < Duration::from_millis(100));
}

#[test]
fn a_write_of_a_lost_path_waits_until_the_old_association_is_quiesced() {
    let mut rig = Rig::new(2);
    rig.target.script(0).hold_writes = true;
    rig.target.script(1).hold_writes = true;
    let tag = rig.write(4, 1);
    rig.turns(10);
    let lost = rig.now();
    rig.target.cut(0, None);
    rig.target.cut(1, None);
    rig.target.script(0).hold_writes = false;
    rig.target.script(1).hold_writes = false;
    // Meanwhile the paths are back, and other commands run.
    rig.until("both are back", |rig| access(rig, 0).is_some() && access(rig, 1).is_some());
    assert_eq!(rig.first_byte(4), 0);
    // The old target is as late as it may be: it executes the write just before it must be quiet.
    while rig.now().since(lost) < QUIESCE - Duration::from_millis(50) {
        rig.turn();
        assert!(rig.take(tag).is_none(), "sent again or failed too early");
    }
    assert_eq!(rig.target.release(0) + rig.target.release(1), 1);
    rig.wait_good(tag);
    assert!(rig.now().since(lost) >= QUIESCE);
    assert_eq!(rig.namespace.counters().fenced, 1);
    assert_eq!(rig.first_byte(4), 1);
}

#[test]
fn a_write_that_nobody_saw_is_sent_again_at_once() {
    let world = SimWorld::new(11);
    // Nothing that is sent is taken beyond the window, so most commands never leave.
    world.set_net_faults(NetFaults { window_bytes: 8192, ..NetFaults::none() });
    world.set_auto_advance(false);
    let mut rig =
        Rig::begin_in(world, 2, 4096, |target, _| target.set_ana(1, AnaState::NON_OPTIMIZED, false));
    rig.until("both are live", |rig| access(rig, 0).is_some() && access(rig, 1).is_some());
    rig.target.script(0).hold_writes = true;
    let tags: Vec<u64> = (0..20).map(|lba| rig.write(lba, 5)).collect();
    let now = rig.now();
    rig.host.poll(now, 32);
    rig.target.cut(0, None);
    rig.turns(1000);
    let done = tags.iter().filter(|tag| rig.take(**tag).is_some()).count();
    assert!(done >= 15, "{done} of 20 were done");
    assert!(rig.namespace.counters().fenced >= 1);
}

#[test]
fn a_reset_proves_that_nothing_goes_on() {
    let mut rig = Rig::new(2);
    rig.target.script(0).hold_writes = true;
    rig.target.script(1).hold_writes = true;
    let tag = rig.write(4, 1);
    rig.turns(10);
    let lost = rig.now();
    // The I/O queues break, the admin queues live: the controller is reset through them.
    rig.target.cut(0, Some(1));
    rig.target.cut(1, Some(1));
    rig.target.script(0).hold_writes = false;
    rig.target.script(1).hold_writes = false;
    rig.wait_good(tag);
    assert!(rig.now().since(lost) < Duration::from_millis(500));
    assert_eq!(rig.target.release(0) + rig.target.release(1), 0, "the reset ended what was held");
    assert_eq!(rig.first_byte(4), 1);
}

#[test]
fn a_reset_that_does_not_end_is_not_waited_for() {
    let mut rig = Rig::new(1);
    rig.target.script(0).hold_writes = true;
    let tag = rig.write(4, 1);
    rig.turns(10);
    rig.target.script(0).never_resets = true;
    let lost = rig.now();
    rig.target.cut(0, Some(1));
    rig.until("it is given up", |rig| rig.namespace.paths()[0].last_end.is_some());
    let waited = rig.now().since(lost);
    assert!(waited >= Duration::from_secs(2) && waited < Duration::from_millis(2500), "{waited:?}");
    (rig.target.script(0).never_resets, rig.target.script(0).hold_writes) = (false, false);
    rig.wait_good(tag);
    assert!(rig.now().since(lost) >= QUIESCE, "without a proof the time must pass");
}

#[test]
fn a_command_without_an_answer_costs_the_path() {
    let mut rig = Rig::new(2);
    rig.target.script(0).silent = true;
    rig.target.script(1).silent = true;
    let tag = rig.read(3);
    let begun = rig.now();
    rig.until("the deadline", |rig| rig.namespace.paths().iter().any(|path| path.last_end.is_some()));
    let waited = rig.now().since(begun);
    assert!(waited >= Duration::from_secs(12) && waited < Duration::from_millis(12_500), "{waited:?}");
    let causes: Vec<_> = rig.namespace.paths().iter().filter_map(|path| path.last_end).collect();
    assert_eq!(causes, [EndCause::CommandTimeout]);
    rig.target.script(0).silent = false;
    rig.target.script(1).silent = false;
    rig.turns(100);
    rig.target.cut(0, Some(1));
    rig.target.cut(1, Some(1));
    rig.wait_good(tag);
}

#[test]
fn without_a_path_io_fails_after_a_bound() {
    let mut rig = Rig::new(1);
    rig.target.set_listening(0, false);
    rig.target.cut(0, None);
    rig.until("it is lost", |rig| rig.namespace.paths()[0].access.is_none());
    let begun = rig.now();
    let (read, write, flush) = (rig.read(3), rig.write(4, 4), rig.submit(Op::Flush, &[]));
    assert_eq!(rig.wait(read).status, IoStatus::ReadError { lba: 3 });
    assert_eq!(rig.wait(write).status, IoStatus::WriteError { lba: 4 });
    assert_eq!(rig.wait(flush).status, IoStatus::Gone);
    let waited = rig.now().since(begun);
    assert!(waited >= Duration::from_secs(19) && waited < Duration::from_secs(21), "{waited:?}");
    assert_eq!(rig.namespace.counters().no_path, 3);
    // From now on I/O fails soon, until a path is back.
    let tag = rig.read(3);
    let begun = rig.now();
    assert_eq!(rig.wait(tag).status, IoStatus::ReadError { lba: 3 });
    assert!(rig.now().since(begun) < Duration::from_millis(500));
    rig.target.set_listening(0, true);
    rig.until("it is back", |rig| access(rig, 0).is_some());
    let tag = rig.write(4, 4);
    rig.wait_good(tag);
}

#[test]
fn the_best_state_takes_all_commands() {
    let mut rig = Rig::begin(3, |target, _| {
        target.set_ana(0, AnaState::NON_OPTIMIZED, false);
        target.set_ana(2, AnaState::INACCESSIBLE, false);
    });
    rig.until("all are live", |rig| rig.namespace.paths().iter().all(|path| path.access.is_some()));
    for lba in 0..50 {
        let tag = rig.write(lba, 1);
        rig.wait_good(tag);
    }
    let counts =
        |rig: &mut Rig| [0, 1, 2].map(|port| std::mem::take(&mut rig.target.script(port).seen).len());
    assert_eq!(counts(&mut rig), [0, 50, 0]);
    // An event moves them.
    rig.target.set_ana(1, AnaState::INACCESSIBLE, true);
    rig.until("it is noticed", |rig| access(rig, 1) == Some(AnaState::INACCESSIBLE));
    let tag = rig.write(0, 1);
    rig.wait_good(tag);
    assert_eq!(counts(&mut rig), [1, 0, 0]);
    rig.target.set_ana(2, AnaState::OPTIMIZED, true);
    rig.until("it is noticed", |rig| access(rig, 2) == Some(AnaState::OPTIMIZED));
    let tag = rig.write(0, 1);
    rig.wait_good(tag);
    assert_eq!(counts(&mut rig), [0, 0, 1]);
}

#[test]
fn a_state_that_was_not_announced_is_found_by_its_status() {
    let mut rig = Rig::begin(2, |target, _| target.set_ana(1, AnaState::NON_OPTIMIZED, false));
    rig.until("both are live", |rig| access(rig, 0).is_some() && access(rig, 1).is_some());
    rig.target.set_ana(0, AnaState::INACCESSIBLE, false);
    let tag = rig.write(7, 7);
    rig.wait_good(tag);
    assert_eq!(access(&rig, 0), Some(AnaState::INACCESSIBLE));
    assert_eq!(rig.namespace.counters().fenced, 0, "a command that was answered is over");
    // Nor is the way back announced.
    rig.target.set_ana(0, AnaState::OPTIMIZED, false);
    rig.until("it is noticed", |rig| access(rig, 0) == Some(AnaState::OPTIMIZED));
}

#[test]
fn a_transition_is_waited_for() {
    let mut rig = Rig::new(1);
    rig.target.set_ana(0, AnaState::CHANGE, true);
    let tag = rig.write(7, 7);
    rig.turns(3000);
    assert!(rig.take(tag).is_none());
    rig.target.set_ana(0, AnaState::OPTIMIZED, true);
    rig.wait_good(tag);
}

#[test]
fn another_namespace_behind_the_same_name_is_not_used() {
    let mut rig = Rig::begin(2, |target, _| {
        target.set_listening(1, false);
        target.script(1).other_uuid = Some([1; 16]);
    });
    rig.until("it is known", |rig| rig.namespace.is_known());
    rig.target.set_listening(1, true);
    rig.until("the other connects", |rig| rig.target.script(1).connects > 0);
    rig.turns(1000);
    assert_eq!(access(&rig, 1), None);
    rig.target.cut(0, None);
    let tag = rig.write(1, 1);
    rig.wait_good(tag);
    assert!(rig.target.script(1).seen.is_empty());
}
