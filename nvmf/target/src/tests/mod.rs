//! The whole target in a simulated network, against the host's end of the transport.

mod admin;
mod association;
mod blocks;
mod changes;
mod fencing;
mod hostile;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use nvme_spec::fabrics::{
    CATTR_DISABLE_SQ_FLOW_CONTROL, Connect, ConnectData, ConnectResult, PropertyGet, PropertySet, nqn_field,
};
use nvme_spec::register::{CC, CSTS};
use nvme_spec::{Cqe, Sqe, Status};
use nvmf_proto::{Completion, HostConfig, HostData, HostEvent, HostQueue, Payload};
use reactor::buffer::Sgl;
use reactor::mesh::{ControlSender, Mesh};
use reactor::poller::Poller;
use reactor::sim::{NetFaults, SimEnd, SimWorld};
use volume::bdev::{BdevInfo, Done, Extent, Io, IoChannel, IoStatus};
use volume::geometry::Geometry;
use volume::memory::MemoryDevice;
use volume::metadata::MemoryStore;
use volume::shared::{Registry, VolumeSetup};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use crate::message::{CoreMessage, Directory, DirectoryEntry, ListenerAddress};
use crate::setup::{AllowList, NamespaceSetup, Settings, SubsystemSetup};
use crate::{NvmfCore, Portal, TargetError};

const NQN: &str = "nqn.2024-01.io.vega:s";
const ADDRESS: &str = "10.0.0.1:4420";
const BLOCK: usize = 512;
/// Turns after which an answer is overdue.
const TURNS_MAX: usize = 20_000;

/// Bytes of a host.
#[derive(Debug, Default)]
struct Bytes(Vec<u8>);

impl Payload for Bytes {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn chunk(&self, offset_bytes: usize) -> &[u8] {
        &self.0[offset_bytes..]
    }

    fn chunk_mut(&mut self, offset_bytes: usize) -> &mut [u8] {
        &mut self.0[offset_bytes..]
    }
}

/// What a test decides about a device.
#[derive(Default)]
struct Desk {
    /// I/O is kept until it is released.
    hold: Cell<bool>,
    held: RefCell<VecDeque<Io>>,
    release: Cell<usize>,
    /// Every I/O fails so.
    fail: Cell<Option<IoStatus>>,
}

impl Desk {
    fn held(&self) -> usize {
        self.held.borrow().len()
    }

    fn release_all(&self) {
        self.hold.set(false);
        self.release.set(usize::MAX);
    }
}

/// A memory device behind a desk.
struct DeskDevice {
    inner: MemoryDevice,
    desk: Rc<Desk>,
}

impl IoChannel for DeskDevice {
    fn info(&self) -> BdevInfo {
        BdevInfo { volatile_write_cache: true, ..self.inner.info() }
    }

    fn submit(&mut self, io: Io) -> Option<Done> {
        if let Some(status) = self.desk.fail.get() {
            return Some(Done { tag: io.tag, status, sgl: io.sgl });
        }
        if self.desk.hold.get() {
            self.desk.held.borrow_mut().push_back(io);
            return None;
        }
        self.inner.submit(io)
    }

    fn poll(&mut self, out: &mut Vec<Done>, budget: usize) {
        while self.desk.release.get() > 0 {
            let Some(io) = self.desk.held.borrow_mut().pop_front() else { break };
            self.desk.release.set(self.desk.release.get() - 1);
            out.extend(self.inner.submit(io));
        }
        self.inner.poll(out, budget);
    }

    fn show(&mut self, extent: Extent) -> Option<Sgl> {
        let is_quiet = self.desk.fail.get().is_none() && !self.desk.hold.get() && self.desk.held() == 0;
        if is_quiet { self.inner.show(extent) } else { None }
    }

    fn crc32c(&self, extent: Extent) -> Option<u32> {
        self.inner.crc32c(extent)
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight() + self.desk.held()
    }

    fn answers_compare(&self) -> bool {
        self.inner.answers_compare()
    }

    fn grow(&mut self, length_blocks: u64) -> bool {
        self.inner.grow(length_blocks)
    }
}

