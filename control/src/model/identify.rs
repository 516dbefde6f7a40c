//! What Identify Controller says about a subsystem in words (NVMe Base specification, section 5.1.13).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ModelError;
use super::name::{shortened, text_newtype};
use crate::limits::{MODEL_NUMBER_BYTES_MAX, SERIAL_NUMBER_BYTES_MAX};

/// `SN`. Hosts put it into the names of devices, so that it stays the same as long as the subsystem exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "6f1c6d4e9f0a4c3a8f6b", min_length = 1, max_length = 20)]
pub struct SerialNumber(String);

/// `MN`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "Vega volume", min_length = 1, max_length = 40)]
pub struct ModelNumber(String);

impl SerialNumber {
    /// The first 80 bits of a UUID, as 20 hexadecimal digits: as many as there is room for.
    pub fn of_uuid(uuid: Uuid) -> Self {
        let mut digits = uuid.simple().to_string();
        digits.truncate(SERIAL_NUMBER_BYTES_MAX);
        Self(digits)
    }

    /// The number as text, without padding.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ModelNumber {
    /// The number as text, without padding.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ModelNumber {
    fn default() -> Self {
        Self("Vega volume".to_owned())
    }
}

impl TryFrom<String> for SerialNumber {
    type Error = ModelError;

    fn try_from(input: String) -> Result<Self, ModelError> {
        checked("serial number", input, SERIAL_NUMBER_BYTES_MAX).map(Self)
    }
}

impl TryFrom<String> for ModelNumber {
    type Error = ModelError;

    fn try_from(input: String) -> Result<Self, ModelError> {
        checked("model number", input, MODEL_NUMBER_BYTES_MAX).map(Self)
    }
}

/// The field is padded with blanks, so that a blank at an end would be lost.
fn checked(what: &'static str, input: String, max_bytes: usize) -> Result<String, ModelError> {
    let reason = if input.is_empty() {
        "it is empty"
    } else if input.len() > max_bytes {
        "it is too long"
    } else if !input.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        "it has a character that is not printable ASCII"
    } else if input.starts_with(' ') || input.ends_with(' ') {
        "it begins or ends with a blank"
    } else {
        return Ok(input);
    };
    Err(ModelError::IdentifyText { what, input: shortened(input), reason, max_bytes })
}

text_newtype!(SerialNumber);
text_newtype!(ModelNumber);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_the_field_is_refused() {
        assert_eq!(SerialNumber::of_uuid(Uuid::from_u128(0xabc << 48)).as_str(), "00000000000000000abc");
        assert!(
            "x".repeat(20).parse::<SerialNumber>().is_ok() && "x".repeat(40).parse::<ModelNumber>().is_ok()
        );
        for bad in ["", " a", "a ", "a\n", "ü", &"x".repeat(21)] {
            let error = bad.parse::<SerialNumber>().unwrap_err().to_string();
            assert!(error.contains("serial number") && error.contains("1 to 20"), "{error}");
        }
        assert!("x".repeat(41).parse::<ModelNumber>().is_err());
        assert_eq!(ModelNumber::default().as_str(), "Vega volume");
    }
}
