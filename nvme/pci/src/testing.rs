//! A machine made of files, whose kernel does what Linux does with what is written to it. For the tests of this crate and of
//! the commands above it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::host::{Host, Kernel, Roots};
use crate::{KERNEL_DRIVER, PciAddress, VFIO_DRIVER};

const FILES: &str = "a folder for tests takes files";

/// A machine. It is as real as its folder: other files may be put there.
#[derive(Clone)]
pub struct FakeMachine {
    roots: Roots,
    kernel: Arc<FakeKernel>,
}

/// A controller with one disk.
#[derive(Clone, Debug)]
pub struct FakeController {
    /// Where it is.
    pub address: &'static str,
    /// Number of the controller and of its disk: `nvme3`, `nvme3n1`.
    pub instance: u32,
    /// Serial number.
    pub serial: &'static str,
    /// IOMMU group.
    pub group: Option<u32>,
    /// Size of its disk, which is made of zeros.
    pub disk_bytes: u64,
}

impl Default for FakeController {
    fn default() -> Self {
        let (address, serial) = ("0000:01:00.0", "S6P2NS0T123456");
        Self { address, instance: 0, serial, group: Some(14), disk_bytes: 4 << 20 }
    }
}

impl FakeMachine {
    /// A machine with both drivers loaded and nothing else, in the folder `root`.
    pub fn new(root: &Path) -> Self {
        let roots = Roots { sys: root.join("sys"), proc: root.join("proc"), dev: root.join("dev") };
        let kernel = Arc::new(FakeKernel { roots: roots.clone(), ..FakeKernel::new() });
        let machine = Self { roots, kernel };
        for driver in [KERNEL_DRIVER, VFIO_DRIVER] {
            machine.folder(&machine.driver(driver));
        }
        machine.file(&machine.roots.sys.join("bus/pci/drivers_probe"), "");
        for folder in ["sys/bus/pci/devices", "sys/class/block", "proc/self", "proc/1", "dev/vfio"] {
            machine.folder(&root.join(folder));
        }
        machine
    }

    /// The same as [`Host`].
    pub fn host(&self) -> Host {
        Host::new(self.roots.clone(), self.kernel.clone())
    }

    /// Where its files are.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The kernel, for what goes wrong in it.
    pub fn kernel(&self) -> &FakeKernel {
        &self.kernel
    }

    /// Writes a file, with its folders.
    pub fn file(&self, path: &Path, content: &str) {
        self.folder(path.parent().expect("a file is in a folder"));
        fs::write(path, content).expect(FILES);
    }

    fn folder(&self, path: &Path) {
        fs::create_dir_all(path).expect(FILES);
    }

    fn driver(&self, name: &str) -> PathBuf {
        self.kernel.driver(name)
    }

    /// Folder of a function.
    pub fn function(&self, address: &str) -> PathBuf {
        self.kernel.function(address)
    }

    /// Adds a function of any class; `driver` has it.
    pub fn add_function(&self, address: &str, class: &str, group: Option<u32>, driver: Option<&str>) {
        let folder = self.function(address);
        for (name, content) in [
            ("class", class),
            ("vendor", "0x144d\n"),
            ("device", "0xa808\n"),
            ("driver_override", "(null)\n"),
        ] {
            self.file(&folder.join(name), content);
        }
        if let Some(driver) = driver {
            self.folder(&self.driver(driver));
            symlink(self.driver(driver), folder.join("driver")).expect(FILES);
        }
        if let Some(number) = group {
            let group = self.roots.sys.join(format!("kernel/iommu_groups/{number}"));
            self.folder(&group.join("devices"));
            symlink(&folder, group.join("devices").join(address)).expect(FILES);
            symlink(&group, folder.join("iommu_group")).expect(FILES);
        }
    }

    /// Adds a controller that the kernel drives, and its disk.
    pub fn add_controller(&self, controller: &FakeController) {
        let FakeController { address, instance, serial, group, disk_bytes } = controller;
        self.add_function(address, "0x010802\n", *group, Some(KERNEL_DRIVER));
        let folder = self.function(address);
        for (name, content) in [
            ("subsystem_vendor", "0x144d\n"),
            ("subsystem_device", "0xa801\n"),
            ("numa_node", "-1\n"),
            ("sriov_numvfs", "0\n"),
            ("current_link_speed", "8.0 GT/s PCIe\n"),
            ("current_link_width", "2\n"),
            ("max_link_speed", "8.0 GT/s PCIe\n"),
            ("max_link_width", "4\n"),
        ] {
            self.file(&folder.join(name), content);
        }
        let own = folder.join(format!("nvme/nvme{instance}"));
        for (name, content) in [
            ("serial", format!("{serial}      \n")),
            ("model", "Samsung SSD 970 EVO Plus 1TB            \n".to_owned()),
            ("firmware_rev", "2B2QEXM7\n".to_owned()),
            ("state", "live\n".to_owned()),
        ] {
            self.file(&own.join(name), &content);
        }
        let disk = format!("nvme{instance}n1");
        self.folder(&own.join(&disk));
        let block = self.roots.sys.join("class/block").join(&disk);
        for (name, content) in [
            ("nsid", "1\n".to_owned()),
            ("dev", format!("259:{}\n", instance * 16)),
            ("size", format!("{}\n", disk_bytes / 512)),
            ("queue/logical_block_size", "512\n".to_owned()),
        ] {
            self.file(&block.join(name), &content);
        }
        self.folder(&block.join("holders"));
        let node = File::create(self.roots.dev.join(&disk)).expect(FILES);
        node.set_len(*disk_bytes).expect(FILES);
    }

