//! The poller of one core: everything iSCSI that the core owns, one turn at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use reactor::core::Core;
use reactor::mesh::Endpoint;
use reactor::net::{Listener, Ready, StreamGroup};
use reactor::poller::{Poller, Progress};
use reactor::time::Time;
use volume::bdev::Done;
use volume::shared::{Bell, Registry};

use crate::background::BackgroundRun;
use crate::guard::Guard;
use crate::limits::{
    BARRIERS_PER_CORE_MAX, CONNECTIONS_PER_CORE_MAX, SCRATCH_BYTES, SESSIONS_PER_CORE_MAX,
    TASKS_PER_CORE_MAX, VOLUMES_PER_CORE_MAX,
};
use crate::message::{CoreMessage, Directory};
use crate::setup::Settings;
use crate::slots::{Key, Slots};
use crate::state::{Barrier, Connection, Disk, Draining, SessionEntry, Target, Task};

/// How many messages are taken per turn.
const MESSAGES_PER_TURN: usize = 16;

/// A listening socket of this core.
pub struct Portal {
    /// The socket.
    pub listener: Box<dyn Listener>,
    /// Its portal group.
    pub portal_group_tag: u16,
}

/// Everything iSCSI on one core.
pub struct TargetCore {
    pub(crate) core: Core,
    pub(crate) settings: Settings,
    pub(crate) endpoint: Endpoint<CoreMessage>,
    pub(crate) portals: Vec<Portal>,
    /// Connections are taken; before, they wait in the portals' backlogs.
    pub(crate) accepting: bool,
    pub(crate) group: Box<dyn StreamGroup>,
    pub(crate) connections: Slots<Connection>,
    /// Connections that have not logged in (or are on their way out).
    pub(crate) logins: usize,
    /// The same by address.
    pub(crate) login_sources: BTreeMap<IpAddr, usize>,
    /// Wrong answers to CHAP challenges.
    pub(crate) guard: Guard,
    pub(crate) sessions: Slots<SessionEntry>,
    pub(crate) targets: Slots<Target>,
    pub(crate) target_names: BTreeMap<String, Key>,
    /// The volumes of the core, and where our ways into them announce something.
    pub(crate) registry: Registry,
    pub(crate) bell: Bell,
    pub(crate) disks: Slots<Disk>,
    pub(crate) disk_names: BTreeMap<String, Key>,
    pub(crate) tasks: Slots<Task>,
    pub(crate) barriers: Slots<Barrier>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) next_tsih: u16,
    pub(crate) next_port_id: u16,
    pub(crate) draining: Option<Draining>,
    pub(crate) drained: bool,
    /// Connections with something to send.
    pub(crate) dirty: Vec<Key>,
    /// Connections that hold received bytes back.
    pub(crate) starved: Vec<Key>,
    /// Sessions with commands that wait for memory.
    pub(crate) hungry: Vec<Key>,
    /// Sessions that may have events.
    pub(crate) eventful: Vec<Key>,
    drained_sessions: Vec<Key>,
    /// Disks with I/O in flight, or with tasks that wait for memory.
    pub(crate) busy: Vec<Key>,
    polled: Vec<Key>,
    /// Operations of logical units that run beside commands.
    pub(crate) background: Vec<BackgroundRun>,
    /// Disks whose task set may let tasks go.
    pub(crate) unblocked: Vec<Key>,
    /// Barriers that may be done.
    pub(crate) held: Vec<Key>,
    /// When connections are closed that have not logged in, or not gone.
    pub(crate) alarms: BTreeSet<(Time, Key)>,
    pub(crate) session_alarms: BTreeSet<(Time, Key)>,
    pub(crate) scratch: Vec<u8>,
    ready: Vec<Ready>,
    messages: Vec<CoreMessage>,
    done: Vec<Done>,
}

impl TargetCore {
    /// The poller of a core over the volumes of that core. Only the cores that accept connections have portals.
    pub fn new(
        core: &Core,
        settings: Settings,
        registry: Registry,
        endpoint: Endpoint<CoreMessage>,
        portals: Vec<Portal>,
    ) -> Self {
        Self {
            accepting: !settings.starts_closed,
            guard: Guard::new(settings.chap_pauses),
            settings,
            core: core.clone(),
            endpoint,
            portals,
            group: core.network.group(),
            connections: Slots::with_limit(CONNECTIONS_PER_CORE_MAX),
            logins: 0,
            login_sources: BTreeMap::new(),
            sessions: Slots::with_limit(SESSIONS_PER_CORE_MAX),
            targets: Slots::with_limit(VOLUMES_PER_CORE_MAX),
            target_names: BTreeMap::new(),
            registry,
            bell: Bell::default(),
            disks: Slots::with_limit(VOLUMES_PER_CORE_MAX),
            disk_names: BTreeMap::new(),
            tasks: Slots::with_limit(TASKS_PER_CORE_MAX),
            barriers: Slots::with_limit(BARRIERS_PER_CORE_MAX),
            directory: Arc::new(Directory::new()),
            next_tsih: 1,
            next_port_id: 1,
            draining: None,
            drained: false,
            dirty: Vec::new(),
            starved: Vec::new(),
            hungry: Vec::new(),
            eventful: Vec::new(),
            drained_sessions: Vec::new(),
            busy: Vec::new(),
            polled: Vec::new(),
            background: Vec::new(),
            unblocked: Vec::new(),
            held: Vec::new(),
            alarms: BTreeSet::new(),
            session_alarms: BTreeSet::new(),
            scratch: vec![0; SCRATCH_BYTES],
            ready: Vec::new(),
            messages: Vec::new(),
            done: Vec::new(),
        }
    }

