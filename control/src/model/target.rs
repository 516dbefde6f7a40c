//! What an iSCSI target is meant to be: its units, who may log in and how they prove who they are.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

use super::name::{shortened, text_newtype};
use super::number::number_or_digits;
use super::{IscsiName, ModelError, Secret, VolumeName};
use crate::limits::{
    ALIAS_BYTES_MAX, ALLOW_PER_TARGET_MAX, CHAP_NAME_BYTES_MAX, ISCSI_NAME_BYTES_MAX, LUN_MAX,
    LUNS_PER_TARGET_MAX, USERS_PER_TARGET_MAX,
};

/// Logical unit number, flat space, single level (SAM-5 section 4.7.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
#[serde(into = "u64")]
#[schema(value_type = u16, maximum = 255)]
pub struct Lun(u16);

impl Lun {
    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u64> for Lun {
    type Error = ModelError;

    fn try_from(lun: u64) -> Result<Self, ModelError> {
        match u16::try_from(lun) {
            Ok(small) if small <= LUN_MAX => Ok(Self(small)),
            _ => Err(ModelError::Lun { lun, max: LUN_MAX }),
        }
    }
}

impl<'de> Deserialize<'de> for Lun {
    /// A number, or its digits: the key of a JSON object is always text.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = number_or_digits(deserializer, &format!("a LUN from 0 to {LUN_MAX}"))?;
        Self::try_from(number).map_err(serde::de::Error::custom)
    }
}

impl From<Lun> for u64 {
    fn from(lun: Lun) -> Self {
        u64::from(lun.0)
    }
}

impl std::fmt::Display for Lun {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// How initiators must prove who they are.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum AuthMethod {
    /// Nobody proves anything.
    #[default]
    None,
    /// The initiator proves itself by CHAP.
    Chap,
    /// The initiator proves itself, and the target proves itself to an initiator that asks.
    Mutual,
}

/// Which digest a target negotiates (RFC 7143, section 13.1).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum DigestPolicy {
    /// The initiator's first choice among `None` and `CRC32C`.
    #[default]
    Initiator,
    /// `CRC32C` whenever the initiator offers it.
    Prefer,
    /// `CRC32C` or no login.
    Require,
    /// Never.
    Off,
}

/// User name of CHAP (`CHAP_N`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "backup-host")]
pub struct ChapUserName(String);

impl ChapUserName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ChapUserName {
    type Error = ModelError;

    fn try_from(input: String) -> Result<Self, ModelError> {
        let reason = if input.is_empty() {
            "it is empty"
        } else if input.len() > CHAP_NAME_BYTES_MAX {
            "it is too long"
        } else if !input.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b',') {
            "it has a character that is not allowed"
        } else {
            return Ok(Self(input));
        };
        Err(ModelError::ChapUserName { input: shortened(input), reason })
    }
}

/// Who proves itself with a user name and secret.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum ChapRole {
    /// Initiators log in with it.
    #[default]
    Initiator,
    /// The target answers with it when an initiator asks (mutual CHAP); at most one.
    Target,
}

/// A CHAP user of a target, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ChapUser {
    /// `CHAP_N`.
    pub name: ChapUserName,
    /// Who proves itself with it.
    #[serde(default)]
    pub role: ChapRole,
}

/// One entry of an allow list: an initiator's whole name, or the beginning of one and `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "iqn.1994-05.com.redhat:*")]
pub struct InitiatorPattern(String);

impl InitiatorPattern {
    /// The pattern as text, folded to lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True when an initiator of that name may log in.
    pub fn matches(&self, initiator_name: &str) -> bool {
        let name = initiator_name.to_ascii_lowercase();
        match self.0.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == self.0,
        }
    }
}

impl TryFrom<String> for InitiatorPattern {
    type Error = ModelError;

    fn try_from(input: String) -> Result<Self, ModelError> {
        let lower = input.to_ascii_lowercase();
        let name = lower.strip_suffix('*').unwrap_or(&lower);
        let reason = if lower == "*" {
            "an empty list already admits everyone"
        } else if name.len() > ISCSI_NAME_BYTES_MAX {
            "it is longer than 223 bytes"
        } else if name.contains('*') {
            "'*' may stand at the end only"
        } else if !["iqn.", "eui.", "naa."].iter().any(|prefix| name.starts_with(prefix)) {
            "it does not begin with \"iqn.\", \"eui.\" or \"naa.\""
        } else if !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b',') {
            "it has a character that an iSCSI name cannot have"
        } else {
            return Ok(Self(lower));
        };
        Err(ModelError::InitiatorPattern { input: shortened(input), reason })
    }
}

text_newtype!(ChapUserName);
text_newtype!(InitiatorPattern);

/// A target as it is desired; secrets are kept apart from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TargetSpec {
    /// Its iSCSI name.
    pub name: IscsiName,
    /// Text that initiators show to people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// The portals that reach it (RFC 7143, section 4.1.3).
    pub portal_group_tag: u16,
    /// Logical units.
    pub luns: BTreeMap<Lun, VolumeName>,
    /// How initiators prove who they are.
    pub auth_method: AuthMethod,
    /// CHAP users; names only.
    pub users: Vec<ChapUser>,
    /// Who may log in; empty admits every initiator.
    pub allow: BTreeSet<InitiatorPattern>,
    /// Header digest.
    pub header_digest: DigestPolicy,
    /// Data digest.
    pub data_digest: DigestPolicy,
}

impl TargetSpec {
    /// A target with nothing in it.
    pub fn new(name: IscsiName) -> Self {
        Self {
            name,
            alias: None,
            portal_group_tag: 1,
            luns: BTreeMap::new(),
            auth_method: AuthMethod::None,
            users: Vec::new(),
            allow: BTreeSet::new(),
            header_digest: DigestPolicy::default(),
            data_digest: DigestPolicy::default(),
        }
    }

