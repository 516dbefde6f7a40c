//! What an NVM subsystem is meant to be: its namespaces, who may connect, and in which state each way to it is.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use super::number::number_or_digits;
use super::{HostPattern, ModelError, ModelNumber, Nqn, SerialNumber, VolumeName};
use crate::limits::{HOSTS_PER_SUBSYSTEM_MAX, NAMESPACES_PER_SUBSYSTEM_MAX, NSID_MAX};

/// Namespace identifier, 1 to 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
#[serde(into = "u64")]
#[schema(value_type = u32, minimum = 1, maximum = 1024)]
pub struct Nsid(u32);

impl Nsid {
    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u64> for Nsid {
    type Error = ModelError;

    fn try_from(nsid: u64) -> Result<Self, ModelError> {
        match u32::try_from(nsid) {
            Ok(small) if (1..=NSID_MAX).contains(&small) => Ok(Self(small)),
            _ => Err(ModelError::Nsid { nsid, max: NSID_MAX }),
        }
    }
}

/// Port identifier (`PORTID` of the discovery log): the `tag` of one or several listeners, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
#[serde(into = "u64")]
#[schema(value_type = u16, minimum = 1)]
pub struct PortId(u16);

impl PortId {
    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u64> for PortId {
    type Error = ModelError;

    fn try_from(tag: u64) -> Result<Self, ModelError> {
        match u16::try_from(tag) {
            Ok(small) if small != 0 => Ok(Self(small)),
            _ => Err(ModelError::PortId { tag }),
        }
    }
}

macro_rules! number_newtype {
    ($name:ident, $expecting:literal) => {
        impl<'de> Deserialize<'de> for $name {
            /// A number, or its digits: the key of a JSON object is always text.
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let number = number_or_digits(deserializer, $expecting)?;
                Self::try_from(number).map_err(serde::de::Error::custom)
            }
        }

        impl From<$name> for u64 {
            fn from(value: $name) -> Self {
                u64::from(value.0)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

number_newtype!(Nsid, "an NSID from 1 to 1024");
number_newtype!(PortId, "a listener tag from 1 to 65535");

/// Asymmetric namespace access state (NVMe Base specification, section 8.1.1) of a subsystem as reached by a listener.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum AnaState {
    /// The best way there is.
    #[default]
    Optimized,
    /// Works, and hosts use it while no optimized way is left.
    NonOptimized,
    /// Does not work now; hosts wait for another way.
    Inaccessible,
    /// Does not work any more on this listener.
    PersistentLoss,
    /// About to be in another state; hosts retry for a while.
    Change,
}

impl AnaState {
    /// As it is written everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Optimized => "optimized",
            Self::NonOptimized => "non-optimized",
            Self::Inaccessible => "inaccessible",
            Self::PersistentLoss => "persistent-loss",
            Self::Change => "change",
        }
    }
}

/// What a subsystem asks of the digests of a connection. They are agreed in ICReq and ICResp, before a host has named
/// its subsystem, so that a subsystem can only admit or refuse what was agreed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum HostDigest {
    /// As the host wants it.
    #[default]
    Host,
    /// A connection without it is refused at Connect.
    Require,
}

impl HostDigest {
    /// As it is written everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Require => "require",
        }
    }
}

/// A listener of NVMe/TCP, as hosts are told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Listener {
    /// Its tag.
    pub tag: PortId,
    /// `address:port` that hosts connect to.
    #[schema(example = "192.0.2.10:4420")]
    pub address: String,
}

/// A subsystem as it is desired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SubsystemSpec {
    /// Its name (`SUBNQN`).
    pub nqn: Nqn,
    /// Serial number that hosts show.
    pub serial_number: SerialNumber,
    /// Model number that hosts show.
    pub model_number: ModelNumber,
    /// Namespaces: NSID to volume. They live on one core.
    #[schema(value_type = BTreeMap<String, String>)]
    pub namespaces: BTreeMap<Nsid, VolumeName>,
    /// Hosts that may connect; empty admits every host.
    pub allow: BTreeSet<HostPattern>,
    /// ANA state by listener tag; what is not listed is optimized.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, AnaState>)]
    pub ana: BTreeMap<PortId, AnaState>,
    /// Header digest.
    pub header_digest: HostDigest,
    /// Data digest.
    pub data_digest: HostDigest,
}

impl SubsystemSpec {
    /// A subsystem with nothing in it and a serial number of its own.
    pub fn new(nqn: Nqn) -> Self {
        Self {
            nqn,
            serial_number: SerialNumber::of_uuid(Uuid::new_v4()),
            model_number: ModelNumber::default(),
            namespaces: BTreeMap::new(),
            allow: BTreeSet::new(),
            ana: BTreeMap::new(),
            header_digest: HostDigest::default(),
            data_digest: HostDigest::default(),
        }
    }

    /// Checks what the types cannot.
    pub fn validate(&self) -> Result<(), ModelError> {
        let nqn = || self.nqn.to_string();
        if self.nqn.is_discovery() {
            return Err(ModelError::DiscoveryNqn { nqn: nqn() });
        }
        let counts = [
            ("namespaces", self.namespaces.len(), NAMESPACES_PER_SUBSYSTEM_MAX),
            ("hosts", self.allow.len(), HOSTS_PER_SUBSYSTEM_MAX),
        ];
        for (what, count, max) in counts {
            if count > max {
                return Err(ModelError::TooMany { of: format!("subsystem {}", self.nqn), what, count, max });
            }
        }
        let mut seen = BTreeMap::new();
        for (nsid, volume) in &self.namespaces {
            if let Some(first) = seen.insert(volume, nsid.get()) {
                let (volume, second) = (volume.to_string(), nsid.get());
                return Err(ModelError::VolumeTwice { nqn: nqn(), volume, first, second });
            }
        }
        Ok(())
    }

