//! The node as it is shown.

use serde::{Deserialize, Serialize};

use super::Listener;

/// One reactor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CoreStatus {
    /// Index of the reactor.
    pub core: u32,
    /// The processor that it is pinned to; absent when it floats.
    pub cpu: Option<u32>,
    /// Time in which it had work, in seconds.
    pub busy_seconds: f64,
    /// Time in which it had none, asleep or spinning, in seconds.
    pub idle_seconds: f64,
    /// Turns of a poller that took too long.
    pub stalls: u64,
    /// What kind of memory its buffers are, what that costs and how to change it.
    pub memory: String,
    /// Bytes of buffers.
    pub buffer_bytes: u64,
    /// Of these, in use.
    pub buffer_in_use_bytes: u64,
}

/// The node in one answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NodeStatus {
    /// Name of the node.
    pub name: String,
    /// Version of this program.
    pub version: String,
    /// The commit that it was built from, or `unknown`.
    pub git_commit: String,
    /// When it was started, RFC 3339.
    pub started_at: String,
    /// Seconds since then.
    pub uptime_seconds: u64,
    /// The data directory.
    pub data_dir: String,
    /// Portals as initiators are told them.
    pub portals: Vec<String>,
    /// Listeners of NVMe/TCP as hosts are told them; none when it is switched off.
    pub listeners: Vec<Listener>,
    /// Volumes in the catalog.
    pub volumes: u64,
    /// Targets in the catalog.
    pub targets: u64,
    /// Subsystems in the catalog.
    pub subsystems: u64,
    /// iSCSI sessions that are logged in.
    pub sessions: u64,
    /// NVMe/TCP controllers, of discovery and of I/O.
    pub controllers: u64,
    /// True while it takes no new work because it is about to stop.
    pub draining: bool,
    /// The reactors.
    pub cores: Vec<CoreStatus>,
}

/// One thing that must be so for the node to be ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReadinessCheck {
    /// What was looked at, for example `volume/data-1`.
    pub name: String,
    /// True when it is as it should be.
    pub ok: bool,
    /// What is wrong, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Whether the node serves everything that it should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Readiness {
    /// True when every check is.
    pub ready: bool,
    /// The checks.
    pub checks: Vec<ReadinessCheck>,
}
