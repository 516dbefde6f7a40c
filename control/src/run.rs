//! Life of a node: restore, serve, drain.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::bridge::DataPlane;
use crate::config::Config;
use crate::logging::LogHandle;

/// What a node is run with.
pub struct NodeControl {
    /// The checked configuration.
    pub config: Config,
    /// The data plane; its cores run and serve nothing yet.
    pub data_plane: Arc<dyn DataPlane>,
    /// The portals as they were really bound (port 0 resolved), `address:port,tag`.
    pub portals: Vec<String>,
    /// From [`NodeStart`](crate::cli::NodeStart).
    pub log: LogHandle,
    /// From [`NodeStart`](crate::cli::NodeStart).
    pub config_file: Option<PathBuf>,
}

/// Runs control until the node is told to stop, and drains the data plane. Blocks; call it on the main thread.
pub fn run_node(_node: NodeControl) -> ExitCode {
    ExitCode::SUCCESS
}
