//! The only door between control and the cores.
//!
//! Control gives a [`Request`] to a [`DataPlane`] and gets one answer through a [`Responder`]. How the request
//! reaches a core is the data plane's business. Every request has a deadline and the number in flight is
//! bounded, so a stuck core makes control answer "too slow" and control can never flood a core.
//!
//! Blocking work on files (create, open, grow, delete) is done by the data plane on a thread of its own.

mod device;
mod error;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reactor::stats::{CoreStats, StatsSet};
use tokio::sync::{Semaphore, oneshot};

use crate::limits::{
    CHANGE_DEADLINE, FILE_DEADLINE, QUERY_DEADLINE, REQUESTS_IN_FLIGHT_MAX, REQUESTS_WAITING_MAX,
};
use crate::model::{
    AnaState, ControllerId, ControllerInfo, IscsiName, Nqn, PortId, ResolvedSubsystem, ResolvedTarget,
    SessionId, SessionInfo, VolumeName, VolumeSpec,
};
pub use device::DeviceReport;
pub use error::{ObjectKind, PlaneError};

/// Serves volumes, targets and subsystems. Implemented by the composition root; by a fake in tests.
pub trait DataPlane: Send + Sync + 'static {
    /// Takes a request and returns at once; the answer comes through `responder`, from any thread. A responder
    /// that is dropped unanswered is an answer too ([`PlaneError::Abandoned`]).
    fn submit(&self, request: Request, responder: Responder);
}

/// What the data plane can be asked. Each is idempotent, so that it may be asked again after a timeout.
pub enum Request {
    /// Open an existing volume and serve it. A memory volume begins empty. The same volume open already: `Volume`.
    OpenVolume {
        /// The volume.
        spec: VolumeSpec,
        /// Its data file, for [`Backing::File`](crate::model::Backing::File).
        path: Option<PathBuf>,
    },
    /// Create a volume and serve it. What exists under `path` with the same uuid and geometry is adopted; what
    /// exists with another identity, or none, is never overwritten ([`PlaneError::AlreadyExists`]).
    CreateVolume {
        /// The volume.
        spec: VolumeSpec,
        /// Its data file, for [`Backing::File`](crate::model::Backing::File).
        path: Option<PathBuf>,
    },
    /// Stop serving a volume once its last I/O is done; the data stays. Not open: `Done`.
    CloseVolume {
        /// The volume's name.
        name: VolumeName,
    },
    /// Stop serving a volume and destroy its data. No data there: `Done`.
    DeleteVolume {
        /// The volume.
        spec: VolumeSpec,
        /// Its data file, for [`Backing::File`](crate::model::Backing::File).
        path: Option<PathBuf>,
    },
    /// Make an open volume larger. Already that large: `Volume`.
    GrowVolume {
        /// The volume's name.
        name: VolumeName,
        /// Its new size, a multiple of its block size.
        size_bytes: u64,
    },
    /// Create a target or change it; its sessions go on unless they are no longer allowed.
    SetTarget {
        /// What it is from now on. Every volume that it maps is open.
        target: Box<ResolvedTarget>,
    },
    /// Close the target's sessions and remove it. Not there: `Done`.
    RemoveTarget {
        /// Its name.
        name: IscsiName,
    },
    /// Everything that the catalog names was opened, or could not be: take connections from now on. Before, they wait at
    /// the door, so that no initiator is told that a target does not exist which merely has not been restored yet.
    Accept,
    /// List the sessions.
    Sessions,
    /// Close one session. Not there: [`PlaneError::NotFound`].
    DropSession {
        /// Which.
        id: SessionId,
    },
    /// Create a subsystem or change it: attach, detach, admit. Its controllers go on unless their host is no longer
    /// allowed; they are told of namespaces that come and go. The volumes of a subsystem live on one core.
    SetSubsystem {
        /// What it is from now on. Every volume that it names is open.
        subsystem: Box<ResolvedSubsystem>,
    },
    /// Disconnect the controllers of a subsystem and remove it. Not there: `Done`.
    RemoveSubsystem {
        /// Its name.
        nqn: Nqn,
    },
    /// Put subsystems into an ANA state as reached by one listener, and tell their controllers there.
    SetAnaState {
        /// Tag of the listener; several may share one. No such listener: [`PlaneError::NotFound`].
        listener: PortId,
        /// The subsystem, or all of them. No such subsystem: [`PlaneError::NotFound`].
        subsystem: Option<Nqn>,
        /// The state from now on.
        state: AnaState,
    },
    /// List the controllers, of discovery and of I/O.
    Controllers,
    /// Disconnect one controller: all of its queues. Not there: [`PlaneError::NotFound`].
    DropController {
        /// Which.
        id: ControllerId,
    },
    /// Counters of volumes, subsystems, devices and cores, and how the devices are.
    Stats,
    /// Accept no more, finish what is in flight within `grace`, flush and close everything, and keep no door
    /// open afterwards: every later request is answered with [`PlaneError::ShuttingDown`].
    Drain {
        /// How long commands in flight may take.
        grace: Duration,
    },
}

