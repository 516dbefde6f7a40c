//! Why an operation was refused or failed; one place says what each is over HTTP.

use crate::bridge::{ObjectKind, PlaneError};
use crate::catalog::CatalogError;
use crate::model::ModelError;

/// An operation that was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ServiceError {
    /// A value is wrong.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// There is no such thing.
    #[error("{kind} {name} does not exist; \"vega {} list\" shows what does", .kind.command())]
    NotFound {
        /// What kind of thing.
        kind: ObjectKind,
        /// Its name.
        name: String,
    },
    /// A user, LUN, initiator, namespace or host that the object does not have.
    #[error("{kind} {of} has no {what} {name}; \"vega {kind} show {of}\" lists what it has")]
    NoSuchEntry {
        /// What kind of object.
        kind: ObjectKind,
        /// Its name.
        of: String,
        /// What kind of entry.
        what: &'static str,
        /// Which.
        name: String,
    },
    /// No listener of NVMe/TCP has that tag.
    #[error(
        "the node has no NVMe/TCP listener with tag {tag}; it has {known} ([[nvmf.listener]] of its configuration)"
    )]
    NoListener {
        /// The tag.
        tag: u16,
        /// The tags that there are.
        known: String,
    },
    /// It exists with other parameters.
    #[error("{kind} {name} exists already with another {differs}; choose another name, or change that one")]
    ExistsDifferently {
        /// What kind of thing.
        kind: ObjectKind,
        /// Its name.
        name: String,
        /// Which parameters differ.
        differs: String,
    },
    /// It is used.
    #[error("{kind} {name} is in use by {by}; {remedy}")]
    InUse {
        /// What kind of thing.
        kind: ObjectKind,
        /// Its name.
        name: String,
        /// By whom.
        by: String,
        /// What to do first.
        remedy: String,
    },
    /// Another operation has begun and must end first.
    #[error(
        "volume {name} is {phase}; wait until \"vega volume show {name}\" says otherwise, or repeat that operation"
    )]
    Unfinished {
        /// The volume.
        name: String,
        /// What is going on.
        phase: &'static str,
    },
    /// A volume would lose its end.
    #[error(
        "volume {name} has {size_bytes} bytes and cannot be made smaller ({wanted_bytes} bytes): its end may hold \
         data. Create a smaller volume and copy what is needed"
    )]
    Shrink {
        /// The volume.
        name: String,
        /// Its size.
        size_bytes: u64,
        /// What was asked for.
        wanted_bytes: u64,
    },
    /// Data would be destroyed.
    #[error(
        "this destroys the data of volume {name}: repeat with delete_data=true and confirm={name} ({command})"
    )]
    NotConfirmed {
        /// The volume.
        name: String,
        /// What to type.
        command: String,
    },
    /// The allow list would become empty, which admits everyone.
    #[error(
        "{host} is the last entry of the allow list of subsystem {nqn}, and an empty list admits every host: allow \
         another host first, delete the subsystem, or repeat with admit_all=true (vega subsystem deny-host {nqn} {host} \
         --admit-all)"
    )]
    LastHost {
        /// The subsystem.
        nqn: String,
        /// The entry.
        host: String,
    },
    /// Too many objects on the node.
    #[error("the node has {max} {what}, which is the limit; delete one first, or use another node")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// The data plane did not do it.
    #[error(transparent)]
    Plane(#[from] PlaneError),
    /// The desired state could not be stored.
    #[error(transparent)]
    Catalog(CatalogError),
}

impl ServiceError {
    /// Stable word for programs, and the HTTP status that goes with it.
    pub fn code_and_status(&self) -> (&'static str, u16) {
        match self {
            Self::Model(_) => ("invalid-value", 422),
            Self::NotFound { .. } | Self::NoSuchEntry { .. } | Self::NoListener { .. } => ("not-found", 404),
            Self::ExistsDifferently { .. } => ("exists-differently", 409),
            Self::InUse { .. } => ("in-use", 409),
            Self::Unfinished { .. } => ("unfinished", 409),
            Self::Shrink { .. } => ("shrink-refused", 422),
            Self::NotConfirmed { .. } | Self::LastHost { .. } => ("not-confirmed", 422),
            Self::TooMany { .. } => ("limit-reached", 507),
            Self::Catalog(_) => ("catalog", 500),
            Self::Plane(error) => match error {
                PlaneError::NotFound { .. } => ("not-found", 404),
                PlaneError::AlreadyExists { .. } => ("already-exists", 409),
                PlaneError::InUse { .. } => ("in-use", 409),
                PlaneError::Unsupported { .. } => ("unsupported", 422),
                PlaneError::NoSpace { .. } => ("no-space", 507),
                PlaneError::BackEnd { .. } => ("back-end", 500),
                PlaneError::Device { .. } => ("device", 503),
                PlaneError::Overloaded { .. } => ("overloaded", 503),
                PlaneError::DeadlineExceeded { .. } => ("deadline-exceeded", 504),
                PlaneError::ShuttingDown => ("shutting-down", 503),
                PlaneError::Abandoned { .. } | PlaneError::WrongReply { .. } => ("data-plane", 500),
            },
        }
    }
}

impl ServiceError {
    /// True when the operation certainly had no effect on the data plane, so that its preparation can be taken back.
    pub(super) fn is_certain(&self) -> bool {
        match self {
            Self::Plane(error) => error.is_certain(),
            _ => true,
        }
    }
}

impl PlaneError {
    /// True when the request certainly had no effect, so that its preparation can be taken back.
    pub fn is_certain(&self) -> bool {
        !matches!(self, Self::DeadlineExceeded { .. } | Self::Abandoned { .. } | Self::WrongReply { .. })
    }
}
