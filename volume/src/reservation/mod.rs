//! Persistent reservations of a volume: who is registered, who holds what, who may read or write.
//!
//! It is: the state and its rules, in words that SCSI and NVMe share, and its durable form. It is
//! not: a wire format of either protocol. A registrant is a path: an initiator port and a target
//! port, as the bytes that name them; it outlives sessions and restarts.
//!
//! Reading order: `state` (types, table), `change` (what a service action does), `codec` (the blob), `cell`
//! (the state in force, as the protocols of a core see it).

mod cell;
mod change;
mod codec;
pub mod limits;
mod state;
#[cfg(test)]
mod tests;

pub use cell::ReservationCell;
pub use change::{Change, Outcome};
pub use codec::DecodeError;
pub use state::{Access, Full, Kind, Path, Refused, Registrant, Reservations};
