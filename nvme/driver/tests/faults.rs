//! What devices do wrong, one test for each row of what the driver must withstand.

mod rig;

use std::time::Duration;

use nvme::device::Device;
use nvme::error::Change;
use nvme::{
    Config, ControllerEvent, End, Fault as Given, IoOp, Outcome, QueuePair, Readiness, ResetCause, Timeouts,
};
use nvme_emulated::{Action, CommandMatch, ControllerConfig, FatalUntil, Fault, Format, Hang, Health};
use nvme_spec::ae::AsynchronousEvent;
use nvme_spec::{AdminOpcode, NvmOpcode, Status, register};
use reactor::buffer::Sgl;
use rig::{Rig, device_config, quick, slow};

fn rig() -> Rig {
    Rig::new(device_config(Format::Block512), quick())
}

fn write_one(rig: &mut Rig, lba: u64, salt: u8) -> (u64, Vec<u8>) {
    let data = rig.pattern(lba, 8, salt);
    let sgl = rig.list(&data);
    (rig.submit(IoOp::Write { fua: false }, lba, 8, sgl), data)
}

// --- media ------------------------------------------------------------------------------------------------------------------

/// B1 1 to 3, the driver's share: exactly the block that cannot be read fails, and a write clears it.
#[test]
fn b1_1_2_3_a_bad_block_is_named_exactly_and_an_overwrite_clears_it() {
    for format in [Format::Block512, Format::Block4096] {
        for (bad, lba, blocks) in
            [(100, 100, 1), (100, 90, 33), (100, 100, 8), (107, 100, 8), (100, 0, 256), (101, 3, 700)]
        {
            let mut rig = Rig::new(device_config(format), quick());
            let data = rig.pattern(lba, blocks, 1);
            assert_eq!(rig.write(lba, &data), Outcome::Success);
            assert_eq!(rig.flush(), Outcome::Success);
            rig.emulated.spoil_reads(1, bad..bad + 1).expect("it is there");
            match rig.read(lba, blocks) {
                Err(Outcome::Failed { status, lba }) => {
                    assert_eq!((status.code(), lba), (Status::UNRECOVERED_READ_ERROR, bad));
                }
                other => panic!("{other:?}"),
            }
            if bad > lba {
                assert!(rig.read(lba, bad - lba).is_ok(), "everything before it can be read");
            }
            let left = lba + blocks - bad - 1;
            if left > 0 {
                assert!(rig.read(bad + 1, left).is_ok(), "and everything behind it");
            }
            assert_eq!(rig.write(lba, &data), Outcome::Success);
            assert_eq!(rig.read(lba, blocks), Ok(data));
            rig.assert_clean();
        }
    }
}

/// B1 7, the driver's share: each write tells that it failed, and none is lost.
#[test]
fn b1_7_a_device_that_writes_nothing_fails_every_write_and_still_reads() {
    let mut rig = rig();
    let (tag, data) = write_one(&mut rig, 0, 1);
    assert_eq!(rig.wait(tag).outcome, Outcome::Success);
    let action = Action::Fail(Status::WRITE_FAULT);
    rig.emulated.inject(Fault::always(CommandMatch::nvm(NvmOpcode::WRITE), action)).expect("room");
    for n in 0..40 {
        let (tag, _) = write_one(&mut rig, 8 * n, 2);
        let outcome = rig.wait(tag).outcome;
        assert!(
            matches!(outcome, Outcome::Failed { status, lba } if status.code() == Status::WRITE_FAULT && lba == 8 * n)
        );
    }
    assert_eq!(rig.read(0, 8), Ok(data));
    assert_eq!((rig.stats().failed.get(), rig.controller.stats().resets.get()), (40, 0));
    rig.assert_clean();
}