impl Request {
    /// Short name for logs and messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::OpenVolume { .. } => "open-volume",
            Self::CreateVolume { .. } => "create-volume",
            Self::CloseVolume { .. } => "close-volume",
            Self::DeleteVolume { .. } => "delete-volume",
            Self::GrowVolume { .. } => "grow-volume",
            Self::SetTarget { .. } => "set-target",
            Self::RemoveTarget { .. } => "remove-target",
            Self::Accept => "accept",
            Self::Sessions => "sessions",
            Self::DropSession { .. } => "drop-session",
            Self::SetSubsystem { .. } => "set-subsystem",
            Self::RemoveSubsystem { .. } => "remove-subsystem",
            Self::SetAnaState { .. } => "set-ana-state",
            Self::Controllers => "controllers",
            Self::DropController { .. } => "drop-controller",
            Self::Stats => "stats",
            Self::Drain { .. } => "drain",
        }
    }

    fn deadline(&self) -> Duration {
        match self {
            Self::Sessions | Self::Controllers | Self::Stats => QUERY_DEADLINE,
            Self::SetTarget { .. }
            | Self::RemoveTarget { .. }
            | Self::Accept
            | Self::DropSession { .. }
            | Self::SetSubsystem { .. }
            | Self::RemoveSubsystem { .. }
            | Self::SetAnaState { .. }
            | Self::DropController { .. } => CHANGE_DEADLINE,
            Self::OpenVolume { .. }
            | Self::CreateVolume { .. }
            | Self::CloseVolume { .. }
            | Self::DeleteVolume { .. }
            | Self::GrowVolume { .. } => FILE_DEADLINE,
            Self::Drain { grace } => *grace + CHANGE_DEADLINE,
        }
    }
}

/// What a volume turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeFacts {
    /// Index of the core that owns it.
    pub core: u32,
    /// Its size.
    pub size_bytes: u64,
    /// True when acknowledged writes need a flush to survive power loss.
    pub volatile_write_cache: bool,
    /// What an operator should know, one sentence each ("opened without direct I/O because …").
    pub notes: Vec<String>,
}

/// Counters of one volume.
#[derive(Clone)]
pub struct VolumeStats {
    /// Its name.
    pub name: VolumeName,
    /// Counters by operation, read without locks.
    pub stats: Arc<StatsSet>,
    /// Index of the core that owns it.
    pub core: u32,
    /// Its size.
    pub size_bytes: u64,
    /// What it occupies in its back end, where that is known.
    pub allocated_bytes: Option<u64>,
}

/// Counters of one core.
#[derive(Clone)]
pub struct CoreReport {
    /// Index of the reactor.
    pub core: u32,
    /// The processor that it is pinned to.
    pub cpu: Option<u32>,
    /// Its counters, its memory and its buffers, read without locks.
    pub stats: Arc<CoreStats>,
    /// iSCSI sessions that it serves.
    pub sessions: u64,
}

/// Who is connected to one subsystem by one core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubsystemStats {
    /// Its name; the well-known one for discovery.
    pub nqn: Nqn,
    /// Index of the core.
    pub core: u32,
    /// Controllers.
    pub controllers: u64,
    /// Their queue pairs, each of which is a TCP connection.
    pub connections: u64,
}

/// The answer to [`Request::Stats`].
#[derive(Clone, Default)]
pub struct StatsReport {
    /// Every open volume.
    pub volumes: Vec<VolumeStats>,
    /// Every subsystem on the core that serves it, and discovery on every core that has a controller of it.
    pub subsystems: Vec<SubsystemStats>,
    /// Every NVMe device of the configuration, in its order.
    pub devices: Vec<DeviceReport>,
    /// Every core.
    pub cores: Vec<CoreReport>,
}

