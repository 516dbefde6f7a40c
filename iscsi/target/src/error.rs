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
    #[error("volume {name:?} is still being closed; try again in a moment")]
    Closing {
        /// The volume.
        name: String,
    },
    /// No such target on this core.
    #[error("target {name} does not exist; list the targets with `vega target list`")]
    NoSuchTarget {
        /// The name asked for.
        name: String,
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