/// B1 8, the driver's share: writes fail, reads go on, and the health says why.
#[test]
fn b1_8_a_device_that_turns_read_only_still_reads() {
    let mut rig = rig();
    let (tag, data) = write_one(&mut rig, 0, 1);
    assert_eq!(rig.wait(tag).outcome, Outcome::Success);
    rig.emulated.set_health(Health { is_read_only: true, ..Health::default() });
    rig.run_until("warned", |rig| {
        rig.events.iter().any(|event| matches!(event, ControllerEvent::CriticalWarning(_)))
    });
    let warning = rig.controller.stats().critical_warning.get() as u8;
    assert_ne!(warning & nvme_spec::log::CRITICAL_WARNING_READ_ONLY, 0);
    let (tag, _) = write_one(&mut rig, 0, 2);
    assert!(matches!(rig.wait(tag).outcome, Outcome::Failed { lba: 0, .. }));
    assert_eq!(rig.read(0, 8), Ok(data));
    rig.assert_clean();
}

/// B2 13, the driver's share: a write that was cut by a loss of power was not acknowledged, and each block is old or new.
#[test]
fn b2_13_a_torn_write_was_never_acknowledged_and_no_block_is_mixed() {
    for seed in 0..40 {
        let device =
            ControllerConfig { seed, volatile_write_cache: false, ..device_config(Format::Block4096) };
        let mut rig = Rig::new(device, quick());
        let old = rig.pattern(0, 16, 1);
        assert_eq!(rig.write(0, &old), Outcome::Success);
        // It reaches the cache, and the power goes before anybody hears of it.
        rig.emulated
            .inject(Fault::once(CommandMatch::nvm(NvmOpcode::WRITE), Action::DropCompletion))
            .expect("room");
        let new = rig.pattern(0, 16, 2);
        let sgl = rig.list(&new);
        let tag = rig.submit(IoOp::Write { fua: false }, 0, 16, sgl);
        rig.run_for(Duration::from_millis(1));
        rig.emulated.power_off();
        let done = rig.wait(tag);
        assert_eq!(done.outcome, Outcome::Gone, "never called a success");
        drop(done);
        rig.emulated.power_on();
        let found = rig.emulated.peek(1, 0, 16);
        let whole = |block: usize| {
            let range = block * 4096..(block + 1) * 4096;
            found[range.clone()] == old[range.clone()] || found[range.clone()] == new[range]
        };
        assert!((0..16).all(whole));
        rig.assert_clean();
    }
}

/// B2 17, 18 and 19, the driver's share: it keeps no copy of its own, so what the device has is what a checksum above sees.
#[test]
fn b2_17_18_19_misdirected_lost_and_stale_data_is_shown_as_it_is() {
    let mut rig = rig();
    let (tag, old) = write_one(&mut rig, 0, 1);
    assert_eq!(rig.wait(tag).outcome, Outcome::Success);
    rig.emulated.inject(Fault::once(CommandMatch::nvm(NvmOpcode::WRITE), Action::LoseWrite)).expect("room");
    let (tag, _) = write_one(&mut rig, 0, 2);
    assert_eq!(rig.wait(tag).outcome, Outcome::Success, "so said the device");
    assert_eq!(rig.read(0, 8), Ok(old));
    let on = CommandMatch::nvm(NvmOpcode::WRITE);
    rig.emulated.inject(Fault::once(on, Action::MisdirectWrite { blocks: 64 })).expect("room");
    let (tag, new) = write_one(&mut rig, 0, 3);
    assert_eq!(rig.wait(tag).outcome, Outcome::Success);
    assert_eq!(rig.read(64, 8), Ok(new), "the victim's blocks are shown as they are");
    rig.assert_clean();
}

