//! Requests that are several commands, before the target of this project in a simulated network.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bench::driver::{Answer, Driver, Failure, Kind, Maintenance, Payload, Request};
use bench::nvme::{NvmeDriver, NvmeTarget, Pieces};
use bench::{Plan, Target};
use nvmf_target::message::{CoreMessage, Directory, DirectoryEntry};
use nvmf_target::setup::{AllowList, NamespaceSetup, Settings, SubsystemSetup};
use nvmf_target::{NvmfCore, Portal};
use reactor::core::Core;
use reactor::mesh::Mesh;
use reactor::poller::Poller;
use reactor::sim::{NetFaults, SimWorld};
use volume::geometry::Geometry;
use volume::memory::MemoryDevice;
use volume::metadata::MemoryStore;
use volume::shared::{Registry, VolumeSetup};

const NQN: &str = "nqn.2026-11.io.vega:cut";
const ADDRESS: &str = "10.0.0.1:4420";
const BLOCK_BYTES: u32 = 512;
const BLOCKS: u64 = 4096;
const DEPTH: u32 = 4;
const REQUEST_BYTES: usize = 40 << 10;
const COMMAND_BYTES: u64 = 4096;

fn target(core: &Core) -> NvmfCore {
    let registry = Registry::new();
    let volume = VolumeSetup {
        name: "memory".into(),
        serial: "1".into(),
        channel: Box::new(|_| {
            let bytes = BLOCKS * u64::from(BLOCK_BYTES);
            let geometry = Geometry::new(uuid::Uuid::from_u128(1), BLOCK_BYTES, bytes).expect("a geometry");
            Ok(Box::new(MemoryDevice::new(geometry)))
        }),
        metadata: Box::new(|_| Ok(Box::<MemoryStore>::default())),
        reservations: Vec::new(),
    };
    registry.add(core, volume).map(drop).expect("the volume opens");
    let mut endpoint = Mesh::new(1, 64).pop().expect("one core");
    let namespaces = BTreeMap::from([(1, NamespaceSetup::new("memory"))]);
    let setup = Box::new(SubsystemSetup { namespaces, ..SubsystemSetup::new(NQN, "1") });
    let entry = DirectoryEntry { core: 0, allow: AllowList::default(), listeners: Vec::new() };
    let subsystems = BTreeMap::from([(NQN.to_owned(), entry)]);
    let answer = Box::new(|answer: Result<_, _>| assert!(answer.is_ok(), "the subsystem is set"));
    for message in [
        CoreMessage::SetSubsystem { setup, answer },
        CoreMessage::SetDirectory(Arc::new(Directory { generation: 1, subsystems })),
    ] {
        assert!(endpoint.send(0, message).is_ok(), "the mailbox is empty");
    }
    let listener = core.network.listen(ADDRESS.parse().expect("an address")).expect("it listens");
    NvmfCore::new(core, Settings::default(), endpoint, vec![Portal { listener, port_id: 1 }], registry)
}

struct Rig {
    world: SimWorld,
    driver: NvmeDriver,
    target: Option<NvmfCore>,
    answers: Vec<Answer<Pieces>>,
}

impl Rig {
    fn new(seed: u64) -> Self {
        let world = SimWorld::new(seed);
        world.set_net_faults(NetFaults { cut_permille: 100, ..NetFaults::none() });
        let target = target(&world.core("target"));
        let host = world.core("host");
        let plan = Plan {
            depth: DEPTH,
            queues: 2,
            request_bytes: REQUEST_BYTES as u32,
            ..Plan::new(Target::NvmeTcp { host: ADDRESS.into(), subsystem_nqn: NQN.into(), nsid: 1 })
        };
        let address = ADDRESS.parse().expect("an address");
        let mut target_of_it = NvmeTarget::new(&plan, address, NQN, 1, [7; 16]);
        target_of_it.command_bytes_max = COMMAND_BYTES;
        let driver = NvmeDriver::new(Rc::clone(&host.network), world.now(), target_of_it);
        Self { world, driver, target: Some(target), answers: Vec::new() }
    }

    fn turn(&mut self) {
        let now = self.world.now();
        self.driver.poll(now, &mut self.answers);
        self.driver.flush(now);
        if let Some(target) = &mut self.target {
            target.poll(now, 32);
        }
        self.world.advance(Duration::from_micros(20));
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..50_000 {
            if is_so(self) {
                return;
            }
            self.turn();
        }
        panic!("waited in vain for {what}");
    }

    /// As many requests as may be in flight, each at a place of its own.
    fn submit_all(&mut self, kind: Kind, byte: impl Fn(u32) -> u8) {
        for tag in 0..2 * DEPTH {
            let mut data = self.driver.buffer(REQUEST_BYTES).expect("memory");
            assert_eq!(data.runs().count(), REQUEST_BYTES / COMMAND_BYTES as usize);
            for (index, run) in data.runs_mut().enumerate() {
                run.fill(byte(tag).wrapping_add(index as u8));
            }
            let length_blocks = REQUEST_BYTES as u32 / BLOCK_BYTES;
            let request =
                Request { tag, kind, lba: u64::from(tag) * u64::from(length_blocks), length_blocks };
            self.driver
                .submit(self.world.now(), request, data)
                .unwrap_or_else(|_| panic!("there is room for {tag}"));
        }
    }

    fn take_all(&mut self) -> Vec<Answer<Pieces>> {
        self.until("all answers", |rig| rig.answers.len() == 2 * DEPTH as usize);
        let mut answers = std::mem::take(&mut self.answers);
        answers.sort_by_key(|answer| answer.tag);
        answers
    }
}

#[test]
fn requests_of_many_commands_keep_every_byte_in_its_place() {
    for seed in 0..8 {
        let mut rig = Rig::new(seed);
        rig.until("the association", |rig| rig.driver.geometry().is_some());
        assert_eq!(rig.driver.geometry().expect("known").command_bytes_max, COMMAND_BYTES);
        rig.submit_all(Kind::Write, |tag| tag as u8 * 20 + 1);
        assert!(rig.take_all().iter().all(|answer| answer.failure.is_none()));
        rig.submit_all(Kind::Read, |_| 0);
        let answers = rig.take_all();
        for (tag, answer) in answers.iter().enumerate() {
            assert_eq!((answer.tag as usize, answer.failure), (tag, None));
            for (index, run) in answer.data.runs().enumerate() {
                assert!(run.iter().all(|byte| *byte == (tag * 20 + 1 + index) as u8), "{tag}, {index}");
            }
        }
        let now = rig.world.now();
        assert!(rig.driver.submit_deallocate(now, 0, 0, 8) && rig.driver.submit_flush(now, 1));
        rig.until("both", |rig| rig.answers.len() == 2);
        assert!(rig.answers.iter().all(|answer| answer.failure.is_none() && answer.data.length_bytes() == 0));
    }
}

#[test]
fn a_connection_that_ends_answers_every_request_once() {
    let mut rig = Rig::new(99);
    rig.until("the association", |rig| rig.driver.geometry().is_some());
    rig.submit_all(Kind::Read, |_| 0);
    // Its streams are gone; commands are in flight, and others have not been sent.
    rig.target = None;
    let answers = rig.take_all();
    assert!(answers.iter().all(|answer| answer.failure == Some(Failure::Lost)));
    assert!(answers.iter().enumerate().all(|(tag, answer)| answer.tag as usize == tag));
    assert!(rig.driver.take_end().is_some());
}
