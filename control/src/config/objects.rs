//! `[[volume]]`, `[[target]]` and `[[subsystem]]`: what a node creates at start when it does not exist yet.
//!
//! The catalog stays the truth: an object that exists is left as it is, also when the file says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;
use uuid::Uuid;

use super::ConfigError;
use crate::model::{
    AnaState, AuthMethod, Backing, ByteSize, ChapRole, ChapUser, ChapUserName, DigestPolicy, HostDigest,
    HostPattern, InitiatorPattern, IscsiName, Lun, ModelNumber, Nqn, Nsid, PortId, SerialNumber,
    SubsystemSpec, TargetSpec, VolumeName, VolumeSpec,
};

/// `[[volume]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeConfig {
    /// Its name.
    pub name: VolumeName,
    /// Its size.
    pub size: ByteSize,
    /// Logical block size.
    #[serde(default = "default_block_size")]
    pub block_size: u32,
    /// Where the blocks are.
    #[serde(default)]
    pub backing: Backing,
    /// Its identity; a new one when absent.
    #[serde(default)]
    pub uuid: Option<Uuid>,
    /// The reactor that must own it.
    #[serde(default)]
    pub core: Option<u32>,
}

/// 512 is what every initiator, boot loader and disk image understands.
pub(crate) fn default_block_size() -> u32 {
    512
}

impl VolumeConfig {
    /// The volume that it describes.
    pub fn to_spec(&self) -> VolumeSpec {
        VolumeSpec {
            name: self.name.clone(),
            uuid: self.uuid.unwrap_or_else(Uuid::new_v4),
            size_bytes: self.size.0,
            block_size: self.block_size,
            backing: self.backing.clone(),
            core: self.core,
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.to_spec().validate().map_err(|error| ConfigError::Refused {
            path: format!("volume {}", self.name),
            detail: error.to_string(),
        })
    }
}

/// `[[target.user]]`. The secret itself never stands in the configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// `CHAP_N`.
    pub name: ChapUserName,
    /// Who proves itself with it.
    #[serde(default)]
    pub role: ChapRole,
    /// File with the secret; one trailing line end is ignored.
    pub secret_file: PathBuf,
}

/// `[[target]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetConfig {
    /// Its iSCSI name.
    pub name: IscsiName,
    /// Text that initiators show to people.
    #[serde(default)]
    pub alias: Option<String>,
    /// The portals that reach it.
    #[serde(default = "super::default_tag")]
    pub portal_group_tag: u16,
    /// Logical units: LUN to volume.
    #[serde(default)]
    pub luns: BTreeMap<String, VolumeName>,
    /// How initiators prove who they are.
    #[serde(default)]
    pub auth_method: AuthMethod,
    /// CHAP users.
    #[serde(default, rename = "user")]
    pub users: Vec<UserConfig>,
    /// Who may log in; empty admits everyone.
    #[serde(default)]
    pub allow: BTreeSet<InitiatorPattern>,
    /// Header digest.
    #[serde(default)]
    pub header_digest: DigestPolicy,
    /// Data digest.
    #[serde(default)]
    pub data_digest: DigestPolicy,
}

impl TargetConfig {
    /// The target that it describes, without secrets.
    pub fn to_spec(&self) -> Result<TargetSpec, ConfigError> {
        let refused = |detail: String| ConfigError::Refused { path: format!("target {}", self.name), detail };
        let mut luns = BTreeMap::new();
        for (text, volume) in &self.luns {
            let number: u64 = text.parse().map_err(|_| refused(format!("luns: {text:?} is not a number")))?;
            let lun = Lun::try_from(number).map_err(|error| refused(error.to_string()))?;
            if luns.insert(lun, volume.clone()).is_some() {
                return Err(refused(format!("luns: LUN {lun} is given twice")));
            }
        }
        let spec = TargetSpec {
            name: self.name.clone(),
            alias: self.alias.clone(),
            portal_group_tag: self.portal_group_tag,
            luns,
            auth_method: self.auth_method,
            users: self.users.iter().map(|u| ChapUser { name: u.name.clone(), role: u.role }).collect(),
            allow: self.allow.clone(),
            header_digest: self.header_digest,
            data_digest: self.data_digest,
        };
        spec.validate().map_err(|error| refused(error.to_string()))?;
        Ok(spec)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.to_spec().map(drop)
    }
}

/// `[[subsystem]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubsystemConfig {
    /// Its name.
    pub nqn: Nqn,
    /// Serial number that hosts show; made from a new UUID when absent.
    #[serde(default)]
    pub serial_number: Option<SerialNumber>,
    /// Model number that hosts show.
    #[serde(default)]
    pub model_number: ModelNumber,
    /// Namespaces: NSID to volume.
    #[serde(default)]
    pub namespaces: BTreeMap<Nsid, VolumeName>,
    /// Hosts that may connect; empty admits every host.
    #[serde(default)]
    pub allow: BTreeSet<HostPattern>,
    /// ANA state by listener tag; what is not listed is optimized.
    #[serde(default)]
    pub ana: BTreeMap<PortId, AnaState>,
    /// Header digest.
    #[serde(default)]
    pub header_digest: HostDigest,
    /// Data digest.
    #[serde(default)]
    pub data_digest: HostDigest,
}

impl SubsystemConfig {
    /// The subsystem that it describes; with a new serial number when it names none.
    pub fn to_spec(&self) -> SubsystemSpec {
        SubsystemSpec {
            nqn: self.nqn.clone(),
            serial_number: self
                .serial_number
                .clone()
                .unwrap_or_else(|| SerialNumber::of_uuid(Uuid::new_v4())),
            model_number: self.model_number.clone(),
            namespaces: self.namespaces.clone(),
            allow: self.allow.clone(),
            ana: self.ana.clone(),
            header_digest: self.header_digest,
            data_digest: self.data_digest,
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.to_spec().validate().map_err(|error| ConfigError::Refused {
            path: format!("subsystem {}", self.nqn),
            detail: error.to_string(),
        })
    }
}
