//! Queues that are flooded, full, wrapped or dropped, and the memory of theirs.

use std::time::Duration;

use nvme::{Config, ControllerEvent, IoOp, Outcome, Readiness, ResetCause};
use nvme_emulated::{Action, CommandMatch, ControllerConfig, Fault, Format, Hang, Health};
use nvme_spec::AdminOpcode;
use nvme_spec::ae::AsynchronousEvent;
use reactor::buffer::Sgl;

use crate::rig::{Rig, device_config, quick, slow};
use crate::{rig, write_one};

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
