//! One host, two paths to one target, and a network that holds back what was sent and delivers it late: what was
//! acknowledged on the new path is never overwritten by what the old one still carried (the multipath retry race).
//!
//! Host and target are the code that ships. Between them, on each path, is a relay that can freeze, in one direction or
//! in both, and go on much later; it can also break. Every block has one write in flight at most, each with a new number,
//! so after an acknowledgement the block holds that number until the next write is sent, whatever comes late.

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nvmf_host::{Host, HostIdentity, Namespace, RemoteConfig};
use nvmf_target::message::{CoreMessage, Directory, DirectoryEntry, ListenerAddress};
use nvmf_target::setup::{AllowList, NamespaceSetup, Settings, SubsystemSetup};
use nvmf_target::{NvmfCore, Portal};
use reactor::core::Core;
use reactor::mesh::Mesh;
use reactor::net::{Listener, Network, Stream, StreamError, StreamGroup};
use reactor::poller::Poller;
use reactor::sim::{NetFaults, SimEnd, SimRandom, SimWorld};
use volume::bdev::{Done, Extent, Io, IoChannel, IoStatus, Op};
use volume::geometry::Geometry;
use volume::memory::MemoryDevice;
use volume::metadata::MemoryStore;
use volume::shared::{Registry, VolumeSetup};

const NQN: &str = "nqn.2026-11.io.vega:paths";
const BLOCK_BYTES: usize = 4096;
/// Groups of blocks, each written as one.
const GROUPS: u64 = 8;
/// Blocks from one group to the next.
const GROUP_BLOCKS: u64 = 8;
const STEP: Duration = Duration::from_millis(5);
/// Storms that must hold.
const SEEDS: u64 = 4;
/// Storms in which a bug on purpose must show.
const SEEDS_FOR_A_BUG: u64 = 16;
/// Time with faults.
const STORM: Duration = Duration::from_secs(60);
/// Turns after which everything that was held back has long arrived.
const SETTLE_TURNS: u32 = 1_000;

fn target_address(path: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 4420 + path as u16))
}

fn relay_address(path: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 9, 1], 4420 + path as u16))
}

/// One relayed connection.
struct Link {
    host: Box<dyn Stream>,
    target: SimEnd,
    to_target: Vec<u8>,
    to_host: Vec<u8>,
    /// Bytes from the host so far.
    passed_bytes: usize,
    host_ended: bool,
}

/// A path: what arrives at the relay's address goes on to the target's.
struct Relay {
    world: SimWorld,
    path: usize,
    listener: Box<dyn Listener>,
    group: Box<dyn StreamGroup>,
    links: BTreeMap<u32, Link>,
    next_token: u32,
    scratch: Vec<u8>,
    /// Nothing goes this way for now.
    frozen_to_target: bool,
    frozen_to_host: bool,
    /// A bug on purpose: the target is told of no keep alive timeout, so it keeps what the host takes for dead.
    hides_keep_alive: bool,
}

/// Bytes of ICReq, and where the Keep Alive Timeout stands in the Connect capsule behind it.
const KATO_AT: usize = 128 + 8 + 48;

impl Relay {
    fn new(world: &SimWorld, path: usize, hides_keep_alive: bool) -> Self {
        let network = world.network();
        Self {
            world: world.clone(),
            path,
            listener: network.listen(relay_address(path)).expect("a free address"),
            group: network.group(),
            links: BTreeMap::new(),
            next_token: 0,
            scratch: vec![0; 64 << 10],
            frozen_to_target: false,
            frozen_to_host: false,
            hides_keep_alive,
        }
    }

    fn poll(&mut self) {
        while let Ok((parcel, _)) = self.listener.try_accept() {
            let token = self.next_token;
            self.next_token += 1;
            let host = self.group.adopt(parcel, token).expect("a simulated stream");
            let target = self.world.connect(target_address(self.path)).expect("the target listens");
            let (to_target, to_host) = (Vec::new(), Vec::new());
            let link = Link { host, target, to_target, to_host, passed_bytes: 0, host_ended: false };
            self.links.insert(token, link);
        }
        let mut over = Vec::new();
        for (token, link) in &mut self.links {
            link.take(self.hides_keep_alive, &mut self.scratch);
            if !self.frozen_to_target {
                let sent = link.target.send_now(&link.to_target);
                link.to_target.drain(..sent);
            }
            if !self.frozen_to_host {
                link.give();
            }
            // An end travels behind the bytes, and is held back with them.
            let host_is_gone = link.host_ended && link.to_target.is_empty() && !self.frozen_to_target;
            let target_is_gone = link.target.is_closed() && link.to_host.is_empty() && !self.frozen_to_host;
            if host_is_gone || target_is_gone {
                over.push(*token);
            }
        }
        over.into_iter().for_each(|token| self.end(token));
    }

