//! Small numbers that are values in one document and keys in another.

use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// Reads a number, or its digits as text: the key of an object is always text. Only the usual spelling is read
/// ("7", not "07" or "+7"), so that two keys of one object are never one number.
pub(super) fn number_or_digits<'de, D: Deserializer<'de>>(
    deserializer: D,
    expecting: &str,
) -> Result<u64, D::Error> {
    deserializer.deserialize_any(NumberVisitor { expecting })
}

struct NumberVisitor<'a> {
    expecting: &'a str,
}

impl Visitor<'_> for NumberVisitor<'_> {
    type Value = u64;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.expecting)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
        u64::try_from(number).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        let number = text.parse::<u64>().ok().filter(|number| number.to_string() == text);
        number.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}
