//! Controllers as they are shown.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Nqn, PortId};

/// Names a controller on this node, written `CORE-CNTLID@NQN`: the core that serves it, its identifier, and the
/// subsystem in which that is unique.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ControllerId {
    /// The subsystem; the well-known name for discovery.
    pub subsystem: Nqn,
    /// Index of the core.
    pub core: u32,
    /// Controller identifier.
    pub cntlid: u16,
}

/// The text is not a controller id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("controller id {input:?} is not CORE-CNTLID@NQN; \"vega controller list\" shows the ids")]
pub struct ControllerIdError {
    input: String,
}

impl std::fmt::Display for ControllerId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{}@{}", self.core, self.cntlid, self.subsystem)
    }
}

impl std::str::FromStr for ControllerId {
    type Err = ControllerIdError;

    fn from_str(input: &str) -> Result<Self, ControllerIdError> {
        let parsed = || {
            let (numbers, nqn) = input.split_once('@')?;
            let (core, cntlid) = numbers.split_once('-')?;
            Some(Self {
                subsystem: nqn.parse().ok()?,
                core: core.parse().ok()?,
                cntlid: cntlid.parse().ok()?,
            })
        };
        parsed().ok_or_else(|| ControllerIdError { input: super::name::shortened(input.to_owned()) })
    }
}

impl TryFrom<String> for ControllerId {
    type Error = ControllerIdError;

    fn try_from(input: String) -> Result<Self, ControllerIdError> {
        input.parse()
    }
}

impl From<ControllerId> for String {
    fn from(id: ControllerId) -> Self {
        id.to_string()
    }
}

/// What a controller is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ControllerKind {
    /// It serves the namespaces of a subsystem.
    Io,
    /// It serves the discovery log.
    Discovery,
}

impl ControllerKind {
    /// One word for tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::Discovery => "discovery",
        }
    }
}

/// A queue pair of a controller, which is one TCP connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QueueInfo {
    /// Queue identifier; 0 is the admin queue.
    pub queue_id: u16,
    /// The host's address.
    #[schema(value_type = String, example = "192.0.2.7:51514")]
    pub peer: SocketAddr,
}

/// A controller that a host is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ControllerInfo {
    /// Its name on this node.
    #[schema(value_type = String, example = "0-17@nqn.2026-11.io.vega:data-1")]
    pub id: ControllerId,
    /// What it is for.
    pub kind: ControllerKind,
    /// `HOSTNQN`, as the host gave it.
    pub host_nqn: String,
    /// `HOSTID`.
    #[schema(value_type = String)]
    pub host_id: Uuid,
    /// Tag of the listener that it was reached by.
    pub listener: PortId,
    /// Keep Alive Timeout (`KATO`) in milliseconds; 0 when there is none.
    pub keep_alive_ms: u32,
    /// Its queue pairs, the admin queue first.
    pub queues: Vec<QueueInfo>,
    /// Commands in progress.
    pub commands: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_core_cntlid_and_subsystem() {
        let text = "3-65519@nqn.2026-11.io.vega:s";
        let id: ControllerId = text.parse().unwrap();
        assert_eq!((id.core, id.cntlid, id.to_string().as_str()), (3, 65519, text));
        for bad in
            ["", "3-1", "3@nqn.2026-11.io.vega:s", "3-65536@nqn.2026-11.io.vega:s", "a-b@c", "3-1@", "-@"]
        {
            let error = bad.parse::<ControllerId>().unwrap_err().to_string();
            assert!(error.contains("vega controller list"), "{bad}");
        }
    }
}
