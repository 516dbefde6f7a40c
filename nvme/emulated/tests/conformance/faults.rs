//! Faults: each does what it says, to the commands it names, and to no others.

use std::time::Duration;

use nvme::device::{Device, DeviceError};
use nvme_emulated::{
    Action, AfterReset, CommandMatch, ControllerConfig, Delays, FatalUntil, Fault, Format, Hang,
};
use nvme_spec::admin::{Identify, NOT_ABORTED};
use nvme_spec::identify::{Cns, IdentifyController};
use nvme_spec::register::{CC, NSSR, NSSR_RESET};
use nvme_spec::{AdminOpcode, NvmOpcode, Sqe, Status};
use zerocopy::FromBytes;

use crate::nvm::io;
use crate::rig::{Rig, config, pattern};

const MS: Duration = Duration::from_millis(1);

fn rig() -> Rig {
    Rig::with_io(config(), 16)
}

fn inject(rig: &Rig, on: CommandMatch, action: Action) {
    rig.controller.inject(Fault::once(on, action)).expect("there is room for a fault");
}

fn write(rig: &Rig, first: u64) -> Sqe {
    rig.with_data(io(NvmOpcode::WRITE, 1, first, 1), 0)
}

#[test]
fn a_failure_has_no_effect_or_all_of_it() {
    let mut rig = rig();
    rig.fill(0, &[9; 512]);
    inject(&rig, CommandMatch::nvm(NvmOpcode::WRITE), Action::Fail(Status::INTERNAL_ERROR));
    let sqe = write(&rig, 0);
    assert_eq!(rig.status_of(1, sqe), Status::INTERNAL_ERROR);
    assert_eq!(rig.controller.peek(1, 0, 1), [0; 512]);
    inject(&rig, CommandMatch::nvm(NvmOpcode::WRITE), Action::DoneButFail(Status::WRITE_FAULT));
    assert_eq!(rig.status_of(1, sqe), Status::WRITE_FAULT);
    assert_eq!(rig.controller.peek(1, 0, 1), [9; 512]);
    assert_eq!(rig.status_of(1, sqe), Status::SUCCESS);
    assert_eq!(rig.controller.counters().faults, 2);
}

#[test]
fn admin_commands_are_struck_as_well() {
    let mut rig = rig();
    let on = CommandMatch::admin(AdminOpcode::IDENTIFY);
    let id = rig.controller.inject(Fault::always(on, Action::Fail(Status::NAMESPACE_NOT_READY)));
    let id = id.expect("there is room");
    let sqe = rig.with_data(Identify { cns: Cns::CONTROLLER, ..Identify::default() }.sqe(), 0);
    for _ in 0..3 {
        assert_eq!(rig.status_of(0, sqe), Status::NAMESPACE_NOT_READY);
    }
    assert_eq!(rig.controller.fault_hits(id), 3);
    rig.controller.disarm(id);
    assert_eq!(rig.status_of(0, sqe), Status::SUCCESS);
}

#[test]
fn a_delay_holds_the_command_and_its_effect() {
    let mut rig = rig();
    rig.fill(0, &[9; 512]);
    inject(&rig, CommandMatch::nvm(NvmOpcode::WRITE), Action::Delay(3 * MS));
    let sqe = write(&rig, 0);
    rig.submit(1, sqe);
    rig.submit(1, Sqe::flush(1));
    rig.step();
    assert!(rig.take(1).is_some_and(|cqe| cqe.status().is_success()), "the flush overtakes it");
    assert_eq!(rig.controller.deadline(), rig.now.after(3 * MS));
    rig.pass(2 * MS);
    assert!(rig.take(1).is_none());
    assert_eq!(rig.controller.peek(1, 0, 1), [0; 512]);
    rig.pass(MS);
    assert!(rig.take(1).is_some_and(|cqe| cqe.status().is_success()));
    assert_eq!(rig.controller.peek(1, 0, 1), [9; 512]);
}

