//! What the volumes of a core are told and asked by control. Plain, `Send` values.

use std::sync::Arc;

use reactor::stats::StatsSet;

use super::error::VolumeError;
use super::setup::VolumeSetup;
use crate::bdev::BdevInfo;

/// Where an answer goes; called once, on the core that has it.
pub type Answer<T> = Box<dyn FnOnce(T) + Send>;

/// A message to the volumes of one core.
pub enum VolumeMessage {
    /// Open a volume here; front ends may use it from the answer on.
    Add {
        /// The volume with everything opened.
        setup: Box<VolumeSetup>,
        /// What it turned out to be, with its counters.
        answer: Answer<Result<(BdevInfo, Arc<StatsSet>), VolumeError>>,
    },
    /// Close a volume; answered when it is flushed and closed. Refused while a front end uses it; one that is
    /// leaving is waited for.
    Remove {
        /// The volume's name.
        name: String,
        /// Done, or why not.
        answer: Answer<Result<(), VolumeError>>,
    },
    /// A volume has grown to that many blocks.
    Resize {
        /// The volume's name.
        name: String,
        /// Its new length.
        length_blocks: u64,
        /// Done, or why not.
        answer: Answer<Result<(), VolumeError>>,
    },
    /// How many bytes a volume has allocated.
    AllocatedBytes {
        /// The volume's name.
        name: String,
        /// The number where the back end knows it, or why not.
        answer: Answer<Result<Option<u64>, VolumeError>>,
    },
    /// Flush and close every volume. The front ends were drained before.
    Drain(Answer<()>),
}
