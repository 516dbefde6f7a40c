//! A SCSI device server for thin-provisioned disks: CDB in, block I/O steps and a response out.
//!
//! It is: SPC-4 and SBC-4 as hosts use them, sans-IO. A [`LogicalUnit`] parses commands, keeps mode
//! pages, unit attentions and reservations, and says through [`Step`] what must happen next.
//! It is not: a transport (no PDU, no connection, no task set: the target layer orders tasks and
//! aborts them) and not a block device (it never touches a medium; it asks for [`volume::bdev`]
//! operations).
//!
//! Reading order: `command` (what comes in), `response` (what goes out), `unit` (the logical unit),
//! `start` (checks common to all commands), `opcode` (which commands there are), `read_write` (the
//! fast path), `plan` and `partial` (operations of many steps), then one file per family: `provisioning`,
//! `sanitize`, `inquiry`, `vpd`, `mode`, `mode_select`, `cache`, `report`, `supported`, `reserve_in`, `reserve_out`.

#![forbid(unsafe_code)]

mod cache;
mod cdb;
mod command;
#[cfg(any(test, fuzzing, feature = "fuzzing"))]
pub mod fuzzing;
mod inquiry;
pub mod limits;
mod mode;
mod mode_select;
mod nexus;
mod opcode;
mod partial;
mod plan;
mod provisioning;
mod read_write;
mod report;
mod reserve_in;
mod reserve_out;
mod response;
mod sanitize;
mod sense;
mod start;
mod supported;
#[cfg(test)]
mod tests;
mod unit;
mod unit_attention;
mod vpd;

pub use command::{Command, NexusId, NexusName};
pub use nexus::path_of;
pub use plan::Pending;
pub use reserve_out::{ChangeError, ReservationChange};
pub use response::{DataIn, Effects, Response, Status, Step};
pub use sanitize::Background;
pub use sense::{FieldPointer, Sense, SenseKey};
pub use start::no_such_lun;
pub use unit::{AccessState, Context, LogicalUnit, LuConfig, PortGroup, WriteCachePolicy};
pub use unit_attention::UnitAttention;
