//! The poller of one core: everything NVMe/TCP that the core owns, one turn at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use nvmf_proto::TargetConfig;
use reactor::core::Core;
use reactor::mesh::Endpoint;
use reactor::net::{Listener, Ready, StreamGroup};
use reactor::poller::{Poller, Progress};
use reactor::time::Time;
use volume::bdev::Done;
use volume::shared::{Bell, Registry};

use crate::limits::{
    BARRIERS_PER_CORE_MAX, COMMANDS_PER_CORE_MAX, CONNECTIONS_PER_CORE_MAX, CONTROLLERS_PER_CORE_MAX,
    MAXH2CDATA_BYTES, MEMORY_RETRY, NAMESPACES_PER_CORE_MAX, SCRATCH_BYTES, SUBSYSTEMS_PER_CORE_MAX,
    TX_BACKLOG_BYTES,
};
use crate::message::{CoreMessage, Directory};
use crate::setup::Settings;
use crate::slots::{Key, Slots};
use crate::state::{Barrier, Connection, Controller, Draining, Namespace, Subsystem, Task};

/// How many messages are taken per turn.
const MESSAGES_PER_TURN: usize = 16;

/// A listening socket of this core.
pub struct Portal {
    /// The socket.
    pub listener: Box<dyn Listener>,
    /// The number of the NVM subsystem port behind it (PORTID).
    pub port_id: u16,
}

/// Everything NVMe/TCP on one core.
pub struct NvmfCore {
    pub(crate) core: Core,
    pub(crate) settings: Settings,
    pub(crate) config: TargetConfig,
    pub(crate) endpoint: Endpoint<CoreMessage>,
    pub(crate) portals: Vec<Portal>,
    /// Connections are taken from the portals.
    pub(crate) accepting: bool,
    pub(crate) registry: Registry,
    pub(crate) bell: Bell,
    pub(crate) group: Box<dyn StreamGroup>,
    pub(crate) connections: Slots<Connection>,
    /// Connections whose Connect was not answered (or that are on their way out).
    pub(crate) connecting: usize,
    /// Connects that wait for the end of earlier commands; their connections may be gone.
    pub(crate) waiting_connects: usize,
    /// Connections that connect, by address.
    pub(crate) connecting_sources: BTreeMap<IpAddr, usize>,
    /// Entries of all queues.
    pub(crate) queue_entries: usize,
    pub(crate) controllers: Slots<Controller>,
    pub(crate) next_discovery_cntlid: u16,
    pub(crate) subsystems: Slots<Subsystem>,
    pub(crate) subsystem_names: BTreeMap<String, Key>,
    pub(crate) namespaces: Slots<Namespace>,
    pub(crate) tasks: Slots<Task>,
    pub(crate) barriers: Slots<Barrier>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) draining: Option<Draining>,
    pub(crate) drained: bool,
    pub(crate) started: Time,
    /// Connections with something to send.
    pub(crate) dirty: Vec<Key>,
    /// Connections that hold received bytes back, or whose commands wait for memory.
    pub(crate) starved: Vec<Key>,
    /// Tasks that found no memory, oldest first.
    pub(crate) hungry: std::collections::VecDeque<Key>,
    /// When those that wait for memory are looked at next although nothing happens here.
    pub(crate) memory_alarm: Time,
    /// Namespaces with I/O in flight, or with changes that wait.
    pub(crate) busy: Vec<Key>,
    polled: Vec<Key>,
    /// Barriers that may be done.
    pub(crate) held: Vec<Key>,
    /// When connections are closed that have not connected, or not gone.
    pub(crate) alarms: BTreeSet<(Time, Key)>,
    /// Keep alive timers.
    pub(crate) controller_alarms: BTreeSet<(Time, Key)>,
    /// When silent connections are looked for next.
    pub(crate) sweep_at: Time,
    pub(crate) scratch: Vec<u8>,
    /// The time of this turn.
    pub(crate) now: Time,
    /// The last reading of the clock: the start of the next command.
    pub(crate) tick: Time,
    ready: Vec<Ready>,
    messages: Vec<CoreMessage>,
    pub(crate) done: Vec<Done>,
}

