//! The disks and partitions that the kernel's driver makes of namespaces.

use std::path::PathBuf;

use serde::Serialize;

use crate::attribute;
use crate::host::Host;

/// Sizes in sysfs are in sectors of 512 bytes, whatever the block size is.
const SECTOR_BYTES: u64 = 512;

/// A namespace as the kernel serves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockDevice {
    /// Its name, for example `nvme0n1`.
    pub name: String,
    /// Namespace identifier.
    pub nsid: Option<u32>,
    /// Its size.
    pub size_bytes: u64,
    /// Logical block size in bytes.
    pub block_size: Option<u32>,
    /// Names of its partitions.
    pub partitions: Vec<String>,
}

impl BlockDevice {
    pub(crate) fn read(host: &Host, name: &str) -> Self {
        let folder = host.block(name);
        let sectors: u64 = attribute::number(&folder.join("size")).unwrap_or(0);
        let partitions = attribute::names(&folder)
            .into_iter()
            .filter(|entry| folder.join(entry).join("partition").exists())
            .collect();
        Self {
            name: name.to_owned(),
            nsid: attribute::number(&folder.join("nsid")),
            size_bytes: sectors.saturating_mul(SECTOR_BYTES),
            block_size: attribute::number(&folder.join("queue/logical_block_size")),
            partitions,
        }
    }

    /// Its device node.
    pub(crate) fn path(&self, host: &Host) -> PathBuf {
        host.roots.dev.join(&self.name)
    }
}

/// The name of the disk that an entry in a controller's folder is about: `nvme0n1`, or `nvme0c1n1` for one path to the disk
/// `nvme0n1` of a subsystem with several controllers.
pub(crate) fn disk_name(entry: &str) -> Option<String> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (head, namespace) = entry.strip_prefix("nvme")?.split_once('n')?;
    let (instance, path) = match head.split_once('c') {
        Some((instance, path)) => (instance, Some(path)),
        None => (head, None),
    };
    let good = digits(instance) && digits(namespace) && path.is_none_or(digits);
    good.then(|| format!("nvme{instance}n{namespace}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_and_paths_to_disks_are_told_from_the_rest() {
        assert_eq!(disk_name("nvme0n1").as_deref(), Some("nvme0n1"));
        assert_eq!(disk_name("nvme12c3n45").as_deref(), Some("nvme12n45"));
        for other in ["nvme0", "ng0n1", "nvme0n", "nvmen1", "nvme0n1p1", "nvme0cn1", "hwmon3", "nvme-subsys0"]
        {
            assert_eq!(disk_name(other), None, "{other}");
        }
    }
}
