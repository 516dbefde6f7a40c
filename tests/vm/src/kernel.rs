//! A packaged kernel: the part that is booted, and the modules that the tests need.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::failure::{Context, Failure, Outcome, ensure, fail};
use harness::process::run_well;

use crate::limits;
use crate::packages::Packages;

/// Modules that are loaded by name, by a file system or by an initiator. What they need comes along.
const MODULES: [&str; 22] = [
    "brd",
    "crc32c_generic",
    "crc32c_intel",
    "ext4",
    "iscsi_target_mod",
    "iscsi_tcp",
    "nvme",
    "nvme_tcp",
    "nvmet",
    "nvmet_tcp",
    "scsi_dh_alua",
    "sd_mod",
    "sg",
    "target_core_file",
    "target_core_mod",
    "vfio_iommu_type1",
    "vfio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_pci",
    "xfs",
    "libcrc32c",
];

/// Setup header of a bzImage (Documentation/arch/x86/boot.rst of Linux): where the compressed kernel lies.
const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// One unpacked kernel package.
#[derive(Debug)]
pub struct Kernel {
    root: PathBuf,
    release: String,
}

impl Kernel {
    /// The kernel below `packages`.
    pub fn find(packages: &Packages) -> Outcome<Self> {
        let modules = packages.root().join("lib/modules");
        let folder = std::fs::read_dir(&modules).context("the modules of the kernel")?.next();
        let folder = folder.ok_or_else(|| Failure::new("a kernel without modules"))??;
        let release = folder.file_name().to_string_lossy().into_owned();
        Ok(Self { root: packages.root().to_owned(), release })
    }

    /// As `uname -r` says it.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The uncompressed kernel. QEMU starts it directly, which takes half the time of starting the compressed one.
    pub fn vmlinux(&self) -> Outcome<Vec<u8>> {
        let image = std::fs::read(self.root.join("boot").join(format!("vmlinuz-{}", self.release)))?;
        let payload = payload(&image)?;
        let (program, arguments): (_, &[&str]) = match payload {
            [0xfd, b'7', b'z', b'X', b'Z', ..] => ("xz", &["-dc", "--single-stream"]),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => ("zstd", &["-dcq"]),
            _ => return fail("the kernel is compressed in a way that is not known"),
        };
        let kernel = filter(program, arguments, payload)?;
        ensure(kernel.starts_with(b"\x7fELF"), || format!("{program} did not give a kernel"))?;
        Ok(kernel)
    }

    /// The files of all wanted modules, with what they need, as paths below the root.
    pub fn modules(&self, tools: &Packages) -> Outcome<Vec<PathBuf>> {
        let mut depmod = tools.command("kmod", "depmod")?;
        run_well(depmod.arg("-b").arg(&self.root).arg(&self.release), limits::PREPARE_PATIENCE)?;
        let folder = Path::new("lib/modules").join(&self.release);
        let dependencies = std::fs::read_to_string(self.root.join(&folder).join("modules.dep"))?;
        let names = closure(&dependencies, &MODULES)?;
        let mut files: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
        for index in [
            "dep",
            "dep.bin",
            "alias",
            "alias.bin",
            "symbols.bin",
            "softdep",
            "builtin",
            "builtin.bin",
            "order",
        ] {
            let file = folder.join(format!("modules.{index}"));
            if self.root.join(&file).exists() {
                files.push(file);
            }
        }
        Ok(files)
    }
}

fn payload(image: &[u8]) -> Outcome<&[u8]> {
    let word = |at: usize| -> Option<usize> {
        let bytes = image.get(at..at + 4)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    let found = (|| {
        (image.get(MAGIC..MAGIC + 4)? == b"HdrS").then_some(())?;
        let setup_sectors = match image.get(SETUP_SECTORS)? {
            // As it was before there was a number.
            0 => 4,
            sectors => usize::from(*sectors),
        };
        let start = (setup_sectors + 1) * 512 + word(PAYLOAD_OFFSET)?;
        image.get(start..start.checked_add(word(PAYLOAD_LENGTH)?)?)
    })();
    found.ok_or_else(|| Failure::new("the kernel is no bzImage"))
}

/// What `program` makes of `input`. The size that Linux puts behind the data may annoy it; the data counts.
fn filter(program: &str, arguments: &[&str], input: &[u8]) -> Outcome<Vec<u8>> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context(&format!("starting {program}"))?;
    let mut pipe = child.stdin.take().expect("standard input is a pipe");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // It stops to read when it has seen the end of the data.
            let _ = pipe.write_all(input);
        });
        Ok(child.wait_with_output()?.stdout)
    })
}

/// Modules and what they need, as `modules.dep` names them.
fn closure(dependencies: &str, wanted: &[&str]) -> Outcome<BTreeSet<String>> {
    let mut files = BTreeMap::new();
    for line in dependencies.lines() {
        if let Some((file, needs)) = line.split_once(':') {
            files.insert(module_name(file), (file, needs));
        }
    }
    let mut names = BTreeSet::new();
    for name in wanted {
        // What is built into one kernel is a module of another.
        if let Some((file, needs)) = files.get(*name) {
            names.insert((*file).to_owned());
            names.extend(needs.split_whitespace().map(str::to_owned));
        }
    }
    ensure(names.iter().any(|name| name.contains("iscsi_tcp")), || "a kernel without iSCSI".to_owned())?;
    Ok(names)
}

/// `kernel/fs/ext4/ext4.ko.xz` is `ext4`; the name uses `_` where the file may have `-`.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_bring_what_they_need_and_nothing_else() {
        let dependencies = "kernel/a/ext4.ko: kernel/b/jbd2.ko kernel/b/mbcache.ko\n\
            kernel/b/jbd2.ko:\nkernel/b/mbcache.ko:\nkernel/c/iscsi_tcp.ko.xz: kernel/c/libiscsi.ko.xz\n\
            kernel/d/nvme-tcp.ko:\nkernel/e/other.ko:\n";
        let names = closure(dependencies, &["ext4", "iscsi_tcp", "nvme_tcp", "built_in"]).expect("modules");
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "kernel/a/ext4.ko",
                "kernel/b/jbd2.ko",
                "kernel/b/mbcache.ko",
                "kernel/c/iscsi_tcp.ko.xz",
                "kernel/c/libiscsi.ko.xz",
                "kernel/d/nvme-tcp.ko",
            ]
        );
    }

    #[test]
    fn the_payload_is_found_and_nonsense_is_refused() {
        let mut image = vec![0; 8192];
        image[SETUP_SECTORS] = 3;
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&100u32.to_le_bytes());
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&7u32.to_le_bytes());
        image[2148..2155].copy_from_slice(b"payload");
        assert_eq!(payload(&image).expect("a payload"), b"payload");
        image[PAYLOAD_LENGTH + 3] = 0xff;
        assert!(payload(&image).is_err(), "longer than the file");
        assert!(payload(b"short").is_err());
    }
}
