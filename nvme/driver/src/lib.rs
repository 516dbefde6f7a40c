//! A user-space driver for NVM Express controllers on PCI Express, or on anything that behaves like one.
//!
//! It is: the seam to a device ([`device`]: registers, shared memory, resets, interrupts).
//! It is not: the way to a real device (that is the crate `vfio`), a device (that is `nvme_emulated`), or the block
//! interface (that is `volume`).
//!
//! Reading order: [`device`].
#![forbid(unsafe_code)]

pub mod device;
