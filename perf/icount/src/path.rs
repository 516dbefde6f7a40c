//! An I/O from wire to wire: the shipped poller of a core over a memory volume, with the kernel's TCP
//! replaced by two buffers.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use iscsi_proto::params::DigestPolicy;
use iscsi_proto::pdu::BHS_BYTES;
use iscsi_target::message::{CoreMessage, Directory, DirectoryEntry};
use iscsi_target::setup::{AllowList, Auth, Settings, TargetSetup};
use iscsi_target::{Portal, TargetCore};
use reactor::mesh::Mesh;
use reactor::net::Network;
use reactor::poller::Poller;
use volume::metadata::MemoryStore;
use volume::shared::{Registry, VolumeSetup};

use crate::blocks::{BLOCK_BYTES, cdb, command_header, device};
use crate::pipe::Pipe;

const TARGET: &str = "iqn.2026-01.io.vega:icount";
/// Items of one turn, as the reactor gives them.
const BUDGET: u32 = 32;
/// Turns after which an answer must have come.
const TURNS_MAX: u32 = 10_000;

/// A logged-in initiator and the target it talks to.
struct Wire {
    pipe: Pipe,
    target: TargetCore,
    core: reactor::core::Core,
    cmd_sn: u32,
    place: u64,
}

impl Wire {
    fn new() -> Self {
        let pipe = Pipe::default();
        let mut core = reactor::sim::core(1);
        core.network = Rc::new(pipe.clone());
        let mut endpoint = Mesh::new(1, 64).pop().expect("one core");
        for message in messages() {
            assert!(endpoint.send(0, message).is_ok(), "the mailbox is empty");
        }
        let listener =
            pipe.listen("127.0.0.1:3260".parse().expect("an address")).expect("a pipe always listens");
        let portal = Portal { listener, portal_group_tag: 1 };
        let registry = Registry::new();
        registry.add(&core, volume()).map(drop).expect("the volume opens");
        let target = TargetCore::new(&core, Settings::default(), registry, endpoint, vec![portal]);
        let mut this = Self { pipe, target, core, cmd_sn: 1, place: 0 };
        this.turn();
        this.login();
        this
    }

    fn turn(&mut self) {
        let now = self.core.clock.now();
        self.target.poll(now, BUDGET);
    }

    /// Turns until the target has sent so many bytes more.
    fn turn_until_sent(&mut self, bytes: u64) {
        let goal = self.pipe.sent_bytes() + bytes;
        for _ in 0..TURNS_MAX {
            if self.pipe.sent_bytes() >= goal {
                return;
            }
            self.turn();
        }
        panic!("the target sent {} bytes fewer than it should", goal - self.pipe.sent_bytes());
    }

    fn login(&mut self) {
        let mut keys = format!(
            "InitiatorName=iqn.2026-01.io.vega:initiator\0TargetName={TARGET}\0SessionType=Normal\0HeaderDigest=None\0DataDigest=None\0\
             InitialR2T=No\0ImmediateData=Yes\0MaxBurstLength=262144\0FirstBurstLength=262144\0MaxRecvDataSegmentLength=262144\0\
             MaxOutstandingR2T=1\0ErrorRecoveryLevel=0\0MaxConnections=1\0"
        )
        .into_bytes();
        let mut header = [0; BHS_BYTES];
        header[..2].copy_from_slice(&[0x43, 0x87]);
        header[4..8].copy_from_slice(&(keys.len() as u32).to_be_bytes());
        header[8..14].copy_from_slice(&[0x80, 0, 0, 0, 0, 1]);
        header[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        keys.resize(keys.len().next_multiple_of(4), 0);
        self.pipe.feed(&header);
        self.pipe.feed(&keys);
        self.turn_until_sent(BHS_BYTES as u64);
        let answer = self.pipe.first_output();
        assert_eq!((answer[0], answer[1], answer[36]), (0x23, 0x87, 0), "the login succeeds at once");
        // The first command hears of the power-on: a response with sense data.
        self.send(0x88, false, 1);
        self.turn_until_sent(BHS_BYTES as u64);
    }

    fn send(&mut self, opcode: u8, write: bool, commands: u32) {
        static DATA: [u8; BLOCK_BYTES] = [0x5a; BLOCK_BYTES];
        let immediate = if write { BLOCK_BYTES } else { 0 };
        for _ in 0..commands {
            self.pipe.feed(&command_header(self.cmd_sn, cdb(opcode, self.place), write, immediate));
            self.pipe.feed(&DATA[..immediate]);
            self.cmd_sn = self.cmd_sn.wrapping_add(1);
            self.place += 1;
        }
    }

    fn run(&mut self, opcode: u8, write: bool, commands: u32, iterations: u64) {
        let answer_bytes = BHS_BYTES + if write { 0 } else { BLOCK_BYTES };
        for _ in 0..iterations.div_ceil(u64::from(commands)) {
            self.send(opcode, write, commands);
            self.turn_until_sent(u64::from(commands) * answer_bytes as u64);
        }
    }
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
    let target = TargetSetup {
        name: TARGET.into(),
        alias: None,
        portal_group_tag: 1,
        luns: BTreeMap::from([(0, "memory".to_string())]),
        auth: Auth::None,
        allow: AllowList::default(),
        header_digest: DigestPolicy::default(),
        data_digest: DigestPolicy::default(),
    };
    let entry =
        DirectoryEntry { core: 0, portal_group_tag: 1, advertised: Vec::new(), allow: AllowList::default() };
    [
        CoreMessage::SetTarget {
            setup: Box::new(target),
            answer: Box::new(|answer| assert!(answer.is_ok(), "the target is set")),
        },
        CoreMessage::SetDirectory(Arc::new(Directory::from([(TARGET.to_string(), entry)]))),
    ]
}

pub fn read_1(iterations: u64) {
    Wire::new().run(0x88, false, 1, iterations);
}

pub fn read_32(iterations: u64) {
    Wire::new().run(0x88, false, 32, iterations);
}

pub fn write_1(iterations: u64) {
    Wire::new().run(0x8a, true, 1, iterations);
}

pub fn write_32(iterations: u64) {
    Wire::new().run(0x8a, true, 32, iterations);
}
