//! The `vega` command line: definitions, and everything but the data plane behind `vega node`.

use std::process::ExitCode;

use crate::config::Config;
use crate::logging::LogHandle;

/// What `vega node` was told, checked; the log runs.
pub struct NodeStart {
    /// The whole configuration.
    pub config: Config,
    /// Changes the log level while the node runs; goes into [`NodeControl`](crate::run::NodeControl).
    pub log: LogHandle,
    /// The configuration file, if one was given; read again on SIGHUP for the log level.
    pub config_file: Option<std::path::PathBuf>,
}

/// Runs the command line of this process. `start_node` starts the cores and calls
/// [`run_node`](crate::run::run_node); it is called for `vega node` only.
pub fn run(_start_node: impl FnOnce(NodeStart) -> ExitCode) -> ExitCode {
    ExitCode::SUCCESS
}
