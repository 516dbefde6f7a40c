//! The core loop of Vega: pinned per-core reactors that poll sockets, files and rings.
//!
//! It is: a `poll_once(now)` loop, bounded pollers, lock-free rings between cores, pooled DMA-able
//! memory, one io_uring per core, timers, an adaptive idle policy, a stall watchdog, counters, and
//! simulated twins of clock, randomness, disk and network.
//! It is not: a storage engine (no storage word appears here) and not an async runtime.
//!
//! Reading order: `time`, `poller`, `reactor`, `core`, `idle`, `stall`; then what pollers use:
//! `memory`, `buffer`, `net`, `gather`, `file`, `timer`, `ring`, `wake`, `mesh`, `stats`; then `uring` and
//! `tcp` (the real drivers of `file` and `net`) and `sim` (the simulated ones).

pub mod buffer;
pub mod clock;
pub mod core;
pub mod file;
pub mod file_probe;
pub mod gather;
pub mod idle;
pub mod limits;
pub mod memory;
pub mod mesh;
pub mod net;
pub mod poller;
pub mod random;
pub mod reactor;
pub mod ring;
pub mod sim;
pub mod stall;
pub mod stats;
mod sync;
pub mod tcp;
pub mod time;
pub mod timer;
pub mod uring;
pub mod wake;
