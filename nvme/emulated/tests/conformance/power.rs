//! Loss of power: what was flushed stays, of the rest each write is there or not (Base 3.6, NVM 2.1.4).

use std::collections::BTreeSet;
use std::time::Duration;

use nvme::device::Device;
use nvme_emulated::{ControllerConfig, Delays};
use nvme_spec::log::{LogPageId, SmartHealth};
use nvme_spec::nvm::IoControl;
use nvme_spec::{NvmOpcode, Sqe};
use zerocopy::FromBytes;

use crate::admin::log_page;
use crate::nvm::io;
use crate::rig::{Rig, config};

/// Writes `value` over blocks of namespace 1.
fn write(rig: &mut Rig, first: u64, blocks: u32, value: u8, control: IoControl) {
    rig.fill(0, &vec![value; blocks as usize * 512]);
    let sqe = rig.with_data(Sqe::io(NvmOpcode::WRITE, 1, first, blocks, control), 0);
    assert!(rig.status_of(1, sqe).is_success());
}

fn value(rig: &Rig, block: u64) -> u8 {
    let bytes = rig.controller.peek(1, block, 1);
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a block is never torn");
    bytes[0]
}

fn seeded(seed: u64, atomic_power_fail_blocks: u32) -> Rig {
    Rig::with_io(ControllerConfig { seed, atomic_power_fail_blocks, ..config() }, 8)
}

#[test]
fn flushed_and_durable_writes_survive_and_others_are_old_or_new() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..100 {
        let mut rig = seeded(seed, 1);
        write(&mut rig, 0, 4, 1, IoControl::NONE);
        assert!(rig.status_of(1, Sqe::flush(1)).is_success());
        write(&mut rig, 0, 4, 2, IoControl::NONE);
        write(&mut rig, 8, 1, 3, IoControl::FORCE_UNIT_ACCESS);
        assert_eq!(rig.controller.unflushed(1), Ok(2));
        rig.controller.power_off();
        assert_eq!(rig.device.read_u32(0x1c), u32::MAX, "nobody answers without power");
        rig.controller.power_on();
        assert_eq!((rig.status().0, rig.controller.unflushed(1)), (0, Ok(0)));
        let found: Vec<u8> = (0..4).map(|block| value(&rig, block)).collect();
        assert!(found.iter().all(|value| [1, 2].contains(value)));
        assert_eq!(value(&rig, 8), 3);
        outcomes.insert(found);
    }
    assert!(outcomes.contains(&vec![1; 4]) && outcomes.contains(&vec![2; 4]));
    assert!(outcomes.len() > 4, "and torn between blocks: {outcomes:?}");
}

#[test]
fn a_write_of_an_atomic_unit_is_never_torn() {
    for seed in 0..100 {
        let mut rig = seeded(seed, 4);
        write(&mut rig, 2, 4, 2, IoControl::NONE);
        write(&mut rig, 10, 8, 3, IoControl::NONE);
        rig.controller.power_off();
        let found: Vec<u8> = (0..18).map(|block| value(&rig, block)).collect();
        assert!(found[2..6] == [0; 4] || found[2..6] == [2; 4]);
        assert!(found[10..14] == [0; 4] || found[10..14] == [3; 4]);
        assert!(found[14..] == [0; 4] || found[14..] == [3; 4]);
    }
}

#[test]
fn the_same_seed_finds_the_same() {
    let outcome = |seed| {
        let mut rig = seeded(seed, 1);
        (0..20).for_each(|block| write(&mut rig, block, 1, block as u8 + 1, IoControl::NONE));
        rig.controller.power_off();
        (0..20).map(|block| value(&rig, block)).collect::<Vec<_>>()
    };
    assert!((0..20).all(|seed| outcome(seed) == outcome(seed)));
    assert!((0..20).map(outcome).collect::<BTreeSet<_>>().len() > 5);
}

#[test]
fn a_command_on_its_way_is_done_or_not() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..60 {
        let mut rig = seeded(seed, 1);
        let command = Duration::from_millis(1);
        rig.controller.set_delays(Delays { command, ..Delays::default() });
        rig.fill(0, &[7; 512]);
        let sqe = rig.with_data(io(NvmOpcode::WRITE, 1, 0, 1), 0);
        rig.submit(1, sqe);
        rig.step();
        assert_eq!(rig.controller.outstanding(), 1);
        rig.controller.power_off();
        assert_eq!(rig.controller.outstanding(), 0);
        rig.controller.power_on();
        outcomes.insert(value(&rig, 0));
    }
    assert_eq!(outcomes, BTreeSet::from([0, 7]));
}

#[test]
fn without_a_cache_only_what_was_not_acknowledged_is_cut() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..60 {
        let made = ControllerConfig { seed, volatile_write_cache: false, ..config() };
        let mut rig = Rig::with_io(made, 8);
        write(&mut rig, 0, 4, 1, IoControl::NONE);
        let command = Duration::from_millis(1);
        rig.controller.set_delays(Delays { command, ..Delays::default() });
        rig.fill(0, &[2; 2048]);
        let sqe = rig.with_data(io(NvmOpcode::WRITE, 1, 2, 4), 0);
        rig.submit(1, sqe);
        rig.step();
        rig.controller.power_off();
        let found: Vec<u8> = (0..6).map(|block| value(&rig, block)).collect();
        assert_eq!(found[..2], [1, 1]);
        outcomes.insert(found);
    }
    assert!(outcomes.contains(&vec![1, 1, 1, 1, 0, 0]) && outcomes.contains(&vec![1, 1, 2, 2, 2, 2]));
    assert!(outcomes.len() > 2, "and cut: {outcomes:?}");
}

#[test]
fn a_reset_is_not_a_loss_of_power() {
    let mut rig = seeded(1, 1);
    write(&mut rig, 0, 4, 2, IoControl::NONE);
    rig.device.write_u32(nvme_spec::register::CC, 0);
    rig.step();
    rig.device.begin_function_reset().expect("it is there");
    rig.step();
    assert_eq!(rig.controller.unflushed(1), Ok(1));
    assert_eq!(value(&rig, 0), 2);
}

#[test]
fn power_cycles_and_unsafe_shutdowns_are_counted() {
    let mut rig = seeded(1, 1);
    let counts = |rig: &mut Rig| {
        let page = log_page(rig, LogPageId::SMART, 512, false);
        let page = SmartHealth::read_from_bytes(&page).expect("512 bytes");
        (page.power_cycles.get(), page.unsafe_shutdowns.get())
    };
    assert_eq!(counts(&mut rig), (0, 0));
    rig.controller.power_off();
    rig.controller.power_on();
    rig.set_up_admin(8);
    rig.enable();
    assert_eq!(counts(&mut rig), (1, 1));
    rig.device.write_u32(nvme_spec::register::CC, Rig::configuration().with_shn(1).0);
    rig.step();
    rig.controller.power_off();
    rig.controller.power_on();
    rig.set_up_admin(8);
    rig.enable();
    assert_eq!(counts(&mut rig), (2, 1));
}
