//! Enabling, disabling, shutting down, resetting (Base 3.5, 3.6, 3.7).

use std::time::Duration;

use nvme::device::Device;
use nvme_emulated::{ControllerConfig, Delays};
use nvme_spec::admin::Identify;
use nvme_spec::identify::Cns;
use nvme_spec::register::{
    ACQ, AQA, ASQ, CAP, CC, CRTO, CSTS, Capabilities, Configuration, INTMC, INTMS, NSSR, NSSR_RESET,
    SHN_ABRUPT, SHN_NORMAL, SHST_COMPLETE, SHST_NONE, SHST_OCCURRING, VS, Version,
};

use crate::rig::{Rig, config};

const MS: Duration = Duration::from_millis(1);

fn slow() -> ControllerConfig {
    let delays = Delays {
        enable: 30 * MS,
        disable: 20 * MS,
        shutdown: 10 * MS,
        function_reset: 5 * MS,
        command: Duration::ZERO,
    };
    ControllerConfig { delays, ..config() }
}

#[test]
fn capabilities_say_what_was_configured() {
    let made = ControllerConfig {
        doorbell_stride: 2,
        page_size_min: 1,
        page_size_max: 3,
        timeout_500ms: 7,
        subsystem_reset: false,
        ..config()
    };
    let rig = Rig::disabled(made);
    let cap = Capabilities(rig.device.read_u64(CAP));
    assert_eq!((cap.mqes(), cap.cqr(), cap.timeout_500ms(), cap.dstrd()), (63, 1, 7, 2));
    assert_eq!((cap.mpsmin(), cap.mpsmax(), cap.nssrs(), cap.css()), (1, 3, 0, 1));
    assert_eq!(rig.device.read_u32(VS), Version::V2_1.0);
    assert_eq!(rig.device.read_u32(CRTO), 7);
    assert_eq!(rig.controller.ready_timeout(), Duration::from_millis(3500));
    // Both halves of a register of 64 bits can be read alone.
    assert_eq!(u64::from(rig.device.read_u32(CAP + 4)), cap.0 >> 32);
    assert_eq!((rig.device.read_u32(CC), rig.device.read_u32(CSTS)), (0, 0));
    assert_eq!(rig.device.registers_bytes(), 0x2000);
}

#[test]
fn readiness_follows_enable_after_the_time_it_takes() {
    let mut rig = Rig::disabled(slow());
    rig.set_up_admin(8);
    rig.device.write_u32(CC, Rig::configuration().0);
    rig.step();
    assert_eq!(rig.status().rdy(), 0);
    assert_eq!(rig.controller.deadline(), rig.now.after(30 * MS));
    rig.pass(29 * MS);
    assert_eq!(rig.status().rdy(), 0);
    rig.pass(MS);
    assert_eq!(rig.status().rdy(), 1);
    let identify = Identify { cns: Cns::CONTROLLER, ..Identify::default() };
    let command = rig.with_data(identify.sqe(), 0);
    rig.admin(command);
    // Disabled: everything is gone at once but readiness.
    rig.device.write_u32(CC, 0);
    assert_eq!((rig.status().rdy(), rig.device.read_u32(CC)), (1, 0));
    // To enable it now is not heard.
    rig.device.write_u32(CC, Rig::configuration().0);
    assert_eq!((rig.device.read_u32(CC), rig.controller.counters().violations), (0, 1));
    rig.pass(20 * MS);
    assert_eq!(rig.status().rdy(), 0);
    assert_eq!(rig.controller.counters().controller_resets, 1);
    // The registers of the admin queue stay; the queue begins anew.
    assert_ne!(rig.device.read_u64(ASQ), 0);
    rig.set_up_admin(8);
    rig.device.write_u32(CC, Rig::configuration().0);
    rig.pass(30 * MS);
    let command = rig.with_data(identify.sqe(), 0);
    rig.admin(command);
}

#[test]
fn a_configuration_that_cannot_be_is_fatal_until_it_is_disabled() {
    let bad: [fn(Configuration) -> Configuration; 3] =
        [|cc| cc.with_mps(9), |cc| cc.with_css(6), |cc| cc.with_ams(1)];
    for change in bad {
        let mut rig = Rig::disabled(config());
        rig.set_up_admin(8);
        rig.device.write_u32(CC, change(Rig::configuration()).0);
        rig.pass(Duration::from_secs(100));
        assert_eq!((rig.status().rdy(), rig.status().cfs()), (0, 1));
        rig.device.write_u32(CC, 0);
        rig.step();
        assert_eq!(rig.status().0, 0);
        rig.enable();
    }
    // An admin queue of one entry.
    let mut rig = Rig::disabled(config());
    rig.set_up_admin(8);
    rig.device.write_u32(AQA, 0);
    rig.device.write_u32(CC, Rig::configuration().0);
    rig.step();
    assert_eq!(rig.status().cfs(), 1);
}

#[test]
fn admin_queue_registers_hold_addresses_of_pages_and_stand_while_enabled() {
    let mut rig = Rig::disabled(config());
    rig.device.write_u64(ASQ, 0x1234_5678_9abc_def0);
    assert_eq!(rig.device.read_u64(ASQ), 0x1234_5678_9abc_d000);
    rig.device.write_u32(ACQ + 4, 0x42);
    assert_eq!(rig.device.read_u64(ACQ), 0x42_0000_0000);
    rig.device.write_u32(AQA, u32::MAX);
    assert_eq!(rig.device.read_u32(AQA), 0x0fff_0fff);
    rig.set_up_admin(8);
    rig.enable();
    let before = rig.device.read_u64(ASQ);
    rig.device.write_u64(ASQ, 0);
    rig.device.write_u32(AQA, 0);
    assert_eq!((rig.device.read_u64(ASQ), rig.device.read_u32(AQA)), (before, 0x0007_0007));
    assert_eq!(rig.controller.counters().violations, 3);
}

