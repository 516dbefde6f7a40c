//! NVMe controllers on PCI Express as the operating system shows them.
//!
//! It is: discovery through sysfs ([`Function`]: identity, link, IOMMU group, driver, what the kernel's driver says of the
//! controller), who uses its disks ([`Use`]), and moving a controller from the kernel's driver to `vfio-pci` and back
//! ([`Host::plan_bind`], [`Host::plan_unbind`]). Nothing is changed that was not named, and nothing that somebody uses
//! unless its serial number was typed.
//! It is not: a driver, and not the way to the device's registers (that is `vfio`). Everything here may block; it belongs to
//! commands and to the start of a node.
//!
//! Every file is reached through [`Roots`] and every change goes through [`Kernel`], so that all of it is tested on a
//! machine made of files ([`testing`]).
//!
//! Reading order: [`address`], [`host`], [`function`], [`usage`], [`plan`].
#![forbid(unsafe_code)]
// A test that fails says where; that is all it has to do.

pub mod address;
mod attribute;
pub mod block;
pub mod error;
pub mod function;
pub mod host;
mod kernel_users;
pub mod limits;
mod mounts;
pub mod plan;
pub mod process;
pub mod testing;
pub mod usage;

pub use address::PciAddress;
pub use block::BlockDevice;
pub use error::PciError;
pub use function::{Function, IommuGroup, KernelController, Link, Member};
pub use host::{Host, Kernel, Roots};
pub use plan::{BindOptions, Plan, Write};
pub use process::Process;
pub use usage::Use;

/// The driver that hands a function to user space.
pub const VFIO_DRIVER: &str = "vfio-pci";
/// The kernel's own driver.
pub const KERNEL_DRIVER: &str = "nvme";

#[cfg(test)]
mod tests;
