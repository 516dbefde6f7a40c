//! From a file to a [`Config`], with errors that name the key.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Deserializer};

use super::{Config, ConfigError, Cores, Environment};
use crate::limits::CONFIG_BYTES_MAX;

/// Reads the file (or takes the defaults), applies the environment, checks everything.
pub fn load(file: Option<&Path>, environment: &Environment) -> Result<Config, ConfigError> {
    let Some(path) = file else {
        return load_text("", "the environment", environment);
    };
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(read)?;
    let bytes = file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text).map_err(read)?;
    if bytes as u64 > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned(), max_bytes: CONFIG_BYTES_MAX });
    }
    load_text(&text, &path.display().to_string(), environment)
}

/// The same from text; `origin` is what messages call it.
pub fn load_text(text: &str, origin: &str, environment: &Environment) -> Result<Config, ConfigError> {
    let mut document: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
        origin: origin.to_owned(),
        detail: error.to_string(),
    })?;
    environment.apply(&mut document);
    let config: Config = serde_path_to_error::deserialize(document)
        .map_err(|error| refine(origin, &error.path().to_string(), error.inner().message()))?;
    config.validate()?;
    Ok(config)
}

/// Turns serde's text about an unknown field into the path of the key and the nearest known one.
fn refine(origin: &str, path: &str, message: &str) -> ConfigError {
    let (origin, path) = (origin.to_owned(), path.to_owned());
    let mut quoted = message.split('`').skip(1).step_by(2);
    match quoted.next() {
        Some(unknown) if message.starts_with("unknown field") => {
            let parent = match path.strip_suffix(unknown) {
                Some(parent) => parent.to_owned(),
                None if path == "." => String::new(),
                None => format!("{path}."),
            };
            let known: Vec<String> = quoted.map(str::to_owned).collect();
            let by_distance = known.iter().map(|key| (spelling_distance(unknown, key), key));
            let near = by_distance.min().filter(|(distance, key)| *distance <= key.len().max(4) / 2);
            let nearest = near.map(|(_, key)| format!("{parent}{key}"));
            ConfigError::UnknownKey { origin, path: format!("{parent}{unknown}"), nearest, known }
        }
        _ => ConfigError::Value { origin, path, detail: message.trim_end().to_owned() },
    }
}

/// Levenshtein distance: insertions, deletions and replacements that make one word the other.
fn spelling_distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

pub(super) fn optional_address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() {
        return Ok(None);
    }
    let wrong =
        |_| serde::de::Error::custom(format!("{text:?} is not an address and port such as 127.0.0.1:9503"));
    text.parse().map(Some).map_err(wrong)
}

impl<'de> Deserialize<'de> for Cores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "\"auto\" or a list of processor numbers such as [1, 2]")]
        enum Written {
            Word(String),
            List(Vec<u32>),
        }
        match Written::deserialize(deserializer)? {
            Written::Word(word) if word == "auto" => Ok(Self::Auto),
            Written::Word(word) => Err(serde::de::Error::custom(format!(
                "{word:?} is neither \"auto\" nor a list of processor numbers such as [1, 2]"
            ))),
            Written::List(list) => Ok(Self::List(list)),
        }
    }
}
