//! Definitions of all commands and options.

mod bench;
mod disk;
mod nvmf;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use uuid::Uuid;

use crate::config::{Config, ConfigError, ListenerConfig, LogFormat, PortalConfig};
use crate::model::{
    AuthMethod, ByteSize, ChapRole, ChapUserName, DigestPolicy, InitiatorPattern, IscsiName, SessionId,
    VolumeName,
};
use crate::version::VERSION_AND_COMMIT;
pub(super) use bench::BenchArgs;
pub(super) use disk::{DiskCommand, DiskName, DoctorArgs, NvmeShape};
pub(super) use nvmf::{ControllerCommand, SubsystemCommand, SubsystemOptions};

/// Vega: block volumes over iSCSI and NVMe/TCP, served from user space
#[derive(Parser)]
#[command(name = "vega", version = VERSION_AND_COMMIT, max_term_width = 110, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Table,
    /// The API's own answer
    Json,
    /// The same as YAML
    Yaml,
}

#[derive(Args)]
pub(super) struct Global {
    /// How answers are printed
    #[arg(long, short, global = true, value_enum, default_value_t)]
    pub(super) output: Format,
    /// Node to talk to: unix:/path/to/vega.sock or http://address:port [default: the socket of a node in ./vega-data
    /// or /run/vega]
    #[arg(long, global = true, env = "VEGA_API", value_name = "URL")]
    pub(super) api: Option<String>,
    /// Seconds to wait for the node
    #[arg(long, global = true, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) timeout: u64,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Run a node: serve volumes over iSCSI and NVMe/TCP until it is told to stop
    Node(Box<NodeArgs>),
    /// Create, list, show, grow and delete volumes
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Create, list, show, change and delete iSCSI targets
    #[command(subcommand)]
    Target(TargetCommand),
    /// List and drop iSCSI sessions
    #[command(subcommand)]
    Session(SessionCommand),
    /// Create, list, show, change and delete NVMe/TCP subsystems
    #[command(subcommand)]
    Subsystem(SubsystemCommand),
    /// List and drop NVMe/TCP controllers
    #[command(subcommand)]
    Controller(ControllerCommand),
    /// List, show, take and give back NVMe controllers; needs no node
    #[command(subcommand)]
    Disk(DiskCommand),
    /// Check whether this machine is prepared for user-space NVMe, and say what fixes it; needs no node
    Doctor(DoctorArgs),
    /// Show the node
    Status,
    /// Watch operations, throughput and latency of each volume
    Top(TopArgs),
    /// Load a target and measure it; needs no node
    Bench(Box<BenchArgs>),
    /// Print a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Print the OpenAPI document of the API
    Openapi,
}

#[derive(Args)]
pub(super) struct NodeArgs {
    /// Configuration file (TOML); without one, the defaults: data in ./vega-data, iSCSI on 127.0.0.1:3260, NVMe/TCP on
    /// 127.0.0.1:4420
    #[arg(long, env = "VEGA_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Catalog, secrets, API socket and data files
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// iSCSI portal to listen on, instead of the configured ones; may be repeated
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<SocketAddr>,
    /// NVMe/TCP address to listen on, instead of the configured ones, or "none"; may be repeated, tags are 1, 2, …
    #[arg(long, value_name = "ADDRESS:PORT")]
    nvmf_listen: Vec<String>,
    /// TCP address of the API and of metrics, or "none"
    #[arg(long, value_name = "ADDRESS:PORT")]
    api_listen: Option<String>,
    /// error, warn, info, debug, trace, or directives such as info,control=debug
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How log lines look
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
}

impl NodeArgs {
    /// Options win over everything else, and are checked like it.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        if let Some(data_dir) = &self.data_dir {
            config.node.data_dir = data_dir.clone();
        }
        if !self.listen.is_empty() {
            let portal = |&listen| PortalConfig { listen, advertise: None, tag: 1 };
            config.iscsi.portals = self.listen.iter().map(portal).collect();
        }
        if !self.nvmf_listen.is_empty() {
            config.nvmf.listeners = listeners(&self.nvmf_listen)?;
        }
        if let Some(text) = &self.api_listen {
            config.api.listen = address_or_none("--api-listen", text, "127.0.0.1:9503")?;
        }
        if let Some(level) = &self.log_level {
            config.log.level = level.clone();
        }
        config.log.format = self.log_format.unwrap_or(config.log.format);
        config.validate()
    }
}

