//! What sysfs and procfs say about a function: its driver, its group, the other functions of that group, who has it open.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nvme_pci::PciAddress;

use crate::error::{Holder, Member};
use crate::limits::{NAMED_HOLDERS_MAX, NAMED_MEMBERS_MAX};

/// Drivers that do not hold a group back: ports between buses, and drivers that do no DMA of their own.
const HARMLESS_DRIVERS: [&str; 3] = ["vfio-pci", "pcieport", "pci-stub"];

/// The kernel's view of its PCI functions, below `/` or, in tests, elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct System {
    root: PathBuf,
}

fn name_of_link(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.file_name()?.to_string_lossy().into_owned())
}

impl System {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The path of something below the root.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn folder(&self, address: PciAddress) -> PathBuf {
        self.path("/sys/bus/pci/devices").join(address.to_string())
    }

    pub(crate) fn exists(&self, address: PciAddress) -> bool {
        self.folder(address).exists()
    }

    pub(crate) fn driver(&self, address: PciAddress) -> Option<String> {
        name_of_link(&self.folder(address).join("driver"))
    }

    pub(crate) fn group(&self, address: PciAddress) -> Option<u32> {
        name_of_link(&self.folder(address).join("iommu_group"))?.parse().ok()
    }

    /// The name below `/dev/vfio/devices` of the function's own file.
    pub(crate) fn device_file(&self, address: PciAddress) -> Option<String> {
        let mut entries = fs::read_dir(self.folder(address).join("vfio-dev")).ok()?;
        Some(entries.next()?.ok()?.file_name().to_string_lossy().into_owned())
    }

    /// The other functions of the group whose drivers keep it from being handed to user space.
    pub(crate) fn held_back_by(&self, group: u32, address: PciAddress) -> Vec<Member> {
        let folder = self.path("/sys/kernel/iommu_groups").join(group.to_string()).join("devices");
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        let member = |entry: fs::DirEntry| {
            let member: PciAddress = entry.file_name().to_string_lossy().parse().ok()?;
            let driver = self.driver(member)?;
            let harmless = member == address || HARMLESS_DRIVERS.contains(&driver.as_str());
            (!harmless).then_some(Member { address: member, driver })
        };
        let mut members: Vec<Member> = entries.flatten().filter_map(member).collect();
        members.sort_by_key(|member| member.address);
        members.truncate(NAMED_MEMBERS_MAX);
        members
    }

    /// The processes that have `path` open, as far as this one may see.
    pub(crate) fn holders(&self, path: &Path) -> Vec<Holder> {
        let Ok(wanted) = fs::metadata(path) else { return Vec::new() };
        let Ok(processes) = fs::read_dir(self.path("/proc")) else { return Vec::new() };
        let holder = |entry: fs::DirEntry| {
            let pid = entry.file_name().to_string_lossy().parse().ok()?;
            let mut files = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
            let same = |file: fs::DirEntry| {
                let file = fs::metadata(file.path());
                file.is_ok_and(|file| file.ino() == wanted.ino() && file.dev() == wanted.dev())
            };
            files.any(same).then(|| {
                let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                Holder { pid, name: name.trim().to_owned() }
            })
        };
        processes.flatten().filter_map(holder).take(NAMED_HOLDERS_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn add(system: &System, address: &str, driver: Option<&str>, group: Option<u32>) {
        let folder = system.path("/sys/bus/pci/devices").join(address);
        fs::create_dir_all(&folder).expect("a folder");
        if let Some(driver) = driver {
            symlink(format!("../../../bus/pci/drivers/{driver}"), folder.join("driver")).expect("a link");
        }
        if let Some(group) = group {
            symlink(format!("../../../kernel/iommu_groups/{group}"), folder.join("iommu_group"))
                .expect("a link");
            let members = system.path(&format!("/sys/kernel/iommu_groups/{group}/devices"));
            fs::create_dir_all(&members).expect("a folder");
            symlink(&folder, members.join(address)).expect("a link");
        }
    }

    #[test]
    fn a_group_says_who_holds_it_back() {
        let root = tempfile::tempdir().expect("a folder");
        let system = System::new(root.path());
        add(&system, "0000:01:00.0", Some("vfio-pci"), Some(7));
        add(&system, "0000:00:1c.0", Some("pcieport"), Some(7));
        add(&system, "0000:01:00.3", None, Some(7));
        add(&system, "0000:01:00.2", Some("xhci_hcd"), Some(7));
        add(&system, "0000:01:00.1", Some("snd_hda_intel"), Some(7));
        add(&system, "0000:02:00.0", Some("nvme"), Some(8));
        add(&system, "0000:03:00.0", None, None);
        let address = |text: &str| text.parse::<PciAddress>().expect("an address");
        let first = address("0000:01:00.0");
        assert_eq!(system.group(first), Some(7));
        assert_eq!(system.driver(first).as_deref(), Some("vfio-pci"));
        let names: Vec<String> = system
            .held_back_by(7, first)
            .iter()
            .map(|member| format!("{} {}", member.address, member.driver))
            .collect();
        assert_eq!(names, ["0000:01:00.1 snd_hda_intel", "0000:01:00.2 xhci_hcd"]);
        assert!(system.held_back_by(8, address("0000:02:00.0")).is_empty());
        assert!(system.held_back_by(99, first).is_empty());
        assert_eq!(system.group(address("0000:03:00.0")), None);
        assert_eq!(system.device_file(first), None);
        assert!(!system.exists(address("0000:04:00.0")));
        let named = system.path("/sys/bus/pci/devices/0000:01:00.0/vfio-dev/vfio3");
        fs::create_dir_all(named).expect("a folder");
        assert_eq!(system.device_file(first).as_deref(), Some("vfio3"));
    }

    #[test]
    fn the_process_that_has_a_file_open_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let holders = System::new(Path::new("/")).holders(file.path());
        assert_eq!(holders.iter().map(|holder| holder.pid).collect::<Vec<_>>(), [std::process::id()]);
        assert!(!holders[0].name.is_empty());
        assert!(System::new(Path::new("/")).holders(Path::new("/nonexistent")).is_empty());
    }
}
