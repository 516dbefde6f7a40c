//! A blocking NVMe/TCP host for tests: correct by default, wrong on request.
//!
//! It is: one thread, `std::net`, the NVMe/TCP transport with both digests, admin and I/O queues with many commands in
//! flight, and every byte of a PDU open to be set wrong.
//! It is not: a product, fast, or built on `nvmf_proto` or `nvme_spec`. It shares no code with the target on purpose: a
//! misreading of the standard that both ends shared would never be seen.
//!
//! Reading order: `pdu` (headers and their fields), `sqe` (commands), `wire` (a socket that carries PDUs), `queue`
//! (ICReq, Connect, commands in flight), `host` (an association).

#![forbid(unsafe_code)]

pub mod host;
pub mod limits;
pub mod pdu;
pub mod queue;
pub mod sqe;
pub mod wire;

pub use host::{Association, Identity};
pub use pdu::{Digests, Pdu, kind};
pub use queue::{Command, Completion, Queue};
pub use sqe::Sqe;
pub use wire::{Wire, WireError};
