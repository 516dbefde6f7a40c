//! A blocking iSCSI initiator for tests: correct by default, wrong on request.
//!
//! It is: one thread, `std::net`, RFC 7143 with error recovery level 0, one connection per session, many
//! commands in flight, both digests, CHAP in both directions, and every header field open to be set wrong.
//! It is not: a product, fast, or built on `iscsi_proto`. It shares no code with the target on purpose: a
//! misreading of the standard that both ends shared would never be seen.
//!
//! Reading order: `pdu` (48 bytes and their fields), `wire` (a socket that carries them), `login`, `chap`,
//! `session` (commands in flight), `scsi` (command descriptor blocks and what comes back).

#![forbid(unsafe_code)]

pub mod chap;
pub mod limits;
pub mod login;
pub mod pdu;
pub mod scsi;
pub mod session;
pub mod wire;

pub use login::{Auth, Login, LoginOutcome};
pub use pdu::Pdu;
pub use session::{Command, Completion, Session};
pub use wire::{Wire, WireError};