/// B2 20: the second completion of a command is counted and nothing else, until there are too many.
#[test]
fn b2_20_duplicate_completions_are_counted_and_too_many_reset() {
    let mut rig = rig();
    rig.emulated.inject(Fault::always(CommandMatch::io(), Action::DuplicateCompletion)).expect("room");
    for n in 0..7 {
        let (tag, data) = write_one(&mut rig, 8 * n, 1);
        assert_eq!(rig.wait(tag).outcome, Outcome::Success);
        assert_eq!(rig.emulated.peek(1, 8 * n, 8), data);
    }
    rig.turn();
    let stats = rig.stats();
    assert_eq!((stats.duplicate.get() + stats.stale.get(), rig.controller.stats().resets.get()), (7, 0));
    let (tag, _) = write_one(&mut rig, 0, 2);
    assert_eq!(rig.wait(tag).outcome, Outcome::Success);
    rig.run_until("reset", |rig| rig.events.contains(&ControllerEvent::Reset(ResetCause::Spurious)));
    rig.emulated.clear_faults();
    rig.run_until("live", |rig| rig.queue().is_live());
    assert_eq!(rig.flush(), Outcome::Success);
    rig.assert_clean();
}

/// B2 21: a completion of no command, or of another queue, resets the controller and indexes nothing.
#[test]
fn b2_21_impossible_completions_reset_the_controller() {
    for action in [
        Action::InventCompletion { cid: 0xffff },
        Action::InventCompletion { cid: 31 },
        Action::WrongQueue { sqid: 0 },
        Action::WrongQueue { sqid: 0xffff },
    ] {
        let mut rig = rig();
        rig.emulated.inject(Fault::once(CommandMatch::io(), action)).expect("room");
        let (tag, data) = write_one(&mut rig, 0, 1);
        assert_eq!(rig.wait(tag).outcome, Outcome::Success, "{action:?}: it goes out again");
        rig.run_until("reset", |rig| {
            rig.events.contains(&ControllerEvent::Reset(ResetCause::InvalidCompletion))
        });
        rig.run_until("live", |rig| rig.queue().is_live());
        assert!(rig.stats().unknown.get() >= 1);
        assert_eq!(rig.read(0, 8), Ok(data));
        rig.assert_clean();
    }
}

/// B2 21: an entry whose phase is still old is not there.
#[test]
fn b2_21_an_entry_is_taken_only_when_its_phase_says_so() {
    let mut rig = Rig::new(device_config(Format::Block512), Config { io_queue_entries: 4, ..quick() });
    rig.emulated.inject(Fault::sometimes(CommandMatch::io(), 300, Action::LatePhase)).expect("room");
    for n in 0..50 {
        let (tag, data) = write_one(&mut rig, 8 * n, n as u8);
        assert_eq!(rig.wait(tag).outcome, Outcome::Success);
        assert_eq!(rig.read(8 * n, 8), Ok(data));
    }
    let stats = rig.stats();
    assert_eq!((stats.duplicate.get(), stats.stale.get(), stats.unknown.get()), (0, 0, 0));
    rig.assert_clean();
}

/// B2 22: only a flush or FUA makes a write durable, and both do.
#[test]
fn b2_22_what_was_flushed_or_forced_survives_a_loss_of_power() {
    for seed in 0..30 {
        let mut rig = Rig::new(ControllerConfig { seed, ..device_config(Format::Block512) }, quick());
        let flushed = rig.pattern(0, 8, 1);
        assert_eq!(rig.write(0, &flushed), Outcome::Success);
        assert_eq!(rig.flush(), Outcome::Success);
        let forced = rig.pattern(64, 8, 2);
        let sgl = rig.list(&forced);
        assert_eq!(rig.io(IoOp::Write { fua: true }, 64, 8, sgl).outcome, Outcome::Success);
        let loose = rig.pattern(128, 8, 3);
        assert_eq!(rig.write(128, &loose), Outcome::Success);
        rig.emulated.power_off();
        rig.emulated.power_on();
        assert_eq!(rig.emulated.peek(1, 0, 8), flushed);
        assert_eq!(rig.emulated.peek(1, 64, 8), forced);
    }
}

