//! Users inside the kernel that no process shows and no holder names: its own targets, and loop devices.

use std::path::{Path, PathBuf};

use crate::attribute;
use crate::host::Host;
use crate::mounts::resolved;

/// A disk, or a whole controller, that something in the kernel has open.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KernelUse {
    path: PathBuf,
    by: String,
}

/// What the kernel itself has open, read once.
#[derive(Debug, Default)]
pub(crate) struct KernelUsers {
    exports: Vec<KernelUse>,
    loops: Vec<KernelUse>,
}

impl KernelUsers {
    pub(crate) fn read(host: &Host) -> Self {
        let mut exports = nvme_target(&host.roots.sys.join("kernel/config/nvmet/subsystems"));
        exports.extend(scsi_target(&host.roots.sys.join("kernel/config/target/core")));
        Self { exports, loops: loops(&host.roots.sys.join("class/block")) }
    }

    /// By whom the disk or controller at `path` is exported to others.
    pub(crate) fn exports_of(&self, path: &Path) -> impl Iterator<Item = &str> {
        self.exports.iter().filter(move |one| one.path == path).map(|one| one.by.as_str())
    }

    /// Loop devices over the disk or partition at `path`.
    pub(crate) fn loops_over(&self, path: &Path) -> impl Iterator<Item = &str> {
        self.loops.iter().filter(move |one| one.path == path).map(|one| one.by.as_str())
    }
}

fn is_on(attribute: &Path) -> bool {
    attribute::text(attribute).as_deref() == Some("1")
}

/// nvmet: the namespaces that are enabled, and controllers that are passed through.
fn nvme_target(subsystems: &Path) -> Vec<KernelUse> {
    let mut found = Vec::new();
    for nqn in attribute::names(subsystems) {
        let folder = subsystems.join(&nqn);
        let mut add = |place: &Path, what: String| {
            let path = attribute::text(&place.join("device_path"));
            if let Some(path) = path.filter(|_| is_on(&place.join("enable"))) {
                let by = format!("the kernel's NVMe target as {what} of {nqn}");
                found.push(KernelUse { path: resolved(Path::new(&path)), by });
            }
        };
        for nsid in attribute::names(&folder.join("namespaces")) {
            add(&folder.join("namespaces").join(&nsid), format!("namespace {nsid}"));
        }
        add(&folder.join("passthru"), "the passed-through controller".to_owned());
    }
    found
}

/// LIO: block devices behind its units.
fn scsi_target(core: &Path) -> Vec<KernelUse> {
    let mut found = Vec::new();
    let adapters = attribute::names(core).into_iter().filter(|name| name.starts_with("iblock_"));
    for adapter in adapters {
        for unit in attribute::names(&core.join(&adapter)) {
            let place = core.join(&adapter).join(&unit);
            let path = attribute::text(&place.join("udev_path"));
            if let Some(path) = path.filter(|_| is_on(&place.join("enable"))) {
                let by = format!("the kernel's SCSI target as {adapter}/{unit}");
                found.push(KernelUse { path: resolved(Path::new(&path)), by });
            }
        }
    }
    found
}

fn loops(block: &Path) -> Vec<KernelUse> {
    let names = attribute::names(block).into_iter().filter(|name| name.starts_with("loop"));
    let over = |name: String| {
        let path = attribute::text(&block.join(&name).join("loop/backing_file"))?;
        Some(KernelUse { path: resolved(Path::new(&path)), by: name })
    };
    names.filter_map(over).collect()
}
