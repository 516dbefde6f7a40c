//! The poller over a simulated network and a device with a gate: what happens between sessions, tasks, and the other
//! protocols of a volume.

mod fencing;
mod lifetime;
mod login;
mod memory;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use iscsi_proto::params::DigestPolicy;
use reactor::core::Core;
use reactor::mesh::{ControlSender, Mesh};
use reactor::poller::{Poller, Progress};
use reactor::sim::{SimEnd, SimWorld};
use volume::bdev::{BdevInfo, Done, Io, IoChannel};
use volume::geometry::Geometry;
use volume::memory::MemoryDevice;
use volume::metadata::MemoryStore;
use volume::shared::{Registry, VolumeSetup};

use crate::message::{Answer, CoreMessage, Directory, DirectoryEntry};
use crate::setup::{AllowList, Auth, Settings, TargetSetup};
use crate::{Portal, TargetCore};

const TARGET: &str = "iqn.2026-01.io.vega:t";
const VOLUME: &str = "v";
const BLOCK: usize = 512;

/// Whether the device lets I/O through, and what waits before it.
#[derive(Default)]
struct Gate {
    closed: bool,
    waiting: VecDeque<Io>,
}

thread_local! {
    /// Where the opening closures, which may travel, find the gate of their test.
    static GATE: RefCell<Rc<RefCell<Gate>>> = RefCell::default();
}

/// Memory behind a gate.
struct Gated {
    gate: Rc<RefCell<Gate>>,
    inner: MemoryDevice,
}

impl IoChannel for Gated {
    fn info(&self) -> BdevInfo {
        self.inner.info()
    }

    fn submit(&mut self, io: Io) -> Option<Done> {
        if self.gate.borrow().closed {
            self.gate.borrow_mut().waiting.push_back(io);
            return None;
        }
        self.inner.submit(io)
    }

    fn poll(&mut self, out: &mut Vec<Done>, _: usize) {
        if !self.gate.borrow().closed {
            for io in std::mem::take(&mut self.gate.borrow_mut().waiting) {
                out.push(self.inner.submit(io).expect("memory answers on the spot"));
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.gate.borrow().waiting.len()
    }

    fn answers_compare(&self) -> bool {
        true
    }
}

/// A core with one target that maps one volume as LUN 0.
struct Bench {
    world: SimWorld,
    core: Core,
    registry: Registry,
    target: TargetCore,
    control: ControlSender<CoreMessage>,
    gate: Rc<RefCell<Gate>>,
}

impl Bench {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let world = SimWorld::new(1);
        let core = world.core("test");
        let gate = Rc::new(RefCell::new(Gate::default()));
        GATE.with(|shared| *shared.borrow_mut() = Rc::clone(&gate));
        let registry = Registry::new();
        let endpoint = Mesh::new(1, 64).pop().expect("one core");
        let control = endpoint.control_sender();
        let listener = core.network.listen(portal()).expect("nobody else listens");
        let portals = vec![Portal { listener, portal_group_tag: 1 }];
        let target = TargetCore::new(&core, settings, registry.clone(), endpoint, portals);
        let mut bench = Self { world, core, registry, target, control, gate };
        bench.add_volume();
        bench.set_target();
        bench
    }

    fn add_volume(&mut self) {
        let geometry =
            Geometry::new(uuid::Uuid::from_u128(1), BLOCK as u32, 4 << 20).expect("a valid geometry");
        let setup = VolumeSetup {
            name: VOLUME.into(),
            serial: "1".into(),
            channel: Box::new(move |_| {
                let gate = GATE.with(|gate| Rc::clone(&gate.borrow()));
                Ok(Box::new(Gated { gate, inner: MemoryDevice::new(geometry) }))
            }),
            metadata: Box::new(|_| Ok(Box::<MemoryStore>::default())),
            reservations: Vec::new(),
        };
        self.registry.add(&self.core, setup).map(drop).expect("it opens");
    }

    fn set_target(&mut self) {
        let setup = Box::new(TargetSetup {
            name: TARGET.into(),
            alias: None,
            portal_group_tag: 1,
            luns: BTreeMap::from([(0, VOLUME.to_owned())]),
            auth: Auth::None,
            allow: AllowList::default(),
            header_digest: DigestPolicy::default(),
            data_digest: DigestPolicy::default(),
        });
        let set = self.ask(|answer| CoreMessage::SetTarget { setup, answer });
        set.expect("the target is set");
        let allow = AllowList::default();
        let entry = DirectoryEntry { core: 0, portal_group_tag: 1, advertised: Vec::new(), allow };
        let directory = Arc::new(Directory::from([(TARGET.to_owned(), entry)]));
        assert!(self.control.send(CoreMessage::SetDirectory(directory)).is_ok());
    }

    fn ask<T: Send + 'static>(&mut self, message: impl FnOnce(Answer<T>) -> CoreMessage) -> T {
        let (told, answer) = mpsc::channel();
        assert!(self.control.send(message(Box::new(move |value| drop(told.send(value))))).is_ok());
        self.turns();
        answer.try_recv().expect("the core has answered")
    }

