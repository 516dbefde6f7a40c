//! The control plane of a Vega node: desired state, HTTP API, metrics, command line.
//!
//! It is: a catalog of volumes and targets that survives a crash at any step, an HTTP API over a Unix socket and a
//! loopback port, Prometheus metrics read from per-core counters, the `vega` command line, and the order in which a
//! node starts and stops. tokio lives here and nowhere else, on low-priority threads.
//! It is not: in the path of any I/O. It knows no socket, file or core of the data plane, only the messages of
//! [`bridge`]; volumes keep serving while it is busy, stuck or restarted.
//!
//! Reading order: [`model`], [`limits`], [`config`], [`bridge`], then `catalog` (what is durable), `service` (what an
//! operation does, step by step), `api` (how it is asked for), `metrics`, [`run`] (start and stop), [`cli`].
#![forbid(unsafe_code)]
// A test that fails says where; that is all it has to do.

pub mod api;
pub mod bridge;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod fake;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod model;
pub mod nvme_cli;
pub mod run;
pub mod service;
pub mod version;
