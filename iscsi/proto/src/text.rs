//! The text format of RFC 7143 section 6.1: `key=value` pairs, each ended by a NUL, possibly over several PDUs.
//!
//! Everything here reads peer bytes: lengths are checked first, nothing is copied to learn that it is wrong.

pub mod accumulator;
pub mod value;

pub use accumulator::TextAccumulator;
pub use value::{BinaryError, decode_binary, encode_hex, parse_boolean, parse_list, parse_number};

use crate::limits::{KEY_BYTES_MAX, LARGE_VALUE_BYTES_MAX, VALUE_BYTES_MAX};

/// Keys whose values are large binary values.
const LARGE_KEYS: [&str; 2] = ["CHAP_C", "CHAP_R"];

/// What is wrong with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The last pair has no NUL.
    #[error("the last key=value pair is not ended by a NUL")]
    MissingNul,
    /// A pair has no '='.
    #[error("a pair has no '='")]
    MissingEquals,
    /// Nothing stands before the '='.
    #[error("a pair has an empty key")]
    EmptyKey,
    /// More than 63 bytes.
    #[error("a key is longer than 63 bytes")]
    KeyTooLong,
    /// A key with a space, control or non-ASCII byte.
    #[error("a key has a byte outside the printable ASCII characters")]
    BadKey,
    /// More bytes than the key allows.
    #[error("a value is longer than its key allows")]
    ValueTooLong,
    /// The value is not UTF-8.
    #[error("a value is not UTF-8")]
    NotUtf8,
    /// The text over all its PDUs is longer than we take.
    #[error("the text is longer than the limit")]
    TextTooLong,
}

/// Walks the pairs of a complete text. Yields an error once and then ends; empty pairs (NUL fill) are skipped.
#[derive(Clone, Debug)]
pub struct TextPairs<'a> {
    left: &'a [u8],
}

impl<'a> TextPairs<'a> {
    /// Over all bytes of a text, its last NUL included.
    pub const fn new(text: &'a [u8]) -> Self {
        Self { left: text }
    }
}

impl<'a> Iterator for TextPairs<'a> {
    type Item = Result<(&'a str, &'a str), TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        while let [0, rest @ ..] = self.left {
            self.left = rest;
        }
        if self.left.is_empty() {
            return None;
        }
        let Some(end) = self.left.iter().position(|&byte| byte == 0) else {
            self.left = &[];
            return Some(Err(TextError::MissingNul));
        };
        let (pair, rest) = self.left.split_at(end);
        self.left = rest;
        let item = split_pair(pair);
        if item.is_err() {
            self.left = &[];
        }
        Some(item)
    }
}

fn split_pair(pair: &[u8]) -> Result<(&str, &str), TextError> {
    let equals = pair.iter().position(|&byte| byte == b'=').ok_or(TextError::MissingEquals)?;
    let (key, value) = (&pair[..equals], &pair[equals + 1..]);
    if key.is_empty() {
        return Err(TextError::EmptyKey);
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(TextError::KeyTooLong);
    }
    if !key.iter().all(u8::is_ascii_graphic) {
        return Err(TextError::BadKey);
    }
    let key = str::from_utf8(key).map_err(|_| TextError::BadKey)?;
    let value_bytes_max = if LARGE_KEYS.contains(&key) { LARGE_VALUE_BYTES_MAX } else { VALUE_BYTES_MAX };
    if value.len() > value_bytes_max {
        return Err(TextError::ValueTooLong);
    }
    let value = str::from_utf8(value).map_err(|_| TextError::NotUtf8)?;
    Ok((key, value))
}

/// Writes pairs, each with its NUL.
#[derive(Clone, Debug, Default)]
pub struct TextWriter {
    bytes: Vec<u8>,
}

impl TextWriter {
    /// An empty text.
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Adds `key=value`. A NUL or a missing key would change the meaning of what follows.
    pub fn pair(&mut self, key: &str, value: &str) {
        assert!(!key.is_empty() && !key.contains(['=', '\0']), "a key we write is a key");
        assert!(!value.contains('\0'), "a value we write has no NUL");
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.push(b'=');
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
    }

    /// Adds `key=number` in decimal.
    pub fn number(&mut self, key: &str, value: u32) {
        self.pair(key, &value.to_string());
    }

    /// Adds `key=Yes` or `key=No`.
    pub fn boolean(&mut self, key: &str, value: bool) {
        self.pair(key, if value { "Yes" } else { "No" });
    }

    /// Adds `key=0x…`.
    pub fn binary(&mut self, key: &str, value: &[u8]) {
        self.pair(key, &encode_hex(value));
    }

    /// The text so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True when nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Gives the text away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &[u8]) -> Result<Vec<(&str, &str)>, TextError> {
        TextPairs::new(text).collect()
    }

    #[test]
    fn pairs_are_found_in_order() {
        assert_eq!(pairs(b""), Ok(vec![]));
        assert_eq!(pairs(b"A=1\0B=\0C=x=y\0"), Ok(vec![("A", "1"), ("B", ""), ("C", "x=y")]));
    }

    #[test]
    fn nul_fill_is_skipped() {
        assert_eq!(pairs(b"\0\0A=1\0\0\0B=2\0\0"), Ok(vec![("A", "1"), ("B", "2")]));
        assert_eq!(pairs(&[0; 64]), Ok(vec![]));
    }

    #[test]
    fn malformed_pairs_are_errors() {
        assert_eq!(pairs(b"A=1"), Err(TextError::MissingNul));
        assert_eq!(pairs(b"A=1\0B"), Err(TextError::MissingNul));
        assert_eq!(pairs(b"AB\0"), Err(TextError::MissingEquals));
        assert_eq!(pairs(b"=1\0"), Err(TextError::EmptyKey));
        assert_eq!(pairs(b"A B=1\0"), Err(TextError::BadKey));
        assert_eq!(pairs(b"\xff=1\0"), Err(TextError::BadKey));
        assert_eq!(pairs(b"A=\xff\0"), Err(TextError::NotUtf8));
    }

    #[test]
    fn lengths_are_checked_at_their_edges() {
        let text =
            |key: usize, value: usize| [vec![b'K'; key], vec![b'='], vec![b'v'; value], vec![0]].concat();
        assert!(pairs(&text(63, 255)).is_ok());
        assert_eq!(pairs(&text(64, 1)), Err(TextError::KeyTooLong));
        assert_eq!(pairs(&text(1, 256)), Err(TextError::ValueTooLong));
        let challenge = |value: usize| [b"CHAP_C=".to_vec(), vec![b'0'; value], vec![0]].concat();
        assert!(pairs(&challenge(2050)).is_ok());
        assert_eq!(pairs(&challenge(2051)), Err(TextError::ValueTooLong));
    }

    #[test]
    fn an_error_ends_the_walk() {
        assert_eq!(TextPairs::new(b"A\0B=1\0").count(), 1);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut writer = TextWriter::new();
        assert!(writer.is_empty());
        writer.pair("TargetAlias", "a b");
        writer.number("MaxConnections", 8);
        writer.boolean("ImmediateData", true);
        writer.binary("CHAP_C", &[0, 0xab]);
        assert_eq!(
            pairs(writer.as_bytes()),
            Ok(vec![
                ("TargetAlias", "a b"),
                ("MaxConnections", "8"),
                ("ImmediateData", "Yes"),
                ("CHAP_C", "0x00ab"),
            ])
        );
        assert_eq!(writer.len(), writer.clone().into_bytes().len());
    }
}
