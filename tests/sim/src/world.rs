//! Nodes: the shipped target on simulated cores, with disks that outlive it.

mod machine;

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};

use iscsi_target::message::{CoreMessage, DirectoryEntry, SessionReport};
use iscsi_target::setup::{AllowList, Auth, Settings, TargetSetup};
use iscsi_target::{Portal, TargetCore};
use reactor::buffer::BufferPool;
use reactor::mesh::{ControlSender, Mesh};
use reactor::poller::Progress;
use reactor::reactor::Reactor;
use reactor::sim::SimWorld;
use reactor::time::Time;
use volume::shared::{Answer, Registry, VolumeCore, VolumeMessage};

pub use machine::Machine;
pub(crate) use machine::allocation;

use crate::Violation;
use crate::options::Options;

/// The target's name.
pub const TARGET: &str = "iqn.2024-01.org.example:sim";
/// Messages that fit a mailbox.
const MAILBOX: usize = 64;

/// The address of the portal.
pub fn portal() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 3260))
}

/// One running process.
pub struct Node {
    world: SimWorld,
    reactors: Vec<Reactor>,
    controls: Vec<ControlSender<CoreMessage>>,
    volume_controls: Vec<ControlSender<VolumeMessage>>,
    pools: Vec<BufferPool>,
    /// The core that owns the target.
    owner: usize,
    volumes: Vec<String>,
}

impl Node {
    /// Starts the target over the disks of `machine`.
    pub fn start(world: &SimWorld, options: &Options, machine: &Machine) -> Result<Self, Violation> {
        let mut reactors = Vec::new();
        let mut controls = Vec::new();
        let mut volume_controls = Vec::new();
        let mut pools = Vec::new();
        let volume_endpoints = Mesh::<VolumeMessage>::new(options.cores, MAILBOX);
        let endpoints = Mesh::<CoreMessage>::new(options.cores, MAILBOX);
        for (index, (endpoint, volume_endpoint)) in endpoints.into_iter().zip(volume_endpoints).enumerate() {
            let core = world.core(&format!("sim-{index}"));
            controls.push(endpoint.control_sender());
            volume_controls.push(volume_endpoint.control_sender());
            pools.push(core.buffers.clone());
            let mut portals = Vec::new();
            if index == 0 {
                let listener = core.network.listen(portal());
                let listener =
                    listener.map_err(|error| Violation::new("a node starts", error.to_string()))?;
                portals.push(Portal { listener, portal_group_tag: 1 });
            }
            let registry = Registry::new();
            let volume_poller = VolumeCore::new(&core, registry.clone(), volume_endpoint);
            let poller = TargetCore::new(&core, settings(options), registry, endpoint, portals);
            let stall = std::time::Duration::from_secs(1);
            reactors.push(Reactor::new(
                vec![Box::new(volume_poller), Box::new(poller)],
                core.clock.clone(),
                core.stats.clone(),
                stall,
            ));
        }
        let owner = options.cores - 1;
        let volumes = (0..options.luns).map(|lun| format!("volume-{lun}")).collect();
        let world = world.clone();
        let mut node = Self { world, reactors, controls, volume_controls, pools, owner, volumes };
        node.set_up(options, machine)?;
        Ok(node)
    }

    fn set_up(&mut self, options: &Options, machine: &Machine) -> Result<(), Violation> {
        for lun in 0..options.luns {
            let setup =
                Box::new(machine.volume(options, usize::from(lun), &self.volumes[usize::from(lun)])?);
            let answer = self.ask_volumes(self.owner, |answer| VolumeMessage::Add { setup, answer })?;
            answer.map_err(|error| Violation::new("a volume is added", error.to_string()))?;
        }
        let setup = Box::new(TargetSetup {
            name: TARGET.into(),
            alias: None,
            portal_group_tag: 1,
            luns: (0..).zip(self.volumes.clone()).collect(),
            auth: Auth::None,
            allow: AllowList::default(),
            header_digest: Default::default(),
            data_digest: Default::default(),
        });
        let answer = self.ask(self.owner, |answer| CoreMessage::SetTarget { setup, answer })?;
        answer.map_err(|error| Violation::new("a target is set", error.to_string()))?;
        let entry = DirectoryEntry {
            core: self.owner,
            portal_group_tag: 1,
            advertised: Vec::new(),
            allow: AllowList::default(),
        };
        let directory = Arc::new([(TARGET.to_owned(), entry)].into());
        for control in &self.controls {
            let sent = control.send(CoreMessage::SetDirectory(Arc::clone(&directory)));
            sent.map_err(|_| Violation::new("a mailbox has room", "at start"))?;
        }
        self.poll(false);
        Ok(())
    }

