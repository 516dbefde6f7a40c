//! What a core is told and asked about its devices.

use control::bridge::{DeviceReport, PlaneError};
use control::model::DeviceName;
use volume::geometry::Geometry;
use volume::label::LabelRequest;
use volume::shared::Answer;

use super::take::{Facts, Source};

/// A namespace that became a volume; its channel waits on the core, under the volume's name.
pub(crate) struct OpenedNamespace {
    pub geometry: Geometry,
    /// The reservations found on it.
    pub reservations: Vec<u8>,
    pub is_new: bool,
    /// What was recognised on it and is no more.
    pub destroyed: Option<volume::signature::Found>,
    /// The label lies elsewhere than before.
    pub moved: bool,
}

/// The namespace that is to become a volume.
#[derive(Clone, Debug)]
pub(crate) struct OpenNamespace {
    pub device: String,
    pub nsid: u32,
    /// Name of the volume.
    pub volume: String,
    pub request: LabelRequest,
}

/// A message to the devices of one core.
pub(crate) enum DeviceMessage {
    /// How they are.
    Report(Answer<Vec<DeviceReport>>),
    /// Open or format a namespace.
    Open { open: OpenNamespace, answer: Answer<Result<OpenedNamespace, PlaneError>> },
    /// Make a volume on a namespace larger; answered with its new length in blocks.
    Grow {
        /// The volume.
        volume: String,
        /// Its device.
        device: String,
        /// Its new size.
        size_bytes: u64,
        /// Done, or why not.
        answer: Answer<Result<u64, PlaneError>>,
    },
    /// A device that was pulled out is there again.
    Return {
        /// It, as it is found now.
        facts: Facts,
        /// The way to it.
        source: Source,
    },
    /// A device that was pulled out is not there yet.
    Away {
        /// Its name.
        device: DeviceName,
        /// Why, and what is waited for.
        problem: String,
    },
    /// Shut all of them down; answered when they have ended.
    Drain(Answer<()>),
}
