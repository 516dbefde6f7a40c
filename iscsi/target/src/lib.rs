//! The iSCSI target of one core: streams, logins, sessions, logical units and ways into volumes joined in one poller.
//!
//! It is: [`TargetCore`], a `reactor::poller::Poller` that accepts connections, moves each to the core of its
//! target, runs sessions, drives commands through the device server and the volume, and answers control.
//! It is not: the protocol (`iscsi_proto`), SCSI (`scsi`) or storage (`volume`); it keeps no catalog and opens no
//! file.
//!
//! Reading order: `core` (the turn), `state` (what there is), `receive`, `command`, `transmit` (an I/O's way),
//! `login`, `policy`, `guard`, `sessions`, `abort` (the hard part), `background`, then `admin`, `targets`, `disks`, `message`,
//! `setup`.

#![forbid(unsafe_code)]

mod abort;
mod admin;
mod background;
mod command;
mod core;
mod disks;
mod error;
mod guard;
pub mod limits;
mod login;
pub mod message;
mod policy;
mod receive;
mod sessions;
pub mod setup;
mod slots;
mod state;
mod targets;
mod task_set;
#[cfg(test)]
mod tests;
mod transmit;

pub use crate::core::{Portal, TargetCore};
pub use crate::error::TargetError;
