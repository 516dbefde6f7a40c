//! Who uses the disks of a controller: mounts, swap, partitions, other drivers, processes, and what lies on them.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use disk_signature::{Found, HEAD_BYTES, TAIL_BYTES, is_vega_volume, recognise};
use serde::Serialize;

use crate::attribute;
use crate::block::BlockDevice;
use crate::function::Function;
use crate::host::Host;
use crate::kernel_users::KernelUsers;
use crate::mounts::{MountedAt, Mounts};
use crate::process::{Node, OpenFiles, Process};

/// One reason not to take a controller from the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "use", rename_all = "kebab-case")]
pub enum Use {
    /// A filesystem on it is mounted.
    Mounted {
        /// The disk or partition.
        device: String,
        /// Where.
        at: String,
    },
    /// A program serves a filesystem that it says is on it (FUSE).
    MountedByProgram {
        /// The disk or partition.
        device: String,
        /// Where.
        at: String,
    },
    /// The kernel exports it to other machines.
    Exported {
        /// The disk, partition or controller.
        device: String,
        /// By what, and as what.
        by: String,
    },
    /// A loop device is over it.
    Looped {
        /// The disk or partition.
        device: String,
        /// The loop device.
        by: String,
    },
    /// The machine swaps to it.
    Swap {
        /// The disk or partition.
        device: String,
    },
    /// Another driver builds on it: a volume manager, a RAID, a cache.
    Claimed {
        /// The disk or partition.
        device: String,
        /// The device that is built on it.
        by: String,
        /// What that calls itself.
        name: Option<String>,
    },
    /// Somebody has it open and lets nobody else have it.
    OpenedExclusively {
        /// The disk.
        device: String,
    },
    /// A process has it open.
    Open {
        /// The disk or partition.
        device: String,
        /// The process.
        process: Process,
    },
    /// It is cut into partitions.
    Partitioned {
        /// The disk.
        device: String,
        /// How many.
        partitions: usize,
    },
    /// Something lies on it.
    Labelled {
        /// The disk.
        device: String,
        /// What.
        what: &'static str,
        /// Where its mark is, in bytes from the start of the disk.
        offset_bytes: u64,
    },
    /// It could not be looked at, so it counts as used.
    Unseen {
        /// The disk.
        device: String,
        /// Why, as an error number.
        errno: i32,
    },
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted { device, at } => write!(f, "{device} is mounted at {at}"),
            Self::MountedByProgram { device, at } => {
                write!(f, "{device} is mounted at {at} by a program (FUSE)")
            }
            Self::Exported { device, by } => write!(f, "{device} is exported by {by}"),
            Self::Looped { device, by } => write!(f, "{device} is under the loop device {by}"),
            Self::Swap { device } => write!(f, "{device} is swapped to"),
            Self::Claimed { device, by, name: Some(name) } => {
                write!(f, "{device} is claimed by {by} ({name})")
            }
            Self::Claimed { device, by, name: None } => write!(f, "{device} is claimed by {by}"),
            Self::OpenedExclusively { device } => write!(f, "{device} is opened exclusively"),
            Self::Open { device, process } => write!(f, "{device} is open in {process}"),
            Self::Partitioned { device, partitions: 1 } => write!(f, "{device} has a partition"),
            Self::Partitioned { device, partitions } => write!(f, "{device} has {partitions} partitions"),
            Self::Labelled { device, what, offset_bytes } => {
                write!(f, "{device} holds {what} (its mark is at byte {offset_bytes})")
            }
            Self::Unseen { device, errno } => {
                write!(f, "{device} cannot be looked at: {}", io::Error::from_raw_os_error(*errno))?;
                if *errno == libc::EACCES { write!(f, "; run this as root") } else { Ok(()) }
            }
        }
    }
}

impl Use {
    /// What it is, in words that hold whatever number the kernel gives the controller next time, and whichever process it is.
    pub fn without_instance(&self, function: &Function) -> String {
        let words = match self {
            Self::Open { device, process } => format!("{device} is open in {}", process.name),
            other => other.to_string(),
        };
        match &function.controller {
            Some(controller) => words.replace(&controller.name, "nvme"),
            None => words,
        }
    }

    /// True when `other` says no more than this: whoever mounts, swaps to or builds on a disk has it exclusively.
    pub(crate) fn explains(&self, other: &Self) -> bool {
        let (Self::Mounted { device, .. } | Self::Swap { device } | Self::Claimed { device, .. }) = self
        else {
            return false;
        };
        let Self::OpenedExclusively { device: disk } = other else { return false };
        device.strip_prefix(disk.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('p'))
    }
}

/// What is asked of the machine once for all controllers.
pub(crate) struct Users {
    mounts: Mounts,
    open: OpenFiles,
    kernel: KernelUsers,
}

impl Users {
    pub(crate) fn look(host: &Host) -> Self {
        let dev = host.roots.dev.clone();
        let is_disk = move |path: &Path| {
            let name = path.strip_prefix(&dev).ok().and_then(Path::to_str);
            // Disks, partitions, controllers, and the character devices of namespaces.
            name.is_some_and(|name| name.starts_with("nvme") || name.starts_with("ng"))
        };
        Self {
            mounts: Mounts::read(&host.roots),
            open: OpenFiles::look(&host.roots, is_disk),
            kernel: KernelUsers::read(host),
        }
    }
}

impl Host {
    /// Everybody who uses the disks of these controllers, in their order. Looks only: no disk is claimed by it.
    pub fn uses(&self, functions: &[Function]) -> Vec<Vec<Use>> {
        let users = Users::look(self);
        functions.iter().map(|function| self.uses_of(function, &users)).collect()
    }

