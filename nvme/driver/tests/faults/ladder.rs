//! Commands without an answer and a fatal status: abort, controller reset, function reset, fault, each in bounded time.

use std::time::Duration;

use nvme::{
    Config, ControllerEvent, End, Fault as Given, Outcome, QueuePair, Readiness, ResetCause, Timeouts,
};
use nvme_emulated::{Action, CommandMatch, Delays, FatalUntil, Fault, Format, Hang};
use nvme_spec::{AdminOpcode, NvmOpcode};

use crate::rig::{Rig, device_config, slow};
use crate::{rig, write_one};

/// B10 88: late, aborted, and that was enough.
#[test]
fn b10_88_a_late_command_is_aborted_and_sent_again_once() {
    let mut rig = rig();
    let on = CommandMatch::nvm(NvmOpcode::WRITE);
    rig.emulated.inject(Fault::once(on, Action::Hang(Hang::UntilAborted))).expect("room");
    let (tag, data) = write_one(&mut rig, 0, 1);
    let begun = rig.now;
    assert_eq!(rig.wait(tag).outcome, Outcome::Success);
    let took = rig.now.since(begun);
    assert!(took >= Duration::from_millis(400) && took < Duration::from_millis(600), "{took:?}");
    assert_eq!(rig.read(0, 8), Ok(data));
    assert_eq!((rig.controller.stats().aborts.get(), rig.controller.stats().resets.get()), (1, 0));
    rig.assert_clean();
}

/// B10 88: the abort did not help, so the controller is reset; nothing was lost.
#[test]
fn b10_88_a_command_that_no_abort_ends_resets_the_controller() {
    for hang in [Hang::UntilReset, Hang::LateAfterAbort(Duration::from_secs(60))] {
        let mut rig = rig();
        let on = CommandMatch::nvm(NvmOpcode::WRITE);
        rig.emulated.inject(Fault::once(on, Action::Hang(hang))).expect("room");
        let (tag, data) = write_one(&mut rig, 0, 1);
        let (other, _) = write_one(&mut rig, 64, 2);
        let begun = rig.now;
        assert_eq!(rig.wait(other).outcome, Outcome::Success);
        assert_eq!(rig.wait(tag).outcome, Outcome::Success, "sent again after the reset");
        let took = rig.now.since(begun);
        assert!(took >= Duration::from_millis(600) && took < Duration::from_secs(1), "{took:?}");
        assert!(rig.events.contains(&ControllerEvent::Reset(ResetCause::AbortTimeout)));
        assert_eq!(rig.read(0, 8), Ok(data));
        assert_eq!(rig.controller.stats().function_resets.get(), 0);
        rig.assert_clean();
    }
}

/// B10 88: a command that hangs again after its one repetition fails, and the controller is used on.
#[test]
fn b10_88_a_command_that_always_hangs_fails_in_bounded_time() {
    let mut rig = rig();
    rig.turn = Duration::from_millis(1);
    let on = CommandMatch::nvm(NvmOpcode::WRITE).over(1, 0..8);
    rig.emulated.inject(Fault::always(on, Action::Hang(Hang::UntilReset))).expect("room");
    let (tag, _) = write_one(&mut rig, 0, 1);
    let begun = rig.now;
    assert_eq!(rig.wait(tag).outcome, Outcome::Unanswered { lba: 0 });
    assert!(rig.now.since(begun) < Duration::from_secs(3));
    rig.run_until("live", |rig| rig.queue().is_live());
    let (tag, _) = write_one(&mut rig, 64, 2);
    assert_eq!(rig.wait(tag).outcome, Outcome::Success);
    rig.assert_clean();
}

/// B10 88: the controller does not let itself be reset, so the function is.
#[test]
fn b10_88_a_controller_that_cannot_be_disabled_is_reset_with_its_function() {
    let mut rig = rig();
    rig.turn = Duration::from_millis(1);
    let on = CommandMatch::nvm(NvmOpcode::WRITE);
    rig.emulated.inject(Fault::once(on, Action::Hang(Hang::UntilReset))).expect("room");
    rig.emulated.set_delays(Delays { disable: Duration::MAX, ..slow(1) });
    let (tag, data) = write_one(&mut rig, 0, 1);
    rig.run_until("function reset", |rig| rig.controller.stats().function_resets.get() == 1);
    rig.emulated.set_delays(slow(1));
    assert_eq!(rig.wait(tag).outcome, Outcome::Success);
    assert_eq!(rig.read(0, 8), Ok(data));
    rig.assert_clean();
}

