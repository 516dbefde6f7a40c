//! The storage brain of Vega: the block interface and what stands behind it.
//!
//! It is: [`bdev`], the one interface for everything that holds blocks, its back ends (memory,
//! file, block device), the range table that orders overlapping I/O of a volume, and the volume's
//! reservations.
//! It is not: a protocol (no SCSI or NVMe wire word) and not a control plane (no name, no config).
//!
//! Reading order: `bdev`, `volume`, `range`, then the back ends, then `reservation`.

#![forbid(unsafe_code)]

pub mod bdev;
pub mod reservation;
pub mod geometry;
pub mod limits;
pub mod memory;
pub mod op_stats;
pub mod range;
pub mod volume;
