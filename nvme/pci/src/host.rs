//! The machine: where its files are, and how it is asked to change something.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the kernel shows itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { sys: "/sys".into(), proc: "/proc".into(), dev: "/dev".into() }
    }
}

/// What is asked of the kernel, beyond reading.
pub trait Kernel: Send + Sync {
    /// Writes an attribute, in one piece.
    fn write(&self, attribute: &Path, value: &str) -> io::Result<()>;

    /// Opens a block device for reading so that nobody can mount or claim it as long as the file is open;
    /// `ResourceBusy` when somebody has.
    fn open_exclusively(&self, device: &Path) -> io::Result<File>;
}

/// The kernel that this process runs on.
#[derive(Debug, Default)]
pub struct Linux;

impl Kernel for Linux {
    fn write(&self, attribute: &Path, value: &str) -> io::Result<()> {
        // Attributes are there or not; they are never created.
        let mut file = OpenOptions::new().write(true).open(attribute)?;
        io::Write::write_all(&mut file, value.as_bytes())
    }

    fn open_exclusively(&self, device: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).custom_flags(libc::O_EXCL | libc::O_CLOEXEC).open(device)
    }
}

/// A machine whose controllers are looked at and moved between drivers.
#[derive(Clone)]
pub struct Host {
    pub(crate) roots: Roots,
    pub(crate) kernel: Arc<dyn Kernel>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("roots", &self.roots).finish_non_exhaustive()
    }
}

impl Host {
    /// The machine that this process runs on.
    pub fn this() -> Self {
        Self::new(Roots::default(), Arc::new(Linux))
    }

    /// A machine at other roots.
    pub fn new(roots: Roots, kernel: Arc<dyn Kernel>) -> Self {
        Self { roots, kernel }
    }

    /// Where its files are.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    pub(crate) fn pci(&self) -> PathBuf {
        self.roots.sys.join("bus/pci")
    }

    pub(crate) fn block(&self, name: &str) -> PathBuf {
        self.roots.sys.join("class/block").join(name)
    }
}
