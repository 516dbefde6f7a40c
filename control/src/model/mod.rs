//! Plain data that the catalog stores, the API shows and the bridge carries.
//!
//! A value of one of these types has been checked: names, sizes and secrets are parsed once at the
//! edge (JSON, TOML, command line) and not looked at again. No type here knows a socket or a core.

mod controller;
mod device;
mod error;
mod identify;
mod name;
mod node;
mod nqn;
mod number;
mod secret;
mod session;
mod size;
mod subsystem;
mod target;
mod volume;

pub use controller::{ControllerId, ControllerIdError, ControllerInfo, ControllerKind, QueueInfo};
pub use device::{DeviceKind, DeviceName, DeviceNamespace, DeviceQueuePair, DeviceState};
pub use error::ModelError;
pub use identify::{ModelNumber, SerialNumber};
pub use name::{IscsiName, IscsiNameFormat, VolumeName};
pub use node::{CoreStatus, NodeStatus, Readiness, ReadinessCheck};
pub use nqn::{DISCOVERY_NQN, HostPattern, Nqn};
pub use secret::Secret;
pub use session::{ConnectionInfo, SessionId, SessionInfo};
pub use size::ByteSize;
pub use subsystem::{AnaState, HostDigest, Listener, Nsid, PortId, ResolvedSubsystem, SubsystemSpec};
pub use target::{
    AuthMethod, ChapRole, ChapUser, ChapUserName, DigestPolicy, InitiatorPattern, Lun, ResolvedTarget,
    ResolvedUser, TargetSpec,
};
pub(crate) use volume::check_size;
pub use volume::{Backing, VolumeSpec};