    fn end(&mut self, token: u32) {
        self.group.remove(token);
        self.links.remove(&token);
    }

    /// Every connection breaks, for both ends, and what was on its way is lost.
    fn cut(&mut self) {
        for token in self.links.keys().copied().collect::<Vec<_>>() {
            self.links[&token].target.reset();
            self.end(token);
        }
    }
}

impl Link {
    /// Takes what either end has sent.
    fn take(&mut self, hides_keep_alive: bool, bytes: &mut [u8]) {
        loop {
            match self.host.try_recv(&mut [IoSliceMut::new(bytes)]) {
                Ok(0) | Err(StreamError::Broken(_)) => {
                    self.host_ended = true;
                    break;
                }
                Ok(count) => {
                    let front = self.passed_bytes;
                    self.passed_bytes += count;
                    self.to_target.extend_from_slice(&bytes[..count]);
                    if hides_keep_alive && front <= KATO_AT && self.passed_bytes >= KATO_AT + 4 {
                        let at = self.to_target.len() - (self.passed_bytes - KATO_AT);
                        self.to_target[at..at + 4].fill(0);
                    }
                }
                Err(StreamError::WouldBlock) => break,
            }
        }
        self.to_host.extend(self.target.recv_now());
    }

    fn give(&mut self) {
        while !self.to_host.is_empty() {
            match self.host.try_send(&[IoSlice::new(&self.to_host)]) {
                Ok(sent) => drop(self.to_host.drain(..sent)),
                Err(_) => break,
            }
        }
    }
}

/// Host, paths and target.
struct Rig {
    world: SimWorld,
    core: Core,
    host: Host,
    namespace: Namespace,
    relays: Vec<Relay>,
    target: NvmfCore,
    registry: Registry,
    answered: Vec<Done>,
}

fn volume() -> VolumeSetup {
    VolumeSetup {
        name: "v".into(),
        serial: "v".into(),
        channel: Box::new(|_| {
            let uuid = uuid::Uuid::from_u128(7);
            let geometry = Geometry::new(uuid, BLOCK_BYTES as u32, 1 << 20).expect("a valid geometry");
            Ok(Box::new(MemoryDevice::new(geometry)))
        }),
        metadata: Box::new(|_| Ok(Box::<MemoryStore>::default())),
        reservations: Vec::new(),
    }
}

fn target(world: &SimWorld, registry: &Registry) -> NvmfCore {
    let core = world.core("target");
    registry.add(&core, volume()).expect("a volume in memory opens");
    let endpoint = Mesh::new(1, 64).remove(0);
    let control = endpoint.control_sender();
    let listen = |path: usize| Portal {
        listener: core.network.listen(target_address(path)).expect("a free address"),
        port_id: path as u16 + 1,
    };
    let portals = vec![listen(0), listen(1)];
    let listeners = (0..2)
        .map(|path| ListenerAddress { address: target_address(path), port_id: path as u16 + 1 })
        .collect();
    let target = NvmfCore::new(&core, Settings::default(), endpoint, portals, registry.clone());
    let entry = DirectoryEntry { core: 0, allow: AllowList::default(), listeners };
    let directory = Directory { generation: 1, subsystems: [(NQN.to_owned(), entry)].into() };
    let mut setup = SubsystemSetup::new(NQN, "SN1");
    setup.namespaces.insert(1, NamespaceSetup::new("v"));
    for message in [
        CoreMessage::SetDirectory(Arc::new(directory)),
        CoreMessage::SetSubsystem { setup: Box::new(setup), answer: Box::new(drop) },
    ] {
        assert!(control.send(message).is_ok(), "the mailbox has room");
    }
    target
}

