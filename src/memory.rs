//! What memory there is for volumes in memory: of the machine, and of the control groups that this process is in.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use control::bridge::PlaneError;
use control::model::{ByteSize, VolumeSpec};
use volume::memory_budget::MemoryBudget;

/// This part of what there is is left to everything else.
const RESERVED_PART: u64 = 20;
const RESERVED_BYTES_MIN: u64 = 64 << 20;

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// What there is at most.
    limit_bytes: u64,
    /// What of it nobody has.
    left_bytes: u64,
}

impl Seen {
    fn smaller(self, other: Self) -> Self {
        Self {
            limit_bytes: self.limit_bytes.min(other.limit_bytes),
            left_bytes: self.left_bytes.min(other.left_bytes),
        }
    }

    /// Without what is left to others.
    fn for_volumes(self) -> Self {
        let reserved = (self.limit_bytes / RESERVED_PART).max(RESERVED_BYTES_MIN);
        Self {
            limit_bytes: self.limit_bytes.saturating_sub(reserved),
            left_bytes: self.left_bytes.saturating_sub(reserved),
        }
    }
}

/// The memory of the node, and what volumes may take of it.
#[derive(Clone, Debug)]
pub(crate) struct NodeMemory {
    root: Arc<Path>,
    pub(crate) budget: MemoryBudget,
}

/// How a volume in memory is to be kept.
pub(crate) struct Admitted {
    pub small_pages: bool,
    pub note: Option<String>,
}

impl NodeMemory {
    pub(crate) fn new(root: &Path) -> Self {
        let memory = Self { root: root.into(), budget: MemoryBudget::default() };
        memory.refresh();
        memory
    }

    /// Looks, and lets volumes take what is left.
    pub(crate) fn refresh(&self) {
        if let Some(seen) = self.look() {
            self.budget.set(seen.for_volumes().left_bytes);
        }
    }

    /// Whether a volume may be made, and in which pages. One that can never be filled is refused when it is made; one that was
    /// made before is opened all the same.
    pub(crate) fn admit(&self, spec: &VolumeSpec, create: bool) -> Result<Admitted, PlaneError> {
        self.refresh();
        let Some(seen) = self.look().map(Seen::for_volumes) else {
            return Ok(Admitted { small_pages: false, note: None });
        };
        if spec.size_bytes <= seen.left_bytes {
            return Ok(Admitted { small_pages: false, note: None });
        }
        let there = format!(
            "there are {} for volumes in memory, of which {} are free",
            ByteSize(seen.limit_bytes),
            ByteSize(seen.left_bytes)
        );
        if create && spec.size_bytes > seen.limit_bytes {
            let detail = format!("{there}; make it smaller, or with backing \"file\"");
            return Err(PlaneError::NoSpace { what: format!("volume {} in memory", spec.name), detail });
        }
        let note = format!(
            "{there}: it is kept in pages of 4 KiB, and a write that finds no room fails before the machine runs out of memory"
        );
        Ok(Admitted { small_pages: true, note: Some(note) })
    }

    fn look(&self) -> Option<Seen> {
        let table = fs::read_to_string(self.root.join("proc/meminfo")).ok()?;
        let machine =
            Seen { limit_bytes: kib(&table, "MemTotal:")?, left_bytes: kib(&table, "MemAvailable:")? };
        let groups = fs::read_to_string(self.root.join("proc/self/cgroup")).unwrap_or_default();
        Some(groups.lines().flat_map(|line| self.group(line)).fold(machine, Seen::smaller))
    }

    /// The bounds of a control group and of those that it is in.
    fn group(&self, line: &str) -> Vec<Seen> {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            return Vec::new();
        };
        let (top, limit, usage, cache) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
            "memory" => (
                "sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            ),
            _ => return Vec::new(),
        };
        let top = self.root.join(top);
        let own: PathBuf = top.join(path.trim_start_matches('/'));
        let folders = own.ancestors().take_while(|folder| folder.starts_with(&top));
        let seen = folders.filter_map(|folder| {
            let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
            let limit_bytes = number(limit)?;
            let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
            // What the kernel would give back at once is not counted against it.
            let used_bytes = number(usage)?.saturating_sub(value(&stat, cache).unwrap_or(0));
            Some(Seen { limit_bytes, left_bytes: limit_bytes.saturating_sub(used_bytes) })
        });
        seen.collect()
    }
}