    fn turn(&mut self) -> Progress {
        let progress = self.registry.poll();
        progress.or(self.target.poll(self.world.now(), 32))
    }

    /// Turns until nothing moves.
    fn turns(&mut self) {
        for _ in 0..10_000 {
            if self.turn() == Progress::Idle && self.target.may_sleep() {
                return;
            }
        }
        panic!("the core never comes to rest");
    }

    fn close_gate(&self) {
        self.gate.borrow_mut().closed = true;
    }

    fn open_gate(&mut self) {
        self.gate.borrow_mut().closed = false;
        self.turns();
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        self.world.advance(time);
        self.turns();
    }

    /// A session of initiator `number`, logged in and through with its first unit attention.
    fn client(&mut self, number: u8) -> Client {
        let mut client = Client::connect(&self.world, number);
        client.login(self);
        client.command(self, &[0; 6], Data::None);
        let answer = client.answer(self);
        assert_eq!((answer[0], answer[3]), (0x21, 2), "it hears of the power-on");
        client
    }
}

fn portal() -> std::net::SocketAddr {
    std::net::SocketAddr::from(([127, 0, 0, 1], 3260))
}

/// The data of a command.
enum Data<'a> {
    None,
    In(usize),
    Out(&'a [u8]),
    /// Announced, to be sent when it is asked for.
    Announced(usize),
}

/// One connection of an initiator.
struct Client {
    end: SimEnd,
    number: u8,
    received: Vec<u8>,
    cmd_sn: u32,
    itt: u32,
}

impl Client {
    fn connect(world: &SimWorld, number: u8) -> Self {
        let end = world.connect(portal()).expect("somebody listens");
        Self { end, number, received: Vec::new(), cmd_sn: 1, itt: 1 }
    }