    /// What an operator should know about a subsystem that is valid and still surprising.
    pub fn warnings(&self) -> Vec<String> {
        let nqn = &self.nqn;
        let mut warnings = Vec::new();
        if self.allow.is_empty() {
            warnings.push(format!(
                "every host that reaches a listener may connect to {nqn}; restrict it with \"vega subsystem allow-host \
                 {nqn} HOSTNQN\""
            ));
        }
        for (tag, state) in &self.ana {
            if !matches!(state, AnaState::Optimized | AnaState::NonOptimized) {
                warnings.push(format!(
                    "{nqn} is {} by listener {tag}; change that with \"vega subsystem set-ana {nqn} --listener {tag} \
                     --state optimized\"",
                    state.as_str()
                ));
            }
        }
        warnings
    }

    /// True when a host of that name is on the allow list, or the list is empty.
    pub fn admits(&self, host_nqn: &str) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|pattern| pattern.matches(host_nqn))
    }

    /// The state of the subsystem as reached by a listener.
    pub fn ana_state(&self, tag: PortId) -> AnaState {
        self.ana.get(&tag).copied().unwrap_or_default()
    }

    /// The NSID of a volume.
    pub fn nsid_of(&self, volume: &VolumeName) -> Option<Nsid> {
        self.namespaces.iter().find(|(_, name)| *name == volume).map(|(nsid, _)| *nsid)
    }

    /// The lowest NSID that is not used.
    pub fn free_nsid(&self) -> Result<Nsid, ModelError> {
        let free = (1..=NSID_MAX).map(Nsid).find(|nsid| !self.namespaces.contains_key(nsid));
        free.ok_or_else(|| ModelError::NoFreeNsid {
            nqn: self.nqn.to_string(),
            max: NAMESPACES_PER_SUBSYSTEM_MAX,
        })
    }
}

/// A subsystem with everything the data plane needs to serve it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedSubsystem {
    /// The subsystem; every volume of it is open.
    pub spec: SubsystemSpec,
    /// The state of every listener of the node, also of those that `spec.ana` does not list.
    pub ana: BTreeMap<PortId, AnaState>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subsystem() -> SubsystemSpec {
        SubsystemSpec::new("nqn.2026-11.io.vega:s".parse().unwrap())
    }

    #[test]
    fn identifiers_are_read_from_numbers_and_from_keys() {
        let read = |text: &str| serde_json::from_str::<BTreeMap<Nsid, u8>>(text).map(|map| map.len());
        assert_eq!(read(r#"{"1":1,"1024":2}"#).unwrap(), 2);
        for bad in ["0", "1025", "-1", "a", "", "01", "4294967295"] {
            assert!(read(&format!("{{\"{bad}\":1}}")).is_err(), "{bad}");
        }
        assert_eq!(serde_json::from_str::<Nsid>("7").unwrap().get(), 7);
        assert!(
            serde_json::from_str::<PortId>("0").is_err() && serde_json::from_str::<PortId>("65536").is_err()
        );
    }

    #[test]
    fn a_volume_is_one_namespace_and_discovery_is_no_subsystem() {
        let mut it = subsystem();
        it.namespaces.insert(Nsid(1), "a".parse().unwrap());
        assert_eq!(it.validate(), Ok(()));
        assert_eq!(it.free_nsid(), Ok(Nsid(2)));
        it.namespaces.insert(Nsid(3), "a".parse().unwrap());
        assert!(matches!(it.validate(), Err(ModelError::VolumeTwice { first: 1, second: 3, .. })));
        assert!(matches!(
            SubsystemSpec::new(Nqn::discovery()).validate(),
            Err(ModelError::DiscoveryNqn { .. })
        ));
        it.namespaces =
            (1..=NSID_MAX).map(|nsid| (Nsid(nsid), format!("v{nsid}").parse().unwrap())).collect();
        assert_eq!(it.validate(), Ok(()));
        assert!(matches!(it.free_nsid(), Err(ModelError::NoFreeNsid { .. })));
    }

    #[test]
    fn warnings_name_what_is_open_and_what_is_closed() {
        let mut it = subsystem();
        assert!(it.admits("anything") && it.warnings()[0].contains("every host"));
        it.allow.insert("nqn.2026-11.io.vega:h*".parse().unwrap());
        assert!(it.warnings().is_empty() && it.admits("nqn.2026-11.io.vega:host"));
        assert!(!it.admits("nqn.2026-11.io.vega:Host"));
        let (first, second) = (PortId(1), PortId(2));
        it.ana = [(first, AnaState::Inaccessible), (second, AnaState::NonOptimized)].into();
        assert_eq!(
            (it.ana_state(first), it.ana_state(PortId(3))),
            (AnaState::Inaccessible, AnaState::Optimized)
        );
        assert!(matches!(&it.warnings()[..], [one] if one.contains("inaccessible by listener 1")));
        for at in 0..=HOSTS_PER_SUBSYSTEM_MAX {
            it.allow.insert(format!("nqn.2026-11.io.vega:h{at}").parse().unwrap());
        }
        assert!(matches!(it.validate(), Err(ModelError::TooMany { .. })));
    }
}
