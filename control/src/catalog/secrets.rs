//! `secrets.json`: the secrets of CHAP users, apart from everything that is ever shown.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::file::{self, Previous};
use super::{CatalogError, State};
use crate::limits::CATALOG_BYTES_MAX;
use crate::model::{ChapUserName, IscsiName, Secret};

const FILE_NAME: &str = "secrets.json";
const VERSION: u64 = 1;

/// Secrets by target and user.
#[derive(Clone, Default)]
pub(super) struct Secrets {
    by_target: BTreeMap<IscsiName, BTreeMap<ChapUserName, Secret>>,
}

#[derive(Deserialize)]
struct Document {
    version: u64,
    secrets: BTreeMap<IscsiName, BTreeMap<ChapUserName, Secret>>,
}

/// Borrows the secrets; the only place that writes them.
#[derive(Serialize)]
struct DocumentOut<'a> {
    version: u64,
    secrets: BTreeMap<&'a str, BTreeMap<&'a str, &'a str>>,
}

impl Secrets {
    pub(super) fn load(data_dir: &Path) -> Result<Self, CatalogError> {
        let path = data_dir.join(FILE_NAME);
        let Some(content) = file::read(&path, CATALOG_BYTES_MAX)?.map(Zeroizing::new) else {
            return Ok(Self::default());
        };
        // The parser's message could repeat a part of the file; the position is enough.
        let document: Document =
            serde_json::from_slice(&content).map_err(|error| CatalogError::Unusable {
                path: path.clone(),
                reason: format!("line {}, column {}", error.line(), error.column()),
            })?;
        if document.version > VERSION {
            return Err(CatalogError::NewerVersion { path, found: document.version, known: VERSION });
        }
        Ok(Self { by_target: document.secrets })
    }

    pub(super) fn store(&self, data_dir: &Path) -> Result<(), CatalogError> {
        let text =
            |secret| std::str::from_utf8(Secret::reveal_bytes(secret)).expect("secrets come from text");
        let secrets = self.by_target.iter().map(|(target, users)| {
            (target.as_str(), users.iter().map(|(user, secret)| (user.as_str(), text(secret))).collect())
        });
        let document = DocumentOut { version: VERSION, secrets: secrets.collect() };
        let content = serde_json::to_vec_pretty(&document).expect("names and secrets are strings");
        file::replace(&data_dir.join(FILE_NAME), &Zeroizing::new(content), Previous::Drop)
    }

    pub(super) fn get(&self, target: &IscsiName, user: &ChapUserName) -> Option<&Secret> {
        self.by_target.get(target)?.get(user)
    }

    pub(super) fn put(&mut self, target: &IscsiName, user: &ChapUserName, secret: Secret) {
        self.by_target.entry(target.clone()).or_default().insert(user.clone(), secret);
    }

    /// Drops what belongs to no user of `state`; true when something was dropped.
    pub(super) fn keep_only(&mut self, state: &State) -> bool {
        let mut dropped = false;
        self.by_target.retain(|target, users| {
            let spec = state.targets.get(target);
            users.retain(|user, _| {
                let known = spec.is_some_and(|spec| spec.users.iter().any(|listed| listed.name == *user));
                dropped |= !known;
                known
            });
            !users.is_empty()
        });
        dropped
    }
}
