//! What one core holds, and how it points at each other.
//!
//! ```text
//! Connection ──▶ Controller ──▶ Subsystem ──▶ Namespace (port of a volume)
//!     ▲              ▲                           ▲
//!     └─────────── Task ─────────────────────────┘      Barrier ◀── Task (when aborted)
//! ```
//! Everything points by [`Key`], so what goes away in the middle is found missing, never dangling.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use nvme_spec::Status;
use nvmf_proto::{Command, CommandId, Payload, TargetQueue};
use reactor::buffer::Sgl;
use reactor::net::Stream;
use reactor::stats::StatsSet;
use reactor::time::Time;
use smallvec::SmallVec;
use volume::bdev::{BdevInfo, IoStatus};
use volume::op_stats::OpKind;
use volume::reservation::{Change, Path};
use volume::shared::{Port, SharedVolume, Ticket};

use crate::connect::ConnectRequest;
use crate::event::Events;
use crate::features::Features;
use crate::fused::Fused;
use crate::log_page::Logs;
use crate::message::Answer;
use crate::nvm::Request;
use crate::registers::Registers;
use crate::setup::{AnaState, SubsystemSetup};
use crate::slots::Key;
use crate::work::Work;

/// The data of a command, as a queue moves it.
#[derive(Debug)]
pub(crate) enum Data {
    /// Blocks, in the core's pool or where they lie.
    Blocks(Sgl),
    /// The same, with their CRC-32C.
    Checked(Sgl, u32),
    /// An answer of the controller.
    Bytes(Vec<u8>),
    /// Blocks that a queue collects; they count until the command is handed over.
    Collecting(Sgl, Collecting),
}

/// Counts bytes as held while it lives.
#[derive(Debug)]
pub(crate) struct Collecting {
    held_bytes: Rc<Cell<usize>>,
    bytes: usize,
}

impl Drop for Collecting {
    fn drop(&mut self) {
        self.held_bytes.set(self.held_bytes.get() - self.bytes);
    }
}

impl Data {
    /// A buffer that a queue fills, counted in `held_bytes` until the command is handed over.
    pub fn collecting(sgl: Sgl, held_bytes: &Rc<Cell<usize>>) -> Self {
        let bytes = sgl.len();
        held_bytes.set(held_bytes.get() + bytes);
        Self::Collecting(sgl, Collecting { held_bytes: held_bytes.clone(), bytes })
    }

    /// The blocks alone; they count no longer.
    pub fn into_sgl(self) -> Sgl {
        match self {
            Self::Blocks(sgl) | Self::Checked(sgl, _) => sgl,
            Self::Collecting(sgl, counted) => {
                drop(counted);
                sgl
            }
            Self::Bytes(_) => unreachable!("data from a host is in the pool"),
        }
    }
}