    pub(crate) fn uses_of(&self, function: &Function, users: &Users) -> Vec<Use> {
        let Some(controller) = &function.controller else { return Vec::new() };
        let mut uses = Vec::new();
        self.uses_of_character_device("nvme", &controller.name, users, &mut uses);
        uses.extend(controller.disks.iter().flat_map(|disk| self.uses_of_disk(disk, users)));
        uses
    }

    /// A controller, or a namespace past the block layer.
    fn uses_of_character_device(&self, class: &str, name: &str, users: &Users, uses: &mut Vec<Use>) {
        let path = self.roots.dev.join(name);
        let number = attribute::text(&self.roots.sys.join("class").join(class).join(name).join("dev"));
        let node = number.map(|number| Node { is_block: false, number });
        let open = users.open.of_device(&path, node.as_ref()).into_iter();
        uses.extend(open.map(|process| Use::Open { device: name.to_owned(), process }));
        let exports = users.kernel.exports_of(&path);
        uses.extend(exports.map(|by| Use::Exported { device: name.to_owned(), by: by.to_owned() }));
    }

    fn uses_of_disk(&self, disk: &BlockDevice, users: &Users) -> Vec<Use> {
        let mut uses = Vec::new();
        for name in std::iter::once(&disk.name).chain(&disk.partitions) {
            self.uses_of_node(name, users, &mut uses);
        }
        if let Some(generic) = disk.name.strip_prefix("nvme") {
            self.uses_of_character_device("nvme-generic", &format!("ng{generic}"), users, &mut uses);
        }
        if !disk.partitions.is_empty() {
            uses.push(Use::Partitioned { device: disk.name.clone(), partitions: disk.partitions.len() });
        }
        match contents(&disk.path(self), disk.size_bytes) {
            Ok(None) => {}
            Ok(Some(Found { what, offset_bytes })) => {
                uses.push(Use::Labelled { device: disk.name.clone(), what, offset_bytes });
            }
            Err(error) => uses.push(unseen(&disk.name, &error)),
        }
        uses
    }

    fn uses_of_node(&self, name: &str, users: &Users, uses: &mut Vec<Use>) {
        let (folder, path) = (self.block(name), self.roots.dev.join(name));
        let device = || name.to_owned();
        let number = attribute::text(&folder.join("dev"));
        let mounts = users.mounts.of(number.as_deref(), &path);
        uses.extend(mounts.into_iter().map(|MountedAt { at, by_program }| match by_program {
            true => Use::MountedByProgram { device: device(), at },
            false => Use::Mounted { device: device(), at },
        }));
        if users.mounts.swaps_to(&path) {
            uses.push(Use::Swap { device: device() });
        }
        for by in attribute::names(&folder.join("holders")) {
            let holder = self.block(&by);
            let name = ["dm/name", "md/uuid"].iter().find_map(|place| attribute::text(&holder.join(place)));
            uses.push(Use::Claimed { device: device(), by, name });
        }
        let exports = users.kernel.exports_of(&path);
        uses.extend(exports.map(|by| Use::Exported { device: device(), by: by.to_owned() }));
        let loops = users.kernel.loops_over(&path);
        uses.extend(loops.map(|by| Use::Looped { device: device(), by: by.to_owned() }));
        let node = number.map(|number| Node { is_block: true, number });
        let open = users.open.of_device(&path, node.as_ref()).into_iter();
        uses.extend(open.map(|process| Use::Open { device: device(), process }));
    }

    /// Takes out what is no use by others for a node that drives volumes: the label of a volume, and what the users of that volume
    /// have put on it, which this machine sees as file systems and partitions of its own.
    pub(crate) fn forget_volumes(&self, function: &Function, uses: &mut Vec<Use>) {
        for disk in function.controller.iter().flat_map(|controller| &controller.disks) {
            if tail(&disk.path(self), disk.size_bytes)
                .is_ok_and(|tail| is_vega_volume(&tail, disk.size_bytes))
            {
                uses.retain(|one| match one {
                    Use::Labelled { device, .. } | Use::Partitioned { device, .. } => *device != disk.name,
                    _ => true,
                });
            }
        }
    }

    /// Claims every disk of a controller, so that nobody can mount one while it is moved; what cannot be claimed is a use.
    pub(crate) fn claim(&self, function: &Function) -> (Vec<File>, Vec<Use>) {
        let (mut claims, mut uses) = (Vec::new(), Vec::new());
        for disk in function.controller.iter().flat_map(|controller| &controller.disks) {
            match self.kernel.open_exclusively(&disk.path(self)) {
                Ok(file) => claims.push(file),
                Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                    uses.push(Use::OpenedExclusively { device: disk.name.clone() });
                }
                Err(error) => uses.push(unseen(&disk.name, &error)),
            }
        }
        (claims, uses)
    }
}

fn unseen(disk: &str, error: &io::Error) -> Use {
    Use::Unseen { device: disk.to_owned(), errno: error.raw_os_error().unwrap_or(libc::EIO) }
}

/// What lies on a disk, from the marks at both of its ends.
fn contents(path: &Path, size_bytes: u64) -> io::Result<Option<Found>> {
    // An empty namespace (none allocated) has no ends to look at.
    if size_bytes == 0 {
        return Ok(None);
    }
    let mut head = vec![0; HEAD_BYTES.min(size_bytes) as usize];
    File::open(path)?.read_exact(&mut head)?;
    Ok(recognise(&head, &tail(path, size_bytes)?, size_bytes))
}

fn tail(path: &Path, size_bytes: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut tail = vec![0; TAIL_BYTES.min(size_bytes) as usize];
    file.seek(SeekFrom::Start(size_bytes - tail.len() as u64))?;
    file.read_exact(&mut tail)?;
    Ok(tail)
}
