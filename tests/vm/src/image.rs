//! The prepared image: a kernel that QEMU starts directly, and the large part of the guest's first file system.
//!
//! It is made once for each set of packages, kept in the cache, and shared by every guest. What changes from run to
//! run (Vega, the cases) follows it in a small archive of its own (`overlay`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use harness::failure::{Context, Outcome, fail};
use harness::report::say;

use crate::cpio::Archive;
use crate::kernel::Kernel;
use crate::packages::Packages;

/// Raised when something else goes into the image.
const FORMAT: u32 = 4;

/// Programs of the guest. They stand in one folder, before those of busybox.
const PROGRAMS: [&str; 37] = [
    "blkdiscard",
    "blkid",
    "blockdev",
    "e2fsck",
    "fio",
    "fstrim",
    "iscsiadm",
    "iscsid",
    "kmod",
    "lsblk",
    "mke2fs",
    "mkfs.xfs",
    "nvme",
    "resize2fs",
    "sg_compare_and_write",
    "sg_get_lba_status",
    "sg_inq",
    "sg_logs",
    "sg_luns",
    "sg_modes",
    "sg_opcodes",
    "sg_persist",
    "sg_raw",
    "sg_read",
    "sg_readcap",
    "sg_requests",
    "sg_reset",
    "sg_rtpg",
    "sg_start",
    "sg_sync",
    "sg_turs",
    "sg_unmap",
    "sg_verify",
    "sg_vpd",
    "sg_write_same",
    "wipefs",
    "xfs_repair",
];

/// Programs that are other programs under another name.
const NAMES: [(&str, &str); 6] = [
    ("depmod", "kmod"),
    ("lsmod", "kmod"),
    ("modprobe", "kmod"),
    ("rmmod", "kmod"),
    ("fsck.ext4", "e2fsck"),
    ("mkfs.ext4", "mke2fs"),
];

/// Not linked with: one is opened when a thread ends, the other lets a `vega` run that is not static.
const OTHER_LIBRARIES: [&str; 2] = ["libgcc_s.so.1", "libm.so.6"];
const CONFIGURATION: [&str; 2] = ["etc/iscsi/iscsid.conf", "etc/mke2fs.conf"];

/// What QEMU is given.
#[derive(Clone, Debug)]
pub struct Image {
    /// The kernel.
    pub vmlinux: PathBuf,
    /// The archive that comes first.
    pub base: PathBuf,
    /// As `uname -r` says it.
    pub release: String,
}

/// The kernels that are unpacked below `cache`, oldest first, as `6.1`.
pub fn kernels(cache: &Path) -> Outcome<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(cache).context("scripts/install.sh vm prepares it")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(version) = name.strip_prefix("kernel-").filter(|_| Packages::find(cache, &name).is_ok()) {
            found.push(version.to_owned());
        }
    }
    found.sort_by_key(|version| {
        version.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>()
    });
    if found.is_empty() {
        fail("no kernel is prepared; scripts/install.sh vm prepares one")
    } else {
        Ok(found)
    }
}

/// The image with kernel `version`; makes it when the cache has none of these packages.
pub fn prepare(cache: &Path, version: &str) -> Outcome<Image> {
    let tools = Packages::find(cache, "tools")?;
    let kernel_packages = Packages::find(cache, &format!("kernel-{version}"))?;
    let kernel = Kernel::find(&kernel_packages)?;
    let folder = cache.join(format!("image-{version}"));
    let image = Image {
        vmlinux: folder.join("vmlinux"),
        base: folder.join("base.cpio"),
        release: kernel.release().to_owned(),
    };
    let wanted = format!("format {FORMAT}\n{}{}", tools.versions()?, kernel_packages.versions()?);
    let made_of = folder.join("made-of");
    if std::fs::read_to_string(&made_of).is_ok_and(|text| text == wanted) {
        return Ok(image);
    }
    say(&format!("preparing the image with Linux {}", image.release));
    // Absent while the rest is made: a half image is none.
    let _ = std::fs::remove_file(&made_of);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(&image.vmlinux, kernel.vmlinux()?)?;
    std::fs::write(&image.base, base(&tools, &kernel_packages, &kernel)?)?;
    std::fs::write(&made_of, wanted)?;
    Ok(image)
}

fn base(tools: &Packages, kernel_packages: &Packages, kernel: &Kernel) -> Outcome<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["/dev", "/proc", "/sys", "/tmp", "/run", "/data", "/mnt", "/var/lib/iscsi", "/etc/nvme"] {
        archive.folder(folder)?;
    }
    archive.character_device("/dev/console", 5, 1)?;
    archive.file("/bin/busybox", 0o755, &std::fs::read(tools.program("busybox")?)?)?;
    archive.link("/bin/sh", "busybox")?;
    let mut libraries = BTreeSet::new();
    for name in PROGRAMS {
        let program = tools.program(name)?;
        libraries.extend(tools.libraries_of(&program)?);
        archive.file(&format!("/usr/local/bin/{name}"), 0o755, &std::fs::read(program)?)?;
    }
    for (name, program) in NAMES {
        archive.link(&format!("/usr/local/bin/{name}"), program)?;
    }
    for name in OTHER_LIBRARIES {
        libraries.insert(tools.library(name)?.strip_prefix(tools.root()).expect("found below it").to_owned());
    }
    for library in libraries {
        archive.file(&absolute(&library), 0o755, &std::fs::read(tools.root().join(&library))?)?;
    }
    for file in CONFIGURATION {
        archive.file(&absolute(Path::new(file)), 0o644, &std::fs::read(tools.root().join(file))?)?;
    }
    for file in kernel.modules(tools)? {
        archive.file(&absolute(&file), 0o644, &std::fs::read(kernel_packages.root().join(&file))?)?;
    }
    archive.finish()
}

fn absolute(path: &Path) -> String {
    format!("/{}", path.display())
}
