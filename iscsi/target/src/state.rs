//! What one core holds: connections, sessions, targets, disks and tasks, and how they point at each other.
//!
//! ```text
//! Connection ──▶ SessionEntry ──▶ Target ──▶ Disk (logical unit + port of a volume)
//!                     ▲                         ▲
//!                     └──────── Task ───────────┘      Barrier ◀── Task (when aborted)
//! ```
//! Everything points by [`Key`], so what goes away in the middle is found missing, never dangling.

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use iscsi_proto::login::LoginConnection;
use iscsi_proto::lun;
use iscsi_proto::session::{ConnectionIndex, Payload, RequestId, Session, TaskId};
use reactor::buffer::Sgl;
use reactor::net::Stream;
use reactor::stats::StatsSet;
use reactor::time::Time;
use scsi::{Command, DataIn, LogicalUnit, NexusId, NexusName, Pending, ReservationChange, Response};
use smallvec::SmallVec;
use volume::bdev::IoStatus;
use volume::op_stats::OpKind;
use volume::reservation::Path;
use volume::shared::{Port, Ticket};

use crate::message::Answer;
use crate::setup::TargetSetup;
use crate::slots::Key;
use crate::task_set::{Order, TaskSet};

/// The data of a command, as a session moves it.
#[derive(Debug)]
pub(crate) struct Data {
    pub data: DataIn,
    /// Counts the bytes while a session collects them; not those of answers.
    collecting: Option<Collecting>,
}

impl Data {
    /// Data for the initiator.
    pub fn answer(data: DataIn) -> Self {
        Self { data, collecting: None }
    }

    /// A buffer that a session fills, counted in `held_bytes` until the command is handed over.
    pub fn collecting(sgl: Sgl, held_bytes: &Rc<Cell<usize>>) -> Self {
        let bytes = sgl.len();
        held_bytes.set(held_bytes.get() + bytes);
        let collecting = Some(Collecting { held_bytes: held_bytes.clone(), bytes });
        Self { data: DataIn::Sgl(sgl), collecting }
    }

    /// The data alone; it counts no longer.
    pub fn into_data(self) -> DataIn {
        drop(self.collecting);
        self.data
    }
}

#[derive(Debug)]
struct Collecting {
    held_bytes: Rc<Cell<usize>>,
    bytes: usize,
}

impl Drop for Collecting {
    fn drop(&mut self) {
        self.held_bytes.set(self.held_bytes.get() - self.bytes);
    }
}

impl Payload for Data {
    fn len(&self) -> usize {
        self.data.len()
    }

    fn chunk(&self, offset_bytes: usize) -> &[u8] {
        self.data.chunk(offset_bytes)
    }

    fn chunk_mut(&mut self, offset_bytes: usize) -> &mut [u8] {
        self.data.chunk_mut(offset_bytes)
    }
}

/// How far a connection has come.
pub(crate) enum Phase {
    /// Collects its first login request, to learn which core it belongs to.
    Peek(Vec<u8>),
    /// Logs in on the core of its target.
    Login(Box<LoginConnection>),
    /// Has logged in; the session that it replaces still ends its tasks.
    Reinstating(Box<LoginConnection>),
    /// Belongs to a session.
    Full { session: Key, index: ConnectionIndex },
    /// Sends its last bytes; what comes in is thrown away.
    Closing,
}

/// One TCP connection.
pub(crate) struct Connection {
    pub stream: Box<dyn Stream>,
    pub peer: SocketAddr,
    /// The portal that the initiator reached.
    pub local: SocketAddr,
    pub phase: Phase,
    /// To be sent before anything the session has: the rest of the login.
    pub preamble: VecDeque<u8>,
    /// Received, but not taken by the session yet (back-pressure).
    pub unread: Vec<u8>,
    /// It is in the list of connections with something to send.
    pub dirty: bool,
    /// The stream took less than there was; it will be named when there is room.
    pub send_blocked: bool,
    /// Receiving is paused.
    pub paused: bool,
    /// The connection is closed at this instant at the latest ([`Time::NEVER`] in full feature phase).
    pub deadline: Time,
}

/// One session with what the target keeps about it.
pub(crate) struct SessionEntry {
    pub session: Session<Data>,
    /// None for a discovery session.
    pub target: Option<Key>,
    pub initiator_name: String,
    pub isid: [u8; 6],
    /// Both ends of its nexus, and the path that they are for reservations; none for discovery.
    pub nexus: Option<(NexusName, Path)>,
    pub tsih: u16,
    /// The user that CHAP proved when the session began.
    pub chap_user: Option<String>,
    /// Connections that were negotiated, at most.
    pub max_connections: usize,
    /// The connection in each slot of the session.
    pub connections: [Option<Key>; 8],
    /// The task behind each slot of the session's task table.
    pub tasks: Vec<Option<Key>>,
    /// Bytes of buffers that wait for the initiator's data.
    pub held_bytes: Rc<Cell<usize>>,
    /// Tasks that are not over, aborted ones included; each knows its place.
    pub open_tasks: Vec<Key>,
    /// How many of them wait for memory.
    pub waiting_tasks: usize,
    /// It has no connection any more and goes when its last task has ended.
    pub ended: bool,
    /// When the session's own timers are looked at next.
    pub alarm: Time,
}