fn value(table: &str, name: &str) -> Option<u64> {
    let line = table.lines().find(|line| line.split_whitespace().next() == Some(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn kib(table: &str, name: &str) -> Option<u64> {
    value(table, name).map(|kib| kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use control::model::Backing;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn machine(total: u64, available: u64, files: &[(&str, &str)]) -> (tempfile::TempDir, NodeMemory) {
        let folder = tempfile::tempdir().unwrap();
        let table =
            format!("MemTotal: {} kB\nMemFree: 1 kB\nMemAvailable: {} kB\n", total >> 10, available >> 10);
        let meminfo = ("proc/meminfo", table.as_str());
        for (path, content) in std::iter::once(&meminfo).chain(files) {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let memory = NodeMemory::new(folder.path());
        (folder, memory)
    }

    fn volume(size_bytes: u64) -> VolumeSpec {
        VolumeSpec {
            name: "m".parse().unwrap(),
            uuid: uuid::Uuid::from_u128(1),
            size_bytes,
            block_size: 4096,
            backing: Backing::Memory,
            core: None,
        }
    }

    #[test]
    fn what_never_fits_is_refused_and_what_may_not_fit_is_kept_small() {
        let (_folder, memory) = machine(10 * GIB, 4 * GIB, &[]);
        let small = |size, create| memory.admit(&volume(size), create).map(|admitted| admitted.small_pages);
        assert_eq!(small(3 * GIB, true), Ok(false));
        assert_eq!(small(4 * GIB, true), Ok(true), "nothing would be left for others");
        let note = memory.admit(&volume(8 * GIB), true).unwrap().note.unwrap();
        assert!(note.contains("pages of 4 KiB") && note.contains("3.5GiB"), "{note}");
        let error = memory.admit(&volume(10 * GIB), true).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("9.5GiB") && error.contains("make it smaller"), "{error}");
        assert_eq!(small(10 * GIB, false), Ok(true), "one that is there is opened");
    }

    #[test]
    fn the_smallest_control_group_on_the_way_counts() {
        let v2 = [
            ("proc/self/cgroup", "0::/kubepods/pod/one\n"),
            ("sys/fs/cgroup/kubepods/pod/one/memory.max", "max\n"),
            ("sys/fs/cgroup/kubepods/pod/one/memory.current", "1\n"),
            ("sys/fs/cgroup/kubepods/pod/memory.max", "2147483648\n"),
            ("sys/fs/cgroup/kubepods/pod/memory.current", "1610612736\n"),
            ("sys/fs/cgroup/kubepods/pod/memory.stat", "anon 1\ninactive_file 536870912\n"),
        ];
        let (_folder, memory) = machine(10 * GIB, 4 * GIB, &v2);
        assert_eq!(memory.look(), Some(Seen { limit_bytes: 2 * GIB, left_bytes: GIB }));
        let v1 = [
            ("proc/self/cgroup", "5:cpu:/x\n4:memory:/pod\n"),
            ("sys/fs/cgroup/memory/pod/memory.limit_in_bytes", "1073741824\n"),
            ("sys/fs/cgroup/memory/pod/memory.usage_in_bytes", "1073741824\n"),
        ];
        let (_folder, memory) = machine(10 * GIB, 4 * GIB, &v1);
        assert_eq!(memory.look(), Some(Seen { limit_bytes: GIB, left_bytes: 0 }));
        let (_folder, memory) = machine(10 * GIB, 4 * GIB, &[("proc/self/cgroup", "nonsense\n0::\n")]);
        assert_eq!(memory.look(), Some(Seen { limit_bytes: 10 * GIB, left_bytes: 4 * GIB }));
    }

    #[test]
    fn a_machine_that_says_nothing_bounds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let memory = NodeMemory::new(folder.path());
        assert!(memory.admit(&volume(1 << 50), true).is_ok_and(|admitted| !admitted.small_pages));
    }
}
