//! Value types of section 6.1: numbers, booleans, lists, large binary values.

use core::ops::RangeInclusive;

use crate::limits::LIST_VALUES_MAX;

/// A decimal or (0x) hexadecimal number within `range`; no sign, no space.
pub fn parse_number(value: &str, range: RangeInclusive<u32>) -> Option<u32> {
    let (digits, radix) = match value.as_bytes() {
        [b'0', b'x' | b'X', digits @ ..] => (digits, 16),
        digits => (digits, 10),
    };
    if digits.is_empty() {
        return None;
    }
    let mut number = 0u32;
    for &digit in digits {
        let digit = char::from(digit).to_digit(radix)?;
        number = number.checked_mul(radix)?.checked_add(digit)?;
    }
    range.contains(&number).then_some(number)
}

/// `Yes` or `No`, exactly.
pub fn parse_boolean(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

/// The values of a comma-separated list, in order; at most sixteen of them are looked at.
pub fn parse_list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').take(LIST_VALUES_MAX)
}

/// What is wrong with a large binary value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BinaryError {
    /// Neither 0x nor 0b in front.
    #[error("a binary value starts with neither 0x nor 0b")]
    NoPrefix,
    /// Decodes to nothing, or to more bytes than allowed.
    #[error("a binary value has a length that is not allowed")]
    BadLength,
    /// A character outside the encoding, or wrong padding.
    #[error("a binary value has a character its encoding does not know")]
    BadDigit,
}

/// Decodes hex (0x) or base64 (0b) into bytes. The length is checked before anything is decoded.
pub fn decode_binary(value: &str, bytes_max: usize) -> Result<Vec<u8>, BinaryError> {
    match value.as_bytes() {
        [b'0', b'x' | b'X', digits @ ..] => decode_hex(digits, bytes_max),
        [b'0', b'b' | b'B', digits @ ..] => decode_base64(digits, bytes_max),
        _ => Err(BinaryError::NoPrefix),
    }
}

fn decode_hex(digits: &[u8], bytes_max: usize) -> Result<Vec<u8>, BinaryError> {
    let length_bytes = digits.len() / 2;
    if digits.is_empty() || !digits.len().is_multiple_of(2) || length_bytes > bytes_max {
        return Err(BinaryError::BadLength);
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16).ok_or(BinaryError::BadDigit);
    let mut bytes = Vec::with_capacity(length_bytes);
    for pair in digits.chunks_exact(2) {
        bytes.push((nibble(pair[0])? << 4 | nibble(pair[1])?) as u8);
    }
    Ok(bytes)
}

fn decode_base64(digits: &[u8], bytes_max: usize) -> Result<Vec<u8>, BinaryError> {
    let padding = digits.iter().rev().take_while(|&&digit| digit == b'=').count();
    if digits.is_empty() || !digits.len().is_multiple_of(4) || padding > 2 {
        return Err(BinaryError::BadLength);
    }
    let length_bytes = digits.len() / 4 * 3 - padding;
    if length_bytes > bytes_max {
        return Err(BinaryError::BadLength);
    }
    let mut bytes = Vec::with_capacity(length_bytes);
    let mut bits = 0u32;
    let mut bit_count = 0;
    for &digit in &digits[..digits.len() - padding] {
        bits = bits << 6 | u32::from(sextet(digit).ok_or(BinaryError::BadDigit)?);
        bit_count += 6;
        if bit_count >= 8 {
            bit_count -= 8;
            bytes.push((bits >> bit_count) as u8);
            bits &= (1 << bit_count) - 1;
        }
    }
    // Left-over bits that are not zero would give two texts for the same bytes.
    if bits != 0 {
        return Err(BinaryError::BadDigit);
    }
    Ok(bytes)
}

const fn sextet(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// `0x` and two digits per byte.
pub fn encode_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("0x");
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_both_bases_and_their_edges() {
        let any = 0..=u32::MAX;
        assert_eq!(parse_number("0", any.clone()), Some(0));
        assert_eq!(parse_number("4294967295", any.clone()), Some(u32::MAX));
        assert_eq!(parse_number("4294967296", any.clone()), None);
        assert_eq!(parse_number("0xffffffff", any.clone()), Some(u32::MAX));
        assert_eq!(parse_number("0X1F", any.clone()), Some(31));
        assert_eq!(parse_number("0x100000000", any.clone()), None);
        for bad in ["", "0x", "-1", "+1", " 1", "1 ", "1a", "0xg", "1.0", "Yes", "１"] {
            assert_eq!(parse_number(bad, any.clone()), None, "{bad:?}");
        }
        assert_eq!(parse_number("255", 0..=255), Some(255));
        assert_eq!(parse_number("256", 0..=255), None);
    }

    #[test]
    fn booleans_are_spelled_exactly() {
        assert_eq!(parse_boolean("Yes"), Some(true));
        assert_eq!(parse_boolean("No"), Some(false));
        for bad in ["", "yes", "NO", "1", "Yes "] {
            assert_eq!(parse_boolean(bad), None);
        }
    }

    #[test]
    fn a_list_of_a_thousand_values_costs_sixteen() {
        assert_eq!(parse_list("CRC32C,None").collect::<Vec<_>>(), ["CRC32C", "None"]);
        assert_eq!(parse_list(&"a,".repeat(100)).count(), LIST_VALUES_MAX);
        assert_eq!(parse_list("").collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn hex_and_base64_agree() {
        assert_eq!(decode_binary("0x0001FeFf", 4), Ok(vec![0, 1, 0xfe, 0xff]));
        assert_eq!(decode_binary("0bAAH+/w==", 4), Ok(vec![0, 1, 0xfe, 0xff]));
        assert_eq!(decode_binary("0Bdmk=", 4), Ok(b"vi".to_vec()));
        assert_eq!(decode_binary("0bdmlh", 4), Ok(b"via".to_vec()));
    }

    #[test]
    fn every_length_round_trips_through_hex() {
        for length in 1..64usize {
            let bytes: Vec<u8> = (0..length).map(|n| (n * 37) as u8).collect();
            assert_eq!(decode_binary(&encode_hex(&bytes), length), Ok(bytes.clone()));
            assert_eq!(decode_binary(&encode_hex(&bytes), length - 1), Err(BinaryError::BadLength));
        }
    }

    #[test]
    fn bad_binary_values_are_errors() {
        for value in ["", "00", "abc", "x00", "17"] {
            assert_eq!(decode_binary(value, 16), Err(BinaryError::NoPrefix), "{value}");
        }
        for value in ["0x", "0x0", "0x123", "0b", "0bA", "0bAAA", "0b====", "0bA===", "0bAAAAA"] {
            assert_eq!(decode_binary(value, 16), Err(BinaryError::BadLength), "{value}");
        }
        for value in ["0x0g", "0x 1", "0bAA=A", "0bAA-_", "0bAB==", "0bAAB="] {
            assert_eq!(decode_binary(value, 16), Err(BinaryError::BadDigit), "{value}");
        }
    }

    #[test]
    fn an_overlong_value_is_refused_before_decoding() {
        assert_eq!(decode_binary(&format!("0x{}", "0".repeat(34)), 16), Err(BinaryError::BadLength));
        assert_eq!(decode_binary(&format!("0b{}", "A".repeat(24)), 16), Err(BinaryError::BadLength));
        assert_eq!(decode_binary(&format!("0x{}", "0".repeat(32)), 16), Ok(vec![0; 16]));
    }
}
