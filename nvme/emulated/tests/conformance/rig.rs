//! A host made of nothing but memory and register accesses.

use nvme::device::{Device, DmaMemory};
use nvme_emulated::{ControllerConfig, EmulatedController, EmulatedDevice, Format, NamespaceConfig};
use nvme_spec::queue::{CreateCompletionQueue, CreateSubmissionQueue};
use nvme_spec::register::{
    ACQ, AQA, ASQ, AdminQueueAttributes, CC, CSTS, Configuration, ControllerStatus, completion_doorbell,
    submission_doorbell,
};
use nvme_spec::{Cqe, Sqe, Status};
use reactor::time::Time;
use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of the memory that commands move their data through.
pub const DATA_BYTES: usize = 1 << 20;

/// Both rings of a queue pair, and how far the host is.
pub struct Pair {
    pub qid: u16,
    pub entries: u32,
    pub sq: DmaMemory,
    pub cq: DmaMemory,
    pub tail: u32,
    pub head: u32,
    pub phase: bool,
    /// The submission queue head that the last completion told.
    pub sqhd: u16,
    next_cid: u16,
}

impl Pair {
    fn new(device: &EmulatedDevice, qid: u16, entries: u32) -> Self {
        let memory = |bytes: u32| device.allocate((entries * bytes) as usize).expect("memory is there");
        let (sq, cq) = (memory(64), memory(16));
        Self { qid, entries, sq, cq, tail: 0, head: 0, phase: true, sqhd: 0, next_cid: 0x100 }
    }

    /// Writes a command at the tail and moves the tail; nobody is told yet.
    pub fn put(&mut self, mut sqe: Sqe) -> u16 {
        let cid = self.next_cid;
        self.next_cid = self.next_cid.wrapping_add(1);
        sqe.cid = U16::new(cid);
        self.put_as_is(&sqe);
        cid
    }

    pub fn put_many(&mut self, sqe: Sqe, count: u32) {
        for _ in 0..count {
            self.put(sqe);
        }
    }

    pub fn put_as_is(&mut self, sqe: &Sqe) {
        self.sq.memory().write((self.tail * 64) as usize, sqe.as_bytes());
        self.tail = (self.tail + 1) % self.entries;
    }

    /// The completion at the head, if its phase says that it is new.
    pub fn peek(&self) -> Option<Cqe> {
        let mut bytes = [0; 16];
        self.cq.memory().read((self.head * 16) as usize, &mut bytes);
        let cqe = Cqe::read_from_bytes(&bytes).expect("16 bytes");
        (cqe.phase() == self.phase).then_some(cqe)
    }

    /// Takes the completion at the head; the doorbell is not written.
    pub fn take(&mut self) -> Option<Cqe> {
        let cqe = self.peek()?;
        self.head += 1;
        if self.head == self.entries {
            (self.head, self.phase) = (0, !self.phase);
        }
        self.sqhd = cqe.sqhd.get();
        Some(cqe)
    }
}

pub struct Rig {
    pub controller: EmulatedController,
    pub device: EmulatedDevice,
    pub now: Time,
    pub pairs: Vec<Pair>,
    pub data: DmaMemory,
    pub stride: u32,
}

/// Namespace 1 with blocks of 512 bytes, namespace 2 with blocks of 4 KiB, 16 MiB each, a queue of at most 64 entries.
pub fn config() -> ControllerConfig {
    ControllerConfig {
        queue_entries_max: 64,
        io_queues: 4,
        namespaces: vec![
            NamespaceConfig::new(1, 32768, Format::Block512),
            NamespaceConfig::new(2, 4096, Format::Block4096),
        ],
        ..ControllerConfig::default()
    }
}

impl Rig {
    /// A controller in its reset state, with bus mastering.
    pub fn disabled(config: ControllerConfig) -> Self {
        let stride = config.doorbell_stride.into();
        let controller = EmulatedController::new(config).expect("a configuration of a controller");
        let device = controller.device();
        device.set_bus_master(true).expect("it is there");
        let data = device.allocate(DATA_BYTES).expect("memory is there");
        Self { controller, device, now: Time::ZERO, pairs: Vec::new(), data, stride }
    }

    /// A controller that is ready, with its admin queue.
    pub fn ready(config: ControllerConfig) -> Self {
        let mut rig = Self::disabled(config);
        rig.set_up_admin(16);
        rig.enable();
        rig
    }

    /// A controller with one I/O queue pair of so many entries.
    pub fn with_io(config: ControllerConfig, entries: u32) -> Self {
        let mut rig = Self::ready(config);
        rig.create_pair(1, entries);
        rig
    }

    pub fn set_up_admin(&mut self, entries: u32) {
        let pair = Pair::new(&self.device, 0, entries);
        let attributes = AdminQueueAttributes::default().with_asqs(entries - 1).with_acqs(entries - 1);
        self.device.write_u32(AQA, attributes.0);
        self.device.write_u64(ASQ, pair.sq.iova());
        self.device.write_u64(ACQ, pair.cq.iova());
        self.pairs = vec![pair];
    }

    pub fn configuration() -> Configuration {
        Configuration::default().with_en(1).with_iosqes(6).with_iocqes(4)
    }

    pub fn enable(&mut self) {
        self.device.write_u32(CC, Self::configuration().0);
        self.step();
        assert_eq!(self.status().0, 1, "ready, and nothing else");
    }