// --- controller ---------------------------------------------------------------------------------------------------------------

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
    rig.emulated.set_delays(nvme_emulated::Delays { disable: Duration::MAX, ..rig::slow(1) });
    let (tag, data) = write_one(&mut rig, 0, 1);
    rig.run_until("function reset", |rig| rig.controller.stats().function_resets.get() == 1);
    rig.emulated.set_delays(rig::slow(1));
    assert_eq!(rig.wait(tag).outcome, Outcome::Success);
    assert_eq!(rig.read(0, 8), Ok(data));
    rig.assert_clean();
}

/// B10 88: nothing helps: given up in bounded time, with everything answered and every buffer home.
#[test]
fn b10_88_a_controller_that_nothing_helps_is_given_up() {
    let mut rig = rig();
    rig.turn = Duration::from_millis(1);
    rig.emulated.set_delays(nvme_emulated::Delays {
        disable: Duration::MAX,
        function_reset: Duration::MAX,
        ..rig::slow(1)
    });
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

/// B10 89: all ones are looked at once; after that nobody reads the registers, and no memory is freed under the device.
#[test]
fn b10_89_a_function_that_reads_all_ones_is_gone_at_once() {
    let mut rig = rig();
    let tags: Vec<u64> = (0..10).map(|n| write_one(&mut rig, 8 * n, 1).0).collect();
    rig.emulated.remove();
    let took = rig.run_until("removed", |rig| rig.controller.ended().is_some());
    assert_eq!(rig.controller.ended(), Some(End::Removed));
    assert!(took <= Duration::from_millis(110), "{took:?}");
    for tag in tags {
        assert_eq!(rig.wait(tag).outcome, Outcome::Gone);
    }
    assert_eq!(rig.controller.device().read_u32(0), u32::MAX);
    rig.run_for(Duration::from_millis(50));
    rig.assert_clean();
}

/// B10 90: everything in flight is answered, and what is put in again is used only if it is the same.
#[test]
fn b10_90_removal_at_full_depth_and_re_insertion_of_the_same_and_of_another() {
    let config = Config { io_queue_entries: 1024, ..quick() };
    for serial in [None, Some("ANOTHER")] {
        let mut rig = Rig::new(device_config(Format::Block512), config);
        let kept = rig.pattern(2000, 8, 7);
        assert_eq!(rig.write(2000, &kept), Outcome::Success);
        assert_eq!(rig.flush(), Outcome::Success);
        rig.stepping = false;
        for n in 0..1023 {
            rig.submit(IoOp::Verify, n, 1, Sgl::empty());
        }
        assert_eq!(rig.queue().in_flight(), 1023);
        let namespace = rig.controller.namespace(1).expect("served").clone();
        rig.emulated.remove();
        rig.stepping = true;
        rig.run_until("answered", |rig| rig.done.len() == 1023);
        assert!(rig.done.drain(..).all(|done| done.outcome == Outcome::Gone));
        let remembered = rig.controller.remembered().expect("it was ready");
        let emulated = rig.emulated.clone();
        rig.assert_clean();
        match serial {
            None => emulated.insert(),
            Some(serial) => emulated.insert_another(serial),
        }
        let mut again = Rig::over(emulated, config);
        again.now = rig.now;
        again.controller.expect(remembered);
        again.controller.start(again.now);
        again.run_until("settled", |rig| rig.controller.is_ready() || rig.controller.ended().is_some());
        assert!(!namespace.is_live(), "what was handed out before stays gone");
        if serial.is_some() {
            let fault = Given::Changed(Change::Serial);
            assert_eq!(again.controller.ended(), Some(End::Faulted(fault)));
            assert!(fault.to_string().contains("serial number"));
            continue;
        }
        again.open_queue();
        assert_eq!(again.read(2000, 8), Ok(kept));
        again.assert_clean();
    }
}

/// B10 91: events without end cost a bounded number of commands, and I/O goes on.
#[test]
fn b10_91_a_storm_of_events_is_bounded() {
    for event in [
        AsynchronousEvent::SMART_TEMPERATURE,
        AsynchronousEvent::ERROR_TRANSIENT_INTERNAL,
        AsynchronousEvent::NAMESPACE_ATTRIBUTE_CHANGED,
    ] {
        let mut rig = rig();
        let (before, seconds) = (rig.controller.stats().admin_commands.get(), 3);
        rig.emulated.set_event_storm(Some(event));
        for n in 0..20 {
            let (tag, _) = write_one(&mut rig, 8 * n, 1);
            assert_eq!(rig.wait(tag).outcome, Outcome::Success);
            rig.run_for(Duration::from_millis(seconds * 1000 / 20));
        }
        let stats = rig.controller.stats();
        assert!(stats.events.get() <= 80 * (seconds + 1), "{}", stats.events.get());
        assert!(stats.admin_commands.get() - before <= 6 * 80 * (seconds + 1));
        assert!(stats.events_delayed.get() > 0 && rig.controller.is_ready());
        rig.assert_clean();
    }
}

/// B10 91: an admin queue that is full of commands that hang ends in a reset, not in a wait.
#[test]
fn b10_91_an_admin_queue_without_answers_is_reset() {
    let mut rig = rig();
    for opcode in [AdminOpcode::GET_LOG_PAGE, AdminOpcode::ABORT] {
        let action = Action::Hang(Hang::UntilReset);
        rig.emulated.inject(Fault::once(CommandMatch::admin(opcode), action)).expect("room");
    }
    rig.emulated.set_health(Health { temperature_kelvins: 400, ..Health::default() });
    rig.run_until("reset", |rig| rig.events.contains(&ControllerEvent::Reset(ResetCause::AdminTimeout)));
    rig.run_until("live", |rig| rig.queue().is_live());
    assert_eq!(rig.flush(), Outcome::Success);
    rig.assert_clean();
}

/// B10 93, as far as it is the driver's: every address it gives is one that was mapped for it. (That the IOMMU stops others is
/// shown with a real one.)
#[test]
fn b10_93_the_device_is_given_mapped_addresses_only() {
    let mut rig = rig();
    for n in 0..200 {
        let (lba, blocks) = (n * 7 % 1000, 1 + n * 13 % 300);
        let data = rig.pattern(lba, blocks, n as u8);
        assert_eq!(rig.write(lba, &data), Outcome::Success);
        assert_eq!(rig.read(lba, blocks), Ok(data));
    }
    rig.assert_clean();
}

/// B10 94: every depth, wrapped many times, full.
#[test]
fn b10_94_queues_of_every_depth_wrap_without_a_loss() {
    for entries in [2, 3, 4, 7, 8, 64, 257, 1024] {
        let device = ControllerConfig { queue_entries_max: entries, ..device_config(Format::Block512) };
        let config = Config { io_queue_entries: entries as u16, ..quick() };
        let mut rig = Rig::new(device, config);
        let total = (4 * u64::from(entries)).max(200);
        let (mut next, mut answered) = (0, 0);
        while answered < total {
            while next < total && rig.queue().readiness(0) == Readiness::Ready && rig.pool.in_use() < 200 {
                write_one(&mut rig, 8 * (next % 500), next as u8);
                next += 1;
            }
            rig.turn();
            for done in rig.done.drain(..) {
                assert_eq!(done.outcome, Outcome::Success);
                answered += 1;
            }
        }
        let stats = rig.stats();
        assert_eq!((stats.completed.get(), stats.stale.get() + stats.duplicate.get()), (total, 0));
        rig.assert_clean();
    }
}

/// What somebody else does to a controller that is ours, behind our back, so that it is ready all the same.
type Intrusion = fn(&Rig);

fn enable_with_other_queues(rig: &Rig) {
    let device = rig.emulated.device();
    device.write_u32(register::CC, 0);
    rig.emulated.step(rig.now, 64);
    let other = device.allocate(8192).expect("memory");
    device.write_u32(register::AQA, 1 << 16 | 1);
    device.write_u64(register::ASQ, other.iova());
    device.write_u64(register::ACQ, other.iova() + 4096);
    device.write_u32(register::CC, 0x0046_0001);
    rig.emulated.step(rig.now, 64);
    // It is not seen to: the device keeps what it was given until it is reset.
    std::mem::forget(other);
}

fn reset_subsystem_and_enable(rig: &Rig) {
    let device = rig.emulated.device();
    let queues = [register::ASQ, register::ACQ].map(|offset| device.read_u64(offset));
    let (aqa, cc) = (device.read_u32(register::AQA), device.read_u32(register::CC));
    device.write_u32(register::NSSR, register::NSSR_RESET);
    device.write_u32(register::AQA, aqa);
    device.write_u64(register::ASQ, queues[0]);
    device.write_u64(register::ACQ, queues[1]);
    device.write_u32(register::CC, cc);
    rig.emulated.step(rig.now, 64);
}

fn shut_down(rig: &Rig) {
    let device = rig.emulated.device();
    let cc = register::Configuration(device.read_u32(register::CC));
    device.write_u32(register::CC, cc.with_shn(register::SHN_NORMAL).0);
    rig.emulated.step(rig.now, 64);
}

/// Queues that the controller does not know any more are not used on, and what was in flight goes out again.
#[test]
fn a_controller_that_somebody_else_reset_is_set_up_again() {
    let intrusions: [Intrusion; 3] = [enable_with_other_queues, reset_subsystem_and_enable, shut_down];
    for (number, intrude) in intrusions.into_iter().enumerate() {
        let mut rig = rig();
        let data = rig.pattern(0, 8, 1);
        assert_eq!(rig.write(0, &data), Outcome::Success);
        rig.stepping = false;
        let sgl = rig.alloc(8);
        let tag = rig.submit(IoOp::Read, 0, 8, sgl);
        intrude(&rig);
        rig.stepping = true;
        let status = register::ControllerStatus(rig.emulated.device().read_u32(register::CSTS));
        assert_eq!((status.rdy(), status.cfs()), (1, 0), "{number}: nothing to be seen in RDY");
        let taken_over = ControllerEvent::Reset(ResetCause::TakenOver);
        let took = rig.run_until("noticed", |rig| rig.events.contains(&taken_over));
        assert!(took <= Duration::from_millis(nvme::limits::STATUS_LOOK_MS + 1), "{number}: {took:?}");
        let done = rig.wait(tag);
        assert_eq!((done.outcome, done.sgl.to_vec() == data), (Outcome::Success, true), "{number}");
        drop(done);
        rig.run_for(Duration::from_secs(1));
        assert_eq!(rig.controller.stats().resets.get(), 1, "{number}: once");
        assert_eq!(rig.read(0, 8), Ok(data), "{number}");
    }
}

// --- memory -------------------------------------------------------------------------------------------------------------------

/// A queue pair that is dropped while the device has its buffers leaks them and its rings: nothing is written over.
#[test]
fn a_queue_pair_that_is_dropped_in_flight_gives_nothing_back() {
    let mut rig = rig();
    rig.stepping = false;
    let sgl = rig.alloc(8);
    rig.submit(IoOp::Read, 0, 8, sgl);
    let mapped = rig.emulated.mappings();
    rig.queue = None;
    assert_eq!(rig.pool.in_use(), 1, "the device may still write there");
    assert_eq!(rig.emulated.mappings(), mapped);
    rig.stepping = true;
    rig.run_for(Duration::from_millis(10));
    assert_eq!(rig.emulated.iommu_fault_count(), 0);
}

/// A queue pair that is dropped while its controller is set up gives its memory back, so its queue must not be created there.
#[test]
fn a_queue_pair_that_is_dropped_in_a_reset_is_not_created_again() {
    let mut rig = Rig::new(ControllerConfig { delays: slow(5), ..device_config(Format::Block512) }, quick());
    let on = CommandMatch::admin(AdminOpcode::CREATE_IO_COMPLETION_QUEUE);
    let creations = rig.emulated.inject(Fault::always(on, Action::Delay(Duration::ZERO))).expect("room");
    let mapped = rig.emulated.mappings();
    rig.controller.reset(rig.now);
    // It has seen that the controller is quiet, and asks for its queue again.
    rig.run_until("asked for again", |rig| format!("{:?}", rig.queue()).contains("Asked"));
    rig.queue = None;
    assert!(!rig.controller.is_ready(), "dropped in the middle of the reset");
    assert!(rig.emulated.mappings() < mapped, "the memory is given back");
    rig.run_until("ready", |rig| rig.controller.is_ready());
    rig.run_for(Duration::from_millis(20));
    assert_eq!((rig.emulated.fault_hits(creations), rig.emulated.iommu_fault_count()), (0, 0));
    // And nobody waits for it in the next reset.
    rig.controller.reset(rig.now);
    let took = rig.run_until("ready again", |rig| rig.controller.is_ready());
    assert!(took < Duration::from_millis(nvme::limits::LET_GO_MS), "{took:?}");
    rig.assert_clean();
}

/// Lost power in the middle: what was acknowledged and not flushed may be gone, so the namespace is not used on.
#[test]
fn a_cache_that_lost_its_power_is_not_trusted() {
    for cache in [true, false] {
        let device = ControllerConfig { volatile_write_cache: cache, ..device_config(Format::Block512) };
        let mut rig = Rig::new(device, quick());
        rig.turn = Duration::from_millis(1);
        let (tag, data) = write_one(&mut rig, 0, 1);
        assert_eq!(rig.wait(tag).outcome, Outcome::Success);
        // Between two looks at its registers.
        rig.emulated.power_off();
        rig.emulated.power_on();
        rig.run_until("reset", |rig| rig.events.contains(&ControllerEvent::Reset(ResetCause::NotReady)));
        rig.run_until("ready", |rig| rig.controller.is_ready());
        if cache {
            assert_eq!(rig.controller.refused().next(), Some((1, nvme::Refusal::CacheLost)));
            assert_eq!(rig.queue().readiness(0), Readiness::Gone);
        } else {
            rig.run_until("live", |rig| rig.queue().is_live());
            assert_eq!(rig.read(0, 8), Ok(data));
        }
    }
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

/// Two resets in a row: the second has another cause, and what the first one meant stays true.
#[test]
fn a_loss_of_power_is_remembered_over_further_resets() {
    let mut rig = rig();
    let data = rig.pattern(0, 8, 1);
    assert_eq!(rig.write(0, &data), Outcome::Success);
    rig.emulated.power_off();
    rig.emulated.power_on();
    let on = CommandMatch::admin(AdminOpcode::GET_LOG_PAGE);
    rig.emulated.inject(Fault::once(on.clone(), Action::Hang(Hang::UntilReset))).expect("room");
    rig.emulated.inject(Fault::always(on, Action::Fail(Status::INTERNAL_ERROR))).expect("room");
    rig.run_for(Duration::from_secs(5));
    let lost: Vec<_> = rig.controller.refused().map(|(_, refusal)| refusal).collect();
    assert_eq!(lost, [nvme::Refusal::CacheLost]);
}

/// Zeroing half of a disk by hand takes long; whoever reads meanwhile must not wait for it.
#[test]
fn long_requests_leave_room_for_others() {
    let namespaces = vec![nvme_emulated::NamespaceConfig::new(1, 1 << 20, Format::Block512)];
    let device =
        ControllerConfig { write_zeroes: false, mdts: 5, namespaces, ..device_config(Format::Block512) };
    let mut rig = Rig::new(device, Config::default());
    for _ in 0..16 {
        rig.submit(IoOp::WriteZeroes { deallocate: false, fua: false }, 0, 1 << 19, Sgl::empty());
    }
    for _ in 0..100 {
        rig.turn();
        assert_eq!(rig.queue().readiness(0), Readiness::Ready);
    }
    assert!(rig.done.is_empty(), "they are still at it");
}
