//! `catalog.json`: an envelope with version, generation and checksum around the state.

use std::path::Path;

use crc_fast::{CrcAlgorithm, checksum};
use serde::{Deserialize, Serialize};

use super::file::{self, Previous};
use super::{CatalogError, State, VolumeRecord};
use crate::limits::CATALOG_BYTES_MAX;

/// Name of the document in the data directory.
pub(super) const FILE_NAME: &str = "catalog.json";
/// Changelog of the format: 1 is the first; 2 has subsystems; 3 has volumes on NVMe devices.
const VERSION: u64 = 3;

/// The oldest version that holds all of `state`, so that an older program can be gone back to as long as nothing is
/// in use that it would lose.
fn version_of(state: &State) -> u64 {
    let on_device = |record: &VolumeRecord| record.spec.backing.namespace().is_some();
    if state.volumes.values().any(on_device) {
        VERSION
    } else if state.subsystems.is_empty() {
        1
    } else {
        2
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    version: u64,
    generation: u64,
    /// CRC-32C of `state` written without blanks and with sorted keys.
    crc32c: String,
    state: serde_json::Value,
}

/// What was found.
pub(super) struct Loaded {
    pub(super) state: State,
    pub(super) generation: u64,
    pub(super) recovered: Option<String>,
}

enum Unreadable {
    /// Nothing can be done about it here.
    Fatal(CatalogError),
    /// Damaged; the one before it may do.
    Damaged(String),
    Missing,
}

/// Reads the document, or the one before it when the newest is damaged or lost.
pub(super) fn load(data_dir: &Path) -> Result<Loaded, CatalogError> {
    let path = data_dir.join(FILE_NAME);
    let reason = match read(&path) {
        Ok((state, generation)) => return Ok(Loaded { state, generation, recovered: None }),
        Err(Unreadable::Fatal(error)) => return Err(error),
        Err(Unreadable::Damaged(reason)) => Some(reason),
        Err(Unreadable::Missing) => None,
    };
    match (read(&file::previous_path(&path)), reason) {
        (Ok((state, generation)), reason) => {
            let reason = reason.unwrap_or_else(|| "it is missing".to_owned());
            let recovered = format!(
                "{} could not be used ({reason}); the state before its last change was taken instead: check the \
                 volumes and targets",
                path.display()
            );
            // The number of the lost change is not used again.
            Ok(Loaded { state, generation: generation + 1, recovered: Some(recovered) })
        }
        (Err(Unreadable::Fatal(error)), _) => Err(error),
        (Err(Unreadable::Missing), None) => {
            Ok(Loaded { state: State::default(), generation: 0, recovered: None })
        }
        (Err(Unreadable::Missing), Some(reason)) | (Err(Unreadable::Damaged(reason)), _) => {
            Err(CatalogError::Unusable { path, reason })
        }
    }
}

fn read(path: &Path) -> Result<(State, u64), Unreadable> {
    let damaged = |reason: &str| Unreadable::Damaged(reason.to_owned());
    let content = match file::read(path, CATALOG_BYTES_MAX) {
        Ok(Some(content)) => content,
        Ok(None) => return Err(Unreadable::Missing),
        Err(error) => return Err(Unreadable::Fatal(error)),
    };
    let value: serde_json::Value = serde_json::from_slice(&content)
        .map_err(|error| Unreadable::Damaged(format!("it is not JSON: {error}")))?;
    // Before anything else, because a newer envelope may look different.
    let found =
        value.get("version").and_then(serde_json::Value::as_u64).ok_or(damaged("it has no version"))?;
    if found > VERSION {
        let (path, known) = (path.to_owned(), VERSION);
        return Err(Unreadable::Fatal(CatalogError::NewerVersion { path, found, known }));
    }
    let envelope: Envelope = serde_json::from_value(value)
        .map_err(|error| Unreadable::Damaged(format!("its envelope: {error}")))?;
    if crc_of(&envelope.state) != envelope.crc32c {
        return Err(damaged("its checksum does not fit; it was damaged or edited by hand"));
    }
    let state: State = serde_path_to_error::deserialize(envelope.state)
        .map_err(|error| Unreadable::Damaged(format!("{}: {}", error.path(), error.inner())))?;
    Ok((state, envelope.generation))
}

/// Replaces the document.
pub(super) fn store(data_dir: &Path, state: &State, generation: u64) -> Result<(), CatalogError> {
    file::replace(&data_dir.join(FILE_NAME), &encode(state, generation), Previous::Keep)
}

pub(super) fn encode(state: &State, generation: u64) -> Vec<u8> {
    let version = version_of(state);
    let state = serde_json::to_value(state).expect("the state has string keys and finite numbers only");
    let envelope = Envelope { version, generation, crc32c: crc_of(&state), state };
    let mut content = serde_json::to_vec_pretty(&envelope).expect("a JSON value can be written");
    content.push(b'\n');
    content
}

/// A JSON value keeps its keys sorted, so that equal states have equal bytes.
fn crc_of(state: &serde_json::Value) -> String {
    let bytes = serde_json::to_vec(state).expect("a JSON value can be written");
    format!("{:08x}", checksum(CrcAlgorithm::Crc32Iscsi, &bytes))
}