/// One or more cores of a target, with volumes `v0`, `v1`, … on each.
struct World {
    sim: SimWorld,
    cores: RefCell<Vec<NvmfCore>>,
    registries: Vec<Registry>,
    controls: Vec<ControlSender<CoreMessage>>,
    desks: Vec<BTreeMap<String, Rc<Desk>>>,
    address: SocketAddr,
}

/// A host by name.
#[derive(Clone)]
struct HostName {
    nqn: String,
    id: [u8; 16],
}

fn host(number: u8) -> HostName {
    HostName { nqn: format!("nqn.2024-01.io.vega:h{number}"), id: [number; 16] }
}

impl World {
    fn new(seed: u64) -> Self {
        Self::with(seed, 1, Settings::default())
    }

    fn with(seed: u64, cores: usize, settings: Settings) -> Self {
        let sim = SimWorld::new(seed);
        let address: SocketAddr = ADDRESS.parse().unwrap();
        let mut world = Self {
            sim: sim.clone(),
            cores: RefCell::default(),
            registries: Vec::new(),
            controls: Vec::new(),
            desks: Vec::new(),
            address,
        };
        for (index, endpoint) in Mesh::new(cores, 64).into_iter().enumerate() {
            let core = sim.core("nvmf");
            let registry = Registry::new();
            world.desks.push(BTreeMap::new());
            for name in ["v0", "v1"] {
                let desk = Rc::new(Desk::default());
                world.desks[index].insert(name.into(), desk.clone());
                registry.add(&core, volume(name, index, desk)).expect("it opens");
            }
            let mut portals = Vec::new();
            if index == 0 {
                let listener = core.network.listen(address).expect("a free address");
                portals.push(Portal { listener, port_id: 1 });
            }
            world.controls.push(endpoint.control_sender());
            let core = NvmfCore::new(&core, settings.clone(), endpoint, portals, registry.clone());
            world.cores.borrow_mut().push(core);
            world.registries.push(registry);
        }
        world
    }

    /// With one subsystem on core 0: namespace 1 is `v0`.
    fn served(seed: u64) -> Self {
        let world = Self::new(seed);
        world.set(world.subsystem()).unwrap();
        world
    }

    fn subsystem(&self) -> SubsystemSetup {
        let mut setup = SubsystemSetup::new(NQN, "SN1");
        setup.namespaces.insert(1, NamespaceSetup::new("v0"));
        setup
    }

    fn desk(&self, name: &str) -> &Desk {
        &self.desks[0][name]
    }

    fn turn(&self) {
        for registry in &self.registries {
            registry.poll();
        }
        for core in self.cores.borrow_mut().iter_mut() {
            core.poll(self.sim.now(), 32);
        }
    }

    fn turns(&self, count: usize) {
        for _ in 0..count {
            self.turn();
        }
    }

