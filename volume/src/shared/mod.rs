//! One volume for every protocol of its core: the same blocks, the same order of overlapping I/O, the same
//! reservations, the same counters.
//!
//! It is: [`Registry`], the open volumes of a core by name; [`SharedVolume`], one of them; [`Port`], a front end's way
//! in (an iSCSI logical unit, an NVMe namespace); and [`VolumeCore`], the poller that opens and closes them as control
//! says. It is not: a lock (everything here lives on one core, handles are `Rc`), and not a protocol: a front end
//! keeps its own tasks, and ends them when another one's PREEMPT AND ABORT asks for it.
//!
//! ```text
//! iSCSI ── Port ─┐                                   ┌─ Volume (range table) ── back end
//!                ├─ SharedVolume (tags by port) ─────┼─ ReservationCell (epoch)
//! NVMe ─── Port ─┘        ▲                          └─ MetadataStore (durable before it is in force)
//!                  Registry ◀── VolumeCore ◀── control
//! ```
//!
//! **A turn of a front end**: take the tokens out of its [`Bell`]; for each, [`Port::poll`] and then
//! [`Port::next_event`] until there is none. Ports with I/O of their own in flight are polled anyway. A bell that
//! is not empty forbids the core to sleep.
//!
//! **Fencing.** A kept [`Access`](crate::reservation::Access) is valid while [`Port::reservation_epoch`] stands
//! still: compare before each command. PREEMPT AND ABORT: the asker ends its own tasks of
//! [`Outcome::abort_tasks_of`](crate::reservation::Outcome::abort_tasks_of) and waits for [`Event::AbortsDone`]; every
//! other port gets an [`Event::ReservationsChangedElsewhere`] with a ticket and returns it by [`Port::aborted`] when
//! the last I/O of those tasks has come home. Only then is the change answered.
//!
//! Reading order: `registry`, `port`, `event`, `change` (reservations), `state` (what there is of a volume),
//! `closing`, `lost` (devices that were pulled out), then `setup`, `message`, `core`, `error`, `limits`.

mod change;
mod closing;
mod core;
mod error;
mod event;
pub mod limits;
mod lost;
mod message;
mod port;
mod registry;
mod setup;
mod state;
#[cfg(test)]
mod tests;

pub use change::{Changed, Changing};
pub use core::VolumeCore;
pub use error::VolumeError;
pub use event::{Bell, Event, Ticket};
pub use message::{Answer, VolumeMessage};
pub use port::Port;
pub use registry::{Registry, SharedVolume};
pub use setup::{OpenChannel, OpenMetadata, VolumeSetup};