#[test]
fn interrupt_masks_are_set_and_cleared_bit_by_bit() {
    let rig = Rig::disabled(config());
    rig.device.write_u32(INTMS, 0b1010);
    rig.device.write_u32(INTMS, 0b0100);
    assert_eq!((rig.device.read_u32(INTMS), rig.device.read_u32(INTMC)), (0b1110, 0b1110));
    rig.device.write_u32(INTMC, 0b0110);
    assert_eq!(rig.device.read_u32(INTMS), 0b1000);
}

#[test]
fn shutdown_takes_its_time_and_ends_the_taking_of_commands() {
    for (notification, is_normal) in [(SHN_NORMAL, true), (SHN_ABRUPT, false)] {
        let mut rig = Rig::disabled(slow());
        rig.set_up_admin(8);
        rig.device.write_u32(CC, Rig::configuration().0);
        rig.pass(30 * MS);
        rig.create_pair(1, 8);
        let write = nvme_spec::Sqe::io(nvme_spec::NvmOpcode::WRITE, 1, 0, 1, Default::default());
        let write = rig.with_data(write, 0);
        assert!(rig.status_of(1, write).is_success());
        assert_eq!(rig.controller.unflushed(1), Ok(1));
        rig.device.write_u32(CC, Rig::configuration().with_shn(notification).0);
        assert_eq!(rig.status().shst(), SHST_OCCURRING);
        rig.submit(0, nvme_spec::Sqe::admin(nvme_spec::AdminOpcode::IDENTIFY));
        rig.pass(9 * MS);
        assert_eq!(rig.status().shst(), SHST_OCCURRING);
        rig.pass(MS);
        assert_eq!((rig.status().shst(), rig.status().rdy()), (SHST_COMPLETE, 1));
        assert!(rig.take(0).is_none(), "no command is taken any more");
        assert_eq!(rig.controller.unflushed(1), Ok(if is_normal { 0 } else { 1 }));
        // A reset brings it back.
        rig.device.write_u32(CC, 0);
        rig.pass(20 * MS);
        assert_eq!((rig.status().shst(), rig.status().rdy()), (SHST_NONE, 0));
        rig.set_up_admin(8);
        rig.device.write_u32(CC, Rig::configuration().0);
        rig.pass(30 * MS);
        assert_eq!(rig.status().0, 1);
    }
}

#[test]
fn a_disabled_controller_can_be_shut_down_and_enabled_after() {
    let mut rig = Rig::disabled(config());
    rig.device.write_u32(CC, Configuration::default().with_shn(SHN_NORMAL).0);
    rig.step();
    assert_eq!((rig.status().shst(), rig.status().rdy()), (SHST_COMPLETE, 0));
    rig.set_up_admin(8);
    rig.enable();
}

#[test]
fn a_subsystem_reset_needs_its_word_and_leaves_its_mark() {
    let mut rig = Rig::ready(config());
    rig.device.write_u32(NSSR, 1);
    assert_eq!(rig.status().0, 1, "any other value does nothing");
    rig.device.write_u32(NSSR, NSSR_RESET);
    assert_eq!((rig.status().rdy(), rig.status().nssro()), (0, 1));
    assert_eq!((rig.device.read_u64(ASQ), rig.device.read_u32(AQA), rig.device.read_u32(CC)), (0, 0, 0));
    rig.device.write_u32(CSTS, 1 << 4);
    assert_eq!(rig.status().nssro(), 0, "written as 1, it is cleared");
    rig.set_up_admin(8);
    rig.enable();
    let without = ControllerConfig { subsystem_reset: false, ..config() };
    let rig = Rig::ready(without);
    rig.device.write_u32(NSSR, NSSR_RESET);
    assert_eq!(rig.status().0, 1);
}

#[test]
fn a_function_reset_takes_its_time_and_brings_back_a_disabled_controller() {
    let mut rig = Rig::disabled(slow());
    rig.set_up_admin(8);
    rig.device.write_u32(CC, Rig::configuration().0);
    rig.pass(30 * MS);
    rig.device.begin_function_reset().expect("it is there");
    assert_eq!(rig.status().0, 0, "it stops at once");
    assert_eq!(rig.device.poll_function_reset(), None);
    assert_eq!(rig.controller.deadline(), rig.now.after(5 * MS));
    rig.pass(5 * MS);
    assert_eq!(rig.device.poll_function_reset(), Some(Ok(())));
    assert_eq!(rig.device.poll_function_reset(), None, "it has been told");
    assert_eq!(rig.controller.counters().function_resets, 1);
}

#[test]
fn registers_that_are_not_there_answer_like_a_bus() {
    let rig = Rig::ready(config());
    let end = rig.device.registers_bytes();
    assert_eq!(rig.device.read_u32(end), u32::MAX);
    assert_eq!(rig.device.read_u32(end - 2), u32::MAX, "not aligned");
    assert_eq!(rig.device.read_u64(0x14), u64::MAX, "not aligned");
    assert_eq!((rig.device.read_u32(0x1000), rig.device.read_u32(0x18)), (0, 0));
    rig.device.write_u32(end, 1);
    rig.device.write_u32(0x40, 1);
    rig.device.write_u32(CAP, 1);
    rig.device.write_u64(0x1000, 1);
    assert_eq!(rig.controller.counters().violations, 4);
    assert_eq!(rig.status().0, 1);
}