    fn ask<T: Send + 'static>(
        &self,
        core: usize,
        message: impl FnOnce(crate::message::Answer<T>) -> CoreMessage,
    ) -> T {
        let answer = self.begin(core, message);
        for _ in 0..TURNS_MAX {
            self.turn();
            if let Ok(answer) = answer.try_recv() {
                return answer;
            }
        }
        panic!("no answer");
    }

    fn begin<T: Send + 'static>(
        &self,
        core: usize,
        message: impl FnOnce(crate::message::Answer<T>) -> CoreMessage,
    ) -> mpsc::Receiver<T> {
        let (told, answer) = mpsc::channel();
        let message = message(Box::new(move |value| drop(told.send(value))));
        assert!(self.controls[core].send(message).is_ok(), "the mailbox has room");
        answer
    }

    fn set(&self, setup: SubsystemSetup) -> Result<(), TargetError> {
        self.set_on(0, setup)
    }

    fn set_on(&self, core: usize, setup: SubsystemSetup) -> Result<(), TargetError> {
        let entry = DirectoryEntry {
            core,
            allow: setup.allow.clone(),
            listeners: vec![ListenerAddress { address: self.address, port_id: 1 }],
        };
        let directory =
            std::sync::Arc::new(Directory { generation: 1, subsystems: [(setup.nqn.clone(), entry)].into() });
        for control in &self.controls {
            assert!(control.send(CoreMessage::SetDirectory(directory.clone())).is_ok());
        }
        self.ask(core, |answer| CoreMessage::SetSubsystem { setup: Box::new(setup), answer })
    }

    fn controllers(&self) -> Vec<crate::message::ControllerReport> {
        self.ask(0, CoreMessage::Controllers)
    }

    /// A connection without anything sent.
    fn queue(&self) -> Queue<'_> {
        self.queue_with(HostConfig::default())
    }

    fn queue_with(&self, config: HostConfig) -> Queue<'_> {
        let end = self.sim.connect(self.address).expect("somebody listens");
        Queue {
            world: self,
            end,
            queue: HostQueue::new(config),
            done: BTreeMap::new(),
            unsent: Vec::new(),
            cntlid: 0,
        }
    }

    /// A controller that is enabled.
    fn admin(&self, host: &HostName) -> Queue<'_> {
        self.admin_with(host, 0)
    }

    fn admin_with(&self, host: &HostName, kato_ms: u32) -> Queue<'_> {
        let mut queue = self.queue();
        let connect = Connect { kato_ms: U32::new(kato_ms), ..connect_command(0, 32) };
        let cqe = queue.connect_with(&connect, &connect_data(host, 0xffff));
        assert_eq!(cqe.status(), Status::SUCCESS);
        queue.cntlid = ConnectResult::of(&cqe).cntlid;
        queue.enable();
        queue
    }

    fn io(&self, host: &HostName, admin: &Queue<'_>, qid: u16) -> Queue<'_> {
        self.io_with(host, admin, qid, HostConfig { in_capsule_bytes: 8192, ..HostConfig::default() })
    }

    fn io_with(&self, host: &HostName, admin: &Queue<'_>, qid: u16, config: HostConfig) -> Queue<'_> {
        let mut queue = self.queue_with(config);
        let cqe = queue.connect_with(&connect_command(qid, 128), &connect_data(host, admin.cntlid));
        assert_eq!(cqe.status(), Status::SUCCESS);
        queue.cntlid = admin.cntlid;
        queue
    }
}

fn volume(name: &str, core: usize, desk: Rc<Desk>) -> VolumeSetup {
    let number = u128::from(name.as_bytes()[1]) << 8 | core as u128;
    let geometry =
        Geometry::new(uuid::Uuid::from_u128(number), BLOCK as u32, 4 << 20).expect("a valid geometry");
    VolumeSetup {
        name: name.into(),
        serial: name.into(),
        channel: open(geometry, desk),
        metadata: Box::new(|_| Ok(Box::<MemoryStore>::default())),
        reservations: Vec::new(),
    }
}

/// The closure is made on the thread that runs it, so the desk never travels.
fn open(geometry: Geometry, desk: Rc<Desk>) -> volume::shared::OpenChannel {
    thread_local! { static DESKS: RefCell<Vec<Rc<Desk>>> = const { RefCell::new(Vec::new()) }; }
    let at = DESKS.with_borrow_mut(|desks| {
        desks.push(desk);
        desks.len() - 1
    });
    Box::new(move |_| {
        let desk = DESKS.with_borrow(|desks| desks[at].clone());
        Ok(Box::new(DeskDevice { inner: MemoryDevice::new(geometry), desk }))
    })
}

fn connect_command(qid: u16, entries: u16) -> Connect {
    Connect {
        qid: U16::new(qid),
        sqsize: U16::new(entries - 1),
        cattr: CATTR_DISABLE_SQ_FLOW_CONTROL,
        ..Connect::command()
    }
}

fn connect_data(host: &HostName, cntlid: u16) -> ConnectData {
    ConnectData {
        hostid: host.id,
        cntlid: U16::new(cntlid),
        subnqn: nqn_field(NQN).unwrap(),
        hostnqn: nqn_field(&host.nqn).unwrap(),
        ..ConnectData::default()
    }
}

/// A host's queue pair.
struct Queue<'w> {
    world: &'w World,
    end: SimEnd,
    queue: HostQueue<Bytes>,
    done: BTreeMap<u16, Completion<Bytes>>,
    unsent: Vec<u8>,
    cntlid: u16,
}

