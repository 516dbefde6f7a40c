//! Replacing a file so that a crash leaves the old or the new one, whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::CatalogError;

/// The steps of [`replace`], in order. Tests stop before each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    CreateNew,
    WriteFirstHalf,
    WriteSecondHalf,
    SyncNew,
    RemovePrevious,
    LinkPrevious,
    Rename,
    SyncDirectory,
}

#[cfg(test)]
pub(super) const STEPS: [Step; 8] = [
    Step::CreateNew,
    Step::WriteFirstHalf,
    Step::WriteSecondHalf,
    Step::SyncNew,
    Step::RemovePrevious,
    Step::LinkPrevious,
    Step::Rename,
    Step::SyncDirectory,
];

/// Whether the content that is replaced stays as `<name>.previous`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Previous {
    Keep,
    Drop,
}

pub(super) fn previous_path(path: &Path) -> PathBuf {
    with_suffix(path, ".previous")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Replaces the content of `path`; the file is readable by its owner only. Durable when it returns.
pub(super) fn replace(path: &Path, content: &[u8], previous: Previous) -> Result<(), CatalogError> {
    replace_observed(path, content, previous, &mut |_| Ok(()))
}

/// The same, asking `before` before each step; what it refuses ends the replacement there, as a crash would.
pub(super) fn replace_observed(
    path: &Path,
    content: &[u8],
    previous: Previous,
    before: &mut dyn FnMut(Step) -> Result<(), CatalogError>,
) -> Result<(), CatalogError> {
    let new = with_suffix(path, ".new");
    before(Step::CreateNew)?;
    // A file that a crash left behind is truncated here; nobody else writes it, the directory is locked.
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&new).map_err(CatalogError::file("create", &new))?;
    let (first, second) = content.split_at(content.len() / 2);
    before(Step::WriteFirstHalf)?;
    file.write_all(first).map_err(CatalogError::file("write", &new))?;
    before(Step::WriteSecondHalf)?;
    file.write_all(second).map_err(CatalogError::file("write", &new))?;
    before(Step::SyncNew)?;
    file.sync_all().map_err(CatalogError::file("sync", &new))?;
    drop(file);
    if previous == Previous::Keep && path.exists() {
        keep_previous(path, before)?;
    }
    before(Step::Rename)?;
    fs::rename(&new, path).map_err(CatalogError::file("replace", path))?;
    before(Step::SyncDirectory)?;
    sync_parent(path)
}

/// A second name for the present content: `path` itself never disappears.
fn keep_previous(
    path: &Path,
    before: &mut dyn FnMut(Step) -> Result<(), CatalogError>,
) -> Result<(), CatalogError> {
    let kept = previous_path(path);
    before(Step::RemovePrevious)?;
    match fs::remove_file(&kept) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(CatalogError::file("remove", &kept)(error));
        }
        _ => {}
    }
    before(Step::LinkPrevious)?;
    // A filesystem without hard links gets a copy.
    fs::hard_link(path, &kept)
        .or_else(|_| fs::copy(path, &kept).map(drop))
        .map_err(CatalogError::file("keep a copy at", &kept))
}

fn sync_parent(path: &Path) -> Result<(), CatalogError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = File::open(parent).map_err(CatalogError::file("open", parent))?;
    directory.sync_all().map_err(CatalogError::file("sync", parent))
}

/// The content of a file of at most `max_bytes`; `None` when there is no file.
pub(super) fn read(path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>, CatalogError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CatalogError::file("open", path)(error)),
    };
    let mut content = Vec::new();
    let bytes =
        file.take(max_bytes + 1).read_to_end(&mut content).map_err(CatalogError::file("read", path))?;
    if bytes as u64 > max_bytes {
        let reason = format!("it is larger than {max_bytes} bytes");
        return Err(CatalogError::Unusable { path: path.to_owned(), reason });
    }
    Ok(Some(content))
}

/// Creates a directory for the owner only, with its parents; one that exists is left as it is.
pub(super) fn create_private_dir(path: &Path) -> Result<(), CatalogError> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
    created.map_err(CatalogError::file("create the directory", path))
}
