//! What a core is told and asked, by control and by other cores. Plain, `Send` values.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use nvmf_proto::Negotiated;
use reactor::net::StreamParcel;

use crate::error::TargetError;
use crate::setup::{AllowList, AnaState, SubsystemSetup};

/// Where an answer goes; called once, on the core that has it.
pub type Answer<T> = Box<dyn FnOnce(T) + Send>;

/// The subsystems of the node by NQN, for acceptors and discovery; replaced whole when it changes.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// Raised with each change: the generation counter of the discovery log page.
    pub generation: u64,
    /// What there is.
    pub subsystems: BTreeMap<String, DirectoryEntry>,
}

/// What every core knows of a subsystem.
#[derive(Clone, Debug)]
pub struct DirectoryEntry {
    /// The core that serves it.
    pub core: usize,
    /// Host NQNs that may connect and see it.
    pub allow: AllowList,
    /// Where it is reached. An unspecified address stands for the one that the host reached.
    pub listeners: Vec<ListenerAddress>,
}

impl DirectoryEntry {
    /// True when `host` may see the subsystem.
    pub fn allows(&self, host: &str) -> bool {
        self.allow.allows(host)
    }
}

/// One address of a subsystem, as discovery tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerAddress {
    /// Transport address and service identifier.
    pub address: SocketAddr,
    /// The number of the NVM subsystem port behind it (PORTID).
    pub port_id: u16,
}

/// A connection on its way to the core that owns its subsystem.
#[derive(Debug)]
pub struct MovedConnection {
    /// The socket.
    pub parcel: StreamParcel,
    /// What ICReq and ICResp settled.
    pub negotiated: Negotiated,
    /// Everything received behind the ICReq; it starts with the Connect capsule.
    pub received: Vec<u8>,
    /// The host's address.
    pub peer: SocketAddr,
    /// The port that it reached.
    pub port_id: u16,
}

/// One controller, as control shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerReport {
    /// Controller identifier; unique in its subsystem.
    pub cntlid: u16,
    /// The core that serves it.
    pub core: usize,
    /// The subsystem, or nothing for a discovery controller.
    pub subsystem_nqn: Option<String>,
    /// The host's NQN.
    pub host_nqn: String,
    /// The host's identifier.
    pub host_id: uuid::Uuid,
    /// The address of each queue, by queue identifier (0 is the admin queue).
    pub queues: Vec<(u16, SocketAddr)>,
    /// The port that its admin queue came by.
    pub port_id: u16,
    /// Keep alive timeout in milliseconds; 0: none.
    pub keep_alive_ms: u32,
    /// Commands in progress that are with a volume.
    pub commands: usize,
}

/// A message to one core.
pub enum CoreMessage {
    /// Create a subsystem or change it; controllers go on and hear of the change by asynchronous events.
    SetSubsystem {
        /// What it is from now on.
        setup: Box<SubsystemSetup>,
        /// Done, or why not.
        answer: Answer<Result<(), TargetError>>,
    },
    /// Remove a subsystem; its controllers are dropped and its volumes let go. Answered when its last I/O is done.
    RemoveSubsystem {
        /// Its NQN.
        nqn: String,
        /// Done, or why not.
        answer: Answer<Result<(), TargetError>>,
    },
    /// The map of subsystems has changed.
    SetDirectory(Arc<Directory>),
    /// How a listener reaches an ANA group has changed.
    SetAnaState {
        /// The subsystem.
        nqn: String,
        /// The listener's port.
        port_id: u16,
        /// The ANA group.
        group: u32,
        /// From now on.
        state: AnaState,
        /// Done, or why not.
        answer: Answer<Result<(), TargetError>>,
    },
    /// Take connections from now on: everything that there was before has been set.
    Accept,
    /// List the controllers of this core.
    Controllers(Answer<Vec<ControllerReport>>),
    /// Drop a controller with its connections; the host may connect again.
    DropController {
        /// Its subsystem.
        nqn: String,
        /// Which.
        cntlid: u16,
        /// True when it existed.
        answer: Answer<bool>,
    },
    /// A connection that another core accepted.
    Adopt(MovedConnection),
    /// Accept no more, let running commands end, close, let the volumes go. The volumes are drained afterwards.
    Drain(Answer<()>),
}
