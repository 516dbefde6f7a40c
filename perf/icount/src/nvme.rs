//! An I/O over NVMe/TCP from wire to wire: the shipped poller of a core over a memory volume, with the kernel's TCP
//! replaced by two buffers for each connection.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use nvme_spec::fabrics::{
    CATTR_DISABLE_SQ_FLOW_CONTROL, CNTLID_DYNAMIC, Connect, ConnectData, ConnectResult, PropertySet,
    nqn_field,
};
use nvme_spec::nvm::IoControl;
use nvme_spec::tcp::{CapsuleCmd, CapsuleResp, CommonHeader, IcReq, IcResp, PduType};
use nvme_spec::{Cqe, NvmOpcode, SglDescriptor, Sqe, Status, register};
use nvmf_target::message::{CoreMessage, Directory, DirectoryEntry};
use nvmf_target::setup::{AllowList, NamespaceSetup, Settings, SubsystemSetup};
use nvmf_target::{NvmfCore, Portal};
use reactor::mesh::Mesh;
use reactor::net::Network;
use reactor::poller::Poller;
use volume::metadata::MemoryStore;
use volume::shared::{Registry, VolumeSetup};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

use crate::blocks::{BLOCK_BYTES, LOGICAL_BLOCKS, UNIT_BYTES, device};
use crate::pipe::Pipe;

const SUBSYSTEM: &str = "nqn.2026-01.io.vega:icount";
const HOST: &str = "nqn.2026-01.io.vega:host";
/// Items of one turn, as the reactor gives them.
const BUDGET: u32 = 32;
/// Turns after which an answer must have come.
const TURNS_MAX: u32 = 10_000;
/// Entries of the I/O queue.
const QUEUE_ENTRIES: u16 = 128;
const RESPONSE_BYTES: u64 = size_of::<CapsuleResp>() as u64;
/// The header in front of the data of a read; the SUCCESS flag in it stands for the response.
const DATA_HEADER_BYTES: u64 = 24;

/// A host with an enabled controller and one I/O queue, and the target it talks to.
struct Wire {
    admin: Pipe,
    io: Pipe,
    target: NvmfCore,
    core: reactor::core::Core,
    cid: u16,
    place: u64,
}

impl Wire {
    fn new() -> Self {
        let admin = Pipe::default();
        let mut core = reactor::sim::core(1);
        core.network = Rc::new(admin.clone());
        let registry = Registry::new();
        registry.add(&core, volume()).map(drop).expect("the volume opens");
        let mut endpoint = Mesh::new(1, 64).pop().expect("one core");
        for message in messages() {
            assert!(endpoint.send(0, message).is_ok(), "the mailbox is empty");
        }
        let listener =
            admin.listen("127.0.0.1:4420".parse().expect("an address")).expect("a pipe always listens");
        let portal = Portal { listener, port_id: 1 };
        let target = NvmfCore::new(&core, Settings::default(), endpoint, vec![portal], registry);
        let mut this = Self { io: admin.clone(), admin, target, core, cid: 0, place: 0 };
        this.turn();
        let cntlid = this.connect(&this.admin.clone(), 0, CNTLID_DYNAMIC);
        this.enable();
        this.io = this.admin.dial();
        this.connect(&this.io.clone(), 1, cntlid);
        this
    }

    fn turn(&mut self) {
        let now = self.core.clock.now();
        self.target.poll(now, BUDGET);
    }

    /// Turns until the target has sent so many bytes more on a connection.
    fn turn_until_sent(&mut self, line: &Pipe, bytes: u64) {
        let goal = line.sent_bytes() + bytes;
        for _ in 0..TURNS_MAX {
            if line.sent_bytes() >= goal {
                return;
            }
            self.turn();
        }
        panic!("the target sent {} bytes fewer than it should", goal - line.sent_bytes());
    }

    /// ICReq and Connect; the identifier of the controller.
    fn connect(&mut self, line: &Pipe, qid: u16, cntlid: u16) -> u16 {
        let length_bytes = size_of::<IcReq>();
        let ch = common_header(PduType::IC_REQ, length_bytes, 0);
        line.feed(IcReq { ch, ..IcReq::default() }.as_bytes());
        self.turn_until_sent(line, size_of::<IcResp>() as u64);
        let mut command = Connect::command();
        command.qid = U16::new(qid);
        command.sqsize = U16::new(if qid == 0 { 31 } else { QUEUE_ENTRIES - 1 });
        command.cattr = CATTR_DISABLE_SQ_FLOW_CONTROL;
        command.sgl = SglDescriptor::in_capsule(0, size_of::<ConnectData>() as u32);
        let data = ConnectData {
            hostid: [7; 16],
            cntlid: U16::new(cntlid),
            subnqn: nqn_field(SUBSYSTEM).expect("a valid name"),
            hostnqn: nqn_field(HOST).expect("a valid name"),
            ..ConnectData::default()
        };
        feed_command(line, command.as_sqe(), data.as_bytes());
        ConnectResult::of(&self.answer(line)).cntlid
    }

