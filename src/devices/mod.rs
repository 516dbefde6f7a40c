//! NVMe devices: taken over before the cores start, driven by a core each, given back when everything has ended.
//!
//! [`take`] opens what the configuration names, [`drive`] is one controller with its queue pair, [`poller`] all of a core's,
//! [`open`] makes a volume of a namespace, [`growth`] makes it larger, [`plane`] is what requests of control do with them. [`away`] is one that was pulled out,
//! [`keeper`] the thread that takes it again, and [`licence`] what a typed serial number was used for.
//!
//! A device belongs to one core, and the volumes on it live there: their I/O takes no hop. What it takes long to say (its
//! identity, its health) its core remembers, and a question reads that.

pub(crate) mod away;
pub(crate) mod drive;
pub(crate) mod growth;
mod inbox;
pub(crate) mod keeper;
pub(crate) mod licence;
pub(crate) mod message;
pub(crate) mod open;
pub(crate) mod plane;
pub(crate) mod poller;
pub(crate) mod take;

#[cfg(test)]
mod tests;
