//! Volume names (DNS labels) and iSCSI names (RFC 7143, section 4.2.7).

use serde::{Deserialize, Serialize};

use super::ModelError;
use crate::limits::{DNS_LABEL_BYTES_MAX, ISCSI_NAME_BYTES_MAX};

/// Name of a volume: a DNS label, so that it can be a Kubernetes object and a file name as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "data-1", min_length = 1, max_length = 63)]
pub struct VolumeName(String);

impl VolumeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for VolumeName {
    type Error = ModelError;

    fn try_from(input: String) -> Result<Self, ModelError> {
        match dns_label(&input) {
            Ok(()) => Ok(Self(input)),
            Err(reason) => Err(ModelError::VolumeName { input: shortened(input), reason }),
        }
    }
}

/// What keeps a name from being a DNS label.
pub(super) fn dns_label(input: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if input.is_empty() {
        Err("it is empty")
    } else if input.len() > DNS_LABEL_BYTES_MAX {
        Err("it is longer than 63 characters")
    } else if input.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Err("it has an upper-case letter")
    } else if !input.bytes().all(allowed) {
        Err("it has a character that a DNS label cannot have")
    } else if input.starts_with('-') || input.ends_with('-') {
        Err("it begins or ends with '-'")
    } else {
        Ok(())
    }
}

/// How an iSCSI name is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IscsiNameFormat {
    /// `iqn.`: a date, a reversed domain and free text (section 4.2.7.4).
    Iqn,
    /// `eui.`: an EUI-64 (section 4.2.7.5).
    Eui,
    /// `naa.`: a 64 or 128 bit NAA identifier (section 4.2.7.6).
    Naa,
}

/// An iSCSI node name. Letters are folded to lower case, which is what section 4.2.7.2 has a
/// program do with a name that a person typed; two spellings are then one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "iqn.2026-11.io.vega:data-1", max_length = 223)]
pub struct IscsiName(String);

impl IscsiName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How it is written.
    pub fn format(&self) -> IscsiNameFormat {
        match &self.0[..4] {
            "iqn." => IscsiNameFormat::Iqn,
            "eui." => IscsiNameFormat::Eui,
            "naa." => IscsiNameFormat::Naa,
            other => unreachable!("an iSCSI name with prefix {other} was accepted"),
        }
    }
}

impl TryFrom<String> for IscsiName {
    type Error = ModelError;

    fn try_from(input: String) -> Result<Self, ModelError> {
        match check_iscsi_name(&input) {
            Ok(()) => Ok(Self(input.to_ascii_lowercase())),
            Err(reason) => Err(ModelError::IscsiName { input: shortened(input), reason }),
        }
    }
}

fn check_iscsi_name(input: &str) -> Result<(), &'static str> {
    if input.is_empty() {
        return Err("it is empty");
    }
    if input.len() > ISCSI_NAME_BYTES_MAX {
        return Err("it is longer than 223 bytes");
    }
    if !input.is_ascii() {
        return Err("it has a character outside of ASCII");
    }
    let lower = input.to_ascii_lowercase();
    let hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match lower.split_at_checked(4) {
        Some(("iqn.", rest)) => check_iqn(rest),
        Some(("eui.", rest)) if rest.len() == 16 && hexadecimal(rest) => Ok(()),
        Some(("eui.", _)) => Err("after \"eui.\" there must be 16 hexadecimal digits"),
        Some(("naa.", rest)) if matches!(rest.len(), 16 | 32) && hexadecimal(rest) => Ok(()),
        Some(("naa.", _)) => Err("after \"naa.\" there must be 16 or 32 hexadecimal digits"),
        _ => Err("it does not begin with \"iqn.\", \"eui.\" or \"naa.\""),
    }
}

/// `rest` is what follows `iqn.`.
fn check_iqn(rest: &str) -> Result<(), &'static str> {
    let (authority, text) = rest.split_once(':').unwrap_or((rest, ""));
    let Some((date, domain)) = authority.split_once('.') else {
        return Err("there is no domain after the date");
    };
    check_date(date)?;
    check_reversed_domain(domain)?;
    if rest.ends_with(':') {
        return Err("there is nothing after ':'");
    }
    // The characters that RFC 3722 leaves of ASCII.
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':')) {
        return Err("after ':' only letters, digits, '-', '.' and ':' are allowed");
    }
    Ok(())
}

