//! A host without manners.

use std::time::Duration;

use nvme::device::{Device, DmaMemory, PoolMapping};
use nvme_spec::queue::{CreateCompletionQueue, CreateSubmissionQueue, DoorbellBufferConfig};
use nvme_spec::register::{ACQ, AQA, ASQ, CC, completion_doorbell, submission_doorbell};
use nvme_spec::{AdminOpcode, Sqe, Status};
use reactor::buffer::{BufferPool, LentSgl, Sgl, SizeClass};
use reactor::memory::SharedMemory;
use reactor::time::Time;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

use super::Input;
use crate::config::{ControllerConfig, Delays, Format, NamespaceConfig};
use crate::controller::Counters;
use crate::device::EmulatedDevice;
use crate::emulated::EmulatedController;
use crate::fault::{Action, CommandMatch, Fault, Hang};
use crate::registers::FatalUntil;

/// Bytes that are mapped for queues, lists and data.
const MEMORY_BYTES: usize = 256 << 10;
const BUFFER_BYTES: usize = 8192;
/// What buffers hold that are not lent, and memory that was given back.
const MINE: u8 = 0xa5;
static UNTOUCHED: [u8; BUFFER_BYTES] = [MINE; BUFFER_BYTES];
/// Commands taken in one step.
const BUDGET: u32 = 16;
/// Entries of every queue that is set up properly, and where they lie: page 2n and 2n + 1 for queue pair n.
const ENTRIES: u32 = 16;
const PAIRS: u16 = 3;

pub(super) struct Host {
    controller: EmulatedController,
    device: EmulatedDevice,
    now: Time,
    memory: DmaMemory,
    pool: BufferPool,
    mapping: Option<PoolMapping>,
    lent: Option<LentSgl>,
    mine: Vec<Sgl>,
    /// Memory that was mapped once.
    given_back: SharedMemory,
    given_back_iova: u64,
    tails: [u32; PAIRS as usize],
    stride: u32,
}

fn config(choice: u8) -> ControllerConfig {
    let bit = |number: u8| choice & 1 << number != 0;
    ControllerConfig {
        queue_entries_max: 64,
        io_queues: 4,
        doorbell_stride: u8::from(bit(0)) * 2,
        mdts: if bit(1) { 2 } else { 5 },
        sgl: !bit(2),
        shadow_doorbells: !bit(3),
        cache_bytes: if bit(4) { 0 } else { 64 << 10 },
        delays: Delays { command: Duration::from_micros(if bit(5) { 10 } else { 0 }), ..Delays::default() },
        atomic_power_fail_blocks: if bit(6) { 4 } else { 1 },
        interrupt_vectors: if bit(7) { 2 } else { 0 },
        namespaces: vec![
            NamespaceConfig::new(1, 4096, Format::Block512),
            NamespaceConfig::new(2, 1 << 20, Format::Block4096),
            NamespaceConfig::new(3, 64, Format::Block512Metadata8),
        ],
        ..ControllerConfig::default()
    }
}

impl Host {
    pub(super) fn new(choice: u8) -> Self {
        let controller = EmulatedController::new(config(choice)).expect("a configuration of a controller");
        let device = controller.device();
        device.set_bus_master(true).expect("it is there");
        let memory = device.allocate(MEMORY_BYTES).expect("memory is there");
        let pool = BufferPool::heap(&[SizeClass { bytes: BUFFER_BYTES, count: 4 }]);
        let mapping = device.map_pool(&pool).ok();
        let filled = || {
            let mut sgl = pool.alloc(BUFFER_BYTES).expect("the pool has room for all");
            sgl.fill(0, BUFFER_BYTES, MINE);
            sgl
        };
        let mine = vec![filled(), filled(), filled()];
        let lent = Some(pool.alloc(BUFFER_BYTES).expect("and one more").lend());
        let gone = device.allocate(4096).expect("memory is there");
        let (given_back, given_back_iova) = (gone.memory().clone(), gone.iova());
        drop(gone);
        given_back.write(0, &[MINE; 4096]);
        let (now, tails) = (Time::ZERO, [0; PAIRS as usize]);
        Self {
            controller,
            device,
            now,
            memory,
            pool,
            mapping,
            lent,
            mine,
            given_back,
            given_back_iova,
            tails,
            stride: u32::from(choice & 1) * 2,
        }
    }

