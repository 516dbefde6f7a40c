//! The NVMe/TCP transport (NVM Express over TCP 1.0 and 1.1) for both ends, as state machines without a socket, clock,
//! thread or source of chance.
//!
//! Bytes go in; commands or completions, and bytes to send, come out. Headers go through this crate, payload goes around it:
//! [`TargetQueue::wanted`] and [`HostQueue::wanted`] show where the next bytes of a stream belong, and
//! `tx_chunks` shows what to send as a list of slices over many PDUs.
//!
//! What it is not: it owns no socket, keeps no controller and no list of subsystems, and understands no command beyond what moves
//! its data: the layer above says through [`Admission`] how many bytes a command takes from the host, and gives the memory.
//!
//! One queue pair is one TCP connection (TCP 2.1):
//!
//! ```text
//!  bytes ──> receive ──> capsule ──> memory, R2T ──> H2CData ──> Event::Command ──┐
//!  bytes <── transmit <── C2HData, CapsuleResp <───── complete / complete_read <──┘      TargetQueue
//!
//!  submit ──> transmit (CapsuleCmd, H2CData) ──> bytes
//!  HostEvent::Completed <── response, C2HData, R2T <── receive <── bytes                  HostQueue
//! ```
//!
//! Reading order: [`limits`], [`error`], [`connection`] (ICReq, ICResp), [`payload`], `frame` and `receive` (bytes to PDUs), `transmit`
//! (PDUs to bytes), then [`target`] and [`host`]; [`peek`] for the acceptor that looks for Connect.
#![forbid(unsafe_code)]

pub mod connection;
pub mod digest;
pub mod error;
#[cfg(any(test, fuzzing, feature = "fuzzing"))]
pub mod fuzzing;
pub mod host;
pub mod limits;
pub mod payload;
pub mod peek;
pub mod target;
#[cfg(any(test, fuzzing, feature = "fuzzing"))]
pub mod testing;

mod frame;
#[cfg(test)]
mod pair_tests;
mod receive;
mod transmit;

pub use connection::{HostConfig, Negotiated, TargetConfig};
pub use error::{TermReqCause, Violation};
pub use host::{Completion, HostData, HostEvent, HostQueue};
pub use payload::Payload;
pub use target::{
    Admission, Blocked, CloseCause, Command, CommandId, Event, Purpose, QueueParams, TargetQueue,
};
