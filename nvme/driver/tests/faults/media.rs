//! Data that is wrong, cut or lost, and completions that are not true.

use std::time::Duration;

use nvme::{Config, ControllerEvent, IoOp, Outcome, ResetCause};
use nvme_emulated::{Action, CommandMatch, ControllerConfig, Fault, Format, Health};
use nvme_spec::{NvmOpcode, Status};

use crate::rig::{Rig, device_config, quick};
use crate::{rig, write_one};

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