    /// One act, as the input chooses.
    pub(super) fn act(&mut self, input: &mut Input<'_>) {
        match input.u8() % 20 {
            0 => self.device.write_u32(input.u16().into(), input.u32()),
            1 => self.device.write_u64(input.u16().into(), input.u64()),
            2 => {
                let offset = input.u16().into();
                let _ = (self.device.read_u32(offset), self.device.read_u64(offset));
            }
            3 => self.scribble(input),
            4 => self.bring_up(),
            5 => self.create_pair(input),
            6..=10 => self.command(input),
            11 => {
                let (qid, value) = (u16::from(input.u8() % 6), u32::from(input.u8()));
                self.device.write_u32(submission_doorbell(qid, self.stride), value);
            }
            12 => {
                let (qid, value) = (u16::from(input.u8() % 6), u32::from(input.u8()));
                self.device.write_u32(completion_doorbell(qid, self.stride), value);
            }
            13 => self.take_completions(),
            14 => self.swap_buffers(),
            15 => self.hurt(input),
            16 => self.change_presence(input.u8()),
            17 => {
                let _ = self.device.set_bus_master(input.u8() & 3 != 0);
            }
            18 => self.now = self.now.after(Duration::from_micros(input.u16().into())),
            _ => {}
        }
        self.step();
    }

    /// Takes a bounded number of commands, whatever there is.
    fn step(&mut self) {
        let before = self.controller.counters().commands;
        self.controller.step(self.now, BUDGET);
        let taken = self.controller.counters().commands - before;
        // The second half of a fused operation comes with the first.
        assert!(taken <= 2 * u64::from(BUDGET), "{taken} commands in one step");
    }

    fn scribble(&mut self, input: &mut Input<'_>) {
        let at = usize::from(input.u16()) * 4;
        let value = input.u64();
        let value = if value & 1 == 0 { value } else { self.address(input) };
        if at + 8 <= MEMORY_BYTES {
            self.memory.memory().write(at, &value.to_le_bytes());
        }
    }

    fn page(&self, number: u64) -> u64 {
        self.memory.iova() + number % (MEMORY_BYTES as u64 / 4096) * 4096
    }

    /// An address that is more often one that leads somewhere than not.
    fn address(&self, input: &mut Input<'_>) -> u64 {
        let number = u64::from(input.u8());
        match input.u8() % 8 {
            0..=3 => self.page(number),
            4 => self.page(number) + u64::from(input.u16() % 4096),
            5 => self.mapping.as_ref().map_or(0, |mapping| {
                let (start, length_bytes) = self.pool.region_range();
                mapping.iova_of(start.as_ptr() as usize, length_bytes) + number % 8 * 4096
            }),
            6 => self.given_back_iova + number * 16,
            _ => input.u64(),
        }
    }

    fn bring_up(&mut self) {
        self.device.write_u32(CC, 0);
        self.step();
        let attributes = (ENTRIES - 1) << 16 | (ENTRIES - 1);
        self.device.write_u32(AQA, attributes);
        self.device.write_u64(ASQ, self.page(0));
        self.device.write_u64(ACQ, self.page(1));
        self.memory.memory().zero(4096, 4096);
        self.device.write_u32(CC, 0x0046_0001);
        self.tails = [0; PAIRS as usize];
        self.step();
    }

    fn create_pair(&mut self, input: &mut Input<'_>) {
        let qid = 1 + u16::from(input.u8() % (PAIRS as u8 - 1));
        let first = u64::from(qid) * 2;
        let (sq, cq) = (self.page(first), self.page(first + 1));
        self.memory.memory().zero((first as usize + 1) * 4096, 4096);
        let cq = CreateCompletionQueue {
            qid,
            entries: ENTRIES,
            address: cq,
            contiguous: true,
            interrupts: input.u8() & 1 != 0,
            vector: 0,
        };
        self.put(0, cq.sqe());
        let sq = CreateSubmissionQueue {
            qid,
            entries: ENTRIES,
            address: sq,
            contiguous: true,
            priority: 0,
            cqid: qid,
            nvm_set: 0,
        };
        self.put(0, sq.sqe());
        self.tails[usize::from(qid)] = 0;
    }

    /// Puts a command at the tail and writes the doorbell.
    fn put(&mut self, qid: u16, sqe: Sqe) {
        let tail = &mut self.tails[usize::from(qid)];
        let at = usize::from(qid) * 8192 + *tail as usize * 64;
        *tail = (*tail + 1) % ENTRIES;
        let tail = *tail;
        self.memory.memory().write(at, sqe.as_bytes());
        self.device.write_u32(submission_doorbell(qid, self.stride), tail);
    }

