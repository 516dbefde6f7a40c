//! How a controller is driven.

use std::time::Duration;

use crate::limits::{
    ABORT_TIMEOUT_MS_DEFAULT, ADMIN_TIMEOUT_MS_DEFAULT, HEALTH_INTERVAL_MS_DEFAULT, IO_QUEUE_ENTRIES_DEFAULT,
    IO_TIMEOUT_MS_DEFAULT,
};

/// How long is waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For an I/O command before it is aborted.
    pub io: Duration,
    /// For an aborted command to end before the controller is reset.
    pub abort: Duration,
    /// For an admin command before the controller is reset.
    pub admin: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            io: Duration::from_millis(IO_TIMEOUT_MS_DEFAULT),
            abort: Duration::from_millis(ABORT_TIMEOUT_MS_DEFAULT),
            admin: Duration::from_millis(ADMIN_TIMEOUT_MS_DEFAULT),
        }
    }
}

/// How a controller is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// I/O queue pairs that are asked for; a controller may grant fewer.
    pub io_queues: u16,
    /// Entries of each I/O queue, if the controller takes as many. One fewer commands are in flight at once.
    pub io_queue_entries: u16,
    /// How long is waited.
    pub timeouts: Timeouts,
    /// Time between two looks at the health log page.
    pub health_interval: Duration,
    /// Use shadow doorbells where they are offered. They live on the controller's own core, so then every queue pair must.
    pub shadow_doorbells: bool,
    /// A bug made on purpose.
    #[cfg(feature = "planted")]
    pub planted: Option<crate::planted::Planted>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            io_queues: 1,
            io_queue_entries: IO_QUEUE_ENTRIES_DEFAULT,
            timeouts: Timeouts::default(),
            health_interval: Duration::from_millis(HEALTH_INTERVAL_MS_DEFAULT),
            shadow_doorbells: false,
            #[cfg(feature = "planted")]
            planted: None,
        }
    }
}