impl NvmfCore {
    /// The poller of a core. Only the cores that accept connections have portals. `registry` is the one of the
    /// volumes of this core; the poller of those stands before this one.
    pub fn new(
        core: &Core,
        settings: Settings,
        endpoint: Endpoint<CoreMessage>,
        portals: Vec<Portal>,
        registry: Registry,
    ) -> Self {
        let settings = settings.clamped();
        let config = TargetConfig {
            header_digest: settings.header_digest,
            data_digest: settings.data_digest,
            h2c_data_bytes_max: MAXH2CDATA_BYTES,
            r2t_bytes_max: MAXH2CDATA_BYTES,
            tx_backlog_bytes: TX_BACKLOG_BYTES,
            ..TargetConfig::default()
        };
        let now = core.clock.now();
        Self {
            group: core.network.group(),
            core: core.clone(),
            accepting: !settings.starts_closed,
            settings,
            config,
            endpoint,
            portals,
            registry,
            bell: Bell::default(),
            connections: Slots::with_limit(CONNECTIONS_PER_CORE_MAX),
            connecting: 0,
            waiting_connects: 0,
            connecting_sources: BTreeMap::new(),
            queue_entries: 0,
            controllers: Slots::with_limit(CONTROLLERS_PER_CORE_MAX),
            next_discovery_cntlid: 1,
            subsystems: Slots::with_limit(SUBSYSTEMS_PER_CORE_MAX),
            subsystem_names: BTreeMap::new(),
            namespaces: Slots::with_limit(NAMESPACES_PER_CORE_MAX),
            tasks: Slots::with_limit(COMMANDS_PER_CORE_MAX),
            barriers: Slots::with_limit(BARRIERS_PER_CORE_MAX),
            directory: Arc::new(Directory::default()),
            draining: None,
            drained: false,
            started: now,
            dirty: Vec::new(),
            starved: Vec::new(),
            hungry: std::collections::VecDeque::new(),
            memory_alarm: Time::NEVER,
            busy: Vec::new(),
            polled: Vec::new(),
            held: Vec::new(),
            alarms: BTreeSet::new(),
            controller_alarms: BTreeSet::new(),
            sweep_at: Time::NEVER,
            scratch: vec![0; SCRATCH_BYTES],
            now,
            tick: now,
            ready: Vec::new(),
            messages: Vec::new(),
            done: Vec::new(),
        }
    }

