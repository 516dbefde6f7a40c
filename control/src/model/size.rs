//! Sizes as people write them.

use serde::{Deserialize, Deserializer};

use super::ModelError;

/// A number of bytes. Read from a number, or from text with a unit: `KiB MiB GiB TiB PiB` (also `Ki`…)
/// are powers of 1024; `kB MB GB TB PB` (also `k M G T P`) are powers of 1000, as Kubernetes has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("b", 1),
    ("ki", 1 << 10),
    ("kib", 1 << 10),
    ("mi", 1 << 20),
    ("mib", 1 << 20),
    ("gi", 1 << 30),
    ("gib", 1 << 30),
    ("ti", 1 << 40),
    ("tib", 1 << 40),
    ("pi", 1 << 50),
    ("pib", 1 << 50),
    ("k", 1_000),
    ("kb", 1_000),
    ("m", 1_000_000),
    ("mb", 1_000_000),
    ("g", 1_000_000_000),
    ("gb", 1_000_000_000),
    ("t", 1_000_000_000_000),
    ("tb", 1_000_000_000_000),
    ("p", 1_000_000_000_000_000),
    ("pb", 1_000_000_000_000_000),
];

impl std::str::FromStr for ByteSize {
    type Err = ModelError;

    fn from_str(input: &str) -> Result<Self, ModelError> {
        let wrong = |reason| ModelError::SizeText { input: super::name::shortened(input.to_owned()), reason };
        let text = input.trim();
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(wrong("it does not begin with a number"));
        }
        let unit = unit.trim().to_ascii_lowercase();
        if unit.starts_with('.') || unit.starts_with(',') {
            return Err(wrong("fractions are not accepted"));
        }
        let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(wrong("the unit is not known"));
        };
        let number: u64 = number.parse().map_err(|_| wrong("it is too large"))?;
        number.checked_mul(*factor).map(ByteSize).ok_or_else(|| wrong("it is too large"))
    }
}

impl std::fmt::Display for ByteSize {
    /// Exact when a binary unit divides it, else rounded down to one decimal.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        for (name, shift) in units {
            let whole = self.0 >> shift;
            if whole > 0 {
                let rest = self.0 & ((1 << shift) - 1);
                return match rest {
                    0 => write!(formatter, "{whole}{name}"),
                    _ => write!(formatter, "{whole}.{}{name}", (u128::from(rest) * 10) >> shift),
                };
            }
        }
        write!(formatter, "{}B", self.0)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a number of bytes, or text such as \"10GiB\"")]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_shown() {
        let bytes = |text: &str| text.parse::<ByteSize>().map(|size| size.0);
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("1GiB"), Ok(1 << 30));
        assert_eq!(bytes("1 gib"), Ok(1 << 30));
        assert_eq!(bytes("10Gi"), Ok(10 << 30));
        assert_eq!(bytes("10G"), Ok(10_000_000_000));
        for bad in ["", "GiB", "1.5GiB", "-1", "1XB", "99999999999999999999", "20000PiB"] {
            assert!(bytes(bad).unwrap_err().to_string().contains("10GiB"), "{bad}");
        }
        assert_eq!(ByteSize(1 << 30).to_string(), "1GiB");
        assert_eq!(ByteSize(3 << 29).to_string(), "1.5GiB");
        assert_eq!(ByteSize(512).to_string(), "512B");
    }
}
