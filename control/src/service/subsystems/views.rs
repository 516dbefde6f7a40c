//! Subsystems as they are asked for and shown.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::{
    AnaState, HostDigest, HostPattern, ModelNumber, Nqn, Nsid, PortId, SerialNumber, SubsystemSpec,
    VolumeName,
};

/// A subsystem to create.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSubsystem {
    /// Its name (`SUBNQN`).
    pub nqn: Nqn,
    /// Serial number that hosts show; made from a new UUID when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<SerialNumber>,
    /// Model number that hosts show.
    #[serde(default)]
    pub model_number: ModelNumber,
    /// Namespaces: NSID to volume.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    pub namespaces: BTreeMap<Nsid, VolumeName>,
    /// Hosts that may connect; empty admits every host.
    #[serde(default)]
    pub allow: BTreeSet<HostPattern>,
    /// ANA state by listener tag; what is not listed is optimized.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, AnaState>)]
    pub ana: BTreeMap<PortId, AnaState>,
    /// Header digest.
    #[serde(default)]
    pub header_digest: HostDigest,
    /// Data digest.
    #[serde(default)]
    pub data_digest: HostDigest,
}

impl NewSubsystem {
    /// The subsystem that it describes.
    pub fn to_spec(&self) -> SubsystemSpec {
        let serial_number = self.serial_number.clone();
        SubsystemSpec {
            nqn: self.nqn.clone(),
            serial_number: serial_number.unwrap_or_else(|| SerialNumber::of_uuid(Uuid::new_v4())),
            model_number: self.model_number.clone(),
            namespaces: self.namespaces.clone(),
            allow: self.allow.clone(),
            ana: self.ana.clone(),
            header_digest: self.header_digest,
            data_digest: self.data_digest,
        }
    }

    /// The parameters in which an existing subsystem is another one.
    pub(super) fn differences(&self, spec: &SubsystemSpec) -> Vec<&'static str> {
        let same_serial = self.serial_number.as_ref().is_none_or(|serial| *serial == spec.serial_number);
        let pairs = [
            ("serial number", same_serial),
            ("model number", self.model_number == spec.model_number),
            ("namespaces", self.namespaces.is_empty() || self.namespaces == spec.namespaces),
            ("allow list", self.allow.is_empty() || self.allow == spec.allow),
            ("ANA states", self.ana.is_empty() || self.ana == spec.ana),
            ("header digest", self.header_digest == spec.header_digest),
            ("data digest", self.data_digest == spec.data_digest),
        ];
        pairs.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
    }
}

/// What may be changed about a subsystem as a whole; what is absent stays. Its name, serial and model number stay for
/// ever: hosts know it by them.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubsystemChange {
    /// Header digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_digest: Option<HostDigest>,
    /// Data digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_digest: Option<HostDigest>,
}

/// A way to a subsystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ListenerView {
    /// Tag of the listener.
    pub tag: PortId,
    /// `address:port` that hosts connect to.
    #[schema(example = "192.0.2.10:4420")]
    pub address: String,
    /// The state of the subsystem there.
    pub ana: AnaState,
}

/// A subsystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SubsystemView {
    /// What it is meant to be.
    #[serde(flatten)]
    pub spec: SubsystemSpec,
    /// The ways to it.
    pub listeners: Vec<ListenerView>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What an operator should know about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