    /// Checks what the types cannot. A target that asks for CHAP and has no user yet is allowed here: it
    /// admits nobody until one is added, which is the safe order of doing things; see [`Self::warnings`].
    pub fn validate(&self) -> Result<(), ModelError> {
        if self.portal_group_tag == 0 {
            return Err(ModelError::PortalGroupTag);
        }
        if let Some(alias) = &self.alias
            && (alias.len() > ALIAS_BYTES_MAX || alias.chars().any(char::is_control))
        {
            return Err(ModelError::Alias { length: alias.len(), max: ALIAS_BYTES_MAX });
        }
        let counts = [
            ("LUNs", self.luns.len(), LUNS_PER_TARGET_MAX),
            ("users", self.users.len(), USERS_PER_TARGET_MAX),
            ("initiators", self.allow.len(), ALLOW_PER_TARGET_MAX),
        ];
        for (what, count, max) in counts {
            if count > max {
                return Err(ModelError::TooMany { of: format!("target {}", self.name), what, count, max });
            }
        }
        let mut own = self.users.iter().filter(|user| user.role == ChapRole::Target);
        match (own.next(), own.next()) {
            (Some(first), Some(_)) => Err(ModelError::SecondTargetCredentials {
                target: self.name.to_string(),
                existing: first.name.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// What an operator should know about a target that is valid and still surprising.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let name = &self.name;
        let has = |role| self.users.iter().any(|user| user.role == role);
        if self.allow.is_empty() {
            warnings.push(format!(
                "every initiator that reaches the portal may log in to {name}; restrict it with \"vega target allow \
                 add {name} INITIATOR\""
            ));
        }
        if self.auth_method == AuthMethod::None && !self.users.is_empty() {
            warnings.push(format!(
                "{name} has users, but asks nobody for a secret; change that with \"vega target set {name} --auth chap\""
            ));
        }
        if self.auth_method != AuthMethod::None && !has(ChapRole::Initiator) {
            let error = ModelError::NoChapUser { target: name.to_string() };
            warnings.push(format!("nobody can log in: {error}"));
        }
        if self.auth_method == AuthMethod::Mutual && !has(ChapRole::Target) {
            warnings.push(ModelError::NoTargetCredentials { target: name.to_string() }.to_string());
        }
        warnings
    }

    /// True when an initiator of that name is on the allow list, or the list is empty.
    pub fn admits(&self, initiator_name: &str) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|pattern| pattern.matches(initiator_name))
    }
}

/// A CHAP user with its secret, on its way to the data plane.
#[derive(Clone)]
pub struct ResolvedUser {
    /// `CHAP_N`.
    pub name: ChapUserName,
    /// What `CHAP_R` is computed with.
    pub secret: Secret,
}

/// A target with everything the data plane needs to serve it.
#[derive(Clone)]
pub struct ResolvedTarget {
    /// The target.
    pub spec: TargetSpec,
    /// Credentials that initiators may use.
    pub users: Vec<ResolvedUser>,
    /// The target's own credentials, for mutual CHAP.
    pub own: Option<ResolvedUser>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> TargetSpec {
        TargetSpec::new("iqn.2026-11.io.vega:t".parse().unwrap())
    }

    #[test]
    fn luns_are_read_from_numbers_and_from_keys() {
        let read = |text: &str| serde_json::from_str::<BTreeMap<Lun, u8>>(text).map(|map| map.len());
        assert_eq!(read(r#"{"0":1,"255":2}"#).unwrap(), 2);
        for bad in [r#"{"256":1}"#, r#"{"-1":1}"#, r#"{"a":1}"#, r#"{"":1}"#, r#"{"01":1}"#, r#"{"+1":1}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(serde_json::from_str::<Lun>("7").unwrap().get(), 7);
        assert!(serde_json::from_str::<Lun>("-7").is_err());
    }

    #[test]
    fn patterns_are_whole_names_or_beginnings() {
        let mut it = target();
        assert!(it.admits("anything"));
        for text in ["iqn.1994-05.com.redhat:*", "IQN.1993-08.org.debian:01:ABC"] {
            it.allow.insert(text.parse().unwrap());
        }
        assert!(it.admits("iqn.1994-05.com.redhat:1") && it.admits("iqn.1993-08.org.debian:01:abc"));
        assert!(!it.admits("iqn.1993-08.org.debian:01:abcd") && !it.admits("iqn.1994-05.com.redhat"));
        for bad in ["", "*", "disk*", "iqn.*x", "iqn.a b", "iqn.a/b", &format!("iqn.{}", "x".repeat(220))] {
            assert!(bad.parse::<InitiatorPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_and_warnings() {
        let mut it = target();
        assert!(it.warnings()[0].contains("every initiator"));
        it.auth_method = AuthMethod::Mutual;
        assert_eq!(it.warnings().len(), 3);
        it.portal_group_tag = 0;
        assert_eq!(it.validate(), Err(ModelError::PortalGroupTag));
        it.portal_group_tag = 1;
        it.alias = Some("a\nb".to_owned());
        assert!(it.validate().is_err());
        it.alias = None;
        for at in 0..=USERS_PER_TARGET_MAX {
            let name = format!("u{at}").parse().unwrap();
            it.users.push(ChapUser { name, role: ChapRole::Initiator });
        }
        assert!(matches!(it.validate(), Err(ModelError::TooMany { .. })));
        for bad in ["", "a b", "a/b", "a,b", "ä", &"x".repeat(256)] {
            assert!(bad.parse::<ChapUserName>().is_err(), "{bad}");
        }
    }
}