#[test]
fn hanging_commands_end_as_their_kind_says() {
    let far = Duration::from_secs(3600);
    let hang = |rig: &mut Rig, how| {
        inject(rig, CommandMatch::nvm(NvmOpcode::FLUSH), Action::Hang(how));
        let cid = rig.submit(1, Sqe::flush(1));
        rig.pass(far);
        assert!(rig.take(1).is_none() && rig.controller.outstanding() == 1);
        cid
    };
    let mut rig = rig();
    let cid = hang(&mut rig, Hang::UntilAborted);
    assert_eq!(rig.admin(Sqe::abort(1, cid)), 0);
    assert_eq!(rig.take(1).map(|cqe| cqe.status().code()), Some(Status::ABORT_REQUESTED));
    let cid = hang(&mut rig, Hang::LateAfterAbort(7 * MS));
    assert_eq!(rig.admin(Sqe::abort(1, cid)), NOT_ABORTED);
    rig.pass(6 * MS);
    assert!(rig.take(1).is_none());
    rig.pass(MS);
    let cqe = rig.take(1).expect("it comes late");
    assert_eq!((cqe.cid.get(), cqe.status()), (cid, Status::SUCCESS));
    let cid = hang(&mut rig, Hang::UntilReset);
    assert_eq!(rig.admin(Sqe::abort(1, cid)), NOT_ABORTED);
    rig.pass(far);
    assert_eq!(rig.controller.outstanding(), 1);
    rig.device.write_u32(CC, 0);
    rig.step();
    assert_eq!(rig.controller.outstanding(), 0);
}

#[test]
fn aborts_that_hang_have_a_limit() {
    let mut rig = rig();
    let on = CommandMatch::admin(AdminOpcode::ABORT);
    let fault = Fault { times: 4, ..Fault::once(on, Action::Hang(Hang::UntilReset)) };
    rig.controller.inject(fault).expect("there is room");
    for cid in 0..4 {
        rig.submit(0, Sqe::abort(1, cid));
    }
    assert_eq!(rig.status_of(0, Sqe::abort(1, 9)), Status::ABORT_COMMAND_LIMIT_EXCEEDED);
}

#[test]
fn completions_are_lost_doubled_invented_and_misattributed() {
    let mut rig = rig();
    let all = CommandMatch::nvm(NvmOpcode::FLUSH);
    inject(&rig, all.clone(), Action::DropCompletion);
    let cid = rig.submit(1, Sqe::flush(1));
    rig.step();
    assert!(rig.take(1).is_none() && rig.controller.outstanding() == 0);
    assert_eq!(rig.admin(Sqe::abort(1, cid)), NOT_ABORTED);
    inject(&rig, all.clone(), Action::DuplicateCompletion);
    let cid = rig.submit(1, Sqe::flush(1));
    rig.step();
    let seen: Vec<u16> = (0..3).map_while(|_| rig.take(1)).map(|cqe| cqe.cid.get()).collect();
    assert_eq!(seen, [cid, cid]);
    inject(&rig, all.clone(), Action::InventCompletion { cid: 0xdead });
    let cid = rig.submit(1, Sqe::flush(1));
    rig.step();
    let seen: Vec<u16> = (0..3).map_while(|_| rig.take(1)).map(|cqe| cqe.cid.get()).collect();
    assert_eq!(seen, [0xdead, cid]);
    inject(&rig, all, Action::WrongQueue { sqid: 3 });
    let cid = rig.submit(1, Sqe::flush(1));
    rig.step();
    let cqe = rig.take(1).expect("completed");
    assert_eq!((cqe.cid.get(), cqe.sqid.get()), (cid, 3));
}

#[test]
fn a_late_phase_is_seen_one_step_later_at_every_slot() {
    let mut rig = Rig::with_io(config(), 4);
    for _ in 0..9 {
        inject(&rig, CommandMatch::nvm(NvmOpcode::FLUSH), Action::LatePhase);
        let cid = rig.submit(1, Sqe::flush(1));
        rig.controller.step(rig.now, 64);
        assert!(rig.pair(1).peek().is_none(), "the phase is that of the round before");
        let next = rig.submit(1, Sqe::flush(2));
        rig.controller.step(rig.now, 64);
        let seen: Vec<u16> = (0..3).map_while(|_| rig.take(1)).map(|cqe| cqe.cid.get()).collect();
        assert_eq!(seen, [cid, next]);
    }
}