impl Queue<'_> {
    fn connect_with(&mut self, connect: &Connect, data: &ConnectData) -> Cqe {
        while self.queue.negotiated().is_none() {
            self.pump();
            assert!(!self.end.is_closed(), "the target closed");
        }
        self.exec(*connect.as_sqe(), HostData::Write(Bytes(data.as_bytes().to_vec()))).cqe
    }

    fn enable(&mut self) {
        assert_eq!(self.set_property(CC, 1 | 6 << 16 | 4 << 20), Status::SUCCESS);
        assert_eq!(self.property(CSTS), Ok(1));
    }

    fn property(&mut self, offset: u32) -> Result<u64, Status> {
        let get = PropertyGet { offset: U32::new(offset), ..PropertyGet::command() };
        let cqe = self.exec(*get.as_sqe(), HostData::None).cqe;
        if cqe.status().is_success() { Ok(cqe.result64()) } else { Err(cqe.status()) }
    }

    fn set_property(&mut self, offset: u32, value: u64) -> Status {
        let set = PropertySet { offset: U32::new(offset), value: U64::new(value), ..PropertySet::command() };
        self.exec(*set.as_sqe(), HostData::None).cqe.status()
    }

    /// One exchange of bytes in each direction, and a turn of the target.
    fn pump(&mut self) {
        let mut vectors = [std::io::IoSlice::new(&[]); 64];
        let count = self.queue.tx_chunks(&mut vectors);
        let bytes: Vec<u8> = vectors[..count].iter().flat_map(|vector| vector.to_vec()).collect();
        self.queue.tx_advance(bytes.len());
        self.unsent.extend(bytes);
        let sent = self.end.send_now(&self.unsent);
        self.unsent.drain(..sent);
        self.world.turn();
        let received = self.end.recv_now();
        self.queue.handle_bytes(&received).expect("the target keeps to the protocol");
        while let Some(event) = self.queue.next_event() {
            match event {
                HostEvent::Initialized(_) | HostEvent::Close(_) => {}
                HostEvent::Completed(completion) => {
                    let before = self.done.insert(completion.cid, completion);
                    assert!(before.is_none(), "one completion for each command");
                }
            }
        }
    }

    fn submit(&mut self, sqe: Sqe, data: HostData<Bytes>) -> u16 {
        self.queue.submit(sqe, data).expect("the queue has room")
    }

    fn wait(&mut self, cid: u16) -> Completion<Bytes> {
        for _ in 0..TURNS_MAX {
            if let Some(completion) = self.done.remove(&cid) {
                return completion;
            }
            assert!(!self.end.is_closed(), "the target closed");
            self.pump();
        }
        panic!("no completion");
    }

    /// Completed, without waiting for longer than a few turns.
    fn is_done(&mut self, cid: u16) -> bool {
        for _ in 0..50 {
            self.pump();
        }
        self.done.contains_key(&cid)
    }

    fn exec(&mut self, sqe: Sqe, data: HostData<Bytes>) -> Completion<Bytes> {
        let cid = self.submit(sqe, data);
        self.wait(cid)
    }

    fn status(&mut self, sqe: Sqe) -> Status {
        self.exec(sqe, HostData::None).cqe.status()
    }

    /// True when the target closes the connection within a while.
    fn is_closed_soon(&mut self) -> bool {
        for _ in 0..TURNS_MAX {
            if self.end.is_closed() {
                return true;
            }
            self.pump();
        }
        false
    }
}

fn none() -> HostData<Bytes> {
    HostData::None
}

fn write(bytes: &[u8]) -> HostData<Bytes> {
    HostData::Write(Bytes(bytes.to_vec()))
}

fn read(length: usize) -> HostData<Bytes> {
    HostData::Read(Bytes(vec![0xee; length]))
}

fn quiet_network() -> NetFaults {
    NetFaults::none()
}

fn second() -> Duration {
    Duration::from_secs(1)
}

fn allow(hosts: &[&HostName]) -> AllowList {
    AllowList(hosts.iter().map(|host| host.nqn.clone()).collect())
}