fn address_or_none(option: &str, text: &str, example: &str) -> Result<Option<SocketAddr>, ConfigError> {
    match text {
        "none" => Ok(None),
        text => text.parse().map(Some).map_err(|_| ConfigError::Refused {
            path: option.to_owned(),
            detail: format!("{text:?} is neither an address and port such as {example} nor \"none\""),
        }),
    }
}

/// Each with a tag of its own, so that their ANA states can differ.
fn listeners(texts: &[String]) -> Result<Vec<ListenerConfig>, ConfigError> {
    let mut listeners = Vec::new();
    for (text, tag) in texts.iter().zip(1..=u16::MAX) {
        if let Some(listen) = address_or_none("--nvmf-listen", text, "127.0.0.1:4420")? {
            listeners.push(ListenerConfig { listen, advertise: None, tag });
        }
    }
    Ok(listeners)
}

/// Where the blocks of a new volume are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum BackingKind {
    /// A sparse file in the data directory
    #[default]
    File,
    /// Memory of the node: empty again after every start
    Memory,
    /// The block device whose path --device gives
    Device,
    /// A namespace of the node's NVMe device whose name --device gives
    Nvme,
}

#[derive(Subcommand)]
pub(super) enum VolumeCommand {
    /// Create a volume; the same again is no error
    Create {
        /// Name: lower-case letters, digits and '-'
        name: VolumeName,
        /// Size, for example 10GiB
        #[arg(long)]
        size: ByteSize,
        /// Logical block size in bytes: 512 or 4096
        #[arg(long, default_value_t = 512)]
        block_size: u32,
        /// Where the blocks are
        #[arg(long, value_enum, default_value_t)]
        backing: BackingKind,
        /// Block device (a path), or NVMe device of the node (a name, as "vega disk list" shows it); says the backing, too
        #[arg(long, value_name = "PATH|NAME", required_if_eq_any([("backing", "device"), ("backing", "nvme")]))]
        device: Option<String>,
        /// Namespace of the NVMe device [default: 1]
        #[arg(long, value_name = "NSID", requires = "device")]
        namespace: Option<u32>,
        /// Serial number or UUID of a device that holds something and may be overwritten
        #[arg(long, value_name = "SERIAL", requires = "device")]
        confirm_serial: Option<String>,
        /// Identity; give the one of a kept data file to adopt it
        #[arg(long)]
        uuid: Option<Uuid>,
        /// Index of the reactor that must own it
        #[arg(long)]
        core: Option<u32>,
    },
    /// List volumes
    #[command(visible_alias = "ls")]
    List,
    /// Show a volume
    Show {
        /// Its name
        name: VolumeName,
    },
    /// Make a volume larger
    Grow {
        /// Its name
        name: VolumeName,
        /// New size, for example 20GiB
        #[arg(long)]
        size: ByteSize,
    },
    /// Take a volume out of service; its data is kept unless told otherwise
    #[command(visible_alias = "rm")]
    Delete {
        /// Its name
        name: VolumeName,
        /// Destroy its data as well
        #[arg(long)]
        delete_data: bool,
        /// Do not ask before data is destroyed
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Subcommand)]
pub(super) enum TargetCommand {
    /// Create a target; the same again is no error
    Create {
        /// iSCSI name, for example iqn.2026-11.io.vega:data
        iqn: IscsiName,
        /// Map a volume; may be repeated
        #[arg(long = "lun", value_name = "LUN=VOLUME")]
        luns: Vec<String>,
        /// Let an initiator log in: its name, or the beginning of one and '*'; may be repeated
        #[arg(long, value_name = "INITIATOR")]
        allow: Vec<InitiatorPattern>,
        #[command(flatten)]
        options: TargetOptions,
    },
    /// List targets
    #[command(visible_alias = "ls")]
    List,
    /// Show a target
    Show {
        /// Its iSCSI name
        iqn: IscsiName,
    },
    /// Change options of a target
    Set {
        /// Its iSCSI name
        iqn: IscsiName,
        #[command(flatten)]
        options: TargetOptions,
    },
    /// Close the sessions of a target and remove it; its volumes stay
    #[command(visible_alias = "rm")]
    Delete {
        /// Its iSCSI name
        iqn: IscsiName,
    },
    /// Map and unmap volumes
    #[command(subcommand)]
    Lun(LunCommand),
    /// Add and remove CHAP users
    #[command(subcommand)]
    User(UserCommand),
    /// Say which initiators may log in
    #[command(subcommand)]
    Allow(AllowCommand),
}

