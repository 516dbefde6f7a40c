//! Configuration of a node: a TOML file, checked as a whole before anything starts.
//!
//! Order, later wins: built-in defaults, the file, `VEGA_<SECTION>__<KEY>` variables, command-line options.
//! `vega.example.toml` documents every key with its default; a test holds the two together.

mod device;
mod environment;
mod error;
mod iscsi;
mod load;
mod nvmf;
mod objects;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

pub use device::{DeviceConfig, DevicePlace};
pub use environment::Environment;
pub use error::ConfigError;
pub use iscsi::{IscsiChap, IscsiConfig, IscsiLimits, IscsiTimeouts, PortalConfig};
pub use load::{load, load_text};
pub use nvmf::{ListenerConfig, NvmfConfig, NvmfLimits, NvmfTimeouts};
pub(crate) use objects::default_block_size;
pub use objects::{SubsystemConfig, TargetConfig, UserConfig, VolumeConfig};

use crate::model::ByteSize;

/// Everything that a node can be told.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The node itself.
    pub node: NodeConfig,
    /// The cores.
    pub reactor: ReactorConfig,
    /// The iSCSI service.
    pub iscsi: IscsiConfig,
    /// The NVMe/TCP service.
    pub nvmf: NvmfConfig,
    /// The management API.
    pub api: ApiConfig,
    /// The log.
    pub log: LogConfig,
    /// NVMe controllers that the node drives itself.
    #[serde(rename = "device")]
    pub devices: Vec<DeviceConfig>,
    /// Volumes that are created when they do not exist.
    #[serde(rename = "volume")]
    pub volumes: Vec<VolumeConfig>,
    /// Targets that are created when they do not exist.
    #[serde(rename = "target")]
    pub targets: Vec<TargetConfig>,
    /// Subsystems that are created when they do not exist.
    #[serde(rename = "subsystem")]
    pub subsystems: Vec<SubsystemConfig>,
}

/// `[node]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Name in logs, metrics and status; empty means the host name.
    pub name: String,
    /// Where catalog, secrets and data files are.
    pub data_dir: PathBuf,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self { name: String::new(), data_dir: PathBuf::from("vega-data") }
    }
}

impl NodeConfig {
    /// The configured name, or the host's.
    pub fn effective_name(&self) -> String {
        if !self.name.is_empty() {
            return self.name.clone();
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        match host.trim() {
            "" => "localhost".to_owned(),
            name => name.to_owned(),
        }
    }
}

/// Which processors reactors run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// One reactor for every second processor that the process may use, at least one: the others are left to
    /// the kernel, to control and to whatever else runs on the machine.
    Auto,
    /// Exactly these processors.
    List(Vec<u32>),
}

/// What a core does without work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdlePolicy {
    /// Spin for `spin_us`, then sleep until something happens.
    Adaptive,
    /// Never sleep.
    Poll,
}

/// `[reactor]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReactorConfig {
    /// `"auto"` or a list of processors.
    pub cores: Cores,
    /// What a core does without work.
    pub idle: IdlePolicy,
    /// How long it spins before it sleeps, in microseconds; three times as long while a disk has still to answer.
    pub spin_us: u64,
    /// Buffer memory of each core.
    pub buffer_bytes: ByteSize,
    /// A turn of a poller that takes longer is counted as a stall, in microseconds.
    pub stall_us: u64,
}

impl Default for ReactorConfig {
    fn default() -> Self {
        Self {
            cores: Cores::Auto,
            idle: IdlePolicy::Adaptive,
            spin_us: 150,
            buffer_bytes: ByteSize(128 << 20),
            stall_us: 10_000,
        }
    }
}

/// `[api]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Unix socket; empty means `vega.sock` in the data directory.
    pub socket: PathBuf,
    /// TCP address; empty means none.
    #[serde(deserialize_with = "load::optional_address")]
    pub listen: Option<SocketAddr>,
    /// Allow `listen` to be reachable from other machines. The API has no authentication of its own.
    pub allow_remote: bool,
}

impl Default for ApiConfig {
    fn default() -> Self {
        let listen = Some(SocketAddr::from(([127, 0, 0, 1], 9503)));
        Self { socket: PathBuf::new(), listen, allow_remote: false }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// JSON unless standard error is a terminal.
    #[default]
    Auto,
    /// One JSON object per line.
    Json,
    /// For people.
    Pretty,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,control=debug`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".to_owned() }
    }
}

impl Config {
    /// Where the Unix socket of the API is.
    pub fn api_socket(&self) -> PathBuf {
        match self.api.socket.as_os_str().is_empty() {
            true => self.node.data_dir.join("vega.sock"),
            false => self.api.socket.clone(),
        }
    }

    /// Relations between values, which the types cannot hold.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.iscsi.validate()?;
        self.nvmf.validate()?;
        if let Cores::List(list) = &self.reactor.cores {
            let different: BTreeSet<_> = list.iter().collect();
            ConfigError::check("reactor.cores", different.len() == list.len() && !list.is_empty(), || {
                "the list must name at least one processor and none twice".to_owned()
            })?;
        }
        let buffers = self.reactor.buffer_bytes.0;
        // The longest transfer of one command, 8 MiB, and as much again for everybody else.
        ConfigError::check("reactor.buffer_bytes", (16 << 20..=1 << 40).contains(&buffers), || {
            format!("{} is outside of 16MiB to 1TiB for each core", self.reactor.buffer_bytes)
        })?;
        if let Some(listen) = self.api.listen {
            let allowed = listen.ip().is_loopback() || self.api.allow_remote;
            ConfigError::check("api.listen", allowed, || {
                format!(
                    "{listen} can be reached from other machines and the API has no authentication; listen on \
                     127.0.0.1, or set api.allow_remote = true if something in front of it authenticates"
                )
            })?;
        }
        self.volumes.iter().try_for_each(VolumeConfig::validate)?;
        self.validate_devices()?;
        self.targets.iter().try_for_each(TargetConfig::validate)?;
        self.subsystems.iter().try_for_each(SubsystemConfig::validate)
    }
}

/// The tag of a portal or listener that names none.
fn default_tag() -> u16 {
    1
}

#[cfg(test)]
mod tests;
