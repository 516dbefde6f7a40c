//! What a core is told and asked, by control and by other cores. Plain, `Send` values.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use reactor::net::StreamParcel;
pub use volume::shared::Answer;

use crate::error::TargetError;
use crate::setup::{AllowList, TargetSetup};

/// The targets of the node by name, for acceptors and discovery; replaced whole when it changes.
pub type Directory = BTreeMap<String, DirectoryEntry>;

/// What every core knows of a target.
#[derive(Clone, Debug)]
pub struct DirectoryEntry {
    /// The core that serves it.
    pub core: usize,
    /// Its portal group.
    pub portal_group_tag: u16,
    /// Addresses told in SendTargets; empty: the address that the initiator reached.
    pub advertised: Vec<SocketAddr>,
    /// Initiator names that may log in and see it.
    pub allow: AllowList,
}

impl DirectoryEntry {
    /// True when `initiator` may see the target.
    pub fn allows(&self, initiator: &str) -> bool {
        self.allow.allows(initiator)
    }
}

/// A connection on its way to the core that owns its target.
#[derive(Debug)]
pub struct MovedConnection {
    /// The socket.
    pub parcel: StreamParcel,
    /// Everything received so far; it starts with the first login request.
    pub received: Vec<u8>,
    /// The initiator's address.
    pub peer: SocketAddr,
}

/// One session, as control shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionReport {
    /// Target session identifying handle; unique on the node together with `core`.
    pub tsih: u16,
    /// The core that serves it.
    pub core: usize,
    /// Initiator's iSCSI name.
    pub initiator_name: String,
    /// Initiator session id, 12 hex digits.
    pub isid: String,
    /// The target, or nothing for a discovery session.
    pub target_name: Option<String>,
    /// Address of each connection, by connection id.
    pub connections: Vec<(u16, SocketAddr)>,
    /// Commands in progress.
    pub tasks: usize,
}

/// A message to one core.
pub enum CoreMessage {
    /// Create a target or change it; sessions go on and see the change as unit attentions.
    SetTarget {
        /// What it is from now on.
        setup: Box<TargetSetup>,
        /// Done, or why not.
        answer: Answer<Result<(), TargetError>>,
    },
    /// Remove a target; its sessions are closed.
    RemoveTarget {
        /// The target's name.
        name: String,
        /// Done, or why not.
        answer: Answer<Result<(), TargetError>>,
    },
    /// The targets are there: take connections, where [`crate::setup::Settings::starts_closed`] said not to.
    Accept,
    /// The map of targets has changed.
    SetDirectory(Arc<Directory>),
    /// List the sessions of this core.
    Sessions(Answer<Vec<SessionReport>>),
    /// Close a session; the initiator may log in again.
    DropSession {
        /// Which.
        tsih: u16,
        /// True when it existed.
        answer: Answer<bool>,
    },
    /// A connection that another core accepted.
    Adopt(MovedConnection),
    /// Accept no more, let running commands end, tell initiators, close, let go of the volumes.
    Drain(Answer<()>),
}
