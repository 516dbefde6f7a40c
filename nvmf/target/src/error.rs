//! Why the target refused what control asked.

/// One refusal; the text names the input, the reason and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No such volume on this core.
    #[error("volume {name:?} is not served here; list the volumes that are with `vega volume list`")]
    NoSuchVolume {
        /// The name asked for.
        name: String,
    },
    /// The volume is being closed.
    #[error("volume {name:?} is being closed and takes no new namespace")]
    Closing {
        /// The volume.
        name: String,
    },
    /// No such subsystem on this core.
    #[error("subsystem {nqn} does not exist; list the subsystems with `vega subsystem list`")]
    NoSuchSubsystem {
        /// The name asked for.
        nqn: String,
    },
    /// The subsystem is being removed.
    #[error("subsystem {nqn} is still being removed; try again in a moment")]
    Removing {
        /// The name asked for.
        nqn: String,
    },
    /// A namespace identifier outside the range.
    #[error("NSID {nsid} of subsystem {nqn} is not between 1 and {limit}; choose one that is")]
    Nsid {
        /// The subsystem.
        nqn: String,
        /// The identifier asked for.
        nsid: u32,
        /// The largest.
        limit: u32,
    },
    /// An ANA group identifier outside the range.
    #[error("ANA group {group} of subsystem {nqn} is not between 1 and {limit}; choose one that is")]
    AnaGroup {
        /// The subsystem.
        nqn: String,
        /// The group asked for.
        group: u32,
        /// The largest.
        limit: u32,
    },
    /// A limit of the data plane.
    #[error("there is room for {limit} {what} on a core; remove one first or use another core")]
    Full {
        /// What there are too many of.
        what: &'static str,
        /// How many fit.
        limit: usize,
    },
    /// The core is shutting down.
    #[error("the node is shutting down")]
    Draining,
}