    pub fn status(&self) -> ControllerStatus {
        ControllerStatus(self.device.read_u32(CSTS))
    }

    /// Steps until there is nothing to do at this instant.
    pub fn step(&mut self) {
        for _ in 0..10_000 {
            if self.controller.step(self.now, 64) == reactor::poller::Progress::Idle {
                return;
            }
        }
        panic!("the controller is busy without end");
    }

    pub fn pass(&mut self, time: std::time::Duration) {
        self.now = self.now.after(time);
        self.step();
    }

    pub fn pair(&mut self, qid: u16) -> &mut Pair {
        self.pairs.iter_mut().find(|pair| pair.qid == qid).expect("a queue pair of this host")
    }

    pub fn ring_tail(&mut self, qid: u16) {
        let tail = self.pair(qid).tail;
        self.device.write_u32(submission_doorbell(qid, self.stride), tail);
    }

    pub fn ring_head(&mut self, qid: u16) {
        let head = self.pair(qid).head;
        self.device.write_u32(completion_doorbell(qid, self.stride), head);
    }

    /// Submits a command and tells the controller; its identifier.
    pub fn submit(&mut self, qid: u16, sqe: Sqe) -> u16 {
        let cid = self.pair(qid).put(sqe);
        self.ring_tail(qid);
        cid
    }

    /// Takes the next completion and tells the controller.
    pub fn take(&mut self, qid: u16) -> Option<Cqe> {
        let cqe = self.pair(qid).take()?;
        self.ring_head(qid);
        Some(cqe)
    }

    /// Submits a command and waits for its completion, which must be the next.
    pub fn command(&mut self, qid: u16, sqe: Sqe) -> Cqe {
        let cid = self.submit(qid, sqe);
        self.step();
        let cqe = self.take(qid).expect("a completion");
        assert_eq!((cqe.cid.get(), cqe.sqid.get()), (cid, qid));
        cqe
    }

    /// The status of a command, without its flags.
    pub fn status_of(&mut self, qid: u16, sqe: Sqe) -> Status {
        self.command(qid, sqe).status().code()
    }

    /// An admin command that must succeed; dword 0.
    pub fn admin(&mut self, sqe: Sqe) -> u32 {
        let cqe = self.command(0, sqe);
        assert_eq!(cqe.status(), Status::SUCCESS);
        cqe.dw0.get()
    }

    /// Creates both queues of a pair.
    pub fn create_pair(&mut self, qid: u16, entries: u32) {
        let pair = Pair::new(&self.device, qid, entries);
        let (sq, cq) = (pair.sq.iova(), pair.cq.iova());
        self.admin(completion_queue(qid, entries, cq).sqe());
        self.admin(submission_queue(qid, entries, sq, qid).sqe());
        self.pairs.push(pair);
    }

    /// The rings of a pair in the data memory, at these addresses.
    fn pair_at(&self, qid: u16, entries: u32, sq: u64, cq: u64) -> Pair {
        let base = self.data.iova();
        let part = |iova: u64, bytes: u32| {
            let memory = self.data.memory().part((iova - base) as usize, (entries * bytes) as usize);
            memory.zero(0, memory.len());
            DmaMemory::new(memory, iova, Box::new(()))
        };
        Pair { sq: part(sq, 64), cq: part(cq, 16), ..Pair::new(&self.device, qid, entries) }
    }

    /// Creates both queues of a pair in the data memory.
    pub fn create_pair_at(&mut self, qid: u16, entries: u32, sq: u64, cq: u64) {
        self.admin(completion_queue(qid, entries, cq).sqe());
        self.admin(submission_queue(qid, entries, sq, qid).sqe());
        let pair = self.pair_at(qid, entries, sq, cq);
        self.pairs.push(pair);
    }

    /// Puts the admin queue in the data memory.
    pub fn set_up_admin_at(&mut self, entries: u32, sq: u64, cq: u64) {
        self.set_up_admin(entries);
        self.device.write_u64(ASQ, sq);
        self.device.write_u64(ACQ, cq);
        self.pairs = vec![self.pair_at(0, entries, sq, cq)];
    }

    /// Fills the data memory from `offset` on.
    pub fn fill(&self, offset: usize, bytes: &[u8]) {
        self.data.memory().write(offset, bytes);
    }

    /// The data memory from `offset` on.
    pub fn seen(&self, offset: usize, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        self.data.memory().read(offset, &mut out);
        out
    }

    /// A command with its data at `offset` of the data memory: one or two PRP entries.
    pub fn with_data(&self, mut sqe: Sqe, offset: u64) -> Sqe {
        let first = self.data.iova() + offset;
        sqe.set_prp(first, (first & !0xfff) + 4096);
        sqe
    }
}

pub fn completion_queue(qid: u16, entries: u32, address: u64) -> CreateCompletionQueue {
    CreateCompletionQueue { qid, entries, address, contiguous: true, interrupts: false, vector: 0 }
}

pub fn submission_queue(qid: u16, entries: u32, address: u64, cqid: u16) -> CreateSubmissionQueue {
    CreateSubmissionQueue { qid, entries, address, contiguous: true, priority: 0, cqid, nvm_set: 0 }
}

/// Bytes that differ from block to block and from seed to seed.
pub fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    reactor::random::Random::fill(&mut reactor::sim::SimRandom::new(seed), &mut out);
    out
}
