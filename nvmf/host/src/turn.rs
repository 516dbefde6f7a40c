//! What the objects of this crate are lent for the length of a call.

use reactor::net::{Network, StreamGroup};
use reactor::time::Time;

/// One turn of the core.
pub struct Turn<'a> {
    /// The time now.
    pub now: Time,
    /// Where new connections are made.
    pub network: &'a dyn Network,
    /// The streams of the owner, by the tokens that were lent out.
    pub group: &'a mut dyn StreamGroup,
    /// Memory to receive into, [`crate::limits::SCRATCH_BYTES`] of it.
    pub scratch: &'a mut [u8],
}
