//! One association with a controller, from the first packet to the proof that nothing of it goes on.
//!
//! ```text
//!  new ─▶ Associating ─▶ Enabling ─▶ SettingUp ─▶ Live ─▶ Resetting ─▶ Ended(cause, quiesced at)
//!          (Connect)    (CC.EN, RDY)  (identify,    │    (CC.EN = 0, RDY = 0:
//!             │              │       queues, ANA)   │     nothing goes on any more)
//!             └──────────────┴────────────┴─────────┴────────────────────▶ Ended
//! ```
//!
//! The owner polls it, tells it which of its streams are ready, and takes events, completions and, after the end of an I/O
//! queue, the commands that got none. I/O commands go straight to a queue ([`Controller::submit_io`]).

mod admin;
mod ana;
mod ending;
mod info;
mod inquiry;
mod keep_alive;
mod startup;

use std::collections::{BTreeMap, VecDeque};

use nvme_spec::Sqe;
use nvme_spec::log::AnaState;
use nvmf_proto::host::Unfinished;
use nvmf_proto::{Completion, HostData};
use reactor::net::Ready;
use reactor::poller::Progress;
use reactor::time::Time;

use admin::{AdminCommand, Purpose};
pub use ana::AnaTable;
pub use info::{ControllerInfo, NamespaceInfo};
use inquiry::Inquiry;
use keep_alive::KeepAlive;

use crate::config::ControllerConfig;
use crate::data::Data;
use crate::error::EndCause;
use crate::limits::{ADMIN_QUEUE_ENTRIES, DEADLINE_SCAN_MS, TOKENS_PER_CONTROLLER};
use crate::queue::{ConnectRequest, QueuePair};
use crate::turn::Turn;

/// Something the owner must know.
#[derive(Debug)]
pub enum ControllerEvent {
    /// I/O commands are taken from now on (of a discovery controller: admin commands).
    Live,
    /// Namespaces came, went or changed: look at [`Controller::namespaces`] again.
    NamespacesChanged,
    /// ANA states changed.
    AnaChanged,
    /// A discovery log page changed.
    DiscoveryChanged,
    /// An admin command of the owner is done.
    AdminDone {
        /// The number that came with it.
        tag: u64,
        /// How it ended.
        completion: Completion<Data>,
    },
    /// The association is over. All streams are closed; take what is unfinished.
    Ended {
        /// Why.
        cause: EndCause,
        /// From this instant on no command of this association has any more effect.
        quiesced_at: Time,
    },
}

/// How far an association has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Associating,
    /// Waits for CSTS.RDY.
    Enabling {
        deadline: Time,
        /// When to look again; `NEVER` while an answer is awaited.
        look_at: Time,
    },
    SettingUp,
    Live,
    /// The admin queue still works: a reset proves that nothing goes on.
    Resetting {
        cause: EndCause,
        deadline: Time,
        look_at: Time,
    },
    Ended(EndCause),
}

/// One association. See the module's documentation.
pub struct Controller {
    config: ControllerConfig,
    token_base: u32,
    phase: Phase,
    admin: QueuePair,
    io: Vec<QueuePair>,
    /// What each admin command in flight is for and when it was sent, by the slot of its CID.
    purposes: Vec<Option<(Purpose, Time)>>,
    /// Admin commands that wait for room in the queue.
    waiting: VecDeque<AdminCommand>,
    inquiries: VecDeque<Inquiry>,
    inquiry_in_flight: bool,
    keep_alive: KeepAlive,
    /// CAP.MPSMIN.
    page_shift: u32,
    info: Option<ControllerInfo>,
    namespaces: BTreeMap<u32, NamespaceInfo>,
    ana: AnaTable,
    events: VecDeque<ControllerEvent>,
    scan_at: Time,
    /// An I/O queue was live at some time.
    served: bool,
}

impl Controller {
    /// Begins an association. Its streams take the tokens from `token_base` on, [`TOKENS_PER_CONTROLLER`] of them.
    ///
    /// # Panics
    /// When the configuration was not checked ([`ControllerConfig::check`]).
    pub fn new(config: ControllerConfig, token_base: u32, turn: &mut Turn<'_>) -> Self {
        config.check().expect("the owner checks what it was told");
        let admin = QueuePair::open(ConnectRequest::admin(&config), token_base, turn);
        Self {
            keep_alive: KeepAlive::new(config.timeouts.keep_alive, turn.now),
            config,
            token_base,
            phase: Phase::Associating,
            admin,
            io: Vec::new(),
            purposes: vec![None; usize::from(ADMIN_QUEUE_ENTRIES)],
            waiting: VecDeque::new(),
            inquiries: VecDeque::new(),
            inquiry_in_flight: false,
            page_shift: 0,
            info: None,
            namespaces: BTreeMap::new(),
            ana: AnaTable::default(),
            events: VecDeque::new(),
            scan_at: turn.now,
            served: false,
        }
    }

    /// I/O commands are taken.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Why it ended, once it has.
    pub fn ended(&self) -> Option<EndCause> {
        match self.phase {
            Phase::Ended(cause) => Some(cause),
            _ => None,
        }
    }

    /// What it is told.
    pub fn config(&self) -> &ControllerConfig {
        &self.config
    }

    /// What Identify said; there once live.
    pub fn info(&self) -> Option<&ControllerInfo> {
        self.info.as_ref()
    }

    /// Its usable namespaces by identifier.
    pub fn namespaces(&self) -> &BTreeMap<u32, NamespaceInfo> {
        &self.namespaces
    }

    /// The access state of a namespace on this controller; optimized where the controller reports none.
    pub fn ana_state(&self, namespace: &NamespaceInfo) -> AnaState {
        match &self.info {
            Some(info) if info.ana => self.ana.state(namespace.anagrpid),
            _ => AnaState::OPTIMIZED,
        }
    }

