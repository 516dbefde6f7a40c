//! The host side of NVMe/TCP on a reactor core: associations with controllers, paths to subsystems, and remote namespaces as
//! block devices.
//!
//! It is: queue pairs over `reactor::net` streams, the life of an association (Connect, enable, identify, queues, keep alive,
//! events, reset), reconnection in bounded steps, the choice among several paths by ANA state, and [`Namespace`], which is a
//! `volume::bdev::IoChannel`. It distrusts the controller: what it sends is checked, and a lie ends the connection.
//! It is not: the transport protocol itself (`nvmf_proto`), nor a client with threads: nothing here waits.
//!
//! Reading order: [`limits`], [`config`], [`error`], [`queue`], [`controller`], then [`ladder`], `command`, `fused`, `remote` and
//! `host`.
#![forbid(unsafe_code)]

mod command;
pub mod config;
pub mod controller;
pub mod data;
pub mod discovery;
pub mod error;
mod fused;
mod host;
pub mod ladder;
pub mod limits;
pub mod queue;
mod remote;
pub mod turn;

pub use config::{Compare, ControllerConfig, Digest, HostIdentity, Timeouts};
pub use controller::Controller;
pub use data::Data;
pub use discovery::{Discovery, DiscoveryEvent};
pub use error::{ConfigError, EndCause, Unsuitable};
pub use host::{Host, HostHandle, Namespace};
pub use queue::QueuePair;
pub use remote::{PathReport, RemoteConfig, RemoteCounters};
pub use turn::Turn;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