    /// The address of each portal with its port, with the port that the system chose where 0 was asked for.
    pub fn portals(&self) -> impl Iterator<Item = (std::net::SocketAddr, u16)> + '_ {
        self.portals.iter().map(|portal| (portal.listener.local(), portal.port_id))
    }

    fn take_messages(&mut self) -> Progress {
        let mut messages = std::mem::take(&mut self.messages);
        self.endpoint.recv(&mut messages, MESSAGES_PER_TURN);
        let progress = busy_if(!messages.is_empty());
        for message in messages.drain(..) {
            self.on_message(message);
        }
        self.messages = messages;
        progress
    }

    fn serve_streams(&mut self, budget: usize) -> Progress {
        let mut ready = std::mem::take(&mut self.ready);
        self.group.take_ready(&mut ready, budget);
        let mut progress = Progress::Idle;
        for entry in ready.drain(..) {
            let Some(key) = self.connections.at(entry.token) else { continue };
            if entry.send {
                self.on_send_ready(key);
                progress = Progress::Busy;
            } else if self.receive(key) {
                progress = Progress::Busy;
            }
        }
        self.ready = ready;
        progress
    }

    /// Completions and events of the namespaces: of those that have I/O in flight, and of those that rang.
    fn poll_namespaces(&mut self, budget: usize) -> Progress {
        let mut progress = Progress::Idle;
        let mut polled = std::mem::take(&mut self.polled);
        std::mem::swap(&mut polled, &mut self.busy);
        for key in polled.drain(..) {
            if let Some(namespace) = self.namespaces.get_mut(key) {
                namespace.busy = false;
                progress = progress.or(self.poll_namespace(key, budget));
            }
        }
        self.polled = polled;
        while let Some(token) = self.bell.take() {
            if let Some(key) = self.namespaces.at(token) {
                progress = progress.or(self.poll_namespace(key, budget)).or(Progress::Busy);
            }
        }
        progress
    }

    fn poll_namespace(&mut self, key: Key, budget: usize) -> Progress {
        let Some(namespace) = self.namespaces.get(key) else { return Progress::Idle };
        let mut done = std::mem::take(&mut self.done);
        namespace.port.poll(&mut done, budget);
        let mut progress = busy_if(!done.is_empty());
        if !done.is_empty() {
            self.tick = self.core.clock.now();
        }
        for one in done.drain(..) {
            self.on_io_done(key, one);
        }
        self.done = done;
        while let Some(event) = self.namespaces.get(key).and_then(|namespace| namespace.port.next_event()) {
            self.on_volume_event(key, event);
            progress = Progress::Busy;
        }
        self.start_changes(key);
        let Some(namespace) = self.namespaces.get(key) else { return progress };
        if namespace.port.in_flight() > 0 || !namespace.changes.is_empty() {
            self.busy_namespace(key);
        } else {
            self.forget_namespace_if_over(key);
        }
        progress
    }

    /// A namespace has I/O in flight, or something that is tried again.
    #[inline]
    pub(crate) fn busy_namespace(&mut self, key: Key) {
        if let Some(namespace) = self.namespaces.get_mut(key)
            && !namespace.busy
        {
            namespace.busy = true;
            self.busy.push(key);
        }
    }

    /// What one step leaves for another.
    fn settle(&mut self) {
        self.release_barriers();
        self.flush_dirty();
        if self.draining.is_some() {
            self.go_on_draining();
        }
    }

    /// Reservation changes wait until another port's has ended; nobody announces that.
    fn has_waiting_changes(&self) -> bool {
        self.busy.iter().any(|key| {
            self.namespaces.get(*key).is_some_and(|n| n.changing.is_none() && !n.changes.is_empty())
        })
    }

    /// True once the core was told to shut down.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_some() || self.drained
    }

    fn is_starved(&self) -> bool {
        !self.starved.is_empty() || !self.hungry.is_empty()
    }
}

impl Poller for NvmfCore {
    fn name(&self) -> &'static str {
        "nvmf"
    }

    fn poll(&mut self, now: Time, budget: u32) -> Progress {
        let budget = budget as usize;
        (self.now, self.tick) = (now, now);
        let mut progress = self.take_messages().or(self.accept());
        // Those that wait for memory come before new commands.
        if self.is_starved() {
            progress = progress.or(self.feed());
        }
        progress =
            progress.or(self.serve_streams(budget)).or(self.poll_namespaces(budget)).or(self.run_alarms());
        self.settle();
        // Memory may come back by other pollers of the core, which nobody announces here.
        self.memory_alarm = if self.is_starved() { now.after(MEMORY_RETRY) } else { Time::NEVER };
        progress
    }

    fn deadline(&self) -> Time {
        let next = |set: &BTreeSet<(Time, Key)>| set.first().map_or(Time::NEVER, |(at, _)| *at);
        next(&self.alarms).min(next(&self.controller_alarms)).min(self.memory_alarm).min(self.sweep_at)
    }

    fn may_sleep(&self) -> bool {
        self.held.is_empty()
            && self.dirty.is_empty()
            && self.draining.is_none()
            && self.bell.is_empty()
            && !self.has_waiting_changes()
    }
}

/// Busy when something was done.
pub(crate) fn busy_if(busy: bool) -> Progress {
    if busy { Progress::Busy } else { Progress::Idle }
}