impl Payload for Data {
    fn len(&self) -> usize {
        match self {
            Self::Blocks(sgl) | Self::Checked(sgl, _) | Self::Collecting(sgl, _) => sgl.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    fn chunk(&self, offset_bytes: usize) -> &[u8] {
        match self {
            Self::Blocks(sgl) | Self::Checked(sgl, _) | Self::Collecting(sgl, _) => sgl.chunk(offset_bytes),
            Self::Bytes(bytes) => &bytes[offset_bytes..],
        }
    }

    fn crc32c(&self) -> Option<u32> {
        match self {
            Self::Checked(_, crc32c) => Some(*crc32c),
            _ => None,
        }
    }

    fn chunk_mut(&mut self, offset_bytes: usize) -> &mut [u8] {
        match self {
            Self::Blocks(sgl) | Self::Collecting(sgl, _) => sgl.chunk_mut(offset_bytes),
            Self::Checked(..) => unreachable!("what is answered is not written"),
            Self::Bytes(bytes) => &mut bytes[offset_bytes..],
        }
    }
}

/// A command as this layer gets it.
pub(crate) type HostCommand = Command<Data>;

/// How far a connection has come.
pub(crate) enum Phase {
    /// Collects ICReq and Connect, to learn which core it belongs to.
    Peek {
        /// Bytes of the ICReq that its queue has.
        given: usize,
        /// What came and was not given to the queue.
        kept: Vec<u8>,
    },
    /// On its core; Connect has not been answered.
    Connect,
    /// Connect waits until earlier commands of the same host have ended.
    Waiting(Box<ConnectRequest>, CommandId),
    /// A queue of a controller.
    Live { controller: Key, qid: u16 },
    /// Sends its last bytes; what comes in is thrown away.
    Closing,
}

/// What commands of a queue may do in a namespace now; valid while the epochs stand still.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub namespace: Key,
    pub reservation_epoch: u64,
    pub subsystem_epoch: u64,
    pub read: bool,
    pub write: bool,
    /// The state of the namespace's ANA group takes no I/O: with this status.
    pub path: Option<Status>,
}

/// One TCP connection: one queue pair.
pub(crate) struct Connection {
    pub stream: Box<dyn Stream>,
    pub queue: TargetQueue<Data>,
    pub peer: SocketAddr,
    /// The address that the host reached.
    pub local: SocketAddr,
    /// The port that it reached.
    pub port_id: u16,
    pub phase: Phase,
    pub subsystem: Option<Key>,
    /// By NSID less one, for I/O queues.
    pub access: Vec<Option<Access>>,
    pub fused: Fused<HostCommand>,
    /// The task behind each slot of the queue's command table.
    pub tasks: Vec<Option<Key>>,
    /// Commands that were given out and are not answered.
    pub executing: usize,
    /// How many of these wait for the buffers of their answer, so that they hold none.
    pub waiting: usize,
    /// Bytes of buffers that wait for the host's data.
    pub held_bytes: Rc<Cell<usize>>,
    /// A Disconnect waits for the last command.
    pub disconnecting: bool,
    /// Entries that its queue takes from the core's budget.
    pub entries: usize,
    /// Received, but not taken by the queue yet (back-pressure).
    pub unread: Vec<u8>,
    /// It is in the list of connections with something to send.
    pub dirty: bool,
    /// The stream took less than there was; it will be named when there is room.
    pub send_blocked: bool,
    /// Receiving is paused.
    pub paused: bool,
    /// It is in the list of those that wait for memory.
    pub starved: bool,
    /// It is closed at this instant at the latest ([`Time::NEVER`] for a queue of a controller).
    pub deadline: Time,
    /// When bytes came last, and when they were taken last.
    pub received_at: Time,
    pub sent_at: Time,
}

impl Connection {
    /// The task of a command, if it is with a volume.
    pub fn task(&self, id: CommandId) -> Option<Key> {
        *self.tasks.get(id.slot())?
    }

    /// Remembers (or forgets) the task of a command.
    pub fn set_task(&mut self, id: CommandId, task: Option<Key>) {
        let slot = id.slot();
        if slot >= self.tasks.len() {
            self.tasks.resize(slot + 1, None);
        }
        self.tasks[slot] = task;
    }
}

/// Why a controller that lives takes no commands for a while, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quiescing {
    Reset,
    Shutdown,
}

/// One controller: an association of a host.
pub(crate) struct Controller {
    /// None for a discovery controller.
    pub subsystem: Option<Key>,
    pub cntlid: u16,
    pub host_nqn: String,
    pub host_id: [u8; 16],
    /// The host as reservations know it; none without an identifier.
    pub path: Option<Path>,
    pub port_id: u16,
    pub registers: Registers,
    pub features: Features,
    pub events: Events<CommandId>,
    pub logs: Logs,
    /// The connection of each queue, by queue identifier.
    pub queues: Vec<Option<Key>>,
    /// None: no timer.
    pub keep_alive: Option<std::time::Duration>,
    /// The last instant at which a command came.
    pub heard_at: Time,
    pub alarm: Time,
    /// Tasks in a volume, aborted ones included.
    pub open_tasks: usize,
    /// A reset, and a shutdown, wait for the last command.
    pub resetting: bool,
    pub shutting_down: bool,
    /// Aborted tasks of queues that are gone, until they have ended.
    pub ending: Vec<Key>,
    /// It has no admin queue any more and goes when its last task has ended.
    pub ended: bool,
}

impl Controller {
    /// The connection of the admin queue.
    pub fn admin(&self) -> Option<Key> {
        self.queues.first().copied().flatten()
    }

    /// True when the host has connected I/O queues.
    pub fn has_io_queues(&self) -> bool {
        self.queues.iter().skip(1).any(Option::is_some)
    }
}

/// A subsystem and its namespaces.
pub(crate) struct Subsystem {
    pub setup: SubsystemSetup,
    /// By NSID less one.
    pub namespaces: Vec<Option<Key>>,
    /// Raised with each change of what its queues may have kept.
    pub epoch: u64,
    /// Change counts of the ANA log page: in all, and by group.
    pub ana_changes: u64,
    pub group_changes: BTreeMap<u32, u64>,
    pub next_cntlid: u16,
    /// Removed: goes with its last namespace and controller.
    pub removing: Option<Answer<Result<(), crate::TargetError>>>,
}

