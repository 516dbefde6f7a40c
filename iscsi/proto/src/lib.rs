//! The iSCSI protocol of RFC 7143, target side, as state machines without a socket, clock or thread.
//!
//! Bytes go in, bytes and events come out. Time and random bytes are arguments, so the same code runs on a
//! reactor and in a simulator. What it is not: it interprets no CDB (that is `scsi`), owns no socket and
//! keeps no list of targets or sessions (that is `iscsi_target`, asked through traits).
//!
//! Reading order: [`pdu`] (wire types), [`digest`], [`text`] (key=value), [`params`] (negotiated values), [`chap`],
//! [`login`] (the login phase), [`session`] (the full feature phase).
#![forbid(unsafe_code)]

pub mod chap;
pub mod digest;
pub mod discovery;
pub mod error;
#[cfg(any(test, fuzzing, feature = "fuzzing"))]
pub mod fuzzing;
pub mod limits;
pub mod login;
pub mod lun;
pub mod params;
pub mod pdu;
pub mod session;
pub mod text;