    fn send(&self, header: &[u8; 48], data: &[u8]) {
        let mut bytes = header.to_vec();
        bytes[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        assert_eq!(self.end.send_now(&bytes), bytes.len(), "the window takes it");
    }

    /// What it says of itself, and how it means to work.
    fn keys(&self) -> String {
        format!(
            "InitiatorName=iqn.2026-01.io.vega:i{}\0TargetName={TARGET}\0SessionType=Normal\0InitialR2T=No\0\
             ImmediateData=Yes\0MaxRecvDataSegmentLength=65536\0ErrorRecoveryLevel=0\0",
            self.number
        )
    }

    fn send_login(&self) {
        self.send_login_with(&self.keys());
    }

    /// A login from the operational stage straight to the full feature phase.
    fn send_login_with(&self, keys: &str) {
        self.send_login_to(0, 0, keys);
    }

    fn send_login_to(&self, tsih: u16, cid: u16, keys: &str) {
        let mut header = [0; 48];
        header[..2].copy_from_slice(&[0x43, 0x87]);
        header[8..14].copy_from_slice(&[0x80, 0, 0, 0, 0, self.number]);
        header[14..16].copy_from_slice(&tsih.to_be_bytes());
        header[20..22].copy_from_slice(&cid.to_be_bytes());
        header[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        self.send(&header, keys.as_bytes());
    }

    /// Another connection that has asked to join this one's session.
    fn join(&self, bench: &Bench, tsih: u16, cid: u16) -> Self {
        let joining = Self { cmd_sn: self.cmd_sn, ..Self::connect(&bench.world, self.number) };
        let keys = format!(
            "InitiatorName=iqn.2026-01.io.vega:i{}\0TargetName={TARGET}\0SessionType=Normal\0\
             MaxRecvDataSegmentLength=65536\0",
            self.number
        );
        joining.send_login_to(tsih, cid, &keys);
        joining
    }

    fn login(&mut self, bench: &mut Bench) {
        self.send_login();
        let answer = self.answer(bench);
        assert_eq!((answer[0], answer[1], answer[36]), (0x23, 0x87, 0), "the login succeeds");
    }

    /// Sends a command and gives back its tag.
    fn command(&mut self, bench: &mut Bench, cdb: &[u8], data: Data<'_>) -> u32 {
        let itt = self.send_command(cdb, data);
        bench.turns();
        itt
    }

    fn send_command(&mut self, cdb: &[u8], data: Data<'_>) -> u32 {
        let (flags, length, payload) = match data {
            Data::None => (0x80, 0, &[][..]),
            Data::In(length) => (0xc0, length, &[][..]),
            Data::Out(payload) => (0xa0, payload.len(), payload),
            Data::Announced(length) => (0xa0, length, &[][..]),
        };
        let mut header = [0; 48];
        header[..2].copy_from_slice(&[0x01, flags | 1]);
        header[16..20].copy_from_slice(&self.itt.to_be_bytes());
        header[20..24].copy_from_slice(&(length as u32).to_be_bytes());
        header[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        header[32..32 + cdb.len()].copy_from_slice(cdb);
        self.send(&header, payload);
        self.cmd_sn += 1;
        self.itt += 1;
        self.itt - 1
    }

    /// An immediate task management request.
    fn manage(&mut self, bench: &mut Bench, function: u8) {
        let mut header = [0; 48];
        header[..2].copy_from_slice(&[0x42, 0x80 | function]);
        header[16..20].copy_from_slice(&self.itt.to_be_bytes());
        header[20..24].fill(0xff);
        header[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        self.itt += 1;
        self.send(&header, &[]);
        bench.turns();
    }

    /// The next PDU, if a whole one has come: header and data.
    fn next(&mut self) -> Option<([u8; 48], Vec<u8>)> {
        self.received.extend(self.end.recv_now());
        let header = *self.received.first_chunk::<48>()?;
        let length = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
        let total = 48 + length.next_multiple_of(4);
        if self.received.len() < total {
            return None;
        }
        let rest = self.received.split_off(total);
        let pdu = std::mem::replace(&mut self.received, rest);
        Some((header, pdu[48..48 + length].to_vec()))
    }

    /// The header of the next PDU, which must come.
    fn answer(&mut self, bench: &mut Bench) -> [u8; 48] {
        bench.turns();
        self.next().expect("an answer has come").0
    }

    /// Runs a command to its SCSI status.
    fn run(&mut self, bench: &mut Bench, cdb: &[u8], data: Data<'_>) -> u8 {
        self.command(bench, cdb, data);
        let answer = self.answer(bench);
        assert_eq!(answer[0], 0x21);
        answer[3]
    }

    /// PERSISTENT RESERVE OUT.
    fn reserve_out(&mut self, bench: &mut Bench, action: u8, kind: u8, key: u64, new_key: u64) -> u32 {
        let list = [key.to_be_bytes(), new_key.to_be_bytes(), [0; 8]].concat();
        self.command(bench, &[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], Data::Out(&list))
    }

    fn register(&mut self, bench: &mut Bench, key: u64) {
        self.reserve_out(bench, 6, 0, 0, key);
        let answer = self.answer(bench);
        assert_eq!((answer[0], answer[3]), (0x21, 0), "it registers");
    }
}

fn write_10(lba: u32, blocks: u16) -> [u8; 10] {
    let ([a, b, c, d], [e, f]) = (lba.to_be_bytes(), blocks.to_be_bytes());
    [0x2a, 0, a, b, c, d, 0, e, f, 0]
}

fn read_10(lba: u32, blocks: u16) -> [u8; 10] {
    let mut cdb = write_10(lba, blocks);
    cdb[0] = 0x28;
    cdb
}