impl Rig {
    fn new(seed: u64, hides_keep_alive: bool) -> Self {
        let world = SimWorld::new(seed);
        world.set_auto_advance(false);
        world.set_net_faults(NetFaults { cut_permille: 50, ..NetFaults::none() });
        let registry = Registry::new();
        let target = target(&world, &registry);
        let relays = (0..2).map(|path| Relay::new(&world, path, hides_keep_alive)).collect();
        let core = world.core("host");
        let host = Host::new(&core);
        let identity = HostIdentity { nqn: "nqn.2026-11.io.vega:paths-host".into(), id: [9; 16] };
        let mut config = RemoteConfig::new(NQN, 1, identity, vec![relay_address(0), relay_address(1)]);
        config.timeouts.io = Duration::from_secs(2);
        config.timeouts.admin = Duration::from_secs(2);
        config.timeouts.connect = Duration::from_secs(2);
        config.timeouts.keep_alive = Duration::from_secs(1);
        config.timeouts.no_path = Duration::from_secs(3600);
        config.timeouts.controller_loss = Duration::from_secs(7200);
        let namespace = host.handle().open(config).expect("a good configuration");
        let mut rig = Self { world, core, host, namespace, relays, target, registry, answered: Vec::new() };
        rig.until("both paths are live", |rig| {
            rig.namespace.paths().iter().all(|path| path.access.is_some())
        });
        rig
    }

    fn turn(&mut self) {
        let now = self.world.now();
        // Several rounds at one instant: what is not held back is fast.
        for _ in 0..2 {
            self.host.poll(now, 32);
            self.relays.iter_mut().for_each(Relay::poll);
            self.registry.poll();
            self.target.poll(now, 32);
        }
        self.namespace.poll(&mut self.answered, 32);
        self.world.advance(STEP);
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..200_000 {
            if done(self) {
                return;
            }
            self.turn();
        }
        panic!("never: {what}; paths {:?}", self.namespace.paths());
    }

    /// Writes number `number` to a group of blocks.
    fn write(&mut self, group: u64, number: u64) {
        let op = Op::Write { extent: extent(group), fua: false };
        let mut sgl = self.core.buffers.alloc(length_bytes(group)).expect("memory");
        sgl.copy_in(0, &content(group, number));
        let done = self.namespace.submit(Io { tag: group, op, sgl });
        assert!(done.is_none(), "a remote namespace answers later");
    }

    /// Reads a group of blocks.
    fn read(&mut self, group: u64) {
        let sgl = self.core.buffers.alloc(length_bytes(group)).expect("memory");
        let done = self.namespace.submit(Io { tag: READ | group, op: Op::Read(extent(group)), sgl });
        assert!(done.is_none(), "a remote namespace answers later");
    }
}

/// What the host knows of every group: nothing else touches them.
struct Book {
    sent: Vec<u64>,
    acknowledged: Vec<u64>,
    reading: Vec<bool>,
}

/// Marks the tags of reads.
const READ: u64 = 1 << 32;

impl Book {
    fn new() -> Self {
        let zeros = || vec![0; GROUPS as usize];
        Self { sent: zeros(), acknowledged: zeros(), reading: vec![false; GROUPS as usize] }
    }

    fn is_idle(&self, group: u64) -> bool {
        let at = group as usize;
        self.sent[at] == self.acknowledged[at] && !self.reading[at]
    }

    fn write(&mut self, rig: &mut Rig, group: u64) {
        self.sent[group as usize] += 1;
        rig.write(group, self.sent[group as usize]);
    }

    fn read(&mut self, rig: &mut Rig, group: u64) {
        self.reading[group as usize] = true;
        rig.read(group);
    }

    /// Takes answers. While a group is read nothing writes it, so it holds what was acknowledged last.
    fn take(&mut self, rig: &mut Rig) -> Result<(), Overwritten> {
        for done in rig.answered.drain(..) {
            assert_eq!(done.status, IoStatus::Good, "I/O fails only when all paths are away for an hour");
            let group = done.tag & !READ;
            let at = group as usize;
            if done.tag & READ == 0 {
                self.acknowledged[at] = self.sent[at];
                continue;
            }
            self.reading[at] = false;
            let (bytes, acknowledged) = (done.sgl.to_vec(), self.acknowledged[at]);
            if bytes != content(group, acknowledged) {
                let found = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
                return Err(Overwritten { group, acknowledged, found });
            }
        }
        Ok(())
    }

    /// Waits until nothing is in flight.
    fn settle(&mut self, rig: &mut Rig) -> Result<(), Overwritten> {
        for _ in 0..200_000 {
            if (0..GROUPS).all(|group| self.is_idle(group)) {
                return Ok(());
            }
            rig.turn();
            self.take(rig)?;
        }
        panic!("I/O does not end; paths {:?}", rig.namespace.paths());
    }

    fn check_all(&mut self, rig: &mut Rig) -> Result<(), Overwritten> {
        (0..GROUPS).for_each(|group| self.read(rig, group));
        self.settle(rig)
    }
}

