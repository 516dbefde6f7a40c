//! What is read of a machine for all checks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nvme_pci::Roots;

use crate::config::{Config, Cores};

/// Bit of CAP_IPC_LOCK in a capability set: no limit on locked memory.
const CAP_IPC_LOCK: u32 = 14;

/// A machine, and what the node is to use of it.
pub(super) struct Machine {
    pub(super) roots: Roots,
    /// Processors that the node may use.
    pub(super) usable: Vec<u32>,
    /// Processors named by the configuration; `None` leaves the choice to the node.
    pub(super) chosen: Option<Vec<u32>>,
    /// Cores that it will run.
    pub(super) cores: u64,
    /// Buffers of all cores.
    pub(super) buffer_bytes: u64,
}

impl Machine {
    pub(super) fn read(roots: &Roots, config: &Config) -> Self {
        let roots = roots.clone();
        let status = read(&roots.proc.join("self/status"));
        let allowed = field(&status, "Cpus_allowed_list:").map(list_of).unwrap_or_default();
        let usable: Vec<u32> = allowed.into_iter().collect();
        let chosen = match &config.reactor.cores {
            Cores::Auto => None,
            Cores::List(list) => Some(list.clone()),
        };
        let cores = chosen.as_ref().map_or(usable.len().div_ceil(2), Vec::len).max(1) as u64;
        let buffer_bytes = cores * config.reactor.buffer_bytes.0;
        Self { roots, usable, chosen, cores, buffer_bytes }
    }

    pub(super) fn sys(&self, path: &str) -> PathBuf {
        self.roots.sys.join(path)
    }

    pub(super) fn proc(&self, path: &str) -> PathBuf {
        self.roots.proc.join(path)
    }

    pub(super) fn text(&self, path: &Path) -> Option<String> {
        let text = read(path).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    pub(super) fn number(&self, path: &Path) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    pub(super) fn has_entries(&self, path: &Path) -> bool {
        std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Soft limit of this process: a number, or `None` for no limit.
    pub(super) fn limit(&self, name: &str) -> Option<u64> {
        let limits = read(&self.proc("self/limits"));
        let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// True for a process that may lock any amount of memory.
    pub(super) fn locks_without_limit(&self) -> bool {
        let status = read(&self.proc("self/status"));
        let set = field(&status, "CapEff:").and_then(|set| u64::from_str_radix(set, 16).ok());
        set.is_some_and(|set| set >> CAP_IPC_LOCK & 1 == 1)
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// `0-3,8` as numbers.
pub(super) fn list_of(text: &str) -> BTreeSet<u32> {
    let mut numbers = BTreeSet::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            // No machine has more; a list that says so is not one.
            numbers.extend((first..=last).take(8192));
        }
    }
    numbers
}

/// Numbers as a list with commas and ranges.
pub(super) fn list_text(numbers: &BTreeSet<u32>) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => parts.push((*number, *number)),
        }
    }
    let texts = parts.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read_and_written() {
        for text in ["0", "0-3", "0-3,8", "1,3,5", ""] {
            assert_eq!(list_text(&list_of(text)), text);
        }
        assert_eq!(list_of("2-3\n").into_iter().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(list_of("x,4-,5").into_iter().collect::<Vec<_>>(), [5]);
    }
}
