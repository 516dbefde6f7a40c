//! PCI functions in user space, through Linux's VFIO: a [`nvme::device::Device`] that is a real one.
//!
//! It is: taking a function over and saying why that fails ([`VfioError`]), its registers, its view of memory, its interrupts
//! and resets, and giving it back.
//! It is not: the driver of a controller (that is `nvme`), or the way from the kernel's driver to vfio-pci and back
//! (that is `nvme_pci`, of which it knows addresses only).
//!
//! Reading order: `pci`, `chain` and `iova` (plain data); `sys` and `registers` (the islands); `open`, `space`, `function`,
//! `attendant`, `device`.

mod attendant;
mod chain;
mod device;
mod error;
mod function;
mod iova;
mod limits;
mod open;
mod pci;
mod physical;
mod registers;
mod report;
mod space;
mod sys;

pub use device::{Tether, VfioDevice};
pub use error::{Holder, Member, Request, VfioError, Way};
pub use function::Reset;
pub use nvme_pci::PciAddress;
pub use report::Report;
