//! The NVMe/TCP target of one core: streams, queue pairs, controllers, subsystems and namespaces joined in one poller.
//!
//! It is: [`NvmfCore`], a `reactor::poller::Poller` that accepts connections, moves each to the core of its
//! subsystem, runs controllers, drives commands through the volumes' ports, and answers control.
//! It is not: the transport (`nvmf_proto`), the wire types (`nvme_spec`) or storage (`volume`); it keeps no catalog
//! and opens no volume.
//!
//! What a controller knows and answers is without I/O: `registers`, `features`, `identify`, `log_page`, `discovery`,
//! `event`, `connect`, `nvm`, `fused`, `reserve`, `work`. Authentication and TLS are not offered; they would come
//! between Connect and the first other command (`command`, `fabrics`).
//!
//! Reading order: `core` (the turn), `state` (what there is), `receive`, `command`, `io`, `transmit` (an I/O's way),
//! `accept`, `association`, `fabrics`, `admin`, then `reservations`, `abort` (the hard part), then `control`,
//! `subsystems`, `message`, `setup`.

#![forbid(unsafe_code)]

mod abort;
mod accept;
mod admin;
mod association;
mod command;
mod connect;
mod control;
mod core;
mod discovery;
mod error;
mod event;
mod fabrics;
mod features;
mod fused;
#[cfg(any(test, fuzzing, feature = "fuzzing"))]
pub mod fuzzing;
mod identify;
mod io;
pub mod limits;
mod log_page;
pub mod message;
mod nvm;
mod receive;
mod registers;
mod reservations;
mod reserve;
pub mod setup;
mod slots;
mod state;
mod subsystems;
#[cfg(test)]
mod tests;
mod transmit;
mod work;

pub use crate::core::{NvmfCore, Portal};
pub use crate::error::TargetError;