pub(super) fn check_reversed_domain(domain: &str) -> Result<(), &'static str> {
    let label_ok = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if domain.split('.').all(label_ok) { Ok(()) } else { Err("the reversed domain is not one") }
}

pub(super) fn check_date(date: &str) -> Result<(), &'static str> {
    let reason = "the date is not YYYY-MM";
    let Some((year, month)) = date.split_once('-') else {
        return Err(reason);
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if year.len() != 4 || month.len() != 2 || !digits(year) || !digits(month) {
        return Err(reason);
    }
    match month.parse::<u8>() {
        Ok(1..=12) => Ok(()),
        _ => Err("the month is not 01 to 12"),
    }
}

/// Input as it is repeated in a message: a megabyte of nonsense stays out of logs.
pub(super) fn shortened(mut input: String) -> String {
    const SHOWN_BYTES_MAX: usize = 300;
    if input.len() > SHOWN_BYTES_MAX {
        let end = (0..=SHOWN_BYTES_MAX).rev().find(|&at| input.is_char_boundary(at)).unwrap_or(0);
        input.truncate(end);
        input.push('…');
    }
    input
}

macro_rules! text_newtype {
    ($name:ident) => {
        impl std::str::FromStr for $name {
            type Err = $crate::model::ModelError;

            fn from_str(input: &str) -> Result<Self, Self::Err> {
                Self::try_from(input.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}
pub(super) use text_newtype;

text_newtype!(VolumeName);
text_newtype!(IscsiName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volume_names_are_dns_labels() {
        for good in ["a", "data-1", "0", "pvc-0f3f2c1a", &"x".repeat(63)] {
            assert_eq!(good.parse::<VolumeName>().unwrap().as_str(), good);
        }
        for bad in ["", "A", "a_b", "-a", "a-", "a.b", "a/b", "..", "ü", &"x".repeat(64)] {
            let error = bad.parse::<VolumeName>().unwrap_err().to_string();
            assert!(error.contains(bad) && error.contains("data-1"), "{error}");
        }
    }

    #[test]
    fn iscsi_names_of_all_three_formats() {
        let format = |text: &str| text.parse::<IscsiName>().map(|name| name.format());
        assert_eq!(format("iqn.2026-11.io.vega"), Ok(IscsiNameFormat::Iqn));
        assert_eq!(format("iqn.2016-09.com.openebs.jiva:pvc-1:x.y"), Ok(IscsiNameFormat::Iqn));
        assert_eq!(format("eui.02004567A425678D"), Ok(IscsiNameFormat::Eui));
        assert_eq!(format("naa.52004567BA64678D"), Ok(IscsiNameFormat::Naa));
        assert_eq!(format("naa.62004567BA64678D0123456789ABCDEF"), Ok(IscsiNameFormat::Naa));
        assert_eq!("IQN.2026-11.IO.Vega:A".parse::<IscsiName>().unwrap().as_str(), "iqn.2026-11.io.vega:a");
    }

    #[test]
    fn wrong_iscsi_names_say_why() {
        let long = format!("iqn.2026-11.io.vega:{}", "x".repeat(204));
        assert_eq!(long.len(), 224);
        for (bad, why) in [
            ("", "empty"),
            ("disk0", "begin"),
            ("iqn", "begin"),
            ("iqn.2026-11", "no domain"),
            ("iqn.26-11.io.vega", "YYYY-MM"),
            ("iqn.2026-13.io.vega", "month"),
            ("iqn.2026-00.io.vega", "month"),
            ("iqn.2026-11..vega", "domain"),
            ("iqn.2026-11.io.vega:", "nothing after"),
            ("iqn.2026-11.io.vega:a b", "only letters"),
            ("iqn.2026-11.io.vega:a/../b", "only letters"),
            ("iqn.2026-11.io.vega:ä", "ASCII"),
            ("eui.0200", "16"),
            ("naa.02004567A425678Z", "16 or 32"),
            (&long, "223"),
        ] {
            let error = bad.parse::<IscsiName>().unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
        assert!(long[..223].parse::<IscsiName>().is_ok());
    }
}
