//! A user-space driver for NVM Express controllers on PCI Express, or on anything that behaves like one.
//!
//! It is: the seam to a device ([`device`]: registers, shared memory, resets, interrupts), a controller as a state machine
//! ([`controller`]), and queue pairs, one for each core ([`queue`]). Nothing in it waits, takes a lock or starts a thread.
//! It is not: the way to a real device (that is the crate `vfio`), a device (that is `nvme_emulated`), or the block
//! interface (that is `volume`).
//!
//! Followed: the revisions that `nvme_spec` names.
//!
//! Reading order: [`device`], [`request`], [`queue`], [`controller`], [`namespace`], then `link`, by which a controller and its
//! queue pairs follow each other through resets, and `transfer`, `ring` and `admin` below them.
#![forbid(unsafe_code)]

mod admin;
pub mod config;
pub mod controller;
pub mod device;
pub mod error;
#[cfg(any(test, fuzzing, feature = "fuzzing"))]
pub mod fuzzing;
pub mod info;
pub mod limits;
mod link;
pub mod namespace;
pub mod planted;
pub mod queue;
pub mod request;
mod ring;
pub mod shadow;
pub mod stats;
#[cfg(any(test, fuzzing, feature = "testing", feature = "fuzzing"))]
pub mod testing;
mod transfer;

pub use config::{Config, Timeouts};
pub use controller::{Controller, ControllerEvent, End, Pages, Remembered};
pub use error::{ClaimError, Fault, Outcome, Refusal, ResetCause, Unsuitable};
pub use namespace::{Namespace, NamespaceInfo};
pub use queue::{QueuePair, QueueTicket, Readiness};
pub use request::{IoDone, IoOp, Request};