    fn command(&mut self, input: &mut Input<'_>) {
        let qid = u16::from(input.u8()) % PAIRS;
        let opcodes: [u8; 12] = match qid {
            0 => [0, 1, 2, 4, 5, 6, 8, 9, 0x0a, 0x0c, 0x7c, 0x80],
            _ => [0, 1, 2, 5, 8, 9, 0x0c, 1, 2, 1, 2, 0x19],
        };
        let choice = input.u8();
        let opcode = opcodes.get(usize::from(choice % 13)).copied().unwrap_or(choice);
        let flags = input.u8();
        let mut sqe = Sqe {
            opcode,
            flags: if flags & 0x30 == 0 { flags } else { 0 },
            cid: U16::new(input.u8().into()),
            nsid: U32::new(match input.u8() {
                nsid @ 0..=8 => nsid.into(),
                0x80.. => u32::MAX,
                _ => 1,
            }),
            ..Sqe::default()
        };
        let (first, second) = (self.address(input), self.address(input));
        if sqe.flags >> 6 == 0 {
            sqe.set_prp(first, second);
        } else {
            sqe.dptr.address = first.into();
            sqe.dptr.length_bytes = U32::new(u32::from(input.u8()) * 16);
            sqe.dptr.identifier.0 = (input.u8() % 5) << 4;
        }
        sqe.cdw10 = U32::new(if flags & 4 == 0 { input.u16().into() } else { input.u32() });
        sqe.cdw11 = U32::new(if flags & 8 == 0 { u32::from(input.u8() & 7) } else { input.u32() });
        let length = u32::from(input.u8());
        sqe.cdw12 = U32::new(if length & 1 == 0 { length >> 4 } else { input.u32() });
        if qid == 0 && opcode == AdminOpcode::DOORBELL_BUFFER_CONFIG.0 && flags & 1 == 0 {
            sqe = DoorbellBufferConfig { shadow: self.page(60), event_index: self.page(61) }.sqe();
        }
        self.put(qid, sqe);
    }

    fn take_completions(&mut self) {
        for qid in 0..PAIRS {
            // Whatever head is right is found by trying: wrong ones must do no harm.
            for head in 0..ENTRIES {
                self.device.write_u32(completion_doorbell(qid, self.stride), head);
            }
        }
    }

    /// The buffer that was lent comes back, another one goes out.
    fn swap_buffers(&mut self) {
        if let Some(lent) = self.lent.take() {
            let mut sgl = lent.reclaim();
            sgl.fill(0, BUFFER_BYTES, MINE);
            self.mine.push(sgl);
        }
        self.lent = Some(self.mine.remove(0).lend());
    }

    fn hurt(&mut self, input: &mut Input<'_>) {
        let until = FatalUntil::ControllerReset;
        let action = match input.u8() % 14 {
            0 => Action::Fail(Status::INTERNAL_ERROR),
            1 => Action::DoneButFail(Status::WRITE_FAULT),
            2 => Action::Delay(Duration::from_micros(input.u8().into())),
            3 => Action::Hang(Hang::UntilAborted),
            4 => Action::Hang(Hang::UntilReset),
            5 => Action::Hang(Hang::LateAfterAbort(Duration::from_micros(5))),
            6 => Action::DropCompletion,
            7 => Action::DuplicateCompletion,
            8 => Action::InventCompletion { cid: input.u16() },
            9 => Action::WrongQueue { sqid: input.u16() },
            10 => Action::LatePhase,
            11 => Action::MisdirectWrite { blocks: input.u64() },
            12 => Action::CorruptData,
            _ => Action::Fatal(until),
        };
        let on = if input.u8() & 1 == 0 { CommandMatch::io() } else { CommandMatch::default() };
        // When there are too many, that is the answer.
        let _ = self.controller.inject(Fault::once(on, action));
    }

    fn change_presence(&mut self, choice: u8) {
        match choice % 8 {
            0 => self.controller.remove(),
            1 => {
                self.controller.insert();
                self.device = self.controller.device();
            }
            2 => self.controller.power_off(),
            3 => self.controller.power_on(),
            4 => {
                let _ = self.device.begin_function_reset();
            }
            5 => {
                let _ = self.device.poll_function_reset();
            }
            6 => {
                let _ = self.controller.resize_namespace(1, 1 + u64::from(choice) * 8);
            }
            _ => {
                let _ = self.controller.set_attached(2, choice & 8 != 0);
            }
        }
    }

    /// What was not lent, or not mapped any more, is as it was.
    pub(super) fn check(&self) {
        for sgl in &self.mine {
            assert!(
                sgl.segments().all(|bytes| bytes.iter().all(|byte| *byte == MINE)),
                "not lent, but written"
            );
        }
        let mut bytes = [0; 4096];
        self.given_back.read(0, &mut bytes);
        assert!(bytes == UNTOUCHED[..4096], "not mapped, but written");
    }

    pub(super) fn finish(mut self) -> Counters {
        self.step();
        self.mapping = None;
        self.step();
        if let Some(lent) = self.lent.take() {
            drop(lent.reclaim());
        }
        self.check();
        // Whatever happened, a controller with power can be brought up again.
        self.controller.power_off();
        self.controller.power_on();
        self.controller.insert();
        self.device = self.controller.device();
        self.controller.clear_faults();
        self.device.set_bus_master(true).expect("it is there");
        self.bring_up();
        assert_eq!(self.device.read_u32(nvme_spec::register::CSTS), 1, "ready after power");
        self.controller.counters()
    }
}
