//! The load generator behind `vega bench`: what a target does for one client core, and how long each request took.
//!
//! It is: open-loop load (a fixed rate, latency from the intended start, so a slow answer hides none of the waiting behind
//! it) and closed-loop load (a steady depth) over a [`driver::Driver`]: one for NVMe/TCP, one for iSCSI, and one for NVMe
//! controllers of this machine; verification by stamped blocks; percentiles as a table, JSON or a plot. It runs as the one
//! poller of each core of the run, which never sleeps; nothing is allocated per request.
//! It is not: a client that survives failures (a broken connection ends the run with its cause), nor a command line.
//!
//! Reading order: [`limits`], [`target`], `words`, [`plan`], [`error`]; [`driver`], then [`nvme`], `iscsi` and [`local`];
//! `places`, `stamp`, `ledger`, `pace`, `tally`; [`team`], `generator`; [`run`]; [`report`] and [`plot`].
#![forbid(unsafe_code)]
// A test that fails says where; that is all it has to do.

pub mod driver;
pub mod error;
mod generator;
mod iscsi;
mod ledger;
pub mod limits;
pub mod local;
pub mod nvme;
mod pace;
mod places;
pub mod plan;
pub mod plot;
pub mod report;
pub mod run;
mod stamp;
mod tally;
pub mod target;
pub mod team;
mod words;

pub use error::BenchError;
pub use plan::{Order, Pacing, Plan};
pub use report::Report;
pub use run::run;
pub use target::Target;
pub use team::Stop;
