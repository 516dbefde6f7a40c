//! A core of the target in a simulated network, with hosts that are led by the bytes of an input.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use reactor::buffer::SizeClass;
use reactor::mesh::{ControlSender, Mesh};
use reactor::poller::{Poller, Progress};
use reactor::sim::{NetFaults, SimWorld};
use volume::bdev::{BdevInfo, Done, Io, IoChannel};
use volume::geometry::Geometry;
use volume::memory::MemoryDevice;
use volume::memory_budget::MemoryBudget;
use volume::metadata::MemoryStore;
use volume::shared::{Registry, VolumeSetup};

use crate::message::{CoreMessage, Directory, DirectoryEntry, ListenerAddress};
use crate::setup::{AllowList, NamespaceSetup, Settings, SubsystemSetup};
use crate::{NvmfCore, Portal};

/// The subsystem; namespace 1 is its volume.
pub(super) const NQN: &str = "nqn.2024-01.io.vega:fuzz";
const VOLUME: &str = "v0";
const VOLUME_BYTES: u64 = 1 << 20;
const ADDRESS: &str = "10.0.0.1:4420";
/// Room for the longest transfer that an input can ask for beside others, and little enough that hosts wait for memory. A pool of the
/// product's size would take longer to make than most inputs to play.
const BUFFERS: [SizeClass; 3] = [
    SizeClass { bytes: 4 << 10, count: 48 },
    SizeClass { bytes: 64 << 10, count: 4 },
    SizeClass { bytes: 128 << 10, count: 1 },
];
/// Turns in a row without progress after which nothing will happen until time goes on.
const IDLE_TURNS: usize = 3;
/// Turns after which that must be so.
const SETTLE_TURNS_MAX: usize = 1000;
/// Longer than every timeout of a connection and than a keep alive timeout of the inputs.
const SETTLE_TIME: Duration = Duration::from_secs(400);

/// Keeps I/O back while it is told to.
#[derive(Clone, Default)]
pub(super) struct Gate(Rc<Cell<bool>>);

impl Gate {
    pub(super) fn set_closed(&self, closed: bool) {
        self.0.set(closed);
    }
}

struct GatedDevice {
    inner: MemoryDevice,
    gate: Gate,
    held: VecDeque<Io>,
}

impl IoChannel for GatedDevice {
    fn info(&self) -> BdevInfo {
        BdevInfo { volatile_write_cache: true, ..self.inner.info() }
    }

    fn submit(&mut self, io: Io) -> Option<Done> {
        if self.gate.0.get() {
            self.held.push_back(io);
            return None;
        }
        self.inner.submit(io)
    }

    fn poll(&mut self, out: &mut Vec<Done>, budget: usize) {
        if !self.gate.0.get() {
            let inner = &mut self.inner;
            out.extend(self.held.drain(..).filter_map(|io| inner.submit(io)));
        }
        self.inner.poll(out, budget);
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight() + self.held.len()
    }

    fn answers_compare(&self) -> bool {
        self.inner.answers_compare()
    }
}

thread_local! {
    /// The gate of the volume that is opened next: what opens it may travel, a gate may not.
    static NEXT_GATE: RefCell<Gate> = RefCell::default();
}

/// The whole target.
pub(super) struct World {
    pub(super) sim: SimWorld,
    pub(super) address: SocketAddr,
    pub(super) gate: Gate,
    core: NvmfCore,
    registry: Registry,
    control: ControlSender<CoreMessage>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let sim = SimWorld::new(seed);
        sim.set_net_faults(NetFaults { window_bytes: 64 << 10, ..NetFaults::none() });
        let address: SocketAddr = ADDRESS.parse().expect("an address");
        let core = sim.core_with_buffers("nvmf", &BUFFERS);
        let endpoint = Mesh::new(1, 64).remove(0);
        let (registry, gate) = (Registry::new(), Gate::default());
        NEXT_GATE.set(gate.clone());
        registry.add(&core, volume()).expect("a volume in memory opens");
        let listener = core.network.listen(address).expect("a free address");
        let control = endpoint.control_sender();
        let portals = vec![Portal { listener, port_id: 1 }];
        let core = NvmfCore::new(&core, Settings::default(), endpoint, portals, registry.clone());
        let mut world = Self { sim, address, gate, core, registry, control };
        world.set_up();
        world
    }

    fn set_up(&mut self) {
        let listeners = vec![ListenerAddress { address: self.address, port_id: 1 }];
        let entry = DirectoryEntry { core: 0, allow: AllowList::default(), listeners };
        let directory = Directory { generation: 1, subsystems: [(NQN.to_owned(), entry)].into() };
        self.tell(CoreMessage::SetDirectory(Arc::new(directory)));
        self.set_namespace(true);
    }

    fn tell(&mut self, message: CoreMessage) {
        assert!(self.control.send(message).is_ok(), "the mailbox has room");
        self.turns(2);
    }

    /// Attaches or detaches the namespace.
    pub(super) fn set_namespace(&mut self, attached: bool) {
        let mut setup = SubsystemSetup::new(NQN, "SN1");
        if attached {
            setup.namespaces.insert(1, NamespaceSetup::new(VOLUME));
        }
        self.tell(CoreMessage::SetSubsystem { setup: Box::new(setup), answer: Box::new(drop) });
    }

    pub(super) fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.turn();
        }
    }

    fn turn(&mut self) -> Progress {
        let volumes = self.registry.poll();
        let core = self.core.poll(self.sim.now(), 32);
        if [volumes, core].contains(&Progress::Busy) { Progress::Busy } else { Progress::Idle }
    }

    /// Turns until nothing is done any more, which must not go on for ever.
    fn settle(&mut self) {
        let mut idle_turns = 0;
        for _ in 0..SETTLE_TURNS_MAX {
            idle_turns = if self.turn() == Progress::Idle { idle_turns + 1 } else { 0 };
            if idle_turns == IDLE_TURNS {
                return;
            }
        }
        panic!("without hosts the target is busy for ever");
    }

    /// All hosts are gone. Nothing of them is left, after all timeouts.
    pub(super) fn assert_nothing_is_left(mut self) {
        self.gate.set_closed(false);
        for _ in 0..3 {
            self.settle();
            self.sim.advance(SETTLE_TIME);
        }
        self.settle();
        let core = &self.core;
        assert_eq!((core.connections.len(), core.connecting, core.queue_entries), (0, 0, 0));
        assert_eq!((core.tasks.len(), core.controllers.len(), core.barriers.len()), (0, 0, 0));
        assert!(core.core.buffers.in_use() <= 1, "the reserve of the volume");
        assert!(core.alarms.is_empty() && core.controller_alarms.is_empty());
        assert!(core.connecting_sources.is_empty());
    }
}

fn volume() -> VolumeSetup {
    VolumeSetup {
        name: VOLUME.into(),
        serial: VOLUME.into(),
        channel: Box::new(|_| {
            let geometry =
                Geometry::new(uuid::Uuid::from_u128(7), 512, VOLUME_BYTES).expect("a valid geometry");
            let gate = NEXT_GATE.with_borrow(Clone::clone);
            // Few blocks of it are written: large pages would be cleared as a whole for them.
            let inner = MemoryDevice::within(geometry, MemoryBudget::default(), true);
            Ok(Box::new(GatedDevice { inner, gate, held: VecDeque::new() }))
        }),
        metadata: Box::new(|_| Ok(Box::<MemoryStore>::default())),
        reservations: Vec::new(),
    }
}