    /// Asks a core and polls until it has answered.
    fn ask<T: Send + 'static>(
        &mut self,
        core: usize,
        message: impl FnOnce(Answer<T>) -> CoreMessage,
    ) -> Result<T, Violation> {
        let (told, answer) = mpsc::channel();
        let message = message(Box::new(move |value| drop(told.send(value))));
        self.controls[core].send(message).map_err(|_| Violation::new("a mailbox has room", "control"))?;
        self.wait_for(&answer)
    }

    /// As [`Node::ask`], of the core's volumes.
    fn ask_volumes<T: Send + 'static>(
        &mut self,
        core: usize,
        message: impl FnOnce(Answer<T>) -> VolumeMessage,
    ) -> Result<T, Violation> {
        let (told, answer) = mpsc::channel();
        let message = message(Box::new(move |value| drop(told.send(value))));
        let sent = self.volume_controls[core].send(message);
        sent.map_err(|_| Violation::new("a mailbox has room", "control of volumes"))?;
        self.wait_for(&answer)
    }

    fn wait_for<T>(&mut self, answer: &mpsc::Receiver<T>) -> Result<T, Violation> {
        for _ in 0..100_000 {
            if self.poll(false) == Progress::Idle {
                self.world.advance_to_next(self.deadline());
            }
            if let Ok(value) = answer.try_recv() {
                return Ok(value);
            }
        }
        Err(Violation::new("control is answered", "a core did not answer a message"))
    }

    /// One turn of every core. Between the turns of a node that is `stopping` time may pass, although it is busy.
    pub fn poll(&mut self, stopping: bool) -> Progress {
        let mut progress = Progress::Idle;
        for reactor in &mut self.reactors {
            let now = self.world.now();
            progress = progress.or(reactor.poll_once(now));
        }
        if stopping || self.reactors.iter().all(Reactor::may_sleep) { progress } else { Progress::Busy }
    }

    /// When a core wants to be polled at the latest.
    pub fn deadline(&self) -> Time {
        self.reactors.iter().map(Reactor::deadline).min().unwrap_or(Time::NEVER)
    }

    /// Sends the order to stop to the front ends; each core answers through the receiver.
    pub fn begin_draining(&self) -> mpsc::Receiver<()> {
        let (told, drained) = mpsc::channel();
        for control in &self.controls {
            let told = told.clone();
            let message = CoreMessage::Drain(Box::new(move |()| {
                // Nobody listens any more once the node is gone.
                let _ = told.send(());
            }));
            // A full mailbox is seen as a core that never drains.
            let _ = control.send(message);
        }
        drained
    }

    /// As [`Node::begin_draining`], to the volumes below them.
    pub fn begin_draining_volumes(&self) -> mpsc::Receiver<()> {
        let (told, drained) = mpsc::channel();
        for control in &self.volume_controls {
            let told = told.clone();
            let message = VolumeMessage::Drain(Box::new(move |()| {
                // Nobody listens any more once the node is gone.
                let _ = told.send(());
            }));
            // A full mailbox is seen as a core that never drains.
            let _ = control.send(message);
        }
        drained
    }

    /// How many cores answer [`Node::begin_draining`] and [`Node::begin_draining_volumes`].
    pub fn cores(&self) -> usize {
        self.controls.len()
    }

    /// The sessions of the owner core.
    pub fn sessions(&mut self) -> Result<Vec<SessionReport>, Violation> {
        self.ask(self.owner, CoreMessage::Sessions)
    }

    /// Takes the target and its volumes apart: nothing may be left.
    pub fn dismantle(mut self) -> Result<(), Violation> {
        let sessions = self.sessions()?;
        if !sessions.is_empty() {
            return Err(Violation::new(
                "no session is left when all hosts have left",
                format!("{sessions:?}"),
            ));
        }
        let name = TARGET.to_owned();
        let removed = self.ask(self.owner, |answer| CoreMessage::RemoveTarget { name, answer })?;
        removed.map_err(|error| Violation::new("an idle target is removed", error.to_string()))?;
        for name in std::mem::take(&mut self.volumes) {
            let removed = self.ask_volumes(self.owner, |answer| VolumeMessage::Remove { name, answer })?;
            removed.map_err(|error| Violation::new("an idle volume is removed", error.to_string()))?;
        }
        for (core, pool) in self.pools.iter().enumerate() {
            if pool.in_use() > 0 {
                let detail = format!("{} buffers are not back on core {core}", pool.in_use());
                return Err(Violation::new("buffers come home", detail));
            }
        }
        Ok(())
    }
}

fn settings(options: &Options) -> Settings {
    Settings { offers: options.offers.clone(), queue_depth: options.queue_depth, ..Settings::default() }
}
