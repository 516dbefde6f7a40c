//! CHAP secrets: they come in, and go to the data plane and to one file, and nowhere else.

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::ModelError;
use crate::limits::{SECRET_BYTES_MAX, SECRET_BYTES_MIN};

/// A CHAP secret. It cannot be printed and cannot be serialised; its memory is wiped when it is dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes of a secret.
    pub fn new(bytes: Vec<u8>) -> Result<Self, ModelError> {
        let bytes = Zeroizing::new(bytes);
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.len()) {
            let (min, max) = (SECRET_BYTES_MIN, SECRET_BYTES_MAX);
            return Err(ModelError::SecretLength { length: bytes.len(), min, max });
        }
        if std::str::from_utf8(&bytes).is_err() || bytes.iter().any(u8::is_ascii_control) {
            return Err(ModelError::SecretNotText);
        }
        Ok(Self(bytes))
    }

    /// Takes a secret as it stands in a file or comes through a pipe: one trailing line end is not part of it.
    pub fn from_line(bytes: Vec<u8>) -> Result<Self, ModelError> {
        let bytes = Zeroizing::new(bytes);
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        Self::new(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
    }

    /// The bytes, for the one who computes or stores with them. The long name is on purpose.
    pub fn reveal_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True when both are the same secret.
    pub fn same_as(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A type error of serde repeats the value; a secret must not get into a message that way.
        let value = serde_json::Value::deserialize(deserializer)
            .map_err(|_| serde::de::Error::custom("the secret must be a string"))?;
        match value {
            serde_json::Value::String(text) => Self::new(text.into_bytes()).map_err(serde::de::Error::custom),
            _ => Err(serde::de::Error::custom("the secret must be a string")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_checked_at_both_edges_and_never_shown() {
        for (length, good) in [(0, false), (11, false), (12, true), (255, true), (256, false)] {
            let bytes = vec![b'k'; length];
            match Secret::new(bytes) {
                Ok(secret) => assert!(good && secret.reveal_bytes().len() == length),
                Err(error) => assert!(!good && !error.to_string().contains("kk"), "{error}"),
            }
        }
        assert!(Secret::new(b"twelve bytes\n".to_vec()).is_err());
    }

    #[test]
    fn a_wrong_type_does_not_leak_the_value() {
        let error = serde_json::from_str::<Secret>("123456789012345").err().unwrap().to_string();
        assert!(!error.contains("12345"), "{error}");
        assert!(serde_json::from_str::<Secret>("\"abcdefghijkl\"").is_ok());
    }
}
