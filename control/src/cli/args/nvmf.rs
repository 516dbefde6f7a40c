//! Definitions of the commands of NVMe/TCP.

use clap::{Args, Subcommand};

use crate::model::{
    AnaState, ControllerId, HostDigest, HostPattern, ModelNumber, Nqn, SerialNumber, VolumeName,
};

#[derive(Subcommand)]
pub(in crate::cli) enum SubsystemCommand {
    /// Create a subsystem; the same again is no error
    Create {
        /// NVMe Qualified Name, for example nqn.2026-11.io.vega:data
        nqn: Nqn,
        /// Make a volume a namespace, under the lowest free NSID unless one is given; may be repeated
        #[arg(long = "namespace", value_name = "[NSID=]VOLUME")]
        namespaces: Vec<String>,
        /// Let a host connect: its NQN, or the beginning of one and '*'; may be repeated
        #[arg(long = "allow-host", value_name = "HOSTNQN")]
        allow: Vec<HostPattern>,
        /// Serial number that hosts show, up to 20 characters [default: made from a new UUID]
        #[arg(long, value_name = "SERIAL")]
        serial_number: Option<SerialNumber>,
        /// Model number that hosts show, up to 40 characters
        #[arg(long, value_name = "MODEL", default_value_t)]
        model_number: ModelNumber,
        #[command(flatten)]
        options: SubsystemOptions,
    },
    /// List subsystems
    #[command(visible_alias = "ls")]
    List,
    /// Show a subsystem and how to connect to it
    Show {
        /// Its NQN
        nqn: Nqn,
    },
    /// Change options of a subsystem
    Set {
        /// Its NQN
        nqn: Nqn,
        #[command(flatten)]
        options: SubsystemOptions,
    },
    /// Disconnect the controllers of a subsystem and remove it; its volumes stay
    #[command(visible_alias = "rm")]
    Delete {
        /// Its NQN
        nqn: Nqn,
    },
    /// Make a volume a namespace
    AddNamespace {
        /// NQN of the subsystem
        nqn: Nqn,
        /// The volume
        volume: VolumeName,
        /// Namespace identifier, 1 to 1024 [default: the lowest free one]
        #[arg(long)]
        nsid: Option<u64>,
    },
    /// Detach a namespace; its volume stays
    RemoveNamespace {
        /// NQN of the subsystem
        nqn: Nqn,
        /// Namespace identifier
        nsid: u64,
    },
    /// Let a host connect
    AllowHost {
        /// NQN of the subsystem
        nqn: Nqn,
        /// NQN of the host (on Linux: cat /etc/nvme/hostnqn), or the beginning of one and '*'
        host: HostPattern,
    },
    /// Remove an entry of the allow list and disconnect the hosts that only it admitted
    DenyHost {
        /// NQN of the subsystem
        nqn: Nqn,
        /// The entry
        host: HostPattern,
        /// Remove also the last entry, after which every host may connect
        #[arg(long)]
        admit_all: bool,
    },
    /// Say how good the way through a listener is (asymmetric namespace access)
    SetAna {
        /// NQN of the subsystem
        #[arg(required_unless_present = "all")]
        nqn: Option<Nqn>,
        /// Every subsystem
        #[arg(long, conflicts_with = "nqn")]
        all: bool,
        /// Tag of the listener
        #[arg(long, value_name = "TAG")]
        listener: u64,
        /// The state
        #[arg(long, value_enum)]
        state: AnaState,
    },
}

#[derive(Args)]
pub(in crate::cli) struct SubsystemOptions {
    /// Header digest
    #[arg(long, value_enum)]
    pub(in crate::cli) header_digest: Option<HostDigest>,
    /// Data digest
    #[arg(long, value_enum)]
    pub(in crate::cli) data_digest: Option<HostDigest>,
}

#[derive(Subcommand)]
pub(in crate::cli) enum ControllerCommand {
    /// List the controllers that hosts are connected to
    #[command(visible_alias = "ls")]
    List,
    /// Disconnect a controller; its host may connect again
    Drop {
        /// Id, as "vega controller list" shows it
        id: ControllerId,
    },
}
