//! What happens to a controller from outside: pulled out, put in again, reset by somebody else, without power.

use std::time::Duration;

use nvme::device::Device;
use nvme::error::Change;
use nvme::{Config, ControllerEvent, End, Fault as Given, IoOp, Outcome, Readiness, ResetCause};
use nvme_emulated::{Action, CommandMatch, ControllerConfig, Fault, Format, Hang};
use nvme_spec::{AdminOpcode, Status, register};
use reactor::buffer::Sgl;

use crate::rig::{Rig, device_config, quick};
use crate::{rig, write_one};

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
