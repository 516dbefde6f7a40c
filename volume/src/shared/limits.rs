//! Bounds of shared volumes.

use std::time::Duration;

/// Volumes on one core.
pub const VOLUMES_PER_CORE_MAX: usize = 1024;
/// Front ends' ways into one volume.
pub const PORTS_PER_VOLUME_MAX: usize = 64;
/// A front end's tags are below this; the rest of the number names the port.
pub const TAG_BITS: u32 = 56;
/// Events that may wait for one port; while it has no room, reservations do not change.
pub const EVENTS_PER_PORT_MAX: usize = 64;
/// Changes whose aborts are still under way, per volume.
pub const TICKETS_PER_VOLUME_MAX: usize = 16;
/// When the node stops, ports that are still open are given this long before their volumes are flushed all the same.
pub const DRAIN_LINGER: Duration = Duration::from_secs(4);
/// Messages taken per turn.
pub const MESSAGES_PER_TURN: usize = 16;
/// The port number of the volume's own I/O.
pub const OWN_PORT: u8 = u8::MAX;

const _: () = {
    assert!(PORTS_PER_VOLUME_MAX <= OWN_PORT as usize);
    assert!(TAG_BITS + u8::BITS == u64::BITS);
    // A change may put two events into one port: the change, and the end of its aborts.
    assert!(EVENTS_PER_PORT_MAX >= 2 * TICKETS_PER_VOLUME_MAX);
};
