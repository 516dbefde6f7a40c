//! The host side of NVMe/TCP before the target that ships, over a simulated network: a remote namespace shows every behaviour of a
//! volume, and a compare and write is one operation also towards another host.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nvmf_host::{Compare, Digest, Host, HostIdentity, Namespace, RemoteConfig};
use nvmf_target::message::{CoreMessage, Directory, DirectoryEntry, ListenerAddress};
use nvmf_target::setup::{AllowList, NamespaceSetup, Settings, SubsystemSetup};
use nvmf_target::{NvmfCore, Portal};
use reactor::buffer::BufferPool;
use reactor::mesh::Mesh;
use reactor::poller::Poller;
use reactor::sim::{NetFaults, SimWorld};
use volume::bdev::{Comparing, Extent, Io, IoChannel, IoStatus, Op};
use volume::conformance::{self, Subject};
use volume::geometry::Geometry;
use volume::memory::MemoryDevice;
use volume::metadata::MemoryStore;
use volume::shared::{Registry, VolumeSetup};
use volume::volume::Volume;

const NQN: &str = "nqn.2026-11.io.vega:remote";
/// What every host here asks of its controllers: a heartbeat's worth.
const COMPARE_BLOCKS: u32 = 8;

fn address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 4420))
}

/// The target's core, and hosts on cores of their own.
struct Rig {
    world: SimWorld,
    registry: Registry,
    target: NvmfCore,
    hosts: Vec<Host>,
}

impl Rig {
    fn new(seed: u64, geometry: Geometry) -> Self {
        let world = SimWorld::new(seed);
        let few = NetFaults { cut_permille: 50, stall_permille: 20, stall_us_max: 200, ..NetFaults::none() };
        world.set_net_faults(few);
        let core = world.core("target");
        let registry = Registry::new();
        let setup = VolumeSetup {
            name: "v".into(),
            serial: "v".into(),
            channel: Box::new(move |_| Ok(Box::new(MemoryDevice::new(geometry)))),
            metadata: Box::new(|_| Ok(Box::<MemoryStore>::default())),
            reservations: Vec::new(),
        };
        registry.add(&core, setup).expect("a volume in memory opens");
        let endpoint = Mesh::new(1, 64).remove(0);
        let control = endpoint.control_sender();
        let listener = core.network.listen(address()).expect("a free address");
        let portals = vec![Portal { listener, port_id: 1 }];
        let target = NvmfCore::new(&core, Settings::default(), endpoint, portals, registry.clone());
        let listeners = vec![ListenerAddress { address: address(), port_id: 1 }];
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
        Self { world, registry, target, hosts: Vec::new() }
    }

    /// Another host, connected, and its buffers.
    fn host(&mut self, digest: Digest) -> (Namespace, BufferPool) {
        let number = 1 + self.hosts.len() as u8;
        let core = self.world.core(&format!("host {number}"));
        let host = Host::new(&core);
        let identity = HostIdentity { nqn: format!("nqn.2026-11.io.vega:host-{number}"), id: [number; 16] };
        let mut config = RemoteConfig::new(NQN, 1, identity, vec![address()]);
        (config.header_digest, config.data_digest) = (digest, digest);
        config.compare = Compare::Required { blocks: COMPARE_BLOCKS };
        let namespace = host.handle().open(config).expect("a good configuration");
        self.hosts.push(host);
        for _ in 0..100_000 {
            if namespace.is_known() {
                return (namespace, core.buffers);
            }
            self.turn();
        }
        panic!("never connected: {:?}", namespace.paths());
    }

    fn turn(&mut self) {
        let now = self.world.now();
        for host in &mut self.hosts {
            host.poll(now, 32);
        }
        self.registry.poll();
        self.target.poll(now, 32);
        self.world.advance(Duration::from_micros(20));
    }
}