    fn enable(&mut self) {
        let mut command = PropertySet::command();
        command.offset = U32::new(register::CC);
        let configuration = register::Configuration(0).with_en(1).with_iosqes(6).with_iocqes(4);
        command.value.set(u64::from(configuration.0));
        let admin = self.admin.clone();
        feed_command(&admin, command.as_sqe(), &[]);
        self.answer(&admin);
    }

    /// The completion that the target sends next.
    fn answer(&mut self, line: &Pipe) -> Cqe {
        let before = line.sent_bytes() as usize;
        self.turn_until_sent(line, RESPONSE_BYTES);
        let output = line.first_output();
        let (response, _) = CapsuleResp::read_from_prefix(&output[before..]).expect("a whole response");
        assert_eq!(response.cqe.status(), Status::SUCCESS, "the target takes what a host says first");
        response.cqe
    }

    fn send(&mut self, opcode: NvmOpcode, commands: u32) {
        static DATA: [u8; BLOCK_BYTES] = [0x5a; BLOCK_BYTES];
        for _ in 0..commands {
            let lba = self.place % (UNIT_BYTES / BLOCK_BYTES as u64) * LOGICAL_BLOCKS;
            let mut sqe = Sqe::io(opcode, 1, lba, LOGICAL_BLOCKS as u32, IoControl::NONE);
            sqe.cid = U16::new(self.cid);
            let data: &[u8] = if opcode == NvmOpcode::WRITE { &DATA } else { &[] };
            sqe.set_sgl(if data.is_empty() {
                SglDescriptor::transport(BLOCK_BYTES as u32)
            } else {
                SglDescriptor::in_capsule(0, data.len() as u32)
            });
            feed_command(&self.io, &sqe, data);
            self.cid = self.cid.wrapping_add(1);
            self.place += 1;
        }
    }

    fn run(&mut self, opcode: NvmOpcode, commands: u32, iterations: u64) {
        let answer_bytes =
            if opcode == NvmOpcode::READ { DATA_HEADER_BYTES + BLOCK_BYTES as u64 } else { RESPONSE_BYTES };
        let io = self.io.clone();
        for _ in 0..iterations.div_ceil(u64::from(commands)) {
            self.send(opcode, commands);
            self.turn_until_sent(&io, u64::from(commands) * answer_bytes);
        }
    }
}

fn common_header(pdu_type: PduType, header_bytes: usize, data_bytes: usize) -> CommonHeader {
    CommonHeader {
        pdu_type,
        flags: 0,
        hlen: header_bytes as u8,
        pdo: if data_bytes == 0 { 0 } else { header_bytes as u8 },
        plen: U32::new((header_bytes + data_bytes) as u32),
    }
}

fn feed_command(line: &Pipe, sqe: &Sqe, data: &[u8]) {
    let ch = common_header(PduType::CAPSULE_CMD, size_of::<CapsuleCmd>(), data.len());
    line.feed(CapsuleCmd { ch, sqe: *sqe }.as_bytes());
    line.feed(data);
}

fn volume() -> VolumeSetup {
    VolumeSetup {
        name: "memory".into(),
        serial: "1".into(),
        channel: Box::new(|_| Ok(Box::new(device()))),
        metadata: Box::new(|_| Ok(Box::<MemoryStore>::default())),
        reservations: Vec::new(),
    }
}

fn messages() -> [CoreMessage; 2] {
    let namespaces = BTreeMap::from([(1, NamespaceSetup::new("memory"))]);
    let setup = SubsystemSetup { namespaces, ..SubsystemSetup::new(SUBSYSTEM, "1") };
    let entry = DirectoryEntry { core: 0, allow: AllowList::default(), listeners: Vec::new() };
    let subsystems = BTreeMap::from([(SUBSYSTEM.to_string(), entry)]);
    [
        CoreMessage::SetSubsystem {
            setup: Box::new(setup),
            answer: Box::new(|answer| assert!(answer.is_ok(), "the subsystem is set")),
        },
        CoreMessage::SetDirectory(Arc::new(Directory { generation: 1, subsystems })),
    ]
}

pub fn read_1(iterations: u64) {
    Wire::new().run(NvmOpcode::READ, 1, iterations);
}

pub fn read_32(iterations: u64) {
    Wire::new().run(NvmOpcode::READ, 32, iterations);
}

pub fn write_1(iterations: u64) {
    Wire::new().run(NvmOpcode::WRITE, 1, iterations);
}

pub fn write_32(iterations: u64) {
    Wire::new().run(NvmOpcode::WRITE, 32, iterations);
}
