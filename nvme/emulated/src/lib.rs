//! An NVMe controller in this process: the device of tests, of the simulator, and of a machine that has none to spare.
//!
//! It is: the register file, queues, commands, namespaces and faults of a PCIe controller as NVM Express Base 2.1 and NVM
//! Command Set 1.1 describe it, behind [`nvme::device::Device`]; media with a volatile write cache; an IOMMU of its own, which
//! stops every access to memory that was not mapped and lent. It works when it is stepped, in the time it is given, and
//! what is left to chance hangs on one seed. What it does wrong is a value ([`fault`]); there is no second emulator for that.
//! It is not: a model of the time that flash takes, or of a bus. Namespace Management, protection information, zones and
//! whatever else it does not offer is refused with the status that the standard names.
//!
//! Reading order: [`config`], [`emulated`] (the owner's handle), [`device`] (the driver's), `controller` (the step), `registers`,
//! `queue`, `doorbell`, `shadow`, `iommu`, `transfer`; `admin`, `features`, `events`, `log`; `nvm`, `namespace`, `media`;
//! [`fault`], `flight`, `reset`.
#![forbid(unsafe_code)]

mod admin;
pub mod config;
mod controller;
pub mod device;
mod doorbell;
pub mod emulated;
mod events;
pub mod fault;
mod features;
mod flight;
#[cfg(any(test, fuzzing, feature = "fuzzing"))]
pub mod fuzzing;
mod interrupt;
mod iommu;
pub mod limits;
mod log;
mod media;
mod namespace;
mod nvm;
mod queue;
mod registers;
mod reset;
mod shadow;
mod transfer;

pub use config::{ConfigError, ControllerConfig, Delays, Format, NamespaceConfig};
pub use controller::{AfterReset, Counters};
pub use device::EmulatedDevice;
pub use emulated::{EmulatedController, NamespaceError};
pub use fault::{Action, CommandMatch, Fault, FaultId, Hang};
pub use iommu::{AccessFault, IommuFault};
pub use log::Health;
pub use registers::FatalUntil;