/// Half of them are so long that their data does not go in the capsule: 8 KiB, and 32 KiB. Two of a kind come one after the other,
/// because writes alternate between the paths.
fn extent(group: u64) -> Extent {
    Extent { lba: group * GROUP_BLOCKS, length_blocks: if group % 4 < 2 { 2 } else { GROUP_BLOCKS } }
}

fn length_bytes(group: u64) -> usize {
    extent(group).length_blocks as usize * BLOCK_BYTES
}

fn content(group: u64, number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(length_bytes(group) / 8)
}

/// What a group held that it may not hold.
#[derive(Debug, PartialEq, Eq)]
struct Overwritten {
    group: u64,
    acknowledged: u64,
    found: u64,
}

/// Writes and reads under faults; how many writes were in doubt.
fn storm(seed: u64, hides_keep_alive: bool) -> Result<u64, Overwritten> {
    let mut rig = Rig::new(seed, hides_keep_alive);
    let mut random = rig.world.fork_random();
    let mut book = Book::new();
    let begun = rig.world.now();
    while rig.world.now().since(begun) < STORM {
        for group in (0..GROUPS).filter(|group| book.is_idle(*group)).collect::<Vec<_>>() {
            match random.below(200) {
                0 => book.write(&mut rig, group),
                1..4 => book.read(&mut rig, group),
                _ => {}
            }
        }
        disturb(&mut rig, &mut random);
        rig.turn();
        book.take(&mut rig)?;
    }
    for relay in &mut rig.relays {
        (relay.frozen_to_target, relay.frozen_to_host) = (false, false);
    }
    book.settle(&mut rig)?;
    (0..SETTLE_TURNS).for_each(|_| rig.turn());
    book.check_all(&mut rig)?;
    Ok(rig.namespace.counters().fenced)
}

/// Freezes, thaws and cuts the paths; one of them stays usable most of the time.
fn disturb(rig: &mut Rig, random: &mut SimRandom) {
    for relay in &mut rig.relays {
        match random.below(4000) {
            0..4 => relay.frozen_to_target = true,
            4 => relay.frozen_to_host = true,
            5..8 => (relay.frozen_to_target, relay.frozen_to_host) = (false, false),
            8 => relay.cut(),
            _ => {}
        }
    }
}

#[test]
fn late_data_of_an_old_path_never_overwrites_what_was_acknowledged_on_the_new_one() {
    let mut fenced = 0;
    for seed in 1..=SEEDS {
        match storm(seed, false) {
            Ok(count) => fenced += count,
            Err(overwritten) => panic!("seed {seed}: {overwritten:?}"),
        }
    }
    assert!(fenced >= SEEDS, "the storms hardly ever left a write in doubt: {fenced}");
}

/// The storms can find it: a target that keeps associations beyond what the host waits for.
#[test]
fn a_target_that_outlives_its_keep_alive_is_found() {
    let found = (1..=SEEDS_FOR_A_BUG).find(|seed| storm(*seed, true).is_err());
    assert!(found.is_some(), "not found in {SEEDS_FOR_A_BUG} seeds");
}

/// Reliability list, scenario 65, step by step.
#[test]
fn a_write_that_was_retried_on_the_other_path_stays_below_the_next_one() {
    let mut rig = Rig::new(99, false);
    let mut book = Book::new();
    // Writes are on their way on both paths, and those of the first are held back; on the second they are done in the end.
    (rig.relays[0].frozen_to_target, rig.relays[0].frozen_to_host) = (true, true);
    (0..GROUPS).for_each(|group| book.write(&mut rig, group));
    assert_eq!(book.settle(&mut rig), Ok(()));
    assert!(rig.namespace.counters().fenced > 0, "some of them were on the first path");
    (0..GROUPS).for_each(|group| book.write(&mut rig, group));
    assert_eq!(book.settle(&mut rig), Ok(()));
    let held: usize = rig.relays[0].links.values().map(|link| link.to_target.len()).sum();
    assert!(held >= 2 * BLOCK_BYTES, "data of the first path is still on its way: {held} bytes");
    (rig.relays[0].frozen_to_target, rig.relays[0].frozen_to_host) = (false, false);
    (0..SETTLE_TURNS).for_each(|_| rig.turn());
    assert_eq!(book.check_all(&mut rig), Ok(()));
    assert_eq!(book.acknowledged, [2; GROUPS as usize]);
}