    /// Puts bytes on a disk.
    pub fn put(&self, disk: &str, offset_bytes: u64, bytes: &[u8]) {
        let node = fs::OpenOptions::new().write(true).open(self.roots.dev.join(disk)).expect(FILES);
        node.write_all_at(bytes, offset_bytes).expect(FILES);
    }

    /// Adds a partition to a disk.
    pub fn add_partition(&self, disk: &str, number: u32, device: &str) {
        let folder = self.roots.sys.join("class/block").join(disk).join(format!("{disk}p{number}"));
        self.file(&folder.join("partition"), &format!("{number}\n"));
        self.file(&folder.join("dev"), &format!("{device}\n"));
        symlink(&folder, self.roots.sys.join("class/block").join(format!("{disk}p{number}"))).expect(FILES);
    }

    /// Adds a process that has a file open.
    pub fn add_process(&self, pid: u32, name: &str, open: &Path) {
        let folder = self.roots.proc.join(pid.to_string());
        self.file(&folder.join("comm"), &format!("{name}\n"));
        self.folder(&folder.join("fd"));
        symlink(open, folder.join("fd/7")).expect(FILES);
    }
}

/// What Linux does with drivers of functions.
pub struct FakeKernel {
    roots: Roots,
    /// Disks that somebody has exclusively.
    exclusive: Mutex<BTreeSet<PathBuf>>,
    /// Drivers that take no function.
    unwilling: Mutex<BTreeSet<String>>,
    /// Attributes that cannot be written, by their last part.
    forbidden: Mutex<BTreeSet<String>>,
    written: Mutex<Vec<(PathBuf, String)>>,
}

impl FakeKernel {
    fn new() -> Self {
        Self {
            roots: Roots::default(),
            exclusive: Mutex::default(),
            unwilling: Mutex::default(),
            forbidden: Mutex::default(),
            written: Mutex::default(),
        }
    }

    fn driver(&self, name: &str) -> PathBuf {
        self.roots.sys.join("bus/pci/drivers").join(name)
    }

    fn function(&self, address: &str) -> PathBuf {
        self.roots.sys.join("bus/pci/devices").join(address)
    }

    /// Lets nobody else open the disk exclusively.
    pub fn hold(&self, disk: &str) {
        lock(&self.exclusive).insert(self.roots.dev.join(disk));
    }

    /// Lets a driver take no function any more.
    pub fn spoil(&self, driver: &str) {
        lock(&self.unwilling).insert(driver.to_owned());
    }

    /// Lets nobody write attributes of that name.
    pub fn forbid(&self, attribute: &str) {
        lock(&self.forbidden).insert(attribute.to_owned());
    }

    /// Everything that was written, in order.
    pub fn written(&self) -> Vec<(PathBuf, String)> {
        lock(&self.written).clone()
    }

    fn unbind(&self, folder: &Path, driver: &Path) -> io::Result<()> {
        let link = folder.join("driver");
        let has_it = fs::read_link(&link).is_ok_and(|target| target.file_name() == driver.file_name());
        if !has_it {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        fs::remove_file(link)?;
        // The disks go with the kernel's driver.
        if driver.ends_with(KERNEL_DRIVER) {
            fs::rename(folder.join("nvme"), folder.join(".nvme"))
        } else {
            Ok(())
        }
    }

    fn probe(&self, folder: &Path) -> io::Result<()> {
        let wanted = fs::read_to_string(folder.join("driver_override"))?;
        let name = match wanted.trim() {
            "" | "(null)" => KERNEL_DRIVER,
            name => name,
        };
        let driver = self.driver(name);
        if folder.join("driver").exists() || !driver.exists() || lock(&self.unwilling).contains(name) {
            // Probing says nothing of a driver that did not want it.
            return Ok(());
        }
        symlink(&driver, folder.join("driver"))?;
        let hidden = folder.join(".nvme");
        if name == KERNEL_DRIVER && hidden.exists() {
            fs::rename(hidden, folder.join("nvme"))
        } else {
            Ok(())
        }
    }
}

impl Kernel for FakeKernel {
    fn write(&self, attribute: &Path, value: &str) -> io::Result<()> {
        lock(&self.written).push((attribute.to_owned(), value.to_owned()));
        let name = attribute.file_name().expect("an attribute has a name").to_string_lossy().into_owned();
        if lock(&self.forbidden).contains(&name) {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
        let function = || {
            let address: PciAddress =
                value.parse().map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
            Ok::<_, io::Error>(self.function(&address.to_string()))
        };
        match name.as_str() {
            "unbind" => {
                let driver = fs::canonicalize(attribute.parent().expect("an attribute has a folder"))?;
                self.unbind(&function()?, &driver)
            }
            "drivers_probe" => self.probe(&function()?),
            "driver_override" => fs::write(attribute, if value == "\n" { "(null)\n" } else { value }),
            _ => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        }
    }

    fn open_exclusively(&self, device: &Path) -> io::Result<File> {
        match lock(&self.exclusive).contains(device) {
            true => Err(io::Error::from_raw_os_error(libc::EBUSY)),
            false => File::open(device),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
