//! Why a command failed, and with which exit code.

use std::path::PathBuf;

use super::bench::BenchRefusal;
use crate::api::Problem;
use crate::config::ConfigError;
use crate::logging::LevelError;
use crate::model::ModelError;

/// A command that was not done. Messages say what to do next.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(
        "no node is running here (looked for {looked_for}); start one with \"vega node\", or say where it is with \
         --api unix:/path/to/vega.sock"
    )]
    NoNode { looked_for: String },
    #[error("cannot reach a node at {endpoint}: {source}; is it running? \"vega node\" starts one")]
    Connect { endpoint: String, source: std::io::Error },
    #[error("the API address {input:?} is neither unix:/path nor http://address:port")]
    Endpoint { input: String },
    #[error("the node at {endpoint} did not answer within {seconds} s; wait longer with --timeout")]
    Timeout { endpoint: String, seconds: u64 },
    #[error("{}", .0.detail)]
    Problem(Problem),
    #[error("{endpoint} does not answer like a vega node: {detail}")]
    Answer { endpoint: String, detail: String },
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Level(#[from] LevelError),
    #[error("cannot read the secret file {path}: {source}")]
    SecretFile { path: PathBuf, source: std::io::Error },
    #[error("the environment variable {name} is not set or not text")]
    SecretVariable { name: String },
    #[error("cannot read standard input: {0}")]
    Read(std::io::Error),
    #[error("cannot write the answer: {0}")]
    Write(std::io::Error),
    #[error("{input:?} is not LUN=VOLUME, for example 0=data-1")]
    LunMapping { input: String },
    #[error("{input:?} is not [NSID=]VOLUME with an NSID of its own, for example 1=data-1")]
    Namespace { input: String },
    #[error("nothing is to be changed; \"vega {kind} set --help\" lists what can be")]
    NothingToSet { kind: &'static str },
    #[error("not confirmed: the data of volume {name} stays; give --yes to destroy it without a question")]
    NotConfirmed { name: String },
    #[error("the terminal cannot be used: {0}; \"vega top --once\" needs none")]
    Terminal(std::io::Error),
    #[error("{}", .0.message)]
    Bench(BenchRefusal),
    #[error("cannot write the plot to {path}: {source}")]
    Plot { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Pci(#[from] nvme_pci::PciError),
    #[error(
        "{name:?} names no controller of this machine; give its PCI address (0000:01:00.0) or the path of its disk \
         (/dev/nvme0n1), as \"vega disk list\" shows them"
    )]
    NoDiskOfMachine { name: String },
    #[error(
        "{name} would be a device of a node, and none runs here; start one with \"vega node\", say where it is with --api, or \
         give a PCI address or the path of a disk"
    )]
    NoDevice { name: String },
    #[error(
        "{disk} has not told this: no node drives it, or it is not up yet; see \"vega disk show {disk}\""
    )]
    NotTold { disk: String },
    #[error("{missing} of the checks failed; \"vega doctor --script | sudo sh\" runs the commands above")]
    NotPrepared { missing: usize },
    #[error("cannot start a command: {0}")]
    Runtime(std::io::Error),
}

impl CliError {
    /// 1 failed, 2 wrong usage, 124 too late.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Timeout { .. } => 124,
            Self::Problem(problem) if problem.status == 504 => 124,
            Self::Bench(refusal) if refusal.is_usage => 2,
            Self::Endpoint { .. } | Self::LunMapping { .. } | Self::Namespace { .. } => 2,
            Self::NothingToSet { .. } | Self::Model(_) | Self::NoDiskOfMachine { .. } => 2,
            Self::Pci(error) if error.is_usage() => 2,
            Self::Config(_) | Self::Level(_) => 2,
            _ => 1,
        }
    }
}
