//! Why a configuration is refused.

use std::ops::RangeInclusive;
use std::path::PathBuf;

/// A configuration that the node does not start with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(
        "cannot read the configuration {path}: {source}; give another file with --config, or none for the defaults"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is larger than any configuration is.
    #[error("the configuration {path} is larger than {max_bytes} bytes; is it the right file?")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        max_bytes: u64,
    },
    /// Not TOML.
    #[error("{origin} is not TOML: {detail}")]
    Syntax {
        /// The file, or what else the text came from.
        origin: String,
        /// Line, column and what is wrong, as the parser says it.
        detail: String,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown key {path}{}", hint(nearest.as_deref(), known))]
    UnknownKey {
        /// The file, or what else the text came from.
        origin: String,
        /// The whole path of the key.
        path: String,
        /// The known key that is spelled most like it.
        nearest: Option<String>,
        /// The keys that may stand in its place.
        known: Vec<String>,
    },
    /// A value of the wrong kind.
    #[error("{origin}: {path}: {detail}")]
    Value {
        /// The file, or what else the text came from.
        origin: String,
        /// The whole path of the key.
        path: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A value that does not fit to others or to this machine.
    #[error("{path}: {detail}")]
    Refused {
        /// The whole path of the key.
        path: String,
        /// What is wrong and what to do.
        detail: String,
    },
}

impl ConfigError {
    /// Refuses the value at `path` unless `ok`.
    pub(super) fn check(
        path: impl Into<String>,
        ok: bool,
        detail: impl FnOnce() -> String,
    ) -> Result<(), Self> {
        if ok { Ok(()) } else { Err(Self::Refused { path: path.into(), detail: detail() }) }
    }

    /// Refuses the first value that is out of its range.
    pub(super) fn check_ranges(values: impl IntoIterator<Item = Ranged>) -> Result<(), Self> {
        values.into_iter().try_for_each(|(key, value, range, unit)| {
            Self::check(key, range.contains(&value), || {
                format!("{value} is outside of {} to {}{unit}", range.start(), range.end())
            })
        })
    }
}

/// A key, its value, what it may be, and the unit of both with a space before it.
pub(super) type Ranged = (&'static str, u32, RangeInclusive<u32>, &'static str);

/// What to write instead of an unknown key.
fn hint(nearest: Option<&str>, known: &[String]) -> String {
    match nearest {
        Some(key) => format!("; did you mean {key}?"),
        None if known.is_empty() => String::new(),
        None => format!("; what is known there: {}", known.join(", ")),
    }
}
