//! Objects as they are asked for and shown. The command line reads what the API writes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::{
    AuthMethod, Backing, CoreStatus, DeviceName, DigestPolicy, InitiatorPattern, IscsiName, Lun, Nqn,
    TargetSpec, VolumeName, VolumeSpec,
};

/// Whether an idempotent creation had anything to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is new.
    New,
    /// It was there with the same parameters.
    Existing,
}

/// A volume to create.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVolume {
    /// Its name.
    pub name: VolumeName,
    /// Its size in bytes, a multiple of the block size.
    pub size_bytes: u64,
    /// Logical block size in bytes: 512 or 4096.
    #[serde(default = "crate::config::default_block_size")]
    pub block_size: u32,
    /// Where the blocks are.
    #[serde(default)]
    pub backing: Backing,
    /// Its identity; a new one when absent. With the identity of a data file that was kept, that file is adopted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    /// The reactor that must own it; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core: Option<u32>,
}

impl NewVolume {
    /// The volume that it describes.
    pub fn to_spec(&self) -> VolumeSpec {
        VolumeSpec {
            name: self.name.clone(),
            uuid: self.uuid.unwrap_or_else(Uuid::new_v4),
            size_bytes: self.size_bytes,
            block_size: self.block_size,
            backing: self.backing.clone(),
            core: self.core,
        }
    }

    /// The parameters in which an existing volume is another one.
    pub(super) fn differences(&self, spec: &VolumeSpec) -> Vec<&'static str> {
        let pairs = [
            ("size", self.size_bytes == spec.size_bytes),
            ("block size", self.block_size == spec.block_size),
            ("backing", self.backing == spec.backing),
            ("uuid", self.uuid.is_none_or(|uuid| uuid == spec.uuid)),
            ("core", self.core.is_none() || self.core == spec.core),
        ];
        pairs.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
    }
}

/// How a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VolumeState {
    /// Not served yet.
    Creating,
    /// Served.
    Online,
    /// Served, and about to become larger.
    Growing,
    /// Going away.
    Deleting,
    /// Not served; `problem` says why.
    Failed,
}

impl VolumeState {
    /// One word for tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Online => "online",
            Self::Growing => "growing",
            Self::Deleting => "deleting",
            Self::Failed => "failed",
        }
    }
}

/// A mapping of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Mapping {
    /// The target.
    pub target: IscsiName,
    /// The logical unit number.
    pub lun: u16,
}

/// The namespace that a volume is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Attachment {
    /// The subsystem.
    pub subsystem: Nqn,
    /// The namespace identifier.
    pub nsid: u32,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VolumeView {
    /// What it is meant to be.
    #[serde(flatten)]
    pub spec: VolumeSpec,
    /// How it is.
    pub state: VolumeState,
    /// What is wrong with it, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What it occupies in its back end, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocated_bytes: Option<u64>,
    /// The core that owns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_core: Option<u32>,
    /// True when acknowledged writes need a flush to survive power loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volatile_write_cache: Option<bool>,
    /// Where its data file is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_path: Option<String>,
    /// The targets that map it.
    pub mapped_by: Vec<Mapping>,
    /// The namespace that it is, when a subsystem has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Attachment>,
    /// What an operator should know about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What is left after a volume was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VolumeDeleted {
    /// Its name.
    pub name: VolumeName,
    /// Its identity; give it at creation to adopt data that was kept.
    pub uuid: Uuid,
    /// True when its data is gone.
    pub data_deleted: bool,
    /// Where its data is, when it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_path: Option<String>,
}

/// A target to create. Users are added afterwards, because a secret is never part of a longer document.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTarget {
    /// Its iSCSI name.
    pub name: IscsiName,
    /// Text that initiators show to people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// The portals that reach it; 1 when absent.
    #[serde(default = "one")]
    pub portal_group_tag: u16,
    /// Logical units: LUN to volume.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    pub luns: BTreeMap<Lun, VolumeName>,
    /// How initiators prove who they are.
    #[serde(default)]
    pub auth_method: AuthMethod,
    /// Who may log in; empty admits every initiator.
    #[serde(default)]
    pub allow: BTreeSet<InitiatorPattern>,
    /// Header digest.
    #[serde(default)]
    pub header_digest: DigestPolicy,
    /// Data digest.
    #[serde(default)]
    pub data_digest: DigestPolicy,
}

fn one() -> u16 {
    1
}

impl NewTarget {
    /// The target that it describes.
    pub fn to_spec(&self) -> TargetSpec {
        TargetSpec {
            name: self.name.clone(),
            alias: self.alias.clone(),
            portal_group_tag: self.portal_group_tag,
            luns: self.luns.clone(),
            auth_method: self.auth_method,
            users: Vec::new(),
            allow: self.allow.clone(),
            header_digest: self.header_digest,
            data_digest: self.data_digest,
        }
    }
}

/// A target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TargetView {
    /// What it is meant to be; users without their secrets.
    #[serde(flatten)]
    pub spec: TargetSpec,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What an operator should know about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Counters of one operation of a volume since the node was started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OpReading {
    /// Its name: `read`, `write`, …
    pub operation: String,
    /// How many ended, well or not.
    pub operations: u64,
    /// Payload of those that ended well.
    pub bytes: u64,
    /// How many failed.
    pub errors: u64,
    /// Sum of their durations in nanoseconds.
    pub duration_sum_ns: u64,
    /// Durations: upper bound of a bucket in nanoseconds, and how many fell into it; empty buckets are left out.
    pub duration_buckets: Vec<(u64, u64)>,
}

/// Counters of one volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VolumeReading {
    /// Its name.
    pub volume: String,
    /// The core that owns it.
    pub core: u32,
    /// Its size.
    pub size_bytes: u64,
    /// What it occupies, where that is known.
    pub allocated_bytes: Option<u64>,
    /// By operation.
    pub operations: Vec<OpReading>,
}

/// Who is connected to one subsystem by one core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SubsystemReading {
    /// Its name; the well-known one for discovery.
    pub subsystem: Nqn,
    /// The core.
    pub core: u32,
    /// Controllers.
    pub controllers: u64,
    /// Their queue pairs, each of which is a TCP connection.
    pub connections: u64,
}

/// Counters of the queue pair that a core has with a device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeviceQueueReading {
    /// The core.
    pub core: u32,
    /// Commands that ended, well or not.
    pub commands: u64,
    /// I/Os that ended without success.
    pub errors: u64,
    /// Sum of the durations of commands in nanoseconds.
    pub duration_sum_ns: u64,
    /// Durations: upper bound of a bucket in nanoseconds, and how many fell into it; empty buckets are left out.
    pub duration_buckets: Vec<(u64, u64)>,
}

/// Counters of one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeviceReading {
    /// Its name.
    pub device: DeviceName,
    /// Commands in flight now.
    pub in_flight: u64,
    /// By queue pair.
    pub queue_pairs: Vec<DeviceQueueReading>,
}

/// All counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StatsView {
    /// The moment, in nanoseconds since the node was started.
    pub at_ns: u64,
    /// Every open volume.
    pub volumes: Vec<VolumeReading>,
    /// Every core.
    pub cores: Vec<CoreStatus>,
    /// Every subsystem.
    pub subsystems: Vec<SubsystemReading>,
    /// Every NVMe device that the node drives.
    #[serde(default)]
    pub devices: Vec<DeviceReading>,
    /// iSCSI sessions that are logged in.
    pub sessions: u64,
    /// NVMe/TCP controllers, of discovery and of I/O.
    pub controllers: u64,
    /// TCP connections of both protocols, logged in or not.
    pub connections: u64,
}
