//! Sessions as they are shown.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::IscsiName;

/// Names a session on this node: the core that serves it and its TSIH there. Written `CORE-TSIH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId {
    /// Index of the core.
    pub core: u32,
    /// Target session identifying handle.
    pub tsih: u16,
}

/// The text is not a session id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("session id {input:?} is not CORE-TSIH; \"vega session list\" shows the ids")]
pub struct SessionIdError {
    input: String,
}

impl std::fmt::Display for SessionId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{}", self.core, self.tsih)
    }
}

impl std::str::FromStr for SessionId {
    type Err = SessionIdError;

    fn from_str(input: &str) -> Result<Self, SessionIdError> {
        let parsed =
            input.split_once('-').and_then(|(core, tsih)| Some((core.parse().ok()?, tsih.parse().ok()?)));
        match parsed {
            Some((core, tsih)) => Ok(Self { core, tsih }),
            None => Err(SessionIdError { input: super::name::shortened(input.to_owned()) }),
        }
    }
}

impl TryFrom<String> for SessionId {
    type Error = SessionIdError;

    fn try_from(input: String) -> Result<Self, SessionIdError> {
        input.parse()
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.to_string()
    }
}

/// One TCP connection of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConnectionInfo {
    /// Connection id (CID) that the initiator chose.
    pub connection_id: u16,
    /// The initiator's address.
    #[schema(value_type = String, example = "192.0.2.7:51514")]
    pub peer: SocketAddr,
}

/// A session that is logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SessionInfo {
    /// Its name on this node.
    #[schema(value_type = String, example = "0-17")]
    pub id: SessionId,
    /// The initiator's iSCSI name, as it gave it.
    pub initiator: String,
    /// Initiator session id, 12 hexadecimal digits.
    pub isid: String,
    /// The target; absent for a discovery session.
    pub target: Option<IscsiName>,
    /// Its connections.
    pub connections: Vec<ConnectionInfo>,
    /// Commands in progress.
    pub tasks: u64,
}
