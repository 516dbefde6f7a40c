//! Which processes have a file open.

use std::collections::BTreeMap;
use std::fmt;
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
}

impl OpenFiles {
    /// Looks at every process once; `wanted` says which files matter. This process is left out.
    pub(crate) fn look(roots: &Roots, wanted: impl Fn(&Path) -> bool) -> Self {
        let mut by_path: BTreeMap<PathBuf, Vec<Process>> = BTreeMap::new();
        let numbers = attribute::names(&roots.proc).into_iter().filter_map(|name| name.parse::<u32>().ok());
        for pid in numbers.filter(|pid| *pid != std::process::id()) {
            let folder = roots.proc.join(pid.to_string());
            let mut open: Vec<PathBuf> = attribute::names(&folder.join("fd"))
                .iter()
                .filter_map(|fd| std::fs::read_link(folder.join("fd").join(fd)).ok())
                .filter(|path| wanted(path))
                .collect();
            open.sort();
            open.dedup();
            for path in open {
                let name = attribute::text(&folder.join("comm")).unwrap_or_else(|| "?".to_owned());
                by_path.entry(path).or_default().push(Process { pid, name });
            }
        }
        Self { by_path }
    }

    pub(crate) fn of(&self, path: &Path) -> &[Process] {
        self.by_path.get(path).map_or(&[], Vec::as_slice)
    }
}
