//! Why the data plane did not do what it was asked for.

use std::path::PathBuf;

/// What the data plane was looking for or found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A volume.
    Volume,
    /// A target.
    Target,
    /// A session.
    Session,
    /// An NVM subsystem.
    Subsystem,
    /// A controller that a host is connected to.
    Controller,
    /// A listener of NVMe/TCP; its name is its tag.
    Listener,
    /// An NVMe device that the node drives.
    Device,
}

impl ObjectKind {
    /// The command that lists and shows what is of this kind.
    pub fn command(self) -> String {
        match self {
            Self::Device => "disk".to_owned(),
            kind => kind.to_string(),
        }
    }
}

impl std::fmt::Display for ObjectKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Volume => "volume",
            Self::Target => "target",
            Self::Session => "session",
            Self::Subsystem => "subsystem",
            Self::Controller => "controller",
            Self::Listener => "listener",
            Self::Device => "device",
        })
    }
}

/// Why the data plane did not do it. The API turns each into a status code and a problem document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaneError {
    /// There is no such thing.
    #[error("{kind} {name} does not exist")]
    NotFound {
        /// What kind of thing.
        kind: ObjectKind,
        /// Its name.
        name: String,
    },
    /// Something else has that name or that file.
    #[error("{kind} {name} exists already: {found}")]
    AlreadyExists {
        /// What kind of thing.
        kind: ObjectKind,
        /// Its name.
        name: String,
        /// What is there.
        found: String,
    },
    /// It is used and cannot go.
    #[error("{kind} {name} is in use by {by}")]
    InUse {
        /// What kind of thing.
        kind: ObjectKind,
        /// Its name.
        name: String,
        /// By whom.
        by: String,
    },
    /// The data plane cannot serve it as it is described.
    #[error("{field}: {reason}")]
    Unsupported {
        /// Which part of the description.
        field: &'static str,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// There is no room for it.
    #[error("no space for {what}: {detail}")]
    NoSpace {
        /// For what.
        what: String,
        /// Where, how much.
        detail: String,
    },
    /// The data file or device is not what it should be, or cannot be used.
    #[error("{path}: {reason}")]
    BackEnd {
        /// File or device.
        path: PathBuf,
        /// Expected, found, and the remedy.
        reason: String,
    },
    /// An NVMe device of the node does not serve it.
    #[error("device {device}: {reason}")]
    Device {
        /// The device.
        device: String,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// Too much is asked at once; try again.
    #[error("the data plane is busy with {in_flight} requests; try again")]
    Overloaded {
        /// How many.
        in_flight: usize,
    },
    /// No answer in time. The request may still take effect; asking again is safe.
    #[error(
        "the data plane did not answer {request} within {after_ms} ms; it may still happen, and asking again is safe"
    )]
    DeadlineExceeded {
        /// Which request.
        request: &'static str,
        /// How long control waited.
        after_ms: u64,
    },
    /// The node is about to stop.
    #[error("the node is shutting down")]
    ShuttingDown,
    /// The data plane dropped the request.
    #[error("the data plane gave no answer to {request}")]
    Abandoned {
        /// Which request.
        request: &'static str,
    },
    /// It answered something that does not belong to the request.
    #[error("the data plane gave an answer to {request} that does not belong to it")]
    WrongReply {
        /// Which request.
        request: &'static str,
    },
}
