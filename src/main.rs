//! Vega, a storage engine: one binary, several roles.
//!
//! This crate is the composition root. `main` gives the command line to `control`; [`wiring`] starts the cores and
//! is the only place that names concrete back ends; [`plane`] carries control's requests to the cores, [`volumes`],
//! [`targets`] and [`subsystems`] say what each request takes; [`files`] is the blocking work on data files, on a thread of
//! its own; [`memory`] is what there is for volumes in memory; [`devices`] are the
//! NVMe controllers that cores drive; [`placement`] says which core owns what; [`load`] joins `vega bench` to the load generator.
//! It is not: logic of storage, protocol or control. Reading order: `wiring`, `plane`, `volumes`, `targets`, `subsystems`, `devices`, `placement`, `files`, `load`.

#![forbid(unsafe_code)]

mod devices;
mod files;
mod load;
mod memory;
mod notices;
mod placement;
mod plane;
mod subsystems;
mod targets;
mod volumes;
mod wiring;

use std::process::ExitCode;

fn main() -> ExitCode {
    control::cli::run(wiring::start_node, load::run_bench)
}