impl Subsystem {
    /// The namespace behind an NSID.
    #[inline]
    pub fn namespace(&self, nsid: u32) -> Option<Key> {
        let at = usize::try_from(nsid.checked_sub(1)?).ok()?;
        *self.namespaces.get(at)?
    }

    /// The attached namespaces with their NSIDs, in order.
    pub fn attached(&self) -> impl Iterator<Item = (u32, Key)> + '_ {
        (1..).zip(&self.namespaces).filter_map(|(nsid, key)| Some((nsid, (*key)?)))
    }

    /// How a port reaches the group of a namespace.
    pub fn ana_state(&self, port_id: u16, nsid: u32) -> AnaState {
        let group = self.setup.namespaces.get(&nsid).map_or(1, |namespace| namespace.ana_group);
        self.setup.ana_state(port_id, group)
    }
}

/// The status of I/O through a path in such a state; none where I/O is taken.
pub(crate) fn path_status(state: AnaState) -> Option<Status> {
    match state {
        AnaState::Optimized | AnaState::NonOptimized => None,
        AnaState::Inaccessible => Some(Status::ANA_INACCESSIBLE),
        AnaState::PersistentLoss => Some(Status::ANA_PERSISTENT_LOSS),
        AnaState::Change => Some(Status::ANA_TRANSITION),
    }
}

/// A namespace: a volume in a subsystem.
pub(crate) struct Namespace {
    pub subsystem: Key,
    pub nsid: u32,
    pub port: Port,
    pub volume: SharedVolume,
    pub stats: Arc<StatsSet>,
    /// As of the last event.
    pub info: BdevInfo,
    /// Tasks in it, aborted ones included.
    pub open_tasks: usize,
    /// The task whose reservation change is being made durable.
    pub changing: Option<Key>,
    /// Tasks whose reservation change waits for its turn.
    pub changes: VecDeque<Key>,
    /// Changes of ours that wait for other ports.
    pub tickets: Vec<(Ticket, Key)>,
    /// It is in the list of namespaces to be polled.
    pub busy: bool,
    /// It is no longer attached and goes when its last task has ended.
    pub detached: bool,
}

/// Where a task stands.
pub(crate) enum TaskPhase {
    /// On the stack of the function that drives it.
    Running,
    /// Found no memory before it had any effect.
    Starved(Request),
    /// Found no memory between two steps.
    StarvedBetween,
    /// An I/O of it is in the volume.
    Io,
    /// Its reservation change waits for its turn.
    ChangeQueued,
    /// Its reservation change is being made durable.
    Changing,
    /// It waits until the tasks that its change aborts have ended.
    Held,
}

/// What a task does.
pub(crate) enum Job {
    /// Blocks.
    Work(Work),
    /// A flush of one namespace after the other.
    FlushAll(Vec<Key>),
    /// A compare and write; the write is the second command.
    CompareAndWrite(CommandId),
    /// A change of the reservations. The rest are namespaces that follow (Set Features for all).
    Reserve(Box<Change>, Vec<Key>),
}

/// One command in progress.
pub(crate) struct Task {
    pub connection: Key,
    pub controller: Key,
    pub id: CommandId,
    /// The namespace in whose volume it is.
    pub namespace: Key,
    pub job: Job,
    pub phase: TaskPhase,
    pub started: Time,
    /// The operation that it is counted under and the bytes that it moves.
    pub kind: OpKind,
    pub bytes: u64,
    pub status: IoStatus,
    /// It starts nothing more and ends with this status.
    pub stop: Option<Status>,
    /// Nobody waits for its answer any more.
    pub aborted: bool,
    /// Who waits for its end.
    pub barriers: SmallVec<[Key; 1]>,
}

/// A core that shuts down.
pub(crate) struct Draining {
    pub answer: Answer<()>,
    /// Whatever is still open then is dropped.
    pub deadline: Time,
}

/// What happens once the tasks that a barrier waits for have ended.
pub(crate) enum Then {
    /// Let the new queue in.
    Connect { connection: Key },
    /// Answer a Disconnect and close the queue.
    Disconnect { connection: Key, id: CommandId },
    /// A controller is quiet.
    Quiesced { controller: Key, what: Quiescing },
    /// Answer a reservation command.
    Respond { task: Key },
    /// Tell the volume that the tasks it asked for have ended.
    Returned { namespace: Key, ticket: Ticket },
}

/// Counts the tasks that must end before `then`.
pub(crate) struct Barrier {
    pub remaining: usize,
    pub then: Then,
}
