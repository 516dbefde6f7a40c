//! The storage brain of Vega: the block interface and what stands behind it.
//!
//! It is: [`bdev`], the one interface for everything that holds blocks, its back ends (memory,
//! file, block device, NVMe namespace), the range table that orders overlapping I/O of a volume, the volume's
//! reservations, sanitizing it, and [`shared`], by which several protocols of a core serve one volume.
//! It is not: a protocol (no SCSI or NVMe wire word) and not a control plane (no name, no config).
//!
//! Reading order: `bdev`, `volume`, `range`, then the back ends, `journal` (how a file writes atomically), then `reservation` and `sanitize`, then `shared`.

#![forbid(unsafe_code)]

mod ahead;
pub mod allocation;
pub mod bdev;
pub mod block_device;
pub mod channel_file;
pub mod conformance;
pub mod file;
pub mod file_open;
#[cfg(any(test, fuzzing, feature = "fuzzing"))]
pub mod fuzzing;
pub mod geometry;
pub mod identity;
pub mod io_mode;
pub mod journal;
pub mod journal_file;
pub mod label;
pub mod limits;
mod lock;
pub mod memory;
pub mod memory_budget;
pub mod metadata;
pub mod nvme;
pub mod op_stats;
pub mod open_error;
pub mod range;
pub mod reservation;
pub mod sanitize;
pub mod shared;
pub mod volume;

pub use disk_signature as signature;