#[derive(Args)]
pub(super) struct TargetOptions {
    /// Text that initiators show to people
    #[arg(long)]
    pub(super) alias: Option<String>,
    /// Portals that reach it
    #[arg(long, value_name = "TAG")]
    pub(super) portal_group_tag: Option<u16>,
    /// How initiators prove who they are
    #[arg(long, value_enum)]
    pub(super) auth: Option<AuthMethod>,
    /// Header digest
    #[arg(long, value_enum)]
    pub(super) header_digest: Option<DigestPolicy>,
    /// Data digest
    #[arg(long, value_enum)]
    pub(super) data_digest: Option<DigestPolicy>,
}

#[derive(Subcommand)]
pub(super) enum LunCommand {
    /// Map a volume
    Add {
        /// iSCSI name of the target
        iqn: IscsiName,
        /// Logical unit number
        lun: u64,
        /// The volume
        volume: VolumeName,
    },
    /// Unmap a volume
    Remove {
        /// iSCSI name of the target
        iqn: IscsiName,
        /// Logical unit number
        lun: u64,
    },
}

#[derive(Subcommand)]
pub(super) enum UserCommand {
    /// Add a CHAP user or change its secret; the secret is read from standard input unless told otherwise
    Add {
        /// iSCSI name of the target
        iqn: IscsiName,
        /// Name of the user
        user: ChapUserName,
        /// Who proves itself with it
        #[arg(long, value_enum, default_value_t)]
        role: ChapRole,
        /// File with the secret; one line end is ignored
        #[arg(long, value_name = "FILE", conflicts_with = "secret_env")]
        secret_file: Option<PathBuf>,
        /// Environment variable with the secret
        #[arg(long, value_name = "VARIABLE")]
        secret_env: Option<String>,
    },
    /// Remove a CHAP user
    Remove {
        /// iSCSI name of the target
        iqn: IscsiName,
        /// Name of the user
        user: ChapUserName,
    },
}

#[derive(Subcommand)]
pub(super) enum AllowCommand {
    /// Let an initiator log in
    Add {
        /// iSCSI name of the target
        iqn: IscsiName,
        /// iSCSI name of the initiator, or the beginning of one and '*'
        initiator: InitiatorPattern,
    },
    /// Remove an entry
    Remove {
        /// iSCSI name of the target
        iqn: IscsiName,
        /// The entry
        initiator: InitiatorPattern,
    },
    /// List the entries
    #[command(visible_alias = "ls")]
    List {
        /// iSCSI name of the target
        iqn: IscsiName,
    },
}

#[derive(Subcommand)]
pub(super) enum SessionCommand {
    /// List the sessions that are logged in
    #[command(visible_alias = "ls")]
    List,
    /// Close a session; its initiator may log in again
    Drop {
        /// Id, as "vega session list" shows it
        id: SessionId,
    },
}

#[derive(Args)]
pub(super) struct TopArgs {
    /// Print one table and end
    #[arg(long)]
    pub(super) once: bool,
    /// Seconds to measure over; 0 with --once means since the node was started
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub(super) interval: u64,
}
