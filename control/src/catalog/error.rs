//! Why the catalog cannot be opened or changed.

use std::path::PathBuf;
use std::sync::Arc;

use crate::model::{ChapUserName, IscsiName};

/// An error of the catalog. Messages name the file and what to do; no secret appears in one.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CatalogError {
    /// A step on a file failed.
    #[error("cannot {step} {path}: {source}")]
    File {
        /// What was being done.
        step: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: Arc<std::io::Error>,
    },
    /// Another process works on the directory.
    #[error(
        "the data directory {path} is in use by {holder}; stop that process, or give this one another directory with \
         --data-dir"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who has it, as far as the lock file says.
        holder: String,
    },
    /// Written by a newer program.
    #[error("{path} has format version {found}, and this program knows up to {known}; start a newer vega")]
    NewerVersion {
        /// The document.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The newest that is known.
        known: u64,
    },
    /// Neither the document nor the one before it can be used.
    #[error(
        "{path} cannot be used ({reason}), and neither can the one before it; restore it from a backup. Moving both \
         away starts an empty catalog: data files stay, but volumes and targets must be created again"
    )]
    Unusable {
        /// The document.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A user is listed, but its secret is not there.
    #[error(
        "the secret of user {user} of target {target} is missing; set it again with \"vega target user add {target} \
         {user}\", or remove the user"
    )]
    SecretMissing {
        /// The target.
        target: IscsiName,
        /// The user.
        user: ChapUserName,
    },
}

impl CatalogError {
    pub(super) fn file(
        step: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { step, path, source: Arc::new(source) }
    }
}
