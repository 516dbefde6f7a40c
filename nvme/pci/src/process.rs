//! Which processes have a file open.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::attribute;
use crate::host::Roots;

/// A process, as a message names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// Who has which file of interest open. Processes of other users are seen by root only.
#[derive(Debug, Default)]
pub(crate) struct OpenFiles {
    by_path: BTreeMap<PathBuf, Vec<Process>>,
    by_node: BTreeMap<Node, Vec<Process>>,
}

/// A device by its number, whatever its node is called where it was opened: a container has nodes of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Node {
    pub(crate) is_block: bool,
    /// `major:minor`.
    pub(crate) number: String,
}

impl Node {
    /// What is open in `fd`, where that is a device.
    fn of(fd: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(fd).ok()?;
        let kind = metadata.file_type();
        if !kind.is_block_device() && !kind.is_char_device() {
            return None;
        }
        let number = metadata.rdev();
        let number = format!("{}:{}", libc::major(number), libc::minor(number));
        Some(Self { is_block: kind.is_block_device(), number })
    }
}

impl OpenFiles {
    /// Looks at every process once; `wanted` says which files matter. This process is left out.
    pub(crate) fn look(roots: &Roots, wanted: impl Fn(&Path) -> bool) -> Self {
        let mut by_path: BTreeMap<PathBuf, Vec<Process>> = BTreeMap::new();
        let mut by_node: BTreeMap<Node, Vec<Process>> = BTreeMap::new();
        let numbers = attribute::names(&roots.proc).into_iter().filter_map(|name| name.parse::<u32>().ok());
        for pid in numbers.filter(|pid| *pid != std::process::id()) {
            let folder = roots.proc.join(pid.to_string());
            let files: Vec<(PathBuf, PathBuf)> = attribute::names(&folder.join("fd"))
                .iter()
                .filter_map(|fd| {
                    let fd = folder.join("fd").join(fd);
                    Some((std::fs::read_link(&fd).ok()?, fd))
                })
                .collect();
            let mut open: Vec<&PathBuf> =
                files.iter().map(|(path, _)| path).filter(|path| wanted(path)).collect();
            // Nodes are kept in a /dev, in containers too; a look at any other file could wait for a server that is away.
            let mut nodes: Vec<Node> = files
                .iter()
                .filter(|(path, _)| path.starts_with("/dev"))
                .filter_map(|(_, fd)| Node::of(fd))
                .collect();
            open.sort();
            nodes.sort();
            open.dedup();
            nodes.dedup();
            if open.is_empty() && nodes.is_empty() {
                continue;
            }
            let name = attribute::text(&folder.join("comm")).unwrap_or_else(|| "?".to_owned());
            let process = Process { pid, name };
            for path in open {
                by_path.entry(path.clone()).or_default().push(process.clone());
            }
            for node in nodes {
                by_node.entry(node).or_default().push(process.clone());
            }
        }
        Self { by_path, by_node }
    }

    pub(crate) fn of(&self, path: &Path) -> &[Process] {
        self.by_path.get(path).map_or(&[], Vec::as_slice)
    }

    /// Who has the device open, by this path or by a node of its number.
    pub(crate) fn of_device(&self, path: &Path, node: Option<&Node>) -> Vec<Process> {
        let by_node = node.and_then(|node| self.by_node.get(node)).into_iter().flatten();
        let mut all: Vec<Process> = self.of(path).iter().chain(by_node).cloned().collect();
        all.sort();
        all.dedup();
        all
    }
}
