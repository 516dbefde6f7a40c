//! CHAP with MD5 (RFC 1994, RFC 7143 12.1.3): the arithmetic, in both directions.

use md5::{Digest, Md5};

/// A name and a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// CHAP_N.
    pub name: String,
    /// The shared secret.
    pub secret: String,
}

/// MD5(identifier, secret, challenge), as `0x…`.
#[must_use]
pub fn response(identifier: u8, secret: &str, challenge: &[u8]) -> String {
    let mut hash = Md5::new();
    hash.update([identifier]);
    hash.update(secret.as_bytes());
    hash.update(challenge);
    encode_hex(&hash.finalize())
}

/// `0x` and lower-case digits.
#[must_use]
pub fn encode_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("0x"), |text, byte| format!("{text}{byte:02x}"))
}

/// Bytes of `0x…`; `None` when it is not that.
#[must_use]
pub fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_comes_back_and_nonsense_does_not() {
        assert_eq!(decode_hex(&encode_hex(&[0, 0x7f, 0xff])).as_deref(), Some(&[0, 0x7f, 0xff][..]));
        assert_eq!(decode_hex("0x123"), None);
        assert_eq!(decode_hex("0xzz"), None);
        assert_eq!(decode_hex("12"), None);
    }

    #[test]
    fn the_response_is_the_md5_of_all_three_parts() {
        // MD5 of "abc", from RFC 1321, A.5.
        assert_eq!(response(b'a', "b", b"c"), "0x900150983cd24fb0d6963f7d28e17f72");
    }
}
