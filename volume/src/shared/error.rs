//! Why a volume is not opened, changed or closed.

/// One refusal; the text names the input, the reason and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// No such volume on this core.
    #[error("volume {name:?} is not served here; list the volumes that are with `vega volume list`")]
    NoSuchVolume {
        /// The name asked for.
        name: String,
    },
    /// A volume of that name is there.
    #[error("volume {name:?} is served already")]
    VolumeExists {
        /// The name asked for.
        name: String,
    },
    /// The volume is being closed.
    #[error("volume {name:?} is still being closed; try again in a moment")]
    Closing {
        /// The volume.
        name: String,
    },
    /// A front end serves it.
    #[error("volume {name:?} is still served by a target or a subsystem; unmap it there first")]
    InUse {
        /// The volume.
        name: String,
    },
    /// A limit of the data plane.
    #[error("there is room for {limit} volumes on a core; remove one first or use another core")]
    Full {
        /// How many fit.
        limit: usize,
    },
    /// The new size is smaller than the old one.
    #[error("volume {name:?} has {current} blocks and cannot shrink to {asked}; a volume only grows")]
    Shrinks {
        /// The volume.
        name: String,
        /// Blocks now.
        current: u64,
        /// Blocks asked for.
        asked: u64,
    },
    /// The operating system refused a descriptor.
    #[error("the core could not take over the file of volume {name:?}: {reason}")]
    Adopt {
        /// The volume.
        name: String,
        /// The system's words.
        reason: std::io::ErrorKind,
    },
    /// The persistent reservations cannot be read.
    #[error(
        "the stored reservations of volume {name:?} are damaged; another host may hold one, so it is not served. Restore {name}.reservations or remove it to start without any"
    )]
    Reservations {
        /// The volume.
        name: String,
    },
    /// The buffer pool is too small for another volume.
    #[error("there is no buffer memory left for volume {name:?}; raise reactor.buffer_bytes")]
    NoMemory {
        /// The volume.
        name: String,
    },
    /// What is there in the place of a volume's device is not what was there before.
    #[error(
        "the device of volume {name:?} is not what it was; close the volume and open it again to serve what is there"
    )]
    NotTheSame {
        /// The volume.
        name: String,
    },
    /// The core is shutting down.
    #[error("the node is shutting down")]
    Draining,
}
