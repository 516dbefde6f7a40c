//! What control hands over to make a volume: everything that blocks is already done.

use reactor::core::Core;

use crate::bdev::IoChannel;
use crate::metadata::MetadataStore;

/// Builds a back end on the core that will own it.
pub type OpenChannel = Box<dyn FnOnce(&Core) -> std::io::Result<Box<dyn IoChannel>> + Send>;
/// Builds the store of a volume's reservations on the core that will own it.
pub type OpenMetadata = Box<dyn FnOnce(&Core) -> std::io::Result<Box<dyn MetadataStore>> + Send>;

/// A volume, opened and checked.
pub struct VolumeSetup {
    /// The volume's name.
    pub name: String,
    /// Its serial number, the same for its life and over every protocol.
    pub serial: String,
    /// The back end.
    pub channel: OpenChannel,
    /// Where its reservations are kept.
    pub metadata: OpenMetadata,
    /// The reservations found there; empty for none.
    pub reservations: Vec<u8>,
}