/// B10 88: nothing helps: given up in bounded time, with everything answered and every buffer home.
#[test]
fn b10_88_a_controller_that_nothing_helps_is_given_up() {
    let mut rig = rig();
    rig.turn = Duration::from_millis(1);
    rig.emulated.set_delays(Delays { disable: Duration::MAX, function_reset: Duration::MAX, ..slow(1) });
    rig.emulated.inject(Fault::always(CommandMatch::io(), Action::Hang(Hang::UntilReset))).expect("room");
    let (tag, _) = write_one(&mut rig, 0, 1);
    let begun = rig.now;
    assert_eq!(rig.wait(tag).outcome, Outcome::Gone);
    assert_eq!(rig.controller.ended(), Some(End::Faulted(Given::NotReset)));
    assert!(rig.now.since(begun) < Duration::from_secs(30));
    assert_eq!(rig.queue().readiness(0), Readiness::Gone);
    rig.assert_clean();
}

/// B10 89: a fatal status is a reset, again and again one of the function, and in the end a fault.
#[test]
fn b10_89_a_fatal_status_is_cleared_by_as_much_as_it_takes() {
    for (until, function_resets) in [(FatalUntil::ControllerReset, 0), (FatalUntil::FunctionReset, 1)] {
        let mut rig = rig();
        rig.turn = Duration::from_millis(1);
        let (tag, _) = write_one(&mut rig, 0, 1);
        rig.emulated.fail(until);
        assert_eq!(rig.wait(tag).outcome, Outcome::Success);
        rig.run_until("live", |rig| rig.queue().is_live());
        assert_eq!(rig.flush(), Outcome::Success);
        assert_eq!(rig.controller.stats().function_resets.get(), function_resets);
        assert!(rig.events.contains(&ControllerEvent::Reset(ResetCause::ControllerFatal)));
        rig.assert_clean();
    }
    let mut rig = rig();
    rig.turn = Duration::from_millis(1);
    rig.emulated.fail(FatalUntil::PowerCycle);
    rig.run_until("over", |rig| rig.controller.ended().is_some());
    let last = ResetCause::ControllerFatal;
    assert_eq!(rig.controller.ended(), Some(End::Faulted(Given::TooManyResets { resets: 4, last })));
}

#[test]
fn default_timeouts_answer_before_initiators_give_up() {
    let Timeouts { io, abort, .. } = Timeouts::default();
    assert!(2 * (io + abort) < Duration::from_secs(30));
    let mut rig = Rig::new(device_config(Format::Block512), Config::default());
    rig.turn = Duration::from_millis(5);
    rig.emulated.inject(Fault::always(CommandMatch::io(), Action::Hang(Hang::UntilReset))).expect("room");
    let begun = rig.now;
    let (tag, _) = write_one(&mut rig, 0, 1);
    assert_eq!(rig.wait(tag).outcome, Outcome::Unanswered { lba: 0 });
    assert!(rig.now.since(begun) < Duration::from_secs(25), "{:?}", rig.now.since(begun));
    fn assert_debug<T: std::fmt::Debug>(_: &T) {}
    assert_debug::<QueuePair<_>>(rig.queue());
}

/// With the timeouts that ship: a controller that never makes its queue anew is given up in bounded time, and who waits hears of it.
#[test]
fn a_queue_that_is_never_created_again_is_not_waited_for_without_end() {
    let mut rig = Rig::new(device_config(Format::Block512), Config::default());
    rig.turn = Duration::from_millis(1);
    let on = CommandMatch::nvm(NvmOpcode::WRITE);
    rig.emulated.inject(Fault::once(on, Action::Hang(Hang::UntilReset))).expect("room");
    let on = CommandMatch::admin(AdminOpcode::CREATE_IO_SUBMISSION_QUEUE);
    rig.emulated.inject(Fault::always(on, Action::Hang(Hang::UntilReset))).expect("room");
    let (tag, _) = write_one(&mut rig, 0, 1);
    rig.run_for(Duration::from_secs(200));
    assert!(rig.done.iter().any(|done| done.tag == tag), "the write is answered");
    assert!(rig.controller.stats().function_resets.get() > 0, "the ladder has more than one rung");
    assert!(rig.controller.ended().is_some(), "{:?}", rig.controller.stats().resets.get());
}

#[test]
fn aborts_and_resets_of_one_command_together_keep_the_bound() {
    let mut rig = Rig::new(device_config(Format::Block512), Config::default());
    rig.turn = Duration::from_millis(5);
    for _ in 0..2 {
        rig.emulated.inject(Fault::once(CommandMatch::io(), Action::Hang(Hang::UntilAborted))).expect("room");
    }
    rig.emulated.inject(Fault::always(CommandMatch::io(), Action::Hang(Hang::UntilReset))).expect("room");
    let begun = rig.now;
    let (tag, _) = write_one(&mut rig, 0, 1);
    rig.wait(tag);
    let took = rig.now.since(begun);
    assert!(took < Duration::from_secs(30), "an initiator has given up after {took:?}");
}