#[test]
fn writes_are_lost_misdirected_and_corrupted() {
    let mut rig = rig();
    let bytes = pattern(1, 512);
    rig.fill(0, &bytes);
    let on = CommandMatch::nvm(NvmOpcode::WRITE).over(1, 10..11);
    inject(&rig, on.clone(), Action::LoseWrite);
    let (elsewhere, here) = (write(&rig, 9), write(&rig, 10));
    assert!(rig.status_of(1, elsewhere).is_success());
    assert_eq!(rig.controller.peek(1, 9, 1), bytes, "blocks that are not named are spared");
    assert!(rig.status_of(1, here).is_success());
    assert_eq!(rig.controller.peek(1, 10, 1), [0; 512]);
    inject(&rig, on.clone(), Action::MisdirectWrite { blocks: 5 });
    assert!(rig.status_of(1, here).is_success());
    assert_eq!((rig.controller.peek(1, 10, 1), rig.controller.peek(1, 15, 1)), (vec![0; 512], bytes.clone()));
    inject(&rig, on, Action::CorruptData);
    assert!(rig.status_of(1, here).is_success());
    let turned = |seen: &[u8]| -> u32 { seen.iter().zip(&bytes).map(|(a, b)| (a ^ b).count_ones()).sum() };
    assert_eq!(turned(&rig.controller.peek(1, 10, 1)), 1);
    inject(&rig, CommandMatch::nvm(NvmOpcode::READ), Action::CorruptData);
    let read = rig.with_data(io(NvmOpcode::READ, 1, 9, 1), 0x1000);
    assert!(rig.status_of(1, read).is_success());
    assert_eq!(turned(&rig.seen(0x1000, 512)), 1);
    assert!(rig.status_of(1, read).is_success());
    assert_eq!(rig.seen(0x1000, 512), bytes, "the medium is well");
}

#[test]
fn a_fatal_status_stays_as_long_as_it_says() {
    let stays_after = |until: FatalUntil| {
        let mut rig = rig();
        inject(&rig, CommandMatch::nvm(NvmOpcode::FLUSH), Action::Fatal(until));
        rig.submit(1, Sqe::flush(1));
        rig.step();
        assert_eq!((rig.status().cfs(), rig.status().rdy()), (1, 1));
        assert!(rig.take(1).is_none());
        rig.submit(0, Sqe::admin(AdminOpcode::IDENTIFY));
        rig.step();
        assert!(rig.take(0).is_none(), "nothing is taken any more");
        rig.device.write_u32(CC, 0);
        rig.step();
        assert_eq!(rig.status().rdy(), 0, "readiness follows all the same");
        let reset = rig.status().cfs();
        rig.device.begin_function_reset().expect("it is there");
        rig.step();
        let function = rig.status().cfs();
        rig.controller.power_off();
        rig.controller.power_on();
        [reset, function, rig.status().cfs()]
    };
    assert_eq!(stays_after(FatalUntil::ControllerReset), [0, 0, 0]);
    assert_eq!(stays_after(FatalUntil::FunctionReset), [1, 0, 0]);
    assert_eq!(stays_after(FatalUntil::PowerCycle), [1, 1, 0]);
    let rig = rig();
    rig.controller.fail(FatalUntil::FunctionReset);
    assert!(rig.controller.is_fatal());
    rig.device.write_u32(NSSR, NSSR_RESET);
    assert!(!rig.controller.is_fatal());
}

#[test]
fn a_controller_that_never_becomes_ready_can_be_told_to() {
    let never = Delays { enable: Duration::MAX, disable: Duration::MAX, ..Delays::default() };
    let mut rig = Rig::disabled(ControllerConfig { delays: never, ..config() });
    rig.set_up_admin(8);
    rig.device.write_u32(CC, Rig::configuration().0);
    rig.pass(rig.controller.ready_timeout() * 100);
    assert_eq!((rig.status().0, rig.controller.deadline()), (0, reactor::time::Time::NEVER));
    rig.device.begin_function_reset().expect("it is there");
    rig.controller.set_delays(Delays { disable: Duration::MAX, ..Delays::default() });
    rig.set_up_admin(8);
    rig.enable();
    rig.device.write_u32(CC, 0);
    rig.pass(rig.controller.ready_timeout() * 100);
    assert_eq!(rig.status().rdy(), 1, "nor does it become not ready");
}

