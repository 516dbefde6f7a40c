//! Random commands, resets and losses of power against a model that knows for each block what it may hold.

use std::time::Duration;

use nvme::device::Device;
use nvme_emulated::{ControllerConfig, Delays};
use nvme_spec::nvm::IoControl;
use nvme_spec::register::CC;
use nvme_spec::{NvmOpcode, Sqe};
use reactor::sim::SimRandom;

use crate::rig::{Rig, config};

const BLOCKS: u64 = 48;

/// One block: what it holds, and what a loss of power may bring back.
#[derive(Clone, Debug, Default)]
struct Block {
    value: u8,
    /// Values that it may have after a loss of power: the one on the medium and all that were written since.
    possible: Vec<u8>,
}

struct Model {
    blocks: Vec<Block>,
}

impl Model {
    fn new() -> Self {
        Self { blocks: vec![Block { value: 0, possible: vec![0] }; BLOCKS as usize] }
    }

    fn write(&mut self, first: u64, count: u64, value: u8, durable: bool) {
        for block in &mut self.blocks[first as usize..(first + count) as usize] {
            block.value = value;
            if durable {
                block.possible.clear();
            }
            block.possible.push(value);
        }
    }

    fn flush(&mut self) {
        self.blocks.iter_mut().for_each(|block| block.possible = vec![block.value]);
    }

    /// Power was lost: what was found must be possible, and from now on it is what there is.
    fn settle(&mut self, found: &[u8], seed: u64) {
        for (index, (block, bytes)) in self.blocks.iter_mut().zip(found.chunks(512)).enumerate() {
            assert!(bytes.iter().all(|byte| *byte == bytes[0]), "seed {seed}: block {index} is torn");
            assert!(block.possible.contains(&bytes[0]), "seed {seed}: block {index} holds {}", bytes[0]);
            *block = Block { value: bytes[0], possible: vec![bytes[0]] };
        }
    }
}

fn bring_up(rig: &mut Rig) {
    rig.set_up_admin(8);
    rig.device.write_u32(CC, Rig::configuration().0);
    rig.pass(Duration::from_millis(1));
    rig.create_pair(1, 8);
}

/// Does a command with its completion, however late.
fn done(rig: &mut Rig, sqe: Sqe) {
    let cid = rig.submit(1, sqe);
    rig.step();
    rig.pass(Duration::from_micros(100));
    let cqe = rig.take(1).expect("completed");
    assert!(cqe.cid.get() == cid && cqe.status().is_success(), "{cqe:?}");
}

fn run(seed: u64) {
    let mut random = SimRandom::new(seed);
    let mut chance = move |bound: u64| random.below(bound);
    let made = ControllerConfig {
        seed,
        // Small caches make the oldest writes give way.
        cache_bytes: [0, 2048, 20_000, 1 << 20][chance(4) as usize],
        atomic_power_fail_blocks: 1 + chance(8) as u32,
        delays: Delays { command: Duration::from_micros(chance(3) * 50), ..Delays::default() },
        ..config()
    };
    let mut rig = Rig::with_io(ControllerConfig { delays: Delays::default(), ..made.clone() }, 8);
    rig.controller.set_delays(made.delays);
    let mut model = Model::new();
    for step in 0..150_u64 {
        let first = chance(BLOCKS);
        let count = 1 + chance((BLOCKS - first).min(12));
        let value = (step % 250) as u8 + 1;
        let durable = chance(4) == 0;
        let control = if durable { IoControl::FORCE_UNIT_ACCESS } else { IoControl::NONE };
        let command = |opcode, control| Sqe::io(opcode, 1, first, count as u32, control);
        match chance(16) {
            0..=6 => {
                rig.fill(0, &vec![value; count as usize * 512]);
                let sqe = rig.with_data(command(NvmOpcode::WRITE, control), 0);
                done(&mut rig, sqe);
                model.write(first, count, value, durable);
            }
            7..=9 => {
                let sqe = rig.with_data(command(NvmOpcode::READ, IoControl::NONE), 0x4000);
                done(&mut rig, sqe);
                let expected: Vec<u8> = model.blocks[first as usize..(first + count) as usize]
                    .iter()
                    .flat_map(|block| [block.value; 512])
                    .collect();
                assert!(rig.seen(0x4000, count as usize * 512) == expected, "seed {seed}, step {step}");
            }
            10 | 11 => {
                let keep = if chance(2) == 0 { IoControl::DEALLOCATE } else { IoControl::NONE };
                done(&mut rig, command(NvmOpcode::WRITE_ZEROES, control.with(keep)));
                model.write(first, count, 0, durable);
            }
            12 | 13 => {
                done(&mut rig, Sqe::flush(1));
                model.flush();
            }
            14 => {
                rig.device.write_u32(CC, 0);
                rig.pass(Duration::from_millis(1));
                bring_up(&mut rig);
            }
            _ => {
                rig.controller.power_off();
                rig.controller.power_on();
                model.settle(&rig.controller.peek(1, 0, BLOCKS), seed);
                bring_up(&mut rig);
            }
        }
    }
    assert_eq!((rig.controller.counters().doorbell_errors, rig.controller.iommu_fault_count()), (0, 0));
}

#[test]
fn blocks_hold_what_they_may() {
    (0..120).for_each(run);
}
