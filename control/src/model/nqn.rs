//! NVMe Qualified Names (NVMe Base specification, section 4.7) and patterns of them.

use serde::{Deserialize, Serialize};

use super::ModelError;
use super::name::{check_date, check_reversed_domain, shortened, text_newtype};
use crate::limits::NQN_BYTES_MAX;

/// The well-known name of every discovery subsystem.
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";

const UUID_PREFIX: &str = "nqn.2014-08.org.nvmexpress:uuid:";

/// An NVMe Qualified Name. Two names are one when their bytes are: nothing is folded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "nqn.2026-11.io.vega:data-1", max_length = 223)]
pub struct Nqn(String);

impl Nqn {
    /// The well-known name of every discovery subsystem.
    pub fn discovery() -> Self {
        Self(DISCOVERY_NQN.to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for the name of the discovery subsystem.
    pub fn is_discovery(&self) -> bool {
        self.0 == DISCOVERY_NQN
    }
}

impl TryFrom<String> for Nqn {
    type Error = ModelError;

    fn try_from(input: String) -> Result<Self, ModelError> {
        match check_nqn(&input) {
            Ok(()) => Ok(Self(input)),
            Err(reason) => Err(ModelError::Nqn { input: shortened(input), reason }),
        }
    }
}

fn check_nqn(input: &str) -> Result<(), &'static str> {
    if input.is_empty() {
        return Err("it is empty");
    }
    if input.len() > NQN_BYTES_MAX {
        return Err("it is longer than 223 bytes");
    }
    if input == DISCOVERY_NQN {
        return Ok(());
    }
    if let Some(text) = input.strip_prefix(UUID_PREFIX) {
        // Only the usual spelling with hyphens has 36 characters.
        let uuid = uuid::Uuid::try_parse(text).ok().filter(|_| text.len() == 36);
        return uuid.map(drop).ok_or("what follows \"uuid:\" is no UUID");
    }
    let rest = input.strip_prefix("nqn.").ok_or("it does not begin with \"nqn.\"")?;
    let (authority, text) = rest.split_once(':').ok_or("there is no ':' after the reversed domain")?;
    let (date, domain) = authority.split_once('.').ok_or("there is no domain after the date")?;
    check_date(date)?;
    check_reversed_domain(domain)?;
    if text.is_empty() {
        return Err("there is nothing after ':'");
    }
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':' | b'_')) {
        return Err("after ':' only letters, digits, '-', '.', '_' and ':' are allowed");
    }
    Ok(())
}

/// One entry of the allow list of a subsystem: the whole NQN of a host, or the beginning of one and `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "nqn.2014-08.org.nvmexpress:uuid:*")]
pub struct HostPattern(String);

impl HostPattern {
    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True when a host of that name may connect.
    pub fn matches(&self, host_nqn: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => host_nqn.starts_with(beginning),
            None => host_nqn == self.0,
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = ModelError;

    /// Hosts name themselves, and not all of them by the rules that our own names obey, so that less is asked here.
    fn try_from(input: String) -> Result<Self, ModelError> {
        let name = input.strip_suffix('*').unwrap_or(&input);
        let forbidden = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '/' | ',');
        let reason = if input == "*" {
            "an empty list already admits everyone"
        } else if name.len() > NQN_BYTES_MAX {
            "it is longer than 223 bytes"
        } else if name.contains('*') {
            "'*' may stand at the end only"
        } else if !name.starts_with("nqn.") {
            "it does not begin with \"nqn.\""
        } else if name.chars().any(forbidden) {
            "it has a blank, a control character, '/' or ','"
        } else {
            return Ok(Self(input));
        };
        Err(ModelError::HostPattern { input: shortened(input), reason })
    }
}

text_newtype!(Nqn);
text_newtype!(HostPattern);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_as_they_are_written() {
        for good in [
            "nqn.2026-11.io.vega:data-1",
            "nqn.2016-06.io.spdk:cnode1",
            "nqn.2014-08.com.vmware:nvme:esx-Host_1",
            "nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "nqn.2014-08.org.nvmexpress:NVMf:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            DISCOVERY_NQN,
        ] {
            assert_eq!(good.parse::<Nqn>().unwrap().as_str(), good);
        }
        assert_ne!("nqn.2026-11.io.vega:a".parse::<Nqn>(), "nqn.2026-11.io.vega:A".parse::<Nqn>());
        assert!(Nqn::discovery().is_discovery());
    }

    #[test]
    fn wrong_names_say_why() {
        let long = format!("nqn.2026-11.io.vega:{}", "x".repeat(204));
        assert_eq!(long.len(), 224);
        for (bad, why) in [
            ("", "empty"),
            ("iqn.2026-11.io.vega:a", "begin"),
            ("NQN.2026-11.io.vega:a", "begin"),
            ("nqn.2026-11.io.vega", "no ':'"),
            ("nqn.2026-11:a", "no domain"),
            ("nqn.26-11.io.vega:a", "YYYY-MM"),
            ("nqn.2026-13.io.vega:a", "month"),
            ("nqn.2026-11..vega:a", "domain"),
            ("nqn.2026-11.io.vega:", "nothing after"),
            ("nqn.2026-11.io.vega:a b", "only letters"),
            ("nqn.2026-11.io.vega:a/../b", "only letters"),
            ("nqn.2026-11.io.vega:a\0", "only letters"),
            ("nqn.2014-08.org.nvmexpress:uuid:f81d4fae", "no UUID"),
            ("nqn.2014-08.org.nvmexpress:uuid:f81d4fae7dec11d0a76500a0c91e6bf6", "no UUID"),
            (&long, "223"),
        ] {
            let error = bad.parse::<Nqn>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("nqn.2026-11.io.vega:data-1"), "{bad}: {error}");
        }
        assert!(long[..223].parse::<Nqn>().is_ok());
    }

    #[test]
    fn patterns_are_whole_names_or_beginnings() {
        let pattern = |text: &str| text.parse::<HostPattern>();
        assert!(
            pattern("nqn.2014-08.org.nvmexpress:uuid:*")
                .unwrap()
                .matches("nqn.2014-08.org.nvmexpress:uuid:x")
        );
        let whole = pattern("nqn.2026-11.io.vega:Host").unwrap();
        assert!(whole.matches("nqn.2026-11.io.vega:Host"));
        assert!(!whole.matches("nqn.2026-11.io.vega:host") && !whole.matches("nqn.2026-11.io.vega:Host1"));
        assert!(pattern("nqn.2014-08.example:höst").is_ok());
        for bad in
            ["", "*", "host*", "iqn.a", "nqn.*x", "nqn.a b", "nqn.a/b", &format!("nqn.{}", "x".repeat(220))]
        {
            let error = pattern(bad).unwrap_err().to_string();
            assert!(error.contains("/etc/nvme/hostnqn"), "{error}");
        }
    }
}