fn conforms(block_bytes: u32, digest: Digest) {
    let mut seed = 0;
    conformance::run_with(block_bytes, &mut |geometry| {
        seed += 1;
        let mut rig = Rig::new(seed, geometry);
        let (namespace, buffers) = rig.host(digest);
        let extent = Extent { lba: 0, length_blocks: u64::from(COMPARE_BLOCKS) };
        for op in [Op::Compare(extent), Op::CompareAndWrite { extent, fua: true }] {
            assert_eq!(namespace.comparing(&op), Comparing::ChannelWithoutPlace, "{op:?}");
        }
        let volume = Volume::new(Box::new(namespace), &buffers).expect("memory for scratch");
        let rig = RefCell::new(rig);
        Subject { channel: Box::new(volume), turn: Box::new(move || rig.borrow_mut().turn()) }
    });
}

#[test]
fn a_remote_namespace_of_512_byte_blocks_conforms() {
    conforms(512, Digest::Off);
}

#[test]
fn a_remote_namespace_of_4096_byte_blocks_with_digests_conforms() {
    conforms(4096, Digest::Required);
}

/// Two hosts count in one block, each step by a compare and write of what it read last: no step is taken twice.
#[test]
fn a_compare_and_write_is_one_operation_towards_another_host() {
    const BLOCK: usize = 4096;
    let extent = Extent { lba: 3, length_blocks: 1 };
    for seed in 1..=4 {
        let geometry = Geometry::new(uuid::Uuid::from_u128(9), BLOCK as u32, 1 << 20).expect("a geometry");
        let mut rig = Rig::new(seed, geometry);
        let mut hosts: Vec<_> = (0..2)
            .map(|_| {
                let (namespace, buffers) = rig.host(Digest::Off);
                let volume = Volume::new(Box::new(namespace), &buffers).expect("memory for scratch");
                (volume, buffers)
            })
            .collect();
        // What each takes the block to be, and how many steps were its own.
        let mut states = [(0u64, 0u64); 2];
        let mut compares_failed = 0;
        for (volume, buffers) in &mut hosts {
            begin(volume, buffers, extent, 0);
        }
        let mut turns = 0;
        while states.iter().map(|state| state.1).sum::<u64>() < 200 {
            turns += 1;
            assert!(turns < 2_000_000, "seed {seed}: they get on: {states:?}");
            rig.turn();
            for (at, (volume, buffers)) in hosts.iter_mut().enumerate() {
                let mut done = Vec::new();
                volume.poll(&mut done, 8);
                for done in done {
                    match (done.tag, done.status) {
                        (1, IoStatus::Good) => states[at] = (states[at].0 + 1, states[at].1 + 1),
                        (1, IoStatus::Miscompare { .. }) => {
                            compares_failed += 1;
                            let sgl = buffers.alloc(BLOCK).expect("memory");
                            assert!(volume.submit(Io { tag: 2, op: Op::Read(extent), sgl }).is_none());
                            continue;
                        }
                        (2, IoStatus::Good) => {
                            let bytes = done.sgl.to_vec();
                            states[at].0 = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
                        }
                        other => panic!("seed {seed}: {other:?}"),
                    }
                    begin(volume, buffers, extent, states[at].0);
                }
            }
        }
        let most = states.iter().map(|state| state.0).max().expect("two hosts");
        let sum: u64 = states.iter().map(|state| state.1).sum();
        assert!(most == sum, "seed {seed}: the block counts {most}, and {sum} steps were told of");
        assert!(compares_failed > 10, "they were in each other's way: {compares_failed}");
    }
}

/// Tries to count on from `value`.
fn begin(volume: &mut Volume, buffers: &BufferPool, extent: Extent, value: u64) {
    let mut sgl = buffers.alloc(2 * 4096).expect("memory");
    sgl.fill(0, 2 * 4096, 0);
    sgl.copy_in(0, &value.to_le_bytes());
    sgl.copy_in(4096, &(value + 1).to_le_bytes());
    let done = volume.submit(Io { tag: 1, op: Op::CompareAndWrite { extent, fua: false }, sgl });
    assert!(done.is_none(), "a remote namespace answers later");
}