impl SessionEntry {
    /// True when another connection may join.
    pub fn has_room(&self) -> bool {
        self.connections.iter().flatten().count() < self.max_connections
    }

    /// The task of a session's id, if it is in progress.
    pub fn task(&self, id: TaskId) -> Option<Key> {
        *self.tasks.get(id.slot())?
    }

    /// Remembers (or forgets) the task behind an id.
    pub fn set_task(&mut self, id: TaskId, task: Option<Key>) {
        let slot = id.slot();
        if slot >= self.tasks.len() {
            self.tasks.resize(slot + 1, None);
        }
        self.tasks[slot] = task;
    }
}

/// The I_T nexus of a session: its slot is its number.
pub(crate) fn nexus_of(session: Key) -> NexusId {
    NexusId(session.index())
}

/// A target and its logical units.
pub(crate) struct Target {
    pub setup: TargetSetup,
    /// Disk by LUN in wire form, sorted by LUN.
    pub luns: Vec<(u64, Key)>,
    /// The LUNs alone, for REPORT LUNS.
    pub lun_numbers: Vec<u64>,
    /// Relative target port identifier, unique on the node for as long as the target lives.
    pub relative_target_port_id: u16,
}

impl Target {
    /// The disk behind a LUN field. Peripheral and flat addressing name the same unit (SAM-5, 4.7).
    pub fn disk(&self, lun: u64) -> Option<Key> {
        let lun = lun::canonical(lun);
        self.luns.binary_search_by_key(&lun, |(number, _)| *number).ok().map(|at| self.luns[at].1)
    }

    /// The LUN under which a disk is mapped.
    pub fn lun_of(&self, disk: Key) -> Option<u64> {
        self.luns.iter().find(|(_, key)| *key == disk).map(|(lun, _)| *lun)
    }
}

/// A volume that a target maps, with its device server.
pub(crate) struct Disk {
    pub name: String,
    pub unit: LogicalUnit,
    pub port: Port,
    /// The task whose reservation change is being made durable.
    pub changing: Option<Key>,
    /// Barriers that wait for other protocols to end the tasks that a command of ours aborted.
    pub aborting: Vec<(Ticket, Key)>,
    pub tasks: TaskSet,
    /// Tasks that found no memory, oldest first.
    pub retry: VecDeque<Key>,
    pub stats: Arc<StatsSet>,
    /// No target maps it any more: it goes when its last task is done.
    pub leaving: bool,
    /// It is in the list of disks to be polled.
    pub busy: bool,
}

/// Where a task stands.
pub(crate) enum TaskPhase {
    /// On the stack of the function that drives it.
    Running,
    /// Held back by the task set.
    Waiting(Command),
    /// Found no memory before it had any effect.
    Retry(Command),
    /// Found no memory between two steps.
    RetryPending(Pending),
    /// An I/O of it is in the volume.
    Io(Pending),
    /// Waits for another change of the reservations to end.
    RetryChange(Box<ReservationChange>),
    /// Its change of the reservations is being made durable.
    Changing(Box<ReservationChange>),
    /// It is answered when an operation of its logical unit has ended.
    Background,
    /// Its response waits until the tasks that it aborted have ended.
    Held(Box<Response>),
    /// Aborted; its last I/O is still in the volume.
    Aborting,
}

/// One command in progress.
pub(crate) struct Task {
    pub session: Key,
    pub id: TaskId,
    pub connection: ConnectionIndex,
    pub disk: Key,
    /// Its place in the session's list of open tasks.
    pub place: usize,
    pub order: Order,
    pub phase: TaskPhase,
    pub started: Time,
    /// The operation that it is counted under and the bytes that it moves.
    pub kind: OpKind,
    pub bytes: u64,
    pub status: IoStatus,
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
    /// Sessions that have been told.
    pub closing: Vec<Key>,
}

/// What happens once the tasks that a barrier waits for have ended.
pub(crate) enum Then {
    /// Answer a task management function.
    TaskManagement { session: Key, id: RequestId, reset: SmallVec<[Key; 1]>, close_sessions: bool },
    /// Answer a logout, of the whole session or of a connection.
    Logout { session: Key, id: RequestId, whole: bool },
    /// Send the response of a command that aborted others.
    Respond { task: Key },
    /// Tell another protocol that the tasks which it aborted have ended.
    Return { disk: Key, ticket: Ticket },
    /// Let the new session in.
    Reinstate { connection: Key },
}

/// Counts the tasks that must end before `then`.
pub(crate) struct Barrier {
    pub remaining: usize,
    pub then: Then,
    pub by: Option<NexusId>,
}