    /// Number of I/O queues.
    pub fn io_queues(&self) -> usize {
        self.io.len()
    }

    /// An I/O queue, to be used directly.
    pub fn io_queue(&mut self, index: usize) -> &mut QueuePair {
        &mut self.io[index]
    }

    /// I/O commands in flight on all queues.
    pub fn io_in_flight(&self) -> usize {
        self.io.iter().map(QueuePair::in_flight).sum()
    }

    /// The I/O queue with room for `commands` that has the fewest in flight.
    #[inline]
    pub fn best_queue(&self, commands: usize) -> Option<usize> {
        if self.phase != Phase::Live {
            return None;
        }
        let with_room = self.io.iter().enumerate().filter(|(_, queue)| queue.room() >= commands);
        with_room.min_by_key(|(_, queue)| queue.in_flight()).map(|(index, _)| index)
    }

    /// Takes an I/O command on queue `index`: its CID, or the data back when none is taken now.
    #[inline]
    pub fn submit_io(
        &mut self,
        index: usize,
        now: Time,
        sqe: Sqe,
        data: HostData<Data>,
    ) -> Result<u16, HostData<Data>> {
        if self.phase != Phase::Live {
            return Err(data);
        }
        self.io[index].submit(now, sqe, data)
    }

    /// The next completion of I/O queue `index`.
    #[inline]
    pub fn next_io_completion(&mut self, index: usize, turn: &mut Turn<'_>) -> Option<Completion<Data>> {
        self.io[index].next_completion(turn)
    }

    /// A command of I/O queue `index` that got no completion before the queue ended. Take them whenever an I/O queue may have
    /// ended, and after [`ControllerEvent::Ended`].
    pub fn take_unfinished(&mut self, index: usize) -> Option<Unfinished<Data>> {
        self.io[index].take_unfinished()
    }

    /// Takes an admin command of the owner, answered by [`ControllerEvent::AdminDone`], or not at all when the association
    /// ends before. False when the association is not live.
    pub fn submit_admin(&mut self, tag: u64, sqe: Sqe, data: HostData<Data>, turn: &mut Turn<'_>) -> bool {
        if self.phase != Phase::Live {
            return false;
        }
        self.send_admin(AdminCommand { purpose: Purpose::Owner(tag), sqe, data }, turn);
        true
    }

    /// The next event, until there is none.
    pub fn next_event(&mut self) -> Option<ControllerEvent> {
        self.events.pop_front()
    }

    /// One of its streams was named by the group. Then take the completions of I/O queue `index - 1`, where `index` is the token less
    /// the base; the admin queue looks after itself. True when there was anything.
    pub fn on_ready(&mut self, ready: Ready, turn: &mut Turn<'_>) -> bool {
        let index = (ready.token - self.token_base) as usize;
        let queue = match index.checked_sub(1) {
            None => &mut self.admin,
            Some(io) if io < self.io.len() => &mut self.io[io],
            // Named before its queue ended in this very turn.
            Some(_) => return false,
        };
        if ready.send {
            queue.on_send_ready();
            return true;
        }
        let worked = queue.receive(turn);
        if index == 0 {
            self.take_admin_completions(turn);
        }
        worked
    }

    /// Whatever is due: connections in progress, deadlines, keep alive, what the phases wait for. Once per turn, after the
    /// streams and before [`Controller::flush`].
    pub fn poll(&mut self, turn: &mut Turn<'_>) -> Progress {
        let before = self.phase;
        if self.ended().is_some() {
            return Progress::Idle;
        }
        self.admin.poll_connect(turn);
        self.take_admin_completions(turn);
        self.poll_io_connects(turn);
        self.poll_phase(turn);
        self.poll_keep_alive(turn);
        if turn.now >= self.scan_at {
            self.scan_at = turn.now.after(std::time::Duration::from_millis(DEADLINE_SCAN_MS));
            self.scan_deadlines(turn);
        }
        self.check_queues(turn);
        if self.phase == before { Progress::Idle } else { Progress::Busy }
    }

    /// Sends what waits on every queue.
    pub fn flush(&mut self, turn: &mut Turn<'_>) -> Progress {
        let mut progress = Progress::Idle;
        for queue in std::iter::once(&mut self.admin).chain(&mut self.io) {
            if queue.wants_send() {
                queue.send(turn);
                progress = Progress::Busy;
            }
        }
        progress
    }

    /// True when bytes wait that a stream may take.
    pub fn wants_flush(&self) -> bool {
        self.admin.wants_send() || self.io.iter().any(QueuePair::wants_send)
    }

    /// When [`Controller::poll`] must be called although nothing arrives.
    pub fn deadline(&self) -> Time {
        let phase = match self.phase {
            Phase::Enabling { deadline, look_at } | Phase::Resetting { deadline, look_at, .. } => {
                deadline.min(look_at)
            }
            Phase::Ended(_) => return Time::NEVER,
            _ => Time::NEVER,
        };
        let queues = self.io.iter().map(QueuePair::deadline).min().unwrap_or(Time::NEVER);
        let scan = if self.has_commands() { self.scan_at } else { Time::NEVER };
        phase.min(queues).min(self.admin.deadline()).min(self.keep_alive.next_at()).min(scan)
    }

    /// Commands with a deadline are in flight.
    fn has_commands(&self) -> bool {
        self.purposes.iter().flatten().any(|(purpose, _)| *purpose != Purpose::Event)
            || self.io.iter().any(|queue| queue.in_flight() > 0)
    }

    fn token(&self, qid: u16) -> u32 {
        let qid = u32::from(qid);
        assert!(qid < TOKENS_PER_CONTROLLER, "the number of queues is bounded");
        self.token_base + qid
    }
}
