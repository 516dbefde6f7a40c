//! `speed [ITERATIONS]`: what the controller itself costs on its clean path, with a host that does next to nothing.
//!
//! A queue of 64 entries at depth 32, on one thread, 4 KiB per command from and to lent buffers. `copy` is the same bytes
//! moved by the same calls without a controller, which is what no emulation can save.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command-line program: its output is its purpose")]

use nvme::device::{Device, DmaMemory};
use nvme_emulated::{ControllerConfig, EmulatedController, EmulatedDevice, Format, NamespaceConfig};
use nvme_spec::nvm::IoControl;
use nvme_spec::queue::{CreateCompletionQueue, CreateSubmissionQueue};
use nvme_spec::register::{ACQ, AQA, ASQ, CC, completion_doorbell, submission_doorbell};
use nvme_spec::{NvmOpcode, Sqe};
use reactor::buffer::{BufferPool, LentSgl, SizeClass};
use reactor::clock::MonotonicClock;
use reactor::time::{Clock, Time};
use zerocopy::IntoBytes;
use zerocopy::little_endian::U16;

const ENTRIES: u32 = 64;
const DEPTH: u32 = 32;
const BLOCKS: u64 = 256;
const BLOCK_BYTES: usize = 4096;

struct Bench {
    controller: EmulatedController,
    device: EmulatedDevice,
    sq: DmaMemory,
    cq: DmaMemory,
    tail: u32,
    head: u32,
    phase: bool,
    pool: BufferPool,
    lent: Vec<(LentSgl, u64)>,
}

fn main() {
    let iterations: u64 = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(2_000_000);
    let mut bench = Bench::new();
    let copy = bench.copy(iterations);
    println!("copy of 4 KiB            {copy:6.0} ns");
    // The first pass takes the memory of the medium.
    bench.run(NvmOpcode::WRITE, BLOCKS);
    for (name, opcode) in [
        ("flush", NvmOpcode::FLUSH),
        ("read of 4 KiB", NvmOpcode::READ),
        ("write of 4 KiB", NvmOpcode::WRITE),
    ] {
        let ns = bench.run(opcode, iterations);
        println!("{name:24} {ns:6.0} ns");
    }
}

impl Bench {
    fn new() -> Self {
        let config = ControllerConfig {
            namespaces: vec![NamespaceConfig::new(1, BLOCKS, Format::Block4096)],
            cache_bytes: 0,
            ..ControllerConfig::default()
        };
        let controller = EmulatedController::new(config).expect("a configuration of a controller");
        let device = controller.device();
        device.set_bus_master(true).expect("it is there");
        let memory = || device.allocate(4096).expect("memory is there");
        let (admin_sq, admin_cq, sq, cq) = (memory(), memory(), memory(), memory());
        device.write_u32(AQA, 0x000f_000f);
        device.write_u64(ASQ, admin_sq.iova());
        device.write_u64(ACQ, admin_cq.iova());
        device.write_u32(CC, 0x0046_0001);
        let create_cq = CreateCompletionQueue {
            qid: 1,
            entries: ENTRIES,
            address: cq.iova(),
            contiguous: true,
            interrupts: false,
            vector: 0,
        };
        let create_sq = CreateSubmissionQueue {
            qid: 1,
            entries: ENTRIES,
            address: sq.iova(),
            contiguous: true,
            priority: 0,
            cqid: 1,
            nvm_set: 0,
        };
        admin_sq.memory().write(0, create_cq.sqe().as_bytes());
        admin_sq.memory().write(64, create_sq.sqe().as_bytes());
        controller.step(Time::ZERO, 1);
        device.write_u32(submission_doorbell(0, 0), 2);
        controller.step(Time::ZERO, 2);
        let pool = BufferPool::heap(&[SizeClass { bytes: BLOCK_BYTES, count: DEPTH as usize }]);
        let mapping = device.map_pool(&pool).expect("the table has room");
        let lent = (0..DEPTH)
            .map(|_| {
                let lent = pool.alloc(BLOCK_BYTES).expect("the pool has room").lend();
                let (address, length) = lent.segments().next().expect("one segment");
                let iova = mapping.iova_of(address, length);
                (lent, iova)
            })
            .collect();
        // The mapping stays for as long as the program runs.
        std::mem::forget(mapping);
        Self { controller, device, sq, cq, tail: 0, head: 0, phase: true, pool, lent }
    }

    /// Nanoseconds for 4 KiB through the pool, without a controller.
    fn copy(&self, iterations: u64) -> f64 {
        let medium = vec![1_u8; BLOCKS as usize * BLOCK_BYTES];
        let start = MonotonicClock.now();
        for number in 0..iterations {
            let (address, _) = self.lent[number as usize % self.lent.len()].0.segments().next().expect("one");
            let block = (number.wrapping_mul(7919) % BLOCKS) as usize * BLOCK_BYTES;
            self.pool.device_write(address, &medium[block..block + BLOCK_BYTES]).expect("it is lent");
        }
        MonotonicClock.now().since(start).as_nanos() as f64 / iterations as f64
    }

    /// Nanoseconds for each command, submission and completion on the host's side included.
    fn run(&mut self, opcode: NvmOpcode, iterations: u64) -> f64 {
        let start = MonotonicClock.now();
        let mut number = 0;
        while number < iterations {
            for slot in 0..DEPTH {
                let block = number.wrapping_mul(7919) % BLOCKS;
                let mut sqe = Sqe::io(opcode, 1, block, 1, IoControl::NONE);
                sqe.cid = U16::new(slot as u16);
                sqe.set_prp(self.lent[slot as usize].1, 0);
                self.sq.memory().write((self.tail * 64) as usize, sqe.as_bytes());
                self.tail = (self.tail + 1) % ENTRIES;
                number += 1;
            }
            self.device.write_u32(submission_doorbell(1, 0), self.tail);
            let mut done = 0;
            while done < DEPTH {
                self.controller.step(Time::ZERO, DEPTH);
                done += self.take();
            }
            self.device.write_u32(completion_doorbell(1, 0), self.head);
        }
        MonotonicClock.now().since(start).as_nanos() as f64 / number as f64
    }

    fn take(&mut self) -> u32 {
        let mut taken = 0;
        loop {
            let word = self.cq.memory().load_u32_acquire((self.head * 16 + 12) as usize);
            if (word & 1 << 16 != 0) != self.phase {
                return taken;
            }
            assert_eq!(word >> 17, 0, "every command succeeds");
            self.head += 1;
            if self.head == ENTRIES {
                (self.head, self.phase) = (0, !self.phase);
            }
            taken += 1;
        }
    }
}