/// A good answer; which one belongs to which request is said there.
pub enum Reply {
    /// It is done and there is nothing to tell: close, delete, targets, subsystems, ANA, drop, drain.
    Done,
    /// To open, create and grow.
    Volume(VolumeFacts),
    /// To `Sessions`.
    Sessions(Vec<SessionInfo>),
    /// To `Controllers`.
    Controllers(Vec<ControllerInfo>),
    /// To `Stats`.
    Stats(StatsReport),
}

/// Takes the one answer to a request; may be called from any thread, also from a reactor: it never blocks.
pub struct Responder {
    sender: oneshot::Sender<Result<Reply, PlaneError>>,
}

impl Responder {
    /// Gives the answer. Nobody may be waiting any more; then it is dropped.
    pub fn answer(self, answer: Result<Reply, PlaneError>) {
        // The receiver is gone when the deadline has passed: there is nobody to tell.
        let _ = self.sender.send(answer);
    }

    /// A responder and the function that waits for its answer, for tests and tools without a runtime.
    pub fn pair() -> (Self, impl FnOnce() -> Option<Result<Reply, PlaneError>> + Send) {
        let (sender, receiver) = oneshot::channel();
        (Self { sender }, move || receiver.blocking_recv().ok())
    }
}

/// Control's side of the door: bounded, with deadlines.
#[derive(Clone)]
pub struct Bridge {
    plane: Arc<dyn DataPlane>,
    in_flight: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Bridge {
    /// A bridge to a data plane.
    pub fn new(plane: Arc<dyn DataPlane>) -> Self {
        Self {
            plane,
            in_flight: Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX)),
            waiting: Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX + REQUESTS_WAITING_MAX)),
        }
    }

    /// Asks and waits for the answer, at most until the deadline of that kind of request.
    pub async fn call(&self, request: Request) -> Result<Reply, PlaneError> {
        let deadline = request.deadline();
        self.call_within(request, deadline).await
    }

    async fn call_within(&self, request: Request, deadline: Duration) -> Result<Reply, PlaneError> {
        let name = request.name();
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(PlaneError::Overloaded { in_flight: REQUESTS_IN_FLIGHT_MAX + REQUESTS_WAITING_MAX });
        };
        let (sender, receiver) = oneshot::channel();
        let answered = async {
            // The permit is released when the caller stops waiting: the bound is on what control asks for,
            // and the data plane bounds its own mailboxes.
            let _turn = self.in_flight.acquire().await.expect("the semaphore is never closed");
            self.plane.submit(request, Responder { sender });
            receiver.await.unwrap_or(Err(PlaneError::Abandoned { request: name }))
        };
        let after_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        tokio::time::timeout(deadline, answered)
            .await
            .unwrap_or(Err(PlaneError::DeadlineExceeded { request: name, after_ms }))
    }

    /// A request whose answer is [`Reply::Done`].
    pub async fn done(&self, request: Request) -> Result<(), PlaneError> {
        let name = request.name();
        match self.call(request).await? {
            Reply::Done => Ok(()),
            _ => Err(PlaneError::WrongReply { request: name }),
        }
    }

    /// A request whose answer is [`Reply::Volume`].
    pub async fn volume(&self, request: Request) -> Result<VolumeFacts, PlaneError> {
        let name = request.name();
        match self.call(request).await? {
            Reply::Volume(facts) => Ok(facts),
            _ => Err(PlaneError::WrongReply { request: name }),
        }
    }

    /// The sessions of all cores.
    pub async fn sessions(&self) -> Result<Vec<SessionInfo>, PlaneError> {
        match self.call(Request::Sessions).await? {
            Reply::Sessions(sessions) => Ok(sessions),
            _ => Err(PlaneError::WrongReply { request: "sessions" }),
        }
    }

    /// The controllers of all cores.
    pub async fn controllers(&self) -> Result<Vec<ControllerInfo>, PlaneError> {
        match self.call(Request::Controllers).await? {
            Reply::Controllers(controllers) => Ok(controllers),
            _ => Err(PlaneError::WrongReply { request: "controllers" }),
        }
    }

    /// The counters.
    pub async fn stats(&self) -> Result<StatsReport, PlaneError> {
        match self.call(Request::Stats).await? {
            Reply::Stats(report) => Ok(report),
            _ => Err(PlaneError::WrongReply { request: "stats" }),
        }
    }
}

#[cfg(test)]
mod tests;