    /// The address of each portal, with the port that the system chose where 0 was asked for.
    pub fn portals(&self) -> impl Iterator<Item = std::net::SocketAddr> + '_ {
        self.portals.iter().map(|portal| portal.listener.local())
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

    fn serve_streams(&mut self, now: Time, budget: usize) -> Progress {
        let mut ready = std::mem::take(&mut self.ready);
        self.group.take_ready(&mut ready, budget);
        let mut progress = Progress::Idle;
        for entry in ready.drain(..) {
            let Some((key, _)) = self.connections.at(entry.token) else { continue };
            if entry.send {
                self.on_send_ready(key);
                progress = Progress::Busy;
            } else if self.receive(key, now) {
                progress = Progress::Busy;
            }
        }
        self.ready = ready;
        progress
    }

    fn poll_disks(&mut self, budget: usize) -> Progress {
        let mut progress = Progress::Idle;
        // Taken out: a disk that closes while it is polled leaves the list.
        let mut polled = std::mem::take(&mut self.polled);
        std::mem::swap(&mut polled, &mut self.busy);
        for key in polled.drain(..) {
            if let Some(disk) = self.disks.get_mut(key) {
                disk.busy = false;
            }
            progress = progress.or(self.poll_disk(key, budget));
            let idle =
                self.disks.get(key).is_none_or(|disk| disk.port.in_flight() == 0 && disk.retry.is_empty());
            if idle {
                self.close_if_idle(key);
            } else {
                self.busy_disk(key);
            }
        }
        self.polled = polled;
        progress
    }

    fn poll_disk(&mut self, key: Key, budget: usize) -> Progress {
        let Some(disk) = self.disks.get_mut(key) else { return Progress::Idle };
        let mut done = std::mem::take(&mut self.done);
        disk.port.poll(&mut done, budget);
        let mut progress = busy_if(!done.is_empty());
        for one in done.drain(..) {
            self.on_io_done(key, one);
        }
        self.done = done;
        if self.disks.get(key).is_some_and(|disk| !disk.retry.is_empty()) && self.retry_tasks(key) {
            progress = Progress::Busy;
        }
        progress
    }

    /// What one step leaves for another, until nothing is left or the turn is long enough.
    fn settle(&mut self) {
        let mut eventful = std::mem::take(&mut self.drained_sessions);
        std::mem::swap(&mut eventful, &mut self.eventful);
        for session in eventful.drain(..) {
            self.drain_events(session);
        }
        self.drained_sessions = eventful;
        while let Some(disk) = self.unblocked.pop() {
            self.start_waiting(disk);
        }
        self.release_barriers();
        self.flush_dirty();
        if self.draining.is_some() {
            self.go_on_draining();
        }
    }

    /// True once the core was told to shut down.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_some() || self.drained
    }

    /// A disk has I/O in flight.
    pub(crate) fn busy_disk(&mut self, disk: Key) {
        if let Some(entry) = self.disks.get_mut(disk)
            && !entry.busy
        {
            entry.busy = true;
            self.busy.push(disk);
        }
    }

    /// A task of the disk has ended: others may go.
    pub(crate) fn unblock_disk(&mut self, key: Key) {
        let waits = self.disks.get(key).is_some_and(|disk| disk.tasks.has_waiting() || disk.leaving);
        if waits && !self.unblocked.contains(&key) {
            self.unblocked.push(key);
        }
    }

    /// A session may have events that are to be looked at at the end of the turn.
    pub(crate) fn drain_later(&mut self, session: Key) {
        if !self.eventful.contains(&session) {
            self.eventful.push(session);
        }
    }
}

impl Poller for TargetCore {
    fn name(&self) -> &'static str {
        "iscsi"
    }

    fn poll(&mut self, now: Time, budget: u32) -> Progress {
        let budget = budget as usize;
        let mut progress = self.hear_volumes().or(self.take_messages()).or(self.accept(now));
        // Those that wait for memory come before new commands.
        progress = progress.or(self.resume_starved(now)).or(self.feed_hungry());
        progress =
            progress.or(self.serve_streams(now, budget)).or(self.poll_disks(budget)).or(self.run_alarms(now));
        if !self.background.is_empty() {
            progress = progress.or(self.run_background(now));
        }
        self.settle();
        progress
    }

    fn deadline(&self) -> Time {
        let next = |set: &BTreeSet<(Time, Key)>| set.first().map_or(Time::NEVER, |(at, _)| *at);
        next(&self.alarms).min(next(&self.session_alarms)).min(self.background_deadline())
    }

    fn may_sleep(&self) -> bool {
        self.bell.is_empty()
            && self.eventful.is_empty()
            && self.unblocked.is_empty()
            && self.held.is_empty()
            && self.dirty.is_empty()
            && self.draining.is_none()
    }
}

fn busy_if(busy: bool) -> Progress {
    if busy { Progress::Busy } else { Progress::Idle }
}