#[test]
fn a_reset_may_bring_another_controller_to_light() {
    let mut rig = rig();
    rig.controller.change_at_reset(AfterReset {
        mdts: Some(2),
        length_blocks: Some((1, 100)),
        format: Some((2, Format::Block512)),
        serial: Some(77),
    });
    let identify = |rig: &mut Rig| {
        let sqe = rig.with_data(Identify { cns: Cns::CONTROLLER, ..Identify::default() }.sqe(), 0);
        rig.admin(sqe);
        IdentifyController::read_from_bytes(&rig.seen(0, 4096)).expect("4096 bytes")
    };
    assert_eq!(identify(&mut rig).mdts, 8, "not before the reset");
    rig.device.write_u32(CC, 0);
    rig.step();
    rig.set_up_admin(16);
    rig.enable();
    rig.create_pair(1, 8);
    let data = identify(&mut rig);
    assert_eq!((data.mdts, &data.sn), (2, b"VEGA0000000000000077"));
    let read = |rig: &mut Rig, nsid, first| {
        let sqe = rig.with_data(io(NvmOpcode::READ, nsid, first, 1), 0);
        rig.status_of(1, sqe)
    };
    assert_eq!(read(&mut rig, 1, 100), Status::LBA_OUT_OF_RANGE);
    assert_eq!(read(&mut rig, 2, 32767), Status::SUCCESS, "the same bytes in blocks of 512");
}

#[test]
fn a_function_that_was_pulled_out_reads_all_ones_for_ever() {
    let mut rig = rig();
    inject(&rig, CommandMatch::nvm(NvmOpcode::FLUSH), Action::Remove);
    rig.pair(1).put_many(Sqe::flush(1), 3);
    rig.ring_tail(1);
    rig.step();
    assert!(!rig.controller.is_present() && rig.take(1).is_none());
    let dead = |device: &nvme_emulated::EmulatedDevice| {
        assert_eq!((device.read_u32(0x1c), device.read_u64(0)), (u32::MAX, u64::MAX));
        device.write_u32(CC, 1);
        device.write_u32(0x1000, 1);
        assert!(matches!(device.allocate(4096), Err(DeviceError::Removed)));
        assert_eq!(device.set_bus_master(false), Err(DeviceError::Removed));
        assert_eq!(device.begin_function_reset(), Err(DeviceError::Removed));
        assert_eq!(device.poll_function_reset(), Some(Err(DeviceError::Removed)));
    };
    dead(&rig.device);
    assert_eq!(rig.controller.deadline(), reactor::time::Time::NEVER);
    // The same one is put in again: the old handle finds nobody, a new one finds it as it was.
    rig.controller.poke(1, 50, &[3; 512]);
    rig.controller.insert();
    dead(&rig.device);
    assert!(rig.controller.is_present());
    rig.device = rig.controller.device();
    rig.device.set_bus_master(true).expect("it is there");
    rig.set_up_admin(8);
    rig.enable();
    assert_eq!(rig.controller.peek(1, 50, 1), [3; 512]);
    // And another one in its place.
    rig.controller.remove();
    rig.controller.insert_another("OTHER");
    rig.device = rig.controller.device();
    rig.set_up_admin(8);
    rig.enable();
    let sqe = rig.with_data(Identify { cns: Cns::CONTROLLER, ..Identify::default() }.sqe(), 0);
    rig.admin(sqe);
    let data = IdentifyController::read_from_bytes(&rig.seen(0, 4096)).expect("4096 bytes");
    assert_eq!(&data.sn, b"OTHER               ");
    assert_eq!(rig.controller.peek(1, 50, 1), [0; 512]);
}
